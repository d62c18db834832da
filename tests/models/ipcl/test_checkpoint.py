"""Checkpoints of a run: whole or absent, the newest few, the one before a torn one."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from versa.models.ipcl import checkpoint
from versa.models.ipcl.checkpoint import (
    load_newest,
    read_state,
    remove_leftovers,
    save_state,
    saved_checkpoints,
)


def state(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "note": "é",
        "net": {"w": torch.randn(300, 7, generator=generator)},
        "rates": [0.5, (1, 2)],
    }


def test_what_is_saved_is_read(tmp_path):
    path = save_state(tmp_path / "run", state(3), step=3)
    assert path.name == "step-00000003.pt"
    found = read_state(path)
    assert torch.equal(found["net"]["w"], state(3)["net"]["w"])
    assert found["rates"] == [0.5, (1, 2)]
    assert (found["step"], found["note"]) == (3, "é")


def test_the_newest_and_every_tenth_epoch_stay(tmp_path):
    for epoch in range(1, 24):
        save_state(tmp_path, {"epoch": epoch}, step=5 * epoch, epoch=epoch, keep=2)
        save_state(tmp_path, {"epoch": epoch}, step=5 * epoch + 2, keep=2)
    names = [one.path.name for one in saved_checkpoints(tmp_path)]
    assert names == [
        "step-00000050-epoch-0010.pt",
        "step-00000100-epoch-0020.pt",
        "step-00000115-epoch-0023.pt",
        "step-00000117.pt",
    ]
    assert [one.epoch for one in saved_checkpoints(tmp_path)] == [10, 20, 23, None]
    assert saved_checkpoints(tmp_path / "none") == []


@pytest.mark.parametrize(
    "tear",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:4000] + bytes(1000) + content[5000:],
        # one bit of a weight: torch.load would take it
        lambda content: content[:4500] + bytes([content[4500] ^ 1]) + content[4501:],
    ],
    ids=["half", "empty", "zeros", "bit"],
)
def test_a_torn_checkpoint_is_passed_over(tmp_path, caplog, tear):
    save_state(tmp_path, state(1), step=1)
    path = save_state(tmp_path, state(2), step=2)
    path.write_bytes(tear(path.read_bytes()))
    found, content = load_newest(tmp_path)
    assert found.step == content["step"] == 1
    assert f"checkpoint {path} cannot be read" in caplog.text
    first = saved_checkpoints(tmp_path)[0].path
    first.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"at least one of 2 checkpoints .* none is"):
        load_newest(tmp_path)


@pytest.mark.slow
def test_any_damaged_byte_is_seen(tmp_path):
    kept = {"w": torch.arange(9.0), "n": 3}
    path = save_state(tmp_path, kept, step=1)
    content = path.read_bytes()
    refused = 0
    for i in range(len(content)):
        for flip in (0x01, 0x08, 0xFF):
            damaged = bytes([content[i] ^ flip])
            path.write_bytes(content[:i] + damaged + content[i + 1 :])
            try:
                found = read_state(path)
            except ValueError:
                refused += 1
                continue
            assert found["n"] == 3  # padding, dates
            assert torch.equal(found["w"], kept["w"])
    assert refused > len(content)


def test_what_is_no_state_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list, not a state"):
        read_state(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.float64(1), "float64"),
        (np.zeros(2), "ndarray"),
        (Path("x"), "PosixPath|WindowsPath"),
        (Counter("a"), "Counter"),
    ],
)
def test_nothing_is_saved_that_could_not_be_read(tmp_path, value, name):
    with pytest.raises(TypeError, match=rf"state\['a'\]\[1\] must be .* got ({name})"):
        save_state(tmp_path, {"a": (1, value)}, step=1)
    assert saved_checkpoints(tmp_path) == []


def test_the_states_of_torch_are_saved(tmp_path):
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    parts = {"net": network.state_dict(), "sgd": optimizer.state_dict()}
    found = read_state(save_state(tmp_path, parts, step=1))
    assert torch.equal(found["net"]["weight"], network.weight)
    momentum = found["sgd"]["state"][0]["momentum_buffer"]
    assert torch.equal(momentum, torch.ones(2, 2))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_torn_later_checkpoint_displaces_no_good_one(tmp_path, keep):
    save_state(tmp_path, state(40), step=40)
    save_state(tmp_path, state(50), step=50).write_bytes(b"torn")
    for step in (43, 46):  # the run has gone back to 40
        path = save_state(tmp_path, state(step), step=step, keep=keep)
        assert path.exists()
        assert load_newest(tmp_path)[1]["step"] == step
    assert [one.step for one in saved_checkpoints(tmp_path)] == [*[43, 46][-keep:], 50]
    save_state(tmp_path, state(53), step=53, keep=1)
    assert [one.step for one in saved_checkpoints(tmp_path)] == [53]


def test_leftovers_are_swept_and_nothing_else(tmp_path):
    save_state(tmp_path, state(1), step=1)
    for name in (".step-00000002.pt.x.versa-tmp", ".other.versa-tmp", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(b"x")
    remove_leftovers(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".other.versa-tmp", "logs", "step-00000001.pt"]


def test_no_checkpoint_is_no_error(tmp_path):
    assert load_newest(tmp_path) is None
    assert load_newest(tmp_path / "none") is None


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    save_state(tmp_path, state(1), step=1, keep=1)

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "open", lambda *_, **__: Full(), raising=False)
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path, state(2), step=2, keep=1)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert load_newest(tmp_path)[1]["step"] == 1


KILLED = """
import sys, torch
from pathlib import Path
from versa.models.ipcl.checkpoint import save_state
state = {"w": torch.zeros(4_000_000)}
for step in range(2, 10_000):
    state["step"] = step
    save_state(Path(sys.argv[1]), state, step=step, keep=2)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_kill_leaves_a_whole_checkpoint(tmp_path):
    for wait in (0.0, 0.02, 0.05):
        folder = tmp_path / str(wait)
        run = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        last = int(run.stdout.readline())
        time.sleep(wait)
        run.kill()
        last = max([last, *map(int, run.stdout.read().split())])
        run.wait()
        remove_leftovers(folder)
        found, content = load_newest(folder)
        # the next one may be whole already
        assert found.step == content["step"]
        assert found.step in (last, last + 1)
        assert {p.suffix for p in folder.iterdir()} == {".pt"}
