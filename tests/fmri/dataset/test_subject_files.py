"""Files of one subject: folders made by hand, and tables of RDMs."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import squareform

from tests.fmri.dataset.damage import NAMES, RDM, change
from versa.fmri.dataset.folder import read_dataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.subject_files import files_by_sector

SHAPE = (4, 5, 6)


@pytest.fixture
def handmade(made, tmp_path):
    """The least that a person has to write, with other file names and types."""
    shutil.copytree(made / "images", tmp_path / "handmade" / "stimuli")
    made = tmp_path / "handmade"
    stimuli = StimulusSet.from_folder(made / "stimuli")
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
    image = nibabel.Nifti1Image(rng.normal(size=(*SHAPE, 5)), affine)
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


@pytest.mark.parametrize("where", ["mask", "sidecar"])
@pytest.mark.parametrize(("voxels", "same"), [(0.009, True), (0.011, False)])
def test_affines_agree_up_to_a_hundredth_of_a_voxel(handmade, where, voxels, same):
    func = handmade / "sub-1" / "func"
    moved = np.diag([2.0, 2, 2, 1])
    moved[1, 3] += 2 * voxels
    if where == "mask":
        file = next(func.glob("*V2_mask*"))
        values = np.asarray(nibabel.load(file).dataobj)
        nibabel.Nifti1Image(values, moved).to_filename(file)
    else:
        change(next(func.glob("*.json")), Affine=moved.tolist())(handmade)
    if same:
        assert read_dataset(handmade).sector_names == ("V1", "V2")
        return
    with pytest.raises(ValueError, match=r"must have the (image's own )?affine"):
        read_dataset(handmade)


def test_a_folder_made_by_hand_is_checked(handmade):
    func = handmade / "sub-1" / "func"
    sidecar = next(func.glob("*.json"))
    change(sidecar, Space="TAL")(handmade)
    with pytest.raises(ValueError, match=r"of the file name, MNI152NLin6Asym, .*'TAL'"):
        read_dataset(handmade)
    change(sidecar, Space=None)(handmade)
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


def test_rdm_pairs_are_in_pdist_order(rdm_folder):
    rdms = read_dataset(rdm_folder).rdms["IT"]
    table = pd.read_csv(rdm_folder / RDM, sep="\t", dtype=str)
    square = squareform(rdms[1])
    for one, two, value in table.itertuples(index=False):
        assert square[NAMES.index(one), NAMES.index(two)] == float(value)
