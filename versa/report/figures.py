"""The figures of a report: which ones apply, and each as an address that holds it."""

import io
import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from versa.comparison import Comparison
from versa.plotting.figures import plain_text, save_figure
from versa.report.files import data_address, picture_address
from versa.report.prose import headline_method
from versa.result import FitResult
from versa.wording import listing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Figure", "draw_figures"]

logger = logging.getLogger("versa")

_LARGEST_SVG = 90_000  # bytes; a larger drawing goes in as pixels
_DPI = 160
_WIDEST = 1800  # points across a picture
_COLOURS = 160  # of a picture in pixels; a third of the bytes, and no difference to see
_PIXELS_PER_INCH = 120  # on the screen, a quarter more than on paper
_WIDTH = re.compile(r'<svg[^>]* width="([\d.]+)pt"')
_MOST_NULLS = 4  # networks; each is a row of panels
_ACCURACIES = ("top1_linear", "top1")  # the latter for networks trained with labels


class Figure(NamedTuple):
    """A figure of the page."""

    title: str
    caption: str
    address: str  # data:image/...; empty if the figure was left out
    width: int  # in CSS pixels
    left_out: str  # why


class _Subject(NamedTuple):
    """What is drawn."""

    comparison: Comparison
    method: str
    top: FitResult  # network with the highest score in the last sector

    @property
    def results(self) -> tuple[FitResult, ...]:
        """Of all networks."""
        return self.comparison.results


class _Drawing(NamedTuple):
    """A figure that can be drawn."""

    title: str
    caption: Callable[[_Subject], str]
    unfit: Callable[[_Subject], str]  # why not; empty if it applies
    draw: "Callable[[_Subject], Axes]"


def draw_figures(comparison: Comparison, best: "pd.DataFrame") -> list[Figure]:
    """Draw all figures that apply.

    Parameters
    ----------
    comparison : Comparison
    best : DataFrame
        Of :meth:`Comparison.best`.

    Returns
    -------
    figures : list of Figure
        Those left out are among them, with the reason, which is logged, too.
    """
    method = headline_method(comparison.results[0])
    subject = _Subject(comparison, method, _top(comparison, method, best))
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for drawing in _DRAWINGS:
            reason, address, width = drawing.unfit(subject), "", 0
            if not reason:
                try:
                    with plain_text():
                        address, width = _smaller(drawing.draw(subject), Path(folder))
                except ValueError as error:
                    reason = str(error)
            if reason:
                logger.info("figure left out (%s): %s", drawing.title, reason)
            caption = f"{drawing.caption(subject)} {_sizes(comparison)}"
            figures.append(Figure(drawing.title, caption, address, width, reason))
    return figures


def _smaller(ax: "Axes", folder: Path) -> tuple[str, int]:
    """As lines if they are few, else as pixels; and how wide it is shown."""
    from PIL import Image

    svg = save_figure(ax, folder / "figure.svg")
    head = svg.read_text("utf-8").partition("<defs>")[0]
    inches = float(_WIDTH.findall(head)[0]) / 72  # as matplotlib always writes it
    width = round(inches * _PIXELS_PER_INCH)
    if svg.stat().st_size <= _LARGEST_SVG:
        return picture_address(svg), width
    dpi = round(min(_DPI, _WIDEST / inches))
    with Image.open(save_figure(ax, folder / "figure.png", dpi=dpi)) as opened:
        fewer = opened.convert("RGB").quantize(_COLOURS)
    content = io.BytesIO()
    fewer.save(content, "PNG", optimize=True)
    return data_address(content.getvalue(), "image/png"), width


def _sizes(comparison: Comparison) -> str:
    first = comparison.results[0]
    return (
        f"Dataset {first.dataset}; {len(first.subjects)} subjects, "
        f"{len(first.stimuli)} images, {first.splits.n_splits} half-splits."
    )


def _top(comparison: Comparison, method: str, best: "pd.DataFrame") -> FitResult:
    first = comparison.results[0]
    rows = best[(best["method"] == method) & (best["sector"] == first.sectors[-1])]
    scores = rows.set_index("model")["r"]
    name = scores.idxmax() if scores.notna().any() else first.model
    return next(result for result in comparison.results if result.model == name)


def _with_accuracy(subject: _Subject) -> list[str]:
    """Networks that have a published accuracy on their card."""
    return [
        result.model
        for result in subject.results
        if any(
            (result.provenance["model"].get("card") or {}).get(kind) is not None
            for kind in _ACCURACIES
        )
    ]


def _always(_: _Subject) -> str:
    return ""


def _without_leak(subject: _Subject) -> str:
    absent = {"versa", "versa-debiased"} - set(subject.results[0].methods)
    return "it needs the methods versa and versa-debiased." if absent else ""


def _without_pairs(subject: _Subject) -> str:
    return "" if len(subject.comparison.table) else "there is one network only."


def _without_baseline(subject: _Subject) -> str:
    if subject.comparison.baseline is None:
        return "no baseline was named."
    return _without_pairs(subject)


def _without_accuracy(subject: _Subject) -> str:
    few = len(_with_accuracy(subject)) < 2
    return "fewer than two networks have a published accuracy." if few else ""


def _without_rdms(subject: _Subject) -> str:
    held = {"brain_rdm", "model_rdm"} <= set(subject.top.data)
    return "" if held else "the results hold no RDMs."


def _draw_layers(subject: _Subject) -> "Axes":
    from versa.plotting.scores import plot_layers

    return plot_layers(
        subject.results,
        method=subject.method,
        test_train_ratio=subject.comparison.test_train_ratio,
    )


def _draw_best(subject: _Subject) -> "Axes":
    from versa.plotting.scores import plot_best

    return plot_best(subject.results, method=subject.method)


def _draw_null(subject: _Subject) -> "Axes":
    from versa.plotting.scores import plot_null

    return plot_null(subject.results[:_MOST_NULLS])


def _draw_comparison(subject: _Subject) -> "Axes":
    from versa.plotting.comparisons import plot_comparison

    return plot_comparison(subject.comparison, method=subject.method)


def _draw_diets(subject: _Subject) -> "Axes":
    from versa.plotting.comparisons import plot_diets

    return plot_diets(
        subject.results,
        baseline=str(subject.comparison.baseline),
        method=subject.method,
        test_train_ratio=subject.comparison.test_train_ratio,
    )


def _draw_accuracy(subject: _Subject) -> "Axes":
    from versa.plotting.comparisons import plot_accuracy

    return plot_accuracy(
        subject.results,
        method=subject.method,
        accuracy=_ACCURACIES,
        test_train_ratio=subject.comparison.test_train_ratio,
    )


def _draw_rdms(subject: _Subject) -> "Axes":
    from versa.plotting.rdms import plot_rdms

    methods = list(dict.fromkeys([subject.method, *subject.top.methods]))[:2]
    if "rsa" in subject.top.methods:
        methods = list(dict.fromkeys([subject.method, "rsa"]))
    return plot_rdms(subject.top, sector=subject.top.sectors[-1], methods=methods)


def _draw_mds(subject: _Subject) -> "Axes":
    from versa.plotting.rdms import plot_mds

    return plot_mds(subject.top, what="brain")


def _accuracy_caption(subject: _Subject) -> str:
    drawn = _with_accuracy(subject)
    text = (
        "Accuracy on ImageNet, as the cards give it (of a linear read-out, or of the "
        "network's own classifier where it was trained with labels), against the score "
        f"of the best layer by the method {subject.method}; {len(drawn)} of "
        f"{len(subject.results)} networks."
    )
    others = [r.model for r in subject.results if r.model not in drawn]
    return text + (f" Without accuracy: {listing(others)}." if others else "")


def _null_caption(subject: _Subject) -> str:
    text = (
        "The paper's score (versa), the score of an encoder that learned nothing (the "
        "null) and the score that is left when the leak is closed (versa-debiased), "
        "layer by layer."
    )
    n_networks = len(subject.results)
    if n_networks > _MOST_NULLS:
        text += f" The first {_MOST_NULLS} of {n_networks} networks."
    return text


_DRAWINGS = (
    _Drawing(
        "Score of every layer",
        lambda s: (
            f"Mean r of each layer by the method {s.method}, from the first "
            "to the last, against the noise ceiling."
        ),
        _always,
        _draw_layers,
    ),
    _Drawing(
        "Best layers",
        lambda s: (
            "Scores of the cross-validated best layers in both halves of all "
            f"half-splits, by the method {s.method}."
        ),
        _always,
        _draw_best,
    ),
    _Drawing(
        "How much of the score is the leak", _null_caption, _without_leak, _draw_null
    ),
    _Drawing(
        "All networks against each other",
        lambda s: (
            f"Differences of the mean scores by the method {s.method}, row minus "
            "column, and which are significant after Bonferroni correction (family of "
            f"{s.comparison.family}, S − 1 degrees of freedom)."
        ),
        _without_pairs,
        _draw_comparison,
    ),
    _Drawing(
        "Networks against the baseline",
        lambda s: (
            "Scores of the cross-validated best layers by the method "
            f"{s.method}; the band is that of {s.comparison.baseline}."
        ),
        _without_baseline,
        _draw_diets,
    ),
    _Drawing(
        "Accuracy and brain score",
        _accuracy_caption,
        _without_accuracy,
        _draw_accuracy,
    ),
    _Drawing(
        "RDMs of the brain and of the best network",
        lambda s: (
            f"{s.top.sectors[-1]} and {s.top.model}, the "
            "network with the highest score there; means over all subjects."
        ),
        _without_rdms,
        _draw_rdms,
    ),
    _Drawing(
        "Map of the stimuli in the brain",
        lambda s: (
            "Stimuli that evoke similar patterns are near each other (metric "
            "MDS of the mean RDM over all subjects)."
        ),
        _without_rdms,
        _draw_mds,
    ),
)
