"""From a network and images to one small matrix per layer: the waist of the house.

Ridge regression and Pearson RDMs depend on the features ``X`` of a layer only through
``X @ X.T`` and the sums of the rows. One forward pass gives them for all layers.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from versa.models.buffers import FeatureBuffer, SpilledBuffer, grams_of
from versa.models.hashes import tensor_bytes, weights_digest
from versa.models.images import image_inputs, network_input, read_rgb
from versa.models.layers import (
    device_of,
    evaluating,
    output_rows,
    require_all_ran,
    resolve_layers,
    run_network,
    watch_layers,
)
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.wording import listing

__all__ = [
    "LayerGram",
    "Probe",
    "buffer_bytes",
    "computing_device",
    "extract_grams",
    "inputs_digest",
    "on_device",
    "probe",
    "resolve_layers",
]

logger = logging.getLogger("versa")

_MAX_BUFFER = 512 * 2**20
_FEATURE_BYTES = 4  # float32
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, eq=False)
class LayerGram:
    """What remains of the features ``X`` (n_images, n_units) of one layer.

    Parameters
    ----------
    layer : str
        Dotted name.
    gram : ndarray of shape (n_images, n_images)
        ``X @ X.T``, neither centred nor scaled, float64.
    sums : ndarray of shape (n_images,)
        Sums of the rows of ``X``, float64.
    n_units : int
        Columns of ``X``.
    names : tuple of str
        Ids of the images, (n_images,).
    hashes : tuple of str
        SHA-256 of each image file, (n_images,).
    standardized : ndarray of shape (n_images, n_images) or None
        The same as `gram` for z-scored units (over all images; constant units count
        as zeros), float64.
    """

    layer: str
    gram: np.ndarray
    sums: np.ndarray
    n_units: int
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    standardized: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.names)
        shapes = {"gram": (n, n), "sums": (n,), "standardized": (n, n)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is None and name == "standardized":
                continue
            if array.shape != shape or array.dtype != np.float64:
                raise ValueError(
                    f"{name} of layer {self.layer!r} must be float64 of shape {shape} "
                    f"for {n} images; got {array.dtype} {array.shape}."
                )
        if len(self.hashes) != n:
            raise ValueError(
                f"hashes must hold one per image; got {len(self.hashes)} for {n}."
            )
        if self.n_units < 1:
            raise ValueError(f"n_units must be 1 or more; got {self.n_units}.")


def extract_grams(
    model: VisionModel,
    images: Sequence[str | os.PathLike[str]],
    layers: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    standardize: bool = False,
    convert: bool = False,
    max_buffer: int = _MAX_BUFFER,
    progress: bool = False,
) -> dict[str, LayerGram]:
    """Gram matrices of all layers from one forward pass over the images.

    The network runs in eval mode without gradients; its modes, device and hooks are
    afterwards what they were, also after an error.

    Parameters
    ----------
    model : VisionModel
    images : sequence of path
        Image files, (n_images,).
    layers : sequence of str
        Dotted names, such as `resolve_layers` gives.
    names : sequence of str, optional
        Ids of the images; by default their file names.
    batch_size : int
        Images in one pass.
    device : str or torch.device, optional
        Where to compute; by default where the module is.
    standardize : bool
        Whether to make the Gram matrices of z-scored units too.
    convert : bool
        Whether to accept images of other modes than RGB and of several sizes.
    max_buffer : int
        Bytes of features that are kept in memory until the last image has passed
        (4 per unit and image); the layers beyond it wait in temporary files.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    grams : dict of str to LayerGram
        In the order of `layers`.

    Raises
    ------
    ValueError
        If a layer has no single output per image, an image is not as the others, a
        feature is not finite, or the device does not exist.
    """
    from tqdm.auto import tqdm

    names_of_layers = resolve_layers(model, list(layers))
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; got {batch_size}.")
    place = computing_device(model.module, device)
    inputs = image_inputs(images, model.preprocess, names=names, convert=convert)
    n_images = len(inputs.names)
    store = _Store(model.module, n_images, max_buffer)
    try:
        with (
            on_device(model.module, place),
            evaluating(model.module),
            watch_layers(model.module, names_of_layers, store.receive),
            tqdm(
                total=n_images, desc=model.name, unit="image", disable=not progress
            ) as bar,
        ):
            for start in range(0, n_images, batch_size):
                batch = inputs.batch(start, min(start + batch_size, n_images))
                store.begin(start, len(batch), names_of_layers)
                run_network(model, batch, place)
                require_all_ran(model.module, store.runs)
                bar.update(len(batch))
        grams = {}
        for layer in names_of_layers:
            buffer = store.buffers.pop(layer)
            gram, sums, standardized = grams_of(buffer, standardize=standardize)
            buffer.close()
            _refuse_non_finite(model.name, layer, gram, inputs.names)
            grams[layer] = LayerGram(
                layer,
                gram,
                sums,
                buffer.n_units,
                inputs.names,
                inputs.hashes,
                standardized,
            )
    finally:
        store.close()
    return grams


@dataclass(frozen=True)
class Probe:
    """What one image tells of a network, before a long run.

    Parameters
    ----------
    fingerprint : str
        Hash of everything that the features of all layers depend on, 64 hexadecimal
        digits.
    layers : tuple of str
        The layers that were asked for.
    n_units : tuple of int
        Their sizes, in the same order.
    fingerprints : tuple of str
        Of each layer alone, whatever else was asked for.
    """

    fingerprint: str
    layers: tuple[str, ...]
    n_units: tuple[int, ...]
    fingerprints: tuple[str, ...]


def probe(
    model: VisionModel,
    image: str | os.PathLike[str] | Image.Image,
    layers: Sequence[str],
    *,
    convert: bool = False,
) -> Probe:
    """Pass one image through a network.

    The fingerprint covers the weights, the structure, the preprocessing of the image,
    and what the layers make of it: networks of equal weights but another forward pass
    or another preprocessing differ.

    Parameters
    ----------
    model : VisionModel
    image : path or PIL.Image.Image
        A stimulus, rather a rich one: on a blank image networks may agree by chance.
    layers : sequence of str
        Dotted names.
    convert : bool
        Whether to accept an image of another mode than RGB.

    Returns
    -------
    probe : Probe
        The same in every process on one machine; another machine may round the
        outputs differently.

    Raises
    ------
    ValueError
        If the image cannot be read or is not RGB, or a layer has no single output per
        image.
    """
    module = model.module
    name = "the probe" if isinstance(image, Image.Image) else os.fspath(image)
    x = network_input(read_rgb(image, convert=convert), model.preprocess, name)
    outputs: dict[str, torch.Tensor] = {}
    runs = dict.fromkeys(layers, 0)

    def receive(layer: str, output: object) -> None:
        outputs[layer] = output_rows(module, layer, output, 1).clone()
        runs[layer] += 1

    with evaluating(module), watch_layers(module, list(runs), receive):
        run_network(model, x[None])
    require_all_ran(module, runs)
    structure = _ADDRESS.sub("", repr(module))
    common = f"{weights_digest(module)} {structure} {_tensor_digest(x)}"
    each = tuple(
        hashlib.sha256(
            f"{common} {k} {_tensor_digest(outputs[k])}".encode()
        ).hexdigest()
        for k in runs
    )
    return Probe(
        hashlib.sha256(" ".join(each).encode()).hexdigest(),
        tuple(runs),
        tuple(outputs[layer].shape[1] for layer in runs),
        each,
    )


def inputs_digest(
    model: VisionModel,
    images: Sequence[str | os.PathLike[str]],
    *,
    convert: bool = False,
) -> str:
    """Hash of what the preprocessing makes of all images.

    Parameters
    ----------
    model : VisionModel
        A `Preprocess` counts by its fields, whose effect on a file is known; any other
        callable by the tensors that it gives for all images.
    images : sequence of path
        Image files, (n_images,).
    convert : bool
        Whether images of other modes are accepted.

    Returns
    -------
    digest : str
        64 hexadecimal digits. It differs from call to call if the preprocessing is
        random.
    """
    digest = hashlib.sha256()
    if isinstance(model.preprocess, Preprocess):
        digest.update(repr(model.preprocess).encode())
    else:
        for image in images:
            rgb = read_rgb(image, convert=convert)
            x = network_input(rgb, model.preprocess, os.fspath(image))
            digest.update(_tensor_digest(x).encode())
    return digest.hexdigest()


def _tensor_digest(tensor: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor_bytes(tensor).data)
    return digest.hexdigest()


def buffer_bytes(
    n_images: int, n_units: Sequence[int], max_buffer: int = _MAX_BUFFER
) -> int:
    """Memory that `extract_grams` needs for features, beside the network.

    Parameters
    ----------
    n_images : int
    n_units : sequence of int
        Of each layer, in the order of execution.
    max_buffer : int
        As for `extract_grams`; layers beyond it wait in files.

    Returns
    -------
    n_bytes : int

    Examples
    --------
    >>> buffer_bytes(72, [290_400, 4096])
    84814848
    """
    total = 0
    for units in n_units:
        if total + _FEATURE_BYTES * n_images * units <= max_buffer:
            total += _FEATURE_BYTES * n_images * units
    return total


class _Store:
    """Receives the outputs of one forward pass after the other."""

    def __init__(self, module: nn.Module, n_images: int, max_buffer: int) -> None:
        self.module, self.n_images, self.room = module, n_images, max_buffer
        self.buffers: dict[str, FeatureBuffer | SpilledBuffer] = {}
        self.runs: dict[str, int] = {}
        self.start = self.n_rows = 0

    def begin(self, start: int, n_rows: int, layers: Sequence[str]) -> None:
        self.start, self.n_rows = start, n_rows
        self.runs = dict.fromkeys(layers, 0)

    def receive(self, layer: str, output: object) -> None:
        rows = output_rows(self.module, layer, output, self.n_rows)
        self.runs[layer] += 1
        if self.runs[layer] > 1:
            return  # refused after the pass, when the count is known
        if layer not in self.buffers:
            self.buffers[layer] = self._new_buffer(layer, rows)
        buffer = self.buffers[layer]
        if rows.shape[1] != buffer.n_units:
            raise ValueError(
                f"layer {layer!r} must have the same number of units for every image; "
                f"it has {buffer.n_units} and {rows.shape[1]}."
            )
        buffer.write(self.start, rows)

    def close(self) -> None:
        for buffer in self.buffers.values():
            buffer.close()
        self.buffers.clear()

    def _new_buffer(
        self, layer: str, rows: torch.Tensor
    ) -> FeatureBuffer | SpilledBuffer:
        n_units = rows.shape[1]
        dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
        n_bytes = self.n_images * n_units * dtype.itemsize
        if n_bytes > self.room:
            logger.info("features of %s wait in a file (%d bytes)", layer, n_bytes)
            return SpilledBuffer(self.n_images, n_units, dtype)
        self.room -= n_bytes
        # float64 needs the CPU or CUDA; other devices do not have it
        place = rows.device if rows.is_cuda else torch.device("cpu")
        return FeatureBuffer(self.n_images, n_units, dtype, place)


def computing_device(
    module: nn.Module, device: str | torch.device | None
) -> torch.device:
    """The device that was asked for, if it is there; by default the module's own."""
    if device is None:
        return device_of(module)
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].rstrip(".")
        raise ValueError(
            f"device must exist on this machine; got {str(device)!r} ({reason}). Pass "
            "'cpu'."
        ) from None
    if place.type == "meta":
        raise ValueError("device must hold numbers; got 'meta'. Pass 'cpu'.")
    return place


@contextmanager
def on_device(module: nn.Module, place: torch.device) -> Iterator[None]:
    """Module on another device for a while.

    Parameters
    ----------
    module : nn.Module
    place : torch.device

    Raises
    ------
    ValueError
        If the module lies on several devices.
    """
    homes = {t.device for t in (*module.parameters(), *module.buffers())}
    home = device_of(module)
    if home == place or not homes:
        yield
        return
    if len(homes) > 1:
        raise ValueError(
            f"device must be left out for a module on several devices; got {place} for "
            f"one on {listing(sorted(map(str, homes)))}."
        )
    try:
        module.to(place)
        yield
    finally:
        module.to(home)


def _refuse_non_finite(
    model: str, layer: str, gram: np.ndarray, names: tuple[str, ...]
) -> None:
    # a row with a NaN or an infinity has no finite sum of squares
    bad = np.flatnonzero(~np.isfinite(gram.diagonal()))
    if bad.size:
        raise ValueError(
            f"features of {model} must be finite; layer {layer!r} has NaN or infinite "
            f"ones for {listing(names[k] for k in bad)}. Check the weights and the "
            "preprocessing."
        )
