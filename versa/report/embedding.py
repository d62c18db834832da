"""Figures, pictures and views as parts of the page, and the file that it becomes."""

import base64
import hashlib
import io
import os
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from versa.comparison import Comparison
from versa.plotting.catalogue import report_figures
from versa.plotting.style import save_figure
from versa.wording import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ENDINGS = (".html", ".htm")
_KINDS = {
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
_LARGEST_SVG = 90_000  # bytes; a larger drawing goes in as pixels
_DPI = 160
_WIDEST = 1800  # points across a picture
_COLOURS = 160  # of a picture in pixels; a third of the bytes, and no difference to see
_PIXELS_PER_INCH = 120  # on the screen, a quarter more than on paper
_WIDTH = re.compile(r'<svg[^>]* width="([\d.]+)pt"')


class ShownFigure(NamedTuple):
    """A figure of the page."""

    title: str
    caption: str
    address: str  # data:image/...; empty if it is skipped
    width: int  # in CSS pixels
    skipped: str  # why


def draw_figures(comparison: Comparison) -> list[ShownFigure]:
    """The figures of the report; skipped ones are among them, with the reason."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for figure in report_figures(comparison):
            drawn, reason = figure.render(partial(_smaller, folder=Path(folder)))
            address, width = drawn or ("", 0)
            title = figure.kind.title
            figures.append(ShownFigure(title, figure.caption, address, width, reason))
    return figures


def _smaller(ax: "Axes", folder: Path) -> tuple[str, int]:
    """As lines if they are few, else as pixels; and how wide it is shown."""
    from PIL import Image

    svg = save_figure(ax, folder / "figure.svg")
    head = svg.read_text("utf-8").partition("<defs>")[0]
    inches = float(_WIDTH.findall(head)[0]) / 72  # as matplotlib always writes it
    width = round(inches * _PIXELS_PER_INCH)
    if svg.stat().st_size <= _LARGEST_SVG:
        return picture_address(svg), width
    dpi = round(min(_DPI, _WIDEST / inches))
    with Image.open(save_figure(ax, folder / "figure.png", dpi=dpi)) as opened:
        fewer = opened.convert("RGB").quantize(_COLOURS)
    content = io.BytesIO()
    fewer.save(content, "PNG", optimize=True)
    return data_address(content.getvalue(), "image/png"), width


def report_file(path: str | os.PathLike[str]) -> Path:
    """The path of a report; refuses other endings and folders, before any work."""
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
    """A picture file as an address that holds it whole: ``data:image/...``."""
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
    """A picture as its address, or an ``.html`` view, to be shown in the report."""
    if Path(path).suffix.lower() in _ENDINGS:
        return view_page(path)
    return picture_address(path)


class View(NamedTuple):
    """A page of its own to be shown inside the report, and what it may run."""

    page: str
    scripts: tuple[str, ...]  # SHA-256 of its scripts, as a policy names them
    styles: tuple[str, ...]


def view_page(path: str | os.PathLike[str]) -> View:
    """Read a page of :func:`versa.plotting.write_view`; it may load nothing."""
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
