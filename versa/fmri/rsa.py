"""RDMs of predicted responses: the paper's, the debiased, and those of the null."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.encoding import (
    alpha_grid,
    debias,
    fold_means,
    loo_ridge,
    mean_eigenvalue,
)
from versa.fmri.rdm import correlation_rdm, rdm_from_covariance

__all__ = [
    "EncodedRdms",
    "encoded_rdms",
    "null_rdms",
]

# Correlation distances are known to about 1e-16; a whole RDM below this is rounding.
_NO_DISTANCE = 1e-12


class EncodedRdms(NamedTuple):
    """RDMs of predicted responses of one layer in one sector.

    Attributes
    ----------
    versa, debiased : ndarray of shape (n_subjects, n_pairs)
        From the paper's predictions, and with the mean of the training fold replaced
        by the mean over all images; NaN where a predicted pattern does not vary.
    at_smallest, at_largest : float
        Share of images x voxels for which the grid's smallest or largest alpha was
        chosen. Many at the largest means that the layer predicts little and the
        score is mostly null.
    """

    versa: np.ndarray
    debiased: np.ndarray
    at_smallest: float
    at_largest: float


def encoded_rdms(
    gram: np.ndarray,
    responses: Sequence[np.ndarray],
    alphas: str | ArrayLike = "auto",
    *,
    alpha_per_voxel: bool = True,
) -> EncodedRdms:
    """Predict every subject's voxels from a layer; RDMs of the predictions.

    Parameters
    ----------
    gram : ndarray of shape (n_images, n_images)
        ``X @ X.T`` of the layer's features.
    responses : sequence of ndarray of shape (n_images, n_voxels)
        Betas of each subject.
    alphas : {"auto", "sklearn"} or array-like, default="auto"
        See :func:`versa.fmri.encoding.loo_ridge`.
    alpha_per_voxel : bool, default=True
        One alpha per voxel, or one for all voxels of a subject.

    Returns
    -------
    rdms : EncodedRdms

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((10, 4))
    >>> subjects = [x @ rng.standard_normal((4, 30)) for _ in range(2)]
    >>> encoded_rdms(x @ x.T, subjects).versa.shape
    (2, 45)
    """
    if alpha_per_voxel:  # voxels are independent: all subjects in one go
        fitted = [loo_ridge(gram, np.concatenate(responses, axis=1), alphas)]
    else:
        fitted = [
            loo_ridge(gram, voxels, alphas, alpha_per_voxel=False)
            for voxels in responses
        ]
    alpha = np.concatenate([result.alpha for result in fitted], axis=1)
    predicted = np.concatenate([result.predicted for result in fitted], axis=1)
    bounds = np.cumsum([voxels.shape[1] for voxels in responses])[:-1]
    by_subject = zip(np.split(predicted, bounds, axis=1), responses, strict=True)
    versa, debiased = zip(*(_both_rdms(p, y) for p, y in by_subject), strict=True)
    grid = alpha_grid(alphas, mean_eigenvalue(gram))
    return EncodedRdms(
        np.stack(versa),
        np.stack(debiased),
        float(np.mean(alpha <= grid.min() * (1 + 1e-9))),
        float(np.mean(alpha >= grid.max() * (1 - 1e-9))),
    )


def null_rdms(responses: Sequence[np.ndarray]) -> np.ndarray:
    """RDMs of the encoder that learned nothing: the mean of the training fold.

    Parameters
    ----------
    responses : sequence of ndarray of shape (n_images, n_voxels)
        Betas of each subject.

    Returns
    -------
    rdms : ndarray of shape (n_subjects, n_pairs)
        They hold the subject's own geometry and noise, because the mean of a fold
        carries the response that was held out.
    """
    return np.stack([correlation_rdm(fold_means(voxels)) for voxels in responses])


def _both_rdms(
    predicted: np.ndarray, responses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """RDM of the predictions and of their debiased form.

    The debiased form is ``predicted + shift``; its covariance between images follows
    from products, without another pass over the voxels.
    """
    shift = debias(np.zeros_like(responses), responses)
    shift -= shift.mean(axis=1, keepdims=True)
    centred = predicted - predicted.mean(axis=1, keepdims=True)
    own, mixed = centred @ centred.T, centred @ shift.T
    moved = own + mixed + mixed.T + shift @ shift.T
    return _or_flat(rdm_from_covariance(own)), _or_flat(rdm_from_covariance(moved))


def _or_flat(rdm: np.ndarray) -> np.ndarray:
    """The RDM, or zeros if all its distances are rounding: then it has no geometry."""
    return rdm if not np.nanmax(rdm, initial=0.0) < _NO_DISTANCE else np.zeros_like(rdm)
