"""IPCL on the photographs that come with scikit-image and scikit-learn.

Cuts them into tiles, one class per photograph, trains AlexNet-GN on small views for a
few hundred steps on a CPU, stops it in the middle and goes on, and compares the result
with an untrained network. Run: ``python ipcl_photographs.py FOLDER``.
"""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass"),
    *("gravel", "hubble_deep_field", "immunohistochemistry", "moon", "retina"),
    *("rocket",),
)
TILE, N_TRAIN, N_VAL = 96, 24, 8


def photographs():
    """Name and RGB pixels of each photograph."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    for name in PHOTOGRAPHS:
        pixels = getattr(skimage.data, name)()
        yield name, np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels[..., :3]
    yield from zip(("china", "flower"), load_sample_images().images, strict=True)


def cut(folder):
    """Tiles of the photographs: FOLDER/train and FOLDER/val, every fourth for val."""
    n = N_TRAIN + N_VAL
    for name, pixels in photographs():
        rows, columns = (int(size) - TILE for size in pixels.shape[:2])
        across = max(2, round((n * columns / rows) ** 0.5))
        down = -(-n // across)
        places = [(r, c) for r in range(down) for c in range(across)][:n]
        for k, (r, c) in enumerate(places):
            top = r * rows // max(1, down - 1)
            left = c * columns // (across - 1)
            part = "val" if k % 4 == 3 else "train"
            path = Path(folder) / part / name / f"{k:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[top : top + TILE, left : left + TILE]).save(path)


def train(folder, *changes, stop_after=None):
    """Run versa-train-ipcl; with `stop_after` steps, ask it to stop as Slurm would."""
    recipe = Path(__file__).with_suffix(".yaml")
    command = [
        "versa-train-ipcl",
        str(Path(folder) / "images" / "train"),
        *("--out", str(Path(folder) / "photographs"), "--config", str(recipe)),
        *("--set", f"monitor.val={Path(folder) / 'images' / 'val'}"),
        *(part for change in changes for part in ("--set", change)),
    ]
    process = subprocess.Popen(command, env=environment())
    log = Path(folder) / "photographs" / "steps.csv"
    while stop_after and process.poll() is None:
        if log.is_file() and len(log.read_text().splitlines()) > stop_after:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.2)
    return process.wait()


def environment():
    """The commands of this Python first, wherever they are."""
    scripts = sysconfig.get_path("scripts")
    return {**os.environ, "PATH": os.pathsep.join([scripts, os.environ["PATH"]])}


def compare(folder):
    """The trained and the untrained network against a simulated brain."""
    command = [
        *("versa-compare", "photographs", "alexnet_gn_untrained"),
        *("--dataset", "simulated-orientation", "--layers", "conv_block_5,fc7"),
        *(
            "--methods",
            "rsa",
            "--quiet",
            "--all",
            "--out",
            str(Path(folder) / "results"),
        ),
    ]
    zoo = {"VERSA_ZOO": str(Path(folder) / "photographs" / "export")}
    done = subprocess.run(
        command, env=environment() | zoo, check=True, capture_output=True, text=True
    )
    return done.stdout


def main(folder):
    """All of it, with what there is to see."""
    cut(Path(folder) / "images")
    print("exit code when stopped:", train(folder, stop_after=100), flush=True)
    print("exit code of the same command:", train(folder), flush=True)
    table = pd.read_csv(Path(folder) / "photographs" / "epochs.csv")
    shown = ["epoch", "step", "loss", "positive", "negative", "knn_top1", "pairs_top1"]
    print(table[shown].dropna(subset="knn_top1").round(2).to_string(index=False))
    print(compare(folder))


if __name__ == "__main__":
    main(sys.argv[1])
