"""A figure of every comparison under every reading of the analysis."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from versa.comparison import Comparison
from versa.inference.readings import READING, multiverse
from versa.plotting.style import GREY, TEXT, as_comparison, letters_wide
from versa.result import FitResult
from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LOWER, _NONE, _HIGHER = "#0072B2", "#ececec", "#D55E00"
_NAMES = {"ratio": "n_test / n_train", "family": "family of"}


def plot_multiverse(
    results: Comparison | FitResult | Sequence[FitResult],
    *,
    sector: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw in which readings of the analysis each comparison holds.

    A column is a reading: the marks below say which method, halves, n_test / n_train,
    degrees of freedom and family it takes. A row is a comparison, with the share of
    readings in which it holds.

    Parameters
    ----------
    results : Comparison, FitResult or sequence of FitResult
        Two networks or more.
    sector : str, optional
        By default the last one.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        The whole; its ``child_axes`` are the comparisons and the readings.

    Raises
    ------
    ValueError
        If there is no pair of networks, or the sector is none of theirs.

    References
    ----------
    Steegen et al. (2016), https://doi.org/10.1177/1745691616658637
    """
    comparison = as_comparison(results)
    sectors = comparison.results[0].sectors
    if sector is not None and sector not in sectors:
        raise ValueError(unknown("sector", sector, sectors))
    sector = sectors[-1] if sector is None else sector
    table = multiverse(
        comparison.results, baseline=comparison.baseline, alpha=comparison.alpha
    )
    table = table[table["sector"] == sector]
    pairs = list(dict.fromkeys(zip(table["model_a"], table["model_b"], strict=True)))
    readings = _readings(table)
    options = [
        (column, value)
        for column in READING
        if len({one[column] for one in readings} - {"-"}) > 1
        for value in dict.fromkeys(one[column] for one in readings)
    ]
    whole, top, bottom = _frames(ax, len(pairs), len(options), len(readings), pairs)
    _draw_pairs(top, table, pairs, readings)
    top.set_title(sector, fontsize=TEXT)
    for y, (column, value) in enumerate(options):
        taken = [x for x, one in enumerate(readings) if one[column] == value]
        bottom.plot(taken, [y] * len(taken), "|", color="black", markersize=4)
    bottom.set_ylim(len(options) - 0.5, -0.5)
    names = [
        f"{_NAMES.get(column, column)} {_short(value)}" for column, value in options
    ]
    bottom.set_yticks(range(len(options)), names, fontsize=TEXT - 1)
    return whole


def _readings(table: "pd.DataFrame") -> list[dict[str, object]]:
    """Every reading once, those first in which most comparisons hold."""
    held = table.groupby(list(READING), sort=False)["holds"].mean()
    held = held.sort_values(ascending=False, kind="stable")
    return [dict(zip(READING, key, strict=True)) for key in held.index]


def _frames(
    ax: "Axes | None",
    n_pairs: int,
    n_options: int,
    n_readings: int,
    pairs: Sequence[tuple[str, str]],
) -> "tuple[Axes, Axes, Axes]":
    """The whole, a panel for comparisons, and one for readings."""
    from matplotlib.figure import Figure

    high = 0.25 * n_pairs + 0.18 * n_options + 0.3
    if ax is None:
        beside = letters_wide(max(len(a) + len(b) + 3 for a, b in pairs))
        size = (beside + 0.09 * n_readings + 1.2, high + 0.4)
        ax = Figure(figsize=size, layout="constrained").add_subplot()
    ax.set_axis_off()
    share = 0.25 * n_pairs / high
    top = ax.inset_axes((0, 1 - share, 1, share))
    bottom = ax.inset_axes((0, 0, 1, 0.18 * n_options / high))
    for panel in (top, bottom):
        panel.set_xlim(-0.5, n_readings - 0.5)
        panel.set_xticks([])
        panel.tick_params(axis="y", length=0)
        panel.spines[:].set_visible(False)
    return ax, top, bottom


def _draw_pairs(
    panel: "Axes",
    table: "pd.DataFrame",
    pairs: Sequence[tuple[str, str]],
    readings: Sequence[dict[str, object]],
) -> None:
    """A cell for each comparison and reading, and the shares beside them."""
    from matplotlib.colors import ListedColormap

    places = {tuple(one.values()): x for x, one in enumerate(readings)}
    cells = np.full((len(pairs), len(readings)), np.nan)
    shares = np.zeros(len(pairs))
    for row in table.to_dict("records"):
        y = pairs.index((row["model_a"], row["model_b"]))
        x = places[tuple(row[column] for column in READING)]
        cells[y, x] = np.sign(row["difference"]) if row["holds"] else 0
        shares[y] = row["share"]
    panel.pcolormesh(
        np.arange(len(readings) + 1) - 0.5,
        np.arange(len(pairs) + 1) - 0.5,
        np.ma.masked_invalid(cells),
        cmap=ListedColormap([_LOWER, _NONE, _HIGHER]),
        vmin=-1,
        vmax=1,
        edgecolors="white",
        linewidth=0.5,
    )
    panel.set_ylim(len(pairs) - 0.5, -0.5)
    panel.set_yticks(range(len(pairs)), [f"{a} − {b}" for a, b in pairs], fontsize=TEXT)
    for y, share in enumerate(shares):
        panel.annotate(
            f"{share:.0%}",
            (1, y),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=TEXT,
            color=GREY,
        )


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
