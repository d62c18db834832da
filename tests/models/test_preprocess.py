"""Preprocessing of the images against torchvision."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from versa.models.preprocess import IMAGENET, Preprocess

HALF = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def noise_image(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (99, 40), (40, 99), (31, 33), (32, 32)])
@pytest.mark.parametrize(("resize", "crop"), [(32, 32), (37, 32), (64, 31)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocess_is_identical_to_torchvision(size, resize, crop, interpolation):
    mean, std = IMAGENET
    image = noise_image(*size)
    expected = transforms.Compose(
        [
            transforms.Resize(resize, InterpolationMode(interpolation)),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )(image)
    found = Preprocess(resize, crop, mean, std, interpolation)(image)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"crop": 300}, "crop must be between 1 and resize"),
        ({"std": (0.2, 0.0, 0.2)}, "std above 0"),
        ({"mean": (0.5,)}, "3 values each"),
        ({"interpolation": "bilinar"}, "Did you mean bilinear"),
    ],
)
def test_impossible_preprocessing_is_refused(change, text):
    options = {"resize": 224, "crop": 224, "mean": HALF[0], "std": HALF[1]}
    with pytest.raises(ValueError, match=text):
        Preprocess(**{**options, **change})


def test_preprocess_takes_rgb_only():
    with pytest.raises(ValueError, match="image must have the mode RGB; got L"):
        Preprocess(8, 8, *HALF)(Image.new("L", (8, 8)))
