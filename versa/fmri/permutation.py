"""The null of the scores: images of the brain permuted against those of the network.

A permutation gives every image of the brain the features of another one, the same for
all subjects, and everything is done again: penalties, predictions, RDMs, scores, the
choice of the best layer. What a layer's ridge regression needs beside the responses
depends on its Gram matrix alone, and permuting it is re-indexing it, so a permutation
costs less than a fit: nothing is decomposed again, and responses, their RDMs and all
that follows from them stay as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.encoding import Operators, debias, one_alpha, operators_of, predict
from versa.fmri.rsa import EncodingTarget, both_rdms
from versa.fmri.similarity import LINEAR, as_vectors, cosine, half_scores
from versa.fmri.voxel_scores import median_of_known, voxel_scores
from versa.parallel import map_in_threads, one_blas_thread
from versa.stats.intervals import fisher_z
from versa.stats.selection import cv_max_layer
from versa.stats.splits import SplitHalves

SEED = 0
"""Of the list of permutations, which is the same for all networks."""

_CHUNK_ELEMENTS = 16 * 1024  # of responses that are encoded at once in a thread
_SCORE_ELEMENTS = 2**22  # scores of layers x permutations x splits held at once


def image_orders(n_images: int, n_permutations: int) -> np.ndarray:
    """The first of a fixed list of permutations, (n_permutations, n_images).

    All differ, and none of them is the identity: that is the observed pairing, which
    ``p = (b + 1) / (m + 1)`` counts. A longer list begins as a shorter one does.
    """
    if n_images < 20 and n_permutations >= factorial(n_images):
        raise ValueError(
            f"permutations must be at most {factorial(n_images) - 1}, all that "
            f"{n_images} images have; got {n_permutations}."
        )
    rng = np.random.default_rng(SEED)
    seen = {np.arange(n_images).tobytes()}
    orders = np.empty((n_permutations, n_images), dtype=np.int64)
    for row in range(n_permutations):
        order = rng.permutation(n_images)
        while order.tobytes() in seen:
            order = rng.permutation(n_images)
        seen.add(order.tobytes())
        orders[row] = order
    return orders


@dataclass(frozen=True)
class Yardstick:
    """The brains of one sector, and how RDMs are compared with theirs.

    Parameters
    ----------
    measured : ndarray of shape (n_subjects, n_pairs)
        RDMs of the brains.
    splits : SplitHalves
        Half-splits of the subjects.
    compare_by : str, default="pearson"
        Measure by which RDMs are compared.

    Notes
    -----
    Of a permutation no RDMs are kept, only what its scores follow from: for the linear
    measures the inner products of the subjects' RDMs, from which the score of any half
    follows, and for the others the scores themselves.
    """

    measured: np.ndarray
    splits: SplitHalves
    compare_by: str = "pearson"

    @property
    def linear(self) -> bool:
        """Whether inner products are all that is needed."""
        return self.compare_by in LINEAR

    @property
    def key(self) -> dict[str, Any]:
        """All that :meth:`reduced` depends on, for the cache."""
        splits = None if self.linear else self.splits.members
        return {
            "measured": self.measured,
            "compare_by": self.compare_by,
            "splits": splits,
        }

    @cached_property
    def vectors(self) -> np.ndarray:
        """Of the measured RDMs, for a linear measure."""
        return as_vectors(self.measured, self.compare_by)

    def reduced(self, rdms: np.ndarray) -> np.ndarray:
        """What is kept of the RDMs (n_subjects, n_pairs) or (1, n_pairs) of a model.

        Inner products with the brain's and with each other, or scores in all halves.
        """
        if not self.linear:
            scores = half_scores(rdms, self.measured, self.splits, self.compare_by)
            return scores.ravel()
        shape = (len(self.measured), len(self.measured))
        model = as_vectors(rdms, self.compare_by)
        products = (model @ self.vectors.T, model @ model.T)
        return np.concatenate([_packed(np.broadcast_to(p, shape)) for p in products])

    def scores(self, kept: np.ndarray) -> Iterator[np.ndarray]:
        """Scores (n_layers, B, splits of a chunk, n_halves) of what was kept (n_layers,
        B, n), chunk after chunk."""
        weights = self.splits.weights  # (n_splits, n_halves, n_subjects)
        n_splits, n_halves, n_subjects = weights.shape
        if not self.linear:
            yield kept.reshape(*kept.shape[:2], n_splits, n_halves)
            return
        rows, columns = np.triu_indices(n_subjects)
        mixed, own = kept[..., : len(rows)], kept[..., len(rows) :]
        brain = _packed(self.vectors @ self.vectors.T)
        step = max(1, _SCORE_ELEMENTS // (n_halves * mixed[..., 0].size))
        for start in range(0, n_splits, step):
            chunk = weights[start : start + step].reshape(-1, n_subjects)
            pairs = (chunk[:, rows] * chunk[:, columns]).T
            r = cosine(mixed @ pairs, own @ pairs, brain @ pairs)
            yield r.reshape(*r.shape[:2], -1, n_halves)


def classic_permuted(
    rdm: np.ndarray, yardstick: Yardstick, orders: np.ndarray
) -> np.ndarray:
    """What is kept of a layer's own RDM, one for all subjects.

    Parameters
    ----------
    rdm : ndarray of shape (n_pairs,)
        Of the features.
    yardstick : Yardstick
        Brains to compare it with.
    orders : ndarray of shape (B, n_images)
        Permutations.

    Returns
    -------
    kept : ndarray of shape (B, n)
        :meth:`Yardstick.reduced` of every permutation.
    """
    n_images = orders.shape[1]
    rows, columns = np.triu_indices(n_images, k=1)
    square = np.zeros((n_images, n_images))
    square[rows, columns] = square[columns, rows] = rdm

    def reduced(order: np.ndarray) -> np.ndarray:
        return yardstick.reduced(square[order[rows], order[columns]][None])

    return np.stack(map_in_threads(reduced, orders))


def encoded_permuted(
    gram: np.ndarray,
    target: EncodingTarget,
    yardstick: Yardstick,
    orders: np.ndarray,
    alphas: str | ArrayLike = "auto",
    *,
    alpha_per_voxel: bool = True,
    with_voxels: bool = False,
) -> dict[str, np.ndarray]:
    """What is kept of the RDMs of predicted responses, and of their debiased form.

    Parameters
    ----------
    gram : ndarray of shape (n_images, n_images)
        Of the features.
    target : EncodingTarget
        Responses of all subjects.
    yardstick : Yardstick
        Brains to compare them with.
    orders : ndarray of shape (B, n_images)
        Permutations.
    alphas : "auto", "sklearn" or array-like, default="auto"
        As in :func:`versa.fmri.encoding.loo_ridge`.
    alpha_per_voxel : bool, default=True
        One alpha per voxel, or one for all voxels of a subject.
    with_voxels : bool, default=False
        Also correlate the prediction of every voxel with its response.

    Returns
    -------
    kept : dict of str to ndarray of shape (B, n)
        :meth:`Yardstick.reduced` of every permutation, by method; and, if asked for, as
        ``voxels``, (B, n_subjects), the median over each subject's voxels of the
        correlation of debiased prediction and response.
    """
    groups = _groups(target, whole=not alpha_per_voxel)
    with one_blas_thread():
        operators, _ = operators_of(np, gram, alphas)

    def reduced(order: np.ndarray) -> list[np.ndarray]:
        permuted = operators.reordered(order)
        predicted = [group.predicted(permuted) for group in groups]
        both = [
            rdms
            for group, one in zip(groups, predicted, strict=True)
            for rdms in group.rdms(one, target.measure)
        ]
        found = [yardstick.reduced(np.stack(rdms)) for rdms in zip(*both, strict=True)]
        if with_voxels:
            pairs = zip(groups, predicted, strict=True)
            medians = [r for group, one in pairs for r in group.median_r(one)]
            found.append(np.array(medians))
        return found

    names = ("versa", "versa-debiased", "voxels")[: 3 if with_voxels else 2]
    every = zip(*map_in_threads(reduced, orders), strict=True)
    return {name: np.stack(one) for name, one in zip(names, every, strict=True)}


class _Group(NamedTuple):
    """Subjects whose voxels are encoded together, with what a permutation needs."""

    chunks: list[np.ndarray]  # responses (n_images, n_voxels) of all, in pieces
    subjects: list[tuple[slice, np.ndarray, np.ndarray]]  # columns, shift and spread
    whole: bool  # whether one alpha serves all voxels, of one subject

    def predicted(self, operators: Operators) -> list[np.ndarray]:
        """What these operators predict, in the pieces of `chunks`."""
        run = one_alpha if self.whole else predict
        return [run(np, operators, y)[0] for y in self.chunks]

    def rdms(
        self, pieces: list[np.ndarray], measure: str
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """RDMs of every subject's predictions, and of their debiased form."""
        predicted = np.concatenate(pieces, axis=1)
        return [
            both_rdms(predicted[:, part], shift, spread, measure)
            for part, shift, spread in self.subjects
        ]

    def median_r(self, pieces: list[np.ndarray]) -> list[float]:
        """Median over every subject's voxels of how well they are predicted."""
        r = [
            voxel_scores(debias(piece, y), y).r
            for piece, y in zip(pieces, self.chunks, strict=True)
        ]
        known = np.concatenate(r)
        return [median_of_known(known[part]) for part, *_ in self.subjects]


def _groups(target: EncodingTarget, *, whole: bool) -> list[_Group]:
    """Neighbours in groups of about one chunk, or everyone alone."""
    step = max(32, _CHUNK_ELEMENTS // len(target.responses))
    groups: list[list[int]] = []
    size = step
    for number, part in enumerate(target.parts):
        if whole or size >= step:
            groups.append([])
            size = 0
        groups[-1].append(number)
        size += part.stop - part.start
    return [_group(target, numbers, step, whole=whole) for numbers in groups]


def _group(
    target: EncodingTarget, numbers: list[int], step: int, *, whole: bool
) -> _Group:
    """These subjects as a group, in pieces of `step` voxels."""
    start = target.parts[numbers[0]].start
    stop = target.parts[numbers[-1]].stop
    starts = [start] if whole else range(start, stop, step)
    ends = [*starts[1:], stop]
    chunks = [
        np.ascontiguousarray(target.responses[:, first:end])
        for first, end in zip(starts, ends, strict=True)
    ]
    subjects = []
    for number in numbers:
        part = target.parts[number]
        shift = np.ascontiguousarray(target.shift[:, part])
        columns = slice(part.start - start, part.stop - start)
        subjects.append((columns, shift, target.spread[number]))
    return _Group(chunks, subjects, whole)


class PermutedScores(NamedTuple):
    """Mean Fisher z over the halves of all splits, for B permutations."""

    layers: np.ndarray  # (n_layers, B)
    best: np.ndarray  # (B,), of the cross-validated best layer, chosen anew


def permuted_scores(kept: Sequence[np.ndarray], yardstick: Yardstick) -> PermutedScores:
    """Scores of the layers of one network by one method.

    Parameters
    ----------
    kept : sequence of ndarray of shape (B, n)
        Of each layer, with the same B permutations.
    yardstick : Yardstick
        Brains that the layers were compared with.

    Returns
    -------
    scores : PermutedScores
        NaN where a score is undefined.
    """
    stacked = np.stack(kept)
    n_layers, n_orders, _ = stacked.shape
    layers, best = np.zeros((n_layers, n_orders)), np.zeros(n_orders)
    n_evaluations = 0
    for r in yardstick.scores(stacked):
        n_halves = r.shape[3]
        layers += fisher_z(r).sum(axis=(2, 3))
        chosen = cv_max_layer(r.reshape(n_layers, -1, n_halves)).r
        best += fisher_z(chosen).reshape(n_orders, -1).sum(axis=1)
        n_evaluations += r.shape[2] * n_halves
    return PermutedScores(layers / n_evaluations, best / n_evaluations)


def _packed(matrix: np.ndarray) -> np.ndarray:
    """Upper triangle of a matrix, off the diagonal with the lower one added to it."""
    rows, columns = np.triu_indices(len(matrix))
    return matrix[rows, columns] + matrix[columns, rows] * (rows != columns)
