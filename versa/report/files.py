"""Files that go into the report, and the one that it becomes."""

import base64
import os
from pathlib import Path

from versa.wording import listing

__all__ = ["data_address", "picture_address", "report_file"]

_ENDINGS = (".html", ".htm")
_KINDS = {
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}


def report_file(path: str | os.PathLike[str]) -> Path:
    """Check the name of a report, before anything is written.

    Parameters
    ----------
    path : path-like
        A file with the ending ``.html`` or ``.htm``.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        If the ending is another one, or a folder has this name.

    Examples
    --------
    >>> report_file("report.html").name
    'report.html'
    """
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(
            f"report must be a file that ends with {' or '.join(_ENDINGS)}; got "
            f"{path.name!r}."
        )
    if path.is_dir():
        raise ValueError(f"report must be a file; {path} is a folder.")
    return path


def picture_address(path: str | os.PathLike[str]) -> str:
    """A picture file as an address that holds the whole picture.

    Parameters
    ----------
    path : path-like
        A ``.png``, ``.svg``, ``.jpg`` or ``.jpeg`` file.

    Returns
    -------
    address : str
        ``data:image/...;base64,...``

    Raises
    ------
    ValueError
        If there is no such file, or it is of another kind.
    """
    path = Path(path)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"pictures must end with {listing(_KINDS)}; got {path.name!r}."
        )
    if not path.is_file():
        raise ValueError(f"pictures must be files; {path} does not exist.")
    return data_address(path.read_bytes(), kind)


def data_address(content: bytes, kind: str) -> str:
    """Bytes as a ``data:`` address.

    Examples
    --------
    >>> data_address(b"abc", "image/png")
    'data:image/png;base64,YWJj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
