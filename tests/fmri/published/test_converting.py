"""Archives of three kinds become datasets bit for bit; wrong mappings are refused."""

import logging
import os
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from nibabel import Nifti1Image
from PIL import Image

from tests.archives import (
    BV_START,
    COUNTS,
    NAMES,
    SECTORS,
    SUBJECTS,
    array_archive,
    brainvoyager_archive,
    bv_maps,
    bv_places,
    cells,
    known_betas,
    matlab_archive,
    table_archive,
    write_images,
)
from versa.fmri.published.converting import convert
from versa.fmri.published.layout import Layout
from versa.fmri.published.naming import check_order

SAME = {sector: sector for sector in SECTORS}
COMMON = {
    "name": "known",
    "sectors": SAME,
    "n_conditions": 6,
    "images_file": "stimuli/{condition}.png",
    "confirmed": True,
}
MATLAB = Layout(
    **COMMON,
    subjects=["01", "02", "03"],
    responses_file="SECTORS.mat",
    responses_key="SECTORS.Betas.{sector}[{index}]",
    axes="voxels, conditions",
    conditions_file="SECTORS.mat",
    conditions_key="SECTORS.conditions",
)
TABLES = Layout(
    **COMMON,
    subjects=SUBJECTS,
    responses_file="betas/{subject}/{sector}.csv",
    axes="conditions, voxels",
    header=True,
    label_column="condition",
    conditions_file="betas/{subject}/{sector}.csv",
    conditions_column="condition",
)
ARRAYS = Layout(
    **COMMON,
    subjects=SUBJECTS,
    responses_file="{subject}_{sector}.npy",
    axes="voxels, conditions",
    conditions_file="conditions.txt",
)
VOLUMES = Layout(
    **COMMON,
    subjects=SUBJECTS,
    responses_file="{subject}/betas.vmp",
    axes="maps",
    convention="radiological",
    space="TAL",
    masks_file="rois.voi",
    conditions_from_maps=True,
)
KINDS = {
    "mat5": (lambda folder: matlab_archive(folder, 5), MATLAB),
    "mat73": (lambda folder: matlab_archive(folder, 73), MATLAB),
    "csv": (table_archive, TABLES),
    "npy": (array_archive, ARRAYS),
}


def check_known(dataset, betas=None):
    assert dataset.stimuli.names == NAMES
    for sector, per_subject in (betas or known_betas()).items():
        for found, known in zip(dataset.responses[sector], per_subject, strict=True):
            np.testing.assert_array_equal(found, known)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_archive_bit_for_bit(tmp_path, kind):
    make, layout = KINDS[kind]
    dataset = convert(make(tmp_path), layout)
    check_known(dataset)
    assert dataset.sector_names == SECTORS
    assert dataset.subjects == tuple(layout.subjects)
    assert [path.name for path in dataset.stimuli.paths] == [f"{n}.png" for n in NAMES]


@pytest.mark.parametrize("masks", ["voi", "msk"])
def test_brainvoyager_maps_are_cut_where_the_sectors_lie(tmp_path, masks):
    pytest.importorskip("bvbabel")
    brainvoyager_archive(tmp_path, masks)
    file = {"voi": "rois.voi", "msk": "{subject}/{sector}.msk"}[masks]
    dataset = convert(tmp_path, replace(VOLUMES, masks_file=file))
    assert dataset.stimuli.names == NAMES
    assert dataset.space == "TAL"
    for sector in SECTORS:
        stored, places = bv_places(sector)
        known = {
            tuple(place): tuple(at) for place, at in zip(places, stored, strict=True)
        }
        for row, subject in enumerate(SUBJECTS):
            found = dataset.sectors[sector][row].coordinates
            assert sorted(map(tuple, found)) == sorted(known)
            at = np.array([known[tuple(place)] for place in found])
            maps = bv_maps(subject)[:, at[:, 0], at[:, 1], at[:, 2]]
            np.testing.assert_array_equal(dataset.responses[sector][row], maps)


def test_nifti_volumes_with_masks_in_another_orientation(tmp_path):
    write_images(tmp_path / "stimuli")
    rng = np.random.default_rng(5)
    affine = np.diag([2.0, 2, 2, 1])
    flip = np.diag([-2.0, 2, 2, 1])
    flip[0, 3] = 2 * 3
    (tmp_path / "conditions.txt").write_text("\n".join(NAMES))
    values = rng.normal(size=(4, 3, 2, 6))
    mask = rng.random((4, 3, 2)) > 0.5
    Nifti1Image(values, affine).to_filename(tmp_path / "S1.nii.gz")
    Nifti1Image(mask[::-1].astype(np.uint8), flip).to_filename(tmp_path / "V1.nii")
    layout = Layout(
        **COMMON | {"sectors": {"EarlyV": "V1"}},
        subjects=["S1"],
        responses_file="{subject}.nii.gz",
        axes="maps",
        space="MNI152NLin6Asym",
        masks_file="{sector}.nii",
        conditions_file="conditions.txt",
    )
    dataset = convert(tmp_path, layout)
    np.testing.assert_array_equal(dataset.responses["EarlyV"][0], values[mask].T)
    np.testing.assert_array_equal(dataset.sectors["EarlyV"][0].mask, mask)
    flip[0, 3] += 1
    Nifti1Image(mask[::-1].astype(np.uint8), flip).to_filename(tmp_path / "V1.nii")
    with pytest.raises(ValueError, match=r"V1.nii must have its voxels where"):
        convert(tmp_path, layout)
    Nifti1Image(values[..., :5], affine).to_filename(tmp_path / "S1.nii.gz")
    with pytest.raises(ValueError, match=r"hold 6 volumes, .* \(4, 3, 2, 5\)"):
        convert(tmp_path, layout)


def nifti_archive(folder, name="S1.nii.gz", mask_name="V1.nii"):
    write_images(folder / "stimuli")
    (folder / "conditions.txt").write_text("\n".join(NAMES))
    rng = np.random.default_rng(5)
    values, mask = rng.normal(size=(4, 3, 2, 6)), rng.random((4, 3, 2)) > 0.5
    images = {
        name: Nifti1Image(values, np.diag([2.0, 2, 2, 1])),
        mask_name: Nifti1Image(mask.astype(np.uint8), np.diag([2.0, 2, 2, 1])),
    }
    layout = Layout(
        **COMMON | {"sectors": {"EarlyV": "V1"}},
        subjects=["S1"],
        responses_file=name,
        axes="maps",
        space="MNI152NLin6Asym",
        masks_file=mask_name,
        conditions_file="conditions.txt",
    )
    return images, layout


@pytest.mark.parametrize("which", [0, 1])
def test_nifti_files_must_not_say_another_space(tmp_path, which):
    images, layout = nifti_archive(tmp_path)
    for name, image in images.items():
        image.to_filename(tmp_path / name)
    assert convert(tmp_path, layout).space == "MNI152NLin6Asym"
    name, image = list(images.items())[which]
    image.header["sform_code"] = 3
    image.to_filename(tmp_path / name)
    text = f"{name} must be in space MNI152NLin6Asym; its header says TAL"
    with pytest.raises(ValueError, match=text):
        convert(tmp_path, layout)
    Nifti1Image(image.dataobj, None).to_filename(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} must say where its voxels are"):
        convert(tmp_path, layout)


@pytest.mark.parametrize("which", [0, 1])
def test_names_of_nifti_files_must_not_say_another_space(tmp_path, which):
    names = ["S1_x.nii.gz", "V1_x.nii"]
    names[which] = names[which].replace("_x", "_space-Talairach_x")
    images, layout = nifti_archive(tmp_path, *names)
    for name, image in images.items():
        image.to_filename(tmp_path / name)
    with pytest.raises(ValueError, match="its name says TAL"):
        convert(tmp_path, layout)


def one_table(folder):
    """Values (voxels, conditions), their lines, and a layout for such a table."""
    write_images(folder / "stimuli")
    values = known_betas()["EarlyV"][0].T
    (folder / "names.txt").write_text("\n".join(NAMES))
    lines = [",".join(map(repr, row)) for row in values.tolist()]
    layout = Layout(
        **COMMON | {"sectors": {"EarlyV": "V1"}},
        subjects=["01"],
        responses_file="b.csv",
        axes="voxels, conditions",
        header=True,
        conditions_file="names.txt",
    )
    return values, lines, layout


@pytest.mark.parametrize(
    "spelling",
    ["{}.bmp", "{}.PNG", " {} ", "{}", pytest.param("x", id="upper")],
)
def test_spelling_does_not_hide_an_order(tmp_path, caplog, spelling):
    def spelled(names):
        return [n.upper() if spelling == "x" else spelling.format(n) for n in names]

    values, lines, layout = one_table(tmp_path)
    (tmp_path / "b.csv").write_text("\n".join([",".join(spelled(NAMES)), *lines]))
    found = convert(tmp_path, layout).responses["EarlyV"][0]
    np.testing.assert_array_equal(found, values.T)
    assert caplog.text == ""
    header = ",".join(spelled(sorted(NAMES)))
    (tmp_path / "b.csv").write_text("\n".join([header, *lines]))
    with pytest.raises(ValueError, match="the header must have the conditions as"):
        convert(tmp_path, layout)
    (tmp_path / "b.csv").write_text("\n".join(["a,b,c,d,e,f", *lines]))
    convert(tmp_path, layout)
    assert "none of the conditions is named by the header (a, b, c and" in caplog.text


def test_names_that_differ_in_spelling_only_are_not_mixed(tmp_path):
    labels = ["dog", "Dog", "cup"]
    check_order("header", labels, labels, "b.csv")
    with pytest.raises(ValueError, match="condition 1 is 'dog' here and 'Dog' there"):
        check_order("header", labels, ["Dog", "dog", "cup"], "b.csv")


def test_maps_that_are_spelled_otherwise(tmp_path, caplog):
    pytest.importorskip("bvbabel")
    brainvoyager_archive(tmp_path, names=[f"{n.title()}.bmp" for n in NAMES])
    change = {"conditions_from_maps": False, "condition_names": NAMES}
    convert(tmp_path, replace(VOLUMES, **change))
    assert caplog.text == ""
    change["condition_names"] = sorted(NAMES)
    with pytest.raises(ValueError, match=r"the maps must have .* 'Dog.bmp' here"):
        convert(tmp_path, replace(VOLUMES, **change))
    brainvoyager_archive(tmp_path, names=[f"Map {n}" for n in range(6)])
    convert(tmp_path, replace(VOLUMES, **change))
    assert "so nothing shows that the order is the same" in caplog.text


def test_every_array_may_have_an_order_of_its_own(tmp_path):
    table_archive(tmp_path)
    rng = np.random.default_rng(1)
    for path in sorted((tmp_path / "betas").rglob("*.csv"))[1:]:
        head, *rows = path.read_text().splitlines()
        rng.shuffle(rows)
        path.write_text("\n".join([head, *rows]))
    dataset = convert(tmp_path, TABLES)
    order = [dataset.stimuli.names.index(name) for name in NAMES]
    for sector, per_subject in known_betas().items():
        for found, known in zip(dataset.responses[sector], per_subject, strict=True):
            np.testing.assert_array_equal(found[order], known)


def test_one_array_of_all_subjects(tmp_path):
    write_images(tmp_path / "stimuli")
    stack = np.random.default_rng(2).normal(size=(5, 6, 3))
    scipy.io.savemat(tmp_path / "all.mat", {"V1": stack, "names": cells(list(NAMES))})
    layout = Layout(
        **COMMON | {"sectors": {"EarlyV": "V1"}},
        subjects=SUBJECTS,
        responses_file="all.mat",
        responses_key="{sector}",
        axes="voxels, conditions, subjects",
        conditions_file="all.mat",
        conditions_key="names",
    )
    dataset = convert(tmp_path, layout)
    for row in range(3):
        np.testing.assert_array_equal(
            dataset.responses["EarlyV"][row], stack[:, :, row].T
        )
    with pytest.raises(ValueError, match=r"all\.mat, V1 must have 2 subjects"):
        convert(tmp_path, replace(layout, subjects=["S1", "S2"]))


def test_hemispheres_lie_side_by_side(tmp_path):
    array_archive(tmp_path)
    layout = replace(ARRAYS, sectors={"OTC": ["pOTC", "aOTC"]})
    betas = known_betas()
    for row, values in enumerate(convert(tmp_path, layout).responses["OTC"]):
        known = np.hstack([betas["pOTC"][row], betas["aOTC"][row]])
        np.testing.assert_array_equal(values, known)


def test_parts_of_a_sector_may_differ_in_order(tmp_path):
    table_archive(tmp_path)
    for path in (tmp_path / "betas").rglob("aOTC.csv"):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *reversed(rows)]))
    layout = replace(TABLES, sectors={"OTC": ["pOTC", "aOTC"]})
    betas = known_betas()
    for row, values in enumerate(convert(tmp_path, layout).responses["OTC"]):
        known = np.hstack([betas["pOTC"][row], betas["aOTC"][row]])
        np.testing.assert_array_equal(values, known)


def test_images_by_a_table(tmp_path):
    array_archive(tmp_path)
    lines = ["file,condition", *(f"{n}.png,{n}" for n in sorted(NAMES))]
    (tmp_path / "stimuli.csv").write_text("\n".join(lines))
    layout = replace(
        ARRAYS,
        images_file="",
        images_table="stimuli.csv",
        images_condition_column="condition",
        images_file_column="file",
        images_folder="stimuli",
    )
    dataset = convert(tmp_path, layout)
    assert dataset.stimuli.hashes == convert(tmp_path, ARRAYS).stimuli.hashes
    (tmp_path / "stimuli.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"stimuli\.csv must have a line .* for 'fan'"):
        convert(tmp_path, layout)


def test_what_is_not_confirmed_is_not_converted(tmp_path):
    with pytest.raises(ValueError, match=r"says confirmed = false\. Check every"):
        convert(array_archive(tmp_path), replace(ARRAYS, confirmed=False))
    with pytest.raises(ValueError, match="the archive must be a folder; got"):
        convert(tmp_path / "nowhere", ARRAYS)


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_axes_are_refused(tmp_path, kind):
    make, layout = KINDS[kind]
    axes = ", ".join(reversed(layout.axes.split(", ")))
    with pytest.raises(ValueError, match=r"must have 6 conditions; its axes .*right\?"):
        convert(make(tmp_path), replace(layout, axes=axes))


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        (
            "mat5",
            {"subjects": ["01", "02"]},
            r"SECTORS.mat: SECTORS.Betas.EarlyV must have one entry per subject, 2; it "
            "has 3",
        ),
        (
            "mat5",
            {
                "subjects": ["02", "01", "03"],
                "voxels": {"EarlyV": {"01": 9, "02": 8, "03": 7}},
            },
            "EarlyV of subject 02 must have 8 voxels, .* it has 9. Are the subjects in",
        ),
        (
            "mat73",
            {"sectors": SAME | {"V4": "hV4"}},
            "SECTORS.mat: field of SECTORS.Betas must be among .* got 'hV4'",
        ),
        (
            "mat5",
            {"n_conditions": 5},
            "SECTORS.mat must name as many conditions as conditions.number says, 5; it "
            "names 6",
        ),
        (
            "npy",
            {"condition_names": NAMES[:5], "conditions_file": "", "n_conditions": 5},
            "S1_EarlyV.npy must have 5 conditions; .* lengths 9, 6",
        ),
        (
            "npy",
            {
                "condition_names": [*NAMES[:5], "fun"],
                "conditions_file": "",
            },
            r"1 of 6 have none: fun \(files without a condition: fan.png\)",
        ),
        (
            "npy",
            {"images_file": "pictures/{condition}.png"},
            r"such as pictures/dog.png; 6 of 6 have none: .* \(none else\)",
        ),
        ("npy", {"subjects": ["S1", "S4"]}, "S4_EarlyV.npy must exist; it is missing"),
        (
            "npy",
            {"sectors": {"EarlyV": "EarlyV", "IT": "it"}},
            "S1_it.npy must exist; it is missing",
        ),
        (
            "csv",
            {"conditions_column": "name"},
            "EarlyV.csv: column must be among condition, v0, .* got 'name'",
        ),
        (
            "csv",
            {"label_column": ""},
            "EarlyV.csv must hold numbers; line 2 has 'dog'",
        ),
        (
            "csv",
            {"header": False, "label_column": "", "conditions_column": "condition"},
            "EarlyV.csv must hold numbers; line 1 has 'condition'",
        ),
        (
            "csv",
            {
                "conditions_file": "",
                "conditions_column": "",
                "condition_names": sorted(NAMES),
            },
            "the column 'condition' must have the conditions as .* condition 1 is "
            "'dog' here and 'ant' there",
        ),
    ],
)
def test_wrong_mappings_are_refused(tmp_path, kind, change, text):
    make, layout = KINDS[kind]
    with pytest.raises(ValueError, match=text):
        convert(make(tmp_path), replace(layout, **change))


def test_a_header_of_conditions_must_be_in_their_order(tmp_path):
    values, lines, layout = one_table(tmp_path)
    (tmp_path / "b.csv").write_text("\n".join([",".join(NAMES), *lines]))
    np.testing.assert_array_equal(
        convert(tmp_path, layout).responses["EarlyV"][0], values.T
    )
    (tmp_path / "b.csv").write_text("\n".join([",".join(sorted(NAMES)), *lines]))
    with pytest.raises(ValueError, match="the header must have the conditions as"):
        convert(tmp_path, layout)


def test_the_archive_s_own_list_of_subjects_is_obeyed(tmp_path):
    array_archive(tmp_path)
    (tmp_path / "subjects.tsv").write_text("id\nS1\nS2\nS3\n")
    layout = replace(ARRAYS, subjects_file="subjects.tsv", subjects_column="id")
    check_known(convert(tmp_path, layout))
    shuffled = replace(layout, subjects=["S2", "S1", "S3"])
    with pytest.raises(ValueError, match="in its order: S1, S2, S3; got S2, S1, S3"):
        convert(tmp_path, shuffled)


def test_files_of_other_subjects_are_reported(tmp_path, caplog):
    array_archive(tmp_path)
    with caplog.at_level(logging.WARNING, logger="versa"):
        convert(tmp_path, replace(ARRAYS, subjects=["S1", "S2"]))
    assert "{subject}_{sector}.npy for S3 too" in caplog.text


def test_the_same_values_twice_are_refused_unless_allowed(tmp_path):
    betas = known_betas()
    betas["pOTC"][2] = betas["pOTC"][0]
    array_archive(tmp_path, betas)
    text = "pOTC of subject S3 has those of pOTC of subject S1"
    with pytest.raises(ValueError, match=text):
        convert(tmp_path, ARRAYS)
    check_known(convert(tmp_path, replace(ARRAYS, same_values_allowed=True)), betas)


def test_conditions_that_one_subject_lacks_are_refused(tmp_path):
    table_archive(tmp_path)
    path = tmp_path / "betas" / "S2" / "pOTC.csv"
    path.write_text(path.read_text().replace("eel", "owl"))
    text = "pOTC of subject S2 must have .* it lacks 'eel' and has 'owl'"
    with pytest.raises(ValueError, match=text):
        convert(tmp_path, TABLES)
    path.write_text(path.read_text().replace("owl", "dog"))
    with pytest.raises(ValueError, match="must be unique; repeated: 'dog'"):
        convert(tmp_path, TABLES)
    lines = [line for line in path.read_text().splitlines() if line[:3] != "dog"]
    path.write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match=r"pOTC.csv must name as many .* 6; it names 4"
    ):
        convert(tmp_path, TABLES)


def test_nan_is_kept_and_reported(tmp_path, caplog):
    betas = known_betas()
    betas["aOTC"][1][2, 3] = np.nan
    array_archive(tmp_path, betas)
    with caplog.at_level(logging.WARNING, logger="versa"):
        check_known(convert(tmp_path, ARRAYS), betas)
    assert "aOTC of subject S2 1 with NaN, 0 constant" in caplog.text


def test_a_square_array_is_reported(tmp_path, caplog):
    betas = known_betas()
    betas["aOTC"][1] = np.random.default_rng(4).normal(size=(6, 6))
    array_archive(tmp_path, betas)
    with caplog.at_level(logging.WARNING, logger="versa"):
        check_known(convert(tmp_path, ARRAYS), betas)
    assert "S2_aOTC.npy has as many voxels as conditions" in caplog.text


def test_links_out_of_the_archive_are_refused(tmp_path):
    folder = array_archive(tmp_path / "archive")
    outside = tmp_path / "outside.npy"
    np.save(outside, np.zeros((9, 6)))
    (folder / "S1_EarlyV.npy").unlink()
    os.symlink(outside, folder / "S1_EarlyV.npy")
    with pytest.raises(ValueError, match=r"S1_EarlyV\.npy must lie in the archive"):
        convert(folder, ARRAYS)


def test_brainvoyager_mappings_that_are_wrong(tmp_path):
    pytest.importorskip("bvbabel")
    brainvoyager_archive(tmp_path)
    for change, text in (
        ({"sectors": {"EarlyV": "EarlV"}}, "VOI must be among .* Did you mean EarlyV"),
        ({"space": "MNI152"}, "space"),
        ({"convention": ""}, "convention="),
        ({"n_conditions": 5}, "must hold 5 volumes, one per condition"),
        ({"images_file": "{condition}.png"}, "6 of 6 have none"),
        (
            {"conditions_from_maps": False, "condition_names": sorted(NAMES)},
            "S1/betas.vmp: the maps must have .* is 'dog' here and 'ant' there",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            convert(tmp_path, replace(VOLUMES, **change))
    brainvoyager_archive(tmp_path, names=(*NAMES[:5], "dog"))
    with pytest.raises(ValueError, match="maps of subject S1 must each have a name"):
        convert(tmp_path, VOLUMES)


def test_the_real_digits_come_through(shared, tmp_path):
    source = shared / "data" / "digits69" / "digits69.npz"
    with np.load(source) as file:
        voxels = file["voxels"]
    names = [f"digit{i:03d}" for i in range(len(voxels))]
    (tmp_path / "stimuli").mkdir()
    for level, name in enumerate(names):
        Image.new("L", (2, 2), level).save(tmp_path / "stimuli" / f"{name}.png")
    np.savez(tmp_path / "digits.npz", voxels=voxels, names=np.array(names))
    layout = Layout(
        name="digits",
        subjects=["S1"],
        sectors={"EarlyV": "voxels"},
        responses_file="digits.npz",
        responses_key="{sector}",
        axes="conditions, voxels",
        n_conditions=100,
        conditions_file="digits.npz",
        conditions_key="names",
        images_file="stimuli/{condition}.png",
        confirmed=True,
    )
    dataset = convert(tmp_path, layout)
    np.testing.assert_array_equal(dataset.responses["EarlyV"][0], voxels)
    assert dataset.responses["EarlyV"][0].shape == (100, 3092)


def test_known_numbers_of_voxels():
    assert {
        s: tuple(x.shape[1] for x in xs) for s, xs in known_betas().items()
    } == COUNTS
    assert all((bv_places(s)[0] * 3 + BV_START[::-1] < 256).all() for s in SECTORS)
