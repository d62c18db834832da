"""Volumes against nibabel: voxels in their places, values bit for bit."""

import bz2
import gzip
import os
import re
import zlib

import nibabel
import numpy as np
import pytest

from versa import untrusted
from versa.fmri.volumes.nifti import (
    fill_volumes,
    list_grid,
    mask_file,
    read_grid,
    read_image,
    read_mask,
    take_voxels,
    write_image,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_masks(rng, shape=(3, 4, 5)):
    flat = rng.permutation(60)
    first = np.isin(np.arange(60), flat[:10]).reshape(shape)
    second = np.isin(np.arange(60), flat[10:17]).reshape(shape)
    return first, second


@pytest.mark.parametrize("n_voxels", [1, 32767, 32768, 65535, 1_000_003])
def test_a_list_grid_holds_the_voxels_on_short_axes(n_voxels):
    shape = list_grid(n_voxels)
    assert max(shape) <= 32767
    assert 0 <= np.prod(shape) - n_voxels < shape[1]


def test_voxels_come_back_from_their_places(rng):
    masks = make_masks(rng)
    responses = [rng.normal(size=(6, mask.sum())) for mask in masks]
    volumes, conflicts = fill_volumes(masks, responses)
    assert conflicts == []
    assert volumes.shape == (3, 4, 5, 6)
    assert volumes.flags.f_contiguous
    for mask, values in zip(masks, responses, strict=True):
        np.testing.assert_array_equal(volumes[mask].T, values)
        np.testing.assert_array_equal(take_voxels(volumes, mask), values)
        in_c_order = np.ascontiguousarray(volumes)
        np.testing.assert_array_equal(take_voxels(in_c_order, mask), values)
    assert not volumes[~(masks[0] | masks[1])].any()


def bits(values):
    return np.ascontiguousarray(values).view(np.int64)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0.5, -0.0, np.nan, np.inf, -np.inf], np.float32),
        ([0.1, 1.0, 2.0, 3.0, 4.0], np.float64),
        ([1e300, 1.0, 2.0, 3.0, 4.0], np.float64),
        ([1e-300, 1.0, 2.0, 3.0, 4.0], np.float64),
        (np.array([0x7FF8000000000001], "i8").view("f8").repeat(5), np.float64),
    ],
)
def test_float32_is_used_where_it_keeps_every_bit(values, dtype):
    mask = np.ones((1, 1, 5), bool)
    rows = np.array([values, values], dtype=float)
    volumes, _ = fill_volumes([mask], [rows])
    assert volumes.dtype == dtype
    np.testing.assert_array_equal(bits(take_voxels(volumes, mask)), bits(rows))


def test_shared_voxels_must_agree(rng):
    mask = np.ones((1, 2, 3), bool)
    part = mask.copy()
    part[0, 0, 0] = False
    values = rng.normal(size=(4, 6))
    values[2, 3] = np.nan
    volumes, conflicts = fill_volumes([mask, part], [values, values[:, 1:]])
    assert conflicts == []
    np.testing.assert_array_equal(take_voxels(volumes, part), values[:, 1:])
    other = values[:, 1:].copy()
    other[1, [0, 3]] += 1
    assert fill_volumes([mask, part], [values, other])[1] == [(0, 1, 2)]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "affine",
    [
        np.diag([-2.0, 2, 2, 1]),  # left to the right
        np.diag([2.0, 2, 3, 1]),
        np.array([[0, -3, 0, 9], [2.0, 0, 0, 1], [0, 0.5, 4, 0], [0, 0, 0, 1]]),
    ],
)
def test_a_landmark_stays_where_it_was(tmp_path, rng, suffix, affine):
    path = tmp_path / f"betas{suffix}"
    volumes = rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    volumes[2, 0, 3, 1] = 77
    nibabel.Nifti1Image(volumes, affine).to_filename(path)
    values, found = read_image(path)
    np.testing.assert_array_equal(values, volumes)
    np.testing.assert_allclose(found, affine, atol=1e-6)
    write_image(tmp_path / "again.nii", values, found, "TAL")
    again = nibabel.load(tmp_path / "again.nii")
    assert again.dataobj[2, 0, 3, 1] == 77
    assert nibabel.aff2axcodes(again.affine) == nibabel.aff2axcodes(affine)
    assert again.get_data_dtype() == np.float32


@pytest.mark.parametrize(
    ("space", "code"),
    [("TAL", 3), ("MNI152NLin6Asym", 4), ("individual", 2), ("none", 2)],
)
def test_the_header_knows_the_space(tmp_path, space, code):
    write_image(tmp_path / "a.nii", np.ones((1, 2, 3), np.uint8), np.eye(4), space)
    assert nibabel.load(tmp_path / "a.nii").header["sform_code"] == code


def test_scaled_integers_are_read_after_scaling(tmp_path, rng):
    path = tmp_path / "betas.nii"
    image = nibabel.Nifti1Image(rng.normal(size=(3, 4, 5, 2)), np.eye(4))
    image.set_data_dtype(np.int16)
    image.to_filename(path)
    assert nibabel.load(path).header["scl_slope"] != 1
    values, _ = read_image(path)
    np.testing.assert_array_equal(values, nibabel.load(path).get_fdata())


def test_damaged_images_are_refused(tmp_path, rng):
    whole = tmp_path / "whole.nii"
    write_image(whole, rng.normal(size=(3, 4, 5, 6)), np.eye(4), "none")
    content = whole.read_bytes()
    packed = tmp_path / "whole.nii.gz"
    nibabel.load(whole).to_filename(packed)
    for name, data in {
        "cut.nii": content[:-100],
        "cut.nii.gz": packed.read_bytes()[:-100],
        "head.nii": content[:200],
        "empty.nii": b"",
        "text.nii": b"not an image" * 99,
        "text.nii.gz": b"not an image" * 99,
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"{name} must be a whole NIfTI image"):
            read_image(path)
    with pytest.raises(ValueError, match=r"gone.nii must exist; it is missing"):
        read_image(tmp_path / "gone.nii")
    nibabel.MGHImage(np.ones((2, 2, 2), np.float32), np.eye(4)).to_filename(
        tmp_path / "a.mgz"
    )
    with pytest.raises(ValueError, match=r"a.mgz must be .*it is a MGHImage"):
        read_image(tmp_path / "a.mgz")
    nibabel.Nifti1Image(np.ones((2, 2, 2), np.complex64), np.eye(4)).to_filename(whole)
    with pytest.raises(ValueError, match="must hold real numbers; got complex64"):
        read_image(whole)


@pytest.mark.parametrize("module", [gzip, bz2])
def test_every_wrong_bit_of_a_packed_image_is_refused(tmp_path, rng, module):
    plain = tmp_path / "a.nii"
    values = (rng.random((6, 7, 8)) > 0.5).astype(np.uint8)
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(plain)
    sound = module.compress(plain.read_bytes())
    path = tmp_path / f"a.nii.{'gz' if module is gzip else 'bz2'}"
    n_refused = 0
    for at in range(len(sound)):
        content = sound[:at] + bytes([sound[at] ^ 16]) + sound[at + 1 :]
        path.write_bytes(content)
        try:  # the oracle; bits of a date or of padding mean nothing
            whole = module.decompress(content) == plain.read_bytes()
        except (OSError, EOFError, ValueError, zlib.error):
            whole = False
        for read in (read_image, read_mask, read_grid):
            if whole:
                read(path)
                continue
            n_refused += 1
            with pytest.raises(ValueError, match=f"^{re.escape(str(path))} must be a"):
                read(path)
    assert n_refused > 3 * len(sound) * 0.9


def test_a_packed_image_is_unpacked_for_its_check_sum_once(tmp_path, monkeypatch):
    from versa import checksums

    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(np.ones((2, 3, 4)), np.eye(4)).to_filename(path)
    opened = []

    def counted(path):
        opened.append(path)
        return gzip.open(path)

    os.utime(path, (0, 0))
    monkeypatch.setattr(checksums, "_OPENERS", {b"\x1f\x8b\x08": counted})
    for _ in range(3):
        read_image(path)
        read_grid(path)
    assert len(opened) == 1
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))  # another state of the file
    for _ in range(2):
        with pytest.raises(ValueError, match="CRC check failed"):
            read_grid(path)
    assert len(opened) == 3


def test_masks_are_two_valued(tmp_path):
    path = tmp_path / "mask.nii"

    def write(values):
        write_image(path, values, np.eye(4), "none")

    mask = np.zeros((2, 3, 4))
    mask[1, 2, 3] = 255
    outside = np.where(mask > 0, mask, np.nan)
    for values in (mask, mask[..., None], outside):
        write(values)
        np.testing.assert_array_equal(read_mask(path)[0], mask > 0)
    for values, text in (
        (mask[..., None].repeat(2, 3), r"mask \(x, y, z\); got \(2, 3, 4, 2\)"),
        (mask * 0, "at least one voxel; all 24 are 0 or NaN"),
        (mask + np.arange(4), "one other value; got values from 1 to 258"),
        (np.where(mask, np.nan, 0), "at least one voxel; all 24 are 0 or NaN"),
    ):
        write(values)
        with pytest.raises(ValueError, match=text):
            read_mask(path)


def test_an_axis_beyond_nifti_1_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"at most 32767; a.nii would be \(32768, 1, 1"
    ):
        write_image(tmp_path / "a.nii", np.ones((32768, 1, 1)), np.eye(4), "none")


@pytest.mark.parametrize(
    ("threshold", "chosen"),
    [(":>0.5", [0.75, 1]), (":>=0.5", [0.5, 0.75, 1]), (": > .7", [0.75, 1])],
)
def test_masks_with_a_threshold(tmp_path, threshold, chosen):
    path = tmp_path / "mask.nii.gz"
    values = np.resize(
        np.array([0, 0.125, 0.5, 0.75, 1, np.nan], np.float32), (2, 3, 4)
    )
    write_image(path, values, np.eye(4), "none")
    np.testing.assert_array_equal(
        read_mask(f"{path}{threshold}")[0], np.isin(values, chosen)
    )
    assert mask_file(f"{path}{threshold}") == mask_file(path) == path
    with pytest.raises(ValueError, match=r"got values from 0.125 to 1. State a thres"):
        read_mask(path)
    with pytest.raises(ValueError, match=r"mask.nii.gz must have voxels from 2 on"):
        read_mask(f"{path}:>=2")
    with pytest.raises(ValueError, match=r"must be above 0, .*; got >=0"):
        read_mask(f"{path}:>=0")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_files_that_fill_the_memory_are_refused(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(untrusted, "_FREE", 10**5)
    ending = {gzip.compress: "gz", bz2.compress: "bz2"}[pack]
    path = tmp_path / f"a.nii.{ending}"
    plain = tmp_path / "a.nii"
    write_image(plain, np.zeros((100, 100, 200), np.uint8), np.eye(4), "none")
    path.write_bytes(pack(plain.read_bytes()))
    with pytest.raises(ValueError, match=r"must unpack to at most \d+ bytes"):
        read_image(path)


def test_a_stored_0_is_0(tmp_path):
    """Integers with an intercept keep "no data", 0, as about 1e-5."""
    path = tmp_path / "beta.nii.gz"
    truth = np.random.default_rng(0).normal(3, 1, (4, 5, 6))
    truth[2:] = 0
    truth[0, 0, 0] = -7.7
    image = nibabel.Nifti1Image(truth, np.eye(4))
    image.set_data_dtype(np.int16)
    image.to_filename(path)
    stored = nibabel.load(path)
    assert stored.dataobj.inter
    theirs = stored.get_fdata()
    assert (theirs[2:] != 0).all()
    ours, _ = read_image(path)
    np.testing.assert_array_equal(ours == 0, truth == 0)
    np.testing.assert_array_equal(ours[:2], theirs[:2])
