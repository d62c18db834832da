"""AlexNetGN against numbers made with the authors' published code."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from versa.models.architectures import AlexNetGN, L2Norm
from versa.models.zoo.networks import build_seeded

REFERENCE = Path(__file__).parents[1] / "reference"


def synthetic_weights(module):
    """Weights of the reference: sines of the flat index and the entry's number."""
    for k, (name, tensor) in enumerate(module.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        v = torch.sin(0.37 * torch.arange(tensor.numel(), dtype=torch.float64) + k)
        v = v.view(tensor.shape)
        if tensor.ndim >= 2:
            v *= np.sqrt(2 / tensor[0].numel())
        elif name.endswith(("running_var", "weight")):
            v = 1 + 0.1 * v
        else:
            v *= 0.1
        tensor.copy_(v)


def reference_images():
    steps = torch.arange(224, dtype=torch.float64) / 224
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    images = [
        torch.stack(
            [torch.sin(2 * torch.pi * ((k + 1) * x + (c + 1) * y)) for c in range(3)]
        )
        for k in range(3)
    ]
    return torch.stack(images).float()


@pytest.mark.parametrize(("out_dim", "l2norm"), [(128, True), (1000, False)])
def test_every_layer_equals_the_authors_network(out_dim, l2norm):
    expected = np.load(REFERENCE / f"alexnet_gn_forward_{out_dim}.npz")
    with torch.device("meta"):
        module = AlexNetGN(out_dim, l2norm=l2norm)
    module = module.to_empty(device="cpu").eval()
    synthetic_weights(module)
    seen = {}

    def keep(name):
        def hook(_module, _inputs, output):
            rows = output.double().flatten(1)
            seen[f"mean__{name}"] = rows.mean(1).numpy()
            seen[f"std__{name}"] = rows.std(1).numpy()

        return hook

    for name, part in module.named_modules():
        if not list(part.children()):
            part.register_forward_hook(keep(name))
    with torch.inference_mode():
        out = module(reference_images())
    np.testing.assert_allclose(out, expected["out"], rtol=1e-4, atol=2e-6)
    layers = [key for key in expected.files if "__" in key]
    assert len(layers) == 2 * (27 if l2norm else 26)
    for key in layers:
        np.testing.assert_allclose(
            seen[key], expected[key], rtol=1e-4, atol=1e-5, err_msg=key
        )


def test_state_dict_keys_and_shapes_are_the_authors():
    with torch.device("meta"):
        state = AlexNetGN().state_dict()
    with open(REFERENCE / "alexnet_gn_keys.csv", newline="") as file:
        expected = [(row["key"], row["shape"]) for row in csv.DictReader(file)]
    found = [(key, "x".join(map(str, value.shape))) for key, value in state.items()]
    assert found == expected
    assert len(found) == 31


@pytest.mark.parametrize(
    ("options", "n_parameters", "n_keys"),
    [
        ({}, 58_823_520, 31),
        ({"out_dim": 1000, "l2norm": False}, 62_396_104, 31),
        ({"norm": "batch"}, 58_823_520, 31 + 5 * 3),
        ({"norm": "local_response"}, 58_823_520 - 2 * 1376, 31 - 5 * 2),
    ],
)
def test_size_of_each_variant(options, n_parameters, n_keys):
    with torch.device("meta"):
        module = AlexNetGN(**options)
    assert sum(p.numel() for p in module.parameters()) == n_parameters
    assert len(module.state_dict()) == n_keys
    assert ("l2norm" in module.layers) == options.get("l2norm", True)
    assert "ave_pool" not in module.layers


def test_twins_differ_only_in_the_convolutional_norm():
    kinds = {
        "group": nn.GroupNorm,
        "batch": nn.BatchNorm2d,
        "local_response": nn.LocalResponseNorm,
    }
    for norm, kind in kinds.items():
        with torch.device("meta"):
            module = AlexNetGN(norm=norm)
        assert all(
            type(module.get_submodule(f"conv_block_{k}.1")) is kind for k in range(1, 6)
        )
        assert all(
            type(module.get_submodule(f"fc{k}.1")) is nn.BatchNorm1d for k in (6, 7)
        )


def test_unknown_norm_is_refused_with_a_proposal():
    with pytest.raises(ValueError, match=r"norm must be among .*Did you mean batch\?"):
        AlexNetGN(norm="bach")


def test_l2norm_has_unit_rows():
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(L2Norm()(x).norm(dim=1), torch.ones(4))
    large = torch.full((2, 4), 300.0, dtype=torch.float16)  # whose squares are infinite
    torch.testing.assert_close(L2Norm()(large), torch.full((2, 4), 0.5))


def test_seed_decides_the_weights_and_leaves_the_global_state():
    state = torch.get_rng_state()
    first, again, other = (
        build_seeded(lambda: nn.Linear(5, 3), seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
