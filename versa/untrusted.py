"""Files that anybody may have made: what they may not do while they are read.

They may not fill the memory or the disk, bring in other files of this machine, or end
the process. Damage is refused by `versa.wording.reading`, which is put around.
"""

import contextlib
import functools
import math
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

# How a text begins that a spreadsheet takes for a formula: by a sign, a wide sign, or
# blanks before one. A dash alone says that there is no value.
_FORMULA = re.compile(r"\s*[=+@\uff1d\uff0b\uff20]|\s*[-\uff0d](?!\Z)")
_FREE = 10**8  # bytes that any file may unpack to,
_RATIO = 100  # and this many times its own size beyond
_PATIENCE = 8.0  # seconds of computing in which a file of MATLAB or HDF5 is read,
_SPEED = 10**7  # and one more for each so many bytes
_BUSY = 10  # times as long by the clock: other programs want the processors, too
_MOST_MEMORY = 8 * 10**9  # bytes, beside the numbers, for reading such a file
# Reads a file before we do: C code of scipy and HDF5 may crash or go on without end
_TRY = """
import sys, warnings
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[3]), int(sys.argv[3]) + 5))
except (ImportError, ValueError, OSError):
    pass
warnings.simplefilter("ignore")
def read():
    {}
try:
    read()
except MemoryError:
    sys.exit(3)
except Exception:
    pass
"""
_MATLAB = """
    from scipy.io import loadmat
    loadmat(sys.argv[1], mat_dtype=True)
"""
_HDF5 = """
    import h5py
    def touch(_, item):
        if isinstance(item, h5py.Dataset) and item.shape and item.size:
            try:
                item[() if item.nbytes < 2**24 else (0,) * item.ndim]
            except (OSError, ValueError, TypeError):
                pass
        list(item.attrs.items())
    with h5py.File(sys.argv[1], "r") as file:
        file.visititems(touch)
"""


def check_expansion(path: Path, n_bytes: int) -> None:
    """Refuse a file that would unpack to far more than it is.

    At most 100 MB and a hundred times the size of the file.
    """
    most = _FREE + _RATIO * path.stat().st_size
    if n_bytes > most:
        raise ValueError(
            f"{path} must unpack to at most {most} bytes (100 MB, and 100 times its "
            f"size); it would fill {n_bytes} or more. If that is right, unpack it by "
            "hand, or save it without compression."
        )


@contextmanager
def open_hdf5(path: Path, *, checked: bool = False) -> "Iterator[h5py.File]":
    """An HDF5 file to read, if all that it holds is in it.

    Another process reads the file first, unless a check sum has proved it whole.
    """
    import h5py

    if not checked:
        check_reader(path, _HDF5, "HDF5")

    def linked(name: bytes, info: Any) -> str | None:
        external = info.type == h5py.h5l.TYPE_EXTERNAL
        return name.decode(errors="replace") if external else None

    with h5py.File(path, "r") as file:
        if found := file.id.links.visit(linked, info=True):
            raise ValueError(
                f"{path} must hold its own data; {found} is in another file."
            )
        if found := file.visititems(lambda _, item: None if is_own(item) else item):
            check_own(found)
        yield file


def is_own(item: Any) -> bool:
    """Whether an object of an HDF5 file is stored in this file."""
    import h5py

    return not isinstance(item, h5py.Dataset) or not (item.external or item.is_virtual)


def check_own(item: Any) -> None:
    """Refuse an object of an HDF5 file that is stored in other files."""
    if not is_own(item):
        raise ValueError(
            f"{item.file.filename} must hold its own data; {item.name} is in another "
            "file."
        )


def load_mat(path: Path, **options: Any) -> dict[str, Any]:
    """What `scipy.io.loadmat` makes of a file of version 4 to 7, if it survives it.

    Another process reads the file first, in limited time and at most 8 GB.
    """
    from scipy.io import loadmat

    check_expansion(path, _unpacked_size(path, _FREE + _RATIO * path.stat().st_size))
    check_reader(path, _MATLAB, "MATLAB")
    content: dict[str, Any] = loadmat(path, **options)
    return content


def check_reader(path: Path, reading: str, kind: str) -> None:
    """Refuse a file on which its reader crashes or hangs, or that fills the memory.

    `reading` are lines of Python that read the file ``sys.argv[1]``.
    """
    state = path.stat()
    _survive(path.resolve(), reading, kind, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _survive(path: Path, reading: str, kind: str, size: int, _changed: int) -> None:
    """The same, once per state of the file."""
    memory, seconds = _MOST_MEMORY + 10 * _RATIO * size, _PATIENCE + size / _SPEED
    code = _TRY.format(reading.strip())
    limits = [str(memory), str(math.ceil(seconds))]
    command = [sys.executable, "-I", "-c", code, str(path), *limits]
    out_of_time = getattr(signal, "SIGXCPU", 0)  # Windows has the clock alone
    try:
        ended = subprocess.run(
            command, timeout=_BUSY * seconds, check=False, stderr=subprocess.DEVNULL
        )
        slow = bool(out_of_time) and ended.returncode == -out_of_time
    except subprocess.TimeoutExpired:
        slow = True
    if slow:
        raise ValueError(
            f"{path} must be read in {seconds:.0f} seconds of computing; it takes "
            "longer."
        )
    if ended.returncode == 3:
        raise ValueError(f"{path} must fit into memory when it is read; it does not.")
    if ended.returncode < 0:
        raise ValueError(
            f"{path} must be a whole {kind} file; its reader crashes on it."
        )


def _unpacked_size(path: Path, most: int) -> int:
    """Bytes of the packed variables of a .mat file, counted to just beyond `most`."""
    n_bytes = 0
    with open(path, "rb") as file:
        order = "little" if file.read(128)[126:128] == b"IM" else "big"
        while len(tag := file.read(8)) == 8:
            kind, length = (int.from_bytes(tag[i : i + 4], order) for i in (0, 4))  # type: ignore[arg-type]
            if kind != 15 or n_bytes > most:  # miCOMPRESSED
                file.seek(length, 1)
                continue
            unpack, rest = zlib.decompressobj(), file.read(length)
            while rest and n_bytes <= most:
                n_bytes += len(unpack.decompress(rest, 2**20))
                rest = unpack.unconsumed_tail
    return n_bytes


def no_formula(value: object) -> object:
    """A cell of a CSV file, in one line, that no spreadsheet runs."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not _FORMULA.match(text):
        return text
    with contextlib.suppress(ValueError):
        float(text)
        return text
    return f"'{text}"


def printable(text: str) -> str:
    """In one line, and with nothing that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
