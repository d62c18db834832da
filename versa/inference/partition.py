"""What networks explain of a brain's geometry alone, and what they share."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from versa.comparison import require_same
from versa.fmri.similarity import RANKED, as_vectors
from versa.result import FitResult, best_layer_scores
from versa.stats.ttests import corrected_paired_ttest
from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd

_MOST_MODELS = 6  # 63 parts


def partition(
    results: FitResult | Sequence[FitResult],
    *others: FitResult,
    layers: Mapping[str, str] | None = None,
    test_train_ratio: float | str = 1.0,
) -> "pd.DataFrame":
    """Unique and shared parts of the variance that networks explain.

    Commonality analysis of RDMs: the brain's mean RDM is regressed on the networks'
    mean RDMs, and the share that every set of networks explains is divided into what
    one of them explains alone and what several explain alike.

    Parameters
    ----------
    results : FitResult or sequence of FitResult
        Fits of 2 to 6 models to the same dataset, with the same options, that hold the
        RDMs of the subjects (``keep_rdms=True``).
    *others : FitResult
        More of them: ``partition(a, b)`` is ``partition([a, b])``.
    layers : mapping of str to str, optional
        The layer of each model to take. Default: in every half of every split the one
        that was best in the other half, as in :meth:`FitResult.best`.
    test_train_ratio : float or "literal", default=1.0
        n_test / n_train of the corrected intervals.

    Returns
    -------
    table : DataFrame
        For each method, sector and set of models one row: ``method, sector, part``
        (such as ``a only``, ``a & b``, and ``total``), ``r2``, its corrected 95%
        interval ``ci_low, ci_high`` (subjects - 1 degrees of freedom) and
        ``of_ceiling``, r2 divided by the squared noise ceiling; NaN where that cannot
        be told from 0, as in :meth:`FitResult.layers`.

    Raises
    ------
    ValueError
        If the results differ in what they are of, hold no RDMs of the subjects, or RDMs
        were compared by rank.

    Notes
    -----
    The weights of the regression are fitted in one half of the subjects, and the
    variance explained, the squared correlation with its sign, is that in the other. So
    a network that explains nothing of its own has a unique part of 0 on average, or
    slightly below; it is not positive by construction. Shared parts may be negative:
    two networks then explain more together than the sum of both. As in all regressions
    a weight may be negative. Intervals are for new subjects and these images.

    References
    ----------
    Nimon & Oswald (2013), https://doi.org/10.1177/1094428113493929; for RDMs: Groen et
    al. (2018), https://doi.org/10.7554/eLife.32962

    Examples
    --------
    >>> versa.partition(trained, untrained)  # doctest: +SKIP
    """
    import pandas as pd

    given = (results,) if isinstance(results, FitResult) else tuple(results)
    fits = (*given, *others)
    _check(fits, layers)
    first = fits[0]
    ratio = first.ratio(test_train_ratio)
    df = len(first.subjects) - 1
    rows = []
    for method, sector in itertools.product(first.methods, first.sectors):
        ceiling = first.ceiling_interval(sector)
        for part, values in _parts(fits, method, sector, layers or {}).items():
            mean, low, high = _interval(values, ratio, df)
            rows.append(
                {
                    "method": method,
                    "sector": sector,
                    "part": part,
                    "r2": mean,
                    "ci_low": low,
                    "ci_high": high,
                    "of_ceiling": mean / ceiling.mean**2 if ceiling.low > 0 else np.nan,
                }
            )
    return pd.DataFrame(rows)


def _check(fits: tuple[FitResult, ...], layers: Mapping[str, str] | None) -> None:
    require_same(fits)
    names = [fit.model for fit in fits]
    if not 2 <= len(fits) <= _MOST_MODELS:
        raise ValueError(
            f"partition must be given 2 to {_MOST_MODELS} results; got {len(fits)}."
        )
    if len(fits[0].subjects) < 2:
        raise ValueError(
            "partition needs the halves of at least 2 subjects, to fit weights in one "
            "and score them in the other; the results have 1 subject."
        )
    compare_by = fits[0].compare_by
    if compare_by in RANKED:
        raise ValueError(
            "partition needs RDMs compared by pearson, cosine or whitened, whose "
            f"variance adds up; the results compare by {compare_by}."
        )
    for fit in fits:
        encoded = set(fit.methods) - {"rsa"}
        if "brain_rdms" not in fit.data or (encoded and "model_rdms" not in fit.data):
            raise ValueError(
                "partition needs the RDMs of the subjects, which the result of "
                f"{fit.model} does not hold. Fit again with keep_rdms=True."
            )
    for model, layer in (layers or {}).items():
        if model not in names:
            raise ValueError(unknown("model of layers", model, names))
        known = fits[names.index(model)].layer_names
        if layer not in known:
            raise ValueError(unknown(f"layer of {model}", layer, known))


class _Products(NamedTuple):
    """Inner products of unit vectors: networks with networks and with the brain."""

    among: np.ndarray  # (n_halves, n_models, n_models)
    with_brain: np.ndarray  # (n_halves, n_models)


def _parts(
    fits: tuple[FitResult, ...], method: str, sector: str, layers: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Variance of every part in every half of every split, (n_splits * 2,)."""
    chosen = [_chosen(fit, method, sector, layers) for fit in fits]
    weights = fits[0].splits.weights  # (n_splits, 2, n_subjects)
    # the same layers in the half that weights are fitted in, and in that of the score
    train, test = (
        _products(fits, method, sector, chosen, halves.reshape(-1, halves.shape[2]))
        for halves in (weights[:, ::-1], weights)
    )
    places = range(len(fits))
    explained = {
        subset: _explained(train, test, list(subset)) if subset else 0.0
        for size in range(len(fits) + 1)
        for subset in itertools.combinations(places, size)
    }
    found = {}
    for size in range(1, len(fits) + 1):
        for part in itertools.combinations(places, size):
            rest = tuple(i for i in places if i not in part)
            # inclusion and exclusion over the subsets of the part
            found[_name(fits, part)] = sum(
                (-1) ** (n + 1) * explained[tuple(sorted(rest + inner))]
                for n in range(size + 1)
                for inner in itertools.combinations(part, n)
            )
    return found | {"total": explained[tuple(places)]}


def _name(fits: tuple[FitResult, ...], part: tuple[int, ...]) -> str:
    names = [fits[i].model for i in part]
    return f"{names[0]} only" if len(names) == 1 else " & ".join(names)


def _chosen(
    fit: FitResult, method: str, sector: str, layers: Mapping[str, str]
) -> np.ndarray:
    """Place of the layer that is scored in each half, (n_splits * 2,); -1 for none."""
    best = best_layer_scores(fit, method, sector).chosen.ravel()
    if fit.model in layers:
        return np.full_like(best, fit.layer_names.index(layers[fit.model]))
    return best


def _products(
    fits: tuple[FitResult, ...],
    method: str,
    sector: str,
    chosen: list[np.ndarray],
    weights: np.ndarray,
) -> _Products:
    """Products of the mean RDMs of halves: their weights are (n_halves, n_subjects)."""

    def means(rdms: np.ndarray) -> np.ndarray:  # (n_halves, n_pairs), unit vectors
        together = weights @ rdms if len(rdms) > 1 else rdms
        vectors = as_vectors(together, fits[0].compare_by)
        length = np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
        return vectors / np.where(length > 0, length, np.nan)

    brain = means(fits[0].data["brain_rdms"].loc[sector].values.astype(float))
    stack = np.full((len(brain), len(fits), brain.shape[1]), np.nan)
    for i, fit in enumerate(fits):
        for layer in np.unique(chosen[i][chosen[i] >= 0]):
            vectors = means(_rdms(fit, method, sector, int(layer)))
            rows = chosen[i] == layer
            stack[rows, i] = np.broadcast_to(vectors, brain.shape)[rows]
    return _Products(
        stack @ stack.transpose(0, 2, 1), np.einsum("hmp,hp->hm", stack, brain)
    )


def _rdms(fit: FitResult, method: str, sector: str, layer: int) -> np.ndarray:
    """RDMs of one layer, (n_subjects or 1, n_pairs)."""
    place = {"sector": sector, "layer": fit.layer_names[layer]}
    if method == "rsa":
        return fit.data["model_rdm"].loc[{"methods": method, **place}].values[None]
    kept = fit.data["model_rdms"].loc[{"encoding": method, **place}]
    return kept.values.astype(float)


def _explained(train: _Products, test: _Products, subset: list[int]) -> np.ndarray:
    """Signed squared correlation in each half, of weights fitted in the other half."""
    among, brain = train.among[:, subset][:, :, subset], train.with_brain[:, subset]
    known = np.isfinite(among).all(axis=(1, 2)) & np.isfinite(brain).all(axis=1)
    weights = np.full_like(brain, np.nan)
    inverse = np.linalg.pinv(among[known], rcond=1e-10, hermitian=True)
    weights[known] = np.einsum("hij,hj->hi", inverse, brain[known])
    among, brain = test.among[:, subset][:, :, subset], test.with_brain[:, subset]
    inner = np.sum(weights * brain, axis=1)
    squared = np.einsum("hi,hij,hj->h", weights, among, weights)
    return np.sign(inner) * inner**2 / np.where(squared > 0, squared, np.nan)


def _interval(values: np.ndarray, ratio: float, df: int) -> tuple[float, float, float]:
    """Mean of a part with its corrected 95% interval."""
    from scipy.stats import t

    if not np.isfinite(values).all():
        return np.nan, np.nan, np.nan
    test = corrected_paired_ttest(
        values, np.zeros_like(values), test_train_ratio=ratio, df=df
    )
    reach = t.ppf(0.975, df) * test.standard_error
    return test.difference, test.difference - reach, test.difference + reach
