"""Figures of RDMs: matrices and maps, with the stimuli themselves on them."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.rdm import n_images_of
from versa.plotting.pictures import (
    draw_names,
    draw_scale,
    draw_spots,
    draw_strips,
    read_picture,
    stored_pictures,
)
from versa.plotting.style import INK, panels
from versa.result import FitResult
from versa.wording import listing, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

_MOST_PICTURES = 100  # beside a matrix; more are too small to be seen
_STARTS = 8  # of the MDS, of which the best is kept
_SMALL: dict[str, Any] = {"fontsize": 7, "color": INK}
_WORDS = {
    "brain": "brain",
    "versa": "predicted by veRSA",
    "versa-debiased": "predicted by debiased veRSA",
    "rsa": "features (classic RSA)",
}


class _Shown(NamedTuple):
    """One stored RDM and what must be said of it."""

    rdm: np.ndarray
    sector: str
    words: str
    model: str
    layer: str | None  # None for the brain
    unit: str
    sample: str

    def title(self) -> str:
        network = "" if self.layer is None else f"\n{self.model}, {self.layer}"
        return f"{self.sector}: {self.words}{network}"


def plot_rdm(
    result: FitResult,
    *,
    what: str = "brain",
    sector: str | None = None,
    layer: str | None = None,
    ranked: bool = False,
    thumbnails: bool = True,
    order: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a stored RDM as a matrix, with the stimuli along its sides.

    Parameters
    ----------
    result : FitResult
        A fit with its RDMs.
    what : str, default="brain"
        ``"brain"``, or a method: of ``"versa"`` and ``"versa-debiased"`` the RDM of the
        predicted responses, of ``"rsa"`` that of the features. All but the last are
        means over subjects.
    sector : str, optional
        By default all, side by side, each with a colour scale of its own.
    layer : str, optional
        By default the one that is chosen most often in :meth:`FitResult.best`.
    ranked : bool, default=False
        Draw the rank of every dissimilarity, from 0 (smallest) to 1 (largest), instead
        of its value. The colours of values reach from the smallest to the largest.
    thumbnails : bool, default=True
        Draw the stimuli, if the result holds pictures of them and there are at most
        100; else their names, of many stimuli only some. Pictures stand in several
        rows when that makes them larger; each is centred on its row or column.
    order : sequence of str, optional
        Names of all stimuli, from top to bottom. By default as in the result.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The whole. The diagonal, 0 by definition, and pairs without a value are white.

    Raises
    ------
    ValueError
        If the result lacks the RDM, or a name is not among its labels.
    """
    shown = _all_shown(result, what, sector, layer)
    places = _places(result, order)
    pictures = stored_pictures(result) if thumbnails else None
    ax, parts = panels(ax, len(shown), size=(3.5, 4.1))
    for part, one in zip(parts, shown, strict=True):
        _draw_rdm(part, one, result, places, pictures, ranked)
        part.set_title(one.title(), fontsize=9)
    return ax


def plot_rdms(
    result: FitResult,
    *,
    sector: str,
    layer: str | None = None,
    methods: Sequence[str] | None = None,
    ranked: bool = False,
    thumbnails: bool = True,
    order: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the RDM of the brain beside the predicted one and that of the features.

    Parameters
    ----------
    result : FitResult
        A fit with its RDMs.
    sector : str
        One of its sectors.
    layer : str, optional
        By default, for each method, as in :func:`plot_rdm`.
    methods : sequence of str, optional
        What to draw beside the brain. By default ``"versa"`` and ``"rsa"``, as far as
        they were run.
    ranked, thumbnails, order
        As in :func:`plot_rdm`.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The whole. The r in a title is the Pearson correlation of that RDM with the
        brain's, both of all subjects. It is no score: there are no half-splits in it,
        and the mean over all subjects has less noise than that over half of them.

    Raises
    ------
    ValueError
        If the result lacks an RDM, or a name is not among its labels.
    """
    if methods is None:
        usual = [name for name in ("versa", "rsa") if name in result.methods]
        methods = usual or result.methods
    if isinstance(methods, str) or not methods:
        raise ValueError(
            f"methods must be one or more of {listing(result.methods)}, in a sequence; "
            f"got {methods!r}."
        )
    brain = _shown(result, "brain", sector, None)
    shown = [brain, *(_shown(result, name, sector, layer) for name in methods)]
    places = _places(result, order)
    pictures = stored_pictures(result) if thumbnails else None
    ax, parts = panels(ax, len(shown), size=(3.5, 4.6))
    for part, one in zip(parts, shown, strict=True):
        _draw_rdm(part, one, result, places, pictures, ranked)
        title = one.words
        if one is not brain:
            r = _correlation(one.rdm, brain.rdm)
            title = f"{one.words}, {one.layer}\n{r} with the brain"
        part.set_title(title, fontsize=9)
    ax.set_title(f"{sector}: {result.model}", fontsize=10, pad=38)
    note = (
        "r: Pearson correlation of these RDMs, of all subjects; not the score of the "
        "half-splits."
    )
    ax.text(0.5, -0.01, note, transform=ax.transAxes, ha="center", va="top", **_SMALL)
    return ax


def mds_coordinates(rdm: ArrayLike, *, seed: int = 0) -> tuple[np.ndarray, float]:
    """Places in the plane, (n_images, 2), and Kruskal's stress-1, by metric MDS.

    The places have the unit of the dissimilarities, (n_pairs,) in the order of pdist;
    they are centred, most of their variance horizontal. The best of eight random starts
    (SMACOF, from `seed`) and one from classical scaling counts. Stress-1 is the root of
    the sum of squared errors over that of squared distances in the plane; 0 is exact
    (Kruskal 1964, https://doi.org/10.1007/BF02289565).
    """
    from scipy.spatial.distance import pdist, squareform
    from sklearn.manifold import smacof

    vector = np.asarray(rdm, dtype=float)
    if vector.ndim != 1:
        raise ValueError(f"rdm must be (n_pairs,); got {vector.shape}.")
    n_images_of(vector.size)
    bad = ~(np.isfinite(vector) & (vector >= 0))
    if bad.any() or not vector.any():
        found = f"{bad.sum()} of {vector.size} that are not" if bad.any() else "only 0"
        raise ValueError(
            f"rdm must hold finite dissimilarities of 0 or more, some above 0; got "
            f"{found}."
        )
    scale = vector.mean()
    square = squareform(vector / scale)
    options: dict[str, Any] = {"max_iter": 1000, "eps": 1e-6}
    fits = [
        smacof(square, init=_classical(square), n_init=1, **options),
        smacof(square, n_init=_STARTS, random_state=seed, **options),
    ]
    spots = np.asarray(min(fits, key=lambda fit: fit[1])[0], dtype=float) * scale
    spots -= spots.mean(axis=0)
    # any turn and reflection fits as well: take one that does not depend on the start
    spots = spots @ np.linalg.svd(spots, full_matrices=False)[2].T
    furthest = np.abs(spots).argmax(axis=0)
    spots *= np.where(spots[furthest, [0, 1]] < 0, -1, 1)
    apart = pdist(spots)
    stress = np.sqrt(np.sum((apart - vector) ** 2) / np.sum(apart**2))
    return spots, float(stress)


def plot_mds(
    result: FitResult,
    *,
    what: str = "brain",
    sector: str | None = None,
    layer: str | None = None,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the stimuli so that those with similar patterns are near each other.

    Parameters
    ----------
    result : FitResult
        A fit with its RDMs.
    what, sector, layer
        As in :func:`plot_rdm`.
    seed : int, default=0
        Of the random starts of the MDS.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The whole, with dots and those names that have room if the result holds no
        pictures. Below each map stand a bar for scale and Kruskal's stress-1: 0 if the
        map shows all dissimilarities exactly, poor above 0.2 by Kruskal's rule of
        thumb, when neighbours on the map need not be similar.

    Raises
    ------
    ValueError
        If the result lacks the RDM, or a name is not among its labels, or a
        dissimilarity is not finite or negative.
    """
    shown = _all_shown(result, what, sector, layer)
    pictures = stored_pictures(result)
    names = [name for name, _ in result.stimuli]
    ax, parts = panels(ax, len(shown), size=(3.6, 3.8))
    for part, one in zip(parts, shown, strict=True):
        spots, stress = mds_coordinates(one.rdm, seed=seed)
        side = draw_spots(part, spots, pictures, names)
        draw_scale(part, spots, side, one.unit)
        part.set_title(one.title(), fontsize=9)
        note = f"stress {stress:.2f} (0: exact, 0.2: poor)\n{one.sample}"
        where: dict[str, Any] = {"transform": part.transAxes, "ha": "center"}
        part.text(0.5, -0.02, note, va="top", **where, **_SMALL)
    return ax


def plot_map(
    coordinates: ArrayLike,
    pictures: Sequence[str | os.PathLike[str]],
    *,
    size: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw pictures at their places, such as those of a t-SNE map (Fig. 1b).

    Parameters
    ----------
    coordinates : array-like of shape (n_images, 2)
        Places, in any unit, such as those of
        :func:`versa.models.readouts.embedding_map`.
    pictures : sequence of str or path-like
        Image files, or JPEG or PNG files in base64 as results hold them.
    size : float, optional
        Longest side of a picture as a share of the longer side of the map. By default
        as large as leaves about half of the map free.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        Without axes, as the places have no unit. Pictures that overlap are slightly
        transparent.

    Raises
    ------
    ValueError
        If a place is not finite, there is not one picture for each place, a picture
        cannot be read, or `size` is not between 0 and 1.
    """
    spots = np.asarray(coordinates, dtype=float)
    if spots.ndim != 2 or spots.shape[1] != 2 or not len(spots):
        raise ValueError(f"coordinates must be (n_images, 2); got {spots.shape}.")
    bad = np.flatnonzero(~np.isfinite(spots).all(axis=1))
    if bad.size:
        raise ValueError(f"coordinates must be finite; rows {listing(bad)} are not.")
    if len(pictures) != len(spots):
        raise ValueError(
            f"pictures must be one for each of the {len(spots)} places; got "
            f"{len(pictures)}."
        )
    if size is not None and not 0 < size < 1:
        raise ValueError(f"size must be between 0 and 1; got {size}.")
    read = [read_picture(one, n) for n, one in enumerate(pictures)]
    ax, _ = panels(ax, 1, size=(6.0, 6.0))
    draw_spots(ax, spots, read, [], size)
    return ax


def _all_shown(
    result: FitResult, what: str, sector: str | None, layer: str | None
) -> list[_Shown]:
    """The RDM of one sector, or of all."""
    sectors = result.sectors if sector is None else (sector,)
    return [_shown(result, what, one, layer) for one in sectors]


def _shown(result: FitResult, what: str, sector: str, layer: str | None) -> _Shown:
    """A stored RDM, of the layer that is chosen most often if none is named."""
    if what not in ("brain", *result.methods):
        raise ValueError(unknown("what", what, ("brain", *result.methods)))
    if sector not in result.sectors:
        raise ValueError(unknown("sector", sector, result.sectors))
    name = "brain_rdm" if what == "brain" else "model_rdm"
    if name not in result.data:
        raise ValueError(
            f"result must hold {name} to draw it; that of {result.model} does not. "
            "Fit again."
        )
    stored = result.data[name].loc[{"sector": sector}]
    if what == "brain":
        if layer is not None:
            raise ValueError(f"layer must be None for the brain; got {layer!r}.")
    else:
        layer = _chosen_layer(result, what, sector) if layer is None else layer
        if layer not in result.layer_names:
            raise ValueError(unknown("layer", layer, result.layer_names))
        stored = stored.loc[{"methods": what, "layer": layer}]
    rdm = np.asarray(stored.values, dtype=float)
    if not np.isfinite(rdm).any():
        raise ValueError(
            f"{name} must have finite values; that of "
            f"{listing(filter(None, (what, sector, layer)))} has none."
        )
    n_images, n_subjects = len(result.stimuli), len(result.subjects)
    sample = f"{n_images} stimuli" + (
        "" if what == "rsa" else f", mean of {n_subjects} subjects"
    )
    given = what == "brain" and result.given_as_rdms
    unit = "unit of the dataset" if given else "1 − r"
    return _Shown(rdm, sector, _WORDS[what], result.model, layer, unit, sample)


def _chosen_layer(result: FitResult, method: str, sector: str) -> str:
    table = result.best()
    row = table[(table["method"] == method) & (table["sector"] == sector)].iloc[0]
    if row["layer"] not in result.layer_names:
        raise ValueError(
            f"layer must be named for {method} in {sector}, where none was chosen; "
            f"take one of {listing(result.layer_names)}."
        )
    return str(row["layer"])


def _classical(square: np.ndarray) -> np.ndarray:
    """Classical (Torgerson) scaling of a matrix of distances to the plane."""
    middle = np.eye(len(square)) - 1 / len(square)
    values, vectors = np.linalg.eigh(-0.5 * middle @ square**2 @ middle)
    return vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))


def _places(result: FitResult, order: Sequence[str] | None) -> np.ndarray:
    """Which stimulus stands in which row."""
    names = [name for name, _ in result.stimuli]
    if order is None:
        return np.arange(len(names))
    wanted = [str(name) for name in order]
    if sorted(wanted) != sorted(names):
        odd = sorted(set(wanted) ^ set(names))
        raise ValueError(
            f"order must name each of the {len(names)} stimuli once; got "
            f"{len(wanted)} names, and {listing(odd) or 'some twice'} differ."
        )
    row = {name: n for n, name in enumerate(names)}
    return np.array([row[name] for name in wanted])


def _correlation(a: np.ndarray, b: np.ndarray) -> str:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 2 or not (np.ptp(a[both]) > 0 and np.ptp(b[both]) > 0):
        return "r undefined"
    return f"r = {np.corrcoef(a[both], b[both])[0, 1]:.2f}"


def _draw_rdm(
    panel: "Axes",
    one: _Shown,
    result: FitResult,
    places: np.ndarray,
    pictures: "list[Image] | None",
    ranked: bool,
) -> None:
    """A matrix with pictures or names on two sides and its colours below."""
    from matplotlib import colormaps
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata

    values, label = one.rdm, f"dissimilarity ({one.unit})"
    if ranked:
        ranks = rankdata(values, nan_policy="omit")
        values = (ranks - 1) / max(1, np.isfinite(values).sum() - 1)
        label = "rank of the dissimilarity (1: largest)"
    matrix = squareform(values, checks=False)
    np.fill_diagonal(matrix, np.nan)
    n_images = len(matrix)
    image = panel.imshow(
        matrix[np.ix_(places, places)],
        cmap=colormaps["viridis"].with_extremes(bad="white"),
        vmin=np.nanmin(values),
        vmax=np.nanmax(values),
        interpolation="nearest",
        extent=(0, n_images, 0, n_images),
    )
    if pictures is not None and n_images <= _MOST_PICTURES:
        band, overhang = draw_strips(panel, [pictures[place] for place in places])
    else:
        names = [result.stimuli[place][0] for place in places]
        band, overhang = draw_names(panel, names), 0.0
    scale = panel.inset_axes(
        (0, -0.09 * n_images, n_images, 0.035 * n_images), transform=panel.transData
    )
    bar = panel.figure.colorbar(image, cax=scale, orientation="horizontal")
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.locator_params(nbins=5)
    bar.ax.tick_params(labelsize=7, length=2)
    missing = int(np.isnan(one.rdm).sum())
    note = f"\n{missing} pairs without a value" if missing else ""
    bar.set_label(f"{label}\n{one.sample}{note}", fontsize=7.5)
    panel.set(
        xlim=(-band, n_images + overhang),
        ylim=(-0.3 * n_images, n_images + band),
        aspect="equal",
        anchor="N",
    )
    panel.set_axis_off()
