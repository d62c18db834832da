"""The processes of a run: who they are, what they exchange, and one that dies."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from versa.models.ipcl.distributed import Launch, launch_from, team_started

PROGRAM = """
import json, sys, torch
from versa.models.ipcl.distributed import team_started

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
        if what == "fail" and team.rank == 1:
            raise KeyError("boom")
        if what == "fail":
            team.total([2.0])
except (ValueError, ConnectionError) as error:
    print(type(error).__name__, error)
    sys.exit(2)
"""


def run(what):
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
                [sys.executable, "-c", PROGRAM, what],
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


def test_nobody_waits_for_a_dead_process():
    (code, out, err), (dead, _, trace) = run("fail")
    assert dead == 1
    assert "KeyError: 'boom'" in trace
    assert code == 2
    assert "process 1 of 2 stopped: 'boom'. Run the same command again" in out + err
