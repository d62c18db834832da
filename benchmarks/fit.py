"""A whole fit against the bare forward pass over its images, in one run.

One AlexNet-GN, its nine default layers, ``simulated-inanimate`` (10 subjects, 72
images, 3 sectors), all three methods. Three figures: time without the cache as a ratio
to the network's forward pass alone, peak memory beyond importing torch, and the second
run from the cache as a ratio to the first.

    python benchmarks/fit.py
"""

import os
import subprocess
import sys
import tempfile
import time

MODEL, DATASET = "alexnet_gn_untrained", "simulated-inanimate"

PEAK = f"""
import resource, sys, torch, torchvision
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import versa
versa.fit({MODEL!r}, dataset={DATASET!r}, cache=False, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def print_peak():
    """In a process of its own, started before this one has grown: it inherits that."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    print(
        f"peak memory beyond importing torch: {int(run.stdout) * unit / 2**20:.0f} MB"
    )


def main():
    print_peak()
    import torch

    import versa
    from versa.models.images import image_inputs

    brain = versa.load_dataset(DATASET)
    network = versa.load_model(MODEL)
    inputs = image_inputs(brain.stimuli.paths, network.preprocess)
    batches = [inputs.batch(i, min(i + 32, 72)) for i in range(0, 72, 32)]

    def forward():
        with torch.inference_mode():
            for batch in batches:
                network.module(batch)

    def fit(cache):
        versa.fit(network, dataset=brain, cache=cache, progress=False)

    forward()
    fit(False)  # imports and warm-up
    pairs = [(seconds(forward), seconds(lambda: fit(False))) for _ in range(5)]
    bare, whole = (min(times) for times in zip(*pairs, strict=True))
    print(f"forward pass over 72 images: {bare:.2f} s")
    print(f"fit without cache: {whole:.2f} s, ratio {whole / bare:.2f}")
    for one, other in pairs:
        print(f"    pair: {one:.2f} s, {other:.2f} s, ratio {other / one:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        first = seconds(lambda: fit(folder))
        again = min(seconds(lambda: fit(folder)) for _ in range(3))
    print(f"first run into an empty cache: {first:.2f} s")
    print(f"second run from the cache: {again:.2f} s, ratio {again / first:.3f}")


if __name__ == "__main__":
    main()
