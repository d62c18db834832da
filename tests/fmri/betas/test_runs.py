"""Runs in BIDS folders: found by name, with everything that belongs to them."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from tests.scans import AFFINE, CONDITIONS, N_SCANS, SHAPE, T_R, write_bids
from versa.fmri.betas.events import read_events
from versa.fmri.betas.runs import Run, find_runs, find_subjects


@pytest.fixture
def bids(tmp_path):
    return write_bids(tmp_path / "bids")


def names(runs):
    return [run.name.split("_bold")[0] for run in runs]


def write_image(path, t_r=T_R, n_scans=N_SCANS, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.zeros((*SHAPE, n_scans), np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], t_r))
    image.to_filename(path)


def test_raw_runs(bids):
    runs = find_runs(bids, "01")
    assert names(runs) == [f"sub-01_task-view_run-{i}" for i in range(1, 5)]
    assert all(run.t_r == T_R and run.confounds is None for run in runs)
    for run in runs:
        table = run.bold.with_name(run.bold.name.replace("bold.nii.gz", "events.tsv"))
        expected = pd.read_csv(table, sep="\t")
        pd.testing.assert_frame_equal(run.events, expected, check_dtype=False)
        assert set(run.events["trial_type"]) == set(CONDITIONS)


def test_runs_are_in_the_order_of_their_numbers(bids):
    func = bids / "sub-01" / "func"
    for ending in ("_bold.nii.gz", "_events.tsv"):
        old = func / f"sub-01_task-view_run-2{ending}"
        old.rename(func / f"sub-01_task-view_run-10{ending}")
    assert names(find_runs(bids, "01"))[-1] == "sub-01_task-view_run-10"


def test_sessions(bids):
    for session in ("02", "01"):
        func = bids / "sub-01" / f"ses-{session}" / "func"
        func.mkdir(parents=True)
        for run in (1, 2):
            for ending in ("_bold.nii.gz", "_events.tsv"):
                old = bids / "sub-01/func" / f"sub-01_task-view_run-{run}{ending}"
                stem = f"sub-01_ses-{session}_task-view_run-{run}{ending}"
                (func / stem).write_bytes(old.read_bytes())
    found = find_runs(bids, "01", filters={"ses": "02"})
    assert names(found) == [f"sub-01_ses-02_task-view_run-{i}" for i in (1, 2)]
    for path in (bids / "sub-01" / "func").iterdir():
        path.unlink()
    assert [name[7:13] for name in names(find_runs(bids, "01"))] == [
        *["ses-01"] * 2,
        *["ses-02"] * 2,
    ]


def test_events_and_sidecars_are_inherited(bids):
    func = bids / "sub-01" / "func"
    shared = func / "sub-01_task-view_run-3_events.tsv"
    shared.rename(bids / "task-view_events.tsv")
    (func / "sub-01_task-view_run-3_bold.json").write_text(
        json.dumps({"StartTime": 1.0})
    )
    runs = find_runs(bids, "01")
    expected = read_events(bids / "task-view_events.tsv")
    pd.testing.assert_frame_equal(runs[2].events, expected)
    assert runs[2].slice_time_ref == 0.5
    assert not runs[0].events.equals(expected)  # the closest table counts
    assert runs[0].slice_time_ref == 0.0


def fmriprep(folder, spaces=("T1w", "MNI152NLin2009cAsym")):
    func = folder / "sub-01" / "func"
    for run in (1, 2):
        stem = f"sub-01_task-view_run-{run}"
        for space in spaces:
            write_image(func / f"{stem}_space-{space}_desc-preproc_bold.nii.gz")
            mask = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
            mask.to_filename(func / f"{stem}_space-{space}_desc-brain_mask.nii.gz")
            about = {"StartTime": 0.9, "RepetitionTime": T_R, "SkullStripped": False}
            (func / f"{stem}_space-{space}_desc-preproc_bold.json").write_text(
                json.dumps(about)
            )
        rng = np.random.default_rng(run)
        table = pd.DataFrame(
            rng.normal(size=(N_SCANS, 10)),
            columns=[
                *(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"),
                "white_matter",
                "csf",
                "framewise_displacement",
                "std_dvars",
            ],
        )
        for k in range(2):
            table[f"cosine0{k}"] = np.cos(np.pi * k * np.arange(N_SCANS) / N_SCANS)
        for name in list(table.columns[:8]):
            table[f"{name}_derivative1"] = table[name].diff()
            table[f"{name}_power2"] = table[name] ** 2
            table[f"{name}_derivative1_power2"] = table[name].diff() ** 2
        table["framewise_displacement"] = 0.1
        table.loc[[0, 30], "framewise_displacement"] = np.nan, 2.0
        path = func / f"{stem}_desc-confounds_timeseries.tsv"
        table.to_csv(path, sep="\t", index=False, na_rep="n/a")
        path.with_suffix(".json").write_text("{}")
    return folder


def test_fmriprep(bids, tmp_path):
    prepared = fmriprep(tmp_path / "fmriprep")
    with pytest.raises(ValueError, match=r"must have the same space; got MNI152N.*T1w"):
        find_runs(bids, "01", derivatives=prepared)
    filters = {"space": "T1w"}
    runs = find_runs(bids, "01", derivatives=prepared, filters=filters)
    assert len(runs) == 2
    assert runs[0].slice_time_ref == pytest.approx(0.45)
    assert runs[0].brain_mask.name.endswith("run-1_space-T1w_desc-brain_mask.nii.gz")
    expected = read_events(bids / "sub-01/func/sub-01_task-view_run-1_events.tsv")
    pd.testing.assert_frame_equal(runs[0].events, expected)


def test_confounds_by_column(bids, tmp_path):
    prepared = fmriprep(tmp_path / "fmriprep", ["T1w"])
    columns = ["trans_x", "trans_x_derivative1"]
    runs = find_runs(bids, "01", derivatives=prepared, confounds=columns)
    table = pd.read_csv(
        prepared / "sub-01/func/sub-01_task-view_run-2_desc-confounds_timeseries.tsv",
        sep="\t",
    )
    found = runs[1].confounds
    assert list(found) == columns
    np.testing.assert_allclose(found.iloc[1:], table[columns].iloc[1:])
    assert found.iloc[0, 1] == pytest.approx(table[columns[1]].iloc[1:].mean())
    with pytest.raises(ValueError, match="nothing is missing among trans_x"):
        find_runs(bids, "01", derivatives=prepared, confounds=["nothing"])
    with pytest.raises(ValueError, match="must have a table of confounds beside it"):
        find_runs(bids, "01", confounds=["trans_x"])


def test_strategies_are_nilearns(bids, tmp_path):
    from nilearn.interfaces.fmriprep import load_confounds_strategy

    prepared = fmriprep(tmp_path / "fmriprep", ["T1w"])
    for strategy in ("simple", "scrubbing"):
        run = find_runs(bids, "01", derivatives=prepared, confounds=strategy)[0]
        expected, kept = load_confounds_strategy(str(run.bold), strategy)
        pd.testing.assert_frame_equal(run.confounds, expected)
        assert (run.kept is None) == (kept is None) == (strategy == "simple")
        if kept is not None:
            np.testing.assert_array_equal(run.kept, kept)
    with pytest.raises(
        ValueError, match=r"confounds must be among simple, .*got 'simp'"
    ):
        find_runs(bids, "01", derivatives=prepared, confounds="simp")
    with pytest.raises(ValueError, match="cannot be had by the strategy ica_aroma"):
        find_runs(bids, "01", derivatives=prepared, confounds="ica_aroma")


def test_what_cannot_be_told_apart_is_refused(bids):
    func = bids / "sub-01" / "func"
    write_image(func / "sub-01_task-rest_bold.nii.gz")
    with pytest.raises(
        ValueError, match=r"same task; got rest, view.*filter task=view"
    ):
        find_runs(bids, "01")
    with pytest.raises(
        ValueError, match=r"task must be among rest, view; got 'veiw'.*"
    ):
        find_runs(bids, "01", filters={"task": "veiw"})
    runs = find_runs(bids, "01", filters={"task": "view"})
    assert len(runs) == 4
    for echo in (1, 2):
        write_image(func / f"sub-01_task-view_run-5_echo-{echo}_bold.nii.gz")
    with pytest.raises(ValueError, match="must have the same echo; got 1, 2, none"):
        find_runs(bids, "01", filters={"task": "view"})


def test_one_image_per_run(bids):
    write_image(bids / "sub-01" / "func" / "sub-01_task-view_run-1_bold.nii")
    with pytest.raises(ValueError, match=r"one image per session and run; got .*run-1"):
        find_runs(bids, "01")


def test_repetition_times(bids):
    sidecar = bids / "task-view_bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": 2.5}))
    with pytest.raises(ValueError, match=r"its sidecar says 2.5 s, its header 2 s"):
        find_runs(bids, "01")
    sidecar.write_text(json.dumps({"RepetitionTime": "2"}))
    with pytest.raises(ValueError, match=r"must be a number of s above 0; got '2'"):
        find_runs(bids, "01")
    sidecar.write_text("{}")
    assert find_runs(bids, "01")[0].t_r == 2.0
    for path in (bids / "sub-01" / "func").glob("*_bold.nii.gz"):
        image = nibabel.load(path)
        image.header.set_xyzt_units("mm", "unknown")
        nibabel.Nifti1Image(image.get_fdata(), image.affine, image.header).to_filename(
            path
        )
    with pytest.raises(ValueError, match=r"RepetitionTime in its sidecar or header"):
        find_runs(bids, "01")


def test_missing_things(bids, tmp_path):
    assert find_subjects(bids) == ["01"]
    with pytest.raises(ValueError, match=r"subject must be among 01; got '02'"):
        find_runs(bids, "02")
    with pytest.raises(
        ValueError, match=r"sub-... per subject; there is no such folde"
    ):
        find_subjects(tmp_path / "nothing")
    (bids / "sub-01" / "func" / "sub-01_task-view_run-2_events.tsv").unlink()
    with pytest.raises(
        ValueError, match=r"run-2_bold.nii.gz must have a table of even"
    ):
        find_runs(bids, "01")
    empty = tmp_path / "empty" / "sub-01"
    empty.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"must have images func/..._bold.nii or"):
        find_runs(empty.parent, "01")


def test_events(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text(
        "onset\tduration\ttrial_type\tstim_file\n1\t2\tcup\tcup.png\n"
        "5.5\t2\tn/a\tn/a\n9\t2\tcup\tred cup.png\n"
    )
    assert read_events(path)["trial_type"].tolist() == ["cup", "cup"]
    assert read_events(path)["onset"].tolist() == [1.0, 9.0]
    by_file = read_events(path, condition_column="stim_file")
    assert by_file["trial_type"].tolist() == ["cup.png", "red cup.png"]
    with pytest.raises(ValueError, match="columns onset, duration, kind; kind is miss"):
        read_events(path, condition_column="kind")
    path.write_text("onset\tduration\ttrial_type\n1\t2\tcup\nsoon\t2\tdog\n")
    with pytest.raises(ValueError, match="numbers as onset; line 3 has 'soon'"):
        read_events(path)
    path.write_text("onset\tduration\ttrial_type\n1\t-2\tcup\n")
    with pytest.raises(ValueError, match=r"duration must be finite times in s from 0"):
        read_events(path)
    path.write_text("onset\tduration\ttrial_type\n1\t2\tn/a\n")
    with pytest.raises(ValueError, match=r"at least one condition; got none"):
        read_events(path)
    with pytest.raises(ValueError, match="must exist; it is missing"):
        read_events(tmp_path / "none.tsv")


def test_a_run_by_hand(tmp_path):
    events = pd.DataFrame({"onset": [1.0], "duration": [2], "trial_type": ["cup"]})
    run = Run(tmp_path / "a.nii", events, 2.0)
    assert run.name == "a.nii"
    with pytest.raises(
        ValueError, match=r"a.nii: t_r must be a time in s above 0; got 0"
    ):
        Run("a.nii", events, 0)
    with pytest.raises(ValueError, match="slice_time_ref must be from 0 to 1; got 2"):
        Run("a.nii", events, 2.0, slice_time_ref=2)
    with pytest.raises(ValueError, match="trial_type is missing"):
        Run("a.nii", events[["onset", "duration"]], 2.0)


def test_native_images_beside_normalised_ones(bids, tmp_path):
    prepared = fmriprep(tmp_path / "fmriprep", ["MNI152NLin6Asym"])
    func = prepared / "sub-01" / "func"
    for run in (1, 2):
        write_image(func / f"sub-01_task-view_run-{run}_desc-preproc_bold.nii.gz")
    with pytest.raises(ValueError, match="Choose one by the filter space=none"):
        find_runs(bids, "01", derivatives=prepared)
    runs = find_runs(bids, "01", derivatives=prepared, filters={"space": "none"})
    assert names(runs) == [f"sub-01_task-view_run-{i}_desc-preproc" for i in (1, 2)]


def test_confounds_without_numbers(bids, tmp_path):
    prepared = fmriprep(tmp_path / "fmriprep", ["T1w"])
    path = prepared / "sub-01/func/sub-01_task-view_run-1_desc-confounds_timeseries.tsv"
    table = pd.read_csv(path, sep="\t").assign(csf=np.nan)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    with pytest.raises(ValueError, match="csf is n/a in every row"):
        find_runs(bids, "01", derivatives=prepared, confounds=["csf"])


def test_conditions_are_texts():
    events = pd.DataFrame({"onset": [1.0], "duration": [2.0], "trial_type": [3]})
    with pytest.raises(ValueError, match=r"trial_type must hold texts; got 3\. Turn"):
        Run("a.nii", events, 2.0)


# ---- indices, entities, what is not stated ----------------------------------------


def renamed(folder, old, new):
    for path in sorted(folder.rglob(f"*{old}*")):
        path.rename(path.with_name(path.name.replace(old, new)))


def test_indices_are_numbers(bids, tmp_path):
    prepared = fmriprep(tmp_path / "fmriprep", ["T1w"])
    renamed(bids, "run-", "run-0")
    options = {"derivatives": prepared, "filters": {"run": "02"}}
    (run,) = find_runs(bids, "sub-01", **options)
    expected = read_events(bids / "sub-01/func/sub-01_task-view_run-02_events.tsv")
    pd.testing.assert_frame_equal(run.events, expected)
    assert names(find_runs(bids, "01", filters={"run": "1"})) == [
        "sub-01_task-view_run-01"
    ]
    renamed(bids, "_bold", "_echo-01_inv-002_bold")
    filters = {"echo": "1", "inv": "2"}
    assert len(find_runs(bids, "01", filters=filters)) == 4


def test_labels_are_no_numbers(bids):
    renamed(bids, "_run-", "_ses-01_run-")
    with pytest.raises(ValueError, match="ses must be among 01; got '1'"):
        find_runs(bids, "01", filters={"ses": "1"})


def test_runs_that_differ_by_design(bids):
    for run, way in enumerate(("AP", "PA", "AP", "PA"), start=1):
        renamed(bids, f"_run-{run}", f"_dir-{way}_run-{run}")
    assert [name[16:] for name in names(find_runs(bids, "01"))] == [
        "_dir-AP_run-1",
        "_dir-PA_run-2",
        "_dir-AP_run-3",
        "_dir-PA_run-4",
    ]
    assert len(find_runs(bids, "01", filters={"dir": "PA"})) == 2
    for run in (2, 4):  # each number in both directions: which is meant is not known
        renamed(bids, f"_dir-PA_run-{run}", f"_dir-PA_run-{run - 1}")
    with pytest.raises(ValueError, match=r"filter dir=PA, or take all by dir=any"):
        find_runs(bids, "01")
    found = names(find_runs(bids, "01", filters={"dir": "any"}))
    assert [name[16:] for name in found] == [
        "_dir-AP_run-1",
        "_dir-PA_run-1",
        "_dir-AP_run-3",
        "_dir-PA_run-3",
    ]


def test_the_sidecar_counts_if_it_is_said(bids):
    (bids / "task-view_bold.json").write_text(json.dumps({"RepetitionTime": 1.6}))
    with pytest.raises(ValueError, match="--repetition-time sidecar"):
        find_runs(bids, "01")
    for which, t_r in (("sidecar", 1.6), ("header", 2.0)):
        assert find_runs(bids, "01", repetition_time=which)[0].t_r == t_r
    with pytest.raises(ValueError, match="repetition_time must be among sidecar, head"):
        find_runs(bids, "01", repetition_time="file")
    (bids / "task-view_bold.json").write_text("{}")
    with pytest.raises(ValueError, match="RepetitionTime in its sidecar; there is"):
        find_runs(bids, "01", repetition_time="sidecar")


@pytest.mark.parametrize(
    ("raw", "derived", "reference", "warned"),
    [
        ({}, {}, 0, False),
        ({"SliceTiming": [0, 0.5, 1, 1.5]}, {}, 0.375, True),  # fMRIPrep before 21.0
        ({}, {"SliceTimingCorrected": True}, 0.5, True),
        ({"SliceTiming": [0, 1]}, {"SliceTimingCorrected": False}, 0, False),
        ({}, {"SliceTimingCorrected": True, "StartTime": 0.5}, 0.25, False),
        ({"SliceTiming": "x"}, {"SliceTimingCorrected": True}, 0.5, True),
    ],
)
def test_slice_times(bids, tmp_path, caplog, raw, derived, reference, warned):
    prepared = fmriprep(tmp_path / "fmriprep", ["T1w"])
    (bids / "task-view_bold.json").write_text(
        json.dumps({"RepetitionTime": T_R, **raw})
    )
    for path in prepared.rglob("*_bold.json"):
        path.write_text(json.dumps(derived))
    runs = find_runs(bids, "01", derivatives=prepared)
    assert {run.slice_time_ref for run in runs} == {reference}
    assert ("StartTime" in caplog.text) == warned
    stated = find_runs(bids, "01", derivatives=prepared, slice_time_ref=0.25)
    assert {run.slice_time_ref for run in stated} == {0.25}


def test_raw_images_are_not_corrected(bids, caplog):
    about = {"RepetitionTime": T_R, "SliceTiming": [0.0, 1.0]}
    (bids / "task-view_bold.json").write_text(json.dumps(about))
    assert find_runs(bids, "01")[0].slice_time_ref == 0
    assert "StartTime" not in caplog.text
    assert "(SliceTiming) and do not say whether these were corrected" in caplog.text
    caplog.clear()
    assert find_runs(bids, "01", slice_time_ref=0.5)[0].slice_time_ref == 0.5
    about["SliceTimingCorrected"] = False
    (bids / "task-view_bold.json").write_text(json.dumps(about))
    assert find_runs(bids, "01")[0].slice_time_ref == 0
    assert not caplog.text
    about["SliceTimingCorrected"] = "false"
    (bids / "task-view_bold.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="must be true or false; got 'false'"):
        find_runs(bids, "01")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a tab-separated table of confounds; reading it fails with"),
        (b"csf\n" + b"a\n" * N_SCANS, "could not convert string to float: 'a'"),
        (("csf\n" + "1\n" * N_SCANS).encode("utf-16"), "table of confounds; reading"),
        (b"csf\n" + b"inf\n" * N_SCANS, "csf is infinite in a row"),
        (b"wm\n" + b"1\n" * N_SCANS, "csf is missing among wm"),
    ],
)
@pytest.mark.parametrize("confounds", [["csf"], "compcor"])
def test_damaged_confounds_are_named(bids, tmp_path, content, message, confounds):
    prepared = fmriprep(tmp_path / "fmriprep", ["T1w"])
    name = "sub-01_task-view_run-1_desc-confounds_timeseries.tsv"
    (prepared / "sub-01" / "func" / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"desc-confounds_timeseries\.tsv") as caught:
        find_runs(bids, "01", derivatives=prepared, confounds=confounds)
    if isinstance(confounds, list):
        assert message in str(caught.value)


def test_every_file_of_a_run_is_known(bids, tmp_path):
    prepared = fmriprep(tmp_path / "fmriprep", ["T1w"])
    run = find_runs(bids, "01", derivatives=prepared, confounds=["csf"])[0]
    assert sorted(path.name for path in run.inputs) == [
        "sub-01_task-view_run-1_desc-confounds_timeseries.tsv",
        "sub-01_task-view_run-1_events.tsv",
        "sub-01_task-view_run-1_space-T1w_desc-brain_mask.nii.gz",
        "sub-01_task-view_run-1_space-T1w_desc-preproc_bold.json",
        "sub-01_task-view_run-1_space-T1w_desc-preproc_bold.nii.gz",
        "task-view_bold.json",
    ]
    assert Run("a.nii", run.events, 2.0, brain_mask="b.nii").inputs == (
        Path("a.nii"),
        Path("b.nii"),
    )
