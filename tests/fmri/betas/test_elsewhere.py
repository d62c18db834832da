"""Betas made elsewhere: arrays, images, runs of images, maps; and real arrays."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from versa.fmri.betas.conditions import dataset_from_betas
from versa.fmri.betas.elsewhere import (
    ImageOptions,
    betas_from_array,
    betas_from_images,
    betas_from_runs,
)
from versa.fmri.betas.trials import average_trials
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.sectors.sector import Sector

NAMES = ("cup", "dog", "ear")
SHAPE = (4, 5, 6)
AFFINE = np.diag([3.0, 3, 3, 1])


@pytest.fixture
def volumes():
    rng = np.random.default_rng(0)
    volumes = {name: rng.normal(size=SHAPE).astype(np.float32) for name in NAMES}
    for volume in volumes.values():
        volume[0] = 0  # no brain
        volume[1, 1, 1] = np.nan
    return volumes


def save(folder, volumes, affine=AFFINE, ending=".nii.gz"):
    folder.mkdir(exist_ok=True)
    paths = {}
    for name, values in volumes.items():
        paths[name] = folder / f"{name}{ending}"
        nibabel.Nifti1Image(values, affine).to_filename(paths[name])
    return paths


def brain():
    mask = np.ones(SHAPE, bool)
    mask[0] = False
    mask[1, 1, 1] = False
    return mask


def test_arrays_are_taken_as_they_are():
    values = np.arange(6.0).reshape(2, 3)
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 1] = mask[1, 0, 1] = True
    betas = betas_from_array(
        values, ["cup", "dog"], subject="01", mask=mask, affine=AFFINE, space="TAL"
    )
    np.testing.assert_array_equal(betas.volumes(values)[1, 0, 1], [2.0, 5.0])
    assert betas.space == "TAL"
    frame = pd.DataFrame(values, index=["cup", "dog"])
    betas = betas_from_array(frame, ["cup", "dog"], subject="01")
    np.testing.assert_array_equal(betas.values, values)


def test_arrays_that_do_not_fit_are_refused():
    values = np.arange(6.0).reshape(2, 3)
    frame = pd.DataFrame(values, index=["cup", "dog"])
    with pytest.raises(ValueError, match=r"its index, in their order; got cup, dog"):
        betas_from_array(frame, ["dog", "cup"], subject="01")
    with pytest.raises(ValueError, match=r"odd of subject 01 must have the conditions"):
        betas_from_array(values, ["dog", "cup"], subject="01", odd=frame, even=frame)
    with pytest.raises(ValueError, match="must have a mask if they have a space"):
        betas_from_array(values, ["cup", "dog"], subject="01", space="TAL")
    with pytest.raises(ValueError, match="must have the affine of their mask"):
        betas_from_array(
            values, ["cup", "dog"], subject="01", mask=np.ones((1, 1, 3), bool)
        )
    with pytest.raises(ValueError, match=r"must be \(n_conditions, n_voxels\)"):
        betas_from_array(values[0], ["cup"], subject="01")
    with pytest.raises(ValueError, match="must be a list of names; got 'ab'"):
        betas_from_array(values, "ab", subject="01")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_images_are_matched_to_conditions_by_name(tmp_path, volumes, ending):
    paths = save(tmp_path / "a", volumes, ending=ending)
    mask = brain()
    betas = betas_from_images(paths, subject="01", space="individual")
    assert betas.conditions == NAMES
    np.testing.assert_array_equal(betas.mask, mask)
    for row, name in enumerate(NAMES):
        np.testing.assert_array_equal(betas.values[row], volumes[name][mask])
    # halves are given in another order than the images
    odd = save(tmp_path / "odd", {n: volumes[n] + 1 for n in reversed(NAMES)})
    even = save(tmp_path / "even", {n: volumes[n] + 2 for n in NAMES})
    both = betas_from_images(
        paths, ["ear", "cup"], subject="01", space="TAL", odd=odd, even=even
    )
    assert both.conditions == ("ear", "cup")
    np.testing.assert_allclose(both.odd, both.values + 1, atol=1e-6)
    np.testing.assert_allclose(both.even, both.values + 2, atol=1e-6)
    with pytest.raises(ValueError, match="odd of subject 01 must have an image for"):
        betas_from_images(
            paths, subject="01", space="TAL", odd={"cup": paths["cup"]}, even=even
        )


def test_a_4d_image_needs_the_names_of_its_volumes(tmp_path, volumes):
    stack = np.stack([volumes[name] for name in NAMES], axis=-1)
    name = "sub-01_space-MNI152NLin6Asym_stat"
    path = save(tmp_path, {name: stack})[name]
    betas = betas_from_images(path, NAMES, subject="01", activity=None)
    assert betas.space == "MNI152NLin6Asym"
    np.testing.assert_array_equal(betas.values, stack[brain()].T)
    t = save(tmp_path, {"t": volumes["dog"]})["t"]
    with_activity = betas_from_images(path, NAMES, subject="01", activity=t)
    np.testing.assert_array_equal(with_activity.activity, volumes["dog"][brain()])
    with pytest.raises(ValueError, match="conditions must name the volumes of"):
        betas_from_images(path, subject="01")
    with pytest.raises(ValueError, match="with 2 volumes; got"):
        betas_from_images(path, NAMES[:2], subject="01")
    with pytest.raises(ValueError, match="in space TAL; its name says MNI152NLin6Asym"):
        betas_from_images(path, NAMES, subject="01", space="TAL")


def test_an_unknown_space_is_refused(tmp_path, volumes):
    paths = save(tmp_path, volumes)
    with pytest.raises(ValueError, match=r"the space of cup.nii.gz must be known"):
        betas_from_images(paths, subject="01")
    named = save(tmp_path, {"a_space-T1w_b": volumes["cup"]})
    own = betas_from_images(named, subject="01")  # fMRIPrep's name of native space
    assert own.space == "individual"
    with pytest.raises(ValueError, match="in space TAL; its name says individual"):
        betas_from_images(named, subject="01", space="TAL")
    odd = save(tmp_path, {"a_space-fsaverage_b": volumes["cup"]})
    with pytest.raises(ValueError, match=r"space must be TAL, .*; got 'fsaverage'"):
        betas_from_images(odd, subject="01")
    mixed = {"cup": named["a_space-T1w_b"], "dog": odd["a_space-fsaverage_b"]}
    with pytest.raises(ValueError, match="individual; its name says fsaverage"):
        betas_from_images(mixed, subject="01", space="individual")
    lost = nibabel.Nifti1Image(volumes["cup"], None)
    lost.to_filename(tmp_path / "lost.nii")
    with pytest.raises(ValueError, match="neither sform nor qform"):
        betas_from_images({"cup": tmp_path / "lost.nii"}, subject="01", space="TAL")
    with pytest.raises(ValueError, match="images of subject 01 must be at least one"):
        betas_from_images({}, subject="01", space="TAL")


def of_runs(images, space, **more):
    options = ImageOptions("01", space, None, None, None, "a.u.", "test")
    return betas_from_runs(images, options, **more)


def test_runs_are_averaged_and_halved(tmp_path, volumes, caplog):
    images = []
    for run in (1, 2, 3):
        paths = save(tmp_path / f"{run}", {n: v * run for n, v in volumes.items()})
        images += [(name, run, path) for name, path in paths.items()]
    betas = of_runs(images, "individual")
    truth = np.stack([volumes[name][brain()] for name in NAMES])
    np.testing.assert_allclose(betas.values, 2 * truth, rtol=1e-6)
    np.testing.assert_allclose(betas.odd, 2 * truth, rtol=1e-6)  # runs 1 and 3
    np.testing.assert_allclose(betas.even, 2 * truth, rtol=1e-6)  # run 2
    partly = of_runs(images[:-1], "individual")
    assert "run 3 lacks ear; their betas are means over the other runs" in caplog.text
    np.testing.assert_allclose(partly.values[2], 1.5 * truth[2], rtol=1e-6)
    single = of_runs(images[:3], "individual")
    assert single.odd is None
    with pytest.raises(ValueError, match=r"the even half must have .* ear is missing"):
        of_runs(images[:5], "individual")
    with pytest.raises(ValueError, match="condition must be among cup, dog, ear; got"):
        of_runs(images, "TAL", conditions=["fan"])
    with pytest.raises(ValueError, match="halves must be among runs; got 'repeats'"):
        of_runs(images, "TAL", halves="repeats")


def pictures(folder, arrays):
    for name, pixels in arrays.items():
        picture = Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
        picture.save(folder / f"{name}.png")
    return StimulusSet.from_paths([folder / f"{name}.png" for name in arrays])


def dataset_of(name, betas, stimuli):
    sector = Sector("EarlyV", betas.mask, betas.affine, betas.space)
    return dataset_from_betas(name, [betas], {"EarlyV": [sector]}, stimuli)


def test_digits69_enter_as_an_array(shared, tmp_path):
    data = np.load(shared / "data" / "digits69" / "digits69.npz")
    names = [f"digit-{row:03d}" for row in range(100)]
    betas = betas_from_array(data["voxels"], names, subject="S1")
    stimuli = pictures(tmp_path, dict(zip(names, data["stimuli"], strict=True)))
    dataset = dataset_of("digits69", betas, stimuli)
    assert dataset.n_images == 100
    np.testing.assert_array_equal(dataset.responses["EarlyV"][0], data["voxels"])
    # pictures and rows belong together: the number that was measured elsewhere
    expected = json.loads((shared / "data/digits69/expected.json").read_text())
    pixels = np.stack([np.asarray(Image.open(p).convert("L")) for p in stimuli.paths])
    pixels = pixels.reshape(100, -1)
    pixels = pixels[:, (pixels != pixels[0]).any(axis=0)]  # as the features there
    rows, columns = np.triu_indices(100, k=1)
    pixel_rdm = 1 - np.corrcoef(pixels)[rows, columns]
    brain_rdm = 1 - np.corrcoef(dataset.responses["EarlyV"][0])[rows, columns]
    assert np.corrcoef(pixel_rdm, brain_rdm)[0, 1] == pytest.approx(
        expected["classic_RSA_r(pixel RDM vs brain RDM)"], abs=1e-6
    )


def test_miyawaki_repeats_become_halves(shared, tmp_path):
    folder = shared / "data" / "miyawaki_v1_figures"
    data = np.load(folder / "miyawaki_v1_figures.npz")
    expected = json.loads((folder / "expected.json").read_text())
    shown = {f"figure-{n}": data["stimuli"][data["image_id"] == n] for n in range(10)}
    assert all((repeats == repeats[0]).all() for repeats in shown.values())
    trials = [f"figure-{number}" for number in data["image_id"]]
    names, mean, odd, even = average_trials(
        data["voxels"], trials, conditions=list(shown), halves="repeats"
    )
    betas = betas_from_array(mean, names, subject="S1", odd=odd, even=even)
    r = [np.corrcoef(betas.odd[:, v], betas.even[:, v])[0, 1] for v in range(797)]
    wanted = expected["odd_even_voxel_reliability_median"]
    assert np.median(r) == pytest.approx(wanted, abs=1e-6)
    stimuli = pictures(tmp_path, {n: 255 * x[0] for n, x in shown.items()})
    dataset = dataset_of("miyawaki", betas, stimuli)
    rows, columns = np.triu_indices(10, k=1)
    brain_rdm = 1 - np.corrcoef(dataset.responses["EarlyV"][0])[rows, columns]
    pixels = np.stack([np.asarray(Image.open(p).convert("L")) for p in stimuli.paths])
    pixel_rdm = 1 - np.corrcoef(pixels.reshape(10, -1))[rows, columns]
    assert np.corrcoef(pixel_rdm, brain_rdm)[0, 1] == pytest.approx(
        expected["pixel_RDM(1-Pearson) vs mean-V1 RDM r"], abs=1e-6
    )


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_what_was_not_estimated_is_no_response_of_0(volumes, tmp_path, nothing):
    rows = np.arange(1.0, 7).reshape(2, 3)
    rows[1] = nothing
    for part in ("values", "odd"):
        parts = {"values": rows + 1, "odd": rows + 1, "even": rows + 1, part: rows}
        if np.isnan(nothing):
            parts = {name: np.nan_to_num(a, nan=2.0) for name, a in parts.items()}
            parts[part] = rows
        message = f"{part} of subject 01 must have an estimate .* dog is 0 or NaN"
        with pytest.raises(ValueError, match=message):
            betas_from_array(conditions=["cup", "dog"], subject="01", **parts)
    volumes["dog"] = np.full(SHAPE, nothing, np.float32)
    options = {"subject": "01", "space": "TAL"}
    message = r"images of subject 01 .* an estimate of each condition; dog is 0 or NaN"
    with pytest.raises(ValueError, match=message):
        betas_from_images(save(tmp_path, volumes), **options)
    whole = np.stack(list(volumes.values()), axis=-1)
    nibabel.Nifti1Image(whole, AFFINE).to_filename(tmp_path / "all.nii")
    with pytest.raises(ValueError, match=message.replace("01 ", r"01 \(all.nii\) ")):
        betas_from_images(tmp_path / "all.nii", NAMES, **options)


def test_names_of_conditions(caplog):
    rows = np.arange(1.0, 7).reshape(2, 3)
    with pytest.raises(ValueError, match="'NaN' stands for a missing value"):
        betas_from_array(rows, ["cup", "NaN"], subject="01")
    betas_from_array(rows, ["cup", "Cup "], subject="01")
    assert "'Cup ', 'cup' count as different conditions" in caplog.text


def test_an_estimate_is_looked_for_within_the_mask(tmp_path, volumes, caplog):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:] = 1
    nibabel.Nifti1Image(mask, AFFINE).to_filename(tmp_path / "mask.nii")
    volumes["dog"][2:] = 0  # what is left lies outside
    paths = save(tmp_path, volumes)
    options = {"subject": "01", "space": "TAL"}
    assert betas_from_images(paths, **options).conditions == NAMES
    with pytest.raises(ValueError, match="an estimate of each condition; dog is 0 or"):
        betas_from_images(paths, mask=tmp_path / "mask.nii", **options)
    again = save(tmp_path / "again", {**volumes, "dog": volumes["cup"]})
    images = [(n, 1, p) for n, p in paths.items()]
    images += [(n, 2, p) for n, p in again.items()]
    options = ImageOptions(
        "01", "TAL", tmp_path / "mask.nii", None, None, unit="a.u.", source=""
    )
    found = betas_from_runs(images, options, halves=None)
    assert "'dog' of run 1 (dog.nii.gz)" in caplog.text
    row = found.conditions.index("dog")
    np.testing.assert_array_equal(found.values[row], volumes["cup"][2:].ravel())


def test_a_mask_may_have_a_threshold(tmp_path, volumes):
    paths = save(tmp_path, volumes)
    share = np.zeros(SHAPE, np.float32)
    share[2:] = np.linspace(0.1, 1, share[2:].size).reshape(share[2:].shape)
    place = tmp_path / "tpl_space-TAL_share.nii"
    nibabel.Nifti1Image(share, AFFINE).to_filename(place)
    options = {"subject": "sub-01", "space": "TAL"}
    found = betas_from_images(paths, mask=f"{place}:>0.5", **options)
    np.testing.assert_array_equal(found.mask, share > 0.5)
    assert found.subject == "01"
    with pytest.raises(ValueError, match=r"threshold after a colon, such as tpl_"):
        betas_from_images(paths, mask=place, **options)
