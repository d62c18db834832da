"""Correlations of means over halves of a group, from inner products alone.

A mean over a half is a weighted sum of rows, one row per subject. So every correlation
of two such means follows from matrices of inner products (n_subjects, n_subjects), and
taking subjects out or drawing them again is indexing these.
"""

from typing import NamedTuple

import numpy as np

from versa.stats.splits import SplitHalves


class InnerProducts(NamedTuple):
    """Inner products of centred rows, one row per subject; leading axes are free.

    A model with a single row for all subjects has 1 in place of the first n_subjects
    of `cross`, and of both of `model`.
    """

    cross: np.ndarray  # (..., n_subjects, n_subjects), model x brain
    model: np.ndarray  # (..., n_subjects, n_subjects)
    brain: np.ndarray  # (..., n_subjects, n_subjects)


def cosine(inner: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``inner / sqrt(a b)`` within [-1, 1]; NaN where a or b is not positive."""
    product = a * b
    r = np.full(np.broadcast_shapes(inner.shape, product.shape), np.nan)
    valid = (product > 0) & (a > 0)
    root = np.sqrt(product, where=valid, out=np.ones_like(product))
    np.divide(inner, root, out=r, where=np.broadcast_to(valid, r.shape))
    return np.clip(r, -1.0, 1.0, out=r)


def inner_products(model: np.ndarray, brain: np.ndarray) -> InnerProducts:
    """Those of rows that are centred already."""
    return InnerProducts(model @ brain.T, model @ model.T, brain @ brain.T)


def half_scores(inner: InnerProducts, weights: np.ndarray) -> np.ndarray:
    """Correlation of model and brain in halves of these weights (n_halves, n_subjects).

    Leading axes of the inner products come first: (..., n_halves).
    """
    cross, model, brain = inner
    shared = model.shape[-1] == 1
    of_model = np.ones_like(weights[:, :1]) if shared else weights
    return cosine(
        _forms(of_model, cross, weights),
        _forms(of_model, model, of_model),
        _forms(weights, brain, weights),
    )


def _forms(left: np.ndarray, inner: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left[h] @ inner @ right[h]`` for every half h, (..., n_halves)."""
    if inner.ndim == 2:
        return np.sum((left @ inner) * right, axis=1)
    # of many small matrices in one product
    outer = (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)
    return inner.reshape(*inner.shape[:-2], -1) @ outer.T


def half_ceilings(brain: np.ndarray, splits: SplitHalves) -> np.ndarray:
    """Correlation of the means of two halves, from inner products; (n_splits,)."""
    first, second = splits.weights[:, 0], splits.weights[:, 1]
    return cosine(
        np.sum((first @ brain) * second, axis=1),
        np.sum((first @ brain) * first, axis=1),
        np.sum((second @ brain) * second, axis=1),
    )


def ceiling_without(brain: np.ndarray, splits: SplitHalves) -> np.ndarray:
    """Correlation of the two halves' means, each subject left out in turn.

    From inner products (n_subjects, n_subjects); (n_splits, n_subjects). Meaningless
    where the subject is :func:`alone` in its half.
    """
    halves = _indicators(splits)
    towards = halves @ brain  # (n_splits, 2, n_subjects)
    both = np.sum(towards[:, 0] * halves[:, 1], axis=-1)[:, None]
    own, left = _left(brain, halves)
    first = splits.members
    other = np.where(first, towards[:, 1], towards[:, 0])
    return cosine(
        both - other,
        np.where(first, left[:, 0], left[:, 1]),
        np.where(first, own[:, 1], own[:, 0]),
    )


def scores_without(inner: InnerProducts, splits: SplitHalves) -> np.ndarray:
    """Correlation of model and brain in each half, each subject left out in turn.

    (n_splits, 2, n_subjects); a half without that subject keeps its correlation.
    Meaningless in the half in which the subject is :func:`alone`.
    """
    cross, model, brain = inner
    halves = _indicators(splits)
    shared = len(model) == 1
    weights = np.ones_like(halves[..., :1]) if shared else halves
    there = halves > 0  # whether the subject is in this half
    taken = weights @ cross  # (n_splits, 2, n_subjects), of each brain row
    product = np.sum(taken * halves, axis=-1, keepdims=True)
    of_model, model_left = _left(model, weights)
    of_brain, brain_left = _left(brain, halves)
    if shared:
        model_left = of_model
    else:
        taken = taken + halves @ cross.T - np.diagonal(cross)
    return cosine(
        np.where(there, product - taken, product),
        np.where(there, model_left, of_model),
        np.where(there, brain_left, of_brain),
    )


def alone(splits: SplitHalves) -> np.ndarray:
    """Where a half consists of one subject, (n_splits, 2, n_subjects)."""
    halves = _indicators(splits)
    return np.logical_and(halves > 0, halves.sum(axis=-1, keepdims=True) < 2)


def _left(inner: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared length of the sum over a half, of all and without each row.

    What is left of rounding is 0.
    """
    towards = halves @ inner
    whole = np.sum(towards * halves, axis=-1, keepdims=True)
    left = whole - 2 * towards + np.diagonal(inner)
    left[left <= 64 * np.finfo(float).eps * whole] = 0.0
    return whole, left


def _indicators(splits: SplitHalves) -> np.ndarray:
    return np.stack([splits.members, ~splits.members], axis=1).astype(float)
