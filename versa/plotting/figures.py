"""What all figures share: the colours of the sectors, and how files are written."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from versa.cache import atomic_write
from versa.wording import listing

__all__ = ["save_figure", "sector_colours"]

logger = logging.getLogger("versa")

# Okabe & Ito's palette, told apart in every common form of colour blindness.
_PALETTE = {
    "EarlyV": "#0072B2",
    "pOTC": "#E69F00",
    "aOTC": "#009E73",
}
_OTHERS = ("#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
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
