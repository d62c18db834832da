"""Representational dissimilarity matrices, as vectors in the order of ``pdist``.

A stack of RDMs is a plain array (..., n_pairs) with
``n_pairs = n_images * (n_images - 1) / 2``.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

__all__ = [
    "correlation_rdm",
    "crossnobis_rdm",
    "from_rsatoolbox",
    "pattern_rdm",
    "rdm_from_gram",
    "to_rsatoolbox",
]

DISTANCES = ("correlation", "euclidean", "cosine", "crossnobis")
"""Distances between the patterns of two images."""

# Relative variance below which the differences between a row's units are rounding.
_ROUNDING = 64 * np.finfo(float).eps

# Distances are known to about 1e-16 of what they are differences of; a whole RDM below
# this is rounding.
_NO_DISTANCE = 1e-12

_USUAL = 300  # exponents of two whose squares, and sums of them, are far from the ends


def correlation_rdm(patterns: ArrayLike) -> np.ndarray:
    """Correlation distance between every pair of images.

    Parameters
    ----------
    patterns : array-like of shape (n_images, n_units)
        Voxel betas or unit activations, in any unit.

    Returns
    -------
    rdm : ndarray of shape (n_images * (n_images - 1) // 2,)
        ``1 - r``, unitless, in [0, 2], in the pair order of ``pdist``.

    Raises
    ------
    ValueError
        If `patterns` is not 2-D, has fewer than two images or units, or the pattern
        of an image is constant or holds NaN, so that r is undefined.

    References
    ----------
    Kriegeskorte et al. (2008), https://doi.org/10.3389/neuro.06.004.2008

    Examples
    --------
    >>> correlation_rdm([[0, 1, 2], [2, 1, 0], [0, 2, 1]])
    array([2. , 0.5, 1.5])
    """
    x = np.asarray(patterns, dtype=float)
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 2:
        raise ValueError(
            "patterns must be (n_images, n_units) with at least 2 images and 2 units; "
            f"got {x.shape}."
        )
    bad = np.flatnonzero(~(np.isfinite(x).all(axis=1) & (np.ptp(x, axis=1) > 0)))
    if bad.size:
        raise ValueError(
            f"patterns must vary over units; rows {bad.tolist()} are constant or hold "
            "NaN or infinity."
        )
    x = within_range(x, axis=1)
    centred = x - x.mean(axis=1, keepdims=True)
    return rdm_from_covariance(centred @ centred.T)


def pattern_rdm(patterns: ArrayLike, measure: str = "correlation") -> np.ndarray:
    """Distance between every pair of images.

    Parameters
    ----------
    patterns : array-like of shape (n_images, n_units)
        Voxel betas or unit activations, in any unit.
    measure : {"correlation", "euclidean", "cosine"}
        ``1 - r``; the squared euclidean distance divided by n_units, as in
        rsatoolbox; or ``1 - cos``. See :func:`crossnobis_rdm` for the fourth.

    Returns
    -------
    rdm : ndarray of shape (n_images * (n_images - 1) // 2,)
        In the pair order of ``pdist``; unitless, or in the squared unit of
        `patterns` for ``"euclidean"``.

    Raises
    ------
    ValueError
        If `patterns` is not 2-D, has fewer than two images or units, holds NaN, or
        has a row whose distances are undefined (constant for ``"correlation"``, zeros
        for ``"cosine"``).

    Examples
    --------
    >>> pattern_rdm([[0, 3], [4, 0], [0, 6]], "euclidean")
    array([12.5,  4.5, 26. ])
    """
    if measure == "correlation":
        return correlation_rdm(patterns)
    if measure not in ("euclidean", "cosine"):
        raise ValueError(
            "measure must be correlation, euclidean or cosine for one set of patterns; "
            f"got {measure!r}. crossnobis_rdm takes those of two halves of the runs."
        )
    x = _patterns(patterns)
    if measure == "cosine":
        if not x.any(axis=1).all():
            zero = np.flatnonzero(~x.any(axis=1)).tolist()
            raise ValueError(f"patterns must not be zero everywhere; rows {zero} are.")
        x = within_range(x, axis=1)
    return rdm_from_products(x @ x.T, measure, x.shape[1])


def crossnobis_rdm(odd: ArrayLike, even: ArrayLike) -> np.ndarray:
    """Cross-validated squared distance between every pair of images.

    Parameters
    ----------
    odd, even : array-like of shape (n_images, n_voxels)
        Betas of the same images and voxels from two halves of the runs.

    Returns
    -------
    rdm : ndarray of shape (n_images * (n_images - 1) // 2,)
        ``(odd_i - odd_j) . (even_i - even_j) / n_voxels``, as rsatoolbox's crossnobis
        without a noise precision: 0 on average for two images with the same response,
        whatever the noise, and negative for about half of such pairs.

    Raises
    ------
    ValueError
        If the halves differ in shape, or one is not (n_images, n_voxels) of numbers.

    References
    ----------
    Walther et al. (2016), https://doi.org/10.1016/j.neuroimage.2015.12.012

    Examples
    --------
    >>> crossnobis_rdm([[0, 1], [2, 1], [0, 3]], [[0, 2], [2, 2], [0, 2]])
    array([2., 0., 2.])
    """
    first, second = _patterns(odd, "odd"), _patterns(even, "even")
    if first.shape != second.shape:
        raise ValueError(
            "odd and even must have the same images and voxels; got "
            f"{first.shape} and {second.shape}."
        )
    mixed = first @ second.T
    return rdm_from_products((mixed + mixed.T) / 2, "euclidean", first.shape[1])


def _patterns(values: ArrayLike, name: str = "patterns") -> np.ndarray:
    """Numbers of shape (n_images, n_units), or a refusal."""
    x = np.asarray(values, dtype=float)
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 2:
        raise ValueError(
            f"{name} must be (n_images, n_units) with at least 2 images and 2 units; "
            f"got {x.shape}."
        )
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist()
        raise ValueError(f"{name} must be finite; rows {rows} hold NaN or infinity.")
    return x


def within_range(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The values times a power of two, so that their squares are numbers.

    Correlations and ridge predictions do not depend on the unit, but squares of 1e-300
    vanish. Values of usual size are returned as they are. `axis` has its own factor.
    """
    largest = np.max(np.abs(values), axis=axis, keepdims=axis is not None, initial=0.0)
    exponent = np.frexp(largest)[1]
    odd = (np.abs(exponent) > _USUAL) & np.isfinite(largest)
    return np.ldexp(values, np.where(odd, -exponent, 0)) if odd.any() else values


def rdm_from_gram(
    gram: np.ndarray, sums: np.ndarray, n_units: int, measure: str = "correlation"
) -> np.ndarray:
    """Distances of features, from their Gram matrix alone.

    Parameters
    ----------
    gram : ndarray of shape (n_images, n_images)
        ``X @ X.T`` of the features.
    sums : ndarray of shape (n_images,)
        Sum of each row of X.
    n_units : int
        Number of columns of X.
    measure : {"correlation", "euclidean", "cosine", "crossnobis"}
        As in :func:`pattern_rdm`. Features have no noise, so that their ``crossnobis``
        is the euclidean distance.

    Returns
    -------
    rdm : ndarray of shape (n_images * (n_images - 1) // 2,)
        As :func:`pattern_rdm` of X; NaN for the pairs of an image whose distances are
        undefined, because its features do not vary over units or are all zero. Zeros
        if all features are the same for all images, but for rounding.

    Examples
    --------
    >>> x = np.array([[0.0, 1, 2], [2, 1, 0], [0, 2, 1]])
    >>> rdm_from_gram(x @ x.T, x.sum(axis=1), 3)
    array([2. , 0.5, 1.5])
    """
    squared = np.diagonal(gram)
    if measure != "correlation":
        rdm = rdm_from_products(gram, measure, n_units)
        return without_rounding(
            rdm, 1 if measure == "cosine" else squared.mean() / n_units
        )
    covariance = gram - np.multiply.outer(sums, sums) / n_units
    variance = np.diagonal(covariance)
    flat = variance <= _ROUNDING * squared
    covariance[flat, flat] = 0.0
    lost = np.divide(squared, variance, out=np.ones_like(squared), where=~flat)
    rdm = rdm_from_covariance(covariance)
    return rdm if flat.all() else without_rounding(rdm, lost.max())


def without_rounding(rdm: np.ndarray, unit: float) -> np.ndarray:
    """The RDM, or zeros if all its distances, differences of numbers of the size of
    `unit`, are rounding: then it has no geometry."""
    if np.nanmax(rdm, initial=0.0) < _NO_DISTANCE * unit:
        return np.zeros_like(rdm)
    return rdm


def rdm_from_covariance(covariance: np.ndarray) -> np.ndarray:
    """``1 - r`` from (a multiple of) the covariance between images, (n_pairs,); NaN for
    the pairs of an image whose variance is not positive."""
    variance = np.diagonal(covariance)
    scale = np.full(len(variance), np.nan)
    np.divide(1.0, np.sqrt(variance, where=variance > 0, out=scale), out=scale)
    rows, columns = _pairs(len(variance))
    r = covariance[rows, columns] * scale[rows] * scale[columns]
    return 1.0 - np.clip(r, -1.0, 1.0)


def rdm_from_products(products: np.ndarray, measure: str, n_units: int) -> np.ndarray:
    """Distances from the products ``X @ X.T`` of patterns, (n_pairs,); for correlation
    those of patterns without their mean over units."""
    if measure in ("correlation", "cosine"):
        return rdm_from_covariance(products)
    squared = np.diagonal(products)
    rows, columns = _pairs(len(squared))
    return (squared[rows] + squared[columns] - 2 * products[rows, columns]) / n_units


@functools.lru_cache(maxsize=8)
def _pairs(n_images: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(n_images, k=1)


def n_images_of(n_pairs: int) -> int:
    """Number of images of an RDM with `n_pairs` entries.

    >>> n_images_of(2556)
    72
    """
    n_images = round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)
    if n_images < 2 or n_images * (n_images - 1) // 2 != n_pairs:
        raise ValueError(
            f"n_pairs must be n (n - 1) / 2 for a whole n of at least 2; got {n_pairs}."
        )
    return n_images


def to_rsatoolbox(
    rdms: ArrayLike,
    names: Sequence[str],
    *,
    subjects: Sequence[str] | None = None,
    measure: str = "correlation",
) -> "RDMs":
    """RDMs as an object of rsatoolbox, with ids as descriptors.

    Parameters
    ----------
    rdms : array-like of shape (n_rdms, n_pairs) or (n_pairs,)
        RDMs in ``pdist`` order, which is also rsatoolbox's.
    names : sequence of str, length n_images
        Image ids; the pattern descriptor ``stim_id``.
    subjects : sequence of str, length n_rdms, optional
        The RDM descriptor ``subject``.
    measure : str, default="correlation"
        Name of the dissimilarity.

    Returns
    -------
    rdms : rsatoolbox.rdm.RDMs

    Raises
    ------
    ValueError
        If numbers of images or subjects do not fit.

    Examples
    --------
    >>> stack = to_rsatoolbox([[0.5, 1.0, 1.5]], ["cup", "saw", "key"])
    >>> from_rsatoolbox(stack)[1]
    ('cup', 'saw', 'key')
    """
    from rsatoolbox.rdm import RDMs

    stack = np.atleast_2d(np.asarray(rdms, dtype=float))
    n_images = n_images_of(stack.shape[1])
    if len(names) != n_images:
        raise ValueError(
            f"names must hold one id per image; got {len(names)} for RDMs of "
            f"{n_images} images."
        )
    if subjects is not None and len(subjects) != len(stack):
        raise ValueError(
            f"subjects must hold one id per RDM; got {len(subjects)} for {len(stack)}."
        )
    return RDMs(
        stack.copy(),
        dissimilarity_measure=measure,
        rdm_descriptors={} if subjects is None else {"subject": list(subjects)},
        pattern_descriptors={"stim_id": list(names)},
    )


def from_rsatoolbox(rdms: "RDMs") -> tuple[np.ndarray, tuple[str, ...] | None]:
    """RDM vectors and image ids of an rsatoolbox object.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs

    Returns
    -------
    stack : ndarray of shape (n_rdms, n_pairs)
        In ``pdist`` order.
    names : tuple of str or None
        The pattern descriptor ``stim_id``, else the first one of texts that differ.
    """
    names = next(iter(pattern_names(rdms).values()), None)
    return np.asarray(rdms.get_vectors(), dtype=float).copy(), names


def is_rsatoolbox(value: object) -> bool:
    """Whether it is an ``RDMs`` of rsatoolbox, which is not imported for it."""
    return hasattr(value, "pattern_descriptors") and hasattr(value, "get_vectors")


def pattern_names(
    rdms: "RDMs", expected: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Descriptors that name every pattern, ``stim_id`` first.

    Numbers name nothing, unless they are the `expected` names.
    """
    found = {}
    descriptors = rdms.pattern_descriptors
    for name in sorted(descriptors, key=lambda name: name != "stim_id"):
        values = tuple(str(value) for value in descriptors[name])
        texts = all(isinstance(value, str) for value in descriptors[name])
        names = texts or name == "stim_id" or set(values) == set(expected)
        if names and len(set(values)) == len(values):
            found[name] = values
    return found
