"""How often the tests of a study would reject if there were nothing to find."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from versa.comparison import Comparison
from versa.result import FitResult, best_layer_scores
from versa.stats.intervals import fisher_mean, fisher_z
from versa.stats.splits import SplitHalves

if TYPE_CHECKING:
    import pandas as pd

_PAIRS = 300  # pairs of images of simulated RDMs, at most; more change nothing
_AT_ONCE = 2_000_000  # numbers in one array
_PILOT = 2000  # subjects of the simulated studies that a population is matched by
_ROUNDS = 6  # of matching


class Population(NamedTuple):
    """What simulated studies are drawn from: no network is better in it.

    The true RDM has length 1, and so have the parts of two networks that are orthogonal
    to it and to each other.
    """

    noise: float  # length of a subject's own noise
    leaning: float  # standard deviation over subjects, towards one network's part
    fit: float  # correlation of each network with the true RDM


def calibration(
    results: FitResult | Comparison | Sequence[FitResult],
    *,
    n_studies: int = 2000,
    alpha: float = 0.05,
    family: int | None = None,
    test_train_ratio: float | str = 1.0,
    seed: int = 0,
) -> "pd.DataFrame":
    """False-positive rates of the tests, simulated for this very study.

    For each method and sector, studies are simulated that have the number of subjects
    and half-splits of this one, its noise ceiling, the level of its scores and the
    spread of its subjects, but two networks that are equally good in the population of
    subjects. The share of them in which a test finds a difference is its true error
    rate.

    Parameters
    ----------
    results : FitResult, Comparison or sequence of FitResult
        With several networks the spread is that of the subjects' differences between
        networks, with one network that between its layers.
    n_studies : int, default=2000
        Simulated studies per method and sector, at least 100.
    alpha : float, default=0.05
        Level of significance.
    family : int, optional
        Number of tests of the Bonferroni correction. Default: that of the comparison,
        else the paper's 30.
    test_train_ratio : float or "literal", default=1.0
        n_test / n_train of the corrected variance; of a comparison, its own.
    seed : int, default=0
        Seed of the simulation.

    Returns
    -------
    table : DataFrame
        For each method, sector and level (`alpha` and ``alpha / family``) one row:
        ``method, sector, level``, the rates of rejections of the corrected t-test with
        J - 1 (``rate``) and subjects - 1 (``rate_subjects``) degrees of freedom and of
        the exact sign-flip test over subjects (``rate_signflip``), and what the
        simulation has beside what it was matched to: ``ceiling, ceiling_simulated``,
        ``spread, spread_simulated`` (standard deviation over subjects of a difference
        of Fisher z). NaN where a ceiling or score is undefined or not positive.

    Raises
    ------
    ValueError
        If there are fewer than 3 subjects or 100 studies, a single network with a
        single layer, or results of an older version without scores of the subjects.

    Notes
    -----
    The Monte-Carlo error of a rate p is ``sqrt(p (1 - p) / n_studies)``: .005 for .05.
    Noise of simulated RDMs is independent between pairs of images; that of real ones is
    not, which widens the spread of the subjects' differences, and the simulation is
    matched to it. If subjects differ by less than such noise alone, the simulated
    spread is the larger one. Rates are for new subjects and these images.

    Examples
    --------
    >>> versa.calibration(result)  # doctest: +SKIP
    """
    import pandas as pd

    fits, family, ratio = _asked(results, family, test_train_ratio)
    first = fits[0]
    if len(first.subjects) < 3 or n_studies < 100:
        raise ValueError(
            "calibration needs at least 3 subjects and 100 studies; got "
            f"{len(first.subjects)} and {n_studies}."
        )
    counted = results.halves if isinstance(results, Comparison) else first.halves
    rng = np.random.default_rng(seed)
    rows = []
    for method, sector in itertools.product(first.methods, first.sectors):
        seen = _seen(fits, method, sector)
        found = _Matched(None, np.nan, np.nan)
        if np.isfinite(seen).all() and seen.ceiling > 0 and seen.level > 0:
            found = _matched(seen, first.splits, rng)
        rates = _rates(found.population, first.splits, n_studies, ratio, rng, counted)
        for level in dict.fromkeys((alpha, alpha / family)):
            shares = {name: float(np.mean(p < level)) for name, p in rates.items()}
            rows.append(
                {
                    "method": method,
                    "sector": sector,
                    "level": level,
                    **(shares or dict.fromkeys(_TESTS, np.nan)),
                    "ceiling": seen.ceiling,
                    "ceiling_simulated": found.ceiling,
                    "spread": seen.spread,
                    "spread_simulated": found.spread,
                }
            )
    return pd.DataFrame(rows)


_TESTS = ("rate", "rate_subjects", "rate_signflip")


def _asked(
    results: FitResult | Comparison | Sequence[FitResult],
    family: int | None,
    test_train_ratio: float | str,
) -> tuple[tuple[FitResult, ...], int, float]:
    """The results, the family and the ratio that were asked for."""
    from versa.comparison import PAPER_FAMILY, require_same

    if isinstance(results, Comparison):
        fits, usual = results.results, max(1, results.family)
        ratio = results.test_train_ratio
    else:
        fits = (results,) if isinstance(results, FitResult) else tuple(results)
        require_same(fits)
        usual, ratio = PAPER_FAMILY, fits[0].ratio(test_train_ratio)
    for fit in fits:
        if "subject_scores" not in fit.data:
            raise ValueError(
                "calibration needs the scores of single subjects, which the result of "
                f"{fit.model}, of an older version, does not hold. Fit again."
            )
    if len(fits) == 1 and len(fits[0].layer_names) == 1:
        raise ValueError(
            "calibration needs the differences of the subjects between two networks or "
            "two layers; got one network with one layer. Add a result."
        )
    family = usual if family is None else family
    if family != int(family) or family < 1:
        raise ValueError(f"family must be a whole number of 1 or more; got {family}.")
    return fits, int(family), ratio


class _Seen(NamedTuple):
    """What is known of a study in one sector."""

    ceiling: float
    level: float  # mean score of the networks, r
    spread: float  # standard deviation over subjects of a difference of Fisher z


def _seen(fits: tuple[FitResult, ...], method: str, sector: str) -> _Seen:
    own = [fit.data["subject_scores"].loc[method, sector].values for fit in fits]
    if len(fits) > 1:  # the layer of each network that is chosen most often
        best = [best_layer_scores(fit, method, sector) for fit in fits]
        r = fisher_mean(np.stack([b.r for b in best]))
        own = [x[b.usual] for x, b in zip(own, best, strict=True)]
    else:
        r = fisher_mean(fits[0].scores.loc[method, sector].values, axis=(1, 2)).max()
        own = list(own[0])
    z = fisher_z(np.stack(own))  # (n_networks or layers, n_subjects)
    pairs = np.stack([a - b for a, b in itertools.combinations(z, 2)])
    ceiling = fisher_mean(fits[0].ceiling.sel(sector=sector).values)
    spread = np.sqrt(pairs.var(axis=1, ddof=1).mean())
    return _Seen(float(ceiling), float(r), float(spread))


class _Matched(NamedTuple):
    """A population, and what studies drawn from it look like on average."""

    population: Population | None
    ceiling: float
    spread: float


def _matched(seen: _Seen, splits: SplitHalves, rng: np.random.Generator) -> _Matched:
    """The population whose studies look like the one that was seen."""
    # halves of n subjects correlate by about 1 / (1 + what is their own / n): noise^2,
    # and 2 leaning^2, because the leaning is along the difference of two parts
    sizes = splits.weights.astype(bool).sum(axis=2).mean()
    wanted = 1 / min(seen.ceiling, 0.999) - 1
    own, leaning = sizes * wanted, 0.0
    fit = float(np.clip(seen.level / np.sqrt(seen.ceiling), 0.05, 0.95))

    def population() -> Population:
        return Population(np.sqrt(max(own - 2 * leaning**2, 0.01 * own)), leaning, fit)

    for _ in range(_ROUNDS):
        leaning = max(leaning, 0.1)
        ceiling, spread = _pilot(population(), splits, rng)
        _, still = _pilot(population()._replace(leaning=0.0), splits, rng)
        # the variance of the differences grows about with the square of the leaning
        excess = max(seen.spread**2 - still**2, 0) / max(spread**2 - still**2, 1e-12)
        own *= float(np.clip(wanted / max(1 / ceiling - 1, 1e-6), 0.5, 2.0))
        leaning = min(leaning * float(np.sqrt(min(excess, 9.0))), np.sqrt(own / 2))
    return _Matched(population(), *_pilot(population(), splits, rng))


def _pilot(
    population: Population, splits: SplitHalves, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean noise ceiling and spread of simulated studies."""
    n = max(10, _PILOT // splits.n_subjects)
    brains, networks = _geometry(population, splits.n_subjects, n, rng)
    _, own = _scores(brains, networks, splits)
    gram = brains @ brains.swapaxes(1, 2)
    first, second = splits.weights[:, 0], splits.weights[:, 1]

    def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ((a @ gram) * b).sum(axis=2)

    size = np.sqrt(products(first, first) * products(second, second))
    ceiling = fisher_mean(products(first, second) / size)
    spread = np.sqrt(np.diff(own, axis=2)[..., 0].var(axis=1, ddof=1).mean())
    return float(ceiling), float(spread)


def _geometry(
    population: Population, n_subjects: int, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """RDMs of n studies: brains (n, n_subjects, pairs), networks (n, 2, pairs)."""
    parts = rng.standard_normal((n, _PAIRS, 3))
    parts = np.linalg.qr(parts)[0].swapaxes(1, 2)
    true, a, b = parts[:, :1], parts[:, 1:2], parts[:, 2:]
    leaning = population.leaning * rng.standard_normal((n, n_subjects, 1))
    noise = rng.standard_normal((n, n_subjects, _PAIRS)) / np.sqrt(_PAIRS)
    brains = true + leaning * (a - b) + population.noise * noise
    rest = np.sqrt(1 - population.fit**2)
    networks = [population.fit * true + rest * part for part in (a, b)]
    return brains, np.concatenate(networks, axis=1)


def _scores(
    brains: np.ndarray, networks: np.ndarray, splits: SplitHalves
) -> tuple[np.ndarray, np.ndarray]:
    """Fisher z of both networks: in the halves (n, J, 2), of subjects (n, S, 2)."""
    weights = splits.weights.reshape(-1, splits.n_subjects)
    together = brains @ networks.swapaxes(1, 2)  # (n, n_subjects, 2)
    gram = brains @ brains.swapaxes(1, 2)
    sizes = np.sqrt(((weights @ gram) * weights).sum(axis=2))
    own = together / np.sqrt(np.diagonal(gram, axis1=1, axis2=2))[..., None]
    return fisher_z((weights @ together) / sizes[..., None]), fisher_z(own)


def _rates(
    population: Population | None,
    splits: SplitHalves,
    n_studies: int,
    ratio: float,
    rng: np.random.Generator,
    counted: str = "both",
) -> dict[str, np.ndarray]:
    """The p-values of every test in every study, (n_studies,)."""
    from scipy.stats import t

    if population is None:
        return {}
    n_subjects = splits.n_subjects
    j = splits.n_splits * (2 if counted == "both" else 1)
    step = max(
        1, _AT_ONCE // max(2 * splits.n_splits * n_subjects, n_subjects * _PAIRS)
    )
    signs = _signs(n_subjects, rng)
    found: list[tuple[np.ndarray, ...]] = []
    for start in range(0, n_studies, step):
        n = min(step, n_studies - start)
        brains, networks = _geometry(population, n_subjects, n, rng)
        halves, own = _scores(brains, networks, splits)
        d = halves[..., 0] - halves[..., 1]
        if counted != "both":
            pairs = d.reshape(n, -1, 2)
            d = pairs[..., 0] if counted == "first" else pairs.mean(axis=2)
        statistic = d.mean(axis=1) / np.sqrt((1 / j + ratio) * d.var(axis=1, ddof=1))
        sums = np.abs((own[..., 0] - own[..., 1]) @ signs.T)  # the first is as observed
        flipped = np.mean(sums >= sums[:, :1] * (1 - 1e-12), axis=1)
        tails = [2 * t.sf(np.abs(statistic), df) for df in (j - 1, n_subjects - 1)]
        found.append((*tails, flipped))
    together = map(np.concatenate, zip(*found, strict=True))
    return dict(zip(_TESTS, together, strict=True))


def _signs(n_subjects: int, rng: np.random.Generator) -> np.ndarray:
    """Sign patterns of subjects, all of them up to 12, the observed one first."""
    if n_subjects <= 12:
        bits = np.arange(2 ** (n_subjects - 1))[:, None] >> np.arange(n_subjects)
        return 1.0 - 2.0 * (bits & 1)
    signs = rng.choice([-1.0, 1.0], (4096, n_subjects))
    signs[0] = 1.0
    return signs
