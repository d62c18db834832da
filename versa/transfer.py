"""One file over HTTP: continued where it broke, and never a web page in its place.

The request, its answer and the bytes belong together: whether a partial file may be
continued is read from the very answer whose bytes are then appended. That is why
requests is used here directly and not a downloader that appends whatever comes. A
server that is busy is asked again, no sooner than it wishes.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from versa.cache import atomic_write
from versa.transfer_pages import WebPage, looks_like_page, page_in
from versa.transfer_requests import (
    LONGEST_WAIT,
    AddressError,
    open_session,
    refusal,
)

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from requests import Response, Session

__all__ = [
    "AddressError",
    "discard",
    "open_session",
    "page_in",
    "partial_path",
    "read_json",
    "sweep_partials",
    "transfer",
    "writing_alone",
]

logger = logging.getLogger("versa")

_TIMEOUT = 30.0  # seconds without a byte
_RETRIES = 3
_PAUSE = 2.0  # seconds before the first retry; twice as long before each further one
_CHUNK = 2**16  # bytes; a connection that breaks loses at most one chunk
_PAGE_LIMIT = 2**20  # bytes of a web page that are read
_PARTIAL_AGE = 7 * 24 * 3600.0  # seconds

_Answer = TypeVar("_Answer")


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


@contextmanager
def writing_alone(
    path: Path, what: str, *, otherwise: str = "set VERSA_CACHE to another folder"
) -> Iterator[None]:
    """Be the only process that writes `path`; turn failures into sentences.

    Parameters
    ----------
    path : Path
        Its folder is made, and holds the lock (a hidden file, which stays).
    what : str
        What is written, for the sentences.
    otherwise : str
        What helps if the folder cannot be written, as the end of a sentence.

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
            f"the permission there, or {otherwise}."
        ) from error


def transfer(
    what: str,
    urls: Iterable[str],
    part: Path,
    *,
    checked: bool,
    accept: Callable[[], None],
    otherwise: str,
    pages: bool = False,
    sign: Callable[[str], Mapping[str, str]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> str:
    """Bring a file to `part` from the first address that has it.

    A dropped connection and a busy server (HTTP 429 and 5xx) are retried three times,
    no sooner than the server asks for (Retry-After). What came stays in `part` if the
    next run can go on from there, with a note of its address and version beside it.

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
    pages : bool
        Whether the file itself may be a web page. If not, a page is refused.
    sign : callable, optional
        As of `open_session`.
    progress : callable, optional
        Told how many bytes lie in `part`, again and again; no bar is shown then.

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
            with open_session(sign) as session:
                receive = partial(_receive, session, url, part, checked=checked)
                _patiently(
                    url,
                    partial(receive, pages=pages, progress=progress),
                    partial(_what_is_kept, url, part, checked=checked),
                )
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


def read_json(session: "Session", url: str) -> Any:
    """Answer of an interface that speaks JSON, asked as patiently as `transfer` does.

    Parameters
    ----------
    session : requests.Session
        From `open_session`.
    url : str

    Raises
    ------
    AddressError
        If there is no answer, or one that is no JSON; with its HTTP status.
    """

    def document() -> Any:
        response = session.get(url, timeout=_TIMEOUT)
        if response.status_code != 200:
            raise refusal(response)
        try:
            return response.json()
        except ValueError as error:
            found = page_in(response.content) or f"something else ({error})"
            raise AddressError(f"it sent {found} instead of JSON") from error

    return _patiently(url, document, str)


def _patiently(
    url: str, request: Callable[[], _Answer], kept: Callable[[], str]
) -> _Answer:
    """Answer to a request that is repeated if the connection breaks, or if asked to."""
    import requests

    attempt = 0
    while True:
        pause = _PAUSE * 2**attempt
        attempt += 1
        try:
            return request()
        except AddressError as error:
            if error.wait is None or error.wait > LONGEST_WAIT or attempt > _RETRIES:
                raise
            pause = max(pause, error.wait)
            reason: Exception = error
        except requests.exceptions.SSLError as error:
            raise AddressError(f"no secure connection ({error})") from error
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            if attempt > _RETRIES:
                broke = f"the connection broke {attempt} times ({error})"
                clauses = [broke, kept()]
                raise AddressError("; ".join(filter(None, clauses))) from error
            reason = error
        except requests.RequestException as error:
            raise AddressError(str(error)) from error
        logger.info("%s: %s; trying again in %.0f s.", url, reason, pause)
        time.sleep(pause)


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


def _receive(
    session: "Session",
    url: str,
    part: Path,
    *,
    checked: bool,
    pages: bool,
    progress: Callable[[int], object] | None,
) -> None:
    headers = _resume_headers(url, part, checked=checked)
    have = part.stat().st_size if headers else 0
    response, chunks = _answer(session, url, headers, pages=pages)
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
                options = {"checked": checked, "pages": pages}
                return _receive(session, url, part, **options, progress=progress)
        elif status == 200:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            if _is_encoded(response):
                total = None  # the length is that of the encoded file
            have = 0
            _begin(url, part, response)
        else:
            raise refusal(response)
        _append(chunks, part, have, total, progress)


def _begin(url: str, part: Path, response: "Response") -> None:
    """Clear the place, and note from which version of the file the bytes will be."""
    discard(part)  # before the note: old bytes must never lie beside a new note
    if _is_encoded(response):
        return  # byte ranges would be those of the encoded file
    with atomic_write(_note_path(part)) as temporary:
        note = {"url": url, "validator": _validator(response)}
        temporary.write_text(json.dumps(note), encoding="utf-8")


def _append(
    chunks: Iterator[bytes],
    part: Path,
    have: int,
    total: int | None,
    progress: Callable[[int], object] | None,
) -> None:
    import requests
    from tqdm import tqdm

    bar = tqdm(
        total=total,
        initial=have,
        unit="B",
        unit_scale=True,
        disable=progress is not None or not sys.stderr.isatty(),
    )
    with bar, open(part, "ab") as file:
        for chunk in chunks:
            file.write(chunk)
            bar.update(len(chunk))
            if progress is not None:
                progress(file.tell())
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


def _answer(
    session: "Session", url: str, headers: dict[str, str], *, pages: bool
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
        if pages:
            return response, chunks
        start = next(chunks, b"")
        typed = "text/html" in response.headers.get("Content-Type", "").lower()
        # the middle of a file may begin with anything
        whole = response.status_code == 200
        if not (looks_like_page(start, typed=typed) if whole else typed):
            return response, chain([start], chunks)
        for chunk in chunks:
            start += chunk
            if len(start) >= _PAGE_LIMIT:
                break
        response.close()
        page = WebPage(start)
        next_offer = page.offer(response.url)
        if next_offer is None or not first:
            break
        offer = next_offer
    raise AddressError(
        page.text("it sent a web page instead of the file"),
        "Open the address in a browser; the page usually says why.",
        ValueError,
    )
