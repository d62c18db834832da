"""Figures of encoding scores: along the layers, and on the voxels of a subject."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.comparison import Comparison
from versa.fmri.voxel_maps import over_subjects
from versa.plotting.brains import plot_reliability
from versa.plotting.style import (
    GREY,
    TEXT,
    as_comparison,
    draw_head,
    finish_panel,
    model_styles,
    name_layers,
    panel_width,
    panels,
    sectors_to_draw,
    select,
    share_scores,
    shorten,
)
from versa.result import FitResult

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LABELS = {
    "r": "r of prediction and response",
    "r2": "share of variance predicted (R²)",
    "ceiling": "noise ceiling of r",
    "normalized": "r / noise ceiling",
}
_TOP = 98  # percentile of a map that gets the last colour


def plot_encoding(
    results: Comparison | FitResult | Sequence[FitResult],
    *,
    sector: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how well voxels are predicted from every layer, a curve for each network.

    Parameters
    ----------
    results : Comparison, FitResult or sequence of FitResult
        Networks fitted to the same dataset; those with ``voxel_scores=True`` are drawn.
        If they have the same layers, these are named; if not, the x axis is the depth
        relative to the first (0) and the last (1) layer.
    sector : str, optional
        A sector; by default all, as panels.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        Correlation of predicted and measured responses, the median over the voxels of
        a sector: the mean over subjects (curves) and each subject (dots). Dotted:
        chance, of permutations of the images, where there are any. A grey line is the
        voxels' noise ceiling, where it is known. Several sectors are panels in
        ``ax.child_axes``.

    Raises
    ------
    ValueError
        If no result has scores of voxels, the results cannot be compared, or the
        sector is unknown.
    """
    comparison = as_comparison(results)
    sectors = sectors_to_draw(comparison, (), sector)
    table = comparison.encoding()
    means = over_subjects(table)
    items = [result for result in comparison.results if result.keeps_voxels]
    styles = model_styles(result.model for result in comparison.results)
    shared = len({item.layer_names for item in items}) == 1
    lines = ["median over voxels; curves: mean over subjects; dots: subjects"]
    ax, parts = panels(ax, len(sectors), size=(panel_width(len(sectors)), 2.8))
    handles: list[Any] = []
    for name, part in zip(sectors, parts, strict=True):
        for item in items:
            place = {"model": item.model, "sector": name}
            rows, mean = select(table, **place), select(means, **place)
            x = np.linspace(0, len(mean) - 1 if shared else 1, len(mean))
            style = styles[item.model]
            every = rows["median_r"].to_numpy().reshape(len(mean), -1)
            for values in every.T if every.shape[1] > 1 else ():
                part.plot(x, values, ".", color=style.colour, alpha=0.3, ms=3)
            handles += part.plot(
                x, mean["median_r"], color=style.colour, linestyle=style.line,
                marker=style.marker, markersize=3.5, linewidth=1.3, label=item.model,
            )  # fmt: skip
            handles += _levels(part, x, mean, style.colour)
        finish_panel(part, name)
        if shared:
            name_layers(part, items[0].layer_names)
        else:
            part.set_xticks([0, 0.5, 1], ["first", "0.5", "last"])
            part.set_xlabel("relative depth of the layer", fontsize=TEXT)
    share_scores(parts, "y", "Pearson r of voxels", from_zero=True)
    draw_head(ax, items[0], lines, handles)
    return ax


def _levels(
    part: "Axes", x: np.ndarray, mean: "pd.DataFrame", colour: str
) -> list[Any]:
    """Chance and the noise ceiling, where they are known."""
    handles: list[Any] = []
    if "chance" in mean:
        style: dict[str, Any] = {"linestyle": ":", "linewidth": 1.0}
        label = "chance, by permutation"
        handles += part.plot(x, mean["chance"], color=colour, label=label, **style)
    if "median_ceiling" in mean:
        ceiling = float(mean["median_ceiling"].iloc[0])
        if np.isfinite(ceiling):
            label = "noise ceiling of the voxels"
            handles.append(part.axhline(ceiling, color=GREY, lw=1.0, label=label))
    return handles


def plot_voxel_map(
    result: FitResult,
    *,
    what: str = "best layer",
    layer: str | None = None,
    subject: str | None = None,
    sector: str | None = None,
    background: tuple[np.ndarray, np.ndarray] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how well each voxel of a subject is predicted, or the layer that does best.

    Parameters
    ----------
    result : FitResult
        With ``voxel_scores=True``, of voxels with a place in the head.
    what : {"best layer", "r", "r2", "ceiling", "normalized"}, default="best layer"
        The layer with the highest r of each voxel, from the first (dark) to the last;
        or what :meth:`FitResult.voxel_map` gives.
    layer : str, optional
        Of the map. By default the one with the highest median r over all voxels.
    subject : str, optional
        A subject; by default the first.
    sector : str, optional
        A sector; by default all.
    background : (values, affine), optional
        As in :func:`plot_sectors`.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        Three cuts, where values are largest.

    Raises
    ------
    ValueError
        As :meth:`FitResult.voxel_map`.
    """
    subject = result.subjects[0] if subject is None else subject
    if what == "best layer":
        image = result.best_layer_map(subject, sector=sector)
        values = np.asarray(image.dataobj, dtype=float)
        values[values == 0] = np.nan
        n_layers = len(result.layer_names)
        limits = (1.0, float(max(n_layers, 2)))
        ends = shorten(result.layer_names[0], 18), shorten(result.layer_names[-1], 18)
        label = f"best layer (1: {ends[0]}, {n_layers}: {ends[1]})"
    else:
        layer = best_predicting_layer(result) if layer is None else layer
        image = result.voxel_map(layer, subject, what=what, sector=sector)
        values = np.asarray(image.dataobj, dtype=float)
        known = values[np.isfinite(values)]
        top = float(np.percentile(known, _TOP)) if known.size else 1.0
        limits, label = (0.0, max(top, 0.1)), _LABELS[what]
        if what != "ceiling":
            label += f", {shorten(layer, 18)}"
    return plot_reliability(
        values,
        image.affine,
        space=result.provenance["dataset"].get("space", "none"),
        background=background,
        limits=limits,
        label=label,
        title=f"{shorten(result.model)}, subject {subject}",
        ax=ax,
    )


def best_predicting_layer(result: FitResult) -> str:
    """The layer with the highest median r over all voxels."""
    table = result.encoding()
    medians = table.groupby("layer", sort=False)["median_r"].mean()
    return str(medians.idxmax()) if medians.notna().any() else result.layer_names[0]
