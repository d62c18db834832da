"""Tables of events: what was shown when, and events that name no condition."""

import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.wording import listing, reading, shown, unique_names

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("versa")

_BIDS_MISSING = ("n/a", "")
_MISSING = ("nan", "na", "none", "null", "<na>", "#n/a", "#na", "n.a.", "nil", "nat")
LEFT_OUT = "left out"  # in the attributes of a table: names whose rows it lacks


def names_nothing(name: str) -> bool:
    """Whether a text is what some program writes where a value is missing.

    The plain word "none" is left to people, who have conditions of that name.

    >>> [names_nothing(name) for name in ("N/A", "NaN", " ", "nanny")]
    [True, True, True, False]
    """
    text = name.strip()
    return text != "none" and text.lower() in (*_BIDS_MISSING, *_MISSING)


def warn_of_twins(names: Iterable[str], what: str) -> None:
    """Warn of names that only case, blanks, hyphens or the like tell apart."""
    alike: dict[str, set[str]] = {}
    for name in names:
        plain = unicodedata.normalize("NFKC", name).casefold()
        key = re.sub(r"[\s_-]+", "", plain)
        alike.setdefault(key, set()).add(name)
    for twins in alike.values():
        if len(twins) > 1:
            logger.warning(
                "%s: %s count as different conditions; only letter case, blanks or "
                "hyphens tell them apart. Give them one spelling if they are one.",
                what,
                listing(map(repr, sorted(twins))),
            )


def read_events(
    path: str | os.PathLike[str],
    *,
    condition_column: str = "trial_type",
    left_out: Sequence[str] = (),
) -> "pd.DataFrame":
    """Read an events table as BIDS has it.

    Parameters
    ----------
    path : path-like
        Tab-separated, with the columns onset and duration in s.
    condition_column : str, default="trial_type"
        Which column names the condition, such as "stim_file".
    left_out : sequence of str, default=()
        Events that will not be modelled: rows of them without numbers as times are
        passed over.

    Returns
    -------
    events : DataFrame
        Columns onset, duration and trial_type, without blanks around the names, and
        modulation if the table has it. Events without a condition are left out: "n/a"
        and empty cells, and, with a warning, what other programs write (nan, NA, None,
        null).

    Raises
    ------
    ValueError
        If a column is missing, or a time is not a number.
    """
    import pandas as pd

    path = Path(path)
    table = read_tsv(path, "a tab-separated table", dtype=str, keep_default_na=False)
    check_columns(table, str(path), ["onset", "duration", condition_column])
    names = table[condition_column].str.strip()
    missing = names[names.map(names_nothing)]
    words = sorted(set(missing) - {*_BIDS_MISSING})
    if words:
        logger.warning(
            "%s: %s in %s mean that there is no condition; %d events are left out. "
            "Rename the condition if it is one.",
            *(path, listing(map(repr, words)), condition_column),
            int(missing.isin(words).sum()),
        )
    if "none" in set(names) - {*left_out}:
        logger.warning(
            "%s: 'none' in %s counts as a condition; leave it out if it is none.",
            *(path, condition_column),
        )
    passed = missing.isin(words)
    table, names = table.drop(missing.index), names.drop(missing.index)
    given = {
        column: pd.to_numeric(table[column], errors="coerce")
        for column in ("onset", "duration", "modulation")
        if column in table
    }
    untimed = names.isin(left_out) & pd.DataFrame(given).isna().any(axis=1)
    for column, values in given.items():
        bad = table[column][values.isna() & ~untimed]
        if len(bad):
            raise ValueError(
                f"{path} must have numbers as {column}; line {bad.index[0] + 2} has "
                f"{shown(bad.iloc[0])!r}. Events that are no conditions can be left "
                "out: --leave-out (left_out=)."
            )
    if "modulation" in given:
        logger.info("%s: responses are multiplied by the column modulation.", path)
    events = pd.DataFrame({**given, "trial_type": names})[~untimed]
    events.attrs[LEFT_OUT] = sorted({*missing[passed], *names[untimed]})
    check_events(events, str(path))
    return events.reset_index(drop=True)


def read_tsv(path: Path, rule: str, **options: Any) -> "pd.DataFrame":
    """A tab-separated table whose lines have the cells that its header names."""
    import pandas as pd

    with reading(path, rule):
        table = pd.read_csv(path, sep="\t", **options)
        if not isinstance(table.index, pd.RangeIndex):  # pandas would shift the names
            raise ValueError("its lines have more cells than its header")
        head = pd.read_csv(path, sep="\t", header=None, nrows=1, dtype=str)
        unique_names(head.iloc[0].dropna().tolist(), "names of columns")
    return table


def check_events(
    events: "pd.DataFrame",
    what: str,
    *,
    condition: str = "trial_type",
    times: Sequence[str] = ("onset", "duration"),
    may_be_empty: bool = False,
) -> None:
    """Refuse a table whose conditions are no names or whose times are not finite."""
    check_columns(events, what, [*times, condition])
    if not (len(events) or may_be_empty):
        raise ValueError(f"{what}: events must name at least one condition; got none.")
    odd = [n for n in events[condition] if not isinstance(n, str) or not n]
    if odd:
        raise ValueError(
            f"{what}: {condition} must hold texts; got {listing(map(repr, odd[:4]))}. "
            "Turn numbers into names with .astype(str)."
        )
    check_names(events[condition], f"{what}: {condition}")
    numbers = [*times, *(["modulation"] if "modulation" in events else [])]
    for name in numbers:
        values = events[name].to_numpy(dtype=float)
        low = name == "duration" and bool((values < 0).any())
        if low or not np.isfinite(values).all():
            rule = {"duration": " times in s from 0", "modulation": " weights"}
            raise ValueError(
                f"{what}: {name} must be finite{rule.get(name, ' times in s')}; got "
                f"{listing(events[name].tolist(), limit=4)}."
            )


def check_names(names: Iterable[str], what: str) -> None:
    """Refuse names of conditions that stand for a missing value, such as nan."""
    names = list(names)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise ValueError(
            f"{what} must be texts; got {listing(map(repr, odd), limit=4)}. Turn "
            "numbers into names with str, and leave rows without a condition out."
        )
    missing = sorted({name for name in names if names_nothing(name)})
    if missing:
        raise ValueError(
            f"{what} must name conditions; {listing(map(repr, missing))} stands for a "
            "missing value. Leave these rows out, or rename the condition."
        )


def check_columns(table: "pd.DataFrame", what: str, needed: Sequence[str]) -> None:
    """Refuse a table that lacks a column."""
    missing = [name for name in needed if name not in table]
    if missing:
        raise ValueError(
            f"{what} must have the columns {listing(needed)}; {listing(missing)} is "
            f"missing among {listing(table.columns)}."
        )
