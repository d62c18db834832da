"""The files of an OSF project on disk: pinned, checked by hash, whole or not there.

The first download writes down in ``osf.lock.json`` which version of every file the
project has. Later ones bring and check these very versions, so that an analysis does
not change because somebody uploads a file.
"""

import contextlib
import datetime
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from versa.cache import atomic_write, file_hash, offline, sweep_leftovers
from versa.fmri.published.osf_files import (
    OsfFile,
    changes,
    check_names,
    choose,
    files_table,
)
from versa.fmri.published.osf_listing import (
    OSF_PROJECT,
    api_address,
    list_files,
    project_files,
    project_id,
    token_header,
)
from versa.transfer import (
    AddressError,
    discard,
    page_in,
    partial_path,
    sweep_partials,
    transfer,
    writing_alone,
)
from versa.wording import listing

__all__ = [
    "LOCK_NAME",
    "OSF_PROJECT",
    "OsfFile",
    "fetch_files",
    "files_table",
    "list_files",
]

logger = logging.getLogger("versa")

LOCK_NAME = "osf.lock.json"
_PARTS = ".osf-partial"  # folder of what has not come whole yet
_PAGE_START = 2**16  # bytes that are searched for a title


@dataclass(frozen=True)
class _Pins:
    """What the lock file of a folder says."""

    project: str
    listed: str
    files: tuple[OsfFile, ...]
    recorded: Mapping[str, str] = field(default_factory=dict)  # path -> own SHA-256,
    # or an empty text: what lies there is of an earlier version

    @property
    def where(self) -> str:
        """What the files are, for the sentences."""
        return (
            f"OSF project {self.project} as of {self.listed} (update=True lists it "
            "again)"
        )


def fetch_files(
    project: str,
    folder: str | os.PathLike[str],
    *,
    patterns: str | Sequence[str] | None = None,
    update: bool = False,
    api: str | None = None,
) -> list[Path]:
    """Bring the files of an OSF project into a folder, each checked by its hashes.

    The first call lists the project and pins the version, size and hashes of all its
    files in ``osf.lock.json`` in the folder. Each later call checks what lies there
    against it, and brings the pinned version of what is missing or damaged; if nothing
    is, the network is not used. If the project has changed meanwhile, a warning says so
    and the pinned versions are brought nevertheless, unless `update` is set.

    A file appears in the folder whole and checked, or not at all. A call that was
    interrupted is continued by the next one. Of two calls at once, one waits.

    Parameters
    ----------
    project : str
        Five letters, or the address, of a project, component or registration, such as
        ``"trne8"``.
    folder : path-like
        Where the files go, in the folders that they have in the project.
    patterns : str or sequence of str, optional
        Shell patterns of the paths to bring, such as ``"*.mat"``; ``*`` matches
        slashes, too. All files if not given.
    update : bool
        Whether to list the project again and pin its present versions.
    api : str, optional
        As in `list_files`.

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
    sign = token_header(address)
    pins, whole = _read_lock(folder, name), set[OsfFile]()
    if pins is not None and not update:
        chosen = choose(pins.files, patterns, pins.where)
        whole = {file for file in chosen if _is_whole(pins, file, folder)}
        if len(whole) == len(chosen):
            return [_place(folder, file) for file in chosen]
    if offline():
        raise FileNotFoundError(
            f"files of OSF project {name} are not all in {folder} as wanted, and "
            "VERSA_OFFLINE forbids the download. Unset it, or copy the folder from a "
            "machine with network."
        )
    what = f"OSF project {name}"
    with writing_alone(folder / LOCK_NAME, what, otherwise="choose another folder"):
        before = _read_lock(folder, name)  # another process may have written it,
        if before is not None and not update:  # and brought all, while we waited
            chosen = choose(before.files, patterns, before.where)
            if all(file in whole or _is_whole(before, file, folder) for file in chosen):
                return [_place(folder, file) for file in chosen]
        pins = _pins_now(name, address, before, update=update)
        chosen = choose(pins.files, patterns, pins.where)
        check_names(chosen, [LOCK_NAME, f".{LOCK_NAME}.lock", _PARTS])
        wanted = [file for file in chosen if file not in whole]
        missing = _missing(pins, before, wanted, folder)
        _check_room(missing, folder)
        if pins != before:
            _write_lock(folder, pins)
        pins = _download(missing, pins, folder, sign)
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


def _pins_now(project: str, api: str, before: _Pins | None, *, update: bool) -> _Pins:
    """What shall be pinned: what was, unless there was nothing or `update` is set."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        files = project_files(project, api)
    except AddressError as error:
        if before is None or update:
            raise
        logger.warning(
            "whether OSF project %s has changed since %s is not known: %s.",
            *(project, before.listed, error.reason),
        )
        return before
    if before is None:
        return _Pins(project, today, files)
    changed = changes(before.files, files)
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
            "OSF project %s has these files no more: %s. What lies of them in the "
            "folder stays there, and is read as part of the archive unless you remove "
            "it.",
            *(project, gone),
        )
    recorded = dict(before.recorded)
    for file in files:  # without a hash, an earlier version may look like this one
        if file.path in changed and not (file.sha256 or file.md5):
            recorded[file.path] = ""
    return _Pins(project, today, files, recorded)


def _missing(
    pins: _Pins, before: _Pins | None, wanted: Sequence[OsfFile], folder: Path
) -> list[OsfFile]:
    """Which of the wanted files must be brought; say what lies there in their place."""
    ours = {file.path: file for file in before.files} if before is not None else {}
    missing = []
    for file in wanted:
        path = _place(folder, file)
        fault = _fault(pins, file, path)
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
        if before != pins and _fault(before, ours[file.path], path) is None:
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
        raise AddressError(
            f"{len(missing)} files need {needed / 1e9:.2f} GB more in {folder}; the "
            f"disk has {free / 1e9:.2f} GB",
            "Make room, choose fewer files by patterns, or choose another folder.",
            OSError,
        )


def _download(
    missing: Sequence[OsfFile],
    pins: _Pins,
    folder: Path,
    sign: Callable[[str], Mapping[str, str]] | None,
) -> _Pins:
    """Bring the files, one after the other; the pins with hashes that were not told."""
    from tqdm import tqdm

    parts = folder / _PARTS
    sweep_leftovers(folder)
    sweep_partials(parts)
    total = sum(file.size or 0 for file in missing)
    bar = tqdm(total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty())
    with bar:
        for number, file in enumerate(missing):
            done = sum(other.size or 0 for other in missing[:number])
            bar.set_description(file.path, refresh=False)

            def show(n_bytes: int, done: int = done) -> None:
                bar.update(done + n_bytes - bar.n)

            _bring(file, pins, folder, sign, show)
            show(file.size or 0)
            pins = _move(file, pins, folder)
    with contextlib.suppress(OSError):  # not there, or parts of files not chosen now
        parts.rmdir()
    return pins


def _bring(
    file: OsfFile,
    pins: _Pins,
    folder: Path,
    sign: Callable[[str], Mapping[str, str]] | None,
    show: Callable[[int], object],
) -> None:
    """Bring the pinned version of a file to its partial path, and check it."""
    part = _part(folder, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    hashed = bool(file.md5 or file.sha256 or pins.recorded.get(file.path))

    def accept() -> None:
        fault = _fault(pins, file, part, new=True)
        if fault is None:
            return
        with open(part, "rb") as stream:
            page = page_in(stream.read(_PAGE_START))
        advice = "Run it again; if the same comes, update=True takes the present one."
        raise AddressError(
            f"{fault}; it is {page}" if page else fault, advice, ValueError
        )

    transfer(
        f"{file.path} of OSF project {pins.project}",
        [file.url],
        part,
        checked=hashed,
        accept=accept,
        otherwise="Run it again: it goes on from there. If the pinned version is gone, "
        "update=True takes the present one.",
        pages=hashed or file.size is not None,  # a page, too, may be a file there
        sign=sign,
        progress=show,
    )


def _move(file: OsfFile, pins: _Pins, folder: Path) -> _Pins:
    """Put a file that came in its place; the pins with its hash if it had none."""
    part, path = _part(folder, file), _place(folder, file)
    if not (file.sha256 or pins.recorded.get(file.path)):
        recorded = {**pins.recorded, file.path: file_hash(part)}
        pins = replace(pins, recorded=recorded)
        _write_lock(folder, pins)  # first: what lies in its place has a hash
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, path)
    discard(part)
    return pins


def _record(pins: _Pins, chosen: Sequence[OsfFile], folder: Path) -> None:
    """Record hashes of files that lay there already, where OSF tells none."""
    new = {
        file.path: file_hash(_place(folder, file))
        for file in chosen
        if not (file.sha256 or pins.recorded.get(file.path))
    }
    if new:
        _write_lock(folder, replace(pins, recorded={**pins.recorded, **new}))


def _fault(pins: _Pins, file: OsfFile, path: Path, *, new: bool = False) -> str | None:
    """Why `path` is not the pinned file; None if it is.

    What is `new` has just been brought: all hashes are compared, not one.
    """
    if not path.is_file():
        return "it is not a file"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it must have {file.size} bytes; it has {size}"
    sha256 = file.sha256 or pins.recorded.get(file.path, "")
    if sha256 and (digits := file_hash(path)) != sha256:
        return f"it must have the SHA-256 {sha256}; it has {digits}"
    if file.md5 and (new or not sha256):
        with open(path, "rb") as stream:
            digits = hashlib.file_digest(stream, "md5").hexdigest()
        if digits != file.md5:
            return f"it must have the MD5 {file.md5}; it has {digits}"
    hashed = sha256 or file.md5
    if not (new or hashed) and file.path in pins.recorded:
        return f"it must be version {file.version}, and is an earlier one"
    return None


def _is_whole(pins: _Pins, file: OsfFile, folder: Path) -> bool:
    return _fault(pins, file, _place(folder, file)) is None


def _place(folder: Path, file: OsfFile) -> Path:
    """Where a file goes; never outside of the folder."""
    return _inside(folder, folder.joinpath(*file.path.split("/")))


def _part(folder: Path, file: OsfFile) -> Path:
    """Where the bytes of a file lie until it is whole."""
    digits = hashlib.sha256(file.path.encode()).hexdigest()[:16]
    return _inside(folder, partial_path(folder / _PARTS / digits))


def _inside(folder: Path, path: Path) -> Path:
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{path.parent} must lie in {folder}; a link leads from it to "
            f"{path.parent.resolve()}, where nothing is written."
        )
    return path
