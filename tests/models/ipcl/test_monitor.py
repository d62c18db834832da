"""What is measured and written down while a network trains."""

import csv
import io
import signal
import sys
import threading
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.ipcl_runs import config, image_tree
from versa.models.ipcl.augment import views
from versa.models.ipcl.augmentation import SET_1
from versa.models.ipcl.decoding import decode
from versa.models.ipcl.learner import Learner
from versa.models.ipcl.loader import BadImages, stack_canvases
from versa.models.ipcl.logs import EPOCHS, STEPS, RunLog, RunTable, plot_run
from versa.models.ipcl.monitor import Monitor, Stopped, middle_draws, pair_retrieval
from versa.models.ipcl.process_group import Launch, Team
from versa.models.ipcl.sources import ImageTree, JoinedImages
from versa.models.ipcl.stopping import stop_flag
from versa.models.readouts.neighbours import knn_accuracy


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return image_tree(tmp_path_factory.mktemp("data") / "images")


def learner_of(settings):
    team = Team(Launch(), torch.device("cpu"))
    return Learner(settings, n_images=48, n_classes=3, team=team)


def monitor_of(settings, images, val=None, stopping=lambda: False):
    bad = BadImages(len(images))
    return Monitor(settings, images, val, bad=bad, stopping=stopping)


@pytest.mark.parametrize("size", [(64, 64), (64, 90), (80, 64)])
def test_the_middle_is_that_of_torchvision(size):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    canvases, sizes = stack_canvases([pixels, pixels[:64, :64]])
    look = config("x", augmentation__size=56).augmentation
    found = views(canvases, middle_draws(sizes.numpy()), look)
    expected = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize(SET_1.mean, SET_1.std),
        ]
    )
    for k, one in enumerate((pixels, pixels[:64, :64])):
        torch.testing.assert_close(
            found[k], expected(Image.fromarray(one)), rtol=0, atol=1e-5
        )


def test_pairs_by_hand():
    x = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    assert pair_retrieval(x, x) == 100.0
    assert pair_retrieval(x, -x) == 0.0
    y = torch.nn.functional.normalize(x + 0.3 * torch.randn(40, 3), dim=1)
    nearest = [int(np.argmax([float(a @ b) for b in y])) for a in x]
    hits = sum(k == n for k, n in enumerate(nearest))
    assert pair_retrieval(x, y) == pytest.approx(100 * hits / 40)


def test_neighbours_are_those_of_the_middles(data):
    settings = config(data, monitor__k=7, monitor__pairs=0)
    images = ImageTree(data)
    learner = learner_of(settings)
    before = {k: v.clone() for k, v in learner.network.state_dict().items()}
    monitor = monitor_of(settings, images, images)
    assert monitor.names == ["knn_top1", "knn_top5"]
    found = monitor.measure(learner)
    for key, value in learner.network.state_dict().items():
        assert torch.equal(value, before[key])  # nothing has moved
    assert learner.network.training

    rows = []
    learner.network.eval()
    for k in range(len(images)):
        canvas, size = stack_canvases([decode(images.read(k), short_side=256)[0]])
        x = views(canvas, middle_draws(size.numpy()), settings.augmentation)
        with torch.no_grad():
            rows.append(learner.network(x))
    rows = torch.cat(rows)
    labels = images.labels
    expected = knn_accuracy(rows, labels, rows, labels, k=7)
    assert found["knn_top1"] == expected["top1"]
    assert np.isnan(found["knn_top5"])  # three classes


def test_supervised_accuracy(data):
    settings = config(data, method="supervised")
    images = ImageTree(data)
    learner = learner_of(settings)
    monitor = monitor_of(settings, images, images)
    assert monitor.names == ["val_top1", "val_top5"]
    learner.network.eval()
    hits = 0
    for k in range(len(images)):
        canvas, size = stack_canvases([decode(images.read(k), short_side=256)[0]])
        x = views(canvas, middle_draws(size.numpy()), settings.augmentation)
        with torch.no_grad():
            hits += int(learner.network(x).argmax() == images.labels[k])
    assert monitor.measure(learner)["val_top1"] == pytest.approx(100 * hits / 48)


def test_classes_of_several_folders_are_found_by_their_last_name(data, tmp_path):
    images = ImageTree(data)
    other = ImageTree(image_tree(tmp_path / "other", seed=1))
    joined = JoinedImages([images, other], ["a", "b"])
    settings = config(data, monitor__k=3)
    with pytest.raises(ValueError, match="class0, class1, class2 are not, or not by"):
        monitor_of(settings, joined, images)
    (tmp_path / "other" / "class0").rename(tmp_path / "other" / "class7")
    other = ImageTree(tmp_path / "other")
    joined = JoinedImages([images, other], ["a", "b"])
    (tmp_path / "val" / "class7").mkdir(parents=True)
    image = next((tmp_path / "other" / "class7").iterdir())
    (tmp_path / "val" / "class7" / "x.png").write_bytes(image.read_bytes())
    val = ImageTree(tmp_path / "val")
    monitor = monitor_of(settings, joined, val)
    assert joined.classes[monitor._classes[0]] == "b/class7"


def test_a_measure_can_be_stopped(data):
    settings = config(data)
    learner = learner_of(settings)
    monitor = monitor_of(settings, ImageTree(data), stopping=lambda: True)
    with pytest.raises(Stopped):
        monitor.measure(learner)
    assert learner.network.training


# What is written


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_goes_back_and_survives_a_torn_row(tmp_path):
    path = tmp_path / "steps.csv"
    table = RunTable(path, ["step", "loss"], 0)
    for step in range(1, 6):
        table.add({"step": step, "loss": 1 / step})
    with open(path, "a") as file:
        file.write("6,0.1")  # killed in the middle of a row
    again = RunTable(path, ["step", "loss"], 3)
    assert [row["step"] for row in again.rows()] == ["1", "2", "3"]
    assert again.rows()[2]["loss"] == "0.333333"
    other = RunTable(path, ["step", "lr"], 9)
    other.add({"step": 4, "lr": 0.5})
    rows = other.rows()  # nothing of other columns is lost
    assert [(r["step"], r["loss"][:5], r["lr"]) for r in rows] == [
        ("1", "1", ""), ("2", "0.5", ""), ("3", "0.333", ""), ("4", "", "0.5"),
    ]  # fmt: skip
    assert RunTable(path, ["step"], -1).rows() == []


def test_a_full_disk_leaves_no_half_of_a_row(tmp_path, monkeypatch, caplog):
    table = RunTable(tmp_path / "steps.csv", ["step", "loss"], 0)
    table.add({"step": 1, "loss": 0.5})

    class Full(io.FileIO):
        def write(self, content):
            return super().write(content[: len(content) // 2])

    def opened(path, mode, buffering):
        return Full(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", opened)
        table.add({"step": 2, "loss": 0.25})
    assert "cannot be written (no space left)" in caplog.text
    table.add({"step": 3, "loss": 0.125})
    assert [row["step"] for row in table.rows()] == ["1", "3"]


def test_a_torn_log_keeps_nobody_from_the_end(tmp_path):
    log = log_some(tmp_path)
    with open(tmp_path / STEPS, "a") as file:
        file.write("5,1,20,0.1\n6,1,24,0.1,0.9,8,1,0.5,2,0,0.25")
    log.add_epoch({"epoch": 2, "step": 4})
    log.close()
    assert len(rows_of(tmp_path / EPOCHS)) == 1


def test_a_log_that_cannot_be_written_is_no_end(tmp_path, caplog):
    table = RunTable(tmp_path / "x" / "steps.csv", ["step"], 0)
    table.path = tmp_path  # a folder
    table.add({"step": 1})
    table.add({"step": 2})
    assert caplog.text.count("cannot be written") == 1


def log_some(folder, step=0):
    log = RunLog(folder, step, ["loss", "positive", "negative"], ["knn_top1"])
    for k in range(step + 1, 5):
        log.add_step(
            {
                "step": k, "epoch": (k - 1) // 2, "images": 4 * k, "lr": 0.1,
                "momentum": 0.9, "loss": 8.0 / k, "positive": 1.0, "negative": 0.5,
                "gradient_norm": 2.0, "images_per_second": [0, 10, 30, 10, 10][k],
                "wait_share": 0.25, "seconds": float(k),
            }
        )  # fmt: skip
    return log


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


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log_some(tmp_path).close()
    assert not (tmp_path / "tensorboard").exists()


# Signals


def test_signals_raise_a_flag_and_are_given_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_flag() as flag:
        assert not flag.asked
        signal.raise_signal(signal.SIGUSR2)
        assert (flag.preempted, flag.interrupted) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert flag.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_outside_the_main_thread_no_signal_is_touched():
    found = []

    def look():
        with stop_flag() as flag:
            found.append((flag.asked, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(False, before)]
