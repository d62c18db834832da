"""How much of the brain's own geometry is shared: by two halves of the subjects (the
noise ceiling), and by the odd and even runs of one (the reliability of an RDM)."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.kept import ceiling_of
from versa.fmri.rdm import (
    correlation_rdm,
    crossnobis_rdm,
    n_images_of,
    pattern_rdm,
    to_rsatoolbox,
)
from versa.fmri.reliability import two_halves, voxel_reliability
from versa.fmri.similarity import (
    check_comparison,
    half_scores,
    split_scores,
    varies_by_rounding,
)
from versa.parallel import map_in_threads
from versa.stats.splits import SplitHalves, split_halves

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ceilings_table",
    "half_correlations",
    "noise_ceiling",
    "rdm_reliability",
    "subject_bounds",
]


def noise_ceiling(
    rdms: ArrayLike, splits: SplitHalves, compare_by: str = "pearson"
) -> np.ndarray:
    """Correlation between the mean RDMs of the two halves, for every split.

    Parameters
    ----------
    rdms : array-like of shape (n_subjects, n_pairs)
        Brain RDM of each subject.
    splits : SplitHalves
        Half-splits of the same subjects.
    compare_by : str, default="pearson"
        Measure, as in :func:`half_correlations`.

    Returns
    -------
    r : ndarray of shape (n_splits,)
        Correlations, one per split. No correction for using half of the
        data, so that they compare directly with model scores. Their average is
        ``versa.stats.intervals.fisher_mean(r)``. NaN for one subject, who has no
        halves.

    Raises
    ------
    ValueError
        If `rdms` is not (n_subjects, n_pairs) for the subjects of `splits`.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4

    Examples
    --------
    >>> from versa.stats.splits import split_halves
    >>> noise_ceiling([[1.0, 2, 3], [1, 3, 2]], split_halves(2)).round(6)
    array([0.5])
    """
    brain = _checked(rdms, splits, "rdms")
    measure = check_comparison(compare_by)
    if splits.n_halves == 1:
        return np.full(1, np.nan)
    return split_scores(brain, splits, measure)


def half_correlations(
    model_rdms: ArrayLike,
    brain_rdms: ArrayLike,
    splits: SplitHalves,
    compare_by: str = "pearson",
) -> np.ndarray:
    """Correlation of the model's and the brain's mean RDM of the same half.

    Parameters
    ----------
    model_rdms : array-like of shape (n_subjects, n_pairs) or (1, n_pairs)
        RDMs predicted for each subject; a single one serves all subjects.
    brain_rdms : array-like of shape (n_subjects, n_pairs)
        Measured RDMs of the same subjects.
    splits : SplitHalves
        Half-splits of the same subjects.
    compare_by : {"pearson", "spearman", "kendall-tau-a", "cosine", "whitened", "cka"}
        How RDMs are compared; ``whitened`` is Pearson r after whitening by the
        covariance that independent noise gives the distances (Diedrichsen et al.
        2020, https://arxiv.org/abs/2007.02789); ``cka``, for squared euclidean
        distances, is the linear centred kernel alignment of the patterns (Kornblith
        et al. 2019, https://arxiv.org/abs/1905.00414).

    Returns
    -------
    r : ndarray of shape (n_splits, n_halves)
        Similarity in the first and second half; NaN where an RDM does not vary. Of
        one subject: the one similarity of the own two RDMs.

    Notes
    -----
    A mean RDM is a weighted sum, so all measures but those of ranks follow from three
    matrices of inner products (n_subjects, n_subjects): time does not grow with
    n_splits x n_pairs. The other two rank the mean RDM of every half. All equal
    rsatoolbox's measures of the same RDMs.

    Examples
    --------
    >>> from versa.stats.splits import split_halves
    >>> brain = [[1.0, 2, 3], [1, 3, 2]]
    >>> half_correlations([[1.0, 2, 3]], brain, split_halves(2)).round(6)
    array([[1. , 0.5]])
    """
    brain = _checked(brain_rdms, splits, "brain_rdms")
    model = _checked(model_rdms, splits, "model_rdms", single=True)
    if model.shape[1] != brain.shape[1]:
        raise ValueError(
            "model_rdms and brain_rdms must have the same pairs; got "
            f"{model.shape[1]} and {brain.shape[1]}."
        )
    return half_scores(model, brain, splits, check_comparison(compare_by))


def ceilings_table(
    dataset: BrainDataset, splits: SplitHalves | None = None
) -> "pd.DataFrame":
    """The paper's noise ceiling of every sector, and rsatoolbox's beside it.

    Parameters
    ----------
    dataset : BrainDataset
        Responses or RDMs of at least 2 subjects.
    splits : SplitHalves, optional
        Half-splits of its subjects; all of them by default (1000 beyond 20 subjects).

    Returns
    -------
    table : DataFrame
        One row per sector: ``sector, n_subjects, n_splits, ceiling``, its 95% interval
        ``ci_low, ci_high`` for new subjects (jackknife, subjects - 1 degrees
        of freedom; NaN with 2 subjects), and ``lower_bound, upper_bound`` of
        :func:`subject_bounds`.

    Raises
    ------
    ValueError
        If there is one subject only, `splits` are of another number of subjects, or
        voxels hold NaN or are constant.

    Notes
    -----
    The two answer different questions. The ceiling correlates the mean RDMs of two
    halves of the subjects, so it is what a model that is scored on such means, as in
    :func:`half_correlations`, can be compared with; it grows with the number of
    subjects in a half. The bounds are averages over single subjects, whose RDMs are
    noisier than means: they are for models that are scored subject by subject, as
    rsatoolbox does, and are commonly far below the ceiling. None of them is corrected
    by Spearman-Brown.

    Examples
    --------
    >>> from versa.fmri.dataset.stimuli import StimulusSet
    >>> names = ["cup", "dog", "ear", "fan"]
    >>> stimuli = StimulusSet(names, [f"{n}.png" for n in names], ["0" * 64] * 4)
    >>> shared = np.random.default_rng(0).normal(size=6)
    >>> noise = np.random.default_rng(1).normal(scale=0.3, size=(5, 6))
    >>> dataset = BrainDataset("d", stimuli, list("abcde"), rdms={"V1": shared + noise})
    >>> columns = ["sector", "n_splits", "ceiling", "lower_bound", "upper_bound"]
    >>> ceilings_table(dataset)[columns].round(3)
      sector  n_splits  ceiling  lower_bound  upper_bound
    0     V1        10    0.933        0.868        0.916
    """
    import pandas as pd

    dataset.require_clean_voxels()
    if dataset.n_subjects < 2:
        raise ValueError(
            "a noise ceiling must have at least 2 subjects, whose halves are compared; "
            f"{dataset.name} has one. rdm_reliability compares the halves of the runs."
        )
    if splits is None:
        splits = split_halves(dataset.n_subjects)
    rows = []
    for name in dataset.sector_names:
        rdms = subject_rdms(dataset, name)
        ceiling = ceiling_of(rdms, splits)
        lower, upper = subject_bounds(rdms)
        rows.append(
            {
                "sector": name,
                "n_subjects": dataset.n_subjects,
                "n_splits": splits.n_splits,
                "ceiling": ceiling.mean,
                "ci_low": ceiling.low,
                "ci_high": ceiling.high,
                "lower_bound": lower,
                "upper_bound": upper,
            }
        )
    return pd.DataFrame(rows)


def subject_bounds(rdms: ArrayLike) -> tuple[float, float]:
    """Noise ceiling of single subjects, as rsatoolbox computes it.

    Parameters
    ----------
    rdms : array-like of shape (n_subjects, n_pairs)
        Brain RDM of each subject; at least 2.

    Returns
    -------
    lower : float
        Mean over subjects of Pearson r (not Fisher z) between a subject's RDM and the
        mean of the *other* subjects' RDMs.
    upper : float
        The same with the subject's own RDM in the mean, which therefore fits its
        noise, too: the best that any RDM can do for these subjects. RDMs are z-scored
        before they are averaged. Both are NaN if an RDM does not vary.

    Raises
    ------
    ValueError
        If `rdms` is not (n_subjects, n_pairs) with at least 2 subjects.

    References
    ----------
    Nili et al. (2014), https://doi.org/10.1371/journal.pcbi.1003553

    Examples
    --------
    >>> lower, upper = subject_bounds([[1.0, 2, 3], [1, 3, 2]])
    >>> round(lower, 6), round(upper, 6)
    (0.5, 0.866025)
    """
    from rsatoolbox.inference import boot_noise_ceiling

    stack = np.asarray(rdms, dtype=float)
    if stack.ndim != 2 or len(stack) < 2:
        raise ValueError(
            "rdms must be (n_subjects, n_pairs) with at least 2 subjects; got "
            f"{stack.shape}."
        )
    if not np.isfinite(stack).all() or varies_by_rounding(stack).any():
        return np.nan, np.nan
    names = [str(i) for i in range(n_images_of(stack.shape[1]))]
    lower, upper = boot_noise_ceiling(to_rsatoolbox(stack, names), method="corr")
    return float(lower), float(upper)


def rdm_reliability(odd: ArrayLike, even: ArrayLike) -> float:
    """Correlation of one subject's RDMs of odd and even runs.

    Parameters
    ----------
    odd, even : array-like of shape (n_images, n_voxels)
        Responses in the two halves of the runs, rows in the same order.

    Returns
    -------
    r : float
        Pearson r of the two correlation-distance RDMs, without Spearman-Brown; NaN if
        an RDM does not vary.

    Raises
    ------
    ValueError
        If shapes differ, there are fewer than 3 images, or values are not finite.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(5, 20))
    >>> round(rdm_reliability(x, 3 * x + 1), 6)
    1.0
    """
    halves = [half.astype(np.float64) for half in two_halves(odd, even)]
    broken = ~np.logical_and.reduce([np.isfinite(half).all(axis=0) for half in halves])
    if broken.any():
        raise ValueError(
            f"odd and even of the subject must be finite; {int(broken.sum())} of "
            f"{broken.size} voxels hold NaN or infinity. Leave these voxels out of "
            "both halves."
        )
    first, second = (correlation_rdm(half)[:, None] for half in halves)
    return float(voxel_reliability(first, second)[0])


def subject_rdms(
    dataset: BrainDataset, sector: str, measure: str = "correlation"
) -> np.ndarray:
    """RDM of every subject in a sector, (n_subjects, n_pairs)."""
    if dataset.responses is None:
        return np.asarray((dataset.rdms or {})[sector])
    if measure == "crossnobis":
        pairs = (dataset.halves or {})[sector]
        return np.stack(map_in_threads(lambda pair: crossnobis_rdm(*pair), pairs))
    voxels = dataset.responses[sector]
    return np.stack(map_in_threads(lambda x: pattern_rdm(x, measure), voxels))


def _checked(
    rdms: ArrayLike, splits: SplitHalves, name: str, *, single: bool = False
) -> np.ndarray:
    rdms = np.asarray(rdms, dtype=float)
    allowed = {splits.n_subjects, 1} if single else {splits.n_subjects}
    if rdms.ndim != 2 or len(rdms) not in allowed:
        raise ValueError(
            f"{name} must be (n_subjects, n_pairs) for {splits.n_subjects} subjects; "
            f"got {rdms.shape}."
        )
    return rdms
