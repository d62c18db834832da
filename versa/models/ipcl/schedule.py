"""How much of everything, and when: steps, groups and rounds; learning rate, momentum.

All of it is counted in images seen, so neither the number of processes nor a restart
changes what a step is.
"""

import math
from dataclasses import dataclass

__all__ = ["Plan", "one_cycle", "rounds_of"]


@dataclass(frozen=True)
class Plan:
    """Length of a training run.

    Parameters
    ----------
    images_per_epoch : int
        Images that an epoch offers. What does not fill a step at its end is left out,
        other images in each epoch.
    group_images : int
        Images of a group, the paper's mini-batch.
    groups_per_step : int
        Groups of one optimizer step.
    epochs : int

    Raises
    ------
    ValueError
        If an epoch has fewer images than a step.

    Examples
    --------
    >>> plan = Plan(1_281_167, 128, 20, 100)
    >>> plan.steps_per_epoch, plan.n_steps
    (500, 50000)
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
        """Number of the group that completes a step, and how many groups there are.

        Parameters
        ----------
        step : int
            From 0.

        Returns
        -------
        group, n_groups : int
            Where `one_cycle` stands when the weights change.
        """
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

    The rate goes from ``peak / start_divisor`` to `peak` in the first part of the
    groups and then towards ``peak / start_divisor / end_divisor``, the momentum down
    and up again, both along half a cosine. It moves on with every group, also with
    those that end no step.

    Parameters
    ----------
    group : int
        Number of the group, from 0.
    n_groups : int
        Of the whole training.
    peak : float
        Highest learning rate.
    warmup : float
        Part of the groups in which the rate rises.
    start_divisor, end_divisor : float
        See above. The last one is not that of torch's OneCycleLR.
    momenta : tuple of 2 floats
        Momentum at both ends and at the peak.

    Returns
    -------
    lr, momentum : float

    Raises
    ------
    ValueError
        If the group lies beyond the training, where the rate would rise again.

    References
    ----------
    Smith & Topin (2018), https://arxiv.org/abs/1708.07120, as in fastai 1.

    Examples
    --------
    >>> for group in (0, 40, 100):
    ...     print("{:.3g} {:.3g}".format(*one_cycle(group, 100)))
    3e-05 0.95
    0.03 0.85
    3e-09 0.95
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
    """How the groups of a step are dealt to the processes.

    In a round every process takes some consecutive groups in one pass, process 0 the
    first ones. Where the numbers do not divide, processes differ by one group; in the
    last round each has at least one, because there gradients are exchanged.

    Parameters
    ----------
    n_groups : int
        Of a step.
    n_ranks : int
        Processes.
    chunk_groups : int
        Groups that go through the network together at most.

    Returns
    -------
    rounds : list of list of int
        Groups of each process (n_ranks) in each round.

    Raises
    ------
    ValueError
        If there are more processes than groups.

    Examples
    --------
    >>> rounds_of(20, 2, 4)
    [[3, 3], [3, 3], [4, 4]]
    >>> rounds_of(20, 8, 4)
    [[3, 3, 3, 3, 2, 2, 2, 2]]
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
