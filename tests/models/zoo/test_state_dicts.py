"""State dicts of networks, from files by a layout and from those of anybody."""

import argparse
import logging
import pathlib
import types
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from tests.card_files import PUBLISHED, Residual, other, packed, trained, under
from versa.models.architectures import AlexNetGN
from versa.models.preprocess import Preprocess
from versa.models.zoo.layouts import LAYOUTS, CheckpointLayout
from versa.models.zoo.loading import load_model
from versa.models.zoo.reading import open_checkpoint
from versa.models.zoo.state_dicts import (
    as_dicts,
    check_state,
    contents,
    fitting_layouts,
    same_weights,
    state_from,
)

# By a layout


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


def test_only_keys_that_are_allowed_may_be_missing():
    expected = tensors("a", "b.n", "c.m")
    with pytest.raises(ValueError, match=r"lacks 1 of the network's 3 keys: c\.m\."):
        check_state(tensors("a"), expected, source="toy", missing=("*.n",))
    assert CheckpointLayout(missing=("*.n",)).may_lack("b.n")
    assert not CheckpointLayout(missing=("*.n",)).may_lack("c.m")


# By a search

PREPROCESS = Preprocess(32, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
COUNTER = "num_batches_tracked"


def plus_one(state):
    return {key: value + 1 for key, value in state.items()}


def read(tmp_path, content, module=None, **options):
    """State dict of a network after it took the file."""
    path = tmp_path / "run.pth"
    path.write_bytes(packed(content))
    module = Residual(head=True) if module is None else module
    found = load_model(module, weights=path, preprocess=PREPROCESS, **options)
    return found.module.state_dict()


WRAPPED = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "parallel": lambda s: {"state_dict": under("module.", s)},
    "compiled": lambda s: under("_orig_mod.", s),
    "model": lambda s: {"model": s, "optimizer": {}},
    "net": lambda s: {"net": s, "optimizer": {"state": {0: {"exp_avg": s["fc.bias"]}}}},
    "deepspeed": lambda s: {
        "module": s,
        "buffer_names": ["bn1.running_mean"],
        "param_shapes": [{"fc.bias": torch.Size([5])}],
    },
    "two dicts": lambda s: {"model": {"state_dict": s}},
    "prefix in a dict": lambda s: {"state_dict": under("net.", s)},
    "compiled in parallel": lambda s: under("module._orig_mod.", s),
    "parallel and compiled": lambda s: {"state_dict": under("_orig_mod.module.", s)},
    "swa": lambda s: {"n_averaged": torch.tensor(3), **under("module.", s)},
    "numbers beside": lambda s: {**s, "epoch": 3, "step": torch.tensor(7)},
    "lightning": lambda s: {
        "state_dict": {**under("model.", s), **other("loss.weight", "ema_loss")},
        "hyper_parameters": {"lr": 0.1},
    },
    "self-supervised": lambda s: {
        "state_dict": {**under("backbone.", s), **other("projector.0.weight")}
    },
    "deep prefix": lambda s: {
        "model": {**under("module.encoder.", s), **other("module.head.weight")}
    },
    "parts in parallel": lambda s: {
        k.replace("layer1.", "layer1.module."): v for k, v in s.items()
    },
    "parts sharded": lambda s: under(
        "_fsdp_wrapped_module.",
        {
            k.replace("layer1.", "layer1._checkpoint_wrapped_module."): v
            for k, v in s.items()
        },
    ),
    "early torch": lambda s: {"net": {k: v for k, v in s.items() if COUNTER not in k}},
    "tuple": lambda s: ({"model": s}, {"lr": 0.1}, 3),
    "lists in a dict": lambda s: {"models": [under("net.", s)], "epoch": 3},
    "pairs": lambda s: {"model": list(s.items())},
    "numbered": lambda s: {0: s},
    "arrays": lambda s: {"model": {k: v.numpy() for k, v in s.items()}},
    "equal twice": lambda s: {"model": s, "state_dict": dict(s)},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_one_group_that_fits_is_found(tmp_path, kind):
    state = trained(Residual(head=True)).state_dict()
    found = read(tmp_path, WRAPPED[kind](state))
    assert found.keys() == state.keys()
    for key, value in found.items():
        if kind != "early torch" or COUNTER not in key:
            assert torch.equal(value, state[key]), key


def test_a_wrapped_network_takes_the_weights_of_the_bare_one(tmp_path):
    state = trained(Residual(head=True)).state_dict()
    wrapped = nn.Sequential(Residual(head=True))
    for content in (state, {"model": under("module.", state)}):
        found = read(tmp_path, content, wrapped)
        assert all(torch.equal(found[f"0.{key}"], state[key]) for key in state)


TWO = {
    "teacher": lambda s: {"teacher": s, "student": plus_one(s)},
    "state_dict_ema": lambda s: {"state_dict": plus_one(s), "state_dict_ema": s},
    "ema_model.": lambda s: {**under("ema_model.", s), **under("model.", plus_one(s))},
    "'1'": lambda s: [plus_one(s), s],
    "averaged": lambda s: {"a": {"model": plus_one(s)}, "b": {"averaged": s}},
}


@pytest.mark.parametrize("name", TWO)
def test_of_two_networks_the_user_chooses(tmp_path, name):
    state = trained(Residual(head=True)).state_dict()
    content = TWO[name](state)
    with pytest.raises(ValueError, match=f"holds 2 networks that fit.*{name}.*EMA"):
        read(tmp_path, content)
    expected = Residual(head=True).state_dict()
    found = fitting_layouts(as_dicts(content), expected, source="file")
    seen = []
    for text, layout in found.items():  # what is proposed works as it is written
        argument = text.removeprefix("layout=").replace("versa.models.zoo.", "")
        chosen = eval(argument, {"CheckpointLayout": CheckpointLayout})
        assert LAYOUTS.get(chosen, chosen) == layout if isinstance(chosen, str) else 1
        seen.append(read(tmp_path, content, layout=chosen))
    assert sum(same_weights(one, state) for one in seen) == 1
    assert sum(same_weights(one, plus_one(state)) for one in seen) == 1


def test_published_files_with_two_networks_are_asked_about(tmp_path):
    state = trained(Residual()).state_dict()
    for name in ("moco", "dino_saycam"):
        content = PUBLISHED[name][0](state)
        with pytest.raises(ValueError, match=f"networks that fit.*layout='{name}'"):
            read(tmp_path, content, Residual())
        assert same_weights(read(tmp_path, content, Residual(), layout=name), state)


def test_a_mean_that_cannot_be_read_is_told(tmp_path, caplog):
    state = trained(Residual(head=True)).state_dict()
    shadow = {"shadow_params": list(state.values()), "decay": 0.99}
    with caplog.at_level(logging.WARNING, logger="versa"):
        read(tmp_path, {"model": state, "ema": shadow})
    (record,) = caplog.records
    assert "its ema cannot be read as this network" in record.getMessage()


def test_a_refusal_shows_the_keys_of_the_file(tmp_path):
    state = trained(Residual(head=True)).state_dict()
    del state["layer1.0.weight"]
    content = {"state_dict": {**under("enc.", state), **other("proj.w")}, "epoch": 3}
    with pytest.raises(
        ValueError, match=r"lacks 1 of .*: layer1\.0\.weight\."
    ) as caught:
        read(tmp_path, content)
    assert "under 'state_dict' (enc.*, proj.*)" in str(caught.value)
    with pytest.raises(ValueError, match="holds no tensors, but epoch, args"):
        read(tmp_path, {"epoch": 3, "args": {"lr": 1}})


def test_more_in_the_place_of_the_network_is_refused_with_what_helps(tmp_path):
    state = trained(Residual(head=True)).state_dict()
    content = {"model": {**state, **other("decoder.0.weight", "mask_token")}}
    with pytest.raises(ValueError, match="2 keys that the network has not") as caught:
        read(tmp_path, content)
    layout = CheckpointLayout(path=("model",), drop=("decoder.", "mask_token"))
    shown = "path=('model',), drop=('decoder.', 'mask_token'))"
    assert f"CheckpointLayout({shown}" in str(caught.value)
    assert same_weights(read(tmp_path, content, layout=layout), state)


def test_weights_that_refer_to_themselves_are_read_once(tmp_path):
    state = trained(Residual(head=True)).state_dict()
    content = {"model": state}
    content["again"] = content
    laughs = ["x"]
    for _ in range(30):
        laughs = [laughs, laughs]
    content["laughs"] = laughs
    assert same_weights(read(tmp_path, content), state)
    numbers = as_dicts({"w": np.arange(3, dtype=">f4"), "t": np.array(["a"])})
    assert numbers["w"].tolist() == [0, 1, 2]
    assert isinstance(numbers["t"], np.ndarray)


def test_a_packed_file_of_weights_does_not_fill_the_memory(tmp_path):
    whole, bomb = tmp_path / "whole.pth", tmp_path / "bomb.pth"
    torch.save({"w": torch.zeros(10)}, whole)
    with (
        zipfile.ZipFile(whole) as parts,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in parts.namelist():
            big = bytes(15 * 10**7) if name.endswith("data/0") else parts.read(name)
            packed.writestr(name, big)
    with pytest.raises(ValueError, match=r"bomb\.pth must unpack to at most"):
        open_checkpoint(bomb, source="weights")


def test_odd_keys_and_tensors_are_no_weights():
    expected = Residual().state_dict()
    sparse = torch.eye(2).to_sparse()
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    content = {
        "a.": torch.zeros(1),
        ".": torch.zeros(1),
        "": torch.zeros(1),
        3: torch.zeros(1),
        "s": sparse,
        "n": nested,
    }
    assert fitting_layouts(content, expected, source="file") == {}
    assert contents(content).startswith("The file holds 3 tensors (")
    assert contents({"a.": torch.zeros(1)}).startswith("The file holds 1 tensors (")
    odd = {**expected, "conv1.weight": sparse}
    assert fitting_layouts({"net": odd}, expected, source="file") == {}
    content["self"] = content  # a file may hold itself
    assert fitting_layouts(content, expected, source="file") == {}


EXTRAS = {
    "numpy scalars": [np.float64(71), np.float32(1), np.int32(3), np.bool_(True)],
    "numpy arrays": np.arange(3.0),
    "texts of numpy": np.str_("resnet"),
    "namespace": argparse.Namespace(lr=1, out=pathlib.Path("runs/a")),
    "simple namespace": types.SimpleNamespace(lr=1),
    "path": pathlib.Path("runs/a"),
}


@pytest.mark.parametrize("kind", EXTRAS)
def test_harmless_things_beside_the_weights_are_allowed(tmp_path, kind):
    state = trained(Residual(head=True)).state_dict()
    assert same_weights(read(tmp_path, {"model": state, "x": EXTRAS[kind]}), state)


class Runs:
    """Would write a file when it is built."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


def test_code_in_a_file_is_never_run(tmp_path):
    mark = tmp_path / "mark"
    content = {"model": Residual(head=True).state_dict(), "args": Runs(mark)}
    with pytest.raises(ValueError, match="may run code of the file"):
        read(tmp_path, content)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "change", "options"),
    [
        ("torchvision/resnet18", {"fc.weight": None, "fc.bias": None}, "'head': False"),
        ("timm/resnet18", {"fc.weight": None, "fc.bias": None}, "'num_classes': 0"),
        (
            "torchvision/resnet18",
            {"fc.weight": torch.ones(10, 512), "fc.bias": torch.ones(10)},
            "'num_classes': 10",
        ),
        (
            "timm/resnet18",
            {"fc.weight": torch.ones(7, 512), "fc.bias": torch.ones(7)},
            "'num_classes': 7",
        ),
    ],
)
def test_other_heads_name_the_option_that_works(tmp_path, name, change, options):
    from torchvision import models

    state = {**models.resnet18().state_dict(), **change}
    state = {key: value for key, value in state.items() if value is not None}
    path = tmp_path / "run.pth"
    torch.save({"state_dict": under("module.", state)}, path)
    text = rf"fits with options=\{{{options}\}}\."
    with pytest.raises(ValueError, match=text):
        load_model(name, weights=path, preprocess=PREPROCESS)
    key, value = options.replace("'", "").split(": ")
    chosen = {key: False if value == "False" else int(value)}
    model = load_model(name, weights=path, preprocess=PREPROCESS, options=chosen)
    assert torch.equal(model.module.conv1.weight, state["conv1.weight"])


def dinov2(model):
    """Weights of a network of timm under the keys of DINOv2's authors, and back."""
    state = trained(model).state_dict()
    file = {**state, "mask_token": torch.zeros(1, state["cls_token"].shape[-1])}
    if "reg_token" in state:  # theirs have a position for the class token
        file["register_tokens"] = file.pop("reg_token")
        place = torch.full_like(state["cls_token"], 0.5)
        file["pos_embed"] = torch.cat([place, file["pos_embed"]], dim=1)
        file["cls_token"] = state["cls_token"] - 0.5
    return file, state


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"]
)
def test_official_files_of_dinov2(tmp_path, name):
    import timm

    options = {"depth": 1, "img_size": 28}
    file, state = dinov2(timm.create_model(name, **options))
    path = tmp_path / "dinov2.pth"
    torch.save(file, path)
    given = {"weights": path, "preprocess": PREPROCESS}
    model = load_model(f"timm/{name}", options=options, **given)
    for key, value in model.module.state_dict().items():
        torch.testing.assert_close(value, state[key])
    larger = {**options, "img_size": 56}  # positions are not resampled in silence
    with pytest.raises(ValueError, match="pos_embed"):
        load_model(f"timm/{name}", options=larger, **given)
    torch.save({"teacher": file, "student": plus_one(file)}, path)
    with pytest.raises(ValueError, match=r"networks that fit.*teacher"):
        load_model(f"timm/{name}", options=options, **given)


def test_official_files_of_mae(tmp_path):
    import timm

    name, options = "vit_tiny_patch16_224", {"depth": 1, "num_classes": 0}
    state = trained(timm.create_model(name, **options)).state_dict()
    path = tmp_path / "mae.pth"
    torch.save({"model": state}, path)
    given = {"weights": path, "preprocess": PREPROCESS}
    with pytest.raises(ValueError, match=r"fits with options=\{'num_classes': 0\}"):
        load_model(f"timm/{name}", options={"depth": 1}, **given)
    model = load_model(f"timm/{name}", options=options, **given)
    assert same_weights(model.module.state_dict(), state)
    more = {**state, **other("decoder_embed.weight", "decoder_pred.bias")}
    torch.save({"model": more}, path)
    with pytest.raises(ValueError, match=r"drop=\('decoder_embed\.', 'decoder_pred"):
        load_model(f"timm/{name}", options=options, **given)
