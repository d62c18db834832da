"""Figures that set networks side by side: visual diets, and accuracy."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.comparison import compare
from versa.plotting.best import (
    best_layers,
    column_ending,
    draw_head,
    draw_null,
    null_handles,
)
from versa.plotting.differences import plot_comparison
from versa.plotting.figures import model_styles, panels
from versa.result import FitResult, best_layer_scores
from versa.wording import listing, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_accuracy", "plot_comparison", "plot_diets"]

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
_TEXT, _SMALL = 8.0, 7.0  # points
_INK = "#444444"
_GREY = "#777777"
_BAND = "#DDDDDD"
_GAP = "#B22222"
_RANGE: dict[str, Any] = {"color": _INK, "lw": 0.9, "ls": ":"}


def plot_diets(
    results: Sequence[FitResult],
    *,
    baseline: str,
    method: str = "versa-debiased",
    sector: str | None = None,
    interval: str = "subjects",
    test_train_ratio: float | str = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw networks against one of them, as the paper's Figure 3 draws visual diets.

    Each violin holds the scores of a network's cross-validated best layer in both
    halves of all half-splits, up to 1.5 interquartile ranges beyond the quartiles; the
    dot is the mean, through Fisher z.

    Parameters
    ----------
    results : sequence of FitResult
        Two or more, of the same dataset. They are drawn in their order, named by the
        diets of their cards where nothing else differs between them.
    baseline : str
        Name of the network to measure the others by: its mean (line), the interval of
        its mean (band) and the ends of its violin (dotted), which the paper draws.
    method : str, default="versa-debiased"
        A method of the results. With ``"versa"`` the null is drawn too.
    sector : str, optional
        By default a panel for each sector.
    interval : {"subjects", "splits"}, default="subjects"
        Degrees of freedom of the band: subjects - 1, or evaluations - 1 as in the
        paper.
    test_train_ratio : float or "literal", default=1.0
        As of :meth:`versa.result.FitResult.best`.
    ax : Axes, optional
        Where to draw; by default a new figure, which is no figure of pyplot.

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
    comparison = compare(results, baseline=baseline, test_train_ratio=test_train_ratio)
    best, sectors = best_layers(comparison, method, sector)
    ending = column_ending("interval", interval)
    others = [one for one in comparison.results if one.model != baseline]
    if not others:
        raise ValueError(
            f"results must hold a network beside the baseline; got {baseline} alone."
        )
    (standard,) = (one for one in comparison.results if one.model == baseline)
    styles = model_styles(one.model for one in comparison.results)
    labels = _short_names(others)
    longest = max(len(label) for label in labels)
    width = 4.6 if len(sectors) == 1 else max(2.4, 0.7 + 0.3 * len(others))
    whole, parts = panels(ax, len(sectors), size=(width, 3.0 + 0.035 * longest))
    for panel, name in zip(parts, sectors, strict=True):
        row = best[baseline, name]
        ends = row[f"ci_low{ending}"], row[f"ci_high{ending}"]
        _draw_band(panel, row["r"], ends, _scores(standard, method, name))
        draw_null(panel, row["null_r"])
        for place, one in enumerate(others):
            style = styles[one.model]
            _draw_violin(panel, place, _scores(one, method, name), style.colour)
            panel.plot(
                place, best[one.model, name]["r"], marker=style.marker, ms=4.5,
                mfc="black", mec="white", mew=0.6, ls="", zorder=4, label=one.model,
            )  # fmt: skip
        panel.set_xlim(-0.7, len(others) - 0.3)
        panel.set_xticks(
            range(len(others)), labels,
            rotation=40, ha="right", rotation_mode="anchor",
        )  # fmt: skip
        _finish(panel, name)
    _share_scores(parts, method)
    freedom = _freedom(standard, interval)
    draw_head(
        whole,
        comparison,
        [
            "cross-validated best layer; violins: split evaluations; dots: their means",
            f"baseline: {baseline}",
        ],
        [*_band_handles(freedom), *null_handles(method == "versa")],
    )
    return whole


def plot_accuracy(
    results: Sequence[FitResult],
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    accuracy: str | Sequence[str] = "top1_linear",
    interval: str = "subjects",
    test_train_ratio: float | str = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw accuracy on ImageNet against brain score, as the paper's Figure 4.

    The colour is the method of training, the marker the architecture; networks that
    were trained with category labels have open markers. A grey line is the noise
    ceiling, an arrow what the best of these networks leaves to it.

    Parameters
    ----------
    results : sequence of FitResult
        Of the same dataset, with model cards in their provenance.
    method : str, default="versa-debiased"
        A method of the results. With ``"versa"`` the null is drawn too.
    sector : str, optional
        By default a panel for each sector.
    accuracy : str or sequence of str, default="top1_linear"
        Which published accuracy of the cards, in percent: ``"top1_linear"`` of a
        linear read-out, ``"top1_knn"`` of nearest neighbours, ``"top1"`` of the
        network's own classifier. Of several the first that a card holds. Networks
        without it are left out, and named in the log.
    interval : {"subjects", "splits"}, default="subjects"
        Degrees of freedom of the intervals: subjects - 1, or evaluations - 1 as in the
        paper.
    test_train_ratio : float or "literal", default=1.0
        As of :meth:`versa.result.FitResult.best`.
    ax : Axes, optional
        Where to draw; by default a new figure, which is no figure of pyplot.

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
    items = (results,) if isinstance(results, FitResult) else tuple(results)
    # no test is drawn here; with a baseline there are fewer to be made
    baseline = items[0].model if items and isinstance(items[0], FitResult) else None
    comparison = compare(items, baseline=baseline, test_train_ratio=test_train_ratio)
    best, sectors = best_layers(comparison, method, sector)
    ending = column_ending("interval", interval)
    accuracies = _accuracies(comparison.results, kinds)
    cards = {one.model: _card(one) for one in comparison.results}
    fills = _fills(cards[model]["method"] for model in accuracies)
    markers = _markers(cards[model]["architecture"] for model in accuracies)

    width = max(3.0, 2.3 * len(sectors)) + 1.7  # with room for the key
    n_keys = len(fills) + len(markers)
    size = width / len(sectors), max(3.9, 1.5 + 0.16 * n_keys)
    whole, parts = panels(ax, len(sectors), size=size)
    low, high = min(accuracies.values()), max(accuracies.values())
    reach = max(high - low, 10.0)
    for panel, name in zip(parts, sectors, strict=True):
        rows = {model: best[model, name] for model in accuracies}
        for model, row in rows.items():
            ends = np.array([[row[f"ci_low{ending}"]], [row[f"ci_high{ending}"]]])
            drawn = panel.errorbar(
                accuracies[model], row["r"], np.abs(ends - row["r"]), ms=5.5,
                fmt=markers[cards[model]["architecture"]], elinewidth=0.7,
                label=model, **fills[cards[model]["method"]],
            )  # fmt: skip
            for bar in drawn.lines[2]:
                bar.set_alpha(0.5)
        panel.set_xlim(low - 0.12 * reach, high + 0.28 * reach)
        panel.locator_params(axis="x", nbins=5, integer=True)
        of_all = next(iter(rows.values()))  # the same for all networks
        scores = {model: row["r"] for model, row in rows.items()}
        _draw_gap(panel, scores, of_all["ceiling"], accuracies, high + 0.14 * reach)
        draw_null(panel, of_all["null_r"])
        panel.set_xlabel("top-1 accuracy (%)", fontsize=_TEXT)
        _finish(panel, name)
    _share_scores(parts, method)
    source = ", else of ".join(_ACCURACIES[kind] for kind in kinds)
    freedom = _freedom(comparison.results[0], interval)
    draw_head(
        whole,
        comparison,
        [
            f"cross-validated best layer; bars: 95% intervals, {freedom}",
            f"published top-1 accuracy on ImageNet of {source}",
        ],
        [*_gap_handles(), *null_handles(method == "versa")],
    )
    _draw_key(whole, fills, markers)
    return whole


def _scores(result: FitResult, method: str, sector: str) -> np.ndarray:
    """Scores of the best layer in both halves of all splits."""
    return best_layer_scores(result, method, sector).r.ravel()


def _freedom(result: FitResult, interval: str) -> str:
    """Degrees of freedom of the intervals, in words."""
    if interval == "subjects":
        return f"S - 1 = {len(result.subjects) - 1} df"
    return f"J - 1 = {2 * result.splits.n_splits - 1} df"


def _card(result: FitResult) -> dict[str, Any]:
    """Card of the network; empty for a network without one."""
    return result.provenance["model"].get("card") or {}


def _accuracies(
    results: Sequence[FitResult], kinds: tuple[str, ...]
) -> dict[str, float]:
    """Published accuracy of each network that has one."""
    found: dict[str, float] = {}
    for result in results:
        held = [_card(result).get(kind) for kind in kinds]
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


def _short_names(results: Sequence[FitResult]) -> list[str]:
    """Diets of the networks if only they differ, else their names."""
    cards = [_card(result) for result in results]
    diets = [card.get("diet", "") for card in cards]
    kinds = {(card.get("method"), card.get("architecture")) for card in cards}
    if all(diets) and len(set(diets)) == len(diets) and len(kinds) == 1:
        return diets
    return [result.model for result in results]


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Where a violin ends: 1.5 interquartile ranges beyond the quartiles, or before."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 1.5 * (high - low)
    return max(values.min(), low - reach), min(values.max(), high + reach)


def _draw_violin(panel: "Axes", place: int, values: np.ndarray, colour: str) -> None:
    """Density of scores on both sides of a place."""
    from matplotlib.mlab import GaussianKDE

    if not np.isfinite(values).all():
        panel.annotate(
            "not\ndefined", (place, 0.02), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=_SMALL, color=_INK,
        )  # fmt: skip
        return
    at = np.linspace(*_ends(values), 100)
    half = np.full(at.size, 0.38)
    if np.ptp(values) > 1e-9:
        density = GaussianKDE(values).evaluate(at)
        half *= density / density.max()
    panel.fill_betweenx(
        at, place - half, place + half, fc=colour, alpha=0.75, ec=colour, lw=0.8
    )


def _draw_band(
    panel: "Axes", mean: float, ends: tuple[float, float], values: np.ndarray
) -> None:
    """Mean of the baseline, the interval of its mean, and the ends of its violin."""
    if not np.isfinite(values).all():
        return
    if np.isfinite(ends).all():
        panel.axhspan(*ends, color=_BAND, lw=0, zorder=0)
    panel.axhline(mean, color=_INK, lw=1.2, zorder=1, label="baseline")
    for end in _ends(values):
        panel.axhline(end, zorder=1, **_RANGE)


def _band_handles(freedom: str) -> list[Any]:
    """Legend of the lines and the band."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=_INK, lw=1.2, label="mean of the baseline"),
        Patch(color=_BAND, lw=0, label=f"its 95% interval ({freedom})"),
        Line2D([], [], label="range of its violin (1.5 IQR)", **_RANGE),
    ]


def _draw_gap(
    panel: "Axes",
    scores: Mapping[str, float],
    ceiling: float,
    accuracies: Mapping[str, float],
    place: float,
) -> None:
    """The noise ceiling, and what the best network leaves to it."""
    defined = [model for model in scores if np.isfinite(scores[model])]
    if not defined or not np.isfinite(ceiling):
        return
    panel.axhline(ceiling, color=_GREY, lw=1.2, zorder=0.5, label="noise ceiling")
    best = max(defined, key=lambda model: scores[model])
    score = scores[best]
    if score >= ceiling:
        panel.annotate(
            "no gap", (1.0, ceiling), (0, 2), ("axes fraction", "data"),
            "offset points", ha="right", va="bottom", fontsize=_SMALL, color=_GAP,
        )  # fmt: skip
        return
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
        textcoords="offset points", rotation=90, va="center", fontsize=_SMALL,
        color=_GAP,
    )  # fmt: skip


def _gap_handles() -> list[Any]:
    """Legend of the noise ceiling and of the arrow below it."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=_GREY, lw=1.2, label="noise ceiling"),
        Line2D(
            [], [], color=_GAP, marker=r"$\updownarrow$", ms=8, mew=0.2, ls="",
            label="gap between it and the best network drawn",
        ),
    ]  # fmt: skip


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
            Line2D([], [], label=name, marker=marker, color=_GREY, **dot)
            for name, marker in markers.items()
        ),
    ]
    # a place of its own: an Axes has but one legend, which is that above the panels
    side = whole.inset_axes((1.02, 0.0, 0.01, 1.0))
    side.set_axis_off()
    key = side.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 1), frameon=False,
        fontsize=_SMALL, borderaxespad=0, borderpad=0, labelspacing=0.3,
    )  # fmt: skip
    for heading in (0, 1 + len(fills)):
        key.get_texts()[heading].set_fontweight("bold")


def _finish(panel: "Axes", sector: str) -> None:
    """Title and frame of a panel."""
    panel.set_title(sector, loc="left", fontsize=_TEXT, fontweight="bold")
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=_SMALL, length=2.5)


def _share_scores(parts: "Sequence[Axes]", method: str) -> None:
    """One scale of scores for all panels, written at the first."""
    ends = np.array([panel.get_ylim() for panel in parts])
    for panel in parts:
        panel.set_ylim(ends.min(), ends.max())
        if panel is not parts[0]:
            panel.tick_params(labelleft=False)
    parts[0].set_ylabel(f"Pearson r ({method})", fontsize=_TEXT)
