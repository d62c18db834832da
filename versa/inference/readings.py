"""Every comparison under every defensible reading of the analysis."""

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.comparison import PAPER_FAMILY, require_same, require_same_brains
from versa.result import FitResult, best_layer_scores
from versa.stats.families import bonferroni
from versa.stats.tables import pairwise_tests
from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd

READING = ("method", "alphas", "halves", "ratio", "df", "family")
"""Columns that say what a reading is."""

_PAIR = ["sector", "model_a", "model_b"]


def multiverse(
    results: FitResult | Sequence[FitResult],
    *others: FitResult,
    baseline: str | None = None,
    halves: Sequence[str] = ("both", "first"),
    ratios: Sequence[float | str] = (1.0, "literal"),
    families: Sequence[int] | None = None,
    alpha: float = 0.05,
) -> "pd.DataFrame":
    """Compare networks in every defensible way, and say how often each result holds.

    Parameters
    ----------
    results : FitResult or sequence of FitResult
        As for :func:`versa.compare`. The same networks may take part several times,
        fitted with other penalties: each set of options is a reading of its own.
    *others : FitResult
        More of them.
    baseline : str, optional
        Name of a model: compare all others with it.
    halves : sequence of {"both", "first", "mean"}, default=("both", "first")
        What counts as one sample of a split. The mean of both halves makes the tests
        void, and is no defensible reading.
    ratios : sequence of float or "literal", default=(1.0, "literal")
        n_test / n_train of the corrected variance.
    families : sequence of int, optional
        Numbers of tests for the Bonferroni correction. Default: those made with one
        method, and the paper's 30.
    alpha : float, default=0.05
        Level of corrected p.

    Returns
    -------
    table : DataFrame
        One row per comparison and reading: ``sector, model_a, model_b``, the reading
        ``method, alphas`` (with other options of the fit), ``halves, ratio, df`` ("J -
        1" or "S - 1"), ``family``, then
        ``difference, t, p_corrected, holds`` (significant, with the sign that most
        readings give) and ``share``, that of the comparison's readings in which it
        holds. Sorted by share, then by p.

    Raises
    ------
    ValueError
        If there is no pair of networks, they cannot be compared, or an option makes no
        sense.

    References
    ----------
    Steegen et al. (2016), https://doi.org/10.1177/1745691616658637
    """
    import pandas as pd

    given = (results,) if isinstance(results, FitResult) else tuple(results)
    fits = (*given, *others)
    require_same_brains(fits)
    order = list(dict.fromkeys(fit.model for fit in fits))
    groups: dict[str, list[FitResult]] = {}
    for result in sorted(fits, key=lambda fit: order.index(fit.model)):
        groups.setdefault(_options(result), []).append(result)
    tables = []
    measured: set[str] = set()  # measures of classic RSA that were seen
    for options, group in groups.items():
        require_same(group)
        names = [one.model for one in group]
        if baseline is not None and baseline not in names:
            raise ValueError(unknown("baseline", baseline, names))
        measures = ", ".join(_measures(group[0])) or "-"
        methods = group[0].methods
        if measures in measured:  # penalties do not touch classic RSA
            methods = tuple(method for method in methods if method != "rsa")
        measured.add(measures)
        wanted = sorted({group[0].ratio(ratio) for ratio in ratios})
        for method, counted, ratio in itertools.product(methods, halves, wanted):
            tests = _tests(group, method, counted, ratio, baseline)
            tests["alphas"] = measures if method == "rsa" else options
            tables += _corrected(tests, families, alpha)
    rows = [table for table in tables if len(table)]
    if not rows:
        raise ValueError("results must hold two networks or more to compare.")
    return _sorted(pd.concat(rows, ignore_index=True))


def shares(table: "pd.DataFrame") -> "pd.DataFrame":
    """How often each comparison holds, one row each.

    Parameters
    ----------
    table : DataFrame
        What :func:`multiverse` returns.

    Returns
    -------
    shares : DataFrame
        ``sector, model_a, model_b, lowest, highest`` (of the differences), ``readings``
        (their number) and ``share``.
    """
    grouped = table.groupby(_PAIR, sort=False)
    found = grouped.agg(
        lowest=("difference", "min"),
        highest=("difference", "max"),
        readings=("holds", "size"),
        share=("holds", "mean"),
    )
    return found.reset_index()


def _options(result: FitResult) -> str:
    """The options of a fit that are a reading, in a few words."""
    options: dict[str, Any] = result.provenance["options"]
    alphas = options.get("alphas", "auto")
    words = [alphas if isinstance(alphas, str) else json.dumps(alphas)]
    if not options.get("alpha_per_voxel", True):
        words.append("shared")
    if options.get("standardize"):
        words.append("standardized")
    return ", ".join([*words, *_measures(result)])


def _measures(result: FitResult) -> list[str]:
    """Distance of RDMs and how they were compared, if not as usual."""
    options: dict[str, Any] = result.provenance["options"]
    usual = (("rdm", "correlation"), ("compare_by", "pearson"))
    return [
        str(options[k]) for k, as_usual in usual if options.get(k, as_usual) != as_usual
    ]


def _tests(
    group: Sequence[FitResult],
    method: str,
    halves: str,
    ratio: float,
    baseline: str | None,
) -> "pd.DataFrame":
    """Uncorrected tests of all sectors in one reading."""
    import pandas as pd

    names = [one.model for one in group]
    pairs = list(itertools.combinations(names, 2))
    if baseline is not None:
        pairs = [(name, baseline) for name in names if name != baseline]
    tables = []
    for sector in group[0].sectors:
        scores = {
            one.model: best_layer_scores(one, method, sector, halves).r for one in group
        }
        tests = pairwise_tests(
            scores, pairs, len(group[0].subjects), test_train_ratio=ratio
        )
        tests.insert(0, "sector", sector)
        tables.append(tests)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(method=method, halves=halves, ratio=ratio)


def _corrected(
    tests: "pd.DataFrame", families: Sequence[int] | None, alpha: float
) -> "list[pd.DataFrame]":
    """The same tests for both degrees of freedom and each family."""
    found = []
    sizes = families or sorted({len(tests), PAPER_FAMILY})
    columns = [*_PAIR, *READING, "difference", "t", "p_corrected"]
    for family, (df, p) in itertools.product(
        sizes, (("J - 1", "p"), ("S - 1", "p_subjects"))
    ):
        corrected = bonferroni(tests[p], family)
        table = tests.assign(df=df, family=family, p_corrected=corrected)[columns]
        found.append(table.assign(holds=corrected < alpha))
    return found


def _sorted(table: "pd.DataFrame") -> "pd.DataFrame":
    """With the shares, those first that hold in most readings."""
    usual = np.sign(table.groupby(_PAIR, sort=False)["difference"].transform("median"))
    table["holds"] &= np.sign(table["difference"]) == usual
    table["share"] = table.groupby(_PAIR, sort=False)["holds"].transform("mean")
    order = ["share", *_PAIR, "p_corrected"]
    ascending = [False, True, True, True, True]
    return table.sort_values(order, ascending=ascending, ignore_index=True)
