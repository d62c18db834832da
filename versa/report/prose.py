"""The results in words, warnings, and the methods as paragraphs to paste."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.comparison import Comparison
from versa.fmri.encoding import AUTO_ALPHAS, SKLEARN_ALPHAS
from versa.plotting.catalogue import headline_method
from versa.plotting.style import select
from versa.report.references import networks_by_citation
from versa.result import FitResult
from versa.stats.bootstrap import N_SAMPLES
from versa.stats.tables import for_reading
from versa.wording import listing, population_words

if TYPE_CHECKING:
    import pandas as pd

_FEW_SUBJECTS = 6  # with fewer, there is a warning
_MOST = 0.5  # share of voxels at one edge of the grid of alpha that is worth a warning
_CORRECTED_BY = {
    "bonferroni": "Bonferroni-corrected",
    "holm": "corrected after Holm (1979)",
    "fdr": "corrected for the false discovery rate (Benjamini & Hochberg, 1995)",
}
_SEED = re.compile(r":seed=\d+$")


def summary_sentences(comparison: Comparison, best: "pd.DataFrame") -> list[str]:
    """What was compared, then what was found in each sector, as in the tables."""
    first = comparison.results[0]
    method = headline_method(first)
    n_networks = len(comparison.results)
    sentences = [
        f"{_counted(n_networks, 'network')} {'was' if n_networks == 1 else 'were'} "
        f"compared with the responses of {_counted(len(first.subjects), 'subject')} to "
        f"{_counted(len(first.stimuli), 'image')} (dataset {first.dataset}) in "
        f"{_counted(len(first.sectors), 'sector')}: {', '.join(first.sectors)}. "
        f"The scores below are by the method {method}."
    ]
    for sector in first.sectors:
        rows = select(best, method=method, sector=sector)
        sentences.append(_of_sector(comparison, method, sector, rows))
    return sentences


def _of_sector(
    comparison: Comparison, method: str, sector: str, rows: "pd.DataFrame"
) -> str:
    defined = rows[np.isfinite(rows["r"])]
    if defined.empty:
        return f"{sector}: no network has a score."
    place = defined["r"].idxmax()
    top, shown = defined.loc[place], for_reading(defined.loc[[place]]).iloc[0]
    verb = "has the highest score" if len(rows) > 1 else "scores"
    text = f"{sector}: {top['model']} {verb}, r = {shown['r']}"
    chance = ""
    if np.isfinite(top.get("chance", np.nan)):
        chance = f"; by chance {shown['chance']} (p perm. = {shown['p perm.']})"
    if comparison.results[0].single:
        layer = f"Its best layer is {top['layer']}, chosen on these same data."
        return f"{text}{chance}. {layer}"
    text += f" (95% CI {shown['95% CI (S-1)']}, S − 1 degrees of freedom"
    if comparison.generalize != "subjects":
        heading = f"95% CI ({comparison.generalize})"
        text += f"; {shown[heading]} for {_population(comparison)}"
    text += ")"
    if np.isfinite(top["ceiling"]):
        text += f", against a noise ceiling of {shown['ceiling']}"
        if sector in unreliable_sectors(comparison):
            text += ", which is not significantly different from 0"
        elif top["r"] <= 0:
            text += ": no similarity"
        elif top["r"] >= top["ceiling"]:
            text += ", so it is at or above the ceiling"
        elif np.isfinite(top["explained"]):
            text += f" (r²/ceiling² = {shown['r²/ceiling²']})"
    text += chance
    text += f". Its best layer is {top['layer']}, selected in {shown['chosen']} of the "
    text += "split halves."
    return text + _differences(comparison, method, sector, str(top["model"]))


def _differences(comparison: Comparison, method: str, sector: str, top: str) -> str:
    """How many differences are significant: from the baseline, or from the best."""
    table = comparison.table
    if not len(table):
        return ""
    rows = select(table, method=method, sector=sector)
    after = (
        f"after {comparison.correction_name} correction, with S − 1 degrees of freedom"
    )
    standard = comparison.baseline or top
    if comparison.baseline is None:
        rows = rows[(rows["model_a"] == top) | (rows["model_b"] == top)]
    n_held = int(rows["significant_subjects"].sum())
    others = _counted(len(rows), "other network")
    if comparison.baseline is None and n_held == 0:
        others = "the other network" + ("s" if len(rows) > 1 else "")
        text = f" It is not significantly different from {others} ({after})."
    elif comparison.baseline is None:
        text = f" It differs significantly from {n_held} of {others} ({after})."
    elif n_held == 0:
        text = f" Of {others}, none differs significantly from {standard} ({after})."
    else:
        higher = int((rows["significant_subjects"] & (rows["difference"] > 0)).sum())
        text = (
            f" Of {others}, {higher} score significantly higher and {n_held - higher} "
            f"significantly lower than {standard} ({after})."
        )
    text += _with_new_images(comparison, rows)
    if comparison.equivalence is None and n_held == 0:
        return text + _could_be_found(rows)
    return text + _verdicts(comparison, rows, standard)


def _population(comparison: Comparison) -> str:
    """Whom the wider intervals are for."""
    first = comparison.results[0]
    sizes = len(first.subjects), len(first.stimuli)
    return population_words(*sizes, comparison.generalize)


def _with_new_images(comparison: Comparison, rows: "pd.DataFrame") -> str:
    """How many of these differences hold for new images, if that was asked for."""
    if comparison.generalize == "subjects":
        return ""
    n_held = int(rows[f"significant_{comparison.generalize}"].sum())
    return (
        f" For {_population(comparison)}, {n_held or 'none'} of "
        f"{_counted(len(rows), 'difference')} is significant after correction."
        if n_held < 2
        else f" For {_population(comparison)}, {n_held} of {len(rows)} differences are "
        "significant after correction."
    )


def _could_be_found(rows: "pd.DataFrame") -> str:
    """What difference these studies detect, where none was found."""
    found = rows["detectable"].dropna()
    if found.empty:
        return ""
    return f" With 80% power this study detects differences of {_span(found)}."


def _verdicts(comparison: Comparison, rows: "pd.DataFrame", standard: str) -> str:
    """Which networks are on par with one, which differ, and where nobody can tell."""
    margin = comparison.equivalence
    if margin is None:
        return ""
    parts = []
    for verdict, words in (
        ("on par", f"on par within ±{margin:g}".replace("±0.", "±.")),
        ("different", "different"),
        ("cannot tell", "cannot tell"),
    ):
        these = select(rows, verdict=verdict)
        if len(these):
            names = [
                a if b == standard else b
                for a, b in zip(these["model_a"], these["model_b"], strict=True)
            ]
            if verdict == "cannot tell":
                words += f" (this study detects {_span(these['detectable'])})"
            parts.append(f"{words}: {listing(names)}")
    return f" Against {standard}, {'; '.join(parts)}." if parts else ""


def _span(values: "pd.Series") -> str:
    low, high = _short(values.min()), _short(values.max())
    return low if low == high else f"{low} to {high}"


def _short(r: float) -> str:
    """A difference of correlations without its leading zero, such as .17."""
    return f"{r:.{2 if r >= 0.01 else 3}f}".removeprefix("0")


def cautions(comparison: Comparison, best: "pd.DataFrame") -> list[str]:
    """Warnings that belong beside the tables, each once with its networks."""
    results = comparison.results
    limit = comparison.exact_limit()
    return [
        *(text[0].upper() + text[1:] for text in comparison.warnings()),
        *([limit] if limit else []),
        *_unreliable(comparison),
        *_few_subjects(results[0]),
        *_of_the_fits(results),
        *_at_the_edge(results, best),
        *_one_seed(results),
        *_unverified(results),
    ]


def unreliable_sectors(comparison: Comparison) -> list[str]:
    """Sectors whose noise ceiling is not significantly different from 0.

    Their 95% interval, with S - 1 degrees of freedom, reaches to 0.
    """
    if comparison.results[0].single:  # there is no ceiling, which the fits say
        return []
    return [
        sector
        for sector in comparison.results[0].sectors
        if not comparison.results[0].ceiling_interval(sector).low > 0
    ]


def _unreliable(comparison: Comparison) -> list[str]:
    found = unreliable_sectors(comparison)
    if not found:
        return []
    return [
        f"{listing(found)}: the noise ceiling is not significantly different from 0. "
        "The halves of the subjects do not agree, and no score can be read there."
    ]


def _few_subjects(result: FitResult) -> list[str]:
    n_subjects = len(result.subjects)
    if n_subjects >= _FEW_SUBJECTS or result.single:
        return []
    return [
        f"There are {n_subjects} subjects only: intervals with S − 1 degrees of "
        "freedom are wide, and those with J − 1 are far too narrow."
    ]


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
    seeds: dict[str, list[str]] = {}  # a network's name -> what its seeds are called
    for result in results:
        card = result.card
        if card.get("method") == "untrained" or _SEED.search(result.model):
            base = _SEED.sub("", card.get("name") or result.model)
            seeds.setdefault(base, []).append(_SEED.sub("", result.model))
    single = {name: called[0] for name, called in seeds.items() if len(called) == 1}
    if not single:
        return []
    return [
        f"{listing(single.values())}: one random initialisation only. Scores of "
        "untrained networks differ between seeds; take several, such as "
        f"{next(iter(single))}:seeds=0-4."
    ]


def _unverified(results: Sequence[FitResult]) -> list[str]:
    networks: dict[str, list[str]] = {}
    for result in results:
        card = result.card
        for fact in card.get("unverified") or []:
            networks.setdefault(fact, []).append(result.model)
    return [
        f"{listing(names)}: not verified on the model card yet, {fact}."
        for fact, names in networks.items()
    ]


def methods_paragraphs(comparison: Comparison) -> list[str]:
    """The methods with the settings of these results.

    Data and networks, scores, statistics, software.
    """
    return [
        _data_and_networks(comparison),
        _scores(comparison.results),
        " ".join([_statistics(comparison), *_permutations(comparison)]),
        _software(comparison),
    ]


def _data_and_networks(comparison: Comparison) -> str:
    first = comparison.results[0]
    dataset = first.provenance["dataset"]
    text = (
        f"We compared {_counted(len(comparison.results), 'network')} with the "
        f"responses of {_counted(len(first.subjects), 'subject')} to "
        f"{_counted(len(first.stimuli), 'image')} (dataset {first.dataset}"
    )
    if dataset.get("licence"):
        text += f", licence {dataset['licence']}"
    text += f") in {listing(_sizes(first), limit=20)}."
    if dataset.get("citation"):
        text += f" Source of the data: {dataset['citation'].rstrip('.')}."
    transforms = {
        result.provenance["model"].get("preprocess") for result in comparison.results
    }
    text += " Images were prepared for each network by "
    if len(transforms) == 1 and None not in transforms:
        text += f"the same transform, {transforms.pop()}."
    else:
        text += "its own transform, which the provenance gives."
    cited = [
        f"{listing(names, limit=20)}: {citation}"
        for citation, names in networks_by_citation(comparison.results).items()
    ]
    return text + (f" Networks: {'; '.join(cited)}." if cited else "")


def _sizes(result: FitResult) -> list[str]:
    """Sectors with their numbers of voxels."""
    if result.given_as_rdms:
        return list(result.sectors)
    sizes = []
    for sector in result.sectors:
        counts = result.data["n_voxels"].sel(sector=sector).values
        low, high = int(counts.min()), int(counts.max())
        span = f"{low}" if low == high else f"{low} to {high}"
        sizes.append(f"{sector} ({span} voxels per subject)")
    return sizes


def _layers(results: Sequence[FitResult]) -> str:
    """The layers that were analysed, network by network where they differ."""
    networks: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        networks.setdefault(result.layer_names, []).append(result.model)
    if len(networks) == 1:
        return f"Layers analysed: {listing(results[0].layer_names, limit=60)}."
    parts = [
        f"{listing(layers, limit=60)} ({listing(names, limit=20)})"
        for layers, names in networks.items()
    ]
    return f"Layers analysed: {'; '.join(parts)}."


def _brain_rdms(result: FitResult) -> str:
    """Where the brain's RDMs came from."""
    if result.given_as_rdms:
        return "Brain RDMs were given with the dataset."
    return "Brain RDMs are 1 − Pearson r between the response patterns of two images."


def _scores(results: Sequence[FitResult]) -> str:
    result = results[0]
    options = result.provenance["options"]
    n_images, n_splits = len(result.stimuli), result.splits.n_splits
    sentences = [_layers(results), _brain_rdms(result)]
    if {"versa", "versa-debiased"} & set(result.methods):
        units = (
            "z-scored over the images" if options["standardize"] else "not standardized"
        )
        choice = (
            "each voxel" if options["alpha_per_voxel"] else "all voxels of a sector"
        )
        sentences.append(
            "For every layer, subject and voxel, the response to each image was "
            f"predicted by ridge regression with an intercept from all units of the "
            f"layer ({units}), fitted to the other {n_images - 1} images; the penalty "
            f"was chosen for {choice} by efficient leave-one-out cross-validation "
            f"within these, from {_grid(options['alphas'])}. Representational "
            "dissimilarity matrices (RDMs; 1 − Pearson r between the predicted "
            "patterns of two images) were made from the predicted responses."
        )
    if "versa" in result.methods:
        sentences.append(
            "In the method versa, the predictions are those of the leave-one-out "
            "models (Konkle & Alvarez, 2022); as the mean of a training fold depends "
            "on the image that is left out, the score that this bias alone produces, "
            "that of an intercept-only encoder, is reported beside them (null r)."
        )
    if "versa-debiased" in result.methods:
        sentences.append(
            "In the method versa-debiased, the mean of the training fold was replaced "
            "by the mean over all images."
        )
    if "rsa" in result.methods:
        sentences.append(
            "In the method rsa, the RDM (1 − Pearson r between the activations of all "
            "units of the layer for two images) was made without fitting."
        )
    sentences.append(
        "Of the one subject, the RDM of the network was correlated (Pearson r) with "
        "the RDM of the brain. The best layer is the one with the highest score, "
        "without cross-validation."
        if result.single
        else f"In each half of all {n_splits} half-splits of the subjects, the mean "
        "RDM of the network was correlated (Pearson r) with the mean RDM of the brain; "
        "the correlation between the brain RDMs of the two halves is the noise "
        "ceiling. Correlations were averaged as Fisher z. The best layer was "
        "cross-validated: chosen in one half of the subjects and scored in the other."
    )
    return " ".join(sentences)


def _grid(alphas: Any) -> str:
    if alphas == "auto":
        return (
            f"{len(AUTO_ALPHAS)} values from {AUTO_ALPHAS[0]:g} to {AUTO_ALPHAS[-1]:g} "
            "times the mean eigenvalue of the layer's centred Gram matrix"
        )
    values = SKLEARN_ALPHAS if alphas == "sklearn" else np.atleast_1d(alphas)
    return listing([f"{float(value):g}" for value in values], limit=20)


def _statistics(comparison: Comparison) -> str:
    first = comparison.results[0]
    if first.single:
        return (
            "With one subject there is no noise ceiling, and no interval or test over "
            "subjects."
        )
    n_scores = first.splits.n_splits * (2 if comparison.halves == "both" else 1)
    n_subjects = len(first.subjects)
    text = (
        "95% confidence intervals use the variance over the splits with the correction "
        "for their overlap (Nadeau & Bengio, 2003; Bouckaert & Frank, 2004), with "
        f"n_test / n_train = {comparison.test_train_ratio:.4g} and J = {n_scores} "
        f"split evaluations; we give them with J − 1 = {n_scores - 1} degrees of "
        f"freedom and, closer to nominal error rates, with S − 1 = {n_subjects - 1}."
    )
    if comparison.halves != "both":
        counted = {"mean": "the mean of the two halves", "first": "the first half"}
        text += f" Of each split {counted[comparison.halves]} counts as one evaluation."
    text += _wider(comparison)
    if not len(comparison.table):
        return f"{text} {comparison.scope}"
    if comparison.baseline is None:
        pairs = "All pairs of networks"
    else:
        pairs = f"All networks and the baseline {comparison.baseline}"
    scale = "Fisher z" if comparison.on_z else "r"
    text += (
        f" {pairs} were compared in each sector by two-sided paired t-tests with the "
        f"same correction on differences of the best layers' {scale}; p-values were "
        f"{_CORRECTED_BY[comparison.correction]} for a family of {comparison.family} "
        "tests, significant at corrected "
        f"p < {comparison.alpha:g}."
    )

    if comparison.equivalence is None:
        return f"{text} {comparison.scope}"
    around = " around the mean Fisher z of both" if comparison.on_z else ""
    return text + (
        " Two networks were called on par where two one-sided tests (Lakens, 2017) "
        f"with S − 1 degrees of freedom and a margin of ±{comparison.equivalence:g} in "
        f"r{around} gave p < {comparison.alpha:g}, not corrected for the number of "
        "pairs; Bayes factors are JZS (Rouder et al., 2009; Cauchy scale .707) of the "
        f"corrected t as a paired t over the subjects. {comparison.scope}"
    )


def _wider(comparison: Comparison) -> str:
    """How the intervals of the ceiling, and those for new images, were made."""
    first, population = comparison.results[0], comparison.generalize
    text = ""
    if first.holds_rdms:
        text = " The interval of the noise ceiling is by the jackknife over subjects."
    if population == "subjects":
        return text
    sizes = {"images": len(first.stimuli), "both": len(first.subjects)}
    text += (
        f" {'Images' if population == 'images' else 'Images and subjects'} were drawn "
        f"with replacement {N_SAMPLES} times, without the pairs of an image with "
        "itself, and the best layer was chosen in every sample"
    )
    if population == "both":
        text += "; the variance was corrected after Schuett et al. (2023)"
    df = min(len(first.stimuli), sizes[population]) - 1
    return f"{text}; these tests have {df} degrees of freedom."


def _permutations(comparison: Comparison) -> list[str]:
    """How chance was estimated, if it was."""
    numbers = {result.data.sizes.get("permutation", 0) for result in comparison.results}
    most = max(numbers)
    if not most:
        return []
    some = "" if len(numbers) == 1 else " at most"
    return [
        "Chance was estimated by permuting the images of the brain against those of "
        f"the network, the same{some} {most} times for all subjects and networks, and "
        "doing everything again, the choice of penalties and of the best layer "
        "included; p = (b + 1) / (m + 1) for b of m permutations with a score as high "
        "as the observed one (Phipson & Smyth, 2010). For the best of all layers and "
        "networks in a sector the highest of the standardized scores was taken in "
        "every permutation (Nichols & Holmes, 2002)."
    ]


def _software(comparison: Comparison) -> str:
    versions: dict[str, list[str]] = {}
    for result in comparison.results:
        record: Mapping[str, str] = result.provenance.get("versions") or {}
        for name, version in record.items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    order = sorted(versions, key=lambda name: (name != "versa", name))
    shown = [f"{name} {' and '.join(versions[name])}" for name in order]
    return f"Software: {', '.join(shown)}." if shown else "Software: versa."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
