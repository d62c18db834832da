"""Power of a paired t-test over subjects, and the difference that it detects."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["detectable_effect", "paired_power"]

_LOG_S = np.arange(-40.0, 4.0, 0.01)  # log of a standard deviation that is 1


def paired_power(
    effect: ArrayLike, n_subjects: int, *, alpha: float = 0.05
) -> np.ndarray:
    """How often a two-sided paired t-test rejects.

    Parameters
    ----------
    effect : array-like
        True difference over the standard deviation of the subjects' differences.
    n_subjects : int
        At least 2; the test has ``n_subjects - 1`` degrees of freedom.
    alpha : float, default=0.05
        Level of the test.

    Returns
    -------
    power : ndarray
        Probability of p < alpha; `alpha` where there is no effect.

    Examples
    --------
    >>> paired_power([0.0, 0.5, 1.0], 10).round(3)
    array([0.05 , 0.293, 0.803])
    """
    _require(n_subjects, alpha)
    effect = np.asarray(effect, dtype=float)
    return _power(effect * np.sqrt(n_subjects), n_subjects - 1, alpha)


def _power(shift: np.ndarray, df: int, alpha: float) -> np.ndarray:
    """Of a t-test whose statistic is shifted: integral over the estimated spread.

    SciPy's noncentral t, and the power of statsmodels with it, is NaN for some large
    effects: that of 4 subjects at .05 / 30 and a shift of 8.
    """
    from scipy.special import gammaln, ndtr
    from scipy.stats import t as student

    critical = student.isf(alpha / 2, df) * np.exp(_LOG_S)
    log_density = (
        np.log(2)
        + df / 2 * np.log(df / 2)
        - gammaln(df / 2)
        + df * _LOG_S
        - df / 2 * np.exp(2 * _LOG_S)
    )
    weights = np.exp(log_density) * (_LOG_S[1] - _LOG_S[0])
    shift = np.asarray(shift)[..., None]
    return (ndtr(shift - critical) + ndtr(-shift - critical)) @ weights


@lru_cache(maxsize=1024)
def detectable_effect(
    n_subjects: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The effect that a two-sided paired t-test finds with a given power.

    Parameters
    ----------
    n_subjects : int
        At least 2.
    power : float, default=0.8
        Share of studies that find it; above `alpha`.
    alpha : float, default=0.05
        Level of the test.

    Returns
    -------
    effect : float
        Difference over the standard deviation of the subjects' differences.

    Examples
    --------
    >>> round(detectable_effect(7), 3), round(detectable_effect(10), 3)
    (1.273, 0.996)
    """
    from scipy.optimize import brentq

    _require(n_subjects, alpha)
    if not alpha < power < 1:
        raise ValueError(
            f"power must be above the level, {alpha:g}, and below 1; got {power}."
        )
    df = n_subjects - 1
    top = 1.0
    while _power(np.array(top), df, alpha) < power:
        top *= 2
    shift = brentq(lambda x: float(_power(np.array(x), df, alpha)) - power, 0, top)
    return float(shift / np.sqrt(n_subjects))


def _require(n_subjects: int, alpha: float) -> None:
    if n_subjects < 2 or n_subjects != int(n_subjects):
        raise ValueError(
            f"n_subjects must be a whole number of 2 or more; got {n_subjects}."
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1; got {alpha}.")
