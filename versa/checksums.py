"""Check sums that compressed files carry at their end, where few readers get to."""

import bz2
import gzip
import lzma
import time
import zipfile
from collections.abc import Callable
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path

from versa.untrusted import check_expansion

_OPENERS: dict[bytes, Callable[[Path], BufferedIOBase]] = {  # by the first bytes
    b"\x1f\x8b\x08": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7z": lzma.LZMAFile,
}
_ZIP = b"PK\x03"
_CHUNK = 2**20
_FRESH = 2.0  # seconds in which a file can change without another time of change


def check_whole_stream(path: Path) -> None:
    """Unpack a gzip, bzip2, xz or zip file to its end, once per process and state.

    Readers of images stop at the last byte they need, before the check sum: a wrong
    bit is another number then. Raises what the unpacking raises, and ValueError for a
    file that unpacks to far more than it is; other files pass.
    """
    with open(path, "rb") as file:
        start = file.read(3)
    if start not in (*_OPENERS, _ZIP):
        return
    state = path.stat()
    fresh = time.time() - state.st_mtime < _FRESH
    unpack = _unpack.__wrapped__ if fresh else _unpack
    unpack(path.absolute(), start, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)  # errors are not kept
def _unpack(path: Path, start: bytes, *_state: int) -> None:
    """Read a compressed file to its end and forget it."""
    n_bytes = 0
    if start == _ZIP:
        with zipfile.ZipFile(path) as packed:
            check_expansion(path, sum(item.file_size for item in packed.infolist()))
            if damaged := packed.testzip():
                raise ValueError(f"the check sum of {damaged} in it is wrong")
        return
    with _OPENERS[start](path) as stream:
        while chunk := stream.read(_CHUNK):
            n_bytes += len(chunk)
            check_expansion(path, n_bytes)
