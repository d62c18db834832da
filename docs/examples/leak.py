"""The leave-one-out bias, on brains of noise and features of noise.

Run ``python docs/examples/leak.py``. Nothing relates the features to the brains, so an
honest score is 0, up to its interval.
"""

import numpy as np
import pandas as pd

from versa.fmri.ceilings import half_correlations, noise_ceiling
from versa.fmri.encoding import debias, fold_means, loo_ridge
from versa.fmri.rdm import correlation_rdm
from versa.stats.intervals import corrected_interval, fisher_mean
from versa.stats.splits import split_halves

N_SUBJECTS, N_IMAGES, N_VOXELS, N_UNITS = 10, 72, 200, 1000
METHODS = ("versa", "null", "versa-debiased", "rsa")
SCALES = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)


def leak(scales=SCALES, *, alphas="sklearn", alpha_per_voxel=True, groups=0, seed=0):
    """Scores of random features, multiplied by each of `scales`.

    With `groups` the features of the images are alike in so many groups, as those of
    networks are for images of a kind.

    Returns a table with one row per scale: the mean distance between predicted
    patterns, and for every method r with its 95% interval (subjects - 1 degrees of
    freedom). The ceiling is an attribute of the table.
    """
    rng = np.random.default_rng(seed)
    brains = rng.standard_normal((N_SUBJECTS, N_IMAGES, N_VOXELS))
    features = rng.standard_normal((N_IMAGES, N_UNITS))
    if groups:
        kinds = rng.standard_normal((groups, N_UNITS))
        features = kinds[np.arange(N_IMAGES) % groups] + 0.3 * features
    measured = np.stack([correlation_rdm(y) for y in brains])
    splits = split_halves(N_SUBJECTS)
    rows = []
    for scale in scales:
        x = scale * features
        predicted = [
            loo_ridge(x @ x.T, y, alphas, alpha_per_voxel=alpha_per_voxel).predicted
            for y in brains
        ]
        by_method = {
            "versa": predicted,
            "null": [fold_means(y) for y in brains],
            "versa-debiased": [
                debias(guess, y) for guess, y in zip(predicted, brains, strict=True)
            ],
            "rsa": [x],
        }
        row = {"scale": scale}
        for method, patterns in by_method.items():
            rdms = np.stack([correlation_rdm(pattern) for pattern in patterns])
            scores = half_correlations(rdms, measured, splits)
            row[method], row[f"{method} low"], row[f"{method} high"] = (
                corrected_interval(scores, df=N_SUBJECTS - 1)
            )
            if method == "versa":
                row["distance"] = rdms.mean()
        rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["ceiling"] = float(fisher_mean(noise_ceiling(measured, splits)))
    return table


def readable(table):
    """The table as text, with intervals in brackets."""
    text = {"scale": [f"{scale:g}" for scale in table["scale"]]}
    for method in METHODS:
        columns = [table[f"{method}{end}"] for end in ("", " low", " high")]
        text[method] = [
            f"{r:.2f} [{low:.2f}, {high:.2f}]"
            for r, low, high in zip(*columns, strict=True)
        ]
    text["distance"] = [f"{distance:.1g}" for distance in table["distance"]]
    return pd.DataFrame(text).to_string(index=False)


if __name__ == "__main__":
    print("alphas='sklearn', that is 0.1, 1 and 10 whatever the scale of the features")
    table = leak()
    print(readable(table))
    print("\nalphas='auto', a grid relative to the scale of the features")
    print(readable(leak((1.0, 0.001), alphas="auto")))
    print("\nalphas='auto', one alpha for all voxels of a subject")
    print(readable(leak((1.0, 0.001), alphas="auto", alpha_per_voxel=False)))
    print("\nthe same, of features that are alike in 8 groups of images")
    print(readable(leak((1.0,), alphas="auto", alpha_per_voxel=False, groups=8)))
    print(f"\nnoise ceiling: {table.attrs['ceiling']:.2f}")
