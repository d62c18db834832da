"""One file over HTTP: continued where it broke, and never a web page in its place.

The request, its answer and the bytes belong together: whether a partial file may be
continued is read from the very answer whose bytes are then appended. That is why
requests is used here directly and not a downloader that appends whatever comes.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from versa.cache import atomic_write

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from requests import Response, Session

__all__ = [
    "AddressError",
    "discard",
    "page_in",
    "partial_path",
    "sweep_partials",
    "transfer",
    "writing_alone",
]

logger = logging.getLogger("versa")

_TIMEOUT = 30.0  # seconds without a byte
_RETRIES = 3
_PAUSE = 2.0  # seconds before a retry
_CHUNK = 2**16  # bytes; a connection that breaks loses at most one chunk
_PAGE_LIMIT = 2**20  # bytes of a web page that are read
_PARTIAL_AGE = 7 * 24 * 3600.0  # seconds


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
    """

    def __init__(
        self, reason: str, advice: str = "", kind: type[Exception] = ConnectionError
    ) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.kind = reason, advice, kind


def partial_path(path: Path) -> Path:
    """Where the bytes of an unfinished download of `path` lie.

    Examples
    --------
    >>> partial_path(Path("weights/net.pth")).name
    '.net.pth.part'
    """
    return path.with_name(f".{path.name}.part")


def discard(part: Path) -> None:
    """Remove a partial file and the note beside it."""
    part.unlink(missing_ok=True)  # first: a note without bytes is harmless
    _note_path(part).unlink(missing_ok=True)


def sweep_partials(folder: Path) -> None:
    """Remove the partial files in `folder` to which no byte was added for a week."""
    for leftover in [*folder.glob(".*.part"), *folder.glob(".*.part.json")]:
        part = leftover.with_name(leftover.name.removesuffix(".json"))
        newest = part if part.exists() else leftover
        try:
            if time.time() - newest.stat().st_mtime > _PARTIAL_AGE:
                discard(part)
        except FileNotFoundError:  # another process swept it first
            continue


def page_in(start: bytes) -> str:
    """What the first bytes of a file say of the web page that it is.

    Returns
    -------
    page : str
        Empty if it is no web page.

    Examples
    --------
    >>> page_in(b"<html><title>Sign in</title>")
    "a web page, titled 'Sign in'"
    >>> page_in(b"PK")
    ''
    """
    return _Page(start).text("a web page") if _looks_like_page(start) else ""


@contextmanager
def writing_alone(path: Path, what: str) -> Iterator[None]:
    """Be the only process that writes `path`; turn failures into sentences.

    Parameters
    ----------
    path : Path
        Its folder is made, and holds the lock (a hidden file, which stays).
    what : str
        What is written, for the sentences.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    from filelock import FileLock, SoftFileLock

    place = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock: BaseFileLock = FileLock(place)
        try:
            _acquire(lock, what)
        except NotImplementedError:  # a file system without locks
            lock = SoftFileLock(place)
            _acquire(lock, what)
        try:
            yield
        finally:
            lock.release()
    except AddressError as error:
        raise error.kind(f"{error.reason}. {error.advice}") from error.__cause__
    except OSError as error:
        raise OSError(
            f"{what} cannot be written to {path.parent} ({error}). Make room or set "
            "the permission there, or set VERSA_CACHE to another folder."
        ) from error


def transfer(
    what: str,
    urls: Iterable[str],
    part: Path,
    *,
    checked: bool,
    accept: Callable[[], None],
    otherwise: str,
) -> str:
    """Bring a file to `part` from the first address that has it.

    A dropped connection is retried three times. What came stays in `part` if the next
    run can go on from there, with a note of its address and version beside it.

    Parameters
    ----------
    what : str
        What the file is, for the sentences.
    urls : iterable of str
        HTTP or HTTPS, tried in this order. The confirmation page of Google Drive is
        answered once.
    part : Path
        As `partial_path` names it. Whole when the function returns.
    checked : bool
        Whether `accept` compares a hash. If not, a partial file is continued only if
        the server vouches that the file did not change (ETag, Last-Modified).
    accept : callable
        Raises AddressError if what came to `part` is of no use; it is thrown away.
    otherwise : str
        What to do if no address helps, as a sentence.

    Returns
    -------
    url : str
        The address that had the file.

    Raises
    ------
    AddressError
        With the reasons of all addresses.
    OSError
        If `part` cannot be written.
    """
    failures: list[tuple[str, AddressError]] = []
    for url in urls:
        if failures:
            failed, reason = failures[-1]
            logger.warning(
                "%s could not be downloaded from %s: %s; the next address is tried.",
                what,
                failed,
                reason,
            )
        logger.info("downloading %s", url)
        try:
            _transfer(url, part, checked=checked)
            try:
                accept()
            except AddressError:
                discard(part)
                raise
            return url
        except AddressError as error:
            failures.append((url, error))
    url, last = failures[-1]
    if len(failures) == 1:
        sentence = f"{what} could not be downloaded from {url}: {last}"
        raise AddressError(sentence, last.advice or otherwise, last.kind) from last
    reasons = "; ".join(f"{url}: {error}" for url, error in failures)
    kinds = {error.kind for _, error in failures}
    raise AddressError(
        f"{what} could not be downloaded from any of {len(failures)} addresses "
        f"({reasons})",
        otherwise,
        kinds.pop() if len(kinds) == 1 else ConnectionError,
    )


def _transfer(url: str, part: Path, *, checked: bool) -> None:
    import requests

    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"  # lengths are of the file
        session.hooks["response"].append(_refuse_downgrade)
        for retries in reversed(range(_RETRIES + 1)):
            try:
                _receive(session, url, part, checked=checked)
                return
            except requests.exceptions.SSLError as error:
                raise AddressError(f"no secure connection ({error})") from error
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                if not retries:
                    kept = _what_is_kept(url, part, checked=checked)
                    times = f"broke {_RETRIES + 1} times"
                    raise AddressError(
                        f"the connection {times} ({error}); {kept}"
                    ) from error
                logger.info("%s: %s; trying again.", url, error)
                time.sleep(_PAUSE)
            except requests.RequestException as error:
                raise AddressError(str(error)) from error


def _acquire(lock: "BaseFileLock", what: str) -> None:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info(
            "waiting for another process that downloads the %s (%s).",
            what,
            lock.lock_file,
        )
        lock.acquire()


def _what_is_kept(url: str, part: Path, *, checked: bool) -> str:
    if not _resume_headers(url, part, checked=checked):
        if _note(part)["url"] in ("", url):  # else it is the part of another address
            discard(part)
        return "nothing was kept"
    n_bytes = part.stat().st_size
    return f"{n_bytes} bytes lie in {part} and the next run goes on from there"


def _receive(session: "Session", url: str, part: Path, *, checked: bool) -> None:
    headers = _resume_headers(url, part, checked=checked)
    have = part.stat().st_size if headers else 0
    response, chunks = _answer(session, url, headers)
    with response:
        status = response.status_code
        if headers and status in (206, 416):
            same = _validator(response) in ("", _note(part)["validator"])
            start, total = _content_range(response)
            if status == 416 and same and total == have:
                return  # the connection broke after the last byte
            if status == 416 or not same or start != have or _is_encoded(response):
                response.close()
                discard(part)
                return _receive(session, url, part, checked=checked)
        elif status == 200:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            if _is_encoded(response):
                total = None  # the length is that of the encoded file
            have = 0
            _begin(url, part, response)
        else:
            raise AddressError(f"HTTP {status} {response.reason}")
        _append(chunks, part, have, total)


def _begin(url: str, part: Path, response: "Response") -> None:
    """Clear the place, and note from which version of the file the bytes will be."""
    discard(part)  # before the note: old bytes must never lie beside a new note
    if _is_encoded(response):
        return  # byte ranges would be those of the encoded file
    with atomic_write(_note_path(part)) as temporary:
        note = {"url": url, "validator": _validator(response)}
        temporary.write_text(json.dumps(note), encoding="utf-8")


def _append(chunks: Iterator[bytes], part: Path, have: int, total: int | None) -> None:
    import requests
    from tqdm import tqdm

    bar = tqdm(
        total=total,
        initial=have,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )
    with bar, open(part, "ab") as file:
        for chunk in chunks:
            file.write(chunk)
            bar.update(len(chunk))
    n_bytes = part.stat().st_size
    if total is not None and n_bytes != total:
        raise requests.ConnectionError(f"{n_bytes} of {total} bytes came")


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(part: Path) -> dict[str, str]:
    """Address and version of a partial file; empty texts if nothing is known."""
    try:
        note = json.loads(_note_path(part).read_text(encoding="utf-8"))
        return {"url": str(note["url"]), "validator": str(note["validator"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"url": "", "validator": ""}


def _resume_headers(url: str, part: Path, *, checked: bool) -> dict[str, str]:
    """Request headers that ask for the rest of a partial file; none to start anew."""
    note = _note(part)
    if note["url"] != url or not (note["validator"] or checked):
        return {}
    have = part.stat().st_size if part.is_file() else 0
    if not have:
        return {}
    headers = {"Range": f"bytes={have}-"}
    if note["validator"]:
        headers["If-Range"] = note["validator"]
    return headers


def _validator(response: "Response") -> str:
    """What names this version of the file to its server; empty if nothing does."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):  # a weak one does not vouch for bytes
        return etag
    return response.headers.get("Last-Modified", "")


def _is_encoded(response: "Response") -> bool:
    return response.headers.get("Content-Encoding", "identity") != "identity"


def _content_range(response: "Response") -> tuple[int | None, int | None]:
    """First byte of the answer and length of the whole file, where they are told."""
    text = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", text.strip())
    if found is None:
        return None, None
    start, total = found.groups()
    return (int(start) if start else None, int(total) if total else None)


def _refuse_downgrade(response: "Response", **_: Any) -> None:
    if not response.is_redirect:
        return
    target = urljoin(response.url, response.headers["Location"])
    if response.url.startswith("https:") and not target.startswith("https:"):
        raise AddressError(f"it leads from https to {target}, which is not secure")


def _answer(
    session: "Session", url: str, headers: dict[str, str]
) -> tuple["Response", Iterator[bytes]]:
    """Answer to a request, with its body, after at most one page that is answered."""
    offer: tuple[str, dict[str, str]] = (url, {})
    for first in (True, False):
        response = session.get(
            offer[0], params=offer[1], headers=headers, stream=True, timeout=_TIMEOUT
        )
        if response.status_code not in (200, 206):
            return response, iter(())
        chunks: Iterator[bytes] = response.iter_content(_CHUNK)
        start = next(chunks, b"")
        typed = "text/html" in response.headers.get("Content-Type", "").lower()
        # the middle of a file may begin with anything
        whole = response.status_code == 200
        if not (_looks_like_page(start, typed=typed) if whole else typed):
            return response, chain([start], chunks)
        for chunk in chunks:
            start += chunk
            if len(start) >= _PAGE_LIMIT:
                break
        response.close()
        page = _Page(start)
        next_offer = page.offer(response.url)
        if next_offer is None or not first:
            break
        offer = next_offer
    raise AddressError(
        page.text("it sent a web page instead of the file"),
        "Open the address in a browser; the page usually says why.",
        ValueError,
    )


def _looks_like_page(start: bytes, *, typed: bool = False) -> bool:
    # no page holds a NUL; weights do, and the length with which safetensors begin may
    # look like " <"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (typed or text.startswith(b"<")) and b"\0" not in start[:512]


class _Page(HTMLParser):
    """Title of a web page, and the download that it offers (Google Drive)."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.texts = {"title": "", "uc-error-subcaption": ""}
        self.action: str | None = None
        self.link: str | None = None
        self.inputs: dict[str, str] = {}
        self._inside = ""
        self._in_form = False
        self.feed(content.decode("utf-8", errors="replace"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See the base class."""
        values = {name: value or "" for name, value in attrs}
        kind = "title" if tag == "title" else values.get("class", "")
        if kind in self.texts and not self.texts[kind]:
            self._inside = kind
        if tag == "form" and values.get("id") == "download-form":
            self.action, self._in_form = values.get("action", ""), True
        elif tag == "input" and self._in_form and values.get("type") == "hidden":
            self.inputs[values.get("name", "")] = values.get("value", "")
        elif tag == "a" and "confirm=" in urlsplit(values.get("href", "")).query:
            self.link = self.link or values["href"]

    def handle_endtag(self, tag: str) -> None:
        """See the base class."""
        if tag in ("title", "p", "div"):
            self._inside = ""
        elif tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        """See the base class."""
        if self._inside:
            self.texts[self._inside] += data

    def text(self, page: str) -> str:
        """Append title and reason of the page to what it is called."""
        title, reason = (" ".join(text.split())[:200] for text in self.texts.values())
        page += f", titled {title!r}" if title else ""
        return page + (f", which says {reason.rstrip('.')!r}" if reason else "")

    def offer(self, url: str) -> tuple[str, dict[str, str]] | None:
        """Address and query of the download that the page at `url` offers, if any."""
        link = self.link if self.action is None else self.action
        if link is None:
            return None
        target = urlsplit(urljoin(url, link))
        if target.scheme != urlsplit(url).scheme:
            return None
        inputs = {} if self.action is None else self.inputs
        query = {**dict(parse_qsl(target.query)), **inputs}
        return target._replace(query="").geturl(), query
