"""Files of a project of the Open Science Framework (OSF): listed, pinned, downloaded.

The first download writes down in ``osf.lock.json`` which version of every file the
project has. Later ones download and check these very versions, so that an analysis does
not change because somebody uploads a file.
"""

import contextlib
import datetime
import hashlib
import json
import logging
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from versa.cache import atomic_write, file_hash, offline, sweep_leftovers
from versa.download import (
    DownloadError,
    RemoteFile,
    download,
    file_lock,
    open_session,
    page_at,
    page_in,
    partial_path,
    patiently,
    refusal,
    sweep_partials,
)
from versa.wording import listing

if TYPE_CHECKING:
    from pandas import DataFrame
    from requests import PreparedRequest, Session

logger = logging.getLogger("versa")

OSF_PROJECT = "trne8"  # Konkle & Alvarez (2022), https://osf.io/trne8/
LOCK_NAME = "osf.lock.json"
_API = "https://api.osf.io/v2"
_PAGE_SIZE = 100  # items; the most that is granted, 10 if nothing is asked
_STORAGE = "osfstorage"
_PARTS = ".osf-partial"  # folder of what has not come whole yet
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
        hashes = (self.md5, self.sha256)
        texts = (self.path, *hashes, self.version, self.url, self.node, self.modified)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"fields of a file on OSF must be texts; got {texts}.")
        if not all(map(_is_plain, self.path.split("/"))):
            raise ValueError(
                "path of a file on OSF must be names of folders and of the file, with "
                f"/ between them; got {self.path!r}, which is never written."
            )
        if self.size is not None and (type(self.size) is not int or self.size < 0):
            raise ValueError(
                f"size of {self.path} must be a count of bytes; got {self.size!r}."
            )
        for kind, digits, n in (("md5", self.md5, 32), ("sha256", self.sha256, 64)):
            if digits and not re.fullmatch(f"[0-9a-f]{{{n}}}", digits):
                raise ValueError(
                    f"{kind} of {self.path} must be {n} lower-case hexadecimal digits; "
                    f"got {digits!r}."
                )
        if not re.match(r"https?://[^/]", self.url):
            raise ValueError(
                f"address of {self.path} must start with https:// or http://; got "
                f"{self.url!r}."
            )


@dataclass(frozen=True)
class _Pins:
    """What the lock file of a folder says."""

    project: str
    listed: str  # date
    files: tuple[OsfFile, ...]
    recorded: Mapping[str, str] = field(default_factory=dict)  # path -> own SHA-256,
    # or an empty text: what is in the folder is of an earlier version

    def hash_of(self, file: OsfFile) -> str:
        """SHA-256 that is published, or was recorded; empty if there is none."""
        return file.sha256 or self.recorded.get(file.path, "")

    def fault(self, file: OsfFile, path: Path, *, new: bool = False) -> str | None:
        """Why `path` is not the pinned file; None if it is.

        What is `new` has just been downloaded: all hashes are compared, not one.
        """
        hashes = {"sha256": self.hash_of(file), "md5": file.md5}
        remote = RemoteFile(file.path, (file.url,), size=file.size, **hashes)
        fault = remote.fault(path, all_hashes=new)
        is_earlier = file.path in self.recorded and not (new or any(hashes.values()))
        if fault is None and is_earlier:
            return f"it must be version {file.version}, and is an earlier one"
        return fault


# ---- download -------------------------------------------------------------------


def fetch_files(
    project: str,
    folder: str | os.PathLike[str],
    *,
    patterns: str | Sequence[str] | None = None,
    update: bool = False,
    api: str | None = None,
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
    api : str, optional
        Address of the API; by default the environment variable ``VERSA_OSF_API``, else
        ``https://api.osf.io/v2``.

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
    name, address, folder = project_id(project), api_address(api), Path(folder)
    session = _signed_session(address)
    pins, whole = _read_lock(folder, name), set[OsfFile]()
    if pins is not None and not update:
        chosen = _choose(pins, patterns)
        whole = {file for file in chosen if not pins.fault(file, _place(folder, file))}
        if len(whole) == len(chosen):
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
            pins = _pins_now(name, address, before, update=update)
        else:
            pins = before
        chosen = _choose(pins, patterns)
        _check_names(chosen)
        missing = _missing(pins, before, set(chosen) - whole, folder)
        _check_room(missing, folder)
        if pins != before:
            _write_lock(folder, pins)
        sweep_leftovers(folder)
        sweep_partials(folder / _PARTS)
        for file in missing:
            pins = _download(file, pins, folder, session)
        with contextlib.suppress(OSError):  # absent, or with parts of files not chosen
            (folder / _PARTS).rmdir()
        _record(pins, chosen, folder)
    return [_place(folder, file) for file in chosen]


def _read_lock(folder: Path, project: str) -> _Pins | None:
    """What is pinned in a folder; None if nothing is."""
    path = folder / LOCK_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        pins = _Pins(
            project=str(found["project"]),
            listed=str(found["listed"]),
            files=tuple(OsfFile(**file) for file in found["files"]),
            recorded={str(key): str(sha) for key, sha in found["recorded"].items()},
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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


def _write_lock(folder: Path, pins: _Pins) -> None:
    with atomic_write(folder / LOCK_NAME) as temporary:
        text = json.dumps(asdict(pins), indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _choose(pins: _Pins, patterns: str | Sequence[str] | None) -> tuple[OsfFile, ...]:
    """Files whose paths match a pattern; each pattern must match one."""
    if patterns is None:
        return pins.files
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(file.path, pattern) for file in pins.files):
            paths = listing(file.path for file in pins.files) or "nothing"
            raise ValueError(
                f"patterns must each match a file of OSF project {pins.project}, as "
                f"listed on {pins.listed} (update=True lists it again); {pattern!r} "
                f"matches none of {paths}."
            )
    return tuple(
        file
        for file in pins.files
        if any(fnmatchcase(file.path, pattern) for pattern in wanted)
    )


def _pins_now(project: str, api: str, before: _Pins | None, *, update: bool) -> _Pins:
    """What shall be pinned: what was, unless there was nothing or `update` is set."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        files = _project_files(project, api)
    except DownloadError as error:
        if before is None or update:
            raise
        logger.warning(
            "whether OSF project %s has changed since %s is not known: %s.",
            *(project, before.listed, error.reason),
        )
        return before
    if before is None:
        return _Pins(project, today, files)
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
    recorded = dict(before.recorded)
    for file in files:  # without a hash, an earlier version may look like this one
        if file.path in changed and not (file.sha256 or file.md5):
            recorded[file.path] = ""
    return _Pins(project, today, files, recorded)


def _changes(pinned: Sequence[OsfFile], now: Sequence[OsfFile]) -> dict[str, str]:
    """How files differ, by path; what is not published of one of two is no change."""
    after = {file.path: file for file in now}
    found = {}
    for old in pinned:
        new = after.get(old.path)
        if new is None:
            found[old.path] = "is gone"
            continue
        pairs = {
            kind: (getattr(old, kind), getattr(new, kind))
            for kind in ("version", "size", "md5", "sha256")
        }
        differing = [
            kind
            for kind, (one, two) in pairs.items()
            if one not in ("", None) and two not in ("", None) and one != two
        ]
        if "version" in differing:
            found[old.path] = f"has version {new.version}, not {old.version}"
        elif differing:
            found[old.path] = f"has another {' and '.join(differing)}"
    known = {file.path for file in pinned}
    return found | {path: "is new" for path in after if path not in known}


def _missing(
    pins: _Pins, before: _Pins | None, wanted: set[OsfFile], folder: Path
) -> list[OsfFile]:
    """Which of the wanted files must be downloaded; say what is in their place."""
    ours = {file.path: file for file in before.files} if before is not None else {}
    missing = []
    for file in (file for file in pins.files if file in wanted):
        path = _place(folder, file)
        fault = pins.fault(file, path)
        if fault is None:
            continue
        missing.append(file)
        if not os.path.lexists(path):
            continue
        if before is None or file.path not in ours:
            raise ValueError(
                f"{path} must be the file of OSF project {pins.project}, or not be "
                f"there: {fault}. Move it away, or choose another folder."
            )
        if before != pins and before.fault(ours[file.path], path) is None:
            logger.info("%s is replaced by version %s.", path, file.version)
        else:
            logger.warning("%s is damaged (%s); it is downloaded again.", path, fault)
    return missing


def _check_room(missing: Sequence[OsfFile], folder: Path) -> None:
    """Refuse to begin what the disk cannot hold."""
    parts = [_part(folder, file) for file in missing]
    have = sum(part.stat().st_size for part in parts if part.is_file())
    needed = sum(file.size or 0 for file in missing) - have
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{len(missing)} files need {needed / 1e9:.2f} GB more in {folder}; the "
            f"disk has {free / 1e9:.2f} GB",
            "Make room, choose fewer files by patterns, or choose another folder.",
            OSError,
        )


def _download(file: OsfFile, pins: _Pins, folder: Path, session: "Session") -> _Pins:
    """Download the pinned version of a file; the pins with its hash if it had none."""
    part = _part(folder, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    hashed = bool(file.md5 or pins.hash_of(file))
    now = pins

    def accept(part: Path) -> None:
        nonlocal now
        if fault := pins.fault(file, part, new=True):
            page = page_at(part)
            raise DownloadError(
                f"{fault}; it is {page}" if page else fault,
                "Run it again; if the same comes, update=True takes the present one.",
                ValueError,
            )
        if not pins.hash_of(file):  # before it is in its place: what is there has one
            recorded = {**pins.recorded, file.path: file_hash(part)}
            now = replace(pins, recorded=recorded)
            _write_lock(folder, now)

    download(
        f"{file.path} of OSF project {pins.project}",
        [file.url],
        _place(folder, file),
        part=part,
        accept=accept,
        checked=hashed,
        otherwise="Run it again to resume. If the pinned version is gone, update=True "
        "takes the present one.",
        pages=hashed or file.size is not None,  # a page, too, may be a file there
        session=session,
    )
    return now


def _record(pins: _Pins, chosen: Sequence[OsfFile], folder: Path) -> None:
    """Record hashes of files that were there already, where OSF tells none."""
    new = {
        file.path: file_hash(_place(folder, file))
        for file in chosen
        if not pins.hash_of(file)
    }
    if new:
        _write_lock(folder, replace(pins, recorded={**pins.recorded, **new}))


# ---- names of files -------------------------------------------------------------


def _place(folder: Path, file: OsfFile) -> Path:
    """Where a file goes; never outside of the folder."""
    return _inside(folder, folder.joinpath(*file.path.split("/")))


def _part(folder: Path, file: OsfFile) -> Path:
    """Where the bytes of a file are until it is whole."""
    digits = hashlib.sha256(file.path.encode()).hexdigest()[:16]
    return _inside(folder, partial_path(folder / _PARTS / digits))


def _inside(folder: Path, path: Path) -> Path:
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{path.parent} must be in {folder}; a link leads from it to "
            f"{path.parent.resolve()}, where nothing is written."
        )
    return path


def _check_names(files: Sequence[OsfFile]) -> None:
    """Refuse files that cannot be side by side in one folder of every system."""
    own = {folded(name) for name in (LOCK_NAME, f".{LOCK_NAME}.lock", _PARTS)}
    places: dict[str, str] = {}
    for file in files:
        place = folded(file.path)
        if place.split("/")[0] in own:
            raise ValueError(
                f"files of the project must not be called as versa's own; got "
                f"{file.path!r}. Choose others by patterns."
            )
        if place in places:
            raise ValueError(
                "files must have names that differ in more than case; the project "
                f"has {places[place]!r} and {file.path!r}. Choose one by patterns."
            )
        places[place] = file.path
    for place, path in places.items():
        for folder in PurePosixPath(place).parents:
            if str(folder) in places:
                raise ValueError(
                    f"files must not be in files; the project has "
                    f"{places[str(folder)]!r} and {path!r}. Choose one by patterns."
                )


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


def list_files(
    project: str = OSF_PROJECT, *, api: str | None = None
) -> tuple[OsfFile, ...]:
    """Present versions of all files of an OSF project and of its components, by path.

    Arguments and errors are as of `fetch_files`. Only OSF's own storage is listed; a
    warning tells if a project has others.
    """
    name, address = project_id(project), api_address(api)
    try:
        return _project_files(name, address)
    except DownloadError as error:
        raise error.for_user() from error.__cause__


def files_table(files: Sequence[OsfFile]) -> "DataFrame":
    """Table of files, to be shown; one line per file."""
    import pandas as pd

    columns = ["path", "size", "version", "modified", "node", "md5", "sha256", "url"]
    table = pd.DataFrame([asdict(file) for file in files], columns=columns)
    return table.astype({"size": "Int64"})


def _project_files(project: str, api: str) -> tuple[OsfFile, ...]:
    if offline():
        raise DownloadError(
            f"files of OSF project {project} cannot be listed, because VERSA_OFFLINE "
            "forbids it",
            "Unset it.",
        )
    with _signed_session(api) as session:
        asking = _Api(session, api, project)
        node = asking.document(f"{api}/guids/{project}/").get("data")
        kind = _at(node, "type")
        if kind not in ("nodes", "registrations"):
            raise DownloadError(
                f"{project!r} must name a project, component or registration of OSF; "
                f"it names one of its {kind}",
                f"Look at https://osf.io/{project}/ for the project.",
                ValueError,
            )
        files = sorted(_files_below(asking, node), key=lambda file: file.path)
    logger.info("OSF project %s has %d files.", project, len(files))
    return tuple(files)


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


def api_address(api: str | None) -> str:
    """Address of the API: as given, or of ``VERSA_OSF_API``, or that of OSF."""
    address = (api or os.environ.get("VERSA_OSF_API", "") or _API).rstrip("/")
    if not re.match(r"https?://[^/]", address):
        raise ValueError(
            "api (or VERSA_OSF_API) must be an address that starts with https:// or "
            f"http://; got {address!r}."
        )
    return address


def _signed_session(api: str) -> "Session":
    """Session that shows the token of ``OSF_TOKEN`` to those who may see it."""
    session, sign = open_session(), token_header(api)
    if sign is None:
        return session

    def authorize(request: "PreparedRequest", *_: object) -> "PreparedRequest":
        request.headers.pop("Authorization", None)  # a redirect copies all headers
        request.headers.update(sign(request.url or ""))
        return request

    session.auth = authorize
    session.rebuild_auth = authorize  # type: ignore[method-assign, assignment]
    return session


def token_header(api: str) -> Callable[[str], Mapping[str, str]] | None:
    """Headers for an address, if there is a token.

    It is for the host of the API and for OSF over HTTPS, and for nobody else.
    """
    token = os.environ.get("OSF_TOKEN", "").strip()
    if not token:
        return None
    home = urlsplit(api)
    local = home.hostname in ("127.0.0.1", "::1", "localhost")
    if home.scheme != "https" and not local:
        raise ValueError(
            "OSF_TOKEN must be sent over https only; the API's address is "
            f"{api!r}. Unset OSF_TOKEN, or use the API's https address."
        )

    def sign(url: str) -> Mapping[str, str]:
        target = urlsplit(url)
        host = target.hostname or ""
        osf = target.scheme == "https" and f".{host}".endswith(".osf.io")
        trusted = osf or target[:2] == home[:2]
        return {"Authorization": f"Bearer {token}"} if trusted else {}

    return sign


@dataclass(frozen=True)
class _Api:
    """The API, and for which project it is asked."""

    session: "Session"
    address: str
    project: str

    def link(self, url: object) -> str:
        """An address that the API told."""
        if not isinstance(url, str) or not re.match(r"https?://[^/]", url):
            raise self.odd(self.address, f"a link that leads to {url!r}")
        if self.address.startswith("https:") and not url.startswith("https:"):
            raise self.odd(self.address, f"a link to {url}, which is not secure")
        return url

    def document(self, link: object) -> dict[str, Any]:
        """One answer, which must be a JSON object."""
        url = self.link(link)

        def answer() -> Any:
            response = self.session.get(url)
            if response.status_code != 200:
                raise refusal(response)
            try:
                return response.json()
            except ValueError as error:
                found = page_in(response.content) or f"something else ({error})"
                raise DownloadError(f"it sent {found} instead of JSON") from error

        try:
            found = patiently(url, answer)
        except DownloadError as error:
            raise _refused(self.project, url, error) from error
        if not isinstance(found, dict):
            raise self.odd(url, "no JSON object")
        return found

    def items(self, url: object) -> Iterator[Mapping[str, Any]]:
        """All items of a list that comes in pages, each once, or a refusal."""
        first = self.link(url)
        url = _with_query(first, {"page[size]": str(_PAGE_SIZE)})
        ids: set[str] = set()
        asked: set[object] = set()
        total: object = None
        while url is not None:
            asked.add(url)
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
            if url in asked or (url is not None and not new):
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
    has_token = bool(os.environ.get("OSF_TOKEN", "").strip())
    if error.status in (404, 410):
        return DownloadError(
            f"OSF project {project!r} must be there; {url} answers {error}",
            f"Check its letters: https://osf.io/{project}/ must show it.",
            ValueError,
        )
    if error.status in (401, 403):
        advice = "OSF_TOKEN must be a valid token of someone who may read it."
        if not has_token:
            advice = "Set OSF_TOKEN to a personal access token of someone who may."
        return DownloadError(
            f"OSF project {project!r} must be public or opened by a token; {url} "
            f"answers {error}",
            advice,
            ValueError,
        )
    limit = " OSF_TOKEN would raise the limit." if error.status == 429 else ""
    return DownloadError(
        f"files of OSF project {project} could not be listed: {url}: {error}",
        error.advice or f"Run it again later.{limit}",
    )


def _files_below(api: _Api, node: object) -> Iterator[OsfFile]:
    """Files of a node, then those of its components, each in a folder of its own."""
    waiting: list[tuple[object, str]] = [(node, "")]
    seen: set[object] = set()
    while waiting:
        node, prefix = waiting.pop(0)
        name = _at(node, "id")
        if not isinstance(name, str) or name in seen:
            raise api.odd(api.address, f"component {name!r} twice or without a name")
        seen.add(name)
        taken = set()
        for item in _stored_items(api, node, name):
            file = _file(api, item, prefix, name)
            taken.add(folded(file.path.removeprefix(prefix).split("/")[0]))
            yield file
        children = api.items(_related(node, "children"))
        for child in sorted(children, key=lambda item: str(item["id"])):
            label = _plain_name(str(_at(child, "attributes", "title")))
            if not _is_plain(label):
                label = str(child["id"])
            if folded(label) in taken:
                label = f"{label} ({child['id']})"
            taken.add(folded(label))
            waiting.append((child, f"{prefix}{label}/"))


def _stored_items(api: _Api, node: object, name: str) -> Iterator[Mapping[str, Any]]:
    """Items of the files in OSF's own storage of one node, through all its folders."""
    places = {
        str(_at(item, "attributes", "provider")): item
        for item in api.items(_related(node, "files"))
    }
    others = sorted(set(places) - {_STORAGE})
    if others:
        logger.warning(
            "OSF project %s has files in %s, too, which are not listed; only those in "
            "%s are.",
            *(name, listing(others), _STORAGE),
        )
    folders = [_related(places[_STORAGE], "files")] if _STORAGE in places else []
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


def _file(api: _Api, item: Mapping[str, Any], prefix: str, node: str) -> OsfFile:
    """One file of a listing."""
    told = str(_at(item, "attributes", "materialized_path")).removeprefix("/")
    path = "/".join(map(_plain_name, told.split("/")))
    if path != told:
        logger.warning("%r on OSF is called %r here.", told, path)
    version = _at(item, "attributes", "current_version")
    version = "" if version is None else str(version)
    url = api.link(_at(item, "links", "download"))
    hashes = _at(item, "attributes", "extra", "hashes") or {}
    try:
        return OsfFile(
            path=prefix + path,
            size=_at(item, "attributes", "size"),
            md5=(_at(hashes, "md5") or "").lower(),
            sha256=(_at(hashes, "sha256") or "").lower(),
            version=version,
            url=_with_query(url, {"version": version} if version else {}),
            node=node,
            modified=_at(item, "attributes", "date_modified") or "",
        )
    except (ValueError, AttributeError) as error:
        raise DownloadError(
            f"files of OSF project {node} could not be listed: "
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
