"""Fits with made-up RDMs and pictures, for tests of their figures."""

import base64
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist

from tests.synthetic import synthetic_fit
from versa.result import FitResult

AS_DRAWN = pytest.mark.skipif(
    not matplotlib.__version__.startswith("3.11."),
    reason="the stored pictures were drawn by matplotlib 3.11",
)


def in_base64(image, kind="JPEG") -> str:
    memory = BytesIO()
    image.save(memory, kind)
    return base64.b64encode(memory.getvalue()).decode("ascii")


def patch(n, size=(48, 48)) -> Image.Image:
    """A thing of one colour on white."""
    colour = tuple(int(c) for c in np.random.default_rng(n).integers(0, 200, 3))
    image = Image.new("RGB", size, "white")
    width, height = size
    image.paste(colour, (width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    return image


def pictured_fit(n_images=12, seed=0, pictures=True, **changes) -> FitResult:
    names = [f"thing-{n:02d}" for n in range(n_images)]
    data = synthetic_fit(names=names, seed=seed, **changes).data
    rng = np.random.default_rng(seed)
    n_pairs = n_images * (n_images - 1) // 2

    def rdms(*shape):
        flat = [
            pdist(rng.normal(size=(n_images, 6)), "correlation")
            for _ in range(int(np.prod(shape)))
        ]
        return np.reshape(flat, (*shape, n_pairs))

    data["brain_rdm"] = ("sector", "pair"), rdms(data.sizes["sector"])
    data["model_rdm"] = (
        ("methods", "sector", "layer", "pair"),
        rdms(*(data.sizes[name] for name in ("methods", "sector", "layer"))),
    )
    data["n_voxels"] = ("sector", "subject"), np.full((data.sizes["sector"], 7), 50)
    if pictures:
        stored = [in_base64(patch(n)) for n in range(n_images)]
        data["thumbnail"] = ("stimulus",), np.array(stored, dtype=object)
    return FitResult(data)
