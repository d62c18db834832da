"""Corrections of p-values for the number of tests in a family."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["benjamini_hochberg", "bonferroni", "holm"]


def bonferroni(p: ArrayLike, family: int) -> np.ndarray:
    """Bonferroni-corrected p-values.

    Parameters
    ----------
    p : array-like
        Uncorrected p-values.
    family : int
        Number of tests in the family.

    Returns
    -------
    p_corrected : ndarray, same shape
        ``min(1, p * family)``.

    Examples
    --------
    >>> bonferroni([0.001, 0.2], 30)
    array([0.03, 1.  ])
    """
    return np.minimum(1.0, np.asarray(p, dtype=float) * family)


def holm(p: ArrayLike, family: int) -> np.ndarray:
    """Holm-corrected p-values: as safe as Bonferroni's, and never larger.

    Parameters
    ----------
    p : array-like of shape (n,)
        Uncorrected p-values; NaN is no test.
    family : int
        Number of tests in the family. Those that are not among `p` count as p = 1.

    Returns
    -------
    p_corrected : ndarray of shape (n,)
        The smallest p times `family`, the next times one less, and so on, and none
        below the one before it.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6:65

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03], 3)
    array([0.03, 0.06, 0.06])
    """
    factors = np.maximum(family - np.arange(np.size(p)), 1)
    return _in_order(p, lambda ordered: np.maximum.accumulate(ordered * factors))


def benjamini_hochberg(p: ArrayLike, family: int) -> np.ndarray:
    """P-values corrected for the false discovery rate.

    Parameters
    ----------
    p : array-like of shape (n,)
        Uncorrected p-values; NaN is no test.
    family : int
        Number of tests in the family. Those that are not among `p` count as p = 1.

    Returns
    -------
    p_corrected : ndarray of shape (n,)
        The i-th smallest p times ``family / i``, and none above the one after it.

    References
    ----------
    Benjamini & Hochberg (1995), https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.03], 3)
    array([0.03, 0.04, 0.04])
    """
    ranks = np.arange(1, np.size(p) + 1)

    def corrected(ordered: np.ndarray) -> np.ndarray:
        raised = np.where(np.isnan(ordered), np.inf, ordered * family / ranks)
        return np.minimum.accumulate(raised[::-1])[::-1]

    return _in_order(p, corrected)


CORRECTIONS: dict[str, Callable[[ArrayLike, int], np.ndarray]] = {
    "bonferroni": bonferroni,
    "holm": holm,
    "fdr": benjamini_hochberg,
}
"""Corrections by the names that :func:`versa.compare` takes."""


def _in_order(p: ArrayLike, correct: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What `correct` makes of the sorted p-values, at their places; at most 1."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")  # NaN last
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, correct(p[order]))
    return np.where(np.isnan(p), np.nan, corrected)
