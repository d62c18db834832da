"""Simulated studies of two networks and S subjects, many at once.

The RDMs of the networks are the true one plus parts a and b, which are orthogonal to
it, to each other and of equal size. Every subject's RDM is the true one, leaning
towards a or b by a random amount of mean zero, plus noise of its own. So in the
population of subjects neither network is better, unless less of the true RDM is in the
second one.
"""

from typing import NamedTuple

import numpy as np

from versa.fmri.ceilings import half_correlations, noise_ceiling
from versa.stats.intervals import fisher_mean, fisher_z
from versa.stats.splits import split_halves
from versa.stats.ttests import corrected_paired_ttest

N_PAIRS = 300
AT_ONCE = 4_000_000  # numbers in one array


class Population(NamedTuple):
    """How subjects differ."""

    name: str
    leaning: float  # standard deviation of the leaning, of parts that have length 1
    noise: float  # standard deviation of a subject's noise; of the true RDM it is 1


# With 7 subjects of the second one a difference of .20 z is detected with 80% power at
# .05, as with subjects of a public data set of 92 images (.19 to .20).
POPULATIONS = (
    Population("subjects differ by noise only", 0.0, 1.5),
    Population("as real subjects differ", 0.08, 1.5),
    Population("noisy, heterogeneous", 0.3, 1.5),
    Population("clean, heterogeneous", 0.3, 0.7),
    Population("strongly heterogeneous", 0.6, 0.7),
)


class Studies(NamedTuple):
    """Fisher z of both networks in simulated studies."""

    halves: np.ndarray  # (n_studies, n_splits, 2, 2): halves, then networks
    subjects: np.ndarray  # (n_studies, n_subjects, 2)


def studies(population, n_subjects, n_studies, rng, *, share=1.0, splits=None):
    """Studies in pieces; `share` of the true RDM is in the second network."""
    splits = split_halves(n_subjects) if splits is None else splits
    weights = splits.weights.reshape(-1, n_subjects)
    most = max(1, AT_ONCE // max(weights.size, n_subjects * N_PAIRS))
    for start in range(0, n_studies, most):
        n = min(most, n_studies - start)
        brains, parts = geometry(population, n_subjects, n, rng)
        networks = both_networks(parts, share)
        together = brains @ networks.swapaxes(1, 2)  # (n, n_subjects, 2)
        gram = brains @ brains.swapaxes(1, 2)
        sizes = np.sqrt(((weights @ gram) * weights).sum(axis=-1))
        r = (weights @ together) / sizes[..., None]
        own = together / np.sqrt(np.diagonal(gram, axis1=1, axis2=2))[..., None]
        yield Studies(fisher_z(r).reshape(n, splits.n_splits, 2, 2), fisher_z(own))


def geometry(population, n_subjects, n, rng):
    """Centred RDMs of subjects, and the true one with the parts a and b."""
    parts = rng.standard_normal((n, N_PAIRS, 3))
    parts -= parts.mean(axis=1, keepdims=True)
    parts = np.linalg.qr(parts)[0].swapaxes(1, 2) * np.sqrt(N_PAIRS)
    true, a, b = parts[:, :1], parts[:, 1:2], parts[:, 2:]
    leaning = population.leaning * rng.standard_normal((n, n_subjects, 1))
    noise = population.noise * rng.standard_normal((n, n_subjects, N_PAIRS))
    brains = true + leaning * (a - b) + noise
    return brains - brains.mean(axis=2, keepdims=True), parts


def both_networks(parts, share):
    """RDMs of both networks, with length 1."""
    true, a, b = np.moveaxis(parts, 1, 0)
    networks = np.stack([true + a, share * true + b], axis=1)
    return networks / np.linalg.norm(networks, axis=2, keepdims=True)


def gathered(*arguments, **options):
    """All studies at once."""
    pieces = studies(*arguments, **options)
    return Studies(*map(np.concatenate, zip(*pieces, strict=True)))


def corrected(z, ratio=1.0):
    """Mean difference and corrected standard error of every study, from (n, J, 2)."""
    difference = z[..., 0] - z[..., 1]
    n = difference.shape[1]
    error = np.sqrt((1 / n + ratio) * difference.var(axis=1, ddof=1))
    return difference.mean(axis=1), error


def ceiling(population, n_subjects, rng, n_studies=200):
    """Mean noise ceiling of such studies."""
    brains, _ = geometry(population, n_subjects, n_studies, rng)
    splits = split_halves(n_subjects)
    return float(np.mean([fisher_mean(noise_ceiling(x, splits)) for x in brains]))


def check(n_subjects=7):
    """The fast arithmetic above is that of the package."""
    population = POPULATIONS[1]
    brains, parts = geometry(population, n_subjects, 3, np.random.default_rng(1))
    networks = both_networks(parts, 0.9)
    found = gathered(population, n_subjects, 3, np.random.default_rng(1), share=0.9)
    splits = split_halves(n_subjects)
    for i in range(3):
        z = [
            fisher_z(half_correlations(x[None], brains[i], splits)) for x in networks[i]
        ]
        np.testing.assert_allclose(found.halves[i], np.stack(z, axis=-1), atol=1e-12)
        expected = corrected_paired_ttest(*z)
        mean, error = corrected(found.halves[i].reshape(1, -1, 2))
        np.testing.assert_allclose(
            [mean[0], error[0]], [expected.difference, expected.standard_error]
        )
