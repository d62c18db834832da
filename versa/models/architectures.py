"""AlexNet-GN, the one architecture of ours, and its two variants.

All other networks come from torchvision and timm by name.
"""

from typing import Literal, get_args

import torch
from torch import nn

from versa.wording import unknown

Norm = Literal["group", "batch", "local_response"]

# channels in and out, kernel, stride, padding, and whether a max-pool follows
_CONV_BLOCKS = (
    (3, 96, 11, 4, 2, True),
    (96, 256, 5, 1, 2, True),
    (256, 384, 3, 1, 1, False),
    (384, 384, 3, 1, 1, False),
    (384, 256, 3, 1, 1, True),
)
_GROUPS = 32


class L2Norm(nn.Module):
    """Divide each row by its Euclidean length (without an epsilon).

    In float32 or better: squares of half-precision rows overflow.

    Examples
    --------
    >>> L2Norm()(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (n_images, n_units) of unit length."""
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        return x / x.square().sum(dim=1, keepdim=True).sqrt()


class AlexNetGN(nn.Module):
    """AlexNet with group normalisation, as trained by Konkle and Alvarez (2022).

    One tower of five convolutional blocks (no bias, normalisation, ReLU in place,
    max-pool after blocks 1, 2 and 5) and three fully connected ones. The state-dict
    keys are those of the authors' checkpoints. fc6 and fc7 keep BatchNorm1d in every
    variant, so use the network in eval mode.

    `out_dim` units of fc8: 128 for the embedding, 1000 for the matched supervised
    models, which have no `l2norm` (output of unit length). `norm` is that of the
    convolutional blocks: 32 groups (the paper's network), BatchNorm2d (the same file
    before its conversion), or the local response normalisation of Krizhevsky et al.
    (2012), without parameters; the paper names the last two (Supplementary Figure 2)
    but does not define them. `layers` are those to analyse by default.

    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4

    >>> with torch.device("meta"):
    ...     network = AlexNetGN()
    >>> sum(p.numel() for p in network.parameters())
    58823520
    """

    def __init__(
        self, out_dim: int = 128, *, l2norm: bool = True, norm: Norm = "group"
    ) -> None:
        super().__init__()
        if norm not in get_args(Norm):
            raise ValueError(unknown("norm", norm, get_args(Norm)))
        for k, (n_in, n_out, kernel, stride, padding, pool) in enumerate(
            _CONV_BLOCKS, start=1
        ):
            block: list[nn.Module] = [
                nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False),
                _normalisation(norm, n_out),
                nn.ReLU(inplace=True),
            ]
            if pool:
                block.append(nn.MaxPool2d(3, 2))
            self.add_module(f"conv_block_{k}", nn.Sequential(*block))
        self.ave_pool = nn.AdaptiveAvgPool2d((6, 6))  # the identity at 224 pixels
        self.fc6 = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096), nn.BatchNorm1d(4096), nn.ReLU(inplace=True)
        )
        self.fc7 = nn.Sequential(
            nn.Linear(4096, 4096), nn.BatchNorm1d(4096), nn.ReLU(inplace=True)
        )
        self.fc8 = nn.Sequential(nn.Linear(4096, out_dim))
        if l2norm:
            self.l2norm = L2Norm()
        self.layers = tuple(
            name for name, _ in self.named_children() if name != "ave_pool"
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From images (n_images, 3, height, width) to (n_images, out_dim)."""
        for name, child in self.named_children():
            x = child(x)
            if name == "ave_pool":
                x = x.flatten(1)
        return x


def _normalisation(norm: str, n_channels: int) -> nn.Module:
    if norm == "group":
        return nn.GroupNorm(_GROUPS, n_channels)
    if norm == "batch":
        return nn.BatchNorm2d(n_channels)
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
