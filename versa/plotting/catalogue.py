"""The catalogue of the figures of results: which apply, and what they show.

The report and the folder of figures both walk it, so they draw the same.
"""

import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from versa.comparison import Comparison
from versa.plotting.comparisons import plot_accuracy, plot_comparison, plot_diets
from versa.plotting.rdms import plot_mds, plot_rdm, plot_rdms
from versa.plotting.readings import plot_multiverse
from versa.plotting.scores import plot_best, plot_layers, plot_null
from versa.plotting.style import as_comparison, plain_text, save_figure, select
from versa.plotting.voxels import (
    best_predicting_layer,
    plot_encoding,
    plot_voxel_map,
)
from versa.result import FitResult
from versa.wording import listing, population_words, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")
logger = logging.getLogger("versa")

_FORMATS = ("svg", "pdf", "png")
_ACCURACIES = ("top1_linear", "top1")  # the latter for networks trained with labels
_NAME_LENGTH = 80


class Subject(NamedTuple):
    """What one figure shows."""

    comparison: Comparison
    method: str
    models: tuple[FitResult, ...]
    sector: str


@dataclass(frozen=True)
class Kind:
    """A figure of the catalogue."""

    key: str  # how the name of its file begins
    each: tuple[str, ...]  # one file for each of these: "method", "models", "sector"
    title: str
    caption: Callable[[Subject], str]
    needs: Callable[[Subject], str]  # what is missing; empty if the figure applies
    draw: "Callable[[Subject], Axes]"
    in_report: bool = True
    population: Callable[[Subject], str] | None = None  # of its intervals and tests
    asked: bool = False  # the report says nothing of it where it does not apply
    together: int = 1  # networks in the figure of the report; of one the best is taken


@dataclass(frozen=True)
class Figure:
    """A figure of one kind and one subject."""

    kind: Kind
    subject: Subject

    @property
    def key(self) -> str:
        """Name of its file, without ending."""
        names = {
            "method": self.subject.method,
            "models": self.subject.models[0].model,
            "sector": self.subject.sector,
        }
        return "_".join([self.kind.key, *(names[one] for one in self.kind.each)])

    @property
    def caption(self) -> str:
        """What is seen, and of how many subjects, images and half-splits."""
        first = self.subject.comparison.results[0]
        text = f"{self.kind.caption(self.subject)} Dataset {first.sample}."
        population = self.kind.population and self.kind.population(self.subject)
        if not population or (first.single and population == "subjects"):
            return text
        sizes = len(first.subjects), len(first.stimuli)
        words = population_words(*sizes, population)
        return f"{text} Intervals and tests are for {words}."

    def render(self, save: "Callable[[Axes], T]") -> tuple[T | None, str]:
        """What `save` makes of it; or None and why it is skipped, which is logged."""
        missing = self.kind.needs(self.subject)
        reason = f"needs {missing}" if missing else ""
        if not reason:
            try:
                with plain_text():
                    return save(self.kind.draw(self.subject)), ""
            except ValueError as error:
                reason = str(error)
        logger.info("figure %s skipped: %s", self.key, reason)
        return None, reason


def headline_method(result: FitResult) -> str:
    """The method that a summary speaks of."""
    return result.leading_method


def all_figures(comparison: Comparison) -> Iterator[Figure]:
    """Every figure, one for each method, network and sector where its kind says so."""
    first = comparison.results[0]
    for kind in CATALOGUE:
        methods = first.methods if "method" in kind.each else (headline_method(first),)
        models = [comparison.results]
        if "models" in kind.each:
            models = [(result,) for result in comparison.results]
        sectors = first.sectors if "sector" in kind.each else first.sectors[:1]
        for subject in itertools.product(methods, models, sectors):
            yield Figure(kind, Subject(comparison, *subject))


def report_figures(comparison: Comparison) -> Iterator[Figure]:
    """One figure of each kind, by the headline method, of the last sector."""
    first = comparison.results[0]
    method, sector = headline_method(first), first.sectors[-1]
    best = (_best_model(comparison, method, sector),)
    for kind in CATALOGUE:
        if kind.in_report:
            models = comparison.results[: kind.together] if kind.together > 1 else best
            subject = Subject(comparison, method, models, sector)
            if not (kind.asked and kind.needs(subject)):
                yield Figure(kind, subject)


def draw_results(
    results: Comparison | FitResult | Sequence[FitResult],
    folder: str | os.PathLike[str],
    *,
    format: str = "svg",
) -> list[Path]:
    """Draw all figures that apply to some results.

    Parameters
    ----------
    results : Comparison, FitResult or sequence of FitResult
        Networks fitted to the same dataset. A comparison has its own test_train_ratio
        for all intervals, its family of tests, and the baseline of the violins, if it
        has one.
    folder : path-like
        Made if absent. Files of earlier figures with the same names are replaced.
    format : {"svg", "pdf", "png"}, default="svg"
        Kind of the files.

    Returns
    -------
    paths : list of Path
        For every method ``layers_METHOD``, ``best_METHOD``, ``differences_METHOD``,
        ``diets_METHOD`` and ``accuracy_METHOD``; ``rdm_brain`` and ``mds_brain``; for
        every sector ``multiverse_SECTOR``; for every network ``leak_MODEL``,
        ``mds_MODEL`` and, for every sector, ``rdms_MODEL_SECTOR``; with scores of
        voxels ``encoding`` and, for every network, ``voxels_MODEL`` and
        ``hierarchy_MODEL``. What does not apply is skipped, and the log says why.

    Raises
    ------
    ValueError
        If the results cannot be compared, or the format is unknown.
    """
    if format not in _FORMATS:
        raise ValueError(unknown("format", format, _FORMATS))
    comparison = as_comparison(results)
    paths: list[Path] = []
    taken: set[str] = set()
    for figure in all_figures(comparison):
        path = Path(folder) / f"{_file_name(figure.key, taken)}.{format}"
        drawn, _ = figure.render(partial(save_figure, path=path))
        paths += [] if drawn is None else [drawn]
    return paths


def _file_name(name: str, taken: set[str]) -> str:
    """A name that every file system takes and no other figure has."""
    plain = re.sub(r"[^\w.=-]+", "-", name)[:_NAME_LENGTH]
    stem, n = plain, 1
    while stem.lower() in taken:
        n += 1
        stem = f"{plain}-{n}"
    taken.add(stem.lower())
    return stem


def _best_model(comparison: Comparison, method: str, sector: str) -> FitResult:
    """The network with the highest score of the best layer; the first without any."""
    scores = select(comparison.best(), method=method, sector=sector)["r"].to_numpy()
    place = int(np.nanargmax(scores)) if np.isfinite(scores).any() else 0
    return comparison.results[place]


# What the figures need, and what their captions say.


def _nothing(_: Subject) -> str:
    return ""


def _two_networks(subject: Subject) -> str:
    return "" if len(subject.comparison.results) > 1 else "two networks or more"


def _tested_networks(subject: Subject) -> str:
    return "two subjects or more" if _single(subject) else _two_networks(subject)


def _baseline(subject: Subject) -> str:
    if subject.comparison.baseline is None:
        return "--baseline, in Python baseline= of versa.compare"
    return _two_networks(subject)


def _both_encoders(subject: Subject) -> str:
    absent = {"versa", "versa-debiased"} - set(subject.models[0].methods)
    return "the methods versa and versa-debiased" if absent else ""


def _two_accuracies(subject: Subject) -> str:
    few = len(_with_accuracy(subject.comparison)) < 2
    return "two networks whose cards hold an accuracy on ImageNet" if few else ""


def _rdms(subject: Subject) -> str:
    held = {"brain_rdm", "model_rdm"} <= set(subject.models[0].data)
    return "" if held else "results that hold RDMs; fit again"


def _voxels(subject: Subject) -> str:
    kept = any(result.keeps_voxels for result in subject.models)
    return "" if kept else "scores of voxels; fit with --voxel-scores"


def _places(subject: Subject) -> str:
    missing = _voxels(subject)
    if missing or "voxel_place" in subject.models[0].data:
        return missing
    return "voxels with a place in the head"


def _with_accuracy(comparison: Comparison) -> list[str]:
    """Networks whose card holds a published accuracy."""
    return [
        result.model
        for result in comparison.results
        if any(result.card.get(kind) is not None for kind in _ACCURACIES)
    ]


def _single(subject: Subject) -> bool:
    """Whether there is one subject only, without halves."""
    return subject.comparison.results[0].single


def _population(subject: Subject) -> str:
    """Whom the intervals and tests of the figure are for."""
    return subject.comparison.generalize


def _against_ceiling(subject: Subject) -> str:
    return "" if _single(subject) else ", against the noise ceiling"


def _best_layers(subject: Subject) -> str:
    if _single(subject):
        return "best layers, which are not cross-validated"
    return "cross-validated best layers in both halves of all half-splits"


def _leak_caption(subject: Subject) -> str:
    text = (
        "The paper's score (versa), the score of an intercept-only encoder (the null) "
        "and the score after debiasing (versa-debiased), layer by layer."
    )
    drawn, n_networks = len(subject.models), len(subject.comparison.results)
    if 1 < drawn < n_networks:
        text += f" The first {drawn} of {n_networks} networks."
    return text


def _differences_caption(subject: Subject) -> str:
    comparison = subject.comparison
    text = f"Differences of the mean scores by the method {subject.method}, row minus "
    if _single(subject):
        return text + "column; there is no test over one subject."
    return (
        f"{text}column, and which are significant after {comparison.correction_name} "
        f"correction (family of {comparison.family}, S − 1 degrees of freedom)."
    )


def _accuracy_caption(subject: Subject) -> str:
    drawn = _with_accuracy(subject.comparison)
    models = [result.model for result in subject.comparison.results]
    text = (
        "Accuracy on ImageNet, as the cards give it (of a linear read-out, or of the "
        "network's own classifier where it was trained with labels), against the score "
        f"of the best layer by the method {subject.method}; {len(drawn)} of "
        f"{len(models)} networks."
    )
    others = [model for model in models if model not in drawn]
    return text + (f" Without accuracy: {listing(others)}." if others else "")


def _rdms_caption(subject: Subject) -> str:
    comparison, method, (model,), sector = subject
    best = model is _best_model(comparison, method, sector)
    which = ", the network with the highest score there" if best else ""
    return f"{sector} and {model.model}{which}; means over all subjects."


def _draw_leak(subject: Subject) -> "Axes":
    return plot_null(replace(subject.comparison, results=subject.models))


def _draw_rdms(subject: Subject) -> "Axes":
    (model,) = subject.models
    second = ["rsa"] if "rsa" in model.methods else model.methods
    methods = list(dict.fromkeys([subject.method, *second]))[:2]
    return plot_rdms(model, sector=subject.sector, methods=methods)


CATALOGUE = (
    Kind(
        "layers",
        ("method",),
        "Score of every layer",
        lambda s: (
            f"Mean r of each layer by the method {s.method}, from the first to the "
            f"last{_against_ceiling(s)}."
        ),
        _nothing,
        lambda s: plot_layers(s.comparison, method=s.method, df=_population(s)),
        population=_population,
    ),
    Kind(
        "best",
        ("method",),
        "Best layers",
        lambda s: f"Scores of the {_best_layers(s)}, by the method {s.method}.",
        _nothing,
        lambda s: plot_best(s.comparison, method=s.method, df=_population(s)),
        population=_population,
    ),
    Kind(
        "leak",
        ("models",),
        "How much of the score is leave-one-out bias",
        _leak_caption,
        _both_encoders,
        _draw_leak,
        population=lambda _: "subjects",
        together=4,  # each is a row of panels
    ),
    Kind(
        "differences",
        ("method",),
        "All networks against each other",
        _differences_caption,
        _two_networks,
        lambda s: plot_comparison(s.comparison, method=s.method, df=_population(s)),
        population=_population,
    ),
    Kind(
        "multiverse",
        ("sector",),
        "Comparisons under every reading",
        lambda s: (
            f"{s.sector}: which comparisons hold, at corrected p < "
            f"{s.comparison.alpha:g}, for each choice of method, halves, n_test / "
            "n_train, degrees of freedom and family."
        ),
        _tested_networks,
        lambda s: plot_multiverse(s.comparison, sector=s.sector),
        in_report=False,
    ),
    Kind(
        "diets",
        ("method",),
        "Networks against the baseline",
        lambda s: (
            f"Scores of the {_best_layers(s)}, by the method "
            f"{s.method}; the band is that of {s.comparison.baseline}."
        ),
        _baseline,
        lambda s: plot_diets(s.comparison, method=s.method, df=_population(s)),
        population=_population,
    ),
    Kind(
        "accuracy",
        ("method",),
        "Accuracy and brain score",
        _accuracy_caption,
        _two_accuracies,
        lambda s: plot_accuracy(s.comparison, method=s.method, accuracy=_ACCURACIES),
    ),
    Kind(
        "encoding",
        (),
        "How well voxels are predicted",
        lambda _: (
            "Correlation of leave-one-out predictions and responses, the median over "
            "the voxels of a sector, layer by layer."
        ),
        _voxels,
        lambda s: plot_encoding(s.comparison),
        asked=True,
        together=99,
    ),
    Kind(
        "voxels",
        ("models",),
        "Voxels and how well they are predicted",
        lambda s: (
            f"{s.models[0].model}: r of predictions from the layer with the highest "
            f"median r over all voxels ({best_predicting_layer(s.models[0])}), first "
            "subject."
        ),
        _places,
        lambda s: plot_voxel_map(s.models[0], what="r"),
        asked=True,
    ),
    Kind(
        "hierarchy",
        ("models",),
        "The layer that predicts a voxel best",
        lambda s: (
            f"{s.models[0].model}: for each voxel of the first subject the layer with "
            "the highest r; voxels without any r above 0 are left out. The choice is "
            "not cross-validated."
        ),
        _places,
        lambda s: plot_voxel_map(s.models[0]),
        asked=True,
    ),
    Kind(
        "rdms",
        ("models", "sector"),
        "RDMs of the brain and of a network",
        _rdms_caption,
        _rdms,
        _draw_rdms,
    ),
    Kind(
        "mds_brain",
        (),
        "Map of the stimuli in the brain",
        lambda _: (
            "Stimuli that evoke similar patterns are near each other (metric MDS of "
            "the mean RDM over all subjects)."
        ),
        _rdms,
        lambda s: plot_mds(s.models[0], what="brain"),
    ),
    Kind(
        "rdm_brain",
        (),
        "RDMs of the brain",
        lambda _: "Means over all subjects.",
        _rdms,
        lambda s: plot_rdm(s.models[0], what="brain"),
        in_report=False,
    ),
    Kind(
        "mds",
        ("models",),
        "Map of the stimuli in a network",
        lambda s: (
            f"{s.models[0].model} by the method {s.method}: stimuli with similar "
            "patterns are near each other (metric MDS)."
        ),
        _rdms,
        lambda s: plot_mds(s.models[0], what=s.method),
        in_report=False,
    ),
)
