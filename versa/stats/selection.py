"""Cross-validated choice of the best layer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.stats.intervals import fisher_mean, fisher_z
from versa.wording import unknown

__all__ = ["HALVES", "CvMaxLayer", "counted_halves", "cv_max_layer", "cv_max_subjects"]

HALVES = ("both", "mean", "first")
"""Readings of "one sample per split"."""


class CvMaxLayer(NamedTuple):
    """Cross-validated best layer.

    Attributes
    ----------
    r : ndarray of shape (n_splits, n_halves)
        Score in each half of the layer that was best in the other half.
    chosen : ndarray of shape (n_splits, n_halves), int
        Index of that layer; -1 if all scores were NaN.
    """

    r: np.ndarray
    chosen: np.ndarray


def cv_max_layer(scores: ArrayLike) -> CvMaxLayer:
    """Choose the best layer in one half, report its score in the other.

    Parameters
    ----------
    scores : array-like of shape (n_layers, n_splits, n_halves)
        Scores of each layer in both halves of every split. NaN is never chosen.
        With ``n_halves = 1``, as of one subject, there is no other half.

    Returns
    -------
    best : CvMaxLayer
        ``r[j, h]`` is the score in half h of the layer chosen in the other half. With
        one half it is the highest score, which is not cross-validated: being the best
        of many makes it too high.

    Examples
    --------
    >>> best = cv_max_layer([[[0.5, 0.1]], [[0.4, 0.2]]])
    >>> best.chosen, best.r
    (array([[1, 0]]), array([[0.4, 0.1]]))
    """
    scores = np.asarray(scores, dtype=float)
    filled = np.where(np.isnan(scores), -np.inf, scores)
    chosen = np.argmax(filled, axis=0)[:, ::-1]  # (n_splits, 2), by the other half
    r = np.take_along_axis(scores, chosen[None], axis=0)[0]
    lost = np.isneginf(filled.max(axis=0))[:, ::-1]
    return CvMaxLayer(np.where(lost, np.nan, r), np.where(lost, -1, chosen))


def counted_halves(r: ArrayLike, halves: str) -> np.ndarray:
    """What counts as a sample of a split: both halves, their mean, or the first.

    Parameters
    ----------
    r : array-like of shape (..., n_halves)
        Scores of both halves of every split. Without halves, of one subject, they are
        returned as they are.
    halves : {"both", "mean", "first"}
        The mean is taken through Fisher z. Over all half-splits it hardly varies,
        whoever the subjects are: its intervals and tests are void.

    Returns
    -------
    samples : ndarray of shape (..., 2) or (..., 1)
        The scores that count.

    Raises
    ------
    ValueError
        If `halves` is something else.

    Examples
    --------
    >>> counted_halves([[0.5, 0.1], [0.2, 0.4]], "first")
    array([[0.5],
           [0.2]])
    """
    if halves not in HALVES:
        raise ValueError(unknown("halves", halves, HALVES))
    r = np.asarray(r, dtype=float)
    if halves == "mean":
        return np.asarray(fisher_mean(r, axis=-1))[..., None]
    return r[..., :1] if halves == "first" else r


def cv_max_subjects(scores: ArrayLike) -> np.ndarray:
    """Choose the best layer for each subject by all others, report the subject's score.

    Parameters
    ----------
    scores : array-like of shape (n_layers, n_subjects)
        Correlation of every subject's own two RDMs. NaN is never chosen.

    Returns
    -------
    r : ndarray of shape (n_subjects,)
        Score of each subject at the layer whose mean Fisher z over the other subjects
        is highest; NaN of one subject alone, unless there is one layer.

    Examples
    --------
    >>> cv_max_subjects([[0.5, 0.1, 0.3], [0.4, 0.2, 0.3]])
    array([0.4, 0.1, 0.3])
    """
    scores = np.asarray(scores, dtype=float)
    n_layers, n_subjects = scores.shape
    if n_layers == 1:
        return scores[0]
    if n_subjects < 2:
        return np.full(n_subjects, np.nan)
    z = fisher_z(scores)
    others = (z.sum(axis=1, keepdims=True) - z) / (n_subjects - 1)
    lost = np.isnan(others)
    chosen = np.argmax(np.where(lost, -np.inf, others), axis=0)
    r = np.take_along_axis(scores, chosen[None], axis=0)[0]
    return np.where(lost.all(axis=0), np.nan, r)
