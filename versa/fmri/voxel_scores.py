"""How well each voxel is predicted: encoding scores, and where the voxels are."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.reliability import voxel_ceiling

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["VoxelScores", "voxel_scores"]

_NO_VARIATION = 1e-12  # of the responses: predictions that vary by less are rounding


class VoxelScores(NamedTuple):
    """Scores of predicted responses, voxel by voxel.

    Attributes
    ----------
    r : ndarray of shape (n_voxels,)
        Pearson r of predictions and responses over the images.
    r2 : ndarray of shape (n_voxels,)
        Share of the variance over images that is predicted; below 0 if the mean
        response is the better prediction.
    """

    r: np.ndarray
    r2: np.ndarray


def voxel_scores(predicted: ArrayLike, responses: ArrayLike) -> VoxelScores:
    """Correlation and explained variance of the predictions of each voxel.

    Parameters
    ----------
    predicted : array-like of shape (n_images, n_voxels)
        Predictions of models that did not see the image, around a mean that is the
        same for all images: :func:`versa.fmri.encoding.debias` gives them that.
    responses : array-like of shape (n_images, n_voxels)
        What was measured, in the same unit.

    Returns
    -------
    scores : VoxelScores
        ``r`` and ``r2 = 1 - sum((y - p)^2) / sum((y - mean(y))^2)``, unitless. A
        prediction that does not vary over images has ``r = 0``; a voxel that does not
        vary has NaN.

    Raises
    ------
    ValueError
        If shapes differ, or there are fewer than 2 images.

    Notes
    -----
    Leave-one-out predictions themselves, :func:`versa.fmri.encoding.loo_ridge`, will
    not do: their mean is that of the other images, which is the lower the higher the
    response that is left out. An encoder that has learned nothing then has
    ``r = -1``; with the mean over all images it has ``r = 0`` and ``r2 = 0``.

    Chance is below 0 all the same where the penalty is chosen: the more the other
    images seem to hold by chance, the smaller is the penalty, and the more does the
    prediction lean away from the response that was left out. On noise the median r was
    -.19 to -.27 with 30 to 72 images, and within .04 of 0 with one penalty for all.
    Compare scores with those of permuted images, not with 0.

    References
    ----------
    Naselaris et al. (2011), https://doi.org/10.1016/j.neuroimage.2010.07.073

    Examples
    --------
    >>> from versa.fmri.encoding import debias, fold_means
    >>> y = np.array([[1.0], [2.0], [6.0]])
    >>> voxel_scores(y / 2 + 1, y)
    VoxelScores(r=array([1.]), r2=array([0.69642857]))
    >>> voxel_scores(fold_means(y), y).r.round(6)
    array([-1.])
    >>> voxel_scores(debias(fold_means(y), y), y)
    VoxelScores(r=array([0.]), r2=array([0.]))
    """
    p, y = np.asarray(predicted, dtype=float), np.asarray(responses, dtype=float)
    if p.shape != y.shape or p.ndim != 2 or len(p) < 2:
        raise ValueError(
            "predicted and responses must be (n_images, n_voxels) of one shape, with "
            f"at least 2 images; got {p.shape} and {y.shape}."
        )
    flat = np.ptp(p, axis=0) <= _NO_VARIATION * np.abs(y).max(axis=0)
    error = np.einsum("ij,ij->j", y - p, y - p)
    p, y = p - p.mean(axis=0), y - y.mean(axis=0)
    total = np.einsum("ij,ij->j", y, y)
    known = total > 0
    product = np.sqrt(total * np.einsum("ij,ij->j", p, p))
    r, r2 = np.zeros(p.shape[1]), np.full(p.shape[1], np.nan)
    np.divide(np.einsum("ij,ij->j", p, y), product, out=r, where=known & ~flat)
    np.divide(error, total, out=r2, where=known)
    return VoxelScores(np.where(known, np.clip(r, -1.0, 1.0), np.nan), 1.0 - r2)


def median_of_known(values: np.ndarray) -> float:
    """Median of the finite values; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def with_voxels(data: "xr.Dataset", brain: BrainDataset) -> "xr.Dataset":
    """The scores of a fit with room for those of voxels: of all sectors and subjects
    side by side, with what each voxel is, its ceiling and its place."""
    responses = brain.responses or {}
    counts = [[voxels.shape[1] for voxels in part] for part in responses.values()]
    sectors = [np.full(sum(own), code) for code, own in enumerate(counts)]
    subjects = [np.repeat(np.arange(len(own)), own) for own in counts]
    of_layers = (data.sizes["layer"], sum(map(sum, counts)))
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "voxel_r": (("layer", "voxel"), np.full(of_layers, np.nan, np.float32)),
        "voxel_r2": (("layer", "voxel"), np.full(of_layers, np.nan, np.float32)),
        "voxel_sector": (("voxel",), np.concatenate(sectors).astype(np.int32)),
        "voxel_subject": (("voxel",), np.concatenate(subjects).astype(np.int32)),
    }
    if brain.reliability is not None:
        every = [one for name in responses for one in brain.reliability[name]]
        ceiling = voxel_ceiling(np.concatenate(every))
        found["voxel_ceiling"] = (("voxel",), ceiling.astype(np.float32))
    if brain.sectors is not None:
        grids = brain.sectors[next(iter(responses))]  # the same for all sectors
        masks = [one.mask for name in responses for one in brain.sectors[name]]
        shapes = np.array([one.mask.shape for one in grids])
        affines = np.stack([one.affine for one in grids])
        places = np.concatenate([np.flatnonzero(mask) for mask in masks])
        found["voxel_place"] = (("voxel",), places)
        found["grid_shape"] = (("subject", "axis"), shapes)
        found["grid_affine"] = (("subject", "row", "column"), affines)
    return data.assign(found)
