"""A real network against real brains: 92 photographs, human IT and early cortex.

Run ``python docs/examples/images92.py FOLDER [OUT]``. FOLDER holds

- ``images92/stimuli/*.png``, ``images92/rdms_kriegeskorte2008_hIT.npz`` and
  ``images92/rdms_cichy2014_EVC_IT.npz``;
- ``networks/squeezenet1_0_imagenet_deepcompression.safetensors``.

The results are saved in OUT (by default ``images92-results``).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import squeezenet1_0

import versa
from versa import Preprocess
from versa.stats.tables import for_reading, to_markdown

# the photographs are square: resized as a whole, nothing is cropped
PREPROCESS = Preprocess(
    224,
    224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
)
SEEDS = (0, 1, 2)
PERMUTATIONS = 999  # of the images: p is 1 / 1000 at least
MARGIN = 0.05  # of r: networks that differ by less are on par


def upper_triangles(matrices):
    """RDMs (..., 92, 92) as vectors (..., 4186) in the order of ``pdist``."""
    rows, columns = np.triu_indices(matrices.shape[-1], k=1)
    return np.asarray(matrices, dtype=float)[..., rows, columns]


def human_it(folder):
    """IT of four people, the mean RDM of two sessions (Kriegeskorte et al. 2008)."""
    file = np.load(Path(folder, "images92", "rdms_kriegeskorte2008_hIT.npz"))
    return versa.BrainDataset(
        name="kriegeskorte2008",
        stimuli=versa.StimulusSet.from_folder(Path(folder, "images92", "stimuli")),
        subjects=file["subjects"].tolist(),
        rdms={"hIT": upper_triangles(file["rdms"]).mean(axis=1)},
        citation="https://doi.org/10.1016/j.neuron.2008.10.043",
    )


def early_and_it(folder):
    """Early visual cortex and IT of 15 people (Cichy et al. 2014)."""
    file = np.load(Path(folder, "images92", "rdms_cichy2014_EVC_IT.npz"))
    return versa.BrainDataset(
        name="cichy2014",
        stimuli=versa.StimulusSet.from_folder(Path(folder, "images92", "stimuli")),
        subjects=file["subjects"].tolist(),
        rdms={name: upper_triangles(file[name]) for name in ("EVC", "IT")},
        citation="https://doi.org/10.1038/nn.3635",
    )


def pretrained(folder):
    """SqueezeNet 1.0, trained on ImageNet."""
    network = squeezenet1_0(weights=None)
    weights = "squeezenet1_0_imagenet_deepcompression.safetensors"
    network.load_state_dict(load_file(Path(folder, "networks", weights)))
    return network


def untrained(seed):
    """The same network as it was before its training."""
    torch.manual_seed(seed)
    return squeezenet1_0(weights=None)


def convolutions(network):
    """Names of all convolutions."""
    parts = network.named_modules()
    return [name for name, part in parts if isinstance(part, nn.Conv2d)]


def fit(network, name, brain, layers=None, permutations=0):
    """Classic RSA: a dataset of RDMs has no voxels that could be encoded."""
    return versa.fit(
        network,
        convolutions(network) if layers is None else layers,
        brain,
        methods=["rsa"],
        preprocess=PREPROCESS,
        permutations=permutations,
        name=name,
        progress=False,
    )


def turned(table, names):
    """A table with all of its columns, one below the other."""
    text = for_reading(table.dropna(axis="columns", how="all")).set_index(names).T
    return text.to_markdown(disable_numparse=True)


def show(comparison):
    """Print all that is known of the networks in each sector."""
    first = comparison.results[0]
    best, pairs = comparison.best(), comparison.pairs()
    for sector in first.sectors:
        print(f"\n{first.sample}\n{sector}: the best layer of each network\n")
        print(turned(best[best["sector"] == sector].drop(columns="choices"), "model"))
        print(f"\n{sector}: A less B, {pairs['model_b'].iloc[0]}\n")
        rows = pairs[pairs["sector"] == sector].drop(columns=["model_b"])
        print(turned(rows, "A"))
    print(f"\n{comparison.scope}")


def main(folder, out="images92-results"):
    """Fit four networks to both datasets; print and save."""
    networks = {"imagenet": pretrained(folder)}
    networks |= {f"untrained {seed}": untrained(seed) for seed in SEEDS}
    for brain in (human_it(folder), early_and_it(folder)):
        for name, network in networks.items():
            result = fit(network, name, brain, permutations=PERMUTATIONS)
            result.save(Path(out, brain.name, f"{name}.nc"))
        # from here on, neither the networks nor the brains are needed
        saved = [
            versa.load_result(Path(out, brain.name, f"{name}.nc")) for name in networks
        ]
        show(
            versa.compare(
                saved, baseline="imagenet", equivalence=MARGIN, generalize="both"
            )
        )
        print("\nWhat they explain alone, and what they share\n")
        print(to_markdown(versa.partition(saved[:2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
