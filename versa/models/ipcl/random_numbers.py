"""Every random number of the views, from the image and the epoch alone.

A draw is a hash of (seed, epoch, image, view, which draw). It does not depend on what
else is in the batch, nor on workers, processes, devices or restarts, so the state of
a training run holds no generator.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike

from versa.models.ipcl.augmentation import Augmentation

# Which number is drawn is one part of the hash. Beyond every index of an image are:
EPOCH_ORDER, EPOCH_SHUFFLE, SUBSTITUTE, DROPOUT = (2**63 + k for k in range(1, 5))
_ATTEMPTS = 10  # boxes tried before the middle of the image is taken
# Which draw: the numbers are part of the recipe, so they never change meaning.
_TOP, _LEFT, _GREY, _JITTER, _FLIP, _ANGLE = range(6)
_FACTORS, _ORDER, _BOXES = 8, 12, 16


def hashed(*parts: ArrayLike) -> np.ndarray:
    """Hash of integers, uint64, broadcast against each other; their order counts.

    The last step of SplitMix64 per part (https://doi.org/10.1145/2660193.2660195).
    """
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        values = np.asarray(part)
        if values.dtype == object:  # an int of more than 64 bits
            values = np.array([int(v) % 2**64 for v in values.flat], dtype=np.uint64)
        state = _mixed(state ^ values.astype(np.uint64, copy=False))
    return state


@dataclass(frozen=True, eq=False)
class Draws:
    """All that is random about some views."""

    sizes: torch.Tensor  # (n_images, 2) height, width of each canvas in pixels, int64
    boxes: torch.Tensor  # (n_views, n_images, 4) crop: top, left, height, width, int64
    # all others are (n_views, n_images) or (n_views, n_images, 4)
    grey: torch.Tensor  # whether the view is made grey
    jitter: torch.Tensor  # whether its colours are jittered
    order: torch.Tensor  # (..., 4) 0 brightness, 1 contrast, 2 saturation, 3 hue; int64
    factors: torch.Tensor  # (..., 4) of the first three; hue is shifted by turns
    flip: torch.Tensor  # whether left and right are exchanged
    angle: torch.Tensor  # of the rotation, in degrees, counter-clockwise as seen

    @property
    def n_views(self) -> int:
        """Views per image."""
        return self.boxes.shape[0]

    @property
    def n_images(self) -> int:
        """Images."""
        return self.boxes.shape[1]

    def to(self, device: torch.device | str) -> "Draws":
        """The same numbers on another device; a GPU is not waited for."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return Draws(**{name: _moved(t, device) for name, t in parts.items()})

    def part(self, start: int, stop: int) -> "Draws":
        """The numbers of the images from `start` up to but without `stop`."""
        parts = {
            f.name: getattr(self, f.name)[:, start:stop]
            for f in fields(self)
            if f.name != "sizes"
        }
        return Draws(sizes=self.sizes[start:stop], **parts)


def _moved(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    # from pageable memory a copy would wait for all that the GPU has to do before
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def draws(
    augmentation: Augmentation,
    *,
    seed: int,
    epoch: int,
    images: ArrayLike,
    n_views: int,
    sizes: ArrayLike,
) -> Draws:
    """Random numbers of the views of images (n_images,) of sizes (n_images, 2), pixels.

    Crops are drawn as torchvision's RandomResizedCrop does: ten times an area and an
    aspect ratio, until the box fits, then a place; else the largest box in the middle.
    """
    index = np.atleast_1d(np.asarray(images)).astype(np.int64)
    extents = np.asarray(sizes).astype(np.int64).reshape(-1, 2)
    if index.ndim != 1 or len(index) != len(extents):
        raise ValueError(
            "images and sizes must have one entry per image; got "
            f"{np.shape(images)} and {np.shape(sizes)}."
        )
    if n_views < 1 or (len(extents) and extents.min() < 1):
        raise ValueError(
            "n_views and sizes must be at least 1; got "
            f"n_views={n_views}, smallest side {extents.min(initial=1)}."
        )
    # (n_views, n_images): the views of one image differ in one part of the hash
    stem = hashed(seed, epoch, index[None, :], np.arange(n_views)[:, None])

    def drawn(which: int) -> np.ndarray:
        return _unit(_mixed(stem ^ np.uint64(which)))

    factors = [
        low + (high - low) * drawn(_FACTORS + k)
        for k, (low, high) in enumerate(augmentation.factor_ranges())
    ]
    keys = np.stack([drawn(_ORDER + k) for k in range(4)], axis=-1)
    boxes = _boxes(augmentation, stem, extents)
    turn = augmentation.rotation * (2.0 * drawn(_ANGLE) - 1.0)
    return Draws(
        sizes=torch.from_numpy(extents),
        boxes=torch.from_numpy(boxes),
        grey=torch.from_numpy(drawn(_GREY) < augmentation.grayscale),
        jitter=torch.from_numpy(drawn(_JITTER) < augmentation.jitter),
        order=torch.from_numpy(np.argsort(keys, axis=-1, kind="stable")),
        factors=torch.from_numpy(np.stack(factors, axis=-1).astype(np.float32)),
        flip=torch.from_numpy(drawn(_FLIP) < augmentation.flip),
        angle=torch.from_numpy(turn.astype(np.float32)),
    )


def _boxes(
    augmentation: Augmentation, stem: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Top, left, height, width: (n_views, n_images, 4)."""
    rows = np.broadcast_to(sizes[:, 0], stem.shape)
    columns = np.broadcast_to(sizes[:, 1], stem.shape)
    height, width = _middle(augmentation.ratio, rows, columns)
    smallest, largest = augmentation.scale
    low, high = (math.log(side) for side in augmentation.ratio)
    open_ = np.ones(stem.shape, dtype=bool)  # no box found yet
    for attempt in range(_ATTEMPTS):
        left_over = np.nonzero(open_)
        if not left_over[0].size:
            break
        some = stem[left_over]
        which = np.uint64(_BOXES + 2 * attempt)
        first = _unit(_mixed(some ^ which))
        second = _unit(_mixed(some ^ (which + np.uint64(1))))
        area = (rows * columns)[left_over] * (smallest + (largest - smallest) * first)
        ratio = np.exp(low + (high - low) * second)
        w = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        h = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits = (w > 0) & (h > 0) & (w <= columns[left_over]) & (h <= rows[left_over])
        found = tuple(axis[fits] for axis in left_over)
        height[found], width[found] = h[fits], w[fits]
        open_[found] = False
    # both places are drawn for all, and only used where a box was found
    top = np.floor(_unit(_mixed(stem ^ np.uint64(_TOP))) * (rows - height + 1))
    left = np.floor(_unit(_mixed(stem ^ np.uint64(_LEFT))) * (columns - width + 1))
    top = np.where(open_, (rows - height) // 2, top.astype(np.int64))
    left = np.where(open_, (columns - width) // 2, left.astype(np.int64))
    return np.stack([top, left, height, width], axis=-1)


def _middle(
    ratio: tuple[float, float], rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of the largest box of an allowed ratio."""
    shape = columns / rows
    height = np.where(shape < ratio[0], np.rint(columns / ratio[0]), rows)
    width = np.where(shape > ratio[1], np.rint(rows * ratio[1]), columns)
    # rounding may leave the image of one pixel
    height = np.clip(height, 1, rows).astype(np.int64)
    return height, np.clip(width, 1, columns).astype(np.int64)


def _unit(bits: np.ndarray) -> np.ndarray:
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(x: np.ndarray) -> np.ndarray:
    """The bijective last step of SplitMix64; products wrap around at 2 ** 64."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
