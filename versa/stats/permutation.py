"""Tests of scores against those of permuted data, alone and as the best of many."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["PermutationTest", "permutation_test"]

# Scores that are equal in exact arithmetic, such as those of a network that gives the
# same output for every image, differ by rounding: they count as reached.
_TIE = 1e-9


class PermutationTest(NamedTuple):
    """What :func:`permutation_test` returns; NaN where the observed score is.

    Attributes
    ----------
    chance : ndarray of shape (n_scores,)
        Mean of the permuted scores.
    z : ndarray of shape (n_scores,)
        Observed score less `chance`, in standard deviations of the permuted scores;
        NaN if these do not vary.
    p : ndarray of shape (n_scores,)
        One-sided: how often a permuted score is as high as the observed one.
    p_max : ndarray of shape (n_scores,)
        The same for the highest of all scores: how often any of them is as high.
    """

    chance: np.ndarray
    z: np.ndarray
    p: np.ndarray
    p_max: np.ndarray


def permutation_test(observed: ArrayLike, permuted: ArrayLike) -> PermutationTest:
    """Compare scores with those of permuted data, one by one and with the highest.

    Parameters
    ----------
    observed : array-like of shape (n_scores,)
        Scores of the data as they are, higher for more.
    permuted : array-like of shape (n_scores, n_permutations)
        The same scores of the data permuted. A column is one permutation, the same
        for all scores, and none is the identity.

    Returns
    -------
    test : PermutationTest
        ``p = (b + 1) / (n_permutations + 1)``, where b permutations reach what was
        observed; ``p_max`` holds for the best of all scores.

    Raises
    ------
    ValueError
        If the shapes do not fit or there are no permutations.

    Notes
    -----
    The observed scores count as one more permutation, which makes p valid for any
    number of them. Scores may have different chance levels and spreads: before the
    highest is taken each is standardized by the mean and the standard deviation of its
    own permutations and the observed score together. Under the null hypothesis of all
    scores these are exchangeable, so `p_max` is valid, too. A score without an observed
    value takes no part. A permutation without a score counts as one that reaches the
    observed score, and not in `chance`, `z` and the highest of the others.

    References
    ----------
    Phipson & Smyth (2010), https://doi.org/10.2202/1544-6115.1585;
    Westfall & Young (1993), Resampling-based multiple testing;
    Nichols & Holmes (2002), https://doi.org/10.1002/hbm.1058

    Examples
    --------
    >>> null = [[0.1, 0.2, 0.0], [0.1, 0.0, 0.2]]
    >>> test = permutation_test([0.5, 0.2], null)
    >>> test.chance.round(3), test.z.round(3)
    (array([0.1, 0.1]), array([4., 1.]))
    >>> test.p, test.p_max
    (array([0.25, 0.5 ]), array([0.25, 0.5 ]))
    """
    observed = np.asarray(observed, dtype=float)
    permuted = np.asarray(permuted, dtype=float)
    if (
        observed.ndim != 1
        or permuted.ndim != 2
        or len(permuted) != len(observed)
        or not permuted.shape[1]
    ):
        raise ValueError(
            "permuted must be (n_scores, n_permutations) for observed (n_scores,), "
            f"with at least one permutation; got {permuted.shape} and {observed.shape}."
        )
    n_permutations = permuted.shape[1]
    chance, spread = _moments(permuted, ddof=1)
    varies = spread > _TIE
    z = np.full(observed.shape, np.nan)
    np.divide(observed - chance, spread, out=z, where=varies)
    below = permuted < observed[:, None] - _TIE  # a NaN is not
    p = (n_permutations - below.sum(axis=1) + 1) / (n_permutations + 1)
    p_max = np.maximum(p, _against_highest(observed, permuted))
    undefined = np.isnan(observed)
    return PermutationTest(
        *(np.where(undefined, np.nan, value) for value in (chance, z, p, p_max))
    )


def _against_highest(observed: np.ndarray, permuted: np.ndarray) -> np.ndarray:
    """P-values of every score against the highest standardized one."""
    together = np.concatenate([observed[:, None], permuted], axis=1)
    together[np.isnan(observed)] = np.nan
    mean, spread = _moments(together, ddof=0)
    standard = np.zeros_like(together)
    np.divide(
        together - mean[:, None],
        spread[:, None],
        out=standard,
        where=(spread > _TIE)[:, None],
    )
    standard[np.isnan(together)] = -np.inf
    highest = standard[:, 1:].max(axis=0, initial=-np.inf)
    reached = highest >= standard[:, :1] - _TIE
    return (reached.sum(axis=1) + 1) / (permuted.shape[1] + 1)


def _moments(values: np.ndarray, *, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each row, of what is not NaN in it."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    mean, spread = (np.full(len(values), np.nan) for _ in range(2))
    np.divide(np.where(known, values, 0).sum(axis=1), count, out=mean, where=count > 0)
    squares = np.where(known, values - mean[:, None], 0) ** 2
    np.divide(squares.sum(axis=1), count - ddof, out=spread, where=count > ddof)
    return mean, np.sqrt(spread)
