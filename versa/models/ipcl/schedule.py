"""What a training does when: images, steps and rounds; learning rate and momentum.

All of it is counted in images seen, so neither the number of processes nor a restart
changes what a step is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from versa.models.ipcl.random_numbers import EPOCH_ORDER, EPOCH_SHUFFLE, hashed


@dataclass(frozen=True)
class Plan:
    """Length of a training run; images that fill no step are left out of an epoch.

    The paper: 1,281,167 images in groups of 128, 20 a step: 500 steps, 100 epochs.
    """

    images_per_epoch: int
    group_images: int
    groups_per_step: int
    epochs: int

    def __post_init__(self) -> None:
        if self.images_per_epoch < self.step_images:
            raise ValueError(
                f"images of an epoch must fill a step of {self.groups_per_step} groups "
                f"of {self.group_images}, {self.step_images} images; there are "
                f"{self.images_per_epoch}. Lower groups_per_step or group_images, or "
                "raise images_per_epoch."
            )

    @property
    def step_images(self) -> int:
        """Images of one optimizer step."""
        return self.group_images * self.groups_per_step

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.images_per_epoch // self.step_images

    @property
    def n_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.steps_per_epoch * self.epochs

    def last_group(self, step: int) -> tuple[int, int]:
        """Number of the group that completes a step, and how many groups there are."""
        whole = self.groups_per_step
        return step * whole + whole - 1, self.n_steps * whole


def one_cycle(
    group: int,
    n_groups: int,
    *,
    peak: float = 0.03,
    warmup: float = 0.4,
    start_divisor: float = 1e3,
    end_divisor: float = 1e4,
    momenta: tuple[float, float] = (0.95, 0.85),
) -> tuple[float, float]:
    """Learning rate and momentum while a group is seen.

    The rate goes from ``peak / start_divisor`` up to `peak`, in the part `warmup` of
    the groups, then towards ``peak / start_divisor / end_divisor`` (not torch's
    meaning); the momentum down and up again; both along half a cosine (Smith & Topin
    2018, fastai 1).
    """
    if not 0 <= group <= n_groups:
        raise ValueError(
            f"group must be from 0 to {n_groups}, the groups of the training; got "
            f"{group}. Raise epochs to train longer."
        )
    rise = int(n_groups * warmup)
    lowest = peak / start_divisor
    if group < rise:
        way, rates, ends = group / rise, (lowest, peak), momenta
    else:
        way = (group - rise) / max(1, n_groups - rise)
        rates, ends = (peak, lowest / end_divisor), momenta[::-1]
    part = (math.cos(math.pi * way) + 1) / 2
    lr, momentum = (end + (start - end) * part for start, end in (rates, ends))
    return lr, momentum


def rounds_of(n_groups: int, n_ranks: int, chunk_groups: int) -> list[list[int]]:
    """Groups of each process in each round of a step: ``rounds[round][rank]``.

    In a round every process takes some consecutive groups, process 0 the first ones, at
    most `chunk_groups`. Shares differ by one at most; in the last round, where
    gradients are exchanged, each process has at least one.
    """
    if n_ranks > n_groups:
        raise ValueError(
            f"processes must not outnumber the groups of a step, {n_groups}; there are "
            f"{n_ranks}. Start {n_groups} or fewer."
        )
    shares = [n_groups // n_ranks + (r < n_groups % n_ranks) for r in range(n_ranks)]
    n_rounds = -(-max(shares) // chunk_groups)
    return [
        [share // n_rounds + (n_rounds - t <= share % n_rounds) for share in shares]
        for t in range(n_rounds)
    ]


def epoch_order(
    counts: Sequence[int],
    *,
    seed: int,
    epoch: int,
    images_per_epoch: int | None = None,
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Indices of the images of an epoch, in their order: (images_per_epoch,), int64.

    Each folder (of `counts` images) gives its share by `weights`, drawn without
    replacement, again from all of it when it is used up; then all are shuffled. It is a
    function of the arguments alone and needs no memory of other epochs.
    """
    sizes = np.asarray(counts, dtype=np.int64)
    total = int(sizes.sum()) if images_per_epoch is None else int(images_per_epoch)
    if sizes.ndim != 1 or not sizes.size or sizes.min() < 1 or total < 1:
        raise ValueError(
            "counts and images_per_epoch must be at least 1; got "
            f"counts={list(counts)}, images_per_epoch={images_per_epoch}."
        )
    if weights is not None and len(weights) != len(sizes):
        raise ValueError(
            f"there must be one weight per folder; got {len(weights)} for {len(sizes)}."
        )
    starts = np.cumsum([0, *sizes])
    picked = []
    for k, share in enumerate(_shares(total, sizes if weights is None else weights)):
        rounds = -(-share // int(sizes[k]))
        for again in range(rounds):
            keys = hashed(seed, epoch, EPOCH_ORDER, k, again, np.arange(sizes[k]))
            left = share - again * int(sizes[k])
            picked.append(starts[k] + np.argsort(keys, kind="stable")[:left])
    order = np.concatenate(picked)
    if len(sizes) == 1:
        return order
    keys = hashed(seed, epoch, EPOCH_SHUFFLE, np.arange(total))
    return order[np.argsort(keys, kind="stable")]


def _shares(total: int, weights: ArrayLike) -> list[int]:
    parts = np.asarray(weights, dtype=float)
    if not np.isfinite(parts).all() or parts.min() < 0 or parts.sum() <= 0:
        raise ValueError(
            f"weights must be numbers of at least 0, not all 0; got {parts.tolist()}."
        )
    exact = total * parts / parts.sum()
    share = np.floor(exact).astype(np.int64)
    largest = np.argsort(share - exact, kind="stable")
    share[largest[: total - int(share.sum())]] += 1
    return [int(n) for n in share]
