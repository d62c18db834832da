import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from versa.stats.families import benjamini_hochberg, bonferroni, holm


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(bonferroni, "bonferroni"), (holm, "holm"), (benjamini_hochberg, "fdr_bh")],
)
def test_corrections_are_those_of_statsmodels(ours, theirs):
    p = np.random.default_rng(0).uniform(0, 0.3, 12) ** 2
    expected = multipletests(p, method=theirs)[1]
    np.testing.assert_allclose(ours(p, 12), expected)
    # tests that were not made count as p = 1
    more = multipletests([*p, *[1.0] * 18], method=theirs)[1][:12]
    np.testing.assert_allclose(ours(p, 30), more)


def test_no_test_stays_none():
    for correct in (bonferroni, holm, benjamini_hochberg):
        found = correct([np.nan, 0.01, 0.04], 2)
        assert np.isnan(found[0])
        np.testing.assert_allclose(found[1:], correct([0.01, 0.04], 2))
