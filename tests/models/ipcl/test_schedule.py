"""How long a training is, its rates, and how its groups are dealt."""

import numpy as np
import pytest
import torch

from versa.models.ipcl.schedule import Plan, epoch_order, one_cycle, rounds_of


@pytest.mark.parametrize(("n_groups", "warmup"), [(50, 0.4), (101, 0.3), (10, 0.5)])
def test_rates_are_those_of_torch(n_groups, warmup):
    rise = int(n_groups * warmup)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1, momentum=0.5)
    # torch ends a phase one step early; with these numbers both peak at `rise`
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.03,
        total_steps=n_groups + 1,
        pct_start=(rise + 1) / (n_groups + 1),
        div_factor=1e3,
        final_div_factor=1e4,
        base_momentum=0.85,
        max_momentum=0.95,
    )
    for group in range(n_groups + 1):
        settings = optimizer.param_groups[0]
        lr, momentum = one_cycle(group, n_groups, warmup=warmup)
        assert lr == pytest.approx(settings["lr"], rel=1e-9, abs=1e-15)
        assert momentum == pytest.approx(settings["momentum"], rel=1e-12)
        if group < n_groups:
            optimizer.step()
            scheduler.step()


def test_halfway_up_and_down_by_hand():
    # cos(pi / 2) = 0: the mean of both ends; cos(pi / 3) = 1 / 2: a quarter of the way
    rates = {"peak": 1.0, "start_divisor": 5.0, "end_divisor": 2.0}
    assert one_cycle(20, 100, **rates) == pytest.approx((0.6, 0.9))
    assert one_cycle(70, 100, **rates) == pytest.approx((0.55, 0.9))
    assert one_cycle(60, 100, **rates) == pytest.approx((0.775, 0.875))
    assert one_cycle(70, 100, momenta=(0.5, 0.1), **rates)[1] == pytest.approx(0.3)


@pytest.mark.parametrize("group", [-1, 101])
def test_no_rate_beyond_the_training(group):
    with pytest.raises(ValueError, match=f"group must be from 0 to 100.* got {group}"):
        one_cycle(group, 100)


def test_a_plan_counts_whole_steps():
    plan = Plan(images_per_epoch=1000, group_images=16, groups_per_step=4, epochs=3)
    assert (plan.step_images, plan.steps_per_epoch, plan.n_steps) == (64, 15, 45)
    assert plan.last_group(0) == (3, 180)
    assert plan.last_group(44) == (179, 180)
    with pytest.raises(ValueError, match=r"64 images; there are 63. Lower groups_per"):
        Plan(63, 16, 4, 1)


@pytest.mark.parametrize("n_groups", [1, 5, 20, 33])
@pytest.mark.parametrize("chunk_groups", [1, 3, 50])
def test_every_group_is_dealt_once_and_evenly(n_groups, chunk_groups):
    for n_ranks in range(1, n_groups + 1):
        rounds = rounds_of(n_groups, n_ranks, chunk_groups)
        assert sum(map(sum, rounds)) == n_groups
        assert all(len(dealt) == n_ranks for dealt in rounds)
        assert max(map(max, rounds)) <= chunk_groups
        assert min(rounds[-1]) >= 1
        shares = [sum(dealt) for dealt in zip(*rounds, strict=True)]
        assert max(shares) - min(shares) <= 1
        assert len(rounds) == -(-max(shares) // chunk_groups)  # no pass too many


def test_dealing_by_hand():
    assert rounds_of(5, 2, 2) == [[1, 1], [2, 1]]
    assert rounds_of(3, 2, 1) == [[1, 0], [1, 1]]  # the last round has all
    assert rounds_of(4, 1, 100) == [[4]]


def test_more_processes_than_groups_are_refused():
    with pytest.raises(ValueError, match=r"outnumber .* 3; there are 4. Start 3 or"):
        rounds_of(3, 4, 1)


# The order of an epoch


def test_an_epoch_is_a_permutation_and_no_other_epochs():
    orders = [epoch_order([100], seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(100))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert np.array_equal(orders[1], epoch_order([100], seed=0, epoch=1))


def test_the_order_is_the_same_in_every_version():
    def mixed(z):  # SplitMix64 in Python's integers
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def key(index):
        state = 0
        for part in (1, 2, 2**63 + 1, 0, 0, index):
            state = mixed(state ^ part)
        return state

    order = epoch_order([50], seed=1, epoch=2)
    assert order.tolist() == sorted(range(50), key=key)


def test_short_epochs_take_different_images():
    parts = [
        epoch_order([1000], seed=0, epoch=e, images_per_epoch=100) for e in range(30)
    ]
    assert all(len(set(part)) == 100 for part in parts)
    assert len(set(np.concatenate(parts))) > 900  # 1000 * (1 - .9 ** 30) = 958


def test_folders_give_their_shares():
    counts, weights = [50, 10, 200], [1, 1, 2]
    order = epoch_order(counts, seed=0, epoch=3, images_per_epoch=100, weights=weights)
    folder = np.searchsorted(np.cumsum(counts), order, side="right")
    assert np.bincount(folder).tolist() == [25, 25, 50]
    # 25 of 10: each twice, and five of them once more
    assert np.bincount(order[folder == 1] - 50).tolist() == pytest.approx(
        [2.5] * 10, abs=1
    )
    assert len(set(order[folder == 2])) == 50
    # mixed, not one folder after the other
    assert 0.3 < (folder[:50] == 2).mean() < 0.7
    all_ = epoch_order(counts, seed=0, epoch=3)
    assert np.array_equal(np.sort(all_), np.arange(260))


def test_shares_are_rounded_to_the_total():
    order = epoch_order([9, 9, 9], seed=0, epoch=0, images_per_epoch=10)
    assert sorted(np.bincount(order // 9)) == [3, 3, 4]


def test_orders_are_checked():
    with pytest.raises(
        ValueError, match="counts and images_per_epoch must be at least"
    ):
        epoch_order([3, 0], seed=0, epoch=0)
    with pytest.raises(ValueError, match="weights must be numbers of at least 0"):
        epoch_order([3, 3], seed=0, epoch=0, weights=[0, 0])
    with pytest.raises(ValueError, match="one weight per folder"):
        epoch_order([3, 3], seed=0, epoch=0, weights=[1])
