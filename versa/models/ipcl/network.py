"""Networks as they are trained: ghost groups in BatchNorm, and a faster layout.

BatchNorm sees one group of views at a time, however many groups go through the network
together, and its running statistics move on as if the groups had come one by one.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from versa.models.architectures import AlexNetGN, L2Norm
from versa.models.networks import timm_network, torchvision_network
from versa.wording import unknown

__all__ = [
    "GroupedBatchNorm",
    "GroupedBatchNorm2d",
    "MomentsGroupNorm",
    "StridedConv2d",
    "apply_statistics",
    "embedding_network",
    "fast_layout",
    "set_groups",
    "take_statistics",
    "training_network",
]

logger = logging.getLogger("versa")

_LIBRARIES = ("torchvision", "timm")
# These two have outputs beside the main one, and rescale what other weights expect
_PLAIN = {"aux_logits": False, "transform_input": False, "init_weights": True}
_TORCHVISION_OPTIONS = {"googlenet": _PLAIN, "inception_v3": _PLAIN}
_RANDOM = ("DropBlock2d", "DropPath", "PatchDropout", "StochasticDepth")
_FEW_CHANNELS = 4  # a convolution with no more wastes most of a matrix unit


class _Grouped(_BatchNorm):
    """What the two grouped norms share."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        rows: int | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self._start(rows, after)

    def _start(self, rows: int | None, after: nn.Module | None) -> None:
        self.rows = rows
        self.after = after
        self.collect = False
        self.collected: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` of shape (n_groups * rows, num_features, ...)."""
        out = self._by_group(x) if self.training else super().forward(x)
        return out if self.after is None else self.after(out)

    def _by_group(self, x: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(x)
        rows = self.rows or len(x)
        if len(x) % rows:
            raise ValueError(
                f"x must hold whole groups of {rows} rows in training; got {len(x)} "
                "rows. Set their number with set_groups."
            )
        parts = x.split(rows)
        kind = torch.float64 if x.dtype == torch.float64 else torch.float32
        found = torch.zeros(
            len(parts), 2, self.num_features, dtype=kind, device=x.device
        )
        # With momentum 1 torch's running mean and (unbiased) variance are the group's
        how = (self.weight, self.bias, True, 1.0, self.eps)
        out = [
            functional.batch_norm(part, found[g, 0], found[g, 1], *how)
            for g, part in enumerate(parts)
        ]
        if self.collect:
            self.collected.append(found)
        else:
            self.apply_statistics(found)
        return out[0] if len(out) == 1 else torch.cat(out)

    @torch.no_grad()
    def apply_statistics(self, found: torch.Tensor) -> None:
        """Take up `collected` statistics (n_groups, 2, num_features) in that order."""
        mean, variance = self.running_mean, self.running_var
        if mean is None or variance is None or self.num_batches_tracked is None:
            return
        n_groups = len(found)
        self.num_batches_tracked.add_(n_groups)
        ages = torch.arange(n_groups - 1, -1, -1, device=found.device)
        if self.momentum is None:  # the plain mean of all groups so far
            weights = 1 / self.num_batches_tracked.to(found.dtype).expand(n_groups)
        else:
            weights = self.momentum * (1 - self.momentum) ** ages.to(found.dtype)
        kept = 1 - weights.sum()
        values = (weights[:, None, None] * found).sum(0)  # (2, num_features)
        mean.mul_(kept).add_(values[0])
        variance.mul_(kept).add_(values[1])


class GroupedBatchNorm(_Grouped, nn.BatchNorm1d):
    """BatchNorm1d over ghost groups.

    In train mode the rows are taken in blocks of `rows`, and each block is normalised
    by its own mean and variance. The running statistics become what they would be if
    the blocks had come one at a time. Keys of the state dict and eval mode are those
    of ``nn.BatchNorm1d``.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats
        As of ``nn.BatchNorm1d``.
    rows : int, optional
        Rows of a group; by default the batch is one group.
    after : nn.Module, optional
        Applied to the result, such as an activation; without parameters.

    Attributes
    ----------
    collect : bool
        Whether the statistics are kept in `collected` instead of being applied, so
        that those of several processes can be applied in their global order.
    collected : list of Tensor of shape (n_groups, 2, num_features)
        Mean and unbiased variance of the groups, one entry per forward pass.

    Examples
    --------
    >>> norm = GroupedBatchNorm(1, affine=False, rows=2)
    >>> norm(torch.tensor([[0.0], [2.0], [7.0], [9.0]])).round().flatten().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    >>> norm.running_mean  # 0.9 * (0.9 * 0 + 0.1 * 1) + 0.1 * 8
    tensor([0.8900])
    """


class GroupedBatchNorm2d(_Grouped, nn.BatchNorm2d):
    """BatchNorm2d over ghost groups: as `GroupedBatchNorm`; a row is one image."""


class MomentsGroupNorm(nn.GroupNorm):
    """GroupNorm from the moments of each channel, combined per group.

    The reduction runs over positions only, which channels-last tensors hold far
    apart by channel and near by position, so that a compiled kernel reads memory in
    order. Moments are float32 (float64 for float64) and the result has the type of
    the input, also under autocast. Parameters, keys and values (but for rounding) are
    those of ``nn.GroupNorm``. Meant for compiled code; otherwise slower than torch's.

    Examples
    --------
    >>> x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(MomentsGroupNorm(4, 8)(x), nn.GroupNorm(4, 8)(x), atol=1e-6)
    True
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

    Each block of pixels becomes one position with ``stride ** 2`` times the channels,
    and the kernel, filled up with zeros to whole blocks, moves in steps of one: the
    same sums with channels enough for a matrix unit. Conv1 of AlexNet (11 x 11 on 3
    channels, stride 4) becomes 3 x 3 on 48. The parameter and its key stay as they are.

    Examples
    --------
    >>> conv = StridedConv2d(3, 2, 11, 4, 2)
    >>> x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(conv(x), nn.Conv2d.forward(conv, x), atol=1e-5)
    True
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


def training_network(
    architecture: str, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """`embedding_network` with ghost groups in every BatchNorm.

    Parameters
    ----------
    architecture : str
        As of `embedding_network`.
    options : mapping, optional
        Its other arguments.

    Returns
    -------
    network : nn.Module
        In train mode, with the keys of `embedding_network`. Set the rows of a group
        with `set_groups`.

    Raises
    ------
    ValueError
        If the architecture or an option is not known, or a norm mixes images in a way
        that ghost groups do not cover.

    Examples
    --------
    >>> with torch.device("meta"):
    ...     network = training_network("alexnet_gn", {"out_dim": 1000, "l2norm": False})
    >>> set_groups(network, rows=640)
    >>> network.fc6[1].rows
    640
    """
    network = embedding_network(architecture, **(options or {}))
    for name, part in list(network.named_modules()):
        if isinstance(part, _BatchNorm) and not isinstance(part, _Grouped):
            _give_groups(name, part)
    random = {
        type(part).__name__
        for part in network.modules()
        if (isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0)
        or type(part).__name__ in _RANDOM
    }
    if random:
        logger.warning(
            "%s draws random numbers in the network itself (%s): its training depends "
            "on the size of a chunk and on the number of processes.",
            architecture,
            ", ".join(sorted(random)),
        )
    return network


def embedding_network(
    architecture: str, *, out_dim: int = 128, l2norm: bool = True, **options: Any
) -> nn.Module:
    """A network whose last layer embeds images, with its initial weights.

    Also the builder (``versa.models.ipcl.network:embedding_network``) of the cards of
    networks trained from other libraries.

    Parameters
    ----------
    architecture : str
        ``alexnet_gn``, ``torchvision/NAME`` or ``timm/NAME``.
    out_dim : int
        Units of the last layer: the dimension of the embedding, or the number of
        classes of a supervised twin.
    l2norm : bool
        Whether the output is scaled to unit length, by a module named ``l2norm``.
    **options
        Arguments of the constructor, such as ``norm`` of AlexNet-GN.

    Returns
    -------
    network : nn.Module
        The keys of its state dict are those of the constructor's module.

    Raises
    ------
    ValueError
        If the architecture or an option is not known.

    Examples
    --------
    >>> with torch.device("meta"):
    ...     network = embedding_network("torchvision/resnet18", out_dim=64)
    >>> network.fc.out_features, network.l2norm
    (64, L2Norm())
    """
    library, _, name = architecture.partition("/")
    if not (library in _LIBRARIES and name) and architecture != "alexnet_gn":
        known = ["alexnet_gn", *(f"{library}/NAME" for library in _LIBRARIES)]
        raise ValueError(unknown("architecture", architecture, known))
    if "num_classes" in options:
        raise ValueError(
            f"num_classes must be given as out_dim; got {options['num_classes']}."
        )
    if name and name not in _names(library):
        raise ValueError(unknown(f"architecture of {library}", name, _names(library)))
    try:
        if library == "alexnet_gn":
            return AlexNetGN(out_dim, l2norm=l2norm, **options)
        if library == "torchvision":
            options = {**_TORCHVISION_OPTIONS.get(name, {}), **options}
            network = torchvision_network(name, num_classes=out_dim, **options)
        else:
            network = timm_network(name, num_classes=out_dim, **options)
    except TypeError as error:
        raise ValueError(f"options must suit {architecture}: {error}.") from error
    if l2norm:
        for part in network.modules():  # transformers begin with a head of zeros
            if not isinstance(part, nn.Linear) or part.out_features != out_dim:
                continue
            if not (part.weight.is_meta or part.weight.any()):
                part.reset_parameters()
        network.add_module("l2norm", L2Norm())
        network.register_forward_hook(_scaled_output)
    return network


def _scaled_output(module: nn.Module, _inputs: Any, out: torch.Tensor) -> torch.Tensor:
    scaled: torch.Tensor = module.get_submodule("l2norm")(out)
    return scaled


def _names(library: str) -> list[str]:
    if library == "torchvision":
        from torchvision import models

        return models.list_models(models)
    import timm

    return timm.list_models()


def _give_groups(name: str, norm: _BatchNorm) -> None:
    """Turn a BatchNorm into one with ghost groups, in place."""
    kinds: dict[str, type[_Grouped]] = {
        "BatchNorm1d": GroupedBatchNorm,
        "BatchNorm2d": GroupedBatchNorm2d,
        "BatchNormAct2d": GroupedBatchNorm2d,  # of timm: drop and act follow
    }
    kind = type(norm).__name__
    if kind not in kinds:
        raise ValueError(
            "norms of a network in training must be GroupNorm, LayerNorm, BatchNorm1d "
            f"or BatchNorm2d; {name} is {kind}, which knows no groups. Choose an "
            "architecture without it."
        )
    rest = list(norm.children())
    norm.__class__ = kinds[kind]
    cast(_Grouped, norm)._start(None, nn.Sequential(*rest) if rest else None)


def _norms(network: nn.Module) -> Iterator[_Grouped]:
    return (part for part in network.modules() if isinstance(part, _Grouped))


def set_groups(network: nn.Module, rows: int | None, *, collect: bool = False) -> None:
    """Tell every grouped norm how many rows make a group.

    Parameters
    ----------
    network : nn.Module
        From `training_network`.
    rows : int or None
        Rows of a group (images times views); None for the whole batch.
    collect : bool
        Whether statistics wait for `apply_statistics` instead of being applied at
        once, as several processes need.

    Raises
    ------
    ValueError
        If `rows` is below 2, of which there is no variance.
    """
    if rows is not None and rows < 2:
        raise ValueError(f"rows must be at least 2; got {rows}.")
    for norm in _norms(network):
        norm.rows = rows
        norm.collect = collect
        norm.collected = []


def take_statistics(network: nn.Module) -> torch.Tensor:
    """Statistics that the norms collected since the last call, as one tensor.

    Parameters
    ----------
    network : nn.Module
        After forward passes in train mode with ``set_groups(..., collect=True)``.

    Returns
    -------
    statistics : Tensor of shape (n_groups, n_statistics)
        In the order of the forward passes; of shape (0, 0) if there are none. For one
        exchange between the processes.
    """
    found = []
    for norm in _norms(network):
        if norm.collected:
            found.append(torch.cat(norm.collected).flatten(1))
            norm.collected = []
    return torch.cat(found, dim=1) if found else torch.empty(0, 0)


def apply_statistics(network: nn.Module, statistics: torch.Tensor) -> None:
    """Move all running statistics on by the groups of all processes.

    Parameters
    ----------
    network : nn.Module
        From `training_network`.
    statistics : Tensor of shape (n_groups, n_statistics)
        Of `take_statistics`, groups of all processes in global order.

    Raises
    ------
    ValueError
        If there are not as many statistics as the network has.
    """
    norms = list(_norms(network)) if len(statistics) else []
    sizes = [2 * norm.num_features for norm in norms]
    if len(statistics) and sum(sizes) != statistics.shape[1]:
        raise ValueError(
            f"statistics must have {sum(sizes)} columns for this network; got "
            f"{statistics.shape[1]}. Every norm must take part in each forward pass."
        )
    for norm, found in zip(norms, statistics.split(sizes, 1), strict=False):
        norm.apply_statistics(found.unflatten(1, (2, -1)))


def fast_layout(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Rearrange a network for speed; its values and state-dict keys stay.

    Memory is channels-last, and a convolution of few channels with a stride works on
    blocks (`StridedConv2d`). On CUDA, GroupNorm works by the moments of channels
    (`MomentsGroupNorm`), to be compiled; on the CPU torch's own is faster.

    Parameters
    ----------
    network : nn.Module
        Changed in place: its parameters stay the same objects.
    device : device or str
        Where it will be trained; nothing is moved there.

    Returns
    -------
    network : nn.Module
        The same.

    Examples
    --------
    >>> with torch.device("meta"):
    ...     network = fast_layout(training_network("alexnet_gn"), "cpu")
    >>> type(network.conv_block_1[0]).__name__
    'StridedConv2d'
    """
    on_cuda = torch.device(device).type == "cuda"
    for part in network.modules():
        if on_cuda and type(part) is nn.GroupNorm and part.affine:
            part.__class__ = MomentsGroupNorm
        elif type(part) is nn.Conv2d and _suits_blocks(part):
            part.__class__ = StridedConv2d
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


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
