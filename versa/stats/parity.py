"""Whether two models are on par: differences of r, equivalence tests, Bayes factors."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "EquivalenceTest",
    "bayes_factor",
    "equivalence_test",
]

CAUCHY_SCALE = 0.707
"""Scale of the prior of the standardised difference, the usual "medium" one."""

# Nodes of the integral over log g; the integrand is below 1e-300 at the first.
_LOG_G = np.arange(-7.5, 90.0, 0.04)


def difference_of_r(difference: ArrayLike, level: ArrayLike) -> np.ndarray:
    """A difference of Fisher z as a difference of r around a level.

    Parameters
    ----------
    difference : array-like
        z_A - z_B.
    level : array-like
        Mean of z_A and z_B, which is held while the difference varies.

    Returns
    -------
    difference : ndarray
        ``tanh(level + difference / 2) - tanh(level - difference / 2)``: r_A - r_B
        for the difference that was observed, and 0 for 0.

    Examples
    --------
    >>> z = np.arctanh([0.6, 0.5])
    >>> float(difference_of_r(z[0] - z[1], z.mean()).round(6))
    0.1
    """
    half = np.asarray(difference, dtype=float) / 2
    level = np.asarray(level, dtype=float)
    return np.tanh(level + half) - np.tanh(level - half)


def difference_of_z(difference: ArrayLike, level: ArrayLike) -> np.ndarray:
    """A difference of r as a difference of Fisher z around a level.

    Parameters
    ----------
    difference : array-like
        r_A - r_B, between -2 and 2.
    level : array-like
        Mean of z_A and z_B.

    Returns
    -------
    difference : ndarray
        The inverse of :func:`difference_of_r`; infinite where `difference` is 2.

    Examples
    --------
    >>> float(difference_of_r(difference_of_z(0.05, 0.6), 0.6).round(12))
    0.05
    """
    r = np.asarray(difference, dtype=float)
    size = np.abs(r)
    # tanh(m + x) - tanh(m - x) = 2 sinh 2x / (cosh 2m + cosh 2x), a square in exp 2x
    slope = size * np.cosh(2 * np.asarray(level, dtype=float))
    with np.errstate(divide="ignore"):
        grown = (slope + np.sqrt(slope**2 + 4 - size**2)) / (2 - size)
    return np.sign(r) * np.log(grown)


class EquivalenceTest(NamedTuple):
    """Result of :func:`equivalence_test`.

    Attributes
    ----------
    pvalue : float or ndarray
        The larger of both: that the difference is at the margin or beyond.
    below : float or ndarray
        p of the one-sided test that the difference is above ``-margin``.
    above : float or ndarray
        p of the one-sided test that the difference is below ``margin``.
    """

    pvalue: np.ndarray
    below: np.ndarray
    above: np.ndarray


def equivalence_test(
    difference: ArrayLike, standard_error: ArrayLike, df: ArrayLike, margin: ArrayLike
) -> EquivalenceTest:
    """Test by two one-sided t-tests whether a difference is within a margin.

    Parameters
    ----------
    difference : array-like
        A mean difference.
    standard_error : array-like
        Its standard error, of any kind.
    df : array-like
        Degrees of freedom.
    margin : array-like
        Above 0, in the unit of `difference`.

    Returns
    -------
    result : EquivalenceTest
        ``pvalue`` below .05 where the 90% interval lies within the margins.

    Raises
    ------
    ValueError
        If the margin is not above 0.

    References
    ----------
    Schuirmann (1987), https://doi.org/10.1007/BF01068419;
    Lakens (2017), https://doi.org/10.1177/1948550617697177

    Examples
    --------
    >>> float(equivalence_test(0.01, 0.02, 9, 0.1).pvalue.round(5))
    0.00074
    """
    from scipy.stats import t as student

    margin = np.asarray(margin, dtype=float)
    if not np.all((margin > 0) | np.isnan(margin)):
        raise ValueError(f"margin must be above 0; got {margin}.")
    difference = np.asarray(difference, dtype=float)
    error = np.asarray(standard_error, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = student.sf((difference + margin) / error, df)
        above = student.cdf((difference - margin) / error, df)
    return EquivalenceTest(np.maximum(below, above), below, above)


def bayes_factor(
    t: ArrayLike, n: ArrayLike, *, scale: float = CAUCHY_SCALE
) -> np.ndarray:
    """JZS Bayes factor of a paired t-test, in favour of a difference.

    The standardised difference has a Cauchy prior around 0. Above 1 the data speak for
    a difference, below 1 for none: 1/3 is three times as likely without one.

    Parameters
    ----------
    t : array-like
        Statistic of a paired t-test.
    n : array-like of int
        Number of pairs, at least 2.
    scale : float, default=0.707
        Scale of the Cauchy prior.

    Returns
    -------
    bf10 : ndarray
        Infinite for an infinite t; NaN where t is NaN or ``n < 2``.

    Notes
    -----
    In :func:`versa.compare` t is the corrected statistic and n the number of subjects.
    Were scores means over the subjects of a half, then over all J half-splits the
    corrected t with n_test / n_train = 1 would be the paired t over subjects times
    ``sqrt((J - 1) / (J + 1))`` (of an even number; for 3 against 4 subjects also times
    ``sqrt(24 / 25)``): .966 for 7 subjects, .996 for 10, and smaller for few, which
    leaves the Bayes factor a little nearer to 1. Correlations of mean RDMs are only
    nearly such means. With another ratio t is no longer a paired t over subjects.

    References
    ----------
    Rouder et al. (2009), https://doi.org/10.3758/PBR.16.2.225

    Examples
    --------
    >>> bayes_factor([0.0, 2.0, 5.0], 10).round(2)
    array([ 0.31,  1.28, 52.61])
    """
    t, n = np.broadcast_arrays(np.asarray(t, dtype=float), np.asarray(n, dtype=float))
    df = np.where(n >= 2, n - 1, np.nan)[..., None]
    squared = np.minimum(t[..., None] ** 2, 1e30)  # beyond, the factor is infinite
    widened = 1 + n[..., None] * scale**2 * np.exp(_LOG_G)
    power = -(df + 1) / 2
    log_likelihood = (
        -np.log(widened) / 2
        + power * np.log1p(squared / (widened * df))
        - power * np.log1p(squared / df)
    )
    log_prior = -(np.log(2 * np.pi) + _LOG_G + np.exp(-_LOG_G)) / 2  # g ~ 1 / chi²(1)
    with np.errstate(over="ignore"):
        factor = np.exp(log_likelihood + log_prior).sum(axis=-1)
    factor = factor * (_LOG_G[1] - _LOG_G[0])
    return np.where(np.isinf(t) & (n >= 2), np.inf, factor)
