"""BatchNorm over ghost groups.

BatchNorm sees one group of views at a time, however many groups go through the network
together, and its running statistics move on as if the groups had come one by one.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from versa.models.ipcl.memory_format import replace_layers


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
        self.rows = rows  # of a group; None: the batch is one group
        self.after = after  # applied to the result, such as an activation
        self.collect = False  # whether statistics wait in `collected` to be applied
        self.collected: list[torch.Tensor] = []  # (n_groups, 2, num_features) each

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
    """BatchNorm1d over ghost groups, in train mode: blocks of `rows` rows.

    Each block is normalised by its own mean and variance, and the running statistics
    become what they would be if the blocks had come one at a time.
    """


class GroupedBatchNorm2d(_Grouped, nn.BatchNorm2d):
    """BatchNorm2d over ghost groups: as `GroupedBatchNorm`; a row is one image."""


def give_groups(network: nn.Module) -> None:
    """Put a norm with ghost groups, of the same parameters, for every BatchNorm."""
    replace_layers(network, _grouped)


def _grouped(name: str, norm: nn.Module) -> nn.Module | None:
    if not isinstance(norm, _BatchNorm) or isinstance(norm, _Grouped):
        return None
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
    made = kinds[kind](
        *(norm.num_features, norm.eps, norm.momentum, norm.affine),
        norm.track_running_stats,
        after=nn.Sequential(*rest) if rest else None,
    )
    for key, value in (*norm._parameters.items(), *norm._buffers.items()):
        setattr(made, key, value)  # the same tensors
    return made.train(norm.training)


def _norms(network: nn.Module) -> Iterator[_Grouped]:
    return (part for part in network.modules() if isinstance(part, _Grouped))


def set_groups(network: nn.Module, rows: int | None, *, collect: bool = False) -> None:
    """Tell every grouped norm how many rows make a group."""
    if rows is not None and rows < 2:
        raise ValueError(f"rows must be at least 2; got {rows}.")
    for norm in _norms(network):
        norm.rows = rows
        norm.collect = collect
        norm.collected = []


def take_statistics(network: nn.Module) -> torch.Tensor:
    """Statistics (n_groups, n_statistics) that were collected since the last call."""
    like = next(network.parameters())
    found = []
    for norm in _norms(network):
        empty = like.new_zeros(0, 2, norm.num_features)
        found.append(torch.cat(norm.collected or [empty]).flatten(1))
        norm.collected = []
    return torch.cat(found, dim=1) if found else torch.empty(0, 0)


def apply_statistics(network: nn.Module, statistics: torch.Tensor) -> None:
    """Move all running statistics on by those of all processes, in global order."""
    norms = list(_norms(network))
    sizes = [2 * norm.num_features for norm in norms]
    if sum(sizes) != statistics.shape[1]:
        raise ValueError(
            f"statistics must have {sum(sizes)} columns for this network; got "
            f"{statistics.shape[1]}. Every norm must take part in each forward pass."
        )
    for norm, found in zip(norms, statistics.split(sizes, 1), strict=True):
        if len(found):
            norm.apply_statistics(found.unflatten(1, (2, -1)))
