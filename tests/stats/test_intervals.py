import json

import numpy as np
import pytest
from scipy import stats

from versa.stats.intervals import (
    bootstrap_interval,
    corrected_interval,
    fisher_mean,
    fisher_z,
)


def test_fisher_mean_by_hand():
    r = np.array([[0.1, 0.9], [0.5, -0.3]])
    assert fisher_mean(r) == pytest.approx(np.tanh(np.arctanh(r).mean()))
    np.testing.assert_allclose(
        fisher_mean(r, axis=1), np.tanh(np.arctanh(r).mean(axis=1))
    )
    assert np.isnan(fisher_mean([0.5, np.nan]))
    assert fisher_mean([1.0, 1.0]) == pytest.approx(1.0)
    assert np.isfinite(fisher_z([-1.0, 1.0])).all()


@pytest.mark.parametrize(("n", "reach"), [(35, 2.061), (70, 2.009), (126, 1.987)])
def test_half_width_in_units_of_the_deviation(n, reach):
    z = np.random.default_rng(0).normal(0.5, 0.1, n)
    mean, low, high = np.arctanh(corrected_interval(np.tanh(z)))
    assert mean == pytest.approx(z.mean())
    assert (high - low) / 2 / z.std(ddof=1) == pytest.approx(reach, abs=6e-4)


def test_no_correction_is_scipys_interval():
    z = np.random.default_rng(1).normal(0.5, 0.1, 12)
    ours = corrected_interval(np.tanh(z), test_train_ratio=0.0)
    low, high = stats.t.interval(0.95, 11, loc=z.mean(), scale=stats.sem(z))
    assert np.arctanh(ours[1:]) == pytest.approx([low, high])


def test_fewer_degrees_of_freedom_widen_it():
    r = np.tanh(np.random.default_rng(2).normal(0.5, 0.1, 70))
    paper, calibrated = corrected_interval(r), corrected_interval(r, df=6)
    ratio = (np.arctanh(calibrated.high) - np.arctanh(calibrated.mean)) / (
        np.arctanh(paper.high) - np.arctanh(paper.mean)
    )
    assert ratio == pytest.approx(stats.t.ppf(0.975, 6) / stats.t.ppf(0.975, 69))


def test_one_value_has_no_interval():
    mean, low, high = corrected_interval([0.5])
    assert mean == pytest.approx(0.5)
    assert np.isnan([low, high]).all()


def test_reference_interval(shared):
    known = json.loads((shared / "data/images92/expected.json").read_text())
    known = known["kriegeskorte2008_hIT_4subj_sessions_averaged"]
    r = [split["r"] for split in known["per_split_r"]]
    mean, low, high = corrected_interval(r)
    assert mean == pytest.approx(known["r"], abs=1e-12)
    assert [low, high] == pytest.approx(known["adj_ci95_r"], abs=1e-12)


def test_bootstrap_matches_scipy():
    z = np.random.default_rng(3).normal(0.5, 0.2, 40)
    ours = np.arctanh(bootstrap_interval(np.tanh(z), n_samples=20_000))
    theirs = stats.bootstrap(
        (z,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert ours[1:] == pytest.approx([theirs.low, theirs.high], abs=0.003)
