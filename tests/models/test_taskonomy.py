"""The Taskonomy encoder against the same computation written down step by step."""

import pytest
import torch
from torch.nn import functional
from torchvision import models

from versa.models.taskonomy import TaskonomyEncoder

RNG = torch.Generator()
BLOCKS = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = TaskonomyEncoder().double().eval()
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.2)
    return module


def outputs(module, names, x):
    seen = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: out.clone()})
        )
    with torch.no_grad():
        module(x)
    return seen


def by_hand(state, x):
    """Every layer of the encoder from the state dict alone."""

    def conv(x, name, **options):
        return functional.conv2d(x, state[f"{name}.weight"], **options)

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{key}"].view(-1, 1, 1)
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    seen = {}
    x = norm(conv(x, "conv1", stride=2, padding=3), "bn1").clamp(min=0)
    seen["relu"] = x
    # windows of 3 every 2 pixels; the last one may hang over the edge
    edge = functional.pad(x, (0, 1, 0, 1), value=-torch.inf)
    x = edge.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
    seen["maxpool"] = x
    for stage, n_blocks in BLOCKS.items():
        for k in range(n_blocks):
            name = f"{stage}.{k}"
            stride = 2 if name in ("layer1.2", "layer2.3") else 1
            y = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").clamp(min=0)
            y = conv(y, f"{name}.conv2", stride=stride, padding=1)
            y = conv(norm(y, f"{name}.bn2").clamp(min=0), f"{name}.conv3")
            if k == 0:
                x = norm(conv(x, f"{name}.downsample.0"), f"{name}.downsample.1")
            x = (x[..., ::stride, ::stride] + norm(y, f"{name}.bn3")).clamp(min=0)
            seen[name] = x
    x = norm(conv(x, "compress1", padding=1), "compress_bn").clamp(min=0)
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    seen["groupnorm"] = (x - mean) / (var + 1e-5).sqrt()
    return seen


def test_every_layer_equals_the_computation_by_hand(encoder):
    x = torch.rand(2, 3, 64, 96, generator=RNG.manual_seed(1), dtype=torch.float64)
    found = outputs(encoder, encoder.layers, x)
    expected = by_hand(encoder.state_dict(), x)
    assert list(found) == list(expected) == list(encoder.layers)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def test_the_stride_lies_in_the_last_block_of_the_first_two_stages():
    with torch.device("meta"):
        module = TaskonomyEncoder().eval()
        found = outputs(module, module.layers, torch.empty(1, 3, 256, 256))
    shapes = [tuple(out.shape[1:]) for out in found.values()]
    assert shapes == [
        (64, 128, 128),
        (64, 64, 64),
        *[(256, 64, 64)] * 2,
        (256, 32, 32),
        *[(512, 32, 32)] * 3,
        (512, 16, 16),
        *[(1024, 16, 16)] * 6,
        *[(2048, 16, 16)] * 3,
        (8, 16, 16),
    ]


def test_the_keys_are_those_of_resnet50_and_of_the_compression():
    with torch.device("meta"):
        state, other = TaskonomyEncoder().state_dict(), models.resnet50().state_dict()
    extra = {"compress1.weight": (8, 2048, 3, 3)}
    for key in ("weight", "bias", "running_mean", "running_var"):
        extra[f"compress_bn.{key}"] = (8,)
    extra["compress_bn.num_batches_tracked"] = ()
    shapes = {key: tuple(value.shape) for key, value in other.items()}
    shapes = {key: s for key, s in shapes.items() if not key.startswith("fc.")} | extra
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes


def test_torchvisions_resnet50_takes_the_weights_and_computes_something_else(encoder):
    with torch.device("meta"):
        twin = models.resnet50()
    twin.fc = torch.nn.Identity()
    state = {k: v for k, v in encoder.state_dict().items() if "compress" not in k}
    twin.load_state_dict(state, assign=True)
    x = torch.rand(1, 3, 64, 64, generator=RNG.manual_seed(2), dtype=torch.float64)
    layers = ["relu", "layer4.2"]
    ours, theirs = (outputs(m, layers, x) for m in (encoder, twin.eval()))
    torch.testing.assert_close(ours["relu"], theirs["relu"])
    assert ours["layer4.2"].shape[2:] == (4, 4)
    assert theirs["layer4.2"].shape[2:] == (2, 2)
    a, b = (seen["layer4.2"].mean((0, 2, 3)) for seen in (ours, theirs))
    assert (a - b).abs().mean() > 0.01 * a.abs().mean()
