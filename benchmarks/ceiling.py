"""How often the interval of the noise ceiling holds the ceiling of the population.

Every study draws S subjects from a population; the images stay. The true value is the
mean Fisher z of the ceiling over all studies of S subjects of that population. Beside
the jackknife's interval is the one of the corrected formula over the splits, which was
used before. The share r^2 / ceiling^2 of a model that is the true RDM plus an error of
its own is checked likewise, in the studies in which it is given: against that of the
means of r and ceiling. Of more than 10 subjects there are 1000 studies at most.

    python benchmarks/ceiling.py [--studies 2000] [--quick]
"""

import argparse

import numpy as np
from scipy import stats

from versa.fmri.similarity import as_vectors, half_scores
from versa.stats.halves import half_ceilings, inner_products
from versa.stats.intervals import fisher_z
from versa.stats.jackknife import best_z_without, ceiling_z_without, jackknife_error
from versa.stats.splits import split_halves

N_PAIRS = 780  # of 40 images


def population(seed):
    """The RDM that all share, two ways in which subjects differ, and a model."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4, N_PAIRS))


def study(rng, parts, n_subjects, noise, differ):
    """RDMs of subjects; `differ` says how much they differ beyond noise."""
    true, *ways, _ = parts
    weights = differ * rng.standard_normal((n_subjects, 2))
    levels = np.exp(0.3 * (differ > 0) * rng.standard_normal((n_subjects, 1)))
    return (
        true
        + weights @ ways
        + noise * levels * rng.standard_normal((n_subjects, N_PAIRS))
    )


def cell(n_studies, n_subjects, noise, differ, seed):
    """Coverage of three intervals, and how wide they are for the true spread."""
    rng, parts = np.random.default_rng(seed), population(seed)
    splits, reach = split_halves(n_subjects), stats.t.ppf(0.975, n_subjects - 1)
    model = (parts[0] + parts[3])[None]
    found = []
    for _ in range(n_studies):
        rdms = study(rng, parts, n_subjects, noise, differ)
        brain = as_vectors(rdms)
        inner = brain @ brain.T
        z = fisher_z(half_ceilings(inner, splits))
        without = ceiling_z_without(inner, splits)
        score = fisher_z(half_scores(model, rdms, splits, "pearson")).mean()
        scores, _ = best_z_without([inner_products(as_vectors(model), brain)], splits)
        share = np.tanh(score) / np.tanh(z.mean())
        off_share = jackknife_error(np.tanh(scores[0]) / np.tanh(without))
        before = np.sqrt((1 + 1 / z.size) * z.var(ddof=1))
        error = jackknife_error(without)
        found.append((z.mean(), score, share, error, before, off_share))
    ceilings, scores, shares, *errors = np.array(found).T
    truth = np.mean(ceilings)
    true_share = np.tanh(np.mean(scores)) / np.tanh(truth)
    given = ceilings > reach * errors[0]  # else no share is printed
    numbers = [np.tanh(truth)]
    for values, spreads, true in (
        (ceilings, errors[0], truth),
        (ceilings, errors[1], truth),
        (shares[given], errors[2][given], true_share),
    ):
        held = np.abs(values - true) <= reach * spreads
        numbers += [held.mean(), np.sqrt(np.mean(spreads**2)) / np.std(values)]
    return [*numbers, given.mean()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="200 studies, 3 and 7")
    options = parser.parse_args()
    n_studies = 200 if options.quick else options.studies
    sizes = (3, 7) if options.quick else (3, 4, 5, 6, 7, 10, 15)
    print(f"{n_studies} studies; coverage of 95% intervals, standard error over sd")
    print(
        "subjects noise          | ceiling | jackknife   | corrected   | share       "
        "| given"
    )
    for label, noise, differ in (
        ("clean", 0.6, 0.0),
        ("noisy", 3.0, 0.0),
        ("clean, differ", 0.6, 0.5),
        ("noisy, differ", 3.0, 0.5),
    ):
        for n_subjects in sizes:
            n = min(n_studies, 1000) if n_subjects > 10 else n_studies
            found = cell(n, n_subjects, noise, differ, options.seed)
            columns = " | ".join(
                f"{found[k]:.3f} {found[k + 1]:5.2f}" for k in (1, 3, 5)
            )
            print(
                f"{n_subjects:8d} {label:14s} | {found[0]:7.3f} | {columns} | "
                f"{found[7]:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
