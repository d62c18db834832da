import tracemalloc

import numpy as np
import pytest
from rsatoolbox.rdm import compare

from versa.fmri.ceilings import half_correlations, noise_ceiling
from versa.fmri.rdm import correlation_rdm, pattern_rdm, to_rsatoolbox
from versa.fmri.similarity import COMPARISONS, RANKED, half_scores, own_scores
from versa.stats.splits import split_halves

NAMES = [f"image {i}" for i in range(14)]
METHODS = {  # of rsatoolbox
    "pearson": "corr",
    "cosine": "cosine",
    "spearman": "spearman",
    "kendall-tau-a": "tau-a",
    "whitened": "corr_cov",
    "cka": "cosine_cov",
}


@pytest.fixture
def stacks():
    rng = np.random.default_rng(0)
    model = np.stack([correlation_rdm(rng.normal(size=(14, 9))) for _ in range(5)])
    brain = np.stack([correlation_rdm(rng.normal(size=(14, 9))) for _ in range(5)])
    return model, brain + 0.5 * model


def rsatoolbox(first, second, compare_by):
    pair = (to_rsatoolbox(rdm, NAMES) for rdm in (first, second))
    return float(compare(*pair, method=METHODS[compare_by])[0, 0])


@pytest.mark.parametrize("compare_by", COMPARISONS)
@pytest.mark.parametrize("single", [False, True])
def test_equals_rsatoolbox_on_the_same_mean_rdms(stacks, compare_by, single):
    model, brain = stacks
    if single:
        model = model[:1].round(1)  # with ties
    splits = split_halves(5)
    everyone = np.broadcast_to(model, brain.shape)
    expected = [
        [
            rsatoolbox(
                everyone[half].mean(axis=0), brain[half].mean(axis=0), compare_by
            )
            for half in (row, ~row)
        ]
        for row in splits.members
    ]
    found = half_correlations(model, brain, splits, compare_by)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    own = [rsatoolbox(*pair, compare_by) for pair in zip(everyone, brain, strict=True)]
    np.testing.assert_allclose(
        own_scores(model, brain, compare_by), own, rtol=0, atol=1e-12
    )
    ceiling = [
        rsatoolbox(brain[row].mean(axis=0), brain[~row].mean(axis=0), compare_by)
        for row in splits.members
    ]
    np.testing.assert_allclose(
        noise_ceiling(brain, splits, compare_by), ceiling, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("compare_by", ["pearson", "whitened", *RANKED])
def test_an_rdm_that_does_not_vary_has_no_score(stacks, compare_by):
    _, brain = stacks
    flat = np.full((1, brain.shape[1]), 0.1) + 1e-17
    assert np.isnan(half_scores(flat, brain, split_halves(5), compare_by)).all()
    lost = np.full((1, brain.shape[1]), np.nan)
    assert np.isnan(half_scores(lost, brain, split_halves(5), compare_by)).all()


def test_means_of_many_splits_are_not_all_held_at_once():
    rng = np.random.default_rng(0)
    brain, model = rng.normal(size=(2, 13, 496))  # 1716 splits: 14 MB of mean RDMs
    tracemalloc.start()
    r = half_scores(model, brain, split_halves(13), "spearman")
    ceiling = noise_ceiling(brain, split_halves(13), "spearman")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (r.shape, ceiling.shape) == ((1716, 2), (1716,))
    assert peak < 100e6


def test_an_unknown_measure_is_refused(stacks):
    with pytest.raises(ValueError, match=r"compare_by .*'spearmann'.*spearman"):
        half_correlations(*stacks, split_halves(5), "spearmann")


def test_cka_is_that_of_the_voxels_of_a_half():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(14, 20))
    voxels = [features[:, :9] + rng.normal(size=(14, 9)) for _ in range(4)]
    splits = split_halves(4)
    found = half_correlations(
        pattern_rdm(features, "euclidean")[None],
        np.stack([pattern_rdm(x, "euclidean") for x in voxels]),
        splits,
        "cka",
    )
    x = features - features.mean(axis=0)
    for row, values in zip(splits.members, found, strict=True):
        for who, value in zip((row, ~row), values, strict=True):
            y = np.hstack([v for v, w in zip(voxels, who, strict=True) if w])
            y = y - y.mean(axis=0)
            norms = [np.linalg.norm(a.T @ b) for a, b in ((x, y), (x, x), (y, y))]
            expected = norms[0] ** 2 / (norms[1] * norms[2])
            assert value == pytest.approx(expected, abs=1e-12)
