"""Betas and maps of one subject in a dataset folder."""

import json

import nibabel
import numpy as np
import pytest

import versa
from tests.fmri.study.conftest import OLS
from tests.fmri.study.test_sectors import add, halves
from tests.scans import AFFINE, SHAPE, brain
from versa.fmri.betas.glm import fit_betas
from versa.fmri.betas.runs import find_runs
from versa.fmri.ceilings import rdm_reliability
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.reliability import voxel_reliability
from versa.fmri.study.betas import reliability_table
from versa.fmri.study.files import (
    read_betas,
    read_conditions,
    read_subject_grid,
    read_subject_map,
)
from versa.fmri.study.images import add_images


def test_what_is_kept_beside_the_betas(folder, bids):
    betas = read_betas(folder, "02")
    expected = fit_betas(
        find_runs(bids, "02"),
        "02",
        settings=OLS,
        mask=bids / "mask-02.nii.gz",
        space="individual",
    )
    assert betas.conditions == expected.conditions == read_conditions(folder, "02")
    np.testing.assert_array_equal(betas.mask, expected.mask)
    for part in ("values", "odd", "even", "activity"):
        np.testing.assert_allclose(
            getattr(betas, part), getattr(expected, part), rtol=1e-6
        )
    assert (betas.unit, betas.space) == ("% signal change", "individual")
    assert "GLM of 4 runs" in betas.source
    shape, affine, space = read_subject_grid(folder, "02")
    assert (shape, space) == (SHAPE, "individual")
    np.testing.assert_array_equal(affine, AFFINE)
    r = read_subject_map(folder, "02", "reliability_statmap")
    np.testing.assert_allclose(
        r[brain()], voxel_reliability(expected.odd, expected.even), atol=1e-6
    )
    assert np.isnan(r[~brain()]).all()
    assert read_subject_map(folder, "02", "nothing") is None
    table = reliability_table(folder).set_index("subject")
    assert table.loc["02", "median r"] == pytest.approx(np.median(r[brain()]))
    assert table.loc["02", "RDM r"] == pytest.approx(
        rdm_reliability(expected.odd, expected.even), abs=1e-5
    )


def rewrite(path, change):
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(image.get_fdata(), image.affine, image.header)
    change(image).to_filename(path)


def test_maps_are_brought_to_the_betas_and_never_shifted(folder):
    path = folder / "sub-01/func/sub-01_desc-reliability_statmap.nii.gz"
    before = read_subject_map(folder, "01", "reliability_statmap")
    rewrite(path, lambda image: image.as_reoriented([[0, -1], [2, 1], [1, 1]]))
    after = read_subject_map(folder, "01", "reliability_statmap")
    np.testing.assert_array_equal(after, before)
    rewrite(path, lambda image: image.slicer[:3])
    with pytest.raises(ValueError, match="must have its voxels where the data have"):
        read_subject_map(folder, "01", "reliability_statmap")
    sidecar = folder / "sub-01/func/sub-01_desc-oddbetas_stat.json"
    about = json.loads(sidecar.read_text())
    about["Conditions"].reverse()
    sidecar.write_text(json.dumps(about))
    with pytest.raises(ValueError, match="must have the Conditions of the betas"):
        read_betas(folder, "01")


def test_betas_whose_place_is_not_known_are_refused(folder, images):
    add_images(folder, images)
    add(folder, halves())
    path = folder / "sub-02/func/sub-02_desc-betas_stat.nii"

    def coded(code):
        def change(image):
            image.header.set_sform(image.affine, code)
            image.header.set_qform(image.affine, code)
            return nibabel.Nifti1Image(image.dataobj, None, image.header)

        return change

    rewrite(path, coded(4))
    for read in (versa.read_dataset, lambda one: read_subject_grid(one, "02")):
        with pytest.raises(ValueError, match="space individual; its header says MNI"):
            read(folder)
    assert any("its header says MNI152" in one.text for one in check_dataset(folder))
    rewrite(path, coded(0))
    with pytest.raises(ValueError, match="neither sform nor qform"):
        versa.read_dataset(folder)
    assert any("neither sform nor qform" in one.text for one in check_dataset(folder))
