"""RDMs of predicted responses: the paper's, the debiased, and those of the null."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.encoding import debias, fold_means, solve
from versa.fmri.rdm import (
    pattern_rdm,
    rdm_from_products,
    within_range,
    without_rounding,
)
from versa.fmri.voxel_scores import voxel_scores
from versa.parallel import map_in_threads


class EncodingTarget(NamedTuple):
    """Voxels of all subjects side by side, with what every layer needs of them."""

    responses: np.ndarray  # (n_images, n_voxels of all subjects)
    parts: tuple[slice, ...]  # columns of each subject
    shift: np.ndarray  # what debiasing adds, see _base
    spread: np.ndarray  # inner products of it, (n_subjects, n_images, n_images)
    measure: str = "correlation"  # distance of the RDMs


class EncodedRdms(NamedTuple):
    """RDMs (n_subjects, n_pairs) of the predicted responses of one layer in one sector.

    NaN where a predicted pattern does not vary. Many alphas at the largest mean that
    the layer predicts little and that the score is mostly the null.
    """

    versa: np.ndarray
    debiased: np.ndarray
    at_smallest: float  # share of images x voxels with the smallest alpha of the grid
    at_largest: float
    voxels: np.ndarray | None = None  # r and R^2 of all voxels, (2, n_voxels)


def encoding_target(
    responses: Sequence[np.ndarray], measure: str = "correlation"
) -> EncodingTarget:
    """Put the voxels (n_images, n_voxels) of all subjects side by side."""
    ends = np.cumsum([voxels.shape[1] for voxels in responses]).tolist()
    starts = [0, *ends[:-1]]
    parts = tuple(slice(*pair) for pair in zip(starts, ends, strict=True))
    together = np.concatenate([within_range(voxels) for voxels in responses], axis=1)
    shift = debias(np.zeros_like(together), together)
    for part in parts:
        shift[:, part] = _base(shift[:, part], measure)
    spread = map_in_threads(lambda part: shift[:, part] @ shift[:, part].T, parts)
    return EncodingTarget(together, parts, shift, np.stack(spread), measure)


def encoded_rdms(
    gram: np.ndarray,
    target: EncodingTarget,
    alphas: str | ArrayLike = "auto",
    *,
    alpha_per_voxel: bool = True,
    with_voxels: bool = False,
) -> EncodedRdms:
    """Predict every subject's voxels from a Gram matrix; RDMs of the predictions.

    One alpha per voxel, or one for all voxels of a subject. With the scores of the
    voxels if these are wanted.
    """
    if alpha_per_voxel:  # voxels are independent: all subjects in one go
        fitted = [solve(gram, target.responses, alphas)]
        predicted = [fitted[0].predicted[:, part] for part in target.parts]
    else:
        fitted = [
            solve(gram, target.responses[:, part], alphas, alpha_per_voxel=False)
            for part in target.parts
        ]
        predicted = [solution.predicted for solution in fitted]
    rdms = map_in_threads(
        lambda given: both_rdms(
            given[0], target.shift[:, given[1]], given[2], target.measure
        ),
        zip(predicted, target.parts, target.spread, strict=True),
    )
    voxels = None
    if with_voxels:
        pairs = zip(predicted, target.parts, strict=True)
        found = map_in_threads(
            lambda pair: _voxels(pair[0], target.responses[:, pair[1]]), pairs
        )
        voxels = np.concatenate(found, axis=1)
    grid = fitted[0].grid
    chosen = np.concatenate([solution.choice.ravel() for solution in fitted])
    shares = np.bincount(chosen, minlength=len(grid)) / chosen.size
    return EncodedRdms(
        np.stack([versa for versa, _ in rdms]),
        np.stack([debiased for _, debiased in rdms]),
        float(shares[grid == grid.min()].sum()),
        float(shares[grid == grid.max()].sum()),
        voxels,
    )


def _voxels(predicted: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """r and R^2 of the predictions with one common mean, (2, n_voxels)."""
    return np.stack(voxel_scores(debias(predicted, responses), responses))


def null_rdms(
    responses: Sequence[np.ndarray], measure: str = "correlation"
) -> np.ndarray:
    """RDMs of the intercept-only encoder, (n_subjects, n_pairs).

    They hold the subject's own geometry and noise, because the mean of a fold carries
    the response that was held out.
    """
    noiseless = _noiseless(measure)
    return np.stack(
        map_in_threads(
            lambda voxels: pattern_rdm(fold_means(voxels), noiseless), responses
        )
    )


def _noiseless(measure: str) -> str:
    """The distance for predictions, which hold no noise that a half could share."""
    return "euclidean" if measure == "crossnobis" else measure


def _base(patterns: np.ndarray, measure: str) -> np.ndarray:
    """Patterns (n_images, n_voxels) whose products give the distances: for correlation
    those without their mean over voxels."""
    if measure != "correlation":
        return patterns
    return patterns - patterns.mean(axis=1, keepdims=True)


def both_rdms(
    predicted: np.ndarray, shift: np.ndarray, spread: np.ndarray, measure: str
) -> tuple[np.ndarray, np.ndarray]:
    """RDM of the predictions and of their debiased form, ``predicted + shift``.

    The products between images of the second follow from products, without another
    pass over the voxels.
    """
    base = _base(predicted, measure)
    own, mixed = base @ base.T, base @ shift.T
    moved = own + mixed + mixed.T + spread
    return _rdm(own, measure, base.shape[1]), _rdm(moved, measure, base.shape[1])


def _rdm(products: np.ndarray, measure: str, n_voxels: int) -> np.ndarray:
    """The RDM, or zeros if all its distances are rounding: then it has no geometry."""
    rdm = rdm_from_products(products, measure, n_voxels)
    unit = (
        1.0 if measure in ("correlation", "cosine") else np.trace(products) / n_voxels
    )
    return without_rounding(rdm, unit)
