"""Where versa keeps files, and a content-addressed store of arrays.

The store holds Gram matrices and predicted RDMs. A key is a hash of everything
that the entry depends on, never a name, so an entry can be absent but not stale.
Entries are plain ``.npz`` files (no pickle) with a check sum of all their bytes at the
end, written to a temporary file and moved into place: a reader sees a whole entry or
none, whichever process wrote it and whenever a writer was killed.
"""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from versa.wording import one_line, reading, shown

logger = logging.getLogger("versa")

_BLOCK = 2**26  # bytes that are hashed at a time
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_LEFTOVER_SUFFIX = ".versa-tmp"
_LEFTOVERS = f".*{_LEFTOVER_SUFFIX}"
_LEFTOVER_AGE = 24 * 3600.0  # seconds; a writer that takes longer than a day is dead
_SEAL = b"\nversa-sha256:"  # before the 64 digits and the line's end of a check sum
_SEAL_SIZE = len(_SEAL) + 64 + 1


def cache_folder() -> Path:
    """Folder of everything that versa downloads or remembers; not created here.

    The environment variable ``VERSA_CACHE`` if it is set, else the user's cache folder
    of the platform.
    """
    named = os.environ.get("VERSA_CACHE", "")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("versa", appauthor=False))


def offline() -> bool:
    """Whether ``VERSA_OFFLINE`` forbids every access to the network: it is set to
    anything but an empty text, 0, false or no."""
    return os.environ.get("VERSA_OFFLINE", "").lower() not in ("", "0", "false", "no")


def file_hash(path: Path, *, size: int | None = None) -> str:
    """SHA-256 of a file's bytes, or of its first `size`, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        whole = os.fstat(file.fileno()).st_size
        end = whole if size is None else min(size, whole)
        if whole < 2**20:  # an image, or empty: not worth a map
            digest.update(file.read(end))
            return digest.hexdigest()
        # mapped, not copied, in few large blocks: between two of them a thread must
        # wait for the interpreter; not all at once, for a scan may exceed the memory
        for start in range(0, end, _BLOCK):
            length = min(_BLOCK, end - start)
            with mmap.mmap(
                file.fileno(), length, access=mmap.ACCESS_READ, offset=start
            ) as block:
                digest.update(block)
    return digest.hexdigest()


def seal(path: Path) -> None:
    """Append a check sum of the file to it, which readers of zip and HDF5 pass over."""
    digest = file_hash(path).encode()
    with open(path, "ab") as file:
        file.write(_SEAL + digest + b"\n")


def seal_holds(path: Path) -> bool | None:
    """Whether the file is as it was sealed; None if it has no seal."""
    size = os.path.getsize(path) - _SEAL_SIZE
    if size < 0:
        return None
    with open(path, "rb") as file:
        file.seek(size)
        end = file.read(_SEAL_SIZE)
    if not end.startswith(_SEAL):
        return None
    return end == _SEAL + file_hash(path, size=size).encode() + b"\n"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block ends.

    A file or a folder can be made at the temporary path. If the block raises, or the
    process dies, `path` is left as it was. An existing file is replaced; an existing
    folder is kept, because whoever made it first had the same content in mind. The
    first write into a folder removes what killed writers left there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent.resolve())
        holder = Path(
            tempfile.mkdtemp(
                prefix=f".{path.name}.", suffix=_LEFTOVER_SUFFIX, dir=path.parent
            )
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise unwritable(path, error) from error
    try:
        temporary = holder / path.name
        try:
            yield temporary
        except OSError as error:  # of the disk, not of a file that is read meanwhile
            if str(error.filename or "").startswith(str(holder)) or (
                error.filename is None and error.errno in _FULL
            ):
                raise unwritable(path, error) from error
            raise
        try:
            os.replace(temporary, path)
        except OSError as error:
            if not (temporary.is_dir() and path.is_dir()):
                raise unwritable(path, error) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def made_folder(folder: str | os.PathLike[str]) -> Path:
    """A folder to write into, made if absent."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    return path


def unwritable(path: Path, error: Exception) -> OSError:
    """The sentence for a file or folder that the system does not let us write.

    It is of the same class and has the same ``errno``.
    """
    reason = getattr(error, "strerror", None) or one_line(error)
    kind = type(error) if isinstance(error, OSError) else OSError
    refused = kind(
        f"{shown(path)} must be a place that can be written; the system says: "
        f"{reason}. Free some space, or choose another place."
    )
    refused.errno = getattr(error, "errno", None)
    return refused


def sweep_leftovers(folder: Path) -> None:
    """Remove what killed writers left below `folder` more than a day ago."""
    _sweep(folder.rglob(_LEFTOVERS))


@functools.cache
def _sweep_once(folder: Path) -> None:
    """Remove old leftovers in `folder` itself, once in the life of this process."""
    _sweep(folder.glob(_LEFTOVERS))


def _sweep(leftovers: Iterable[Path]) -> None:
    """Remove those in which nothing changed for a day."""
    for leftover in list(leftovers):
        # a folder that cannot be written, or another process swept it first
        with contextlib.suppress(OSError):
            now = file_system_time(leftover.parent)
            parts = [leftover, *leftover.rglob("*")]
            if now - max(part.lstat().st_mtime for part in parts) > _LEFTOVER_AGE:
                shutil.rmtree(leftover, ignore_errors=True)


def file_system_time(folder: Path) -> float:
    """Time by the clock of a folder's file system, maybe another than this machine's.

    In seconds, as times of change are.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime


@contextmanager
def file_lock(
    path: Path, what: str, *, otherwise: str = "set VERSA_CACHE to another folder"
) -> Iterator[None]:
    """Be the only process that writes `path`, and turn failures into sentences.

    The lock is a hidden file beside `path`, which stays. `otherwise` ends the sentence
    if the folder cannot be written.
    """
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

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
    except ConnectionError:  # an OSError, which is not of the file
        raise
    except OSError as error:
        raise OSError(
            f"{what} cannot be written to {path.parent} ({error}). Make room or set "
            f"the permission there, or {otherwise}."
        ) from error


def content_key(**parts: Any) -> str:
    """SHA-256 of everything that a result depends on, by name.

    Parts are None, bool, int, float, str, bytes, arrays (shape, dtype and bytes), or
    lists, tuples and dicts of these.

    >>> content_key(a=1, b="x") == content_key(b="x", a=1)
    True
    >>> content_key(a=[1, 2]) == content_key(a=[2, 1])
    False
    """

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value)
            digest = hashlib.sha256(array.data).hexdigest()
            return ["array", list(array.shape), array.dtype.str, digest]
        if isinstance(value, bytes):
            return ["bytes", hashlib.sha256(value).hexdigest()]
        if isinstance(value, float):
            return ["float", value.hex()]
        if isinstance(value, Mapping):
            return {str(name): plain(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    text = json.dumps(plain(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@dataclass(frozen=True)
class ArrayStore:
    """Named arrays under content keys, in one folder, made on the first write."""

    folder: Path

    def path(self, key: str) -> Path:
        """File of one entry."""
        return self.folder / key[:2] / f"{key}.npz"

    def read(self, key: str) -> dict[str, np.ndarray] | None:
        """Arrays of an entry; None if it is absent or damaged.

        A damaged entry (a wrong check sum, a cut file, another key inside) is
        reported as a warning and removed, so that its owner computes it again. One
        without a check sum, as older versions wrote them, counts as absent.
        """
        path = self.path(key)
        try:
            held = seal_holds(path)
            if held is False:
                raise ValueError("its check sum is wrong")
            with reading(path, "an entry of versa's cache"):
                with np.load(path, allow_pickle=False) as entry:
                    arrays = {name: entry[name] for name in entry.files}
                if arrays.pop("__key__").item() != key:
                    raise ValueError("it was written under another key")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # nobody knows whether the entry is good: leave it
            logger.warning("cache entry %s cannot be read (%s).", path, error)
            return None
        except ValueError as error:
            logger.warning(
                "cache entry %s is damaged (%s); it is computed again.", path, error
            )
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        if held is None:
            logger.info("cache entry %s has no check sum; it is computed again.", path)
            return None
        return arrays

    def write(self, key: str, **arrays: np.ndarray) -> None:
        """Store `arrays` under `key`, whole or not at all.

        If the folder cannot be written, a warning says so: a cache that is full or
        locked costs time, not results.
        """
        try:
            with atomic_write(self.path(key)) as temporary:
                with open(temporary, "wb") as file:
                    np.savez(file, allow_pickle=False, __key__=np.array(key), **arrays)
                seal(temporary)
        except OSError as error:
            logger.warning(
                "the cache %s cannot be written (%s); set VERSA_CACHE to another "
                "folder, or pass cache=False (--no-cache).",
                self.folder,
                error,
            )
