"""IPCL on the photographs that come with scikit-image and scikit-learn.

Cuts them into tiles, one class per photograph, trains AlexNet-GN on small views for a
few hundred steps on a CPU, stops it in the middle and goes on, and compares the result
with an untrained network. Run: ``python ipcl_photographs.py FOLDER``.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass"),
    *("gravel", "hubble_deep_field", "immunohistochemistry", "moon", "retina"),
    *("rocket",),
)
TILE, N_TRAIN, N_VAL = 96, 24, 8


def photographs():
    """Name and RGB pixels of each photograph."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    for name in PHOTOGRAPHS:
        pixels = getattr(skimage.data, name)()
        yield name, np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels[..., :3]
    yield from zip(("china", "flower"), load_sample_images().images, strict=True)


def cut(folder):
    """Tiles of the photographs: FOLDER/train and FOLDER/val, every fourth for val."""
    n = N_TRAIN + N_VAL
    for name, pixels in photographs():
        rows, columns = (int(size) - TILE for size in pixels.shape[:2])
        across = max(2, round((n * columns / rows) ** 0.5))
        down = -(-n // across)
        places = [(r, c) for r in range(down) for c in range(across)][:n]
        for k, (r, c) in enumerate(places):
            top = r * rows // max(1, down - 1)
            left = c * columns // (across - 1)
            part = "val" if k % 4 == 3 else "train"
            path = Path(folder) / part / name / f"{k:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[top : top + TILE, left : left + TILE]).save(path)


if __name__ == "__main__":
    cut(sys.argv[1])
