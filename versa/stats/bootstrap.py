"""The bootstrap over images and subjects: for whom else scores would hold.

Rows are RDMs, one per subject, and their entries pairs of images. A sample of images
gives every pair the product of how often its two images were drawn; pairs of an image
with itself have no entry and are left out. A sample of subjects takes their rows again.
Correlations of the means over halves follow from inner products of the rows, weighted
by the pairs, for all samples at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from versa.stats.halves import InnerProducts, half_scores
from versa.stats.intervals import fisher_z
from versa.stats.selection import cv_max_layer
from versa.stats.splits import SplitHalves

__all__ = ["dual_variance"]

POPULATIONS = ("subjects", "images", "both")
"""Whom a number may be generalised to: new subjects, new images, or both at once."""

WEIGHTED = ("pearson", "cosine")
"""Measures of RDMs that can be taken with a weight for every pair of images."""

N_SAMPLES = 1000
FEWEST_IMAGES = 5  # with fewer, samples of images are hardly different
_FEWEST_DISTINCT = 3  # images of a sample, as in rsatoolbox
_MOST_SPLITS = 200  # of more, these are drawn: scores of samples need no others
_PAIRS_AT_ONCE = 2048
_SAMPLES_AT_ONCE = 50


class Draws(NamedTuple):
    """Bootstrap samples of subjects and images.

    Attributes
    ----------
    subjects : ndarray of shape (n_samples, n_subjects), int
        Who was drawn.
    images : ndarray of shape (n_samples, n_images), int
        How often each image was drawn.
    """

    subjects: np.ndarray
    images: np.ndarray


class Spread(NamedTuple):
    """How far a number may be off, for new members of a population."""

    error: float  # standard error
    df: int  # degrees of freedom

    def reach(self, confidence: float = 0.95) -> float:
        """Half the width of an interval."""
        from scipy.stats import t

        return float(t.ppf((1.0 + confidence) / 2.0, self.df) * self.error)

    def pvalue(self, value: float) -> float:
        """Two-sided p of the number against 0."""
        from scipy.stats import t

        if not self.error > 0:
            return np.nan if np.isnan(value + self.error) or value == 0 else 0.0
        return float(2.0 * t.sf(abs(value) / self.error, self.df))


class Resampled(NamedTuple):
    """Mean Fisher z of the scores of every sample.

    The first axis is what was resampled: both, subjects alone, images alone.
    """

    layers: np.ndarray  # (3, n_samples, n_layers)
    best: np.ndarray  # (3, n_samples), the best layer chosen in every sample


def draw_samples(
    n_subjects: int, n_images: int, *, n_samples: int = N_SAMPLES, seed: int = 0
) -> Draws:
    """Draw subjects and images with replacement, as many as there are.

    Parameters
    ----------
    n_subjects, n_images : int
        How many there are.
    n_samples : int, default=1000
        Bootstrap samples.
    seed : int, default=0
        Seed of the draw.

    Returns
    -------
    draws : Draws
        A sample of fewer than 3 different images is drawn again.

    Raises
    ------
    ValueError
        If there are fewer than 5 images.

    Examples
    --------
    >>> draws = draw_samples(3, 6, n_samples=2)
    >>> draws.subjects.shape, draws.images.sum(axis=1)
    ((2, 3), array([6, 6]))
    """
    if n_images < FEWEST_IMAGES:
        raise ValueError(
            f"n_images must be at least {FEWEST_IMAGES} to draw samples of images; got "
            f"{n_images}."
        )
    rng = np.random.default_rng(seed)
    subjects = rng.integers(n_subjects, size=(n_samples, n_subjects))
    images = np.zeros((n_samples, n_images), dtype=int)
    for row in images:
        while np.count_nonzero(row) < _FEWEST_DISTINCT:
            drawn = rng.integers(n_images, size=n_images)
            row[:] = np.bincount(drawn, minlength=n_images)
    return Draws(subjects, images)


def dual_variance(
    both: ArrayLike,
    subjects: ArrayLike,
    images: ArrayLike,
    n_subjects: int,
    n_images: int,
) -> np.ndarray:
    """Variance over new subjects and new images, from three bootstraps.

    Parameters
    ----------
    both, subjects, images : array-like
        Variances over samples of both, of subjects alone and of images alone; any
        shape.
    n_subjects, n_images : int
        How many there are.

    Returns
    -------
    variance : ndarray, same shape
        The double bootstrap counts the variance of measurement three times; this sum
        counts it once. It is never below the variance over subjects or over images
        alone, and never above that of the double bootstrap.

    References
    ----------
    Schuett et al. (2023), https://doi.org/10.7554/eLife.82566

    Examples
    --------
    >>> float(dual_variance(0.5, 0.2, 0.2, 10, 20).round(4))
    0.3158
    """
    raw = [np.asarray(values, dtype=float) for values in (both, subjects, images)]
    of_subjects = n_subjects / (n_subjects - 1) * raw[1]
    of_images = n_images / (n_images - 1) * raw[2]
    shared = raw[0] - raw[1] - raw[2]
    factor = n_subjects * n_images / ((n_subjects - 1) * (n_images - 1))
    variance = of_subjects + of_images - factor * shared
    variance = np.maximum(np.maximum(variance, of_subjects), of_images)
    return np.minimum(variance, raw[0])


def spread(samples: np.ndarray, population: str, draws: Draws) -> Spread:
    """Standard error of a number from its bootstrap samples (3, n_samples).

    The three rows are samples of both, of subjects and of images. Samples in which the
    number is not defined are left out; NaN if they are most.
    """
    n_subjects, n_images = draws.subjects.shape[1], draws.images.shape[1]
    defined = np.isfinite(samples).all(axis=0)
    variances = np.full(3, np.nan)
    if 2 * defined.sum() >= len(defined):
        variances = samples[:, defined].var(axis=1, ddof=1)
    if population == "both":
        whole, of_subjects, of_images = variances
        dual = dual_variance(whole, of_subjects, of_images, n_subjects, n_images)
        variance = float(dual)
        smaller = min(n_subjects, n_images)
    else:
        smaller = n_subjects if population == "subjects" else n_images
        of_samples = variances[1 if population == "subjects" else 2]
        variance = float(of_samples * smaller / (smaller - 1))
    return Spread(np.sqrt(variance), smaller - 1)


def resample(
    models: Sequence[np.ndarray],
    brain: np.ndarray,
    splits: SplitHalves,
    draws: Draws,
    *,
    centre: bool = True,
    halves: str = "both",
) -> Resampled:
    """Scores of layers, and of the best of them, in every bootstrap sample.

    `models` holds the RDMs of each layer, (n_subjects, n_pairs) or (1, n_pairs) for all
    subjects; `brain` is (n_subjects, n_pairs). With `centre` scores are Pearson's r,
    and rows have lost their means before. In a sample of subjects everyone has a place
    in the half-splits, so that one who was drawn twice may be in both halves. With
    `halves` "first" only the first half of each split counts.
    """
    counted = slice(1) if halves == "first" else slice(None)
    few = _fewer(splits)
    weights = few.weights.reshape(-1, few.n_subjects)
    same = np.broadcast_to(np.arange(few.n_subjects), draws.subjects.shape)
    inner = _weighted_products(models, brain, draws.images, centre=centre)
    once = np.ones_like(draws.images[:1])
    plain = _weighted_products(models, brain, once, centre=centre)
    n_samples, n_layers = len(draws.subjects), len(models)
    layers, best = np.empty((3, n_samples, n_layers)), np.empty((3, n_samples))
    kinds = ((draws.subjects, inner), (draws.subjects, plain), (same, inner))
    for k, (subjects, products) in enumerate(kinds):
        for first in range(0, n_samples, _SAMPLES_AT_ONCE):
            rows = slice(first, first + _SAMPLES_AT_ONCE)
            r = _sample_scores(products, subjects[rows], rows, weights)
            pairs = r.reshape(n_layers, -1, few.n_halves)  # all splits of all samples
            z = fisher_z(pairs[..., counted]).reshape(n_layers, r.shape[1], -1)
            layers[k, rows] = z.mean(axis=2).T
            chosen = fisher_z(cv_max_layer(pairs).r[:, counted])
            best[k, rows] = chosen.reshape(r.shape[1], -1).mean(axis=1)
    return Resampled(layers, best)


def _sample_scores(
    inner: list[InnerProducts], subjects: np.ndarray, rows: slice, weights: np.ndarray
) -> np.ndarray:
    """Correlations in the halves of samples, (n_layers, n_samples, n_halves)."""
    down, across = subjects[:, :, None], subjects[:, None, :]

    def of_sample(products: np.ndarray) -> np.ndarray:
        single = len(products) == 1  # the same images in every sample
        place = 0 if single else np.arange(rows.start, rows.start + len(subjects))
        place = np.reshape(place, (-1, 1, 1))
        n_rows, n_columns = products.shape[1:]
        return products[
            place, down if n_rows > 1 else 0, across if n_columns > 1 else 0
        ]

    brain = of_sample(inner[0].brain)
    return np.stack(
        [
            half_scores(
                InnerProducts(of_sample(layer.cross), of_sample(layer.model), brain),
                weights,
            )
            for layer in inner
        ]
    )


def _weighted_products(
    models: Sequence[np.ndarray], brain: np.ndarray, images: np.ndarray, *, centre: bool
) -> list[InnerProducts]:
    """Inner products of each layer's and the brain's rows, for samples of images.

    (n_samples, ., .); to `centre` takes its weighted mean from each row.
    """
    stacks = [brain, *models]
    wanted = [(brain, brain)]
    for model in models:
        wanted += [(model, brain), (model, model)]
    found = [np.zeros((len(images), len(a), len(b))) for a, b in wanted]
    sums = [np.zeros((len(images), len(rows))) for rows in stacks]
    mass = np.zeros((len(images), 1))
    counts = images.astype(float)
    first, second = np.triu_indices(images.shape[1], k=1)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        pairs = slice(start, start + _PAIRS_AT_ONCE)
        w = counts[:, first[pairs]] * counts[:, second[pairs]]
        mass += w.sum(axis=1, keepdims=True)
        for total, (a, b) in zip(found, wanted, strict=True):
            products = a[:, None, pairs] * b[None, :, pairs]
            total += (w @ products.reshape(-1, w.shape[1]).T).reshape(total.shape)
        for row_sums, rows in zip(sums, stacks, strict=True):
            row_sums += w @ rows[:, pairs].T
    if centre:
        means = [row_sums / np.sqrt(mass) for row_sums in sums]
        places = [(0, 0), *((k, j) for k in range(1, len(means)) for j in (0, k))]
        for total, (k, j) in zip(found, places, strict=True):
            total -= means[k][:, :, None] * means[j][:, None, :]
    of_brain, rest = found[0], found[1:]
    return [
        InnerProducts(cross, model, of_brain)
        for cross, model in zip(rest[::2], rest[1::2], strict=True)
    ]


def _fewer(splits: SplitHalves) -> SplitHalves:
    """At most 200 of the splits, drawn with a seed."""
    if splits.n_splits <= _MOST_SPLITS:
        return splits
    rng = np.random.default_rng(0)
    rows = rng.choice(splits.n_splits, _MOST_SPLITS, replace=False)
    return SplitHalves(splits.members[np.sort(rows)])
