"""Compare fitted networks: neither torch nor voxels are needed for it."""

import html
import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from versa.answer import WIDTH, Facts, answer_card
from versa.cache import made_folder
from versa.result import (
    FitResult,
    best_layer_scores,
    image_tests,
    subject_scores,
)
from versa.stats.families import CORRECTIONS
from versa.stats.intervals import fisher_z
from versa.stats.parity import difference_of_r
from versa.stats.signflips import signflip_test, smallest_signflip_p
from versa.stats.tables import (
    pairwise_tests,
    write_csv,
    write_table,
)
from versa.wording import chosen_names, listing, unique_names, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["PAPER_FAMILY", "Comparison", "compare"]

logger = logging.getLogger("versa")

PAPER_FAMILY = 30
"""Family size of the paper: five models in three sectors of two datasets."""

_CORRECTION_NAMES = {"bonferroni": "Bonferroni", "holm": "Holm", "fdr": "FDR"}

_SAME_OPTIONS = {  # with what results of older versions were made with
    "alphas": "auto",
    "alpha_per_voxel": True,
    "standardize": False,
    "rdm": "correlation",
    "compare_by": "pearson",
}

_SEED = r":seed=\d+$"


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Networks fitted to the same dataset, side by side.

    Parameters
    ----------
    results : tuple of FitResult
        In the order given.
    table : DataFrame
        Pairwise comparisons of cross-validated best layers: ``method, sector,
        model_a, model_b, r_a, r_b, difference`` (of the mean r), ``ci_low, ci_high``
        and ``detectable`` (see :meth:`pairs`), ``t, df, p, p_corrected, significant``
        (J - 1 degrees of freedom, the paper's) and ``df, p, p_corrected, significant``
        again with the ending ``_subjects`` (subjects - 1, closer to nominal). The
        statistic is the same for both. If images were drawn, also ``ci_low, ci_high,
        df, p, p_corrected, significant`` with the ending ``_images`` or ``_both``:
        interval and test of the difference by bootstrap.
    family : int
        Number of tests that the correction counts.
    baseline : str or None
        Model that all others were compared with.
    test_train_ratio : float
        n_test / n_train of all intervals and tests.
    alpha : float
        Level of significance, of corrected p.
    on_z : bool
        Whether differences of Fisher z were tested, or of r.
    equivalence : float or None
        Margin of the tests of equivalence, in r.
    generalize : {"subjects", "images", "both"}
        Population of all tables, as in :meth:`FitResult.layers`.
    correction : {"bonferroni", "holm", "fdr"}
        How p was corrected for the family.
    halves : {"both", "mean", "first"}
        What counts as one sample of a split.
    """

    results: tuple[FitResult, ...]
    table: "pd.DataFrame"
    family: int
    baseline: str | None
    test_train_ratio: float
    alpha: float = 0.05
    on_z: bool = True
    equivalence: float | None = None
    generalize: str = "subjects"
    correction: str = "bonferroni"
    halves: str = "both"

    @property
    def scope(self) -> str:
        """For whom the intervals and tests of the tables hold, as a sentence."""
        return self.results[0].scope(self.generalize)

    @property
    def correction_name(self) -> str:
        """What the correction for the family is called in words."""
        return _CORRECTION_NAMES[self.correction]

    def layers(self) -> "pd.DataFrame":
        """Score of every layer of every model.

        Returns
        -------
        table : DataFrame
            The rows of every :meth:`FitResult.layers`; ``p_perm_max`` is p against
            the highest score of all layers of all models in a sector (NaN unless all
            have permutations).
        """
        return self._stacked("layers")

    def best(self) -> "pd.DataFrame":
        """Cross-validated best layers of every model.

        Returns
        -------
        table : DataFrame
            The rows of every :meth:`FitResult.best`; ``p_perm_max`` is p against the
            highest best layer of all models in a sector (NaN unless all have
            permutations).
        """
        return self._stacked("best")

    def pairs(self) -> "pd.DataFrame":
        """Pairwise comparisons of the models.

        Returns
        -------
        table : DataFrame
            The attribute `table`. ``ci_low, ci_high``: 95% interval of A - B with
            subjects - 1 degrees of freedom, made in Fisher z and given in r around the
            mean z of the two models, ``tanh(z + d / 2) - tanh(z - d / 2)``, so
            that 0 is outside it where ``p_subjects`` is below .05. ``detectable``: the
            difference of r that a study with this number of subjects, this spread and
            this mean z finds in 80% of cases, by the test with subjects - 1 degrees of
            freedom at ``alpha / family``.

            With a margin of equivalence also ``ci90_low, ci90_high`` (90%),
            ``p_equivalence`` (two one-sided tests with the margin in r, subjects - 1
            degrees of freedom, not corrected for the family), ``bayes_factor`` (for a
            difference, :func:`versa.stats.parity.bayes_factor` of ``t`` and the number
            of subjects) and, last, ``verdict``: "on par" where ``p_equivalence`` is
            below `alpha`, else "different" where ``significant_subjects``, else
            "cannot tell".

            With ``exact=True`` also ``p_signflip``: exact test of the subjects' own
            scores at each network's layer in :meth:`best`
            (:func:`versa.stats.signflips.signflip_test` of the differences of Fisher
            z), not corrected; NaN for results that do not hold them. It is exact for
            layers that are given; these are chosen with the same subjects, which
            makes it stricter for networks with as many layers, and favours the one
            with more of them if they are unlike and equally good.
        """
        return self.table

    def seeds(self) -> "pd.DataFrame":
        """Range over the initialisations of untrained networks.

        Returns
        -------
        table : DataFrame
            One row per network that takes part with several seeds, sector and method:
            ``model`` (without the seed), ``sector, method, n_seeds``, and of the
            cross-validated best layers' mean r ``r`` (their mean, through Fisher z),
            ``lowest``, ``highest`` and ``null_r``. Empty without such networks.
        """
        import pandas as pd

        best = self.best()
        best.insert(0, "network", best["model"].str.replace(_SEED, "", regex=True))
        rows = [
            {
                "model": network,
                "sector": sector,
                "method": method,
                "n_seeds": len(group),
                "r": np.tanh(np.arctanh(group["r"]).mean()),
                "lowest": group["r"].min(),
                "highest": group["r"].max(),
                "null_r": group["null_r"].iloc[0],
            }
            for (network, sector, method), group in best.groupby(
                ["network", "sector", "method"], sort=False
            )
            if len(group) > 1
        ]
        return pd.DataFrame(rows)

    def encoding(self) -> "pd.DataFrame":
        """How well the voxels of every subject are predicted by every model.

        Returns
        -------
        table : DataFrame
            The rows of every :meth:`FitResult.encoding`, of the results that keep
            scores of voxels.

        Raises
        ------
        ValueError
            If none of them does.
        """
        import pandas as pd

        kept = [result for result in self.results if result.keeps_voxels]
        tables = [result.encoding() for result in kept or self.results]
        return pd.concat(tables, ignore_index=True)

    def _stacked(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        table = pd.concat(
            [
                getattr(result, name)(
                    test_train_ratio=self.test_train_ratio,
                    generalize=self.generalize,
                    halves=self.halves,
                )
                for result in self.results
            ],
            ignore_index=True,
        )
        if "p_perm_max" in table:
            table["p_perm_max"] = np.nan
            for (sector, method), rows in table.groupby(["sector", "method"]):
                tests = image_tests(self.results, method, sector, best=name == "best")
                table.loc[rows.index, "p_perm_max"] = tests.get("p_perm_max", np.nan)
        return table

    def warnings(self) -> list[str]:
        """What must be known before the tests are read.

        Returns
        -------
        sentences : list of str
            If the family is smaller than the tests made, if the splits are taken for
            independent samples, or if their halves are averaged.
        """
        found = []
        n_tests = len(self.table) // len(self.results[0].methods)
        if self.family < n_tests:
            found.append(
                f"the family of {self.family} is smaller than the {n_tests} tests made "
                "with each method: corrected p are too small."
            )
        if self.test_train_ratio == 0:
            found.append(
                "n_test / n_train is 0, which takes the splits for independent "
                "samples: such a test finds a difference in 80 to 90% of the cases "
                "in which there is none."
            )
        if self.halves == "mean":
            found.append(
                "the two halves of each split are averaged, and their mean hardly "
                "varies whoever the subjects are: intervals are void, and such a test "
                "finds a difference in 81 to 97% of the cases in which there is none."
            )
        return found

    def exact_limit(self) -> str:
        """The smallest p of an exact test, where a significant p is below it.

        Returns
        -------
        sentence : str
            Empty where no test needs it.
        """
        n_subjects = len(self.results[0].subjects)
        limit = smallest_signflip_p(n_subjects)
        below = [
            (self.table[f"significant{ending}"] & (self.table[f"p{ending}"] < limit))
            for ending in ("", "_subjects")
        ]
        if not len(self.table) or not any(rows.any() for rows in below):
            return ""
        text = (
            f"No exact test over {n_subjects} subjects can reach a p below 2 / "
            f"2^{n_subjects} = {limit:.3g}, before any correction: smaller ones rest "
            "on the normal distribution."
        )
        if self.alpha / self.family < limit:
            text += (
                f" At {self.alpha:g} / {self.family} = {self.alpha / self.family:.3g} "
                "none can reject."
            )
        return text

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the tables as CSV, Markdown and LaTeX.

        Parameters
        ----------
        folder : path-like
            Made if absent. Gets ``layers``, ``best``, ``pairs`` and, with several
            seeds of a network, ``seeds`` with the endings ``.csv``, ``.md`` and
            ``.tex``; and ``encoding`` if scores of voxels were kept.

        Returns
        -------
        paths : list of Path
        """
        folder = made_folder(folder)
        return [
            path
            for name, table in self._tables().items()
            for path in write_table(table, folder, name, note=self.scope)
        ]

    def to_csv(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the tables as CSV alone.

        Parameters
        ----------
        folder : path-like
            Made if absent. Gets the tables of :meth:`write`.

        Returns
        -------
        paths : list of Path
        """
        return write_csv(self._tables(), folder)

    def _tables(self) -> "dict[str, pd.DataFrame]":
        """All that apply, by the names of their files."""
        tables = {"layers": self.layers(), "best": self.best(), "pairs": self.table}
        seeds = self.seeds()
        if len(seeds):
            tables["seeds"] = seeds
        if any(result.keeps_voxels for result in self.results):
            tables["encoding"] = self.encoding()
        return tables

    def rdms(self, sector: str, layer: str | None = None) -> dict[str, np.ndarray]:
        """The mean RDM of every network, as squares.

        Parameters
        ----------
        sector : str
            A sector of the results.
        layer : str, optional
            A layer that all networks have; by default the best one of each.

        Returns
        -------
        rdms : dict of str to ndarray of shape (n_stimuli, n_stimuli)
            By the names of the networks, as of :meth:`FitResult.rdms`, which gives that
            of the brain, too.

        Raises
        ------
        ValueError
            If a name is unknown, or a result holds no RDMs.
        """
        found = {}
        for result in self.results:
            name = layer
            if name is None:
                chosen_names(sector, "sector", result.sectors)
                best = best_layer_scores(result, result.leading_method, sector).usual
                if best < 0:
                    raise ValueError(
                        f"layer must be given for {sector}, where {result.model} has "
                        "no score and so no best layer."
                    )
                name = result.layer_names[best]
            found[result.model] = result.rdms(sector, name)
        return found

    def plot(self, *, sector: str | None = None) -> "Axes":
        """Draw the best layer of every network by the leading method.

        Parameters
        ----------
        sector : str, optional
            By default all of them, side by side.

        Returns
        -------
        ax : matplotlib.axes.Axes
            As of :func:`versa.plotting.plot_best`, which has more options.
        """
        import versa  # by the front door, as a user would: plotting is above this

        method = self.results[0].leading_method
        return versa.plotting.plot_best(self, method=method, sector=sector)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML page.

        Parameters
        ----------
        path : path-like
            Ends with ``.html``.

        Returns
        -------
        path : Path
            As of :func:`versa.report.write_report`, which has more options.
        """
        import versa

        return versa.report.write_report(self, path)

    def answer(
        self, *, width: int = WIDTH, styled: bool = False, ascii_only: bool = False
    ) -> str:
        """The answer card: who wins in which sector, and how sure it is.

        Parameters
        ----------
        width : int, default=80
            Longest line; 72 at least.
        styled : bool, default=False
            Use bold and dim letters of ANSI terminals.
        ascii_only : bool, default=False
            Draw with ASCII.

        Returns
        -------
        text : str
            Per sector a sentence and one row per network: r of the cross-validated
            best layer with its recommended interval (subjects - 1, or of the population
            that was asked for), share of the ceiling, best layer, p of permutations,
            and which networks it beats, with the largest corrected p of these. Where
            images were drawn, too, only a difference that holds in both tests counts,
            with the larger p. The method is :attr:`FitResult.leading_method`; the other
            methods are in the tables. Below it are all warnings.
        """
        facts = Facts(
            self.results[0].sample,
            self.results[0].leading_method,
            self.scope,
            single=self.results[0].single,
            population=self.generalize,
            alpha=self.alpha,
            correction=self.correction_name,
            family=self.family,
            baseline=self.baseline,
            margin=self.equivalence,
            notes=self._notes(),
        )
        return answer_card(
            self.best(),
            self.table,
            facts,
            width=width,
            styled=styled,
            ascii_only=ascii_only,
        )

    def _notes(self) -> list[str]:
        """All that must be known, each once with its networks."""
        said: dict[str, list[str]] = {}
        for result in self.results:
            for sentence in result.provenance["warnings"]:
                said.setdefault(sentence, []).append(result.model)
        return [
            *(f"{text[0].upper()}{text[1:]}" for text in self.warnings()),
            *filter(None, [self.exact_limit()]),
            *(f"{listing(names)}: {text}" for text, names in said.items()),
        ]

    def __repr__(self) -> str:
        return f"{self.answer()}\n\nTables: .layers(), .best(), .pairs()"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def compare(
    results: FitResult | Sequence[FitResult],
    *others: FitResult,
    baseline: str | None = None,
    family: int | None = None,
    test_train_ratio: float | str = 1.0,
    alpha: float = 0.05,
    on_z: bool = True,
    equivalence: float | None = None,
    generalize: str | None = None,
    correction: str = "bonferroni",
    exact: bool = False,
    halves: str | None = None,
) -> Comparison:
    """Compare the cross-validated best layers of networks, pair by pair.

    Parameters
    ----------
    results : FitResult or sequence of FitResult
        Fits of different models to the same dataset, with the same splits, sectors
        and methods. One alone gives a table without pairs.
    *others : FitResult
        More of them: ``compare(a, b)`` is ``compare([a, b])``.
    baseline : str, optional
        Name of a model: compare all others with it, and not each other.
    family : int, optional
        Number of tests for the correction. Default: the comparisons made
        with each method (pairs x sectors). The paper's family is 30
        (:data:`PAPER_FAMILY`).
    test_train_ratio : float or "literal", default=1.0
        n_test / n_train of the corrected variance; 1 is the convention for halves,
        "literal" that of the splits (25 / 24 for 3 against 4 subjects).
    alpha : float, default=0.05
        Level, before it is divided by the family.
    on_z : bool, default=True
        Test differences of Fisher z, or of r (False).
    equivalence : float, optional
        Margin in r, such as .05: test as well whether networks are on par, that is
        differ by less, see :meth:`Comparison.pairs`. Choose it before looking.
    generalize : {"subjects", "images", "both"}, optional
        Population of further intervals and tests, by bootstrap: the same samples for
        all models, with the best layer chosen in each. Default: that of the fits.
    correction : {"bonferroni", "holm", "fdr"}
        Correction for the family: as the paper; Holm's, as safe and never weaker; or
        Benjamini and Hochberg's, of the false discovery rate.
    exact : bool, default=False
        Add the p of an exact sign-flip test over subjects.
    halves : {"both", "mean", "first"}, optional
        What counts as one sample of a split; by default that of the fits. Bootstrap,
        permutations and sign flips count both.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    ValueError
        If the results differ in dataset, stimuli, splits, sectors or methods, if two
        have the same name, an option makes no sense, or `generalize` asks for images
        and a result holds no RDMs.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4;
    Nadeau & Bengio (2003), https://doi.org/10.1023/A:1024068626366
    """
    import pandas as pd

    given = (results,) if isinstance(results, FitResult) else tuple(results)
    results = (*given, *others)
    require_same(results)
    names = [result.model for result in results]
    if baseline is not None and baseline not in names:
        raise ValueError(unknown("baseline", baseline, names))
    _require_sensible(alpha, equivalence, correction)
    if baseline is None:
        pairs = list(itertools.combinations(names, 2))
    else:
        pairs = [(name, baseline) for name in names if name != baseline]
    first = results[0]
    family = len(pairs) * len(first.sectors) if family is None else family
    if family != int(family) or (family < 1 and (pairs or family < 0)):
        raise ValueError(f"family must be a whole number of 1 or more; got {family}.")
    ratio = first.ratio(test_train_ratio)
    population = _population(results, generalize)
    halves = _common_halves(results) if halves is None else halves
    tables = []
    for method, sector in itertools.product(first.methods, first.sectors):
        scores = {
            result.model: best_layer_scores(result, method, sector, halves).r
            for result in results
        }
        tests = pairwise_tests(
            scores,
            pairs,
            len(first.subjects),
            test_train_ratio=ratio,
            on_z=on_z,
            level=alpha / max(family, 1),
            equivalence=equivalence,
        )
        if population != "subjects":
            place = (method, sector, None, halves)
            wider = _wider_tests(results, pairs, place, population, on_z)
            tests = pd.concat([tests, wider], axis=1)
        tests.insert(0, "method", method)
        tests.insert(1, "sector", sector)
        if exact:
            tests["p_signflip"] = _exact(results, pairs, method, sector)
        tables.append(tests)
    table = pd.concat(tables, ignore_index=True)
    _correct(table, correction, family, alpha)
    if correction != "bonferroni":
        table.attrs["correction"] = _CORRECTION_NAMES[correction]
    if equivalence is not None:
        table["verdict"] = _verdicts(table, alpha)
    options = (ratio, alpha, on_z, equivalence, population, correction, halves)
    comparison = Comparison(results, table, family, baseline, *options)
    for sentence in comparison.warnings():
        logger.warning("%s", sentence)
    return comparison


def _require_sensible(alpha: float, equivalence: float | None, correction: str) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1; got {alpha}.")
    if equivalence is not None and not 0 < equivalence < 2:
        raise ValueError(f"equivalence must be between 0 and 2; got {equivalence}.")
    if correction not in CORRECTIONS:
        raise ValueError(unknown("correction", correction, CORRECTIONS))


def _common_halves(results: Sequence[FitResult]) -> str:
    for result in results:
        if result.halves != results[0].halves:
            raise ValueError(
                f"results must be fitted with the same halves; {results[0].model!r} "
                f"has {results[0].halves!r} and {result.model!r} {result.halves!r}. "
                "Pass halves=."
            )
    return results[0].halves


def _exact(
    results: Sequence[FitResult],
    pairs: Sequence[tuple[str, str]],
    method: str,
    sector: str,
) -> list[float]:
    """p of the sign-flip test for every pair; NaN where a result has no own scores."""
    own = {one.model: subject_scores(one, method, sector) for one in results}
    found = []
    for a, b in pairs:
        r_a, r_b = own[a], own[b]
        if r_a is None or r_b is None:
            found.append(np.nan)
        else:
            found.append(signflip_test(fisher_z(r_a) - fisher_z(r_b)))
    return found


def _correct(table: "pd.DataFrame", correction: str, family: int, alpha: float) -> None:
    """Put the corrected p of every kind of test beside it, and whether it is small.

    Each method is a family of its own.
    """
    for ending in ("", "_subjects", "_images", "_both"):
        if f"p{ending}" not in table:
            continue
        p = table[f"p{ending}"].to_numpy(dtype=float)
        corrected = np.full(len(p), np.nan)
        for method in table["method"].unique():
            rows = (table["method"] == method).to_numpy()
            corrected[rows] = CORRECTIONS[correction](p[rows], family)
        place = list(table.columns).index(f"p{ending}")
        table.insert(place + 1, f"p_corrected{ending}", corrected)
        table.insert(place + 2, f"significant{ending}", corrected < alpha)


def _verdicts(table: "pd.DataFrame", alpha: float) -> list[str | None]:
    """In words; None for a pair without a test."""
    tests = table[["p_subjects", "p_equivalence", "significant_subjects"]]
    return [
        None
        if np.isnan(p)
        else "on par"
        if p_equivalence < alpha
        else "different"
        if significant
        else "cannot tell"
        for p, p_equivalence, significant in tests.itertuples(index=False)
    ]


def _population(results: Sequence[FitResult], generalize: str | None) -> str:
    """The population of all tables, if every result can say something of it."""
    wanted = {result.generalize for result in results}
    if generalize is None and len(wanted) > 1:
        raise ValueError(
            f"results must generalise to the same; got {listing(sorted(wanted))}. Pass "
            "generalize= (or --generalize) to say which is meant."
        )
    return {result.population(generalize) for result in results}.pop()


def _wider_tests(
    results: Sequence[FitResult],
    pairs: Sequence[tuple[str, str]],
    place: tuple[str, str, str | None, str],
    population: str,
    on_z: bool,
) -> "pd.DataFrame":
    """Intervals and tests of differences for new images, by bootstrap.

    As those for new subjects: made in z, if that is tested, and given in r.
    """
    import pandas as pd

    by_name = {result.model: result for result in results}
    columns = [f"{name}_{population}" for name in ("ci_low", "ci_high", "df", "p")]
    rows = []
    for pair in pairs:
        z, samples = zip(
            *(by_name[name].bootstrapped(*place) for name in pair), strict=True
        )
        scale = np.asarray if on_z else np.tanh
        difference = float(scale(z[0]) - scale(z[1]))
        off = by_name[pair[0]].spread(scale(samples[0]) - scale(samples[1]), population)
        ends = np.array([difference - off.reach(), difference + off.reach()])
        if on_z:
            ends = difference_of_r(ends, np.mean(z))
        rows.append((*ends, off.df, off.pvalue(difference)))
    return pd.DataFrame(rows, columns=columns)


def require_same(results: Sequence[FitResult]) -> None:
    """Refuse results that cannot be compared."""
    require_same_brains(results)
    first = results[0]
    names = [result.model for result in results]
    unique_names(names, "model names of results", hint="Pass name= to versa.fit.")
    for result in results:
        _refuse(first, result, _other_options(first, result))


def require_same_brains(results: Sequence[FitResult]) -> None:
    """Refuse results of other brains, images, sectors or half-splits."""
    if not results:
        raise ValueError("results must hold at least one FitResult; got none.")
    for result in results:
        if not isinstance(result, FitResult):
            raise ValueError(
                f"results must be FitResults; got {type(result).__name__}. "
                "Read saved ones with versa.load_result."
            )
    for result in results:
        _refuse(results[0], result, _other_brains(results[0], result))


def _refuse(first: FitResult, result: FitResult, what: str | None) -> None:
    """Say what two results do not have in common, if there is anything."""
    if what:
        raise ValueError(
            f"results must have the same {what}; {first.model!r} and "
            f"{result.model!r} differ. Fit both with the same options."
        )


def _other_brains(a: FitResult, b: FitResult) -> str | None:
    """What differs in what two networks were fitted to, if anything does."""
    of_a, of_b = a.provenance["dataset"], b.provenance["dataset"]
    if of_a["name"] != of_b["name"]:
        return f"dataset ({of_a['name']} and {of_b['name']})"
    if a.stimuli != b.stimuli:
        ids_a, ids_b = ([name for name, _ in r.stimuli] for r in (a, b))
        odd = sorted(set(ids_a) ^ set(ids_b))
        if odd:
            return f"stimuli ({listing(odd)} in one only)"
        moved = [x for x, y in zip(a.stimuli, b.stimuli, strict=True) if x != y]
        return f"stimuli in the same order ({listing(name for name, _ in moved)})"
    if a.subjects != b.subjects:
        return f"subjects ({listing(a.subjects)} and {listing(b.subjects)})"
    if a.sectors != b.sectors:
        return f"sectors ({listing(a.sectors)} and {listing(b.sectors)})"
    if of_a["fingerprint"] != of_b["fingerprint"]:
        return "brain data (the content of the dataset changed)"
    if not np.array_equal(a.splits.members, b.splits.members):
        return "half-splits"
    return None


def _other_options(a: FitResult, b: FitResult) -> str | None:
    """What differs in how two networks were fitted, if anything does."""
    if a.methods != b.methods:
        return f"methods ({listing(a.methods)} and {listing(b.methods)})"
    for option, usual in _SAME_OPTIONS.items():
        of_a, of_b = (r.provenance["options"].get(option, usual) for r in (a, b))
        if of_a != of_b:
            return f"{option} ({of_a} and {of_b})"
    return None
