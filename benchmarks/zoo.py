"""Time of listing the zoo and of loading a cached ResNet-50.

Rivals in the same run: ``torch.load`` and ``load_state_dict`` alone, without a check
of the file and into a network that is already built. Floor of a load: reading and
hashing the file's bytes. Run: ``python benchmarks/zoo.py``.
"""

import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path


def best(function, n=9):
    """Shortest of n times in seconds, after one run that does not count."""
    function()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def ratios(ours, rival, n=15):
    """Quartiles of n ratios of times taken one after the other."""
    pairs = []
    for _ in range(n):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        rival()
        pairs.append((middle - start) / (time.perf_counter() - middle))
    return statistics.quantiles(pairs)


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VERSA_CACHE"] = folder
        from versa.models.zoo.cards import list_models

        start = time.perf_counter()
        table = list_models()
        first = time.perf_counter() - start
        print(f"list_models(), {len(table)} cards, first call: {first:.3f} s")
        print(f"list_models() again: {best(list_models):.3f} s")
        load(Path(folder))


def load(folder):
    import torch
    from torchvision import models

    from versa.models.zoo.cards import read_cards
    from versa.models.zoo.loading import load_model
    from versa.models.zoo.weights import install, weight_file, weights_path

    card = read_cards()["barlowtwins_rn50_1000ep"]
    source = models.resnet50()
    source.fc = torch.nn.Identity()
    torch.save(source.state_dict(), folder / "resnet50.pth")
    install(weight_file(card), folder / "resnet50.pth")
    path = weights_path(weight_file(card))
    content = path.read_bytes()

    def bare():
        state = torch.load(path, weights_only=True)
        source.load_state_dict(state)

    def built():
        module = models.resnet50()
        module.fc = torch.nn.Identity()
        module.load_state_dict(torch.load(path, weights_only=True))

    ours = best(lambda: load_model(card.name))
    seconds = {
        "read": best(path.read_bytes),
        "sha256": best(lambda: hashlib.sha256(content).hexdigest()),
        "torch.load + load_state_dict": best(bare),
        "the same with building the network": best(built),
        "versa.load_model (hash checked)": ours,
    }
    print(f"{path.name}: {len(content) / 1e6:.1f} MB")
    for name, value in seconds.items():
        print(f"  {name}: {value:.3f} s")
    bare_seconds = seconds["torch.load + load_state_dict"]
    print(f"  versa / bare, shortest times: {ours / bare_seconds:.2f} (bar: 1.5)")
    low, middle, high = ratios(lambda: load_model(card.name), bare)
    print(f"  pairs, median (quartiles): {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
