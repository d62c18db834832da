"""Images with classes, what layers make of them, and how many guesses are right."""

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from versa.models.images import network_input, read_rgb
from versa.models.ipcl.decoding import decode
from versa.models.ipcl.image_source import patiently, require_no_dataset
from versa.models.ipcl.packing import PackedImages
from versa.models.passes import (
    Tried,
    computing_device,
    evaluating,
    on_device,
    output_rows,
    require_all_ran,
    require_usable,
    resolve_layers,
    run_network,
    single_tensor,
    unsteady_warnings,
    watch_layers,
)
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.parallel import n_cores
from versa.progress import counted
from versa.wording import listing

logger = logging.getLogger("versa")

Transform = Callable[[Image.Image], torch.Tensor]
Reader = Callable[[int], torch.Tensor]
Batches = Generator[tuple[np.ndarray, torch.Tensor], None, None]
Outputs = Generator[tuple[np.ndarray, dict[str, torch.Tensor]], None, None]

_TOP = 5


class PackedImage(NamedTuple):
    """An image of a packed file."""

    pack: PackedImages
    number: int


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and the class of each; `labelled_images` makes them."""

    # files, or places in packed ones; or uint8 (n_images, height, width, 3)
    images: "tuple[str | PackedImage, ...] | np.ndarray"
    labels: np.ndarray  # (n_images,) index into `classes`, int64
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, k: int) -> str:
        """What image `k` is called: class/file, or "image k" of an array."""
        if isinstance(self.images, np.ndarray):
            return f"image {k}"
        image = self.images[k]
        path = (
            image.pack.name(image.number) if isinstance(image, PackedImage) else image
        )
        return f"{self.classes[self.labels[k]]}/{os.path.basename(path)}"

    def read(self, k: int) -> Image.Image:
        """Image `k` in mode RGB; other modes are converted, transparency on white."""
        if isinstance(self.images, np.ndarray):
            return Image.fromarray(self.images[k])
        image = self.images[k]
        if isinstance(image, PackedImage):
            return Image.fromarray(decode(image.pack.read(image.number))[0])
        try:
            return read_rgb(image, convert=True)
        except ValueError:
            patiently(Path(image).read_bytes, image)  # out of reach is not damaged
            return read_rgb(image, convert=True)

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
        A folder with one folder per class, as for torchvision's ImageFolder; a file of
        `versa.models.ipcl.pack`; or a pair of images, either paths or a uint8 array
        (n_images, height, width, 3), and labels, integers or names.

    Returns
    -------
    images : LabelledImages

    Raises
    ------
    ValueError
        If images and labels do not belong together, or the folder is that of a dataset
        with ``train`` and ``val``.
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
        if root.is_file():
            pack = PackedImages(root)
            packed = tuple(PackedImage(pack, k) for k in range(len(pack)))
            return LabelledImages(packed, pack.labels, pack.classes)
        names, numbers = find_classes(root)
        pairs = make_dataset(root, numbers, extensions=IMG_EXTENSIONS)
        paths, of = zip(*pairs, strict=True)
        require_no_dataset(
            root, [Path(os.path.relpath(path, root)).as_posix() for path in paths]
        )
        return LabelledImages(paths, np.array(of, dtype=np.int64), tuple(names))
    if not isinstance(source, tuple) or len(source) != 2:
        kind = type(source).__name__
        raise ValueError(f"images must be a folder or (images, labels); got a {kind}.")
    images, labels = source[0], np.asarray(source[1])
    if not isinstance(images, np.ndarray):
        images = tuple(
            image if isinstance(image, PackedImage) else os.fspath(image)
            for image in images
        )
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
    tried: dict[str, Tried] = {}

    def receive(layer: str, output: Any) -> None:
        axis = tried[layer].axis
        rows = output_rows(layer, output, n_images, axis)  # refuses other outputs
        own = list(single_tensor(output).shape)  # type: ignore[union-attr]
        del own[axis]
        shape = n_images, *(own or (1,))
        outputs[layer] = rows.reshape(shape).clone()  # before it is changed
        runs[layer] += 1

    with closing(batches):
        for numbers, x in batches:
            n_images = len(x)
            if not tried:
                tried = require_usable(model, x[0], layers, n_images)
                for sentence in unsteady_warnings(model.name, tried):
                    logger.warning("%s", sentence)
            runs |= dict.fromkeys(layers, 0)
            with evaluating(module), watch_layers(module, layers, receive):
                run_network(model, x, place)
            require_all_ran(runs)
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
    """How many classes are ahead of the true one, (n_images,)."""
    true = scores.gather(1, labels[:, None])  # (n_images, 1)
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    ranks = ((scores > true) | ((scores == true) & before)).sum(dim=1)
    return torch.where(true[:, 0] == -torch.inf, scores.shape[1] + _TOP, ranks)


def accuracy(ranks: torch.Tensor, n_classes: int) -> dict[str, float]:
    """``top1`` and ``top5`` in percent; top5 is NaN with fewer than 5 classes."""
    top1, top5 = (100 * int((ranks < n).sum()) / len(ranks) for n in (1, _TOP))
    return {"top1": top1, "top5": top5 if n_classes >= _TOP else nan}


def stream_features(
    model: VisionModel,
    images: Any,
    layer: str,
    *,
    transform: Transform | None = None,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Features of a layer, chunk after chunk, such as `knn_accuracy` takes.

    Parameters
    ----------
    model : VisionModel
    images : path, tuple or LabelledImages
        As for `labelled_images`.
    layer : str
        Dotted name.
    transform : callable, optional
        From an RGB image to a tensor; by default ``model.validation``.
    batch_size : int
        Images in one pass.
    device : str or torch.device, optional
        Where to compute; by default where the module is.
    workers : int, optional
        Threads that read images; by default one per core, at most 16.
    progress : bool
        Whether to show a bar.

    Yields
    ------
    features : Tensor of shape (n_batch, ...)
        On the device.
    labels : Tensor of shape (n_batch,)
        int64, on the CPU.

    Raises
    ------
    ValueError
        If an image is damaged or a feature is not finite (both are named), or the
        transform is not known.
    """
    source = labelled_images(images)
    prepare = validation_transform(model, transform)
    place = computing_device(model.module, device)
    layers = resolve_layers(model, [layer])
    stream = plain_features(model, layers, source, prepare, batch_size, place, workers)
    with (
        on_device(model.module, place),
        closing(stream),
        counted(len(source), model.name, "image", show=progress) as bar,
    ):
        for numbers, outputs in stream:
            yield outputs[layer], torch.from_numpy(source.labels[numbers])
            bar.update(len(numbers))
