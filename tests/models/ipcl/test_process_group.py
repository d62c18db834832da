"""The processes of a run: who they are, what they exchange, and one that dies."""

import json
import os
import socket
import subprocess
import sys
import threading

import pytest
import torch

from versa.models.ipcl import process_group as distributed
from versa.models.ipcl.process_group import Launch, Watch, launch_from, team_started

PROGRAM = """
import json, sys, time, torch
from pathlib import Path
from versa.models.ipcl.process_group import team_started

def refuse():
    raise ValueError("the folder is taken.")

what = sys.argv[1]
try:
    with team_started("cpu") as team:
        assert team.total([1.0]) == [2.0]
        if what == "exchange":
            counts = [3, 1]
            rows = torch.full((counts[team.rank], 2), float(team.rank + 1))
            rows[:, 1] = torch.arange(len(rows))
            found = {
                "rank": team.rank,
                "leads": team.leads,
                "total": team.total([0.1, team.rank]),
                "gathered": team.gathered(rows, counts).tolist(),
                "led": team.led(lambda: ["a", 3, team.rank]),
            }
            print(json.dumps(found))
        if what == "refuse":
            team.led(refuse)
        if what == "wait" and team.rank == 1:
            time.sleep(0.5)
            Path(sys.argv[2]).touch()
        if what == "fail" and team.rank == 1:
            raise KeyError("boom")
        if what == "fail":
            team.total([2.0])
    if what == "wait":
        assert Path(sys.argv[2]).exists()
except (ValueError, ConnectionError) as error:
    print(type(error).__name__, error)
    sys.exit(2)
"""

ATTEMPTS = """
import os, sys
from pathlib import Path
from versa.models.ipcl.process_group import team_started

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
with team_started("cpu") as team:
    assert team.total([team.rank + 1]) == [3.0]
    Path(sys.argv[1], f"rank-{team.rank}-attempt-{attempt}").touch()
    team.total([0])
    if attempt == "0" and team.rank == 1:
        raise KeyError("boom")
"""


def run(what, *more):
    """Exit code and output of two processes, process 0 first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(2):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, what, *more],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
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
        (
            {
                "RANK": "0",
                "WORLD_SIZE": "2",
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": "3",
            },
            Launch(0, 2, 0, "localhost", 29500, served=True, attempt=3),
        ),
    ],
)
def test_launchers_are_understood(environment, launch):
    assert launch_from(environment) == launch


def test_srun_without_names_is_refused():
    with pytest.raises(ValueError, match="MASTER_ADDR must name the machine"):
        launch_from({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})


def test_one_process_needs_no_network():
    with team_started("cpu", Launch()) as team:
        assert team.alone
        assert team.leads
        assert team.total([1.5, 2]) == [1.5, 2]
        rows = torch.eye(2)
        assert team.gathered(rows, [2]) is rows
        assert team.led(lambda: 3) == 3
        assert team.missing() == ""


def test_two_processes_exchange():
    for rank, (code, out, err) in enumerate(run("exchange")):
        assert code == 0, err
        assert json.loads(out) == {
            "rank": rank,
            "leads": rank == 0,
            "total": [0.2, 1.0],
            "gathered": [[1, 0], [1, 1], [1, 2], [2, 0]],
            "led": ["a", 3, 0],
        }


def test_what_process_0_refuses_is_refused_by_all():
    for code, out, _ in run("refuse"):
        assert (code, out.strip()) == (2, "ValueError the folder is taken.")


def test_who_ends_first_waits_for_the_others(tmp_path):
    for code, _, err in run("wait", str(tmp_path / "done")):
        assert code == 0, err


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


@pytest.fixture
def hasty(monkeypatch):
    """Watches that beat and despair within a moment, and the codes they end with."""
    codes = []
    monkeypatch.setattr(distributed, "_BEAT", 0.01)
    monkeypatch.setattr(distributed, "_DEAD", 0.5)
    monkeypatch.setattr(distributed.os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize("came", [True, False], ids=["silent", "never came"])
def test_a_silent_process_is_found(hasty, came):
    store = torch.distributed.HashStore()
    if came:
        store.set("beat/1", "1")
    watch = Watch(store, Launch(0, 2), grace=0.01)
    watch.start()
    watch.join(60)
    assert watch.sentence.startswith("process 1 of 2 stopped without a word; look at")
    assert hasty == [2]


def test_a_process_that_says_why_is_quoted(hasty):
    store = torch.distributed.HashStore()
    watches = [Watch(store, Launch(rank, 2), grace=60.0) for rank in range(2)]
    for watch in watches:
        watch.start()
    watches[1].stop("no space left.")
    assert watches[0].found.wait(60)
    assert watches[0].sentence.startswith("process 1 of 2 stopped: no space left. Run")
    watches[0].stop("it was told so")
    assert not any(watch.is_alive() for watch in watches)
    assert hasty == []  # its main thread ended in time
    assert not store.check(["end/0"])  # nor is it at fault


def test_a_store_that_is_gone_means_process_0_is(hasty):
    class Gone:
        def set(self, *_):
            raise RuntimeError("connection reset")

    watch = Watch(Gone(), Launch(1, 2), grace=0.01)
    watch.start()
    watch.join(60)
    assert watch.sentence.startswith("process 0 of 2 stopped without a word")
    assert hasty == [2]


def test_processes_that_live_are_left_alone(hasty):
    store = torch.distributed.HashStore()
    watches = [Watch(store, Launch(rank, 3), grace=0.01) for rank in range(3)]
    for watch in watches:
        watch.start()
    for rank in range(3):
        while int(store.get(f"beat/{rank}")) < 5:
            threading.Event().wait(0.01)
    for watch in watches:
        watch.stop("")
    assert [watch.sentence for watch in watches] == ["", "", ""]
    assert hasty == []


def test_a_machine_without_devices_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    sentence = "has 1 CUDA devices for process 1, counted from 0. Start fewer"
    with (
        pytest.raises(ValueError, match=sentence),
        team_started("cuda", Launch(1, 2, 1)),
    ):
        pass


def test_nobody_waits_for_a_dead_process():
    (code, out, err), (dead, _, trace) = run("fail")
    assert dead == 1
    assert "KeyError: 'boom'" in trace
    assert code == 2
    assert "process 1 of 2 stopped: 'boom'. Run the same command again" in out + err
