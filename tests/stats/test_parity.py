import numpy as np
import pytest
from scipy import integrate, stats
from statsmodels.stats.weightstats import ttost_paired

from versa.stats.parity import (
    bayes_factor,
    difference_of_r,
    difference_of_z,
    equivalence_test,
)


@pytest.mark.parametrize("level", [-0.8, 0.0, 0.5, 2.0])
def test_differences_of_r_and_z_are_inverse(level):
    z = np.array([-1.5, -0.2, 0.0, 0.01, 0.9])
    r = difference_of_r(z, level)
    np.testing.assert_allclose(difference_of_z(r, level), z, atol=1e-12)
    assert r[2] == 0
    assert (np.diff(r) > 0).all()


def test_the_observed_difference_is_itself():
    r = np.array([0.7, 0.4])
    z = np.arctanh(r)
    assert difference_of_r(z[0] - z[1], z.mean()) == pytest.approx(0.3)
    assert difference_of_z(2.0, 0.3) == np.inf


@pytest.mark.parametrize("seed", range(4))
def test_equivalence_is_that_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    a = rng.normal(0.5, 0.1, 9)
    b = a + rng.normal(0.02, 0.1, 9)
    theirs, *sides = ttost_paired(a, b, -0.08, 0.08)
    error = (a - b).std(ddof=1) / 3
    ours = equivalence_test((a - b).mean(), error, 8, 0.08)
    assert ours.pvalue == pytest.approx(theirs)
    assert (ours.below, ours.above) == pytest.approx(tuple(side[1] for side in sides))
    low, high = stats.t.interval(0.90, 8, (a - b).mean(), error)
    assert (ours.pvalue < 0.05) == (low > -0.08 and high < 0.08)


def test_equal_scores_are_equivalent():
    assert equivalence_test(0.0, 0.0, 6, 0.05).pvalue == 0
    assert equivalence_test(0.3, 0.0, 6, 0.05).pvalue == 1
    with pytest.raises(ValueError, match="margin must be above 0"):
        equivalence_test(0.0, 0.1, 6, 0.0)


def averaged_likelihood(t, n, scale):
    """The same factor as an average over the prior of the effect, not of g."""

    def weighed(effect):
        likelihood = stats.nct.pdf(t, n - 1, effect * np.sqrt(n))
        return likelihood * stats.cauchy.pdf(effect, 0, scale)

    points = [0, t / np.sqrt(n)]
    total = integrate.quad(weighed, -15, 15, limit=400, points=points)[0]
    return total / stats.t.pdf(t, n - 1)


@pytest.mark.parametrize("scale", [0.707, 1.0])
@pytest.mark.parametrize(("t", "n"), [(0, 10), (0.4, 4), (2, 10), (-3.1, 7), (5, 15)])
def test_bayes_factor(t, n, scale):
    expected = averaged_likelihood(t, n, scale)
    assert bayes_factor(t, n, scale=scale) == pytest.approx(expected, rel=1e-8)


def test_bayes_factor_as_it_is_published():
    # the integral over g of Rouder et al. (2009), equation 1 with the scale in g
    t, n, scale = 2.3, 12, 0.707
    df = n - 1

    def integrand(g):
        wide = 1 + n * g * scale**2
        return (
            wide**-0.5
            * (1 + t**2 / (wide * df)) ** (-(df + 1) / 2)
            * (2 * np.pi) ** -0.5
            * g**-1.5
            * np.exp(-1 / (2 * g))
        )

    expected = integrate.quad(integrand, 0, np.inf)[0]
    expected /= (1 + t**2 / df) ** (-(df + 1) / 2)
    assert bayes_factor(t, n) == pytest.approx(expected, rel=1e-7)


def test_bayes_factor_at_the_ends():
    values = bayes_factor([np.inf, np.nan, 1.0], [7, 7, 1])
    assert values[0] == np.inf
    assert np.isnan(values[1:]).all()


@pytest.mark.parametrize("n_subjects", [4, 6, 7, 10])
def test_corrected_t_is_nearly_a_paired_t_of_linear_scores(n_subjects):
    from versa.stats.splits import split_halves
    from versa.stats.ttests import corrected_paired_ttest

    d = np.random.default_rng(n_subjects).normal(0.3, 1, n_subjects)
    splits = split_halves(n_subjects)
    scores = splits.weights @ d
    corrected = corrected_paired_ttest(scores, np.zeros_like(scores)).statistic
    j, ratio = scores.size, splits.test_train_ratio
    paired = stats.ttest_1samp(d, 0).statistic
    # of an odd number, the mean of the smaller half counts as much as the larger one
    shift = scores.mean() / d.mean()
    expected = paired * shift * np.sqrt((j - 1) / (j + 1) / ratio)
    between = scores.reshape(-1, 2).mean(axis=0)
    if n_subjects % 2 == 0:
        assert corrected == pytest.approx(expected)
    else:
        assert between == pytest.approx([d.mean()] * 2)
        assert corrected == pytest.approx(expected)
