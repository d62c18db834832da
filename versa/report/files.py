"""Files that go into the report, and the one that it becomes."""

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from versa.wording import listing

__all__ = [
    "View",
    "data_address",
    "picture_address",
    "policy_hash",
    "report_file",
    "shown_file",
    "view_page",
]

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
            f"pictures must end with {listing([*_KINDS, *_ENDINGS])}; got "
            f"{path.name!r}."
        )
    if not path.is_file():
        raise ValueError(f"pictures must be files; {path} does not exist.")
    return data_address(path.read_bytes(), kind)


def shown_file(path: str | os.PathLike[str]) -> "str | View":
    """A picture or view to be shown in the report, by its ending.

    Parameters
    ----------
    path : path-like
        A picture, as of :func:`picture_address`, or an ``.html`` view.

    Returns
    -------
    shown : str or View
        The address of a picture; a view.

    Raises
    ------
    ValueError
        If there is no such file, or it is of another kind.
    """
    if Path(path).suffix.lower() in _ENDINGS:
        return view_page(path)
    return picture_address(path)


class View(NamedTuple):
    """A page of its own to be shown inside the report, and what it may run."""

    page: str
    scripts: tuple[str, ...]  # SHA-256 of its scripts, as a policy names them
    styles: tuple[str, ...]


def view_page(path: str | os.PathLike[str]) -> View:
    """Read a page that :func:`versa.plotting.write_view` made.

    Parameters
    ----------
    path : path-like
        An ``.html`` file that loads nothing.

    Returns
    -------
    view : View
        The page, with the hashes of its scripts and styles.

    Raises
    ------
    ValueError
        If there is no such file, or it would load something from elsewhere.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"pictures must be files; {path} does not exist.")
    page = path.read_text(encoding="utf-8")
    outside = re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=.https?:", page)
    if outside:
        raise ValueError(
            f"a view must load nothing from elsewhere; {path} has {outside[0][:60]!r}. "
            "versa.plotting.write_view makes one that does not."
        )

    def hashes(tag: str) -> tuple[str, ...]:
        found = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, flags=re.S)
        return tuple(policy_hash(text) for text in found)

    return View(page, hashes("script"), hashes("style"))


def policy_hash(text: str) -> str:
    """SHA-256 of a script or style, as a content security policy names it.

    Examples
    --------
    >>> policy_hash("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def data_address(content: bytes, kind: str) -> str:
    """Bytes as a ``data:`` address.

    Examples
    --------
    >>> data_address(b"abc", "image/png")
    'data:image/png;base64,YWJj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
