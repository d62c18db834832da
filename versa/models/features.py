"""From a network and images to one small matrix per layer: the waist of the package.

Ridge regression and Pearson RDMs depend on the features ``X`` of a layer only through
``X @ X.T`` and the sums of the rows. One forward pass gives them for all layers; the
features wait in memory, or in a file, until the last image has passed.
"""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from versa.models.images import ImageInputs, image_inputs
from versa.models.layers import requested_layers
from versa.models.passes import (
    computing_device,
    evaluating,
    on_device,
    output_rows,
    require_all_ran,
    require_usable,
    run_network,
    unsteady_warnings,
    watch_layers,
)
from versa.models.vision import VisionModel
from versa.progress import counted
from versa.wording import listing

logger = logging.getLogger("versa")

_MAX_BUFFER = 512 * 2**20
_FEATURE_BYTES = 4  # float32
_CHUNK_BYTES = 2**24  # of a float64 chunk: wide enough for a fast product
_MIN_WIDTH = 512
_LOST = 1e-10  # squared spread over units, relative to the mean
_BLOCK_ROWS = 256  # images whose products are made at a time


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


@dataclass(frozen=True)
class ForwardOptions:
    """How images pass through a network; see `extract_grams`."""

    batch_size: int = 32
    device: str | torch.device | None = None
    standardize: bool = False
    convert: bool = False
    max_buffer: int = _MAX_BUFFER
    progress: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more; got {self.batch_size}.")


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

    The network runs in eval mode without gradients; its modes, buffers, device and
    hooks are afterwards what they were, also after an error.

    Parameters
    ----------
    model : VisionModel
    images : sequence of path
        Image files, (n_images,).
    layers : sequence of str
        Dotted names of modules.
    names : sequence of str, optional
        Ids of the images; by default their file names.
    batch_size : int, default=32
        Images in one pass.
    device : str or torch.device, optional
        Where to compute; by default where the module is.
    standardize : bool, default=False
        Whether to make the Gram matrices of z-scored units too.
    convert : bool, default=False
        Whether to accept images of other modes than RGB and of several sizes.
    max_buffer : int
        Bytes of features that are kept in memory until the last image has passed
        (4 per unit and image); the layers beyond it wait in temporary files.
    progress : bool, default=False
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
    options = ForwardOptions(
        batch_size, device, standardize, convert, max_buffer, progress
    )
    chosen, _ = requested_layers(model, list(layers))
    place = computing_device(model.module, device)
    inputs = image_inputs(images, model.preprocess, names=names, convert=convert)
    tried = require_usable(model, inputs.batch(0, 1)[0].clone(), chosen, batch_size)
    axes = {layer: one.axis for layer, one in tried.items()}
    grams = grams_of_inputs(model, inputs, axes, place, options)
    for sentence in (
        *unsteady_warnings(model.name, tried),
        *doubtful_features(model.name, grams),
    ):
        logger.warning("%s", sentence)
    return grams


def grams_of_inputs(
    model: VisionModel,
    inputs: ImageInputs,
    layers: Mapping[str, int],
    place: torch.device,
    options: ForwardOptions,
) -> dict[str, LayerGram]:
    """Gram matrices of layers with the axes of their images, as a trial has found
    them, from images that have been read and checked."""
    n_images, step = len(inputs.names), options.batch_size
    store = _Store(layers, n_images, options.max_buffer)
    try:
        with (
            counted(n_images, model.name, "image", show=options.progress) as bar,
            on_device(model.module, place),
            evaluating(model.module),
            watch_layers(model.module, list(layers), store.receive),
        ):
            for start in range(0, n_images, step):
                batch = inputs.batch(start, min(start + step, n_images))
                store.begin(start, len(batch))
                run_network(model, batch, place)
                require_all_ran(store.runs)
                bar.update(len(batch))
        grams = {}
        for layer in layers:
            buffer = store.buffers.pop(layer)
            gram, sums, standardized = gram_of(buffer, standardize=options.standardize)
            buffer.close()
            _refuse_non_finite(model.name, layer, gram, inputs.names)
            images = inputs.names, inputs.hashes
            grams[layer] = LayerGram(
                layer, gram, sums, buffer.n_units, *images, standardized
            )
    finally:
        store.close()
    return grams


def buffer_bytes(
    n_images: int, n_units: Sequence[int], max_buffer: int = _MAX_BUFFER
) -> int:
    """Memory for the features of layers with `n_units`, beside the network.

    >>> buffer_bytes(72, [290_400, 4096])
    84814848
    """
    total = 0
    for units in n_units:
        if total + _FEATURE_BYTES * n_images * units <= max_buffer:
            total += _FEATURE_BYTES * n_images * units
    return total


def doubtful_features(model: str, grams: Mapping[str, LayerGram]) -> list[str]:
    """A sentence about layers whose patterns are lost among digits: over the units of
    an image they vary by less than 1e-5 of their mean, on which Pearson RDMs depend."""
    flat = []
    for layer, gram in grams.items():
        squares = gram.gram.trace()
        within = squares - (gram.sums**2).sum() / gram.n_units
        if gram.n_units > 1 and 0 < within < _LOST * squares:
            flat.append(layer)
    if not flat:
        return []
    return [
        "features of an image should vary over units by more than 1e-5 of their mean; "
        f"those of {model} in {listing(flat)} vary less, so that rounding takes part "
        "in their Pearson RDMs. Subtract a constant in the network, or name other "
        "layers."
    ]


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


# ---- features that wait ----------------------------------------------------------


class FeatureBuffer:
    """Features (n_images, n_units) in one tensor."""

    def __init__(
        self, n_images: int, n_units: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.n_images, self.n_units = n_images, n_units
        self._features = torch.empty((n_images, n_units), dtype=dtype, device=device)

    def write(self, start: int, rows: torch.Tensor) -> None:
        """Copy the features (n_rows, n_units) of the images from `start` on."""
        self._features[start : start + len(rows)].copy_(rows)

    def chunks(self) -> Iterator[torch.Tensor]:
        """Features (n_images, up to `chunk_width` units), piece by piece."""
        return iter(self._features.split(chunk_width(self.n_images), dim=1))

    def close(self) -> None:
        """Give the memory back."""
        self._features = self._features[:0]


class SpilledBuffer:
    """Features (n_images, n_units) in a temporary file without a name.

    The file holds chunk after chunk, (n_chunks, n_images, width), so that each is read
    in one piece. It is in the folder of `tempfile`, which the environment variable
    ``TMPDIR`` moves, and is gone when the process ends in whatever way.
    """

    def __init__(self, n_images: int, n_units: int, dtype: torch.dtype) -> None:
        self.n_images, self.n_units, self._dtype = n_images, n_units, dtype
        self._file = tempfile.TemporaryFile(prefix="versa-")  # noqa: SIM115

    def write(self, start: int, rows: torch.Tensor) -> None:
        """Write the features (n_rows, n_units) of the images from `start` on."""
        values = rows.to("cpu", self._dtype)
        for first, width in self._pieces():
            position = first * self.n_images + start * width
            self._file.seek(position * self._dtype.itemsize)
            piece = values[:, first : first + width].contiguous()
            self._file.write(piece.numpy().data)

    def chunks(self) -> Iterator[torch.Tensor]:
        """Features (n_images, up to `chunk_width` units), piece by piece."""
        self._file.seek(0)
        for _, width in self._pieces():
            piece = torch.empty((self.n_images, width), dtype=self._dtype)
            n_read = self._file.readinto(piece.numpy().data)
            if n_read != piece.nbytes:
                raise OSError("the temporary file of features was cut.")
            yield piece

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _pieces(self) -> Iterator[tuple[int, int]]:
        width = chunk_width(self.n_images)
        for first in range(0, self.n_units, width):
            yield first, min(width, self.n_units - first)


def chunk_width(n_images: int) -> int:
    """Units that are multiplied at a time."""
    return max(_MIN_WIDTH, _CHUNK_BYTES // (8 * n_images))


class _Store:
    """Receives the outputs of one forward pass after the other."""

    def __init__(self, axes: Mapping[str, int], n_images: int, max_buffer: int) -> None:
        self.axes, self.n_images, self.room = axes, n_images, max_buffer
        self.buffers: dict[str, FeatureBuffer | SpilledBuffer] = {}
        self.runs: dict[str, int] = {}
        self.start = self.n_rows = 0

    def begin(self, start: int, n_rows: int) -> None:
        self.start, self.n_rows = start, n_rows
        self.runs = dict.fromkeys(self.axes, 0)

    def receive(self, layer: str, output: object) -> None:
        rows = output_rows(layer, output, self.n_rows, self.axes[layer])
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


# ---- products ------------------------------------------------------------------------


def gram_of(
    buffer: FeatureBuffer | SpilledBuffer, *, standardize: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """``X @ X.T`` (n_images, n_images) and row sums (n_images,) of a buffer's features.

    The third array is, if wanted, ``Z @ Z.T``, where ``Z`` has every unit's z-scores
    over the images (standard deviation with ddof=0) and zeros for constant units.
    """
    n = buffer.n_images
    total: _Total | None = None
    for chunk in buffer.chunks():
        if total is None:
            total = _Total(n, chunk.device, standardize=standardize)
        total.add(chunk)
    if total is None:
        raise ValueError("a layer must have at least one unit.")
    return total.arrays()


class _Total:
    """Running sums over chunks, on the device of the chunks."""

    def __init__(self, n: int, device: torch.device, *, standardize: bool) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.scratch = zeros(n * chunk_width(n))
        self.gram = zeros(n, n)
        self.sums = zeros(n)
        self.standardized = zeros(n, n) if standardize else None

    def add(self, chunk: torch.Tensor) -> None:
        x = self.scratch[: chunk.numel()].view(chunk.shape)  # (n, width)
        x.copy_(chunk)
        _add_lower_product(self.gram, x)
        self.sums += x.sum(dim=1)
        if self.standardized is None:
            return
        varies = (x != x[:1]).any(dim=0)
        x -= x.mean(dim=0)
        scale = x.square().mean(dim=0).sqrt()
        x *= torch.where(varies & (scale > 0), 1 / scale, 0.0)
        _add_lower_product(self.standardized, x)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        def symmetric(total: torch.Tensor) -> np.ndarray:
            return (total.tril() + total.tril(-1).T).cpu().numpy()

        z = None if self.standardized is None else symmetric(self.standardized)
        return symmetric(self.gram), self.sums.cpu().numpy(), z


def _add_lower_product(total: torch.Tensor, x: torch.Tensor) -> None:
    """Add the lower triangle of ``x @ x.T``, and little of the upper one."""
    for first in range(0, len(x), _BLOCK_ROWS):
        rows = slice(first, first + _BLOCK_ROWS)
        until = min(first + _BLOCK_ROWS, len(x))
        total[rows, :until].addmm_(x[rows], x[:until].T)
