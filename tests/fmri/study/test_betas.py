"""Betas of all subjects in a dataset folder: resumed, refused, and versa.fit."""

import hashlib
import json
import os
import re
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest

import versa
from tests.fmri.study.conftest import OLS, SUBJECTS
from tests.fmri.study.test_sectors import add, halves
from tests.scans import CONDITIONS, write_bids
from versa import Sector
from versa.cache import file_hash
from versa.fmri.betas.glm import GLMSettings, fit_betas
from versa.fmri.betas.runs import find_runs
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.dataset.tables import read_participants
from versa.fmri.study import betas as betas_module
from versa.fmri.study.betas import estimate_betas, write_betas
from versa.fmri.study.files import read_betas
from versa.fmri.study.images import add_images
from versa.fmri.study.sectors import add_sectors
from versa.fmri.volumes.nifti import read_mask, write_image


def test_from_scans_to_a_fit(folder, images, bids):
    assert add_images(folder, images).names == CONDITIONS
    add(folder, halves())
    found = check_dataset(folder)
    assert [one for one in found if one.level == "error"] == []
    dataset = versa.read_dataset(folder)
    assert dataset.subjects == SUBJECTS
    assert dataset.sector_names == ("EarlyV", "aOTC")
    assert dataset.unit == "% signal change"
    assert dataset.space == "individual"
    for row, label in enumerate(SUBJECTS):
        mask = bids / f"mask-{label}.nii.gz"
        betas = fit_betas(
            find_runs(bids, label), label, settings=OLS, mask=mask, space="individual"
        )
        for name, sector in halves().items():
            np.testing.assert_allclose(
                dataset.responses[name][row], betas.in_sector(sector), rtol=1e-6
            )
    result = versa.fit(
        "alexnet_gn_untrained", ["conv_block_1"], folder, cache=False, progress=False
    )
    assert np.isfinite(result.layers()["r"]).all()


def test_an_interrupted_run_resumes(bids, options, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    seen = []

    def stopped(runs, subject, **changes):
        seen.append(subject)
        if subject == "03":
            raise KeyboardInterrupt
        return fit_betas(runs, subject, **changes)

    monkeypatch.setattr("versa.fmri.study.betas.fit_betas", stopped)
    with pytest.raises(KeyboardInterrupt):
        estimate_betas(bids, folder, **options)
    assert seen == ["01", "02", "03"]
    assert sorted(path.name for path in folder.glob("*sub-*")) == ["sub-01", "sub-02"]
    before = (folder / "sub-01/func/sub-01_desc-betas_stat.nii").stat().st_mtime_ns
    monkeypatch.undo()
    estimate_betas(bids, folder, **options)
    after = (folder / "sub-01/func/sub-01_desc-betas_stat.nii").stat().st_mtime_ns
    assert before == after
    text = (folder / "participants.tsv").read_text()
    assert text.split() == ["participant_id", *(f"sub-{s}" for s in SUBJECTS)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": GLMSettings()}, "noise_model was ols, now ar1"),
        (
            {"settings": GLMSettings(noise_model="ols", signal_scaling=False)},
            "signal_scaling was % signal change, now a.u.",
        ),
        ({"space": "individual"}, "space was None, now individual"),
        ({"resample": "nearest"}, "resample was None, now nearest"),
        ({"filters": {"run": "1"}}, "filters was {}, now {'run': '1'}"),
    ],
)
def test_other_options_need_another_folder(folder, bids, options, changes, message):
    message = f"{folder} exists with other options: {message}. Use another folder."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        estimate_betas(bids, folder, **{**options, **changes})


def test_what_is_no_dataset_folder_is_not_filled(folder, bids, options, tmp_path):
    other = write_bids(tmp_path / "other" / "bids", ("01", "02"), n_runs=2)
    with pytest.raises(ValueError, match=r"other options: source was .*/bids, now /"):
        estimate_betas(other, folder, **options)
    with pytest.raises(ValueError, match="must be new, empty, or a dataset folder"):
        estimate_betas(bids, bids.parent, **options)


def test_subjects_must_have_the_same_conditions(bids, options, tmp_path):
    other = write_bids(tmp_path / "other", ("01", "02"), n_runs=2)
    for run in (1, 2):
        path = other / f"sub-02/func/sub-02_task-view_run-{run}_events.tsv"
        path.write_text(path.read_text().replace("saw", "fan"))
    folder = tmp_path / "study"
    options["mask"] = str(other / "mask-{subject}.nii.gz")
    with pytest.raises(ValueError, match="subject 02 lacks saw and alone has fan"):
        estimate_betas(other, folder, **options)
    assert not (folder / "sub-02").exists()


def test_some_subjects_and_one_job_per_subject(bids, options, tmp_path):
    folder = estimate_betas(bids, tmp_path / "a", subjects=["03", "01"], **options)
    text = (folder / "participants.tsv").read_text()
    assert text.split()[1:] == ["sub-03", "sub-01"]
    folder = tmp_path / "s"
    for subject in ("02", "01", "01"):
        estimate_betas(bids, folder, subjects=[subject, subject], **options)
    text = (folder / "participants.tsv").read_text()
    assert text.split()[1:] == ["sub-02", "sub-01"]
    (folder / "participants.tsv").unlink()  # as a kill might leave it
    estimate_betas(bids, folder, subjects=["01"], **options)
    text = (folder / "participants.tsv").read_text()
    assert text.split()[1:] == ["sub-01", "sub-02"]


def test_images_are_looked_for_before_the_first_glm(bids, options, images, tmp_path):
    (images / "dog.png").unlink()
    with pytest.raises(ValueError, match="there is none for 'dog'"):
        estimate_betas(bids, tmp_path / "s", images=images, **options)
    assert not list((tmp_path / "s").glob("sub-*"))
    with pytest.raises(ValueError, match="the folder of images must exist"):
        estimate_betas(bids, tmp_path / "s", images=tmp_path / "none", **options)


# ---- files that change, first tries, subjects that are passed over ----------------


def own_bids(tmp_path):
    bids = write_bids(tmp_path / "own", ("01", "02"), n_runs=2)
    options = {"settings": OLS, "mask": str(bids / "mask-{subject}.nii.gz")}
    return bids, options


def shift_onsets(bids):
    path = bids / "sub-01/func/sub-01_task-view_run-1_events.tsv"
    events = pd.read_csv(path, sep="\t").assign(onset=lambda table: table["onset"] + 4)
    events.to_csv(path, sep="\t", index=False)


def new_mask(bids):
    image = nibabel.load(bids / "mask-01.nii.gz")
    mask = np.asarray(image.dataobj)
    mask[:2] = 0
    nibabel.Nifti1Image(mask, image.affine).to_filename(bids / "mask-01.nii.gz")


def new_signal(bids):
    path = bids / "sub-01/func/sub-01_task-view_run-2_bold.nii.gz"
    image = nibabel.load(path)
    values = image.get_fdata(dtype=np.float32)
    nibabel.Nifti1Image(values[::-1].copy(), None, image.header).to_filename(path)


def new_sidecar(bids):
    about = {"RepetitionTime": 2.0, "StartTime": 1.0}
    (bids / "sub-01" / "task-view_bold.json").write_text(json.dumps(about))


def fewer_runs(bids):
    for path in (bids / "sub-01" / "func").glob("*run-2*"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shift_onsets, "(changed: sub-01/func/sub-01_task-view_run-1_events.tsv)"),
        (new_mask, "(changed: mask-01.nii.gz)"),
        (new_signal, "(changed: sub-01/func/sub-01_task-view_run-2_bold.nii.gz)"),
        (new_sidecar, "(new: sub-01/task-view_bold.json)"),
        (fewer_runs, "(gone: sub-01/func/sub-01_task-view_run-2_bold.nii.gz, "),
    ],
)
def test_files_that_changed_are_named(tmp_path, change, message):
    bids, options = own_bids(tmp_path)
    folder = estimate_betas(bids, tmp_path / "study", **options)
    estimate_betas(bids, folder, **options)
    change(bids)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        estimate_betas(bids, folder, **options)
    assert f"Remove {folder / 'sub-01'} to estimate" in str(caught.value)
    estimate_betas(bids, folder, subjects=["02"], **options)  # its files are the same
    shutil.rmtree(folder / "sub-01")
    estimate_betas(bids, folder, **options)
    anew = estimate_betas(bids, tmp_path / "anew", **options)
    found, expected = (read_betas(place, "01") for place in (folder, anew))
    np.testing.assert_array_equal(found.values, expected.values)


def test_folders_without_hashes_can_be_resumed(tmp_path, caplog):
    bids, options = own_bids(tmp_path)
    folder = estimate_betas(bids, tmp_path / "study", subjects=["01"], **options)
    path = folder / "sub-01/func/sub-01_desc-betas_stat.json"
    about = json.loads(path.read_text())
    digest = hashlib.sha256((bids / "mask-01.nii.gz").read_bytes()).hexdigest()
    assert about["Inputs"]["mask-01.nii.gz"] == digest
    assert len(about.pop("Inputs")) == 6  # two runs, their events, a sidecar, the mask
    path.write_text(json.dumps(about))
    path = folder / "dataset_description.json"
    about = json.loads(path.read_text())
    for name in ("slice_time_ref", "repetition_time"):  # options that came later
        del about["versa"]["Betas"][name]
    del about["versa"]["Betas"]["glm"]["drop_late"]
    path.write_text(json.dumps(about))
    estimate_betas(bids, folder, **options)
    assert "does not say from which files the betas of sub-01 were made" in caplog.text
    assert read_participants(folder) == ["01", "02"]


def test_a_first_try_spoils_nothing(tmp_path, folder):
    bids, options = own_bids(tmp_path)
    target = tmp_path / "first"
    with pytest.raises(ValueError, match="kind is missing among onset"):
        estimate_betas(bids, target, condition_column="kind", **options)
    estimate_betas(bids, target, **options)
    assert read_participants(target) == ["01", "02"]
    target = tmp_path / "second"
    with pytest.raises(ValueError, match="at least one subject; got none"):
        write_betas([], target)
    write_betas([read_betas(folder, "01")], target)
    with pytest.raises(ValueError, match="must be new or empty; it is not"):
        write_betas([read_betas(folder, "01")], target)


def test_subjects_without_images_are_passed_over(tmp_path, caplog):
    bids, options = own_bids(tmp_path)
    (bids / "sub-00" / "anat").mkdir(parents=True)
    folder = estimate_betas(bids, tmp_path / "study", **options)
    assert read_participants(folder) == ["01", "02"]
    assert "sub-00 have no BOLD images" in caplog.text
    with pytest.raises(ValueError, match=r"sub-00 must have images.*--subjects"):
        estimate_betas(bids, tmp_path / "other", subjects=["00"], **options)


def test_labels_may_have_their_prefix(tmp_path):
    bids, options = own_bids(tmp_path)
    folder = tmp_path / "study"
    estimate_betas(bids, folder, subjects=["sub-02", "02"], **options)
    assert read_participants(folder) == ["02"]


def test_betas_have_hashes(tmp_path, images):
    bids, options = own_bids(tmp_path)
    made = estimate_betas(bids, tmp_path / "made", images=images, **options)
    taken = write_betas([read_betas(made, "sub-01")], tmp_path / "taken")
    add_images(taken, images)
    mask = read_betas(made, "01").mask
    for folder, labels in ((made, ["01", "02"]), (taken, ["01"])):
        grid = read_betas(folder, "01")
        masks = {s: read_betas(folder, s).mask & mask for s in labels}
        own = {
            s: {"V1": Sector("V1", masks[s], grid.affine, grid.space)} for s in labels
        }
        add_sectors(folder, own)
        table = json.loads((folder / "dataset_description.json").read_text())["versa"]
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*.nii*")}
        assert table["SHA256"] == {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in files.items()
        }
        versa.read_dataset(folder)
        path = folder / "sub-01/func/sub-01_desc-betas_stat.nii"
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"betas_stat.nii must be the file that"):
            versa.read_dataset(folder)


def test_files_are_hashed_again_only_if_they_may_have_changed(tmp_path, monkeypatch):
    bids, options = own_bids(tmp_path)
    hashed = []

    def counted(path):
        hashed.append(path)
        return file_hash(path)

    monkeypatch.setattr(betas_module, "file_hash", counted)
    young = estimate_betas(bids, tmp_path / "young", **options)
    first = len(hashed)
    estimate_betas(bids, young, **options)
    assert len(hashed) == 2 * first  # files that changed within the last hour
    monkeypatch.setattr(betas_module, "_SETTLED", -10.0)
    folder = estimate_betas(bids, tmp_path / "old", **options)
    hashed.clear()
    estimate_betas(bids, folder, **options)
    assert not hashed
    path = next(bids.rglob("sub-01*run-1_events.tsv"))
    before = path.stat()
    text = path.read_text()
    path.write_text(text[:-2] + ("3" if text[-2] != "3" else "4") + text[-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    with pytest.raises(ValueError, match=r"run-1_events.tsv"):
        estimate_betas(bids, folder, **options)
    assert hashed == [path]


def test_the_mask_may_have_a_threshold(tmp_path):
    bids, options = own_bids(tmp_path)
    mask, affine = read_mask(bids / "mask-01.nii.gz")
    place = bids / "share.nii.gz"
    write_image(place, np.where(mask, 0.7, 0.2).astype(np.float32), affine, "none")
    options["mask"] = f"{place}:>0.5"
    folder = estimate_betas(bids, tmp_path / "study", subjects=["01"], **options)
    np.testing.assert_array_equal(read_betas(folder, "01").mask, mask)
    write_image(place, np.where(mask, 0.8, 0.2).astype(np.float32), affine, "none")
    with pytest.raises(ValueError, match=r"changed: share.nii.gz"):
        estimate_betas(bids, folder, subjects=["01"], **options)
