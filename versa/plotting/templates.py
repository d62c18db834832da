"""Sectors and maps on nilearn's templates: glass brain, fsaverage5, a page to turn."""

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from versa.cache import atomic_write
from versa.fmri.sectors.sector import Sector
from versa.plotting.figures import sector_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_glass", "plot_surface", "write_view"]

_VIEWS = ("ventral", "lateral", "medial", "posterior", "dorsal", "anterior")
_INK = "#444444"


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
        Where to draw; by default a new figure, which is no figure of pyplot.

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
        Where to draw; by default a new figure, which is no figure of pyplot.

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

    from versa.wording import unknown

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
        part.set_title(side, fontsize="small", color=_INK, y=0.95)
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
        The file, written whole.

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


def _require_mni(space: str, what: str) -> None:
    """Refuse what does not lie in the space of nilearn's templates."""
    if not space.startswith("MNI152"):
        raise ValueError(
            f"{what} must be in MNI152; got {space}. plot_sectors and plot_reliability "
            "draw cuts in any space."
        )


def _image(values: np.ndarray, affine: np.ndarray) -> Any:
    import nibabel

    return nibabel.Nifti1Image(values, affine)
