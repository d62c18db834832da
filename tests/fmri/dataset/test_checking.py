"""Checks of dataset folders: what can be read but looks wrong, and other folders."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.fmri.dataset.damage import (
    ABOUT,
    BETAS,
    FUNC,
    GRID,
    MASK,
    RDM,
    SIDECAR,
    SUBJECTS,
    both,
    change,
    copy,
    every_sidecar,
    image,
    keep_subjects,
    lines,
    picture,
    responses,
    rewritten,
    subject_affine,
    write,
)
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.dataset.folder import read_dataset, write_dataset
from versa.fmri.dataset.problems import Problem


def errors_of(problems):
    return [one for one in problems if one.level == "error"]


def spoil_voxels(flat):
    flat[3, 1] = np.nan
    flat[4] = 7.0
    flat[5] = 0.0


def standardise(flat):
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.where(flat.std(axis=1) > 0, flat.std(axis=1), 1)[:, None]


def repeat_volume(flat):
    flat[:, 3] = flat[:, 1]


V4 = f"{FUNC}/sub-02_desc-V4_mask.nii"
COPY = "sub-03/func/sub-03_desc-betas_stat.nii"
POTC = f"{FUNC}/sub-02_desc-pOTC_mask.nii"


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 8)).save(path, exif=exif)


WARNINGS = {
    "licence": (change(ABOUT, License=None), ABOUT, "has no License"),
    "two subjects": (keep_subjects(2), "participants.tsv", "which give 1 half-split:"),
    "three": (keep_subjects(3), "participants.tsv", "3 subjects, which give 3 half-"),
    "one subject": (keep_subjects(1), "participants.tsv", "who cannot be split"),
    "unit": (
        every_sidecar(Units=None),
        SIDECAR,
        "has no Units, so they are taken to be a.u.",
    ),
    "space": (
        every_sidecar(Space=None),
        SIDECAR,
        "says nothing about the space of the voxels",
    ),
    "bad voxels": (
        responses(spoil_voxels),
        BETAS,
        "has 1 voxels with NaN or infinity and 2 constant ones among the 60 of EarlyV",
    ),
    "no voxel": (
        responses(lambda flat: flat.fill(np.nan)),
        BETAS,
        "has 60 voxels with NaN or infinity and 0 constant ones among the 60 of pOTC",
    ),
    "z-scored": (
        responses(standardise),
        BETAS,
        "looks z-scored: every voxel of EarlyV has mean 0",
    ),
    "one volume twice": (
        responses(repeat_volume),
        BETAS,
        "has the same response to 'bee' and 'dog' in every voxel of EarlyV",
    ),
    "copied file": (
        copy(BETAS, COPY),
        COPY,
        "is byte for byte sub-02_desc-betas_stat.nii, of another subject",
    ),
    "copied values": (
        both(copy(BETAS, COPY), rewritten(COPY)),
        COPY,
        "has the very values of sub-02_desc-betas_stat.nii, of another subject, in Ear",
    ),
    "few voxels": (
        image(POTC, lambda x: x * (GRID < 70)),
        POTC,
        "has 10 voxels; an RDM of fewer than 50 is noisy",
    ),
    "overlap": (
        image(POTC, lambda x: (GRID < 70).astype(np.uint8)),
        FUNC,
        r"has sectors that share voxels: EarlyV and pOTC \(60\)",
    ),
    "flipped": (
        subject_affine(lambda a: a @ np.diag([-1, 1, 1, 1])),
        BETAS,
        "has the orientation RAS, and .* has LAS; were",
    ),
    "other voxels": (
        subject_affine(lambda a: a @ np.diag([2, 1, 1, 1])),
        BETAS,
        "has voxels of 54 mm3, and .* has 27",
    ),
    "other grid": (
        subject_affine(lambda a: a + np.eye(4, k=3)),
        BETAS,
        "is on another grid than .* both are in TA",
    ),
    "left-out sector": (copy(MASK, V4), V4, "is left out, because Sectors in"),
    "unread": (write(f"{FUNC}/sub-02_V4_mask.nii", ""), FUNC, "not read: sub-02_V"),
    "unread responses": (
        write(f"{FUNC}/x_desc-betas_stat.nii", ""),
        FUNC,
        "not read: x_desc-betas_stat.nii",
    ),
    "unread image": (write("stimuli/owl.png", ""), "stimuli", "not read: owl.png"),
    "unread folder": (write("sub-02/anat/T1w.nii", ""), "sub-02/anat", "is not read"),
    "grey": (
        picture("bee", Image.new("L", (9, 8)).save),
        "stimuli",
        r"has 1 of 5 images that are not RGB: bee \(L\)",
    ),
    "size": (
        picture("bee", Image.new("RGB", (9, 7)).save),
        "stimuli",
        r"has images of 2 sizes: 9 x 8 \(ant, cup, dog and 1 more\), 9 x 7 \(bee\)",
    ),
    "turned": (
        picture("bee", turned),
        "stimuli.tsv",
        r"names images that have an EXIF orientation.* They are bee\.png",
    ),
    "same image": (
        picture("bee", lambda path: shutil.copy(path.with_name("cup.png"), path)),
        "stimuli.tsv",
        "has one image under 2 names: bee, cup",
    ),
}


def test_good_folders_have_no_problems(folder, rdm_folder):
    assert check_dataset(folder) == []
    assert check_dataset(rdm_folder) == []


@pytest.mark.parametrize("case", WARNINGS)
def test_what_looks_wrong_is_a_warning(folder, case):
    damage, file, text = WARNINGS[case]
    damage(folder)
    read_dataset(folder)
    found = check_dataset(folder)
    assert not errors_of(found)
    assert any(one.file == file and re.search(text, one.text) for one in found), found


def test_warnings_are_not_given_in_addition(folder):
    copy(MASK, V4)(folder)
    (one,) = check_dataset(folder)
    assert (one.file, one.level) == (V4, "warning")


def test_rdms_that_look_wrong(rdm_folder):
    def flat(found):
        return [found[0], *(line.rsplit("\t", 1)[0] + "\t0.1" for line in found[1:])]

    for subject in ("02", "03"):
        lines(RDM.replace("02", subject), flat)(rdm_folder)
    first = RDM.replace("02", "01")
    lines(first, lambda found: [x.replace("\t0.", "\t-0.") for x in found])(rdm_folder)
    read_dataset(rdm_folder)
    found = {(one.file, one.text.split(";")[0]) for one in check_dataset(rdm_folder)}
    assert (RDM, "has one dissimilarity for all pairs") in found
    copied = "has the very values of sub-02, of another subject, in IT"
    assert ("sub-03", copied) in found
    negative = [text for file, text in found if file == first]
    assert "has 10 of 10 dissimilarities below 0" in negative[0]


def test_an_image_that_cannot_be_decoded_is_an_error(folder):
    picture("bee", lambda path: path.write_bytes(path.read_bytes()[:-40]))(folder)
    (one,) = check_dataset(folder)
    assert (one.file, one.level) == ("stimuli/bee.png", "error")
    assert "must be an image that Pillow reads; reading it fails with:" in one.text


def test_files_for_people_are_passed_over(folder):
    for name in ("README.md", "CHANGES", "LICENSE", "participants.json", ".DS_Store"):
        (folder / name).write_text("")
    write("code/run.py", "")(folder)
    write("stimuli/.hidden", "")(folder)
    write(MASK.replace(".nii", ".json"), "{}")(folder)
    write(f"{FUNC}/sub-02_desc-oddbetas_stat.nii.gz", "")(folder)
    write(f"{FUNC}/sub-02_desc-reliability_statmap.json", "")(folder)
    assert check_dataset(folder) == []


def test_voxels_without_place(folder, tmp_path):
    dataset = read_dataset(folder)
    plain = BrainDataset(
        "list", dataset.stimuli, SUBJECTS, dataset.responses, licence="CC0"
    )
    assert check_dataset(write_dataset(plain, tmp_path / "list")) == []


# ---- other folders --------------------------------------------------------------


RAW = "sub-01/func/sub-01_task-x_run-1_bold.nii.gz"
SESSION = "sub-01/ses-1/func/sub-01_ses-1_task-x_bold.nii.gz"
PREPROCESSED = "sub-01/func/sub-01_task-x_space-T1w_desc-preproc_bold.nii.gz"
MAKER = '{"Name": "x", "GeneratedBy": [{"Name": "%s"}]}'


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({RAW: ""}, "is a raw BIDS dataset, .* versa-data betas then makes a dataset"),
        ({SESSION: "", "participants.tsv": "x"}, "is a raw BIDS dataset"),
        ({PREPROCESSED: ""}, "is the output of fMRIPrep, .* versa-data betas makes"),
        ({ABOUT: MAKER % "fMRIPrep"}, "is the output of fMRIPrep"),
        (
            {ABOUT: '{"Name": "x", "PipelineDescription": {"Name": "fmriprep"}}'},
            "is the output of fMRIPrep",
        ),
        ({ABOUT: MAKER % "QSIPrep"}, "is a BIDS derivative of QSIPrep without stimuli"),
        (
            {"mat/a.mat": "", "b.vtc.gz": ""},
            r"looks like an archive, with \.mat, \.vtc",
        ),
        (
            {"notes.txt": ""},
            f"is not a dataset folder: it has no {ABOUT}, .* but notes",
        ),
        ({".hidden": ""}, "is empty"),
    ],
)
def test_other_folders_are_named(tmp_path, files, text):
    for file, content in files.items():
        write(file, content)(tmp_path)
    (one,) = check_dataset(tmp_path)
    assert (one.file, one.level) == (".", "error")
    assert re.search(text, one.text)
    with pytest.raises(ValueError, match="must"):
        read_dataset(tmp_path)


def test_a_folder_of_one_subject_is_named(folder, monkeypatch):
    (one,) = check_dataset(folder / "sub-02")
    assert "is one subject of a dataset; check the dataset," in one.text
    monkeypatch.chdir(folder / "sub-02")
    assert [found.text for found in check_dataset(".")] == [one.text]
    monkeypatch.chdir(folder)
    assert check_dataset(".") == []


def test_no_folder_is_an_error(tmp_path):
    (one,) = check_dataset(tmp_path / "nowhere")
    assert str(one) == "error: .: must be a folder that exists."


def test_real_raw_bids_is_named(shared):
    (one,) = check_dataset(shared / "data" / "haxby2001")
    assert one.text.startswith("is a raw BIDS dataset")


def test_problems_know_their_levels():
    with pytest.raises(ValueError, match="level must be error or warning; got 'bad'"):
        Problem("x", "bad", "y")
    assert str(Problem("a", "warning", "t")) == "warning: a: t"
