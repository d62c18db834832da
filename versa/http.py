"""Requests over HTTP: patient with a busy server, and led only where they may go."""

import ipaddress
import logging
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from versa.wording import shown

if TYPE_CHECKING:
    from requests import Response, Session

logger = logging.getLogger("versa")

CHUNK = 2**16  # bytes; a connection that breaks loses at most one chunk
_TIMEOUT = 30.0  # seconds without a byte
_RETRIES = 3
_PAUSE = 2.0  # seconds before the first retry; twice as long before each further one
_LONGEST_WAIT = 120.0  # seconds; a server that asks for more is left for another run

# names of one machine or of the network around it
_OWN_NAMES = r"(^|\.)(localhost|localdomain|local|internal|home\.arpa)\Z"
_ASSIGNED = ipaddress.IPv4Network("192.0.0.0/24")  # global to some versions of Python
# addresses of IPv6 that hold one of IPv4, and by how many bits it lies from the end
_INSIDE = {
    ipaddress.IPv6Network(text): shift
    for text, shift in {
        "::ffff:0:0/96": 0,  # mapped
        "::/96": 0,  # compatible, as it once was
        "::ffff:0:0:0/96": 0,  # translated
        "64:ff9b::/96": 0,  # NAT64
        "64:ff9b:1::/48": 0,  # NAT64 of one's own
        "2002::/16": 80,  # 6to4
    }.items()
}

_Answer = TypeVar("_Answer")


@dataclass(eq=False)
class DownloadError(Exception):
    """An address, or the file from there, is of no use."""

    reason: str  # a clause
    advice: str = ""  # a sentence
    kind: type[Exception] = ConnectionError  # what the user shall see raised
    status: int = 0  # of HTTP; 0 if it is not the reason
    wait: float | None = None  # seconds until it may be asked again; None: of no use
    offline: bool = False  # the name of the host has no address

    def __str__(self) -> str:
        return self.reason

    def for_user(self) -> Exception:
        """The exception of `kind`, with reason and advice."""
        return self.kind(f"{self.reason}. {self.advice}")


def open_session() -> "Session":
    """Session of requests whose redirects are checked."""
    import requests

    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # lengths are of the file
    session.hooks["response"].append(_check_redirect)
    session.request = partial(session.request, timeout=_TIMEOUT)  # type: ignore[method-assign]
    return session


def patiently(
    url: str, request: Callable[[], _Answer], kept: Callable[[], str] = str
) -> _Answer:
    """Answer to a request that is repeated if the connection breaks, or if asked to."""
    import requests

    chunked = requests.exceptions.ChunkedEncodingError
    broken = (requests.ConnectionError, requests.Timeout, chunked)
    attempt = 0
    while True:
        pause = _PAUSE * 2**attempt
        attempt += 1
        try:
            return request()
        except DownloadError as error:
            if error.wait is None or error.wait > _LONGEST_WAIT or attempt > _RETRIES:
                raise
            pause = max(pause, error.wait)
            failure: Exception = error
        except requests.RequestException as error:
            insecure = isinstance(error, requests.exceptions.SSLError)
            if insecure or not isinstance(error, broken):
                raise DownloadError(str(error)) from error
            if _unresolved(error):  # waiting for it is of no use
                host = urlsplit(url).hostname
                offline = f"No internet connection (cannot resolve {host})"
                reason = "; ".join(filter(None, (offline, kept())))
                raise DownloadError(reason, offline=True) from None
            if attempt > _RETRIES:
                broke = f"the connection broke {attempt} times ({error})"
                raise DownloadError("; ".join(filter(None, (broke, kept())))) from error
            failure = error
        logger.info("%s: %s; trying again in %.0f s.", url, failure, pause)
        time.sleep(pause)


def _unresolved(error: BaseException | None) -> bool:
    """Whether a connection failed because the name of the host has no address."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


def refusal(response: "Response") -> DownloadError:
    """What an HTTP status other than success means; `wait` is set if it may pass."""
    status = response.status_code
    reason = f"HTTP {status} {response.reason}"
    if (status != 429 and status < 500) or status == 501:  # "not implemented" stays so
        return DownloadError(reason, status=status)
    wait = _retry_after(response.headers.get("Retry-After", ""))
    if wait > _LONGEST_WAIT:
        reason += f", and it asks to wait {wait:.0f} seconds"
    return DownloadError(reason, status=status, wait=wait)


def _check_redirect(response: "Response", **_: object) -> None:
    """Refuse a redirect that must not be followed (a hook of requests)."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["Location"])
        check_hop(response.url, target)


def _retry_after(text: str) -> float:
    """Seconds that a server asks to wait, as a number or a date; 0 if unclear."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(text)
    except (InvalidHeader, ValueError):
        return 0.0


def read_body(response: "Response", limit: int) -> bytes:
    """Body of a response that was asked for with ``stream=True``, if it is short."""
    with response:
        content = b"".join(islice(response.iter_content(CHUNK), limit // CHUNK + 1))
    if len(content) > limit:
        raise DownloadError(f"it must send at most {limit} bytes; it sends more")
    return content


def check_hop(url: str, target: str) -> None:
    """Refuse to be led from https to http, or from the internet to a private host."""
    scheme = target.partition(":")[0].lower() if "://" in target else "none"
    if scheme not in ("http", "https") and not target.startswith("//"):
        raise DownloadError(f"it leads to {shown(target)}, which is not http or https")
    if url.startswith("https:") and scheme != "https":
        raise DownloadError(f"it leads from https to {target}, which is not secure")
    place = _reach(target)
    if place not in ("public", _reach(url)):
        raise DownloadError(
            f"it leads to {shown(target)}, a {place} address, which a server elsewhere "
            "must not have asked for",
            "If it is meant, give that address itself.",
            ValueError,
        )


def _reach(url: str) -> str:
    """From where the host of an address can be reached."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:  # what is connected to, and what others read in the same text
        hosts = {urlsplit(url).hostname or "", parse_url(url).host or ""}
    except (ValueError, LocationParseError):
        return "malformed"
    places = {place for host in hosts for place in _places(host.strip("[]"))}
    return min(places - {"public"}, default="public")


def _places(host: str) -> set[str]:
    """The same of a name or a number, which may stand for several addresses."""
    host = host.partition("%")[0].rstrip(".").lower()  # a zone, the root of all names
    try:
        return {_place(ipaddress.ip_address(host))}
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):  # a name that only a proxy knows
        return {"private" if re.search(_OWN_NAMES, host) else "public"}
    numbers = {str(text).partition("%")[0] for *_, (text, *_) in found}
    return {_place(ipaddress.ip_address(number)) for number in numbers}


def _place(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        for network, shift in _INSIDE.items():
            if address in network and int(address) > 1:  # ::1 is no IPv4
                inner = ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
                return _place(inner)
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    local = address.is_multicast or getattr(address, "is_site_local", False)
    reserved = local or address in _ASSIGNED or not address.is_global
    return "private" if reserved else "public"
