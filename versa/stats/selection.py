"""Cross-validated choice of the best layer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.stats.intervals import fisher_mean
from versa.wording import unknown

__all__ = ["CvMaxLayer", "cv_max_layer"]

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

    @property
    def usual(self) -> int:
        """The layer that is chosen most often, the first of several; -1 for none."""
        known = self.chosen[self.chosen >= 0]
        return int(np.argmax(np.bincount(known))) if known.size else -1


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
