"""Betas from runs, and the GLM of one run, against nilearn's own."""

import json
import logging
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel

from tests.scans import (
    AFFINE,
    CONDITIONS,
    N_LARGE,
    N_SCANS,
    SHAPE,
    T_R,
    brain,
    run_in_little_memory,
    write_bids,
    write_large_mask,
    write_large_run,
)
from versa.fmri.betas.glm import GLMSettings, design_matrix, estimate, fit_betas
from versa.fmri.betas.runs import Run, find_runs
from versa.fmri.ceilings import rdm_reliability
from versa.fmri.reliability import voxel_reliability
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.nifti import read_series

OLS = GLMSettings(noise_model="ols")


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    return write_bids(tmp_path_factory.mktemp("bids") / "raw", n_runs=5)


@pytest.fixture(scope="module")
def runs(bids):
    return find_runs(bids, "01")


@pytest.fixture(scope="module")
def run(runs):
    return runs[0]


@pytest.fixture
def mask(bids):
    return bids / "mask-01.nii.gz"


def fit(runs, mask, *, settings=OLS, space="individual", **options):
    return fit_betas(runs, "01", settings=settings, mask=mask, space=space, **options)


# ---- one run ---------------------------------------------------------------------


def run_by_nilearn(run, settings, **changes):
    model = FirstLevelModel(
        t_r=run.t_r,
        slice_time_ref=run.slice_time_ref,
        hrf_model=settings.hrf_model,
        drift_model=None if settings.drift_model == "none" else settings.drift_model,
        high_pass=settings.high_pass,
        drift_order=settings.drift_order,
        noise_model=settings.noise_model,
        signal_scaling=settings.signal_scaling,
        smoothing_fwhm=settings.smoothing_fwhm,
        mask_img=nibabel.Nifti1Image(brain().astype(np.uint8), AFFINE),
        random_state=0,
        minimize_memory=False,
    )
    image = nibabel.load(run.bold)
    image = nibabel.Nifti1Image(image.get_fdata(), image.affine)  # float64
    return model.fit(image, run.events, confounds=run.confounds, **changes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hrf_model": "spm", "noise_model": "ols", "high_pass": 1 / 128},
        {"hrf_model": "spm + derivative", "noise_model": "ols"},
        {"drift_model": "polynomial", "drift_order": 3, "noise_model": "ols"},
        {"drift_model": "none", "signal_scaling": False},
        {"noise_model": "ar3"},
    ],
    ids=str,
)
def test_betas_and_contrast_are_nilearns(run, options):
    settings = GLMSettings(**options)
    model = run_by_nilearn(run, settings)
    design = design_matrix(run, N_SCANS, settings)
    found = estimate(read_series(run.bold, brain()), design, run, settings)
    assert found.conditions == CONDITIONS
    masked = brain()
    for row, name in enumerate(CONDITIONS):
        expected = model.compute_contrast(name, output_type="effect_size")
        expected = expected.get_fdata()[masked]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found.betas[row], expected, atol=1e-6 * scale)
    mean = "+".join(CONDITIONS)
    every = model.compute_contrast(mean, output_type="all")
    effect = every["effect_size"].get_fdata()[masked] / len(CONDITIONS)
    t = every["stat"].get_fdata()[masked]
    np.testing.assert_allclose(found.effect, effect, atol=1e-6 * np.abs(effect).max())
    np.testing.assert_allclose(
        found.effect / np.sqrt(found.variance), t, atol=1e-5 * np.abs(t).max()
    )


def test_slice_time_and_confounds(run):
    rng = np.random.default_rng(1)
    confounds = pd.DataFrame(rng.normal(size=(N_SCANS, 2)), columns=["x", "y"])
    other = Run(run.bold, run.events, T_R, slice_time_ref=0.5, confounds=confounds)
    settings = GLMSettings(noise_model="ols")
    expected = run_by_nilearn(other, settings).design_matrices_[0]
    design = design_matrix(other, N_SCANS, settings)
    assert design.index[0] == 1.0
    pd.testing.assert_frame_equal(design[expected.columns], expected)


def test_smoothing_is_nilearns(run):
    settings = GLMSettings(noise_model="ols", smoothing_fwhm=4.0)
    model = run_by_nilearn(run, settings)
    series = read_series(run.bold, brain(), smoothing_fwhm=4.0)
    design = design_matrix(run, N_SCANS, settings)
    found = estimate(series, design, run, settings)
    expected = model.compute_contrast("cup", output_type="effect_size").get_fdata()
    np.testing.assert_allclose(found.betas[0], expected[brain()], atol=2e-4)


def test_only_kept_scans_count(run):
    kept = [i for i in range(N_SCANS) if i not in (3, 40, 41)]
    settings = GLMSettings(noise_model="ols")
    other = Run(run.bold, run.events, T_R, kept=kept)
    design = design_matrix(other, N_SCANS, settings)
    assert len(design) == len(kept)
    series = read_series(run.bold, brain())
    found = estimate(series[kept], design, other, settings)
    model = run_by_nilearn(run, settings, sample_masks=np.array(kept))
    for row, name in enumerate(CONDITIONS):
        expected = model.compute_contrast(name, output_type="effect_size")
        np.testing.assert_allclose(
            found.betas[row], expected.get_fdata()[brain()], atol=1e-5
        )


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_chunks_change_nothing(run, noise, monkeypatch):
    settings = GLMSettings(noise_model=noise)
    design = design_matrix(run, N_SCANS, settings)
    series = read_series(run.bold, brain())
    whole = estimate(series, design, run, settings)
    monkeypatch.setattr("versa.fmri.betas.glm._CHUNK", 7)
    monkeypatch.setattr("versa.fmri.betas.glm._CHUNK_BYTES", 7 * 8 * N_SCANS)
    parts = estimate(series, design, run, settings)
    for one, other in zip(whole[1:], parts[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def with_events(run, rows, **changes):
    events = pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])
    return Run(run.bold, events, T_R, name="run 1", **changes)


def test_names_of_conditions_may_be_anything(run):
    rows = [
        (10, 5, "event000001_derivative"),
        (50, 5, "a b + c"),
        (90, 5, "1"),
        (120, 5, "constant2"),
    ]
    design = design_matrix(with_events(run, rows), N_SCANS, GLMSettings())
    assert {name for _, _, name in rows} <= set(design.columns)


def test_events_that_are_no_conditions(run):
    rows = [(10, 5, "cup"), (50, 5, "target"), (90, 5, "rest"), (120, 5, "dog")]
    settings = GLMSettings(nuisance=["target"], left_out="rest", noise_model="ols")
    other = with_events(run, rows)
    design = design_matrix(other, N_SCANS, settings)
    assert "target" in design
    assert "rest" not in design
    found = estimate(read_series(run.bold, brain()), design, other, settings)
    assert found.conditions == ("cup", "dog")
    everything = GLMSettings(left_out=["rest"], noise_model="ols")
    whole = estimate(read_series(run.bold, brain()), design, other, everything)
    np.testing.assert_allclose(found.betas, whole.betas[[0, 1]])


def test_conditions_that_cannot_be_estimated(run):
    twins = [(10, 5, "cup"), (10, 5, "dog"), (60, 5, "saw")]
    with pytest.raises(ValueError, match="'cup', 'dog' cannot be estimated"):
        design_matrix(with_events(run, twins), N_SCANS, GLMSettings())


def test_runs_that_were_cut_short(run, runs, mask, caplog):
    late = [(10, 5, "cup"), (N_SCANS * T_R + 50, 5, "dog"), (40, 5, "saw")]
    short = with_events(run, late)
    with pytest.raises(ValueError, match=r"^run 1: .*ends at 180 s.*'dog' at 230 s be"):
        design_matrix(short, N_SCANS, OLS)
    dropping = replace(OLS, drop_late=True)
    expected = design_matrix(with_events(run, [late[0], late[2]]), N_SCANS, OLS)
    found = design_matrix(short, N_SCANS, dropping)
    pd.testing.assert_frame_equal(found, expected)
    assert "run 1 ends at 180 s; left out are 'dog' at 230 s." in caplog.text
    # the mean of the condition is that over the other runs
    events = runs[3].events.copy()
    row = int(np.flatnonzero(events["trial_type"] == "dog")[0])
    events.loc[row, "onset"] = 500.0
    cut = [*runs[:3], replace(runs[3], events=events)]
    betas = fit(cut, mask, settings=dropping)
    whole = [fit([one], mask).in_order(["dog"]).values for one in runs[:3]]
    got = betas.in_order(["dog"]).values
    np.testing.assert_allclose(got, np.mean(whole, axis=0))
    with pytest.raises(ValueError, match=r"'dog' has none\. Leave these events out"):
        fit([with_events(run, late)] * 2, mask, settings=dropping)


def test_late_events_beside_others_are_named(run, caplog):
    rows = [(10, 5, "cup"), (40, 5, "dog"), (200, 5, "dog")]
    found = design_matrix(with_events(run, rows), N_SCANS, OLS)
    expected = design_matrix(with_events(run, rows[:2]), N_SCANS, OLS)
    pd.testing.assert_frame_equal(found, expected)
    assert "'dog' at 200 s" in caplog.text


def test_weights_of_events_are_nilearns(run):
    from nilearn.glm.first_level import make_first_level_design_matrix

    rows = [(10, 5, "cup"), (90, 5, "cup"), (50, 5, "dog")]
    weighted = with_events(run, rows)
    weighted.events["modulation"] = [1.0, 3.0, 2.0]
    found = design_matrix(weighted, N_SCANS, OLS)
    times = np.arange(N_SCANS) * T_R
    expected = make_first_level_design_matrix(times, weighted.events)
    np.testing.assert_allclose(found["cup"], expected["cup"])
    first, second = found["cup"].iloc[:40].max(), found["cup"].iloc[40:].max()
    assert second / first == pytest.approx(3, rel=1e-3)
    weighted.events["modulation"] = np.nan
    with pytest.raises(ValueError, match="modulation must be finite weights; got nan"):
        Run(run.bold, weighted.events, T_R)


def test_names_that_letter_case_tells_apart(runs, mask, caplog):
    events = runs[0].events.replace("cup", "Cup")
    fit([replace(runs[0], events=events), *runs[1:3]], mask)
    assert "subject 01: 'Cup', 'cup' count as different conditions" in caplog.text


def test_refusals(run):
    short = pd.DataFrame(np.zeros((5, 1)), columns=["x"])
    rows = [(10, 5, "cup")]
    with pytest.raises(ValueError, match="one row of confounds per scan; got 5 for 90"):
        design_matrix(with_events(run, rows, confounds=short), N_SCANS, GLMSettings())
    with pytest.raises(ValueError, match="at least one condition; its events are cup"):
        design_matrix(with_events(run, rows), N_SCANS, GLMSettings(nuisance=["cup"]))
    with pytest.raises(ValueError, match="more scans than regressors; got 4 scans for"):
        design_matrix(with_events(run, rows, kept=[0, 1, 2, 3]), N_SCANS, GLMSettings(
            high_pass=0.02))  # fmt: skip
    with pytest.raises(ValueError, match="numbers of scans from 0 to 89; got 5, 200"):
        design_matrix(with_events(run, rows, kept=[5, 200]), N_SCANS, GLMSettings())
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(90, 1)), columns=["cup"])
    with pytest.raises(ValueError, match="regressors must be unique; repeated: 'cup'"):
        design_matrix(with_events(run, rows, confounds=noise), N_SCANS, GLMSettings())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hrf_model": "fir"}, "hrf_model must be among glover, .*got 'fir'"),
        ({"drift_model": "linear"}, "drift_model must be among cosine"),
        ({"noise_model": "ar0"}, "noise_model must be ols or arN"),
        ({"high_pass": -1}, "high_pass must be a frequency"),
        ({"drift_order": -1}, "drift_order must be 0 or more"),
        ({"signal_scaling": True}, "signal_scaling must be 0 .* or False; got True"),
        ({"smoothing_fwhm": 0}, "smoothing_fwhm must be a width"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        GLMSettings(**options)


# ---- several runs ----------------------------------------------------------------


def by_nilearn(runs, mask):
    """nilearn's own fixed effects over runs."""
    model = FirstLevelModel(t_r=T_R, noise_model="ols", mask_img=nibabel.load(mask))
    images = [nibabel.load(run.bold) for run in runs]
    images = [nibabel.Nifti1Image(i.get_fdata(), i.affine) for i in images]
    return model.fit(images, [run.events for run in runs])


def test_all_odd_and_even_runs_are_nilearns(runs, mask):
    betas = fit(runs, mask)
    assert betas.conditions == CONDITIONS
    np.testing.assert_array_equal(betas.mask, brain())
    assert betas.unit == "% signal change"
    for part, some in (
        (betas.values, runs),
        (betas.odd, runs[0::2]),
        (betas.even, runs[1::2]),
    ):
        model = by_nilearn(some, mask)
        for row, name in enumerate(CONDITIONS):
            expected = model.compute_contrast(name, output_type="effect_size")
            expected = expected.get_fdata()[brain()]
            scale = np.abs(expected).max()
            np.testing.assert_allclose(part[row], expected, atol=1e-6 * scale)
    t = by_nilearn(runs, mask).compute_contrast(
        "+".join(CONDITIONS), output_type="stat"
    )
    t = t.get_fdata()[brain()]
    np.testing.assert_allclose(betas.activity, t, atol=1e-5 * np.abs(t).max())


def test_conditions_in_some_of_the_runs(runs, mask, caplog):
    def without(run, *names):
        events = run.events[~run.events["trial_type"].isin(names)]
        return Run(run.bold, events.reset_index(drop=True), run.t_r)

    some = [without(runs[0], "cup"), *runs[1:]]
    betas = fit(some, mask)
    each = [fit([run], mask) for run in some]
    assert each[0].odd is None  # one run has no halves
    cup = np.mean([one.values[one.conditions.index("cup")] for one in each[1:]], axis=0)
    np.testing.assert_allclose(betas.values[0], cup)
    np.testing.assert_allclose(
        betas.odd[0], np.mean([each[2].values[0], each[4].values[0]], axis=0)
    )
    never = [without(run, "cup") if i % 2 else run for i, run in enumerate(runs)]
    with caplog.at_level(logging.WARNING, logger="versa"):
        betas = fit(never, mask)
    assert betas.odd is None
    assert "no odd/even halves: cup occur in odd or in even runs only" in caplog.text


def test_voxels_that_say_nothing_are_left_out(runs, mask, tmp_path, caplog):
    image = nibabel.load(runs[2].bold)
    values = image.get_fdata(dtype=np.float32).copy()
    values[1, 1, 1] = 5.0
    values[2, 2, 2, 7] = np.nan
    values[~brain()] = np.nan  # as some programs leave it
    path = tmp_path / "run.nii"
    nibabel.Nifti1Image(values, image.affine).to_filename(path)
    some = [*runs[:2], Run(path, runs[2].events, T_R)]
    with caplog.at_level(logging.INFO, logger="versa"):
        betas = fit(some, mask)
    assert (
        "run.nii: 2 of 60 voxels of the mask are constant or not finite" in caplog.text
    )
    expected = brain()
    expected[1, 1, 1] = expected[2, 2, 2] = False
    np.testing.assert_array_equal(betas.mask, expected)
    whole = fit(runs[:3], mask)
    np.testing.assert_allclose(betas.values, whole.values[:, expected[brain()]])


def rewritten(runs, folder, change, ending=".nii.gz"):
    """The same runs with their images changed by a function."""
    made = []
    for number, run in enumerate(runs):
        path = folder / f"run-{number}{ending}"
        change(nibabel.load(run.bold)).to_filename(path)
        made.append(Run(path, run.events, run.t_r))
    return made


def turned(codes):
    def change(image):
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        start = io_orientation(image.affine)
        return image.as_reoriented(ornt_transform(start, axcodes2ornt(codes)))

    return change


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SLA"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_orientations_move_nothing(runs, mask, tmp_path, codes, ending):
    plain = fit(runs[:2], mask)
    other = rewritten(runs[:2], tmp_path, turned(codes), ending)
    betas = fit(other, mask)

    # the value at each place in mm is the same, whatever the order of the voxels
    def places(one):
        at = nibabel.affines.apply_affine(one.affine, np.argwhere(one.mask))
        order = np.lexsort(at.round(3).T)
        return at[order], one.values[:, order]

    for mine, theirs in zip(places(betas), places(plain), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-9)


def test_scaled_integers(runs, mask, tmp_path):
    def scaled(image):
        found = nibabel.Nifti1Image(image.get_fdata(), image.affine)
        found.set_data_dtype(np.int16)
        return found

    other = rewritten(runs[:2], tmp_path, scaled)
    assert nibabel.load(other[0].bold).dataobj.slope != 1
    plain = fit(runs[:2], mask)
    betas = fit(other, mask)
    np.testing.assert_allclose(betas.values, plain.values, atol=0.02)


def test_runs_that_do_not_fit(runs, mask, tmp_path):
    def moved(image):
        affine = image.affine.copy()
        affine[0, 3] += 1.5
        return nibabel.Nifti1Image(image.get_fdata(), affine)

    other = rewritten(runs[:1], tmp_path, moved)
    with pytest.raises(ValueError, match="runs of a subject must share one grid"):
        fit_betas([*other, *runs[1:]], "01", settings=OLS, space="individual")
    with pytest.raises(ValueError, match="must have its voxels where the data have th"):
        fit(other, mask)
    found = fit(other, mask, resample="nearest")
    assert 0 < found.n_voxels <= brain().sum() * 1.5
    single = rewritten(runs[:1], tmp_path, lambda image: image.slicer[..., :1])
    with pytest.raises(ValueError, match=r"a run .* of two scans or more; got"):
        fit(single, mask)
    flat = rewritten(runs[:1], tmp_path, lambda image: image.slicer[..., 0])
    with pytest.raises(ValueError, match=r"a run .* of two scans or more; got"):
        fit(flat, mask)
    with pytest.raises(ValueError, match="at least one run; got none"):
        fit_betas([], "01")


def test_the_space_must_be_known(runs, mask, tmp_path):
    with pytest.raises(ValueError, match=r"the space of .* must be known: TAL"):
        fit_betas(runs, "01", settings=OLS, mask=mask)

    def coded(code):
        def change(image):
            image.header.set_sform(image.affine, code)
            return image

        return change

    for code, space in ((1, "individual"), (3, "TAL"), (4, "MNI152")):
        other = rewritten(runs[:2], tmp_path, coded(code))
        assert fit_betas(other, "01", settings=OLS, mask=mask).space == space

    def lost(image):
        image.header.set_sform(None, 0)
        image.header.set_qform(None, 0)
        return nibabel.Nifti1Image(image.dataobj, None, image.header)

    other = rewritten(runs[:2], tmp_path, lost)
    with pytest.raises(
        ValueError, match="must say where its voxels are; its header ha"
    ):
        fit_betas(other, "01", settings=OLS)


@pytest.mark.filterwarnings("ignore:Computed an empty mask")
def test_masks_are_found(runs, tmp_path, caplog):
    from nilearn.masking import compute_epi_mask

    def larger(image):  # nilearn's rule wants a brain of more than a few voxels
        values = image.get_fdata()
        for axis in range(3):
            values = values.repeat(4, axis)
        return nibabel.Nifti1Image(values, image.affine @ np.diag([0.25] * 3 + [1]))

    large = rewritten(runs[:2], tmp_path, larger, ".nii")
    with caplog.at_level(logging.INFO, logger="versa"):
        betas = fit_betas(large, "01", settings=OLS, space="individual")
    assert "no mask is given: the brain is looked for in the mean of" in caplog.text
    expected = compute_epi_mask(nibabel.load(large[0].bold)).get_fdata() > 0
    varies = brain().repeat(4, 0).repeat(4, 1).repeat(4, 2)
    np.testing.assert_array_equal(betas.mask, expected & varies)
    assert betas.n_voxels > 1000
    with pytest.raises(ValueError, match="must show a brain; none was found"):
        fit_betas(runs, "01", settings=OLS, space="individual")
    part = np.zeros(SHAPE, dtype=bool)
    part[2, 2, 2] = True
    sector = Sector("one", part, AFFINE, "individual")
    one = fit_betas(runs, "01", settings=OLS, mask=sector, space="individual")
    assert one.n_voxels == 1


# ---- real scans -------------------------------------------------------------------


def test_haxby(shared):
    root = shared / "data" / "haxby2001"
    expected = json.loads((root / "expected.json").read_text())["slice_brain"]
    masks = root / "derivatives" / "masks" / "sub-01"
    mask = masks / "sub-01_acq-slice_desc-brain_mask.nii.gz"
    runs = find_runs(root, "01", filters={"acq": "slice"})
    assert len(runs) == 12
    settings = GLMSettings(hrf_model="spm", noise_model="ols", high_pass=1 / 128)
    betas = fit(runs, mask, settings=settings)
    assert betas.n_voxels == expected["n_voxels"]
    r = voxel_reliability(betas.odd, betas.even)
    assert np.median(r) == pytest.approx(
        expected["odd_even_reliability_median"], abs=2e-6
    )
    assert np.mean(r > 0.3) == expected["fraction_above_0.3"]
    assert rdm_reliability(betas.odd, betas.even) == pytest.approx(
        expected["odd_even_RDM_r"], abs=1e-5
    )
    model = FirstLevelModel(
        t_r=2.5,
        hrf_model="spm",
        high_pass=1 / 128,
        noise_model="ols",
        mask_img=nibabel.load(mask),
    )
    images = [nibabel.load(run.bold) for run in runs]
    images = [nibabel.Nifti1Image(i.get_fdata(), i.affine) for i in images]
    model.fit(images, [run.events for run in runs])
    for row, name in enumerate(betas.conditions):
        theirs = model.compute_contrast(name, output_type="effect_size")
        theirs = theirs.get_fdata()[betas.mask]
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(betas.values[row], theirs, atol=1e-6 * scale)


# ---- memory -----------------------------------------------------------------------

LARGE_RUNS = """
import pandas as pd
from versa.fmri.betas import GLMSettings, Run, fit_betas
events = pd.DataFrame(
    {"onset": [10.0, 60.0], "duration": 8.0, "trial_type": ["cup", "dog"]}
)
runs = [Run(f"run-{i}.nii", events, 2.0) for i in range(2)]
raw = GLMSettings(noise_model="ols", signal_scaling=False)
betas = fit_betas(runs, "01", settings=raw, mask="mask.nii", space="TAL")
print(betas.n_voxels)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_runs_much_larger_than_the_memory(tmp_path):
    """Runs of 1 GB each are read in blocks: only the voxels of the mask stay."""
    write_large_mask(tmp_path / "mask.nii")
    rng = np.random.default_rng(0)
    for number in range(2):
        write_large_run(tmp_path / f"run-{number}.nii", 300, rng)
    printed = run_in_little_memory(LARGE_RUNS, tmp_path, 300 * 2**20)
    assert printed.split() == [str(N_LARGE)]


def test_centred_signals_have_no_percent(runs, mask, tmp_path):
    def centred(image):
        values = image.get_fdata()
        values = values - values.mean(axis=3, keepdims=True)
        return nibabel.Nifti1Image(values, image.affine)

    other = rewritten(runs[:2], tmp_path, centred)
    with pytest.raises(ValueError, match=r"must have a baseline .* \(--raw-signal\)"):
        fit(other, mask)
    raw = GLMSettings(noise_model="ols", signal_scaling=False)
    found = fit(other, mask, settings=raw)
    plain = fit(runs[:2], mask, settings=raw)
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("option", ["left_out", "nuisance"])
def test_misspelt_events_are_refused(runs, mask, option):
    settings = GLMSettings(noise_model="ols", **{option: ["Cup"]})
    with pytest.raises(ValueError, match=f"{option} must name events .* 'Cup' does"):
        fit(runs, mask, settings=settings)


def test_spaces_that_contradict(runs, mask, tmp_path):
    named = tmp_path / "run_space-MNI152NLin6Asym_bold.nii.gz"
    named.write_bytes(runs[0].bold.read_bytes())
    mni = Run(named, runs[0].events, T_R)
    with pytest.raises(ValueError, match="in space TAL; its name says MNI152NLin6Asym"):
        fit_betas([mni], "01", settings=OLS, mask=mask, space="TAL")
    sector = Sector("brain", brain(), AFFINE, "TAL")
    with pytest.raises(ValueError, match="mask brain must be in the space of the runs"):
        fit_betas(runs, "01", settings=OLS, mask=sector, space="individual")
    foreign = tmp_path / "brain_space-MNI152NLin6Asym_mask.nii.gz"
    foreign.write_bytes(mask.read_bytes())
    with pytest.raises(ValueError, match="its name says MNI152NLin6Asym"):
        fit_betas(runs, "01", settings=OLS, mask=foreign, space="individual")
    with pytest.raises(ValueError, match="space must be TAL, MNI152"):
        fit_betas(runs, "01", settings=OLS, mask=mask, space="Talairach")
