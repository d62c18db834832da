"""How well the odd and even runs of a subject agree, voxel by voxel."""

import logging
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "reliable_voxels",
    "spearman_brown",
    "voxel_ceiling",
    "voxel_reliability",
]

logger = logging.getLogger("versa")

_CHUNK = 2**14  # voxels whose deviations are held in float64 at a time
_FEW_VOXELS = 50
_ROUNDING = 8 * np.finfo(float).eps  # relative range that is no variation


def voxel_reliability(odd: ArrayLike, even: ArrayLike) -> np.ndarray:
    """Correlation of a voxel's response profiles in odd and even runs.

    Parameters
    ----------
    odd, even : array-like of shape (n_images, n_voxels)
        Responses of one subject in the two halves of the runs, rows in the same order.

    Returns
    -------
    reliability : ndarray of shape (n_voxels,)
        Pearson r over the images, as in Figure 1d of the paper; NaN for a voxel that
        is constant in a half, or holds NaN or infinity. It is that of half the data:
        :func:`spearman_brown` tells what all of it would have.

    Raises
    ------
    ValueError
        If the two have different shapes, or fewer than 3 images.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4

    Examples
    --------
    >>> odd = [[1.0, 5.0, 0.0], [2.0, 5.0, 2.0], [3.0, 5.0, 1.0]]
    >>> even = [[2.0, 1.0, 0.0], [4.0, 2.0, 1.0], [6.0, 3.0, 2.0]]
    >>> voxel_reliability(odd, even)
    array([1. , nan, 0.5])
    """
    first, second = two_halves(odd, even)
    n_voxels = first.shape[1]
    r = np.full(n_voxels, np.nan)
    for start in range(0, n_voxels, _CHUNK):
        part = slice(start, start + _CHUNK)
        x = first[:, part].astype(np.float64)
        y = second[:, part].astype(np.float64)
        defined = _varies(x) & _varies(y)
        if not defined.all():
            x, y = x[:, defined], y[:, defined]
        x, y = _deviations(x), _deviations(y)
        inner = np.einsum("ij,ij->j", x, y)
        squares = np.einsum("ij,ij->j", x, x) * np.einsum("ij,ij->j", y, y)
        r[part][defined] = np.clip(inner / np.sqrt(squares), -1.0, 1.0)
    return r


def spearman_brown(r: ArrayLike, *, length: float = 2.0) -> np.ndarray:
    """Reliability that data of another length would have.

    Nothing in versa applies it unasked.

    Parameters
    ----------
    r : array-like
        Reliabilities, any shape.
    length : float, default=2.0
        How many times as long; 2 goes from half of the runs to all of them.

    Returns
    -------
    predicted : ndarray, same shape
        ``length * r / (1 + (length - 1) * r)``. The formula supposes r >= 0: negative
        values are returned as they are.

    Raises
    ------
    ValueError
        If `length` is not positive.

    References
    ----------
    Spearman (1910), https://doi.org/10.1111/j.2044-8295.1910.tb00206.x;
    Brown (1910), https://doi.org/10.1111/j.2044-8295.1910.tb00207.x

    Examples
    --------
    >>> spearman_brown([0.5, 0.0, -0.2]).round(3)
    array([ 0.667,  0.   , -0.2  ])
    """
    if not length > 0:
        raise ValueError(f"length must be positive; got {length}.")
    values = np.asarray(r, dtype=float)
    positive = np.maximum(values, 0.0)
    predicted = length * positive / (1.0 + (length - 1.0) * positive)
    return np.where(values < 0, values, predicted)


def voxel_ceiling(reliability: ArrayLike) -> np.ndarray:
    """Highest correlation that predictions of a voxel can be expected to have.

    Parameters
    ----------
    reliability : array-like of shape (n_voxels,)
        Pearson r of odd and even runs, as :func:`voxel_reliability` gives it.

    Returns
    -------
    ceiling : ndarray of shape (n_voxels,)
        ``sqrt(spearman_brown(reliability))``, the correlation of the responses over all
        runs with what they would be without noise; 0 for a negative reliability, NaN
        for NaN. Its square is the ceiling of a share of variance.

    References
    ----------
    Schoppe et al. (2016), https://doi.org/10.3389/fncom.2016.00010

    Examples
    --------
    >>> voxel_ceiling([0.5, 0.0, -0.2]).round(3)
    array([0.816, 0.   , 0.   ])
    """
    full = spearman_brown(reliability)
    return np.sqrt(np.where(full < 0, 0.0, full))


def reliable_voxels(reliability: ArrayLike, threshold: float = 0.3) -> np.ndarray:
    """Voxels whose reliability is above a threshold.

    The paper uses no threshold; 0.3 is later practice of the same laboratory. Tarhan
    & Konkle (2019) choose it from the data instead, where the reliability of the
    patterns levels off.

    Parameters
    ----------
    reliability : array-like of shape (n_voxels,)
        As :func:`voxel_reliability` gives it.
    threshold : float, default=0.3
        A voxel needs more than this.

    Returns
    -------
    keep : ndarray of bool, shape (n_voxels,)
        False for NaN. Fewer than 50 voxels are reported as a warning.

    Raises
    ------
    ValueError
        If the threshold is not below 1, or no voxel is above it.

    References
    ----------
    Tarhan & Konkle (2019), https://doi.org/10.1101/703603

    Examples
    --------
    >>> r = np.concatenate([np.full(60, 0.5), [0.3, np.nan]])
    >>> int(reliable_voxels(r).sum())
    60
    """
    values = np.asarray(reliability, dtype=float)
    if not isinstance(threshold, Real) or not -1 <= threshold < 1:
        raise ValueError(f"threshold must be from -1 to below 1; got {threshold!r}.")
    keep = values > threshold
    n_kept = int(np.count_nonzero(keep))
    if not n_kept:
        best = np.nanmax(values) if np.isfinite(values).any() else np.nan
        raise ValueError(
            f"at least one voxel must be more reliable than {threshold:g}; the best of "
            f"{values.size} has r = {best:.3f}."
        )
    if n_kept < _FEW_VOXELS:
        logger.warning(
            "only %d of %d voxels have a reliability above %g; with fewer than %d the "
            "RDM is not to be trusted.",
            n_kept,
            values.size,
            threshold,
            _FEW_VOXELS,
        )
    return keep


def two_halves(odd: ArrayLike, even: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both halves as arrays of one shape, (n_images, n_voxels)."""
    first, second = np.asarray(odd), np.asarray(even)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            "odd and even must be (n_images, n_voxels) of one shape; got "
            f"{first.shape} and {second.shape}."
        )
    if len(first) < 3:
        raise ValueError(
            "odd and even must have at least 3 images, because two points always "
            f"correlate perfectly; got {len(first)}."
        )
    return first, second


def _varies(x: np.ndarray) -> np.ndarray:
    """Which columns are finite and vary by more than rounding."""
    finite = np.isfinite(x).all(axis=0)
    x = np.where(finite, x, 0.0)
    return np.ptp(x, axis=0) > _ROUNDING * np.abs(x).max(axis=0)


def _deviations(x: np.ndarray) -> np.ndarray:
    """Columns without their mean, in units of their range: squares stay finite."""
    x = x - x[0]  # exact for values close to one another, however far from 0
    x /= np.abs(x).max(axis=0)
    x -= x.mean(axis=0)
    return x
