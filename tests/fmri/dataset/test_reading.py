"""Broken dataset folders: the reader raises the first problem, or notes each."""

import hashlib
import json
import random
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.fmri.dataset.damage import (
    ABOUT,
    BETAS,
    FUNC,
    MASK,
    RDM,
    SIDECAR,
    both,
    change,
    copy,
    cut,
    flat_affine,
    header,
    image,
    lines,
    own,
    packed_and_cut,
    random_damage,
    remove,
    replace,
    spoil_affine,
    write,
)
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.dataset.folder import read_dataset

OTHER = f"{FUNC}/sub-02_space-TAL_desc-EarlyV_mask.nii"
V4 = f"{FUNC}/sub-02_desc-V4_mask.nii"

# a fault: how it is made, the file that is named, what is said
ERRORS = {
    "no description": (remove(ABOUT), ABOUT, "must exist; it is missing"),
    "no JSON": (write(ABOUT, "{'Name': 1}"), ABOUT, "must be JSON; .*line 1"),
    "no name": (change(ABOUT, Name=None), ABOUT, "must have a text Name"),
    "empty name": (change(ABOUT, Name=""), ABOUT, "must have a text Name; it is empt"),
    "later format": (
        own(Format=7),
        ABOUT,
        "must have versa format 1; got 7. A newer versa",
    ),
    "no list": (own(Sectors="V1"), ABOUT, "list of names as Sectors; got V1"),
    "sector twice": (own(Sectors=["pOTC"] * 2), ABOUT, "Sectors must be unique"),
    "place unclear": (own(HasCoordinates=0), ABOUT, "must have true or false as HasC"),
    "space unclear": (
        own(HasCoordinates=False, Space="Tal"),
        ABOUT,
        "space must be TAL, MNI152",
    ),
    "no images": (remove("stimuli.tsv"), "stimuli.tsv", "must exist; it is missing"),
    "image gone": (
        remove("stimuli/bee.png"),
        "stimuli/bee.png",
        "must exist; it is the image of 'bee'",
    ),
    "image changed": (
        copy("stimuli/cup.png", "stimuli/bee.png"),
        "stimuli/bee.png",
        "must be the file that stimuli.tsv describes; its SHA-256 is ",
    ),
    "no hashes": (
        replace("stimuli.tsv", "sha256", "md5"),
        "stimuli.tsv",
        "stim_id, file, sha256; sha256 is missing",
    ),
    "outside": (
        replace("stimuli.tsv", "bee.png", "../../bee.png"),
        "stimuli.tsv",
        r"must name files inside .*stimuli; got '../../bee.png'",
    ),
    "id twice": (
        replace("stimuli.tsv", "bee\t", "cup\t"),
        "stimuli.tsv",
        "stim_id must be unique; repeated: 'cup'",
    ),
    "images swapped": (
        lines("stimuli.tsv", lambda x: [x[0], x[2], x[1], *x[3:]]),
        SIDECAR,
        "image 1 must be 'bee', got 'ant'",
    ),
    "no text": (
        lambda folder: (folder / "stimuli.tsv").write_bytes(b"\xff\xfe"),
        "stimuli.tsv",
        "must be a text in UTF-8",
    ),
    "no subjects": (remove("participants.tsv"), "participants.tsv", "must exist"),
    "short line": (
        write("participants.tsv", "participant_id\tage\nsub-01\n"),
        "participants.tsv",
        "must have 2 cells in every line",
    ),
    "no sub-": (
        write("participants.tsv", "participant_id\n02\nP4\n"),
        "participants.tsv",
        "must have participant_ids such as sub-01; got '02', 'P4'",
    ),
    "subject without folder": (
        remove("sub-03"),
        "participants.tsv",
        "must list the subject folders; there is no folder for sub-03",
    ),
    "folder without subject": (
        copy("sub-03", "sub-05"),
        "sub-05",
        "must have a line in participants.tsv",
    ),
    "no func": (remove(FUNC), FUNC, r"must exist, with \*_desc-betas_stat.nii in it"),
    "no responses": (remove(BETAS), FUNC, r"exactly one sub-02_\*desc-.* got none"),
    "two responses": (
        copy(BETAS, f"{BETAS}.gz"),
        FUNC,
        "got sub-02_desc-betas_stat.nii, sub-02_desc-betas_stat.nii.gz",
    ),
    "cut": (cut(BETAS), BETAS, "must be a whole NIfTI image"),
    "cut gz": (packed_and_cut, f"{BETAS}.gz", "must be a whole NIfTI image"),
    "no image": (write(BETAS, "hello"), BETAS, "must be a whole NIfTI image"),
    "no sidecar": (remove(SIDECAR), SIDECAR, "must exist; it is missing"),
    "list": (write(SIDECAR, "[]"), SIDECAR, "must hold a JSON object; got list"),
    "swapped": (
        change(SIDECAR, Conditions=["ant", "cup", "bee", "dog", "elk"]),
        SIDECAR,
        "Conditions of .*json: the images must be in the order .* 'bee', got 'cup'",
    ),
    "other images": (
        change(SIDECAR, Conditions=["ant", "bee", "cup", "dog", "owl"]),
        SIDECAR,
        "Conditions of .*json: .* missing 'elk' and unknown 'owl'",
    ),
    "no conditions": (
        change(SIDECAR, Conditions=None),
        SIDECAR,
        "must list the stim_id .* got None",
    ),
    "fewer volumes": (
        image(BETAS, lambda x: x[..., :4]),
        BETAS,
        r"must be \(x, y, z, n_images\) with 5 images; got \(6, 5, 6, 4\)",
    ),
    "one volume": (
        image(BETAS, lambda x: x[..., 0]),
        BETAS,
        r"with 5 images; got \(6, 5, 6\)",
    ),
    "complex": (image(BETAS, lambda x: x.astype(complex)), BETAS, "must hold real num"),
    "NaN affine": (spoil_affine(np.nan), BETAS, "must have an affine of finite"),
    "Inf affine": (spoil_affine(np.inf), BETAS, "must have an affine of finite"),
    "flat affine": (
        both(header(flat_affine, "*.nii"), change(SIDECAR, Affine=None)),
        BETAS,
        "must have an affine of finite numbers that gives",
    ),
    "noted affine": (
        change(SIDECAR, Affine=np.eye(4).tolist()),
        SIDECAR,
        "must have the image's own affine as Affine, .* got .*1.0",
    ),
    "no affine": (
        change(SIDECAR, Affine=[["a"]]),
        SIDECAR,
        "must have the image's own affine as Affine, .* got .*'a'",
    ),
    "other unit": (
        change(SIDECAR, Units="z"),
        BETAS,
        "must have the unit of sub-01_desc-betas_stat.nii, '% signal change'; got 'z'",
    ),
    "other space": (
        change(SIDECAR, Space="MNI152"),
        BETAS,
        "must be in space MNI152; its header says TAL",
    ),
    "no space": (
        change(SIDECAR, Space="none"),
        BETAS,
        "must have the space of sub-01_desc-betas_stat.nii, 'TAL'; got 'none'",
    ),
    "unknown space": (change(SIDECAR, Space="Tal"), SIDECAR, "space must .* got 'Tal'"),
    "no mask": (remove(MASK), MASK, "must exist; every subject must have every sector"),
    "mask twice": (copy(MASK, OTHER), FUNC, "must have one file per sector; EarlyV"),
    "empty mask": (
        image(MASK, lambda x: x * 0),
        MASK,
        "must be a mask with at least one voxel; all 180",
    ),
    "labels": (
        image(MASK, lambda x: x + (np.arange(6) % 2).astype(np.uint8)),
        MASK,
        "must be a mask of 0 and one other value",
    ),
    "mask elsewhere": (
        image(MASK, affine=lambda a: a + np.eye(4, k=3)),
        MASK,
        "must have the affine of sub-02_desc-betas_stat.nii",
    ),
    "small mask": (
        image(MASK, lambda x: x[:5]),
        MASK,
        r"must have the shape of .*\(6, 5, 6\); got \(5, 5, 6\)",
    ),
    "sector of one": (
        both(own(Sectors=None), copy(MASK, V4)),
        "sub-01/func/sub-01_desc-V4_mask.nii",
        "must exist; every subject",
    ),
    "responses and RDMs": (
        write("sub-01/sub-01_desc-IT_rdm.tsv", ""),
        "sub-01",
        r"must hold either func or \*_rdm.tsv; got both",
    ),
}

RDM_ERRORS = {
    "gone": (remove(RDM), RDM, "must exist; every subject must have every sector"),
    "cut": (cut(RDM, 30), RDM, "must have"),
    "short": (
        lines(RDM, lambda x: x[:-1]),
        RDM,
        "must have one line per pair of images; got 9 for 10 pairs",
    ),
    "swapped": (
        lines(RDM, lambda x: [*x[:2], x[3], x[2], *x[4:]]),
        RDM,
        "line 3 must be 'ant' and 'cup', got 'ant' and 'dog'",
    ),
    "no number": (
        lines(RDM, lambda x: [*x[:-1], "dog\telk\tn/a"]),
        RDM,
        "must hold numbers; .*'n/a'",
    ),
    "NaN": (
        lines(RDM, lambda x: [*x[:-1], "dog\telk\tnan"]),
        RDM,
        "must hold finite dissimilarities; 1 of 10 pairs",
    ),
    "no header": (
        lines(RDM, lambda x: ["a\tb\tc", *x[1:]]),
        RDM,
        "must be a tab-separated table",
    ),
    "cells": (replace(RDM, "\t0.", "\tnan\t0."), RDM, "must have 3 cells"),
    "space": (own(Space="somewhere"), ABOUT, "space must be TAL"),
    "with func": (write("sub-01/func/x", ""), "sub-01", "must hold either func or"),
}


def errors_of(problems):
    return [one for one in problems if one.level == "error"]


@pytest.mark.parametrize(
    ("kind", "case"),
    [("good", case) for case in ERRORS] + [("rdms", case) for case in RDM_ERRORS],
)
def test_broken_folders_are_refused(made, tmp_path, kind, case):
    folder = shutil.copytree(made / kind, tmp_path / kind)
    damage, file, text = (ERRORS if kind == "good" else RDM_ERRORS)[case]
    damage(folder)
    noted = []
    assert read_dataset(folder, noted) is None
    errors = errors_of(noted)
    assert any(one.file == file and re.search(text, one.text) for one in errors), errors
    assert all(str(folder) not in one.text for one in errors)
    with pytest.raises(ValueError, match=text) as caught:
        read_dataset(folder)
    assert str(folder / errors[0].file) in str(caught.value)
    assert set(errors) <= set(check_dataset(folder))


def test_all_problems_are_found_at_once(folder):
    kept = ["no name", "image gone", "swapped", "no mask", "folder without subject"]
    for case in kept:
        ERRORS[case][0](folder)
    cut("sub-P4/func/sub-P4_desc-pOTC_mask.nii")(folder)
    noted = []
    assert read_dataset(folder, noted) is None
    expected = [ERRORS[case][1] for case in kept]
    expected.append("sub-P4/func/sub-P4_desc-pOTC_mask.nii")
    assert sorted(one.file for one in noted) == sorted(expected)
    assert set(noted) <= set(check_dataset(folder))


def test_problems_are_added_to_those_of_before(folder):
    noted = []
    dataset = read_dataset(folder, noted)
    assert (dataset.name, noted) == ("good", [])
    copy(MASK, V4)(folder)
    assert read_dataset(folder, noted).fingerprint == dataset.fingerprint
    assert [(one.file, one.level) for one in noted] == [(V4, "warning")]
    remove(MASK)(folder)
    assert read_dataset(folder, noted) is None
    assert [one.level for one in noted] == ["warning", "error", "warning"]


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere must be a folder that exists"):
        read_dataset(tmp_path / "nowhere")
    noted = []
    assert read_dataset(tmp_path / "nowhere", noted) is None
    assert str(noted[0]) == "error: .: must be a folder that exists."


def test_how_the_folder_is_written_does_not_matter(folder, monkeypatch):
    for case in ("swapped", "no mask", "outside"):
        ERRORS[case][0](folder)
    expected = check_dataset(folder)
    monkeypatch.chdir(folder.parent)
    for name in ("good", "good/", "./good"):
        assert check_dataset(name) == expected
    monkeypatch.chdir(folder)
    assert check_dataset(".") == expected


def test_a_dataset_without_images_is_read_all_the_same(folder):
    both(remove("stimuli.tsv"), remove("stimuli"))(folder)
    image(MASK, lambda x: x * 0)(folder)
    files = [one.file for one in errors_of(check_dataset(folder))]
    assert files == ["stimuli.tsv", MASK]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # nibabel, of absurd headers
@pytest.mark.parametrize("kind", ["good", "rdms"])
def test_any_accident_is_read_or_refused(made, tmp_path, kind):
    refused = 0
    for seed in range(100):
        rng = random.Random(seed)
        folder = shutil.copytree(made / kind, tmp_path / str(seed))
        for _ in range(rng.choice([1, 1, 2])):
            random_damage(folder, rng)
        errors = errors_of(check_dataset(folder))
        try:
            read_dataset(folder)
            read = True
        except (ValueError, OSError):
            read = False
        refused += not read
        # pictures are decoded by the check only
        assert read == (not [one for one in errors if "Pillow" not in one.text]), seed
        shutil.rmtree(folder)
    assert 30 < refused < 100


@pytest.mark.parametrize("kind", ["good", "rdms"])
def test_betas_masks_and_rdms_have_hashes(made, tmp_path, kind):
    folder = shutil.copytree(made / kind, tmp_path / kind)
    about = json.loads((folder / "dataset_description.json").read_text())
    table = about["versa"]["SHA256"]
    kinds = {name.rpartition("_")[2] for name in table}
    assert kinds == ({"rdm.tsv"} if kind == "rdms" else {"stat.nii", "mask.nii"})
    for name, digest in table.items():
        file = folder / name
        sound = file.read_bytes()
        assert hashlib.sha256(sound).hexdigest() == digest
        if kind == "rdms":  # one digit of the last number
            digit = b"1" if sound[-4:-3] != b"1" else b"2"
            damaged = sound[:-4] + digit + sound[-3:]
        else:  # a header's field that no reader looks at
            damaged = sound[:150] + b"x" + sound[151:]
        file.write_bytes(damaged)
        text = rf"{file.name} must be the file that dataset_description.json describes"
        with pytest.raises(ValueError, match=text):
            read_dataset(folder)
        assert name in [
            one.file for one in check_dataset(folder) if one.level == "error"
        ]
        file.write_bytes(sound)
    assert read_dataset(folder).n_subjects == 4
    for wrong in ([], "none", 3):
        about["versa"]["SHA256"] = wrong
        (folder / "dataset_description.json").write_text(json.dumps(about))
        with pytest.raises(ValueError, match="must have a mapping of files to hashes"):
            read_dataset(folder)


def test_images_that_viewers_turn_are_pointed_out(made, tmp_path, caplog):
    folder = shutil.copytree(made / "good", tmp_path / "turned")
    table = folder / "stimuli.tsv"
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    place = folder / "stimuli" / lines[1][1]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(place).copy().save(place, exif=exif)
    lines[1][2] = hashlib.sha256(place.read_bytes()).hexdigest()
    table.write_text("".join("\t".join(line) + "\n" for line in lines))
    read_dataset(folder)
    assert "have an EXIF orientation" in caplog.text
    assert f"They are {place.name}." in caplog.text
