"""loo_ridge against its rivals and against its floor, in one run.

The problem is the paper's: 72 images, a layer of 43,264 units (conv_block_2 of
AlexNet-GN), 1,000 voxels, 9 alphas. Rivals refit every outer fold:

- scikit-learn: ``RidgeCV(alphas, alpha_per_target=True)`` on the raw features;
- himalaya: ``KernelRidgeCV(alphas, kernel="precomputed")`` on the centred Gram matrix
  of the fold; the same problem with ``cv=KFold(71)`` (it refuses LeaveOneOut), and less
  work with its default ``cv=5``.

The floor is what the closed form cannot go below: three products of (N, N) with (N, V)
matrices per alpha, in the same precision, by NumPy with all its threads.

    python benchmarks/solver.py [--folds 8] [--rivals]
"""

import argparse
import time

import numpy as np

from versa.fmri.encoding import AUTO_ALPHAS, loo_ridge, solve

N_IMAGES, N_UNITS, N_VOXELS, N_ALPHAS = 72, 43_264, 1_000, len(AUTO_ALPHAS)


def best_of(function, repeats):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def floor(n_images, n_voxels, n_products, dtype=float):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((n_images, n_images)).astype(dtype)
    voxels = rng.standard_normal((n_images, n_voxels)).astype(dtype)
    out = np.empty_like(voxels)

    def products():
        for _ in range(n_products):
            np.matmul(matrix, voxels, out=out)

    return products


def sklearn_folds(features, voxels, alphas, n_folds):
    from sklearn.linear_model import RidgeCV

    started = time.perf_counter()
    predicted = []
    for i in range(n_folds):
        train = np.arange(len(features)) != i
        model = RidgeCV(alphas, alpha_per_target=True)
        model.fit(features[train], voxels[train])
        predicted.append(model.predict(features[[i]])[0])
    seconds = (time.perf_counter() - started) * len(features) / n_folds
    return seconds, np.array(predicted)


def himalaya_folds(gram, voxels, alphas, cv, n_folds):
    from himalaya.kernel_ridge import KernelRidgeCV

    started = time.perf_counter()
    n = len(gram)
    for i in range(n_folds):
        train = np.arange(n) != i
        kernel = gram[np.ix_(train, train)]
        means = kernel.mean(axis=0)
        centred = kernel - means - means[:, None] + means.mean()
        row = gram[i, train] - gram[i, train].mean() - means + means.mean()
        mean = voxels[train].mean(axis=0)
        model = KernelRidgeCV(alphas=alphas, kernel="precomputed", cv=cv)
        model.fit(centred, voxels[train] - mean)
        model.predict(row[None])
    return (time.perf_counter() - started) * n / n_folds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=8, help="of scikit-learn, of 72")
    parser.add_argument("--rivals", action="store_true", help="minutes, not seconds")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N_IMAGES, N_UNITS))
    voxels = features @ rng.standard_normal((N_UNITS, N_VOXELS)) / np.sqrt(N_UNITS)
    voxels += rng.standard_normal(voxels.shape)
    gram = features @ features.T
    alphas = solve(gram, voxels[:, :1], "auto").grid

    ours = best_of(lambda: loo_ridge(gram, voxels, alphas), 15)
    print(f"loo_ridge, {N_VOXELS} voxels: {ours * 1e3:.1f} ms")
    if options.rivals:
        seconds, expected = sklearn_folds(features, voxels, alphas, options.folds)
        got = loo_ridge(gram, voxels, alphas).predicted[: options.folds]
        worst = np.abs(got - expected).max() / voxels.std()
        print(
            f"scikit-learn nested RidgeCV: {seconds:.1f} s ({options.folds} of "
            f"{N_IMAGES} folds timed), ratio {seconds / ours:,.0f}; "
            f"largest difference {worst:.1e} of the spread"
        )
        from sklearn.model_selection import KFold

        inner = {"KFold(71)": (KFold(N_IMAGES - 1), 6), "5": (5, N_IMAGES)}
        for label, (cv, n_folds) in inner.items():
            seconds = himalaya_folds(gram, voxels, alphas, cv, n_folds)
            print(
                f"himalaya KernelRidgeCV, cv={label}: {seconds:.2f} s ({n_folds} of "
                f"{N_IMAGES} folds timed), ratio {seconds / ours:,.0f}"
            )
    for n_voxels in (1_000, 10_000, 30_000):
        many = rng.standard_normal((N_IMAGES, n_voxels))
        bottom = best_of(floor(N_IMAGES, n_voxels, 3 * N_ALPHAS), 15)
        ours = best_of(lambda many=many: loo_ridge(gram, many, alphas), 15)
        flops = 3 * N_ALPHAS * 2 * N_IMAGES**2 * n_voxels
        print(
            f"{n_voxels:6d} voxels: {ours * 1e3:7.1f} ms, floor {bottom * 1e3:6.1f} ms "
            f"({flops / bottom / 1e9:.0f} GFLOP/s), ratio {ours / bottom:.2f}"
        )


if __name__ == "__main__":
    main()
