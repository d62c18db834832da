"""How alike two RDMs are: the measures, and the algebra over half-splits.

A mean RDM is a weighted sum of the subjects' RDMs. The linear measures are cosines of
vectors that follow from an RDM by a linear map (centring; double centring for the
whitened one), so the scores of all half-splits follow from matrices of inner products
(n_subjects, n_subjects). The rank measures rank the mean RDM of every half.
"""

import numpy as np

from versa.fmri.rdm import n_images_of, within_range
from versa.stats import halves
from versa.stats.halves import InnerProducts, cosine
from versa.stats.splits import SplitHalves
from versa.wording import unknown

LINEAR = ("pearson", "cosine", "whitened", "cka")
RANKED = ("spearman", "kendall-tau-a")
COMPARISONS = ("pearson", "spearman", "kendall-tau-a", "cosine", "whitened", "cka")
"""Measures by which RDMs are compared."""

_RANKED_ELEMENTS = 2**20  # of mean RDMs that are ranked at once


def check_comparison(compare_by: str) -> str:
    """The name of a measure, or a refusal."""
    if compare_by not in COMPARISONS:
        raise ValueError(unknown("compare_by", compare_by, COMPARISONS))
    return compare_by


def as_vectors(rdms: np.ndarray, compare_by: str = "pearson") -> np.ndarray:
    """Vectors whose cosine is the linear measure, (n_rdms, n_pairs or more).

    An RDM without any variance becomes zeros, so that rounding is no correlation.
    """
    rdms = within_range(rdms)
    if compare_by == "cosine":
        return rdms
    if compare_by == "cka":
        return _second_moments(rdms)
    vectors = rdms - rdms.mean(axis=1, keepdims=True)
    if compare_by == "whitened":
        vectors = _second_moments(vectors)
    vectors[varies_by_rounding(rdms)] = 0.0
    return vectors


def varies_by_rounding(rdms: np.ndarray) -> np.ndarray:
    """Which RDMs vary by no more than rounding."""
    deviation = np.abs(rdms - rdms.mean(axis=1, keepdims=True)).max(axis=1)
    return deviation <= 8 * np.finfo(float).eps * np.abs(rdms).max(axis=1)


def half_scores(
    model: np.ndarray, brain: np.ndarray, splits: SplitHalves, compare_by: str
) -> np.ndarray:
    """Similarity of both mean RDMs of every half, (n_splits, 2); one model RDM (1,
    n_pairs) serves all subjects."""
    weights = splits.weights  # (n_splits, 2, n_subjects)
    if compare_by in RANKED:
        pieces = _pieces(weights, brain.shape[1])
        shared = model[None] if len(model) == 1 else None
        found = [  # of mean RDMs (some splits, 2, n_pairs)
            _ranked(w @ model if shared is None else shared, w @ brain, compare_by)
            for w in pieces
        ]
        return np.concatenate(found)
    of_model, of_brain = (as_vectors(rdms, compare_by) for rdms in (model, brain))
    inner = InnerProducts(
        of_model @ of_brain.T, of_model @ of_model.T, of_brain @ of_brain.T
    )
    r = halves.half_scores(inner, weights.reshape(-1, splits.n_subjects))
    return r.reshape(splits.n_splits, splits.n_halves)


def split_scores(brain: np.ndarray, splits: SplitHalves, compare_by: str) -> np.ndarray:
    """Similarity of the mean RDMs of the two halves of every split, (n_splits,)."""
    if compare_by in RANKED:
        means = (w @ brain for w in _pieces(splits.weights, brain.shape[1]))
        pairs = ((both[:, 0], both[:, 1]) for both in means)
        return np.concatenate([_ranked(a, b, compare_by) for a, b in pairs])
    vectors = as_vectors(brain, compare_by)
    return halves.half_ceilings(vectors @ vectors.T, splits)


def _pieces(weights: np.ndarray, n_pairs: int) -> list[np.ndarray]:
    """Weights of some splits at a time: the means of all of them take much memory."""
    step = max(1, _RANKED_ELEMENTS // (weights.shape[1] * n_pairs))
    return [weights[start : start + step] for start in range(0, len(weights), step)]


def own_scores(model: np.ndarray, brain: np.ndarray, compare_by: str) -> np.ndarray:
    """Similarity of both RDMs of every subject, (n_subjects,); one model RDM (1,
    n_pairs) serves all subjects."""
    if compare_by in RANKED:
        return _ranked(model, brain, compare_by)
    of_model, of_brain = (as_vectors(rdms, compare_by) for rdms in (model, brain))
    return cosine(
        np.sum(of_model * of_brain, axis=1),
        np.broadcast_to(np.sum(of_model * of_model, axis=1), len(brain)),
        np.sum(of_brain * of_brain, axis=1),
    )


def _second_moments(rdms: np.ndarray) -> np.ndarray:
    """Double-centred second-moment matrices of RDMs, as vectors of isotropic noise.

    The covariance of the entries of an RDM whose patterns have independent noise is
    the identity for these: off-diagonal elements count twice (Diedrichsen et al.
    2020, https://arxiv.org/abs/2007.02789).
    """
    n = n_images_of(rdms.shape[1])
    rows, columns = np.triu_indices(n, k=1)
    square = np.zeros((len(rdms), n, n))
    square[:, rows, columns] = square[:, columns, rows] = -0.5 * rdms
    square -= square.mean(axis=1, keepdims=True)
    square -= square.mean(axis=2, keepdims=True)
    diagonal = np.diagonal(square, axis1=1, axis2=2)
    return np.hstack([np.sqrt(2) * square[:, rows, columns], diagonal])


def _ranked(model: np.ndarray, brain: np.ndarray, compare_by: str) -> np.ndarray:
    """Rank similarity along the last axis, of arrays that broadcast."""
    if compare_by == "spearman":
        from scipy.stats import rankdata

        ranks = [rankdata(np.asarray(x), axis=-1) for x in (model, brain)]
        a, b = (x - x.mean(axis=-1, keepdims=True) for x in ranks)
        lengths = ((x * x).sum(axis=-1) for x in (a, b))
        inner = (a * b).sum(axis=-1)
        return cosine(inner, *(np.broadcast_to(x, inner.shape) for x in lengths))
    pairs = np.broadcast_arrays(model, brain)
    shape = pairs[0].shape
    flat = (x.reshape(-1, shape[-1]) for x in pairs)
    found = [_tau_a(a, b) for a, b in zip(*flat, strict=True)]
    return np.array(found).reshape(shape[:-1])


def _tau_a(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau a: concordant minus discordant pairs as a share of all pairs."""
    from scipy.stats import kendalltau

    def untied(values: np.ndarray) -> float:
        counts = np.unique(values, return_counts=True)[1].astype(float)
        return total - (counts * (counts - 1)).sum() / 2

    total = len(a) * (len(a) - 1) / 2
    tau_b = kendalltau(a, b, method="asymptotic").statistic
    return float(tau_b * np.sqrt(untied(a) * untied(b)) / total)
