"""How fast a configuration trains on this machine, and how fast it could."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import torch

from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.image_source import ImageSource
from versa.models.ipcl.learner import Learner, network_options
from versa.models.ipcl.loader import BadImages, Chunk
from versa.models.ipcl.network import embedding_network
from versa.models.ipcl.process_group import Launch, ProcessGroup, process_group
from versa.models.ipcl.schedule import epoch_order

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

    floor: float
    bare: float
    step: float
    views: float
    whole: float
    decoding: float | None
    training: float | None
    flops: float
    matmul: float
    memory: float | None


def training_flops(config: TrainConfig) -> int:
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


def matmul_rate(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    tf32: bool = False,
    seconds: float = 2.0,
) -> float:
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


def measure_speeds(
    config: TrainConfig, images: ImageSource | None = None, *, seconds: float = 10.0
) -> Speeds:
    """Measure one process on this machine."""
    with process_group(config.engine.device, Launch()) as group:
        return _measured(config, images, group, seconds)


def _measured(
    config: TrainConfig, images: ImageSource | None, group: ProcessGroup, seconds: float
) -> Speeds:
    device = group.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    learner = Learner(config, n_images=10**6, n_classes=_N_CLASSES, group=group)
    n_groups = min(config.engine.chunk_groups, config.groups_per_step)
    n_images = n_groups * config.group_images
    chunk = _random_chunk(n_images)
    x = learner.views(chunk, 0)
    counts, step = [n_groups], 0

    def learn() -> None:
        learner.learn(x, chunk.labels, counts, step)

    def finish() -> None:
        learner.learn(x, chunk.labels, counts, step)
        learner.finish(step, 1e-9, 0.9)

    def views() -> None:
        learner.views(chunk, 0)

    def learn_views() -> None:
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


def _bare_pass(learner: Learner, x: torch.Tensor) -> Callable[[], None]:
    config = learner.config
    options = network_options(config, _N_CLASSES)
    network = embedding_network(config.architecture, **options)
    network = network.to(x.device, next(learner.network.parameters()).dtype)

    def passes() -> None:
        with learner.cast():
            out = network(x)
        out.float().square().sum().backward()
        network.zero_grad(set_to_none=True)

    return passes


def _random_chunk(n_images: int) -> Chunk:
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


def _from_files(
    config: TrainConfig, images: ImageSource, learner: Learner, seconds: float
) -> tuple[float, float]:
    """Images per second of decoding alone, and of everything."""
    group = learner.group
    loader = learner.loader(images, BadImages(len(images), limit=1.0))
    n_groups = min(config.engine.chunk_groups, config.groups_per_step)
    size = n_groups * config.group_images

    def blocks() -> Iterator[np.ndarray]:
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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _medians(
    actions: Sequence[Callable[[], object]], device: torch.device, seconds: float
) -> list[float]:
    """Median time of each action, taken in turn; the first turn does not count."""
    for action in actions:
        action()
        action()
    times: list[list[float]] = [[] for _ in actions]
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
