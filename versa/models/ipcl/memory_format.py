"""The same values faster: memory and arithmetic arranged for the device."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

_FEW_CHANNELS = 4  # a convolution with no more wastes most of a matrix unit


class MomentsGroupNorm(nn.GroupNorm):
    """GroupNorm from the moments of each channel (fp32 or better), combined per group.

    A compiled kernel reads channels-last memory in order; otherwise torch's is faster.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` of shape (n_images, num_channels, ...)."""
        wide = x if x.dtype == torch.float64 else x.float()
        within, mean = torch.var_mean(wide, dim=tuple(range(2, x.ndim)), correction=0)
        mean = mean.unflatten(1, (self.num_groups, -1))  # (n_images, n_groups, ...)
        center = mean.mean(2, keepdim=True)
        variance = within.unflatten(1, (self.num_groups, -1)) + (mean - center).square()
        inverse = (variance.mean(2, keepdim=True) + self.eps).rsqrt()
        scale = inverse.expand_as(mean).flatten(1) * self.weight
        shift = self.bias - center.expand_as(mean).flatten(1) * scale
        places = (...,) + (None,) * (x.ndim - 2)
        return torch.addcmul(shift[places], wide, scale[places]).to(x.dtype)


class StridedConv2d(nn.Conv2d):
    """A convolution of few channels with a stride, on stride x stride blocks.

    Each block becomes one position with stride ** 2 times the channels, and the kernel,
    filled up with zeros, moves in steps of one: the same sums, with channels enough for
    a matrix unit. AlexNet's conv1 (11 x 11 on 3, stride 4) becomes 3 x 3 on 48.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `x` of shape (n_images, in_channels, height, width)."""
        (stride, _), (kernel, _) = self.stride, self.kernel_size
        blocks = -(-kernel // stride)  # of the kernel along one axis
        before = int(self.padding[0])
        height, width = (
            stride * ((size + 2 * before - kernel) // stride + blocks)
            for size in x.shape[2:]
        )
        below, right = height - before - x.shape[2], width - before - x.shape[3]
        rest = blocks * stride - kernel
        weight = _blocks_last(functional.pad(self.weight, (0, rest, 0, rest)), stride)
        x = _blocks_last(functional.pad(x, (before, right, before, below)), stride)
        return functional.conv2d(x, weight, self.bias)


def _blocks_last(x: torch.Tensor, size: int) -> torch.Tensor:
    """(n, c, h * size, w * size) to (n, size * size * c, h, w), channels last."""
    x = x.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # (n, c, h, size, w, size)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).permute(0, 3, 1, 2)


def fast_memory_format(
    network: nn.Module, device: torch.device | str, *, compiled: bool = False
) -> nn.Module:
    """Rearrange a network for speed; its values, parameters and state-dict keys stay.

    Some layers give way to faster ones of the same parameters. Memory is channels-last
    except for CUDA without compiling, where each GroupNorm would cost two transposes.
    If it will be compiled for CUDA, GroupNorm works by the moments of channels.
    """
    cuda = torch.device(device).type == "cuda"
    moments = compiled and cuda

    def faster(part: nn.Module) -> nn.Module | None:
        made: nn.Module
        if moments and type(part) is nn.GroupNorm and part.affine:
            made = MomentsGroupNorm(
                part.num_groups, part.num_channels, part.eps, device="meta"
            )
        elif type(part) is nn.Conv2d and _suits_blocks(part):
            made = StridedConv2d(
                part.in_channels,
                part.out_channels,
                part.kernel_size,  # type: ignore[arg-type]
                part.stride,  # type: ignore[arg-type]
                part.padding,  # type: ignore[arg-type]
                bias=part.bias is not None,
                device="meta",
            )
        else:
            return None
        made.weight, made.bias = part.weight, part.bias
        return made

    replace_layers(network, lambda _, part: faster(part))
    if cuda and not compiled:
        return network
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def replace_layers(
    network: nn.Module, made: Callable[[str, nn.Module], nn.Module | None]
) -> None:
    """Put what `made` gives for a name and a layer (None: nothing) in its place."""
    new: dict[nn.Module, nn.Module | None] = {}
    for name, part in list(network.named_modules(remove_duplicate=False)):
        if part not in new:
            new[part] = made(name, part)
        if (other := new[part]) is not None:
            network.set_submodule(name, other)


def _suits_blocks(conv: nn.Conv2d) -> bool:
    return (
        conv.in_channels <= _FEW_CHANNELS
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and conv.padding[0] == conv.padding[1]
        and conv.stride[0] == conv.stride[1] > 1
        and conv.kernel_size[0] == conv.kernel_size[1] >= conv.stride[0]
    )
