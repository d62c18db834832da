"""Files of one subject: folders made by hand, and tables of RDMs."""

import json
import shutil
from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
import pytest

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.folder import read_dataset, write_dataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.subject_files import files_by_sector

NAMES = ["ant", "bee", "cup", "dog"]
SHAPE = (4, 5, 6)


def change_json(path, **change):
    content = json.loads(path.read_text())
    content.update(change)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.fixture
def stimuli(tmp_path):
    folder = tmp_path / "handmade" / "stimuli"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(f"picture of {name}".encode())
    return StimulusSet.from_folder(folder)


@pytest.fixture
def handmade(tmp_path, stimuli):
    """The least that a person has to write, with other file names and types."""
    made = tmp_path / "handmade"
    rows = zip(NAMES, stimuli.paths, stimuli.hashes, strict=True)
    lines = [f"{name}\t{path.name}\t{digest}" for name, path, digest in rows]
    table = "\n".join(["stim_id\tfile\tsha256", *lines])
    (made / "stimuli.tsv").write_text(table)
    (made / "dataset_description.json").write_text('{"Name": "by hand"}')
    (made / "participants.tsv").write_text("participant_id\tage\nsub-1\t30\n")
    func = made / "sub-1" / "func"
    func.mkdir(parents=True)
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2, 2, 1])
    stem = "sub-1_task-see_space-MNI152NLin6Asym_desc-betas_statmap"
    image = nibabel.Nifti1Image(rng.normal(size=(*SHAPE, 4)), affine)
    image.set_data_dtype(np.int16)
    image.to_filename(func / f"{stem}.nii.gz")
    (func / f"{stem}.json").write_text(json.dumps({"Conditions": NAMES}))
    for name in ("V2", "V1"):
        mask = (rng.random(SHAPE) > 0.8).astype(np.float32)
        nibabel.Nifti1Image(mask, affine).to_filename(
            func / f"sub-1_task-see_desc-{name}_mask.nii.gz"
        )
    return made


def test_a_folder_made_by_hand_is_read(handmade):
    dataset = read_dataset(handmade)
    assert (dataset.name, dataset.subjects) == ("by hand", ("1",))
    assert dataset.sector_names == ("V1", "V2")
    assert dataset.space == "MNI152NLin6Asym"
    assert dataset.unit == "a.u."
    func = handmade / "sub-1" / "func"
    betas = nibabel.load(next(func.glob("*betas*.nii.gz"))).get_fdata()
    mask = nibabel.load(next(func.glob("*V2_mask*"))).get_fdata() > 0
    np.testing.assert_array_equal(dataset.responses["V2"][0], betas[mask].T)


def test_a_folder_made_by_hand_is_checked(handmade):
    func = handmade / "sub-1" / "func"
    sidecar = next(func.glob("*.json"))
    change_json(sidecar, Space="TAL")
    with pytest.raises(ValueError, match=r"of the file name, MNI152NLin6Asym, .*'TAL'"):
        read_dataset(handmade)
    change_json(sidecar, Space=None)
    (func / "._sub-1_desc-betas_stat.nii").write_text("what macOS leaves behind")
    (func / "sub-2_desc-betas_stat.nii").write_text("not this subject")
    read_dataset(handmade)
    shutil.copy(next(func.glob("*V1_mask*")), func / "sub-1_desc-V1_mask.nii.gz")
    with pytest.raises(ValueError, match=r"func must have one file per sector; V1 has"):
        read_dataset(handmade)
    for path in func.glob("*_mask.nii.gz"):
        path.unlink()
    with pytest.raises(ValueError, match=r"there is no sub-1_desc-<Sector>_mask.nii"):
        read_dataset(handmade)


@pytest.mark.parametrize("noted", [None, np.eye(4).tolist()])
def test_an_affine_with_nan_is_refused(handmade, noted):
    func = handmade / "sub-1" / "func"
    change_json(next(func.glob("*.json")), Affine=noted)
    path = next(func.glob("*betas*.nii.gz"))
    image = nibabel.load(path)
    values, header = image.get_fdata(), image.header
    header["srow_x"][3] = np.nan
    header["sform_code"] = 2
    nibabel.Nifti1Image(values, None, header).to_filename(path)
    with pytest.raises(ValueError, match=rf"{path.name} must have an affine of finite"):
        read_dataset(handmade)


def test_files_are_chosen_by_subject_and_kind():
    names = [
        "sub-01_desc-V1_mask.nii",
        "sub-01_space-TAL_desc-V2_mask.nii.gz",
        "sub-01_desc-V1_mask.json",
        "sub-01_desc-V-3_mask.nii",
        "sub-011_desc-V4_mask.nii",
        "sub-01_desc-betas_stat.nii",
        "._sub-01_desc-V5_mask.nii",
    ]
    found = files_by_sector(map(Path, names), "01", r"mask\.nii(?:\.gz)?")
    assert {name: str(path) for name, path in found.items()} == {
        "V1": names[0],
        "V2": names[1],
    }


@pytest.fixture
def rdm_folder(stimuli, tmp_path):
    rng = np.random.default_rng(0)
    rdms = {"IT": rng.random((2, 6)), "EVC": rng.random((2, 6))}
    dataset = BrainDataset("rdms", stimuli, ["01", "02"], rdms=rdms)
    return write_dataset(dataset, tmp_path / "rdms")


def change_rdm(folder, change):
    path = folder / "sub-02" / "sub-02_desc-IT_rdm.tsv"
    lines = path.read_text().rstrip("\n").split("\n")
    path.write_text("\n".join(change(lines)) + "\n")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda lines: lines[:-1], "one line per pair of images; got 5 for 6 pairs"),
        (
            lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
            "line 3 must be 'ant' and 'cup', got 'ant' and 'dog'",
        ),
        (lambda lines: [*lines[:-1], "cup\tdog\tn/a"], "must hold numbers; .*'n/a'"),
        (
            lambda lines: [*lines[:-1], "cup\tdog\tnan"],
            "must hold finite dissimilarities; 1 of 6",
        ),
        (lambda lines: ["a\tb\tc", *lines[1:]], "IT_rdm.tsv must be a tab-separated"),
    ],
)
def test_broken_rdm_tables_are_refused(rdm_folder, change, text):
    change_rdm(rdm_folder, change)
    with pytest.raises(ValueError, match=text):
        read_dataset(rdm_folder)


def test_a_missing_rdm_is_named(rdm_folder):
    (rdm_folder / "sub-02" / "sub-02_desc-IT_rdm.tsv").unlink()
    with pytest.raises(ValueError, match=r"sub-02_desc-IT_rdm.tsv must exist; every"):
        read_dataset(rdm_folder)


def test_rdm_pairs_are_in_pdist_order(rdm_folder):
    from scipy.spatial.distance import squareform

    dataset = read_dataset(rdm_folder)
    square = squareform(dataset.rdms["IT"][0])
    for (i, j), value in zip(
        combinations(range(4), 2), dataset.rdms["IT"][0], strict=True
    ):
        assert square[i, j] == value
