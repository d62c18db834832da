"""How much of the brain's own geometry two halves of the subjects share."""

import numpy as np
from numpy.typing import ArrayLike

from versa.stats.splits import SplitHalves

__all__ = ["half_correlations", "noise_ceiling"]


def noise_ceiling(rdms: ArrayLike, splits: SplitHalves) -> np.ndarray:
    """Correlation between the mean RDMs of the two halves, for every split.

    Parameters
    ----------
    rdms : array-like of shape (n_subjects, n_pairs)
        Brain RDM of each subject.
    splits : SplitHalves
        Half-splits of the same subjects.

    Returns
    -------
    r : ndarray of shape (n_splits,)
        Pearson correlations, one per split. No correction for using half of the
        data, so that they compare directly with model scores. Their average is
        ``versa.stats.intervals.fisher_mean(r)``.

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
    rdms = _centred(rdms, splits, "rdms")
    inner = rdms @ rdms.T
    first, second = splits.weights[:, 0], splits.weights[:, 1]
    return _ratio(
        np.sum((first @ inner) * second, axis=1),
        np.sum((first @ inner) * first, axis=1),
        np.sum((second @ inner) * second, axis=1),
    )


def half_correlations(
    model_rdms: ArrayLike, brain_rdms: ArrayLike, splits: SplitHalves
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

    Returns
    -------
    r : ndarray of shape (n_splits, 2)
        Pearson correlations in the first and second half; NaN where an RDM does not
        vary.

    Notes
    -----
    A mean RDM is a weighted sum, so all correlations follow from three matrices of
    inner products (n_subjects, n_subjects): time does not grow with
    n_splits x n_pairs.

    Examples
    --------
    >>> from versa.stats.splits import split_halves
    >>> brain = [[1.0, 2, 3], [1, 3, 2]]
    >>> half_correlations([[1.0, 2, 3]], brain, split_halves(2)).round(6)
    array([[1. , 0.5]])
    """
    brain = _centred(brain_rdms, splits, "brain_rdms")
    model = _centred(model_rdms, splits, "model_rdms", single=True)
    if model.shape[1] != brain.shape[1]:
        raise ValueError(
            "model_rdms and brain_rdms must have the same pairs; got "
            f"{model.shape[1]} and {brain.shape[1]}."
        )
    weights = splits.weights  # (n_splits, 2, n_subjects)
    model_weights = (
        weights if len(model) == splits.n_subjects else weights[..., :1] * 0 + 1
    )
    return _ratio(
        np.sum((model_weights @ (model @ brain.T)) * weights, axis=2),
        np.sum((model_weights @ (model @ model.T)) * model_weights, axis=2),
        np.sum((weights @ (brain @ brain.T)) * weights, axis=2),
    )


def _centred(
    rdms: ArrayLike, splits: SplitHalves, name: str, *, single: bool = False
) -> np.ndarray:
    rdms = np.asarray(rdms, dtype=float)
    allowed = {splits.n_subjects, 1} if single else {splits.n_subjects}
    if rdms.ndim != 2 or len(rdms) not in allowed:
        raise ValueError(
            f"{name} must be (n_subjects, n_pairs) for {splits.n_subjects} subjects; "
            f"got {rdms.shape}."
        )
    centred = rdms - rdms.mean(axis=1, keepdims=True)
    # an RDM without any variance keeps none: rounding must not become a correlation
    flat = np.abs(centred).max(axis=1) <= 8 * np.finfo(float).eps * np.abs(rdms).max(
        axis=1
    )
    centred[flat] = 0.0
    return centred


def _ratio(inner: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product = a * b
    r = np.full(inner.shape, np.nan)
    valid = product > 0
    np.divide(
        inner,
        np.sqrt(product, where=valid, out=np.ones_like(product)),
        out=r,
        where=valid,
    )
    return np.clip(r, -1.0, 1.0)
