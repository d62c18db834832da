import numpy as np
import pytest

from versa.fmri.similarity import as_vectors
from versa.stats.halves import inner_products
from versa.stats.intervals import fisher_mean, fisher_z
from versa.stats.jackknife import (
    best_z_without,
    ceiling_interval,
    jackknife_error,
    jackknife_interval,
)
from versa.stats.selection import cv_max_layer
from versa.stats.splits import split_halves


def without(layers, brain, splits, subject):
    """Scores (n_layers, n_splits, 2) where a subject is taken out of its half."""
    found = np.full((len(layers), splits.n_splits, 2), np.nan)
    for j, first in enumerate(splits.members):
        for h, half in enumerate((first, ~first)):
            kept = [i for i in np.flatnonzero(half) if i != subject]
            for k, layer in enumerate(layers):
                if kept:
                    mean = layer[kept if len(layer) > 1 else [0]].mean(axis=0)
                    r = np.corrcoef(mean, brain[kept].mean(axis=0))[0, 1]
                    found[k, j, h] = r
    return found


@pytest.mark.parametrize("n_subjects", [3, 4, 7])
@pytest.mark.parametrize("shared", [False, True])
def test_scores_without_a_subject(n_subjects, shared):
    rng = np.random.default_rng(0)
    true = rng.random(40)
    brain = true + rng.random((n_subjects, 40))
    layers = [true + rng.random((1 if shared else n_subjects, 40)) for _ in range(3)]
    splits = split_halves(n_subjects)
    vectors = as_vectors(brain)
    inner = [inner_products(as_vectors(layer), vectors) for layer in layers]
    z, best = best_z_without(inner, splits)
    for i in range(n_subjects):
        r = without(layers, brain, splits, i)
        np.testing.assert_allclose(z[:, i], np.nanmean(fisher_z(r), axis=(1, 2)))
        whole = ~np.isnan(r).any(axis=(0, 2))  # splits in which nobody was alone
        chosen = fisher_z(cv_max_layer(r[:, whole]).r)
        assert best[i] == pytest.approx(chosen.mean())


def test_two_subjects_have_a_ceiling_without_an_interval():
    brain = as_vectors(np.random.default_rng(0).random((2, 40)))
    mean, low, high = ceiling_interval(brain @ brain.T, split_halves(2))
    assert mean == pytest.approx(np.corrcoef(brain)[0, 1])
    assert np.isnan(low)
    assert np.isnan(high)


def test_an_interval_needs_two_values():
    assert np.isnan(jackknife_error([1.0]))
    assert np.isnan(jackknife_interval(1.0, [1.0])).all()
    assert np.isnan(jackknife_interval(1.0, [1.0, np.nan, 2.0])).all()


@pytest.mark.parametrize(("n_subjects", "noise"), [(4, 0.5), (7, 0.5), (7, 3.0)])
def test_coverage_of_the_ceiling(n_subjects, noise):
    """A small run of ``benchmarks/ceiling.py``."""
    rng = np.random.default_rng(0)
    splits = split_halves(n_subjects)
    true = rng.standard_normal(150)
    found = []
    for _ in range(400):
        brain = as_vectors(true + noise * rng.standard_normal((n_subjects, 150)))
        found.append(ceiling_interval(brain @ brain.T, splits))
    means, low, high = np.array(found).T
    expected = fisher_mean(means)
    assert 0.91 < np.mean((low <= expected) & (expected <= high)) < 0.99
