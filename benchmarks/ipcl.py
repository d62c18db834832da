"""Speed of IPCL training: against its floor, the bare network, and two rivals.

The rivals run here, in the same process and on the same images: a stock DataLoader that
makes five crops of each image on the CPU, and the authors' loop, re-created from its
published description (eager, fp32 or TF32, exponentials instead of logarithms, one
mini-batch at a time).

    python benchmarks/ipcl.py              # what this machine can measure
    python benchmarks/ipcl.py loader       # one part: step, loader, authors, files
"""

import argparse
import statistics
import tempfile
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from versa.models.architectures import AlexNetGN
from versa.models.ipcl.augmentation import SET_1
from versa.models.ipcl.bench import measure_speeds
from versa.models.ipcl.loader import ChunkLoader
from versa.models.ipcl.packing import pack
from versa.models.ipcl.recipes import read_config
from versa.models.ipcl.sources import ImageTree, open_images
from versa.parallel import n_cores

N_IMAGES, GROUP, N_VIEWS = 1024, 128, 5
CUDA = torch.cuda.is_available()
FAST = ["precision=bf16", "engine.compile=true"] if CUDA else []


def photographs(folder):
    """JPEGs of 500 x 375 pixels cut from real photographs, about 0.1 MB each."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    sources = [Image.fromarray(x) for x in load_sample_images().images]
    for name in ("astronaut", "chelsea", "coffee", "immunohistochemistry", "rocket"):
        sources.append(Image.fromarray(getattr(skimage.data, name)()))
    rng = np.random.default_rng(0)
    for k in range(N_IMAGES):
        source = sources[k % len(sources)]
        width = rng.uniform(0.6, 1.0) * min(source.width, source.height * 4 / 3)
        left = rng.uniform(0, source.width - width)
        top = rng.uniform(0, source.height - width * 3 / 4)
        box = (left, top, left + width, top + width * 3 / 4)
        path = Path(folder) / f"class{k % 8}" / f"{k:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = source.resize((500, 375), Image.Resampling.BICUBIC, box)
        image.save(path, quality=96)
    mean = statistics.mean(p.stat().st_size for p in Path(folder).rglob("*.jpg"))
    print(f"{N_IMAGES} JPEGs of 500 x 375 pixels, {mean / 1e3:.0f} kB on average")


# ---- the stock way to load five views -----------------------------------------


class FiveViews:
    """Five times the same transform, as a list."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, image):
        return [self.transform(image) for _ in range(N_VIEWS)]


def stock_transform(jitter):
    steps = [transforms.RandomResizedCrop(224, scale=(0.2, 1.0))]
    if jitter:
        steps += [
            transforms.RandomGrayscale(0.2),
            transforms.ColorJitter(0.4, 0.4, 0.4, 0.4),
        ]
    normalize = transforms.Normalize(SET_1.mean, SET_1.std)
    steps += [transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
    return transforms.Compose(steps)


def stock_loader(folder, jitter, workers):
    images = datasets.ImageFolder(folder, FiveViews(stock_transform(jitter)))
    return DataLoader(
        images, GROUP, shuffle=True, num_workers=workers, drop_last=True,
        pin_memory=CUDA,
    )  # fmt: skip


def rate(batches, size_of, seconds=15.0):
    """Images per second after the first three batches."""
    done, start = 0, 0.0
    for k, batch in enumerate(batches):
        done += size_of(batch)
        if k == 2:  # the clock starts when a batch has come
            done, start = 0, time.perf_counter()
        if k > 3 and time.perf_counter() - start > seconds:
            break
    return done / (time.perf_counter() - start)


def loader(folder, packed, workers):
    """Our loader against a stock one, on the same files and cores."""

    def chunks(images):
        order = np.random.default_rng(0).permutation(len(images))
        blocks = order[: len(order) // GROUP * GROUP].reshape(-1, GROUP)
        ours = ChunkLoader(images, workers=workers)
        return ours.chunks(cycle(blocks), seed=0, epoch=0)

    def stock(jitter):
        data = stock_loader(folder, jitter, workers)
        while True:
            yield from data

    ours = rate(chunks(ImageTree(folder)), lambda c: len(c.indices))
    file = rate(chunks(open_images([packed])), lambda c: len(c.indices))
    plain = rate(stock(False), lambda batch: len(batch[1]))
    full = rate(stock(True), lambda batch: len(batch[1]))
    print(f"loading with {workers} workers, images/s:")
    print(f"  versa, folder of JPEGs: {ours:.0f}; packed file: {file:.0f}")
    print(f"  DataLoader, five crops: {plain:.0f}; with grey and jitter: {full:.0f}")
    print(f"  versa / DataLoader with five crops: {ours / plain:.2f} (bar 4)")
    print(f"  versa packed / DataLoader with five crops: {file / plain:.2f}")
    print(f"  versa / DataLoader with grey and jitter: {ours / full:.2f}")


# ---- the training step --------------------------------------------------------


def step(groups, *changes):
    """One training step: its floor, the bare network, the views."""
    config = read_config(None, f"engine.chunk_groups={groups}", *FAST, *changes)
    found = measure_speeds(config)
    print(f"{GROUP * groups} x {N_VIEWS} views, {config.precision}, images/s:")
    rows = (
        ("floor of matrix products", found.floor, found.matmul / 1e12, "TFLOP/s"),
        ("bare forward + backward", found.bare, found.bare / found.floor, "of it"),
        ("step, views resident", found.step, found.step / found.floor, "of it"),
        ("", found.step, found.step / found.bare, "x bare (bar 0.85 on a CPU)"),
        ("views", found.views, found.views / found.step, "x step (bar 3 on a GPU)"),
        ("step with its views", found.whole, found.whole / found.bare, "x bare"),
    )
    for name, value, ratio, what in rows:
        print(f"  {name}: {value:.1f}; {ratio:.3g} {what}")
    return found


class AuthorsLoop:
    """Mini-batch after mini-batch: eager network, exponentials, a queue that moves."""

    def __init__(self, device, tf32):
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        self.device = device
        self.network = AlexNetGN().to(device).train()
        start = torch.rand(128, 4096, device=device) - 0.5
        self.queue = functional.normalize(start, dim=0)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), 3e-5, momentum=0.9, weight_decay=5e-4
        )
        self.z, self.count = None, 0

    def learn(self, x):
        y = functional.normalize(self.network(x), dim=1)
        mean = y.detach().view(N_VIEWS, -1, 128).mean(0).repeat(N_VIEWS, 1)
        positive = ((y * mean).sum(1, keepdim=True) / 0.07).exp()
        negative = (y @ self.queue.clone().detach() / 0.07).exp()
        both = torch.cat([positive, negative], 1)
        if self.z is None:
            self.z = both.mean().item() * 1281167
        both = both / self.z
        noise, eps = 4096 / 1281167, 1e-7
        hits = (both[:, :1] / (both[:, :1] + noise + eps)).log().sum()
        misses = (noise / (both[:, 1:] + noise + eps)).log().sum()
        loss = -(hits + misses) / len(y)
        (loss / 20).backward()
        self.queue = torch.cat([y.detach().T, self.queue], 1)[:, :4096]
        self.count += 1
        if self.count % 20 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.item()  # printed in every iteration


def authors(folder, workers, found):
    """The authors' loop on the same machine, without and with its loading."""
    device = torch.device("cuda" if CUDA else "cpu")
    seconds = 20.0
    for tf32 in (False, True) if CUDA else (False,):
        loop = AuthorsLoop(device, tf32)
        x = torch.randn(GROUP * N_VIEWS, 3, 224, 224, device=device)

        def resident(loop=loop, x=x):
            while True:
                loop.learn(x)
                yield GROUP

        def loaded(loop=loop):
            data = stock_loader(folder, True, workers)
            while True:
                for views, _ in data:
                    loop.learn(torch.cat(views).to(device, non_blocking=True))
                    yield GROUP

        name = "TF32" if tf32 else "fp32"
        there, files = rate(resident(), int, seconds), rate(loaded(), int, seconds)
        print(f"the authors' loop, {name}, images/s: {there:.1f}, views resident")
        print(f"  with five views of JPEGs made by a DataLoader: {files:.1f}")
        if found is not None:
            ratio = found.step / there
            print(f"  versa's step / theirs, resident: {ratio:.2f} (bar 4 on a GPU)")


def files(packed, groups):
    """Everything, from a packed file, against the step on resident views."""
    config = read_config(None, f"engine.chunk_groups={groups}", *FAST)
    whole = measure_speeds(config, open_images([packed]))
    print(f"training from a packed file: {whole.training:.1f} images/s")
    print(f"  decoding alone: {whole.decoding:.0f}")
    print(f"  / step, views resident: {whole.training / whole.step:.2f} (bar 0.8)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("step", "loader", "authors", "files")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--workers", type=int, help="default: the usable cores")
    options = parser.parse_args()
    wanted = options.parts or parts
    workers = options.workers or n_cores()
    name = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"torch {torch.__version__}, {name}, {workers} cores")
    with tempfile.TemporaryDirectory() as folder:
        images, packed = Path(folder) / "images", Path(folder) / "images.pack"
        if {"loader", "authors", "files"} & set(wanted):
            photographs(images)
            pack(ImageTree(images), packed)
        found = None
        if "step" in wanted:
            found = step(1)
            if CUDA:
                found = step(4)
        if "loader" in wanted:
            loader(images, packed, workers)
        if "authors" in wanted:
            authors(images, workers, found)
        if "files" in wanted:
            files(packed, 4 if CUDA else 1)


if __name__ == "__main__":
    main()
