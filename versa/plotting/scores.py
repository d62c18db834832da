"""Figures of scores: along the layers, of the best layer, and of their bias."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.comparison import Comparison
from versa.plotting.style import (
    INK,
    METHOD_WORDS,
    SMALL,
    TEXT,
    ModelStyle,
    as_comparison,
    best_words,
    ci_columns,
    draw_chance,
    draw_head,
    draw_levels,
    draw_violin,
    finish_panel,
    interval_line,
    letters_wide,
    model_styles,
    name_layers,
    panel_width,
    panels,
    rows_of_panels,
    score_label,
    sectors_to_draw,
    select,
    share_scores,
    shorten,
)
from versa.result import FitResult, best_layer_scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_VERSA, _DEBIASED, _LOST = "#D55E00", "#0072B2", "#F3C6A5"
_MOST_MARKERS = 28  # on a curve


def plot_layers(
    results: Comparison | FitResult | Sequence[FitResult],
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    df: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the score of every layer, one curve for each network.

    Parameters
    ----------
    results : Comparison, FitResult or sequence of FitResult
        Networks fitted to the same dataset; the intervals have the test_train_ratio of
        the comparison (1 without one). If the networks have the same layers, these are
        named on the x axis; if not, it is the depth relative to the first (0) and the
        last (1) layer that was scored.
    method : str, default="versa-debiased"
        As in :data:`versa.result.METHODS`.
    sector : str, optional
        A sector; by default all, as panels.
    df : {"subjects", "splits", "images", "both"}, default="subjects"
        Bands around the curves: 95% intervals with S - 1 (subjects; closer to nominal)
        or J - 1 (split evaluations; the paper's) degrees of freedom, or those of
        ``generalize`` of the comparison.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        Pearson r over layers; light dots are single subjects, by their own RDMs. A grey
        band is the noise ceiling with its interval. If the images were permuted, a
        hatched band is where 95% of the permuted scores of a layer are, of any of the
        networks; if not, for `method` ``"versa"``, a dashed line is the null. Several
        sectors are panels in ``ax.child_axes``.

    Raises
    ------
    ValueError
        If the results cannot be compared, or a name is unknown.

    References
    ----------
    Konkle & Alvarez (2022), Fig. 2, https://doi.org/10.1038/s41467-022-28091-4
    """
    comparison = as_comparison(results)
    sectors = sectors_to_draw(comparison, (method,), sector, df)
    items = comparison.results
    models = [item.model for item in items]
    low, high = ci_columns(df)
    table = select(comparison.layers(), method=method)
    styles = model_styles(models)
    shared = len({item.layer_names for item in items}) == 1
    lines = [interval_line(items[0], "bands", df)]
    ax, parts = panels(ax, len(sectors), size=(panel_width(len(sectors)), 2.8))
    handles: list[Any] = []
    for name, part in zip(sectors, parts, strict=True):
        curves = {one: select(table, sector=name, model=one) for one in models}
        ceiling = comparison.results[0].ceiling_interval(name)
        null = np.nan if _permuted(items) else _null(curves[models[0]])
        handles += draw_levels(part, "y", ceiling, null)
        for item, (model, curve) in zip(items, curves.items(), strict=True):
            x = np.linspace(0, len(curve) - 1 if shared else 1, len(curve))
            if "permuted" in item.data:
                permuted = item.data["permuted"].loc[method, name].values
                handles += draw_chance(part, x, permuted)
            part.fill_between(
                x, curve[low], curve[high], color=styles[model].colour,
                alpha=0.9 / (3 + len(curves)), linewidth=0,
            )  # fmt: skip
            handles += _draw_curve(part, x, curve["r"], model, styles[model])
        for item in items:
            own = _own_scores(item, method, name)
            x = np.linspace(0, len(own) - 1 if shared else 1, len(own))
            handles += _draw_subjects(part, x, own, styles[item.model].colour)
        finish_panel(part, name)
        if shared:
            name_layers(part, items[0].layer_names)
        else:
            part.set_xticks([0, 0.5, 1], ["first", "0.5", "last"])
            part.set_xlabel("relative depth of the layer", fontsize=TEXT)
    share_scores(parts, "y", score_label(method), from_zero=True)
    draw_head(ax, items[0], lines, handles)
    return ax


def plot_best(
    results: Comparison | FitResult | Sequence[FitResult],
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    df: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the cross-validated best layer of each network, over all half-splits.

    Parameters
    ----------
    results : Comparison, FitResult or sequence of FitResult
        Networks fitted to the same dataset, from top to bottom; the intervals have the
        test_train_ratio of the comparison (1 without one).
    method : str, default="versa-debiased"
        As in :data:`versa.result.METHODS`.
    sector : str, optional
        A sector; by default all, as panels.
    df : {"subjects", "splits", "images", "both"}, default="subjects"
        Bars: as the bands of :func:`plot_layers`.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        A violin of the split evaluations, which ends at the last one within 1.5
        interquartile ranges of the quartiles, with their median (white); the mean with
        its 95% interval (black), and below it the layer that was chosen most often
        with its share; light dots are single subjects in that layer, by their own
        RDMs. A grey band is the noise ceiling with its interval. If the images were
        permuted, a hatched band is where 95% of the permuted scores are, of the layer
        that is best in the permutation; if not, for `method` ``"versa"``, a dashed
        line is the null.

    Raises
    ------
    ValueError
        If the results cannot be compared, or a name is unknown.

    References
    ----------
    Konkle & Alvarez (2022), Fig. 2, https://doi.org/10.1038/s41467-022-28091-4
    """
    comparison = as_comparison(results)
    sectors = sectors_to_draw(comparison, (method,), sector, df)
    items = comparison.results
    table = select(comparison.best(), method=method)
    styles = model_styles(item.model for item in items)
    names = [shorten(item.model) for item in items]
    lines = [interval_line(items[0], "bars", df)]
    violins = "violins: split evaluations (white: median)"
    lines = [best_words(items[0]), *lines] if items[0].single else [violins, *lines]
    margin = letters_wide(max(map(len, names)))
    width = (2.8 if len(sectors) == 1 else 1.9) + margin / len(sectors)
    ax, parts = panels(ax, len(sectors), size=(width, 0.8 + 0.48 * len(items)))
    handles: list[Any] = []
    for name, part in zip(sectors, parts, strict=True):
        rows = select(table, sector=name)
        ceiling = comparison.results[0].ceiling_interval(name)
        null = np.nan if _permuted(items) else _null(rows)
        handles += draw_levels(part, "x", ceiling, null)
        for y, item in enumerate(items):  # the rows have the same order
            r = best_layer_scores(item, method, name, comparison.halves).r.ravel()
            if "permuted_best" in item.data:
                permuted = item.data["permuted_best"].loc[method, name].values
                row = np.array([y - 0.45, y + 0.45])
                handles += draw_chance(part, row, np.tile(permuted, (2, 1)), "x")
            draw_violin(part, "x", y, r, styles[item.model].colour)
            handles += _draw_best(part, y, rows.iloc[y], df)
            if rows.iloc[y]["layer"] in item.layer_names:
                own = _own_scores(item, method, name).loc[[rows.iloc[y]["layer"]]]
                colour = styles[item.model].colour
                handles += _draw_subjects(part, np.array([y]), own, colour, "x")
        finish_panel(part, name)
        part.set_ylim(len(items) - 0.4, -0.6)
        part.set_yticks(range(len(items)), names, fontsize=TEXT)
        part.tick_params(axis="y", length=0)
        part.set_xlabel(f"best layer\n{score_label(method)}", fontsize=TEXT)
    share_scores(parts, "x", "", from_zero=False)
    draw_head(ax, items[0], lines, handles, margin=margin)
    return ax


def plot_null(
    results: Comparison | FitResult | Sequence[FitResult],
    *,
    sector: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how much of the paper's score is leave-one-out bias, layer by layer.

    Parameters
    ----------
    results : Comparison, FitResult or sequence of FitResult
        Networks fitted to the same dataset, a row of panels for each; with the
        methods ``versa`` and ``versa-debiased``. The intervals have the
        test_train_ratio of the comparison (1 without one).
    sector : str, optional
        A sector; by default all, as columns.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The score of ``versa`` and of ``versa-debiased`` (the same weights without the
        information that the training mean holds about the held-out image), with 95%
        intervals of S - 1 degrees of freedom. Between them is shaded by how much a
        layer decreases; a cross marks a layer of which nothing is left, so that its
        score is not defined. Dashed: the null, the score that the procedure of
        ``versa`` gives an intercept-only encoder.

    Raises
    ------
    ValueError
        If the results cannot be compared or lack one of the two methods, or a name is
        unknown.

    Notes
    -----
    The null is no lower bound: features that predict something wrong score below it.
    It shows how high a score the procedure gives for nothing.
    """
    comparison = as_comparison(results)
    sectors = sectors_to_draw(comparison, ("versa", "versa-debiased"), sector)
    items = comparison.results
    table = comparison.layers()
    shared = len({item.layer_names for item in items}) == 1
    lines = [interval_line(items[0], "bars", "subjects")]
    ax, rows = rows_of_panels(ax, items, len(sectors), shared=shared)
    handles: list[Any] = []
    for n, (item, parts) in enumerate(zip(items, rows, strict=True)):
        for name, part in zip(sectors, parts, strict=True):
            of_panel = select(table, model=item.model, sector=name)
            ceiling = comparison.results[0].ceiling_interval(name)
            null = _null(select(of_panel, method="versa"))
            handles += draw_levels(part, "y", ceiling, null)
            handles += _draw_bias(part, of_panel, item.layer_names)
            finish_panel(part, name)
            name_layers(part, item.layer_names)
            if shared and n < len(items) - 1:
                part.tick_params(axis="x", labelbottom=False)
        share_scores(parts, "y", f"{shorten(item.model, 30)}\nr", from_zero=True)
        parts[0].yaxis.label.set_fontsize(SMALL)
    draw_head(ax, items[0], lines, handles)
    return ax


def _own_scores(result: FitResult, method: str, sector: str) -> "pd.DataFrame":
    """Score of every subject alone, (n_layers, n_subjects); without any, no columns."""
    import pandas as pd

    if result.single or "subject_scores" not in result.data:
        return pd.DataFrame(index=list(result.layer_names))
    scores = result.data["subject_scores"].loc[method, sector]
    return pd.DataFrame(
        scores.transpose("layer", "subject").values, list(result.layer_names)
    )


def _draw_subjects(
    part: "Axes", places: np.ndarray, own: "pd.DataFrame", colour: str, axis: str = "y"
) -> list[Any]:
    """Light dots, one for each subject."""
    handles: list[Any] = []
    for column in own:
        values = own[column].to_numpy()
        along = (places, values) if axis == "y" else (values, places)
        handles += part.plot(
            *along, ".", color=colour, alpha=0.5, markersize=4, markeredgewidth=0,
            zorder=1.2, label="single subjects (own RDMs)",
        )  # fmt: skip
    return handles


def _permuted(items: Sequence[FitResult]) -> bool:
    """Whether chance is known of a network, which the null could be taken for."""
    return any("permuted" in item.data for item in items)


def _null(rows: "pd.DataFrame") -> float:
    """The null beside the scores of a sector; NaN where there is none."""
    return float(rows["null_r"].iloc[0])


def _draw_bias(part: "Axes", table: "pd.DataFrame", layers: Sequence[str]) -> list[Any]:
    """Scores with and without the bias, and the decrease between them."""
    styles = {
        "versa": ModelStyle(_VERSA, "o", "-"),
        "versa-debiased": ModelStyle(_DEBIASED, "s", "-"),
    }
    curves = {method: select(table, method=method) for method in styles}
    x = np.arange(len(layers))
    high, low = (curves[method]["r"].to_numpy() for method in styles)
    lost = part.fill_between(
        x, low, high, where=high > low, interpolate=True, color=_LOST, linewidth=0,
        label="decrease after debiasing", zorder=0.2,
    )  # fmt: skip
    handles: list[Any] = []
    for method, curve in curves.items():
        bottom, top = (curve[end] for end in ci_columns("subjects"))
        part.vlines(x, bottom, top, color=styles[method].colour, linewidth=0.8)
        handles += _draw_curve(
            part, x, curve["r"], METHOD_WORDS[method], styles[method]
        )
    handles[0].set(linewidth=2.6, markersize=5.5)  # seen where the other covers it
    handles.append(lost)
    undefined = x[np.isnan(low) & ~np.isnan(high)]
    if undefined.size:
        handles += part.plot(
            undefined, np.zeros(undefined.size), "x", color=_DEBIASED, markersize=5,
            clip_on=False, label="debiased veRSA not defined: nothing was learned",
        )  # fmt: skip
    part.set_title(
        _largest_decrease(high - low, layers), loc="right", fontsize=SMALL, color=INK
    )
    return handles


def _largest_decrease(decrease: np.ndarray, layers: Sequence[str]) -> str:
    """Which layer decreases most after debiasing, in words."""
    if not np.isfinite(decrease).any():
        return ""
    worst = int(np.nanargmax(decrease))
    if decrease[worst] < 0.0005:
        return "no layer decreases"
    return f"largest decrease {decrease[worst]:.3f} ({shorten(layers[worst], 16)})"


def _draw_curve(
    part: "Axes", x: np.ndarray, r: "pd.Series", label: str, style: ModelStyle
) -> list[Any]:
    """A curve with a marker at each layer, where these do not touch."""
    return part.plot(
        x,
        r,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker if len(x) <= _MOST_MARKERS else "",
        markersize=3.5,
        linewidth=1.3,
        label=label,
    )


def _draw_best(panel: "Axes", y: int, row: "pd.Series", df: str) -> list[Any]:
    """One network's mean, its interval, and the layer that was chosen most often."""
    if not np.isfinite(row["r"]):
        return []
    low, high = (row[end] for end in ci_columns(df))
    panel.hlines(y, low, high, color="black", linewidth=0.9)
    mean = panel.plot(
        row["r"], y, "o", color="black", markersize=3, label="mean", linestyle=""
    )
    # towards the middle of the panel, where there is room
    toward = "right" if row["r"] > 0.5 else "left"
    share = f" {100 * row['chosen']:.0f}%" if np.isfinite(row["chosen"]) else ""
    end = high if toward == "right" else low
    panel.annotate(
        f"{shorten(row['layer'], 20)}{share}",
        (end if np.isfinite(end) else row["r"], y + 0.37), ha=toward, va="top",
        fontsize=6, color=INK,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.3},
    )  # fmt: skip
    return mean
