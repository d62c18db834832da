"""Figures of sectors and of voxel maps: cuts, and nilearn's templates."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from versa.cache import atomic_write
from versa.fmri.sectors.making import PAPER_CUT
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.spaces import check_space, to_talairach
from versa.plotting.style import INK, sector_colours
from versa.wording import listing, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STEP = 1.0  # mm between the points of a picture
_MARGIN = 12.0  # mm around the voxels, where there is no brain to show
_GAP = 22.0  # mm between panels
_FAINT = 0.02  # of the brightest values of a background: empty
_PAPER = "#f5f5f5"
_VIEWS = ("ventral", "lateral", "medial", "posterior", "dorsal", "anterior")


@dataclass(frozen=True, eq=False)
class _Box:
    """The part of space that is drawn, in mm: x, y, z from low to high."""

    low: np.ndarray
    high: np.ndarray

    def size(self, axis: int) -> float:
        """Length of one axis in mm."""
        return float(self.high[axis] - self.low[axis])

    def ticks(self, axis: int) -> np.ndarray:
        """Places along one axis, in mm."""
        n_steps = round(self.size(axis) / _STEP)
        return self.low[axis] + _STEP * (np.arange(n_steps) + 0.5)


def plot_sectors(
    sectors: Mapping[str, Sector] | Iterable[Sector],
    *,
    background: tuple[np.ndarray, np.ndarray] | None = None,
    y: float | None = PAPER_CUT,
    transform: str = "lancaster",
    cuts: Sequence[float] | None = None,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw sectors: three cuts, and all their voxels seen from the side.

    Parameters
    ----------
    sectors : mapping to, or iterable of, Sector
        In one space; their grids may differ in size and orientation.
    background : (values, affine), optional
        An image of the brain in the same space, with its affine. By default the MNI152
        template of nilearn, for sectors in MNI152; else none.
    y : float, optional
        Talairach y in mm of a plane to draw (dashed), in TAL and MNI152. By default
        that between pOTC and aOTC; None draws none.
    transform : str, default="lancaster"
        From MNI to Talairach, as in :func:`versa.fmri.volumes.to_talairach`.
    cuts : (x, y, z), optional
        Where to cut, in mm. By default where the sectors are largest.
    title : str, optional
        Title of the figure.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        Left is left. Its figure is ``ax.figure``.

    Raises
    ------
    ValueError
        If there is no sector, or they have no common space with places in it.
    """
    items = list(sectors.values() if isinstance(sectors, Mapping) else sectors)
    spaces = {item.space for item in items}
    if len(spaces) != 1 or spaces == {"none"}:
        raise ValueError(
            "sectors to draw must be one or more, in one space with places; got "
            f"{listing(sorted(spaces)) or 'no sector'}."
        )
    space = items[0].space
    places = [item.coordinates for item in items]
    shown = _background(background, space)
    box = _box(np.concatenate(places), shown)
    if cuts is None:
        cuts = _densest(places, [np.ones(len(one)) for one in places])
    colours = sector_colours(item.name for item in items)

    ax, panels = _panels(ax, box, cuts, title)
    for axis, panel in panels.items():
        points = _points(box, axis, cuts[axis])
        _draw_background(panel, box, axis, points, shown)
        for item in items:
            inside = _nearest(item.mask, item.affine, points, False)
            _draw_mask(panel, box, axis, inside, colours[item.name])
    glass = _new_panel(ax, box, 0, (0.0, box.size(1) - box.size(2)))
    _draw_silhouette(glass, box, shown)
    for item in items:
        _draw_mask(glass, box, 0, _seen_from_side(item, box), colours[item.name])
    glass.text(0.0, 1.02, "all voxels, from the side", **_caption(glass))

    dashed = y is not None and space != "individual"
    if y is not None and dashed:
        for axis, panel in [(0, panels[0]), (2, panels[2]), (0, glass)]:
            _draw_plane(panel, box, axis, cuts[axis], y, space, transform)
    _draw_legend(glass, items, colours, y if dashed else None)
    return ax


def plot_reliability(
    values: ArrayLike,
    affine: ArrayLike,
    *,
    space: str = "individual",
    background: tuple[np.ndarray, np.ndarray] | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    cuts: Sequence[float] | None = None,
    label: str = "reliability (r of odd and even runs)",
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a map of voxels, such as their odd/even reliability, as three cuts.

    Parameters
    ----------
    values : array-like of shape (x, y, z)
        The map; NaN where there is nothing to draw.
    affine : array-like of shape (4, 4)
        From voxel indices to mm.
    space : str, default="individual"
        As in :class:`~versa.Sector`.
    background : (values, affine), optional
        As in :func:`plot_sectors`.
    limits : (low, high), default=(0, 1)
        Values of the ends of the colour scale; those beyond get its end colours.
    cuts : (x, y, z), optional
        Where to cut, in mm. By default where the values above `low` are largest.
    label : str
        What the colours mean.
    title : str, optional
        Title of the figure.
    ax : Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    ax : Axes
        Left is left.

    Raises
    ------
    ValueError
        If `values` are not (x, y, z) or nowhere finite, or the limits are not in order.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    image = np.asarray(values, dtype=float)
    grid = np.asarray(affine, dtype=float)
    low, high = limits
    finite = np.isfinite(image)
    if image.ndim != 3 or not finite.any():
        raise ValueError(
            f"values must be (x, y, z) with finite ones among them; got {image.shape}."
        )
    if not low < high:
        raise ValueError(f"limits must be (low, high), low < high; got {limits}.")
    check_space(space)
    places = np.argwhere(finite) @ grid[:3, :3].T + grid[:3, 3]
    shown = _background(background, space)
    box = _box(places, shown)
    if cuts is None:
        weights = np.clip(image[finite] - low, 0, high - low)
        cuts = _densest([places], [weights if weights.any() else weights + 1])

    ax, panels = _panels(ax, box, cuts, title)
    colours = ScalarMappable(Normalize(low, high), "viridis")
    for axis, panel in panels.items():
        points = _points(box, axis, cuts[axis])
        _draw_background(panel, box, axis, points, shown)
        panel.imshow(
            _nearest(image, grid, points, np.nan),
            cmap="viridis",
            vmin=low,
            vmax=high,
            **_placed(box, axis),
        )
    inside = image[finite]
    ends = {
        (False, False): "neither",
        (True, False): "min",
        (False, True): "max",
        (True, True): "both",
    }
    extend = ends[bool((inside < low).any()), bool((inside > high).any())]
    width, height = box.size(1), box.size(1)
    scale = ax.inset_axes((0.05 * width, 0.62 * height, 0.9 * width, 9.0),
                          transform=ax.transData)  # fmt: skip
    bar = ax.figure.colorbar(
        colours, cax=scale, orientation="horizontal", extend=extend, label=label
    )
    bar.outline.set_visible(False)
    scale.text(0.5, -6.5, f"{inside.size} voxels", **_caption(scale, ha="center"))
    return ax


def plot_glass(
    sectors: Mapping[str, Sector] | Iterable[Sector],
    *,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw sectors into nilearn's glass brain.

    Parameters
    ----------
    sectors : mapping to, or iterable of, Sector
        In MNI152, the space of the glass brain.
    title : str, optional
        Title of the figure.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The glass brain from the left, the back, the right and above, with each sector
        in its colour.

    Raises
    ------
    ValueError
        If a sector is in another space.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from nilearn.plotting import plot_glass_brain

    items = list(sectors.values() if isinstance(sectors, Mapping) else sectors)
    if not items:
        raise ValueError("sectors to draw must be one or more; got none.")
    for sector in items:
        _require_mni(sector.space, f"sector {sector.name}")
    if ax is None:
        ax = Figure(figsize=(8.0, 2.6)).add_subplot()
    colours = sector_colours(sector.name for sector in items)
    display = plot_glass_brain(
        None, display_mode="lyrz", figure=ax.figure, axes=ax, annotate=True
    )
    for sector in items:
        image = _image(sector.mask.astype(np.float32), sector.affine)
        display.add_overlay(
            image,
            threshold=0.5,
            cmap=ListedColormap([colours[sector.name]]),
        )
    ax.legend(
        handles=[
            Line2D([], [], marker="s", linestyle="", color=colours[sector.name],
                   label=f"{sector.name} ({sector.n_voxels} voxels)")
            for sector in items
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.02),
        ncols=min(4, len(items)),
        frameon=False,
    )  # fmt: skip
    if title:
        ax.set_title(title)
    return ax


def plot_surface(
    values: ArrayLike,
    affine: ArrayLike,
    *,
    space: str,
    view: str = "ventral",
    limits: tuple[float, float] = (0.0, 1.0),
    label: str = "reliability (r of odd and even runs)",
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a map of voxels on both hemispheres of fsaverage5, inflated.

    Parameters
    ----------
    values : array-like of shape (x, y, z)
        The map; NaN where there is none.
    affine : array-like of shape (4, 4)
        From voxel indices to mm.
    space : str
        It must be MNI152. fsaverage's own space is MNI305; nilearn samples a volume in
        MNI152 on it as it stands, which is off by a few millimetres.
    view : {"ventral", "lateral", "medial", "posterior", "dorsal", "anterior"}
        From where.
    limits : (float, float), default=(0, 1)
        Ends of the colours. Vertices below the first are not coloured.
    label : str
        Of the colour bar.
    title : str, optional
        Title of the figure.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        With the left and the right hemisphere and a colour bar inside.

    Raises
    ------
    ValueError
        If the map is in another space, or `view` is unknown.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.plotting import plot_surf
    from nilearn.surface import vol_to_surf

    _require_mni(space, "a map on fsaverage5")
    if view not in _VIEWS:
        raise ValueError(unknown("view", view, _VIEWS))
    volume = np.asarray(values, dtype=np.float32)
    known = np.isfinite(volume)
    if ax is None:
        ax = Figure(figsize=(7.0, 3.4)).add_subplot()
    ax.set_axis_off()
    mesh = fetch_surf_fsaverage("fsaverage5")  # comes with nilearn
    affine = np.asarray(affine, dtype=float)
    image = _image(np.where(known, volume, 0), affine)
    inside = _image(known.astype(np.uint8), affine)
    box = ax.get_position()
    for n, side in enumerate(("left", "right")):
        place = (
            box.x0 + n * 0.43 * box.width,
            box.y0,
            0.43 * box.width,
            box.height,
        )
        part = ax.figure.add_axes(place, projection="3d")
        with warnings.catch_warnings():  # vertices without voxels become NaN
            warnings.filterwarnings("ignore", "Mean of empty slice")
            sampled = vol_to_surf(image, mesh[f"pial_{side}"], mask_img=inside)
        texture = np.ravel(np.ma.filled(sampled, np.nan))
        texture[~(texture >= limits[0])] = np.nan
        plot_surf(
            mesh[f"infl_{side}"],
            surf_map=texture,
            bg_map=mesh[f"sulc_{side}"],
            hemi=side,
            view=view,
            engine="matplotlib",
            cmap="viridis",
            vmin=limits[0],
            vmax=limits[1],
            colorbar=False,
            axes=part,
            figure=ax.figure,
        )
        part.set_title(side, fontsize="small", color=INK, y=0.95)
    bar = ax.inset_axes((0.9, 0.2, 0.025, 0.6))
    colours = ScalarMappable(Normalize(*limits), "viridis")
    ax.figure.colorbar(colours, cax=bar, label=label)
    if title:
        ax.set_title(title)
    return ax


def write_view(
    path: str | Path,
    values: ArrayLike,
    affine: ArrayLike,
    *,
    space: str,
    threshold: float | None = None,
    title: str | None = None,
) -> Path:
    """Write a page on which a map of voxels can be turned and cut by the mouse.

    Parameters
    ----------
    path : path-like
        An ``.html`` file. It needs no network.
    values : array-like of shape (x, y, z)
        The map; NaN counts as 0.
    affine : array-like of shape (4, 4)
        From voxel indices to mm.
    space : str
        It must be MNI152, the space of the brain behind.
    threshold : float, optional
        Voxels whose absolute value is not above this are left out.
    title : str, optional
        Title of the page.

    Returns
    -------
    path : Path
        The file, written atomically.

    Raises
    ------
    ValueError
        If the map is in another space, or the file is no ``.html``.
    """
    from nilearn.plotting import view_img

    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a view must be written as .html; got {path.name!r}.")
    _require_mni(space, "a view on the MNI152 brain")
    volume = np.nan_to_num(np.asarray(values, dtype=np.float32))
    view = view_img(
        _image(volume, np.asarray(affine, dtype=float)),
        threshold=threshold,
        title=title,
        cmap="viridis",
        symmetric_cmap=False,
        colorbar=True,
    )
    # nilearn's page has an icon from its own site
    page = re.sub(r"<link rel=\"icon\".*?>", "", view.get_standalone(), flags=re.S)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


# Parts of the cuts.


def _background(
    given: tuple[np.ndarray, np.ndarray] | None, space: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Image behind the voxels, NaN where it is empty; that of MNI152 if none."""
    if given is None:
        if not space.startswith("MNI152"):
            return None
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=2)
        given = np.asarray(template.dataobj), template.affine
    image, affine = np.asarray(given[0], dtype=float), np.asarray(given[1], dtype=float)
    if image.ndim != 3:
        raise ValueError(f"background must be (x, y, z); got {image.shape}.")
    inside = np.isfinite(image) & (image > 0)
    if not inside.any():
        raise ValueError("background must have values above 0; it has none.")
    # interpolation leaves faint values around a brain
    inside &= image > _FAINT * np.percentile(image[inside], 99)
    return np.where(inside, image, np.nan), affine


def _box(places: np.ndarray, background: tuple[np.ndarray, np.ndarray] | None) -> _Box:
    """What to draw: the brain behind the voxels and the voxels, or their vicinity."""
    margin = _MARGIN
    if background is not None:
        image, affine = background
        brain = np.argwhere(np.isfinite(image)) @ affine[:3, :3].T + affine[:3, 3]
        places = np.concatenate([places, brain])
        margin = 4.0
    return _Box(
        np.floor(places.min(axis=0) - margin), np.ceil(places.max(axis=0) + margin)
    )


def _densest(places: list[np.ndarray], weights: list[np.ndarray]) -> list[float]:
    """For each axis the place where most of every sector is cut, in mm."""
    found = []
    for axis in range(3):
        low = min(one[:, axis].min() for one in places)
        slabs = [np.round((one[:, axis] - low) / 2).astype(int) for one in places]
        n_slabs = max(slab.max() for slab in slabs) + 1
        share = sum(
            np.bincount(slab, weight, n_slabs) / weight.sum()
            for slab, weight in zip(slabs, weights, strict=True)
        )
        found.append(float(low + 2 * np.argmax(share)))
    return found


def _panels(
    ax: "Axes | None", box: _Box, cuts: Sequence[float], title: str | None
) -> tuple["Axes", dict[int, "Axes"]]:
    """Axes in mm, with a panel for each cut: sagittal (0), coronal (1), axial (2)."""
    if len(cuts) != 3 or not np.isfinite(cuts).all():
        raise ValueError(f"cuts must be three places in mm; got {list(cuts)}.")
    x, y, z = (box.size(axis) for axis in range(3))
    if ax is None:
        from matplotlib.figure import Figure

        width = 7.5
        height = width * (y + z + _GAP) / (x + y + _GAP)
        ax = Figure(figsize=(width, height)).add_axes((0.03, 0.02, 0.94, 0.9))
    ax.set(xlim=(0, x + y + _GAP), ylim=(0, y + z + _GAP), aspect="equal")
    ax.set_axis_off()
    if title:
        ax.set_title(title, pad=16, color="black")
    corners = {0: (0.0, y + _GAP), 1: (y + _GAP, y + _GAP), 2: (y + _GAP, 0.0)}
    panels = {axis: _new_panel(ax, box, axis, at) for axis, at in corners.items()}
    for axis, panel in panels.items():
        panel.text(0.0, 1.02, f"{'xyz'[axis]} = {cuts[axis]:.0f} mm", **_caption(panel))
        ends = ("P", "A") if axis == 0 else ("L", "R")
        for place, letter in zip((0.02, 0.98), ends, strict=True):
            side = "left" if place < 0.5 else "right"
            panel.text(place, 0.02, letter, **_caption(panel, ha=side))
    return ax, panels


def _new_panel(ax: "Axes", box: _Box, axis: int, corner: tuple[float, float]) -> "Axes":
    """A panel without frame, in mm of the two axes that it shows."""
    across, up = (other for other in range(3) if other != axis)
    size = box.size(across), box.size(up)
    panel = ax.inset_axes((*corner, *size), transform=ax.transData)
    panel.set(
        xlim=(box.low[across], box.high[across]), ylim=(box.low[up], box.high[up])
    )
    panel.set_axis_off()
    return panel


def _caption(panel: "Axes", ha: str = "left") -> dict[str, Any]:
    """How small print is set."""
    return {
        "transform": panel.transAxes, "ha": ha, "va": "bottom", "fontsize": 8,
        "color": INK,
    }  # fmt: skip


def _points(box: _Box, axis: int, cut: float) -> np.ndarray:
    """Places of a cut in mm, shape (n_up, n_across, 3)."""
    across, up = (other for other in range(3) if other != axis)
    points = np.empty((box.ticks(up).size, box.ticks(across).size, 3))
    points[..., axis] = cut
    points[..., across] = box.ticks(across)
    points[..., up] = box.ticks(up)[:, None]
    return points


def _nearest(
    values: np.ndarray, affine: np.ndarray, points: np.ndarray, outside: Any
) -> np.ndarray:
    """Values of the voxels at these places."""
    inverse = np.linalg.inv(affine)
    index = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < values.shape)).all(axis=-1)
    found = np.full(points.shape[:-1], outside, dtype=values.dtype)
    found[inside] = values[tuple(index[inside].T)]
    return found


def _placed(box: _Box, axis: int) -> dict[str, Any]:
    """Where the picture of a cut is in its panel."""
    across, up = (other for other in range(3) if other != axis)
    edges = (box.low[across], box.high[across], box.low[up], box.high[up])
    return {
        "extent": edges, "origin": "lower", "interpolation": "nearest",
        "aspect": "auto",
    }  # fmt: skip


def _draw_background(
    panel: "Axes",
    box: _Box,
    axis: int,
    points: np.ndarray,
    background: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """The brain in a cut, in light grey levels."""
    if background is None:
        _draw_paper(panel)
        return
    image, affine = background
    low, high = np.nanpercentile(image, [2, 99.5])
    panel.imshow(
        _nearest(image, affine, points, np.nan),
        cmap="gray",
        vmin=low - 0.9 * (high - low or 1.0),
        vmax=high,
        **_placed(box, axis),
    )


def _draw_paper(panel: "Axes") -> None:
    """A pale ground, which shows the extent of a panel without a brain."""
    panel.set_facecolor(_PAPER)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    panel.set_axis_on()


def _draw_mask(
    panel: "Axes", box: _Box, axis: int, inside: np.ndarray, colour: str
) -> None:
    """A sector in a cut, filled and with an edge."""
    from matplotlib.colors import ListedColormap

    if not inside.any():
        return
    panel.imshow(
        np.where(inside, 1.0, np.nan),
        cmap=ListedColormap([colour]),
        alpha=0.75,
        **_placed(box, axis),
    )


def _seen_from_side(sector: Sector, box: _Box) -> np.ndarray:
    """Where a sector is seen along x, on the points of a sagittal cut."""
    voxel = np.linalg.norm(sector.affine[:3, :3], axis=0).min()
    x = sector.coordinates[:, 0]
    seen = np.zeros((box.ticks(2).size, box.ticks(1).size), dtype=bool)
    for cut in np.arange(x.min(), x.max() + voxel, voxel):
        seen |= _nearest(sector.mask, sector.affine, _points(box, 0, cut), False)
    return seen


def _draw_silhouette(
    panel: "Axes", box: _Box, background: tuple[np.ndarray, np.ndarray] | None
) -> None:
    """Outline of the brain from the side."""
    if background is None:
        _draw_paper(panel)
        return
    brain = Sector("brain", np.isfinite(background[0]), background[1], "individual")
    seen = _seen_from_side(brain, box).astype(float)
    panel.contourf(
        box.ticks(1), box.ticks(2), seen, levels=[0.5, 2], colors=["#e8e8e8"], zorder=-1
    )


def _draw_plane(
    panel: "Axes",
    box: _Box,
    axis: int,
    cut: float,
    y: float,
    space: str,
    transform: str,
) -> None:
    """Where a coronal plane of Talairach space meets a cut."""
    across, up = (other for other in range(3) if other != axis)
    points = _points(box, axis, cut)
    talairach = to_talairach(points.reshape(-1, 3), space, transform=transform)
    depth = talairach[:, 1].reshape(points.shape[:2])
    if depth.min() < y < depth.max():
        panel.contour(
            box.ticks(across),
            box.ticks(up),
            depth,
            levels=[y],
            colors=[INK],
            linestyles="dashed",
            linewidths=1.2,
        )


def _draw_legend(
    panel: "Axes", items: list[Sector], colours: dict[str, str], y: float | None
) -> None:
    """Names and sizes of the sectors, below the view from the side."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(color=colours[item.name], label=f"{item.name} ({item.n_voxels} voxels)")
        for item in items
    ]
    if y is not None:
        text = f"Talairach y = {y:g} mm"
        handles.append(Line2D([], [], color=INK, ls="dashed", lw=1.2, label=text))
    panel.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, -0.02),
        ncols=2,
        frameon=False,
        fontsize=8,
        borderaxespad=0.0,
    )


# Parts of the figures on templates.


def _require_mni(space: str, what: str) -> None:
    """Refuse what is not in the space of nilearn's templates."""
    if not space.startswith("MNI152"):
        raise ValueError(
            f"{what} must be in MNI152; got {space}. plot_sectors and plot_reliability "
            "draw cuts in any space."
        )


def _image(values: np.ndarray, affine: np.ndarray) -> Any:
    import nibabel

    return nibabel.Nifti1Image(values, affine)
