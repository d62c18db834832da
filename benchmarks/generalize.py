"""How often two networks that are equally good over images are told apart.

Images are points of a population with three kinds of features. Brains hold all three,
network A the first and the second, network B the first and the third. The second and
third kind are exchangeable, so over the population of images neither network is better;
but for any few images one of them is. Every study draws new images and new subjects,
who lean towards the second or the third kind by a random amount. The tests: the
corrected one of S - 1 degrees of freedom (new subjects, these images), and those of
``generalize="images"`` and ``"both"``, by the functions that ``versa.compare`` uses.

``sd`` is the spread of the difference over studies, which a standard error should be.

    python benchmarks/generalize.py [--studies 400] [--quick] [--rivals] [--fit]

``--rivals`` compares variances of fixed models with rsatoolbox's dual bootstrap on the
same data; ``--fit`` times the bootstrap of AlexNet-GN.
"""

import argparse
import time

import numpy as np

from versa.fmri.rdm import correlation_rdm
from versa.fmri.rsa import encoded_rdms, encoding_target
from versa.fmri.similarity import as_vectors, half_scores
from versa.stats.bootstrap import draw_samples, resample, spread
from versa.stats.intervals import fisher_z
from versa.stats.splits import split_halves
from versa.stats.ttests import corrected_paired_ttest

N_FEATURES = 4  # of each kind
N_VOXELS = 60
TESTS = ("subjects", "images", "both")


def study(rng, n_subjects, n_images, noise, lean):
    """Features of both networks and responses of all subjects."""
    kinds = rng.standard_normal((3, n_images, N_FEATURES))
    networks = [np.hstack([kinds[0], kinds[k]]) for k in (1, 2)]
    responses = []
    for towards in lean * rng.standard_normal(n_subjects):
        seen = np.hstack(
            [kinds[0], np.exp(towards) * kinds[1], np.exp(-towards) * kinds[2]]
        )
        signal = seen @ rng.standard_normal((seen.shape[1], N_VOXELS))
        signal /= signal.std()
        responses.append(signal + noise * rng.standard_normal(signal.shape))
    return networks, responses


def classic(features, rng):
    """RDM of a network of many units that hold the features."""
    return correlation_rdm(features @ rng.standard_normal((features.shape[1], 300)))


def p_values(networks, responses, method, splits, draws, rng):
    """p of every test, the difference in Fisher z, and its standard errors."""
    brain = np.stack([correlation_rdm(voxels) for voxels in responses])
    if method == "rsa":
        models = [classic(features, rng)[None] for features in networks]
    else:
        target = encoding_target(responses)
        models = [encoded_rdms(x @ x.T, target).debiased for x in networks]
    z = [fisher_z(half_scores(m, brain, splits, "pearson")) for m in models]
    usual = corrected_paired_ttest(*z, df=splits.n_subjects - 1)
    samples = resample(
        [as_vectors(model) for model in models], as_vectors(brain), splits, draws
    ).layers
    found, errors = [usual.p], [usual.standard_error]
    for population in TESTS[1:]:
        wider = spread(samples[..., 0] - samples[..., 1], population, draws)
        found.append(wider.pvalue(usual.difference))
        errors.append(wider.error)
    of_subjects = spread(samples[..., 0] - samples[..., 1], "subjects", draws)
    return found, usual.difference, [*errors, of_subjects.error]


def rates(n_studies, cells, seed):
    print(f"rejections at .05 of {n_studies} studies, and standard errors over sd")
    print(
        "method          S   N  noise  lean | subjects  images    both |"
        "  sd    | S-1   images both  (bootstrap of subjects)"
    )
    for method, n_subjects, n_images, noise, lean in cells:
        rng = np.random.default_rng(seed)
        splits = split_halves(n_subjects)
        p, differences, errors = [], [], []
        for number in range(n_studies):
            draws = draw_samples(n_subjects, n_images, n_samples=300, seed=number)
            drawn = study(rng, n_subjects, n_images, noise, lean)
            found = p_values(*drawn, method, splits, draws, rng)
            for values, value in zip((p, differences, errors), found, strict=True):
                values.append(value)
        shares = " ".join(f"{x:8.3f}" for x in np.mean(np.array(p) < 0.05, axis=0))
        sd = np.std(differences)
        roots = np.sqrt(np.mean(np.square(errors), axis=0)) / sd
        print(
            f"{method:14s} {n_subjects:2d} {n_images:3d}  {noise:5.2f} {lean:5.2f} |"
            f" {shares} | {sd:.4f} | " + " ".join(f"{x:5.2f}" for x in roots),
            flush=True,
        )


def rivals(seed, n_samples=1000):
    """Variances of fixed models beside rsatoolbox's, each with its own samples."""
    from rsatoolbox.inference import eval_dual_bootstrap
    from rsatoolbox.model import ModelFixed

    from versa.fmri.rdm import to_rsatoolbox
    from versa.stats import bootstrap
    from versa.stats.halves import half_scores as scores_of_halves

    rng = np.random.default_rng(seed)
    networks, responses = study(rng, 10, 40, 1.0, 0.3)
    brain = np.stack([correlation_rdm(voxels) for voxels in responses])
    models = [classic(x, rng) for x in (*networks, np.hstack(networks))]
    data = to_rsatoolbox(brain, [f"{i:02d}" for i in range(40)])
    np.random.seed(seed)  # noqa: NPY002 - rsatoolbox draws with it
    start = time.perf_counter()
    theirs = eval_dual_bootstrap(
        [ModelFixed(str(k), model) for k, model in enumerate(models)],
        data, method="corr", N=n_samples, use_correction=False,
    )  # fmt: skip
    middle = time.perf_counter()
    draws = draw_samples(10, 40, n_samples=n_samples, seed=seed + 1)
    alone = np.eye(10)  # the score of rsatoolbox: mean r over single subjects
    kept = bootstrap.fisher_z, bootstrap.half_scores
    bootstrap.fisher_z = np.asarray
    bootstrap.half_scores = lambda inner, _: scores_of_halves(inner, alone)
    mine = resample(
        [as_vectors(model[None]) for model in models], as_vectors(brain),
        split_halves(10), draws,
    ).layers  # fmt: skip
    bootstrap.fisher_z, bootstrap.half_scores = kept
    end = time.perf_counter()
    ratios = [
        (spread(mine[..., k], "both", draws).error ** 2) / theirs.model_var[k]
        for k in range(3)
    ]
    for (a, b), variance in zip(((0, 1), (0, 2), (1, 2)), theirs.diff_var, strict=True):
        off = spread(mine[..., a] - mine[..., b], "both", draws)
        ratios.append(off.error**2 / variance)
    print(
        f"\nvariances over rsatoolbox's, {n_samples} samples each (3 models, 3 pairs):"
    )
    print(" ".join(f"{x:.3f}" for x in ratios))
    print(f"two of its runs differ by about {2 / np.sqrt(n_samples):.3f} (one sd)")
    print(f"{middle - start:.1f} s and {end - middle:.2f} s")


def fit():
    """The bootstrap of one AlexNet-GN: 9 layers, 3 methods, 3 sectors."""
    import versa

    result = versa.fit(
        "alexnet_gn_untrained", dataset="simulated-orientation", progress=False
    )
    for population in ("both", "images"):
        start = time.perf_counter()
        result.layers(generalize=population)
        result.best(generalize=population)
        taken = time.perf_counter() - start
        print(f"\n{population}: layers and best layers in {taken:.1f} s", end="")
    print(" (from memory)")


SIZES = ((7, 40), (10, 72))
CELLS = [
    *[(method, *SIZES[0], 1.0, 0.05) for method in ("rsa", "versa-debiased")],
    *[(method, *SIZES[1], 1.0, 0.05) for method in ("rsa", "versa-debiased")],
    *[(method, *SIZES[0], 1.0, 0.0) for method in ("rsa", "versa-debiased")],
    *[(method, *SIZES[0], 4.0, 0.2) for method in ("rsa", "versa-debiased")],
    *[(method, *SIZES[0], 1.0, 0.2) for method in ("rsa", "versa-debiased")],
    *[(method, *SIZES[1], 1.0, 0.2) for method in ("rsa", "versa-debiased")],
]
"""Method, subjects, images, noise, and how much subjects differ: .05 is about as much
as real ones do, .2 far more."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="60 studies, two cells")
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    if options.rivals:
        rivals(options.seed)
    if options.fit:
        fit()
    if options.quick:
        rates(60, CELLS[:2], options.seed)
    elif not (options.rivals or options.fit):
        rates(options.studies, CELLS, options.seed)


if __name__ == "__main__":
    main()
