"""Speed of IPCL training: against its floor, the bare network, and two rivals.

How fast a configuration trains on this machine, and how fast it could:

    python benchmarks/ipcl.py speeds --config ipcl_ref01 --set precision=bf16
    python benchmarks/ipcl.py speeds --data imagenet.pack   # and from files

The rivals run in the same process and on the same images: a stock DataLoader that
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
from dataclasses import dataclass
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
from versa.models.ipcl.learner import Learner, network_options, torch_flags
from versa.models.ipcl.loader import BadImages, Chunk, ChunkLoader
from versa.models.ipcl.network import embedding_network
from versa.models.ipcl.packing import pack
from versa.models.ipcl.process_group import Launch, process_group
from versa.models.ipcl.recipes import read_config
from versa.models.ipcl.schedule import epoch_order
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


# ---- the parts of a training on this machine ----------------------------------

_SIDE = {"cuda": 8192, "cpu": 2048}  # of the square matrices
_TYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}
_CANVAS = (256, 341)  # pixels, as of a 500 x 375 photograph
_N_CLASSES = 1000


@dataclass(frozen=True)
class Speeds:
    """Rates of the parts of a training, in images per second."""

    floor: float  # of the multiplications alone, at the rate of a matrix product
    bare: float  # forward and backward pass of the network as its library makes it
    step: float  # passes, loss and optimizer, on views that are there already
    views: float  # making the views of an image, on the device
    whole: float  # a step with its views, images decoded already
    decoding: float | None  # reading and decoding images alone
    training: float | None  # everything
    flops: float  # of forward and backward pass, per image
    matmul: float  # measured, FLOP per second
    memory: float | None  # peak of the device in bytes


def training_flops(config):
    """Floating-point operations of forward and backward pass, per image."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = embedding_network(
            config.architecture, **network_options(config, _N_CLASSES)
        )
        x = torch.empty(2, 3, config.augmentation.size, config.augmentation.size)
    counter = FlopCounterMode(display=False)
    with counter:
        network(x).sum().backward()
    return counter.get_total_flops() // 2 * config.n_views


def matmul_rate(device, dtype=torch.float32, *, tf32=False, seconds=2.0):
    """Rate of a large square matrix product, in FLOP per second."""
    side = _SIDE[device.type]
    a = torch.randn(side, side, device=device).to(dtype)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        median = _medians([lambda: torch.mm(a, a)], device, seconds)[0]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * side**3 / median


def measure_speeds(config, images=None, *, seconds=10.0):
    """Measure one process on this machine."""
    with (
        process_group(config.engine.device, Launch()) as group,
        torch_flags(config.precision, group.device),
    ):
        return _measured(config, images, group, seconds)


def _measured(config, images, group, seconds):
    device = group.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    learner = Learner(config, n_images=10**6, n_classes=_N_CLASSES, group=group)
    n_groups = min(config.engine.chunk_groups, config.groups_per_step)
    n_images = n_groups * config.group_images
    chunk = _random_chunk(n_images)
    x = learner.views(chunk, 0)
    counts, step = [n_groups], 0

    def learn():
        learner.learn(x, chunk.labels, counts, step)

    def finish():
        learner.learn(x, chunk.labels, counts, step)
        learner.finish(step, 1e-9, 0.9)

    def views():
        learner.views(chunk, 0)

    def learn_views():
        learner.learn(learner.views(chunk, 0), chunk.labels, counts, step)

    bare = _bare_pass(learner, x)
    learner.begin()
    # side by side, so that a machine that slows down slows all of them
    passes = [bare, learn, views, learn_views]
    times = _medians(passes, device, seconds)
    pass_time, learn_time, views_time, both_time = times
    rounds = config.groups_per_step / n_groups
    learner.begin()
    last = max(0.0, _medians([finish], device, seconds / 3)[0] - learn_time) / rounds
    flops = training_flops(config)
    kind = _TYPES.get(config.precision, torch.float32)
    rate = matmul_rate(device, kind, tf32=config.precision == "tf32")
    decoding = training = None
    if images is not None:
        decoding, training = _from_files(config, images, learner, seconds)
    memory = None
    if device.type == "cuda":
        memory = float(torch.cuda.max_memory_allocated())
    return Speeds(
        floor=rate / flops,
        bare=n_images / pass_time,
        step=n_images / (learn_time + last),
        views=n_images / views_time,
        whole=n_images / (both_time + last),
        decoding=decoding,
        training=training,
        flops=float(flops),
        matmul=rate,
        memory=memory,
    )


def _bare_pass(learner, x):
    config = learner.config
    options = network_options(config, _N_CLASSES)
    network = embedding_network(config.architecture, **options)
    network = network.to(x.device, next(learner.network.parameters()).dtype)

    def passes():
        with learner.cast():
            out = network(x)
        out.float().square().sum().backward()
        network.zero_grad(set_to_none=True)

    return passes


def _random_chunk(n_images):
    rng = torch.Generator().manual_seed(0)
    shape = (n_images, *_CANVAS, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
    return Chunk(
        indices=torch.arange(n_images),
        canvases=pixels.permute(0, 3, 1, 2),
        sizes=torch.tensor([_CANVAS]).expand(n_images, 2),
        labels=torch.arange(n_images) % _N_CLASSES,
        n_replaced=0,
        wait_seconds=0.0,
    )


def _from_files(config, images, learner, seconds):
    """Images per second of decoding alone, and of everything."""
    group = learner.group
    loader = learner.loader(images, BadImages(len(images), limit=1.0))
    n_groups = min(config.engine.chunk_groups, config.groups_per_step)
    size = n_groups * config.group_images

    def blocks():
        order = epoch_order(
            images.counts, seed=0, epoch=0, images_per_epoch=max(size, len(images))
        )
        parts = [order[k : k + size] for k in range(0, len(order) - size + 1, size)]
        return cycle(parts)

    rates = []
    for use in (False, True):
        learner.begin()
        chunks = loader.chunks(blocks(), seed=0, epoch=0)
        done, start = 0, 0.0
        for k, chunk in enumerate(chunks):
            if use:
                x = learner.views(chunk, 0)
                learner.learn(x, chunk.labels, [n_groups], 0)
            done += len(chunk.indices)
            if k == config.engine.prefetch:  # what was made ahead does not count
                _wait(group.device)
                done, start = 0, time.perf_counter()
            elif start and time.perf_counter() - start > seconds:
                break
        _wait(group.device)
        rates.append(done / (time.perf_counter() - start))
        chunks.close()
        learner.abandon()
    return rates[0], rates[1]


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _medians(actions, device, seconds):
    """Median time of each action, taken in turn; the first turn does not count."""
    for action in actions:
        action()
        action()
    times = [[] for _ in actions]
    start = time.perf_counter()
    spent = seconds * len(actions)
    while len(times[0]) < 3 or time.perf_counter() - start < spent:
        for action, own in zip(actions, times, strict=True):
            _wait(device)
            before = time.perf_counter()
            action()
            _wait(device)
            own.append(time.perf_counter() - before)
    return [statistics.median(own) for own in times]


def show_speeds(config, images, seconds):
    """Rates of all parts, and how much of the floor they are."""
    found = measure_speeds(config, images, seconds=seconds)
    rows = (
        ("floor: matrix products alone", found.floor),
        ("network alone, forward and backward", found.bare),
        ("training step, views resident", found.step),
        ("views alone", found.views),
        ("training step with its views", found.whole),
        ("decoding alone", found.decoding),
        ("training from files", found.training),
    )
    work = f"{found.flops / 1e9:.2f} GFLOP per image of {config.n_views} views"
    rate = f"{found.matmul / 1e12:.3g} TFLOP/s in {config.precision}"
    print(f"{work}; matrix product {rate}")
    print(f"{'images/s':>12}  {'of the floor':>12}")
    for name, value in rows:
        if value is not None:
            print(f"{value:12.1f}  {value / found.floor:12.3f}  {name}")
    if found.memory is not None:
        print(f"peak memory of the device: {found.memory / 2**30:.1f} GiB")


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
    names = ", ".join(("speeds", *parts))
    parser.add_argument("parts", nargs="*", metavar="PART", help=names)
    parser.add_argument("--workers", type=int, help="default: the usable cores")
    parser.add_argument("--config", help="recipe of speeds")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE"
    )
    parser.add_argument("--data", action="append", help="images of speeds")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each speed")
    options = parser.parse_args()
    wanted = options.parts or parts
    workers = options.workers or n_cores()
    name = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"torch {torch.__version__}, {name}, {workers} cores")
    if "speeds" in wanted:
        config = read_config(options.config, *options.changes)
        images = open_images(options.data) if options.data else None
        show_speeds(config, images, options.seconds)
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
