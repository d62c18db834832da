"""What a reader of the results should be warned of."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from versa.comparison import Comparison
from versa.result import FitResult
from versa.stats.intervals import corrected_interval
from versa.wording import listing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEW_SUBJECTS", "cautions", "unreliable_sectors"]

FEW_SUBJECTS = 6
"""With fewer subjects than this, the report warns."""

_MOST = 0.5  # share of voxels at one edge of the grid of alpha that is worth a warning
_SEED = re.compile(r":seed=\d+$")


def cautions(comparison: Comparison, best: "pd.DataFrame") -> list[str]:
    """Sentences that belong beside the tables.

    Parameters
    ----------
    comparison : Comparison
    best : DataFrame
        Of :meth:`Comparison.best`.

    Returns
    -------
    sentences : list of str
        Those of the fits, each once with the networks that it holds for; scores that
        the null explains; few subjects; penalties at the edge of their grid; untrained
        networks with one seed; facts of model cards that nobody has checked.

    Examples
    --------
    >>> FEW_SUBJECTS
    6
    """
    results = comparison.results
    return [
        *_unreliable(results[0]),
        *_few_subjects(results[0]),
        *_below_null(best),
        *_of_the_fits(results),
        *_at_the_edge(results, best),
        *_one_seed(results),
        *_unverified(results),
    ]


def unreliable_sectors(result: FitResult) -> list[str]:
    """Sectors whose noise ceiling cannot be told from 0.

    Parameters
    ----------
    result : FitResult

    Returns
    -------
    sectors : list of str
        Those whose 95% interval, with S - 1 degrees of freedom, reaches to 0.
    """
    found = []
    for sector in result.sectors:
        ceiling = result.ceiling.sel(sector=sector).values
        interval = corrected_interval(ceiling, df=len(result.subjects) - 1)
        if not interval.low > 0:
            found.append(sector)
    return found


def _unreliable(result: FitResult) -> list[str]:
    found = unreliable_sectors(result)
    if not found:
        return []
    return [
        f"{listing(found)}: the noise ceiling cannot be told from 0, so the halves of "
        "the subjects do not agree and no score can be read there."
    ]


def _few_subjects(result: FitResult) -> list[str]:
    n_subjects = len(result.subjects)
    if n_subjects >= FEW_SUBJECTS:
        return []
    return [
        f"There are {n_subjects} subjects only: intervals with S − 1 degrees of "
        "freedom are wide, and those with J − 1 are far too narrow."
    ]


def _below_null(best: "pd.DataFrame") -> list[str]:
    best = best[(best["method"] == "versa") & best["null_r"].notna()]
    sentences = []
    for sector, rows in best.groupby("sector", sort=False):
        below = rows[rows["r"] <= rows["null_r"]]
        if len(below):
            verb = "scores" if len(below) == 1 else "score"
            sentences.append(
                f"{sector}: by the method versa, {listing(below['model'])} {verb} no "
                "higher than an encoder that learned nothing (null r = "
                f"{below['null_r'].iloc[0]:.3f}). Read versa-debiased instead."
            )
    return sentences


def _of_the_fits(results: Sequence[FitResult]) -> list[str]:
    networks: dict[str, list[str]] = {}
    for result in results:
        for sentence in result.provenance["warnings"]:
            networks.setdefault(sentence, []).append(result.model)
    return [f"{listing(names)}: {text}" for text, names in networks.items()]


def _at_the_edge(results: Sequence[FitResult], best: "pd.DataFrame") -> list[str]:
    fitted = best[best["method"].isin(["versa", "versa-debiased"])]
    places = fitted[["model", "sector", "layer"]].drop_duplicates()
    by_name = {result.model: result for result in results}
    sentences = []
    for edge, what in (
        ("largest", "the network is of little use to them there"),
        ("smallest", "the grid may be too narrow"),
    ):
        found = []
        for model, sector, layer in places.itertuples(index=False):
            data = by_name[model].data
            if f"alpha_at_{edge}" in data and layer in data["layer"]:
                share = float(data[f"alpha_at_{edge}"].loc[sector, layer])
                if share > _MOST:
                    found.append(f"{model}, {sector}, {layer} ({share:.0%})")
        if found:
            sentences.append(
                f"For most voxels the {edge} penalty of the grid was chosen: "
                f"{'; '.join(found)}. That is, {what}."
            )
    return sentences


def _one_seed(results: Sequence[FitResult]) -> list[str]:
    seeds: dict[str, int] = {}
    for result in results:
        card = result.provenance["model"].get("card") or {}
        if card.get("method") == "untrained" or _SEED.search(result.model):
            base = _SEED.sub("", result.model)
            seeds[base] = seeds.get(base, 0) + 1
    single = [name for name, count in seeds.items() if count == 1]
    if not single:
        return []
    return [
        f"{listing(single)}: one random initialisation only. Scores of untrained "
        "networks differ between seeds; take several, such as "
        f"{single[0]}:seeds=0-4."
    ]


def _unverified(results: Sequence[FitResult]) -> list[str]:
    networks: dict[str, list[str]] = {}
    for result in results:
        card = result.provenance["model"].get("card") or {}
        for fact in card.get("unverified") or []:
            networks.setdefault(fact, []).append(result.model)
    return [
        f"{listing(names)}: not verified on the model card yet, {fact}."
        for fact, names in networks.items()
    ]
