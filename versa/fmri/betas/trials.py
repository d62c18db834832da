"""Trials: the condition of each one, and averages over all or half of the runs."""

import logging
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.betas.events import (
    LEFT_OUT,
    check_events,
    check_names,
    read_events,
    warn_of_twins,
)
from versa.fmri.volumes.voxels import has_estimate
from versa.wording import chosen_names, in_text_order, listing, unknown

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("versa")


def average_trials(
    values: ArrayLike,
    trials: Sequence[str],
    runs: Sequence[object] | None = None,
    *,
    conditions: Sequence[str] | None = None,
    halves: str | None = None,
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Average betas of trials (or of runs) into betas of conditions.

    Parameters
    ----------
    values : array-like of shape (n_trials, n_voxels)
        One row per trial. Every trial counts the same, whichever run it is from. Rows
        that are 0 or NaN in all voxels were not estimated: they are left out, with a
        warning.
    trials : sequence of str, length n_trials
        The condition of each row.
    runs : sequence, length n_trials, optional
        The run of each row; the first run that occurs is the first run.
    conditions : sequence of str, optional
        Which conditions, and their order; by default all, as they first occur.
    halves : {"runs", "repeats"}, optional
        "runs": the 1st, 3rd, ... run is odd, the others even. "repeats": the 1st, 3rd,
        ... trial of each condition is odd, the others even; trials of one run are then
        in both halves and share its noise.

    Returns
    -------
    conditions : tuple of str
        Names of the rows.
    values : ndarray of shape (n_conditions, n_voxels)
        Means over all trials.
    odd, even : ndarray of shape (n_conditions, n_voxels), or None
        Means over the odd and the even trials, if `halves` is given.

    Raises
    ------
    ValueError
        If lengths differ, a condition is unknown, or a half lacks a condition (named).

    Examples
    --------
    >>> names, mean, odd, even = average_trials(
    ...     [[1.0], [5.0], [3.0], [7.0]],
    ...     ["cup", "dog", "dog", "cup"],
    ...     runs=[1, 1, 2, 2],
    ...     halves="runs",
    ... )
    >>> names, mean.ravel(), odd.ravel(), even.ravel()
    (('cup', 'dog'), array([4., 4.]), array([1., 5.]), array([7., 3.]))
    """
    rows = np.asarray(values)
    names = list(trials)
    if rows.ndim != 2 or len(names) != len(rows):
        raise ValueError(
            "values must be (n_trials, n_voxels) with one condition per trial; got "
            f"{rows.shape} and {len(names)} conditions of trials."
        )
    check_names(names, "trials")
    warn_of_twins(names, "trials")
    options = tuple(dict.fromkeys(names))
    wanted = options
    if conditions is not None:
        wanted = chosen_names(conditions, "condition", options)
    is_odd = _odd_trials(names, runs, halves)
    own = np.array(names, dtype=object)
    estimated = np.array([has_estimate(row) for row in rows], dtype=bool)
    empty = [row for row in np.flatnonzero(~estimated) if names[row] in wanted]
    if empty:
        logger.warning(
            "%d of %d trials have no estimate (0 or NaN in all voxels) and are left "
            "out: %s.",
            *(len(empty), len(names)),
            listing(f"{names[row]!r} in row {row + 1}" for row in empty),
        )

    def means(kept: np.ndarray, half: str) -> np.ndarray:
        absent = [name for name in wanted if not (kept & (own == name)).any()]
        if absent:
            raise ValueError(
                f"the {half} half must have every condition; {listing(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} missing there. Split by "
                "halves='repeats' if there is more than one trial of each, or make "
                "no halves with halves=None."
            )
        result = np.empty((len(wanted), rows.shape[1]))
        for row, name in enumerate(wanted):
            np.mean(
                rows[kept & (own == name)], axis=0, dtype=np.float64, out=result[row]
            )
        return result

    unseen = [name for name in wanted if not (estimated & (own == name)).any()]
    if unseen:
        raise ValueError(
            f"each condition must have an estimate in at least one trial; "
            f"{listing(unseen)} {'has' if len(unseen) == 1 else 'have'} none: 0 or NaN "
            "in all voxels. Leave it out by conditions=."
        )
    mean = means(estimated, "whole")
    if is_odd is None:
        return wanted, mean, None, None
    odd, even = means(estimated & is_odd, "odd"), means(estimated & ~is_odd, "even")
    return wanted, mean, odd, even


def trials_from_events(
    events: "Sequence[pd.DataFrame | str | os.PathLike[str]]",
    *,
    condition_column: str = "trial_type",
    left_out: Sequence[str] = (),
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Conditions of all trials in the order of their onsets, run after run.

    This is the order of the betas of GLMsingle and of other programs that estimate
    every trial.

    Parameters
    ----------
    events : sequence of DataFrame or path-like
        One table per run, in the order of the runs; tables as BIDS has them, with the
        onset in s.
    condition_column : str, default="trial_type"
        Which column names the condition.
    left_out : sequence of str, default=()
        Events that have no beta, such as "rest".

    Returns
    -------
    trials : tuple of str
        The condition of each trial.
    runs : tuple of int
        The run of each trial, counted from 1.

    Raises
    ------
    ValueError
        If a table lacks a column, an onset is no number, two trials of a run begin
        together, or a condition to leave out does not occur.

    Examples
    --------
    >>> import pandas as pd
    >>> first = pd.DataFrame({"onset": [9, 3], "trial_type": ["cup", "dog"]})
    >>> second = pd.DataFrame({"onset": [3, 9], "trial_type": ["cup", "rest"]})
    >>> trials_from_events([first, second], left_out=["rest"])
    (('dog', 'cup', 'cup'), (1, 1, 2))
    """
    if isinstance(events, str | os.PathLike) or hasattr(events, "iloc"):
        raise ValueError("events must be a list of tables, one per run; got one table.")
    paths = [table for table in events if isinstance(table, str | os.PathLike)]
    if in_text_order(map(os.fspath, paths)):
        logger.warning(
            "tables of events count as runs 1, 2, ... as they are given, which is the "
            "order of their names as texts: %s. Give them in the order of the betas.",
            listing((os.path.basename(path) for path in paths), limit=4),
        )
    trials: list[str] = []
    runs: list[int] = []
    seen: set[str] = set()
    for number, table in enumerate(events, start=1):
        column = condition_column
        if isinstance(table, str | os.PathLike):
            table = read_events(table, condition_column=column, left_out=left_out)
            column = "trial_type"
            seen.update(table.attrs[LEFT_OUT])
        check_events(
            table,
            f"run {number}",
            condition=column,
            times=["onset"],
            may_be_empty=True,
        )
        names = list(table[column])
        onsets = table["onset"].to_numpy(dtype=float)
        seen.update(names)
        kept = [row for row, name in enumerate(names) if name not in left_out]
        order = sorted(kept, key=lambda row: onsets[row])
        for row, following in pairwise(order):
            if onsets[row] == onsets[following]:
                raise ValueError(
                    f"trials of run {number} must begin one after the other; "
                    f"{names[row]} and {names[following]} both begin at "
                    f"{onsets[row]:g} s."
                )
        trials += [names[row] for row in order]
        runs += [number] * len(order)
    for name in left_out:
        if name not in seen:
            raise ValueError(unknown("left_out", name, sorted(seen)))
    if not trials:
        raise ValueError("events must hold at least one trial; got none.")
    return tuple(trials), tuple(runs)


def _odd_trials(
    names: Sequence[str], runs: Sequence[object] | None, halves: str | None
) -> np.ndarray | None:
    """Which trials are in the odd half; None without halves."""
    if runs is not None and len(runs) != len(names):
        raise ValueError(
            f"runs must hold one run per trial; got {len(runs)} for {len(names)} "
            "trials."
        )
    if halves is None:
        return None
    if halves == "runs":
        if runs is None:
            raise ValueError(
                "halves by runs need the run of each trial; got none. Pass runs=, or "
                "halves='repeats'."
            )
        number = {run: row for row, run in enumerate(dict.fromkeys(runs))}
        if len(number) < 2:
            raise ValueError(
                "halves by runs need at least two runs; got one. Pass "
                "halves='repeats' or halves=None."
            )
        return np.array([number[run] % 2 == 0 for run in runs])
    if halves == "repeats":
        seen: dict[str, int] = {}
        is_odd = []
        for name in names:
            seen[name] = seen.get(name, 0) + 1
            is_odd.append(seen[name] % 2 == 1)
        return np.array(is_odd)
    raise ValueError(unknown("halves", halves, ("runs", "repeats")))
