"""A dataset folder that grows: betas, images, sectors, and versa.fit at the end."""

import json
import logging

import nibabel
import numpy as np
import pytest
from PIL import Image

import versa
from tests.scans import AFFINE, CONDITIONS, SHAPE, brain, write_bids
from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.glm import GLMSettings, fit_betas
from versa.fmri.betas.runs import find_runs
from versa.fmri.ceilings import rdm_reliability
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.reliability import voxel_reliability
from versa.fmri.sectors.sector import Sector
from versa.fmri.study.betas import estimate_betas, reliability_table
from versa.fmri.study.files import (
    read_betas,
    read_conditions,
    read_subject_grid,
    read_subject_map,
    write_subject,
)
from versa.fmri.study.images import add_images
from versa.fmri.study.sectors import add_sectors
from versa.fmri.volumes.nifti import write_image

OLS = GLMSettings(noise_model="ols")
SUBJECTS = ("01", "02", "03", "04")


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    return write_bids(tmp_path_factory.mktemp("study") / "bids", SUBJECTS)


@pytest.fixture
def options(bids):
    return {"settings": OLS, "mask": str(bids / "mask-{subject}.nii.gz")}


@pytest.fixture
def study(bids, options, tmp_path):
    return estimate_betas(bids, tmp_path / "study", **options)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in (*CONDITIONS, "unused"):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def halves_of_brain(name, side):
    mask = brain()
    mask[:, slice(0, 3) if side == "back" else slice(3, None)] = False
    return Sector(name, mask, AFFINE, "individual")


def sectors():
    return {
        "EarlyV": halves_of_brain("EarlyV", "back"),
        "aOTC": halves_of_brain("aOTC", "front"),
    }


def test_from_scans_to_a_fit(study, images, bids):
    assert add_images(study, images).names == CONDITIONS
    add_sectors(study, dict.fromkeys(SUBJECTS, sectors()))
    found = check_dataset(study)
    assert [one for one in found if one.level == "error"] == []
    dataset = versa.read_dataset(study)
    assert dataset.subjects == SUBJECTS
    assert dataset.sector_names == ("EarlyV", "aOTC")
    assert dataset.unit == "% signal change"
    assert dataset.space == "individual"
    for row, label in enumerate(SUBJECTS):
        mask = bids / f"mask-{label}.nii.gz"
        betas = fit_betas(
            find_runs(bids, label), label, settings=OLS, mask=mask, space="individual"
        )
        for name, sector in sectors().items():
            np.testing.assert_allclose(
                dataset.responses[name][row], betas.in_sector(sector), rtol=1e-6
            )
    result = versa.fit(
        "alexnet_gn_untrained", ["conv_block_1"], study, cache=False, progress=False
    )
    assert np.isfinite(result.layers()["r"]).all()


def test_what_is_kept_beside_the_betas(study, bids):
    betas = read_betas(study, "02")
    expected = fit_betas(
        find_runs(bids, "02"),
        "02",
        settings=OLS,
        mask=bids / "mask-02.nii.gz",
        space="individual",
    )
    assert betas.conditions == expected.conditions == read_conditions(study, "02")
    np.testing.assert_array_equal(betas.mask, expected.mask)
    for part in ("values", "odd", "even", "activity"):
        np.testing.assert_allclose(
            getattr(betas, part), getattr(expected, part), rtol=1e-6
        )
    assert (betas.unit, betas.space) == ("% signal change", "individual")
    assert "GLM of 4 runs" in betas.source
    shape, affine, space = read_subject_grid(study, "02")
    assert (shape, space) == (SHAPE, "individual")
    np.testing.assert_array_equal(affine, AFFINE)
    r = read_subject_map(study, "02", "reliability_statmap")
    np.testing.assert_allclose(
        r[brain()], voxel_reliability(expected.odd, expected.even), atol=1e-6
    )
    assert np.isnan(r[~brain()]).all()
    assert read_subject_map(study, "02", "nothing") is None
    table = reliability_table(study).set_index("subject")
    assert table.loc["02", "median r"] == pytest.approx(np.median(r[brain()]))
    assert table.loc["02", "RDM r"] == pytest.approx(
        rdm_reliability(expected.odd, expected.even), abs=1e-5
    )


def test_it_goes_on_where_it_stopped(bids, options, tmp_path, monkeypatch):
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


def test_other_options_need_another_folder(study, bids, options):
    with pytest.raises(ValueError, match="exists with other options: "):
        estimate_betas(bids, study, **{**options, "settings": GLMSettings()})
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


def test_one_job_per_subject(bids, options, tmp_path):
    folder = tmp_path / "s"
    for subject in ("02", "01", "01"):
        estimate_betas(bids, folder, subjects=[subject, subject], **options)
    text = (folder / "participants.tsv").read_text()
    assert text.split()[1:] == ["sub-02", "sub-01"]
    (folder / "participants.tsv").unlink()  # as a kill might leave it
    estimate_betas(bids, folder, subjects=["01"], **options)
    text = (folder / "participants.tsv").read_text()
    assert text.split()[1:] == ["sub-01", "sub-02"]


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": GLMSettings(noise_model="ols", signal_scaling=False)},
        {"space": "individual"},
        {"resample": "nearest"},
        {"filters": {"run": "1"}},
    ],
    ids=str,
)
def test_no_two_recipes_in_one_folder(bids, options, tmp_path, changes):
    folder = estimate_betas(bids, tmp_path / "s", subjects=["01"], **options)
    with pytest.raises(ValueError, match="exists with other options: "):
        estimate_betas(bids, folder, **{**options, **changes})
    other = write_bids(tmp_path / "other" / "bids", ("01", "02"), n_runs=2)
    with pytest.raises(ValueError, match="exists with other options: "):
        estimate_betas(other, folder, **options)


def test_images_are_looked_for_before_the_first_glm(bids, options, images, tmp_path):
    (images / "dog.png").unlink()
    with pytest.raises(ValueError, match="there is none for 'dog'"):
        estimate_betas(bids, tmp_path / "s", images=images, **options)
    assert not list((tmp_path / "s").glob("sub-*"))
    with pytest.raises(ValueError, match="the folder of images must exist"):
        estimate_betas(bids, tmp_path / "s", images=tmp_path / "none", **options)


def test_other_images_are_not_taken_for_those_that_are_there(
    bids, options, images, tmp_path
):
    folder = tmp_path / "s"
    estimate_betas(bids, folder, images=images, **options)
    estimate_betas(bids, folder, images=images, **options)
    Image.new("RGB", (8, 8)).save(images / "dog.png")
    with pytest.raises(ValueError, match="dog"):
        estimate_betas(bids, folder, images=images, **options)


def test_an_interrupted_change_of_sectors_is_not_read(study, images, monkeypatch):
    add_images(study, images)
    add_sectors(study, dict.fromkeys(SUBJECTS, sectors()), recipe={"by": "hand"})
    about = json.loads((study / "dataset_description.json").read_text())
    assert about["versa"]["SectorRecipe"]["EarlyV"] == {"by": "hand"}
    assert versa.read_dataset(study).sector_names == ("EarlyV", "aOTC")
    written = []

    def stopped(path, *arguments):
        written.append(path)
        if len(written) == 4:
            raise KeyboardInterrupt
        write_image(path, *arguments)

    monkeypatch.setattr("versa.fmri.study.sectors.write_image", stopped)
    swapped = {
        "EarlyV": halves_of_brain("EarlyV", "front"),
        "aOTC": halves_of_brain("aOTC", "back"),
    }
    with pytest.raises(KeyboardInterrupt):
        add_sectors(study, dict.fromkeys(SUBJECTS, swapped))
    assert any(one.level == "error" for one in check_dataset(study))
    with pytest.raises(ValueError, match="must have at least one sector"):
        versa.read_dataset(study)
    monkeypatch.undo()
    add_sectors(study, dict.fromkeys(SUBJECTS, swapped))
    found = versa.read_dataset(study).sectors["EarlyV"]
    for sector in found:
        np.testing.assert_array_equal(sector.mask, swapped["EarlyV"].mask)


@pytest.mark.parametrize("name", ["my_V1", "lh.V1", "../../zz", "V1/2"])
def test_names_that_files_cannot_have(study, name):
    before = sorted(study.rglob("*"))
    whole = {name: Sector(name, brain(), AFFINE, "individual")}
    with pytest.raises(ValueError, match="sector names must be letters and digits"):
        add_sectors(study, dict.fromkeys(SUBJECTS, whole))
    assert sorted(study.rglob("*")) == before
    betas = ConditionBetas(name, ["a"], np.ones((1, 60)), brain(), AFFINE, "individual")
    with pytest.raises(ValueError, match="subject names must be letters and digits"):
        write_subject(betas, study)
    assert sorted(study.rglob("*")) == before


def test_a_mask_under_another_name_is_not_doubled(study):
    func = study / "sub-03" / "func"
    mine = func / "sub-03_space-T1w_desc-EarlyV_mask.nii.gz"
    nibabel.Nifti1Image(brain().astype(np.uint8), AFFINE).to_filename(mine)
    with pytest.raises(ValueError, match="mask per sector; EarlyV has sub-03_space"):
        add_sectors(study, dict.fromkeys(SUBJECTS, sectors()))
    assert not list(study.rglob("*desc-aOTC_mask.nii"))
    assert mine.is_file()


def rewrite(path, change):
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(image.get_fdata(), image.affine, image.header)
    change(image).to_filename(path)


def test_maps_are_brought_to_the_betas_and_never_shifted(study):
    path = study / "sub-01/func/sub-01_desc-reliability_statmap.nii.gz"
    before = read_subject_map(study, "01", "reliability_statmap")
    rewrite(path, lambda image: image.as_reoriented([[0, -1], [2, 1], [1, 1]]))
    after = read_subject_map(study, "01", "reliability_statmap")
    np.testing.assert_array_equal(after, before)
    rewrite(path, lambda image: image.slicer[:3])
    with pytest.raises(ValueError, match="must have its voxels where the data have"):
        read_subject_map(study, "01", "reliability_statmap")
    sidecar = study / "sub-01/func/sub-01_desc-oddbetas_stat.json"
    about = json.loads(sidecar.read_text())
    about["Conditions"].reverse()
    sidecar.write_text(json.dumps(about))
    with pytest.raises(ValueError, match="must have the Conditions of the betas"):
        read_betas(study, "01")


def test_betas_whose_place_is_not_known_are_refused(study, images):
    add_images(study, images)
    add_sectors(study, dict.fromkeys(SUBJECTS, sectors()))
    path = study / "sub-02/func/sub-02_desc-betas_stat.nii"

    def coded(code):
        def change(image):
            image.header.set_sform(image.affine, code)
            image.header.set_qform(image.affine, code)
            return nibabel.Nifti1Image(image.dataobj, None, image.header)

        return change

    rewrite(path, coded(4))
    for read in (versa.read_dataset, lambda one: read_subject_grid(one, "02")):
        with pytest.raises(ValueError, match="space individual; its header says MNI"):
            read(study)
    assert any("its header says MNI152" in one.text for one in check_dataset(study))
    rewrite(path, coded(0))
    with pytest.raises(ValueError, match="neither sform nor qform"):
        versa.read_dataset(study)
    assert any("neither sform nor qform" in one.text for one in check_dataset(study))


def test_some_subjects(bids, options, tmp_path):
    folder = estimate_betas(bids, tmp_path / "s", subjects=["03", "01"], **options)
    text = (folder / "participants.tsv").read_text()
    assert text.split()[1:] == ["sub-03", "sub-01"]


def test_images_are_matched_by_name(study, images, caplog):
    (images / "dog.png").rename(images / "hound.png")
    with pytest.raises(
        ValueError, match="there is none for 'dog' among cup, hound, ke"
    ):
        add_images(study, images)
    assert not (study / "stimuli").exists()
    (images / "hound.png").rename(images / "dog.png")
    with caplog.at_level(logging.INFO, logger="versa"):
        stimuli = add_images(study, images)
    assert "that are no conditions are not used: unused" in caplog.text
    assert stimuli.names == CONDITIONS
    lines = (study / "stimuli.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in lines[1:]] == [
        [name, f"{name}.png"] for name in CONDITIONS
    ]
    with pytest.raises(
        ValueError, match=r"must not have images yet; remove stimuli.tsv"
    ):
        add_images(study, images)


def test_conditions_called_like_files(tmp_path, images):
    names = [f"{name}.png" for name in CONDITIONS]
    folder = tmp_path / "study"
    folder.mkdir()
    betas = ConditionBetas(
        "01",
        names,
        np.random.default_rng(0).normal(size=(4, int(brain().sum()))),
        brain(),
        AFFINE,
        "individual",
    )
    write_subject(betas, folder)
    (folder / "participants.tsv").write_text("participant_id\nsub-01\n")
    assert add_images(folder, images).names == tuple(names)
    with pytest.raises(ValueError, match=r"must not exist yet. Remove it to write"):
        write_subject(betas, folder)


def test_sectors_keep_to_the_betas(study, caplog):
    wide = brain()
    wide[0] = True  # no betas there
    own = {"EarlyV": Sector("EarlyV", wide, AFFINE, "individual")}
    with caplog.at_level(logging.WARNING, logger="versa"):
        add_sectors(study, dict.fromkeys(SUBJECTS, own))
    n_lost = int(wide.sum() - brain().sum())
    assert f"{n_lost} of {wide.sum()} voxels have no betas" in caplog.text
    path = study / "sub-01/func/sub-01_desc-EarlyV_mask.nii"
    found = nibabel.load(path).get_fdata() > 0
    np.testing.assert_array_equal(found, brain())
    about = json.loads((study / "dataset_description.json").read_text())
    assert about["versa"]["Sectors"] == ["EarlyV"]
    add_sectors(study, dict.fromkeys(SUBJECTS, sectors()))  # in place of the old one
    about = json.loads((study / "dataset_description.json").read_text())
    assert about["versa"]["Sectors"] == ["EarlyV", "aOTC"]
    found = nibabel.load(path).get_fdata() > 0
    np.testing.assert_array_equal(found, sectors()["EarlyV"].mask)


def test_sectors_that_do_not_fit_write_nothing(study):
    good = dict.fromkeys(SUBJECTS, sectors())
    outside = Sector("EarlyV", ~brain(), AFFINE, "individual")
    moved = Sector("EarlyV", brain(), AFFINE @ np.diag([1.2, 1, 1, 1]), "individual")
    other = Sector("EarlyV", brain(), AFFINE, "TAL")
    for bad, message in (
        (
            {s: sectors() for s in SUBJECTS[:3]},
            "for every subject of .*; 04 is missing",
        ),
        (
            {**good, "04": {"EarlyV": outside}},
            "all subjects must have the same sectors",
        ),
        (
            {**good, "04": {**sectors(), "EarlyV": outside}},
            "must have voxels that can be",
        ),
        ({**good, "04": {**sectors(), "EarlyV": moved}}, "on the grid of the betas"),
        ({**good, "04": {**sectors(), "EarlyV": other}}, "got .* in space TAL with"),
    ):
        with pytest.raises(ValueError, match=message):
            add_sectors(study, bad)
        assert not list(study.rglob("*_mask.nii"))
