"""All figures of a comparison, written to a folder."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versa.comparison import Comparison, compare
from versa.plotting.comparisons import plot_accuracy, plot_comparison, plot_diets
from versa.plotting.figures import plain_text, save_figure
from versa.plotting.rdms import plot_mds, plot_rdm, plot_rdms
from versa.plotting.scores import plot_best, plot_layers, plot_null
from versa.result import FitResult
from versa.wording import listing, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_results"]

logger = logging.getLogger("versa")

_FORMATS = ("svg", "pdf", "png")
_ACCURACIES = ("top1_linear", "top1")  # the latter for networks trained with labels
_MDS_OF = ("versa-debiased", "versa", "rsa")  # the first that was run
_NAME_LENGTH = 80


def draw_results(
    results: FitResult | Sequence[FitResult],
    folder: str | os.PathLike[str],
    *,
    comparison: Comparison | None = None,
    format: str = "svg",
) -> list[Path]:
    """Draw all figures that apply to some results.

    Parameters
    ----------
    results : FitResult or sequence of FitResult
        Networks fitted to the same dataset.
    folder : path-like
        Made if absent. Files of earlier figures with the same names are replaced.
    comparison : Comparison, optional
        Of the same results: adds the matrix of differences and, if it has a baseline,
        the violins against it; its `test_train_ratio` holds for all intervals.
    format : {"svg", "pdf", "png"}, default="svg"
        Kind of the files.

    Returns
    -------
    paths : list of Path
        For every method ``layers_METHOD``, ``best_METHOD``, ``accuracy_METHOD``,
        ``diets_METHOD`` and ``differences_METHOD``; ``rdm_brain`` and ``mds_brain``;
        for every network ``leak_MODEL``, ``mds_MODEL`` and, for every sector,
        ``rdms_MODEL_SECTOR``. What does not apply is left out, and the log says why.

    Raises
    ------
    ValueError
        If the results cannot be compared, the comparison is of others, or the format
        is unknown.
    """
    if format not in _FORMATS:
        raise ValueError(unknown("format", format, _FORMATS))
    items = (results,) if isinstance(results, FitResult) else tuple(results)
    if comparison is None:
        names = [item.model for item in items if isinstance(item, FitResult)]
        compare(items, baseline=names[0] if names else None)  # refuses what must be
    elif [item.model for item in items] != [item.model for item in comparison.results]:
        raise ValueError(
            "comparison must be of the same results; got one of "
            f"{listing(item.model for item in comparison.results)}."
        )
    folder = Path(folder)
    paths: list[Path] = []
    taken: set[str] = set()
    for name, draw in _drawings(items, comparison):
        stem = _file_name(name, taken)
        try:
            with plain_text():
                paths.append(save_figure(draw(), folder / f"{stem}.{format}"))
        except ValueError as error:
            logger.info("figure %s left out: %s", stem, error)
    return paths


def _drawings(
    items: tuple[FitResult, ...], comparison: Comparison | None
) -> "Iterator[tuple[str, Callable[[], Axes]]]":
    """Name of each figure and how to draw it, which may refuse."""
    first = items[0]
    ratio = 1.0 if comparison is None else comparison.test_train_ratio
    for method in first.methods:
        options: dict[str, Any] = {"method": method, "test_train_ratio": ratio}
        yield f"layers_{method}", partial(plot_layers, items, **options)
        yield f"best_{method}", partial(plot_best, items, **options)
        yield (
            f"accuracy_{method}",
            partial(_accuracy, items, options),
        )
        yield f"diets_{method}", partial(_diets, comparison, method)
        yield f"differences_{method}", partial(_differences, comparison, method)
    yield "rdm_brain", partial(plot_rdm, first)
    yield "mds_brain", partial(plot_mds, first)
    shown = next(name for name in (*_MDS_OF, *first.methods) if name in first.methods)
    for item in items:
        leak = partial(plot_null, item, test_train_ratio=ratio)
        yield f"leak_{item.model}", leak
        yield f"mds_{item.model}", partial(plot_mds, item, what=shown)
        for sector in item.sectors:
            yield f"rdms_{item.model}_{sector}", partial(plot_rdms, item, sector=sector)


def _accuracy(items: tuple[FitResult, ...], options: dict[str, Any]) -> "Axes":
    cards = [item.provenance["model"].get("card") or {} for item in items]
    held = [any(card.get(kind) is not None for kind in _ACCURACIES) for card in cards]
    if sum(held) < 2:
        raise ValueError("fewer than two networks have a published accuracy.")
    return plot_accuracy(items, accuracy=_ACCURACIES, **options)


def _diets(comparison: Comparison | None, method: str) -> "Axes":
    if comparison is None or comparison.baseline is None:
        raise ValueError("there is no comparison with a baseline.")
    return plot_diets(
        comparison.results,
        baseline=comparison.baseline,
        method=method,
        test_train_ratio=comparison.test_train_ratio,
    )


def _differences(comparison: Comparison | None, method: str) -> "Axes":
    if comparison is None:
        raise ValueError("there is no comparison.")
    return plot_comparison(comparison, method=method)


def _file_name(name: str, taken: set[str]) -> str:
    """A name that every file system takes and no other figure has."""
    plain = re.sub(r"[^\w.=-]+", "-", name)[:_NAME_LENGTH]
    stem, n = plain, 1
    while stem.lower() in taken:
        n += 1
        stem = f"{plain}-{n}"
    taken.add(stem.lower())
    return stem
