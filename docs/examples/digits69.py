"""Voxel by voxel in one subject: 100 handwritten digits in early visual cortex.

Run ``python docs/examples/digits69.py FOLDER``. FOLDER holds

- ``digits69/digits69.npz`` with ``stimuli`` (100, 28, 28) and ``voxels`` (100, 3092);
- ``networks/mobilenetv2_100_imagenet_tflite.safetensors``.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import timm
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import false_discovery_control

import versa
from versa import Preprocess
from versa.fmri.encoding import debias, loo_ridge
from versa.models import extract_grams

# layers of the network, fixed before looking: early, middle, late
LAYERS = ("blocks.0", "blocks.3", "blocks.6")
PREPROCESS = Preprocess(
    224, 224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic"
)


def digits(folder):
    """The images (100, 28, 28) in 0..255, and the responses (100, 3092)."""
    file = np.load(Path(folder, "digits69", "digits69.npz"))
    return file["stimuli"], file["voxels"].astype(float)


def pixel_gram(images):
    """Inner products of images, over the pixels that vary."""
    pixels = images.reshape(len(images), -1) / 255
    pixels = pixels[:, np.ptp(pixels, axis=0) > 0]
    return pixels @ pixels.T


def network_grams(folder, images, layers=LAYERS):
    """Inner products of the images' features in layers of MobileNetV2."""
    network = timm.create_model("mobilenetv2_100", pad_type="same")
    weights = "mobilenetv2_100_imagenet_tflite.safetensors"
    network.load_state_dict(load_file(Path(folder, "networks", weights)))
    model = versa.load_model(network, preprocess=PREPROCESS, name="mobilenetv2")
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_images(images, scratch)
        grams = extract_grams(model, paths, layers)
    return {f"mobilenetv2 {layer}": gram.gram for layer, gram in grams.items()}


def write_images(images, folder):
    """Gray images as RGB files."""
    paths = [Path(folder, f"digit-{k:03d}.png") for k in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).convert("RGB").save(path)
    return paths


def correlations(predicted, responses):
    """Pearson r of every voxel, (n_voxels,)."""
    a = predicted - predicted.mean(axis=0)
    b = responses - responses.mean(axis=0)
    return np.sum(a * b, axis=0) / np.sqrt(
        np.sum(a * a, axis=0) * np.sum(b * b, axis=0)
    )


def permutation_p(gram, responses, alphas, n_permutations, seed=0):
    """One-sided p of every voxel: how often do shuffled images predict it as well?

    Images and responses are paired anew and everything is done again, the choice of
    alpha included. A table of Pearson's r would be wrong: leave-one-out predictions of
    an intercept-only encoder correlate negatively with the data.
    """
    rng = np.random.default_rng(seed)
    found = correlations(loo_ridge(gram, responses, alphas).predicted, responses)
    as_good = np.ones(len(found))
    chance = []
    for _ in range(n_permutations):
        shuffled = responses[rng.permutation(len(responses))]
        r = correlations(loo_ridge(gram, shuffled, alphas).predicted, shuffled)
        as_good += r >= found
        chance.append(np.median(r))
    return as_good / (n_permutations + 1), float(np.mean(chance))


def summary(name, gram, responses, alphas, n_permutations):
    """One row of the table."""
    predicted = loo_ridge(gram, responses, alphas).predicted
    r = correlations(predicted, responses)
    p, chance = permutation_p(gram, responses, alphas, n_permutations)
    return {
        "features": name,
        "alphas": alphas if isinstance(alphas, str) else alphas[0],
        "median": np.median(r),
        "p95": np.percentile(r, 95),
        "max": r.max(),
        "median, one mean": np.median(
            correlations(debias(predicted, responses), responses)
        ),
        "median by chance": chance,
        "above chance": np.mean(false_discovery_control(p) < 0.05),
    }


def one_subject(folder):
    """Encoding scores by versa.fit, which says what is absent with one subject."""
    images, voxels = digits(folder)
    with tempfile.TemporaryDirectory() as scratch:
        brain = versa.BrainDataset(
            name="digits69",
            stimuli=versa.StimulusSet.from_paths(write_images(images, scratch)),
            subjects=["01"],
            responses={"V1-V3": [voxels]},
        )
        layers = ["conv_block_1", "conv_block_3", "fc6"]
        result = versa.fit("alexnet_gn_untrained", layers, brain, voxel_scores=True)
    return result.encoding()


def main(folder, n_permutations=499):
    """Print both tables."""
    images, voxels = digits(folder)
    pixels = pixel_gram(images)
    rows = [
        summary("pixels", pixels, voxels, [10.0], n_permutations),
        summary("pixels", pixels, voxels, "auto", n_permutations),
    ]
    for name, gram in network_grams(folder, images).items():
        rows.append(summary(name, gram, voxels, "auto", n_permutations))
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))
    columns = ["sector", "layer", "n_voxels", "median_r", "median_r2"]
    table = one_subject(folder)[columns]
    print(f"\nversa.fit\n{table.to_string(index=False, float_format='{:.3f}'.format)}")


if __name__ == "__main__":
    main(sys.argv[1])
