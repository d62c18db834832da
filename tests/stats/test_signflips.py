import itertools

import numpy as np
import pytest
from scipy import stats

from versa.stats.signflips import signflip_test, smallest_signflip_p


@pytest.mark.parametrize("n_subjects", [2, 5, 8])
def test_all_patterns(n_subjects):
    d = np.random.default_rng(n_subjects).normal(0.5, 1, n_subjects)
    signs = np.array(list(itertools.product([1, -1], repeat=n_subjects)))
    expected = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    assert signflip_test(d) == pytest.approx(expected)
    theirs = stats.permutation_test(
        (d,),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided",
    )
    assert signflip_test(d) == pytest.approx(theirs.pvalue)


def test_smallest():
    assert signflip_test(np.arange(1, 8)) == smallest_signflip_p(7) == 1 / 64
    assert signflip_test(np.zeros(7)) == 1
    assert smallest_signflip_p(1) == 1


def test_many_subjects_are_drawn():
    d = np.random.default_rng(0).normal(0.2, 1, 40)
    expected = stats.ttest_1samp(d, 0).pvalue
    assert signflip_test(d) == pytest.approx(expected, abs=0.01)
    assert signflip_test(d) == signflip_test(d)


def test_no_number():
    assert np.isnan(signflip_test([0.1, np.nan]))
