"""Peak memory of the Gram matrix of a large layer beside the network.

1,000 images, AlexNet-GN's ``conv_block_1.0`` with 290,400 units: the features alone are
1.16 GB in float32. They wait in a temporary file, one chunk of units after the other
goes into the float64 Gram matrix, and memory should stay below 1 GB beside the model.

    python benchmarks/gram_memory.py [--images 1000]
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    n_images = parser.parse_args().images
    from PIL import Image

    import versa
    from versa.models.features import extract_grams

    network = versa.load_model("alexnet_gn_untrained")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        paths = []
        for i in range(n_images):
            pixels = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
            path = Path(folder) / f"{i:04d}.png"
            Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(path)
            paths.append(path)
        extract_grams(network, paths[:64], ["fc8"])  # network and one batch
        before, started = peak(), time.perf_counter()
        gram = extract_grams(network, paths, ["conv_block_1.0"])["conv_block_1.0"]
        seconds = time.perf_counter() - started
    print(
        f"{n_images} images, {gram.n_units} units: {seconds:.1f} s, peak "
        f"{peak() - before:.0f} MB beside the model and a batch of images "
        f"({peak():.0f} MB in all)"
    )


if __name__ == "__main__":
    main()
