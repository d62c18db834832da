"""What permutations of the images find in networks unrelated to a brain.

Each study has 7 subjects, whose voxels share the geometry of 40 images that come in 8
groups, with noise of their own, and a network of 9 layers whose features come in 8
groups of images, too, but in other ones: they are drawn apart from the brain. So every
layer that is found is found by mistake. Counted are p of the permutations for each
layer, for the best layer (chosen in one half of the subjects, scored in the other) and
for the highest of the 9 (p against the highest), and beside them how often the printed
95% interval with subjects - 1 degrees of freedom is above 0: it is about other
subjects and these images.

The second part times permutations of AlexNet-GN against the solver alone.

    python benchmarks/permutation.py [--studies 400] [--permutations 59] [--quick]
    python benchmarks/permutation.py --cost [--permutations 1000]
"""

import argparse
import functools
import multiprocessing
import os
import tempfile
import time

import numpy as np

import versa.parallel
from versa.fmri.ceilings import half_correlations, noise_ceiling
from versa.fmri.permutation import (
    Yardstick,
    classic_permuted,
    encoded_permuted,
    image_orders,
    permuted_scores,
)
from versa.fmri.rdm import correlation_rdm
from versa.fmri.rsa import encoded_rdms, encoding_target
from versa.stats.intervals import corrected_interval, fisher_mean, fisher_z
from versa.stats.permutation import permutation_test
from versa.stats.selection import cv_max_layer
from versa.stats.splits import split_halves

METHODS = ("versa", "versa-debiased", "rsa")
N_IMAGES, N_SUBJECTS, N_LAYERS, N_VOXELS, N_UNITS, N_GROUPS = 40, 7, 9, 40, 200, 8
LEVEL = 0.05


def grouped(rng, n_columns, share):
    """Values of images in groups that are drawn anew; a share of the variance is
    between groups."""
    groups = rng.permutation(np.arange(N_IMAGES) % N_GROUPS)
    between = rng.standard_normal((N_GROUPS, n_columns))[groups]
    within = rng.standard_normal((N_IMAGES, n_columns))
    return np.sqrt(share) * between + np.sqrt(1 - share) * within


def network(rng):
    """Features of every layer: groups become clearer, neighbours are alike."""
    clear = grouped(rng, N_UNITS, 0.9)
    layers, layer = [], grouped(rng, N_UNITS, 0.1)
    for depth in np.linspace(0.1, 0.9, N_LAYERS):
        new = rng.standard_normal((N_IMAGES, N_UNITS))
        layer = 0.8 * layer + 0.6 * new
        layers.append(depth * clear + (1 - depth) * layer)
    return layers


def brains(rng):
    """Responses of every subject: weights of their own on a shared geometry."""
    shared = grouped(rng, 6, 0.7)
    return [
        shared @ rng.standard_normal((6, N_VOXELS))
        + 2.5 * rng.standard_normal((N_IMAGES, N_VOXELS))
        for _ in range(N_SUBJECTS)
    ]


def study(seed, n_permutations):
    """Rejections (n_methods, n_columns) and the ceiling of one study."""
    rng = np.random.default_rng([15, seed])
    layers, responses = network(rng), brains(rng)
    measured = np.stack([correlation_rdm(voxels) for voxels in responses])
    splits = split_halves(N_SUBJECTS)
    yardstick, target = Yardstick(measured, splits), encoding_target(responses)
    orders = image_orders(N_IMAGES, n_permutations)
    kept, scores = ({method: [] for method in METHODS} for _ in range(2))
    for x in layers:
        rdms = encoded_rdms(x @ x.T, target)
        models = (rdms.versa, rdms.debiased, correlation_rdm(x)[None])
        found = encoded_permuted(x @ x.T, target, yardstick, orders)
        found["rsa"] = classic_permuted(models[2][0], yardstick, orders)
        for method, model in zip(METHODS, models, strict=True):
            kept[method].append(found[method])
            scores[method].append(half_correlations(model, measured, splits))
    rows = []
    for method in METHODS:
        r = np.stack(scores[method])
        null = permuted_scores(kept[method], yardstick)
        test = permutation_test(fisher_z(r).mean(axis=(1, 2)), null.layers)
        chosen = fisher_z(cv_max_layer(r).r).mean()
        best = permutation_test([chosen], null.best[None])
        ends = np.array([corrected_interval(one, df=N_SUBJECTS - 1)[1:] for one in r])
        above, excludes = ends[:, 0] > 0, (ends[:, 0] > 0) | (ends[:, 1] < 0)
        found = [np.mean(test.p <= LEVEL), best.p[0] <= LEVEL, min(test.p_max) <= LEVEL]
        rows.append([*found, above.mean(), excludes.mean(), test.chance.mean()])
    return np.array(rows, dtype=float), fisher_mean(noise_ceiling(measured, splits))


def one_thread():
    """Studies run side by side, each on one core."""
    versa.parallel.n_cores = lambda: 1
    os.nice(5)


def rates(n_studies, n_permutations):
    started = time.perf_counter()
    with multiprocessing.Pool(versa.parallel.n_cores(), one_thread) as pool:
        run = functools.partial(study, n_permutations=n_permutations)
        done = pool.map(run, range(n_studies), chunksize=1)
    found = np.stack([rows for rows, _ in done])
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(n_studies)
    ceiling = np.mean([ceiling for _, ceiling in done])
    seconds = time.perf_counter() - started
    print(
        f"{n_studies} studies, {n_permutations} permutations, level {LEVEL}; mean "
        f"ceiling r = {ceiling:.2f}; {seconds:.0f} s; in brackets: Monte-Carlo error\n"
    )
    heads = ["p of a layer", "p of the best", "p of highest", "S-1 above 0"]
    print(f"{'method':15s}", *(f"{head:>15s}" for head in [*heads, "S-1 without 0"]))
    for method, row, errors in zip(METHODS, mean, error, strict=True):
        cells = (f"{m:.3f} ({e:.3f})" for m, e in zip(row[:5], errors, strict=False))
        print(f"{method:15s}", *(f"{cell:>15s}" for cell in cells), end="")
        print(f"   chance z = {row[5]:+.3f}")


def timed(function):
    """Wall and processor seconds of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def cost(n_permutations):
    """Permutations of AlexNet-GN, all layers and sectors, against the solver alone."""
    import versa
    from versa.fmri.encoding import solve
    from versa.models.features import extract_grams
    from versa.models.zoo.loading import load_model

    brain = versa.load_dataset("simulated-orientation")
    model = load_model("alexnet_gn_untrained")
    grams = extract_grams(model, brain.stimuli.paths, list(model.layers))
    targets = [encoding_target(voxels) for voxels in brain.responses.values()]

    def alone():
        for gram in grams.values():
            for target in targets:
                solve(gram.gram, target.responses)

    def fit(m):
        versa.fit(model, dataset=brain, permutations=m, cache=folder, progress=False)

    alone()
    with tempfile.TemporaryDirectory() as folder:
        fit(0)
        floor = [timed(alone) for _ in range(5)]
        plain = timed(lambda: fit(0))
        whole = timed(lambda: fit(n_permutations)) - plain
        floor += [timed(alone) for _ in range(5)]
        again = timed(lambda: fit(n_permutations))
    floor = n_permutations * np.median(floor, axis=0)
    print(f"{n_permutations} permutations, {len(grams)} layers, {len(targets)} sectors")
    for name, seconds in (("solver alone", floor), ("permutations", whole)):
        print(f"{name}: {seconds[0]:.0f} s, {seconds[1]:.0f} s of processor time")
    print(f"ratio {whole[0] / floor[0]:.2f}, {whole[1] / floor[1]:.2f} of processor")
    print(f"again from the cache: {again[0]:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--permutations", type=int)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--quick", action="store_true", help="small numbers")
    options = parser.parse_args()
    if options.cost:
        cost(options.permutations or (20 if options.quick else 1000))
    else:
        n_studies = 20 if options.quick else options.studies
        rates(n_studies, options.permutations or (19 if options.quick else 59))


if __name__ == "__main__":
    main()
