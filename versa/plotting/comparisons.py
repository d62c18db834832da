"""Figures that set networks side by side: visual diets, accuracy, all differences."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.comparison import Comparison
from versa.plotting.style import (
    BAND,
    GREY,
    INK,
    SMALL,
    TEXT,
    as_comparison,
    best_words,
    ci_columns,
    df_text,
    draw_head,
    draw_null,
    draw_violin,
    finish_panel,
    interval_line,
    letters_wide,
    model_styles,
    panels,
    score_label,
    sectors_to_draw,
    select,
    violin_ends,
    with_df,
)
from versa.result import FitResult, best_layer_scores
from versa.wording import listing, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

logger = logging.getLogger("versa")

_ACCURACIES = {
    "top1_linear": "a linear read-out",
    "top1_knn": "nearest neighbours",
    "top1": "the network's own classifier",
}
# Methods of training that use category labels, and the colours of their open markers.
_WITH_LABELS = {
    "supervised": "#000000",
    "adversarial": "#D55E00",
    "semi-weakly supervised": "#8C6D31",
}
_MARKERS = ("o", "D", "s", "^", "v", "P", "X", "p", "h", "<", ">", "*", "d", "8")
_N_COLOURS = 8  # that model_styles tells apart
_RANGE = "range of its violin (1.5 IQR)"
_GAP = "#B22222"
_KEY = 1.7  # inches of the key beside the panels
_EMPTY = "#ececec"
_OWN = "#666666"  # numbers on empty cells
_READABLE = 10  # networks, above which the cells hold no numbers


def plot_diets(
    results: Comparison | Sequence[FitResult],
    *,
    baseline: str | None = None,
    method: str = "versa-debiased",
    sector: str | None = None,
    df: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw networks against one of them, as the paper's Figure 3 draws visual diets.

    Each violin holds the scores of a network's cross-validated best layer in both
    halves of all half-splits, and ends at the last one within 1.5 interquartile ranges
    of the quartiles; the line is the median, the dot the mean, through Fisher z.

    Parameters
    ----------
    results : Comparison or sequence of FitResult
        Two or more networks, fitted to the same dataset. They are drawn in their order,
        named by the diets of their cards where nothing else differs between them. The
        intervals have the test_train_ratio of the comparison (1 without one).
    baseline : str, optional
        Name of the network to measure the others by: its mean (line), the interval of
        its mean (band) and the ends of its violin (dotted), which the paper draws. By
        default the baseline of the comparison.
    method : str, default="versa-debiased"
        A method of the results. With ``"versa"`` the null is drawn too.
    sector : str, optional
        By default a panel for each sector.
    df : {"subjects", "splits", "images", "both"}, default="subjects"
        Degrees of freedom of the band: subjects - 1, or evaluations - 1 as in the
        paper; or those of ``generalize`` of the comparison.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The whole; the panels are its ``child_axes`` if there are several.

    Raises
    ------
    ValueError
        If the results cannot be compared, hold no network but the baseline, or lack
        the baseline, the method or the sector.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
    """
    comparison = as_comparison(results, baseline)
    sectors = sectors_to_draw(comparison, (method,), sector, df)
    standard, others = _against(comparison, baseline)
    best = _best_layers(comparison, method, sectors)
    styles = model_styles(one.model for one in comparison.results)
    labels = _short_names(others)
    lines = [
        f"{best_words(standard)}; dots: the score"
        if standard.single
        else f"{best_words(standard)}; violins: split evaluations; dots: their means",
        f"baseline: {standard.model}",
    ]
    width = 4.6 if len(sectors) == 1 else max(2.4, 0.7 + 0.3 * len(others))
    height = 2.2 + 0.035 * max(map(len, labels))
    whole, parts = panels(ax, len(sectors), size=(width, height))
    handles: list[Any] = []
    for panel, name in zip(parts, sectors, strict=True):
        row = best[standard.model, name]
        handles += _draw_band(
            panel, row, _scores(comparison, standard, method, name), df, standard
        )
        handles += draw_null(panel, row["null_r"])
        for place, one in enumerate(others):
            style = styles[one.model]
            draw_violin(
                panel, "y", place, _scores(comparison, one, method, name), style.colour
            )
            panel.plot(
                place, best[one.model, name]["r"], marker=style.marker, ms=4.5,
                mfc="black", mec="white", mew=0.6, ls="", zorder=4, label=one.model,
            )  # fmt: skip
        panel.set_xlim(-0.7, len(others) - 0.3)
        panel.set_xticks(
            range(len(others)), labels,
            rotation=40, ha="right", rotation_mode="anchor",
        )  # fmt: skip
        finish_panel(panel, name)
    _share_range(parts, method)
    draw_head(whole, standard, lines, handles)
    return whole


def plot_accuracy(
    results: Comparison | FitResult | Sequence[FitResult],
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    accuracy: str | Sequence[str] = "top1_linear",
    df: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw accuracy on ImageNet against brain score, as the paper's Figure 4.

    The colour is the method of training, the marker the architecture; networks that
    were trained with category labels have open markers. A grey line is the noise
    ceiling, an arrow the gap between it and the best of these networks.

    Parameters
    ----------
    results : Comparison, FitResult or sequence of FitResult
        Networks fitted to the same dataset, with model cards in their provenance. The
        intervals have the test_train_ratio of the comparison (1 without one).
    method : str, default="versa-debiased"
        A method of the results. With ``"versa"`` the null is drawn too.
    sector : str, optional
        By default a panel for each sector.
    accuracy : str or sequence of str, default="top1_linear"
        Which published accuracy of the cards, in percent: ``"top1_linear"`` of a
        linear read-out, ``"top1_knn"`` of nearest neighbours, ``"top1"`` of the
        network's own classifier. Of several the first that a card holds. Networks
        without it are not drawn, and named in the log.
    df : {"subjects", "splits", "images", "both"}, default="subjects"
        Degrees of freedom of the intervals: subjects - 1, or evaluations - 1 as in the
        paper; or those of ``generalize`` of the comparison.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The whole; the panels are its ``child_axes`` if there are several.

    Raises
    ------
    ValueError
        If the results cannot be compared, lack the method or the sector, or no card
        holds the accuracy.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
    """
    kinds = (accuracy,) if isinstance(accuracy, str) else tuple(accuracy)
    for kind in kinds:
        if kind not in _ACCURACIES:
            raise ValueError(unknown("accuracy", kind, _ACCURACIES))
    comparison = as_comparison(results)
    sectors = sectors_to_draw(comparison, (method,), sector, df)
    best = _best_layers(comparison, method, sectors)
    accuracies = _accuracies(comparison.results, kinds)
    cards = {one.model: one.card for one in comparison.results}
    fills = _fills(cards[model]["method"] for model in accuracies)
    markers = _markers(cards[model]["architecture"] for model in accuracies)
    first = comparison.results[0]
    source = ", else of ".join(_ACCURACIES[kind] for kind in kinds)
    lines = [
        f"{best_words(first)}; {interval_line(first, 'bars', df)}",
        f"published top-1 accuracy on ImageNet of {source}",
    ]
    width = max(3.0, 2.3 * len(sectors)) + _KEY
    n_keys = len(fills) + len(markers)
    size = width / len(sectors), max(2.9, 0.5 + 0.16 * n_keys)
    whole, parts = panels(ax, len(sectors), size=size)
    low, high = min(accuracies.values()), max(accuracies.values())
    reach = max(high - low, 10.0)
    handles: list[Any] = []
    for panel, name in zip(parts, sectors, strict=True):
        rows = {model: best[model, name] for model in accuracies}
        for model, row in rows.items():
            ends = np.array([[row[end]] for end in ci_columns(df)])
            drawn = panel.errorbar(
                accuracies[model], row["r"], np.abs(ends - row["r"]), ms=5.5,
                fmt=markers[cards[model]["architecture"]], elinewidth=0.7,
                label=model, **fills[cards[model]["method"]],
            )  # fmt: skip
            for bar in drawn.lines[2]:
                bar.set_alpha(0.5)
        panel.set_xlim(low - 0.12 * reach, high + 0.28 * reach)
        panel.locator_params(axis="x", nbins=5, integer=True)
        handles += _draw_gap(panel, rows, accuracies, high + 0.14 * reach)
        handles += draw_null(panel, next(iter(rows.values()))["null_r"])
        panel.set_xlabel("top-1 accuracy (%)", fontsize=TEXT)
        finish_panel(panel, name)
    _share_range(parts, method)
    draw_head(whole, first, lines, handles, margin=_KEY)
    _draw_key(whole, fills, markers)
    return whole


def plot_comparison(
    comparison: Comparison | Sequence[FitResult],
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    df: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how all networks differ from each other, and which differences hold.

    A cell is the mean r of the network in its row minus that of the network in its
    column, for their cross-validated best layers; the diagonal has the mean r itself.
    Stars mark the differences that are significant after correction.

    Parameters
    ----------
    comparison : Comparison or sequence of FitResult
        Two networks or more. If all were compared with one baseline, that is the only
        column.
    method : str, default="versa-debiased"
        A method of the results. With ``"versa"`` the null is given for each sector.
    sector : str, optional
        By default a panel for each sector.
    df : {"subjects", "splits", "images", "both"}, default="subjects"
        Degrees of freedom of the tests: subjects - 1 (closer to nominal), or
        evaluations - 1 as in the paper; or those of ``generalize`` of the comparison.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The whole; the panels are its ``child_axes`` if there are several.

    Raises
    ------
    ValueError
        If there is no pair of networks, or the method or sector is none of theirs.

    References
    ----------
    Nadeau & Bengio (2003), https://doi.org/10.1023/A:1024068626366
    """
    comparison = as_comparison(comparison)
    sectors = sectors_to_draw(comparison, (method,), sector, df)
    names = [result.model for result in comparison.results]
    table = select(comparison.table, method=method)
    table = table[table["sector"].isin(sectors)]
    if not len(table):
        raise ValueError(
            f"comparison must hold two networks or more; got {listing(names)}."
        )
    best = _best_layers(comparison, method, sectors)
    baseline = comparison.baseline
    columns = names if baseline is None else [baseline]
    rows = [name for name in names if name != baseline]
    numbers = {name: str(n) for n, name in enumerate(names, start=1)}
    sizes = np.abs(table["difference"].to_numpy(dtype=float))
    largest = float(sizes[np.isfinite(sizes)].max(initial=0.0)) or 0.01
    readable = len(names) <= _READABLE
    cell = 0.46 if readable else 0.17
    beside = 1.2 + letters_wide(max(len(name) for name in rows))
    width = max(1.3, 1.15 * cell * len(columns)) + beside / len(sectors)
    first = comparison.results[0]
    lines = [f"mean r of the {best_words(first)}: row minus column"]
    if baseline is not None:
        lines.append(f"column {numbers[baseline]}: {baseline}")
    lines.append(
        "no test over one subject"
        if first.single and df != "images"
        else f"★ corrected p < {comparison.alpha:g} ({comparison.correction_name}, "
        f"{comparison.family} tests, {df_text(first, df)})"
    )
    whole, parts = panels(ax, len(sectors), size=(width, 0.7 + cell * len(rows)))
    for panel, name in zip(parts, sectors, strict=True):
        pairs = select(table, sector=name)
        marks = with_df("significant", df)
        differences, marked = _matrices(pairs, rows, columns, marks)
        shown = differences.copy()
        for i, row in enumerate(rows):
            if row in columns:
                shown[i, columns.index(row)] = best[row, name]["r"]
        mesh = _draw_cells(panel, differences, marked, shown, largest, readable)
        panel.set_xticks(
            np.arange(len(columns)) + 0.5, [numbers[one] for one in columns]
        )
        named = panel is parts[0]
        left = [f"{one}  {numbers[one]}" if named else numbers[one] for one in rows]
        panel.set_yticks(np.arange(len(rows)) + 0.5, left)
        panel.tick_params(length=0, labelsize=SMALL)
        null = best[names[0], name]["null_r"]
        title = f"{name}\nnull r = {null:.3f}" if method == "versa" else name
        panel.set_title(title, loc="left", fontsize=TEXT, fontweight="bold")
    scale = parts[-1].inset_axes((1.06, 0.0, 0.16 / (cell * len(columns)), 1.0))
    bar = whole.figure.colorbar(mesh, cax=scale)
    bar.set_label(f"row - column\n{score_label(method)}", fontsize=SMALL)
    bar.outline.set_visible(False)
    scale.tick_params(labelsize=SMALL)
    title_lines = 2 if method == "versa" else 1
    draw_head(whole, first, lines, title_lines=title_lines, margin=0.0)
    return whole


def _best_layers(
    comparison: Comparison, method: str, sectors: Sequence[str]
) -> dict[tuple[str, str], dict[Any, Any]]:
    """For each model and sector its row of the cross-validated best layers."""
    best: dict[tuple[str, str], dict[Any, Any]] = {
        (row["model"], row["sector"]): row
        for row in select(comparison.best(), method=method).to_dict("records")
        if row["sector"] in sectors
    }
    for (model, name), row in best.items():
        if not np.isfinite(row["r"]):
            logger.warning("%s has no score in %s; it is not drawn there.", model, name)
    return best


def _scores(
    comparison: Comparison, result: FitResult, method: str, sector: str
) -> np.ndarray:
    """Scores of the best layer in the halves of all splits that count."""
    return best_layer_scores(result, method, sector, comparison.halves).r.ravel()


def _share_range(parts: "Sequence[Axes]", method: str) -> None:
    """One range for all panels, that of the scores drawn; labelled at the first."""
    ends = np.array([panel.get_ylim() for panel in parts])
    for panel in parts:
        panel.set_ylim(ends.min(), ends.max())
        if panel is not parts[0]:
            panel.tick_params(labelleft=False)
    parts[0].set_ylabel(score_label(method), fontsize=TEXT)


# Parts of plot_diets.


def _against(
    comparison: Comparison, baseline: str | None
) -> tuple[FitResult, list[FitResult]]:
    """The baseline, and the networks to measure by it."""
    baseline = baseline or comparison.baseline
    names = [one.model for one in comparison.results]
    if baseline is None:
        raise ValueError(
            "baseline must be named, here or to versa.compare; take one of "
            f"{listing(names)}."
        )
    if baseline not in names:
        raise ValueError(unknown("baseline", baseline, names))
    others = [one for one in comparison.results if one.model != baseline]
    if not others:
        raise ValueError(
            f"results must hold a network beside the baseline; got {baseline} alone."
        )
    return comparison.results[names.index(baseline)], others


def _short_names(results: Sequence[FitResult]) -> list[str]:
    """Diets of the networks if only they differ, else their names."""
    cards = [result.card for result in results]
    diets = [card.get("diet", "") for card in cards]
    kinds = {(card.get("method"), card.get("architecture")) for card in cards}
    if all(diets) and len(set(diets)) == len(diets) and len(kinds) == 1:
        return diets
    return [result.model for result in results]


def _draw_band(
    panel: "Axes",
    row: Mapping[str, float],
    values: np.ndarray,
    df: str,
    baseline: FitResult,
) -> list[Any]:
    """Mean of the baseline, the interval of its mean, and the ends of its violin."""
    if not np.isfinite(values).all():
        return []
    line: dict[str, Any] = {"color": INK, "lw": 1.2, "zorder": 1}
    handles: list[Any] = [panel.axhline(row["r"], label="mean of the baseline", **line)]
    ends = [row[end] for end in ci_columns(df)]
    if np.isfinite(ends).all():
        label = f"its 95% interval ({df_text(baseline, df)})"
        handles.append(panel.axhspan(*ends, color=BAND, lw=0, zorder=0, label=label))
    line |= {"lw": 0.9, "ls": ":", "label": _RANGE}
    edges = violin_ends(values) if values.size > 1 else ()
    return handles + [panel.axhline(end, **line) for end in edges]


# Parts of plot_accuracy.


def _accuracies(
    results: Sequence[FitResult], kinds: tuple[str, ...]
) -> dict[str, float]:
    """Published accuracy of each network that has one."""
    found: dict[str, float] = {}
    for result in results:
        held = [result.card.get(kind) for kind in kinds]
        values = [value for value in held if value is not None]
        if values:
            found[result.model] = float(values[0])
    absent = [result.model for result in results if result.model not in found]
    if not found:
        raise ValueError(
            f"results must have model cards with {' or '.join(kinds)}; none of "
            f"{listing(absent)} has. Choose another accuracy among "
            f"{listing(_ACCURACIES)}."
        )
    if absent:
        logger.warning(
            "Not drawn, as their cards hold no %s: %s.",
            " or ".join(kinds),
            ", ".join(absent),
        )
    return found


def _fills(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """How the markers of each method of training are filled, and their edges."""
    unique = list(dict.fromkeys(methods))
    others = [name for name in unique if name not in _WITH_LABELS]
    if len(others) > 2 * _N_COLOURS:
        logger.warning(
            "%d methods of training share %d looks.", len(others), 2 * _N_COLOURS
        )
    fills: dict[str, dict[str, Any]] = {
        name: {"color": colour, "mfc": "white", "mec": colour, "mew": 1.2}
        for name, colour in _WITH_LABELS.items()
    }
    for n, (name, style) in enumerate(model_styles(others).items()):
        # when all colours are in use, they come again with a black edge
        edge = "black" if n // _N_COLOURS % 2 else "white"
        fills[name] = {"color": style.colour, "mec": edge, "mew": 0.7}
    return {name: fills[name] for name in unique}


def _markers(architectures: Iterable[str]) -> dict[str, str]:
    """A marker for each architecture, in order of appearance."""
    unique = list(dict.fromkeys(architectures))
    if len(unique) > len(_MARKERS):
        logger.warning("%d architectures share %d markers.", len(unique), len(_MARKERS))
    return {name: _MARKERS[n % len(_MARKERS)] for n, name in enumerate(unique)}


def _draw_gap(
    panel: "Axes",
    rows: Mapping[str, Mapping[str, float]],
    accuracies: Mapping[str, float],
    place: float,
) -> list[Any]:
    """The noise ceiling, and the gap between it and the best network."""
    from matplotlib.lines import Line2D

    ceiling = next(iter(rows.values()))["ceiling"]  # the same for all networks
    scores = {name: row["r"] for name, row in rows.items() if np.isfinite(row["r"])}
    if not scores or not np.isfinite(ceiling):
        return []
    line = panel.axhline(ceiling, color=GREY, lw=1.2, zorder=0.5, label="noise ceiling")
    best = max(scores, key=lambda model: scores[model])
    score = scores[best]
    if score >= ceiling:
        panel.annotate(
            "no gap", (1.0, ceiling), (0, 2), ("axes fraction", "data"),
            "offset points", ha="right", va="bottom", fontsize=SMALL, color=_GAP,
        )  # fmt: skip
        return [line]
    reach = [accuracies[best], place]
    panel.plot(reach, [score, score], color=_GAP, lw=0.6, ls=":", zorder=1)
    panel.annotate(
        "", (place, ceiling), (place, score),
        arrowprops={
            "arrowstyle": "<->", "color": _GAP, "lw": 1.1, "shrinkA": 0, "shrinkB": 0,
            "mutation_scale": 7,
        },
    )  # fmt: skip
    panel.annotate(
        f"{ceiling - score:.3f}", (place, (ceiling + score) / 2), (4, 0),
        textcoords="offset points", rotation=90, va="center", fontsize=SMALL,
        color=_GAP,
    )  # fmt: skip
    arrow = Line2D(
        [], [], color=_GAP, marker="|", ms=9, mew=1.1, ls="",
        label="gap between it and the best network drawn",
    )  # fmt: skip
    return [line, arrow]


def _draw_key(
    whole: "Axes", fills: Mapping[str, dict[str, Any]], markers: Mapping[str, str]
) -> None:
    """What colours and markers mean, right of the panels."""
    from matplotlib.lines import Line2D

    blank: dict[str, Any] = {"ls": "", "marker": ""}
    dot: dict[str, Any] = {"ls": "", "ms": 5.5}
    handles = [
        Line2D([], [], label="training (open: with labels)", **blank),
        *(Line2D([], [], label=n, marker="o", **dot, **f) for n, f in fills.items()),
        Line2D([], [], label="architecture", **blank),
        *(
            Line2D([], [], label=name, marker=marker, color=GREY, **dot)
            for name, marker in markers.items()
        ),
    ]
    # a place of its own: an Axes has but one legend, which is that above the panels
    side = whole.inset_axes((1.02, 0.0, 0.01, 1.0))
    side.set_axis_off()
    key = side.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 1), frameon=False,
        fontsize=SMALL, borderaxespad=0, borderpad=0, labelspacing=0.3,
    )  # fmt: skip
    for heading in (0, 1 + len(fills)):
        key.get_texts()[heading].set_fontweight("bold")


# Parts of plot_comparison.


def _matrices(
    pairs: "pd.DataFrame", rows: list[str], columns: list[str], significant: str
) -> tuple[np.ndarray, np.ndarray]:
    """Differences, row minus column, and whether they are significant."""
    differences = np.full((len(rows), len(columns)), np.nan)
    marked = np.zeros(differences.shape, dtype=bool)
    for pair in pairs.to_dict("records"):
        a, b = pair["model_a"], pair["model_b"]
        for row, column, sign in ((a, b, 1), (b, a, -1)):
            if row in rows and column in columns:
                at = rows.index(row), columns.index(column)
                differences[at] = sign * pair["difference"]
                marked[at] = pair[significant]
    return differences, marked


def _draw_cells(
    panel: "Axes",
    differences: np.ndarray,
    marked: np.ndarray,
    shown: np.ndarray,
    largest: float,
    readable: bool,
) -> "QuadMesh":
    """Cells in blue (below 0) to red, grey where there is nothing; numbers, stars."""
    from matplotlib import colormaps

    mesh = panel.pcolormesh(
        np.ma.masked_invalid(differences),
        cmap=colormaps["RdBu_r"].with_extremes(bad=_EMPTY),
        vmin=-largest, vmax=largest, edgecolors="white", linewidth=1.0,
    )  # fmt: skip
    mesh.update_scalarmappable()  # the print must know the colours
    inks = _inks(np.asarray(mesh.get_facecolor())).reshape(shown.shape)
    if readable:
        for (i, j), value in np.ndenumerate(shown):
            panel.text(
                j + 0.5, i + 0.5, f"{value:.3f}" if np.isfinite(value) else "-",
                ha="center", va="center", fontsize=SMALL,
                color=inks[i, j] if np.isfinite(differences[i, j]) else _OWN,
            )  # fmt: skip
    if marked.any():
        i, j = np.nonzero(marked)
        panel.scatter(  # in a corner of cells that hold numbers
            j + (0.84 if readable else 0.5), i + (0.2 if readable else 0.5),
            marker="*", s=26 if readable else 14, linewidths=0, zorder=3,
            c=inks[i, j], label="significant",
        )  # fmt: skip
    panel.set(aspect="equal", anchor="W", ylim=(len(differences), 0))
    panel.spines[:].set_visible(False)
    return mesh


def _inks(colours: np.ndarray) -> np.ndarray:
    """Black or white, whichever is more legible on each colour, (n, 4)."""
    linear = np.where(
        colours <= 0.03928, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4
    )
    # both have the same contrast (WCAG 2) on grounds of this luminance
    bright = linear[:, :3] @ [0.2126, 0.7152, 0.0722] > 0.179
    return np.where(bright, "black", "white")
