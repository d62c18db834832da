"""FEAT folders: contrasts by name, parameter estimates by title, runs on one grid."""

import nibabel
import numpy as np
import pytest

from versa.fmri.betas.fsl import read_feat

SHAPE = (3, 4, 5)
AFFINE = np.diag([-3.0, 3, 3, 1])
OPTIONS = {"subject": "01", "space": "MNI152NLin6Asym"}
# name -> weights of the real variables: face, its derivative, house, its derivative
CONTRASTS = {
    "house": [0, 0, 1, 0],
    "face > house": [1, 0, -1, 0],
    "face": [1, 0, 0, 0],
    "all": [0.5, 0, 0.5, 0],
    "not face": [-1, 0, 0, 0],
}


def write_feat(folder, seed, *, contrasts=CONTRASTS, affine=AFFINE, empty=0):
    stats = folder / "stats"
    stats.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = [f"/ContrastName{n}\t{name}" for n, name in enumerate(contrasts, start=1)]
    lines += ["/NumWaves\t4", f"/NumContrasts\t{len(contrasts)}", "/PPheights\t1 1", ""]
    lines += ["/Matrix", *(" ".join(map(str, row)) for row in contrasts.values()), ""]
    (folder / "design.con").write_text("\n".join(lines))
    made = {}
    names = [f"cope{n}" for n in range(1, len(contrasts) + 1)]
    names += [f"pe{n}" for n in range(1, 6)]
    for name in names:
        values = rng.normal(size=SHAPE).astype(np.float32)
        values[0] = 0  # outside FEAT's mask
        values[1, 0, :empty] = 0
        made[name] = values
        image = nibabel.Nifti1Image(values, affine)
        image.to_filename(stats / f"{name}.nii.gz")
    return made


def write_fsf(folder, evs, n_real):
    """`evs`: title -> (shape, convolution, derivative)."""
    lines = ["# FEAT version number", "set fmri(version) 6.00", ""]
    lines += [f"set fmri(evs_orig) {len(evs)}", f"set fmri(evs_real) {n_real}"]
    for row, (title, (shape, convolve, derivative)) in enumerate(evs.items(), start=1):
        lines += [
            f"# EV {row} title",
            f'set fmri(evtitle{row}) "{title}"',
            f"set fmri(shape{row}) {shape}",
            f"set fmri(convolve{row}) {convolve}",
            f"set fmri(deriv_yn{row}) {derivative}",
        ]
    (folder / "design.fsf").write_text("\n".join(lines) + "\n")


@pytest.fixture
def runs(tmp_path):
    folders = [tmp_path / f"run{n}.feat" for n in (1, 2, 3)]
    return folders, [write_feat(path, n) for n, path in enumerate(folders)]


def test_contrasts_of_single_conditions_are_averaged_over_runs(runs, caplog):
    caplog.set_level("INFO", logger="versa")
    folders, made = runs
    betas = read_feat(folders, **OPTIONS)
    assert betas.conditions == ("house", "face")
    assert "face > house, all, not face stand for no single condition" in caplog.text
    inside = np.ones(SHAPE, bool)
    inside[0] = False
    np.testing.assert_array_equal(betas.mask, inside)
    for row, cope in enumerate(("cope1", "cope3")):
        own = np.stack([run[cope][inside] for run in made]).astype(float)
        np.testing.assert_allclose(betas.values[row], own.mean(axis=0))
        np.testing.assert_allclose(betas.odd[row], own[[0, 2]].mean(axis=0))
        np.testing.assert_array_equal(betas.even[row], own[1])


def test_contrasts_that_are_named_are_taken(runs):
    folders, made = runs
    betas = read_feat(str(folders[0]), conditions=["all", "house"], **OPTIONS)
    assert betas.odd is None
    np.testing.assert_array_equal(betas.values[0], made[0]["cope4"][betas.mask])
    with pytest.raises(
        ValueError,
        match=r"run1.feat: condition must be among house, .*; got 'hause'. Did",
    ):
        read_feat(folders, conditions=["hause"], **OPTIONS)


def test_a_voxel_without_data_in_one_run_is_left_out(tmp_path):
    write_feat(tmp_path / "a.feat", 0)
    write_feat(tmp_path / "b.feat", 1, empty=2)
    betas = read_feat([tmp_path / "a.feat", tmp_path / "b.feat"], **OPTIONS)
    assert betas.mask[1, 0].tolist() == [False, False, True, True, True]


def test_contrasts_are_matched_by_name_between_runs(tmp_path):
    first = write_feat(tmp_path / "a.feat", 0)
    turned = dict(reversed(CONTRASTS.items()))
    second = write_feat(tmp_path / "b.feat", 1, contrasts=turned)
    betas = read_feat([tmp_path / "a.feat", tmp_path / "b.feat"], **OPTIONS)
    assert betas.conditions == ("house", "face")
    np.testing.assert_array_equal(betas.odd[0], first["cope1"][betas.mask])
    np.testing.assert_array_equal(betas.even[0], second["cope5"][betas.mask])


def test_parameter_estimates_are_named_by_their_variables(runs, caplog):
    caplog.set_level("INFO", logger="versa")
    folders, made = runs
    evs = {"face": (3, 3, 1), "empty": (10, 0, 0), "house": (3, 3, 1)}
    for folder in folders:
        write_fsf(folder, evs, 5)
    betas = read_feat(folders, maps="pe", **OPTIONS)
    assert betas.conditions == ("face", "house")
    assert "empty stand for no single condition" in caplog.text
    for row, name in enumerate(("pe1", "pe4")):  # pe2 and pe5 are derivatives
        np.testing.assert_array_equal(betas.even[row], made[1][name][betas.mask])
    write_fsf(folders[0], evs, 4)
    with pytest.raises(ValueError, match=r"must have 4 real variables, .* make 5"):
        read_feat(folders, maps="pe", **OPTIONS)
    write_fsf(folders[0], {"face": (3, 6, 0)}, 8)
    with pytest.raises(ValueError, match="face has a set of basis functions"):
        read_feat(folders, maps="pe", **OPTIONS)
    (folders[0] / "design.fsf").write_text("set fmri(evs_orig) 1\n")
    with pytest.raises(ValueError, match=r"design.fsf must set fmri\(evtitle1\)"):
        read_feat(folders, maps="pe", **OPTIONS)
    with pytest.raises(ValueError, match="maps must be among cope, pe; got 'zstat'"):
        read_feat(folders, maps="zstat", **OPTIONS)


def test_runs_must_share_a_grid(tmp_path):
    moved = AFFINE.copy()
    moved[1, 3] += 3.0
    write_feat(tmp_path / "a.feat", 0)
    write_feat(tmp_path / "b.feat", 1, affine=moved)
    folders = [tmp_path / "a.feat", tmp_path / "b.feat"]
    with pytest.raises(ValueError, match=r"cope1.nii.gz must have its voxels where"):
        read_feat(folders, **OPTIONS)
    betas = read_feat(folders, resample="nearest", **OPTIONS)
    assert not betas.mask[:, 0].any()


def test_a_registration_that_is_not_applied_is_reported(runs, caplog):
    folders, _ = runs
    matrix = folders[0] / "reg" / "example_func2standard.mat"
    matrix.parent.mkdir()
    np.savetxt(matrix, np.eye(4))
    read_feat(folders, **OPTIONS)
    turned = np.eye(4)
    turned[0, 1] = 1e-5  # far below a hundredth of a voxel at every corner
    np.savetxt(matrix, turned)
    read_feat(folders, **OPTIONS)
    assert "registration" not in caplog.text
    np.savetxt(matrix, np.diag([1.1, 1, 1, 1]))
    read_feat(folders[:1], subject="01", space="individual")
    assert "registration" not in caplog.text
    read_feat(folders[:1], **OPTIONS)
    assert "run1.feat has a registration, reg/example_func2standard.mat" in caplog.text
    matrix.write_text("1 0 0 zero")
    with pytest.raises(ValueError, match=r"2standard.mat must be a matrix of FLIRT; "):
        read_feat(folders, **OPTIONS)


def test_folders_that_are_not_complete_are_refused(tmp_path, runs):
    folders, _ = runs
    with pytest.raises(ValueError, match=r"different .feat folders, one per run"):
        read_feat([folders[0], folders[0]], **OPTIONS)
    with pytest.raises(ValueError, match=r"one per run; got none"):
        read_feat([], **OPTIONS)
    higher = tmp_path / "group.gfeat" / "cope1.feat"
    with pytest.raises(ValueError, match=r"of a higher level. Pass the folders of its"):
        read_feat(higher, **OPTIONS)
    with pytest.raises(ValueError, match=r"design.con must exist; it is missing"):
        read_feat(tmp_path / "absent.feat", **OPTIONS)
    (folders[1] / "stats" / "cope3.nii.gz").unlink()
    with pytest.raises(
        ValueError, match=r"stats must have cope3.nii.gz; it is missing"
    ):
        read_feat(folders, **OPTIONS)
    design = folders[0] / "design.con"
    text = design.read_text()
    design.write_text(text[: text.index("/Matrix")])
    with pytest.raises(ValueError, match=r"a row of numbers .* 5 names and 0 rows"):
        read_feat(folders, **OPTIONS)
    design.write_text(text.replace("all", "face"))
    with pytest.raises(ValueError, match="must be unique; repeated: 'face'"):
        read_feat(folders, **OPTIONS)
    difference = write_feat(tmp_path / "d.feat", 0, contrasts={"a > b": [1, 0, -1, 0]})
    assert "cope1" in difference
    with pytest.raises(
        ValueError, match=r"must have a contrast per condition, .* a > b"
    ):
        read_feat(tmp_path / "d.feat", **OPTIONS)


@pytest.mark.parametrize("nothing", [0.0, np.nan])
@pytest.mark.parametrize("maps", ["cope", "pe"])
def test_an_empty_variable_is_no_response_of_0(runs, caplog, nothing, maps):
    folders, made = runs
    for folder in folders:
        write_fsf(folder, {"face": (3, 3, 1), "house": (3, 3, 1)}, 4)
    name = {"cope": "cope1", "pe": "pe3"}[maps]  # house
    image = nibabel.Nifti1Image(np.full(SHAPE, nothing, np.float32), AFFINE)
    image.to_filename(folders[1] / "stats" / f"{name}.nii.gz")
    betas = read_feat(folders, maps=maps, halves=None, **OPTIONS)
    row = betas.conditions.index("house")
    inside = np.ones(SHAPE, bool)
    inside[0] = False
    own = [made[run][name][inside].astype(float) for run in (0, 2)]
    np.testing.assert_allclose(betas.values[row], np.mean(own, axis=0))
    assert f"'house' of run 2 ({name}.nii.gz)" in caplog.text
    assert "run 2 lacks house; their betas are means over the other" in caplog.text
    with pytest.raises(
        ValueError, match="the even half must have every condition; hou"
    ):
        read_feat(folders, maps=maps, **OPTIONS)
    for folder in folders:
        image.to_filename(folder / "stats" / f"{name}.nii.gz")
    with pytest.raises(ValueError, match=r"'house' has none: its images are 0 or NaN"):
        read_feat(folders, maps=maps, **OPTIONS)


def test_runs_in_the_order_of_texts_are_pointed_out(tmp_path, caplog):
    folders = [tmp_path / f"run{n}.feat" for n in (1, 2, 10)]
    for seed, folder in enumerate(folders):
        write_feat(folder, seed)
    read_feat(folders, **OPTIONS)
    assert "order" not in caplog.text
    read_feat([folders[0], folders[2], folders[1]], **OPTIONS)
    assert "their names as texts: run1.feat, run10.feat, run2.feat" in caplog.text
