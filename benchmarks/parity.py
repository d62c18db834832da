"""How good the tests of parity are: equivalence, intervals, detectable differences.

Two networks whose true difference of r is known (see `simulated_studies.py`), scored in
both halves of every half-split, and compared as `versa.compare(..., equivalence=)`
compares them, with subjects - 1 degrees of freedom. The true difference is the mean
over studies, in Fisher z, and in r around the mean z of both.

    python benchmarks/parity.py [--studies 4000] [--quick]
"""

import argparse
import time

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from simulated_studies import (
    POPULATIONS,
    both_networks,
    check,
    corrected,
    geometry,
    studies,
)

from versa.stats.intervals import fisher_z
from versa.stats.parity import (
    bayes_factor,
    difference_of_r,
    difference_of_z,
    equivalence_test,
)
from versa.stats.power import detectable_effect
from versa.stats.splits import split_halves

MARGINS = (0.05, 0.10)
SUBJECTS = (7, 10, 15)
TUNING = 4000  # studies that say what a true difference is
MOST_SPLITS = 300  # of the 6,435 of 15 subjects some are drawn


def share_for(population, n_subjects, difference):
    """Share of the true RDM that makes the second network worse by this r."""
    if difference == 0:
        return 1.0
    rng = np.random.default_rng(0)
    brains, parts = geometry(population, n_subjects, TUNING, rng)
    halves = split_halves(n_subjects).weights[0] @ brains
    halves /= np.linalg.norm(halves, axis=2, keepdims=True)

    def mean_z(share):
        return fisher_z(halves @ both_networks(parts, share).swapaxes(1, 2)).mean(
            axis=(0, 1)
        )

    equal = mean_z(1.0)

    def missing(share):
        # against an equal second network with the same brains: less is left to chance
        shift = equal[1] - mean_z(share)[1]
        return difference_of_r(shift, equal.mean() - shift / 2) - difference

    return brentq(missing, -1.0, 1.0, xtol=1e-3)


def measured(population, n_subjects, n_studies, share, rng):
    """Mean difference of z, its error and the mean z, of every study."""
    pieces = []
    splits = split_halves(n_subjects, n_splits=MOST_SPLITS)
    for some in studies(
        population, n_subjects, n_studies, rng, share=share, splits=splits
    ):
        z = some.halves.reshape(len(some.halves), -1, 2)
        pieces.append([*corrected(z), z.mean(axis=(1, 2))])
    return np.concatenate(pieces, axis=1)


def equivalent(found, n_subjects, margin):
    """Whether each study says that the networks are on par."""
    mean, error, level = found
    limit = difference_of_z(margin, level)
    return equivalence_test(mean, error, n_subjects - 1, limit).pvalue < 0.05


def report(population, n_subjects, n_studies):
    """Print all rates of one population and number of subjects."""
    rng = np.random.default_rng(n_subjects)
    df = n_subjects - 1
    null = measured(population, n_subjects, n_studies, 1.0, rng)
    mean, error, level = null
    detected = difference_of_r(
        detectable_effect(n_subjects) * error * n_subjects**0.5, level
    )
    factors = bayes_factor(mean / error, n_subjects)
    cells = [f"{np.median(detected):.3f}"]
    for margin in MARGINS:
        share = share_for(population, n_subjects, margin)
        at_margin = measured(population, n_subjects, n_studies, share, rng)
        truth = difference_of_z(margin, at_margin[2].mean())
        reach = stats.t.ppf(0.975, df) * at_margin[1]
        cells += [
            f"{np.mean(equivalent(at_margin, n_subjects, margin)):.4f}",
            f"{np.mean(equivalent(null, n_subjects, margin)):.3f}",
            f"{np.mean(np.abs(at_margin[0] - truth) < reach):.3f}",
        ]
    share = share_for(population, n_subjects, float(np.median(detected)))
    mean, error, _ = measured(population, n_subjects, n_studies, share, rng)
    cells.append(f"{np.mean(np.abs(mean / error) > stats.t.ppf(0.975, df)):.3f}")
    cells += [f"{np.mean(factors > 3):.3f}", f"{np.mean(factors < 1 / 3):.3f}"]
    shown = " ".join(f"{cell:>8s}" for cell in cells)
    print(f"{population.name:30s}  {n_subjects:2d} {shown}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="300 studies a row")
    options = parser.parse_args()
    n_studies = 300 if options.quick else options.studies
    check()
    print(
        f"For margins of {MARGINS}: TOST at a true difference equal to the margin, at "
        "0\n(power), and coverage of the 95% interval. detect: median detectable "
        "difference\nat .05; at det.: power where it is true. BF10 above 3 and below "
        "1/3 at 0."
    )
    heads = ["detect", *["TOST", "power", "cover"] * 2, "at det.", "BF>3", "BF<1/3"]
    print(f"{'subjects':30s}   S " + " ".join(f"{head:>8s}" for head in heads))
    started = time.perf_counter()
    for population in POPULATIONS:
        for n_subjects in SUBJECTS:
            report(population, n_subjects, n_studies)
    print(f"{n_studies} studies a rate, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
