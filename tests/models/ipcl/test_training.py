"""Training runs: against a plain loop, in pieces, on several processes, stopped."""

import csv
import errno
import math
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.ipcl_runs import (
    begin,
    begin_all,
    config,
    ended,
    finished,
    image_tree,
    options,
    tiny,
)
from versa.models.ipcl import checkpoint, image_source, training
from versa.models.ipcl.augment import views
from versa.models.ipcl.checkpoint import load_newest, saved_checkpoints
from versa.models.ipcl.decoding import decode
from versa.models.ipcl.export import export_run
from versa.models.ipcl.learner import torch_flags
from versa.models.ipcl.loader import stack_canvases
from versa.models.ipcl.loss import IPCLLoss
from versa.models.ipcl.process_group import Launch
from versa.models.ipcl.random_numbers import draws
from versa.models.ipcl.schedule import epoch_order
from versa.models.ipcl.sources import ImageTree
from versa.models.ipcl.training import CHECKPOINTS, CONFIG, train
from versa.models.zoo.cards import read_card
from versa.models.zoo.networks import build_seeded

ALONE = Launch()
N_STEPS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return image_tree(tmp_path_factory.mktemp("data") / "images")


def trained(folder, data, **changes):
    return train(config(data, **changes), folder, progress=False, launch=ALONE)


def newest(folder):
    found = load_newest(folder / CHECKPOINTS)
    assert found is not None
    return found[1]


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def assert_equal(one, other, relative=0.0):
    """Two states, key by key; tensors by the norm of their difference."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        if not relative or not one.is_floating_point():
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        else:
            assert (one - other).norm() <= relative * other.norm()
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key], relative)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b, relative)
    else:
        assert one == other


def learned(state):
    return {k: state[k] for k in ("network", "loss", "optimizer", "scaler", "step")}


# Against a plain loop: torch's own BatchNorm, one group after the other, the printed
# formula, and the rates of Supplementary methods written out


def plain_loop(data, settings, n_steps):
    images = ImageTree(data)
    network = build_seeded(lambda: tiny(settings.dim), settings.seed).double().train()
    start = IPCLLoss(settings.dim, settings.loss.queue_size, seed=settings.seed)
    queue = start.queue.double()  # (dim, K)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4
    )
    n_views, size, n_groups = settings.n_views, settings.group_images, 3
    per_epoch = (settings.images_per_epoch or len(images)) // (n_groups * size)
    total = settings.epochs * per_epoch * n_groups
    z, losses = None, []
    for step in range(n_steps):
        epoch, place = divmod(step, per_epoch)
        order = epoch_order(
            [len(images)], seed=settings.seed, epoch=epoch,
            images_per_epoch=settings.images_per_epoch,
        )  # fmt: skip
        values = []
        for group in range(n_groups):
            first = (place * n_groups + group) * size
            chosen = order[first : first + size]
            pixels = [decode(images.read(int(k)), short_side=256)[0] for k in chosen]
            canvases, sizes = stack_canvases(pixels)
            drawn = draws(
                settings.augmentation, seed=settings.seed, epoch=epoch,
                images=chosen, n_views=n_views, sizes=sizes,
            )  # fmt: skip
            x = views(canvases, drawn, settings.augmentation, dtype=torch.float64)
            x = functional.normalize(network(x), dim=1)
            mean = x.detach().view(n_views, size, -1).mean(0).repeat(n_views, 1)
            plus = ((x * mean).sum(1) / 0.07).exp()
            minus = (x @ queue / 0.07).exp()
            if z is None:
                entries = torch.cat([plus, minus.flatten()])
                z = entries.mean().detach() * len(images)
            c = queue.shape[1] / len(images)
            hits = -(plus / z / (plus / z + c + 1e-7)).log()
            misses = -(c / (minus / z + c + 1e-7)).log().sum(1)
            loss = (hits + misses).mean()
            (loss / n_groups).backward()
            values.append(loss.item())
            queue = torch.cat([x.detach().T, queue], 1)[:, : queue.shape[1]]
        place, rise = step * n_groups + n_groups - 1, int(total * 0.4)
        if place < rise:
            part = (1 - math.cos(math.pi * place / rise)) / 2
            lr, momentum = 3e-5 + (0.03 - 3e-5) * part, 0.95 - 0.1 * part
        else:
            part = (1 - math.cos(math.pi * (place - rise) / (total - rise))) / 2
            lr, momentum = 0.03 + (3e-9 - 0.03) * part, 0.85 + 0.1 * part
        for parameters in optimizer.param_groups:
            parameters["lr"], parameters["momentum"] = lr, momentum
        optimizer.step()
        optimizer.zero_grad()
        losses.append(np.mean(values))
    return network, queue, z, losses


@pytest.mark.parametrize("chunk_groups", [1, 3])
def test_a_run_is_the_plain_loop(tmp_path, data, chunk_groups):
    changes = {"precision": "fp64", "engine__chunk_groups": chunk_groups}
    end = trained(tmp_path, data, **changes)
    assert (end.step, end.n_steps, end.finished) == (N_STEPS, N_STEPS, True)
    network, queue, z, losses = plain_loop(data, config(data, **changes), N_STEPS)
    state = newest(tmp_path)
    assert_equal(state["network"], dict(network.state_dict()), 1e-9)
    assert_equal(state["loss"]["queue"], queue, 1e-9)
    assert state["loss"]["log_z"].exp().item() == pytest.approx(z.item(), rel=1e-9)
    found = [float(row["loss"]) for row in rows(tmp_path / "steps.csv")]
    np.testing.assert_allclose(found, losses, rtol=1e-5)  # six digits in the table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_ranks", "changes"),
    [
        (2, {}),
        # 8 groups on 2, in chunks of 3: uneven; and 3 processes with 4 groups: in a
        # round two of them have none
        (2, {"groups_per_step": 8, "engine__chunk_groups": 3, "group_images": 2}),
        (3, {"groups_per_step": 4, "group_images": 2}),
        (2, {"method": "supervised"}),
    ],
)
def test_processes_change_nothing(tmp_path, data, n_ranks, changes):
    val = {"monitor__every": 1, "monitor__val": data, "monitor__k": 5, "epochs": 2}
    # a low rate, because a high one makes rounding errors grow from step to step
    numbers = {"precision": "fp64", "optimizer__lr": 0.003, "monitor__pairs": 7}
    changes = {**numbers, **val, **changes}
    trained(tmp_path / "one", data, **changes)
    several = begin_all(tmp_path / "more", options(data, **changes), n_ranks)
    ends = [finished(process) for process in several]
    one, more = (newest(tmp_path / name) for name in ("one", "more"))
    assert ends == [(one["step"], True, False, False)] * n_ranks
    assert_equal(learned(more), learned(one), 1e-9)
    measured = [
        [
            {k: v for k, v in row.items() if k.endswith(("top1", "top5"))}
            for row in rows(tmp_path / name / "epochs.csv")
        ]
        for name in ("one", "more")
    ]
    assert measured[0] == measured[1]
    assert len(measured[0]) == 3  # before the first epoch, and after each
    assert all(row for row in measured[0])


# Stopped and going on


def wait_for(condition, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def n_logged(folder):
    path = folder / "steps.csv"
    return len(rows(path)) if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_killed_and_continued_bit_for_bit(tmp_path, data, dropout):
    # 40 steps, and 20 steps + kill -9 + the rest
    changes = {"epochs": 10, "options": f"{{dropout: {dropout}}}"}
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert finished(begin(whole, options(data, **changes))) == (40, True, False, False)
    process = begin(torn, options(data, **changes))
    wait_for(lambda: n_logged(torn) >= 20, process)
    process.kill()
    process.wait()
    left = saved_checkpoints(torn / CHECKPOINTS)[-1]
    assert 0 < left.step < 40
    assert finished(begin(torn, options(data, **changes))) == (40, True, False, False)
    one, other = newest(whole), newest(torn)
    assert_equal(learned(other), learned(one))
    columns = ("step", "epoch", "lr", "momentum", "loss", "gradient_norm")
    logs = [
        [[row[name] for name in columns] for row in rows(folder / "steps.csv")]
        for folder in (whole, torn)
    ]
    assert logs[0] == logs[1]
    assert [int(row[0]) for row in logs[0]] == list(range(1, 41))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "n_ranks"),
    [(signal.SIGTERM, 1), (signal.SIGUSR2, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)],
)
def test_signals_save(tmp_path, data, n_ranks, number):
    # only the signal makes it save: no epoch ends within these steps
    changes = {
        "images_per_epoch": 12 * 400,
        "epochs": 1,
        "group_images": 4,
        "precision": "fp64",
    }
    folder = tmp_path / "run"
    processes = begin_all(folder, options(data, **changes), n_ranks)
    wait_for(lambda: n_logged(folder) >= 3, processes[0])
    processes[-1].send_signal(number)
    ends = [finished(process) for process in processes]
    step = ends[0][0]
    assert 3 <= step < 400
    interrupted = number == signal.SIGINT
    assert ends == [(step, False, not interrupted, interrupted)] * n_ranks
    state = newest(folder)
    assert state["step"] == step
    # what the groups of the step that was broken off left behind is gone
    network, queue = as_far_as(data, changes, step)
    assert_equal(state["network"], network, 1e-8)
    assert_equal(state["loss"]["queue"], queue, 1e-8)


def as_far_as(data, changes, n_steps):
    """The plain loop's network and queue after some steps of the first epoch."""
    settings = config(data, **changes)
    network, queue, _, _ = plain_loop(data, settings, n_steps)
    return dict(network.state_dict()), queue


def test_stopped_between_two_epochs(tmp_path, data, monkeypatch):
    changes = {"monitor__every": 1, "monitor__pairs": 5, "engine__keep": 9}
    measure = training.Monitor.measure
    calls = []

    def stopped_once(self, learner):
        calls.append(1)
        if len(calls) == 2:  # after the first epoch
            raise training.Stopped
        return measure(self, learner)

    monkeypatch.setattr(training.Monitor, "measure", stopped_once)
    end = trained(tmp_path, data, **changes)
    assert (end.step, end.finished) == (4, False)
    assert [one.epoch for one in saved_checkpoints(tmp_path / CHECKPOINTS)] == [None]
    assert trained(tmp_path, data, **changes).finished
    epochs = {one.epoch for one in saved_checkpoints(tmp_path / CHECKPOINTS)}
    assert epochs == {None, 1, 2, 3}  # the first one has its own after all
    table = rows(tmp_path / "epochs.csv")
    assert [row["epoch"] for row in table] == ["0", "1", "2", "3"]
    assert all(row["pairs_top1"] for row in table)


# What goes wrong


def test_nan_stops_and_keeps_the_last_checkpoint(tmp_path, data, monkeypatch):
    trained(tmp_path, data, epochs=1)  # a folder of another training
    with pytest.raises(ValueError, match=r"was begun with others \(epochs: 1 and 3\)"):
        trained(tmp_path, data)
    folder = tmp_path / "run"
    learn = training.Learner.learn

    def broken(self, x, labels, counts, step):
        learn(self, x * float("nan") if step == 6 else x, labels, counts, step)

    monkeypatch.setattr(training.Learner, "learn", broken)
    with pytest.raises(ValueError, match=r"loss must be finite; it is nan in step 7\."):
        trained(folder, data)
    state = newest(folder)
    assert state["step"] == 4  # the end of the first epoch
    assert all(t.isfinite().all() for t in state["network"].values())
    monkeypatch.undo()
    assert trained(folder, data).finished
    whole = tmp_path / "whole"
    trained(whole, data)
    assert_equal(learned(newest(folder)), learned(newest(whole)))


def test_a_gradient_that_overflows_stops(tmp_path, data, monkeypatch):
    finish = training.Learner.finish

    def broken(self, step, lr, momentum):
        next(self.network.parameters()).grad[0, 0, 0, 0] = float("inf")
        return finish(self, step, lr, momentum)

    monkeypatch.setattr(training.Learner, "finish", broken)
    with pytest.raises(ValueError, match="gradient_norm must be finite; it is inf in"):
        trained(tmp_path, data)
    assert not saved_checkpoints(tmp_path / CHECKPOINTS)


def test_a_full_disk_does_not_end_the_training(tmp_path, data, monkeypatch, caplog):
    write = checkpoint.os.fsync
    full = [False]

    def fsync(handle):
        if full[0]:
            raise OSError(28, "No space left on device")
        write(handle)

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    step = training.Learner.finish

    def finish(self, number, lr, momentum):
        full[0] = number in range(5, 9)  # the end of the second epoch
        return step(self, number, lr, momentum)

    monkeypatch.setattr(training.Learner, "finish", finish)
    assert trained(tmp_path, data).finished
    assert "the checkpoint of step 8 could not be written (" in caplog.text
    assert "No space left on device" in caplog.text
    assert "the one before is kept and the training continues" in caplog.text
    steps = [one.step for one in saved_checkpoints(tmp_path / CHECKPOINTS)]
    assert steps == [4, 12]
    assert sorted(p.name for p in (tmp_path / CHECKPOINTS).iterdir()) == [
        "step-00000004-epoch-0001.pt",
        "step-00000012-epoch-0003.pt",
    ]

    def always(self, number, lr, momentum):
        full[0] = number > 8
        return step(self, number, lr, momentum)

    monkeypatch.setattr(training.Learner, "finish", always)
    with pytest.raises(ValueError, match="the last checkpoint must be written"):
        trained(tmp_path / "end", data)
    full[0] = False
    monkeypatch.undo()
    assert trained(tmp_path / "end", data).finished


def test_a_torn_checkpoint_is_passed_over(tmp_path, data, caplog):
    trained(tmp_path / "whole", data)
    trained(tmp_path / "torn", data)
    last = saved_checkpoints(tmp_path / "torn" / CHECKPOINTS)[-1].path
    last.write_bytes(last.read_bytes()[:-1000])
    assert trained(tmp_path / "torn", data).finished
    assert "The one before it is tried" in caplog.text
    assert_equal(
        learned(newest(tmp_path / "torn")), learned(newest(tmp_path / "whole"))
    )


@pytest.mark.slow
def test_one_folder_is_for_one_run(tmp_path, data):
    process = begin(tmp_path, options(data, epochs=1000))
    try:
        wait_for(lambda: n_logged(tmp_path) >= 1, process)
        with pytest.raises(ValueError, match=r"must be used by one run; .* is in use"):
            trained(tmp_path, data, epochs=1000)
    finally:
        process.kill()
        process.communicate()


def test_changed_images_are_refused(tmp_path, data, caplog):
    images = shutil.copytree(data, tmp_path / "images")
    folder = tmp_path / "run"
    trained(folder, images, epochs=1)
    assert trained(folder, images, epochs=1).step == 4  # nothing is left to do
    moved = images.rename(tmp_path / "elsewhere")
    assert trained(folder, moved, epochs=1).finished  # the same images
    (moved / "class0" / "0.png").unlink()
    with pytest.raises(ValueError, match="images of a run must stay the same"):
        trained(folder, moved, epochs=1)
    settings = config(moved, epochs=1)
    train(settings, folder, new_data=True, progress=False, launch=ALONE)
    assert "the images have changed" in caplog.text


def test_damaged_images_of_other_data_are_forgotten(tmp_path, data):
    images = shutil.copytree(data, tmp_path / "images")
    (images / "class1" / "3.png").write_bytes(b"no image")
    folder = tmp_path / "run"
    trained(folder, images, epochs=2, engine__keep=9)
    for one in saved_checkpoints(folder / CHECKPOINTS)[1:]:
        one.path.unlink()  # as if it had been stopped after the first epoch
    (images / "class1" / "3.png").unlink()
    for k in range(3):
        (images / "class2" / f"{k}.png").write_bytes(b"no image")
    settings = config(images, epochs=2, engine__max_bad=0.1)
    train(settings, folder, new_data=True, progress=False, launch=ALONE)
    found = rows(folder / "bad_images.csv")
    assert found
    assert all("class2" in row["image"] for row in found)
    assert (folder / "bad_images.old1.csv").is_file()


def test_damaged_validation_images_have_the_same_limit(tmp_path, data):
    val = shutil.copytree(data, tmp_path / "val")
    for k in range(3):
        (val / "class0" / f"{k}.png").write_bytes(b"no image")
    changes = {"monitor__every": 1, "monitor__val": val, "monitor__k": 3, "epochs": 1}
    with pytest.raises(ValueError, match="at most 1 of 48 images may be damaged"):
        trained(tmp_path / "strict", data, **changes)
    assert trained(tmp_path / "run", data, engine__max_bad=0.1, **changes).finished
    assert len(rows(tmp_path / "run" / "bad_images-val.csv")) == 3


def test_what_another_beginning_left_is_dropped(tmp_path, data, monkeypatch):
    def broken(self, step, lr, momentum):
        raise KeyError  # whatever ends it before the first checkpoint

    changes = {"monitor__every": 1, "monitor__pairs": 9, "epochs": 1}
    with monkeypatch.context() as patch:
        patch.setattr(training.Learner, "finish", broken)
        with pytest.raises(KeyError):
            trained(tmp_path / "run", data, seed=5, **changes)
    assert len(rows(tmp_path / "run" / "epochs.csv")) == 1
    trained(tmp_path / "run", data, **changes)
    trained(tmp_path / "whole", data, **changes)
    first, whole = (
        [row["pairs_top1"] for row in rows(tmp_path / name / "epochs.csv")]
        for name in ("run", "whole")
    )
    assert first == whole
    # measures may change; what was written stays, and the options are those of now
    changes |= {"monitor__val": data, "monitor__k": 3}
    trained(tmp_path / "run", data, **changes)
    assert [r["pairs_top1"] for r in rows(tmp_path / "run" / "epochs.csv")] == whole
    assert str(data) in (tmp_path / "run" / CONFIG).read_text()


def test_damaged_images(tmp_path, data):
    images = shutil.copytree(data, tmp_path / "images")
    (images / "class1" / "3.png").write_bytes(b"no image")
    assert trained(tmp_path / "run", images).finished
    (row,) = rows(tmp_path / "run" / "bad_images.csv")
    assert row["image"].endswith("class1/3.png")
    assert rows(tmp_path / "run" / "epochs.csv")[-1]["damaged_images"] == "1"
    for k in range(4):
        (images / "class0" / f"{k}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="at most 1 of 48 images may be damaged"):
        trained(tmp_path / "more", images)


@pytest.mark.slow
def test_one_process_dies(tmp_path, data):
    processes = begin_all(tmp_path, options(data, epochs=1000), 2)
    wait_for(lambda: n_logged(tmp_path) >= 2, processes[0])
    processes[1].kill()
    code, line, _ = ended(processes[0])
    assert code == 2
    assert "ConnectionError another process of the run stopped" in line
    processes[1].communicate()


@pytest.mark.parametrize("n_good", [1, 60, 97])  # measuring, or in steps 2 and 6
def test_an_outage_is_no_damage(tmp_path, data, monkeypatch, caplog, n_good):
    monkeypatch.setattr(image_source, "_PAUSES", (0.0,))
    changes = {"monitor__every": 1, "monitor__pairs": 20, "epochs": 2}
    whole = trained(tmp_path / "whole", data, **changes)
    read, calls = Path.read_bytes, []

    def fails(path):
        calls.append(path)
        if len(calls) > n_good:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        end = trained(tmp_path / "run", data, **changes)
    assert (end.finished, end.preempted) == (False, True)
    assert end.step < whole.step
    assert "Input/output error" in caplog.text
    assert not (tmp_path / "run" / "bad_images.csv").exists()
    assert trained(tmp_path / "run", data, **changes).finished
    assert_equal(learned(newest(tmp_path / "run")), learned(newest(tmp_path / "whole")))


# Variants


@pytest.mark.parametrize(
    "changes",
    [
        {"loss__normalize_prototype": "true"},
        {"loss__queue_prototypes": "true"},
        {"loss__log_z": 9.0},
        {"n_views": 2},
        {"augmentation__rotation": 90},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"method": "supervised", "n_views": 1},
        {"images_per_epoch": 30, "weights": "[1]"},
        pytest.param(
            {
                "architecture": "alexnet_gn",
                "options": "{norm: batch}",
                "augmentation__size": 64,
                "images_per_epoch": 12,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param({"architecture": "torchvision/resnet18"}, marks=pytest.mark.slow),
        pytest.param({"architecture": "timm/resnet10t"}, marks=pytest.mark.slow),
    ],
)
def test_variants_train(tmp_path, data, changes):
    changes = {"epochs": 1, **changes}
    end = trained(tmp_path, data, **changes)
    assert end.finished
    state = newest(tmp_path)
    start = training.Learner(
        config(data, **changes), n_images=48, n_classes=3,
        group=training.ProcessGroup(ALONE, torch.device("cpu")),
    )  # fmt: skip
    moved = [
        not torch.equal(p, state["network"][key])
        for key, p in start.network.named_parameters()
    ]
    assert all(moved)
    logged = rows(tmp_path / "steps.csv")
    assert len(logged) == end.n_steps
    assert ("effective_rank" in logged[0]) == (changes.get("method") != "supervised")
    if changes.get("method") == "supervised":
        assert 0 <= float(logged[-1]["accuracy"]) <= 100
    else:
        first = logged[0]
        parts = float(first["positive"]) + float(first["negative"])
        assert float(first["loss"]) == pytest.approx(parts, rel=1e-4)


def test_a_new_run_from_weights_or_a_run(tmp_path, data):
    trained(tmp_path / "first", data)
    first = newest(tmp_path / "first")
    with pytest.raises(ValueError, match=r"epochs: 3 and 5.*new cycle.*init_from="):
        trained(tmp_path / "first", data, epochs=5)
    card = export_run(tmp_path / "first")
    weights = card.with_suffix(".safetensors")
    for place in (weights, tmp_path / "first"):
        changes = {"epochs": 1, "init_from": place, "optimizer__lr": 1e-30}
        folder = tmp_path / f"from_{place.name}"
        trained(folder, data, **changes, optimizer__weight_decay=0)
        state = newest(folder)
        parameters = [k for k, v in state["network"].items() if "weight" in k]
        for key in parameters:
            assert torch.equal(state["network"][key], first["network"][key])
        taken = torch.equal(state["loss"]["log_z"], first["loss"]["log_z"])
        assert taken == place.is_dir()
        assert f"begun from {place}" in read_card(export_run(folder)).notes
        assert trained(folder, data, **changes, optimizer__weight_decay=0).finished
    with pytest.raises(ValueError, match="has other shapes than the network"):
        trained(tmp_path / "other", data, init_from=weights, dim=4)
    with pytest.raises(ValueError, match="must be a run of the same network"):
        trained(tmp_path / "other", data, init_from=tmp_path / "first", dim=4)
    with pytest.raises(ValueError, match="init_from must be a file of weights or"):
        trained(tmp_path / "other", data, init_from=tmp_path)


def test_the_folder_of_a_run(tmp_path, data):
    trained(
        tmp_path, data, monitor__every=2, monitor__val=data, monitor__k=5,
        monitor__gallery=20,
    )  # fmt: skip
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {CONFIG, CHECKPOINTS, "steps.csv", "epochs.csv", "curve.png"}
    text = (tmp_path / CONFIG).read_text()
    assert training.config_text(config(data, monitor__every=2)).splitlines()[1] in text
    epochs = rows(tmp_path / "epochs.csv")
    assert [row["epoch"] for row in epochs] == ["0", "1", "2", "3"]
    measured = [bool(row["knn_top1"]) for row in epochs]
    assert measured == [True, False, True, True]
    assert all(0 <= float(row["pairs_top1"]) <= 100 for row in epochs[::2])
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_torchs_flags_are_given_back():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    with torch_flags("tf32", torch.device("cuda")):
        assert (cudnn.benchmark, cudnn.allow_tf32) == (True, True)
        assert not matmul.allow_tf32
    assert (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32) == before


def test_refused_before_anything_is_written(tmp_path, data):
    folder = tmp_path / "run"
    for changes, message in (
        ({"group_images": 40}, "images of an epoch must fill a step"),
        ({"monitor__val": data, "monitor__k": 49}, "monitor.k must be at most .* 48"),
        ({"architecture": "alexnet_gm"}, "architecture must be among"),
    ):
        with pytest.raises(ValueError, match=message):
            trained(folder, data, **changes)
    other = tmp_path / "val" / "unknown"
    other.mkdir(parents=True)
    shutil.copy(data / "class0" / "0.png", other)
    with pytest.raises(ValueError, match=r"classes of monitor\.val must be among"):
        trained(folder, data, monitor__val=other.parent)
    assert not folder.exists()
