import numpy as np
import pytest
from scipy.stats import permutation_test

import versa
from tests.synthetic import LAYERS, METHODS, SECTORS, synthetic_fit
from versa.fmri.ceilings import half_correlations
from versa.inference.calibration import (
    Population,
    _geometry,
    _matched,
    _pilot,
    _rates,
    _scores,
    _Seen,
)
from versa.result import FitResult
from versa.stats.intervals import fisher_z
from versa.stats.splits import split_halves
from versa.stats.ttests import corrected_paired_ttest

POPULATION = Population(noise=1.5, leaning=0.3, fit=0.6)


def with_subjects(model, seed, n_subjects=7, spread=0.1):
    result = synthetic_fit(model, seed, n_subjects)
    rng = np.random.default_rng(seed)
    shape = (len(METHODS), len(SECTORS), len(LAYERS), n_subjects)
    own = np.tanh(0.4 + spread * rng.standard_normal(shape))
    dims = ("methods", "sector", "layer", "subject")
    return FitResult(result.data.assign(subject_scores=(dims, own)))


def test_the_fast_tests_are_those_of_the_package():
    splits = split_halves(7)
    brains, networks = _geometry(POPULATION, 7, 5, np.random.default_rng(1))
    halves, own = _scores(brains, networks, splits)
    # the signs take no random numbers for 7 subjects, so these are the same studies
    p = _rates(POPULATION, splits, 5, 1.0, np.random.default_rng(1))
    centred = networks - networks.mean(axis=2, keepdims=True)
    assert np.abs(centred - networks).max() < 0.02  # lengths stand in for variances
    for i in range(5):
        mine = [halves[i, :, k] for k in (0, 1)]
        expected = [
            fisher_z(half_correlations(x[None], brains[i], splits)).ravel()
            for x in networks[i]
        ]
        np.testing.assert_allclose(mine, expected, atol=0.15)
        test = corrected_paired_ttest(*mine)
        assert p["rate"][i] == pytest.approx(test.pvalue)
        by_subjects = corrected_paired_ttest(*mine, df=6)
        assert p["rate_subjects"][i] == pytest.approx(by_subjects.pvalue)
        exact = permutation_test(
            (own[i, :, 0] - own[i, :, 1],),
            np.mean,
            permutation_type="samples",
            n_resamples=np.inf,
        )
        assert p["rate_signflip"][i] == pytest.approx(exact.pvalue)


def test_the_halves_that_count_are_those_of_the_comparison():
    fits = [with_subjects(name, seed) for name, seed in (("a", 0), ("b", 1))]
    rates = {
        halves: versa.calibration(versa.compare(fits, halves=halves), n_studies=200)
        .query("level == 0.05")
        .rate.min()
        for halves in ("both", "mean")
    }
    assert rates["both"] < 0.2
    assert rates["mean"] > 0.6  # such tests are void


def test_rates_are_those_of_the_separate_simulation():
    """benchmarks/README.md has .08 to .09, .05 to .06 and .05 for these subjects."""
    splits = split_halves(7)
    p = _rates(POPULATION, splits, 1500, 1.0, np.random.default_rng(0))
    rate = {name: np.mean(values < 0.05) for name, values in p.items()}
    assert 0.06 < rate["rate"] < 0.12
    assert 0.035 < rate["rate_subjects"] < 0.075
    assert 0.03 < rate["rate_signflip"] < 0.065


@pytest.mark.parametrize("population", [POPULATION, Population(0.7, 0.6, 0.8)])
def test_a_population_is_found_again(population):
    splits = split_halves(10)
    rng = np.random.default_rng(2)
    ceiling, spread = _pilot(population, splits, rng)
    level = population.fit * np.sqrt(ceiling)
    found = _matched(_Seen(ceiling, level, spread), splits, rng)
    assert found.ceiling == pytest.approx(ceiling, abs=0.04)
    assert found.spread == pytest.approx(spread, rel=0.15)


def test_table_of_a_comparison_and_of_one_network():
    fits = [with_subjects("a", 1), with_subjects("b", 2)]
    comparison = versa.compare(*fits)
    table = versa.calibration(comparison, n_studies=200)
    assert len(table) == 3 * 2 * 2
    assert set(table.level) == {0.05, 0.05 / 2}  # two sectors, one pair
    rates = table[["rate", "rate_subjects", "rate_signflip"]]
    assert ((rates >= 0) & (rates < 0.3)).all(axis=None)
    assert (table.rate >= table.rate_subjects).all()
    again = versa.calibration(comparison, n_studies=200)
    assert again.equals(table)
    alone = versa.calibration(fits[0], n_studies=100, family=1)
    assert set(alone.level) == {0.05}
    assert np.isfinite(alone.rate).all()


def test_a_sector_without_a_ceiling_has_no_rates():
    result = with_subjects("a", 1)
    data = result.data.copy(deep=True)
    data["ceiling"].loc["aOTC"] = -0.1
    table = versa.calibration(FitResult(data), n_studies=100)
    lost = table[table.sector == "aOTC"]
    assert lost[["rate", "rate_subjects", "rate_signflip"]].isna().all(axis=None)
    assert table[table.sector == "EarlyV"].rate.notna().all()


def test_refusals():
    old = synthetic_fit("old")
    with pytest.raises(ValueError, match=r"result of old, .*older version.*Fit again"):
        versa.calibration(old)
    with pytest.raises(ValueError, match="at least 3 subjects and 100 studies; got 2"):
        versa.calibration(with_subjects("a", 1, n_subjects=2))
    with pytest.raises(ValueError, match=r"family must be .*got 0"):
        versa.calibration(with_subjects("a", 1), family=0)
