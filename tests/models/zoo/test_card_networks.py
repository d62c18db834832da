"""Every card against its network: layers, units, and the file that fills it."""

import functools
import importlib.util
import json

import pytest
import torch

from tests.card_files import PUBLISHED
from versa.models.layers import default_layers
from versa.models.passes import watch_layers
from versa.models.zoo.cards import BUILDERS, read_cards
from versa.models.zoo.networks import build_network, build_seeded, on_meta_device
from versa.models.zoo.state_dicts import state_from

CARDS = read_cards()
OWN = [name for name, card in CARDS.items() if card.builder in BUILDERS]
# one card of each builder and layout; the others are run with -m slow
FEW = {(card.builder, card.adapter): name for name, card in CARDS.items()}.values()

# units per image by hand: channels x height x width
ALEXNET_GN = [69_984, 43_264, 64_896, 64_896, 9_216, 4_096, 4_096]
RESNET50 = [
    802_816,
    200_704,
    *[802_816] * 3,
    *[401_408] * 4,
    *[200_704] * 6,
    *[100_352] * 3,
    2_048,
]
MOBILENET_V2 = [
    401_408,
    200_704,
    *[75_264] * 2,
    *[25_088] * 3,
    *[12_544] * 4,
    *[18_816] * 3,
    *[7_840] * 3,
    15_680,
    62_720,
]
VIT_B16 = [197 * 768] * 13
UNITS = {
    "alexnet_gn_ipcl_ref01": [*ALEXNET_GN, 128, 128],
    "alexnet_gn_supervised_ref12_augset1_5x": [*ALEXNET_GN, 1_000],
    "simclr_rn50_vissl_1000ep": RESNET50,
    "simclr_rn50_google_tf": RESNET50,
    "tc_say_resnext50": RESNET50,
    "robust_resnet50_l2_eps3": [*RESNET50, 1_000],
    "timm_resnet50_gn.a1h_in1k": RESNET50,
    "tc_say_mobilenetv2": [*MOBILENET_V2, 1_280],
    "tv_mobilenet_v2_imagenet1k_v1": [*MOBILENET_V2, 1_000],
    "tv_vgg16_imagenet1k_v1": [
        64 * 112**2,
        128 * 56**2,
        256 * 28**2,
        512 * 14**2,
        512 * 7**2,
        4_096,
        4_096,
        1_000,
    ],
    "mocov3_vitb16_300ep": VIT_B16,
    "timm_vit_base_patch16_224.mae": VIT_B16,
    "timm_vit_base_patch14_reg4_dinov2.lvd142m": [(1 + 4 + 16**2) * 768] * 13,
    "timm_vit_small_patch16_dinov3.lvd1689m": [(1 + 4 + 16**2) * 384] * 13,
    "timm_convnext_tiny.fb_in1k": [
        96 * 56**2,
        96 * 56**2,
        192 * 28**2,
        384 * 14**2,
        768 * 7**2,
    ],
}

# one card per architecture of at most 30 million parameters
SMALL = [
    "dino_rn50",
    "mocov3_vits16_300ep",
    "simclr_rn50_google_tf",
    "taskonomy_normal",
    "tc_say_mobilenetv2",
    "tc_say_resnext50",
    "timm_convnext_tiny.fb_in1k",
    "timm_resnet50_gn.a1h_in1k",
    "timm_vit_small_patch14_dinov2.lvd142m",
    "timm_vit_small_patch16_dinov3.lvd1689m",
    "tv_densenet121_imagenet1k_v1",
    "tv_googlenet_imagenet1k_v1",
    "tv_inception_v3_imagenet1k_v1",
    "tv_resnet18_imagenet1k_v1",
    "tv_squeezenet1_1_imagenet1k_v1",
]


def sweep(names):
    """All these cards, most of them marked as slow."""
    return pytest.mark.parametrize(
        "name",
        [
            name if name in FEW else pytest.param(name, marks=pytest.mark.slow)
            for name in names
        ],
    )


@functools.cache
def on_meta(builder, options):
    module = on_meta_device(lambda: build_network(builder, json.loads(options)))
    return module.eval()


def network_of(card):
    return on_meta(card.builder, json.dumps(dict(card.options)))


def outputs(module, card, x):
    """(layer, output) in the order of execution."""
    seen = []
    with (
        torch.no_grad(),
        watch_layers(module, card.layers, lambda *pair: seen.append(pair)),
    ):
        module(x)
    return seen


@sweep(OWN)
def test_layers_run_once_and_in_order_and_have_the_units(name):
    card = CARDS[name]
    shape = (2, 3, card.preprocess.crop, card.preprocess.crop)
    seen = outputs(network_of(card), card, torch.empty(shape, device="meta"))
    assert [layer for layer, _ in seen] == list(card.layers)
    assert {len(out) for _, out in seen} == {2}
    assert [out.numel() // 2 for _, out in seen] == list(card.units)


@pytest.mark.parametrize("name", sorted(CARDS.keys() - set(OWN)))
def test_layers_and_units_of_plug_ins(name):
    card = CARDS[name]
    package = card.builder.split(":")[0].split(".")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {card.requires}")
    module = build_network(card.builder, card.options).eval()
    size = card.preprocess.crop
    seen = outputs(module, card, torch.zeros(1, 3, size, size))
    assert [layer for layer, _ in seen] == list(card.layers)
    assert [out.numel() for _, out in seen] == list(card.units)


@pytest.mark.parametrize("name", UNITS)
def test_units_equal_those_by_hand(name):
    assert list(CARDS[name].units) == UNITS[name]


@sweep(OWN)
def test_layers_are_the_defaults_that_run(name):
    card, module = CARDS[name], network_of(CARDS[name])
    defaults = list(getattr(module, "layers", None) or default_layers(module))
    defaults = [x for x in defaults if x not in ("aux1", "aux2", "AuxLogits")]
    pooled = "mobilenet_v2" in card.options.values() and "head" in card.options
    assert list(card.layers) == defaults + ["classifier"] * pooled


@sweep([name for name in OWN if CARDS[name].url])
def test_the_published_layout_fills_the_network(name):
    card = CARDS[name]
    expected = network_of(card).state_dict()
    checkpoint = PUBLISHED[card.adapter][0](dict(expected))
    state = state_from(checkpoint, card.rules, source=name)
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape
        for key, value in expected.items()
        if key in state or not card.rules.may_lack(key)
    }


def test_moco_v3_small_has_twice_the_heads_of_timms():
    module = network_of(CARDS["mocov3_vits16_300ep"])
    assert {block.attn.num_heads for block in module.blocks} == {12}


@sweep(SMALL)
def test_small_networks_compute(name):
    card = CARDS[name]
    module = build_seeded(lambda: build_network(card.builder, card.options), 0).eval()
    assert sum(p.numel() for p in module.parameters()) < 30e6
    size = card.preprocess.crop
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    seen = []
    with (
        torch.no_grad(),
        watch_layers(module, card.layers, lambda _, out: seen.append(out.clone())),
    ):
        module(x)
    assert [out.numel() for out in seen] == list(card.units)
    assert all(torch.isfinite(out).all() for out in seen)
    assert seen[-1].std() > 0 or len(seen[-1].flatten()) == 1
