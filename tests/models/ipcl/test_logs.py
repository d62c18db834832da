"""What a run writes down: tables that go back, survive a kill and a full disk."""

import csv
import io
import sys
import threading
import types

import pytest

from versa.models.ipcl.logs import (
    EPOCHS,
    STEPS,
    Doing,
    RunLog,
    collapse_step,
    plot_run,
)
from versa.progress import every_minute

PARTS = ["loss", "positive", "negative"]


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def log_some(folder, step=0, last=4):
    log = RunLog(folder, step, PARTS, ["knn_top1"])
    for k in range(step + 1, last + 1):
        log.add_step(
            {
                "step": k, "epoch": (k - 1) // 2, "images": 4 * k, "lr": 0.1,
                "momentum": 0.9, "loss": 8.0 / k, "positive": 1.0, "negative": 0.5,
                "gradient_norm": 2.0, "images_per_second": [0, 10, 30, 10, 10][k],
                "wait_share": 0.25, "seconds": float(k),
            }
        )  # fmt: skip
    return log


def test_a_table_goes_back_and_survives_a_torn_row(tmp_path):
    path = tmp_path / STEPS
    log_some(tmp_path)
    with open(path, "a") as file:
        file.write("6,0.1")  # killed in the middle of a row
    RunLog(tmp_path, 3, ["loss", "accuracy"], [])
    rows = rows_of(path)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert rows[2]["loss"] == "2.66667"
    assert rows[2]["accuracy"] == ""
    assert rows[2]["positive"] == "1"  # nothing of other columns is lost
    log = RunLog(tmp_path, 3, PARTS, [])
    log.add_step({"step": 4, "epoch": 1, "loss": 0.5})
    assert [row["loss"] for row in rows_of(path)] == ["8", "4", "2.66667", "0.5"]
    RunLog(tmp_path, -1, PARTS, [])
    assert rows_of(path) == []


def test_a_full_disk_leaves_no_half_of_a_row(tmp_path, monkeypatch, caplog):
    log = log_some(tmp_path, last=1)

    class Full(io.FileIO):
        def write(self, content):
            return super().write(content[: len(content) // 2])

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda path, mode, buffering: Full(path, mode))
        log.add_step({"step": 2, "loss": 0.25})
        log.add_step({"step": 2, "loss": 0.25})
    assert caplog.text.count("cannot be written (no space left)") == 1
    log.add_step({"step": 3, "loss": 0.125})
    assert [row["step"] for row in rows_of(tmp_path / STEPS)] == ["1", "3"]


def test_a_torn_log_keeps_nobody_from_the_end(tmp_path):
    log = log_some(tmp_path)
    with open(tmp_path / STEPS, "a") as file:
        file.write("5,1,20,0.1\n6,1,24,0.1,0.9,8,1,0.5,2,0,0.25")
    log.add_epoch({"epoch": 2, "step": 4})
    log.close()
    assert len(rows_of(tmp_path / EPOCHS)) == 1


def test_an_epoch_is_the_mean_of_its_steps(tmp_path):
    log = log_some(tmp_path)
    log.add_epoch({"epoch": 0, "step": 0, "knn_top1": 3.0, "damaged_images": 0})
    log.add_epoch({"epoch": 1, "step": 2, "knn_top1": 9.5, "damaged_images": 1})
    assert log.has_epoch(1)
    assert not log.has_epoch(2)
    zero, one = rows_of(tmp_path / EPOCHS)
    assert (zero["loss"], zero["knn_top1"]) == ("", "3")
    assert (one["loss"], one["negative"]) == ("6", "0.5")
    # 4 images at 10 and 4 at 30 images per second: 8 in 4/10 + 4/30 s
    assert float(one["images_per_second"]) == pytest.approx(15.0)
    log.close()
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    plot_run(tmp_path, tmp_path / "curve.pdf")
    assert (tmp_path / "curve.pdf").read_bytes()[:4] == b"%PDF"
    assert len(rows_of(tmp_path / STEPS)) == 4


def test_tensorboard_has_the_same_numbers(tmp_path, monkeypatch, caplog):
    written = {}

    class Writer:
        def __init__(self, folder, purge_step):
            written["start"] = (folder, purge_step)

        def add_scalar(self, name, value, step):
            if step == 99:
                raise OSError("No space left on device")
            written[name, step] = value

        def close(self):
            written["closed"] = True

    fake = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    log = log_some(tmp_path, step=2)
    log.add_epoch({"epoch": 2, "step": 4, "knn_top1": 9.5})
    log.close()
    assert written["start"] == (str(tmp_path / "tensorboard"), 3)
    assert written["train/loss", 4] == 2.0
    assert written["measures/knn_top1", 4] == 9.5
    assert written["closed"]
    log = log_some(tmp_path, step=4)
    log.add_epoch({"epoch": 3, "step": 99, "knn_top1": 1.0})
    assert "TensorBoard's files cannot be written" in caplog.text
    log.add_epoch({"epoch": 4, "step": 100, "knn_top1": 1.0})
    assert ("measures/knn_top1", 100) not in written


def test_a_line_every_minute(caplog):
    doing, said = Doing(), threading.Event()
    doing.begin("epoch 1 of 2", bar=True)
    assert doing.text() == "epoch 1 of 2: for 0 s"
    doing.note("step 3 of 8, loss 2.5")

    def text():
        said.set()
        return doing.text()

    with caplog.at_level("INFO", logger="versa"), every_minute(text, seconds=0.001):
        assert said.wait(10)
    assert "epoch 1 of 2: step 3 of 8, loss 2.5" in caplog.text
    doing.shown = True
    assert doing.text() == ""  # the bar shows it
    doing.begin("measuring after epoch 1")
    assert doing.text() == "measuring after epoch 1: for 0 s"


def test_a_collapse_is_said_once(tmp_path, caplog):
    negative = [1.5, 2.0, 29.9, 30.1, 300.0, 2.0]
    log = RunLog(tmp_path, -1, PARTS, [])
    for step, value in enumerate(negative, start=1):
        log.add_step({"step": step, "epoch": 0, "negative": value})
    assert caplog.text.count("may have collapsed") == 1
    assert "in step 4: the negative part of the loss is 30.1, 20 times" in caplog.text
    assert collapse_step(tmp_path) == 4
    assert collapse_step(tmp_path, 3) is None
    log = RunLog(tmp_path, 5, PARTS, [])  # it was said before
    log.add_step({"step": 6, "epoch": 0, "negative": 400.0})
    assert caplog.text.count("may have collapsed") == 1
    log = RunLog(tmp_path, 2, PARTS, [])  # the start is still that of step 1
    log.add_step({"step": 3, "epoch": 0, "negative": 31.0})
    assert caplog.text.count("may have collapsed") == 2
    assert collapse_step(tmp_path / "nowhere") is None


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log_some(tmp_path).close()
    assert not (tmp_path / "tensorboard").exists()
