"""The console script versa-train-ipcl, as a user meets it."""

import csv
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.ipcl_runs import image_tree, options
from versa.cli.train import train_command
from versa.models.ipcl import image_source
from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.packing import PackedImages
from versa.models.ipcl.recipes import (
    config_text,
    differences,
    read_config,
    read_text,
    recipe_names,
)
from versa.models.zoo import networks
from versa.models.zoo.cards import card_folder, read_card
from versa.models.zoo.loading import load_model

RUN = """
import sys
from versa.cli.train import train_command
sys.exit(train_command())
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return image_tree(tmp_path_factory.mktemp("data") / "images")


def sets(data, **changes):
    """The options of a small run as arguments, without its data."""
    found = [o for o in options(data, **changes) if not o.startswith("data=")]
    return [part for option in found for part in ("--set", option)]


def run(*arguments):
    return train_command([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


@pytest.fixture(scope="module")
def card(tmp_path_factory, data):
    """The card of a short training, through the command."""
    folder = tmp_path_factory.mktemp("runs") / "small_run"
    assert run(data, "--out", folder, *sets(data)) == 0
    return folder / "export" / "small_run.toml"


def test_train_exports_what_load_model_takes(card, capsys, data, monkeypatch):
    folder = card.parents[1]
    assert read_card(card).diet == "images"
    assert (read_card(card).epochs, read_card(card).notes[-13:]) == (3, "step 12 of 12")
    # the same command again: nothing to do, the card is as it was
    before = card.stat().st_mtime_ns
    assert run(data, "--out", folder, "--quiet", *sets(data)) == 0
    assert card.stat().st_mtime_ns == before
    said = capsys.readouterr().out
    assert "trained for 12 steps." in said
    assert str(card) in said
    monkeypatch.setenv("VERSA_ZOO", str(card.parent))
    model = load_model("small_run")
    with torch.no_grad():
        out = model.module(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))


@pytest.mark.slow
def test_an_export_from_the_middle_is_replaced(tmp_path, data, capsys):
    folder = tmp_path / "run"
    assert run(data, "--out", folder, *sets(data, engine__keep=9)) == 0
    assert run("export", folder, "--step", "4") == 0
    card = folder / "export" / "run.toml"
    assert read_card(card).epochs == 1
    assert read_card(card).notes.endswith("step 4 of 12")
    assert run(data, "--out", folder, *sets(data)) == 0
    assert read_card(card).notes.endswith("step 12 of 12")


def test_options_and_recipes(tmp_path, capsys, data):
    odd = "b \U0001f600"
    assert run("--print-config", "--set", "epochs=7", "a", odd) == 0
    table = yaml.safe_load(capsys.readouterr().out)
    assert (table["epochs"], table["data"]) == (7, ["a", odd])
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: 3\noptimizer: {lr: 0.5}\n")
    assert run("--print-config", "--config", recipe, "--set", "optimizer.lr=0.25") == 0
    table = yaml.safe_load(capsys.readouterr().out)
    assert (table["epochs"], table["optimizer"]["lr"]) == (3, 0.25)


def test_every_recipe_is_read():
    names = recipe_names()
    assert {
        "ipcl_ref01",
        "ipcl_ref06_imagenet",
        "ipcl_ref07_openimages",
        "ipcl_ref08_places2",
        "ipcl_ref09_vggface2",
        "ipcl_ref10_faces_places_objects",
        "ipcl_ref11_faces_places_objects_3x",
        "supervised_ref12_5views",
        "supervised_ref13_1view",
    } <= set(names)
    for name in names:
        config = read_config(name)
        assert read_text(config_text(config)) == config
    # the paper's recipe is the default; set 2 has the normalisation of these cards
    assert differences(read_config("ipcl_ref01"), TrainConfig()) == []
    for name, number in (("imagenet", "06"), ("vggface2", "09")):
        augmentation = read_config(f"ipcl_ref{number}_{name}").augmentation
        card = next(card_folder().glob(f"alexnet_gn_ipcl_ref{number}*.toml"))
        assert augmentation.mean == read_card(card).preprocess.mean
        assert augmentation.std == read_card(card).preprocess.std


def test_what_a_recipe_leaves_open_is_said(tmp_path, data, caplog):
    """Crop areas of Set 2, at the start and in the card; not if the user knows them."""
    numbers = ("06", "07", "08", "09", "10", "11", "14")
    for name in recipe_names():
        left_open = name.partition("_ref")[2][:2] in numbers
        assert set(read_config(name).unsettled) == (
            {"augmentation.scale"} if left_open else set()
        )
    changed = read_config("ipcl_ref06_imagenet", "augmentation.scale=[0.5, 1]")
    assert changed.unsettled == {}
    parts = data.rename(data.parent / "train")
    arguments = ["--config", "ipcl_ref06_imagenet", "--init-from", tmp_path / "none"]
    folder = tmp_path / "run"
    try:
        small = sets(data, epochs=1, augmentation__scale="[0.2, 1]")
        known = [*small[: small.index("augmentation.scale=[0.2, 1]") - 1]]
        assert run(parts, "--out", folder, *arguments, *known) == 2  # no such weights
        assert run(parts, "--out", folder, *arguments[:2], *known) == 0
    finally:
        parts.rename(data)
    card = read_card(folder / "export" / "run.toml")
    assert "augmentation.scale: the paper crops less in Set 2" in card.notes
    assert card.diet == data.parent.name
    assert "augmentation.scale may not be the paper's" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "x"], "DATA must name at least one folder"),
        (
            ["nowhere", "--out", "x"],
            "images must be in a folder; nowhere is not a folder",
        ),
        (["a"], "--out must name the folder of the run"),
        (["a", "--out", "x", "--set", "epoch=3"], "key must be among .* epochs?"),
        (["a", "--out", "x", "--set", "epochs"], "must be written key=value"),
        (["a", "--out", "x", "--config", "ipcl_ref1"], "Did you mean ipcl_ref01"),
        (["a", "--out", "x", "--config", "no.yaml"], "must be a file; no.yaml is not"),
        (["export", "nowhere"], "must hold checkpoints"),
        (["plot", "nowhere"], "must hold steps.csv"),
        (["pack", "nowhere", "f"], "images must be in a folder"),
        (["knn", "no.toml", "--train", "a", "--val", "b"], "card must be a file"),
    ],
)
def test_refused(tmp_path, monkeypatch, capsys, arguments, sentence):
    import re

    monkeypatch.chdir(tmp_path)
    assert re.search(sentence, refused(capsys, *arguments))
    assert not list(tmp_path.iterdir())


def test_help_of_every_command(capsys):
    for command in ("", "pack", "export", "plot", "knn", "linear", "map"):
        with pytest.raises(SystemExit) as stopped:
            run(*filter(None, [command, "-h"]))
        assert stopped.value.code == 0
        assert f"usage: versa-train-ipcl {command}".strip() in capsys.readouterr().out


def test_a_packed_file_trains_as_the_folder(tmp_path, data, capsys):
    packed = tmp_path / "images.pack"
    assert run("pack", data, packed) == 0
    assert "48 of 48 images" in capsys.readouterr().out
    assert len(PackedImages(packed)) == 48
    assert run(packed, "--out", tmp_path / "run", *sets(data, epochs=1)) == 0
    assert "must not exist before it is packed" in refused(capsys, "pack", data, packed)


def test_read_outs_take_packed_files(card, tmp_path, data, capsys):
    packed = tmp_path / "images.pack"
    assert run("pack", data, packed) == 0
    images = ["--train", packed, "--val", packed, "--device", "cpu", "--quiet"]
    capsys.readouterr()
    for crop in ("validation", "whole"):
        arguments = ["--k", "5", "--layers", "l2norm", "--crop", crop]
        assert run("knn", card, *images, *arguments) == 0
        assert f"({crop} crop)" in capsys.readouterr().out
        assert f"in l2norm, {crop} crop" in read_card(card).accuracy_source
    assert run("linear", card, *images, "--epochs", "1", "--lr", "1") == 0
    assert capsys.readouterr().out.startswith("10: top1")  # below the last Linear
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "train" / "a").symlink_to(data / "class0")
    whole = ["--train", tmp_path / "set", "--val", packed, "--k", "5"]
    assert f"Give {tmp_path}/set/train" in refused(capsys, "knn", card, *whole)


def test_images_out_of_reach_mean_again(tmp_path, data, monkeypatch, capsys):
    def out_of_reach(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(image_source, "_PAUSES", ())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", out_of_reach)
        assert run(data, "--out", tmp_path / "run", *sets(data)) == 75
        said = capsys.readouterr().out
        assert said == "stopped in step 1; run the same command to begin.\n"
        assert run("pack", data, tmp_path / "images.pack") == 75
    assert "images must be within reach" in capsys.readouterr().err
    assert run("pack", data, tmp_path / "images.pack") == 0
    assert not (tmp_path / "run" / "bad_images.csv").exists()


def test_read_outs_go_into_the_card(card, data, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("VERSA_ZOO", raising=False)
    images = ["--train", data, "--val", data, "--device", "cpu", "--quiet"]
    assert run("knn", card, *images, "--k", "5", "--layers", "l2norm,8") == 0
    said = capsys.readouterr().out
    assert "l2norm: top1" in said
    assert "8: top1" in said
    more = ["--layer", "8", "--epochs", "2", "--lr", "1"]
    assert run("linear", card, *images, *more) == 0
    found = read_card(card)
    assert 0 <= found.top1_knn <= 100
    assert 0 <= found.top1_linear <= 100
    assert "5 nearest neighbours in l2norm" in found.accuracy_source
    assert "linear read-out of 8, 2 epochs" in found.accuracy_source

    figure = tmp_path / "map.png"
    monkeypatch.delenv("VERSA_ZOO", raising=False)
    arguments = ["--images-per-class", "6", "--perplexity", "5", "--device", "cpu"]
    assert run("map", card, data, "--out", figure, *arguments) == 0
    assert figure.read_bytes()[:4] == b"\x89PNG"
    with open(figure.with_suffix(".csv"), newline="") as file:
        table = list(csv.DictReader(file))
    expected = [f"class{k}" for k in (0, 1, 2) for _ in range(6)]
    assert [row["class"] for row in table] == expected


def test_plot_and_export(card, tmp_path, capsys):
    folder = card.parents[1]
    assert run("plot", folder, "--out", tmp_path / "curve.pdf") == 0
    assert (tmp_path / "curve.pdf").read_bytes()[:4] == b"%PDF"
    assert run("export", folder, "--out", tmp_path / "zoo", "--name", "again") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path}/zoo/again.toml"


@pytest.mark.slow
def test_a_scheduler_is_told_to_run_it_again(tmp_path, data):
    folder = tmp_path / "run"
    command = [
        sys.executable, "-c", RUN, str(data), "--out", str(folder),
        *sets(data, images_per_epoch=9600, epochs=1),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    table = folder / "steps.csv"
    while not table.exists() or len(table.read_text().splitlines()) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert b"run the same command to resume" in out
    assert list((folder / "checkpoints").glob("step-*.pt"))


@pytest.mark.slow
def test_torchrun(tmp_path, data):
    """Two processes, started as a user starts them."""
    folder = tmp_path / "run"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", "2", "--no-python", sys.executable, "-c", RUN,
        str(data), "--out", str(folder), *sets(data, epochs=1),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained for 4 steps.") == 1
    assert (folder / "export" / "run.toml").is_file()


def test_code_of_ones_own_is_named_on_the_command_line(data, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from tests.ipcl_runs import tiny as net\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VERSA_BUILDERS", "")
    monkeypatch.setattr(networks, "_named_by_user", set())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("architecture: mine:net\n")  # perhaps of somebody else
    given = (data, "--out", tmp_path / "run")
    own = sets(data, architecture="mine:net", epochs=1)
    assert run(*given, "--config", recipe) == 2
    assert run(*given, *own) == 0
