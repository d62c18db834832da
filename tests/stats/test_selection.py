import numpy as np

from versa.stats.selection import cv_max_layer


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
