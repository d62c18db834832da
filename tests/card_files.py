"""Small networks and cards of our own, for tests of the zoo."""

import tomllib

import torch
from torch import nn

IMAGE = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class Tiny(nn.Module):
    """Two layers under the authors' way of naming, small enough to serve."""

    def __init__(self, out_dim=4):
        super().__init__()
        self.conv_block_1 = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8))
        self.fc6 = nn.Sequential(nn.Flatten(), nn.Linear(8 * 30 * 30, out_dim))

    def forward(self, x):
        return self.fc6(self.conv_block_1(x))


class Residual(nn.Module):
    """A ResNet in miniature, with or without its classifier."""

    def __init__(self, head=False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5) if head else nn.Identity()

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        return self.fc(self.avgpool(x + self.layer1(x)).flatten(1))


def trained(module, seed=0):
    """Other weights and running statistics than any constructor gives."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
            else:
                value.fill_(7)
    return module.eval()


def write_card(folder, name, **fields):
    """Card of a network of this module; `fields` replace or add."""
    table = {
        "name": name,
        "method": "toy",
        "architecture": "toy",
        "diet": "none",
        "builder": "tests.card_files:Tiny",
        "layers": ["fc6"],
        "licence": "MIT",
        **fields,
    }
    preprocess = {"resize": 32, "crop": 32, "mean": IMAGE[0], "std": IMAGE[1]}
    tables = {"preprocess": preprocess}
    lines = []
    for key, value in table.items():
        if isinstance(value, dict):
            tables[key] = value
        elif value is not None:
            lines.append(f"{key} = {_toml(value)}")
    for key, value in tables.items():
        lines.append(f"\n[{key}]")
        lines += [f'"{inner}" = {_toml(item)}' for inner, item in value.items()]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
