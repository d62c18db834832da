"""Gram matrices of layers against torchvision's own feature extraction, and products
of features that wait in memory or in a file."""

import hashlib
import os
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from versa.models import features
from versa.models.features import (
    FeatureBuffer,
    LayerGram,
    SpilledBuffer,
    buffer_bytes,
    chunk_width,
    extract_grams,
    gram_of,
)
from versa.models.grams import probe
from versa.models.images import network_input, read_rgb
from versa.models.passes import resolve_layers
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.loading import load_model
from versa.models.zoo.networks import build_seeded

N_IMAGES = 7
PREPROCESS = Preprocess(32, 32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def probed(model, image, layers):
    x = network_input(read_rgb(image), model.preprocess, "image")
    return probe(model, x, layers)


def fingerprint(model, image, layers):
    return probed(model, image, layers).fingerprint


class Net(nn.Module):
    """Small network with the usual traps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.GroupNorm(2, 8)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.unused = nn.Linear(1, 1)
        self.items = nn.ModuleList([nn.Linear(8, 5)])
        self.memory = nn.LSTM(5, 4, batch_first=True)
        self.gain = 1.0

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        x = self.relu(self.bn(self.conv2(x)))
        x = self.items[0](x.mean(dim=(2, 3)) * self.gain)
        return self.memory(x[:, None])[0]


@pytest.fixture
def net():
    return load_model(build_seeded(Net, 0), preprocess=PREPROCESS)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = [folder / f"im{k}.png" for k in range(N_IMAGES)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(path)
    return paths


def inputs(images):
    return torch.stack([PREPROCESS(Image.open(path)) for path in images])


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_grams_equal_those_of_torchvisions_extractor(images, name, standardize):
    module = build_seeded(lambda: models.get_model(name, weights=None), 0).eval()
    model = load_model(module, preprocess=PREPROCESS)
    layers = resolve_layers(model)
    extractor = create_feature_extractor(module, return_nodes=list(layers))
    with torch.no_grad():
        expected = extractor(inputs(images))
    grams = extract_grams(model, images, layers, standardize=standardize)
    assert tuple(grams) == layers
    for layer, gram in grams.items():
        x = expected[layer].flatten(1).double().numpy()
        assert gram.n_units == x.shape[1]
        np.testing.assert_allclose(gram.gram, x @ x.T, rtol=1e-5, err_msg=layer)
        np.testing.assert_allclose(gram.sums, x.sum(axis=1), rtol=1e-4, atol=1e-3)
        if standardize:
            spread = np.where(np.ptp(x, axis=0) > 0, x.std(axis=0), np.inf)
            z = (x - x.mean(axis=0)) / spread
            np.testing.assert_allclose(
                gram.standardized, z @ z.T, rtol=1e-2, atol=1e-3 * gram.n_units
            )
        else:
            assert gram.standardized is None


def test_output_is_copied_before_the_next_layer_overwrites_it(net, images):
    grams = extract_grams(net, images, ["conv", "norm"])
    with torch.no_grad():
        conv = net.module.conv(inputs(images))
        norm = functional.group_norm(conv, 2, net.module.norm.weight)
    for layer, output in (("conv", conv), ("norm", norm)):
        assert output.min() < 0
        x = output.flatten(1).double().numpy()
        np.testing.assert_allclose(grams[layer].gram, x @ x.T, rtol=1e-5)


def test_ids_and_hashes_of_the_images_travel_along(net, images):
    names = [f"object-{k}" for k in range(N_IMAGES)]
    gram = extract_grams(net, images, ["conv"], names=names)["conv"]
    assert gram.names == tuple(names)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images]
    assert gram.hashes == tuple(digests)
    default = extract_grams(net, images, ["conv"])["conv"]
    assert default.names == tuple(path.name for path in images)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batch_size_does_not_matter(net, images, batch_size):
    layers = ["conv", "conv2", "items.0"]
    expected = extract_grams(net, images, layers)
    found = extract_grams(net, images, layers, batch_size=batch_size)
    for layer in layers:
        np.testing.assert_allclose(
            found[layer].gram, expected[layer].gram, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("max_buffer", [0, 40_000, 90_000])
def test_layers_that_wait_in_files_are_the_same(net, images, max_buffer):
    layers = ["conv", "norm", "conv2", "items.0"]
    in_memory = extract_grams(net, images, layers, batch_size=3, standardize=True)
    spilled = extract_grams(
        net, images, layers, batch_size=3, standardize=True, max_buffer=max_buffer
    )
    for layer in layers:
        for field in ("gram", "sums", "standardized"):
            a, b = getattr(in_memory[layer], field), getattr(spilled[layer], field)
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_module_is_afterwards_as_it_was(net, images):
    module = net.module.train()
    module.bn.eval()
    module.conv.weight.requires_grad_(False)
    modes = [part.training for part in module.modules()]
    grads = [p.requires_grad for p in module.parameters()]
    state = {key: value.clone() for key, value in module.state_dict().items()}
    extract_grams(net, images, ["conv"])
    fingerprint(net, images[0], ["conv"])
    with pytest.raises(ValueError, match="unused"):
        extract_grams(net, images, ["conv", "unused"])
    assert [part.training for part in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()] == grads
    assert all(torch.equal(module.state_dict()[key], state[key]) for key in state)
    assert not any(part._forward_hooks for part in module.modules())
    module(inputs(images)).sum().backward()
    assert module.conv2.weight.grad is not None


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("relu", r"layer 'relu' must run once per forward pass; it runs 2 times\."),
        ("unused", r"layer 'unused' must run once per forward pass; it does not run\."),
        ("items", r"does not run\. Name its parts instead: items\.0\."),
        ("memory", r"layer 'memory' must return one tensor .* it returns a tuple\."),
    ],
)
def test_layers_without_one_output_are_refused(net, images, layer, text):
    for run in (
        lambda: extract_grams(net, images, ["conv", layer]),
        lambda: probed(net, images[0], ["conv", layer]),
    ):
        with pytest.raises(ValueError, match=text):
            run()
    assert not any(part._forward_hooks for part in net.module.modules())


def test_layer_with_another_number_of_units_per_batch_is_refused(images):
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(x.flatten(1)[:, : 10 * len(x)])

    model = load_model(Growing(), preprocess=PREPROCESS)
    with pytest.raises(ValueError, match=r"returns the shape \(3, 30\) for 3 images"):
        extract_grams(model, images, ["act"], batch_size=4)


def test_input_that_the_network_cannot_take_is_one_sentence(images):
    model = load_model(nn.Sequential(nn.Linear(7, 1)), preprocess=PREPROCESS, name="n")
    with pytest.raises(ValueError, match=r"^n cannot take a batch of shape \(1, 3, 32"):
        extract_grams(model, images, ["0"], batch_size=5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(net, images, value):
    class Spoilt(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            x = x.clone()
            x[2:3] = value
            return self.act(x)

    model = VisionModel("spoilt", Spoilt(), PREPROCESS, ("act",))
    with pytest.raises(
        ValueError, match=r"features of spoilt .* layer 'act' .* for im2\.png, im5\.png"
    ):
        extract_grams(model, images[:6], ["act"], batch_size=3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batch_size must be 1 or more; got 0"),
        ({"device": "cpuu"}, "device must exist on this machine; got 'cpuu'"),
        ({"device": "meta"}, "device must hold numbers; got 'meta'"),
        ({"names": ["a"]}, "names must hold one id per image; got 1 for 7"),
    ],
)
def test_impossible_options_are_refused(net, images, options, text):
    with pytest.raises(ValueError, match=text):
        extract_grams(net, images, ["conv"], **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_absent_gpu_is_refused(net, images):
    with pytest.raises(ValueError, match=r"got 'cuda' \(.*\)\. Pass 'cpu'"):
        extract_grams(net, images, ["conv"], device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_the_cpu_and_is_left(net, images):
    layers = ["conv", "conv2", "items.0"]
    expected = extract_grams(net, images, layers, standardize=True)
    for max_buffer in (0, 2**20):
        found = extract_grams(
            net, images, layers, standardize=True, device="cuda", max_buffer=max_buffer
        )
        for layer in layers:
            np.testing.assert_allclose(
                found[layer].gram, expected[layer].gram, rtol=1e-2, atol=1e-3
            )
    assert {p.device.type for p in net.module.parameters()} == {"cpu"}


def test_images_are_checked_before_the_network_runs(net, images, tmp_path):
    grey = tmp_path / "grey.png"
    Image.new("L", (40, 40)).save(grey)
    net.module.forward = None  # would fail if it were run
    with pytest.raises(ValueError, match=r"grey\.png is L"):
        extract_grams(net, [*images, grey], ["conv"])


def test_other_modes_can_be_allowed(net, images, tmp_path):
    grey = tmp_path / "grey.png"
    Image.open(images[0]).convert("L").resize((50, 40)).save(grey)
    gram = extract_grams(net, [*images, grey], ["conv"], convert=True)["conv"]
    assert gram.gram.shape == (N_IMAGES + 1, N_IMAGES + 1)


def test_layer_gram_checks_its_shapes():
    good = {
        "layer": "fc",
        "gram": np.eye(2),
        "sums": np.ones(2),
        "n_units": 3,
        "names": ("a", "b"),
        "hashes": ("1", "2"),
    }
    LayerGram(**good)
    for change, text in (
        ({"gram": np.eye(3)}, r"gram of layer 'fc' must be float64 of shape \(2, 2\)"),
        ({"sums": np.ones(2, dtype="f4")}, r"sums of layer 'fc' .* got float32 \(2,\)"),
        ({"standardized": np.ones(2)}, "standardized of layer"),
        ({"hashes": ("1",)}, "hashes must hold one per image; got 1 for 2"),
        ({"n_units": 0}, "n_units must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=text):
            LayerGram(**{**good, **change})


LAYERS = ("conv", "norm", "items.0")


def test_fingerprint_is_stable(net, images):
    first = fingerprint(net, images[0], LAYERS)
    assert fingerprint(net, Image.open(images[0]), LAYERS) == first
    twin = load_model(build_seeded(Net, 0).train(), preprocess=PREPROCESS, name="twin")
    assert fingerprint(twin, images[0], LAYERS) == first
    assert len(first) == 64


def other_weights(module):
    with torch.no_grad():
        module.conv2.weight[0, 0, 0, 0] += 1e-6  # not seen by any of LAYERS but one


def weights_behind_the_back(module):
    module.unused.weight.data += 1  # neither a new version nor seen by any layer


def other_forward(module):
    module.gain = 2.0


def other_structure(module):
    module.norm.eps = 1e-3


def other_statistics(module):
    module.bn.running_mean += 1


@pytest.mark.parametrize(
    "change",
    [
        other_weights,
        weights_behind_the_back,
        other_forward,
        other_structure,
        other_statistics,
    ],
)
def test_fingerprint_follows_every_change(net, images, change):
    before = fingerprint(net, images[0], LAYERS)
    change(net.module)
    assert fingerprint(net, images[0], LAYERS) != before


def test_fingerprint_follows_image_layers_and_preprocessing(net, images):
    other = Preprocess(32, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    found = {
        fingerprint(net, images[0], LAYERS),
        fingerprint(net, images[1], LAYERS),
        fingerprint(net, images[0], LAYERS[:2]),
        fingerprint(load_model(net.module, preprocess=other), images[0], LAYERS),
    }
    assert len(found) == 4


def test_fingerprint_covers_every_type_of_weight(images):
    class Typed(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()
            self.register_buffer("brief", torch.ones(3, dtype=torch.bfloat16))
            self.register_buffer("flag", torch.tensor(True))
            self.register_buffer("none", torch.zeros(0))
            self.register_buffer("part", torch.arange(9.0)[1:].view(2, 4).T)

        def get_extra_state(self):
            return {"step": self.brief.sum().item()}

        def set_extra_state(self, state):
            pass

        def forward(self, x):
            return self.act(x)

    model = load_model(Typed(), preprocess=PREPROCESS)
    before = fingerprint(model, images[0], ["act"])
    assert fingerprint(model, images[0], ["act"]) == before
    model.module.flag.fill_(False)
    assert fingerprint(model, images[0], ["act"]) != before


def test_probe_tells_the_sizes(net, images):
    found = probed(net, images[0], LAYERS)
    grams = extract_grams(net, images, LAYERS)
    assert found.layers == LAYERS
    assert found.n_units == tuple(grams[layer].n_units for layer in LAYERS)
    assert found.fingerprint == fingerprint(net, images[0], LAYERS)


def test_memory_is_told_beforehand():
    assert buffer_bytes(10, [100, 50]) == 6000
    assert buffer_bytes(10, [100, 50], max_buffer=4000) == 4000
    assert buffer_bytes(1000, [290_400]) == 0


# ---- features that wait ----------------------------------------------------------

CPU = torch.device("cpu")


def made_up(n_images, n_units, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(3, 2, (n_images, n_units)).astype(np.float32))


def filled(buffer, x, batch=4):
    for start in range(0, len(x), batch):
        buffer.write(start, x[start : start + batch])
    return buffer


@pytest.fixture(params=["memory", "file"])
def new_buffer(request):
    def make(n_images, n_units, dtype=torch.float32):
        if request.param == "memory":
            return FeatureBuffer(n_images, n_units, dtype, CPU)
        return SpilledBuffer(n_images, n_units, dtype)

    return make


@pytest.mark.parametrize("n_units", [1, 599, 600, 601, 2000])
@pytest.mark.parametrize("block", [4, 5, 256])
def test_gram_is_that_of_the_features(new_buffer, monkeypatch, n_units, block):
    monkeypatch.setattr(features, "_CHUNK_BYTES", 8 * 10 * 600)
    monkeypatch.setattr(features, "_BLOCK_ROWS", block)
    assert chunk_width(10) == 600
    x = made_up(10, n_units)
    gram, sums, standardized = gram_of(filled(new_buffer(10, n_units), x))
    wide = x.double().numpy()
    np.testing.assert_allclose(gram, wide @ wide.T, rtol=1e-13)
    np.testing.assert_allclose(sums, wide.sum(axis=1), rtol=1e-12)
    assert standardized is None
    assert gram.dtype == sums.dtype == np.float64
    assert np.array_equal(gram, gram.T)


def test_standardized_gram_is_that_of_z_scores(new_buffer):
    x = made_up(12, 700)
    x[:, 100:110] = 0.1  # constant, and not exact in binary
    x[:, 200] *= 1e-20
    wide = x.double().numpy()
    spread = wide.std(axis=0)
    spread[100:110] = np.inf
    z = (wide - wide.mean(axis=0)) / spread
    buffer = filled(new_buffer(12, 700), x)
    gram, _, standardized = gram_of(buffer, standardize=True)
    np.testing.assert_allclose(standardized, z @ z.T, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(gram, wide @ wide.T, rtol=1e-13)
    np.testing.assert_allclose(standardized.trace(), 12 * 690, rtol=1e-12)


def test_spilling_changes_no_bit():
    x = made_up(9, 1500)
    in_memory = gram_of(filled(FeatureBuffer(9, 1500, torch.float32, CPU), x, 9))
    in_file = gram_of(filled(SpilledBuffer(9, 1500, torch.float32), x, 2))
    for a, b in zip(in_memory[:2], in_file[:2], strict=True):
        assert np.array_equal(a, b)


def test_double_features_stay_double(new_buffer):
    x = made_up(5, 40).double() + 1e-12
    gram, _, _ = gram_of(filled(new_buffer(5, 40, torch.float64), x))
    np.testing.assert_allclose(gram, (x @ x.T).numpy(), rtol=1e-15)


def test_brief_floats_are_taken(new_buffer):
    x = made_up(5, 40).bfloat16()
    gram, _, _ = gram_of(filled(new_buffer(5, 40), x))
    np.testing.assert_allclose(gram, (x.double() @ x.double().T).numpy(), rtol=1e-13)


def test_file_has_no_name_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    buffer = filled(SpilledBuffer(4, 600, torch.float32), made_up(4, 600))
    assert os.listdir(tmp_path) == []
    buffer.close()
    with pytest.raises(ValueError, match="closed file"):
        list(buffer.chunks())
