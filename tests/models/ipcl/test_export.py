"""From the folder of a run to a network of the zoo."""

import json

import pytest
import torch
from safetensors import safe_open

from tests.ipcl_runs import config, image_tree, tiny
from versa.models.architectures import AlexNetGN
from versa.models.ipcl.checkpoint import load_newest
from versa.models.ipcl.export import add_accuracy, export_run
from versa.models.ipcl.process_group import Launch
from versa.models.ipcl.training import CHECKPOINTS, train
from versa.models.zoo.cards import list_models, read_card
from versa.models.zoo.loading import load_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return image_tree(tmp_path_factory.mktemp("data") / "images")


def run(folder, data, **changes):
    short = {"epochs": 2, "engine__keep": 9, **changes}
    settings = config(data, **short)
    train(settings, folder, progress=False, launch=Launch())
    return load_newest(folder / CHECKPOINTS)[1]["network"]


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory, data):
    """One short training of the paper's network on small views."""
    folder = tmp_path_factory.mktemp("runs") / "ipcl_small"
    changes = {
        "architecture": "alexnet_gn",
        "dim": 16,
        "epochs": 1,
        "images_per_epoch": 12,
        "augmentation__size": 64,
        "augmentation__mean": "[0.5, 0.5, 0.5]",
    }
    return folder, run(folder, data, **changes)


@pytest.fixture(scope="module")
def small(tmp_path_factory, data):
    """The folder of a short training of a tiny network, with two checkpoints."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    run(folder, data)
    return folder


def same(module, source, size=64):
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(module(x), source(x), rtol=0, atol=0)


def test_an_exported_network_is_one_of_the_zoo(alexnet, monkeypatch):
    folder, state = alexnet
    path = export_run(folder)
    assert path == folder / "export" / "ipcl_small.toml"
    weights = path.with_suffix(".safetensors")
    with safe_open(weights, "pt") as file:
        keys = set(file.keys())
        record = json.loads(file.metadata()["versa"])
    expected = AlexNetGN(out_dim=16)
    assert keys == set(expected.state_dict())  # the authors' names
    assert record["builder"] == "alexnet_gn"
    assert record["step"] == 1
    expected.load_state_dict(state)
    expected.eval()

    monkeypatch.setenv("VERSA_ZOO", str(path.parent))
    model = load_model("ipcl_small")
    same(model.module, expected)
    assert model.preprocess.crop == model.preprocess.resize == 64
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert (model.validation.resize, model.validation.crop) == (73, 64)
    assert model.layers == expected.layers
    (row,) = list_models(method="IPCL", diet="images").to_dict("records")
    assert row["name"] == "ipcl_small"
    assert row["architecture"] == "AlexNet-GN"
    # the file alone says how it was made
    own = load_model("alexnet_gn", weights=weights)
    same(own.module, expected)
    assert own.preprocess == model.preprocess


def test_accuracies_go_into_the_card(small, tmp_path):
    path = export_run(small, tmp_path, name="two")
    before = path.read_text()
    add_accuracy(path, {"top1_knn": 38.41239}, "kNN of l2norm, 2026")
    add_accuracy(path, {"top1_linear": 39}, "linear")
    add_accuracy(path, {"top1_knn": 40.0}, "kNN again")
    card = read_card(path)
    assert (card.top1_knn, card.top1_linear, card.top1) == (40.0, 39.0, None)
    assert card.accuracy_source == "top1_linear: linear; top1_knn: kNN again"
    kept = [line for line in before.splitlines() if line]
    assert set(kept) <= set(path.read_text().splitlines())
    with pytest.raises(ValueError, match="colour is no accuracy"):
        add_accuracy(path, {"colour": 1.0}, "")
    assert read_card(path) == card


@pytest.mark.parametrize(
    "changes",
    [
        {"options": "{width: 4}"},
        {"method": "supervised", "precision": "fp64"},
        pytest.param(
            {"architecture": "torchvision/resnet18", "epochs": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_networks(tmp_path, data, monkeypatch, changes):
    state = run(tmp_path / "run", data, **changes)
    path = export_run(tmp_path / "run", tmp_path / "zoo", name="mine")
    monkeypatch.setenv("VERSA_ZOO", str(path.parent))
    model = load_model("mine")
    for key, value in model.module.state_dict().items():
        torch.testing.assert_close(value, state[key].to(value.dtype), rtol=0, atol=0)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        out = model.module(x)
    if changes.get("method") == "supervised":
        source = tiny(3)
        source.load_state_dict(state)
        same(model.module, source.eval(), 32)
        assert model.card.method == "supervised"
    else:
        torch.testing.assert_close(out.norm(dim=1), torch.ones(2))


def test_a_checkpoint_of_choice(tmp_path, small):
    early = export_run(small, tmp_path, name="early", step=4)
    late = export_run(small, tmp_path, name="late")
    assert "step 4 of 8" in read_card(early).notes
    assert read_card(early).epochs == 1
    assert "step 8 of 8" in read_card(late).notes
    with pytest.raises(ValueError, match=r"of a checkpoint in .*, 4, 8; got 5"):
        export_run(small, step=5)


def test_refused(tmp_path, small, monkeypatch):
    with pytest.raises(ValueError, match="must hold checkpoints with at least one"):
        export_run(tmp_path)
    with pytest.raises(ValueError, match=r"letters, digits .* got 'a b'"):
        export_run(small, tmp_path, name="a b")
    with pytest.raises(ValueError, match="'alexnet_gn_untrained' is in the zoo"):
        export_run(small, tmp_path, name="alexnet_gn_untrained")
    assert not list(tmp_path.iterdir())
    path = export_run(small, tmp_path / "zoo", name="net")
    monkeypatch.setenv("VERSA_ZOO", str(path.parent))
    assert export_run(small, path.parent, name="net") == path  # once more
    with pytest.raises(ValueError, match="'net' is in the zoo already"):
        export_run(small, tmp_path / "else", name="net")
