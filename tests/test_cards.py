"""Model cards and the preprocessing that they hold."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from versa.models.architectures import AlexNetGN
from versa.models.cards import Preprocess, card_folder, read_card, read_cards

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
CARD = """
name = "toy"
method = "IPCL"
architecture = "AlexNet-GN"
diet = "ImageNet-1k"
paper = true
builder = "alexnet_gn"
adapter = "ipcl"
url = "https://example.org/toy.pth.tar"
sha256 = "0123abcd"
layers = ["fc6"]
licence = "MIT"
citation = "https://doi.org/10.1038/s41467-022-28091-4"
status = "made up"
top1_knn = 38
[preprocess]
resize = 224
crop = 224
mean = [0.5, 0.5, 0.5]
std = [0.2, 0.2, 0.2]
"""


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


def write(folder, text):
    path = folder / "toy.toml"
    path.write_text(text)
    return path


def test_card_has_typed_fields(tmp_path):
    card = read_card(write(tmp_path, CARD))
    assert card.layers == ("fc6",)
    assert card.top1_knn == 38.0
    assert isinstance(card.top1_knn, float)
    assert card.seed is None
    assert card.preprocess == Preprocess(224, 224, *HALF)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            'licence = "MIT"',
            'license = "MIT"',
            "field must be among .*Did you mean licence",
        ),
        ('licence = "MIT"', "", "fields must include licence"),
        ('licence = "MIT"', "licence = 3", "licence must be of type str; got 3"),
        (
            "top1_knn = 38",
            "top1_knn = true",
            "top1_knn must be of type float; got True",
        ),
        ("top1_knn = 38", "options = {a = [1]}", "options must be of type"),
        ('layers = ["fc6"]', "layers = []", "layers must name at least one"),
        ('layers = ["fc6"]', "layers = [6]", "layers must be of type str"),
        ('"0123abcd"', '"0123"', "sha256 must be 8 to 64 hexadecimal digits"),
        ('"ipcl"', '"ipc"', "adapter must be among .*Did you mean ipcl"),
        ('"alexnet_gn"', '"alexnet"', "builder must be among"),
        ('"https://example.org/toy.pth.tar"', '"toy.pth"', "url must be a web address"),
        ("paper = true", "paper = true\nseed = 0", "must be empty with a seed"),
        ('name = "toy"', 'name = "tony"', "name must be that of the file; got 'tony'"),
        ("resize = 224", "resize = 224.5", "resize must be of type int"),
        ("resize = 224", "resized = 224", "field must be among .*Did you mean resize"),
        ("paper = true", "paper = ", "Invalid value"),
    ],
)
def test_a_wrong_card_is_refused_by_file_name(tmp_path, old, new, text):
    assert old in CARD
    with pytest.raises(ValueError, match=rf"^toy\.toml: .*{text}"):
        read_card(write(tmp_path, CARD.replace(old, new, 1)))


def test_names_and_aliases_of_all_cards_differ(tmp_path):
    write(tmp_path, CARD)
    other = CARD.replace('name = "toy"', 'name = "other"\naliases = ["toy"]')
    (tmp_path / "other.toml").write_text(other)
    with pytest.raises(ValueError, match=r"toy\.toml: 'toy' already names other"):
        read_cards(tmp_path)


def test_every_card_is_complete_and_fits_its_network():
    cards = read_cards()
    assert len(cards) == 18
    for card in cards.values():
        with torch.device("meta"):
            module = AlexNetGN(**card.options)
        assert card.layers == module.layers, card.name
        assert card.preprocess.resize == card.preprocess.crop == 224
        assert card.citation == "https://doi.org/10.1038/s41467-022-28091-4"
        assert card.unverified
        if card.seed is None:
            assert re.fullmatch("[0-9a-f]{10}", card.sha256)
            assert card.url.startswith("https://visionlab-pretrainedmodels.s3")


def test_the_two_normalisations_are_not_mixed_up():
    cards = read_cards()
    for name, card in cards.items():
        number = re.search(r"_ref(\d\d)", name)
        half = number is not None and int(number[1]) in (6, 7, 8, 9, 10, 11, 14, 15)
        assert (card.preprocess.mean, card.preprocess.std) == (
            HALF if half else IMAGENET
        )


def test_cards_equal_the_list_of_facts(shared):
    import csv

    with open(shared / "zoo.csv", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    cards = {
        alias: card
        for card in read_cards().values()
        for alias in (card.name, *card.aliases)
    }
    facts = [
        row for name, row in rows.items() if re.match(r"alexnet_gn_.*_ref\d\d", name)
    ]
    assert len(facts) == 16
    for row in facts:
        card = cards[row["id"]]
        assert (card.method, card.diet) == (row["method"], row["train_data"])
        assert (card.url, card.sha256) == (row["url"], row["hash"])
        assert card.layers == tuple(row["layers"].split(";"))
        assert card.preprocess.mean == tuple(map(float, row["mean"].split()))
        assert card.preprocess.std == tuple(map(float, row["std"].split()))
        assert card.options["out_dim"] == int(row["out_dim"])
        for accuracy in ("knn", "linear"):
            text = row[f"{accuracy}_top1"]
            assert getattr(card, f"top1_{accuracy}") == (float(text) if text else None)


def test_cards_are_found_beside_the_source():
    assert (card_folder() / "alexnet_gn_untrained.toml").is_file()
