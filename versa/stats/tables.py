"""Tables of scores and comparisons: DataFrames, and their CSV, Markdown and LaTeX."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from versa.cache import atomic_write, made_folder
from versa.stats.intervals import corrected_interval, fisher_mean, fisher_z
from versa.stats.parity import (
    bayes_factor,
    difference_of_r,
    difference_of_z,
    equivalence_test,
)
from versa.stats.power import detectable_effect
from versa.stats.ttests import CorrectedTTest, corrected_paired_ttest
from versa.untrusted import no_formula, printable

# How a column is called where people read it; the CSV keeps the names of the left.
_HEADINGS = {
    "r": "r",
    "null_r": "null r",
    "chance": "chance",
    "part": "part",
    "r2": "R²",
    "of_ceiling": "R²/c²",
    "level": "level",
    "rate": "J-1",
    "rate_subjects": "S-1",
    "rate_signflip": "flip",
    "ceiling_simulated": "simulated ceiling",
    "spread": "spread",
    "spread_simulated": "simulated spread",
    "n_voxels": "voxels",
    "median_r": "voxel r",
    "median_r2": "voxel R²",
    "median_ceiling": "voxel ceiling",
    "median_normalized": "r/ceiling",
    "n_reliable": "reliable",
    "p_perm_subject": "p perm. (subject)",
    "z": "z",
    "p_perm": "p perm.",
    "p_perm_max": "p perm. (max)",
    "ceiling": "ceiling",
    "explained": "r²/ceiling²",
    "reached": "r²/ceiling",
    "chosen": "chosen",
    "layer": "layer",
    "model_a": "A",
    "model_b": "B",
    "r_a": "r A",
    "r_b": "r B",
    "difference": "A - B",
    "p_equivalence": "p equiv.",
    "bayes_factor": "BF10",
    "p_signflip": "p sign-flip",
    "t": "t",
    "df": "df",
    "p": "p",
    "p_corrected": "p Bonf.",
    "significant": "sig. Bonf.",
    "df_subjects": "df (S-1)",
    "p_subjects": "p (S-1)",
    "p_corrected_subjects": "p Bonf. (S-1)",
    "significant_subjects": "sig. Bonf. (S-1)",
    **{
        f"{name}_{population}": f"{heading} ({population})"
        for population in ("images", "both")
        for name, heading in (
            ("df", "df"),
            ("p", "p"),
            ("p_corrected", "p Bonf."),
            ("significant", "sig. Bonf."),
        )
    },
}
_INTERVALS = {  # the columns of two ends, and the heading of the one that is shown
    "ci_low": ("ci_high", "95% CI (J-1)"),
    "ci_low_subjects": ("ci_high_subjects", "95% CI (S-1)"),
    "ci_low_images": ("ci_high_images", "95% CI (images)"),
    "ci_low_both": ("ci_high_both", "95% CI (both)"),
    "ceiling_low": ("ceiling_high", "CI ceiling"),
    "explained_low": ("explained_high", "CI r²/c²"),
}
_PAIR_INTERVALS = {  # of a difference
    "ci_low": ("ci_high", "95% CI A - B"),
    "ci90_low": ("ci90_high", "90% CI A - B"),
    "ci_low_images": ("ci_high_images", "CI A - B (images)"),
    "ci_low_both": ("ci_high_both", "CI A - B (both)"),
}
_PART_INTERVALS = {"ci_low": ("ci_high", "95% CI (S-1)")}  # of a part of variance
_P_VALUES = (
    *(
        f"{name}{ending}"
        for name in ("p", "p_corrected")
        for ending in ("", "_subjects", "_images", "_both")
    ),
    *("p_equivalence", "p_signflip", "p_perm", "p_perm_max", "p_perm_subject"),
)
_PERCENT = ("explained", "explained_low", "reached", "chosen", "of_ceiling", "share")
_RATES = ("level", "rate", "rate_subjects", "rate_signflip")


def summary(
    r: ArrayLike, n_subjects: int, *, test_train_ratio: float = 1.0
) -> dict[str, float]:
    """Mean correlation with both corrected 95% intervals.

    Parameters
    ----------
    r : array-like of shape (n_splits, 2)
        Scores in both halves of every split; each counts as one evaluation.
    n_subjects : int
        For the interval with ``n_subjects - 1`` degrees of freedom.
    test_train_ratio : float, default=1.0
        n_test / n_train.

    Returns
    -------
    row : dict
        ``r, ci_low, ci_high`` (J - 1 degrees of freedom, the paper's) and
        ``ci_low_subjects, ci_high_subjects`` (subjects - 1, closer to
        nominal).
    """
    paper = corrected_interval(r, test_train_ratio=test_train_ratio)
    subjects = corrected_interval(
        r, test_train_ratio=test_train_ratio, df=n_subjects - 1
    )
    return {
        "r": paper.mean,
        "ci_low": paper.low,
        "ci_high": paper.high,
        "ci_low_subjects": subjects.low,
        "ci_high_subjects": subjects.high,
    }


def pairwise_tests(
    scores: Mapping[str, np.ndarray],
    pairs: Iterable[tuple[str, str]],
    n_subjects: int,
    *,
    test_train_ratio: float = 1.0,
    on_z: bool = True,
    level: float = 0.05,
    equivalence: float | None = None,
) -> pd.DataFrame:
    """Corrected paired t-tests between models, with both degrees of freedom.

    Parameters
    ----------
    scores : mapping of str to ndarray of shape (n_splits, 2)
        Scores of each model in the same splits.
    pairs : iterable of (str, str)
        Which models to compare.
    n_subjects : int
        For the test with ``n_subjects - 1`` degrees of freedom.
    test_train_ratio : float, default=1.0
        n_test / n_train.
    on_z : bool, default=True
        Test differences of Fisher z; of r if False.
    level : float, default=0.05
        Level of the test whose detectable difference is given.
    equivalence : float, optional
        Margin in r of the test of equivalence.

    Returns
    -------
    table : DataFrame
        ``model_a, model_b, r_a, r_b, difference``, what :func:`parity` gives, ``t, df,
        p, df_subjects, p_subjects``; a pair with an undefined score has NaN.
    """
    rows = []
    for a, b in pairs:
        values = [fisher_z(scores[m]) if on_z else scores[m] for m in (a, b)]
        paper = subjects = CorrectedTTest(*[np.nan] * 5)
        if np.isfinite(values).all():
            paper, subjects = (
                corrected_paired_ttest(
                    *values, test_train_ratio=test_train_ratio, df=df
                )
                for df in (None, n_subjects - 1)
            )
        r_a, r_b = float(fisher_mean(scores[a])), float(fisher_mean(scores[b]))
        around = float(np.mean(values)) if on_z else None
        rows.append(
            {
                "model_a": a,
                "model_b": b,
                "r_a": r_a,
                "r_b": r_b,
                "difference": r_a - r_b,
                **parity(subjects, n_subjects, around, level, equivalence),
                "t": paper.statistic,
                "df": scores[a].size - 1,
                "p": paper.pvalue,
                "df_subjects": n_subjects - 1,
                "p_subjects": subjects.pvalue,
            }
        )
    if rows:
        return pd.DataFrame(rows)
    means = ["model_a", "model_b", "r_a", "r_b", "difference"]
    nothing = parity(CorrectedTTest(*[np.nan] * 5), n_subjects, 0, level, equivalence)
    tests = ["t", "df", "p", "df_subjects", "p_subjects"]
    return pd.DataFrame([], columns=[*means, *nothing, *tests])


def parity(
    test: CorrectedTTest,
    n_subjects: int,
    around: float | None,
    level: float,
    margin: float | None,
) -> dict[str, float]:
    """What a test says of how large a difference may be.

    Parameters
    ----------
    test : CorrectedTTest
        With ``n_subjects - 1`` degrees of freedom; NaN if there is none.
    n_subjects : int
        Number of subjects.
    around : float or None
        Mean Fisher z of both models, where z was tested: all is given in r around it.
        None where r was tested.
    level : float
        Level of the test that should find the detectable difference.
    margin : float or None
        Margin in r of the test of equivalence; without one there is none.

    Returns
    -------
    row : dict
        ``ci_low, ci_high`` (95% interval of the difference), ``detectable`` (found with
        80% power at this number of subjects, spread and level) and, with a margin,
        ``ci90_low, ci90_high, p_equivalence, bayes_factor``.
    """
    from scipy.stats import t as student

    df = n_subjects - 1
    names = ["ci_low", "ci_high", "detectable"]
    if margin is not None:
        names += ["ci90_low", "ci90_high", "p_equivalence", "bayes_factor"]
    if df < 1 or np.isnan(test.standard_error):
        return dict.fromkeys(names, np.nan)

    def in_r(difference: float) -> float:
        return float(
            difference if around is None else difference_of_r(difference, around)
        )

    def interval(confidence: float) -> tuple[float, float]:
        reach = student.ppf((1 + confidence) / 2, df) * test.standard_error
        return in_r(test.difference - reach), in_r(test.difference + reach)

    found = [*interval(0.95)]
    spread = test.standard_error * np.sqrt(n_subjects)
    found.append(in_r(detectable_effect(n_subjects, alpha=level) * spread))
    if margin is not None:
        limit = margin if around is None else difference_of_z(margin, around)
        equivalent = equivalence_test(test.difference, test.standard_error, df, limit)
        found += [*interval(0.90), float(equivalent.pvalue)]
        found.append(float(bayes_factor(test.statistic, n_subjects)))
    return dict(zip(names, found, strict=True))


def for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """A table as text: intervals in one column, rounded numbers, short headings.

    Parameters
    ----------
    table : DataFrame
        Any table of this module, of a FitResult or a Comparison.

    Returns
    -------
    text : DataFrame of str
        Correlations with three decimals, p with three significant ones; a value
        that is not defined is a dash.

    Examples
    --------
    >>> for_reading(pd.DataFrame({"r": [0.51234], "p": [0.00001], "df": [69]}))
           r         p  df
    0  0.512  1.00e-05  69
    """
    shown: dict[str, pd.Series] = {}
    intervals = _INTERVALS
    if "difference" in table:
        intervals = _PAIR_INTERVALS
    elif "part" in table:
        intervals = _PART_INTERVALS
    ends = [high for high, _ in intervals.values()]
    for column in table.columns:
        high, heading = intervals.get(column, (None, ""))
        if high in table:
            pairs = zip(table[column], table[high], strict=True)
            texts = [
                "-" if np.isnan(low) else f"[{_text(low, column)}, {_text(up, column)}]"
                for low, up in pairs
            ]
            shown[heading] = pd.Series(texts, index=table.index, dtype=str)
        elif column not in ends:
            heading = _heading(table, column)
            cells = table[column].map(lambda v, c=column: _text(v, c))
            p = column.replace("significant", "p")
            if p != column and p in table:
                cells = cells.where(table[p].notna(), "-")  # no test, no verdict
            shown[heading] = cells
    return pd.DataFrame(shown, index=table.index)


def _heading(table: pd.DataFrame, column: str) -> str:
    """How a column is called; the table says which correction it holds."""
    heading = _HEADINGS.get(column, column)
    return heading.replace("Bonf.", table.attrs.get("correction", "Bonf."))


def _text(value: object, column: str) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    if isinstance(value, float | np.floating):
        if column in _P_VALUES:
            return f"{value:.3f}" if value >= 0.001 else f"{value:.2e}"
        if column in ("t", "z"):
            return f"{value:.2f}"
        if column == "bayes_factor":
            return f"{value:.3g}"
        if column in _RATES:
            return f"{100 * value:.3g}%"
        if column in _PERCENT:
            return f"{100 * value:.1f}%"
        return f"{value:.3f}"
    return " ".join(printable(str(value)).split())


def to_markdown(table: pd.DataFrame) -> str:
    """A table for people, as Markdown.

    Parameters
    ----------
    table : DataFrame
        One of the tables of a result or comparison.

    Returns
    -------
    text : str
        With the columns of :func:`for_reading`, numbers to the right.

    Examples
    --------
    >>> print(to_markdown(pd.DataFrame({"sector": ["aOTC"], "r": [0.5]})))
    | sector   |     r |
    |:---------|------:|
    | aOTC     | 0.500 |
    """
    shown = for_reading(table)
    align = ["right" if _is_number(table, c) else "left" for c in shown.columns]
    shown = shown.map(lambda text: text.replace("|", r"\|"))
    return shown.to_markdown(index=False, colalign=align, disable_numparse=True)


def _is_number(table: pd.DataFrame, heading: str) -> bool:
    columns = [c for c in table.columns if _heading(table, c) == heading]
    return not columns or pd.api.types.is_numeric_dtype(table[columns[0]])


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV, in which no text is a formula to a spreadsheet.

    Parameters
    ----------
    table : DataFrame
        One of the tables of a result or comparison.

    Returns
    -------
    text : str
        With full precision. A text that begins as a formula does (``=``, ``+``, ``-``
        or ``@``) has an apostrophe before it, unless it is a number.

    Examples
    --------
    >>> print(to_csv(pd.DataFrame({"model": ["=A1", "net"], "r": [-0.5, 1]})), end="")
    model,r
    '=A1,-0.5
    net,1.0
    """
    return table.map(no_formula).to_csv(index=False)


def to_latex(table: pd.DataFrame) -> str:
    """A table for people, as LaTeX (package booktabs).

    Parameters
    ----------
    table : DataFrame
        One of the tables of a result or comparison.

    Returns
    -------
    text : str
        With the columns of :func:`for_reading`, numbers to the right.

    Examples
    --------
    >>> "fc6 \\\\& fc7" in to_latex(pd.DataFrame({"layer": ["fc6 & fc7"]}))
    True
    """
    shown = for_reading(table)
    align = "".join("r" if _is_number(table, c) else "l" for c in shown.columns)
    text = shown.to_latex(index=False, escape=True, column_format=align)
    text = re.sub(r"(?m)^([\[*])", r"{\1}", text)  # no options of a break
    return text.replace("²", "$^2$")


def write_table(
    table: pd.DataFrame, folder: Path, name: str, *, note: str = ""
) -> list[Path]:
    """Write ``name.csv`` (full precision), ``name.md`` and ``name.tex``, each whole.

    Parameters
    ----------
    table : DataFrame
        The table.
    folder : Path
        An existing folder.
    name : str
        File name without its ending.
    note : str, default=""
        A sentence under the table in Markdown and LaTeX.

    Returns
    -------
    paths : list of Path
        The three files.
    """
    below = f"\n{note}\n" if note else ""
    texts = {
        "csv": to_csv(table),
        "md": to_markdown(table) + "\n" + below,
        "tex": to_latex(table) + below,
    }
    paths = []
    for ending, text in texts.items():
        path = folder / f"{name}.{ending}"
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def write_csv(
    tables: Mapping[str, pd.DataFrame], folder: str | os.PathLike[str]
) -> list[Path]:
    """Write each table as ``name.csv``, with full precision, whole or not at all.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Tables by the names of their files, without ending.
    folder : path-like
        Made if absent.

    Returns
    -------
    paths : list of Path
    """
    folder = made_folder(folder)
    paths = [Path(folder) / f"{name}.csv" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        with atomic_write(path) as temporary:
            temporary.write_text(to_csv(table), encoding="utf-8")
    return paths
