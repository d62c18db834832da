"""How often the corrected t-test rejects when nothing is there to find.

Two networks that are equally good in the population of subjects (see
`simulated_studies.py`) are scored in both halves of every half-split, and the corrected
test is run with the paper's J - 1 degrees of freedom and with subjects - 1, at .05 and
at the paper's Bonferroni level of .05 / 30; besides, with one half of each split or the
mean of both, with n_test / n_train = 0, and the exact sign-flip test over subjects.

Where a score is a mean over the subjects of a half, the corrected t over all
half-splits is the paired t over subjects times a known factor: then the last lines are
what J - 1 must give. Correlations of mean RDMs are only nearly so.

    python benchmarks/false_positives.py [--studies 20000] [--quick]
"""

import argparse

import numpy as np
from scipy import stats
from simulated_studies import POPULATIONS, ceiling, check, corrected, gathered

from versa.stats.signflips import signflip_test
from versa.stats.splits import split_halves

LEVELS = (0.05, 0.05 / 30)
FLIPPED = 2000  # studies with the exact test


def rejections(z, df, level, ratio=1.0):
    """Share of studies with p < level."""
    mean, error = corrected(z, ratio)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(2 * stats.t.sf(np.abs(mean / error), df) < level))


def linear(n_subjects, level):
    """What J - 1 gives where scores are means over the subjects of a half."""
    splits = split_halves(n_subjects)
    j = 2 * splits.n_splits
    factor = np.sqrt(splits.test_train_ratio * (j + 1) / (j - 1))
    critical = stats.t.isf(level / 2, j - 1)
    return 2 * stats.t.sf(factor * critical, n_subjects - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="1,000 studies a row")
    options = parser.parse_args()
    n_studies = 1000 if options.quick else options.studies
    check()
    heads = ["J - 1", "S - 1", "J-1 /30", "S-1 /30", "first", "mean", "ratio 0", "flip"]
    print(f"{'subjects':30s}   S  ceiling " + " ".join(f"{h:>8s}" for h in heads))
    for population in POPULATIONS:
        for n_subjects in (7, 10):
            rng = np.random.default_rng(n_subjects)
            top = ceiling(population, n_subjects, rng)
            found = gathered(population, n_subjects, n_studies, rng)
            n_splits = found.halves.shape[1]
            both = found.halves.reshape(n_studies, -1, 2)
            dfs = (2 * n_splits - 1, n_subjects - 1)
            cells = [rejections(both, df, level) for level in LEVELS for df in dfs]
            one, mean = found.halves[:, :, 0], found.halves.mean(axis=2)
            cells += [rejections(x, n_splits - 1, 0.05) for x in (one, mean)]
            cells.append(rejections(both, 2 * n_splits - 1, 0.05, ratio=0))
            own = np.diff(found.subjects[:FLIPPED])[..., 0]
            cells.append(np.mean([signflip_test(d) < 0.05 for d in own]))
            shown = " ".join(f"{cell:8.4f}" for cell in cells)
            print(
                f"{population.name:30s}  {n_subjects:2d}  {top:.2f}    {shown}",
                flush=True,
            )
    print("\nJ - 1 where scores are linear in the subjects")
    for n_subjects in (7, 10):
        shown = ", ".join(f"{linear(n_subjects, lv):.4f} at {lv:.4f}" for lv in LEVELS)
        print(f"S = {n_subjects}: {shown}")


if __name__ == "__main__":
    main()
