"""The encoder of Taskonomy's networks, a ResNet-50 of another build.

torchvision's resnet50 would take most of these weights and compute something else:
here the stride is in the last block of a stage, the stem pads before its
convolution, and the max-pool rounds its size up.
"""

import torch
from torch import nn

_STAGES = ((64, 3, 2), (128, 4, 2), (256, 6, 1), (512, 3, 1))  # planes, blocks, stride
_EXPANSION = 4


class _Bottleneck(nn.Module):
    def __init__(self, n_in: int, planes: int, stride: int) -> None:
        super().__init__()
        n_out = planes * _EXPANSION
        self.conv1 = nn.Conv2d(n_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if n_in != n_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
            )
        elif stride != 1:
            self.downsample = nn.Sequential(nn.MaxPool2d(1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        passed = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + passed)


class TaskonomyEncoder(nn.Module):
    """ResNet-50 encoder of Taskonomy, as released for mid-level vision.

    The state-dict keys are those of the released files. `layers` are the stem, the
    sixteen blocks and the compressed representation (8 channels).

    Zamir et al. (2018), https://arxiv.org/abs/1804.08328; Sax et al. (2018),
    https://arxiv.org/abs/1812.11971
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
        n_in = 64
        names = ["relu", "maxpool"]
        for k, (planes, n_blocks, stride) in enumerate(_STAGES, start=1):
            blocks = []
            for block in range(n_blocks):
                last = block == n_blocks - 1
                blocks.append(_Bottleneck(n_in, planes, stride if last else 1))
                n_in = planes * _EXPANSION
                names.append(f"layer{k}.{block}")
            self.add_module(f"layer{k}", nn.Sequential(*blocks))
        self.compress1 = nn.Conv2d(n_in, 8, 3, padding=1, bias=False)
        self.compress_bn = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU(inplace=True)
        self.groupnorm = nn.GroupNorm(8, 8, affine=False)
        self.layers = (*names, "groupnorm")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From images (n_images, 3, height, width) in [-1, 1], 256 x 256 pixels there,
        to the compressed representation (n_images, 8, height / 16, width / 16)."""
        x = self.bn1(self.conv1(nn.functional.pad(x, (3, 3, 3, 3))))
        x = self.maxpool(self.relu(x))
        for k in range(1, len(_STAGES) + 1):
            x = getattr(self, f"layer{k}")(x)
        x = self.relu1(self.compress_bn(self.compress1(x)))
        return self.groupnorm(x)
