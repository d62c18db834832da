"""The GLM of a run against nilearn's own."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel

from tests.scans import AFFINE, CONDITIONS, N_SCANS, T_R, brain, write_bids
from versa.fmri.betas.glm import GLMSettings, design_matrix, estimate
from versa.fmri.betas.runs import Run, find_runs
from versa.fmri.volumes.nifti import read_series


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return find_runs(write_bids(tmp_path_factory.mktemp("bids")), "01")[0]


def by_nilearn(run, settings, **changes):
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
    model = by_nilearn(run, settings)
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
    expected = by_nilearn(other, settings).design_matrices_[0]
    design = design_matrix(other, N_SCANS, settings)
    assert design.index[0] == 1.0
    pd.testing.assert_frame_equal(design[expected.columns], expected)


def test_smoothing_is_nilearns(run):
    settings = GLMSettings(noise_model="ols", smoothing_fwhm=4.0)
    model = by_nilearn(run, settings)
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
    model = by_nilearn(run, settings, sample_masks=np.array(kept))
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
    late = [(10, 5, "cup"), (N_SCANS * T_R + 50, 5, "dog")]
    with pytest.raises(ValueError, match=r"^run 1: conditions must differ .*'dog' can"):
        design_matrix(with_events(run, late), N_SCANS, GLMSettings())
    twins = [(10, 5, "cup"), (10, 5, "dog"), (60, 5, "saw")]
    with pytest.raises(ValueError, match="'cup', 'dog' cannot be estimated"):
        design_matrix(with_events(run, twins), N_SCANS, GLMSettings())


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
