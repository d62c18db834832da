"""Odd against even runs: NumPy, SciPy and the numbers of real data as oracles."""

import json
import logging

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr

from versa.fmri import reliability
from versa.fmri.ceilings import rdm_reliability
from versa.fmri.reliability import reliable_voxels, spearman_brown, voxel_reliability


@pytest.fixture
def halves():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(12, 40))
    return [signal + rng.normal(size=(12, 40)) for _ in range(2)]


def real_halves(shared, name):
    """Odd and even means of the two real data sets, and their known numbers."""
    if name == "miyawaki_v1_figures":
        folder = shared / "data" / name
        known = json.loads((folder / "expected.json").read_text())
        with np.load(folder / f"{name}.npz") as file:
            voxels, ids = file["voxels"].astype(float), file["image_id"]
        blocks = np.array([voxels[ids == i] for i in np.unique(ids)])
        odd, even = blocks[:, 0::2].mean(axis=1), blocks[:, 1::2].mean(axis=1)
        median = known["odd_even_voxel_reliability_median"]
        return odd, even, median, known["frac_rel_gt_0.3"], known["odd_even_RDM_r"]
    folder = shared / "data" / "haxby2001"
    known = json.loads((folder / "expected.json").read_text())["slice_brain"]
    with np.load(folder / "derivatives" / "betas_slice.npz") as file:
        betas = file["betas"].astype(float)
    odd, even = betas[0::2].mean(axis=0), betas[1::2].mean(axis=0)
    median = known["odd_even_reliability_median"]
    return odd, even, median, known["fraction_above_0.3"], known["odd_even_RDM_r"]


@pytest.mark.parametrize("name", ["miyawaki_v1_figures", "haxby2001"])
def test_numbers_of_real_data(shared, name):
    odd, even, median, fraction, rdm_r = real_halves(shared, name)
    r = voxel_reliability(odd, even)
    assert np.median(r) == pytest.approx(median, abs=1e-6)
    assert reliable_voxels(r, 0.3).mean() == pytest.approx(fraction, abs=1e-9)
    assert rdm_reliability(odd, even) == pytest.approx(rdm_r, abs=1e-6)


def test_voxels_by_scipy(halves):
    odd, even = halves
    expected = [pearsonr(*pair).statistic for pair in zip(odd.T, even.T, strict=True)]
    r = voxel_reliability(odd, even)
    np.testing.assert_allclose(r, expected, atol=1e-14)
    np.testing.assert_array_equal(voxel_reliability(even, odd), r)


def test_scale_offset_and_order_do_not_matter(halves):
    odd, even = halves
    r = voxel_reliability(odd, even)
    scale = np.logspace(-200, 200, 40)
    np.testing.assert_allclose(voxel_reliability(odd * scale, even), r, atol=1e-12)
    np.testing.assert_allclose(voxel_reliability(odd + 1e6, -even), -r, atol=1e-8)
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_allclose(
        voxel_reliability(odd[order], even[order]), r, atol=1e-14
    )


def test_chunks_change_nothing(halves, monkeypatch):
    whole = voxel_reliability(*halves)
    halves[0][3, 5] = np.nan
    whole[5] = np.nan
    monkeypatch.setattr(reliability, "_CHUNK", 7)
    np.testing.assert_allclose(voxel_reliability(*halves), whole, atol=1e-14)


def test_undefined_voxels_are_nan(halves):
    odd, even = halves
    expected = voxel_reliability(odd, even)
    odd[2, 0] = np.nan
    even[4, 1] = np.inf
    odd[:, 2] = 0.1
    even[:, 3] = 1e5 * (1 + 1e-16 * np.arange(12))
    odd[:, 4] = 0.0
    r = voxel_reliability(odd, even)
    assert np.isnan(r[:5]).all()
    np.testing.assert_allclose(r[5:], expected[5:], atol=1e-14)
    assert not reliable_voxels(np.append(r, 0.9), 0.8)[:5].any()


def test_integers_and_float32(halves):
    odd, even = ((100 * half).astype(np.int16) for half in halves)
    expected = voxel_reliability(odd.astype(float), even.astype(float))
    np.testing.assert_array_equal(voxel_reliability(odd, even), expected)
    short = voxel_reliability(odd.astype(np.float32), even.astype(np.float32))
    np.testing.assert_array_equal(short, expected)


def test_spearman_brown_restores_the_whole():
    # halves of signal and noise of one variance each: r = .5, the whole has 2 / 3
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    r = np.linspace(-0.9, 1, 20)
    once = spearman_brown(r, length=3)
    np.testing.assert_allclose(spearman_brown(once, length=1 / 3), r, atol=1e-12)
    assert np.isnan(spearman_brown([np.nan])).all()
    np.testing.assert_array_equal(spearman_brown(r, length=1), r)
    with pytest.raises(ValueError, match=r"length must be positive; got 0\."):
        spearman_brown(0.5, length=0)


def test_rdms_by_pdist(halves):
    odd, even = halves
    expected = np.corrcoef(pdist(odd, "correlation"), pdist(even, "correlation"))[0, 1]
    assert rdm_reliability(odd, even) == pytest.approx(expected, abs=1e-12)
    square = np.eye(4)  # every pair of images is equally far apart
    assert np.isnan(rdm_reliability(square, np.random.default_rng(0).random((4, 4))))


def test_few_reliable_voxels_are_reported(caplog):
    with caplog.at_level(logging.WARNING, logger="versa"):
        assert reliable_voxels(np.full(50, 0.31)).all()
        assert not caplog.records
        assert reliable_voxels([0.31, 0.3, -1]).tolist() == [True, False, False]
    assert "only 1 of 3 voxels have a reliability above 0.3" in caplog.text
    with pytest.raises(ValueError, match=r"than 0.9; the best of 2 has r = 0\.500"):
        reliable_voxels([0.5, np.nan], 0.9)
    for threshold in (1.2, "0.3", None):
        with pytest.raises(ValueError, match=f"to below 1; got {threshold!r}"):
            reliable_voxels([0.5], threshold)


def test_refuses(halves):
    odd, even = halves
    with pytest.raises(ValueError, match=r"of one shape; got \(12, 40\) and \(12, 39"):
        voxel_reliability(odd, even[:, :39])
    with pytest.raises(ValueError, match=r"at least 3 images, because .* got 2"):
        voxel_reliability(odd[:2], even[:2])
    odd[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"of the subject must be .* 1 of 40 voxels"):
        rdm_reliability(odd, even)
