"""Constructors of networks: of torchvision, of timm, and of other packages."""

import pickle

import pytest
import torch
from torch import nn

from tests.card_files import Residual, Tiny, trained
from versa.models.zoo.layouts import LAYOUTS
from versa.models.zoo.networks import (
    build_network,
    build_seeded,
    fill,
    on_meta_device,
    torchvision_network,
)
from versa.models.zoo.state_dicts import StateDict

PLUG_IN = """
import torch

def network(width=2):
    return torch.nn.Linear(3, width)

def reading(width=2):
    return torch.nn.Linear(3, int(torch.tensor(width)))

def number():
    return 7

def even(width=2):
    assert width % 2 == 0, "width is even."
    return torch.nn.Linear(3, width)
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    (tmp_path / "versa_plug_in.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(tmp_path)
    return "versa_plug_in"


def on_meta(builder, options=None):
    return on_meta_device(lambda: build_network(builder, options))


def tensors(module):
    return [*module.parameters(), *module.buffers()]


@pytest.mark.parametrize(
    ("builder", "options", "kind"),
    [
        ("alexnet_gn", {"out_dim": 5, "norm": "batch"}, "AlexNetGN"),
        ("taskonomy", {}, "TaskonomyEncoder"),
        ("timm", {"name": "vit_tiny_patch16_224.augreg_in21k"}, "VisionTransformer"),
        ("torchvision", {"name": "resnet18"}, "ResNet"),
    ],
)
def test_own_builders(builder, options, kind):
    module = on_meta(builder, options)
    assert type(module).__name__ == kind
    assert all(tensor.is_meta for tensor in tensors(module))


def test_plug_in_is_built_from_an_installed_package(plug_in):
    assert build_network(f"{plug_in}:network", {"width": 4}).out_features == 4
    assert build_network(f"{plug_in}:network").weight.device.type == "cpu"


def test_missing_plug_in_names_the_command(plug_in):
    with pytest.raises(ImportError, match="`pip install git\\+https://a/b`") as caught:
        build_network("no_such_pack.nets:Net", requires="git+https://a/b")
    assert str(caught.value).startswith("no_such_pack.nets:Net must be installed")
    with pytest.raises(ImportError, match="`pip install no_such_pack`"):
        on_meta("no_such_pack.nets:Net")
    with pytest.raises(ImportError, match="has no attribute 'absent'"):
        build_network(f"{plug_in}:absent")


@pytest.mark.parametrize(
    ("builder", "options", "text"),
    [
        ("alexnet_gn", {"dim": 5}, "options must suit alexnet_gn: .*'dim'"),
        ("alexnet_gn", {"norm": "grup"}, "norm must be among .*Did you mean group"),
        ("torchvision", {"name": "resnet18", "deep": 1}, "options must suit .*'deep'"),
        ("torchvision", {}, "options must suit torchvision: .*'name'"),
        (
            "torchvision",
            {"name": "resnet18", "max_pool": "sam"},
            "max_pool .*mean same",
        ),
        ("torchvision", {"name": "raft_small", "head": False}, "head must be true for"),
        ("versa_plug_in:network", {"depth": 1}, "options must suit .*'depth'"),
        ("versa_plug_in:even", {"width": 3}, r"options must .*: width is even\.$"),
        ("versa_plug_in:number", {}, "must return an nn.Module; .* returns int"),
    ],
)
def test_impossible_networks_are_refused(plug_in, builder, options, text):
    for build in (build_network, on_meta):
        with pytest.raises(ValueError, match=text):
            build(builder, options)


@pytest.mark.parametrize(
    "builder",
    [
        "os:system",
        "subprocess:getoutput",
        "builtins:eval",
        "versa_plug_in:network",
        "torch.hub:load",  # functions of torch that run what they are given
        "torch:load",
        "torch.utils.collect_env:run",
        "torchvision.models:get_model",
        "timm:create_model",
        "timm.models:load_checkpoint",
    ],
)
def test_a_card_calls_nothing_but_networks(plug_in, monkeypatch, builder):
    monkeypatch.delenv("VERSA_BUILDERS")
    with pytest.raises(ValueError, match=r"^builder must be a (network|class) of "):
        build_network(builder, {})


def test_networks_of_known_packages_need_no_consent(monkeypatch):
    monkeypatch.setenv("VERSA_BUILDERS", "")
    for builder, options in (
        ("torch.nn:Linear", {"in_features": 2, "out_features": 3}),
        ("torchvision.models:resnet18", {}),
        ("torchvision.models.resnet:resnet18", {}),
        ("timm.models:resnet18", {}),
        ("versa.models.architectures:AlexNetGN", {}),
    ):
        assert isinstance(on_meta(builder, options), nn.Module)
    with pytest.raises(ImportError, match="pip install cornet"):
        build_network("cornet.cornet_x:CORnet_X")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "resnet18", "checkpoint_path": "x.pth"}, "must not name files"),
        ({"name": "hf-hub:someone/net"}, "model of timm must be a known name"),
        ({"name": "local-dir:somewhere"}, "model of timm must be a known name"),
    ],
)
def test_timm_reads_no_file_by_itself(options, text):
    with pytest.raises(ValueError, match=text):
        build_network("timm", options)


@pytest.mark.parametrize(
    ("name", "place", "n_features"),
    [
        ("resnet18", "fc", 512),
        ("mobilenet_v2", "classifier", 1280),
        ("vit_b_32", "heads", 768),
        ("swin_t", "head", 768),
    ],
)
def test_without_a_head_its_place_gives_the_features(name, place, n_features):
    module = on_meta("torchvision", {"name": name, "head": False}).eval()
    assert isinstance(module.get_submodule(place), nn.Identity)
    out = module(torch.empty(2, 3, 224, 224, device="meta"))
    assert out.shape == (2, n_features)
    assert not any(key.startswith(f"{place}.") for key in module.state_dict())


@pytest.mark.parametrize("size", [16, 112])
def test_max_pool_same_pads_as_tensorflow(size):
    with torch.device("meta"):
        same = torchvision_network("resnet18", max_pool="same").maxpool
        usual = torchvision_network("resnet18").maxpool
    x = torch.rand(2, 4, size, size, generator=torch.Generator().manual_seed(1))
    # SAME: ceil(size / 2) windows; of what they lack, the smaller half goes on top
    lack = 2 * (-(-size // 2) - 1) + 3 - size
    sides = (lack // 2, lack - lack // 2) * 2
    padded = nn.functional.pad(x, sides, value=-torch.inf)
    expected = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
    assert torch.equal(same(x), expected)
    assert not torch.equal(same(x), usual(x))
    assert same(x).shape == usual(x).shape


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_ported_networks_change_the_normalisation_themselves(name):
    module = on_meta("torchvision", {"name": name})
    assert module.transform_input
    assert any(key.lower().startswith("aux") for key in module.state_dict())


def test_a_constructor_that_reads_tensors_is_built_in_full(plug_in):
    sketch = on_meta(f"{plug_in}:reading", {"width": 5})
    assert sketch.weight.shape == (5, 3)
    assert sketch.weight.is_meta


# The weights of a file


def filled(build, state, layout=LAYOUTS["plain"]):
    return fill(on_meta_device(build), StateDict(state, "toy", layout), build)


class Counting(nn.Module):
    """Needs numbers while it is built, and has a buffer that no file holds."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, int(torch.ones(3).sum().item()))
        self.register_buffer("scale", torch.full((3,), 2.0), persistent=False)
        self.plain = torch.full((3,), 5.0)

    def forward(self, x):
        return self.fc(x) * self.scale + self.plain


class Derived(Counting):
    def __init__(self):
        nn.Module.__init__(self)
        self.fc = nn.Linear(2, 3)
        self.register_buffer("scale", torch.full((3,), 2.0), persistent=False)
        self.plain = torch.full((3,), 5.0)


@pytest.mark.parametrize("kind", [Counting, Derived])
def test_what_no_file_holds_is_built(kind):
    source = trained(kind())
    module = filled(kind, source.state_dict())
    x = torch.ones(1, 2)
    with torch.no_grad():
        assert torch.equal(module(x), source(x))


def test_weights_are_neither_copied_nor_initialised():
    state = trained(Residual()).state_dict()
    before = torch.get_rng_state()
    module = filled(Residual, state)
    assert torch.equal(torch.get_rng_state(), before)
    assert module.conv1.weight.data_ptr() == state["conv1.weight"].data_ptr()


def test_half_precision_becomes_single():
    state = {k: v.half() for k, v in trained(Tiny()).state_dict().items()}
    assert filled(Tiny, state).fc6[1].weight.dtype == torch.float32


def test_missing_counters_keep_their_initial_value():
    state = trained(Residual()).state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    module = filled(Residual, state, LAYOUTS["taskonomy"])
    assert module.bn1.num_batches_tracked == 0
    fresh = build_seeded(Residual, 0)
    assert not torch.equal(module.conv1.weight, fresh.conv1.weight)
    assert pickle.loads(pickle.dumps(module.state_dict()))
