"""The objects of the rendered stimuli: a table of parts and the shapes it names.

One line of the table is one object, ``name: size azimuth elevation roll; part; ...``.
A part is a shape with its numbers, then in any order

- ``*x,y,z`` stretch, ``/x,y,z`` rotation in degrees, ``@x,y,z`` place,
- ``~n`` copies around the z axis, ``|xy`` mirrored copies,
- ``#color+color.finish.pattern.count``, kept for the next parts until changed.

x points right, y away from the viewer and z up, in any unit: the whole object is
scaled to the picture. Finishes are matte, satin (the default), gloss and chrome, by
first letter. `versa.simulated.render` draws what this module describes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from versa.wording import unknown


@dataclass(frozen=True, eq=False)
class Look:
    """Surface of a part."""

    colors: np.ndarray  # (2, 3), linear light in [0, 1]
    finish: str
    pattern: str
    count: float


@dataclass(frozen=True, eq=False)
class Part:
    """A shape and the places where it stands."""

    grid: np.ndarray  # (n_rows, n_columns, 3)
    poses: tuple[tuple[np.ndarray, np.ndarray], ...]  # grid @ matrix.T + shift
    look: Look


@dataclass(frozen=True, eq=False)
class Recipe:
    """An object, and how the viewer sees it."""

    name: str
    size: float  # share of the picture's circle
    view: np.ndarray  # (3, 3), object axes to right, up, towards the viewer
    parts: tuple[Part, ...]


def recipes(table: str) -> Iterator[Recipe]:
    """Read a table of objects, one by one; unknown words are refused.

    >>> first, second = recipes('''
    ... hoop: .9 0 0 0; arc 1 .1 #gold.c
    ... die: .7 35 25 0; box 1 1 1 #red.g;
    ...   ball .1 .1 .1 @0,0,.5 |z #white
    ... ''')
    >>> first.name, second.size, len(second.parts)
    ('hoop', 0.7, 2)
    >>> len(second.parts[1].poses)
    2
    """
    for line in table.strip().replace("\n  ", " ").splitlines():
        header, *texts = line.split(";")
        name, sight = header.split(":")
        size, azimuth, elevation, roll = map(float, sight.split())
        view = turned(elevation - 90, 0, roll) @ turned(0, 0, azimuth)
        look, parts = "grey", []
        for text in texts:
            words = text.split()
            look = next((word[1:] for word in words if word[0] == "#"), look)
            parts.append(Part(*_shape_and_poses(words), _look(look)))
        yield Recipe(name, size, view, tuple(parts))


def turned(*angles: float) -> np.ndarray:
    """Rotation matrix (3, 3) by degrees about x, then y, then z.

    >>> turned(0, 0, 90).round() @ [1, 0, 0]
    array([0., 1., 0.])
    """
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        j, k = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[[j, j, k, k], [j, k, j, k]] = c, -s, s, c
        matrix = step @ matrix
    return matrix


def _look(text: str) -> Look:
    """Surface that a ``#`` mark describes."""
    words = text.split(".", 3)
    names, finish, pattern, count = words + ["", "s", "plain", "1"][len(words) :]
    listed = _COLORS.split()
    hexes = dict(zip(listed[::2], listed[1::2], strict=True))
    pair = (names.split("+") * 2)[:2]
    for kind, value, options in [
        *(("color", name, hexes) for name in pair),
        ("finish", finish, ["m", "s", "g", "c"]),
        ("pattern", pattern, _PATTERNS.split()),
    ]:
        if value not in options:
            raise ValueError(unknown(kind, value, options))
    linear = (np.array([list(bytes.fromhex(hexes[name])) for name in pair]) / 255) ** 2
    if "+" not in names:
        linear[1] *= 0.65  # a pattern in one color is a darker shade of it
    return Look(linear, finish, pattern, float(count))


def _shape_and_poses(
    words: list[str],
) -> tuple[np.ndarray, tuple[tuple[np.ndarray, np.ndarray], ...]]:
    """Grid and places of one part of the table, given as its words."""
    marks = {word[0]: word[1:] for word in words if word[0] in "*/@~|"}
    numbers = [
        [float(x) for x in w.split(",")] for w in words[1:] if w[0] not in "*/@~|#"
    ]
    stretch, angles, place = (
        np.array([float(x) for x in marks.get(mark, default).split(",")])
        for mark, default in [("*", "1,1,1"), ("/", "0,0,0"), ("@", "0,0,0")]
    )
    n_copies = int(marks.get("~", 1))
    poses = [turned(0, 0, 360 / n_copies * k) for k in range(n_copies)]
    for axis in marks.get("|", ""):
        mirror = np.diag([-1.0 if other == axis else 1.0 for other in "xyz"])
        poses += [mirror @ pose for pose in poses]
    if words[0] not in _SHAPES:
        raise ValueError(unknown("shape", words[0], _SHAPES))
    grid = _SHAPES[words[0]](*numbers) * stretch
    return grid, tuple((pose @ turned(*angles), pose @ place) for pose in poses)


# Shapes: numbers of the table -> a grid of points (n_rows, n_columns, 3). Its columns
# close on themselves, counter-clockwise when the rows come towards the viewer.


def _circle(n: float = 49, start: float = 0.0, stop: float = 360.0) -> np.ndarray:
    """Points (n, 2) of the unit circle, both ends included."""
    angles = np.radians(np.linspace(start, stop, int(n)))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _smooth(points: np.ndarray, per_segment: int = 6) -> np.ndarray:
    """Catmull-Rom curve through the points."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    p0, p1, p2, p3 = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    t = (np.arange(per_segment) / per_segment)[:, None]
    bend = p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
    curve = (p1 + 0.5 * t * bend).reshape(-1, points.shape[1])
    return np.concatenate([curve, points[-1:]])


def _stack(section: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Lay a closed outline (n, 2) at every (scale, height) of the profile."""
    flat = np.maximum(profile[:, :1, None], 0) * section  # (n_rows, n_columns, 2)
    height = np.broadcast_to(profile[:, 1:, None], (*flat.shape[:2], 1))
    return np.concatenate([flat, height], axis=2)


def _extrude(section: np.ndarray, r0: float, r1: float, h: float) -> np.ndarray:
    """Bevelled disc or frustum of any outline, centred on the origin."""
    b = 0.07 * min(h, max(r0, r1))
    scales, heights = [r0 - b, r0, r1, r1 - b], [-h / 2, b - h / 2, h / 2 - b, h / 2]
    return _stack(section, np.stack([scales, heights], axis=1))


def _sweep(path: np.ndarray, radii: list[float]) -> np.ndarray:
    """Round tube along a path (n, 3); its radius goes from the first to the last."""
    tangents = np.gradient(path, axis=0)
    tangents /= np.sqrt((tangents**2).sum(axis=1, keepdims=True))
    side = np.eye(3)[np.argmin(np.abs(tangents[0]))]
    rings = []
    for tangent in tangents:  # carry the side along, so that the tube never twists
        side = side - tangent * (side * tangent).sum()
        side = side / np.sqrt((side**2).sum())
        rings.append([side, np.cross(tangent, side)])
    offsets = (_circle(17)[:, :, None] * np.array(rings)[:, None]).sum(axis=2)
    widths = np.linspace(radii[0], radii[-1], len(path))
    return path[:, None] + widths[:, None, None] * offsets


def _rod(r: list[float], h: list[float], *sides: list[float]) -> np.ndarray:
    """Cylinder, frustum or prism: radius or radii, height, number of sides."""
    turn = 180 / sides[0][0] if sides else 0.0
    section = _circle(sides[0][0] + 1 if sides else 49, turn, turn + 360)
    return _extrude(section, r[0], r[-1], h[0])


def _gear(n: list[float], r: list[float], h: list[float]) -> np.ndarray:
    """Disc of n teeth whose outline goes through the radii `r` in turn."""
    radii = np.tile(r, int(n[0]))
    section = _circle(len(radii) + 1) * np.append(radii, radii[0])[:, None]
    return _extrude(section, 1, 1, h[0])


def _slab(h: list[float], *outline: list[float]) -> np.ndarray:
    """Outline in the x-z plane, star-shaped around the origin, of thickness h."""
    section = np.array([*outline, outline[0]])
    grid = _extrude(section, 1, 1, h[0])[..., [0, 2, 1]]
    x, z = section.T
    return grid[:, ::-1] if (x[:-1] * z[1:] - x[1:] * z[:-1]).sum() > 0 else grid


def _box(*sides: list[float]) -> np.ndarray:
    """Box of three sides; a fourth number is the radius of its edges."""
    half = np.ravel(sides[:3]) / 2
    bevel = sides[3][0] if len(sides) > 3 else 0.08 * half.min()
    around = np.radians([a for k in range(4) for a in range(90 * k, 90 * k + 91, 30)])
    quarter = np.repeat(np.radians([45, 135, 225, 315]), 4)
    lift = np.radians([-90, -60, -30, 0, 0, 30, 60, 90])[:, None]
    turn = [np.cos(lift) * np.cos(around), np.cos(lift) * np.sin(around), np.sin(lift)]
    corner = [np.cos(quarter), np.sin(quarter), np.repeat([-1.0, 1.0], 4)[:, None]]
    grid = bevel * np.stack(np.broadcast_arrays(*turn), axis=2)
    grid += (half - bevel) * np.sign(np.stack(np.broadcast_arrays(*corner), axis=2))
    return np.concatenate([grid, grid[:, :1]], axis=1)


def _arc(R: list[float], r: list[float], *ends: list[float]) -> np.ndarray:
    """Ring in the x-z plane, or the part between two angles."""
    start, stop = (ends[0][0], ends[1][0]) if ends else (0.0, 360.0)
    return _sweep(np.insert(R[0] * _circle(49, start, stop), 1, 0, axis=1), r)


def _spring(R: list[float], r: list[float], *turns_height: list[float]) -> np.ndarray:
    """Coil around the z axis: radius or radii, of the wire, turns, height."""
    (turns,), (h,) = turns_height
    n = int(28 * turns)
    flat = np.linspace(R[0], R[-1], n)[:, None] * _circle(n, 0, 360 * turns)
    return _sweep(np.insert(flat, 2, np.linspace(-h / 2, h / 2, n), axis=1), r)


_SHAPES: dict[str, Callable[..., np.ndarray]] = {
    "arc": _arc,
    "ball": lambda *radii: _stack(_circle(), _circle(25, -90, 90)) * np.ravel(radii),
    "box": _box,
    "gear": _gear,
    "rod": _rod,
    "slab": _slab,
    "spring": _spring,
    "tube": lambda r, *points: _sweep(_smooth(np.array(points)), r),
    "turn": lambda *profile: _stack(_circle(), np.array(profile)),
    "vase": lambda *profile: _stack(_circle(), _smooth(np.array(profile))),
}

_PATTERNS = "plain bands rays checks dots weave speckle patches wood"
_COLORS = """
black 2a2a2d grey 84878d steel c4c9d2 white efeeea cream e9dcc0 red b52a23 rust 9c4a2a
orange e07b22 gold dba93f yellow edc531 lime 8fb63a green 2f7a44 teal 1f8a8c sky 7fb6da
blue 2a57a8 navy 222f5c purple 6b3f94 pink e08fa4 brown 6e452a tan c39a6b wood c4935c
oak a5713f copper c97a4a
"""

ORIENTED = """
teapot: 1 10 18 0; vase 0,0 .6,0 .98,.4 .95,.95 .4,1.3 0,1.32 #blue+white.g.bands.1.6;
  tube .2,.1 .8,0,.35 1.2,0,.6 1.35,0,1.1 1.6,0,1.3; arc .42 .09 90 270 @-.85,0,.72;
  vase 0,1.28 .42,1.28 .3,1.43 .08,1.5 .15,1.62 .1,1.72 0,1.74 #gold.c
chair: 1 30 18 0; box 1 1 .1 @0,0,1 #oak.s.wood.3; box .1 .1 1 @.44,-.44,.5 |x;
  box .1 .1 2.2 @.44,.44,1.1 |x; box .8 .06 .35 @0,.44,2; box .8 .06 .15 @0,.44,1.5
lamp: 1 0 12 0; rod .6,.5 .16 @0,0,.08 #red.g;
  tube .05 0,0,.1 -.3,0,.9 -.6,0,1.5 #steel.c; ball .1 .1 .1 @-.6,0,1.5;
  tube .05 -.6,0,1.5 0,0,2 .5,0,2.3; ball .15 .13 .13 @.1,0,0;
  turn .1,.1 .5,-.35 .56,-.35 .22,.15 .13,.32 0,.32 /0,-35,0 @.55,0,2.2 #red.g;
  ball .2 .2 .24 @.7,0,1.95 #yellow.g
hammer: 1 0 10 0; rod .13,.1 2.6 #oak.s.wood.3; rod .28 .3 /0,90,0 @.55,0,1.25 #black.c;
  box .9 .3 .32 @.1,0,1.25; slab .28 -.3,.16 -.3,-.1 -.75,-.22 -.7,-.02 @-.05,0,1.25;
  rod .14 .9 @0,0,-.9 #red.m
watering-can: 1 0 15 0; turn 0,0 .72,0 .6,1.1 .53,1.1 .6,.3 0,.3 #green.g;
  arc .42 .07 70 275 @-.72,0,.62; tube .13,.08 .5,0,.3 1,0,.7 1.5,0,1.5;
  turn 0,0 .08,0 .3,.3 0,.34 /0,35,0 @1.48,0,1.45 #yellow.g;
  arc .7 .05 /90,0,0 @0,0,.15 #yellow; arc .62 .05 /90,0,0 @0,0,1.05
umbrella: 1 15 8 0; gear 8 1.4,1.25 .02 @0,0,1 #red.s;
  turn 1.3,1 1.05,1.4 .6,1.68 .05,1.8 0,2 0,1.7 .6,1.6 1,1.3 1.3,1 #red+white.s.rays.4;
  tube .05 0,0,1.7 0,0,-.6 #black.g; arc .25 .07 180 360 @.25,0,-.6 #oak.s.wood.3
guitar: 1 0 8 0; vase 0,-.14 .75,-.14 .8,0 .75,.14 0,.14 /90,0,0 #oak.g.wood.2;
  vase 0,-.14 .55,-.14 .6,0 .55,.14 0,.14 /90,0,0 @0,0,.85;
  rod .22 .31 /90,0,0 @0,0,.6 #black; box .18 .16 1.8 @0,-.12,2 #brown.s.wood.5;
  box .3 .12 .45 @0,-.1,3.05; box .5 .06 .08 @0,-.17,-.25
car: 1 30 16 0; box 2.6 1.1 .45 .12 @0,0,.5 #yellow.g;
  box .5 1.12 .2 @1.1,0,.38 #steel.c;
  slab 1 -.75,-.3 .85,-.3 .45,.25 -.5,.25 @-.15,0,.95 #navy.g;
  box .95 1.02 .08 @-.17,0,1.2 #yellow.g; rod .3 .2 /90,0,0 @.8,.5,.3 |xy #black.m;
  rod .16 .24 /90,0,0 @.8,.5,.3 |xy #steel.c
"""

INANIMATE = """
mug: .8 -15 25 0; turn 0,0 .8,0 .86,.1 .86,1.9 .76,1.9 .76,.3 0,.3 #red+white.g.bands.1;
  arc .5 .12 -90 90 @.82,0,1 #red.g
bottle: 1 0 12 0; vase 0,0 .5,0 .55,.1 .55,1.4 .48,1.7 .2,2.2 .17,2.7 0,2.72 #green.g;
  rod .2 .25 @0,0,2.75 #gold.c; turn .3,.4 .57,.4 .57,1.2 .3,1.2 #cream.m;
  turn .3,.65 .58,.65 .58,.95 .3,.95 #red.m
wineglass: .95 0 16 0; vase 0,0 .6,0 .6,.05 .1,.14 .06,.3 .06,1.1 .3,1.3 .62,1.7 .64,2.2
  .5,2.7 .46,2.7 .58,2.2 .5,1.8 0,1.5 #sky.c
bowl: .85 0 30 0; vase 0,0 .4,0 .45,.1 .95,.5 1.2,1.05 1.12,1.05 .85,.5 0,.2
  #teal+cream.g.bands.2.5
pan: 1 -35 35 0; turn 0,0 .9,0 1.05,.3 .98,.3 .85,.06 0,.06 #black.g;
  tube .1,.12 1,0,.25 1.6,0,.4 2.5,0,.45 #brown.s.wood.3
pot: .9 20 24 0; rod 1 1.1 @0,0,.55 #steel.c; vase 0,1.1 1.02,1.1 .9,1.25 .4,1.4 0,1.42;
  ball .18 .18 .14 @0,0,1.5 #black.g; arc .25 .07 -90 90 @1,0,.85 |x
spoon: 1 0 12 35; vase 0,-.1 .3,-.06 .46,.1 .42,.1 .25,0 0,-.04 *.85,1.25,1 /90,0,0
  #steel.c; tube .09,.06 0,0,.5 0,0,1 0,0,1.8 0,0,2.7; ball .16 .07 .3 @0,0,2.7
fork: 1 0 12 -35; tube .09,.06 0,0,-2.2 0,0,-1 0,0,0 #gold.c; ball .16 .06 .3 @0,0,-2.1;
  ball .36 .07 .3 @0,0,.25; tube .07,.03 .3,0,.3 .3,0,1.2 |x;
  tube .07,.03 .1,0,.3 .1,0,1.2 |x
whisk: 1 20 10 -30; tube .03 0,0,0 .15,0,.3 .5,0,1.1 .3,0,1.6 0,0,1.75 ~8 #steel.c;
  rod .13,.1 1.3 @0,0,-.6 #red.g
rolling-pin: 1 20 20 0; rod .35 2 /0,90,0 #wood.s.wood.2; rod .12 3 /0,90,0 #red.g;
  ball .25 .16 .16 @1.5,0,0 |x
stool: .9 20 20 0; rod .7 .16 @0,0,1.5 #red.g; tube .06 .4,.4,1.5 .6,.6,0 ~4 #steel.c;
  arc .68 .04 /90,0,0 @0,0,.5
table: 1 25 22 0; rod 1.3 .1 @0,0,1.2 #oak.s.wood.1.5;
  vase 0,.1 .25,.1 .3,.2 .12,.5 .22,.75 .12,1 .3,1.2 0,1.2 #brown.g;
  tube .09 0,0,.3 .5,0,.25 .85,0,0 ~4
shelf: 1 28 12 0; box .1 .6 2.6 @.75,0,1.3 |x #white.s; box 1.5 .6 .08 @0,0,.1;
  box 1.5 .6 .08 @0,0,.9; box 1.5 .6 .08 @0,0,1.7; box 1.5 .6 .08 @0,0,2.5;
  box 1.5 .04 2.5 @0,.28,1.3 #tan; box .2 .4 .6 @-.5,0,.45 #red;
  box .15 .4 .5 @-.3,0,.4 #blue; box .6 .4 .3 @.3,0,1.1 #green;
  box .2 .4 .55 @.5,0,2.02 #purple; ball .25 .25 .25 @-.3,0,2 #orange.g
candle: .8 0 18 0; turn 0,0 .8,0 .95,.15 .88,.15 .7,.06 0,.06 #gold.c;
  rod .25 1.5 @0,0,.8 #cream.s;
  vase 0,0 .12,.1 .16,.25 .06,.45 0,.6 @0,0,1.6 #orange+yellow.g;
  arc .25 .06 @1,0,.2 #gold.c
clock: .85 -15 8 0; rod 1 .35 /90,0,0 #teal.g; rod .88 .37 /90,0,0 #white.s;
  box .07 .05 .6 @0,-.2,.28 #black; box .5 .05 .07 @.22,-.2,0;
  box .04 .04 .12 @0,-.18,.75 /0,0,0; box .04 .04 .12 @0,-.18,-.75;
  box .12 .04 .04 @.75,-.18,0 |x; ball .3 .3 .22 /0,35,0 @.6,0,.95 |x #gold.c;
  tube .07 .5,0,-.8 .75,0,-1.2 |x
vase: .95 0 14 0; vase 0,0 .4,0 .45,.06 .85,.9 .7,1.5 .28,1.9 .3,2.1 .5,2.3 .42,2.3 .2,2
  0,1.8 #navy+sky.g.dots.2.6
bucket: .85 20 25 0; turn 0,0 .65,0 .9,1.5 .96,1.5 .96,1.58 .84,1.58 .6,.1 0,.1
  #steel.c; arc .92 .04 10 170 *1,1,.9 @0,0,1.5 #black
barrel: .85 0 16 0; vase 0,0 .7,0 .73,.03 .91,.5 .97,1 .91,1.5 .73,1.97 .69,1.97 .66,1.9
  0,1.9 #oak+brown.s.rays.12; arc .9 .07 /90,0,0 @0,0,.5 #black.c;
  arc .9 .07 /90,0,0 @0,0,1.5
gift: .8 -30 24 0; box 1.6 1.6 1.2 #purple+pink.s.dots.2.2;
  box 1.7 1.7 .3 @0,0,.65 #purple.s; box .25 1.72 1.62 @0,0,.02 #gold.g;
  box 1.72 .25 1.62 @0,0,.02; arc .3 .1 *1,1,.7 /0,25,0 @.32,0,1.05 |x
suitcase: .95 25 14 0; box 2.2 .7 1.5 .12 #brown.s; box 2.22 .05 1.52 @0,0,0 #gold.c;
  box .3 .74 .3 .05 @.98,0,.62 |xz #tan; arc .3 .07 0 180 @0,0,.74 #black;
  box .15 .1 .2 @.6,-.34,.2 |x #gold.c
handbag: .9 20 14 0; slab .6 -.9,-.6 .9,-.6 .7,.5 -.7,.5 #pink.s.weave.8;
  arc .5 .06 0 180 @0,.2,.5 #brown.g; arc .5 .06 0 180 @0,-.2,.5;
  slab .66 -.72,.52 -.5,0 .5,0 .72,.52 #brown.g; rod .1 .7 /90,0,0 @0,0,.1 #gold.c
book: .85 30 35 10; box 1.5 2.1 .36 #cream+tan.m.bands.14;
  box 1.6 2.2 .06 @0,0,.2 #navy.s; box 1.6 2.2 .06 @0,0,-.2; box .06 2.2 .46 @-.78,0,0;
  box .9 .5 .08 @0,.4,.2 #gold.c
pencil: 1 0 5 50; rod .16 2.2 6 #yellow.g; rod .045,.155 .5 @0,0,-1.34 #cream;
  rod .005,.045 .14 @0,0,-1.65 #black; rod .165 .3 @0,0,1.2 #steel+grey.c.bands.9;
  rod .155 .25 @0,0,1.45 #pink
dice: .7 35 25 12; box 1.4 1.4 1.4 .2 #red.g; ball .16 .16 .05 @.35,.35,.7 |xy #white;
  ball .16 .16 .05 @0,0,.7; ball .16 .05 .16 @.35,-.7,.35;
  ball .16 .05 .16 @-.35,-.7,-.35; ball .05 .16 .16 @-.7,0,0
beachball: .8 20 35 15; ball 1 1 1 #red+yellow.g.rays.3;
  ball .18 .18 .05 @0,0,.97 #white
bowling-pin: .95 0 10 12; vase 0,0 .35,0 .4,.1 .62,.8 .5,1.4 .24,2 .22,2.2 .34,2.6
  .2,2.9 0,2.95 #cream.g; arc .25 .05 /90,0,0 @0,0,1.95 #red.g;
  arc .235 .05 /90,0,0 @0,0,2.15
dumbbell: .95 30 18 -12; rod .16 1.4 /0,90,0 #steel.c.bands.14;
  rod .55 .4 6 /0,90,0 @.9,0,0 |x #black.g; rod .4 .16 /0,90,0 @1.15,0,0 |x
trophy: .95 0 14 0; vase 0,.9 .12,.9 .15,1.1 .6,1.4 .8,2 .85,2.6 .75,2.6 .6,1.8 0,1.5
  #gold.c; arc .38 .07 *1,1,1.2 @.8,0,2.1 |x; vase 0,.3 .4,.3 .1,.6 .12,1 0,1;
  box .9 .9 .4 @0,0,.15 #black.g
bell: .8 0 12 -15; vase 0,.2 .75,.15 1.05,0 1.1,.1 .8,.5 .62,1.2 .35,1.6 0,1.65 #gold.c;
  ball .2 .2 .2 #rust.c; arc .18 .06 @0,0,1.8 #gold.c
drum: .85 10 26 0; rod 1 .9 #blue+white.s.rays.9; rod .95 1 #cream;
  arc 1.02 .07 /90,0,0 @0,0,.45 |z #red.g; tube .05 -.9,-.3,.56 .6,.2,.62 #wood;
  tube .05 -.7,.4,.56 .8,-.3,.62
hourglass: .9 20 12 0; vase 0,-1 .55,-1 .6,-.6 .08,0 .6,.6 .55,1 0,1 #sky.g;
  rod .8 .16 6 @0,0,1.05 |z #brown.g; rod .06 2.1 @.65,0,0 ~3;
  vase 0,-.98 .57,-.95 .3,-.5 0,-.3 #gold
globe: .9 15 12 0; ball 1 1 1 /20,0,0 #blue+green.g.patches.2;
  arc 1.12 .06 -70 110 /0,20,0 #gold.c; rod .1 .5 @0,0,-1.3;
  rod .6,.5 .14 @0,0,-1.6 #brown.g
telescope: 1 20 14 0; rod .22,.3 1.8 /0,65,0 @.3,0,2 #navy.g;
  rod .34 .3 /0,65,0 @1.2,0,2.4 #gold.c; rod .15 .5 /0,65,0 @-.7,0,1.55;
  tube .06 0,0,1.8 .7,0,0 ~3 #oak.s; ball .15 .15 .15 @0,0,1.8 #black
camera: .9 -25 14 0; box 2 .7 1.3 .1 #black.m; box 2.02 .72 .3 @0,0,.5 #steel.c;
  rod .52 .6 /90,0,0 @.1,-.5,-.1 #grey.c; rod .42 .64 /90,0,0 @.1,-.5,-.1 #black.g;
  ball .34 .14 .34 @.1,-.78,-.1 #navy.c; box .6 .5 .3 @.1,0,.75 #black;
  rod .16 .2 @-.7,0,.72 #red.g
television: .95 15 10 0; box 2 1.2 1.5 .12 #oak.s.wood.2;
  box 1.3 .1 1.1 .1 @-.2,-.6,0 #sky.g; rod .13 .2 /90,0,0 @.75,-.6,.4 #gold.c;
  rod .13 .2 /90,0,0 @.75,-.6,0; tube .03 0,0,.7 .6,0,1.6 |x #steel.c;
  rod .08 .5 @.7,.3,-.9 |xy #black
laptop: .9 25 25 0; box 2 1.4 .1 #steel.c;
  box 1.7 .7 .04 @0,.15,.05 #black+grey.s.checks.6; box .6 .4 .03 @0,-.45,.05 #grey;
  box 2 .08 1.3 /-15,0,0 @0,.85,.62 #steel.c;
  box 1.8 .06 1.1 /-15,0,0 @0,.82,.63 #blue.g
phone: .85 25 22 0; slab 1.2 -.9,-.4 .9,-.4 .7,.15 -.7,.15 #red.g;
  rod .5 .1 /-10,0,0 @0,-.1,.2 #white.g; rod .16 .14 @0,-.1,.22 #gold.c;
  tube .16 -1,0,.6 -.4,0,.75 .4,0,.75 1,0,.6 #red.g; rod .3,.25 .3 @1,0,.5 |x;
  box .3 .5 .4 @.4,.2,.3 |x
bulb: .8 0 8 20; vase 0,1.75 .1,1.75 #white;
  vase 0,0 .35,0 .4,.3 .85,.9 .9,1.4 .6,1.9 0,2.05 #yellow.g;
  spring .38 .09 4 .6 @0,0,-.25 #steel.c; rod .36 .7 @0,0,-.25;
  rod .2,.1 .15 /180,0,0 @0,0,-.65 #black
bus: 1 28 16 0; box 3 1 1.2 .1 #red.g; box 3.02 1.02 .35 .02 @0,0,.2 #navy.g;
  box 2.9 .9 .1 @0,0,.62 #white; rod .28 .2 /90,0,0 @.9,.45,-.6 |xy #black.m;
  rod .14 .24 /90,0,0 @.9,.45,-.6 |xy #steel.c; box .08 1.03 .4 @.5,0,.2 |x #red.g;
  box .08 1.03 .4 @0,0,.2
sailboat: 1 15 10 0; slab .6 -1.2,.2 -.9,-.3 .9,-.3 1.4,.2 #brown.g.wood.2;
  rod .05 2.6 @0,0,1.3 #oak; slab .04 .6,.1 .1,.1 .1,2.2 @0,0,.25 #white.s;
  slab .04 -.2,1 -.9,-.8 -.05,-.8 @0,0,1.2 #red.s
rocket: 1 10 10 25; vase 0,0 .4,0 .6,.8 .55,1.7 .3,2.4 0,2.9 #white+red.g.bands.0.7;
  slab .1 0,.5 .5,-.4 .1,-.2 @.5,0,.3 ~4 #blue.g; rod .3,.2 .3 @0,0,-.1 #black.c;
  rod .2 .2 /90,0,0 @0,-.55,1.5 #sky.c
plane: 1 -40 30 0; vase 0,-1.6 .15,-1.5 .3,-.5 .3,.8 .15,1.4 0,1.5 /0,90,0 #white.g;
  slab .08 -.2,-1.6 .2,-1.6 .4,0 .2,1.6 -.2,1.6 -.3,0 /90,0,0 #blue.g;
  slab .06 -.1,-.6 .1,-.6 .2,0 .1,.6 -.1,.6 /90,0,0 @-1.4,0,0;
  slab .06 -.2,-.1 .3,-.1 -.1,.6 -.3,.6 @-1.35,0,.2 #red.g;
  rod .1 .4 /0,90,0 @.3,.8,-.12 |y #grey.c
house: .9 35 20 0; box 1.6 1.3 1 @0,0,.5 #cream.m;
  rod 1.2,.05 .8 4 *1,.85,1 @0,0,1.4 #rust.m.bands.5; box .3 .1 .6 @.1,-.63,.3 #brown.s;
  box .35 .1 .35 @-.5,-.63,.6 #sky.g; box .1 .35 .35 @-.78,-.1,.6;
  box .2 .2 .7 @.4,.2,1.6 #red.m
lighthouse: 1 15 10 0; turn 0,0 .55,0 .35,2.2 0,2.2 #white+red.s.bands.1;
  rod .5 .1 @0,0,2.2 #black; rod .28 .4 @0,0,2.45 #yellow.g;
  rod .42,.02 .35 @0,0,2.8 #red.g; ball 1 .8 .25 #grey.m.patches.3;
  box .2 .1 .35 @0,-.5,.4 #brown
wheel: .85 -35 8 0; arc 1 .2 #black.m; arc .82 .07 #steel.c; rod .2 .4 /90,0,0;
  rod .05 1.6; rod .05 1.6 /0,60,0; rod .05 1.6 /0,120,0
anchor: 1 15 8 0; tube .1 0,0,-1 0,0,1 #navy.g; arc .2 .07 @0,0,1.2;
  tube .08 -.5,0,.8 .5,0,.8; arc .85 .1 200 340 @0,0,-.3;
  rod .2,.01 .35 /0,15,0 @.85,0,-.5 |x
rook: .85 20 24 0; turn 0,0 .75,0 .75,.2 .6,.35 .45,.6 .4,1.3 .6,1.5 .6,1.9 .45,1.9
  .45,1.65 0,1.65 #cream.g; box .24 .24 .3 @.52,0,1.98 ~6
bench: 1 30 18 0; box 2.6 .22 .08 @0,-.28,.8 #green.s; box 2.6 .22 .08 @0,0,.8;
  box 2.6 .22 .08 @0,.28,.8; box 2.6 .06 .2 @0,.45,1.15; box 2.6 .06 .2 @0,.5,1.45;
  tube .07 1,-.35,0 1,-.3,.75 1,.4,.8 1,.5,1.6 |x #black.g; tube .07 1,.4,.8 1,.45,0 |x
bed: .95 35 24 0; box 1.5 2.3 .35 .08 @0,0,.4 #white.m;
  box 1.56 1.5 .3 .1 @0,-.45,.5 #teal.m.weave.5; box 1 .4 .2 .1 @0,.85,.68 #cream.m;
  box 1.6 .1 1.1 @0,1.2,.55 #brown.s.wood.2; box 1.6 .1 .6 @0,-1.2,.3
sofa: 1 -25 18 0; box 2.4 1 .4 .1 @0,0,.4 #orange.m; box 2.4 .3 1 .12 @0,.45,.7;
  box .3 1 .75 .12 @1.15,0,.5 |x; box .95 .8 .2 .08 @.48,-.1,.65 |x;
  rod .07 .2 @1,-.4,.1 |x #brown
cake: .85 0 28 0; rod 1 .7 @0,0,.35 #pink+white.s.bands.2.9;
  rod .65 .5 @0,0,.95 #white.s; ball .12 .12 .12 @.5,0,1.25 ~7 #red.g;
  arc 1 .07 /90,0,0 @0,0,.7 #white; rod .06 .5 @0,0,1.45 #blue;
  turn 0,-.05 1.3,-.05 1.3,0 0,0 #steel.c
icecream: .9 0 8 -12; turn 0,-1.6 .55,0 0,0 #tan+brown.m.weave.7;
  ball .6 .6 .5 @0,0,.2 #pink.s.patches.3; ball .5 .5 .45 @0,0,.75 #cream.s;
  ball .12 .12 .12 @.05,0,1.25 #red.g
doughnut: .8 20 50 0; arc .7 .36 /90,0,0 #tan.s.patches.3;
  arc .7 .34 /90,0,0 @0,0,.08 #pink+blue.g.speckle.4
traffic-cone: .85 25 16 0; turn 0,0 .65,0 .12,1.9 0,1.9 #orange+white.s.bands.0.8;
  box 1.6 1.6 .14 .06 #orange.s
mailbox: .9 -30 14 0; box .2 .2 1.4 @0,0,-.9 #brown.m.wood.2;
  box .8 1.6 .5 @0,0,0 #blue.g; rod .4 1.6 /90,0,0 @0,0,.25;
  box .06 .4 .1 @.44,.1,.5 #red; box .06 .1 .5 @.44,-.1,.35;
  rod .3 .02 /90,0,0 @0,-.81,.2 #steel.c
spinning-top: .8 0 15 18; vase 0,-1 .05,-.95 .15,-.6 .9,.1 .9,.3 .4,.5 0,.55
  #lime+purple.g.bands.2.4; rod .09 .9 @0,0,.8 #wood.g
magnet: .8 -10 12 25; arc .7 .25 0 180 #red.g; rod .25 .6 @.7,0,-.3 |x;
  rod .255 .3 @.7,0,-.7 |x #steel.c
tent: .95 30 16 0; slab 2.2 -1.1,-.6 1.1,-.6 0,.9 #lime.m;
  slab 2.24 -.35,-.58 .35,-.58 0,.4 #black.m; tube .04 0,-1.3,-.6 0,-1.1,.95 #wood
ladder: 1 20 10 10; box .14 .1 3 @.5,0,0 |x #yellow.s;
  rod .07 1 /0,90,0 @0,0,-1.2 #steel.c; rod .07 1 /0,90,0 @0,0,-.6; rod .07 1 /0,90,0;
  rod .07 1 /0,90,0 @0,0,.6; rod .07 1 /0,90,0 @0,0,1.2
basket: .85 15 26 0; turn 0,0 .7,0 1,.9 .92,.9 .65,.1 0,.1 *1.2,.9,1
  #tan+brown.m.weave.5; arc 1.05 .08 0 180 @0,0,.85 #brown.m.bands.7;
  arc 1 .08 *1.18,.88,1 /90,0,0 @0,0,.9
key: 1 15 10 40; arc .5 .13 @0,0,1.4 #gold.c; rod .12 2.2 @0,0,-.15;
  box .5 .12 .2 @.3,0,-1.1; box .35 .12 .2 @.22,0,-.7; arc .14 .06 @0,0,.7 /90,0,0
padlock: .8 20 10 0; box 1.4 .6 1.2 .1 #gold.c; arc .45 .13 0 180 @0,0,.9 #steel.c;
  rod .13 .5 @.45,0,.7 |x; rod .16 .64 /90,0,0 @0,0,.1 #black; box .12 .64 .4 @0,0,-.15
screwdriver: 1 0 5 -40; gear 6 .26,.22 1.3 @0,0,-.9 #lime+black.g;
  rod .1 1.8 @0,0,.6 #steel.c; slab .1 -.1,-.2 .1,-.2 .18,.2 -.18,.2 @0,0,1.6;
  rod .15 .2 @0,0,-.2 #black
bolt: .85 0 14 35; rod .6 .4 6 @0,0,1 #steel.c; rod .3 1.8 #steel.c;
  spring .3 .07 9 1.2 @0,0,-.3
gear: .85 20 55 0; gear 12 .85,.85,1.1,1.1 .35 #grey.c; rod .5 .5 #copper.c;
  rod .22 .54 #black
spring: .85 0 14 15; spring .55 .1 7 2.4 #steel.c
axe: 1 0 8 -30; tube .1,.13 0,0,-1.6 .05,0,-.5 0,0,1.4 #wood.s.wood.3;
  slab .22 -.25,.22 -.25,-.22 .4,-.35 .4,.3 @.2,0,1.05 #red.s;
  slab .1 -.3,.3 -.3,-.35 .05,-.6 .25,0 .05,.55 @.75,0,1.05 #steel.c
shovel: 1 15 8 20; tube .07 0,0,-.4 0,0,1.8 #wood.s; arc .22 .07 @0,0,2 #black.g;
  slab .08 -.45,.6 -.45,-.3 0,-.8 .45,-.3 .45,.6 @0,0,-.9 #grey.c
broom: 1 10 8 -20; rod .07 2.6 @0,0,1 #red.g;
  slab .3 -.25,.3 -.7,-.6 .7,-.6 .25,.3 @0,0,-.7 #yellow+tan.m.rays.30;
  rod .2 .3 @0,0,-.35 #blue
top-hat: .85 15 16 -8; turn 0,0 1.2,0 1.25,.08 .75,.1 .68,1.3 0,1.32 #black.s;
  turn .5,.1 .76,.1 .74,.4 .5,.4 #red.g
ring: .7 25 20 0; arc .8 .12 #gold.c; rod .05,.4 .4 8 @0,0,1.05 #sky.c;
  rod .4,.25 .15 8 @0,0,1.32
glasses: .95 25 18 0; arc .5 .07 @.65,0,0 |x #black.g;
  rod .48 .03 /90,0,0 @.65,0,0 |x #teal.g; arc .18 .05 0 180 @0,0,.05 #black;
  tube .05 1.13,0,.1 1.2,.9,.1 1.2,1.5,-.2 |x
"""
