"""Real networks through the door for weights of one's own: do they name the images?"""

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from versa.models.preprocess import IMAGENET, Preprocess
from versa.models.zoo import CheckpointLayout
from versa.models.zoo.loading import load_model

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SQUEEZENET = "squeezenet1_0_imagenet_deepcompression.safetensors"
MOBILENET = "mobilenetv2_100_imagenet_tflite.safetensors"


def squeezenet(folder):
    return load_model(
        "torchvision/squeezenet1_0",
        weights=folder / SQUEEZENET,
        preprocess=Preprocess(224, 224, *IMAGENET, "bicubic"),
    )


def mobilenet(folder):
    return load_model(
        "timm/mobilenetv2_100",
        weights=folder / MOBILENET,
        options={"pad_type": "same"},
        preprocess=Preprocess(224, 224, *HALF, "bicubic"),
    )


@pytest.fixture
def networks(shared):
    return shared / "data" / "networks"


@pytest.mark.parametrize(
    ("load", "label"), [(squeezenet, "squeezenet1_0"), (mobilenet, "mobilenetv2_100")]
)
def test_classes_of_the_stimuli(networks, load, label):
    model = load(networks)
    with open(networks / "sanity_top3.csv", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["network"] == label and row["file"].startswith("images92/")
        ]
    folder = networks.parent / "images92" / "stimuli"
    images = [
        model.preprocess(Image.open(folder / Path(row["file"]).name).convert("RGB"))
        for row in rows
    ]
    with torch.no_grad():
        p, found = model.module(torch.stack(images)).softmax(1).max(1)
    assert len(rows) == 92
    expected = torch.tensor([int(row["top1_index"]) for row in rows])
    assert (found == expected).float().mean() == 1
    assert p.tolist() == pytest.approx([float(row["p1"]) for row in rows], abs=1e-3)


def test_the_padding_of_the_real_mobilenet_matters(networks):
    plain = load_model("timm/mobilenetv2_100", weights=networks / MOBILENET)
    image = Image.new("RGB", (224, 224), "olive")
    x = Preprocess(224, 224, *HALF)(image)[None]
    with torch.no_grad():
        assert not torch.allclose(plain.module(x), mobilenet(networks).module(x))


def test_encoder_of_a_real_autoencoder(networks):
    path = networks / "cifar10_conv_autoencoder.safetensors"
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 4, 4), nn.ReLU(), nn.Conv2d(32, 48, 3, 3, 2), nn.ReLU()
    )
    model = load_model(
        encoder,
        weights=path,
        preprocess=Preprocess(32, 32, (0, 0, 0), (1, 1, 1)),
        layout=CheckpointLayout(prefix="encoder.", drop=("decoder.",)),
    )
    state = load_file(path)
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, state[f"encoder.{key}"])
    assert not torch.equal(encoder[0].weight, model.module[0].weight)
    assert model.module(torch.zeros(1, 3, 32, 32)).shape == (1, 48, 4, 4)
