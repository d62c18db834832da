import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

import versa
from tests.synthetic import SECTORS, synthetic_fit
from versa.result import METHODS


@pytest.fixture
def results():
    return [synthetic_fit(f"net{i}", seed=i, shift=0.1 * i) for i in range(3)]


def test_detectable_of_the_study_itself(results):
    comparison = versa.compare(results, family=30)
    table = versa.power(comparison, 7)
    assert (table.n_subjects == 7).all()
    np.testing.assert_allclose(table.detectable, comparison.table.detectable)
    plain = versa.power(results, 7)
    expected = versa.compare(results, family=1).table.detectable
    np.testing.assert_allclose(plain.detectable, expected)
    raw = versa.compare(results, on_z=False)
    np.testing.assert_allclose(versa.power(raw, 7).detectable, raw.table.detectable)


def test_power_is_that_of_statsmodels():
    pilot = np.random.default_rng(0).normal(0.1, 0.2, 9)
    table = versa.power(pilot, range(4, 12, 3), difference=0.15)
    effect = 0.15 / pilot.std(ddof=1)
    expected = [TTestPower().power(effect, n, 0.05) for n in (4, 7, 10)]
    np.testing.assert_allclose(table.power, expected)
    detected = TTestPower().solve_power(nobs=10, alpha=0.05, power=0.8)
    assert table.detectable.iloc[-1] / pilot.std(ddof=1) == pytest.approx(detected)


def test_more_subjects_and_a_baseline(results):
    table = versa.power(versa.compare(results, baseline="net1"), (7, 10, 20))
    assert len(table) == len(METHODS) * len(SECTORS) * 2 * 3
    assert set(table.model_b) == {"net1"}
    for _, rows in table.groupby(["method", "sector", "model_a"]):
        assert (np.diff(rows.power) > 0).all()
        assert (np.diff(rows.detectable) < 0).all()


def test_layers_of_one_network(results):
    table = versa.power(results[0], 7)
    layers = results[0].layers()
    for (method, sector), rows in table.groupby(["method", "sector"]):
        scores = layers[(layers.method == method) & (layers.sector == sector)]
        assert set(rows.model_a) == {scores.loc[scores.r.idxmax(), "layer"]}
        assert len(rows) == len(scores) - 1


def test_refuses(results):
    with pytest.raises(ValueError, match="a finite difference for each"):
        versa.power([0.1])
    with pytest.raises(ValueError, match="n_subjects must be a whole number of 2"):
        versa.power(results, 1)
