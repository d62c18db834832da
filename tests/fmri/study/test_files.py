"""The files of a dataset folder: maps of reliability."""

import json

import nibabel
import numpy as np
import pytest

from versa.fmri.study.files import write_reliability

AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -99], [0, 0, 3, -41], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz"])
def test_a_map_is_read_by_nibabel(tmp_path, name):
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.7
    values = np.linspace(-1, 1, int(mask.sum()))
    values[3] = np.nan
    facts = {"Sources": ["a.nii"]}
    path = write_reliability(
        tmp_path / name, values, mask, AFFINE, "MNI152NLin6Asym", facts=facts
    )
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.float32
    assert image.header["sform_code"] == 4
    np.testing.assert_array_equal(image.affine, AFFINE)
    volume = image.get_fdata()
    assert np.isnan(volume[~mask]).all()
    np.testing.assert_array_equal(volume[mask], values.astype(np.float32))
    about = json.loads((tmp_path / "map.json").read_text())
    assert (about["Space"], about["Sources"]) == ("MNI152NLin6Asym", ["a.nii"])
    assert (about["Voxels"], about["UndefinedVoxels"]) == (values.size, 1)
    assert about["Median"] == pytest.approx(np.nanmedian(values))
    assert about["SpearmanBrown"] is False


def test_maps_are_refused_whole(tmp_path):
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(ValueError, match=r"called .nii or .nii.gz; got map.txt"):
        write_reliability(tmp_path / "map.txt", np.ones(8), mask, AFFINE, "TAL")
    with pytest.raises(ValueError, match=r"per voxel of the mask, 8; got \(7,\)"):
        write_reliability(tmp_path / "map.nii", np.ones(7), mask, AFFINE, "TAL")
    with pytest.raises(ValueError, match=r"mask must be boolean .* got float64"):
        write_reliability(tmp_path / "map.nii", np.ones(8), mask * 1.0, AFFINE, "TAL")
    with pytest.raises(ValueError, match=r"space must be TAL, .* got 'here'"):
        write_reliability(tmp_path / "map.nii", np.ones(8), mask, AFFINE, "here")
    for value in ({1}, np.float32(1), np.ones(2)):
        with pytest.raises(
            ValueError, match=r"what JSON can hold: .*; got 'Sources': "
        ):
            write_reliability(
                tmp_path / "map.nii",
                np.ones(8),
                mask,
                AFFINE,
                "TAL",
                facts={"Sources": value},
            )
    assert not list(tmp_path.iterdir())
