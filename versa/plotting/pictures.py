"""Thumbnails of the stimuli, and their names, on figures."""

import base64
import os
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from versa.plotting.style import INK, shorten
from versa.result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

_PIXELS = 96  # longest side of a picture
_COVERED = 0.5  # share of a map that its pictures cover, if they do not overlap
_LETTERS = 15  # of a name
_SMALL = 6.0  # size of names in points; a letter is 0.62 of it wide
_DOT = "#0072B2"
_WHITE = 243  # of 255: nearly, as JPEG leaves it
_IN_BASE64 = ("/9j/", "iVBORw")  # how JPEG and PNG begin


def stored_pictures(result: FitResult) -> "list[Image] | None":
    """The pictures of the stimuli, in their order; None if they are not all stored."""
    stored = result.data.get("thumbnail")
    if stored is None or not all(stored.values):
        return None
    return [read_picture(str(one), n) for n, one in enumerate(stored.values)]


def read_picture(picture: str | os.PathLike[str], number: int) -> "Image":
    """Read an image file, or a JPEG or PNG file in base64, as RGB of at most 96 pixels.

    Transparent pixels become white. `number` is which picture it is, for messages.
    """
    from PIL import Image, ImageOps

    try:
        if isinstance(picture, str) and picture.startswith(_IN_BASE64):
            image = Image.open(BytesIO(base64.b64decode(picture, validate=True)))
        else:
            image = Image.open(picture)
        image.load()
    except (OSError, ValueError) as error:
        raise ValueError(
            "pictures must be image files, or JPEG or PNG files in base64; number "
            f"{number} cannot be read ({str(error)[:200]})."
        ) from error
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"pictures must have 8 bits per channel; number {number} has mode "
            f"{image.mode}."
        )
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", upright.size, "white")
    small = Image.alpha_composite(white, upright).convert("RGB")
    small.thumbnail((_PIXELS, _PIXELS))
    return small


def draw_strips(panel: "Axes", pictures: "list[Image]") -> tuple[float, float]:
    """Pictures, one for each row, to the left of a matrix and above it.

    The matrix is in (0, n_images), its first row at the top. Returned is how many cells
    the pictures take beside the matrix (band) and beyond its ends (overhang).
    """
    from PIL import Image

    # k rows of pictures that are k cells wide: k * k cells for k-fold pictures
    n_images = len(pictures)
    k = max(1, round(np.sqrt(n_images / 8)))
    side = max(1, 64 // k) * k
    cell = side // k
    inner = max(1, round(0.94 * side))
    strips = {
        "left": Image.new("RGBA", (k * side, (n_images + k - 1) * cell)),
        "top": Image.new("RGBA", ((n_images + k - 1) * cell, k * side)),
    }
    for n, picture in enumerate(pictures):
        ratio = inner / max(picture.size)
        fitted = picture.resize([max(1, round(s * ratio)) for s in picture.size])
        free = [(side - s) // 2 for s in fitted.size]
        along, across = n * cell, (k - 1 - n % k) * side
        strips["left"].paste(fitted, (across + free[0], along + free[1]))
        strips["top"].paste(fitted, (along + free[0], across + free[1]))
    overhang, gap = (k - 1) / 2, k / 2
    depth = k * k
    long = (-overhang, n_images + overhang)
    panel.imshow(strips["left"], extent=(-gap - depth, -gap, *long))
    low, high = n_images + gap, n_images + gap + depth
    panel.imshow(strips["top"], extent=(*long, low, high))
    return gap + depth, overhang


def draw_names(panel: "Axes", names: list[str]) -> float:
    """Names to the left of a matrix and above it, as many as have room.

    The matrix is in (0, n_images); returned is how many cells the names take beside it.
    """
    n_images = len(names)
    short = [shorten(name, _LETTERS) for name in names]
    points = 72 * _inches(panel)
    length = 0.62 * _SMALL * max(map(len, short)) + 4
    share = min(0.5, length / points)  # of the panel
    band = n_images * share / (1 - share)
    every = int(np.ceil(1.3 * _SMALL * n_images / (points * (1 - share))))
    tick = 0.012 * n_images
    for n in range(0, n_images, every):
        at = n + 0.5
        for x, y, spot, turn, sides in (
            ((-tick, 0), 2 * [n_images - at], (-1.5 * tick, n_images - at), 0,
             ("right", "center")),
            (2 * [at], (n_images, n_images + tick), (at, n_images + 1.5 * tick), 90,
             ("center", "bottom")),
        ):  # fmt: skip
            panel.plot(x, y, color=INK, lw=0.4)
            panel.text(
                *spot,
                short[n],
                ha=sides[0],
                va=sides[1],
                rotation=turn,
                fontsize=_SMALL,
                color=INK,
            )
    return band


def draw_spots(
    panel: "Axes",
    spots: np.ndarray,
    pictures: "list[Image] | None",
    names: Sequence[str],
    size: float | None = None,
) -> float:
    """Pictures, or dots and names without them, centred at `spots`, (n_images, 2).

    White around a thing is left out, as it would cover others; pictures that overlap
    are slightly transparent; names without room are left out. `size` is the longest
    side of a picture as a share of the longer side of the map. Returned is that side
    in the unit of the places, which is the same in both directions.
    """
    low, high = spots.min(axis=0), spots.max(axis=0)
    longest = float((high - low).max()) or 1.0
    area = np.prod(np.maximum(high - low, 0.3 * longest))
    side = min(0.2 * longest, float(np.sqrt(_COVERED * area / len(spots))))
    if size is not None:
        side = size * longest
    if pictures is None:
        side = 0.05 * longest
        panel.plot(*spots.T, "o", ms=3.5, mew=0, color=_DOT)
        letter = 0.62 * _SMALL / 72 / _inches(panel) * (longest + 2 * side)
        _name_spots(panel, spots, names, letter)
    else:
        shapes = np.array([picture.size for picture in pictures], dtype=float)
        shapes *= side / shapes.max(axis=1, keepdims=True)
        apart = np.abs(spots[:, None] - spots)
        closest = (shapes[:, None] + shapes) / 2
        overlaps = (apart < closest).all(axis=-1).sum(axis=1) > 1
        for picture, spot, shape, hidden in zip(
            pictures, spots, shapes, overlaps, strict=True
        ):
            (left, down), (right, up) = spot - shape / 2, spot + shape / 2
            panel.imshow(
                _cut_out(picture),
                extent=(left, right, down, up),
                alpha=0.9 if hidden else None,
            )
    low, high = low - 0.6 * side, high + 0.6 * side
    panel.set(
        xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", anchor="N"
    )
    panel.set_axis_off()
    return side


def _cut_out(picture: "Image") -> np.ndarray:
    """A picture with a mostly white edge, without the white that reaches the edge."""
    from scipy.ndimage import label

    rgb = np.asarray(picture)
    parts, _ = label(rgb.min(axis=-1) > _WHITE)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    around = np.isin(parts, edge[edge > 0]) & (np.mean(edge > 0) > 0.5)
    return np.dstack([rgb, np.where(around, 0, 255).astype(np.uint8)])


def _name_spots(
    panel: "Axes", spots: np.ndarray, names: Sequence[str], letter: float
) -> None:
    """Names that cover no dot and no other name; `letter` is the width of a letter."""
    taken: list[tuple[float, float, float, float]] = []
    lowest, highest = spots[:, 0].min(), spots[:, 0].max()
    for spot, name in zip(spots, names, strict=True):
        text = shorten(name, _LETTERS)
        down, up = spot[1] - letter, spot[1] + letter
        for way, side in ((1, "left"), (-1, "right")):
            start = spot[0] + way * letter
            left, right = sorted((start, start + way * len(text) * letter))
            inside = ((spots >= (left, down)) & (spots <= (right, up))).all(axis=1)
            if (
                left < lowest
                or right > highest
                or inside.any()
                or any(
                    right > x0 and left < x1 and up > y0 and down < y1
                    for x0, y0, x1, y1 in taken
                )
            ):
                continue
            taken.append((left, down, right, up))
            panel.text(
                start,
                spot[1],
                text,
                ha=side,
                va="center_baseline",
                fontsize=_SMALL,
                color=INK,
            )
            break


def _inches(panel: "Axes") -> float:
    """Width of a panel that may not be laid out yet."""
    locator, figure = panel.get_axes_locator(), panel.figure
    box = panel.get_position()
    if locator is not None:  # of inset axes; it needs no renderer
        box = locator(panel, None)  # type: ignore[arg-type]
    return float(box.width * figure.bbox.width / figure.dpi)


def draw_scale(panel: "Axes", spots: np.ndarray, side: float, unit: str) -> None:
    """A bar of a round length below a map of :func:`draw_spots`, with its unit."""
    (left, low), right = spots.min(axis=0) - side / 2, spots[:, 0].max()
    rough = (right - left) / 4
    power = 10 ** np.floor(np.log10(rough))
    length = max(step for step in (1, 2, 5) if step * power <= rough) * power
    longest = float(np.ptp(spots, axis=0).max())
    at = low - 0.2 * side - 0.05 * longest
    panel.plot(
        [left, left + length], [at, at], color=INK, lw=1.5, solid_capstyle="butt"
    )
    panel.text(
        left,
        at - 0.015 * longest,
        f"{length:g} ({unit})",
        va="top",
        fontsize=7,
        color=INK,
    )
    panel.set_ylim(at - 0.09 * longest, panel.get_ylim()[1])
