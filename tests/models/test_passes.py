"""Trials before a pass: the axis of the images, steadiness, advice, default layers."""

import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import models

from versa.cache import ArrayStore, file_hash
from versa.fmri.dataset.stimuli import StimulusSet
from versa.models.features import ForwardOptions, doubtful_features, extract_grams
from versa.models.grams import cached_grams
from versa.models.hashes import plain_parts, tensor_digest, weights_digest
from versa.models.layers import default_layers, left_out_mass
from versa.models.passes import (
    require_usable,
    resolve_layers,
    run_network,
    unsteady_warnings,
)
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.loading import load_model
from versa.models.zoo.networks import build_seeded

SIDE = 24
PREPROCESS = Preprocess(SIDE, SIDE, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
X = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """As many images as `Tokens` has tokens."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(9):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"im{k}.png")
    return sorted(folder.iterdir())


class Tokens(nn.Module):
    """A transformer with the images on the first or on the second axis."""

    def __init__(self, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)

    def forward(self, x):
        x = self.stem(x).flatten(2)
        turn = (0, 2, 1) if self.batch_first else (2, 0, 1)
        return self.blocks(x.permute(turn))


class Made(nn.Module):
    """A convolution, and what a function makes of it."""

    def __init__(self, function):
        super().__init__()
        self.conv = build_seeded(lambda: nn.Conv2d(3, 4, 8, 8), 0)
        self.out = nn.ReLU()
        self.function = function

    def forward(self, x):
        return self.out(self.function(self.conv(x)))


def network(module):
    return load_model(module.eval(), preprocess=PREPROCESS, name="net")


def test_the_axis_of_the_images_is_found(images):
    grams = [
        extract_grams(
            network(build_seeded(lambda b=batch_first: Tokens(b), 0)),
            images,
            ["blocks"],
            batch_size=batch_size,
        )["blocks"]
        for batch_first, batch_size in ((True, 4), (False, 4), (False, 1), (False, 9))
    ]
    for gram in grams[1:]:
        np.testing.assert_allclose(gram.gram, grams[0].gram, rtol=1e-4)
        np.testing.assert_allclose(gram.sums, grams[0].sums, atol=1e-4)


def with_noise(x):
    return x + torch.randn_like(x)


def with_little_noise(x):
    return x + 1e-5 * torch.randn_like(x)


def without_one_row_at_times(x):
    return x * (torch.rand(len(x), 1, 1, 1) > 0.4)


def with_dropout(x):
    return functional.dropout(x, 0.5)


class Remembering:
    def __init__(self):
        self.last = 0.0

    def __call__(self, x):
        x, self.last = x + self.last, x.detach().mean()
        return x


@pytest.mark.parametrize(
    "function",
    [
        with_noise,
        with_little_noise,
        without_one_row_at_times,
        with_dropout,
        Remembering(),
    ],
)
def test_random_features_are_seen(function):
    torch.manual_seed(1)
    tried = require_usable(network(Made(function)), X, ["conv", "out"], 32)
    assert {k: one.unsteady for k, one in tried.items()} == {
        "conv": "",
        "out": "random",
    }
    (sentence,) = unsteady_warnings("net", tried)
    assert "out give another result each time" in sentence


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - x.mean(dim=0),
        lambda x: x / x.abs().amax(),
        lambda x: functional.batch_norm(x, None, None, training=True),
    ],
)
def test_features_that_depend_on_the_batch_are_seen(function):
    tried = require_usable(network(Made(function)), X, ["conv", "out"], 32)
    assert [one.unsteady for one in tried.values()] == ["", "company"]
    (sentence,) = unsteady_warnings("net", tried)
    assert "out differ with the other images of the batch" in sentence


def test_random_numbers_whose_effect_is_not_seen_are_told():
    def now_and_then(x):
        return x if torch.rand(1) < 0.999 else 2 * x

    torch.manual_seed(0)
    tried = require_usable(network(Made(now_and_then)), X, ["conv", "out"], 32)
    assert [one.unsteady for one in tried.values()] == ["", "draws"]
    (sentence,) = unsteady_warnings("net", tried)
    assert "random numbers are drawn before the output of out, though" in sentence


def test_random_numbers_that_nobody_sees_drawn_are_seen_by_their_effect():
    own = torch.Generator().manual_seed(1)

    def rarely(x):
        return x if torch.rand(1, generator=own) < 0.7 else 2 * x

    tried = require_usable(network(Made(rarely)), X, ["conv", "out"], 32)
    assert [one.unsteady for one in tried.values()] == ["", "random"]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "efficientnet_b0"])
def test_ordinary_networks_are_steady(name):
    module = build_seeded(lambda: models.get_model(name, weights=None), 0)
    model = network(module)
    x = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    tried = require_usable(model, x, model.layers, 32)
    assert not unsteady_warnings("net", tried)


@pytest.mark.parametrize("function", [with_noise, lambda x: x - x.mean(dim=0)])
def test_unsteady_features_are_not_kept(images, tmp_path, function):
    store = ArrayStore(tmp_path / "store")
    files = StimulusSet(
        names=[p.stem for p in images],
        paths=images,
        hashes=[file_hash(p) for p in images],
    )
    model = network(Made(function))
    kept = []
    for batch_size in (4, 9):
        options = ForwardOptions(batch_size=batch_size)
        found = cached_grams(model, ["conv", "out"], files, store, options)
        (sentence,) = found.warnings
        assert sentence.startswith("features of net must be a function of the image")
        kept.append(found.layers)
    np.testing.assert_array_equal(kept[0]["conv"].gram, kept[1]["conv"].gram)
    assert not np.allclose(kept[0]["out"].gram, kept[1]["out"].gram)


# ---- refusals -----------------------------------------------------------------------


class Area(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, 8, 3, padding=1, stride=2)
        self.output = nn.Identity()

    def forward(self, x, state=None):
        y = torch.relu(self.conv(x))
        y = y if state is None else y + state
        return self.output(y), y


class Recurrent(nn.Module):
    """Areas that run three times, each with an output and a state."""

    def __init__(self):
        super().__init__()
        self.V1, self.IT = Area(3), Area(8)
        self.decoder = nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 5))

    def forward(self, x):
        states = [None, None]
        for _ in range(3):
            y = x
            for k, area in enumerate((self.V1, self.IT)):
                y, states[k] = area(y, states[k])
        return self.decoder(y)


@pytest.mark.parametrize(
    ("layer", "first"),
    [("V1", "V1:0[0]"), ("IT:1", "IT:1[0]"), ("IT.output", "IT.output:0")],
)
def test_advice_names_layers_that_work(layer, first):
    model = network(Recurrent())
    with pytest.raises(ValueError, match=rf"from 0: {re.escape(first)}, ") as caught:
        require_usable(model, X, [layer], 32)
    named = str(caught.value).rstrip(".").partition("from 0: ")[2].split(", ")
    assert not any(one.problem for one in require_usable(model, X, named, 32).values())
    with pytest.raises(ValueError, match=r"such as decoder\.1\.$"):
        require_usable(model, X, [f"{first.partition(':')[0]}:7"], 32)


def test_the_block_around_is_advised_only_if_it_works():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.memory = nn.LSTM(4, 4, batch_first=True)

        def forward(self, x):
            return self.memory(x.flatten(2).transpose(1, 2))[0]

    module = nn.Sequential(nn.Conv2d(3, 4, 8, 8), Block())
    with pytest.raises(ValueError, match=r"Name the block around it instead: '1'\.$"):
        require_usable(network(module), X, ["1.memory"], 32)


def test_torchscript_is_refused_by_name(images):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    scripted = torch.jit.script(module)
    for network_ in (
        scripted,
        torch.jit.freeze(scripted),
        torch.jit.trace(module, X[None]),
    ):
        with pytest.raises(ValueError, match="the network is a TorchScript module"):
            load_model(network_, preprocess=PREPROCESS)
    holding = network(nn.Sequential(scripted, nn.Flatten(), nn.Linear(1936, 2)))
    with pytest.raises(ValueError, match=r"layers 0\.1 lie in a TorchScript module"):
        extract_grams(holding, images, ["0.1"])
    assert resolve_layers(holding, ["2"]) == ("2",)


def test_networks_without_numbers_are_refused(images):
    with torch.device("meta"):
        module = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match=r"0\.weight has no numbers \(it is on the"):
        extract_grams(network(module), images, ["0"])
    lazy = network(nn.Sequential(nn.LazyConv2d(4, 3)))
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet \(a lazy"):
        extract_grams(lazy, images, ["0"])


# ---- types, wrappers, inputs --------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_images_are_given_in_the_type_of_the_weights(images, kind):
    module = build_seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU()), 0)
    x = torch.stack([PREPROCESS(Image.open(path)) for path in images])
    with torch.no_grad():
        right = module(x).flatten(1).double().numpy()
    gram = extract_grams(network(module.to(kind)), images, ["1"])["1"]
    close = 1e-5 if kind == torch.float64 else 3e-2
    np.testing.assert_allclose(gram.gram, right @ right.T, rtol=close)


def compiled(module):
    return torch.compile(module, backend="eager"), "_orig_mod."


def compiled_in_place(module):
    module.compile(backend="eager")
    return module, ""


def parallel(module):
    return nn.DataParallel(module), "module."


@pytest.mark.parametrize("wrap", [compiled, compiled_in_place, parallel])
def test_wrapped_networks_are_the_networks_within(images, wrap):
    def made():
        layers = [nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Conv2d(8, 8, 3)]
        return build_seeded(lambda: nn.Sequential(*layers), 0).eval()

    module = made()
    right = extract_grams(network(module), images, ["1"])["1"].gram
    wrapped, prefix = wrap(module)
    with torch.no_grad():  # compiled for this batch, without hooks
        wrapped(torch.stack([X, X]))
    model = network(wrapped)
    assert model.layers == tuple(f"{prefix}{k}" for k in range(3))
    found = extract_grams(model, images, [f"{prefix}1"], batch_size=2)
    np.testing.assert_allclose(found[f"{prefix}1"].gram, right, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.numpy(),
        lambda x: x.double().numpy(),
        lambda x: {"pixel_values": x[None]},
        lambda x: {"pixel_values": [x.numpy()], "mask": 1},
        lambda x: x.clone().requires_grad_(),
    ],
)
def test_what_processors_give_is_taken(images, change):
    module = build_seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 8, 8)), 0)
    right = extract_grams(network(module), images, ["0"])["0"].gram
    model = load_model(module, preprocess=lambda image: change(PREPROCESS(image)))
    found = extract_grams(model, images, ["0"])["0"].gram
    np.testing.assert_allclose(found, right, rtol=1e-6)


@pytest.mark.parametrize("shape", [(-1,), (1, 3, SIDE, SIDE), (3, -1)])
def test_inputs_of_any_shape_are_taken(images, shape):
    def prepare(image):
        return PREPROCESS(image).reshape(shape)

    model = load_model(nn.Sequential(nn.ReLU()), preprocess=prepare)
    x = torch.stack([PREPROCESS(Image.open(path)) for path in images])
    x = x.relu().flatten(1).double().numpy()
    found = extract_grams(model, images, ["0"])["0"].gram
    np.testing.assert_allclose(found, x @ x.T, rtol=1e-6)


# ---- default layers -----------------------------------------------------------------


def resnet():
    return models.resnet18(weights=None, num_classes=10)


class Holder(nn.Module):
    """A module with parts of any name, which run one after the other."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        for part in self.children():
            x = part(x)
        return x


class Encoder(nn.Module):
    """As those of transformers: blocks in a list, and a dictionary as the output."""

    def __init__(self, several):
        super().__init__()
        self.layer = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.several = several

    def forward(self, x):
        for block in self.layer:
            x = block(x)
        return {"last": x, "all": x} if self.several else {"last": x}


class Transformers(Holder):
    """As a vision model of transformers: embeddings, encoder, norm."""

    def __init__(self):
        super().__init__(
            embeddings=nn.Conv2d(3, 8, 4, 4),
            encoder=Encoder(several=True),
            layernorm=nn.GroupNorm(1, 8),
        )

    def forward(self, x):
        return self.layernorm(self.encoder(self.embeddings(x))["last"])


@pytest.mark.parametrize(
    ("make", "prefix"),
    [
        (lambda: nn.Sequential(nn.Identity(), resnet()), "1."),
        (lambda: nn.DataParallel(resnet()), "module."),
        (lambda: Holder(normalise=nn.BatchNorm2d(3), features=resnet()), "features."),
        (lambda: Holder(model=Holder(net=resnet())), "model.net."),
        (lambda: Holder(model=resnet(), head=nn.Linear(10, 4)), "model."),
    ],
)
def test_wrappers_are_opened(make, prefix):
    layers = default_layers(make())
    inner = [f"{prefix}{name}" for name in default_layers(resnet())]
    assert [name for name in layers if name.startswith(prefix)] == inner
    assert len(layers) <= len(inner) + 1


def test_encoders_are_opened_to_their_blocks():
    blocks = tuple(f"encoder.layer.{k}" for k in range(4))
    layers = ("embeddings", *blocks, "layernorm")
    assert default_layers(Transformers()) == layers
    model = load_model(Transformers(), preprocess=PREPROCESS)
    assert resolve_layers(model) == layers
    wrapped = Holder(vision_model=Transformers(), head=nn.Identity())
    assert default_layers(wrapped) == tuple(f"vision_model.{k}" for k in layers)


def test_networks_left_out_are_told(caplog):
    module = Transformers()
    assert left_out_mass(module, ("embeddings",))[1] == "encoder"
    model = VisionModel("net", module, PREPROCESS, ("embeddings", "encoder"))
    with caplog.at_level(logging.WARNING, logger="versa"):
        assert resolve_layers(model) == ("embeddings",)
    assert "net: most of the network is left out" in caplog.text
    assert "most in encoder. Name the layers" in caplog.text


def test_ordinary_networks_leave_little_out():
    for name in ("alexnet", "vgg11", "resnet18", "squeezenet1_1", "mobilenet_v2"):
        with torch.device("meta"):
            module = models.get_model(name, weights=None)
        assert left_out_mass(module, default_layers(module))[0] < 0.5, name


# ---- features that tell nothing -----------------------------------------------------


def test_flat_patterns_are_told(images):
    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine, self.flat = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.flat(self.fine(x.flatten(1).double()) + 1e7)

    grams = extract_grams(network(Levels()), images, ["fine", "flat"])
    (sentence,) = doubtful_features("net", grams)
    assert "those of net in flat vary less" in sentence


# ---- hashes of tensors without bytes of their own -----------------------------------


def tensors(seed):
    x = torch.rand(4, 4, generator=torch.Generator().manual_seed(seed))
    sparse = x * (x > 0.5)
    scales, zeros = torch.rand(4) + 0.1, torch.zeros(4, dtype=torch.int64)
    return {
        "quantised": torch.quantize_per_tensor(x, 0.01, 3, torch.quint8),
        "by channel": torch.quantize_per_channel(x, scales, zeros, 0, torch.qint8),
        "coo": sparse.to_sparse(),
        "csr": sparse.to_sparse_csr(),
        "csc": sparse.to_sparse_csc(),
        "bsr": sparse.to_sparse_bsr((2, 2)),
        "nested": torch.nested.nested_tensor([x, x[:2]]),
        "jagged": torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged),
        "conjugate": torch.complex(x, x).conj(),
        "half": x.half(),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", list(tensors(0)))
def test_every_kind_of_tensor_has_its_hash(kind):
    torch.manual_seed(0)
    first = tensors(0)[kind]
    torch.manual_seed(0)
    again = tensors(0)[kind]
    torch.manual_seed(0)
    other = tensors(1)[kind]
    assert tensor_digest(first) == tensor_digest(again)
    assert tensor_digest(first) != tensor_digest(other)
    module = nn.Module()
    module.register_buffer("held", first)
    digest = weights_digest(module)
    module.register_buffer("held", other)
    assert weights_digest(module) != digest


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_quantised_networks_pass(images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear})
    x = torch.stack([PREPROCESS(Image.open(path)) for path in images])
    right = quantised(x).double().numpy()
    assert len(weights_digest(quantised)) == 64
    found = extract_grams(network(quantised), images, ["1"], batch_size=9)["1"]
    np.testing.assert_allclose(found.gram, right @ right.T, rtol=0.05)


def test_tensors_without_memory_are_refused():
    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls):
            return torch.Tensor._make_wrapper_subclass(cls, (2, 2))

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"one of type Wrapper, which has none"):
        plain_parts(Wrapper())


def test_compiled_code_is_used_again_afterwards():
    wrapped, _ = compiled(nn.Sequential(nn.ReLU()))
    run_network(network(wrapped), X[None])
    assert torch.equal(wrapped(X[None]), X[None].relu())
