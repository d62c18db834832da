"""The processes of a run: who they are, what they exchange, and one that is lost."""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests.ipcl_runs import free_port
from versa.models.ipcl.process_group import (
    Launch,
    _device_of,
    launch_from,
    process_group,
)

PROGRAM = """
import json, sys, time, torch
from datetime import timedelta
from pathlib import Path
from versa.models.ipcl import process_group as module

def refuse():
    raise ValueError("the folder is taken.")

what = sys.argv[1]
if what == "hang":
    module._TIMEOUT = timedelta(seconds=5)
try:
    with module.process_group("cpu") as group:
        assert group.all_reduce([1.0]) == [2.0]
        if what == "exchange":
            counts = [3, 1]
            rows = torch.full((counts[group.rank], 2), float(group.rank + 1))
            rows[:, 1] = torch.arange(len(rows))
            sums = [torch.full((2, 2), float(group.rank)), torch.ones(3)]
            group.all_reduce_tensors(sums)
            found = {
                "rank": group.rank,
                "is_main": group.is_main,
                "sums": [s.flatten().tolist() for s in sums],
                "all_reduce": group.all_reduce([0.1, group.rank]),
                "all_gather": group.all_gather(rows, counts).tolist(),
                "broadcast": group.broadcast(lambda: ["a", 3, group.rank]),
            }
            print(json.dumps(found))
        if what == "refuse":
            group.broadcast(refuse)
        if what == "wait" and group.rank == 1:
            time.sleep(0.5)
            Path(sys.argv[2]).touch()
        if what == "fail" and group.rank == 1:
            raise KeyError("boom")
        if what == "hang" and group.rank == 1:
            sys.stdin.read()
        if what in ("fail", "hang"):
            group.all_reduce([2.0])
    if what == "wait":
        assert Path(sys.argv[2]).exists()
except (ValueError, ConnectionError) as error:
    print(type(error).__name__, error)
    sys.exit(2)
"""

ATTEMPTS = """
import os, sys
from pathlib import Path
from versa.models.ipcl.process_group import process_group

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
with process_group("cpu") as group:
    assert group.all_reduce([group.rank + 1]) == [3.0]
    Path(sys.argv[1], f"rank-{group.rank}-attempt-{attempt}").touch()
    group.all_reduce([0])
    if attempt == "0" and group.rank == 1:
        raise KeyError("boom")
"""


def run(what, *more):
    """Exit code and output of two processes, process 0 first."""
    environment = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, what, *more],
            env={**environment, "RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    pairs = zip(started, outputs, strict=True)
    return [(process.returncode, *output) for process, output in pairs]


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch()),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Launch()),
        (
            {
                "RANK": "3",
                "WORLD_SIZE": "4",
                "LOCAL_RANK": "1",
                "MASTER_ADDR": "a",
                "MASTER_PORT": "7",
                "SLURM_PROCID": "0",  # torchrun inside of a job
                "SLURM_STEP_NUM_TASKS": "2",
            },
            Launch(3, 4, 1, "a", 7),
        ),
        (
            {
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_JOB_NODELIST": "cpu3,gpu[1-2]",
                "SLURM_JOB_ID": "40001",
            },
            Launch(1, 2, 0, "cpu3", 20001),
        ),
        (
            {
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_LOCALID": "1",
                "SLURM_STEP_NODELIST": "r[0-1,3]-gpu[007-010]x,cpu3",
                "SLURM_JOB_ID": "40001",
                "MASTER_PORT": "8",
            },
            Launch(1, 2, 1, "r0-gpu007x", 8),
        ),
    ],
)
def test_launchers_are_understood(environment, launch):
    assert launch_from(environment) == launch


def test_srun_without_names_is_refused():
    with pytest.raises(ValueError, match="MASTER_ADDR must name the machine"):
        launch_from({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})


def test_one_process_needs_no_network():
    with process_group("cpu", Launch()) as group:
        assert group.alone
        assert group.is_main
        assert group.all_reduce([1.5, 2]) == [1.5, 2]
        rows = torch.eye(2)
        assert group.all_gather(rows, [2]) is rows
        assert group.broadcast(lambda: 3) == 3


@pytest.mark.slow
def test_two_processes_exchange():
    for rank, (code, out, err) in enumerate(run("exchange")):
        assert code == 0, err
        assert json.loads(out) == {
            "rank": rank,
            "is_main": rank == 0,
            "sums": [[1, 1, 1, 1], [2, 2, 2]],
            "all_reduce": [0.2, 1.0],
            "all_gather": [[1, 0], [1, 1], [1, 2], [2, 0]],
            "broadcast": ["a", 3, 0],
        }


@pytest.mark.slow
def test_what_process_0_refuses_is_refused_by_all():
    for code, out, _ in run("refuse"):
        assert (code, out.strip()) == (2, "ValueError the folder is taken.")


@pytest.mark.slow
def test_who_ends_first_waits_for_the_others(tmp_path):
    for code, _, err in run("wait", str(tmp_path / "done")):
        assert code == 0, err


@pytest.mark.slow
def test_torchrun_serves_and_begins_again(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(ATTEMPTS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ended = subprocess.run(
        [*launcher, "--nproc-per-node=2", "--max-restarts=1", program, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert "failed to bind" not in ended.stderr
    names = sorted(path.name for path in tmp_path.glob("rank-*"))
    assert names == [f"rank-{r}-attempt-{a}" for r in (0, 1) for a in (0, 1)]


def test_a_machine_without_devices_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    sentence = "has 1 CUDA devices for process 1, counted from 0. Start fewer"
    with (
        pytest.raises(ValueError, match=sentence),
        process_group("cuda", Launch(1, 2, 1, n_local=2)),  # torchrun hides none
    ):
        pass


def test_one_visible_device_is_the_first(monkeypatch):
    """As srun --gpus-per-task=1 shows each process its own device."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    tasks = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}
    launch = launch_from(tasks | {"SLURM_STEP_NODELIST": "gpu1"})
    assert _device_of("cuda", launch).index == 0
    assert chosen == [0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fail", "hang"])
def test_nobody_waits_for_a_lost_process(how):
    (code, out, err), (other, _, trace) = run(how)
    assert code == 2, err
    assert "ConnectionError another process of the run stopped or does not ans" in out
    assert "the same command again: it resumes from the last checkpoint" in out
    if how == "fail":
        assert other == 1
        assert "KeyError: 'boom'" in trace
