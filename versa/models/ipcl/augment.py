"""Views of images: crop, grey, colour jitter, flip, normalise.

Images arrive as canvases of bytes, one per image, and become the views of a batch on
the device of the canvases. The order of the steps is that of Wu et al. (2018), whose
parameters the paper took over: crop, grey, jitter, flip, normalise. A flip commutes
with colours, so it is done in the crop.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from versa.models.ipcl.color_jitter import colours_each, colours_fused
from versa.models.ipcl.random_numbers import Draws, draws
from versa.models.preprocess import IMAGENET
from versa.parallel import n_cores
from versa.wording import unknown

__all__ = [
    "SET_1",
    "SET_2",
    "Augmentation",
    "Draws",
    "colours_each",
    "colours_fused",
    "draws",
    "views",
]

_INTERPOLATIONS = ("antialias", "bilinear")


def _rising(pair: tuple[float, float]) -> bool:
    return len(pair) == 2 and 0 < pair[0] <= pair[1] < math.inf


@dataclass(frozen=True)
class Augmentation:
    """How an image is varied.

    Parameters
    ----------
    size : int
        Side of a view in pixels.
    scale : tuple of 2 floats
        Smallest and largest share of the image's area in a crop, in (0, 1].
    ratio : tuple of 2 floats
        Smallest and largest width / height of a crop.
    grayscale : float
        Probability of a grey view.
    brightness, contrast, saturation : float
        A factor is uniform in ``[max(0, 1 - x), 1 + x]``.
    hue : float
        The shift is uniform in ``[-hue, hue]`` turns of the circle; at most 0.5.
    jitter : float
        Probability that the colours are jittered at all.
    flip : float
        Probability of exchanging left and right.
    rotation : float
        The angle is uniform in ``[-rotation, rotation]`` degrees about the middle of
        the crop (not in the paper, which names varied orientation as a next step). A
        turned crop shows what lies beyond its box; beyond the image, its edge.
    mean, std : tuple of 3 floats
        Of the red, green and blue channel in [0, 1].
    interpolation : str
        "antialias", as Pillow and so the paper's torchvision resize, or "bilinear"
        between the nearest four pixels, as cv2 does. Rotated crops are always
        bilinear. They differ by little: crops are shrunk by a factor of 2.3 at most.

    References
    ----------
    Wu et al. (2018), https://doi.org/10.1109/CVPR.2018.00393

    Examples
    --------
    >>> Augmentation(scale=(0.4, 1.0), hue=0.1).factor_ranges()[3]
    (-0.1, 0.1)
    """

    size: int = 224
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    grayscale: float = 0.2
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.4
    jitter: float = 1.0
    flip: float = 0.5
    rotation: float = 0.0
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    interpolation: str = "antialias"

    def __post_init__(self) -> None:
        rules = (
            ("size", self.size >= 1, "at least 1"),
            ("scale", _rising(self.scale) and self.scale[1] <= 1, "rising in (0, 1]"),
            ("ratio", _rising(self.ratio), "two rising numbers above 0"),
            ("hue", 0 <= self.hue <= 0.5, "in [0, 0.5]"),
            ("rotation", 0 <= self.rotation <= 180, "in [0, 180] degrees"),
            ("mean", len(self.mean) == 3, "three numbers"),
            ("std", len(self.std) == 3 and min(self.std) > 0, "three above 0"),
            *(
                (name, 0 <= getattr(self, name) <= 1, "a probability in [0, 1]")
                for name in ("grayscale", "jitter", "flip")
            ),
            *(
                (name, 0 <= getattr(self, name) < math.inf, "at least 0")
                for name in ("brightness", "contrast", "saturation")
            ),
        )
        for name, kept, rule in rules:
            if not kept:
                raise ValueError(f"{name} must be {rule}; got {getattr(self, name)}.")
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                unknown("interpolation", self.interpolation, _INTERPOLATIONS)
            )

    def factor_ranges(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest factor of brightness, contrast, saturation, hue."""
        scales = (self.brightness, self.contrast, self.saturation)
        around_one = ((max(0.0, 1.0 - x), 1.0 + x) for x in scales)
        return (*around_one, (-self.hue, self.hue))


# Set 1 of the paper (references 1-5, 12, 13 of its Supplementary Table 1)
SET_1 = Augmentation()
# Set 2 (6-11, 14, 15). "Less extreme cropping", but the range of crop areas is not
# known: that of set 1 stands here until someone finds it. The normalisation is known.
SET_2 = Augmentation(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))

Colours = Callable[..., torch.Tensor]


def views(
    canvases: torch.Tensor,
    drawn: Draws,
    augmentation: Augmentation,
    *,
    dtype: torch.dtype = torch.float32,
    colours: Colours | None = None,
    block: int = 64,
) -> torch.Tensor:
    """Views of a batch of images.

    On a CPU each image is treated alone, by one of several threads, so its views are
    the same to the last bit whatever else is in the batch; elsewhere in blocks of
    images, equal to those but for a level of 8 bits here and there. With antialias,
    crops have whole levels, as Pillow's and torchvision's have.

    Parameters
    ----------
    canvases : Tensor of shape (n_images, 3, height, width)
        uint8. Images of different sizes share the corner at the top left; what lies
        outside an image's size is not looked at.
    drawn : Draws
        The random numbers, on the CPU or on the device of the canvases.
    augmentation : Augmentation
        Size, interpolation and normalisation of the views.
    dtype : torch.dtype
        Of the result. All arithmetic before is float32.
    colours : callable, optional
        What takes the place of `colours_fused`, such as ``torch.compile`` of it, which
        is what a GPU needs to be fast. On a CPU the default is `colours_each`; a
        callable makes the views in blocks there too.
    block : int
        Images per block.

    Returns
    -------
    views : Tensor of shape (n_views * n_images, 3, size, size)
        Normalised; the first view of all images, then the second of all, ...

    Raises
    ------
    ValueError
        If canvases are not uint8 of that shape, or `drawn` is for other images.

    Examples
    --------
    >>> canvases = torch.zeros(2, 3, 256, 341, dtype=torch.uint8)
    >>> drawn = draws(SET_1, seed=0, epoch=0, images=[0, 1], n_views=5,
    ...               sizes=[[256, 341], [256, 300]])
    >>> views(canvases, drawn, SET_1).shape
    torch.Size([10, 3, 224, 224])
    """
    _check(canvases, drawn)
    n_views, n_images, size = drawn.n_views, drawn.n_images, augmentation.size
    look = (augmentation.mean, augmentation.std, dtype)
    made = torch.empty(
        (n_views, n_images, 3, size, size), dtype=dtype, device=canvases.device
    )

    on_cpu = canvases.device.type == "cpu"
    each: Colours = colours_each
    together: Colours = colours or colours_fused

    def image(k: int) -> None:
        part = drawn.part(k, k + 1)
        crops = _crops_each(canvases[k], part, augmentation)
        each(crops.flatten(0, 1), *_amounts(part), *look, out=made[:, k])

    if colours is None and on_cpu:
        with ThreadPoolExecutor(max(1, min(n_images, n_cores()))) as pool:
            list(pool.map(image, range(n_images)))
        return made.flatten(0, 1)
    drawn = drawn.to(canvases.device)
    for start in range(0, n_images, block):
        part = drawn.part(start, min(start + block, n_images))
        pixels = canvases[start : start + block]
        precision = torch.float32 if on_cpu else torch.float16  # of the weights
        crops = _crops(pixels, part, augmentation, dtype=precision)
        done = together(crops.flatten(0, 1), *_amounts(part), *look)
        made[:, start : start + block] = done.view(crops.shape)
    return made.flatten(0, 1)


def _amounts(part: Draws) -> tuple[torch.Tensor, ...]:
    """What the functions of colours take, for each view of each image."""
    flat = (part.grey.flatten(), part.jitter.flatten())
    return (*flat, part.order.flatten(0, 1), part.factors.flatten(0, 1))


def _check(canvases: torch.Tensor, drawn: Draws) -> None:
    if (
        canvases.dtype != torch.uint8
        or canvases.ndim != 4
        or canvases.shape[1] != 3
        or len(canvases) != drawn.n_images
    ):
        raise ValueError(
            f"canvases must be uint8 of shape ({drawn.n_images}, 3, height, width); "
            f"got {canvases.dtype} {tuple(canvases.shape)}."
        )


def _crops_each(
    canvas: torch.Tensor, part: Draws, augmentation: Augmentation
) -> torch.Tensor:
    """Crops of one image: (n_views, 1, 3, size, size), uint8 or float in [0, 1]."""
    if augmentation.rotation or augmentation.interpolation != "antialias":
        rows, columns = part.sizes[0].tolist()
        return _sampled(canvas[None, :, :rows, :columns], part, augmentation)
    size = (augmentation.size, augmentation.size)
    made = np.empty((part.n_views, 1, 3, *size), dtype=np.uint8)
    boxes, flips = part.boxes[:, 0].tolist(), part.flip[:, 0].tolist()
    for k, (box, flip) in enumerate(zip(boxes, flips, strict=True)):
        top, left, height, width = box
        crop = functional.interpolate(
            canvas[None, :, top : top + height, left : left + width],
            size=size,
            mode="bilinear",
            antialias=True,
        )[0].numpy()
        made[k, 0] = crop[:, :, ::-1] if flip else crop
    return torch.from_numpy(made)


def _crops(
    canvases: torch.Tensor,
    part: Draws,
    augmentation: Augmentation,
    *,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Crops of a block of images: (n_views, n_images, 3, size, size).

    uint8 or float in [0, 1], as `_crops_each`.
    """
    if augmentation.rotation or augmentation.interpolation != "antialias":
        return _sampled(canvases, part, augmentation)
    n_views, n_images, size = part.n_views, part.n_images, augmentation.size
    height, width = canvases.shape[-2:]
    # resampling along an axis is a product with a (size, side) matrix of weights
    down = _weights(part.boxes[..., 0], part.boxes[..., 2], size, height)
    across = _weights(part.boxes[..., 1], part.boxes[..., 3], size, width)
    across = torch.where(part.flip[..., None, None], across.flip(-2), across)
    # (n_images, n_views * size, height) @ (n_images, height, 3 * width)
    pixels = canvases.permute(0, 2, 1, 3).to(
        dtype, memory_format=torch.contiguous_format
    )
    rows = down.transpose(0, 1).reshape(n_images, n_views * size, height).to(dtype)
    x = rows @ pixels.reshape(n_images, height, 3 * width)
    # (n_images * n_views, size * 3, width) @ (n_images * n_views, width, size)
    columns = across.transpose(0, 1).reshape(-1, size, width).to(dtype)
    x = x.view(n_images * n_views, size * 3, width) @ columns.mT
    x = x.view(n_images, n_views, size, 3, size).permute(1, 0, 3, 2, 4)
    # weights sum to 1, so nothing leaves the range of a byte
    return x.round_().to(torch.uint8, memory_format=torch.contiguous_format)


def _weights(
    start: torch.Tensor, length: torch.Tensor, size: int, side: int
) -> torch.Tensor:
    """Triangular weights of Pillow's resize from a box: (*start.shape, size, side).

    A pixel of the result lies at ``(i + 0.5) * scale`` in the box; pixels of the box
    count by their distance to it, up to ``max(1, scale)``, and nothing outside.
    """
    real = torch.float32
    first = start[..., None, None].to(real)
    extent = length[..., None, None].to(real)
    scale = extent / size
    i = torch.arange(size, device=start.device, dtype=real)[:, None]
    j = torch.arange(side, device=start.device, dtype=real) - first
    weight = 1.0 - (j + 0.5 - (i + 0.5) * scale).abs() / scale.clamp(min=1.0)
    weight = torch.where((j >= 0) & (j < extent), weight.clamp(min=0.0), 0.0)
    return weight / weight.sum(-1, keepdim=True)


def _sampled(
    canvases: torch.Tensor, part: Draws, augmentation: Augmentation
) -> torch.Tensor:
    """Bilinear crops, turned if asked: (n_views, n_images, 3, size, size)."""
    n_views, n_images, size = part.n_views, part.n_images, augmentation.size
    height, width = canvases.shape[-2:]
    box = part.boxes[..., None, None].to(torch.float32)  # (views, images, 4, 1, 1)
    top, left, tall, broad = box.unbind(2)
    i = (torch.arange(size, device=box.device, dtype=torch.float32) + 0.5) / size - 0.5
    down = i[:, None] * tall  # from the middle of the box, in pixels
    across = torch.where(part.flip[..., None, None], -1.0, 1.0) * i * broad
    down, across = torch.broadcast_tensors(down, across)
    limits = (top, top + tall, left, left + broad)
    if augmentation.rotation:
        turn = torch.deg2rad(part.angle)[..., None, None]
        sine, cosine = turn.sin(), turn.cos()
        down, across = (
            cosine * down + sine * across,
            cosine * across - sine * down,
        )
        rows, columns = part.sizes[None, ..., None, None].to(torch.float32).unbind(2)
        limits = (torch.zeros_like(rows), rows, torch.zeros_like(rows), columns)
    y = down + top + tall / 2 - 0.5
    x = across + left + broad / 2 - 0.5
    y = torch.maximum(torch.minimum(y, limits[1] - 1), limits[0])
    x = torch.maximum(torch.minimum(x, limits[3] - 1), limits[2])
    grid = torch.stack(
        [2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], dim=-1
    )
    # the views of an image, one below the other, share its pixels
    grid = grid.transpose(0, 1).reshape(n_images, n_views * size, size, 2)
    made = functional.grid_sample(
        canvases.to(torch.float32, memory_format=torch.contiguous_format),
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    made = made.view(n_images, 3, n_views, size, size).permute(2, 0, 1, 3, 4)
    return made.div_(255).clamp_(0, 1)
