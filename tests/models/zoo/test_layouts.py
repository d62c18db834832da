"""Checkpoint layouts, renamed and compared without a network."""

import numpy as np
import pytest
import torch

from versa.models.architectures import AlexNetGN
from versa.models.zoo.layouts import LAYOUTS, CheckpointLayout, layout_of
from versa.models.zoo.state_dicts import check_state, state_from


def tensors(*keys):
    return {key: np.zeros((2, 3)) for key in keys}


def test_ipcl_layout_leaves_the_keys_of_alexnet_gn():
    with torch.device("meta"):
        expected = AlexNetGN().state_dict()
    file = {"state_dict": {f"module.{key}": value for key, value in expected.items()}}
    state = state_from(file, LAYOUTS["ipcl"], source="toy")
    assert list(state) == list(expected)
    check_state(state, expected, source="toy")


def test_prefix_is_cut_once_and_only_at_the_start():
    file = {"state_dict": tensors("module.module.a", "module.b.module.c")}
    state = state_from(file, LAYOUTS["ipcl"], source="toy")
    assert list(state) == ["module.a", "b.module.c"]


def test_path_drop_and_rename():
    layout = CheckpointLayout(
        path=("model", "trunk"), drop=("head.",), prefix="net.", rename=(("^o", "p"),)
    )
    file = {"model": {"trunk": tensors("net.one", "net.on_o", "head.w")}}
    assert list(state_from(file, layout, source="toy")) == ["pne", "pn_o"]


def test_torchvision_layout_renames_old_densenets_only():
    old = "features.denseblock1.denselayer2.norm.1.running_mean"
    same = "features.norm0.weight"
    state = state_from(tensors(old, same), LAYOUTS["torchvision"], source="toy")
    assert list(state) == [
        "features.denseblock1.denselayer2.norm1.running_mean",
        "features.norm0.weight",
    ]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ([1], r"toy must hold a dict with the key 'state_dict'; got list"),
        ({"model": {}}, r"toy must hold the key 'state_dict'; got model\."),
        ({"state_dict": 3}, r"toy must hold a dict of weights; got int"),
        (
            {"state_dict": tensors("module.a", "b")},
            r"must hold keys that start with 'module\.'; got b\.",
        ),
        (
            {"state_dict": {"module.a": 3}},
            r"must hold a dense tensor under 'module\.a'; got",
        ),
    ],
)
def test_another_layout_is_refused(file, text):
    with pytest.raises(ValueError, match=text):
        state_from(file, LAYOUTS["ipcl"], source="toy")


def test_two_keys_that_become_one_are_refused():
    layout = CheckpointLayout(rename=(("[ab]", "c"),))
    with pytest.raises(ValueError, match=r"toy holds 'c' twice"):
        state_from(tensors("a", "b"), layout, source="toy")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (tensors("a"), r"toy lacks 1 of the network's 2 keys: b\."),
        (tensors("a", "b", "c"), r"toy holds 1 keys that the network has not: c\."),
        (
            {**tensors("a"), "b": np.zeros((3, 2))},
            r"toy has other shapes than the network: b is \(3, 2\), not \(2, 3\)\.",
        ),
    ],
)
def test_state_must_be_that_of_the_network(state, text):
    with pytest.raises(ValueError, match=text):
        check_state(state, tensors("a", "b"), source="toy")


def test_keys_may_be_allowed_to_be_missing():
    check_state(tensors("a"), tensors("a", "b.n"), source="toy", missing=("*.n",))


def test_layouts_are_written_out_on_a_command_line():
    made = layout_of("path=model/ema,prefix=net.,drop=head./neck.")
    assert made == CheckpointLayout(("model", "ema"), ("head.", "neck."), "net.")
    assert layout_of("moco") is LAYOUTS["moco"]
    with pytest.raises(ValueError, match=r"layout must be among .*Did you mean moco"):
        layout_of("moko")
    with pytest.raises(ValueError, match="part of a layout must be among path, prefix"):
        layout_of("paths=model")
