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
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urljoin, urlsplit

from versa.cache import atomic_write, file_hash
from versa.http import (
    CHUNK,
    DownloadError,
    check_hop,
    open_session,
    patiently,
    refusal,
)
from versa.progress import counted
from versa.records import parse_json

if TYPE_CHECKING:
    from requests import Response, Session

logger = logging.getLogger("versa")

_LONGEST_FILE = 10**11  # bytes that are taken where nobody published the size
_PAGE_LIMIT = 2**20  # bytes of a web page that are read
_PARTIAL_AGE = 7 * 24 * 3600.0  # seconds

_Decision = Literal["begin", "append", "begin again", "keep"]


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

    def fault(self, path: Path) -> str | None:
        """Why `path` is not this file, as a clause; None if nothing shows that."""
        if not path.is_file():
            return "it is not a file"
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it must have {self.size} bytes; it has {size}"
        if self.sha256 and not (digits := file_hash(path)).startswith(self.sha256):
            whole = len(self.sha256) == 64
            rule = "the SHA-256" if whole else "a SHA-256 that starts with"
            return f"it must have {rule} {self.sha256}; it has {digits}"
        if self.md5 and not self.sha256:
            with open(path, "rb") as file:
                digits = hashlib.file_digest(file, "md5").hexdigest()
            if digits != self.md5:
                return f"it must have the MD5 {self.md5}; it has {digits}"
        return None


# ---- partial files --------------------------------------------------------------


def partial_path(path: Path) -> Path:
    """Where the bytes of an unfinished download of `path` are: ``.net.pth.part``."""
    return path.with_name(f".{path.name}.part")


def _note_path(part: Path) -> Path:
    """Where address and version of a partial file are noted."""
    return part.with_name(f"{part.name}.json")


def discard_partial(part: Path) -> None:
    """Remove a partial file and the note beside it."""
    part.unlink(missing_ok=True)  # first: a note without bytes is harmless
    _note_path(part).unlink(missing_ok=True)


def sweep_partials(folder: Path) -> None:
    """Remove the partial files in `folder` to which no byte was added for a week."""
    for leftover in [*folder.glob(".*.part"), *folder.glob(".*.part.json")]:
        part = leftover.with_name(leftover.name.removesuffix(".json"))
        newest = part if part.exists() else leftover
        with suppress(FileNotFoundError):  # another process swept it first
            if time.time() - newest.stat().st_mtime > _PARTIAL_AGE:
                discard_partial(part)


# ---- the download of one file ---------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """One address, and what is done with its answer; see `download`."""

    url: str
    part: Path
    checked: bool
    pages: bool
    size: int | None

    @property
    def note(self) -> dict[str, str]:
        """Address and version of the partial file; empty texts if nothing is known."""
        try:
            note = parse_json(_note_path(self.part).read_text(encoding="utf-8"))
            return {"url": str(note["url"]), "validator": str(note["validator"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {"url": "", "validator": ""}

    def resume_headers(self) -> dict[str, str]:
        """Headers that ask for the rest of the partial file; none to begin anew."""
        validator = self.note["validator"]
        have = self.part.stat().st_size if self.part.is_file() else 0
        known = self.note["url"] == self.url and (validator or self.checked)
        if not (have and known):
            return {}
        vouched = {"If-Range": validator} if validator else {}
        return {"Range": f"bytes={have}-", **vouched}

    def kept(self) -> str:
        """What the next run has of the file, after a connection that broke for good."""
        if not self.resume_headers():
            if self.note["url"] in ("", self.url):  # not of another address
                discard_partial(self.part)
            return "nothing was kept"
        have = self.part.stat().st_size
        return f"{have} bytes are kept in {self.part}, and the next run resumes there"


def download(
    what: str,
    urls: Iterable[str],
    path: Path,
    *,
    accept: Callable[[Path], None],
    checked: bool,
    otherwise: str,
    pages: bool = False,
    size: int | None = None,
    session: "Session | None" = None,
) -> str:
    """Download `path` from the first address that has it; return that address.

    A broken connection and a busy server (HTTP 429 and 5xx) are retried three times, no
    sooner than the server asks for (Retry-After). What came stays beside `path` if the
    next run can resume it. The confirmation page of Google Drive is answered once.

    `accept` raises DownloadError if the file at the path that it is given is of no use.
    `checked` says that it compares a hash; if not, a partial file is only resumed if
    the server vouches that the file did not change (ETag, Last-Modified). `otherwise`
    is the advice if no address helps, `pages` whether the file may be a web page. Not
    much more than `size` bytes are taken, or 100 GB if it is not known.
    """
    session, failures = session or open_session(), list[tuple[str, DownloadError]]()
    sweep_partials(path.parent)
    for url in urls:
        if failures:
            logger.warning(
                "%s could not be downloaded from %s: %s; the next address is tried.",
                *(what, *failures[-1]),
            )
        logger.info("downloading %s", url)
        source = _Source(url, partial_path(path), checked, pages, size)
        try:
            patiently(url, partial(_receive, session, source), source.kept)
            try:
                accept(source.part)
            except DownloadError:
                discard_partial(source.part)
                raise
        except DownloadError as error:
            failures.append((url, error))
            continue
        os.replace(source.part, path)
        discard_partial(source.part)
        return url
    advice = failures[0][1].advice if len(failures) == 1 else ""
    kinds = {error.kind for _, error in failures}
    kind = kinds.pop() if len(kinds) == 1 else ConnectionError
    if all(error.offline for _, error in failures):
        text = f"{failures[0][1]}; {what} could not be downloaded"
        raise DownloadError(text, advice or otherwise, kind).for_user() from None
    reasons = "; ".join(f"from {url}: {error}" for url, error in failures)
    raise DownloadError(
        f"{what} could not be downloaded {reasons}", advice or otherwise, kind
    ).for_user() from failures[-1][1]


def _receive(session: "Session", source: _Source) -> None:
    """Ask for what is missing of the partial file, decide by the response, and act."""
    headers = source.resume_headers()
    have = source.part.stat().st_size if headers else 0
    response, chunks = _respond(session, source, headers)
    with response:
        decision, total = _decide(response, source, have)
        _act(decision, total, response, chunks, source)
    if decision == "begin again":
        _receive(session, source)


def _decide(
    response: "Response", source: _Source, have: int
) -> tuple[_Decision, int | None]:
    """What to do with the response if `have` bytes are there, and the whole length."""
    status = response.status_code
    if have and status in (206, 416):
        same = _validator(response) in ("", source.note["validator"])
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


def _act(
    decision: _Decision,
    total: int | None,
    response: "Response",
    chunks: Iterator[bytes],
    source: _Source,
) -> None:
    """Clear the place, note from which version the bytes are, and append them."""
    import requests

    part = source.part
    if decision in ("begin", "begin again"):
        discard_partial(part)  # before the note: no old bytes beside a new note
    if decision == "begin" and not _is_encoded(response):  # else ranges are of the code
        with atomic_write(_note_path(part)) as temporary:
            note = {"url": source.url, "validator": _validator(response)}
            temporary.write_text(json.dumps(note), encoding="utf-8")
    if decision not in ("begin", "append"):
        return
    limit = _LONGEST_FILE if source.size is None else source.size + _PAGE_LIMIT
    have = part.stat().st_size if part.exists() else 0
    with (
        open(part, "ab") as file,
        counted(total, part.name[1:-5], "B", initial=have) as bar,
    ):
        for chunk in chunks:
            have += len(chunk)
            if have > limit:
                discard_partial(part)
                reason = f"it must have at most {limit} bytes; more came"
                raise DownloadError(reason, "It was replaced there.", ValueError)
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and have != total:
        raise requests.ConnectionError(f"{have} of {total} bytes came")


# ---- requests and responses -----------------------------------------------------


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
    url, query, page = source.url, dict[str, str](), b""
    for first in (True, False):
        response = session.get(url, params=query, headers=headers, stream=True)
        if response.status_code not in (200, 206):
            return response, iter(())
        chunks: Iterator[bytes] = response.iter_content(CHUNK)
        if source.pages:
            return response, chunks
        start = next(chunks, b"")
        typed = "text/html" in response.headers.get("Content-Type", "").lower()
        # the middle of a file may begin with anything
        whole = response.status_code == 200
        if not (_looks_like_page(start, typed=typed) if whole else typed):
            return response, chain([start], chunks)
        page = start + b"".join(islice(chunks, _PAGE_LIMIT // CHUNK))
        response.close()
        offer = _confirmation(page, response.url)
        if offer is None or not first:
            break
        url, query = offer
    raise DownloadError(
        _described("it sent a web page instead of the file", page),
        "Open the address in a browser; the page usually says why.",
        ValueError,
    )


# ---- web pages that a server sends where a file was asked for -------------------


def page_in(start: bytes) -> str:
    """What the first bytes of a file say of the web page that it is; empty if none."""
    return _described("a web page", start) if _looks_like_page(start) else ""


def page_at(path: Path) -> str:
    """The same of a file."""
    with open(path, "rb") as file:
        return page_in(file.read(CHUNK))


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
    check_hop(url, target.geturl())
    hidden = [tag for tag in tags if tag.get("type") == "hidden"]
    query = dict(parse_qsl(target.query))
    query |= {tag.get("name", ""): tag.get("value", "") for tag in hidden}
    return target._replace(query="").geturl(), query
