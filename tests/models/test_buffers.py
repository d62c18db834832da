"""Gram matrices in pieces, from memory and from a file."""

import os
import tempfile

import numpy as np
import pytest
import torch

from versa.models import buffers
from versa.models.buffers import FeatureBuffer, SpilledBuffer, chunk_width, grams_of

CPU = torch.device("cpu")


def features(n_images, n_units, seed=0):
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
    monkeypatch.setattr(buffers, "_CHUNK_BYTES", 8 * 10 * 600)
    monkeypatch.setattr(buffers, "_BLOCK_ROWS", block)
    assert chunk_width(10) == 600
    x = features(10, n_units)
    gram, sums, standardized = grams_of(filled(new_buffer(10, n_units), x))
    wide = x.double().numpy()
    np.testing.assert_allclose(gram, wide @ wide.T, rtol=1e-13)
    np.testing.assert_allclose(sums, wide.sum(axis=1), rtol=1e-12)
    assert standardized is None
    assert gram.dtype == sums.dtype == np.float64
    assert np.array_equal(gram, gram.T)


def test_standardized_gram_is_that_of_z_scores(new_buffer):
    x = features(12, 700)
    x[:, 100:110] = 0.1  # constant, and not exact in binary
    x[:, 200] *= 1e-20
    wide = x.double().numpy()
    spread = wide.std(axis=0)
    spread[100:110] = np.inf
    z = (wide - wide.mean(axis=0)) / spread
    buffer = filled(new_buffer(12, 700), x)
    gram, _, standardized = grams_of(buffer, standardize=True)
    np.testing.assert_allclose(standardized, z @ z.T, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(gram, wide @ wide.T, rtol=1e-13)
    np.testing.assert_allclose(standardized.trace(), 12 * 690, rtol=1e-12)


def test_spilling_changes_no_bit():
    x = features(9, 1500)
    in_memory = grams_of(filled(FeatureBuffer(9, 1500, torch.float32, CPU), x, 9))
    in_file = grams_of(filled(SpilledBuffer(9, 1500, torch.float32), x, 2))
    for a, b in zip(in_memory[:2], in_file[:2], strict=True):
        assert np.array_equal(a, b)


def test_double_features_stay_double(new_buffer):
    x = features(5, 40).double() + 1e-12
    gram, _, _ = grams_of(filled(new_buffer(5, 40, torch.float64), x))
    np.testing.assert_allclose(gram, (x @ x.T).numpy(), rtol=1e-15)


def test_brief_floats_are_taken(new_buffer):
    x = features(5, 40).bfloat16()
    gram, _, _ = grams_of(filled(new_buffer(5, 40), x))
    np.testing.assert_allclose(gram, (x.double() @ x.double().T).numpy(), rtol=1e-13)


def test_file_has_no_name_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    buffer = filled(SpilledBuffer(4, 600, torch.float32), features(4, 600))
    assert os.listdir(tmp_path) == []
    buffer.close()
    with pytest.raises(ValueError, match="closed file"):
        list(buffer.chunks())
