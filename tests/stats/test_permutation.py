import numpy as np
import pytest
from scipy import stats

from versa.stats.permutation import permutation_test


def test_p_counts_the_observed_one_as_scipy_does():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12))
    y += 0.5 * x

    def score(a):
        return np.corrcoef(a, y)[0, 1]

    expected = stats.permutation_test(
        (x,),
        score,
        permutation_type="pairings",
        alternative="greater",
        n_resamples=299,
        rng=np.random.default_rng(1),
    )
    null = expected.null_distribution
    test = permutation_test([score(x)], null[None])
    assert test.p[0] == pytest.approx(expected.pvalue, abs=1e-12)
    assert test.p_max[0] == test.p[0]  # of one score
    assert test.chance[0] == pytest.approx(null.mean())
    assert test.z[0] == pytest.approx((score(x) - null.mean()) / null.std(ddof=1))


def test_the_highest_by_hand():
    observed = [1.0, 5.0]
    permuted = [[0.0, 2.0, -1.0], [0.0, 1.0, 4.0]]
    together = np.column_stack([observed, permuted])
    standard = (together - together.mean(1, keepdims=True)) / together.std(
        1, keepdims=True
    )
    highest = standard[:, 1:].max(axis=0)
    test = permutation_test(observed, permuted)
    expected = [(np.sum(highest >= own) + 1) / 4 for own in standard[:, 0]]
    np.testing.assert_allclose(test.p_max, expected)
    assert (test.p_max >= test.p).all()


def test_rates_without_an_effect():
    """Level and spread differ between scores that go together; p must not mind."""
    rng = np.random.default_rng(2)
    scale, level = np.array([1.0, 5, 0.1, 2]), np.array([0.0, 3, 0.5, -1])
    rejected = np.zeros(2)
    n_studies = 2000
    for _ in range(n_studies):
        scores = rng.standard_normal((1, 40)) + rng.standard_normal((4, 40))
        scores = level[:, None] + scale[:, None] * scores
        test = permutation_test(scores[:, 0], scores[:, 1:])
        rejected += [test.p[0] <= 0.05, test.p_max.min() <= 0.05]
    # 2 of 40 ranks are at most .05
    bounds = stats.binom.interval(0.999, n_studies, 2 / 40)
    assert bounds[0] <= rejected[0] <= bounds[1]
    assert bounds[0] <= rejected[1] <= bounds[1]


def test_undefined_scores_take_no_part():
    rng = np.random.default_rng(3)
    permuted = rng.standard_normal((2, 50))
    alone = permutation_test([1.5, 0.2], permuted)
    permuted = np.concatenate([permuted, rng.standard_normal((1, 50)) + 9])
    test = permutation_test([1.5, 0.2, np.nan], permuted)
    for one, other in zip(test, alone, strict=True):
        assert np.isnan(one[2])
        np.testing.assert_allclose(one[:2], other)


def test_a_permutation_without_a_score_counts_against():
    permuted = np.zeros((1, 19))
    assert permutation_test([1.0], permuted).p[0] == 0.05
    permuted[0, 4] = np.nan
    test = permutation_test([1.0], permuted)
    assert (test.p[0], test.p_max[0], test.chance[0]) == (0.1, 0.1, 0.0)


def test_equal_scores_are_ties_despite_rounding():
    permuted = np.full((1, 9), 0.3) - 1e-16
    test = permutation_test([0.1 + 0.2], permuted)
    assert test.p[0] == test.p_max[0] == 1
    assert np.isnan(test.z[0])


@pytest.mark.parametrize("permuted", [np.zeros((2, 0)), np.zeros((3, 5)), np.zeros(5)])
def test_refuses_other_shapes(permuted):
    with pytest.raises(ValueError, match="permuted must be"):
        permutation_test([0.1, 0.2], permuted)
