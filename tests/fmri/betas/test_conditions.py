"""Betas: the noun, and what comes from runs."""

import json
import logging
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from nilearn.glm.first_level import FirstLevelModel

from tests.scans import AFFINE, CONDITIONS, SHAPE, T_R, brain, write_bids
from versa.fmri.betas.conditions import ConditionBetas, dataset_from_betas, fit_betas
from versa.fmri.betas.glm import GLMSettings
from versa.fmri.betas.runs import Run, find_runs
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.reliability import rdm_reliability, voxel_reliability
from versa.fmri.sectors.sector import Sector

OLS = GLMSettings(noise_model="ols")


def made_up(subject="01", conditions=("cup", "dog", "key"), **changes):
    mask = np.zeros((2, 3, 4), dtype=bool)
    mask[0, 1:, :2] = True
    values = np.arange(4.0 * len(conditions)).reshape(-1, 4)
    options = {"odd": values + 1, "even": values - 1, "activity": np.arange(4.0)}
    return ConditionBetas(
        subject,
        conditions,
        values,
        mask,
        AFFINE,
        "individual",
        **{**options, **changes},
    )


# ---- the noun ---------------------------------------------------------------------


def test_rows_are_matched_by_name():
    betas = made_up().in_order(["key", "cup"])
    assert betas.conditions == ("key", "cup")
    np.testing.assert_array_equal(betas.values, made_up().values[[2, 0]])
    np.testing.assert_array_equal(betas.odd, made_up().odd[[2, 0]])
    np.testing.assert_array_equal(betas.even, made_up().even[[2, 0]])
    with pytest.raises(
        ValueError, match=r"there is none for 'saw'. The conditions are"
    ):
        made_up().in_order(["cup", "saw"])
    with pytest.raises(ValueError, match="conditions must be unique; repeated: 'cup'"):
        made_up().in_order(["cup", "cup"])


def test_values_go_to_their_places():
    betas = made_up()
    volumes = betas.volumes(betas.values)
    assert volumes.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(volumes[betas.mask].T, betas.values)
    assert np.isnan(volumes[~betas.mask]).all()
    assert betas.volumes(betas.activity).shape == (2, 3, 4)


def test_a_sector_takes_its_columns():
    betas = made_up()
    mask = np.zeros_like(betas.mask)
    mask[0, 2, :2] = True
    sector = Sector("V1", mask, AFFINE, "individual")
    np.testing.assert_array_equal(betas.in_sector(sector), betas.values[:, 2:])
    outside = Sector("V2", ~betas.mask, AFFINE, "individual")
    with pytest.raises(ValueError, match="20 of its 20 voxels have no betas"):
        betas.in_sector(outside)
    for other in (
        Sector("V1", mask, AFFINE, "TAL"),
        Sector("V1", mask, AFFINE @ np.diag([1.1, 1, 1, 1]), "individual"),
    ):
        with pytest.raises(ValueError, match="must lie on the grid of the betas"):
            betas.in_sector(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"odd": None}, "both odd and even, or neither"),
        ({"odd": np.zeros((4, 3))}, r"odd of .* must be .* Is it transposed"),
        ({"activity": np.zeros(3)}, r"activity of .* must be \(n_voxels,\), that is"),
        (
            {"conditions": ("a", "a", "b")},
            "must be unique; repeated: 'a'",
        ),
        ({"conditions": "abc"}, "must be a list of names; got 'abc'"),
        ({"conditions": ("a", 1, "b")}, "must be one or more non-empty texts; got 1"),
    ],
)
def test_what_does_not_belong_together(changes, message):
    with pytest.raises(ValueError, match=message):
        made_up(**changes)


def test_a_dataset():
    stimuli = StimulusSet(["key", "cup"], ["k.png", "c.png"], ["0" * 64] * 2)
    sector = Sector("V1", made_up().mask, AFFINE, "individual")
    people = [made_up("01"), made_up("02", ("dog", "key", "cup"))]
    found = dataset_from_betas("mine", people, {"V1": [sector] * 2}, stimuli)
    np.testing.assert_array_equal(found.responses["V1"][0], people[0].values[[2, 0]])
    np.testing.assert_array_equal(found.responses["V1"][1], people[1].values[[1, 2]])
    assert found.space == "individual"
    with pytest.raises(ValueError, match="one mask per subject; got 1 for 2"):
        dataset_from_betas("mine", people, {"V1": [sector]}, stimuli)
    other = made_up("02", unit="% signal change")
    with pytest.raises(ValueError, match=r"share one unit; got % signal change, a.u."):
        dataset_from_betas("x", [made_up(), other], {"V1": [sector] * 2}, stimuli)


# ---- from runs --------------------------------------------------------------------


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    return write_bids(tmp_path_factory.mktemp("bids") / "raw", n_runs=5)


@pytest.fixture
def runs(bids):
    return find_runs(bids, "01")


@pytest.fixture
def mask(bids):
    return bids / "mask-01.nii.gz"


def by_nilearn(runs, mask):
    """nilearn's own fixed effects over runs."""
    model = FirstLevelModel(t_r=T_R, noise_model="ols", mask_img=nibabel.load(mask))
    images = [nibabel.load(run.bold) for run in runs]
    images = [nibabel.Nifti1Image(i.get_fdata(), i.affine) for i in images]
    return model.fit(images, [run.events for run in runs])


def test_all_odd_and_even_runs_are_nilearns(runs, mask):
    betas = fit_betas(runs, "01", settings=OLS, mask=mask, space="individual")
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
    betas = fit_betas(some, "01", settings=OLS, mask=mask, space="individual")
    each = [
        fit_betas([run], "01", settings=OLS, mask=mask, space="individual")
        for run in some
    ]
    assert each[0].odd is None  # one run has no halves
    cup = np.mean([one.values[one.conditions.index("cup")] for one in each[1:]], axis=0)
    np.testing.assert_allclose(betas.values[0], cup)
    np.testing.assert_allclose(
        betas.odd[0], np.mean([each[2].values[0], each[4].values[0]], axis=0)
    )
    never = [without(run, "cup") if i % 2 else run for i, run in enumerate(runs)]
    with caplog.at_level(logging.WARNING, logger="versa"):
        betas = fit_betas(never, "01", settings=OLS, mask=mask, space="individual")
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
        betas = fit_betas(some, "01", settings=OLS, mask=mask, space="individual")
    assert (
        "run.nii: 2 of 60 voxels of the mask are constant or not finite" in caplog.text
    )
    expected = brain()
    expected[1, 1, 1] = expected[2, 2, 2] = False
    np.testing.assert_array_equal(betas.mask, expected)
    whole = fit_betas(runs[:3], "01", settings=OLS, mask=mask, space="individual")
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
    plain = fit_betas(runs[:2], "01", settings=OLS, mask=mask, space="individual")
    other = rewritten(runs[:2], tmp_path, turned(codes), ending)
    betas = fit_betas(other, "01", settings=OLS, mask=mask, space="individual")

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
    plain = fit_betas(runs[:2], "01", settings=OLS, mask=mask, space="individual")
    betas = fit_betas(other, "01", settings=OLS, mask=mask, space="individual")
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
        fit_betas(other, "01", settings=OLS, mask=mask, space="individual")
    found = fit_betas(
        other, "01", settings=OLS, mask=mask, space="individual", resample="nearest"
    )
    assert 0 < found.n_voxels <= brain().sum() * 1.5
    single = rewritten(runs[:1], tmp_path, lambda image: image.slicer[..., :1])
    with pytest.raises(ValueError, match=r"a run .* of two scans or more; got"):
        fit_betas(single, "01", settings=OLS, mask=mask, space="individual")
    flat = rewritten(runs[:1], tmp_path, lambda image: image.slicer[..., 0])
    with pytest.raises(ValueError, match=r"a run .* of two scans or more; got"):
        fit_betas(flat, "01", settings=OLS, mask=mask, space="individual")
    with pytest.raises(ValueError, match="at least one run; got none"):
        fit_betas([], "01")


def test_the_space_must_be_known(runs, mask, tmp_path):
    with pytest.raises(ValueError, match="its space must be known; neither name nor"):
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
    betas = fit_betas(runs, "01", settings=settings, mask=mask, space="individual")
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

LIMITED = """
import resource, sys
import nilearn.glm.first_level, nibabel  # what is imported is not what is measured
import numpy as np, pandas as pd
from versa.fmri.betas.conditions import fit_betas
from versa.fmri.betas.glm import GLMSettings
from versa.fmri.betas.runs import Run
folder, n_runs, room = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
events = pd.DataFrame({"onset": [10.0, 60.0], "duration": 8.0,
                       "trial_type": ["cup", "dog"]})
runs = [Run(f"{folder}/run-{i}.nii", events, 2.0) for i in range(n_runs)]
betas = fit_betas(runs, "01", settings=GLMSettings(noise_model="ols",
                  signal_scaling=False), mask=f"{folder}/mask.nii", space="TAL")
print(betas.n_voxels)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_much_larger_than_the_memory(tmp_path):
    """Runs of 1 GB each are read in blocks: only the voxels of the mask stay."""
    shape = (128, 128, 100)
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2, 300), np.int16), np.eye(4))
    header = image.header.copy()
    header.set_data_shape((*shape, 300))
    n_bytes = 2 * int(np.prod(shape)) * 300
    rng = np.random.default_rng(0)
    for number in range(2):
        with open(tmp_path / f"run-{number}.nii", "wb") as file:
            header.write_to(file)
            file.truncate(352 + n_bytes)  # a hole: it takes no room on the disk
            for scan in range(300):
                file.seek(352 + 2 * int(np.prod(shape)) * scan)
                file.write(rng.integers(1, 99, 128 * 20).astype(np.int16).tobytes())
    mask = np.zeros(shape, np.uint8)
    mask[:, :20, 0] = 1
    nibabel.Nifti1Image(mask, np.eye(4)).to_filename(tmp_path / "mask.nii")
    room = 300 * 2**20
    assert n_bytes > 3 * room
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), "2", str(room)],
        capture_output=True,
        text=True,
        check=False,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["2560"]


# ---- what a review found ------------------------------------------------------------


def test_centred_signals_have_no_percent(runs, mask, tmp_path):
    def centred(image):
        values = image.get_fdata()
        values = values - values.mean(axis=3, keepdims=True)
        return nibabel.Nifti1Image(values, image.affine)

    other = rewritten(runs[:2], tmp_path, centred)
    with pytest.raises(ValueError, match=r"must have a baseline .* \(--raw-signal\)"):
        fit_betas(other, "01", settings=OLS, mask=mask, space="individual")
    raw = GLMSettings(noise_model="ols", signal_scaling=False)
    found = fit_betas(other, "01", settings=raw, mask=mask, space="individual")
    plain = fit_betas(runs[:2], "01", settings=raw, mask=mask, space="individual")
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("option", ["left_out", "nuisance"])
def test_misspelt_events_are_refused(runs, mask, option):
    settings = GLMSettings(noise_model="ols", **{option: ["Cup"]})
    with pytest.raises(ValueError, match=f"{option} must name events .* 'Cup' does"):
        fit_betas(runs, "01", settings=settings, mask=mask, space="individual")


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
