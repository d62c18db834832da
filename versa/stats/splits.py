"""All the ways to split a group of subjects into two halves."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["SplitHalves", "split_halves"]

_ALL_UP_TO = 20  # subjects; 92,378 splits
_SAMPLED_SPLITS = 1000


@dataclass(frozen=True)
class SplitHalves:
    """Half-splits of a group of subjects.

    Parameters
    ----------
    members : ndarray of shape (n_splits, n_subjects), bool
        True for the subjects of the first half (of an odd number, the smaller one);
        the others are the second half. A group of one subject has no halves: its only
        row, ``[[True]]``, is the whole of it.

    Raises
    ------
    ValueError
        If `members` is not boolean and 2-D, or a half of several subjects is empty.
    """

    members: np.ndarray

    def __post_init__(self) -> None:
        members = np.asarray(self.members)
        if members.ndim != 2 or members.dtype != bool or not len(members):
            raise ValueError(
                "members must be a boolean array (n_splits, n_subjects) with at least "
                f"one split; got {members.dtype} {members.shape}."
            )
        empty = members.all(axis=1) | ~members.any(axis=1)
        if not members.all() if members.shape == (1, 1) else empty.any():
            raise ValueError("members must leave subjects in both halves of a split.")
        members = members.copy()
        members.flags.writeable = False
        object.__setattr__(self, "members", members)

    @property
    def n_splits(self) -> int:
        """Number of splits; 1 for one subject, who is scored as a whole."""
        return self.members.shape[0]

    @property
    def n_halves(self) -> int:
        """Halves of a split: 2, or 1 for one subject."""
        return min(2, self.n_subjects)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return self.members.shape[1]

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights of a mean over each half, (n_splits, n_halves, n_subjects)."""
        halves = np.stack([self.members, ~self.members], axis=1).astype(float)
        halves = halves[:, : self.n_halves]
        return halves / halves.sum(axis=2, keepdims=True)

    @property
    def test_train_ratio(self) -> float:
        """Literal n_test / n_train, averaged over both directions of every split.

        One for an even number of subjects, and for one alone; 25 / 24 for 3 against 4.
        """
        if self.n_halves == 1:
            return 1.0
        first = self.members.sum(axis=1)
        second = self.n_subjects - first
        return float(np.mean((first / second + second / first) / 2))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SplitHalves):
            return NotImplemented
        return np.array_equal(self.members, other.members)

    __hash__ = None  # type: ignore[assignment]

    @property
    def words(self) -> str:
        """How many there are, as in "35 half-splits"."""
        if self.n_halves == 1:
            return "no half-splits"
        return f"{self.n_splits} half-split" + ("s" if self.n_splits > 1 else "")

    def __repr__(self) -> str:
        people = "subject" if self.n_subjects == 1 else "subjects"
        return f"SplitHalves({self.words} of {self.n_subjects} {people})"


def split_halves(
    n_subjects: int, *, n_splits: int | None = None, seed: int = 0
) -> SplitHalves:
    """Half-splits of `n_subjects`, each unordered split once.

    Parameters
    ----------
    n_subjects : int
        1 or more; one subject is not split.
    n_splits : int, optional
        How many to draw at random, without repeats. Default: all of them up to 20
        subjects, 1000 beyond. All of them also if there are no more than that.
    seed : int, default=0
        Seed of the draw; without effect if all splits are used.

    Returns
    -------
    splits : SplitHalves
        C(n, n/2) / 2 splits of an even number, C(n, (n - 1) / 2) of an odd one:
        35 for 7 subjects, 126 for 10.

    Raises
    ------
    ValueError
        If there is no subject, or `n_splits` is not positive.

    Examples
    --------
    >>> split_halves(7)
    SplitHalves(35 half-splits of 7 subjects)
    >>> split_halves(10)
    SplitHalves(126 half-splits of 10 subjects)
    >>> split_halves(4).members.astype(int)
    array([[1, 1, 0, 0],
           [1, 0, 1, 0],
           [1, 0, 0, 1]])
    >>> split_halves(1)
    SplitHalves(no half-splits of 1 subject)
    """
    if n_subjects < 1:
        raise ValueError(f"n_subjects must be at least 1; got {n_subjects}.")
    if n_splits is not None and n_splits < 1:
        raise ValueError(f"n_splits must be at least 1; got {n_splits}.")
    if n_subjects == 1:
        return SplitHalves(np.ones((1, 1), dtype=bool))
    half = n_subjects // 2
    even = n_subjects % 2 == 0
    total = math.comb(n_subjects, half) // (2 if even else 1)
    if n_splits is None and n_subjects > _ALL_UP_TO:
        n_splits = _SAMPLED_SPLITS
    if n_splits is None or n_splits >= total:
        # of an even number, the half with subject 0: its complement is the same split
        fixed, free = ([0], range(1, n_subjects)) if even else ([], range(n_subjects))
        chosen = itertools.combinations(free, half - len(fixed))
        members = np.zeros((total, n_subjects), dtype=bool)
        for row, subjects in zip(members, chosen, strict=True):
            row[[*fixed, *subjects]] = True
        return SplitHalves(members)
    rng = np.random.default_rng(seed)
    drawn: dict[bytes, np.ndarray] = {}
    while len(drawn) < n_splits:
        row = np.zeros(n_subjects, dtype=bool)
        row[rng.choice(n_subjects, half, replace=False)] = True
        if even and not row[0]:
            row = ~row
        drawn.setdefault(row.tobytes(), row)
    return SplitHalves(np.array(list(drawn.values())))
