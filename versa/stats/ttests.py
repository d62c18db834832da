"""The corrected resampled t-test of Nadeau and Bengio."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["CorrectedTTest", "corrected_paired_ttest"]


class CorrectedTTest(NamedTuple):
    """Result of :func:`corrected_paired_ttest`.

    Attributes
    ----------
    statistic : float
        Corrected t.
    pvalue : float
        Two-sided.
    df : float
        Degrees of freedom that were used.
    difference : float
        Mean of ``a - b``.
    standard_error : float
        Corrected standard error of the difference.
    """

    statistic: float
    pvalue: float
    df: float
    difference: float
    standard_error: float

    @property
    def t(self) -> float:
        """The statistic."""
        return self.statistic

    @property
    def p(self) -> float:
        """The two-sided p-value."""
        return self.pvalue


def corrected_paired_ttest(
    a: ArrayLike,
    b: ArrayLike,
    *,
    test_train_ratio: float = 1.0,
    df: float | None = None,
) -> CorrectedTTest:
    """Paired t-test over overlapping splits of the same subjects.

    ``t = mean(d) / sqrt((1 / J + n_test / n_train) * var(d))`` with ``d = a - b``.

    Parameters
    ----------
    a, b : array-like of shape (J,)
        Scores of two models in the same split evaluations, in the same order. Pass
        Fisher z values for correlations; nothing is transformed here. More than one
        axis is flattened.
    test_train_ratio : float, default=1.0
        n_test / n_train; 1 is the convention for halves. Zero gives the ordinary
        paired t-test.
    df : float, optional
        Degrees of freedom, ``J - 1`` by default as in the paper. With all half-splits
        of S subjects this rejects far too often at small alpha; ``S - 1`` is closer
        to nominal (.02 to .07 at .05, more where subjects differ strongly).

    Returns
    -------
    result : CorrectedTTest
        ``statistic, pvalue, df, difference, standard_error``. Equal scores in every
        split give t = 0 and p = 1, a difference that is the same in every split an
        infinite t and p = 0; a single split gives NaN.

    Raises
    ------
    ValueError
        If the shapes differ, a value is NaN, or the ratio or df make no sense.

    References
    ----------
    Nadeau & Bengio (2003), https://doi.org/10.1023/A:1024068626366;
    Bouckaert & Frank (2004), https://doi.org/10.1007/978-3-540-24775-3_3

    Examples
    --------
    >>> result = corrected_paired_ttest([1.0, 2.0, 3.0], [0.5, 1.0, 2.5])
    >>> round(result.statistic, 4), result.df, round(result.pvalue, 4)
    (2.0, 2, 0.1835)
    """
    from scipy.stats import t as student

    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(
            f"a and b must hold the same split evaluations; got shapes {a.shape} and "
            f"{b.shape}."
        )
    difference = (a - b).ravel()
    if not np.all(np.isfinite(difference)):
        raise ValueError(
            "a and b must be finite; "
            f"{np.count_nonzero(~np.isfinite(difference))} of {difference.size} "
            "differences are NaN or infinite."
        )
    if not (np.isfinite(test_train_ratio) and test_train_ratio >= 0):
        raise ValueError(f"test_train_ratio must be 0 or more; got {test_train_ratio}.")
    n = difference.size
    df = n - 1 if df is None else df
    if df < 0 or (df == 0 and n > 1):
        raise ValueError(f"df must be positive; got {df}.")
    mean = float(difference.mean())
    if n < 2:
        return CorrectedTTest(np.nan, np.nan, df, mean, np.nan)
    variance = difference.var(ddof=1)
    # Equal differences leave a variance of rounding only.
    if variance <= (np.finfo(float).eps * max(np.abs(a).max(), np.abs(b).max())) ** 2:
        if mean == 0 or abs(mean) <= np.finfo(float).eps * np.abs(a).max():
            return CorrectedTTest(0.0, 1.0, df, mean, 0.0)
        return CorrectedTTest(float(np.copysign(np.inf, mean)), 0.0, df, mean, 0.0)
    error = float(np.sqrt((1.0 / n + test_train_ratio) * variance))
    statistic = mean / error
    pvalue = float(2.0 * student.sf(abs(statistic), df))
    return CorrectedTTest(statistic, pvalue, df, mean, error)
