"""The jackknife over subjects: intervals of the ceiling and of shares of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from versa.stats.halves import (
    InnerProducts,
    alone,
    ceiling_without,
    half_ceilings,
    scores_without,
)
from versa.stats.intervals import Interval, fisher_z
from versa.stats.selection import cv_max_layer
from versa.stats.splits import SplitHalves

__all__ = ["jackknife_interval"]


def jackknife_error(without: ArrayLike) -> np.ndarray:
    """Standard error of a number, from its values without each subject.

    Parameters
    ----------
    without : array-like of shape (..., n_subjects)
        The number without the first subject, without the second, ...

    Returns
    -------
    error : ndarray of shape (...,)
        ``sqrt((S - 1) / S * sum of squared deviations from their mean)``; NaN where a
        value is NaN, or with fewer than 2 subjects.

    References
    ----------
    Tukey (1958), Annals of Mathematical Statistics 29:614;
    Efron & Stein (1981), https://doi.org/10.1214/aos/1176345462

    Examples
    --------
    Of a mean it is the standard error:

    >>> x = np.array([1.0, 2, 3, 6])
    >>> without = [np.delete(x, i).mean() for i in range(4)]
    >>> bool(np.isclose(jackknife_error(without), x.std(ddof=1) / 2))
    True
    """
    without = np.asarray(without, dtype=float)
    n = without.shape[-1]
    if n < 2:
        return np.full(without.shape[:-1], np.nan)
    return np.sqrt((n - 1) * without.var(axis=-1))


def jackknife_interval(
    value: float, without: ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of a number for new subjects, from its values without each subject.

    Parameters
    ----------
    value : float
        The number of all subjects.
    without : array-like of shape (n_subjects,)
        The number without the first subject, without the second, ...
    confidence : float, default=0.95
        Coverage.

    Returns
    -------
    low, high : float
        ``value`` plus and minus Student's t with n_subjects - 1 degrees of freedom
        times ``jackknife_error``.

    Examples
    --------
    >>> low, high = jackknife_interval(2.0, [1.9, 2.1, 2.0])
    >>> round(low, 3), round(high, 3)
    (1.503, 2.497)
    """
    from scipy.stats import t

    without = np.asarray(without, dtype=float)
    error = float(jackknife_error(without))
    reach = t.ppf((1.0 + confidence) / 2.0, max(without.size - 1, 1)) * error
    return float(value - reach), float(value + reach)


def ceiling_interval(inner: np.ndarray, splits: SplitHalves) -> Interval:
    """Noise ceiling with its jackknife interval, from inner products.

    A subject is left out of its half, in all splits; the ends are NaN with 2 subjects.
    """
    z = float(fisher_z(half_ceilings(inner, splits)).mean())
    low, high = jackknife_interval(z, ceiling_z_without(inner, splits))
    return Interval(*(float(x) for x in np.tanh([z, low, high])))


def ceiling_z_without(inner: np.ndarray, splits: SplitHalves) -> np.ndarray:
    """Mean Fisher z of the noise ceiling without each subject, (n_subjects,).

    NaN without a subject who is alone in its half in every split.
    """
    kept = np.logical_not(alone(splits).any(axis=1))
    return _mean_where(fisher_z(ceiling_without(inner, splits)), kept, 0)


def best_z_without(
    layers: Sequence[InnerProducts], splits: SplitHalves, halves: str = "both"
) -> tuple[np.ndarray, np.ndarray]:
    """Mean Fisher z of the scores without each subject.

    Of every layer (n_layers, n_subjects), and of the cross-validated best layer
    (n_subjects,), which is chosen anew without each subject. With `halves` "first"
    only the first half of each split counts.
    """
    counted = slice(1) if halves == "first" else slice(None)
    r = np.stack([scores_without(inner, splits) for inner in layers])
    lonely = alone(splits)
    z = _mean_where(fisher_z(r[:, :, counted]), ~lonely[:, counted], (1, 2))
    n_layers, n_splits, _, n_subjects = r.shape
    pairs = np.moveaxis(r, 3, 1).reshape(n_layers, -1, 2)  # (layers, subject x split)
    best = cv_max_layer(pairs).r.reshape(n_subjects, n_splits, 2)[..., counted]
    kept = np.logical_not(lonely.any(axis=1)).T[..., None]
    return z, _mean_where(fisher_z(best), kept, (1, 2))


def _mean_where(
    values: np.ndarray, kept: np.ndarray, axis: int | tuple[int, ...]
) -> np.ndarray:
    """Mean of the values that are kept; NaN where there are none, or one is NaN."""
    kept = np.broadcast_to(kept, values.shape)
    n = kept.sum(axis=axis)
    total = np.where(kept, values, 0.0).sum(axis=axis)
    return np.divide(total, n, out=np.full(np.shape(n), np.nan), where=n > 0)
