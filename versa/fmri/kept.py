"""The RDMs of every subject that a result kept, and what resampling them says."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from versa.fmri.similarity import LINEAR, as_vectors
from versa.stats.bootstrap import (
    Draws,
    Resampled,
    draw_samples,
    resample,
)
from versa.stats.halves import inner_products
from versa.stats.intervals import Interval, corrected_interval, fisher_mean
from versa.stats.jackknife import (
    best_z_without,
    ceiling_interval,
    ceiling_z_without,
    jackknife_interval,
)
from versa.stats.splits import SplitHalves

if TYPE_CHECKING:
    import xarray as xr


class Shares(NamedTuple):
    """What part of the explainable variance a score is, with its interval."""

    explained: float  # r² / ceiling², signed as r
    low: float
    high: float
    reached: float  # r² / ceiling, signed as r


class KeptRdms:
    """RDMs of the subjects in the data of a result; all is computed once."""

    def __init__(self, data: "xr.Dataset", compare_by: str = "pearson") -> None:
        self._data = data
        self._compare_by = compare_by
        self._known: dict[tuple[str, ...], Any] = {}

    @cached_property
    def splits(self) -> SplitHalves:
        """The half-splits of the subjects."""
        return SplitHalves(self._data["members"].values.astype(bool))

    @cached_property
    def draws(self) -> Draws:
        """The bootstrap samples: the same for all results of a dataset."""
        return draw_samples(self._data.sizes["subject"], self._data.sizes["stimulus"])

    def brain(self, sector: str) -> np.ndarray:
        """Measured RDMs as vectors whose cosine is the score, one per subject."""
        rdms = self._data["brain_rdms"].sel(sector=sector).values
        return as_vectors(rdms.astype(float), self._compare_by)

    def models(self, method: str, sector: str) -> list[np.ndarray]:
        """The same of every layer, one per subject or one for all of them."""
        if "encoding" in self._data and method in self._data["encoding"].values:
            rdms = self._data["model_rdms"].sel(encoding=method, sector=sector).values
        else:
            rdms = self._data["model_rdm"].sel(methods=method, sector=sector).values
            rdms = rdms[:, None]
        return [as_vectors(layer.astype(float), self._compare_by) for layer in rdms]

    def without(
        self, method: str, sector: str, halves: str = "both"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean Fisher z without each subject: of every layer, and of the best."""

        def make() -> tuple[np.ndarray, np.ndarray]:
            brain = self.brain(sector)
            models = self.models(method, sector)
            layers = [inner_products(model, brain) for model in models]
            return best_z_without(layers, self.splits, halves)

        return self._once(("without", method, sector, halves), make)

    def ceiling_without(self, sector: str) -> np.ndarray:
        """Mean Fisher z of the noise ceiling without each subject."""

        def make() -> np.ndarray:
            brain = self.brain(sector)
            return ceiling_z_without(brain @ brain.T, self.splits)

        return self._once(("ceiling", sector), make)

    def resampled(self, method: str, sector: str, halves: str = "both") -> Resampled:
        """Mean Fisher z of the scores in every bootstrap sample."""

        def make() -> Resampled:
            models, brain = self.models(method, sector), self.brain(sector)
            return resample(
                models,
                brain,
                self.splits,
                self.draws,
                centre=self._compare_by == "pearson",
                halves=halves,
            )

        return self._once(("bootstrap", method, sector, halves), make)

    def _once(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def shares(
    r: float, ceiling: float, without: np.ndarray, ceiling_without: np.ndarray
) -> Shares:
    """Shares of a score r, given Fisher z of both without each subject.

    The interval is that of r / ceiling, squared with its sign.
    """
    of_each = np.tanh(without) / np.tanh(ceiling_without)
    ratio = r / ceiling
    low, high = jackknife_interval(ratio, of_each)
    explained, low, high = (x * abs(x) for x in (ratio, low, high))
    return Shares(explained, low, high, r * abs(r) / ceiling)


def ceiling_of(rdms: np.ndarray, splits: SplitHalves) -> Interval:
    """Noise ceiling (Pearson's r) of RDMs (n_subjects, n_pairs) with its jackknife
    interval."""
    vectors = as_vectors(np.array(rdms, dtype=float))
    return ceiling_interval(vectors @ vectors.T, splits)


def known_ceiling(
    data: "xr.Dataset", sector: str, compare_by: str = "pearson"
) -> Interval:
    """Noise ceiling of one sector in the data of a result, with its interval.

    By the jackknife over subjects; without their RDMs, or with a measure of ranks, by
    the corrected formula over the splits with n_subjects - 1 degrees of freedom, which
    is up to three times wider.
    """
    r = data["ceiling"].sel(sector=sector).values
    if data.sizes["subject"] < 2:
        return Interval(np.nan, np.nan, np.nan)
    if not has_jackknife(data, compare_by):
        return corrected_interval(r, df=data.sizes["subject"] - 1)
    kept = KeptRdms(data, compare_by)
    brain = kept.brain(sector)
    found = ceiling_interval(brain @ brain.T, kept.splits)
    return found._replace(mean=float(fisher_mean(r)))


def has_jackknife(data: "xr.Dataset", compare_by: str = "pearson") -> bool:
    """Whether subjects can be left out of the scores in the data of a result."""
    return "brain_rdms" in data and compare_by in LINEAR
