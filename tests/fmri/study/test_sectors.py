"""Sectors of a dataset folder: sources, the paper's recipe, group, threshold, masks."""

import json
import logging

import nibabel
import numpy as np
import pytest

import versa
from tests.fmri.study import conftest
from tests.scans import AFFINE as NATIVE
from tests.scans import brain
from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.dataset.checking import check_dataset
from versa.fmri.sectors.making import define_sectors, group_contrast, most_active
from versa.fmri.sectors.sector import Sector
from versa.fmri.study.files import Grid, write_subject
from versa.fmri.study.images import add_images
from versa.fmri.study.sectors import (
    _joined,
    add_sectors,
    choose_sectors,
    paper_sectors,
    read_region,
)
from versa.fmri.volumes.nifti import write_image
from versa.fmri.volumes.spaces import to_talairach

SHAPE = (16, 18, 9)
AFFINE = np.array([[6.0, 0, 0, -45], [0, 6, 0, -105], [0, 0, 6, -27], [0, 0, 0, 1]])
SUBJECTS = ("01", "02", "03")
SPACE = "MNI152NLin6Asym"


def coordinates():
    index = np.indices(SHAPE).reshape(3, -1).T
    return (index @ AFFINE[:3, :3].T + AFFINE[:3, 3]).reshape(*SHAPE, 3)


def write_mask(path, mask, affine=AFFINE):
    path.parent.mkdir(exist_ok=True)
    nibabel.Nifti1Image(mask.astype(np.int16), affine).to_filename(path)


@pytest.fixture
def study(tmp_path):
    """Three subjects on one MNI grid, each with labels V1-V3 and an OTC mask."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "mine"}')
    (folder / "participants.tsv").write_text(
        "participant_id\n" + "".join(f"sub-{s}\n" for s in SUBJECTS)
    )
    y = coordinates()[..., 1]
    for number, label in enumerate(SUBJECTS):
        n_voxels = int(np.prod(SHAPE))
        base = rng.normal(size=(5, n_voxels))
        noise = rng.normal(size=(2, 5, n_voxels))
        write_subject(
            ConditionBetas(
                label,
                ["a", "b", "c", "d", "e"],
                base,
                np.ones(SHAPE, bool),
                AFFINE,
                SPACE,
                odd=base + noise[0],
                even=base + noise[1],
                activity=rng.normal(size=n_voxels),
            ),
            folder,
        )
        labels = np.zeros(SHAPE)
        for value in (1, 2, 3):
            labels[:, value - 1 + (number == 1), 2:5] = value
        write_mask(tmp_path / "rois" / f"sub-{label}_visual.nii.gz", labels)
        write_mask(tmp_path / "rois" / f"sub-{label}_otc.nii.gz", (y > -100) & (y < 0))
    return folder


@pytest.fixture
def sources(study, tmp_path):
    return {
        "early": f"{tmp_path}/rois/sub-{{subject}}_visual.nii.gz:1+2+3",
        "occipito_temporal": f"{tmp_path}/rois/sub-{{subject}}_otc.nii.gz",
    }


def activity(study, label):
    path = study / f"sub-{label}/func/sub-{label}_desc-active_statmap.nii.gz"
    return nibabel.load(path).get_fdata()


def region(sources, what, label):
    return read_region(sources[what], label, what, Grid(SHAPE, AFFINE, SPACE))


def test_the_recipe_per_subject(study, sources):
    found = paper_sectors(study, **sources, n_voxels=400)
    assert list(found.sectors) == list(SUBJECTS)
    for label in SUBJECTS:
        early = region(sources, "early", label)
        otc = region(sources, "occipito_temporal", label)
        own = found.sectors[label]
        np.testing.assert_array_equal(own["EarlyV"].mask, early.mask)
        both = own["pOTC"].mask | own["aOTC"].mask
        # by hand: the 400 largest values in OTC without EarlyV, cut at Talairach -53
        values = np.where(otc.mask & ~early.mask, activity(study, label), -np.inf)
        expected = values >= np.sort(values, axis=None)[-400]
        np.testing.assert_array_equal(both, expected)
        y = to_talairach(coordinates()[expected], SPACE)[:, 1]
        np.testing.assert_array_equal(own["pOTC"].mask[expected], y <= -53)
        np.testing.assert_array_equal(own["aOTC"].mask[expected], y > -53)
    table = found.table
    assert table["subject"].tolist() == [s for s in SUBJECTS for _ in range(3)]
    assert (table["shared"] == 0).all()
    assert (table.loc[table["sector"] == "pOTC", "tal_y_max"] <= -53).all()


def test_the_recipe_for_the_group(study, sources):
    found = paper_sectors(study, **sources, group=True, n_voxels=300)
    first = found.sectors["01"]
    for label in SUBJECTS[1:]:
        for name in ("pOTC", "aOTC"):
            np.testing.assert_array_equal(
                found.sectors[label][name].mask, first[name].mask
            )
    early = [region(sources, "early", label) for label in SUBJECTS]
    expected = define_sectors(
        early[0],
        region(sources, "occipito_temporal", "01"),
        group_contrast([activity(study, label) for label in SUBJECTS]),
        exclude=early,
        n_voxels=300,
    )
    for name in expected:
        np.testing.assert_array_equal(first[name].mask, expected[name].mask)
    for one in early:
        assert not (one.mask & (first["pOTC"].mask | first["aOTC"].mask)).any()


def test_the_mean_of_the_betas_or_a_map(study, sources, tmp_path):
    by_betas = paper_sectors(study, **sources, contrast="betas", n_voxels=50)
    path = study / "sub-02/func/sub-02_desc-betas_stat.nii"
    for label in SUBJECTS:
        mean = (
            nibabel.load(str(path).replace("sub-02", f"sub-{label}"))
            .get_fdata()
            .mean(axis=-1)
        )
        turned = nibabel.Nifti1Image(mean, AFFINE).as_reoriented(
            [[0, -1], [1, 1], [2, 1]]
        )
        turned.to_filename(tmp_path / f"map-{label}.nii.gz")
    by_map = paper_sectors(
        study, **sources, contrast=f"{tmp_path}/map-{{subject}}.nii.gz", n_voxels=50
    )
    for label in SUBJECTS:
        for name in ("EarlyV", "pOTC", "aOTC"):
            np.testing.assert_array_equal(
                by_betas.sectors[label][name].mask, by_map.sectors[label][name].mask
            )


def test_drawn_sectors(study, sources):
    found = choose_sectors(
        study,
        {"V1": sources["early"].replace("1+2+3", "1"), "OTC": sources["early"]},
        most_active={"OTC": 40},
        min_reliability=0.2,
    )
    for label in SUBJECTS:
        v1 = region({"early": sources["early"].replace("1+2+3", "1")}, "early", label)
        path = study / f"sub-{label}/func/sub-{label}_desc-reliability_statmap.nii.gz"
        reliable = nibabel.load(path).get_fdata() > 0.2
        np.testing.assert_array_equal(
            found.sectors[label]["V1"].mask, v1.mask & reliable
        )
        whole = Sector("OTC", region(sources, "early", label).mask, AFFINE, SPACE)
        active = most_active(whole, activity(study, label), 40)
        np.testing.assert_array_equal(
            found.sectors[label]["OTC"].mask, active.mask & reliable
        )
    assert any("OTC" in text and "subject 01" in text for text in found.warnings)


def test_atlases_by_name(study, tmp_path, monkeypatch):
    labels = np.zeros(SHAPE)
    labels[:, :3] = 1
    labels[:, 3:5] = 2

    def fetched(name):
        assert name == "made:up"
        return {
            "maps": nibabel.Nifti1Image(labels.astype(np.int16), AFFINE),
            "labels": ["Background", "Cuneal Cortex", "Lingual Gyrus"],
            "template": SPACE,
        }

    monkeypatch.setattr("versa.fmri.study.sectors.fetch_atlas", fetched)
    found = choose_sectors(
        study, {"EarlyV": "atlas/made:up:Cuneal Cortex+Lingual Gyrus"}
    )
    np.testing.assert_array_equal(found.sectors["02"]["EarlyV"].mask, labels > 0)
    with pytest.raises(ValueError, match="must name regions of the atlas after a colo"):
        read_region("atlas/juelich", "1", "V1", Grid(SHAPE, AFFINE, SPACE))


def test_refusals(study, sources, tmp_path):
    with pytest.raises(ValueError, match="most_active must be among V1; got 'V2'"):
        choose_sectors(study, {"V1": sources["early"]}, most_active={"V2": 3})
    with pytest.raises(ValueError, match=r"nothing-01.nii must exist; it is missing"):
        choose_sectors(study, {"V1": f"{tmp_path}/nothing-{{subject}}.nii"})
    with pytest.raises(
        ValueError, match="sector EarlyV of subject 01: at least one vo"
    ):
        paper_sectors(study, **sources, n_voxels=20, min_reliability=0.9999)
    for label in SUBJECTS:
        path = tmp_path / "rois" / f"sub-{label}_space-TAL_otc.nii.gz"
        write_mask(path, np.ones(SHAPE))
        small = tmp_path / "rois" / f"sub-{label}_small.nii.gz"
        write_mask(small, np.ones((5, 5, 5)))
    tal = f"{tmp_path}/rois/sub-{{subject}}_space-TAL_otc.nii.gz"
    with pytest.raises(ValueError, match=f"must be in space {SPACE}; its name says"):
        choose_sectors(study, {"OTC": tal})
    small = f"{tmp_path}/rois/sub-{{subject}}_small.nii.gz"
    with pytest.raises(ValueError, match="must have its voxels where the data have"):
        choose_sectors(study, {"OTC": small})
    found = choose_sectors(study, {"OTC": small}, resample="nearest")
    assert found.sectors["01"]["OTC"].n_voxels == 125
    (study / "sub-03/func/sub-03_desc-active_statmap.nii.gz").unlink()
    with pytest.raises(ValueError, match="subject 03 must have a map of activity"):
        paper_sectors(study, **sources)


def test_no_group_in_individual_space(study, sources):
    for label in SUBJECTS:
        path = study / f"sub-{label}/func/sub-{label}_desc-betas_stat.json"
        path.write_text(path.read_text().replace(SPACE, "individual"))
        image = nibabel.load(path.with_suffix(".nii"))
        image = nibabel.Nifti1Image(image.get_fdata(), AFFINE)  # code 2, "aligned"
        image.to_filename(path.with_suffix(".nii"))
        active = path.with_name(f"sub-{label}_desc-active_statmap.nii.gz")
        nibabel.Nifti1Image(activity(study, label), AFFINE).to_filename(active)
    with pytest.raises(ValueError, match="for the group in TAL or MNI only"):
        paper_sectors(study, **sources, group=True)
    with pytest.raises(ValueError, match="individual"):
        paper_sectors(study, **sources, n_voxels=50)


def test_the_number_asked_for_is_the_number_written(study, sources):
    """Voxels without betas are left out before the most active ones are chosen."""
    for label in SUBJECTS:
        path = study / f"sub-{label}/func/sub-{label}_desc-betas_stat.nii"
        image = nibabel.load(path)
        values = image.get_fdata()
        values[::2] = np.nan
        nibabel.Nifti1Image(values, AFFINE, image.header).to_filename(path)
    found = paper_sectors(study, **sources, n_voxels=200)
    (study / "dataset_description.json").write_text('{"Name": "mine"}')
    add_sectors(study, found.sectors)
    for label in SUBJECTS:
        own = found.sectors[label]
        assert own["pOTC"].n_voxels + own["aOTC"].n_voxels == 200
        for name, sector in own.items():
            path = study / f"sub-{label}/func/sub-{label}_desc-{name}_mask.nii"
            written = nibabel.load(path).get_fdata() > 0
            np.testing.assert_array_equal(written, sector.mask)
    for label, name, count in found.table[["subject", "sector", "n_voxels"]].values:
        assert found.sectors[label][name].n_voxels == count


def test_maps_of_another_space(study, sources, tmp_path):
    for label in SUBJECTS:
        for stated in ("T1w", "TAL", "MNI305"):
            path = tmp_path / f"map-{label}_space-{stated}_x.nii.gz"
            nibabel.Nifti1Image(activity(study, label), AFFINE).to_filename(path)
            write_mask(tmp_path / "rois" / path.name, np.ones(SHAPE))
    for stated in ("T1w", "TAL", "MNI305"):
        contrast = f"{tmp_path}/map-{{subject}}_space-{stated}_x.nii.gz"
        with pytest.raises(
            ValueError, match=f"must be in space {SPACE}; its name says"
        ):
            paper_sectors(study, **sources, contrast=contrast)
        mask = f"{tmp_path}/rois/map-{{subject}}_space-{stated}_x.nii.gz"
        with pytest.raises(
            ValueError, match=f"must be in space {SPACE}; its name says"
        ):
            choose_sectors(study, {"V1": mask}, resample="nearest")


def test_the_group_shares_one_mask(study, sources):
    path = study.parent / "rois" / "sub-02_otc.nii.gz"
    mask = nibabel.load(path).get_fdata() > 0
    mask[:8] = False
    write_mask(path, mask)
    found = paper_sectors(study, **sources, group=True, n_voxels=300).sectors
    for label in SUBJECTS[1:]:
        for name in ("pOTC", "aOTC"):
            np.testing.assert_array_equal(
                found[label][name].mask, found["01"][name].mask
            )
    assert not found["01"]["pOTC"].mask[:8].any()


# ---- masks in the folder ----------------------------------------------------------


def halves(front="aOTC", back="EarlyV"):
    """Sectors before and behind the middle of the made-up brain."""
    found = {}
    for name, part in ((back, slice(0, 3)), (front, slice(3, None))):
        mask = np.zeros_like(brain())
        mask[:, part] = brain()[:, part]
        found[name] = Sector(name, mask, NATIVE, "individual")
    return found


def add(folder, own, **options):
    add_sectors(folder, dict.fromkeys(conftest.SUBJECTS, own), **options)


def test_an_interrupted_change_of_sectors_is_not_read(folder, images, monkeypatch):
    add_images(folder, images)
    add_sectors(
        folder, dict.fromkeys(conftest.SUBJECTS, halves()), recipe={"by": "hand"}
    )
    about = json.loads((folder / "dataset_description.json").read_text())
    assert about["versa"]["SectorRecipe"]["EarlyV"] == {"by": "hand"}
    assert versa.read_dataset(folder).sector_names == ("EarlyV", "aOTC")
    written = []

    def stopped(path, *arguments):
        written.append(path)
        if len(written) == 4:
            raise KeyboardInterrupt
        write_image(path, *arguments)

    monkeypatch.setattr("versa.fmri.study.sectors.write_image", stopped)
    swapped = halves("EarlyV", "aOTC")
    with pytest.raises(KeyboardInterrupt):
        add(folder, swapped)
    assert any(one.level == "error" for one in check_dataset(folder))
    with pytest.raises(ValueError, match="must have at least one sector"):
        versa.read_dataset(folder)
    monkeypatch.undo()
    add(folder, swapped)
    found = versa.read_dataset(folder).sectors["EarlyV"]
    for sector in found:
        np.testing.assert_array_equal(sector.mask, swapped["EarlyV"].mask)


@pytest.mark.parametrize("name", ["my_V1", "lh.V1", "../../zz", "V1/2"])
def test_names_that_files_cannot_have(folder, name):
    before = sorted(folder.rglob("*"))
    whole = {name: Sector(name, brain(), NATIVE, "individual")}
    with pytest.raises(ValueError, match="sector names must be letters and digits"):
        add(folder, whole)
    assert sorted(folder.rglob("*")) == before
    betas = ConditionBetas(name, ["a"], np.ones((1, 60)), brain(), NATIVE, "individual")
    with pytest.raises(ValueError, match="subject names must be letters and digits"):
        write_subject(betas, folder)
    assert sorted(folder.rglob("*")) == before


def test_a_mask_under_another_name_is_not_doubled(folder):
    func = folder / "sub-03" / "func"
    mine = func / "sub-03_space-T1w_desc-EarlyV_mask.nii.gz"
    nibabel.Nifti1Image(brain().astype(np.uint8), NATIVE).to_filename(mine)
    with pytest.raises(ValueError, match="mask per sector; EarlyV has sub-03_space"):
        add(folder, halves())
    assert not list(folder.rglob("*desc-aOTC_mask.nii"))
    assert mine.is_file()


def test_sectors_keep_to_the_betas(folder, caplog):
    wide = brain()
    wide[0] = True  # no betas there
    own = {"EarlyV": Sector("EarlyV", wide, NATIVE, "individual")}
    with caplog.at_level(logging.WARNING, logger="versa"):
        add(folder, own)
    n_lost = int(wide.sum() - brain().sum())
    assert f"{n_lost} of {wide.sum()} voxels have no betas" in caplog.text
    path = folder / "sub-01/func/sub-01_desc-EarlyV_mask.nii"
    found = nibabel.load(path).get_fdata() > 0
    np.testing.assert_array_equal(found, brain())
    about = json.loads((folder / "dataset_description.json").read_text())
    assert about["versa"]["Sectors"] == ["EarlyV"]
    add_sectors(
        folder, dict.fromkeys(conftest.SUBJECTS, halves())
    )  # in place of the old one
    about = json.loads((folder / "dataset_description.json").read_text())
    assert about["versa"]["Sectors"] == ["EarlyV", "aOTC"]
    found = nibabel.load(path).get_fdata() > 0
    np.testing.assert_array_equal(found, halves()["EarlyV"].mask)


def test_sectors_that_do_not_fit_write_nothing(folder):
    good = dict.fromkeys(conftest.SUBJECTS, halves())
    outside = Sector("EarlyV", ~brain(), NATIVE, "individual")
    moved = Sector("EarlyV", brain(), NATIVE @ np.diag([1.2, 1, 1, 1]), "individual")
    other = Sector("EarlyV", brain(), NATIVE, "TAL")
    for bad, message in (
        (
            {s: halves() for s in conftest.SUBJECTS[:3]},
            "for every subject of .*; 04 is missing",
        ),
        (
            {**good, "04": {"EarlyV": outside}},
            "all subjects must have the same sectors",
        ),
        (
            {**good, "04": {**halves(), "EarlyV": outside}},
            "must have voxels that can be",
        ),
        ({**good, "04": {**halves(), "EarlyV": moved}}, "on the grid of the betas"),
        ({**good, "04": {**halves(), "EarlyV": other}}, "got .* in space TAL with"),
    ):
        with pytest.raises(ValueError, match=message):
            add_sectors(folder, bad)
        assert not list(folder.rglob("*_mask.nii"))


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("lh.nii.gz+rh.nii", ["lh.nii.gz", "rh.nii"]),
        ("a/lh.nii:1+2+a/rh.nii:3+V1", ["a/lh.nii:1+2", "a/rh.nii:3+V1"]),
        ("a+b/lh.nii.gz+a+b/rh.nii.gz", ["a+b/lh.nii.gz", "a+b/rh.nii.gz"]),
        ("C:/lh.nii.gz:>0.5+D:/rh.nii.gz:>1", ["C:/lh.nii.gz:>0.5", "D:/rh.nii.gz:>1"]),
        ("atlas/x:V1 L+V1 R", ["atlas/x:V1 L+V1 R"]),
        ("atlas/x:V1 L+atlas/y:V1 R+m.nii", ["atlas/x:V1 L", "atlas/y:V1 R", "m.nii"]),
        ("one+two.nii.gz:1", ["one+two.nii.gz:1"]),
    ],
)
def test_plus_joins_sources_and_regions(source, parts):
    assert _joined(source) == parts


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (">0.5", [0.5000001, 0.75, 1.0]),
        (">=0.5", [0.5, 0.5000001, 0.75, 1.0]),
        ("> .7", [0.75, 1.0]),
        (">7e-1", [0.75, 1.0]),
    ],
)
def test_masks_of_many_values_by_a_threshold(study, tmp_path, text, chosen):
    values = np.zeros(SHAPE, np.float32)
    values[8:15, 5, 3] = [0.125, 0.4999999, 0.5, 0.5000001, 0.75, 1.0, np.nan]
    path = tmp_path / "LOC.nii.gz"
    nibabel.Nifti1Image(values, AFFINE).to_filename(path)
    with pytest.raises(ValueError, match=r"0.125 to 1. .* such as LOC.nii.gz:>0.5.$"):
        choose_sectors(study, {"LOC": str(path)})
    found = choose_sectors(study, {"LOC": f"{path}:{text}"})
    kept = np.isin(values, np.array(chosen, np.float32))
    for label in SUBJECTS:
        np.testing.assert_array_equal(found.sectors[label]["LOC"].mask, kept)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (">2", r"LOC.nii.gz must have voxels from 2 on; its largest value is 1"),
        (">=0", r"must be above 0, .* got >=0"),
        (">-1", r"must be above 0, .* got >-1"),
        ("1>0.5", r"threshold and resample='linear' are for probabilities"),
    ],
)
def test_thresholds_that_choose_nothing_or_all(study, tmp_path, text, refusal):
    path = tmp_path / "LOC.nii.gz"
    write_mask(path, np.arange(np.prod(SHAPE)).reshape(SHAPE) % 2)
    with pytest.raises(ValueError, match=refusal):
        choose_sectors(study, {"LOC": f"{path}:{text}"})


def test_regions_of_maps_by_a_threshold(study, tmp_path):
    maps = np.random.default_rng(3).integers(0, 100, (*SHAPE, 2)).astype(np.float32)
    path = tmp_path / f"atlas_space-{SPACE}_probseg.nii.gz"
    nibabel.Nifti1Image(maps, AFFINE).to_filename(path)
    own = brain_of(study)
    for text, kept in ((">25", maps[..., 1] > 25), (">=25", maps[..., 1] >= 25)):
        found = choose_sectors(study, {"V1": f"{path}:1{text}"})
        np.testing.assert_array_equal(found.sectors["01"]["V1"].mask, kept & own)


def brain_of(study):
    return (
        nibabel.load(next((study / "sub-01" / "func").glob("*betas_stat.nii*")))
        .get_fdata()
        .any(axis=-1)
    )


@pytest.mark.parametrize(
    "names",
    [("lh.V1", "rh.V1"), ("V1_hemi-L_mask", "V1_hemi-R_mask"), ("V1left", "V1right")],
)
def test_a_region_in_two_files_is_their_union(study, tmp_path, caplog, names):
    x = coordinates()[..., 0]
    near = (np.abs(x) > 10) & (np.abs(x) < 20)
    paths = {}
    for name, side in zip(names, (near & (x < 0), near & (x > 0)), strict=True):
        paths[name] = tmp_path / f"{name}.nii.gz"
        write_mask(paths[name], side)
    found = choose_sectors(study, {"V1": "+".join(map(str, paths.values()))})
    np.testing.assert_array_equal(
        found.sectors["01"]["V1"].mask, near & brain_of(study)
    )
    assert "hemisphere" not in caplog.text
    write_mask(paths[names[0]], near & (x > 0))
    choose_sectors(study, {"V1": "+".join(map(str, paths.values()))})
    assert f"{names[0]}.nii.gz: " in caplog.text
    assert "voxels are in the right hemisphere, against its name." in caplog.text
