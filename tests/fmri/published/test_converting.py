"""Archives of three kinds become datasets bit for bit; wrong mappings are refused."""

import logging
import os

import numpy as np
import pytest
import scipy.io
from nibabel import Nifti1Image
from PIL import Image

from tests.archives import (
    ARRAYS,
    BV_START,
    COMMON,
    COUNTS,
    MATLAB,
    NAMES,
    SAME,
    SECTORS,
    SUBJECTS,
    TABLES,
    VOLUMES,
    array_archive,
    brainvoyager_archive,
    bv_maps,
    bv_places,
    cells,
    known_betas,
    mapped,
    matlab_archive,
    table_archive,
    write_images,
)
from versa.fmri.published.converting import check_order, convert
from versa.fmri.published.files import open_file

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
    make, entries = KINDS[kind]
    dataset = convert(make(tmp_path), mapped(entries))
    check_known(dataset)
    assert dataset.sector_names == SECTORS
    assert dataset.subjects == tuple(entries["subjects__labels"])
    assert [path.name for path in dataset.stimuli.paths] == [f"{n}.png" for n in NAMES]


@pytest.mark.parametrize("masks", ["voi", "msk"])
def test_brainvoyager_maps_are_cut_where_the_sectors_lie(tmp_path, masks):
    pytest.importorskip("bvbabel")
    brainvoyager_archive(tmp_path, masks)
    file = {"voi": "rois.voi", "msk": "{subject}/{sector}.msk"}[masks]
    dataset = convert(tmp_path, mapped(VOLUMES, masks__file=file))
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


def nifti_archive(folder, name="S1.nii.gz", mask_name="V1.nii"):
    write_images(folder / "stimuli")
    (folder / "conditions.txt").write_text("\n".join(NAMES))
    rng = np.random.default_rng(5)
    values, mask = rng.normal(size=(4, 3, 2, 6)), rng.random((4, 3, 2)) > 0.5
    images = {
        name: Nifti1Image(values, np.diag([2.0, 2, 2, 1])),
        mask_name: Nifti1Image(mask.astype(np.uint8), np.diag([2.0, 2, 2, 1])),
    }
    entries = dict(
        COMMON | {"sectors": {"EarlyV": "V1"}},
        subjects__labels=["S1"],
        responses__file=name,
        responses__axes="maps",
        dataset__space="MNI152NLin6Asym",
        masks__file=mask_name,
        conditions__file="conditions.txt",
    )
    return images, entries


def test_nifti_volumes_with_masks_in_another_orientation(tmp_path):
    images, entries = nifti_archive(tmp_path)
    entries |= {"responses__file": "{subject}.nii.gz", "masks__file": "{sector}.nii"}
    values, mask = (np.asarray(image.dataobj) for image in images.values())
    mask, affine = mask > 0, images["S1.nii.gz"].affine
    flip = np.diag([-2.0, 2, 2, 1])
    flip[0, 3] = 2 * 3
    images["S1.nii.gz"].to_filename(tmp_path / "S1.nii.gz")
    Nifti1Image(mask[::-1].astype(np.uint8), flip).to_filename(tmp_path / "V1.nii")
    dataset = convert(tmp_path, mapped(entries))
    np.testing.assert_array_equal(dataset.responses["EarlyV"][0], values[mask].T)
    np.testing.assert_array_equal(dataset.sectors["EarlyV"][0].mask, mask)
    flip[0, 3] += 1
    Nifti1Image(mask[::-1].astype(np.uint8), flip).to_filename(tmp_path / "V1.nii")
    with pytest.raises(ValueError, match=r"V1.nii must have its voxels where"):
        convert(tmp_path, mapped(entries))
    Nifti1Image(values[..., :5], affine).to_filename(tmp_path / "S1.nii.gz")
    with pytest.raises(ValueError, match=r"hold 6 volumes, .* \(4, 3, 2, 5\)"):
        convert(tmp_path, mapped(entries))


@pytest.mark.parametrize("which", [0, 1])
def test_nifti_files_must_not_say_another_space(tmp_path, which):
    images, entries = nifti_archive(tmp_path)
    for name, image in images.items():
        image.to_filename(tmp_path / name)
    assert convert(tmp_path, mapped(entries)).space == "MNI152NLin6Asym"
    name, image = list(images.items())[which]
    image.header["sform_code"] = 3
    image.to_filename(tmp_path / name)
    text = f"{name} must be in space MNI152NLin6Asym; its header says TAL"
    with pytest.raises(ValueError, match=text):
        convert(tmp_path, mapped(entries))
    Nifti1Image(image.dataobj, None).to_filename(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} must say where its voxels are"):
        convert(tmp_path, mapped(entries))


@pytest.mark.parametrize("which", [0, 1])
def test_names_of_nifti_files_must_not_say_another_space(tmp_path, which):
    names = ["S1_x.nii.gz", "V1_x.nii"]
    names[which] = names[which].replace("_x", "_space-Talairach_x")
    images, entries = nifti_archive(tmp_path, *names)
    for name, image in images.items():
        image.to_filename(tmp_path / name)
    with pytest.raises(ValueError, match="its name says TAL"):
        convert(tmp_path, mapped(entries))


def one_table(folder):
    """Values (voxels, conditions), their lines, and entries for such a table."""
    write_images(folder / "stimuli")
    values = known_betas()["EarlyV"][0].T
    (folder / "names.txt").write_text("\n".join(NAMES))
    lines = [",".join(map(repr, row)) for row in values.tolist()]
    entries = dict(
        COMMON | {"sectors": {"EarlyV": "V1"}},
        subjects__labels=["01"],
        responses__file="b.csv",
        responses__axes="voxels, conditions",
        responses__header=True,
        conditions__file="names.txt",
    )
    return values, lines, entries


@pytest.mark.parametrize(
    "spelling", ["{}.bmp", "{}.PNG", " {} ", "{}", pytest.param("x", id="upper")]
)
def test_spelling_does_not_hide_an_order(tmp_path, caplog, spelling):
    def spelled(names):
        return [n.upper() if spelling == "x" else spelling.format(n) for n in names]

    values, lines, entries = one_table(tmp_path)
    (tmp_path / "b.csv").write_text("\n".join([",".join(spelled(NAMES)), *lines]))
    found = convert(tmp_path, mapped(entries)).responses["EarlyV"][0]
    np.testing.assert_array_equal(found, values.T)
    assert caplog.text == ""
    header = ",".join(spelled(sorted(NAMES)))
    (tmp_path / "b.csv").write_text("\n".join([header, *lines]))
    with pytest.raises(ValueError, match="the header must have the conditions as"):
        convert(tmp_path, mapped(entries))
    (tmp_path / "b.csv").write_text("\n".join(["a,b,c,d,e,f", *lines]))
    convert(tmp_path, mapped(entries))
    assert "none of the conditions is named by the header (a, b, c and" in caplog.text


def test_names_that_differ_in_spelling_only_are_not_mixed(tmp_path):
    labels = ["dog", "Dog", "cup"]
    check_order("header", labels, labels, "b.csv")
    with pytest.raises(ValueError, match="condition 1 is 'dog' here and 'Dog' there"):
        check_order("header", labels, ["Dog", "dog", "cup"], "b.csv")


def test_maps_that_are_spelled_otherwise(tmp_path, caplog):
    pytest.importorskip("bvbabel")
    brainvoyager_archive(tmp_path, names=[f"{n.title()}.bmp" for n in NAMES])
    change = {"conditions__from_maps": False, "conditions__names": NAMES}
    convert(tmp_path, mapped(VOLUMES, **change))
    assert caplog.text == ""
    change["conditions__names"] = sorted(NAMES)
    with pytest.raises(ValueError, match=r"the maps must have .* 'Dog.bmp' here"):
        convert(tmp_path, mapped(VOLUMES, **change))
    brainvoyager_archive(tmp_path, names=[f"Map {n}" for n in range(6)])
    convert(tmp_path, mapped(VOLUMES, **change))
    assert "so nothing shows that the order is the same" in caplog.text


def test_every_array_may_have_an_order_of_its_own(tmp_path):
    table_archive(tmp_path)
    rng = np.random.default_rng(1)
    for path in sorted((tmp_path / "betas").rglob("*.csv"))[1:]:
        head, *rows = path.read_text().splitlines()
        rng.shuffle(rows)
        path.write_text("\n".join([head, *rows]))
    dataset = convert(tmp_path, mapped(TABLES))
    order = [dataset.stimuli.names.index(name) for name in NAMES]
    for sector, per_subject in known_betas().items():
        for found, known in zip(dataset.responses[sector], per_subject, strict=True):
            np.testing.assert_array_equal(found[order], known)


def test_one_array_of_all_subjects(tmp_path):
    write_images(tmp_path / "stimuli")
    stack = np.random.default_rng(2).normal(size=(5, 6, 3))
    scipy.io.savemat(tmp_path / "all.mat", {"V1": stack, "names": cells(list(NAMES))})
    entries = dict(
        COMMON | {"sectors": {"EarlyV": "V1"}},
        subjects__labels=SUBJECTS,
        responses__file="all.mat",
        responses__key="{sector}",
        responses__axes="voxels, conditions, subjects",
        conditions__file="all.mat",
        conditions__key="names",
    )
    dataset = convert(tmp_path, mapped(entries))
    for row in range(3):
        np.testing.assert_array_equal(
            dataset.responses["EarlyV"][row], stack[:, :, row].T
        )
    with pytest.raises(ValueError, match=r"all\.mat, V1 must have 2 subjects"):
        convert(tmp_path, mapped(entries, subjects__labels=["S1", "S2"]))


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_parts_of_a_sector_lie_side_by_side_whatever_their_order(tmp_path, kind):
    make, entries = KINDS[kind]
    make(tmp_path)
    for path in (tmp_path / "betas").rglob("aOTC.csv"):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *reversed(rows)]))
    entries = dict(entries, sectors={"OTC": ["pOTC", "aOTC"]})
    betas = known_betas()
    for row, values in enumerate(convert(tmp_path, mapped(entries)).responses["OTC"]):
        known = np.hstack([betas["pOTC"][row], betas["aOTC"][row]])
        np.testing.assert_array_equal(values, known)


def test_images_by_a_table(tmp_path):
    array_archive(tmp_path)
    lines = ["file,condition", *(f"{n}.png,{n}" for n in sorted(NAMES))]
    (tmp_path / "stimuli.csv").write_text("\n".join(lines))
    entries = dict(
        ARRAYS,
        images__file="",
        images__table="stimuli.csv",
        images__condition_column="condition",
        images__file_column="file",
        images__folder="stimuli",
    )
    dataset = convert(tmp_path, mapped(entries))
    assert dataset.stimuli.hashes == convert(tmp_path, mapped(ARRAYS)).stimuli.hashes
    (tmp_path / "stimuli.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"stimuli\.csv must have a line .* for 'fan'"):
        convert(tmp_path, mapped(entries))


def test_what_is_not_confirmed_is_not_converted(tmp_path):
    with pytest.raises(ValueError, match=r"says confirmed = false\. Check every"):
        convert(array_archive(tmp_path), mapped(ARRAYS, confirmed=False))
    with pytest.raises(ValueError, match="the archive must be a folder; got"):
        convert(tmp_path / "nowhere", mapped(ARRAYS))


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_axes_are_refused(tmp_path, kind):
    make, entries = KINDS[kind]
    axes = ", ".join(reversed(entries["responses__axes"].split(", ")))
    with pytest.raises(ValueError, match=r"must have 6 conditions; its axes .*right\?"):
        convert(make(tmp_path), mapped(entries, responses__axes=axes))


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        ("mat5", {"subjects__labels": ["01", "02"]},
         r"SECTORS.mat: SECTORS.Betas.EarlyV must have one entry per subject, 2; it "
         "has 3"),
        (
            "mat5",
            {
                "subjects__labels": ["02", "01", "03"],
                "voxels": {"EarlyV": {"01": 9, "02": 8, "03": 7}},
            },
            "EarlyV of subject 02 must have 8 voxels, .* it has 9. Are the subjects in",
        ),
        ("mat73", {"sectors": SAME | {"V4": "hV4"}},
         "SECTORS.mat: field of SECTORS.Betas must be among .* got 'hV4'"),
        ("mat5", {"conditions__number": 5},
         "SECTORS.mat must name as many conditions as conditions.number says, 5; it "
         "names 6"),
        (
            "npy",
            {
                "conditions__names": NAMES[:5],
                "conditions__file": "",
                "conditions__number": 5,
            },
            "S1_EarlyV.npy must have 5 conditions; .* lengths 9, 6",
        ),
        ("npy", {"conditions__names": [*NAMES[:5], "fun"], "conditions__file": ""},
         r"1 of 6 have none: fun \(files without a condition: fan.png\)"),
        ("npy", {"images__file": "pictures/{condition}.png"},
         r"such as pictures/dog.png; 6 of 6 have none: .* \(none else\)"),
        ("npy", {"subjects__labels": ["S1", "S4"]},
         "S4_EarlyV.npy must exist; it is missing"),
        ("npy", {"sectors": {"EarlyV": "EarlyV", "IT": "it"}},
         "S1_it.npy must exist; it is missing"),
        ("csv", {"conditions__column": "name"},
         "EarlyV.csv: column must be among condition, v0, .* got 'name'"),
        ("csv", {"responses__label_column": ""},
         "EarlyV.csv must hold numbers; line 2 has 'dog'"),
        (
            "csv",
            {
                "responses__header": False,
                "responses__label_column": "",
                "conditions__column": "condition",
            },
            "EarlyV.csv must hold numbers; line 1 has 'condition'",
        ),
        (
            "csv",
            {
                "conditions__file": "",
                "conditions__column": "",
                "conditions__names": sorted(NAMES),
            },
            "the column 'condition' must have the conditions as .* condition 1 is "
            "'dog' here and 'ant' there",
        ),
    ],
)  # fmt: skip
def test_wrong_mappings_are_refused(tmp_path, kind, change, text):
    make, entries = KINDS[kind]
    with pytest.raises(ValueError, match=text):
        convert(make(tmp_path), mapped(entries, **change))


def test_the_archive_s_own_list_of_subjects_is_obeyed(tmp_path):
    array_archive(tmp_path)
    (tmp_path / "subjects.tsv").write_text("id\nS1\nS2\nS3\n")
    entries = dict(ARRAYS, subjects__file="subjects.tsv", subjects__column="id")
    check_known(convert(tmp_path, mapped(entries)))
    shuffled = mapped(entries, subjects__labels=["S2", "S1", "S3"])
    with pytest.raises(ValueError, match="in its order: S1, S2, S3; got S2, S1, S3"):
        convert(tmp_path, shuffled)


def test_files_of_other_subjects_are_reported(tmp_path, caplog):
    array_archive(tmp_path)
    with caplog.at_level(logging.WARNING, logger="versa"):
        convert(tmp_path, mapped(ARRAYS, subjects__labels=["S1", "S2"]))
    assert "{subject}_{sector}.npy for S3 too" in caplog.text


def test_the_same_values_twice_are_refused_unless_allowed(tmp_path):
    betas = known_betas()
    betas["pOTC"][2] = betas["pOTC"][0]
    array_archive(tmp_path, betas)
    text = "pOTC of subject S3 has those of pOTC of subject S1"
    with pytest.raises(ValueError, match=text):
        convert(tmp_path, mapped(ARRAYS))
    check_known(
        convert(tmp_path, mapped(ARRAYS, responses__same_values_allowed=True)), betas
    )


def test_conditions_that_one_subject_lacks_are_refused(tmp_path):
    table_archive(tmp_path)
    path = tmp_path / "betas" / "S2" / "pOTC.csv"
    path.write_text(path.read_text().replace("eel", "owl"))
    text = "pOTC of subject S2 must have .* it lacks 'eel' and has 'owl'"
    with pytest.raises(ValueError, match=text):
        convert(tmp_path, mapped(TABLES))
    path.write_text(path.read_text().replace("owl", "dog"))
    with pytest.raises(ValueError, match="must be unique; repeated: 'dog'"):
        convert(tmp_path, mapped(TABLES))
    lines = [line for line in path.read_text().splitlines() if line[:3] != "dog"]
    path.write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match=r"pOTC.csv must name as many .* 6; it names 4"
    ):
        convert(tmp_path, mapped(TABLES))


def test_nan_is_kept_and_reported(tmp_path, caplog):
    betas = known_betas()
    betas["aOTC"][1][2, 3] = np.nan
    array_archive(tmp_path, betas)
    with caplog.at_level(logging.WARNING, logger="versa"):
        check_known(convert(tmp_path, mapped(ARRAYS)), betas)
    assert "aOTC of subject S2 1 with NaN, 0 constant" in caplog.text


def test_a_square_array_is_reported(tmp_path, caplog):
    betas = known_betas()
    betas["aOTC"][1] = np.random.default_rng(4).normal(size=(6, 6))
    array_archive(tmp_path, betas)
    with caplog.at_level(logging.WARNING, logger="versa"):
        check_known(convert(tmp_path, mapped(ARRAYS)), betas)
    assert "S2_aOTC.npy has as many voxels as conditions" in caplog.text


def test_links_out_of_the_archive_are_refused(tmp_path):
    folder = array_archive(tmp_path / "archive")
    outside = tmp_path / "outside.npy"
    np.save(outside, np.zeros((9, 6)))
    (folder / "S1_EarlyV.npy").unlink()
    os.symlink(outside, folder / "S1_EarlyV.npy")
    with pytest.raises(ValueError, match=r"S1_EarlyV\.npy must be in the archive"):
        convert(folder, mapped(ARRAYS))


def test_brainvoyager_mappings_that_are_wrong(tmp_path):
    pytest.importorskip("bvbabel")
    brainvoyager_archive(tmp_path)
    for change, text in (
        ({"sectors": {"EarlyV": "EarlV"}}, "VOI must be among .* Did you mean EarlyV"),
        ({"dataset__space": "MNI152"}, "space"),
        ({"responses__convention": ""}, "convention="),
        ({"conditions__number": 5}, "must hold 5 volumes, one per condition"),
        ({"images__file": "{condition}.png"}, "6 of 6 have none"),
        (
            {"conditions__from_maps": False, "conditions__names": sorted(NAMES)},
            "S1/betas.vmp: the maps must have .* is 'dog' here and 'ant' there",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            convert(tmp_path, mapped(VOLUMES, **change))
    brainvoyager_archive(tmp_path, names=(*NAMES[:5], "dog"))
    with pytest.raises(
        ValueError, match="maps of subject S1 must be unique; repeated: 'dog'"
    ):
        convert(tmp_path, mapped(VOLUMES))


def test_the_real_digits_come_through(shared, tmp_path):
    source = shared / "data" / "digits69" / "digits69.npz"
    with np.load(source) as file:
        voxels = file["voxels"]
    names = [f"digit{i:03d}" for i in range(len(voxels))]
    (tmp_path / "stimuli").mkdir()
    for level, name in enumerate(names):
        Image.new("L", (2, 2), level).save(tmp_path / "stimuli" / f"{name}.png")
    np.savez(tmp_path / "digits.npz", voxels=voxels, names=np.array(names))
    entries = dict(
        COMMON,
        dataset__name="digits",
        subjects__labels=["S1"],
        sectors={"EarlyV": "voxels"},
        responses__file="digits.npz",
        responses__key="{sector}",
        responses__axes="conditions, voxels",
        conditions__number=100,
        conditions__file="digits.npz",
        conditions__key="names",
        images__file="stimuli/{condition}.png",
        confirmed=True,
    )
    dataset = convert(tmp_path, mapped(entries))
    np.testing.assert_array_equal(dataset.responses["EarlyV"][0], voxels)
    assert dataset.responses["EarlyV"][0].shape == (100, 3092)


def test_known_numbers_of_voxels():
    assert {
        s: tuple(x.shape[1] for x in xs) for s, xs in known_betas().items()
    } == COUNTS
    assert all((bv_places(s)[0] * 3 + BV_START[::-1] < 256).all() for s in SECTORS)


@pytest.mark.parametrize("threshold", [":>0.5", ":>=0.75"])
def test_masks_of_many_values_by_a_threshold(tmp_path, threshold):
    images, entries = nifti_archive(tmp_path)
    values = np.asarray(images["S1.nii.gz"].dataobj)
    share = np.resize(np.array([0, 0.25, 0.75, 1], np.float32), (4, 3, 2))
    images["V1.nii"] = Nifti1Image(share, images["V1.nii"].affine)
    for name, image in images.items():
        image.to_filename(tmp_path / name)
    with pytest.raises(ValueError, match=r"such as V1.nii:>0.5"):
        convert(tmp_path, mapped(entries))
    entries["masks__file"] += threshold
    dataset = convert(tmp_path, mapped(entries))
    np.testing.assert_array_equal(dataset.responses["EarlyV"][0], values[share > 0.5].T)
    with pytest.raises(ValueError, match="must be an image to have a threshold"):
        mapped({**entries, "masks__file": f"rois.voi{threshold}"})


def test_an_image_that_was_never_estimated_is_refused(tmp_path):
    betas = known_betas()
    betas["aOTC"][1][2] = 0
    array_archive(tmp_path, betas)
    with pytest.raises(ValueError, match=r"'aOTC'] of subject S2 .* is 0 or NaN"):
        convert(tmp_path, mapped(ARRAYS))


def test_a_changed_header_in_a_package_is_noticed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, V1=np.ones((4, 6)))
    path.write_bytes(path.read_bytes().replace(b"(4, 6)", b"(4, 5)"))
    with pytest.raises(ValueError, match=r"the check sum of V1.npy in it is wrong"):
        open_file(path)


def test_names_of_missing_values_are_refused(tmp_path):
    images, entries = nifti_archive(tmp_path)
    for name, image in images.items():
        image.to_filename(tmp_path / name)
    (tmp_path / "conditions.txt").write_text("\n".join([*NAMES[:-1], "n/a"]))
    with pytest.raises(ValueError, match=r"conditions.txt must name conditions; 'n/a'"):
        convert(tmp_path, mapped(entries))
