import itertools
from math import comb

import numpy as np
import pytest

from versa.stats.splits import SplitHalves, split_halves


@pytest.mark.parametrize("n", range(2, 13))
def test_every_unordered_split_once(n):
    found = {
        frozenset([frozenset(np.flatnonzero(row)), frozenset(np.flatnonzero(~row))])
        for row in split_halves(n).members
    }
    expected = {
        frozenset([frozenset(half), frozenset(set(range(n)) - set(half))])
        for half in itertools.combinations(range(n), n // 2)
    }
    assert found == expected
    assert split_halves(n).n_splits == len(expected)


def test_counts_of_the_paper():
    assert split_halves(7).n_splits == 35
    assert split_halves(10).n_splits == 126
    assert split_halves(20).n_splits == comb(20, 10) // 2 == 92378


def test_weights_are_means_of_the_halves():
    splits = split_halves(7)
    values = np.arange(7.0) ** 2
    for row, weights in zip(splits.members, splits.weights, strict=True):
        assert weights[0] @ values == pytest.approx(values[row].mean())
        assert weights[1] @ values == pytest.approx(values[~row].mean())


def test_sampled_beyond_twenty():
    splits = split_halves(21)
    assert splits.n_splits == 1000
    assert len(np.unique(splits.members, axis=0)) == 1000
    assert (splits.members.sum(axis=1) == 10).all()
    assert splits == split_halves(21)
    assert splits != split_halves(21, seed=1)
    few = split_halves(22, n_splits=5, seed=3)
    assert few.n_splits == 5
    assert few.members[:, 0].all()  # so that no split comes twice, turned round
    assert split_halves(4, n_splits=100) == split_halves(4)


def test_one_subject_is_not_split():
    one = split_halves(1)
    assert one.members.tolist() == [[True]]
    assert one.weights.tolist() == [[[1.0]]]
    assert (one.n_splits, one.n_halves, one.test_train_ratio) == (1, 1, 1.0)
    assert one == split_halves(1, n_splits=5) == SplitHalves(one.members)
    assert split_halves(2).n_halves == 2
    with pytest.raises(ValueError, match="both halves"):
        SplitHalves(np.zeros((1, 1), dtype=bool))


def test_literal_ratio():
    assert split_halves(10).test_train_ratio == 1
    assert split_halves(7).test_train_ratio == pytest.approx((3 / 4 + 4 / 3) / 2)


def test_refuses():
    with pytest.raises(ValueError, match="n_subjects must be at least 1; got 0"):
        split_halves(0)
    with pytest.raises(ValueError, match="n_splits must be at least 1"):
        split_halves(4, n_splits=0)
    with pytest.raises(ValueError, match="both halves"):
        SplitHalves(np.ones((1, 3), dtype=bool))
    with pytest.raises(ValueError, match="boolean array"):
        SplitHalves(np.ones((1, 3)))


def test_members_cannot_be_changed():
    members = np.array([[True, False]])
    splits = SplitHalves(members)
    members[0, 1] = True
    assert splits.members.tolist() == [[True, False]]
    with pytest.raises(ValueError, match="read-only"):
        splits.members[0, 0] = False
