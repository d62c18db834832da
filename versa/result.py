"""What a fit leaves behind: labelled scores, from which every number follows.

A :class:`FitResult` holds one xarray Dataset. Its tables are pure functions of the
scores, the null and the noise ceiling; they need neither torch nor voxels.
"""

import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.answer import WIDTH, Facts, answer_card
from versa.cache import atomic_write, seal, seal_holds
from versa.fmri.kept import KeptRdms, has_jackknife, known_ceiling, shares
from versa.fmri.voxel_maps import (
    best_layer_image,
    encoding_table,
    voxel_image,
)
from versa.records import parse_json
from versa.stats.bootstrap import FEWEST_IMAGES, POPULATIONS, WEIGHTED, Spread, spread
from versa.stats.intervals import Interval, fisher_mean, fisher_z
from versa.stats.permutation import permutation_test
from versa.stats.selection import (
    CvMaxLayer,
    counted_halves,
    cv_max_layer,
)
from versa.stats.splits import SplitHalves
from versa.stats.tables import summary, write_csv
from versa.untrusted import open_hdf5
from versa.wording import chosen_names, listing, reading, scope_sentence, unknown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from nibabel import Nifti1Image

__all__ = ["METHODS", "FitResult", "load_result"]

METHODS = ("versa", "versa-debiased", "rsa")
"""The three methods: the paper's veRSA, the same without its leave-one-out bias, and
classic RSA."""

_LEADING = ("versa-debiased", "rsa", "versa")
_FORMAT = "versa-fit-result-1"
_PERMUTED = (
    "Permutations ask, for these subjects and images, whether it matters which image "
    "is which."
)
_CEILING = ("ceiling", "ceiling_low", "ceiling_high")
_SHARES = ("explained", "explained_low", "explained_high", "reached")
_DIMENSIONS = {
    "scores": ("methods", "sector", "layer", "split", "half"),
    "null": ("sector", "split", "half"),
    "ceiling": ("sector", "split"),
    "members": ("split", "subject"),
}


@dataclass(frozen=True, eq=False, repr=False)
class FitResult:
    """One network against one dataset.

    Parameters
    ----------
    data : xarray.Dataset
        ``scores (methods, sector, layer, split, half)``, Pearson r;
        ``subject_scores (methods, sector, layer, subject)``, Pearson r of the own two
        RDMs of each subject;
        ``null (sector, split, half)``, the score of an intercept-only encoder
        (NaN for a dataset of RDMs); ``ceiling (sector, split)``, Pearson r between
        the two halves' brain RDMs; ``members (split, subject)``, who is in the first
        half; ``model_rdm (methods, sector, layer, pair)`` and ``brain_rdm (sector,
        pair)``, means over subjects; ``model_rdms (encoding, sector, layer, subject,
        pair)`` and ``brain_rdms (sector, subject, pair)``, those of every subject in
        float32, unless ``keep_rdms=False`` (of ``rsa``, ``model_rdm`` is everyone's);
        ``predicted_distance (methods, sector, layer)``;
        ``alpha_at_smallest`` and ``alpha_at_largest (sector, layer)``, shares;
        ``debiased_r (sector, layer)``, mean ``versa-debiased`` score, also if that
        method was not asked for;
        with permutations, mean Fisher z of each: ``permuted (methods, sector, layer,
        permutation)`` and ``permuted_best (methods, sector, permutation)``, of the
        cross-validated best layer, chosen anew;
        ``n_units (layer)`` and ``n_voxels (sector, subject)``; ``sha256
        (stimulus)``, hashes of the image files; ``thumbnail (stimulus)``, small
        pictures of them (JPEG in base64). With ``voxel_scores=True``, and all sectors
        and subjects side by side: ``voxel_r`` and ``voxel_r2 (layer, voxel)``,
        ``voxel_sector`` and ``voxel_subject (voxel)``, places along ``sector`` and
        ``subject``; where they are known, ``voxel_ceiling (voxel)``, highest r to be
        expected, and ``voxel_place (voxel)``, flat C index in the subject's grid, with
        ``grid_shape (subject, axis)`` and ``grid_affine (subject, row, column)``; with
        permutations ``permuted_voxels (sector, layer, subject, permutation)``, median
        r over the voxels. The attribute ``provenance`` is JSON.

    Raises
    ------
    ValueError
        If an array is absent or has other dimensions.
    """

    data: "xr.Dataset"

    def __post_init__(self) -> None:
        for name, dims in _DIMENSIONS.items():
            if name not in self.data or self.data[name].dims != dims:
                found = self.data[name].dims if name in self.data else "nothing"
                raise ValueError(f"data must hold {name} {dims}; got {found}.")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Everything needed to make this result again, and what it warned about."""
        return json.loads(self.data.attrs["provenance"])

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.provenance["model"]["name"]

    @property
    def card(self) -> dict[str, Any]:
        """The record of the network's model card; empty for a network without one."""
        return self.provenance["model"].get("card") or {}

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.provenance["dataset"]["name"]

    @property
    def scores(self) -> "xr.DataArray":
        """Pearson r, (methods, sector, layer, split, half): ``sel(methods="rsa")``."""
        return self.data["scores"]

    @property
    def null(self) -> "xr.DataArray":
        """Score of the intercept-only encoder, (sector, split, half)."""
        return self.data["null"]

    @property
    def ceiling(self) -> "xr.DataArray":
        """Noise ceiling, (sector, split)."""
        return self.data["ceiling"]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that were run."""
        return _labels(self.data, "methods")

    @property
    def sectors(self) -> tuple[str, ...]:
        """Sectors, in the order of the dataset."""
        return _labels(self.data, "sector")

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Layers, in the order in which they were asked for."""
        return _labels(self.data, "layer")

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subject labels."""
        return _labels(self.data, "subject")

    @property
    def stimuli(self) -> tuple[tuple[str, str], ...]:
        """Id and SHA-256 of every image, in the order of the RDMs."""
        names = _labels(self.data, "stimulus")
        return tuple(zip(names, self.data["sha256"].values.tolist(), strict=True))

    @cached_property
    def splits(self) -> SplitHalves:
        """The half-splits of the subjects."""
        return SplitHalves(self.data["members"].values.astype(bool))

    @property
    def single(self) -> bool:
        """Whether there is one subject only, and so no halves to compare."""
        return len(self.subjects) == 1

    @property
    def keeps_voxels(self) -> bool:
        """Whether scores of voxels were kept, ``voxel_scores=True``."""
        return "voxel_r" in self.data

    @property
    def people(self) -> str:
        """How many subjects there are, as in "7 subjects"."""
        return "1 subject" if self.single else f"{len(self.subjects)} subjects"

    @property
    def given_as_rdms(self) -> bool:
        """Whether the dataset came as RDMs, without voxels."""
        return "n_voxels" not in self.data or not self.data["n_voxels"].any()

    @property
    def halves(self) -> str:
        """What counts as one sample of a split: "both" halves, their mean, or one."""
        return self.provenance["options"].get("halves", "both")

    @property
    def compare_by(self) -> str:
        """The measure by which RDMs were compared."""
        return self.provenance["options"].get("compare_by", "pearson")

    @property
    def sample(self) -> str:
        """Dataset and numbers of subjects, images and half-splits, for a heading."""
        images = f"{len(self.stimuli)} images"
        return f"{self.dataset}: {self.people}, {images}, {self.splits.words}"

    def ratio(self, test_train_ratio: float | str) -> float:
        """n_test / n_train of the corrected variance as a number.

        Parameters
        ----------
        test_train_ratio : float or "literal"
            0 or more; `"literal"` is the ratio of the half-splits.

        Returns
        -------
        ratio : float
            The number to use.

        Raises
        ------
        ValueError
            If it is negative or another text.
        """
        if test_train_ratio == "literal":
            return self.splits.test_train_ratio
        if isinstance(test_train_ratio, str) or not test_train_ratio >= 0:
            raise ValueError(
                "test_train_ratio must be 0 or more, or 'literal'; "
                f"got {test_train_ratio!r}."
            )
        return float(test_train_ratio)

    @property
    def generalize(self) -> str:
        """Population that the tables generalise to unless they are told another."""
        return self.provenance["options"].get("generalize", "subjects")

    def population(self, generalize: str | None = None) -> str:
        """The population that is meant, if the result can say anything of it.

        Parameters
        ----------
        generalize : {"subjects", "images", "both"}, optional
            By default that of the fit.

        Returns
        -------
        population : str

        Raises
        ------
        ValueError
            If it is another text, or the result holds no RDMs of its subjects, which
            images are drawn from.
        """
        population = self.generalize if generalize is None else generalize
        if population not in POPULATIONS:
            raise ValueError(unknown("generalize", population, POPULATIONS))
        if population == "subjects":
            return population
        refused = f"generalize must be 'subjects' for {self.model}; got {population!r}."
        if self.compare_by not in WEIGHTED:
            raise ValueError(
                f"{refused} Images can be drawn with compare_by {listing(WEIGHTED)} "
                f"only, not {self.compare_by}."
            )
        if self._kept is None:
            raise ValueError(
                f"{refused} Its result holds no RDMs of the subjects. Fit it again, "
                "with keep_rdms=True."
            )
        if population == "both" and self.single:
            raise ValueError(f"{refused} There is one subject; take 'images'.")
        if len(self.stimuli) < FEWEST_IMAGES:
            raise ValueError(
                f"{refused} It takes at least {FEWEST_IMAGES} images; there are "
                f"{len(self.stimuli)}."
            )
        return population

    def scope(self, generalize: str | None = None) -> str:
        """For whom the intervals and tests of the tables hold, as a sentence.

        Parameters
        ----------
        generalize : {"subjects", "images", "both"}, optional
            By default that of the fit.

        Returns
        -------
        sentence : str
            To be said under every table.
        """
        sentence = scope_sentence(
            len(self.subjects), len(self.stimuli), self.population(generalize)
        )
        return f"{sentence} {_PERMUTED}" if "permuted" in self.data else sentence

    @property
    def holds_rdms(self) -> bool:
        """Whether subjects and images can be drawn again, or left out."""
        return self._kept is not None

    @cached_property
    def _kept(self) -> KeptRdms | None:
        """RDMs of every subject; None if they were not kept, or only ranks matter."""
        compare_by = self.compare_by
        whole = "model_rdms" in self.data or self.methods == ("rsa",)
        if not whole or not has_jackknife(self.data, compare_by):
            return None
        return KeptRdms(self.data, compare_by)

    def ceiling_interval(self, sector: str) -> Interval:
        """Mean noise ceiling of a sector with its 95% interval.

        Parameters
        ----------
        sector : str

        Returns
        -------
        interval : Interval
            For new subjects, by the jackknife; of a result without RDMs of its
            subjects by the corrected formula with subjects - 1 degrees of freedom,
            which is up to three times wider.
        """
        if sector not in self._ceilings:
            self._ceilings[sector] = known_ceiling(self.data, sector, self.compare_by)
        return self._ceilings[sector]

    @cached_property
    def _ceilings(self) -> dict[str, Interval]:
        return {}

    def bootstrapped(
        self,
        method: str,
        sector: str,
        layer: str | None = None,
        halves: str | None = None,
    ) -> tuple[float, np.ndarray]:
        """Mean Fisher z of a score, and of the same in every bootstrap sample.

        Parameters
        ----------
        method, sector : str
            Labels of the result.
        layer : str, optional
            By default the cross-validated best one, chosen in every sample.
        halves : {"both", "mean", "first"}, optional
            As in :meth:`layers`.

        Returns
        -------
        z : float
            Of all subjects and images.
        samples : ndarray of shape (3, n_samples)
            Where subjects and images were drawn, subjects alone, images alone. All
            results of a dataset have the same samples.

        Raises
        ------
        ValueError
            If the result holds no RDMs of its subjects.
        """
        self.population("images")
        halves = halves or self.halves
        counted = "first" if halves == "first" else "both"  # a mean of z is the same
        found = self._kept.resampled(method, sector, counted)  # type: ignore[union-attr]
        if layer is None:
            r, samples = best_layer_scores(self, method, sector, halves).r, found.best
        else:
            r = counted_halves(self.scores.loc[method, sector, layer].values, halves)
            samples = found.layers[..., self.layer_names.index(layer)]
        return float(fisher_z(r).mean()), samples

    def spread(self, samples: np.ndarray, population: str) -> Spread:
        """Standard error and degrees of freedom of a number from its samples.

        Parameters
        ----------
        samples : ndarray of shape (3, n_samples)
            As :meth:`bootstrapped` gives them, or a function of such.
        population : {"subjects", "images", "both"}

        Returns
        -------
        spread : Spread
            ``error, df``.
        """
        return spread(samples, population, self._kept.draws)  # type: ignore[union-attr]

    def layers(
        self,
        *,
        test_train_ratio: float | str = 1.0,
        generalize: str | None = None,
        halves: str | None = None,
    ) -> "pd.DataFrame":
        """Score of every layer, in every sector, by every method.

        Parameters
        ----------
        test_train_ratio : float or "literal", default=1.0
            n_test / n_train of the corrected intervals.
        generalize : {"subjects", "images", "both"}, optional
            Population of a further interval, by bootstrap; by default that of the
            fit. The corrected intervals are for new subjects and these images.
        halves : {"both", "mean", "first"}, optional
            What counts as one sample of a split, in r and its corrected intervals; by
            default that of the fit. Permutations and bootstrap count both.

        Returns
        -------
        table : DataFrame
            ``model, sector, layer, method, r, ci_low, ci_high`` (J - 1 degrees of
            freedom), ``ci_low_subjects, ci_high_subjects`` (subjects - 1), ``null_r``
            (of the intercept-only encoder; only beside ``versa``, where it applies),
            ``ceiling, ceiling_low, ceiling_high`` (see :meth:`ceiling_interval`),
            ``explained, explained_low, explained_high``, the share of explainable
            variance: r² / ceiling² with the sign of r, and its jackknife interval
            for new subjects; and ``reached``, r² / ceiling, the share of what a
            perfect model would have. The shares are NaN where the ceiling cannot be
            told from 0 (its interval reaches to 0, or there is none).
            With permutations also ``chance``, mean score of the permuted images, ``z``
            (the score less chance, in standard deviations of the permuted scores),
            ``p_perm`` (one-sided) and ``p_perm_max``, p against the highest of all
            layers of the sector. With ``generalize`` other than "subjects" also
            ``ci_low_images, ci_high_images`` or ``ci_low_both, ci_high_both``.

        Raises
        ------
        ValueError
            If `generalize` asks for images and the result holds no RDMs.
        """
        import pandas as pd

        ratio, halves = self.ratio(test_train_ratio), halves or self.halves
        population = self.population(generalize)
        tests = {
            (sector, method): image_tests([self], method, sector)
            for sector in self.sectors
            for method in self.methods
        }
        rows = []
        for sector in self.sectors:
            for k, layer in enumerate(self.layer_names):
                for method in self.methods:
                    scores = self.scores.loc[method, sector, layer].values
                    r = counted_halves(scores, halves)
                    rows.append(
                        {
                            "model": self.model,
                            "sector": sector,
                            "layer": layer,
                            "method": method,
                            **self._summary(r, sector, method, ratio, halves),
                            **self._shares(r, sector, method, halves, k),
                            **self._wider(sector, method, population, halves, layer),
                            **{
                                name: values[k]
                                for name, values in tests[sector, method].items()
                            },
                        }
                    )
        return pd.DataFrame(rows)

    def best(
        self,
        *,
        test_train_ratio: float | str = 1.0,
        generalize: str | None = None,
        halves: str | None = None,
    ) -> "pd.DataFrame":
        """Cross-validated best layer: chosen in one half, scored in the other.

        Parameters
        ----------
        test_train_ratio : float or "literal", default=1.0
            n_test / n_train of the corrected intervals.
        generalize : {"subjects", "images", "both"}, optional
            As in :meth:`layers`; the layer is chosen anew in every sample.
        halves : {"both", "mean", "first"}, optional
            What counts as one sample of a split; by default that of the fit.

        Returns
        -------
        table : DataFrame
            ``model, sector, method, layer`` (the one most often chosen), ``chosen``
            (the share of both halves of all splits in which it was), then as in
            :meth:`layers`, and ``choices``, the share of every layer that was chosen
            at all. Of one subject, who has no halves, it is the layer with the highest
            score, which is too high: it is not cross-validated. ``chosen`` is NaN.
            With permutations the best layer is chosen anew in each, so that ``chance``,
            ``z`` and ``p_perm`` hold for the best of all layers, and ``p_perm_max`` is
            the same.

        Raises
        ------
        ValueError
            As :meth:`layers`.
        """
        import pandas as pd

        ratio, halves = self.ratio(test_train_ratio), halves or self.halves
        population = self.population(generalize)
        rows = []
        for sector in self.sectors:
            for method in self.methods:
                best = best_layer_scores(self, method, sector, halves)
                counts = pd.Series(best.chosen.ravel()).value_counts(sort=False)
                shares = {
                    self.layer_names[index]: counts.get(index, 0) / best.chosen.size
                    for index in range(len(self.layer_names))
                }
                ranked = sorted(shares, key=lambda name: -shares[name])
                top = ranked[0] if shares[ranked[0]] else "-"
                rows.append(
                    {
                        "model": self.model,
                        "sector": sector,
                        "method": method,
                        "layer": top,
                        "chosen": np.nan if self.single else shares[ranked[0]],
                        **self._summary(best.r, sector, method, ratio, halves),
                        **self._shares(best.r, sector, method, halves),
                        **self._wider(sector, method, population, halves),
                        **{
                            name: values[0]
                            for name, values in image_tests(
                                [self], method, sector, best=True
                            ).items()
                        },
                        "choices": "-" if self.single else _choices(ranked, shares),
                    }
                )
        return pd.DataFrame(rows)

    def _summary(
        self,
        r: np.ndarray,
        sector: str,
        method: str,
        ratio: float,
        halves: str,
    ) -> dict[str, float]:
        row = summary(r, len(self.subjects), test_train_ratio=ratio)
        null = counted_halves(self.null.sel(sector=sector).values, halves)
        row["null_r"] = float(fisher_mean(null)) if method == "versa" else np.nan
        return row

    def _shares(
        self,
        r: np.ndarray,
        sector: str,
        method: str,
        halves: str,
        layer: int | None = None,
    ) -> dict[str, float]:
        """Ceiling and shares of it, of a layer or of the best."""
        ceiling = self.ceiling_interval(sector)
        row = dict(zip(_CEILING, ceiling, strict=True))
        row |= dict.fromkeys(_SHARES, np.nan)
        if not ceiling.low > 0:
            return row
        n_subjects = len(self.subjects)
        without = below = np.full(n_subjects, np.nan)
        if self._kept is not None:
            counted = "first" if halves == "first" else "both"
            layers, best = self._kept.without(method, sector, counted)
            without = best if layer is None else layers[layer]
            below = self._kept.ceiling_without(sector)
        found = shares(float(fisher_mean(r)), ceiling.mean, without, below)
        return row | dict(zip(_SHARES, found, strict=True))

    def _wider(
        self,
        sector: str,
        method: str,
        population: str,
        halves: str,
        layer: str | None = None,
    ) -> dict[str, float]:
        """Interval for new images, if asked for, of a layer or of the best."""
        if population == "subjects":
            return {}
        z, samples = self.bootstrapped(method, sector, layer, halves)
        reach = self.spread(samples, population).reach()
        return {
            f"ci_low_{population}": float(np.tanh(z - reach)),
            f"ci_high_{population}": float(np.tanh(z + reach)),
        }

    def by_subject(self) -> "pd.DataFrame":
        """Score of every subject alone: the correlation of the own two RDMs.

        Returns
        -------
        table : DataFrame
            ``model, sector, layer, method, subject, r``. The RDM of one subject is
            noisier than the mean of a half, so these are commonly below
            :meth:`layers`, and the ceiling does not apply to them.

        Raises
        ------
        ValueError
            If a version before 2026-11-28 wrote the result, which kept means only.
        """
        import pandas as pd

        if "subject_scores" not in self.data:
            raise ValueError(
                "scores of single subjects must be in the result, and this one, of an "
                "older version, has none. Fit again."
            )
        scores = self.data["subject_scores"]
        rows = [
            {
                "model": self.model,
                "sector": sector,
                "layer": layer,
                "method": method,
                "subject": subject,
                "r": float(scores.loc[method, sector, layer, subject]),
            }
            for sector in self.sectors
            for layer in self.layer_names
            for method in self.methods
            for subject in self.subjects
        ]
        return pd.DataFrame(rows)

    def encoding(self) -> "pd.DataFrame":
        """How well the voxels of every subject are predicted.

        Returns
        -------
        table : DataFrame
            ``model, sector, layer, subject, n_voxels``; medians over these voxels:
            ``median_r``, of the correlation of predicted and measured responses, and
            ``median_r2``, of the share of variance predicted. Where the dataset holds
            the reliability of its voxels also ``median_ceiling``, of the highest r that
            predictions can be expected to have, and ``median_normalized``, of r over
            that ceiling, in the ``n_reliable`` voxels whose ceiling is above 0.3.
            With permutations of the images also ``chance``, the mean of ``median_r``
            over them, and p-values: ``p_perm_subject`` of this subject's ``median_r``,
            ``p_perm`` of its mean over all subjects in this sector and layer, and
            ``p_perm_max`` of that mean as the highest of all layers.
            Predictions are those of leave-one-out ridge regression around one common
            mean, whatever the methods; see
            :func:`versa.fmri.voxel_scores.voxel_scores`, also for chance, which is
            below 0.

        Raises
        ------
        ValueError
            If the fit did not keep scores of voxels, ``voxel_scores=True``.
        """
        return encoding_table(self.data, self.model)

    def voxel_map(
        self, layer: str, subject: str, *, what: str = "r", sector: str | None = None
    ) -> "Nifti1Image":
        """Map of how well each voxel is predicted.

        Parameters
        ----------
        layer : str
            A layer of the result.
        subject : str
            A subject of the result.
        what : {"r", "r2", "ceiling", "normalized"}, default="r"
            Correlation of prediction and response; share of variance predicted; the
            noise ceiling of r; or r over that ceiling, where it is above 0.3.
        sector : str, optional
            A sector; by default all. Where they share voxels the first one is shown.

        Returns
        -------
        image : nibabel.Nifti1Image
            On the grid of the subject's masks, float32, NaN outside of the sectors;
            ``nibabel.save(image, "r.nii.gz")`` writes it.

        Raises
        ------
        ValueError
            If the fit did not keep scores of voxels, the voxels have no place in the
            head, or a name is unknown.

        See Also
        --------
        versa.plotting.plot_surface : Draw such a map on the cortex, if it is in MNI152.
        """
        return voxel_image(self.data, layer, subject, what, sector)

    def best_layer_map(
        self, subject: str, *, sector: str | None = None
    ) -> "Nifti1Image":
        """Map of the layer that predicts each voxel best: the hierarchy of the cortex.

        Parameters
        ----------
        subject : str
            A subject of the result.
        sector : str, optional
            A sector; by default all.

        Returns
        -------
        image : nibabel.Nifti1Image
            int16: 1 for the first of :attr:`layer_names`, 2 for the second, ...; 0
            outside of the sectors, and where no layer has r above 0. The choice is not
            cross-validated.

        Raises
        ------
        ValueError
            As :meth:`voxel_map`.
        """
        return best_layer_image(self.data, subject, sector)

    def rdms(
        self, sector: str, layer: str | None = None, *, method: str | None = None
    ) -> np.ndarray:
        """The mean RDM of a layer, or of the brain, as a square.

        Parameters
        ----------
        sector : str
            A sector of the result.
        layer : str, optional
            A layer of the result; by default the brain's own RDM.
        method : str, optional
            By default :attr:`leading_method`.

        Returns
        -------
        rdm : ndarray of shape (n_stimuli, n_stimuli)
            Distances, mean over the subjects, 0 on the diagonal, in the order of
            :attr:`stimuli`. ``rsatoolbox.rdm.RDMs(rdm[None])`` takes it as it is, as
            does :func:`versa.fmri.rdm.to_rsatoolbox` the vector of its pairs.

        Raises
        ------
        ValueError
            If a name is unknown, or the result holds no RDMs.
        """
        from scipy.spatial.distance import squareform

        chosen_names(sector, "sector", self.sectors)
        name = "brain_rdm" if layer is None else "model_rdm"
        if name not in self.data:
            raise ValueError(
                f"the result of {self.model} must hold RDMs, and it holds none. Fit it "
                "again."
            )
        if layer is None:
            return squareform(self.data[name].loc[sector].values.astype(float))
        method = self.leading_method if method is None else method
        chosen_names(method, "method", self.methods)
        chosen_names(layer, "layer", self.layer_names)
        pairs = self.data[name].loc[method, sector, layer].values
        return squareform(pairs.astype(float))

    def plot(self, *, sector: str | None = None) -> "Axes":
        """Draw the score of every layer by the leading method.

        Parameters
        ----------
        sector : str, optional
            By default all of them, side by side.

        Returns
        -------
        ax : matplotlib.axes.Axes
            As of :func:`versa.plotting.plot_layers`, which has more options.
        """
        import versa  # by the front door, as a user would: plotting is above results

        method = self.leading_method
        return versa.plotting.plot_layers(self, method=method, sector=sector)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML page about this network alone.

        Parameters
        ----------
        path : path-like
            Ends with ``.html``.

        Returns
        -------
        path : Path
            As of :func:`versa.report.write_report`, which has more options.
        """
        import versa

        return versa.report.write_report(versa.compare(self), path)

    def to_csv(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the tables as CSV, with full precision.

        Parameters
        ----------
        folder : path-like
            Made if absent. Gets ``layers.csv`` and ``best.csv``; and ``encoding.csv``
            if scores of voxels were kept.

        Returns
        -------
        paths : list of Path
        """
        tables = {"layers": self.layers(), "best": self.best()}
        if self.keeps_voxels:
            tables["encoding"] = self.encoding()
        return write_csv(tables, folder)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to a netCDF-4 file, whole or not at all.

        Parameters
        ----------
        path : path-like
            ``.nc`` is appended if it has no ending. An existing file is replaced.

        Returns
        -------
        path : Path
            The file. Read it with :func:`versa.load_result`, or with any netCDF
            reader.
        """
        path = Path(path)
        if not path.suffix:
            path = path.with_suffix(".nc")
        encoding: dict[Any, Any] = {
            name: {"zlib": True, "complevel": 4}
            for name, array in self.data.data_vars.items()
            if array.dtype.kind == "f" and array.ndim
        }
        # through memory: HDF5's own writer does not survive a disk that fills up
        content = self.data.assign_attrs(format=_FORMAT, sealed=1).to_netcdf(
            engine="h5netcdf", encoding=encoding
        )
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
            seal(temporary)
        return path

    @property
    def leading_method(self) -> str:
        """The method of the answer: versa-debiased, else rsa, else versa."""
        return next(name for name in _LEADING if name in self.methods)

    def answer(
        self, *, width: int = WIDTH, styled: bool = False, ascii_only: bool = False
    ) -> str:
        """The answer card of this network alone.

        Parameters
        ----------
        width : int, default=80
            Longest line; 72 at least.
        styled : bool, default=False
            Use bold and dim letters of ANSI terminals.
        ascii_only : bool, default=False
            Draw with ASCII.

        Returns
        -------
        text : str
            As :meth:`Comparison.answer`.
        """
        facts = Facts(
            self.sample,
            self.leading_method,
            self.scope(),
            single=self.single,
            population=self.generalize,
            notes=self.provenance["warnings"],
        )
        return answer_card(
            self.best(),
            None,
            facts,
            width=width,
            styled=styled,
            ascii_only=ascii_only,
        )

    def __repr__(self) -> str:
        return f"{self.answer()}\n\nTables: .layers(), .best()"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def best_layer_scores(
    result: FitResult, method: str, sector: str, halves: str = "both"
) -> CvMaxLayer:
    """Cross-validated best layer of one method and sector.

    Parameters
    ----------
    result : FitResult
    method, sector : str
        Labels of `result`.
    halves : {"both", "mean", "first"}, default="both"
        What counts as one sample of a split.

    Returns
    -------
    best : CvMaxLayer
        ``r`` and ``chosen``, both of shape (n_splits, n_halves); of ``"first"`` and
        ``"mean"`` r has one column.
    """
    scores = result.scores.loc[method, sector]
    best = cv_max_layer(scores.transpose("layer", "split", "half").values)
    chosen = best.chosen[:, :1] if halves == "first" else best.chosen
    return CvMaxLayer(counted_halves(best.r, halves), chosen)


def subject_scores(result: FitResult, method: str, sector: str) -> np.ndarray | None:
    """Each subject's own score, at the layer of the table :meth:`FitResult.best`.

    None for one subject, without such a layer, or for a result of an older version,
    which does not hold them.
    """
    usual = best_layer_scores(result, method, sector).usual
    if result.single or usual < 0 or "subject_scores" not in result.data:
        return None
    scores = result.data["subject_scores"].loc[method, sector]
    return scores.transpose("layer", "subject").values[usual]


def image_tests(
    results: Sequence[FitResult], method: str, sector: str, *, best: bool = False
) -> dict[str, np.ndarray]:
    """Tests of scores against permuted images, as columns of a table.

    Parameters
    ----------
    results : sequence of FitResult
        Whose highest score ``p_perm_max`` is about; all must have the same images.
    method, sector : str
        Labels of the results.
    best : bool, default=False
        Test the cross-validated best layers, not each layer.

    Returns
    -------
    columns : dict of str to ndarray of shape (n_scores,)
        ``chance`` (a correlation), ``z``, ``p_perm`` and ``p_perm_max``, for all
        layers, or best layers, one result after the other. Empty if a result has no
        permutations. If one has fewer than others, they count the same first ones.
    """
    if any("permuted" not in result.data for result in results):
        return {}
    observed, permuted = [], []
    for result in results:
        if best:
            r = best_layer_scores(result, method, sector).r[None]
            null = result.data["permuted_best"].loc[method, sector].values[None]
        else:
            r = result.scores.loc[method, sector].transpose("layer", ...).values
            null = result.data["permuted"].loc[method, sector].values
        observed.append(fisher_z(r).mean(axis=(1, 2)))
        permuted.append(null)
    fewest = min(null.shape[1] for null in permuted)
    shared = np.concatenate([null[:, :fewest] for null in permuted])
    test = permutation_test(np.concatenate(observed), shared)
    return {
        "chance": np.tanh(test.chance),
        "z": test.z,
        "p_perm": test.p,
        "p_perm_max": test.p_max,
    }


def load_result(path: str | os.PathLike[str]) -> FitResult:
    """Read a result that :meth:`FitResult.save` wrote.

    Parameters
    ----------
    path : path-like
        A file written by versa.

    Returns
    -------
    result : FitResult

    Raises
    ------
    ValueError
        If the file is absent, not a result of versa, or not as it was saved: its last
        line is a check sum of all its bytes. Files of older versions have none.
    """
    import xarray as xr

    path = Path(path)
    with reading(path, "a netCDF-4 file written by FitResult.save"):
        held = seal_holds(path)
        if held is False:
            raise ValueError("its check sum is wrong")
        with (
            open_hdf5(path, checked=bool(held)),
            xr.open_dataset(path, engine="h5netcdf") as opened,
        ):
            data = opened.load()
        if "sealed" in data.attrs and not held:
            raise ValueError("its check sum is missing")
    if data.attrs.get("format") != _FORMAT:
        raise ValueError(
            f"result must be a file written by FitResult.save in format {_FORMAT}; "
            f"{path} has format {data.attrs.get('format')!r}."
        )
    data.attrs.pop("sealed", None)
    if "method" in data.dims:  # written before 2026-11-28
        data = data.rename(method="methods")
    with reading(path, "a result of versa"):
        result = FitResult(data)
    try:
        found = parse_json(data.attrs["provenance"])
        names = (found["model"]["name"], found["dataset"]["name"])
        known = isinstance(found["options"], dict) and all(
            isinstance(name, str) for name in names
        )
    except (LookupError, ValueError, TypeError):
        known = False
    if not known or "sha256" not in data:
        raise ValueError(
            f"result must be a file written by FitResult.save; {path} lacks its "
            "provenance or the hashes of its images. Fit again."
        )
    return result


def _choices(ranked: list[str], shares: dict[str, float]) -> str:
    """The layers that were chosen at all, with their shares."""
    return ", ".join(
        f"{name} {_percent(shares[name])}" for name in ranked if shares[name]
    )


def _percent(share: float) -> str:
    return "<1%" if share < 0.01 else f"{100 * share:.0f}%"


def _labels(data: "xr.Dataset", dimension: str) -> tuple[str, ...]:
    return tuple(str(label) for label in data[dimension].values)
