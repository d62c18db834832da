"""What the figures that set networks side by side share: their numbers and heads."""

import logging
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from versa.comparison import Comparison
from versa.plotting.frames import NULL, NULL_LABEL, TEXT
from versa.wording import unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["best_layers", "column_ending", "draw_head", "draw_null", "null_handles"]

logger = logging.getLogger("versa")

# The tables end the calibrated columns (S - 1 degrees of freedom), not the paper's.
_ENDINGS = {"subjects": "_subjects", "splits": ""}


def best_layers(
    comparison: Comparison, method: str, sector: str | None
) -> tuple[dict[tuple[str, str], dict[Any, Any]], tuple[str, ...]]:
    """Cross-validated best layers by one method, and the sectors to draw.

    Parameters
    ----------
    comparison : Comparison
    method : str
    sector : str or None
        None for all.

    Returns
    -------
    best : dict of (str, str) to dict
        Of each model and sector, in the order of the results, its row of
        :meth:`versa.comparison.Comparison.best`.
    sectors : tuple of str

    Raises
    ------
    ValueError
        If the comparison has no such method or sector.
    """
    first = comparison.results[0]
    if method not in first.methods:
        raise ValueError(unknown("method", method, first.methods))
    if sector is not None and sector not in first.sectors:
        raise ValueError(unknown("sector", sector, first.sectors))
    sectors = first.sectors if sector is None else (sector,)
    best: dict[tuple[str, str], dict[Any, Any]] = {
        (row["model"], row["sector"]): row
        for row in comparison.best().to_dict("records")
        if row["method"] == method and row["sector"] in sectors
    }
    for (model, name), row in best.items():
        if not isfinite(row["r"]):
            logger.warning("%s has no score in %s; it is not drawn there.", model, name)
    return best, sectors


def column_ending(option: str, value: str) -> str:
    """How the columns with some degrees of freedom end.

    Parameters
    ----------
    option : str
        What the caller calls it.
    value : {"subjects", "splits"}

    Returns
    -------
    ending : str

    Raises
    ------
    ValueError
        If the value is neither.

    Examples
    --------
    >>> column_ending("df", "subjects")
    '_subjects'
    """
    if value not in _ENDINGS:
        raise ValueError(unknown(option, value, _ENDINGS))
    return _ENDINGS[value]


def draw_null(panel: "Axes", null: float) -> None:
    """Draw the score of an encoder that learned nothing; NaN draws nothing."""
    if isfinite(null):
        panel.axhline(null, label="null", **NULL)


def null_handles(drawn: bool) -> list[Any]:
    """Entry of the null in a legend, if it is drawn."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], label=NULL_LABEL, **NULL)] if drawn else []


def draw_head(
    whole: "Axes",
    comparison: Comparison,
    lines: Sequence[str],
    handles: Sequence[Any] = (),
    *,
    n_titles: int = 1,
) -> None:
    """Write dataset and n, some lines and a legend above a figure.

    Parameters
    ----------
    whole : Axes
        The figure; its panels have titles.
    comparison : Comparison
        What is drawn.
    lines : sequence of str
        What else must be said.
    handles : sequence of artists, optional
        Entries of the legend.
    n_titles : int, default=1
        Lines of the panels' titles.
    """
    from matplotlib.transforms import offset_copy

    figure: Any = whole.figure
    width = figure.get_size_inches()[0] * whole.get_position().width
    longest = max((len(handle.get_label()) for handle in handles), default=1)
    n_columns = max(1, int(width / (0.45 + 0.062 * longest)))
    above = 6 + 10 * n_titles
    whole.legend(
        handles=list(handles),
        title="\n".join([comparison.results[0].sample, *lines]),
        alignment="left",
        ncols=min(n_columns, max(1, len(handles))),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=offset_copy(whole.transAxes, figure, y=above, units="points"),
        borderaxespad=0,
        borderpad=0,
        frameon=False,
        fontsize=TEXT,
        title_fontsize=TEXT,
    )
