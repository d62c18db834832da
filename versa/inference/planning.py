"""How many subjects a comparison needs: power, from the spread of a pilot."""

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from versa.comparison import Comparison, compare
from versa.result import FitResult, best_layer_scores
from versa.stats.intervals import fisher_z
from versa.stats.parity import difference_of_r, difference_of_z
from versa.stats.power import detectable_effect, paired_power
from versa.stats.selection import counted_halves
from versa.stats.ttests import corrected_paired_ttest

if TYPE_CHECKING:
    import pandas as pd

N_SUBJECTS = (5, 7, 10, 15, 20, 30)


def power(
    results: "FitResult | Sequence[FitResult] | Comparison | ArrayLike",
    n_subjects: int | Iterable[int] = N_SUBJECTS,
    *,
    difference: float = 0.1,
    alpha: float | None = None,
    family: int | None = None,
) -> "pd.DataFrame":
    """Power of the corrected test, and what it detects, for numbers of subjects.

    Parameters
    ----------
    results : Comparison, FitResult, sequence of FitResult, or array-like
        A study, or a pilot, that shows how much subjects differ. Of one result alone
        its layers are compared with its best one. An array of shape (n,) holds one
        difference per subject of a pilot, in any unit, which is that of `difference`.
    n_subjects : int or iterable of int, default=(5, 7, 10, 15, 20, 30)
        Numbers of subjects to plan for.
    difference : float, default=0.1
        True difference to be found: of r around the mean Fisher z of both models.
    alpha : float, optional
        Level before correction; by default that of the comparison, or .05.
    family : int, optional
        Number of tests that the level is divided by; by default that of the
        comparison, or 1.

    Returns
    -------
    table : DataFrame
        ``method, sector, model_a, model_b, spread`` (standard deviation of a subject's
        difference of Fisher z: the corrected standard error times the root of the
        number of subjects), ``n_subjects, detectable`` (the difference of r found in
        80% of studies) and ``power`` (share of studies that find `difference`), by the
        two-sided test with subjects - 1 degrees of freedom. For an array ``spread,
        n_subjects, detectable, power``.

    Raises
    ------
    ValueError
        If there is no pair to compare, fewer than 2 subjects, or an option makes no
        sense.

    Notes
    -----
    The spread and the level of r are taken to stay as they were observed. Both are
    uncertain with few subjects, and RDMs of larger halves are less noisy: in simulated
    studies of 7 to 15 subjects the true power at ``detectable`` was .65 to .74. Plan
    with a margin.

    Examples
    --------
    >>> import versa
    >>> pilot = [0.10, 0.02, 0.15, -0.04, 0.12, 0.05]
    >>> versa.power(pilot, [6, 12, 24]).round(3)
       spread  n_subjects  detectable  power
    0    0.07           6       0.101  0.793
    1    0.07          12       0.063  0.994
    2    0.07          24       0.042  1.000
    """
    import pandas as pd

    counts = [n_subjects] if isinstance(n_subjects, int) else list(n_subjects)
    rows = []
    for place, spread, around in _spreads(results):
        if isinstance(results, Comparison):
            alpha = results.alpha if alpha is None else alpha
            family = results.family if family is None else family
        level = (0.05 if alpha is None else alpha) / (family or 1)
        shift = difference if around is None else difference_of_z(difference, around)
        for n in counts:
            found = detectable_effect(n, alpha=level) * spread
            reached = paired_power(shift / spread, n, alpha=level)
            rows.append(
                {
                    **place,
                    "spread": spread,
                    "n_subjects": n,
                    "detectable": float(
                        found if around is None else difference_of_r(found, around)
                    ),
                    "power": float(reached),
                }
            )
    return pd.DataFrame(rows)


def _spreads(
    results: "FitResult | Sequence[FitResult] | Comparison | ArrayLike",
) -> Iterable[tuple[dict[str, str], float, float | None]]:
    """What is compared, the spread of its differences, and the mean Fisher z."""
    if isinstance(results, FitResult):
        comparison = compare(results)
    elif isinstance(results, Comparison):
        comparison = results
    elif all(isinstance(one, FitResult) for one in results):  # type: ignore[union-attr]
        comparison = compare(results)  # type: ignore[arg-type]
    else:
        d = np.asarray(results, dtype=float)
        if d.ndim != 1 or d.size < 2 or not np.isfinite(d).all():
            raise ValueError(
                "results must be FitResults, a Comparison, or a finite difference for "
                f"each of two or more subjects; got an array of shape {d.shape}."
            )
        yield {}, float(d.std(ddof=1)), None
        return
    first = comparison.results[0]
    n = len(first.subjects)
    if n < 2:
        raise ValueError(f"results must have at least 2 subjects; got {n}.")
    pairs = 0
    for method, sector in itertools.product(first.methods, first.sectors):
        scores = _scores(comparison, method, sector)
        for a, b in _pairs(comparison, scores):
            pairs += 1
            z = [fisher_z(scores[a]), fisher_z(scores[b])]
            values = z if comparison.on_z else [np.tanh(one) for one in z]
            if not np.isfinite(values).all():
                continue
            error = corrected_paired_ttest(
                *values, test_train_ratio=comparison.test_train_ratio, df=n - 1
            ).standard_error
            place = {"method": method, "sector": sector, "model_a": a, "model_b": b}
            around = float(np.mean(z)) if comparison.on_z else None
            if error > 0:
                yield place, float(error * np.sqrt(n)), around
    if not pairs:
        raise ValueError("results must hold two models, or two layers, to compare.")


def _scores(comparison: Comparison, method: str, sector: str) -> dict[str, np.ndarray]:
    """Scores of the best layers, or of all layers of a result that is alone."""
    if len(comparison.results) > 1:
        return {
            one.model: best_layer_scores(one, method, sector, comparison.halves).r
            for one in comparison.results
        }
    (one,) = comparison.results
    return {
        layer: counted_halves(
            one.scores.loc[method, sector, layer].values, comparison.halves
        )
        for layer in one.layer_names
    }


def _pairs(
    comparison: Comparison, scores: dict[str, np.ndarray]
) -> list[tuple[str, str]]:
    """Those of the comparison; of layers, all others with the best one."""
    baseline = comparison.baseline
    if len(comparison.results) == 1:
        means = {name: fisher_z(r).mean() for name, r in scores.items()}
        best = max(means, key=lambda name: np.nan_to_num(means[name], nan=-np.inf))
        return [(best, name) for name in scores if name != best]
    if baseline is None:
        return list(itertools.combinations(scores, 2))
    return [(name, baseline) for name in scores if name != baseline]
