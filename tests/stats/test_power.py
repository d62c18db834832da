import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from versa.stats.power import detectable_effect, paired_power


@pytest.mark.parametrize("n_subjects", [4, 7, 10, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_power_is_that_of_statsmodels(n_subjects, alpha):
    effects = np.array([0.0, 0.1, 0.4, 0.9])
    theirs = TTestPower().power(effects, n_subjects, alpha)
    np.testing.assert_allclose(
        paired_power(effects, n_subjects, alpha=alpha), theirs, rtol=1e-6
    )


@pytest.mark.parametrize("n_subjects", [5, 7, 10, 25])
def test_detectable_effect_is_that_of_statsmodels(n_subjects):
    theirs = TTestPower().solve_power(nobs=n_subjects, alpha=0.05, power=0.8)
    assert detectable_effect(n_subjects) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("n_subjects", [2, 3, 7])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 30])
def test_detected_with_the_power_asked_for(n_subjects, alpha):
    effect = detectable_effect(n_subjects, power=0.9, alpha=alpha)
    assert paired_power(effect, n_subjects, alpha=alpha) == pytest.approx(0.9)


def test_simulated_studies_agree():
    rng = np.random.default_rng(0)
    d = rng.normal(0.9, 1, (40_000, 7))
    t = d.mean(axis=1) / d.std(axis=1, ddof=1) * np.sqrt(7)
    share = np.mean(np.abs(t) > 2.446912)  # t(6) at .975
    assert paired_power(0.9, 7) == pytest.approx(share, abs=0.008)


def test_refuses():
    with pytest.raises(ValueError, match="n_subjects must be a whole number of 2"):
        paired_power(0.5, 1)
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        paired_power(0.5, 7, alpha=1)
    with pytest.raises(ValueError, match="power must be above the level"):
        detectable_effect(7, power=0.01)
