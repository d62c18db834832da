"""A linear classifier trained on a layer of a frozen network.

The protocol is that of Konkle & Alvarez (2022),
https://doi.org/10.1038/s41467-022-28091-4
"""

import logging
import math
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import Linear, functional

from versa.cache import atomic_write
from versa.models.hashes import weights_digest
from versa.models.ipcl.schedule import one_cycle
from versa.models.passes import computing_device, on_device, resolve_layers
from versa.models.preprocess import Preprocess
from versa.models.readouts.images import (
    accuracy,
    class_ranks,
    image_batches,
    labelled_images,
    layer_features,
    plain_features,
    validation_transform,
)
from versa.models.vision import VisionModel
from versa.models.zoo.networks import build_seeded
from versa.models.zoo.reading import open_checkpoint
from versa.progress import counted
from versa.wording import listing

logger = logging.getLogger("versa")

State = dict[str, Any]  # tensors, numbers and text

_SCALE, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's RandomResizedCrop


def readout_rates(step: int, n_steps: int, peak_lr: float) -> tuple[float, float]:
    """Learning rate and momentum of a step, counted from 0."""
    warmup = max(0.3, 1 / n_steps)  # at least one step
    return one_cycle(
        step, n_steps, peak=peak_lr, warmup=warmup, start_divisor=1e6, end_divisor=1e4
    )


def training_crop(
    image: Image.Image, preprocess: Preprocess, rng: np.random.Generator
) -> torch.Tensor:
    """A random crop (3, crop, crop) of an RGB image, flipped every other time."""
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


def layer_below_classifier(model: VisionModel) -> str:
    """The default layer of a read-out: fc7, or what the classifier sees."""
    parts = dict(model.module.named_modules())
    if "fc7" in parts:
        return "fc7"
    order = list(parts)
    heads = [name for name, part in parts.items() if isinstance(part, Linear)]
    end = order.index(heads[-1]) if heads else len(order)
    below = [
        name
        for name in model.layers
        if order.index(name) < end and not (heads and heads[-1].startswith(f"{name}."))
    ]
    return below[-1] if below else model.layers[-1]


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
        File to resume from if it exists, written every `save_every` steps and after
        each epoch: ``weight``, ``bias`` and ``history`` (loss, top1 and top5 of each
        epoch) among tensors, numbers and text. On a CPU the result is that of an
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
    shown = {"initial": state["step"], "show": progress}
    with (
        on_device(model.module, place),
        counted(n_steps, model.name, "step", **shown) as bar,
    ):
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
