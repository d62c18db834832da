"""Layers and their sizes, without weights."""

import pytest
import torch

from versa.models.zoo.cards import read_cards
from versa.models.zoo.listing import list_layers, meta_model
from versa.models.zoo.loading import load_model


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path))
    monkeypatch.setenv("VERSA_OFFLINE", "1")


def test_default_layers_have_the_units_of_the_card():
    table = list_layers("mocov2_rn50_800ep")
    card = read_cards()["mocov2_rn50_800ep"]
    assert tuple(table["layer"]) == card.layers
    assert tuple(table["units"]) == card.units
    assert table.loc[0, ["shape", "type"]].tolist() == ["64x112x112", "ReLU"]


def test_leaves_of_the_papers_network():
    table = list_layers("alexnet_gn_ipcl_ref01", "leaf").set_index("layer")
    assert len(table) == 26
    assert table.loc["conv_block_1.0", "units"] == 290_400
    assert table.loc["conv_block_2.1", "units"] == 186_624
    assert table.index[-1] == "l2norm"


@pytest.mark.parametrize(
    ("name", "layer", "units"),
    [
        ("torchvision/vgg16", "features.4", 64 * 112 * 112),
        ("timm/vit_tiny_patch16_224.augreg_in21k", "blocks.11", 197 * 192),
        ("timm/convnext_atto:untrained", "stages.3", 320 * 7 * 7),
        ("torchvision/inception_v3", "avgpool", 2048),
    ],
)
def test_networks_of_libraries(name, layer, units):
    table = list_layers(name).set_index("layer")
    assert table.loc[layer, "units"] == units


def test_the_meta_device_takes_no_memory():
    module = meta_model("timm_vit_huge_patch14_gap_224.in1k_ijepa").module
    assert all(p.is_meta for p in module.parameters())
    assert sum(p.numel() for p in module.parameters()) > 6e8


def test_a_loaded_network_gives_the_same_table():
    loaded = load_model("torchvision/squeezenet1_1:untrained")
    chosen = ["features.3", "classifier"]
    table = list_layers(loaded, chosen)
    assert table.equals(list_layers("torchvision/squeezenet1_1", chosen))
    assert next(loaded.module.parameters()).device == torch.device("cpu")


def test_refusals():
    with pytest.raises(
        ValueError,
        match=r"layer of mocov2_rn50_800ep must be a known .*Did you mean layer",
    ):
        list_layers("mocov2_rn50_800ep", ["layer5"])
    with pytest.raises(ValueError, match="name must be of the zoo or of a library"):
        meta_model("alexnet_gn@a/weights.pth")
    with pytest.raises(FileNotFoundError, match=r"a/weights\.pth does not exist"):
        list_layers("alexnet_gn@a/weights.pth")
