"""Re-indexing a layer equals permuting the brain and fitting again."""

import numpy as np
import pytest

from versa.fmri.ceilings import half_correlations
from versa.fmri.permutation import (
    Yardstick,
    classic_permuted,
    encoded_permuted,
    image_orders,
    permuted_scores,
)
from versa.fmri.rdm import correlation_rdm, pattern_rdm
from versa.fmri.rsa import encoded_rdms, encoding_target
from versa.stats.intervals import fisher_z
from versa.stats.selection import cv_max_layer
from versa.stats.splits import split_halves

N_IMAGES = 12


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((N_IMAGES, 20)) for _ in range(3)]
    responses = [
        layers[0] @ rng.standard_normal((20, 15 + k))
        + 4 * rng.standard_normal((N_IMAGES, 15 + k))
        + 3
        for k in range(5)
    ]
    return layers, responses, image_orders(N_IMAGES, 6)


def step_by_step(layers, responses, order, splits, rdm, compare_by, **options):
    """Scores (n_layers, n_splits, n_halves) of brains whose images were permuted."""
    moved = [voxels[np.argsort(order)] for voxels in responses]
    brain = np.stack([pattern_rdm(voxels, rdm) for voxels in moved])
    scores = {"versa": [], "versa-debiased": [], "rsa": []}
    for x in layers:
        rdms = encoded_rdms(x @ x.T, encoding_target(moved, rdm), **options)
        for method, stack in (
            ("versa", rdms.versa),
            ("versa-debiased", rdms.debiased),
            ("rsa", pattern_rdm(x, rdm)[None]),
        ):
            scores[method].append(half_correlations(stack, brain, splits, compare_by))
    return {method: np.stack(r) for method, r in scores.items()}


@pytest.mark.parametrize(
    ("rdm", "compare_by", "options"),
    [
        ("correlation", "pearson", {}),
        ("correlation", "pearson", {"alpha_per_voxel": False}),
        ("correlation", "pearson", {"alphas": "sklearn"}),
        ("euclidean", "cosine", {}),
        ("cosine", "whitened", {}),
        ("correlation", "spearman", {}),
        ("correlation", "kendall-tau-a", {}),
    ],
)
def test_equals_permuting_the_brain_and_fitting_again(study, rdm, compare_by, options):
    layers, responses, orders = study
    splits = split_halves(5)
    measured = np.stack([pattern_rdm(voxels, rdm) for voxels in responses])
    yardstick = Yardstick(measured, splits, compare_by)
    kept = []
    for x in layers:
        target = encoding_target(responses, rdm)
        kept.append(encoded_permuted(x @ x.T, target, yardstick, orders, **options))
        classic = classic_permuted(pattern_rdm(x, rdm), yardstick, orders)
        kept[-1]["rsa"] = classic
    expected = [
        step_by_step(layers, responses, order, splits, rdm, compare_by, **options)
        for order in orders
    ]
    for method in ("versa", "versa-debiased", "rsa"):
        scores = permuted_scores([found[method] for found in kept], yardstick)
        z = [fisher_z(one[method]).mean(axis=(1, 2)) for one in expected]
        np.testing.assert_allclose(scores.layers, np.transpose(z), atol=1e-10)
        best = [fisher_z(cv_max_layer(one[method]).r).mean() for one in expected]
        np.testing.assert_allclose(scores.best, best, atol=1e-10)


@pytest.fixture
def yardstick(study):
    _, responses, _ = study
    measured = np.stack([correlation_rdm(voxels) for voxels in responses])
    return Yardstick(measured, split_halves(5))


def test_many_splits_come_in_pieces(study, yardstick, monkeypatch):
    layers, _, orders = study
    kept = [classic_permuted(correlation_rdm(x), yardstick, orders) for x in layers]
    whole = permuted_scores(kept, yardstick)
    monkeypatch.setattr("versa.fmri.permutation._SCORE_ELEMENTS", 3 * 6 * 2 * 4)
    pieces = permuted_scores(kept, yardstick)
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-13)


def test_wide_sectors_come_in_pieces(study, monkeypatch):
    layers, _, orders = study
    rng = np.random.default_rng(1)
    wide = [rng.standard_normal((N_IMAGES, 100)) for _ in range(2)]
    measured = np.stack([correlation_rdm(voxels) for voxels in wide])
    yardstick = Yardstick(measured, split_halves(2))
    arguments = (layers[0] @ layers[0].T, encoding_target(wide), yardstick, orders)
    whole = encoded_permuted(*arguments)["versa"]
    monkeypatch.setattr("versa.fmri.permutation._CHUNK_ELEMENTS", 1)
    pieces = encoded_permuted(*arguments)["versa"]
    np.testing.assert_allclose(pieces, whole, atol=1e-12)


def test_features_without_geometry_have_no_score(study, yardstick):
    _, responses, orders = study
    gram = np.ones((N_IMAGES, N_IMAGES))
    kept = encoded_permuted(
        gram, encoding_target(responses), yardstick, orders, with_voxels=True
    )
    assert (kept.pop("voxels") == 0).all()
    scores = {m: permuted_scores([one], yardstick) for m, one in kept.items()}
    assert np.isnan(scores["versa-debiased"].layers).all()
    assert np.isnan(scores["versa-debiased"].best).all()
    assert np.ptp(scores["versa"].layers) < 1e-12  # the null, whatever the order


def test_orders_differ_and_none_is_the_identity():
    orders = image_orders(4, 23)
    assert len({tuple(order) for order in orders}) == 23
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert (0, 1, 2, 3) not in {tuple(order) for order in orders}


def test_more_orders_begin_with_the_same():
    np.testing.assert_array_equal(image_orders(9, 50)[:20], image_orders(9, 20))


def test_no_more_orders_than_there_are():
    with pytest.raises(ValueError, match="permutations must be at most 5, all that 3"):
        image_orders(3, 6)
