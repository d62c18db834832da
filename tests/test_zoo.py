"""Names of networks, and networks by name."""

import hashlib
import io
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from versa.models import download, zoo
from versa.models.architectures import AlexNetGN
from versa.models.cards import BUILDERS, Preprocess, read_cards
from versa.models.zoo import VisionModel, find_model, list_models, load_model

PREPROCESS = Preprocess(32, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class Tiny(nn.Module):
    """Two layers under the authors' way of naming, small enough to serve."""

    def __init__(self, out_dim=4):
        super().__init__()
        self.conv_block_1 = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8))
        self.fc6 = nn.Sequential(nn.Flatten(), nn.Linear(8 * 30 * 30, out_dim))

    def forward(self, x):
        return self.fc6(self.conv_block_1(x))


def file_of(state):
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 100}, buffer)
    return buffer.getvalue()


@pytest.fixture
def tiny_zoo(tmp_path, monkeypatch):
    """Function that puts a checkpoint into the zoo as the network 'tiny'."""
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path))
    monkeypatch.setitem(BUILDERS, "tiny", (__name__, "Tiny"))
    plain = read_cards()["alexnet_gn_ipcl_ref01"]

    def put(content):
        digest = hashlib.sha256(content).hexdigest()
        card = replace(
            plain,
            name="tiny",
            builder="tiny",
            url="https://example.org/tiny.pth.tar",
            sha256=digest[:10],
            layers=("conv_block_1", "fc6"),
            options={"out_dim": 4},
            preprocess=PREPROCESS,
        )
        monkeypatch.setattr(zoo, "read_cards", lambda: {"tiny": card})
        path = download.weights_path(card.url, card.name, card.sha256)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return card

    return put


def state_of(module):
    return {f"module.{key}": value for key, value in module.state_dict().items()}


def test_table_of_the_zoo():
    table = list_models()
    assert table.columns[0] == "name"
    assert len(table) == 18
    assert table["name"].is_unique
    assert list_models(method="ipcl")["name"].str.contains("_ipcl_").all()
    assert len(list_models(method="IPCL", diet="imagenet-1k")) == 6
    assert len(list_models(architecture="AlexNet-GN", paper=True)) == 16
    assert list_models(paper=False).empty
    with pytest.raises(ValueError, match=r"method must be among .*Did you mean IPCL\?"):
        list_models(method="icpl")


def test_listing_loads_no_torch_and_is_quick():
    code = (
        "import sys, time, pandas\n"
        "from versa.models.zoo import list_models\n"
        "start = time.perf_counter()\n"
        "list_models()\n"
        "print('torch' in sys.modules, time.perf_counter() - start < 0.2)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", "True"]


def test_page_of_the_zoo_is_up_to_date():
    page = zoo.card_folder() / "README.md"
    assert page.read_text(encoding="utf-8") == zoo.zoo_markdown()


def test_checkpoint_gives_the_source_module(tiny_zoo):
    source = Tiny().eval()
    card = tiny_zoo(file_of(state_of(source)))
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


def test_half_precision_checkpoint_becomes_float32(tiny_zoo):
    state = {key: value.half() for key, value in state_of(Tiny()).items()}
    tiny_zoo(file_of(state))
    assert load_model("tiny").module.fc6[1].weight.dtype == torch.float32


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda s: without(s, "module.fc6.1.bias"),
            r"lacks 1 of .* keys: fc6\.1\.bias",
        ),
        (lambda s: {**s, "module.queue": torch.zeros(2)}, r"holds 1 keys .*: queue"),
        (
            lambda s: {**s, "module.fc6.1.bias": torch.zeros(5)},
            r"is \(5,\), not \(4,\)",
        ),
        (
            lambda s: {k.removeprefix("module."): v for k, v in s.items()},
            r"must hold keys that start with 'module\.'",
        ),
        (lambda s: {"module." + k: v for k, v in s.items()}, r"lacks 6 of"),
    ],
    ids=["missing", "extra", "shape", "no-prefix", "two-prefixes"],
)
def test_another_network_in_the_file_is_refused(tiny_zoo, change, text):
    tiny_zoo(file_of(change(state_of(Tiny()))))
    with pytest.raises(ValueError, match=rf"^checkpoint of tiny .*{text}"):
        load_model("tiny")


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
    assert find_model(name) == canonical


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("alexnet_gn_ipcl_ref1", {}, "model must be among .*alexnet_gn_ipcl_ref01"),
        ("torchvision/alexnt", {}, r"model of torchvision must .*Did you mean alexnet"),
        ("timm/resnet5000", {}, r"model of timm must be among .*Did you mean"),
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
        (Tiny(), {"preprocess": 224}, "preprocess must come .* got 224"),
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
