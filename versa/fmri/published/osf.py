"""Files of a project of the Open Science Framework (OSF): listed, pinned, downloaded.

The first download writes down in ``osf.lock.json`` which version of every file the
project has. Later ones download and check these very versions, so that an analysis does
not change because somebody uploads a file.
"""

import datetime
import json
import logging
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from versa.cache import atomic_write, file_lock, offline, sweep_leftovers
from versa.download import (
    RemoteFile,
    download,
    page_at,
    page_in,
)
from versa.http import DownloadError, open_session, patiently, read_body, refusal
from versa.records import parse_json, typed_record
from versa.wording import listing

if TYPE_CHECKING:
    from pandas import DataFrame
    from requests import PreparedRequest, Session

logger = logging.getLogger("versa")

OSF_PROJECT = "trne8"  # Konkle & Alvarez (2022), https://osf.io/trne8/
LOCK_NAME = "osf.lock.json"
_API = "https://api.osf.io/v2"
_PAGE_SIZE = "100"  # items; the most that is granted, 10 if nothing is asked
_LONGEST_ANSWER = 2**26  # bytes of one page of a listing
_STORAGE = "osfstorage"
_ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff/\\]")  # controls, surrogates, slashes


@dataclass(frozen=True)
class OsfFile:
    """One version of a file of an OSF project; what is not published is empty."""

    path: str  # in the project; files of a component are in a folder with its title
    size: int | None  # bytes
    md5: str
    sha256: str
    version: str  # counted from "1"
    url: str  # of this very version
    node: str  # letters of the project or component to which it belongs
    modified: str  # ISO 8601

    def __post_init__(self) -> None:
        if not all(map(_is_plain, self.path.split("/"))):
            raise ValueError(
                "path of a file on OSF must be names of folders and of the file, with "
                f"/ between them; got {self.path!r}, which is never written."
            )

    def fault(self, path: Path) -> str | None:
        """Why `path` is not this file; None if it is."""
        hashes = {"sha256": self.sha256, "md5": self.md5}
        return RemoteFile(self.path, (self.url,), size=self.size, **hashes).fault(path)


@dataclass(frozen=True)
class _Pins:
    """What the lock file of a folder says."""

    project: str
    listed: str  # date
    files: tuple[OsfFile, ...]

    def choose(self, patterns: str | Sequence[str] | None) -> list[OsfFile]:
        """Files whose paths match a pattern; each pattern must match one."""
        if patterns is None:
            return list(self.files)
        wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        for pattern in wanted:
            if not any(fnmatchcase(file.path, pattern) for file in self.files):
                paths = listing(file.path for file in self.files) or "nothing"
                raise ValueError(
                    f"patterns must each match a file of OSF project {self.project}, "
                    f"as listed on {self.listed} (update=True lists it again); "
                    f"{pattern!r} matches none of {paths}."
                )
        return [f for f in self.files if any(fnmatchcase(f.path, p) for p in wanted)]


# ---- download -------------------------------------------------------------------


def fetch_files(
    project: str,
    folder: str | os.PathLike[str],
    *,
    patterns: str | Sequence[str] | None = None,
    update: bool = False,
) -> list[Path]:
    """Download the files of an OSF project into a folder, each checked by its hashes.

    The first call lists the project and pins the version, size and hashes of all its
    files in ``osf.lock.json`` in the folder. Each later call checks the folder against
    it, and downloads the pinned version of what is missing or damaged; if nothing is,
    the network is not used. If the project has changed meanwhile, a warning says so
    and the pinned versions are used nevertheless, unless `update` is set.

    Files are written atomically. A call that was interrupted is resumed by the next
    one. Of two calls at once, one waits.

    Parameters
    ----------
    project : str
        Five letters, or the address, of a project, component or registration, such as
        ``"trne8"``. A private one needs a personal access token in the environment
        variable ``OSF_TOKEN``.
    folder : path-like
        Where the files go, in the folders that they have in the project.
    patterns : str or sequence of str, optional
        Shell patterns of the paths to download, such as ``"*.mat"``; ``*`` matches
        slashes, too. All files if not given.
    update : bool
        Whether to list the project again and pin its present versions.

    Returns
    -------
    paths : list of Path
        The chosen files, in the order of their paths in the project.

    Raises
    ------
    ValueError
        If there is no such project, it is private, a pattern matches nothing, the
        folder holds another project or other files of the same names, or what came is
        not the pinned file.
    FileNotFoundError
        If files are needed and ``VERSA_OFFLINE`` forbids the download.
    ConnectionError
        If the listing or a download fails.
    OSError
        If the folder cannot be written, or the disk is too small.
    """
    name, folder = project_id(project), Path(folder)
    session = _signed_session()
    pins = _read_lock(folder, name)
    if pins is not None and not update:
        chosen = pins.choose(patterns)
        if not any(file.fault(_place(folder, file)) for file in chosen):
            return [_place(folder, file) for file in chosen]
    if offline():
        raise FileNotFoundError(
            f"files of OSF project {name} are not all in {folder} as wanted, and "
            "VERSA_OFFLINE forbids the download. Unset it, or copy the folder from a "
            "machine with network."
        )
    what = f"OSF project {name}"
    with file_lock(folder / LOCK_NAME, what, otherwise="choose another folder"):
        before = _read_lock(folder, name)  # another process may have written it
        if before is None or update or before == pins:
            pins = _present(name, before, update=update)
        else:
            pins = before
        chosen = pins.choose(patterns)
        _check_names(chosen)
        missing = _missing(pins, before, chosen, folder)
        needed, free = sum(f.size or 0 for f in missing), shutil.disk_usage(folder).free
        if needed > free:
            raise OSError(f"{needed / 1e9:.2f} GB do not fit: {free / 1e9:.2f} GB free")
        if pins != before:
            with atomic_write(folder / LOCK_NAME) as temporary:
                text = json.dumps(asdict(pins), indent=1)
                temporary.write_text(text + "\n", encoding="utf-8")
        sweep_leftovers(folder)
        for file in missing:
            _download(file, pins, _place(folder, file), session)
    return [_place(folder, file) for file in chosen]


def _read_lock(folder: Path, project: str) -> _Pins | None:
    """What is pinned in a folder; None if nothing is."""
    path = folder / LOCK_NAME
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        known = {key: found[key] for key in ("project", "listed", "files")}
        pins = typed_record(_Pins, known)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be as versa wrote it; it cannot be read "
            f"({type(error).__name__}: {error}). Delete it to pin the present versions."
        ) from error
    if pins.project != project:
        raise ValueError(
            f"{folder} must hold the files of OSF project {project}; it holds those of "
            f"{pins.project}. Choose another folder."
        )
    return pins


def _present(project: str, before: _Pins | None, *, update: bool) -> _Pins:
    """What shall be pinned: what was, unless there was nothing or `update` is set."""
    try:
        files = list_files(project)
    except ConnectionError as error:
        if before is None or update:
            raise
        logger.warning(
            "whether OSF project %s has changed since %s is not known: %s",
            *(project, before.listed, error),
        )
        return before
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    now = _Pins(project, today, files)
    if before is None:
        return now
    changed = _changes(before.files, files)
    told = listing(f"{path} {how}" for path, how in changed.items())
    if not update:
        if changed:
            logger.warning(
                "OSF project %s has changed since %s: %s. The pinned versions are "
                "used; update=True takes the present ones.",
                *(project, before.listed, told),
            )
        return before
    logger.info("OSF project %s since %s: %s.", project, before.listed, told or "same")
    gone = listing(path for path, how in changed.items() if how == "is gone")
    if gone:
        logger.warning(
            "OSF project %s has these files no more: %s. Copies in the folder stay "
            "there, and are read as part of the archive unless you remove them.",
            *(project, gone),
        )
    return now


def _changes(pinned: Sequence[OsfFile], now: Sequence[OsfFile]) -> dict[str, str]:
    """How files differ, by path."""
    after = {file.path: file for file in now}
    found = {}
    for old in pinned:
        new = after.pop(old.path, None)
        if new is None:
            found[old.path] = "is gone"
        elif old.version != new.version:
            found[old.path] = f"has version {new.version}, not {old.version}"
        elif old != replace(new, url=old.url, modified=old.modified):
            found[old.path] = "has other content"
    return found | dict.fromkeys(after, "is new")


def _missing(
    pins: _Pins, before: _Pins | None, chosen: Sequence[OsfFile], folder: Path
) -> list[OsfFile]:
    """Which of the files must be downloaded; say what is in their place."""
    ours = {file.path: file for file in before.files} if before is not None else {}
    faults = {file: file.fault(_place(folder, file)) for file in chosen}
    missing = [file for file, fault in faults.items() if fault]
    for file in missing:
        path, old = _place(folder, file), ours.get(file.path)
        if not os.path.lexists(path):
            continue
        if old is None:
            raise ValueError(
                f"{path} must be the file of OSF project {pins.project}, or not be "
                f"there: {faults[file]}. Move it away, or choose another folder."
            )
        if old != file and old.fault(path) is None:
            logger.info("%s is replaced by version %s.", path, file.version)
        else:
            logger.warning(
                "%s is damaged (%s); it is downloaded again.", path, faults[file]
            )
    return missing


def _download(file: OsfFile, pins: _Pins, path: Path, session: "Session") -> None:
    """Download the pinned version of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def accept(part: Path) -> None:
        if fault := file.fault(part):
            page = page_at(part)
            raise DownloadError(
                f"{fault}; it is {page}" if page else fault,
                "Run it again; if the same comes, update=True takes the present one.",
                ValueError,
            )

    hashed = bool(file.md5 or file.sha256)
    download(
        f"{file.path} of OSF project {pins.project}",
        [file.url],
        path,
        accept=accept,
        checked=hashed,
        otherwise="Run it again to resume. If the pinned version is gone, update=True "
        "takes the present one.",
        pages=hashed or file.size is not None,  # a page, too, may be a file there
        size=file.size,
        session=session,
    )


# ---- names of files -------------------------------------------------------------


def _place(folder: Path, file: OsfFile) -> Path:
    """Where a file goes; never outside of the folder."""
    path = folder.joinpath(*file.path.split("/"))
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{path.parent} must be in {folder}; a link leads from it to "
            f"{path.parent.resolve()}, where nothing is written."
        )
    return path


def _check_names(files: Sequence[OsfFile]) -> None:
    """Refuse files that cannot be side by side in one folder of every system."""
    places = {folded(LOCK_NAME): LOCK_NAME}  # our own
    for file in files:
        place = folded(file.path)
        if place in places:
            raise ValueError(
                "files must have names that differ in more than case; there would be "
                f"{places[place]!r} and {file.path!r}. Choose one by patterns."
            )
        places[place] = file.path


def folded(path: str) -> str:
    """What a path is on a disk that tells neither case nor composition of letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _is_plain(name: str) -> bool:
    """Whether a name is one name in one folder, on every system."""
    return (
        name not in ("", ".", "..")
        and not _ODD.search(name)
        and PurePosixPath(name).name == PureWindowsPath(name).name == name
    )


def _plain_name(name: str) -> str:
    """A name without the characters that no file's name may have."""
    return re.sub("^([A-Za-z]):", r"\1_", _ODD.sub("_", name))  # a drive of Windows


# ---- listing --------------------------------------------------------------------


def list_files(project: str = OSF_PROJECT) -> tuple[OsfFile, ...]:
    """Present versions of all files of an OSF project and of its components, by path.

    Arguments and errors are as of `fetch_files`. Only OSF's own storage is listed; a
    warning tells if a project has others.
    """
    name = project_id(project)
    if offline():
        raise ConnectionError(
            f"files of OSF project {name} cannot be listed, because VERSA_OFFLINE "
            "forbids it. Unset it."
        )
    try:
        with _signed_session() as session:
            api = _Api(session, api_address(), name)
            files = sorted(_files_of_project(api), key=lambda file: file.path)
    except DownloadError as error:
        raise error.for_user() from error.__cause__
    logger.info("OSF project %s has %d files.", name, len(files))
    return tuple(files)


def files_table(files: Sequence[OsfFile]) -> "DataFrame":
    """Table of files, to be shown; one line per file."""
    import pandas as pd

    columns = ["path", "size", "version", "modified", "node", "md5", "sha256", "url"]
    table = pd.DataFrame([asdict(file) for file in files], columns=columns)
    return table.astype({"size": "Int64"})


def project_id(project: str) -> str:
    """Letters of a project, from them or from its address.

    >>> project_id("https://osf.io/trne8/")
    'trne8'
    """
    pattern = r"(?:(?:https?://)?(?:www\.)?osf\.io/)?([0-9A-Za-z]{5,})(?:/.*)?"
    found = re.fullmatch(pattern, project.strip())
    if found is None:
        raise ValueError(
            "project must be the five letters of an OSF project or its address, such "
            f"as {OSF_PROJECT} or https://osf.io/{OSF_PROJECT}/; got {project!r}."
        )
    return found[1].lower()


def api_address() -> str:
    """Address of the API: that of OSF, unless ``VERSA_OSF_API`` names another."""
    address = (os.environ.get("VERSA_OSF_API", "") or _API).rstrip("/")
    if not re.match(r"https?://[^/]", address):
        raise ValueError(
            "VERSA_OSF_API must be an address that starts with https:// or http://; "
            f"got {address!r}."
        )
    return address


def _signed_session() -> "Session":
    """Session that shows the token of ``OSF_TOKEN`` to the API's host and to OSF."""
    session, api = open_session(), api_address()
    if not (token := os.environ.get("OSF_TOKEN", "").strip()):
        return session
    local = urlsplit(api).hostname in ("127.0.0.1", "::1", "localhost")
    if not api.startswith("https:") and not local:
        raise ValueError(
            "OSF_TOKEN must be sent over https only; the API's address is "
            f"{api!r}. Unset OSF_TOKEN, or use the API's https address."
        )

    def authorize(request: "PreparedRequest", *_: object) -> "PreparedRequest":
        request.headers.pop("Authorization", None)  # a redirect copies all headers
        if _may_see_token(request.url or "", api):
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    session.auth = authorize
    session.rebuild_auth = authorize  # type: ignore[method-assign, assignment]
    return session


def _may_see_token(url: str, api: str) -> bool:
    """Whether an address is on the host of the API, or on OSF over HTTPS."""
    target = urlsplit(url)
    osf = target.scheme == "https" and f".{target.hostname}".endswith(".osf.io")
    return osf or target[:2] == urlsplit(api)[:2]


@dataclass(frozen=True)
class _Api:
    """The API, and for which project it is asked."""

    session: "Session"
    address: str
    project: str

    def document(self, url: object) -> dict[str, Any]:
        """One answer, which must be a JSON object."""
        if not isinstance(url, str) or not re.match(r"https?://[^/]", url):
            raise self.odd(self.address, f"a link that leads to {url!r}")
        if self.address.startswith("https:") and not url.startswith("https:"):
            raise self.odd(self.address, f"a link to {url}, which is not secure")

        def answer() -> Any:
            response = self.session.get(url, stream=True)
            if response.status_code != 200:
                raise refusal(response)
            content = read_body(response, _LONGEST_ANSWER)
            try:
                return parse_json(content)
            except ValueError as error:
                found = page_in(content) or f"something else ({error})"
                raise DownloadError(f"it sent {found} instead of JSON") from error

        try:
            found = patiently(url, answer)
        except DownloadError as error:
            raise _refused(self.project, url, error) from error
        if not isinstance(found, dict):
            raise self.odd(url, "no JSON object")
        return found

    def items(self, first: object) -> Iterator[Mapping[str, Any]]:
        """All items of a list that comes in pages, each once, or a refusal."""
        url = first
        if isinstance(first, str):
            url = _with_query(first, {"page[size]": _PAGE_SIZE})
        ids: set[str] = set()
        total: object = None
        while True:
            page = self.document(url)
            data = page.get("data")
            if not isinstance(data, list) or not all(_at(item, "id") for item in data):
                raise self.odd(url, "no list of items")
            new = {item["id"]: item for item in data if item["id"] not in ids}
            yield from new.values()
            ids.update(new)
            told = _at(page, "links", "meta", "total"), _at(page, "meta", "total")
            total = next((count for count in told if count is not None), total)
            url = _at(page, "links", "next")
            if url is None:
                break
            if not new:
                raise self.odd(first, f"a page again after {len(ids)} items")
        if total is not None and total != len(ids):
            raise self.odd(first, f"{len(ids)} different items where it counts {total}")

    def odd(self, url: object, found: str) -> DownloadError:
        """An answer that would make the listing wrong."""
        return DownloadError(
            f"files of OSF project {self.project} could not be listed whole: {url} "
            f"gave {found}",
            "Run it again: the project may have changed while it was listed.",
        )


def _refused(project: str, url: str, error: DownloadError) -> DownloadError:
    """What a refusal of the API means to the user."""
    if error.status in (404, 410):
        return DownloadError(
            f"OSF project {project!r} must be there; {url} answers {error}",
            f"Check its letters: https://osf.io/{project}/ must show it.",
            ValueError,
        )
    if error.status in (401, 403):
        return DownloadError(
            f"OSF project {project!r} must be public or opened by a token; {url} "
            f"answers {error}",
            "Set OSF_TOKEN to a personal access token of someone who may read it.",
            ValueError,
        )
    reason = f"files of OSF project {project} could not be listed: {url}: {error}"
    return DownloadError(reason, error.advice or "Run it again later.")


def _files_of_project(api: _Api) -> Iterator[OsfFile]:
    """Files of a project, then those of its components, each in a folder of its own."""
    node = api.document(f"{api.address}/guids/{api.project}/").get("data")
    kind = _at(node, "type")
    if kind not in ("nodes", "registrations"):
        raise DownloadError(
            f"{api.project!r} must name a project, component or registration of OSF; "
            f"it names one of its {kind}",
            f"Look at https://osf.io/{api.project}/ for the project.",
            ValueError,
        )
    waiting: list[tuple[object, str]] = [(node, "")]
    seen: set[object] = set()
    while waiting:
        node, prefix = waiting.pop(0)
        name = str(_at(node, "id"))
        if name in seen:
            raise api.odd(api.address, f"component {name!r} twice")
        seen.add(name)
        taken = set()
        for item in _stored_items(api, node, name):
            file = _file(item, prefix, name)
            taken.add(folded(file.path.removeprefix(prefix).split("/")[0]))
            yield file
        children = api.items(_related(node, "children"))
        for child in sorted(children, key=lambda item: str(item["id"])):
            label = _plain_name(str(_at(child, "attributes", "title")))
            if not _is_plain(label) or folded(label) in taken:
                label = str(child["id"])
            taken.add(folded(label))
            waiting.append((child, f"{prefix}{label}/"))


def _stored_items(api: _Api, node: object, name: str) -> Iterator[Mapping[str, Any]]:
    """Items of the files in OSF's own storage of one node, through all its folders."""
    places = {
        str(_at(item, "attributes", "provider")): item
        for item in api.items(_related(node, "files"))
    }
    own = places.pop(_STORAGE, None)
    if places:
        logger.warning(
            "OSF project %s has files in %s, too, which are not listed; only those in "
            "%s are.",
            *(name, listing(sorted(places)), _STORAGE),
        )
    folders = [] if own is None else [_related(own, "files")]
    entered: set[object] = set()
    while folders:
        folder = folders.pop()
        if folder in entered:
            raise api.odd(folder, "a folder that is in itself")
        entered.add(folder)
        for item in api.items(folder):
            if _at(item, "attributes", "kind") == "folder":
                folders.append(_related(item, "files"))
            else:
                yield item


def _file(item: Mapping[str, Any], prefix: str, node: str) -> OsfFile:
    """One file of a listing."""
    facts = _at(item, "attributes")
    told = str(_at(facts, "materialized_path")).removeprefix("/")
    path = "/".join(map(_plain_name, told.split("/")))
    if path != told:
        logger.warning("%r on OSF is called %r here.", told, path)
    version = str(_at(facts, "current_version") or "")
    url = str(_at(item, "links", "download"))
    table = {
        "path": prefix + path,
        "size": _at(facts, "size"),
        "md5": _at(facts, "extra", "hashes", "md5") or "",
        "sha256": _at(facts, "extra", "hashes", "sha256") or "",
        "version": version,
        "url": _with_query(url, {"version": version} if version else {}),
        "node": node,
        "modified": _at(facts, "date_modified") or "",
    }
    try:
        return typed_record(OsfFile, table)
    except ValueError as error:
        raise DownloadError(
            f"{path} of OSF project {node} could not be listed: "
            f"{str(error).rstrip('.')}",
            "Nothing was written.",
            ValueError,
        ) from error


def _related(item: object, relationship: str) -> object:
    return _at(item, "relationships", relationship, "links", "related", "href")


def _at(item: object, *keys: str) -> Any:
    """What is in nested mappings; None if nothing is."""
    for key in keys:
        item = item.get(key) if isinstance(item, Mapping) else None
    return item


def _with_query(url: str, query: Mapping[str, str]) -> str:
    """An address with something more asked for."""
    parts = urlsplit(url)
    asked = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **query}
    return parts._replace(query=urlencode(asked)).geturl()
