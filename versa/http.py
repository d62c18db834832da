"""Requests over HTTP: patient with a busy server, and led only where they may go."""

import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from requests import Response, Session

logger = logging.getLogger("versa")

CHUNK = 2**16  # bytes; a connection that breaks loses at most one chunk
_TIMEOUT = 30.0  # seconds without a byte
_RETRIES = 3
_PAUSE = 2.0  # seconds before the first retry; twice as long before each further one
_LONGEST_WAIT = 120.0  # seconds; a server that asks for more is left for another run

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
    if url.startswith("https:") and not target.startswith("https:"):
        raise DownloadError(f"it leads from https to {target}, which is not secure")
    place = _reach(target)
    if place not in ("public", _reach(url)):
        raise DownloadError(
            f"it leads to {target}, a {place} address, which a server elsewhere must "
            "not have asked for",
            "If it is meant, give that address itself.",
            ValueError,
        )


def _reach(url: str) -> str:
    """From where the host of an address can be reached."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname or "", None)
    except (OSError, UnicodeError):  # a name that only a proxy knows
        return "public"
    places = set()
    for *_, (text, *_) in found:
        address = ipaddress.ip_address(str(text).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or address.is_unspecified:
            places.add("loopback")
        elif address.is_link_local:
            places.add("link-local")
        elif not address.is_global:
            places.add("private")
    return min(places, default="public")
