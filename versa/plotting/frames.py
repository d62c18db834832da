"""What the figures of scores share: levels, scales, names of layers, the heading."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.plotting.figures import panels
from versa.result import FitResult
from versa.stats.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "INK",
    "NULL",
    "NULL_LABEL",
    "SMALL",
    "TEXT",
    "draw_levels",
    "finish_panel",
    "head",
    "head_height",
    "letters_wide",
    "name_layers",
    "panel_width",
    "rows_of_panels",
    "share_scores",
    "shorten",
]

TEXT, SMALL = 8.0, 7.0
"""Sizes of the text of a figure, in points."""
INK = "#444444"
"""Colour of small print."""

_BAND = "#DDDDDD"
_CEILING = "#777777"
NULL: dict[str, Any] = {
    "color": "black",
    "linestyle": (0, (4, 2)),
    "linewidth": 1.2,
    "zorder": 1.5,
}
"""Line of the score of an encoder that learned nothing."""
NULL_LABEL = "null: an encoder that learned nothing"
"""Its name in a legend."""
_CEILING_LABEL = "noise ceiling, 95% interval"
_MOST_NAMES = 14  # of layers that are written under a panel
_NAME_LENGTH = 34
_LAYER_LENGTH = 24
_LETTER = 0.063  # inches of a letter of the text, on average
_LINE = 0.165  # inches


def draw_levels(span: Any, line: Any, ceiling: Interval, null: float) -> list[Any]:
    """The ceiling and, where there is one, the null; their legend entries."""
    drawn: list[Any] = []
    if np.isfinite(ceiling.mean):
        middle = line(
            ceiling.mean, color=_CEILING, linewidth=1.0, zorder=0.5,
            label=_CEILING_LABEL,
        )  # fmt: skip
        drawn.append(middle)
        if np.isfinite(ceiling.low):
            ends = (ceiling.low, ceiling.high)
            drawn[0] = (span(*ends, color=_BAND, linewidth=0, zorder=0), middle)
    if np.isfinite(null):
        drawn.append(line(null, label=NULL_LABEL, **NULL))
    return drawn


def _label(handle: Any) -> str:
    """Text of a legend entry, which may be drawn as several things."""
    return (handle[-1] if isinstance(handle, tuple) else handle).get_label()


def finish_panel(part: "Axes", title: str) -> None:
    """The frame of a panel, and its sector as the title."""
    part.set_title(title, loc="left", fontsize=TEXT, fontweight="bold")
    part.spines[["top", "right"]].set_visible(False)
    part.tick_params(labelsize=SMALL, length=2.5)


def share_scores(
    parts: Sequence["Axes"], axis: str, label: str, *, from_zero: bool
) -> None:
    """One scale of scores, up to 1, for panels in a row; labels at the first alone."""
    lowest = min(part.dataLim.min["xy".index(axis)] for part in parts)
    floor = np.floor(10 * (lowest - 0.02)) / 10 if np.isfinite(lowest) else 0.0
    if from_zero:
        floor = min(0.0, floor)
    for part in parts:
        part.set(**{f"{axis}lim": (floor, 1.02)})
        if floor < 0:
            zero = part.axhline if axis == "y" else part.axvline
            zero(0, color=_CEILING, linewidth=0.6, zorder=0.5)
    parts[0].set_ylabel(label, fontsize=TEXT)
    for part in parts[1:]:
        part.tick_params(axis="y", labelleft=False)


def name_layers(part: "Axes", names: Sequence[str]) -> None:
    """Names under the ticks; of many layers only every second, third, ..."""
    step = -(-len(names) // _MOST_NAMES)
    shown = range(0, len(names), step)
    part.set_xticks(
        shown,
        [shorten(names[n], _LAYER_LENGTH) for n in shown],
        rotation=90,
        fontsize=SMALL,
    )
    part.set_xticks(range(len(names)), minor=True)
    part.tick_params(axis="x", which="minor", length=1.5)
    part.set_xlim(-0.4, len(names) - 0.6)


def shorten(name: str, length: int = _NAME_LENGTH) -> str:
    """A name without its middle, if it is long."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def letters_wide(n_letters: int) -> float:
    """Inches of a text of so many letters."""
    return _LETTER * n_letters


def panel_width(n_panels: int) -> float:
    """Inches of a panel: three fit the width of a page, one fits a column."""
    return 3.5 if n_panels == 1 else max(7.2 / n_panels, 2.2)


def rows_of_panels(
    ax: "Axes | None", items: Sequence[FitResult], n_columns: int, shared: bool
) -> tuple["Axes", list[list["Axes"]]]:
    """A row of panels for each network, with room for the names of the layers."""
    longest = max(
        min(len(name), _LAYER_LENGTH) for item in items for name in item.layer_names
    )
    gap = 0.3 if shared else 0.4 + letters_wide(longest)  # inches
    high, n_rows = 1.7, len(items)
    total = n_rows * high + (n_rows - 1) * gap
    width = panel_width(n_columns)
    size = (width, total + 1.2 + head_height(["versa"] * 3, width * n_columns))
    if n_rows == 1:
        ax, parts = panels(ax, n_columns, size=size)
        return ax, [parts]
    ax, _ = panels(ax, 1, size=(width * n_columns, size[1]))
    ax.set_axis_off()
    rows = []
    for n in range(n_rows):
        bottom = (n_rows - 1 - n) * (high + gap) / total
        row = ax.inset_axes((0.0, bottom, 1.0, high / total))
        rows.append(panels(row, n_columns)[1])
    return ax, rows


def _columns(labels: Iterable[str], width: float) -> int:
    """How many columns of a legend fit into a width in inches."""
    longest = max(map(len, labels))
    return max(1, int(width / (0.5 + _LETTER * longest)))


def head_height(models: Iterable[str], width: float) -> float:
    """Inches of what stands above the panels of a new figure."""
    labels = [_CEILING_LABEL, NULL_LABEL, *models]
    n_lines = sum(-(-n_letters // (width / _LETTER)) for n_letters in (64, 88))
    return _LINE * (n_lines + 1 - -len(labels) // _columns(labels, width))


def head(
    ax: "Axes",
    handles: Sequence[Any],
    result: FitResult,
    reading: str,
    margin: float = 0.5,
) -> None:
    """Legend above the panels, under lines with the dataset, its n and how to read it.

    Of entries with the same text the first is shown.
    """
    from matplotlib.transforms import ScaledTranslation

    width = ax.get_window_extent().width / ax.figure.dpi
    room = max(1.0, 1.24 * width - margin)
    lines = [
        line
        for text in (result.sample, reading)
        for line in textwrap.wrap(text, max(20, int(room / _LETTER)))
    ]
    entries: dict[str, Any] = {}
    for handle in handles:
        entries.setdefault(_label(handle), handle)
    above = ScaledTranslation(0, 19 / 72, ax.figure.dpi_scale_trans)  # the titles
    ax.legend(
        list(entries.values()),
        list(entries),
        title="\n".join(lines),
        alignment="left",
        ncols=min(len(entries), _columns(entries, room)),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=ax.transAxes + above,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.2,
        frameon=False,
        fontsize=TEXT,
        title_fontsize=TEXT,
    )
