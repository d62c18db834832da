"""How long a training is, its rates, and how its groups are dealt."""

import pytest
import torch

from versa.models.ipcl.schedule import Plan, one_cycle, rounds_of


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


def test_rates_of_the_paper():
    n_groups = 100 * 1_281_167 // 128
    first, last = one_cycle(0, n_groups), one_cycle(n_groups, n_groups)
    assert first == pytest.approx((3e-5, 0.95), rel=1e-12)
    assert one_cycle(int(n_groups * 0.4), n_groups) == pytest.approx((0.03, 0.85))
    assert last == pytest.approx((3e-9, 0.95), rel=1e-6)


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


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_a_cycle_may_only_fall_or_only_rise(warmup):
    rates = [one_cycle(g, 20, warmup=warmup)[0] for g in range(20)]
    assert rates == sorted(rates, reverse=not warmup)
    assert (rates[0] == 0.03) == (not warmup)


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
