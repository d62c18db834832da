"""Averages of correlations and their intervals over overlapping splits."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "Interval",
    "bootstrap_interval",
    "corrected_interval",
    "fisher_mean",
    "fisher_z",
]

# arctanh(1) is infinite; the largest double below 1 has a z of 18.7.
_LARGEST_R = np.nextafter(1.0, 0.0)


class Interval(NamedTuple):
    """A mean correlation with the ends of its interval.

    Attributes
    ----------
    mean : float
        Mean correlation, through Fisher z.
    low : float
        Lower end of the interval.
    high : float
        Upper end of the interval.
    """

    mean: float
    low: float
    high: float


def fisher_z(r: ArrayLike) -> np.ndarray:
    """Fisher z of correlations; finite also for r = 1 and -1.

    Parameters
    ----------
    r : array-like
        Correlations, any shape.

    Returns
    -------
    z : ndarray, same shape
        ``arctanh(r)``.

    Examples
    --------
    >>> fisher_z([0.0, 0.5, 1.0]).round(3)
    array([ 0.   ,  0.549, 18.715])
    """
    return np.arctanh(np.clip(np.asarray(r, dtype=float), -_LARGEST_R, _LARGEST_R))


def fisher_mean(r: ArrayLike, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Mean correlation: Fisher z, averaged, transformed back.

    Parameters
    ----------
    r : array-like
        Correlations.
    axis : int or tuple of int, optional
        Axes to average over; all of them by default.

    Returns
    -------
    mean : ndarray or float
        Mean correlation, NaN where any value is NaN.

    Examples
    --------
    >>> float(fisher_mean([0.2, 0.8]).round(4))
    0.5721
    """
    return np.tanh(fisher_z(r).mean(axis=axis))


def corrected_interval(
    r: ArrayLike,
    *,
    test_train_ratio: float = 1.0,
    df: float | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Interval of a mean correlation over overlapping splits.

    The variance over splits is multiplied by ``1 / J + n_test / n_train`` in place of
    ``1 / J``, because splits of one group of subjects are not independent.

    Parameters
    ----------
    r : array-like of shape (J,)
        Correlations of all split evaluations.
    test_train_ratio : float, default=1.0
        n_test / n_train; 1 is the convention for halves (repeated 2-fold).
    df : float, optional
        Degrees of freedom, ``J - 1`` by default as in the paper. With the number of
        subjects minus one the coverage is closer to nominal.
    confidence : float, default=0.95
        Coverage.

    Returns
    -------
    interval : Interval
        Mean and ends as correlations; the ends are NaN if ``J < 2``.

    References
    ----------
    Nadeau & Bengio (2003), https://doi.org/10.1023/A:1024068626366;
    Bouckaert & Frank (2004), https://doi.org/10.1007/978-3-540-24775-3_3

    Examples
    --------
    >>> mean, low, high = corrected_interval([0.5, 0.6, 0.55, 0.45])
    >>> round(mean, 3), round(low, 3), round(high, 3)
    (0.527, 0.261, 0.719)
    """
    from scipy.stats import t

    z = fisher_z(np.asarray(r, dtype=float).ravel())
    n = z.size
    mean = float(np.tanh(z.mean())) if n else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    error = np.sqrt((1.0 / n + test_train_ratio) * z.var(ddof=1))
    reach = t.ppf((1.0 + confidence) / 2.0, n - 1 if df is None else df) * error
    low, high = np.tanh(z.mean() - reach), np.tanh(z.mean() + reach)
    return Interval(mean, float(low), float(high))


def bootstrap_interval(
    r: ArrayLike,
    *,
    n_samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean correlation, resampling the splits.

    The line width of the paper's Figure 2. It describes the splits of these subjects
    and is far too narrow as a statement about other subjects.

    Parameters
    ----------
    r : array-like of shape (J,)
        Correlations of all split evaluations.
    n_samples : int, default=1000
        Bootstrap samples.
    confidence : float, default=0.95
        Coverage.
    seed : int, default=0
        Seed of the resampling.

    Returns
    -------
    interval : Interval
        Mean and ends as correlations.

    Examples
    --------
    >>> [round(end, 6) for end in bootstrap_interval([0.4, 0.4, 0.4])]
    [0.4, 0.4, 0.4]
    """
    z = fisher_z(np.asarray(r, dtype=float).ravel())
    rng = np.random.default_rng(seed)
    means = np.array(
        [z[rng.integers(z.size, size=z.size)].mean() for _ in range(n_samples)]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(*(float(x) for x in np.tanh([z.mean(), low, high])))
