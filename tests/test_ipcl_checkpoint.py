"""Checkpoints of a run: whole or absent, the newest few, the one before a torn one."""

import subprocess
import sys
import time

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


def test_a_kill_leaves_a_whole_checkpoint(tmp_path):
    for wait in (0.0, 0.02, 0.05):
        run = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        last = int(run.stdout.readline())
        time.sleep(wait)
        run.kill()
        last = max([last, *map(int, run.stdout.read().split())])
        run.wait()
        remove_leftovers(tmp_path)
        found, content = load_newest(tmp_path)
        assert found.step == content["step"] >= last
        assert {p.suffix for p in tmp_path.iterdir()} == {".pt"}
