"""Opening BrainVoyager's files with bvbabel: packed or not, whole or damaged."""

import contextlib
import gzip
import importlib
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from versa.wording import listing

__all__ = ["read_file", "unpacked"]

_VTC_HEADER = 1 << 16  # bytes; a VTC starts with two file names and 30 bytes
# What bvbabel raises at bytes that are not what they should be.
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_file(
    path: str | os.PathLike[str], kinds: Sequence[str]
) -> tuple[str, dict[str, Any], Any]:
    """Header and data of a BrainVoyager file, as bvbabel reads them.

    Parameters
    ----------
    path : path-like
        A file whose name ends in one of `kinds`, or in one of them and ``.gz``.
    kinds : sequence of str
        Kinds of file, such as ``("vtc", "msk")``.

    Returns
    -------
    kind : str
        The one of `kinds` that the file is.
    header : dict
        The header.
    data : ndarray or list
        What the kind of file holds.

    Raises
    ------
    ValueError
        If the file is missing, of another kind, or damaged.
    ImportError
        If bvbabel is not installed.
    """
    path = Path(path)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind not in kinds:
        raise ValueError(
            f"the file must be of kind {listing(kinds)}, by the end of its name; got "
            f"{path.name}."
        )
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        module = importlib.import_module(f"bvbabel.{kind}")
    except ImportError as error:
        raise ImportError(
            "reading BrainVoyager's files needs bvbabel, which is not installed. "
            'Install it with: pip install "versa[brainvoyager]".'
        ) from error
    read = getattr(module, f"read_{kind}")
    try:
        with unpacked(path) as plain:
            if kind in ("vtc", "vmp", "vmr"):
                _check_texts(read, plain, _VTC_HEADER if kind == "vtc" else -1)
            header, data = read(plain)
        if not header or getattr(data, "size", 1) == 0:
            raise ValueError("it is empty")
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} must be a whole {kind.upper()} file; reading it fails with: "
            f"{reason.rstrip('.')}."
        ) from error
    return kind, header, data


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a packed file a plain copy for a while; a plain file is given as it is.

    Parameters
    ----------
    path : Path
        A file, packed if its name ends in ``.gz``.

    Yields
    ------
    plain : Path
        The file to read; a copy is gone afterwards.
    """
    if path.suffix.lower() != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        with gzip.open(path) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield plain


def _check_texts(read: Callable[..., Any], path: Path, n_bytes: int) -> None:
    """Refuse a file cut within a text of its header, where bvbabel reads for ever.

    The first bytes (all, if -1) are read once with an end of text behind them. If that
    fails within the header, the error goes on; if it fails at the data, all texts end.
    """
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / path.name
        with path.open("rb") as source:
            head.write_bytes(source.read(n_bytes) + b"\0")
        with contextlib.suppress(ValueError):
            read(head)
