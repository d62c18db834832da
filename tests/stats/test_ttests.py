import numpy as np
import pytest
from scipy import stats

from versa.stats.ttests import corrected_paired_ttest


def pair(n=70, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0.5, 0.1, n), rng.normal(0.45, 0.1, n)


def test_no_correction_is_scipys_paired_test():
    a, b = pair()
    ours, theirs = (
        corrected_paired_ttest(a, b, test_train_ratio=0),
        stats.ttest_rel(a, b),
    )
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.pvalue == pytest.approx(theirs.pvalue)
    assert ours.df == theirs.df == 69


@pytest.mark.parametrize("ratio", [1.0, 0.75, 4 / 3])
@pytest.mark.parametrize("df", [None, 6])
def test_formula(ratio, df):
    a, b = pair()
    d = a - b
    t = d.mean() / np.sqrt((1 / 70 + ratio) * d.var(ddof=1))
    result = corrected_paired_ttest(a, b, test_train_ratio=ratio, df=df)
    assert result.statistic == result.t == pytest.approx(t)
    assert result.df == (69 if df is None else 6)
    assert result.p == pytest.approx(2 * stats.t.sf(abs(t), result.df))
    assert result.difference == pytest.approx(d.mean())
    assert result.difference / result.standard_error == pytest.approx(t)


def test_swapping_models_and_halves():
    a, b = pair()
    forward, backward = corrected_paired_ttest(a, b), corrected_paired_ttest(b, a)
    assert forward.statistic == -backward.statistic
    assert forward.pvalue == backward.pvalue
    halves_a, halves_b = a.reshape(35, 2), b.reshape(35, 2)
    flipped = corrected_paired_ttest(halves_a[:, ::-1], halves_b[:, ::-1])
    assert flipped.statistic == pytest.approx(forward.statistic)


def test_equal_and_constant_differences():
    a, _ = pair()
    assert corrected_paired_ttest(a, a)[:2] == (0.0, 1.0)
    result = corrected_paired_ttest(np.full(5, 0.75), np.full(5, 0.5))
    assert result.statistic == np.inf
    assert result.pvalue == 0
    assert np.isnan(corrected_paired_ttest([0.5], [0.4]).pvalue)


def test_refuses():
    with pytest.raises(ValueError, match="same split evaluations"):
        corrected_paired_ttest([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="1 of 2 differences"):
        corrected_paired_ttest([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match="test_train_ratio must be 0 or more"):
        corrected_paired_ttest([1, 2], [1, 3], test_train_ratio=-1)
    with pytest.raises(ValueError, match="df must be positive"):
        corrected_paired_ttest([1, 2], [1, 3], df=0)
