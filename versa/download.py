"""One file over HTTP: resumed where it broke, checked, and in its place whole or not.

requests is used directly, because whether a partial file may be continued is read from
the very response whose bytes are then appended (Range with If-Range). pooch (1.9)
begins a new temporary file each time and never resumes; weights have up to 1 GB.
"""

import hashlib
import html
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

from versa.cache import atomic_write, file_hash

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from requests import Response, Session

logger = logging.getLogger("versa")

_TIMEOUT = 30.0  # seconds without a byte
_RETRIES = 3
_PAUSE = 2.0  # seconds before the first retry; twice as long before each further one
_LONGEST_WAIT = 120.0  # seconds; a server that asks for more is left for another run
_CHUNK = 2**16  # bytes; a connection that breaks loses at most one chunk
_PAGE_LIMIT = 2**20  # bytes of a web page that are read
_PAGE_START = 2**16  # bytes of a file that are searched for a title
_PARTIAL_AGE = 7 * 24 * 3600.0  # seconds

_Answer = TypeVar("_Answer")


@dataclass(eq=False)
class DownloadError(Exception):
    """An address, or the file from there, is of no use."""

    reason: str  # a clause
    advice: str = ""  # a sentence
    kind: type[Exception] = ConnectionError  # what the user shall see raised
    status: int = 0  # of HTTP; 0 if it is not the reason
    wait: float | None = None  # seconds until it may be asked again; None: of no use

    def __str__(self) -> str:
        return self.reason

    def for_user(self) -> Exception:
        """The exception of `kind`, with reason and advice."""
        return self.kind(f"{self.reason}. {self.advice}")


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its addresses (mirrors in turn), and how to recognise it.

    `sha256` may be the first digits (8 or more). What is not published is empty.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str = ""
    md5: str = ""
    size: int | None = None  # bytes

    def fault(self, path: Path, *, all_hashes: bool = False) -> str | None:
        """Why `path` is not this file, as a clause; None if nothing shows that.

        Unless `all_hashes`, the MD5 is only compared if there is no SHA-256.
        """
        if not path.is_file():
            return "it is not a file"
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it must have {self.size} bytes; it has {size}"
        if self.sha256 and not (digits := file_hash(path)).startswith(self.sha256):
            whole = len(self.sha256) == 64
            rule = "the SHA-256" if whole else "a SHA-256 that starts with"
            return f"it must have {rule} {self.sha256}; it has {digits}"
        if self.md5 and (all_hashes or not self.sha256):
            with open(path, "rb") as file:
                digits = hashlib.file_digest(file, "md5").hexdigest()
            if digits != self.md5:
                return f"it must have the MD5 {self.md5}; it has {digits}"
        return None


# ---- partial files and locks ----------------------------------------------------


def partial_path(path: Path) -> Path:
    """Where the bytes of an unfinished download of `path` are: ``.net.pth.part``."""
    return path.with_name(f".{path.name}.part")


def discard_partial(part: Path) -> None:
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
                discard_partial(part)
        except FileNotFoundError:  # another process swept it first
            continue


@contextmanager
def file_lock(
    path: Path, what: str, *, otherwise: str = "set VERSA_CACHE to another folder"
) -> Iterator[None]:
    """Be the only process that writes `path`, and turn failures into sentences.

    The lock is a hidden file beside `path`, which stays. `otherwise` ends the sentence
    if the folder cannot be written.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    place = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock: BaseFileLock = FileLock(place)
        try:
            lock.acquire(timeout=0)
        except NotImplementedError:  # a file system without locks
            lock = SoftFileLock(place)
        except Timeout:
            logger.info("waiting for another process that downloads the %s.", what)
        if not lock.is_locked:
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except DownloadError as error:
        raise error.for_user() from error.__cause__
    except OSError as error:
        raise OSError(
            f"{what} cannot be written to {path.parent} ({error}). Make room or set "
            f"the permission there, or {otherwise}."
        ) from error


# ---- the download of one file ---------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """One address, and what is done with its answer; see `download`."""

    url: str
    part: Path
    checked: bool
    pages: bool


def download(
    what: str,
    urls: Iterable[str],
    path: Path,
    *,
    accept: Callable[[Path], None],
    checked: bool,
    otherwise: str,
    part: Path | None = None,
    pages: bool = False,
    session: "Session | None" = None,
) -> str:
    """Download `path` from the first address that has it; return that address.

    A broken connection and a busy server (HTTP 429 and 5xx) are retried three times, no
    sooner than the server asks for (Retry-After). What came stays in `part` if the next
    run can resume it. The confirmation page of Google Drive is answered once.

    `accept` raises DownloadError if the file at the path that it is given is of no use.
    `checked` says that it compares a hash; if not, a partial file is only resumed if
    the server vouches that the file did not change (ETag, Last-Modified). `otherwise`
    is the advice if no address helps, `pages` whether the file may be a web page.
    """
    part, session = part or partial_path(path), session or open_session()
    failures: list[tuple[str, DownloadError]] = []
    for url in urls:
        if failures:
            logger.warning(
                "%s could not be downloaded from %s: %s; the next address is tried.",
                *(what, *failures[-1]),
            )
        logger.info("downloading %s", url)
        source = _Source(url, part, checked, pages)
        try:
            receive = partial(_receive, session, source)
            patiently(url, receive, partial(_what_is_kept, source))
            try:
                accept(part)
            except DownloadError:
                discard_partial(part)
                raise
        except DownloadError as error:
            failures.append((url, error))
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, path)
        discard_partial(part)
        return url
    advice = failures[0][1].advice if len(failures) == 1 else ""
    kinds = {error.kind for _, error in failures}
    raise DownloadError(
        f"{what} could not be downloaded "
        + "; ".join(f"from {url}: {error}" for url, error in failures),
        advice or otherwise,
        kinds.pop() if len(kinds) == 1 else ConnectionError,
    ) from failures[-1][1]


def _receive(session: "Session", source: _Source) -> None:
    """Ask for what is missing of the partial file, decide by the response, and act."""
    headers = _resume_headers(source)
    have = source.part.stat().st_size if headers else 0
    response, chunks = _respond(session, source, headers)
    with response:
        decision, total = _decide(response, source, have)
        if decision == "begin":
            _begin(source, response)
        if decision in ("begin", "append"):
            _append(chunks, source.part, total)
    if decision == "begin again":
        discard_partial(source.part)
        _receive(session, source)


def _decide(
    response: "Response", source: _Source, have: int
) -> tuple[Literal["begin", "append", "begin again", "keep"], int | None]:
    """What to do with the response if `have` bytes are there, and the whole length."""
    status = response.status_code
    if have and status in (206, 416):
        same = _validator(response) in ("", _note(source.part)["validator"])
        start, total = _content_range(response)
        if status == 416 and same and total == have:
            return "keep", total  # the connection broke after the last byte
        if status == 416 or not same or start != have or _is_encoded(response):
            return "begin again", None
        return "append", total
    if status != 200:
        raise refusal(response)
    length = response.headers.get("Content-Length", "")
    # the length of an encoded answer is not that of the file
    told = length.isdigit() and not _is_encoded(response)
    return "begin", int(length) if told else None


def _begin(source: _Source, response: "Response") -> None:
    """Clear the place, and note from which version of the file the bytes will be."""
    discard_partial(source.part)  # before the note: no old bytes beside a new note
    if _is_encoded(response):
        return  # byte ranges would be those of the encoded file
    with atomic_write(_note_path(source.part)) as temporary:
        note = {"url": source.url, "validator": _validator(response)}
        temporary.write_text(json.dumps(note), encoding="utf-8")


def _append(chunks: Iterator[bytes], part: Path, total: int | None) -> None:
    import requests
    from tqdm import tqdm

    have, silent = (
        (part.stat().st_size if part.exists() else 0),
        not sys.stderr.isatty(),
    )
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, disable=silent)
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


def _resume_headers(source: _Source) -> dict[str, str]:
    """Request headers that ask for the rest of a partial file; none to begin anew."""
    note, part = _note(source.part), source.part
    if note["url"] != source.url or not (note["validator"] or source.checked):
        return {}
    have = part.stat().st_size if part.is_file() else 0
    if not have:
        return {}
    headers = {"Range": f"bytes={have}-"}
    if note["validator"]:
        headers["If-Range"] = note["validator"]
    return headers


def _what_is_kept(source: _Source) -> str:
    if not _resume_headers(source):
        if _note(source.part)["url"] in ("", source.url):  # not of another address
            discard_partial(source.part)
        return "nothing was kept"
    n_bytes = source.part.stat().st_size
    return f"{n_bytes} bytes are kept in {source.part}, and the next run resumes there"


# ---- requests and responses -----------------------------------------------------


def open_session() -> "Session":
    """Session of requests in which nothing leads from https to http."""
    import requests

    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # lengths are of the file
    session.hooks["response"].append(_refuse_downgrade)
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
            reason: Exception = error
        except requests.RequestException as error:
            insecure = isinstance(error, requests.exceptions.SSLError)
            if insecure or not isinstance(error, broken):
                raise DownloadError(str(error)) from error
            if attempt > _RETRIES:
                broke = f"the connection broke {attempt} times ({error})"
                raise DownloadError("; ".join(filter(None, (broke, kept())))) from error
            reason = error
        logger.info("%s: %s; trying again in %.0f s.", url, reason, pause)
        time.sleep(pause)


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


def _refuse_downgrade(response: "Response", **_: object) -> None:
    """Refuse a redirect from https to http (a hook of requests)."""
    if not response.is_redirect:
        return
    target = urljoin(response.url, response.headers["Location"])
    if response.url.startswith("https:") and not target.startswith("https:"):
        raise DownloadError(f"it leads from https to {target}, which is not secure")


def _retry_after(text: str) -> float:
    """Seconds that a server asks to wait, as a number or a date; 0 if unclear."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(text)
    except (InvalidHeader, ValueError):
        return 0.0


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
    start, total = found.groups() if found else (None, None)
    return (int(start) if start else None, int(total) if total else None)


def _respond(
    session: "Session", source: _Source, headers: dict[str, str]
) -> tuple["Response", Iterator[bytes]]:
    """Response to a request, with its body, after at most one page that is answered."""
    url, query = source.url, dict[str, str]()
    for first in (True, False):
        response = session.get(url, params=query, headers=headers, stream=True)
        if response.status_code not in (200, 206):
            return response, iter(())
        chunks: Iterator[bytes] = response.iter_content(_CHUNK)
        if source.pages:
            return response, chunks
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
        offer = _confirmation(start, response.url)
        if offer is None or not first:
            break
        url, query = offer
    raise DownloadError(
        _described("it sent a web page instead of the file", start),
        "Open the address in a browser; the page usually says why.",
        ValueError,
    )


# ---- web pages that a server sends where a file was asked for -------------------


def page_in(start: bytes) -> str:
    """What the first bytes of a file say of the web page that it is; empty if none.

    >>> page_in(b"<html><title>Sign in</title>")
    "a web page, titled 'Sign in'"
    """
    return _described("a web page", start) if _looks_like_page(start) else ""


def page_at(path: Path) -> str:
    with open(path, "rb") as file:
        return page_in(file.read(_PAGE_START))


def _looks_like_page(start: bytes, *, typed: bool = False) -> bool:
    """Whether bytes begin a web page; `typed`: the server says so."""
    # no page holds a NUL; weights do, and the length with which safetensors begin may
    # look like " <"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (typed or text.startswith(b"<")) and b"\0" not in start[:512]


def _described(page: str, content: bytes) -> str:
    """What a page is called, with its title and the reason that Google Drive gives."""
    text = content.decode("utf-8", errors="replace")
    for place, phrase in (("title", "titled"), ("uc-error-subcaption", "which says")):
        inner = rf"<[^>]*\b{place}\b[^>]*>(.*?)</(?:title|p|div)\b"
        if found := re.search(inner, text, re.DOTALL | re.IGNORECASE):
            words = html.unescape(re.sub("<[^>]*>", "", found[1])).split()
            page += f", {phrase} {' '.join(words)[:200].rstrip('.')!r}"
    return page


def _confirmation(content: bytes, url: str) -> tuple[str, dict[str, str]] | None:
    """Address and query of the download that a page of Google Drive offers, if any."""
    text = content.decode("utf-8", errors="replace")
    pattern = r'<form[^>]*\bid="download-form".*?</form\b'
    form = re.search(pattern, text, re.DOTALL | re.IGNORECASE)
    if form is None:
        return None
    tags = [
        dict(re.findall(r'([\w-]+)="([^"]*)"', html.unescape(tag)))
        for tag in re.findall(r"<(?:form|input)\b[^>]*>", form[0], re.IGNORECASE)
    ]
    target = urlsplit(urljoin(url, tags[0].get("action", "")))
    if target.scheme != urlsplit(url).scheme:
        return None
    hidden = [tag for tag in tags if tag.get("type") == "hidden"]
    query = dict(parse_qsl(target.query))
    query |= {tag.get("name", ""): tag.get("value", "") for tag in hidden}
    return target._replace(query="").geturl(), query
