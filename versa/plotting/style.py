"""What all figures share: colours and markers, panels, headings, violins, files."""

import logging
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from versa.cache import atomic_write
from versa.comparison import Comparison, compare
from versa.result import FitResult
from versa.stats.intervals import Interval
from versa.wording import listing, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger("versa")

TEXT, SMALL = 8.0, 7.0  # points
INK, GREY, BAND = "#444444", "#777777", "#DDDDDD"
METHOD_WORDS = {
    "versa": "veRSA",
    "versa-debiased": "debiased veRSA",
    "rsa": "classic RSA",
}
NULL_LABEL = "null: intercept-only encoder"
CEILING_LABEL = "noise ceiling, 95% interval"
CHANCE_LABEL = "chance: 95% of permutations of the images"

# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/: told apart in every common form
# of colour blindness.
_SECTORS = {"EarlyV": "#0072B2", "pOTC": "#E69F00", "aOTC": "#009E73"}
_OTHER_SECTORS = ("#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_MODELS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D31",
)
_MARKERS = ("o", "s", "^", "D")
_LINES = ("-", "--", ":", "-.")
_FORMATS = (".png", ".svg", ".pdf")
# Endings of the columns of the tables: degrees of freedom, or a wider population.
_DF = {"subjects": "_subjects", "splits": "", "images": "_images", "both": "_both"}
_MOST_NAMES = 14  # of layers that are written under a panel
_NAME_LENGTH = 34
_LAYER_LENGTH = 24
_LETTER = 0.063  # inches of a letter of the text, on average
_LINE = 0.165  # inches
_NEW = "versa"  # label of the figures that are made here
_REACH = 1.5  # interquartile ranges beyond the quartiles that a violin shows


def sector_colours(names: Iterable[str]) -> dict[str, str]:
    """The colour of each sector, the same in every figure.

    >>> sector_colours(["pOTC", "LOC"])
    {'pOTC': '#E69F00', 'LOC': '#CC79A7'}
    """
    unique = list(dict.fromkeys(names))
    others = [name for name in unique if name not in _SECTORS]
    n_colours = len(_OTHER_SECTORS)
    if len(others) > n_colours:
        logger.warning(
            "%d sectors share the %d colours of the palette.", len(others), n_colours
        )
    own = {name: _OTHER_SECTORS[n % n_colours] for n, name in enumerate(others)}
    return {name: _SECTORS.get(name) or own[name] for name in unique}


class ModelStyle(NamedTuple):
    """How one network is drawn in every figure."""

    colour: str  # "#rrggbb"
    marker: str
    line: str


def model_styles(names: Iterable[str]) -> dict[str, ModelStyle]:
    """Colour, marker and line of each network; none are alike among the first 32.

    >>> model_styles(["IPCL", "supervised"])["supervised"].colour
    '#D55E00'
    """
    n_colours = len(_MODELS)
    return {
        name: ModelStyle(
            _MODELS[n % n_colours],
            _MARKERS[n // n_colours % len(_MARKERS)],
            _LINES[n // n_colours % len(_LINES)],
        )
        for n, name in enumerate(dict.fromkeys(names))
    }


# What is drawn: a comparison, its sectors, the rows of its tables.


def as_comparison(
    given: Comparison | FitResult | Sequence[FitResult], baseline: str | None = None
) -> Comparison:
    """The comparison given, or one of these results with the default options."""
    if isinstance(given, Comparison):
        return given
    return compare(given, baseline=baseline)  # type: ignore[arg-type]


def sectors_to_draw(
    comparison: Comparison,
    methods: Sequence[str],
    sector: str | None,
    df: str = "subjects",
) -> tuple[str, ...]:
    """One sector, or all; refuses names that the comparison does not have."""
    first = comparison.results[0]
    for method in methods:
        if method not in first.methods:
            raise ValueError(unknown("method", method, first.methods))
    if df not in _DF:
        raise ValueError(unknown("df", df, _DF))
    if df in ("images", "both") and df != comparison.generalize:
        raise ValueError(
            f"df must be 'subjects' or 'splits' for this comparison; got {df!r}. Pass "
            f"generalize={df!r} to versa.compare."
        )
    if sector is not None and sector not in first.sectors:
        raise ValueError(unknown("sector", sector, first.sectors))
    return first.sectors if sector is None else (sector,)


def select(table: "pd.DataFrame", **values: object) -> "pd.DataFrame":
    """The rows in which every named column has the given value."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def ci_columns(df: str) -> tuple[str, str]:
    """Columns of the tables with the ends of the intervals."""
    return f"ci_low{_DF[df]}", f"ci_high{_DF[df]}"


def with_df(column: str, df: str) -> str:
    """The column of the tests with these degrees of freedom, such as `p_subjects`."""
    return f"{column}{_DF[df]}"


def df_text(result: FitResult, df: str) -> str:
    """Degrees of freedom in words, which are not broken over lines."""
    n_splits = result.splits.n_splits
    if df == "subjects":
        text = f"S − 1 = {len(result.subjects) - 1} df"
    elif df == "images":
        text = f"new images, {len(result.stimuli) - 1} df"
    elif df == "both":
        fewer = min(len(result.subjects), len(result.stimuli))
        text = f"new subjects and images, {fewer - 1} df"
    else:
        text = f"J − 1 = {2 * n_splits - 1} df"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def interval_line(result: FitResult, what: str, df: str) -> str:
    """What the bars or bands of a figure are; of one subject, why there are none."""
    if result.single and df != "images":
        return "one subject: no noise ceiling, no intervals, no tests"
    return f"{what}: 95% intervals ({df_text(result, df)})"


def best_words(result: FitResult) -> str:
    """How the best layer was chosen."""
    return (
        "best layer (the highest score, not cross-validated)"
        if result.single
        else "cross-validated best layer"
    )


# Panels and their frames.


def panels(
    ax: "Axes | None", n_panels: int, *, size: tuple[float, float] = (3.4, 3.0)
) -> "tuple[Axes, list[Axes]]":
    """Divide an Axes, or a new figure of `size` inches a panel, into a row of panels.

    The whole comes back empty, without a frame; of one panel it is the panel.
    """
    from matplotlib.figure import Figure

    if ax is None:
        figure = Figure(figsize=(size[0] * n_panels, size[1]), layout="constrained")
        figure.set_label(_NEW)
        ax = figure.add_subplot()
    if n_panels == 1:
        return ax, [ax]
    ax.set_axis_off()
    gap = 0.18 / n_panels
    width = (1 - gap * (n_panels - 1)) / n_panels
    parts = [
        ax.inset_axes((n * (width + gap), 0.0, width, 1.0)) for n in range(n_panels)
    ]
    return ax, parts


def panel_width(n_panels: int) -> float:
    """Inches of a panel: three fit the width of a page, one fits a column."""
    return 3.5 if n_panels == 1 else max(7.2 / n_panels, 2.2)


def rows_of_panels(
    ax: "Axes | None",
    items: Sequence[FitResult],
    n_columns: int,
    *,
    shared: bool,
) -> tuple["Axes", list[list["Axes"]]]:
    """A row of panels for each network, with room for the names of the layers.

    They are shared if all networks have the same.
    """
    longest = max(
        min(len(name), _LAYER_LENGTH) for item in items for name in item.layer_names
    )
    gap = 0.3 if shared else 0.4 + letters_wide(longest)  # inches
    high, n_rows = 1.7, len(items)
    total = n_rows * high + (n_rows - 1) * gap
    width = panel_width(n_columns)
    size = (width, total + 1.2)
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


def finish_panel(panel: "Axes", title: str) -> None:
    """The frame of a panel, and its sector as the title."""
    panel.set_title(title, loc="left", fontsize=TEXT, fontweight="bold")
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=SMALL, length=2.5)


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
            zero(0, color=GREY, linewidth=0.6, zorder=0.5)
    parts[0].set_ylabel(label, fontsize=TEXT)
    for part in parts[1:]:
        part.tick_params(axis="y", labelleft=False)


def name_layers(panel: "Axes", names: Sequence[str]) -> None:
    """Names under the ticks; of many layers only every second, third, ..."""
    step = -(-len(names) // _MOST_NAMES)
    shown = range(0, len(names), step)
    panel.set_xticks(
        shown,
        [shorten(names[n], _LAYER_LENGTH) for n in shown],
        rotation=90,
        fontsize=SMALL,
    )
    panel.set_xticks(range(len(names)), minor=True)
    panel.tick_params(axis="x", which="minor", length=1.5)
    panel.set_xlim(-0.4, len(names) - 0.6)


def shorten(name: str, length: int = _NAME_LENGTH) -> str:
    """A name without its middle, if it is long."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def letters_wide(n_letters: int) -> float:
    """Inches of a text of so many letters."""
    return _LETTER * n_letters


# Heading: lines of text and a legend above the panels.


def draw_head(
    ax: "Axes",
    result: FitResult,
    lines: Sequence[str],
    handles: Sequence[Any] = (),
    *,
    margin: float = 0.5,
    title_lines: int = 1,
) -> None:
    """Legend above the panels, under lines with the dataset, its n and how to read it.

    A figure of :func:`panels` becomes higher by what they take.
    Of handles with the same label the first is shown. `margin` is what the labels
    beside the panels take, in inches; the panels have titles of `title_lines` lines.
    """
    from matplotlib.transforms import ScaledTranslation

    # the Axes is not laid out yet, and becomes wider
    room = max(1.0, 1.24 * ax.get_window_extent().width / ax.figure.dpi - margin)
    n_letters = max(20, int(room / _LETTER))
    wrapped = [
        line
        for text in (result.sample, *lines)
        for line in textwrap.wrap(text, n_letters, break_on_hyphens=False)
    ]
    entries: dict[str, Any] = {}
    for handle in handles:  # a tuple is several things drawn for one entry
        last = handle[-1] if isinstance(handle, tuple) else handle
        entries.setdefault(last.get_label(), handle)
    n_columns = max(1, min(len(entries), _columns(entries, room)))
    figure: Any = ax.figure
    if figure.get_label() == _NEW:
        n_rows = len(wrapped) + -(-len(entries) // n_columns) + 1
        figure.set_figheight(figure.get_figheight() + _LINE * n_rows)
    above = ScaledTranslation(0, (8 + 11 * title_lines) / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        list(entries.values()),
        list(entries),
        title="\n".join(wrapped),
        alignment="left",
        ncols=n_columns,
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


def _columns(labels: Iterable[str], width: float) -> int:
    """How many columns of a legend fit into a width in inches."""
    longest = max(map(len, labels), default=1)
    return max(1, int(width / (0.5 + _LETTER * longest)))


# Levels and violins.


def score_label(method: str) -> str:
    """What an axis of scores shows."""
    return f"Pearson r ({METHOD_WORDS.get(method, method)})"


def draw_null(panel: "Axes", null: float, axis: str = "y") -> list[Any]:
    """The score of an intercept-only encoder; NaN draws nothing."""
    if not np.isfinite(null):
        return []
    line = panel.axhline if axis == "y" else panel.axvline
    style: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.2}
    return [line(null, label=NULL_LABEL, color="black", zorder=1.5, **style)]


def draw_chance(
    panel: "Axes", places: np.ndarray, permuted: np.ndarray, axis: str = "y"
) -> list[Any]:
    """Where 95% of the permuted scores (n_places, n_permutations), as Fisher z, are.

    At places along the other axis, or from the first to the second of one row.
    """
    if np.isnan(permuted).all():
        return []
    low, high = np.tanh(np.nanquantile(permuted, [0.025, 0.975], axis=-1))
    look: dict[str, Any] = {"facecolor": "#EFEFEF", "edgecolor": "#CCCCCC", "lw": 0}
    fill = panel.fill_between if axis == "y" else panel.fill_betweenx
    return [
        fill(places, low, high, hatch="////", zorder=0.1, label=CHANCE_LABEL, **look)
    ]


def draw_levels(panel: "Axes", axis: str, ceiling: Interval, null: float) -> list[Any]:
    """The noise ceiling and, where there is one, the null; their legend entries."""
    span = panel.axhspan if axis == "y" else panel.axvspan
    line = panel.axhline if axis == "y" else panel.axvline
    drawn: list[Any] = []
    if np.isfinite(ceiling.mean):
        middle = line(
            ceiling.mean, color=GREY, linewidth=1.0, zorder=0.5, label=CEILING_LABEL
        )
        drawn.append(middle)
        if np.isfinite(ceiling.low):
            ends = (ceiling.low, ceiling.high)
            drawn[0] = (span(*ends, color=BAND, linewidth=0, zorder=0), middle)
    return drawn + draw_null(panel, null, axis)


def violin_ends(values: np.ndarray) -> tuple[float, float]:
    """The outermost values within 1.5 interquartile ranges of the quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = _REACH * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    return float(inside.min()), float(inside.max())


def draw_violin(
    panel: "Axes", axis: str, place: int, values: np.ndarray, colour: str
) -> None:
    """The density of scores on an axis, on both sides of a place, and their median."""
    from scipy.stats import gaussian_kde

    vertical = axis == "y"
    if not np.isfinite(values).all():
        kind: dict[str, Any] = {"fontsize": SMALL, "color": INK}
        if vertical:
            where = panel.get_xaxis_transform()
            panel.text(
                place, 0.02, "not\ndefined", transform=where, ha="center", **kind
            )
        else:
            where = panel.get_yaxis_transform()
            panel.text(0.02, place, "not defined", transform=where, va="center", **kind)
        return
    if values.size == 1:  # of one subject; the mean is drawn by the caller
        return
    at, width = np.linspace(*violin_ends(values), 200), np.full(200, 0.2)
    if np.ptp(values) >= 1e-9:  # else there is no density
        width = gaussian_kde(values)(at)
        width /= width.max()
    half = 0.38 * width
    fill = panel.fill_betweenx if vertical else panel.fill_between
    fill(at, place - half, place + half, fc=colour, ec=colour, alpha=0.65, lw=0.8)
    middle = float(np.median(values))
    reach = float(np.interp(middle, at, half))
    ends = [middle, middle], [place - reach, place + reach]
    panel.plot(*(ends[::-1] if vertical else ends), color="white", lw=1.0)


# Files.


@contextmanager
def plain_text() -> Iterator[None]:
    """Draw and write figures in which no name is read as a formula.

    matplotlib takes what is between two dollar signs for one, and networks and stimuli
    may be called anything.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def save_figure(figure: "Figure | Axes", path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure to a file, atomically.

    Parameters
    ----------
    figure : Figure or Axes
        What to write; of an Axes its figure.
    path : str or Path
        A ``.png``, ``.svg`` or ``.pdf`` file. The same figure gives the same bytes.
    dpi : int, default=200
        Points per inch of a ``.png`` file.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    ValueError
        If the file has another ending.
    """
    import matplotlib

    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"figures must be written as {listing(_FORMATS)}; got {path.name!r}."
        )
    whole: Any = getattr(figure, "figure", figure)
    # a date or a random mark would make equal figures differ
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "versa"}), atomic_write(path) as file:
        whole.savefig(
            file,
            dpi=dpi,
            bbox_inches="tight",
            facecolor="white",
            metadata=dates.get(path.suffix.lower()),
        )
    return path
