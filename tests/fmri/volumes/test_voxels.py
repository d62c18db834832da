"""Voxels of several images against nibabel: places in mm, scaling, voxels with data."""

import nibabel
import numpy as np
import pytest

from versa.fmri.volumes.voxels import gather_voxels, read_map, read_voxels

SHAPE = (5, 6, 7)
TURN = nibabel.eulerangles.euler2mat(0.1, -0.2, 0.3)
RAS = np.diag([2.0, 2, 3, 1])
RAS[:3, 3] = (-10, -60, 20)
OBLIQUE = RAS.copy()
OBLIQUE[:3, :3] = TURN @ RAS[:3, :3]


def save(path, values, affine=RAS, dtype=None):
    image = nibabel.Nifti1Image(values, affine)
    if dtype is not None:
        image.set_data_dtype(dtype)
    image.to_filename(path)
    return path


def turned(values, affine, axes):
    """The same image with its axes in another orientation, by nibabel."""
    image = nibabel.Nifti1Image(values, affine)
    own = nibabel.io_orientation(image.affine)
    wanted = nibabel.orientations.axcodes2ornt(axes)
    other = image.as_reoriented(nibabel.orientations.ornt_transform(own, wanted))
    return np.asarray(other.dataobj), other.affine


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(size=SHAPE)


@pytest.mark.parametrize("first", ["RAS", "LAS", "PIR"])
@pytest.mark.parametrize("affine", [RAS, OBLIQUE], ids=["straight", "oblique"])
def test_a_landmark_stays_where_it_is_in_the_head(tmp_path, volume, affine, first):
    volume[4, 1, 2] = 99.0
    place = nibabel.affines.apply_affine(affine, (4, 1, 2))
    paths = []
    for axes in (first, "RAS", "LAS", "ASL"):
        values, own = turned(volume, affine, axes)
        paths.append(save(tmp_path / f"{axes}{len(paths)}.nii", values, own))
    values, mask, own = read_voxels(paths)
    np.testing.assert_array_equal(values, np.broadcast_to(values[0], values.shape))
    index = np.argwhere(mask)[values[0].argmax()]
    found = nibabel.affines.apply_affine(own, index)
    np.testing.assert_allclose(found, place, atol=1e-4)
    np.testing.assert_allclose(own, nibabel.load(paths[0]).affine)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_values_are_those_of_nibabel_after_scaling(tmp_path, volume, dtype, ending):
    path = save(tmp_path / f"a{ending}", volume, dtype=dtype)
    values, mask, _ = read_voxels([path])
    oracle = nibabel.load(path).get_fdata()
    np.testing.assert_array_equal(values[0], oracle[mask])
    assert values.dtype == np.float64
    assert np.abs(values[0] - volume[mask]).max() < 1e-3


def test_voxels_without_data_are_left_out_group_by_group(tmp_path, volume):
    run = [volume.copy() for _ in range(4)]
    run[0][0, 0, 0] = np.nan  # outside SPM's brain mask
    run[1][1, 0, 0] = np.inf
    run[0][2, 0, 0] = run[1][2, 0, 0] = 0  # outside FEAT's mask of the first run
    run[0][3, 0, 0] = 0  # a beta that happens to be 0
    paths = [save(tmp_path / f"{n}.nii.gz", x) for n, x in enumerate(run)]
    _, mask, _ = read_voxels(paths, groups=[1, 1, 2, 2])
    assert mask[:5, 0, 0].tolist() == [False, False, False, True, True]
    assert mask.sum() == mask.size - 3
    _, mask, _ = read_voxels(paths)
    assert mask[:5, 0, 0].tolist() == [False, False, True, True, True]


def test_a_mask_chooses_voxels_in_any_orientation(tmp_path, volume, caplog):
    caplog.set_level("INFO", logger="versa")
    inside = volume > 0.5
    kept = inside.copy()
    volume[tuple(np.argwhere(inside)[0])] = np.nan
    kept[tuple(np.argwhere(inside)[0])] = False
    values, own = turned(inside.astype(np.uint8), RAS, "LPI")
    path = save(tmp_path / "mask.nii.gz", values, own)
    values, mask, _ = read_voxels([save(tmp_path / "a.nii", volume)], mask=path)
    np.testing.assert_array_equal(mask, kept)
    np.testing.assert_array_equal(values[0], volume[kept])
    assert f"1 of {inside.sum()} voxels of" in caplog.text


def test_other_grids_are_refused_unless_resampled(tmp_path, volume):
    shifted = RAS.copy()
    shifted[0, 3] += 1.0  # half a voxel
    first = save(tmp_path / "first.nii", volume)
    x = np.arange(5.0)[:, None, None] + np.zeros(SHAPE)  # linear in mm, so exact
    second = save(tmp_path / "second.nii", x, shifted)
    with pytest.raises(ValueError, match=r"second.nii must have its voxels where"):
        read_voxels([first, second])
    values, mask, _ = read_voxels([first, second], resample="linear")
    # the first voxel has no neighbour on its left: it is not made up
    assert not mask[0].any()
    assert mask[1:].all()
    np.testing.assert_allclose(values[1], (x - 0.5)[mask], atol=1e-5)


def test_interpolation_does_not_spread_nan_or_invent_values(tmp_path, volume):
    shifted = RAS.copy()
    shifted[1, 3] += 1.0
    volume[2, 3, 3] = np.nan
    first = save(tmp_path / "first.nii", np.ones(SHAPE))
    second = save(tmp_path / "second.nii", volume, shifted)
    values, mask, _ = read_voxels([first, second], resample="linear")
    gone = np.zeros(SHAPE, bool)
    gone[:, 0] = True
    gone[2, 3, 3] = gone[2, 4, 3] = True
    np.testing.assert_array_equal(mask, ~gone)
    halfway = (volume[:, :-1] + volume[:, 1:]) / 2
    np.testing.assert_allclose(values[1], halfway[mask[:, 1:]], atol=1e-5)


def test_what_does_not_fit_is_refused(tmp_path, volume):
    path = save(tmp_path / "a.nii", volume)
    four = save(tmp_path / "four.nii", np.stack([volume] * 4, axis=-1))
    with pytest.raises(ValueError, match=r"four.nii must be .* with 1 volume; got"):
        read_voxels([path, four])
    with pytest.raises(ValueError, match=r"with 5 volumes; got \(5, 6, 7, 4\)"):
        read_voxels([four], n_volumes=[5])
    with pytest.raises(ValueError, match=r"absent.nii must exist; it is missing"):
        read_voxels([tmp_path / "absent.nii"])
    with pytest.raises(ValueError, match="at least one image"):
        read_voxels([])
    empty = save(tmp_path / "empty.nii", np.zeros(SHAPE))
    with pytest.raises(ValueError, match="none of 210 is finite in all and not 0"):
        read_voxels([empty])
    nowhere = RAS * np.nan

    def broken():
        yield "here", 0, volume, nowhere

    with pytest.raises(ValueError, match="here must have an affine of finite numbers"):
        gather_voxels(broken)


def test_one_4d_image_is_read_volume_by_volume(tmp_path, volume):
    volumes = np.stack([volume, volume + 1, volume + 2], axis=-1)
    path = save(tmp_path / "four.nii.gz", volumes)
    values, mask, _ = read_voxels([path], n_volumes=[3])
    np.testing.assert_array_equal(values, volumes[mask].T)


def test_a_map_is_read_at_the_voxels(tmp_path, volume):
    mask = volume > 0
    values, own = turned(volume, RAS, "LAS")
    path = save(tmp_path / "t.nii.gz", values[..., None], own)
    np.testing.assert_array_equal(read_map(path, mask, RAS), volume[mask])
    four = save(tmp_path / "four.nii", np.stack([volume] * 4, axis=-1))
    with pytest.raises(ValueError, match=r"four.nii must be one volume"):
        read_map(four, mask, RAS)
