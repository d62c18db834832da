"""Views of images: crop, grey, colour jitter, flip, normalise.

Images arrive as canvases of bytes, one per image, and become the views of a batch on
the device of the canvases. The order of the steps is that of Wu et al. (2018), whose
parameters the paper took over: crop, grey, jitter, flip, normalise. A flip commutes
with colours, so it is done in the crop.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn import functional

from versa.models.ipcl.augmentation import Augmentation
from versa.models.ipcl.color_jitter import color_jitter_each, color_jitter_fused
from versa.models.ipcl.random_numbers import Draws
from versa.parallel import n_cores

ColorJitter = Callable[..., torch.Tensor]


def views(
    canvases: torch.Tensor,
    drawn: Draws,
    augmentation: Augmentation,
    *,
    dtype: torch.dtype = torch.float32,
    color_jitter: ColorJitter | None = None,
    block: int = 64,
) -> torch.Tensor:
    """Views (n_views * n_images, 3, size, size) of canvases (n_images, 3, h, w), uint8.

    Normalised, the first view of all images first. On a CPU each image is treated
    alone, so its views are the same to the last bit whatever else is in the batch;
    elsewhere, or with `color_jitter` (such as a compiled `color_jitter_fused`), in
    blocks of images.
    """
    _check(canvases, drawn)
    n_views, n_images, size = drawn.n_views, drawn.n_images, augmentation.size
    look = (augmentation.mean, augmentation.std, dtype)
    made = torch.empty(
        (n_views, n_images, 3, size, size), dtype=dtype, device=canvases.device
    )

    on_cpu = canvases.device.type == "cpu"
    each: ColorJitter = color_jitter_each
    together: ColorJitter = color_jitter or color_jitter_fused

    def image(k: int) -> None:
        part = drawn.part(k, k + 1)
        crops = _crops_each(canvases[k], part, augmentation)
        each(crops.flatten(0, 1), *_amounts(part), *look, out=made[:, k])

    if color_jitter is None and on_cpu:
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
    """What the color jitter takes, for each view of each image."""
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
    """Crops of a block of images: (n_views, n_images, 3, size, size)."""
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
    """Triangular weights of Pillow's resize from a box: (*start.shape, size, side)."""
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
