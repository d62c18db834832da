"""Model cards: their schema, their folders, and the facts they hold."""

import csv
import math
import os
import re

import pytest
import timm
import torchvision

from versa.models.preprocess import Preprocess
from versa.models.zoo.cards import (
    card_folder,
    card_folders,
    find_card,
    read_card,
    read_cards,
)
from versa.models.zoo.layouts import CheckpointLayout

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
URL = 'url = "https://example.org/toy.pth.tar"\n'
SOURCE = URL + 'sha256 = "0123abcd"\n'

# rows of zoo.csv without a card: no file of torch; no module that fits; mean and std
# that nobody published
NO_TORCH_FILE = {"byol_rn50_deepmind"}
NO_MODULE = {
    "simclrv2_r152_3x_sk1_vissl",
    "taskonomy_colorization",
    "alexnet2023_w1_barlow",
    "alexnet2023_w1_simclr",
    "alexnet2023_w1_supervised",
    "alexnet2023_w1_vicreg",
}
NO_PREPROCESSING = {"alexnet_gn_barlowtwins"}
# layers of zoo.csv that another one stands for: a neighbour, or the one around it
STAND_INS = {
    "compress1": "groupnorm",
    "stem.conv3": "stem",
    "final_conv": "stages.3",
    "classifier": "classifier.1",
    **{f"{area}.output": area for area in ("V1", "V2", "V4", "IT")},
}


@pytest.fixture(scope="module")
def cards():
    return read_cards()


@pytest.fixture(scope="module")
def facts(shared, cards):
    """(row of zoo.csv, card) of every card that has a row."""
    with open(shared / "zoo.csv", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    names = {n: card for card in cards.values() for n in (card.name, *card.aliases)}
    assert rows.keys() - names.keys() == NO_TORCH_FILE | NO_MODULE | NO_PREPROCESSING
    return [(row, names[name]) for name, row in rows.items() if name in names]


def write(folder, text=CARD, name="toy"):
    path = folder / f"{name}.toml"
    path.write_text(text.replace('name = "toy"', f'name = "{name}"'))
    return path


def test_card_has_typed_fields(tmp_path):
    card = read_card(write(tmp_path))
    assert card.layers == ("fc6",)
    assert card.top1_knn == 38.0
    assert isinstance(card.top1_knn, float)
    assert card.seed is None
    assert card.preprocess == Preprocess(224, 224, *HALF)
    assert card.rules.prefix == "module."


def test_a_card_may_hold_its_layout_in_full(tmp_path):
    layout = '[layout]\npath = ["a", "b"]\nrename = [["x", "y"]]\n[preprocess]'
    text = CARD.replace('adapter = "ipcl"\n', "").replace("[preprocess]", layout)
    text = text.replace("[layout]", '[holds]\n"x.fc.w" = [3, 2]\n[layout]')
    card = read_card(write(tmp_path, text))
    assert card.holds == {"x.fc.w": (3, 2)}
    assert card.rules == CheckpointLayout(path=("a", "b"), rename=(("x", "y"),))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            'licence = "MIT"',
            'license = "MIT"',
            "key must be among .*Did you mean licence",
        ),
        ('licence = "MIT"', "", "keys must include licence"),
        ('licence = "MIT"', "licence = 3", "licence must be text; got 3"),
        (
            "top1_knn = 38",
            "top1_knn = true",
            "top1_knn must be a number; got True",
        ),
        (
            "top1_knn = 38",
            "options = {a = [1]}",
            r"options\.a must be text or an ",
        ),
        ('layers = ["fc6"]', "layers = []", "layers must name at least one"),
        ('layers = ["fc6"]', "layers = [6]", r"layers\[0\] must be text; got 6"),
        (
            'layers = ["fc6"]',
            'layers = ["fc6"]\nunits = [1, 2]',
            "units must hold one number per layer; got 2 for 1",
        ),
        ('"0123abcd"', '"0123"', "sha256 must be 8 to 64 hexadecimal digits"),
        ('sha256 = "0123abcd"', 'md5 = "0123abcd"', "md5 must be 32 hexadecimal"),
        ('"ipcl"', '"ipc"', "adapter must be among .*Did you mean ipcl"),
        ("[preprocess]", "[layout]\n[preprocess]", "left out beside an adapter"),
        ('"alexnet_gn"', '"alexnet"', "builder .* must be among .*mean alexnet_gn"),
        ('"alexnet_gn"', '"pack age:net"', r"builder \(or package\.module:callable\)"),
        (URL, 'url = "toy.pth"\n', "url must be a web address; got 'toy.pth'"),
        (URL, URL + 'mirrors = ["ftp://a"]\n', "url must be a web address; got 'ftp"),
        ("paper = true", "seed = 0", "only one of them; got seed and url"),
        ("paper = true", 'file = "a.pth"', "only one of them; got file and url"),
        (SOURCE, "", "seed, file or url must be given, .* got none"),
        (
            'builder = "alexnet_gn"\nadapter = "ipcl"\n' + SOURCE,
            'builder = "timm"\n',
            "options must hold the name of a network of timm",
        ),
        (URL, 'file = "a.pth"\n', "sha256 must come with a url"),
        (SOURCE, 'file = "a.pth"\nmd5 = "0"\n', "md5 must come with a url"),
        (SOURCE, "seed = 0\n", "adapter must come with a url or file"),
        ('name = "toy"', 'name = "tony"', "name must be that of the file; got 'tony'"),
        (
            "resize = 224",
            "resize = 224.5",
            "preprocess.resize must be an integer",
        ),
        (
            "resize = 224",
            "resized = 224",
            "Did you mean preprocess.resize",
        ),
        ("crop = 224", "crop = 225", "preprocess.crop must be between 1 and resize"),
        ("paper = true", "paper = ", "must be TOML in UTF-8; Invalid value"),
        (
            "[preprocess]",
            '[holds]\n"a.b" = 3\n[preprocess]',
            r"holds\.a\.b must be a list ",
        ),
    ],
)
def test_a_wrong_card_is_refused_by_file_name(tmp_path, old, new, text):
    assert old in CARD
    path = write(tmp_path, CARD.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}.*{text}"):
        read_card(path)


def test_names_and_aliases_of_all_cards_differ(tmp_path):
    path = write(tmp_path)
    write(tmp_path, CARD.replace("method", 'aliases = ["toy"]\nmethod'), "other")
    text = f"{path}: 'toy' already names other of {tmp_path}"
    with pytest.raises(ValueError, match=re.escape(text)):
        read_cards(tmp_path)


def test_own_folders_of_cards(tmp_path, monkeypatch, cards):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setenv("VERSA_ZOO", os.pathsep.join(map(str, folders)))
    write(folders[0], CARD.replace(SOURCE, 'file = "w/toy.pth"\n'))
    write(folders[1], CARD.replace("method", 'aliases = ["t@1"]\nmethod'), "other")
    assert card_folders() == [card_folder(), *folders]
    assert list(read_cards()) == [*cards, "toy", "other"]
    assert find_card("toy").file == str(folders[0] / "w" / "toy.pth")
    assert find_card("t@1").name == "other"
    # one folder under two names, and what some systems leave beside every file
    folders[0].joinpath("._toy.toml").write_bytes(b"\x00\x05\x16\x07")
    twice = [folders[0], card_folder(), folders[0] / ".." / "a", folders[1]]
    monkeypatch.setenv("VERSA_ZOO", os.pathsep.join(map(str, twice)))
    assert list(read_cards()) == [*cards, "toy", "other"]
    assert find_card("._toy") is None
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path / "c"))
    with pytest.raises(ValueError, match=r"VERSA_ZOO must name folders .*c' is none"):
        card_folders()


@pytest.mark.parametrize("name", ["cornet_s", "TC-MoCo"])
def test_own_cards_take_no_name_of_the_zoo(tmp_path, monkeypatch, name):
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path))
    write(tmp_path, name=name)
    owner = "cornet_s" if name == "cornet_s" else "tc_say_resnext50"
    text = f"'{name}' already names {owner} of {card_folder()}"
    with pytest.raises(ValueError, match=re.escape(text)):
        read_cards()
    if name == "cornet_s":
        with pytest.raises(ValueError, match=re.escape(text)):
            find_card(name)


def test_one_card_is_found_as_among_all(cards):
    for name, card in cards.items():
        assert find_card(name) == card
    for alias in ("TC-MoCo", "simclr_rn50", "dino_vits16"):
        assert alias in find_card(alias).aliases
    for nothing in ("resnet50", "../cornet_s", "", "*"):
        assert find_card(nothing) is None


def test_cards_are_found_beside_the_source():
    assert (card_folder() / "alexnet_gn_untrained.toml").is_file()


def test_every_card_is_complete(cards):
    assert len(cards) == 155
    for name, card in cards.items():
        assert len(card.units) == len(card.layers), name
        assert min(card.units) > 0, name
        assert card.citation.startswith("https://"), name
        assert card.status, name
        assert card.unverified, name
        assert all(card.unverified), name
        brain, imagenet = card.preprocess, card.validation
        assert brain.resize == brain.crop == imagenet.crop, name
        assert (brain.mean, brain.std, brain.interpolation) == (
            imagenet.mean,
            imagenet.std,
            imagenet.interpolation,
        ), name
        published = {card.top1_knn, card.top1_linear, card.top1} - {None}
        assert bool(published) == bool(card.accuracy_source), name
        assert bool(card.requires) == (":" in card.builder), name


def test_one_word_for_one_thing(cards):
    for field in ("method", "architecture", "diet", "licence"):
        words = {getattr(card, field) for card in cards.values()}
        bare = {re.sub(r"\W", "", word).lower() for word in words}
        assert len(bare) == len(words), sorted(words)


def test_aliases_shadow_no_network_of_the_libraries(cards):
    taken = {*timm.list_models(), *timm.list_pretrained()}
    taken.update(torchvision.models.list_models())
    for card in cards.values():
        assert not taken & {card.name, *card.aliases}, card.name


def test_the_two_normalisations_of_alexnet_gn_are_not_mixed_up(cards):
    for name, card in cards.items():
        if card.builder == "alexnet_gn":
            number = re.search(r"_ref(\d\d)", name)
            half = number is not None and int(number[1]) in (*range(6, 12), 14, 15)
            found = (card.preprocess.mean, card.preprocess.std)
            assert found == (HALF if half else IMAGENET), name


def test_sources_equal_the_list_of_facts(facts):
    for row, card in facts:
        url = row["url"]
        if url.startswith("https://drive.google.com/"):
            url = re.sub(r"file/d/(.+)/view", r"uc?export=download&id=\1", url)
        elif card.name == "simclr_rn50_google_tf":  # the port, not TensorFlow's file
            repo, file = re.search(r"HF (\S+) file (\S+)", row["alt_route"]).groups()
            url = f"https://huggingface.co/{repo}/resolve/main/{file}"
        elif row["id"].startswith("timm_"):
            url = ""
        assert card.url == url, card.name
        hashes = {"sha256": card.sha256, "md5": card.md5}
        assert hashes.pop(row["hash_algo"] or "md5") == row["hash"], card.name
        assert set(hashes.values()) == {""}, card.name
        path = tuple(re.findall(r"\['(\w+)'\]", row["state_dict_path"]))
        if not row["id"].startswith("timm_") and card.seed is None:
            assert card.rules.path == path, card.name
        licence = card.licence.lower()
        assert row["licence"].lower().startswith(licence) or card.seed == 0, card.name


def test_facts_equal_the_list_of_facts(facts):
    accuracies = 0
    for row, card in facts:
        for found, text in (
            (card.preprocess.mean, row["mean"]),
            (card.preprocess.std, row["std"]),
        ):
            assert found == pytest.approx(tuple(map(float, text.split())), abs=6e-5)
        paper = row["tier"] in ("paper", "paper-alt", "comparison")
        assert card.paper == paper, card.name
        if not row["id"].startswith("timm_"):
            assert card.diet == row["train_data"], card.name
        known = re.match(r"[1-9]\d*", row["epochs"])
        assert card.epochs == (int(known[0]) if known else None), card.name
        assert ("epochs" in card.unverified) == ("UNVERIFIED" in row["epochs"])
        layers = [STAND_INS.get(x, x) for x in row["layers"].split(";") if x]
        if card.name != "cornet_rt":  # runs its areas several times per image
            assert set(layers) <= set(card.layers), card.name
        linear = row["linear_top1"].replace("69.1 TF / 68.9 port", "68.9")
        expected = {"top1_knn": row["knn_top1"], "top1_linear": linear, "top1": ""}
        if "own softmax" in linear:
            expected |= {"top1_linear": "", "top1": linear}
        for field, text in expected.items():
            value = float(text.split()[0]) if text else None
            assert getattr(card, field) == value, card.name
            accuracies += value is not None
    assert accuracies > 60


def test_alexnet_gn_cards_equal_the_list_of_facts(facts):
    found = [(row, card) for row, card in facts if card.builder == "alexnet_gn"]
    assert len(found) == 16
    for row, card in found:
        assert card.method == row["method"]
        assert card.layers == tuple(row["layers"].split(";"))
        assert card.options["out_dim"] == int(row["out_dim"])


def test_torchvision_cards_equal_the_weights_of_torchvision(cards):
    found = [card for name, card in cards.items() if name.startswith("tv_")]
    assert len(found) == 25
    for card in found:
        name = card.options["name"]
        version = card.name.removeprefix(f"tv_{name}_").upper()
        weights = torchvision.models.get_model_weights(name)[version]
        transform = weights.transforms()
        assert card.url == weights.url
        assert f"-{card.sha256}." in weights.url
        assert card.top1 == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert card.validation == Preprocess(
            transform.resize_size[0],
            transform.crop_size[0],
            tuple(transform.mean),
            tuple(transform.std),
            transform.interpolation.value,
        )


def test_timm_cards_equal_the_configuration_of_timm(cards):
    known = set(timm.list_pretrained())
    found = [card for name, card in cards.items() if name.startswith("timm_")]
    assert len(found) == 40
    for card in found:
        name = card.options["name"]
        assert card.name == f"timm_{name}"
        assert name in known
        assert card.options["num_classes"] == 0
        config = timm.get_pretrained_cfg(name)
        size = card.options.get("img_size", config.input_size[1])
        assert ("img_size" in card.options) == (config.input_size[1] == 518)
        assert card.validation == Preprocess(
            math.floor(size / config.crop_pct),
            size,
            config.mean,
            config.std,
            config.interpolation,
        )
        assert card.licence.lower() == config.license


def test_nobody_takes_tc_for_moco(cards):
    names = {"tc_say_resnext50", "tc_say_mobilenetv2"}
    for name, card in cards.items():
        note = card.alias_note
        assert bool(note) == any("moco" in a for a in card.aliases if "tc" in a), name
        assert bool(note) == (name in names), name
        assert not note or ("baby-vision" in note and "unverified" in note)
    assert find_card("TC-MoCo").method == "TC"
