"""Requests over HTTP: signed for one host only, and what a refusal means."""

import datetime
import email.utils
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

__all__ = [
    "LONGEST_WAIT",
    "AddressError",
    "open_session",
    "refusal",
    "refuse_downgrade",
]

LONGEST_WAIT = 120.0  # seconds; a server that asks for more is left for another run


class AddressError(Exception):
    """An address, or a file from there, is of no use.

    Parameters
    ----------
    reason : str
        Why, as a clause without a full stop.
    advice : str, optional
        What to do next, as a sentence.
    kind : type
        The exception that the caller shall raise if no other address helps.
    status : int
        The HTTP status that was the reason; 0 if it was something else.
    wait : float, optional
        Seconds after which it may be tried again; None if that is of no use.
    """

    def __init__(
        self,
        reason: str,
        advice: str = "",
        kind: type[Exception] = ConnectionError,
        *,
        status: int = 0,
        wait: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.kind = reason, advice, kind
        self.status, self.wait = status, wait


def open_session(
    sign: Callable[[str], Mapping[str, str]] | None = None,
) -> "Session":
    """Session of requests in which nothing leads from https to http.

    Parameters
    ----------
    sign : callable, optional
        Headers for the address that it is given, such as an authorization. It is asked
        anew for each redirect: what it says of one host is never sent to another.

    Returns
    -------
    session : requests.Session
    """
    import requests

    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # lengths are of the file
    session.hooks["response"].append(refuse_downgrade)
    if sign is None:
        return session

    def authorize(request: "PreparedRequest", *_: object) -> "PreparedRequest":
        request.headers.pop("Authorization", None)  # a redirect copies all headers
        request.headers.update(sign(request.url or ""))
        return request

    session.auth = authorize
    session.rebuild_auth = authorize  # type: ignore[method-assign, assignment]
    return session


def refuse_downgrade(response: "Response", **_: Any) -> None:
    """Refuse a redirect from https to http (a hook of requests).

    Parameters
    ----------
    response : requests.Response

    Raises
    ------
    AddressError
        If its redirect is not secure.
    """
    if not response.is_redirect:
        return
    target = urljoin(response.url, response.headers["Location"])
    if response.url.startswith("https:") and not target.startswith("https:"):
        raise AddressError(f"it leads from https to {target}, which is not secure")


def refusal(response: "Response") -> AddressError:
    """What an HTTP status other than success means.

    Parameters
    ----------
    response : requests.Response

    Returns
    -------
    error : AddressError
        To be raised. A busy server (HTTP 429 and 5xx) may be asked again after its
        `wait`; who should wait longer than `LONGEST_WAIT` reads so in the reason.
    """
    status = response.status_code
    reason = f"HTTP {status} {response.reason}"
    if (status != 429 and status < 500) or status == 501:  # "not implemented" stays so
        return AddressError(reason, status=status)
    wait = _retry_after(response.headers.get("Retry-After", ""))
    if wait > LONGEST_WAIT:
        reason += f", and it asks to wait {wait:.0f} seconds"
    return AddressError(reason, status=status, wait=wait)


def _retry_after(text: str) -> float:
    """Seconds that a server asks to wait, in its own words; 0 if it does not say."""
    text = text.strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if date.tzinfo is None:  # "-0000": UTC, of no place
        date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())
