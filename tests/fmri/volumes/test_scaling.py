"""Labels and masks that nibabel stored as integers with a slope."""

import nibabel
import numpy as np
import pytest
from nibabel import cifti2

from versa.fmri.sectors.atlases import atlas_sector
from versa.fmri.volumes.nifti import read_mask
from versa.fmri.volumes.scaling import header_step, whole_labels
from versa.fmri.volumes.surface_files import read_cifti

SHAPE = (6, 7, 8)


def scaled(path, labels, dtype):
    """The labels in turn, written from floats into integers by nibabel."""
    truth = np.resize(np.array(labels, float), SHAPE)
    image = nibabel.Nifti1Image(truth, np.eye(4))
    image.set_data_dtype(dtype)
    image.to_filename(path)
    values = np.asanyarray(nibabel.load(path).dataobj)
    return truth, values


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 4],
        range(26),
        [-1, 0, 1],
        [5, 6, 7],
        [0, 1000, 1001, 1005],
        [0, 1021, 2021, 2035, 12175],
    ],
)
def test_scaled_labels_are_the_labels_or_the_slope_is_named(tmp_path, labels, dtype):
    path = tmp_path / "atlas.nii.gz"
    truth, values = scaled(path, labels, dtype)
    image = nibabel.load(path)
    step = header_step(image)
    if values.dtype.kind == "f" and step > 0.5:
        with pytest.raises(ValueError, match=f"by scl_slope = {step:.4g}. Choose"):
            whole_labels(values, "labels", step)
        return
    np.testing.assert_array_equal(whole_labels(values, "labels", step), truth)
    last = int(truth.max())
    for atlas in (path, image):
        found = atlas_sector(atlas, last, name="x", space="MNI152")
        np.testing.assert_array_equal(found.mask, truth == last)


def test_maps_are_no_labels_though_a_slope_scales_them(tmp_path):
    path = tmp_path / "map.nii.gz"
    _, values = scaled(path, np.linspace(0, 3, 50), "uint8")
    step = header_step(nibabel.load(path))
    with pytest.raises(ValueError, match=r"must be whole numbers; .* scl_slope = 0.01"):
        whole_labels(values, "labels", step)


@pytest.mark.parametrize("levels", [(0, 1), (-1, 0, 2), (0.25, 0, 3)])
def test_zero_of_a_scaled_mask_is_zero(tmp_path, levels):
    path = tmp_path / "mask.nii.gz"
    truth, _ = scaled(path, levels, "int16")
    if len(levels) > 2:
        with pytest.raises(ValueError, match="of 0 and one other value"):
            read_mask(path)
        return
    np.testing.assert_array_equal(read_mask(path)[0], truth != 0)


def test_zero_that_an_intercept_moved_is_zero(tmp_path):
    path = tmp_path / "mask.nii"
    stored = np.resize(np.array([-32768, 32767], np.int16), SHAPE)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(1 / 65535, 0.5)
    image.to_filename(path)
    raw = bytearray(path.read_bytes())
    raw[112:116] = np.float32(1 / 65535).tobytes()  # scl_slope
    raw[116:120] = np.float32(0.5000091).tobytes()  # scl_inter
    path.write_bytes(raw)
    values = np.asanyarray(nibabel.load(path).dataobj)
    assert 0 < np.abs(values).min() < 7e-6
    np.testing.assert_array_equal(read_mask(path)[0], stored > 0)


def test_scaled_labels_of_cifti(tmp_path):
    path = tmp_path / "a.dlabel.nii"
    models = cifti2.BrainModelAxis.from_surface(
        np.arange(9), 9, "CIFTI_STRUCTURE_CORTEX_LEFT"
    )
    table = {n: (f"area {n}", (0, 0, 0, 0)) for n in range(5)}
    header = (cifti2.LabelAxis(["areas"], [table]), models)
    labels = np.array([[0, 1, 2, 4, 1, 2, 4, 0, 3.0]])
    image = cifti2.Cifti2Image(labels, header=header)
    image.nifti_header.set_data_dtype(np.uint8)
    nibabel.save(image, path)
    stored = np.asanyarray(nibabel.load(path).dataobj)
    part = read_cifti(path).parts["left"][:, 0]
    np.testing.assert_array_equal(part, labels[0])
    assert stored.dtype.kind in "iuf"
