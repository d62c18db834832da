"""Packages of an archive: unpacked beside themselves, and nothing of others lost."""

import datetime
import errno
import json
import logging
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from versa.cache import atomic_write, file_hash
from versa.checksums import check_whole_stream
from versa.records import parse_json
from versa.untrusted import check_expansion
from versa.wording import one_line

logger = logging.getLogger("versa")

_PACKED = (".zip", ".tar", ".tar.gz", ".tgz")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_packed(path: Path) -> bool:
    """Whether a file is a package, by its suffix."""
    return path.name.lower().endswith(_PACKED)


def unpack(path: Path) -> Path:
    """Unpack a package ``x.zip`` into ``x.zip.unpacked``, whole or not at all.

    A folder of that name that is not from versa is taken for the package unpacked by
    hand. One from an earlier version of the package is replaced; if somebody has added
    or changed files in it, it is moved to ``x.zip.unpacked.old-DATE`` before. A warning
    tells this, and if the package cannot be unpacked. OSError: the disk is full or
    cannot be written.
    """
    target = path.with_name(f"{path.name}.unpacked")
    record = path.with_name(f".{path.name}.unpacked.json")
    digits = file_hash(path)
    known, brought = _recorded(record)
    if target.is_dir():
        if known == digits:
            return target
        if not known:
            logger.info("%s is taken for %s unpacked by hand.", target, path.name)
            _write_record(record, digits, {})
            return target
        if _files(target) != brought:
            _move_aside(target)
    logger.info("unpacking %s", path)
    try:
        with atomic_write(target) as temporary:
            _extract(path, temporary)
            shutil.rmtree(target, ignore_errors=True)
    except Exception as error:  # any: of a reader, or a name that a disk refuses
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        shutil.rmtree(target, ignore_errors=True)  # what an earlier package brought
        record.unlink(missing_ok=True)
        logger.warning(
            "%s cannot be unpacked (%s); unpack it by hand into %s, and run the same "
            "command again.",
            *(path, one_line(error), target),
        )
        return target
    _write_record(record, digits, _files(target))
    return target


def _extract(path: Path, folder: Path) -> None:
    """Unpack into a new folder, and nothing outside of it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            check_expansion(path, sum(item.file_size for item in packed.infolist()))
            packed.extractall(folder)  # drops parts of names that lead out
    else:
        check_whole_stream(path)  # before headers of any length are read
        with tarfile.open(path) as archive:
            members = _members(path, archive)
            archive.extractall(folder, members, filter="data")
    folder.mkdir(exist_ok=True)  # of an empty package


def _members(path: Path, archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """Members of a package that is whole, and holds files and folders only."""
    members: list[tarfile.TarInfo] = []
    n_bytes = 0
    for member in archive:
        n_bytes += member.size
        check_expansion(path, n_bytes)  # before what follows is unpacked
        # the filter of Python before 3.11.13 lets chains of links lead out
        if not (member.isfile() or member.isdir()):
            raise ValueError(
                f"it must hold files and folders only; {member.name!r} is a link or "
                "a device"
            )
        members.append(member)
    stream = archive.fileobj
    if stream is None:
        raise ValueError("it has no content")
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError("it must end with a block of zeros; it is cut short")
    while block := stream.read(2**20):  # to the check sum at the end
        n_bytes += len(block)
        check_expansion(path, n_bytes)
    return members


def _files(folder: Path) -> dict[str, list[int]]:
    """Size and time of change of all files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            facts = path.lstat()
            found[path.relative_to(folder).as_posix()] = [
                facts.st_size,
                facts.st_mtime_ns,
            ]
    return found


def _recorded(record: Path) -> tuple[str, dict[str, list[int]]]:
    """Hash of the package that was unpacked, and the files that it brought."""
    try:
        found = parse_json(record.read_text(encoding="utf-8"))
        return str(found["package"]), dict(found["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}


def _write_record(record: Path, digits: str, files: dict[str, list[int]]) -> None:
    with atomic_write(record) as temporary:
        text = json.dumps({"package": digits, "files": files})
        temporary.write_text(text, encoding="utf-8")


def _move_aside(target: Path) -> None:
    """Keep a folder with files of somebody's own under another name."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    name, number = f"{target.name}.old-{today}", 1
    while os.path.lexists(target.with_name(name)):
        number += 1
        name = f"{target.name}.old-{today}-{number}"
    os.rename(target, target.with_name(name))
    logger.warning(
        "%s has files that the earlier package did not bring; it is moved to %s, which "
        "is no part of the archive. Copy what is still needed.",
        *(target, name),
    )
