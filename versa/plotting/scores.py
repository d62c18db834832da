"""Pictures of scores: along the layers, of the best layer, and of the leak."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.comparison import compare
from versa.plotting.figures import ModelStyle, model_styles, panels
from versa.plotting.frames import (
    INK,
    SMALL,
    TEXT,
    draw_levels,
    finish_panel,
    head,
    head_height,
    letters_wide,
    name_layers,
    panel_width,
    rows_of_panels,
    share_scores,
    shorten,
)
from versa.result import FitResult, best_layer_scores
from versa.stats.intervals import Interval, corrected_interval
from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["plot_best", "plot_layers", "plot_null"]

_VERSA, _DEBIASED, _LOST = "#D55E00", "#0072B2", "#F3C6A5"
_COLUMNS = {
    "subjects": ("ci_low_subjects", "ci_high_subjects"),
    "splits": ("ci_low", "ci_high"),
}
_WORDS = {
    "versa": "veRSA",
    "versa-debiased": "debiased veRSA",
    "rsa": "classic RSA",
}
_MOST_MARKERS = 28  # on a curve
_REACH = 1.5  # interquartile ranges beyond the quartiles that a violin shows


def plot_layers(
    results: FitResult | Sequence[FitResult],
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    test_train_ratio: float | str = 1.0,
    interval: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the score of every layer, one curve for each network.

    Parameters
    ----------
    results : FitResult or sequence of FitResult
        Networks fitted to the same dataset. If they have the same layers, these are
        named on the x axis; if not, it is the depth relative to the first (0) and the
        last (1) layer that was scored.
    method : str, default="versa-debiased"
        As of :data:`versa.result.METHODS`.
    sector : str, optional
        A sector; by default all, as panels.
    test_train_ratio : float or "literal", default=1.0
        n_test / n_train of the intervals.
    interval : {"subjects", "splits"}, default="subjects"
        Bands around the curves: 95% intervals with S - 1 (subjects; calibrated) or
        J - 1 (split evaluations; the paper's) degrees of freedom.
    ax : Axes, optional
        Where to draw; by default a new figure, which is no figure of pyplot.

    Returns
    -------
    ax : Axes
        Pearson r over layers. A grey band is the noise ceiling with its interval; for
        `method` ``"versa"`` a dashed line is the null, where there is one. Several
        sectors are panels in ``ax.child_axes``.

    Raises
    ------
    ValueError
        If the results cannot be compared, or a name is unknown.

    References
    ----------
    Konkle & Alvarez (2022), Fig. 2, https://doi.org/10.1038/s41467-022-28091-4
    """
    items, sectors = _checked(results, (method,), sector, interval)
    ends = _COLUMNS[interval]
    tables = {item.model: item.layers(test_train_ratio=test_train_ratio)
              for item in items}  # fmt: skip
    styles = model_styles(tables)
    shared = len({item.layer_names for item in items}) == 1
    width = panel_width(len(sectors))
    height = 2.8 + head_height(tables, width * len(sectors))
    ax, parts = panels(ax, len(sectors), size=(width, height))
    handles: list[Any] = []
    for name, part in zip(sectors, parts, strict=True):
        curves = {
            model: table[(table["sector"] == name) & (table["method"] == method)]
            for model, table in tables.items()
        }
        first = next(iter(curves.values()))
        ceiling = _ceiling(items[0], name, test_train_ratio, interval)
        handles += draw_levels(part.axhspan, part.axhline, ceiling, _null(first))
        for model, curve in curves.items():
            x = np.linspace(0, len(curve) - 1 if shared else 1, len(curve))
            part.fill_between(
                x, curve[ends[0]], curve[ends[1]], color=styles[model].colour,
                alpha=0.9 / (3 + len(curves)), linewidth=0,
            )  # fmt: skip
            handles += _draw_curve(part, x, curve["r"], model, styles[model])
        finish_panel(part, name)
        if shared:
            name_layers(part, items[0].layer_names)
        else:
            part.set_xticks([0, 0.5, 1], ["first", "0.5", "last"])
            part.set_xlabel("relative depth of the layer", fontsize=TEXT)
    share_scores(parts, "y", _r_label(method), from_zero=True)
    about = f"bands: 95% intervals ({_freedom(items[0], interval)})"
    head(ax, handles, items[0], about)
    return ax


def plot_best(
    results: FitResult | Sequence[FitResult],
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    test_train_ratio: float | str = 1.0,
    interval: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the cross-validated best layer of each network, over all half-splits.

    Parameters
    ----------
    results : FitResult or sequence of FitResult
        Networks fitted to the same dataset; from top to bottom.
    method : str, default="versa-debiased"
        As of :data:`versa.result.METHODS`.
    sector : str, optional
        A sector; by default all, as panels.
    test_train_ratio : float or "literal", default=1.0
        n_test / n_train of the intervals.
    interval : {"subjects", "splits"}, default="subjects"
        Bars: as the bands of :func:`plot_layers`.
    ax : Axes, optional
        Where to draw; by default a new figure, which is no figure of pyplot.

    Returns
    -------
    ax : Axes
        A violin of the split evaluations, which ends at the last one within 1.5
        interquartile ranges of the quartiles, with their median (white); the mean with
        its 95% interval (black), and below it the layer that was chosen most often
        with its share. A grey band is the noise ceiling with its
        interval, a dashed line the null (for `method` ``"versa"``).

    Raises
    ------
    ValueError
        If the results cannot be compared, or a name is unknown.

    References
    ----------
    Konkle & Alvarez (2022), Fig. 2, https://doi.org/10.1038/s41467-022-28091-4
    """
    items, sectors = _checked(results, (method,), sector, interval)
    tables = [item.best(test_train_ratio=test_train_ratio) for item in items]
    styles = model_styles(item.model for item in items)
    margin = letters_wide(max(len(shorten(item.model)) for item in items))
    width = (2.8 if len(sectors) == 1 else 1.9) + margin / len(sectors)
    height = 0.8 + 0.48 * len(items) + head_height([], width * len(sectors) - margin)
    ax, parts = panels(ax, len(sectors), size=(width, height))
    handles: list[Any] = []
    for name, part in zip(sectors, parts, strict=True):
        rows = [
            table[(table["sector"] == name) & (table["method"] == method)]
            for table in tables
        ]
        ceiling = _ceiling(items[0], name, test_train_ratio, interval)
        handles += draw_levels(part.axvspan, part.axvline, ceiling, _null(rows[0]))
        for y, (item, row) in enumerate(zip(items, rows, strict=True)):
            r = best_layer_scores(item, method, name).r
            found = row.iloc[0]
            ends = tuple(found[end] for end in _COLUMNS[interval])
            handles += _draw_violin(part, y, r, found, ends, styles[item.model])
        finish_panel(part, name)
        part.set_ylim(len(items) - 0.4, -0.6)
        part.set_yticks(
            range(len(items)), [shorten(item.model) for item in items], fontsize=TEXT
        )
        part.tick_params(axis="y", length=0)
        part.set_xlabel(f"best layer: {_r_label(method)}", fontsize=TEXT)
    share_scores(parts, "x", "", from_zero=False)
    about = (
        "violins: split evaluations (white: median); bars: 95% intervals "
        f"({_freedom(items[0], interval)})"
    )
    head(ax, handles, items[0], about, margin)
    return ax


def plot_null(
    results: FitResult | Sequence[FitResult],
    *,
    sector: str | None = None,
    test_train_ratio: float | str = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how much of the paper's score is the leave-one-out leak, layer by layer.

    Parameters
    ----------
    results : FitResult or sequence of FitResult
        Networks fitted to the same dataset, a row of panels for each; with the
        methods ``versa`` and ``versa-debiased``.
    sector : str, optional
        A sector; by default all, as columns.
    test_train_ratio : float or "literal", default=1.0
        n_test / n_train of the intervals.
    ax : Axes, optional
        Where to draw; by default a new figure, which is no figure of pyplot.

    Returns
    -------
    ax : Axes
        The score of ``versa`` and of ``versa-debiased`` (the same weights without
        the held-out response that the fold's mean carries), with 95% intervals of
        S - 1 degrees of freedom. Between them is shaded what a layer loses without
        the leak; a cross marks a layer of which nothing is left, so that its score
        is not defined. Dashed: the null, which the procedure of ``versa`` gives to an
        encoder that learned nothing.

    Raises
    ------
    ValueError
        If the results cannot be compared or lack one of the two methods, or a name is
        unknown.

    Notes
    -----
    The null is no floor: features that predict something wrong lie below it. It shows
    how high a score the procedure gives for nothing.
    """
    items, sectors = _checked(results, ("versa", "versa-debiased"), sector)
    styles = {
        "versa": ModelStyle(_VERSA, "o", "-"),
        "versa-debiased": ModelStyle(_DEBIASED, "s", "-"),
    }
    shared = len({item.layer_names for item in items}) == 1
    ax, rows = rows_of_panels(ax, items, len(sectors), shared)
    handles: list[Any] = []
    for n, (item, parts) in enumerate(zip(items, rows, strict=True)):
        table = item.layers(test_train_ratio=test_train_ratio)
        for name, part in zip(sectors, parts, strict=True):
            curves = {
                method: table[(table["sector"] == name) & (table["method"] == method)]
                for method in styles
            }
            ceiling = _ceiling(item, name, test_train_ratio, "subjects")
            handles += draw_levels(
                part.axhspan, part.axhline, ceiling, _null(curves["versa"])
            )
            x = np.arange(len(item.layer_names))
            high, low = (curves[method]["r"].to_numpy() for method in styles)
            lost = part.fill_between(
                x, low, high, where=high > low, interpolate=True, color=_LOST,
                linewidth=0, label="lost without the leak", zorder=0.2,
            )  # fmt: skip
            for method, curve in curves.items():
                bottom, top = (curve[end] for end in _COLUMNS["subjects"])
                part.vlines(x, bottom, top, color=styles[method].colour, linewidth=0.8)
                (drawn,) = _draw_curve(
                    part, x, curve["r"], _WORDS[method], styles[method]
                )
                handles.append(drawn)
                if method == "versa":  # seen also where the other lies upon it
                    drawn.set(linewidth=2.6, markersize=5.5)
            handles += [
                lost,
                *_draw_undefined(part, x[np.isnan(low) & ~np.isnan(high)]),
            ]
            finish_panel(part, name)
            part.set_title(
                _largest_loss(high - low, item.layer_names), loc="right",
                fontsize=SMALL, color=INK,
            )  # fmt: skip
            name_layers(part, item.layer_names)
            if shared and n < len(items) - 1:
                part.tick_params(axis="x", labelbottom=False)
        share_scores(parts, "y", f"{shorten(item.model, 30)}\nr", from_zero=True)
        parts[0].yaxis.label.set_fontsize(SMALL)
    about = f"bars: 95% intervals ({_freedom(items[0], 'subjects')})"
    head(ax, handles, items[0], about)
    return ax


def _checked(
    results: FitResult | Sequence[FitResult],
    methods: Sequence[str],
    sector: str | None,
    interval: str = "subjects",
) -> tuple[tuple[FitResult, ...], tuple[str, ...]]:
    """Results that can be compared, and the sectors to draw."""
    items = (results,) if isinstance(results, FitResult) else tuple(results)
    # one baseline keeps the tests few, which are not drawn
    names = [item.model for item in items if isinstance(item, FitResult)]
    compare(items, baseline=names[0] if names else None)
    first = items[0]
    for method in methods:
        if method not in first.methods:
            raise ValueError(unknown("method", method, first.methods))
    if interval not in _COLUMNS:
        raise ValueError(unknown("interval", interval, _COLUMNS))
    if sector is not None and sector not in first.sectors:
        raise ValueError(unknown("sector", sector, first.sectors))
    return items, first.sectors if sector is None else (sector,)


def _ceiling(
    result: FitResult, sector: str, test_train_ratio: float | str, interval: str
) -> Interval:
    """Mean noise ceiling of a sector with its interval."""
    return corrected_interval(
        result.ceiling.sel(sector=sector).values,
        test_train_ratio=result.ratio(test_train_ratio),
        df=len(result.subjects) - 1 if interval == "subjects" else None,
    )


def _null(rows: "pd.DataFrame") -> float:
    """The null beside the scores of a sector; NaN where there is none."""
    return float(rows["null_r"].iloc[0])


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


def _draw_violin(
    part: "Axes",
    y: int,
    r: np.ndarray,
    row: "pd.Series",
    ends: tuple[float, ...],
    style: ModelStyle,
) -> list[Any]:
    """One network's split evaluations, their median, mean, interval and layer."""
    from scipy.stats import gaussian_kde

    values = r[np.isfinite(r)]
    if values.size < r.size or not values.size:
        part.annotate(
            "not defined", (0, y), xycoords=part.get_yaxis_transform(),
            xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=SMALL, color=INK,
        )  # fmt: skip
        return []
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    reach = _REACH * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    places = np.linspace(inside.min(), inside.max(), 200)
    half = np.full(places.size, 0.05)
    if np.ptp(values) > 1e-9:
        density = gaussian_kde(values)(places)
        half = 0.36 * density / density.max()
    part.fill_between(
        places, y - half, y + half, color=style.colour, alpha=0.55, linewidth=0
    )
    at_median = float(np.interp(middle, places, half))
    part.plot([middle] * 2, [y - at_median, y + at_median], color="white", lw=1.0)
    low, high = ends
    part.hlines(y, low, high, color="black", linewidth=0.9)
    mean = part.plot(
        row["r"], y, "o", color="black", markersize=3, label="mean", linestyle=""
    )
    # towards the middle of the panel, where there is room
    toward = "right" if row["r"] > 0.5 else "left"
    part.annotate(
        f"{shorten(row['layer'], 20)} {100 * row['chosen']:.0f}%",
        (high if toward == "right" else low, y + 0.37), ha=toward, va="top",
        fontsize=6, color=INK,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.3},
    )  # fmt: skip
    return mean


def _draw_undefined(part: "Axes", x: np.ndarray) -> list[Any]:
    """Crosses on the axis for layers whose score is the leak alone."""
    if not x.size:
        return []
    return part.plot(
        x,
        np.zeros(x.size),
        "x",
        color=_DEBIASED,
        markersize=5,
        clip_on=False,
        label="debiased veRSA not defined: nothing was learned",
    )


def _largest_loss(loss: np.ndarray, layers: Sequence[str]) -> str:
    """Which layer loses most without the leak, in words."""
    if not np.isfinite(loss).any():
        return ""
    worst = int(np.nanargmax(loss))
    if loss[worst] < 0.0005:
        return "no layer loses"
    return f"largest loss {loss[worst]:.3f} ({shorten(layers[worst], 16)})"


def _r_label(method: str) -> str:
    """What an axis of scores shows."""
    return f"r ({_WORDS.get(method, method)})"


def _freedom(result: FitResult, interval: str) -> str:
    """Degrees of freedom of the intervals of scores, in words."""
    if interval == "subjects":
        text = f"S − 1 = {len(result.subjects) - 1} df"
    else:
        n_splits = result.splits.n_splits
        text = f"J − 1 = {2 * n_splits - 1} df; ceiling: {n_splits - 1} df"
    return text.replace(" ", "\N{NO-BREAK SPACE}")  # not to be broken over lines
