"""How often the corrected t-test rejects when nothing is there to find.

Two models that are equally good: their RDMs are the true one plus parts a and b, which
are orthogonal to it, to each other and of equal size. Every subject's RDM is the true
one, leaning towards a or b by a random amount of mean zero, plus noise of its own. So
in the population of subjects neither model is better. Both are scored in both halves of
every half-split, and the corrected test is run with the paper's J - 1 degrees of
freedom and with subjects - 1, at .05 and at the paper's Bonferroni level of .05 / 30.

Where a score is a mean over the subjects of a half, the corrected test over all
half-splits is the paired t-test over subjects: then subjects - 1 is exact, and the last
column is what J - 1 must give. Correlations of mean RDMs are only nearly so.

    python benchmarks/false_positives.py [--studies 20000]
"""

import argparse

import numpy as np
from scipy import stats

from versa.fmri.ceilings import half_correlations
from versa.stats.intervals import fisher_z
from versa.stats.splits import split_halves
from versa.stats.ttests import corrected_paired_ttest


def studies(n_subjects, n_studies, seed):
    """Statistic and number of split evaluations of every simulated study."""
    rng = np.random.default_rng(seed)
    splits = split_halves(n_subjects)
    n_pairs = 300
    for _ in range(n_studies):
        parts = rng.standard_normal((n_pairs, 3))
        parts -= parts.mean(axis=0)
        true, a, b = np.linalg.qr(parts)[0].T * np.sqrt(n_pairs)
        leaning = rng.standard_normal((n_subjects, 1))
        noise = rng.standard_normal((n_subjects, n_pairs))
        brain = true + 0.3 * leaning * (a - b) + noise
        scores = [
            fisher_z(half_correlations((true + x)[None], brain, splits)) for x in (a, b)
        ]
        yield corrected_paired_ttest(*scores).statistic, scores[0].size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000)
    n_studies = parser.parse_args().studies
    print("subjects  level    J - 1            subjects - 1     J - 1, linear scores")
    for n_subjects in (7, 10):
        t, sizes = map(np.array, zip(*studies(n_subjects, n_studies, 0), strict=True))
        for level in (0.05, 0.05 / 30):
            cells = []
            for df in (sizes[0] - 1, n_subjects - 1):
                rate = np.mean(2 * stats.t.sf(np.abs(t), df) < level)
                cells.append(f"{rate:.5f} ({rate / level:.2f} x)")
            critical = stats.t.isf(level / 2, sizes[0] - 1)
            exact = 2 * stats.t.sf(critical, n_subjects - 1)
            cells.append(f"{exact:.5f} ({exact / level:.2f} x)")
            print(
                f"{n_subjects:8d}  {level:.5f}  " + " ".join(f"{c:16s}" for c in cells)
            )


if __name__ == "__main__":
    main()
