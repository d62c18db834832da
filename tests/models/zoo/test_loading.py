"""Networks by name: cards, libraries, modules and weights of one's own."""

import hashlib
import json
import logging

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from tests.card_files import Residual, Tiny, packed, same_output, trained, write_card
from versa.models.architectures import AlexNetGN
from versa.models.preprocess import IMAGENET, Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.cards import (
    card_folder,
    list_models,
    read_card,
    read_cards,
    zoo_markdown,
)
from versa.models.zoo.layouts import CheckpointLayout
from versa.models.zoo.loading import load_model
from versa.models.zoo.names import find_network
from versa.models.zoo.weights import weight_file, weights_path

PREPROCESS = Preprocess(32, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture
def tiny_zoo(tmp_path, monkeypatch):
    """Function that puts a checkpoint into the cache and its card into a zoo."""
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path / "zoo"))
    (tmp_path / "zoo").mkdir()

    def put(content, **fields):
        path = write_card(
            tmp_path / "zoo",
            "tiny",
            url="https://example.org/tiny.pth.tar",
            sha256=hashlib.sha256(content).hexdigest()[:10],
            adapter="ipcl",
            layers=["conv_block_1", "fc6"],
            options={"out_dim": 4},
            **fields,
        )
        card = read_card(path)
        place = weights_path(weight_file(card))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return card

    return put


def state_of(module):
    return {f"module.{key}": value for key, value in module.state_dict().items()}


def test_table_of_the_zoo():
    table = list_models()
    assert table.columns[0] == "name"
    assert table["name"].tolist() == list(read_cards())
    assert table["name"].is_unique
    assert list_models(method="ipcl")["name"].str.contains("_ipcl_").all()
    assert len(list_models(method="IPCL", diet="imagenet-1k")) == 6
    assert len(list_models(architecture="AlexNet-GN", paper=True)) == 16
    chosen = list_models(method="moco v2", paper=True)["name"].tolist()
    assert chosen == ["mocov2_rn50_200ep", "mocov2_rn50_800ep"]
    assert set(list_models(paper=True)["name"]).isdisjoint(
        list_models(paper=False)["name"]
    )
    accuracy = table.set_index("name")["top1"]
    assert accuracy["tv_resnet50_imagenet1k_v1"] == 76.130
    with pytest.raises(ValueError, match=r"method must be among .*Did you mean IPCL "):
        list_models(method="icpl")
    with pytest.raises(ValueError, match="diet must be text; got 3"):
        list_models(diet=3)


def test_page_of_the_zoo_is_up_to_date():
    page = card_folder() / "README.md"
    assert page.read_text(encoding="utf-8") == zoo_markdown()


def test_checkpoint_gives_the_source_module(tiny_zoo):
    source = Tiny().eval()
    card = tiny_zoo(packed({"state_dict": state_of(source)}))
    assert card.url.startswith("https")
    state = torch.get_rng_state()
    model = load_model("tiny")
    assert torch.equal(torch.get_rng_state(), state)
    assert (model.name, model.layers, model.card) == ("tiny", card.layers, card)
    assert model.preprocess == PREPROCESS
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.module(x), source(x))
    assert "module=" not in repr(model)


def test_offline_names_address_and_place(tmp_path, monkeypatch):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path))
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    with pytest.raises(FileNotFoundError) as caught:
        load_model("alexnet_gn_ipcl_ref01")
    assert "https://visionlab-pretrainedmodels.s3.amazonaws.com/" in str(caught.value)
    place = tmp_path / "weights" / "alexnet_gn_ipcl_ref01-51bcc71556.pth.tar"
    assert str(place) in str(caught.value)


@pytest.fixture(scope="module")
def untrained():
    return load_model("alexnet_gn_untrained")


def test_untrained_network_has_a_seed(untrained):
    state = torch.get_rng_state()
    other = load_model("alexnet_gn_untrained_ref16:seed=1")
    again = load_model("alexnet_gn_untrained", seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert untrained.name == "alexnet_gn_untrained"
    assert other.name == again.name == "alexnet_gn_untrained:seed=1"
    weights = [m.module.conv_block_1[0].weight for m in (untrained, other, again)]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])
    assert not untrained.module.training
    assert untrained.layers == untrained.module.layers
    torch.manual_seed(0)
    with torch.device("cpu"):
        expected = AlexNetGN().conv_block_1[0].weight
    assert torch.equal(weights[0], expected)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("alexnet_gn_ipcl_ref01", "alexnet_gn_ipcl_ref01"),
        ("alexnet_gn_untrained_ref16", "alexnet_gn_untrained"),
        ("alexnet_gn_untrained:seed=0", "alexnet_gn_untrained"),
        ("alexnet_bn_untrained:seed=12", "alexnet_bn_untrained:seed=12"),
        ("alexnet", "torchvision/alexnet"),
        ("resnet50@IMAGENET1K_V2", "torchvision/resnet50@IMAGENET1K_V2"),
        ("timm/resnet50", "timm/resnet50"),
        ("resnet18:untrained:seed=0", "torchvision/resnet18:untrained"),
        ("resnet18:seed=2:untrained", "torchvision/resnet18:untrained:seed=2"),
    ],
)
def test_names_are_found_without_loading(name, canonical):
    assert find_network(name).label == canonical


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("alexnet_gn_ipcl_ref1", {}, "must be a known name.*alexnet_gn_ipcl_ref01"),
        ("torchvision/alexnt", {}, r"model of torchvision must .*Did you mean alexnet"),
        ("timm/resnet5000", {}, r"model of timm must be a known name.*Did you mean"),
        ("timmm/resnet50", {}, r"library must be among .*Did you mean timm"),
        (
            "alexnet_gn_ipcl_ref01:seed=1",
            {},
            "seed must come with an untrained network",
        ),
        ("alexnet_gn_ipcl_ref01", {"seed": 0}, "alexnet_gn_ipcl_ref01 is pretrained"),
        ("timm/resnet50.a9_in1k", {}, r"model of timm must be among .*Did you mean"),
        ("resnet50@V1", {}, r"WEIGHTS of torchvision/resnet50@WEIGHTS must be among"),
        ("alexnet:seed=1", {}, "Ask for torchvision/alexnet:untrained:seed=1"),
        ("alexnet_gn_ipcl_ref01:untrained", {}, "':untrained' must follow"),
        ("alexnet_gn_untrained:sed=1", {}, "suffix of 'alexnet_gn_untrained' must be"),
        (
            "alexnet_gn_untrained:seed=-1",
            {},
            "suffix of 'alexnet_gn_untrained' must be",
        ),
        ("alexnet_gn_untrained:seed=1", {"seed": 2}, "seed must be 1 as in"),
        ("alexnet_gn_untrained", {"seed": -1}, "seed must be an integer of 0 or more"),
        ("alexnet_gn_untrained", {"seed": 1.5}, "seed must be an integer of 0 or more"),
        ("alexnet_gn_untrained", {"name": "x"}, "must come with an nn.Module"),
        ("alexnet_gn", {}, "model must be a known name"),
        ("resnet18", {"options": {"a": 1}}, "options must come with weights="),
        ("resnet18", {"layout": "ipcl"}, "layout must come with weights="),
        ("alexnet_gn@a/b.pth", {"seed": 1}, "seed must come with an untrained"),
        (
            "alexnet_gn_untrained",
            {"preprocess": PREPROCESS},
            "must come with an nn.Mod",
        ),
    ],
)
def test_impossible_names_are_refused(name, options, text):
    with pytest.raises(ValueError, match=text):
        load_model(name, **options)


def test_module_of_the_user_is_not_touched():
    module = Tiny().train()
    model = load_model(module, preprocess=PREPROCESS)
    assert model.module is module
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert (model.name, model.card) == ("Tiny", None)
    assert model.layers == ("conv_block_1.0", "conv_block_1.1", "fc6.1")
    assert load_model(module, preprocess=PREPROCESS, name="mine").name == "mine"
    assert load_model(model) is model


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (Tiny(), {}, "preprocess must come with an nn.Module"),
        (Tiny(), {"preprocess": 224}, "preprocess must be a callable .* got 224"),
        (
            Tiny(),
            {"preprocess": PREPROCESS, "weights": "w", "options": {}},
            "options must come with the name of an architecture",
        ),
        (
            Tiny(),
            {"preprocess": PREPROCESS, "weights": "w", "layout": ("a",)},
            r"layout must be a CheckpointLayout or a name .* got \('a',\)",
        ),
        (Tiny(), {"preprocess": PREPROCESS, "seed": 1}, "seed must come with the name"),
        (Tiny, {"preprocess": PREPROCESS}, "model must be a name, .* got 'Tiny'"),
        (3, {}, "model must be a name, .* got 'int'"),
        (
            VisionModel("v", Tiny(), PREPROCESS, ("fc6",)),
            {"name": "w"},
            "got a VisionModel, which has its own",
        ),
    ],
)
def test_impossible_modules_are_refused(model, options, text):
    with pytest.raises(ValueError, match=text):
        load_model(model, **options)


def saved(path, state, **record):
    metadata = {"versa": json.dumps(record)} if record else None
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    return path


def test_weights_of_the_user_fill_an_architecture(tmp_path, caplog):
    source = trained(AlexNetGN(out_dim=3))
    path = saved(tmp_path / "weights.safetensors", source.state_dict())
    caplog.set_level(logging.INFO, logger="versa")
    model = load_model("alexnet_gn", weights=path, options={"out_dim": 3})
    assert model.name == f"alexnet_gn@{path}"
    assert model.preprocess == Preprocess(224, 224, *IMAGENET)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "as for alexnet_gn, they are prepared by Preprocess(" in record.message
    assert model.validation == Preprocess(256, 224, *IMAGENET)
    assert model.layers[-3:] == ("fc7", "fc8", "l2norm")
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    assert same_output(model.module, source, 96)
    with pytest.raises(
        ValueError, match=r"other shapes .*fc8\.0\.weight is \(3, 4096\)"
    ):
        load_model("alexnet_gn", weights=path)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A card of a network of 29,000 weights, so that its files are small."""
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path / "zoo"))
    half = {"resize": 40, "crop": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    write_card(tmp_path / "zoo", "toy", seed=0, layers=["fc6"], validation=half)
    return "toy"


BUILDER = "tests.card_files:Tiny"


def test_a_file_of_versa_says_how_it_was_made(tmp_path, monkeypatch, toy):
    source = trained(Tiny(out_dim=5))
    preprocess = {"resize": 64, "crop": 64, "mean": [0.1] * 3, "std": [0.3] * 3}
    path = saved(
        tmp_path / "w.safetensors",
        source.state_dict(),
        builder=BUILDER,
        options={"out_dim": 5},
        preprocess=preprocess,
    )
    model = load_model(f"toy@{path}")
    assert model.name == find_network(model.name).label == f"toy@{path}"
    assert model.preprocess == Preprocess(64, 64, (0.1,) * 3, (0.3,) * 3)
    assert model.validation == Preprocess(40, 32, (0.1,) * 3, (0.3,) * 3)
    assert same_output(model.module, source)
    mine = Preprocess(70, 64, *IMAGENET)
    assert load_model("toy", weights=path, preprocess=mine).preprocess == mine
    # the record is in the content, wherever the file is and however it is named
    monkeypatch.setenv("HOME", str(tmp_path))
    path.rename(tmp_path / "w.bin")
    found = load_model("toy@~/w.bin")
    assert found.preprocess == model.preprocess
    assert found.layers == ("conv_block_1.0", "conv_block_1.1", "fc6.1")  # not a card's
    other = load_model("toy", weights="~/w.bin", preprocess=lambda image: image)
    assert other.validation is None  # nobody knows the normalisation


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"builder": BUILDER, "options": None}, "must be a table"),
        ({"builder": 3}, "must be a table"),
        ({"builder": BUILDER, "preprocess": "imagenet"}, "must be a table"),
        ({"preprocess": {"size": 64}}, "key must be among preprocess.resize"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path, toy, record, text):
    path = saved(tmp_path / "w.safetensors", Tiny().state_dict(), **record)
    with pytest.raises(ValueError, match=rf"metadata 'versa' of {path}:? {text}"):
        load_model(f"toy@{path}")


def test_own_weights_of_a_library_are_prepared_as_theirs(tmp_path):
    source = trained(models.squeezenet1_1())
    torch.save({"state_dict": source.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    model = load_model("torchvision/squeezenet1_1", weights=tmp_path / "w.pth")
    assert same_output(model.module, source, 64)
    assert model.preprocess == Preprocess(224, 224, *IMAGENET)
    assert model.validation == Preprocess(256, 224, *IMAGENET)


def test_own_weights_fill_a_module_that_is_not_touched(tmp_path):
    module, source = Residual(head=True), trained(Residual(head=True))
    state = {f"encoder.{key}": value for key, value in source.state_dict().items()}
    path = saved(tmp_path / "w.safetensors", {**state, "decoder.w": torch.zeros(1)})
    layout = CheckpointLayout(drop=("decoder.",), prefix="encoder.")
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = load_model(module, weights=path, preprocess=PREPROCESS, layout=layout)
    assert model.name == f"Residual@{path}"
    assert same_output(model.module, source)
    assert module.training
    assert all(torch.equal(module.state_dict()[key], before[key]) for key in before)
    found = load_model(module, weights=path, preprocess=PREPROCESS)
    assert same_output(found.module, source)


def test_own_weights_must_exist(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="versa")
    with pytest.raises(FileNotFoundError, match=r"must be a file; .*w does not exist"):
        load_model("alexnet_gn", weights=tmp_path / "w")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_model("alexnet_gn", weights=tmp_path)
    assert not caplog.records  # nothing is said about the images of absent weights


def test_own_weights_must_be_the_networks(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth lacks 29 of .*pass layout="):
        load_model("alexnet_gn", weights=tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"layout must be among .*Did you mean ipcl"):
        load_model("alexnet_gn", weights=tmp_path / "w.pth", layout="ipcll")
    with pytest.raises(ValueError, match=r"options must suit alexnet_gn: .*'depth'"):
        load_model("alexnet_gn", weights=tmp_path / "w.pth", options={"depth": 3})


def test_card_of_the_user(tmp_path, monkeypatch):
    source = trained(Tiny())
    save_file(source.state_dict(), tmp_path / "mine.safetensors")
    path = write_card(tmp_path, "mine", file="mine.safetensors", licence="none yet")
    with pytest.raises(ValueError, match="model must be a known name"):
        load_model("mine")
    by_path = load_model(str(path))  # its folder need not be in VERSA_ZOO
    monkeypatch.setenv("VERSA_ZOO", str(tmp_path))
    by_name = load_model("mine")
    for model in (by_path, by_name):
        assert same_output(model.module, source)
        assert (model.name, model.layers) == ("mine", ("fc6",))
        assert model.card == by_name.card
    assert "mine" in list_models()["name"].tolist()
    assert "mine" not in zoo_markdown()
    with pytest.raises(ValueError, match=r"a card must be a file; .*no\.toml is none"):
        load_model(str(tmp_path / "no.toml"))
    (tmp_path / "mine.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"file of mine\.toml must be a file"):
        load_model("mine")


def test_a_card_by_its_path_has_seeds(tmp_path):
    path = write_card(tmp_path, "toy", seed=0)
    other = load_model(f"{path}:seed=3")
    assert other.name == "toy:seed=3"
    torch.manual_seed(3)
    assert torch.equal(other.module.fc6[1].weight, Tiny().fc6[1].weight)


def test_an_alias_that_misleads_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path))
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="drive"):
        load_model("TC-MoCo")
    assert "temporal" in caplog.text
    assert find_network("TC-MoCo").label == "tc_say_resnext50"


def test_restricting_licence_is_shown_once(tiny_zoo, caplog):
    tiny_zoo(
        packed({"state_dict": state_of(Tiny())}),
        licence="CC-BY-NC-4.0",
        citation="https://x.y",
    )
    load_model("tiny")
    load_model("tiny")
    shown = [r.message for r in caplog.records if "licence" in r.message]
    assert len(shown) == 1
    assert "CC-BY-NC-4.0" in shown[0]
    assert "https://x.y" in shown[0]


def test_nothing_comes_through_the_hub_of_torch():
    package = card_folder().parent / "versa"
    for path in (package / "models").rglob("*.py"):
        assert "torch.hub" not in path.read_text(encoding="utf-8"), path
