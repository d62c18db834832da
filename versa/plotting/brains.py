"""Figures of sectors and of voxel maps: cuts, and nilearn's templates."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
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
    from nibabel import Nifti1Image

_MARGIN = 12.0  # mm around the voxels, where there is no brain to show
_SIDE = 0.72  # where the view from the side begins, as a share of the width
_FINE = 2.0  # mm, voxels that are drawn as they are
_FAINT = 0.02  # of the brightest values of a background: empty
_VIEWS = ("ventral", "lateral", "medial", "posterior", "dorsal", "anterior")


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
    from matplotlib.colors import ListedColormap, to_rgb

    items = list(sectors.values() if isinstance(sectors, Mapping) else sectors)
    spaces = {item.space for item in items}
    if len(spaces) != 1 or spaces == {"none"}:
        raise ValueError(
            "sectors to draw must be one or more, in one space with places; got "
            f"{listing(sorted(spaces)) or 'no sector'}."
        )
    space = items[0].space
    places = [item.coordinates for item in items]
    behind = _background(background, space)
    ground = _paper(np.concatenate(places)) if behind is None else behind
    if cuts is None:
        cuts = _densest(places, [np.ones(len(one)) for one in places])
    if ax is None:
        ax = _new_axes(9.5, 2.9)
    display = _draw_cuts(ax, cuts, ground, _SIDE)
    side = _add_panel(ax, _SIDE, 1 - _SIDE)
    side.set_title("all voxels, from the side", fontsize=8, color=INK)
    _draw_from_side(side, ground, "white" if behind is None else "#e8e8e8", 1.0)
    colours = sector_colours(item.name for item in items)
    for item in items:
        image = _straight(_image(item.mask.astype(np.float32), item.affine))
        colour = ListedColormap([(*to_rgb(colours[item.name]), 0.75)])
        display.add_overlay(image, threshold=0.5, cmap=colour)
        _draw_from_side(side, image, colours[item.name])
    dashed = y if space != "individual" else None
    if dashed is not None:
        sagittal, axial = (display.axes[name].ax for name in "xz")
        for axis, panel in ((0, sagittal), (2, axial), (0, side)):
            _draw_plane(panel, axis, cuts[axis], dashed, space, transform)
    _draw_legend(ax, items, colours, dashed)
    if title:
        ax.set_title(title)
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
    inside = image[finite]
    if cuts is None:
        weights = np.clip(inside - low, 0, high - low)
        cuts = _densest([places], [weights if weights.any() else weights + 1])
    behind = _background(background, space)
    if ax is None:
        ax = _new_axes(8.5, 2.9)
    ground = _paper(places) if behind is None else behind
    display = _draw_cuts(ax, cuts, ground, 0.86)
    # from 1 to 2, as nilearn takes what is near 0 for empty
    scaled = 1 + (np.clip(image, low, high) - low) / (high - low)
    drawn = _straight(_image(np.where(finite, scaled, 0), grid))
    display.add_overlay(drawn, threshold=0.5, cmap="viridis", vmin=1, vmax=2)
    beyond = bool((inside < low).any()), bool((inside > high).any())
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    extend = ends.get(beyond, "both")
    _draw_colours(ax, limits, label, extend, note=f"{inside.size} voxels")
    if title:
        ax.set_title(title)
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
    from nilearn.plotting import plot_glass_brain

    items = list(sectors.values() if isinstance(sectors, Mapping) else sectors)
    if not items:
        raise ValueError("sectors to draw must be one or more; got none.")
    for sector in items:
        _require_mni(sector.space, f"sector {sector.name}")
    if ax is None:
        ax = _new_axes(8.0, 2.6)
    colours = sector_colours(sector.name for sector in items)
    display = plot_glass_brain(
        None, display_mode="lyrz", figure=ax.figure, axes=ax, annotate=True
    )
    for sector in items:
        image = _image(sector.mask.astype(np.float32), sector.affine)
        display.add_overlay(
            image, threshold=0.5, cmap=ListedColormap([colours[sector.name]])
        )
    _draw_legend(ax, items, colours, None)
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
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.plotting import plot_surf
    from nilearn.surface import vol_to_surf

    _require_mni(space, "a map on fsaverage5")
    if view not in _VIEWS:
        raise ValueError(unknown("view", view, _VIEWS))
    volume = np.asarray(values, dtype=np.float32)
    known = np.isfinite(volume)
    if ax is None:
        ax = _new_axes(7.0, 3.4)
    ax.set_axis_off()
    mesh = fetch_surf_fsaverage("fsaverage5")  # comes with nilearn
    affine = np.asarray(affine, dtype=float)
    image = _image(np.where(known, volume, 0), affine)
    inside = _image(known.astype(np.uint8), affine)
    for n, side in enumerate(("left", "right")):
        part = _add_panel(ax, 0.43 * n, 0.43, projection="3d")
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
    _draw_colours(ax, limits, label)
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


# Parts of the figures.


def _background(
    given: tuple[np.ndarray, np.ndarray] | None, space: str
) -> "Nifti1Image | None":
    """Image behind the voxels, 0 where it is empty; that of MNI152 if none."""
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
    low, high = np.percentile(image[inside], [2, 99.5])
    shades = 0.5 + 0.5 * np.clip((image - low) / (high - low or 1.0), 0, 1)
    return _straight(_image(np.where(inside, shades, 0), affine))


def _paper(places: np.ndarray) -> "Nifti1Image":
    """A white ground around voxels at these places in mm, (n, 3), without a brain."""
    low, high = places.min(axis=0) - _MARGIN, places.max(axis=0) + _MARGIN
    shape = np.ceil(high - low).astype(int)
    affine = np.eye(4)
    affine[:3, 3] = low
    return _image(np.ones(shape, dtype=np.float32), affine)


def _straight(image: "Nifti1Image") -> "Nifti1Image":
    """The nearest voxels along x, y, z, 1 mm apart, of large voxels or a tilted grid.

    nilearn draws from centre to centre, half a voxel too narrow on each side.
    """
    from nilearn.image import resample_img

    axes = image.affine[:3, :3]
    if np.allclose(axes, np.diag(np.diag(axes))) and np.abs(axes).max() <= _FINE:
        return image
    options: dict[str, Any] = {"force_resample": True, "copy_header": True}
    return resample_img(image, np.eye(3), interpolation="nearest", **options)


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


def _new_axes(width: float, height: float) -> "Axes":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height)).add_axes((0.02, 0.12, 0.96, 0.74))


def _add_panel(ax: "Axes", left: float, width: float, **kwargs: Any) -> "Axes":
    """A panel over a part of the width of an Axes, without frame."""
    box = ax.get_position()
    place = (box.x0 + left * box.width, box.y0, width * box.width, box.height)
    panel = ax.figure.add_axes(place, **kwargs)
    panel.set_axis_off()
    return panel


def _draw_cuts(
    ax: "Axes", cuts: Sequence[float], ground: "Nifti1Image", width: float
) -> Any:
    """nilearn's three cuts of `ground` in the left part of an Axes."""
    from nilearn.plotting.displays import OrthoSlicer

    if len(cuts) != 3 or not np.isfinite(cuts).all():
        raise ValueError(f"cuts must be three places in mm; got {list(cuts)}.")
    ax.set_axis_off()
    display = OrthoSlicer(list(cuts), axes=_add_panel(ax, 0.0, width))
    display.add_overlay(ground, threshold=0.01, cmap="gray", vmin=0, vmax=1)
    display.annotate(size=8, color=INK)
    return display


def _draw_from_side(
    panel: "Axes", image: "Nifti1Image", colour: str, alpha: float = 0.75
) -> None:
    """Where an image that is not tilted has values, seen along x."""
    from matplotlib.colors import ListedColormap

    seen = (np.asarray(image.dataobj) > 0.01).any(axis=0).T  # (z, y)
    step = np.diag(image.affine)[1:3]  # below 0 if the axis is mirrored
    low = image.affine[1:3, 3] - step / 2
    (left, bottom), (right, top) = low, low + step * seen.shape[::-1]
    panel.imshow(
        np.ma.masked_equal(seen, False), cmap=ListedColormap([colour]), alpha=alpha,
        origin="lower", extent=(left, right, bottom, top), interpolation="nearest",
    )  # fmt: skip
    ends = np.concatenate([one.get_extent() for one in panel.get_images()])
    ends = ends.reshape(-1, 2, 2)  # image, axis, end
    panel.set_xlim(ends[:, 0].min(), ends[:, 0].max())
    panel.set_ylim(ends[:, 1].min(), ends[:, 1].max())


def _draw_plane(
    panel: "Axes", axis: int, cut: float, y: float, space: str, transform: str
) -> None:
    """Where a coronal plane of Talairach space meets a cut."""
    ends = iter((panel.get_xlim(), panel.get_ylim()))
    grid = [
        np.array([cut]) if n == axis else np.arange(*next(ends), 1.0) for n in range(3)
    ]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)  # (x, y, z, 3)
    across, up = (np.squeeze(points[..., n]) for n in range(3) if n != axis)
    depth = to_talairach(points.reshape(-1, 3), space, transform=transform)[:, 1]
    if depth.min() < y < depth.max():
        panel.contour(
            across, up, depth.reshape(across.shape), levels=[y], colors=[INK],
            linestyles="dashed", linewidths=1.2,
        )  # fmt: skip


def _draw_legend(
    ax: "Axes", items: list[Sector], colours: dict[str, str], y: float | None
) -> None:
    """Names and sizes of the sectors, below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(color=colours[item.name], label=f"{item.name} ({item.n_voxels} voxels)")
        for item in items
    ]
    if y is not None:
        text = f"Talairach y = {y:g} mm"
        handles.append(Line2D([], [], color=INK, ls="dashed", lw=1.2, label=text))
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.02),
        ncols=min(4, len(handles)), frameon=False, fontsize=8,
    )  # fmt: skip


def _draw_colours(
    ax: "Axes",
    limits: tuple[float, float],
    label: str,
    extend: str = "neither",
    note: str = "",
) -> None:
    """The colour scale, right of the panels, under a note."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(*limits), "viridis")
    scale = ax.inset_axes((0.92, 0.1, 0.02, 0.75))
    bar = ax.figure.colorbar(colours, cax=scale, extend=extend)
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
    scale.set_title(note, fontsize=8, color=INK)


def _require_mni(space: str, what: str) -> None:
    """Refuse what is not in the space of nilearn's templates."""
    if not space.startswith("MNI152"):
        raise ValueError(
            f"{what} must be in MNI152; got {space}. plot_sectors and plot_reliability "
            "draw cuts in any space."
        )


def _image(values: np.ndarray, affine: np.ndarray) -> "Nifti1Image":
    import nibabel

    return nibabel.Nifti1Image(values, affine)
