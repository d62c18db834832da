"""Small networks and cards of our own, for tests of the zoo."""

import io
import tomllib
from argparse import Namespace

import numpy as np
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


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def other(*keys):
    """Weights of parts that are not the network's."""
    return {key: torch.full((2, 3), 9.0) for key in keys}


SGD = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
# layout: the published file around a state dict, as read in its authors' code, and
# whether the container is the old one
PUBLISHED = {
    "ipcl": (lambda s: {"epoch": 100, "state_dict": under("module.", s)}, False),
    "vissl": (
        lambda s: {
            "phase_idx": 999,
            "iteration": 1,
            "loss": 0.5,
            "classy_state_dict": {
                "base_model": {
                    "model": {
                        "trunk": under("_feature_blocks.", s),
                        "heads": other("0.clf.0.weight"),
                    },
                    "meters": {},
                },
                "optimizer": SGD,
            },
        },
        False,
    ),
    "moco": (
        lambda s: {
            "epoch": 800,
            "arch": "resnet50",
            "state_dict": {
                **under("module.encoder_q.", s),
                **other("module.encoder_q.fc.0.weight", "module.encoder_q.fc.2.bias"),
                **under("module.encoder_k.", {k: v + 1 for k, v in s.items()}),
                **other("module.queue", "module.queue_ptr"),
            },
            "optimizer": SGD,
        },
        True,
    ),
    "moco_v3": (
        lambda s: {
            "epoch": 300,
            "state_dict": {
                **under("module.base_encoder.", s),
                **other("module.base_encoder.fc.0.weight", "module.predictor.0.weight"),
                **other("module.base_encoder.head.0.weight"),
                **under("module.momentum_encoder.", {k: v + 1 for k, v in s.items()}),
            },
        },
        False,
    ),
    "swav": (
        lambda s: {
            **under("module.", s),
            **other("module.projection_head.0.weight", "module.prototypes.weight"),
        },
        False,
    ),
    "tc": (
        lambda s: {
            "acc1_list": [np.array([1.5, 2.5], dtype=np.float32)],
            "model_state_dict": {**under("module.", s), **other("module.fc.weight")},
            "optimizer_state_dict": SGD,
        },
        True,
    ),
    "dino_saycam": (
        lambda s: {
            "student": under("module.backbone.", {k: v + 1 for k, v in s.items()}),
            "teacher": {
                **under("module.backbone.", s),
                **other("module.head.mlp.0.weight"),
            },
            "args": Namespace(arch="resnext50"),
            "loss": np.float64(3.5),
        },
        False,
    ),
    "mmselfsup": (
        lambda s: {
            "meta": {"epoch": 200},
            "state_dict": {
                **under("backbone.", s),
                **under("target_net.module.0.", {k: v + 1 for k, v in s.items()}),
                **other("neck.fc0.weight", "head.w", "data_preprocessor.mean"),
            },
        },
        False,
    ),
    "robust": (
        lambda s: {
            "epoch": 90,
            "model": {
                **other("module.normalizer.new_mean"),
                **under("module.model.", s),
                **under("module.attacker.model.", s),
                **other("module.attacker.normalize.new_mean"),
            },
        },
        False,
    ),
    "taskonomy": (
        lambda s: {
            "state_dict": {k: v for k, v in s.items() if "num_batches" not in k}
        },
        True,
    ),
    "no_head": (
        lambda s: {"state_dict": {**s, **other("fc.weight", "fc.bias")}},
        False,
    ),
    "torchvision": (lambda s: s, True),
    "plain": (lambda s: s, False),
}


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


def packed(content, *, legacy=False):
    """Bytes of a file of ``torch.save``."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def same_output(module, source, size=32):
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(module(x), source(x))


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
