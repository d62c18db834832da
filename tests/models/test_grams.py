"""What is remembered of a network, and what makes it pass an image again."""

import functools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from versa.cache import ArrayStore
from versa.models import grams, images
from versa.models.architectures import L2Norm
from versa.models.features import ForwardOptions
from versa.models.grams import cached_grams
from versa.models.hashes import code_digest
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.networks import build_seeded

PREPROCESS = Preprocess(16, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class Own(nn.Sequential):
    """A class of the user: nobody knows what its forward pass will do tomorrow."""


@dataclass(frozen=True)
class Files:
    paths: tuple
    names: tuple
    hashes: tuple


def library_network():
    return build_seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), L2Norm()
        ),
        0,
    )


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for k in range(5):
        paths.append(tmp_path / f"im{k}.png")
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
            paths[-1]
        )
    hashes = tuple(images.file_hash(path) for path in paths)
    return Files(tuple(paths), tuple(path.stem for path in paths), hashes)


@pytest.fixture
def passes(monkeypatch):
    """How often an image passed through a network to tell it from others."""
    made = []

    def counted(*arguments, **options):
        made.append(arguments)
        return probe(*arguments, **options)

    probe = grams.probe
    monkeypatch.setattr(grams, "probe", counted)
    return made


def run(module, files, store, layers=("0", "3"), preprocess=PREPROCESS, **options):
    model = VisionModel("net", module, preprocess, ("0",))
    return cached_grams(model, layers, files, store, ForwardOptions(**options))


def test_from_the_store_nothing_passes_and_files_are_read_once(
    files, tmp_path, passes, monkeypatch
):
    store = ArrayStore(tmp_path / "store")
    first = run(library_network(), files, store)
    assert len(passes) == 1
    reads = Counter()
    file_hash = images.file_hash

    def counted(path):
        reads[path] += 1
        return file_hash(path)

    monkeypatch.setattr(images, "file_hash", counted)
    monkeypatch.setattr(images, "_look", None)  # decodes
    monkeypatch.setattr(grams, "grams_of_inputs", None)
    again = run(library_network(), files, store)
    assert len(passes) == 1
    assert reads == Counter(files.paths)
    assert again.fingerprint == first.fingerprint
    for layer, gram in first.layers.items():
        np.testing.assert_array_equal(again.layers[layer].gram, gram.gram)
        assert again.layers[layer].n_units == gram.n_units


def weights(module):
    with torch.no_grad():
        module[0].weight[0] += 1


def attribute(module):
    module[0].stride = (2, 2)


def unseen_attribute(module):
    module[3].gain = 2.0  # neither in the state dict nor in the representation


def hook(module):
    module[0].register_forward_hook(lambda _module, _inputs, output: 2 * output)


def function_of_the_user(module):
    module[0].forward = lambda x: nn.functional.conv2d(x, module[0].weight) * 2


@pytest.mark.parametrize(
    "change", [weights, attribute, unseen_attribute, hook, function_of_the_user]
)
def test_every_change_makes_an_image_pass(files, tmp_path, passes, change):
    store = ArrayStore(tmp_path / "store")
    run(library_network(), files, store)
    changed = library_network()
    change(changed)
    found = run(changed, files, store)
    assert len(passes) == 2
    fresh = run(changed, files, None)
    assert found.fingerprint == fresh.fingerprint
    for layer, gram in fresh.layers.items():
        np.testing.assert_array_equal(found.layers[layer].gram, gram.gram)


def test_a_class_of_the_user_passes_every_time(files, tmp_path, passes, monkeypatch):
    store = ArrayStore(tmp_path / "store")
    layer = nn.Conv2d(3, 4, 3)
    run(Own(layer), files, store, ["0"])
    run(Own(layer), files, store, ["0"])
    assert len(passes) == 2
    monkeypatch.setattr(Own, "forward", lambda self, x: self[0](-x))
    turned = run(Own(layer), files, store, ["0"])
    fresh = run(Own(layer), files, None, ["0"])
    np.testing.assert_array_equal(turned.layers["0"].gram, fresh.layers["0"].gram)


@pytest.mark.parametrize("layer_list", [["0"], ["3", "0"], "leaf", None])
def test_other_requests_are_other_entries(files, tmp_path, passes, layer_list):
    store = ArrayStore(tmp_path / "store")
    run(library_network(), files, store)
    for _ in range(2):
        found = run(library_network(), files, store, layer_list)
        assert len(passes) == 2
    fresh = run(library_network(), files, None, layer_list)
    assert tuple(found.layers) == tuple(fresh.layers)
    assert found.fingerprint == fresh.fingerprint


def test_changed_and_lost_files_are_refused(files, tmp_path):
    store = ArrayStore(tmp_path / "store")
    run(library_network(), files, store)
    Image.new("RGB", (16, 16)).save(files.paths[2])
    for where in (store, None):
        with pytest.raises(ValueError, match=r"changed since: im2 \(.*Load the"):
            run(library_network(), files, where)
    files.paths[2].unlink()
    with pytest.raises(ValueError, match=r"must exist; missing: im2 \("):
        run(library_network(), files, store)


def test_what_code_can_be_told():
    assert code_digest(library_network()) == code_digest(library_network())
    assert code_digest(Own()) is None
    assert code_digest(nn.Sequential(Own())) is None
    plain = nn.ReLU()
    values = [1, "a", (None, 2.5), {"k": {3, 4}}, torch.float16, nn.ReLU]
    values += [functools.partial(nn.ReLU, inplace=True), torch.zeros(2)]
    told = set()
    for value in values:
        plain.extra = value
        told.add(code_digest(plain))
    assert None not in told
    assert len(told) == len(values)
    for value in (lambda x: x, object(), Own, np.zeros(1)):
        plain.extra = value
        assert code_digest(plain) is None


def test_a_replaced_method_of_a_library_is_seen(monkeypatch):
    before = code_digest(library_network())
    monkeypatch.setattr(L2Norm, "forward", nn.Identity.forward)
    assert code_digest(library_network()) not in (before, None)
    monkeypatch.setattr(L2Norm, "forward", lambda self, x: x)
    assert code_digest(library_network()) is None
