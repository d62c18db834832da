"""Pictures of objects for simulated experiments, drawn in NumPy alone.

Every part of an object is a grid of points, so one path serves all: grid -> triangles
with creased normals -> z-buffer -> shading in linear light with a shadow map -> mean
over subpixels. Nothing is read from disk, and the only random numbers are the nodes of
a noise with a fixed seed. The light is fixed to the object, therefore a rotated
stimulus is the same picture turned in its plane. The objects are in
`versa.simulated.objects`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from versa.cache import atomic_write, made_folder
from versa.simulated.objects import INANIMATE, ORIENTED, Look, Recipe, recipes, turned

_ROTATIONS = (0, 45, 90, 135, 180)
_SUBPIXELS = 2
_RADIUS = 0.47  # of the picture: the circle that holds an object of size 1
_LIGHT = np.array([-0.48, 0.64, 0.60])  # right, up, towards the viewer; unit length
_FILL = np.array([0.80, 0.00, 0.60])
_SHADOW_WIDTH = 192
_FINISHES = {  # strength and sharpness of the highlight, share of mirrored room
    "m": (0.0, 1.0, 0.0),
    "s": (0.12, 18.0, 0.0),
    "g": (0.55, 70.0, 0.0),
    "c": (0.5, 50.0, 0.75),
}
_SKY = ([-1, -0.35, -0.05, 0.08, 0.55, 1], [0.4, 0.6, 0.3, 0.8, 1.2, 0.9])
_ROOM = (
    [-1, -0.75, -0.5, -0.1, 0.35, 0.7, 0.85, 1],
    [0.5, 0.7, 1.3, 1, 0.7, 0.4, 0.9, 0.6],
)


def orientation_stimuli(size: int = 224) -> dict[str, np.ndarray]:
    """Eight objects at five rotations in the picture plane, (size, size, 3) by name.

    As in the Object Orientation set of Konkle and Alvarez (2022): they stand on white,
    and turn counter-clockwise by 0, 45, 90, 135 and 180 degrees.
    """
    n = _checked_size(size)
    images = {}
    for i, recipe in enumerate(recipes(ORIENTED), start=1):
        model = _model(recipe)
        for degrees in _ROTATIONS:
            name = f"object-{i:02d}_{recipe.name}_rot-{degrees:03d}"
            images[name] = _draw(model, n, degrees)
    return images


def inanimate_stimuli(size: int = 224) -> dict[str, np.ndarray]:
    """Seventy-two different objects on white, (size, size, 3) by name."""
    n = _checked_size(size)
    return {
        f"item-{i:02d}_{recipe.name}": _draw(_model(recipe), n, 0)
        for i, recipe in enumerate(recipes(INANIMATE), start=1)
    }


def write_pngs(
    images: Mapping[str, np.ndarray], folder: str | PathLike[str]
) -> list[Path]:
    """Write RGB images in uint8 as PNG files of their names, the same bytes every time.

    The folder is made if need be; nothing is written if a name or image is refused.
    """
    from PIL import Image

    for name, image in images.items():
        if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\0'):
            raise ValueError(f"image names must be plain file names; got {name!r}.")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"image {name!r} must be uint8 of shape (height, width, 3); "
                f"got {image.dtype} of shape {image.shape}."
            )
    made_folder(folder)
    paths = []
    for name, image in images.items():
        path = Path(folder) / f"{name}.png"
        with atomic_write(path) as temporary:
            Image.fromarray(image).save(temporary, format="PNG", compress_level=6)
        paths.append(path)
    return paths


def _checked_size(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 16:
        raise ValueError(f"size must be an int of at least 16 pixels; got {size!r}.")
    return int(size)


@dataclass(frozen=True, eq=False)
class _Model:
    """Triangles of an object before the viewer: right, up, towards the viewer."""

    corners: np.ndarray  # (n_triangles, 3, 3), in the unit circle of the picture
    normals: np.ndarray  # (n_triangles, 3, 3), outward
    local: np.ndarray  # (n_triangles, 3, 3), in the axes of the part, for patterns
    part: np.ndarray  # (n_triangles,) of int into looks
    looks: tuple[Look, ...]
    reach: float  # largest distance from the origin
    shadow: np.ndarray  # (width * width,), nearest surface as the light sees it


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...k,...k->...", a, b)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.sqrt(_dot(vectors, vectors))[..., None] + 1e-12)


def _triangles(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of a grid, its ends closed, and their normals.

    A normal is the mean of the faces around a corner, by area, that lie within 35
    degrees of its own face: round things are smooth and edges stay sharp.
    """
    ends = np.broadcast_to(grid[[0, -1]].mean(axis=1, keepdims=True), grid[:2].shape)
    grid = np.concatenate([ends[:1], grid, ends[1:]])
    faces = np.cross(grid[1:, 1:] - grid[:-1, :-1], grid[1:, :-1] - grid[:-1, 1:])
    m, n = faces.shape[:2]
    around = np.concatenate([faces[:, -1:], faces, faces[:, :1]], axis=1)
    around = np.pad(around, ((1, 1), (0, 0), (0, 0)))
    directions, own = _unit(around), _unit(faces)
    corners, normals = {}, {}
    for i, j in np.ndindex(2, 2):
        total = np.zeros_like(faces)
        for a, b in np.ndindex(2, 2):
            window = np.s_[i + a : i + a + m, j + b : j + b + n]
            close = _dot(directions[window], own) > 0.82
            total += around[window] * close[..., None]
        corners[i, j] = grid[i : i + m, j : j + n]
        normals[i, j] = _unit(total)
    order = [(0, 0), (0, 1), (1, 1), (0, 0), (1, 1), (1, 0)]
    keep = np.repeat(_dot(own, own).ravel() > 0.5, 2)
    return (
        np.stack([corners[k] for k in order], axis=2).reshape(-1, 3, 3)[keep],
        np.stack([normals[k] for k in order], axis=2).reshape(-1, 3, 3)[keep],
    )


def _model(recipe: Recipe) -> _Model:
    """Join the parts of an object, place it before the viewer and find its shadows."""
    pieces = []
    for k, part in enumerate(recipe.parts):
        local, normals = _triangles(part.grid)
        for matrix, shift in part.poses:
            order = [0, 1, 2] if np.linalg.det(matrix) > 0 else [0, 2, 1]
            place = local @ matrix.T + shift
            fields = np.stack([place, normals @ matrix.T, local])[:, :, order]
            pieces.append((fields, np.full(len(local), k)))
    corners, normals, local = np.concatenate([piece[0] for piece in pieces], axis=1)
    corners, normals = corners @ recipe.view.T, normals @ recipe.view.T
    corners = corners - (corners.min(axis=(0, 1)) + corners.max(axis=(0, 1))) / 2
    corners *= recipe.size / np.sqrt((corners[..., :2] ** 2).sum(axis=2).max())
    reach = float(np.sqrt(_dot(corners, corners).max()))
    seen = _from_light(corners, reach)
    where, triangle, weights = _visible(seen, _SHADOW_WIDTH)
    shadow = np.full(_SHADOW_WIDTH**2, -np.inf)
    shadow[where] = _dot(weights, seen[triangle, :, 2])
    part_of = np.concatenate([piece[1] for piece in pieces])
    looks = tuple(part.look for part in recipe.parts)
    return _Model(corners, normals, local, part_of, looks, reach, shadow)


def _from_light(places: np.ndarray, reach: float) -> np.ndarray:
    """Column, row and nearness in the shadow map, inside a margin of a few cells."""
    right = np.cross([0.0, 1.0, 0.0], _LIGHT)
    axes = _unit(np.stack([right, np.cross(_LIGHT, right), _LIGHT]))
    return (places @ axes.T / (2.2 * reach) + 0.5) * _SHADOW_WIDTH


def _visible(
    corners: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest front triangle at every pixel of a square picture that has one.

    `corners` (n_triangles, 3, 3) are column, row and nearness in pixels. Returns the
    flat index of each such pixel, its triangle, and barycentric weights (n, 3).
    """
    x, y, z = (corners - [0.5, 0.5, 0.0]).transpose(2, 0, 1)  # centres at whole numbers
    x1, y1 = x[:, [1, 2, 0]], y[:, [1, 2, 0]]
    x2, y2 = x[:, [2, 0, 1]], y[:, [2, 0, 1]]
    area = (x1 * y2 - x2 * y1).sum(axis=1)
    front = np.flatnonzero(area > 1e-9)
    area = area[front, None]
    slope_x, slope_y = (y1 - y2)[front] / area, (x2 - x1)[front] / area
    offset = (x1 * y2 - x2 * y1)[front] / area
    owner, row = _spans(y[front].min(axis=1), y[front].max(axis=1))
    slope, rest = slope_x[owner], slope_y[owner] * row[:, None] + offset[owner]
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = -rest / slope
    start = np.where(slope > 0, cross, -np.inf).max(axis=1, initial=0)
    stop = np.where(slope < 0, cross, np.inf).min(axis=1, initial=width - 1)
    line, column = _spans(start, stop)
    weights = slope[line] * column[:, None] + rest[line]
    triangle = front[owner[line]]
    depth = _dot(weights, z[triangle])
    where = row[line] * width + column
    nearest = np.full(width * width, -np.inf)
    np.maximum.at(nearest, where, depth)
    winner = np.full(width * width, -1)
    won = np.flatnonzero(depth == nearest[where])
    winner[where[won]] = won  # of equals the last one stays
    won = winner[winner >= 0]
    return where[won], triangle[won], weights[won]


def _spans(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers in every interval, with the index of the interval."""
    first = np.ceil(start - 1e-7).astype(int)
    counts = np.maximum(np.floor(stop + 1e-7).astype(int) - first + 1, 0)
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) + (first + counts - counts.cumsum())[owner]


def _draw(model: _Model, size: int, degrees: float) -> np.ndarray:
    """Picture (size, size, 3) of a model, turned counter-clockwise in its plane."""
    width = size * _SUBPIXELS
    flat = model.corners @ turned(0, 0, degrees).T
    flat = flat * (_RADIUS * width) + [width / 2, width / 2, 0]
    where, triangle, weights = _visible(flat, width)
    fields = np.concatenate([model.normals, model.local, model.corners], axis=2)
    mixed = np.einsum("pc,pcf->pf", weights, fields[triangle])
    normals, local = _unit(mixed[:, :3]), mixed[:, 3:6]
    lit = _sunlight(model, mixed[:, 6:] + 0.03 * normals)
    colors = np.empty((len(where), 3))
    for k, look in enumerate(model.looks):
        mine = model.part[triangle] == k
        colors[mine] = _shade(look, normals[mine], local[mine], lit[mine])
    pixel = where // width // _SUBPIXELS * size + where % width // _SUBPIXELS
    darker = (1 - np.clip(colors, 0, 1)) / _SUBPIXELS**2
    picture = np.stack([1 - np.bincount(pixel, d, size**2) for d in darker.T], axis=1)
    picture = np.sqrt(np.maximum(picture, 0)).reshape(size, size, 3)[::-1]
    return np.rint(255 * picture).astype(np.uint8)


def _sunlight(model: _Model, places: np.ndarray) -> np.ndarray:
    """Share of the main light that reaches each place, soft over 3 x 3 cells."""
    seen = _from_light(places, model.reach)
    column, row = np.floor(seen[:, :2]).astype(int).T
    cell = row * _SHADOW_WIDTH + column
    lit = np.zeros(len(places))
    for i, j in np.ndindex(3, 3):
        near = model.shadow[cell + (i - 1) * _SHADOW_WIDTH + j - 1]
        lit += near < seen[:, 2] + 0.5
    return lit / 9


def _shade(
    look: Look, normals: np.ndarray, local: np.ndarray, lit: np.ndarray
) -> np.ndarray:
    """Linear colors (n, 3) of surface points under one lamp, a fill and a sky."""
    first, second = look.colors
    color = first + (second - first) * _mix(look.pattern, local, look.count)[:, None]
    right, up, towards = normals.T
    key = np.maximum(normals @ _LIGHT, 0) * (0.1 + 0.9 * lit)
    light = 0.18 + 0.14 * up + 0.76 * key + 0.18 * np.maximum(normals @ _FILL, 0)
    shine = np.maximum(normals @ _unit(_LIGHT + np.array([0, 0, 1])), 0) * lit
    strength, sharpness, mirror = _FINISHES[look.finish]
    sky = np.interp(2 * towards * up, *_SKY) * np.interp(2 * towards * right, *_ROOM)
    light = light * (1 - mirror) + mirror * sky * (0.5 + 0.5 * lit)
    return color * light[:, None] + (strength * shine**sharpness)[:, None]


def _mix(pattern: str, local: np.ndarray, count: float) -> np.ndarray:
    """Share of the second color at surface points (n, 3), between 0 and 1."""
    x, y, z = points = count * local.T
    match pattern:
        case "bands":
            share = z % 1 < 0.5
        case "rays":
            share = np.arctan2(y, x) * count / (2 * np.pi) % 1 < 0.5
        case "checks":
            share = np.floor(points + 0.37).sum(axis=0) % 2 > 0
        case "dots":
            share = ((points % 1 - 0.5) ** 2).sum(axis=0) < 0.12
        case "weave":
            share = np.sin(np.pi * (x + y)) * np.sin(np.pi * z) > 0
        case "speckle":
            share = _noise(4 * points) > 0.68
        case "patches":
            share = _noise(points) > 0.5
        case "wood":
            rings = 2 * x + 1.5 * y + 0.2 * z + 1.5 * _noise(np.stack([x, y, 0.3 * z]))
            share = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
        case _:  # plain
            share = np.zeros(len(x))
    return share


def _noise(points: np.ndarray) -> np.ndarray:
    """Smooth noise in [0, 1] at points (3, n): fixed random nodes, interpolated."""
    nodes = np.random.default_rng(2022).random((16, 16, 16))
    cell = np.floor(points)
    x, y, z = (points - cell) ** 2 * (3 - 2 * (points - cell))
    i, j, k = cell.astype(int)
    total = np.zeros(len(x))
    for a, b, c in np.ndindex(2, 2, 2):
        weight = (x if a else 1 - x) * (y if b else 1 - y) * (z if c else 1 - z)
        total += weight * nodes[(i + a) % 16, (j + b) % 16, (k + c) % 16]
    return total
