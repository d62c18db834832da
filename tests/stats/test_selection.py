import numpy as np
import pytest

from versa.stats.selection import counted_halves, cv_max_layer


def test_by_loops():
    scores = np.random.default_rng(0).normal(size=(9, 35, 2))
    best = cv_max_layer(scores)
    for j in range(35):
        for half in (0, 1):
            chosen = int(np.argmax(scores[:, j, 1 - half]))
            assert best.chosen[j, half] == chosen
            assert best.r[j, half] == scores[chosen, j, half]


def test_swapping_halves_swaps_the_result():
    scores = np.random.default_rng(1).normal(size=(4, 6, 2))
    forward, backward = cv_max_layer(scores), cv_max_layer(scores[..., ::-1])
    np.testing.assert_array_equal(forward.r, backward.r[:, ::-1])


def test_no_optimism_on_noise():
    scores = np.random.default_rng(2).normal(size=(20, 2000, 2))
    assert abs(cv_max_layer(scores).r.mean()) < 0.05
    assert scores.max(axis=0).mean() > 1.5


def test_undefined_layers_are_never_chosen():
    scores = np.array([[[0.1, 0.2]], [[np.nan, np.nan]]])
    best = cv_max_layer(scores)
    assert best.chosen.tolist() == [[0, 0]]
    assert best.r.tolist() == [[0.1, 0.2]]
    nothing = cv_max_layer(np.full((2, 3, 2), np.nan))
    assert np.isnan(nothing.r).all()
    assert (nothing.chosen == -1).all()


def test_counted_halves():
    r = np.random.default_rng(0).uniform(-0.9, 0.9, (35, 2))
    np.testing.assert_array_equal(counted_halves(r, "both"), r)
    np.testing.assert_array_equal(counted_halves(r, "first"), r[:, :1])
    expected = np.tanh(np.arctanh(r).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(counted_halves(r, "mean"), expected)
    for halves in ("both", "mean", "first"):
        np.testing.assert_allclose(counted_halves(r[:, :1], halves), r[:, :1])
    with pytest.raises(ValueError, match="halves must be among both, mean, first"):
        counted_halves(r, "second")


def test_the_layer_that_is_chosen_most_often():
    scores = np.random.default_rng(1).normal(size=(4, 35, 2))
    best = cv_max_layer(scores)
    counts = [np.count_nonzero(best.chosen == k) for k in range(4)]
    assert counts[best.usual] == max(counts)
    assert cv_max_layer(np.full((2, 3, 2), np.nan)).usual == -1
    scores[0] = np.nan
    scores[:, :30] = np.nan
    assert cv_max_layer(scores).usual > 0
