"""An exact test over subjects that needs no normal distribution."""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["signflip_test", "smallest_signflip_p"]

_ALL_UP_TO = 20  # subjects; 524,288 pairs of sign patterns
_DRAWN = 100_000


def smallest_signflip_p(n_subjects: int) -> float:
    """The smallest p that a two-sided sign-flip test over subjects can give.

    Parameters
    ----------
    n_subjects : int
        Number of subjects.

    Returns
    -------
    p : float
        ``2 / 2 ** n_subjects``, at most 1; no exact test over as many independent
        subjects that takes both signs as equally likely goes below it.

    Examples
    --------
    >>> smallest_signflip_p(7), round(smallest_signflip_p(10), 5)
    (0.015625, 0.00195)
    """
    return min(1.0, 2.0 ** (1 - n_subjects))


def signflip_test(differences: ArrayLike, *, seed: int = 0) -> float:
    """Exact two-sided test that differences are symmetric around 0.

    Parameters
    ----------
    differences : array-like of shape (n_subjects,)
        One difference per subject, such as of Fisher z between two models.
    seed : int, default=0
        Beyond 20 subjects 100,000 sign patterns are drawn, with this seed.

    Returns
    -------
    p : float
        Share of all sign patterns whose sum is as far from 0 as the observed one, or
        farther; NaN where a difference is NaN.

    References
    ----------
    Fisher (1935), The Design of Experiments, section 21

    Examples
    --------
    >>> signflip_test([0.1, 0.2, 0.15, 0.3, 0.05, 0.22, 0.12])
    0.015625
    """
    d = np.asarray(differences, dtype=float).ravel()
    if not d.size or np.isnan(d).any():
        return np.nan
    observed = (
        abs(d.sum()) - 1e-12 * np.abs(d).sum()
    )  # equal sums may differ by rounding
    if d.size > _ALL_UP_TO:
        rng = np.random.default_rng(seed)
        sums = rng.choice([-1.0, 1.0], (_DRAWN, d.size)) @ d
        return float((1 + np.count_nonzero(np.abs(sums) >= observed)) / (1 + _DRAWN))
    # the first sign is fixed: flipping all changes nothing
    sums = np.array([d[0]])
    for one in d[1:]:
        sums = np.concatenate([sums + one, sums - one])
    return float(np.mean(np.abs(sums) >= observed))
