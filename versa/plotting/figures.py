"""What all figures share: the colours of the sectors, and how files are written."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from versa.cache import atomic_write
from versa.wording import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ModelStyle",
    "model_styles",
    "panels",
    "plain_text",
    "save_figure",
    "sector_colours",
]

logger = logging.getLogger("versa")

# Okabe & Ito's palette, told apart in every common form of colour blindness.
_PALETTE = {
    "EarlyV": "#0072B2",
    "pOTC": "#E69F00",
    "aOTC": "#009E73",
}
_OTHERS = ("#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
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


def sector_colours(names: Iterable[str]) -> dict[str, str]:
    """The colour of each sector, the same in every figure.

    Parameters
    ----------
    names : iterable of str
        Names of sectors. EarlyV, pOTC and aOTC have colours of their own; others get
        the remaining five of the palette in their order.

    Returns
    -------
    colours : dict of str to str
        As ``"#rrggbb"``.

    References
    ----------
    Okabe & Ito (2008), https://jfly.uni-koeln.de/color/

    Examples
    --------
    >>> sector_colours(["pOTC", "LOC"])
    {'pOTC': '#E69F00', 'LOC': '#CC79A7'}
    """
    unique = list(dict.fromkeys(names))
    others = [name for name in unique if name not in _PALETTE]
    if len(others) > len(_OTHERS):
        logger.warning(
            "%d sectors share the %d colours of the palette.",
            len(others),
            len(_OTHERS),
        )
    own = {name: _OTHERS[n % len(_OTHERS)] for n, name in enumerate(others)}
    return {name: _PALETTE.get(name) or own[name] for name in unique}


class ModelStyle(NamedTuple):
    """How one network is drawn in every figure."""

    colour: str  # "#rrggbb"
    marker: str
    line: str


def model_styles(names: Iterable[str]) -> dict[str, ModelStyle]:
    """Colour, marker and line of each network, the same in every figure.

    Parameters
    ----------
    names : iterable of str
        Networks, in the order in which they are compared.

    Returns
    -------
    styles : dict of str to ModelStyle
        The first eight differ in colour; later ones repeat the colours with another
        marker and line, so that none are drawn alike among the first 32.

    Examples
    --------
    >>> model_styles(["IPCL", "supervised"])["supervised"].colour
    '#D55E00'
    """
    unique = list(dict.fromkeys(names))
    n_colours = len(_MODELS)
    return {
        name: ModelStyle(
            _MODELS[n % n_colours],
            _MARKERS[n // n_colours % len(_MARKERS)],
            _LINES[n // n_colours % len(_LINES)],
        )
        for n, name in enumerate(unique)
    }


@contextmanager
def plain_text() -> Iterator[None]:
    """Draw and write figures in which no name is read as a formula.

    matplotlib takes what stands between two dollar signs for one, and networks and
    stimuli may be called anything.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def panels(
    ax: "Axes | None", n_panels: int, *, size: tuple[float, float] = (3.4, 3.0)
) -> "tuple[Axes, list[Axes]]":
    """Divide an Axes into panels side by side.

    Parameters
    ----------
    ax : Axes or None
        Where to draw; a new figure, which is no figure of pyplot, if None.
    n_panels : int
        How many panels.
    size : (float, float)
        Width and height of a panel in inches, for a new figure.

    Returns
    -------
    ax : Axes
        The whole. It is empty and has no frame if there are several panels.
    parts : list of Axes
        The panels; `ax` itself if there is one.
    """
    from matplotlib.figure import Figure

    if ax is None:
        figure = Figure(figsize=(size[0] * n_panels, size[1]), layout="constrained")
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


def save_figure(figure: Any, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure to a file, whole or not at all.

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
        If the file is of another kind.
    """
    import matplotlib

    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"figures must be written as {listing(_FORMATS)}; got {path.name!r}."
        )
    figure = getattr(figure, "figure", figure)
    # a date or a random mark would make equal figures differ
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "versa"}), atomic_write(path) as file:
        figure.savefig(
            file,
            dpi=dpi,
            bbox_inches="tight",
            facecolor="white",
            metadata=dates.get(path.suffix.lower()),
        )
    return path
