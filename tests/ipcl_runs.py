"""Small training runs: a folder of images, a tiny network, processes that train."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
from PIL import Image
from torch import nn

from versa.models.ipcl.recipes import read_config

# the cards of these runs name a network of the tests
os.environ.setdefault("VERSA_BUILDERS", "tests")

N_CLASSES, PER_CLASS = 3, 16

# trains as the options say, and prints how it ended
PROGRAM = """
import json, logging, sys
from versa.models.ipcl.recipes import read_config
from versa.models.ipcl.training import train

logging.basicConfig(level=logging.INFO, format="%(message)s")
logging.getLogger("versa").setLevel(logging.INFO)
folder, *changes = sys.argv[1:]
try:
    end = train(read_config(None, *changes), folder, progress=False)
except (ValueError, ConnectionError) as error:
    print(type(error).__name__, error)
    sys.exit(2)
print(json.dumps([end.step, end.finished, end.preempted, end.interrupted]))
"""


def tiny(out_dim, width=8, dropout=0.0):
    """A network with both kinds of norm that trains in milliseconds."""
    return nn.Sequential(
        nn.Conv2d(3, width, 5, stride=4, padding=2, bias=False),
        nn.GroupNorm(2, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(1),
        nn.Linear(4 * width, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(16, out_dim),
    )


def image_tree(root, seed=0, per_class=PER_CLASS):
    """Images of coloured gratings, one orientation per class, of several sizes."""
    rng = np.random.default_rng(seed)
    for k in range(N_CLASSES):
        folder = root / f"class{k}"
        folder.mkdir(parents=True)
        for i in range(per_class):
            height, width = rng.integers(40, 64, 2)
            y, x = np.mgrid[:height, :width] / 8
            wave = np.sin(x * np.cos(k) + y * np.sin(k) + rng.uniform(0, 6))
            colour = rng.uniform(40, 120, 3)
            pixels = 127 + wave[..., None] * colour + rng.normal(0, 8, (*y.shape, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / f"{i}.png"
            )
    return root


def options(data, **changes):
    """Options of a run of 3 epochs of 4 steps of 3 groups of 4 images."""
    base = {
        "data": f"[{data}]",
        "architecture": "tests.ipcl_runs:tiny",
        "dim": 8,
        "epochs": 3,
        "n_views": 3,
        "group_images": 4,
        "groups_per_step": 3,
        "augmentation.size": 32,
        "loss.queue_size": 24,
        "monitor.every": 0,
        "engine.device": "cpu",
        "engine.workers": 1,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return [f"{key}={value}" for key, value in base.items()]


def config(data, **changes):
    return read_config(None, *options(data, **changes))


def begin(folder, changes, *, rank=0, n_ranks=1, port=0):
    """Start a process that trains."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    environment["OMP_NUM_THREADS"] = "1"
    environment["CUDA_VISIBLE_DEVICES"] = ""
    if n_ranks > 1:
        environment |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(n_ranks),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), *changes],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def begin_all(folder, changes, n_ranks):
    """Start all processes of a run."""
    port = free_port()
    return [
        begin(folder, changes, rank=rank, n_ranks=n_ranks, port=port)
        for rank in range(n_ranks)
    ]


def ended(process, timeout=120):
    """Exit code, last line on standard output, and standard error of a process."""
    out, err = process.communicate(timeout=timeout)
    lines = out.strip().splitlines()
    return process.returncode, lines[-1] if lines else "", err


def finished(process):
    """(step, finished, preempted, interrupted) of a run that ended well."""
    code, line, err = ended(process)
    assert code == 0, (line, err)
    return tuple(json.loads(line))
