"""Which layers a request means, and hooks that leave no trace."""

import logging

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision import models

from versa.models.architectures import AlexNetGN
from versa.models.layers import default_layers
from versa.models.passes import (
    evaluating,
    output_rows,
    require_all_ran,
    resolve_layers,
    run_network,
    single_tensor,
    watch_layers,
)
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.loading import load_model

PREPROCESS = Preprocess(16, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class Odd(nn.Module):
    """A module of every kind that has no single output per image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.unused = nn.Linear(2, 2)
        self.blocks = nn.ModuleDict({"a": nn.Conv2d(4, 4, 3), "b": nn.Conv2d(4, 4, 3)})
        self.memory = nn.LSTM(4, 4, batch_first=True)
        self.pooled = nn.AdaptiveAvgPool2d(1)
        self.turned = nn.Linear(4, 4)

    def forward(self, x):
        x = self.relu(self.conv(x))
        x = self.drop(self.relu(self.blocks["a"](x)))
        x = self.pooled(self.blocks["b"](x)).flatten(1)
        x, _ = self.memory(x[:, None])
        return self.turned(x.transpose(0, 1))


USABLE = ("conv", "blocks.a", "blocks.b", "pooled", "turned")  # turned: axis 1


def odd_model():
    return load_model(Odd(), preprocess=PREPROCESS)


def alexnet_on_meta():
    with torch.device("meta"):
        return AlexNetGN()


@pytest.fixture(scope="module")
def alexnet():
    return load_model("alexnet_gn_untrained")


def test_default_layers_of_our_own_network():
    blocks = tuple(f"conv_block_{k}" for k in range(1, 6))
    assert default_layers(alexnet_on_meta()) == (*blocks, "fc6", "fc7", "fc8", "l2norm")


@pytest.mark.parametrize(
    ("name", "first", "last", "n_layers"),
    [
        ("alexnet", "features.1", "classifier.6", 9),
        ("vgg16", "features.4", "classifier.6", 8),
        ("squeezenet1_1", "features.1", "classifier.3", 14),
        ("mobilenet_v2", "features.0", "classifier.1", 20),
        ("densenet121", "features.relu0", "classifier", 10),
        ("resnet50", "relu", "fc", 20),
        ("resnext50_32x4d", "relu", "fc", 20),
        ("vit_b_16", "encoder.layers.encoder_layer_0", "encoder.ln", 13),
        ("convnext_tiny", "features.0", "classifier.2", 10),
        ("efficientnet_b0", "features.0", "classifier.1", 11),
        ("mnasnet0_5", "layers.0", "classifier.1", 18),
    ],
)
def test_default_layers_of_torchvision(name, first, last, n_layers):
    with torch.device("meta"):
        layers = default_layers(models.get_model(name, weights=None))
    assert (layers[0], layers[-1], len(layers)) == (first, last, n_layers)


@pytest.mark.parametrize(
    ("name", "first", "last", "n_layers"),
    [
        ("resnet18", "act1", "fc", 12),
        ("vit_tiny_patch16_224", "blocks.0", "norm", 13),
        ("convnext_atto", "stem", "stages.3", 5),
        ("mobilenetv2_050", "blocks.0", "classifier", 9),
    ],
)
def test_default_layers_of_timm(name, first, last, n_layers):
    layers = default_layers(timm.create_model(name))
    assert (layers[0], layers[-1], len(layers)) == (first, last, n_layers)


def test_resnet_without_a_classifier_ends_with_its_pool():
    module = models.resnet18()
    module.fc = nn.Identity()
    assert default_layers(module)[-1] == "avgpool"


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v2"])
def test_default_layers_run_in_their_order(name):
    model = load_model(f"{name}:untrained")
    assert resolve_layers(model) == model.layers


def test_leaves_of_alexnet_gn(alexnet):
    leaves = resolve_layers(alexnet, "leaf")
    assert len(leaves) == 26
    assert leaves[:4] == tuple(f"conv_block_1.{k}" for k in range(4))
    assert leaves[-2:] == ("fc8.0", "l2norm")
    assert "ave_pool" not in leaves
    assert resolve_layers(alexnet) == alexnet.layers


def test_leaves_without_one_output_are_left_out(caplog):
    with caplog.at_level(logging.INFO, logger="versa"):
        leaves = resolve_layers(odd_model(), "leaf")
    assert leaves == USABLE
    assert "Odd: left out relu, unused, memory," in caplog.text


def test_defaults_of_a_module_of_the_user_are_tried():
    children = ("conv", "relu", "unused", "blocks.a", "blocks.b", "memory", "pooled")
    assert odd_model().layers == (*children, "turned")
    assert resolve_layers(odd_model()) == USABLE


def test_no_usable_layer_is_refused():
    model = VisionModel("odd", Odd(), PREPROCESS, ("unused", "memory"))
    with pytest.raises(ValueError, match="odd must have a layer with one output"):
        resolve_layers(model)


@pytest.mark.parametrize(
    ("layer_list", "text"),
    [
        ([], "layer_list must name at least one layer; got an empty list"),
        ("fc6", r"must be a list of names or 'leaf'; got 'fc6'. Write \['fc6'\]"),
        (["fc6", "fc6"], "layer_list must be unique; repeated: 'fc6'"),
        (["fc6", "fc66"], r"layer of alexnet_gn_untrained must .* Did you mean fc6"),
        ([""], "layer of alexnet_gn_untrained must be among"),
        ([0], r"must hold names as text; got 0 of type int\. Write '0'\."),
        (["leaf", "fc7"], r"'leaf', which stands alone, .*got \['leaf', 'fc7'\]"),
        (["leaf"], r"got \['leaf'\]\. Write 'leaf', or only the names"),
    ],
)
def test_impossible_lists_are_refused(alexnet, layer_list, text):
    with pytest.raises(ValueError, match=text):
        resolve_layers(alexnet, layer_list)


def test_listed_layers_keep_their_order(alexnet):
    assert resolve_layers(alexnet, ["fc7", "conv_block_1.0"]) == (
        "fc7",
        "conv_block_1.0",
    )


def test_modes_come_back_one_by_one():
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    module[1].eval()
    with evaluating(module):
        assert not module[0].training
        assert not torch.is_grad_enabled()
    with pytest.raises(RuntimeError), evaluating(module):
        module(torch.zeros(1, 9))
    assert torch.is_grad_enabled()
    assert [part.training for part in module.modules()] == [True, True, False]


def test_hooks_are_removed_after_an_error():
    module = nn.Sequential(nn.ReLU(), nn.Tanh())

    def refuse(_layer, _output):
        raise KeyError

    with pytest.raises(KeyError), watch_layers(module, ["0", "1"], refuse):
        module(torch.zeros(1))
    with pytest.raises(AttributeError), watch_layers(module, ["0", "no"], refuse):
        pass
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ((torch.zeros(2, 3), torch.zeros(2)), "returns a tuple"),
        (torch.zeros(3, 2), r"returns the shape \(3, 2\) for 2 images"),
        (torch.tensor(1.0), r"returns the shape \(\) for 2 images"),
        (torch.zeros(2, 0), r"returns a tensor of shape \(2, 0\)"),
        (torch.zeros(2, 3, dtype=torch.complex64), "complex64"),
        (torch.eye(2).to_sparse(), "sparse"),
    ],
)
def test_outputs_that_are_not_rows_are_refused(output, text):
    with pytest.raises(ValueError, match=f"layer 'blocks.a' must return one .*{text}"):
        output_rows("blocks.a", output, 2)


def test_rows_are_flat():
    x = torch.arange(12.0).view(2, 3, 2)
    assert torch.equal(output_rows("conv", x, 2), x.view(2, 6))
    turned = output_rows("conv", x.permute(1, 0, 2), 2, axis=1)
    assert torch.equal(turned, x.view(2, 6))


def test_the_only_tensor_of_a_collection_is_taken():
    x = torch.arange(6.0).view(2, 3)
    for output in (x, (x,), [None, x], {"last_hidden_state": x, "attentions": None}):
        assert torch.equal(output_rows("conv", output, 2), x)
    assert single_tensor({"a": x, "b": x}) == "a dict"
    assert single_tensor(torch.nested.nested_tensor([x])) == "a nested tensor"
    quantised = torch.quantize_per_tensor(x, 1.0, 0, torch.qint8)
    assert torch.equal(output_rows("conv", quantised, 2), x)


def test_layers_must_run_once():
    with pytest.raises(ValueError, match=r"layer 'a' must run once .*it runs 2 times"):
        require_all_ran({"b": 1, "a": 2})
    with pytest.raises(ValueError, match=r"it does not run\. Name another"):
        require_all_ran({"a": 0})


# ---- the trial pass -------------------------------------------------------------


def as_it_is(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


class Fixed(nn.Module):
    """Takes 64 x 64 images only, and notes what it got."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.fc = nn.Linear(2 * 62 * 62, 5)
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return self.fc(self.conv(x).flatten(1))


@pytest.mark.parametrize("layer_list", [None, "leaf"])
def test_the_trial_pass_takes_the_given_input(layer_list):
    model = load_model(Fixed(), preprocess=as_it_is)
    x = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert resolve_layers(model, layer_list, x) == ("conv", "fc")
    two, three = model.module.seen
    assert torch.equal(two, torch.stack([x, x]))
    assert torch.equal(three, torch.stack([x, x, x]))
    with pytest.raises(ValueError, match=r"Fixed cannot take .*\(2, 3, 256, 256\)"):
        resolve_layers(model, layer_list)


def test_buffers_come_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))
            self.register_buffer("last", torch.zeros(2))

        def forward(self, x):
            self.count += 1
            self.last = x.mean(dim=0)
            return x

    module = Counting()
    last = module.last
    with evaluating(module):
        module(torch.ones(3, 2))
        assert module.count == 1
    assert module.count == 0
    assert module.last is last


class OwnError(Exception):
    """Something that no list of errors has."""


@pytest.mark.parametrize(
    "error",
    [AssertionError, AttributeError, KeyError, OwnError, RuntimeError, ValueError],
)
def test_errors_of_a_network_are_one_sentence_with_the_layer(error):
    class Broken(nn.Module):
        def forward(self, x):
            raise error("wrong size.\nMore.")

    model = VisionModel("net", nn.Sequential(nn.ReLU(), Broken()), PREPROCESS, ())
    text = (
        r"^net cannot take a batch of shape \(2, 3, 4, 4\): .*wrong size.*"
        r" \(in layer '1'\)\. Check its preprocess, and that its forward needs"
    )
    with pytest.raises(ValueError, match=text) as caught:
        run_network(model, torch.zeros(2, 3, 4, 4))
    assert type(caught.value.__cause__) is error
    if error in (AttributeError, OwnError):
        assert f"{error.__name__}: wrong size" in str(caught.value)


@pytest.mark.parametrize("error", [AssertionError, TypeError, ValueError])
def test_errors_of_those_who_watch_pass_unchanged(error):
    module = nn.Sequential(nn.Sequential(nn.ReLU()))
    model = VisionModel("net", module, PREPROCESS, ())
    own = error("ours")

    def refuse(_layer, _output):
        raise own

    with pytest.raises(error) as caught, watch_layers(module, ["0.0"], refuse):
        run_network(model, torch.zeros(2, 3, 4, 4))
    assert caught.value is own
    assert own.__cause__ is None
