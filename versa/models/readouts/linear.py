"""A linear read-out of a layer of a frozen network; and the way from images to layers.

Users find all of it in `versa.models.readouts`. The protocol is that of Konkle &
Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
"""

import hashlib
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import Linear, functional
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from versa.cache import atomic_write
from versa.models.building import build_seeded
from versa.models.features import computing_device, on_device
from versa.models.hashes import weights_digest
from versa.models.images import network_input, read_rgb
from versa.models.ipcl.schedule import one_cycle
from versa.models.layers import (
    evaluating,
    output_rows,
    require_all_ran,
    resolve_layers,
    run_network,
    watch_layers,
)
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.reading import open_checkpoint
from versa.parallel import n_cores
from versa.wording import listing

__all__ = ["LabelledImages", "labelled_images", "readout_linear"]

logger = logging.getLogger("versa")

Transform = Callable[[Image.Image], torch.Tensor]
Reader = Callable[[int], torch.Tensor]
Batches = Generator[tuple[np.ndarray, torch.Tensor], None, None]
Outputs = Generator[tuple[np.ndarray, dict[str, torch.Tensor]], None, None]
State = dict[str, Any]  # tensors, numbers and text

_SCALE, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's RandomResizedCrop
_TOP = 5


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and the class of each; `labelled_images` makes them.

    Parameters
    ----------
    images : tuple of str or ndarray of shape (n_images, height, width, 3)
        Files, or RGB pixels of type uint8.
    labels : ndarray of shape (n_images,)
        Index into `classes`, int64.
    classes : tuple of str
    """

    images: tuple[str, ...] | np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, k: int) -> str:
        """What image `k` is called: class/file, or "image k" of an array."""
        if isinstance(self.images, np.ndarray):
            return f"image {k}"
        return f"{self.classes[self.labels[k]]}/{os.path.basename(self.images[k])}"

    def read(self, k: int) -> Image.Image:
        """Image `k` in mode RGB; other modes are converted, transparency on white."""
        if isinstance(self.images, np.ndarray):
            return Image.fromarray(self.images[k])
        return read_rgb(self.images[k], convert=True)

    def labels_among(self, classes: Sequence[str]) -> torch.Tensor:
        """Labels (n_images,) as indices into other classes, matched by name."""
        place = {name: k for k, name in enumerate(classes)}
        if strange := [name for name in self.classes if name not in place]:
            raise ValueError(
                f"classes of val must be among those of train, not {listing(strange)}."
            )
        return torch.tensor([place[name] for name in self.classes])[self.labels]

    def digest(self) -> str:
        """Hash of names and labels, and of the pixels of an array (not of files)."""
        parts = hashlib.sha256(repr((len(self), self.classes)).encode())
        parts.update(self.labels.tobytes())
        parts.update("\n".join(map(self.name, range(len(self)))).encode())
        if isinstance(self.images, np.ndarray):
            parts.update(np.ascontiguousarray(self.images).data)
        return parts.hexdigest()


def labelled_images(source: Any) -> LabelledImages:
    """Images and classes of a folder, or of a pair (images, labels).

    Parameters
    ----------
    source : path, tuple or LabelledImages
        A folder with one folder per class, as for torchvision's ImageFolder; or a pair
        of images, either paths or a uint8 array (n_images, height, width, 3), and
        labels, integers or names.

    Returns
    -------
    images : LabelledImages

    Raises
    ------
    ValueError
        If images and labels do not belong together.
    FileNotFoundError
        If there is no such folder, or a class without images.

    Examples
    --------
    >>> pixels = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    >>> labelled_images((pixels, ["dog", "cat", "dog"])).classes
    ('cat', 'dog')
    """
    if isinstance(source, LabelledImages):
        return source
    if isinstance(source, str | os.PathLike):
        root = Path(source).expanduser()
        names, numbers = find_classes(root)
        pairs = make_dataset(root, numbers, extensions=IMG_EXTENSIONS)
        paths, of = zip(*pairs, strict=True)
        return LabelledImages(paths, np.array(of, dtype=np.int64), tuple(names))
    if not isinstance(source, tuple) or len(source) != 2:
        kind = type(source).__name__
        raise ValueError(f"images must be a folder or (images, labels); got a {kind}.")
    images, labels = source[0], np.asarray(source[1])
    if not isinstance(images, np.ndarray):
        images = tuple(os.fspath(path) for path in images)
    elif images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            "images must be uint8 of shape (n_images, height, width, 3); got "
            f"{images.dtype} {images.shape}."
        )
    one_each = labels.shape == (len(images),) != (0,)
    if not one_each or labels.dtype.kind not in "iuU":
        raise ValueError(
            "labels must hold one integer or name per image, and at least one; got "
            f"{labels.dtype} {labels.shape} for {len(images)} images."
        )
    classes, places = np.unique(labels, return_inverse=True)
    return LabelledImages(images, places.astype(np.int64), tuple(map(str, classes)))


def validation_transform(model: VisionModel, transform: Transform | None) -> Transform:
    """The given transform, else the network's own for read-outs."""
    chosen = model.validation if transform is None else transform
    if chosen is None:
        raise ValueError(
            f"transform must be given for {model.name}, whose validation transform is "
            "not known. Pass transform=, such as Preprocess(256, 224, mean, std)."
        )
    return chosen


def image_batches(
    read: Reader, order: np.ndarray, batch_size: int, workers: int | None
) -> Batches:
    """Numbers (n_batch,) and inputs (n_batch, 3, height, width), read by threads."""
    threads = min(16, n_cores()) if workers is None else workers
    if min(batch_size, threads) < 1:
        raise ValueError(
            f"batch_size and workers must be above 0; got {batch_size}, {threads}."
        )
    parts = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    ahead: deque[list[Future[torch.Tensor]]] = deque()
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        for k, numbers in enumerate(parts):
            for part in parts[k + 2 : k + 3] if k else parts[:3]:  # two ahead
                ahead.append([pool.submit(read, int(number)) for number in part])
            rows = [future.result() for future in ahead.popleft()]
            if len(shapes := {tuple(row.shape) for row in rows}) > 1:
                raise ValueError(
                    "transform must give all images one shape; got "
                    f"{listing(sorted(shapes))}. Crop both sides in it."
                )
            yield numbers, torch.stack(rows)
    finally:
        pool.shutdown(cancel_futures=True)


def layer_features(
    model: VisionModel,
    layers: Sequence[str],
    images: LabelledImages,
    batches: Batches,
    place: torch.device,
) -> Outputs:
    """Numbers (n_batch,) and the outputs of layers (n_batch, ...), on `place`."""
    module = model.module
    outputs: dict[str, torch.Tensor] = {}
    runs: dict[str, int] = {}

    def receive(layer: str, output: Any) -> None:
        rows = output_rows(module, layer, output, n_images)  # refuses other outputs
        shape = n_images, *(output.shape[1:] or (1,))
        outputs[layer] = rows.reshape(shape).clone()  # before it is changed
        runs[layer] += 1

    with closing(batches):
        for numbers, x in batches:
            n_images = len(x)
            runs |= dict.fromkeys(layers, 0)
            with evaluating(module), watch_layers(module, layers, receive):
                run_network(model, x, place)
            require_all_ran(module, runs)
            for layer in layers:
                finite = torch.isfinite(outputs[layer]).flatten(1).all(dim=1).cpu()
                if not bool(finite.all()):
                    bad = [images.name(k) for k in numbers[~finite.numpy()]]
                    raise ValueError(
                        f"features of {model.name} must be finite; layer {layer!r} has "
                        f"NaN or infinite ones for {listing(bad)}. Check the weights."
                    )
            yield numbers, {layer: outputs.pop(layer) for layer in layers}


def plain_features(
    model: VisionModel,
    layers: Sequence[str],
    images: LabelledImages,
    transform: Transform,
    batch_size: int,
    place: torch.device,
    workers: int | None,
) -> Outputs:
    """`layer_features` of all images; other transforms than ours run one at a time."""

    def read(k: int) -> torch.Tensor:
        return network_input(images.read(k), transform, images.name(k))

    threads = workers if isinstance(transform, Preprocess) else 1
    batches = image_batches(read, np.arange(len(images)), batch_size, threads)
    return layer_features(model, layers, images, batches, place)


def class_ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes are ahead of the true one, (n_images,).

    Of equal `scores` (n_images, n_classes) the class of lower index is ahead. A true
    class with the score ``-inf`` is no candidate: its rank is never a hit.
    """
    true = scores.gather(1, labels[:, None])  # (n_images, 1)
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    ranks = ((scores > true) | ((scores == true) & before)).sum(dim=1)
    return torch.where(true[:, 0] == -torch.inf, scores.shape[1] + _TOP, ranks)


def accuracy(ranks: torch.Tensor, n_classes: int) -> dict[str, float]:
    """``top1`` and ``top5`` in percent; top5 is NaN with fewer than 5 classes."""
    top1, top5 = (100 * int((ranks < n).sum()) / len(ranks) for n in (1, _TOP))
    return {"top1": top1, "top5": top5 if n_classes >= _TOP else math.nan}


def readout_rates(step: int, n_steps: int, peak_lr: float) -> tuple[float, float]:
    """Learning rate and momentum of a step, counted from 0.

    The rate rises from ``peak_lr / 1e6`` in the first 30 % of the steps and falls
    towards ``peak_lr / 1e10``; see `versa.models.ipcl.schedule.one_cycle`.

    Examples
    --------
    >>> readout_rates(30, 100, peak_lr=30.0)
    (30.0, 0.85)
    """
    warmup = max(0.3, 1 / n_steps)  # at least one step
    return one_cycle(
        step, n_steps, peak=peak_lr, warmup=warmup, start_divisor=1e6, end_divisor=1e4
    )


def training_crop(
    image: Image.Image, preprocess: Preprocess, rng: np.random.Generator
) -> torch.Tensor:
    """A random crop (3, crop, crop) of an RGB image, flipped every other time.

    Equal to torchvision's RandomResizedCrop(crop), RandomHorizontalFlip(), ToTensor()
    and Normalize(mean, std) but for the source of the random numbers.
    """
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*_SCALE)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = (int(rng.integers(n + 1)) for n in (height - h, width - w))
            break
    else:  # the largest allowed part of the middle
        w = min(width, round(height * _RATIO[1]))
        h = min(height, round(width / _RATIO[0]))
        top, left = (height - h) // 2, (width - w) // 2
    side = preprocess.crop
    part = image.crop((left, top, left + w, top + h))
    part = part.resize((side, side), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Preprocess(side, side, preprocess.mean, preprocess.std)(part)


def readout_linear(
    model: VisionModel,
    train: Any,
    val: Any,
    layer: str = "fc7",
    *,
    epochs: int = 10,
    peak_lr: float = 30.0,
    batch_size: int = 256,
    weight_decay: float = 0.0,
    seed: int = 0,
    resume: str | os.PathLike[str] | None = None,
    save_every: int = 500,
    transform: Preprocess | None = None,
    device: str | torch.device | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Accuracy of a linear classifier that is trained on a layer of a frozen network.

    The paper's protocol by default: SGD, one cycle of the learning rate over all
    batches (`readout_rates`), random crops and flips of the training images
    (`training_crop`), one centre crop of the others, the accuracy after the last epoch.

    Parameters
    ----------
    model : VisionModel
    train, val : path, tuple or LabelledImages
        As for `labelled_images`.
    layer : str
        Dotted name. Its output is flattened, not scaled.
    epochs, batch_size, save_every : int
    peak_lr, weight_decay : float
    seed : int
        Of the first weights, the order of the images, and the crops; 0 or more.
    resume : path, optional
        File to go on from if it exists, written every `save_every` steps and after each
        epoch: ``weight``, ``bias`` and ``history`` (loss, top1 and top5 of each epoch)
        among tensors, numbers and text. On a CPU the result is that of an
        uninterrupted run, exactly.
    transform : Preprocess, optional
        By default ``model.validation``. Gives the crops their size, mean and std too.
    device : str or torch.device, optional
        Where to compute; by default where the module is.
    workers : int, optional
        Threads that read images; by default one per core, at most 16.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    accuracy : dict of str to float
        ``top1`` and ``top5`` in percent (top5 is NaN with fewer than 5 classes), and
        the mean ``loss`` of the training images in the last epoch.

    Raises
    ------
    ValueError
        If an image is damaged (it is named), val has a class that train has not, the
        loss is not finite, or `resume` is damaged or of another read-out.
    """
    from tqdm.auto import tqdm

    if min(epochs, batch_size, save_every) < 1 or seed < 0 or not peak_lr > 0:
        raise ValueError(
            "epochs, batch_size, save_every and peak_lr must be above 0 and seed not "
            f"below; got {epochs}, {batch_size}, {save_every}, {peak_lr} and {seed}."
        )
    crop = validation_transform(model, transform)
    if not isinstance(crop, Preprocess):
        raise ValueError(
            f"transform must be a Preprocess, for the training crops; got {crop!r}."
        )
    images, tests = labelled_images(train), labelled_images(val)
    truth = tests.labels_among(images.classes)
    place = computing_device(model.module, device)
    layers = resolve_layers(model, [layer])
    settings = {
        "model": weights_digest(model.module), "layer": layer, "transform": repr(crop),
        "epochs": epochs, "batch_size": batch_size, "peak_lr": peak_lr, "seed": seed,
        "weight_decay": weight_decay, "classes": images.classes,
        "train": images.digest(), "val": tests.digest(),
    }  # fmt: skip
    path = None if resume is None else Path(resume)
    n_images, per_epoch = len(images), -(-len(images) // batch_size)
    n_steps, passing = epochs * per_epoch, (crop, batch_size, place, workers)
    state = _beginning(path, settings, place)
    shown = {"initial": state["step"], "desc": model.name, "disable": not progress}
    with on_device(model.module, place), tqdm(total=n_steps, **shown) as bar:
        while state["step"] < n_steps:
            epoch, done = divmod(state["step"], per_epoch)
            order = np.random.default_rng([0, seed, epoch]).permutation(n_images)

            def read(k: int, epoch: int = epoch) -> torch.Tensor:
                rng = np.random.default_rng([1, seed, epoch, k])
                return training_crop(images.read(k), crop, rng)

            rest = order[done * batch_size :]
            batches = image_batches(read, rest, batch_size, workers)
            stream = layer_features(model, layers, images, batches, place)
            with closing(stream):
                for numbers, outputs in stream:
                    _descend(state, outputs[layer], images.labels[numbers], n_steps)
                    bar.update()
                    if state["step"] % save_every == 0 and state["step"] % per_epoch:
                        _save(state, path)
            ranks = [
                class_ranks(_logits(state, outputs[layer]).cpu(), truth[numbers])
                for numbers, outputs in plain_features(model, layers, tests, *passing)
            ]
            result = accuracy(torch.cat(ranks), len(images.classes))
            logger.info("%s %s, epoch %d: %s", model.name, layer, epoch + 1, result)
            state["history"].append({"loss": state["loss"] / n_images, **result})
            state["loss"] = 0.0
            _save(state, path)
    return dict(state["history"][-1])


def _beginning(path: Path | None, settings: State, place: torch.device) -> State:
    """State of the file, or of a new read-out: weights come with the first batch."""
    if path is None or not path.exists():
        return {"settings": settings, "step": 0, "loss": 0.0, "history": []}
    state = open_checkpoint(path, source="the read-out")
    found = state.get("settings", {}) if isinstance(state, dict) else {}
    if other := [name for name in settings if found.get(name) != settings[name]]:
        raise ValueError(
            f"resume must be a file of the same read-out; {path} differs in "
            f"{listing(other)}. Name another file."
        )
    return {k: v.to(place) if torch.is_tensor(v) else v for k, v in state.items()}


def _descend(state: State, x: torch.Tensor, labels: np.ndarray, n_steps: int) -> None:
    """One step of SGD as in torch.optim, on features (n_batch, ...)."""
    settings, names = state["settings"], ("weight", "bias")
    if not state["step"]:
        shape = x[0].numel(), len(settings["classes"])
        first = build_seeded(lambda: Linear(*shape), settings["seed"]).to(x.device)
        for name, value in first.named_parameters():
            state |= {name: value.detach(), f"{name}_speed": torch.zeros_like(value)}
    with torch.enable_grad():
        free = {name: state[name].detach().requires_grad_() for name in names}
        targets = torch.from_numpy(labels).to(x.device)
        loss = functional.cross_entropy(_logits(free, x), targets)
        slopes = torch.autograd.grad(loss, list(free.values()))
    if not math.isfinite(loss.item()):
        raise ValueError(
            f"loss must be finite; it is {loss.item()} at step {state['step'] + 1}. "
            "Lower peak_lr, or read out a layer of smaller values."
        )
    rate, momentum = readout_rates(state["step"], n_steps, settings["peak_lr"])
    for name, slope in zip(names, slopes, strict=True):
        slope = slope.add(state[name], alpha=settings["weight_decay"])
        state[f"{name}_speed"].mul_(momentum).add_(slope)
        state[name].add_(state[f"{name}_speed"], alpha=-rate)
    state["step"] += 1
    state["loss"] += loss.item() * len(x)


def _logits(state: State, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x.float().flatten(1), state["weight"], state["bias"])


def _save(state: State, path: Path | None) -> None:
    if path is None:
        return
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch's word for a full disk
        logger.warning("%s cannot be written, its last state stays: %s", path, error)
