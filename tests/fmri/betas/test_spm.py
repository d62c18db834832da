"""Folders of SPM, with SPM.mat in both formats and without it."""

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from versa.fmri.betas.spm import read_spm

SHAPE = (3, 4, 5)
AFFINE = np.diag([-3.0, 3, 3, 1])
OPTIONS = {"subject": "01", "space": "individual"}
SESSION = [
    "house*bf(1)",
    "house*bf(2)",
    "house*bf(3)",
    "housexrating^1*bf(1)",
    "housexrating^1*bf(2)",
    "boxface*bf(1)",
    "boxface*bf(2)",
    "R1",
]
NAMES = [f"Sn({s}) {name}" for s in (1, 2, 3) for name in SESSION]
NAMES += [f"Sn({s}) constant" for s in (1, 2, 3)]


def write_betas(folder, names, ending=".nii"):
    """One image per regressor: NaN outside the brain, and its number inside."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    made = {}
    for number, name in enumerate(names, start=1):
        values = rng.normal(size=SHAPE).astype(np.float32)
        values[0] = np.nan
        image = nibabel.Nifti1Image(values, AFFINE)
        text = f"spm_spm:beta ({number:04d}) - {name}"
        image.header["descrip"] = text.encode()[:79]
        image.to_filename(folder / f"beta_{number:04d}{ending}")
        made[name] = values[1:].ravel()
    return made


def write_spm_mat(folder, names, basis="hrf (with time and dispersion derivatives)"):
    cells = np.array(names, dtype=object).reshape(1, -1)
    content = {"SPM": {"xX": {"name": cells}, "xBF": {"name": basis}, "nscan": 100}}
    scipy.io.savemat(folder / "SPM.mat", content)


def write_spm_mat_73(folder, names, basis="hrf"):
    def characters(text):
        return np.array([[ord(letter)] for letter in text], dtype=np.uint16)

    with h5py.File(folder / "SPM.mat", "w", userblock_size=512) as file:
        file["SPM/xBF/name"] = characters(basis)
        for row, name in enumerate(names):
            file[f"#refs#/{row}"] = characters(name)
        refs = [[file[f"#refs#/{row}"].ref] for row in range(len(names))]
        file.create_dataset("SPM/xX/name", data=refs, dtype=h5py.ref_dtype)


@pytest.fixture(params=["headers", "SPM.mat", "SPM.mat 7.3"])
def folder(request, tmp_path):
    if request.param == "SPM.mat":
        write_spm_mat(tmp_path, NAMES)
    elif request.param == "SPM.mat 7.3":
        write_spm_mat_73(tmp_path, NAMES)
    return tmp_path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_sessions_are_averaged(folder, ending, caplog):
    caplog.set_level("INFO", logger="versa")
    made = write_betas(folder, NAMES, ending)
    betas = read_spm(folder, **OPTIONS)
    assert betas.conditions == ("house", "boxface")
    assert "the parametric modulators housexrating^1 are left out" in caplog.text
    assert betas.n_voxels == 2 * 4 * 5
    for row, name in enumerate(betas.conditions):
        own = [made[f"Sn({s}) {name}*bf(1)"] for s in (1, 2, 3)]
        np.testing.assert_allclose(betas.values[row], np.mean(own, 0, dtype=float))
        odd = np.mean([own[0], own[2]], axis=0, dtype=float)
        np.testing.assert_allclose(betas.odd[row], odd)
        np.testing.assert_array_equal(betas.even[row], own[1])
    np.testing.assert_array_equal(betas.affine, AFFINE)


def test_conditions_mask_and_activity_are_chosen(tmp_path):
    made = write_betas(tmp_path, NAMES)
    t = tmp_path / "spmT_0001.nii"
    nibabel.Nifti1Image(np.arange(60.0).reshape(SHAPE), AFFINE).to_filename(t)
    inside = np.zeros(SHAPE, np.uint8)
    inside[1, 2, 3] = inside[2, 0, 0] = 1
    mask = tmp_path / "roi.nii"
    nibabel.Nifti1Image(inside, AFFINE).to_filename(mask)
    betas = read_spm(
        tmp_path, conditions=["boxface"], mask=mask, activity=t, halves=None, **OPTIONS
    )
    assert betas.conditions == ("boxface",)
    assert betas.odd is None
    assert betas.activity.tolist() == [33.0, 40.0]
    own = [made[f"Sn({s}) boxface*bf(1)"] for s in (1, 2, 3)]
    places = np.flatnonzero(inside[1:])
    np.testing.assert_allclose(betas.values[0], np.mean(own, 0, dtype=float)[places])


def test_one_session_has_no_halves(tmp_path):
    write_betas(tmp_path, [n for n in NAMES if n.startswith("Sn(1)")])
    assert read_spm(tmp_path, **OPTIONS).odd is None


def test_names_with_x_and_a_caret_are_modulators_only_of_a_condition(tmp_path):
    write_betas(tmp_path, ["Sn(1) foxy^2*bf(1)", "Sn(1) box*bf(1)"])
    betas = read_spm(tmp_path, **OPTIONS)
    assert betas.conditions == ("foxy^2", "box")


def test_names_that_the_header_cuts_need_spm_mat(tmp_path):
    long = "Sn(1) a_condition_with_a_name_that_is_longer_than_a_header*bf(1)"
    names = [long, long.replace("bf(1)", "bf(2)")]
    made = write_betas(tmp_path, names)
    with pytest.raises(
        ValueError, match=r"beta_0001.nii must say .*, which is cut. Put SPM.mat beside"
    ):
        read_spm(tmp_path, **OPTIONS)
    write_spm_mat(tmp_path, names)
    betas = read_spm(tmp_path, **OPTIONS)
    np.testing.assert_array_equal(betas.values[0], made[long])
    just = "Sn(1) " + "n" * (79 - 22 - 6 - 6) + "*bf(1)"  # 79 bytes in all
    whole = tmp_path / "whole"
    write_betas(whole, [just])
    assert read_spm(whole, **OPTIONS).n_conditions == 1


def test_images_without_names_are_refused(tmp_path):
    write_betas(tmp_path, NAMES[:2])
    path = tmp_path / "beta_0002.nii"
    nibabel.Nifti1Image(np.ones(SHAPE), AFFINE).to_filename(path)
    with pytest.raises(ValueError, match=r"beta_0002.nii must say .*; got ''. Put SPM"):
        read_spm(tmp_path, **OPTIONS)


def test_spm_mat_of_another_model_is_refused(folder):
    write_betas(folder, NAMES)
    write_spm_mat(folder, [NAMES[5], *NAMES[1:5], NAMES[0], *NAMES[6:]])
    with pytest.raises(
        ValueError, match=r"beta_0001.nii must be of the model in .*'Sn\(1\) boxface"
    ):
        read_spm(folder, **OPTIONS)


def test_models_without_an_amplitude_are_refused(tmp_path):
    fir = [f"Sn(1) house*bf({n})" for n in range(1, 9)]
    write_betas(tmp_path, fir)
    with pytest.raises(ValueError, match="it has 8 functions per condition"):
        read_spm(tmp_path, **OPTIONS)
    write_spm_mat(tmp_path, fir[:2], "Fourier set")
    with pytest.raises(ValueError, match=r"\(hrf\) as basis function; got 'Fourier"):
        read_spm(tmp_path, **OPTIONS)


def test_interactions_of_volterra_are_no_conditions(tmp_path):
    names = ["Sn(1) a*bf(1)", "Sn(1) a*bf(1)xa*bf(1)", "Sn(1) constant"]
    write_betas(tmp_path, names)
    assert read_spm(tmp_path, **OPTIONS).conditions == ("a",)


def test_folders_that_are_not_complete_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"absent must be a folder of SPM"):
        read_spm(tmp_path / "absent", **OPTIONS)
    with pytest.raises(
        ValueError, match=r"must have images beta_0001.nii, ...; got none"
    ):
        read_spm(tmp_path, **OPTIONS)
    (tmp_path / "beta_0001.img").touch()
    with pytest.raises(
        ValueError, match=r"got none; those in .img and .hdr must be con"
    ):
        read_spm(tmp_path, **OPTIONS)
    write_betas(tmp_path, NAMES)
    write_spm_mat(tmp_path, NAMES)
    (tmp_path / "beta_0009.nii").unlink()
    with pytest.raises(
        ValueError, match="an image of each condition; beta_0009 missing"
    ):
        read_spm(tmp_path, **OPTIONS)
    write_betas(tmp_path, NAMES[:1], ".nii.gz")
    with pytest.raises(
        ValueError, match=r"got both beta_0001.nii and beta_0001.nii.gz"
    ):
        read_spm(tmp_path, **OPTIONS)
    nuisance = tmp_path / "nuisance"
    write_betas(nuisance, ["Sn(1) R1", "Sn(1) constant"])
    with pytest.raises(
        ValueError, match=r"regressors of conditions, .*; got Sn\(1\) R1"
    ):
        read_spm(nuisance, **OPTIONS)


def test_a_condition_that_a_half_lacks_is_named(tmp_path):
    names = ["Sn(1) a*bf(1)", "Sn(1) b*bf(1)", "Sn(2) a*bf(1)"]
    made = write_betas(tmp_path, names)
    with pytest.raises(ValueError, match=r"the even half must have .*; b is missing"):
        read_spm(tmp_path, **OPTIONS)
    betas = read_spm(tmp_path, halves=None, **OPTIONS)
    np.testing.assert_array_equal(betas.values[1], made[names[1]])


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n\x1a\n"])
def test_a_damaged_spm_mat_is_refused(tmp_path, content):
    write_betas(tmp_path, NAMES)
    (tmp_path / "SPM.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"SPM.mat must be an SPM.mat of an estimated"):
        read_spm(tmp_path, **OPTIONS)


def test_a_session_that_was_not_estimated_is_left_out(tmp_path, caplog):
    made = write_betas(tmp_path, NAMES)
    for number, name in enumerate(NAMES, start=1):
        if name.startswith("Sn(2)"):
            image = nibabel.load(tmp_path / f"beta_{number:04d}.nii")
            empty = np.full(SHAPE, np.nan, np.float32)
            again = nibabel.Nifti1Image(empty, AFFINE, image.header)
            again.to_filename(tmp_path / f"beta_{number:04d}.nii")
    betas = read_spm(tmp_path, **OPTIONS)
    for row, name in enumerate(betas.conditions):
        own = [made[f"Sn({s}) {name}*bf(1)"] for s in (1, 3)]
        np.testing.assert_allclose(betas.values[row], np.mean(own, 0, dtype=float))
    assert "'house' of run 2 (beta_0009.nii)" in caplog.text
