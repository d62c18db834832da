"""Atlases: nilearn's own fetchers on small files, and every older form by hand."""

import json
import logging

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from versa.fmri.sectors.atlases import atlas_sector, fetch_atlas, label_names

AFFINE = np.array([[2.0, 0, 0, -4], [0, 2, 0, -6], [0, 0, 2, -8], [0, 0, 0, 1]])
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (5, 6, 7)).astype(np.int16)
NAMES = ["V1", "V2", "V3"]


def image(values=LABELS, affine=AFFINE, dtype=None, code=0):
    made = nibabel.Nifti1Image(np.asarray(values, dtype or values.dtype), affine)
    made.set_sform(affine, code=code, update_affine=False)
    made.set_qform(affine, code=code, update_affine=False)
    return made


def atlas(**parts):
    return Bunch(**{"maps": image(), "template": "MNI152NLin6Asym"} | parts)


def fsl_folder(tmp_path, kind, values):
    folder = tmp_path / "fsl" / "data" / "atlases"
    (folder / "HarvardOxford").mkdir(parents=True)
    lines = "".join(
        f'<label index="{n}" x="1" y="2" z="3">{name}</label>'
        for n, name in enumerate(NAMES)
    )
    (folder / "HarvardOxford-Cortical.xml").write_text(f"<atlas>{lines}</atlas>")
    image(values).to_filename(folder / "HarvardOxford" / f"HarvardOxford-{kind}.nii.gz")


def test_harvard_oxford_as_nilearn_gives_it(tmp_path):
    kind = "cort-maxprob-thr25-2mm"
    fsl_folder(tmp_path, kind, LABELS)
    found = fetch_atlas(f"harvard_oxford:{kind}", data_dir=tmp_path, verbose=0)
    assert label_names(found) == {1: "V1", 2: "V2", 3: "V3"}
    sector = atlas_sector(found, ["V1", "V3"], name="EarlyV")
    np.testing.assert_array_equal(sector.mask, np.isin(LABELS, [1, 3]))
    assert (sector.name, sector.space) == ("EarlyV", "MNI152NLin6Asym")
    np.testing.assert_array_equal(sector.affine, AFFINE)


def test_a_probabilistic_atlas_needs_a_threshold(tmp_path):
    values = RNG.integers(0, 101, (5, 6, 7, 3)).astype(np.int16)
    fsl_folder(tmp_path, "cort-prob-2mm", values)
    found = fetch_atlas("harvard_oxford:cort-prob-2mm", data_dir=tmp_path, verbose=0)
    assert label_names(found) == {0: "V1", 1: "V2", 2: "V3"}
    sector = atlas_sector(found, ["V1", "V3"], name="EarlyV", threshold=60)
    np.testing.assert_array_equal(sector.mask, (values[..., [0, 2]] >= 60).any(-1))
    for threshold in (None, 0, "60", np.nan):
        with pytest.raises(ValueError, match=r"threshold must be .* above 0; got"):
            atlas_sector(found, "V1", name="V1", threshold=threshold)
    with pytest.raises(ValueError, match="voxels of 'V1' from 101 on; there are none"):
        atlas_sector(found, "V1", name="V1", threshold=101)
    with pytest.raises(ValueError, match="or maps from 0 to 2; got 3"):
        atlas_sector(found, 3, name="V1", threshold=50)


def test_schaefer_and_talairach_as_nilearn_gives_them(tmp_path):
    folder = tmp_path / "schaefer_2018"
    folder.mkdir()
    stem = "Schaefer2018_100Parcels_7Networks_order"
    (folder / f"{stem}.txt").write_text(
        "".join(f"{n}\t{name}\t1\t2\t3\t0\n" for n, name in enumerate(NAMES, 1))
    )
    image().to_filename(folder / f"{stem}_FSLMNI152_2mm.nii.gz")
    found = fetch_atlas(
        "schaefer_2018:100", resolution_mm=2, data_dir=tmp_path, verbose=0
    )
    assert label_names(found) == {1: "V1", 2: "V2", 3: "V3"}
    folder = tmp_path / "talairach_atlas"
    folder.mkdir()
    image().to_filename(folder / "ba.nii.gz")
    (folder / "ba-labels.json").write_text(json.dumps(["Background", *NAMES]))
    found = fetch_atlas("talairach:ba", data_dir=tmp_path, verbose=0)
    sector = atlas_sector(found, "V2", name="V2")
    assert sector.space == "TAL"
    np.testing.assert_array_equal(sector.mask, LABELS == 2)


def test_aal_has_labels_in_steps_and_no_mni152(tmp_path, caplog):
    folder = tmp_path / "aal_SPM12" / "aal" / "atlas"
    folder.mkdir(parents=True)
    rows = [(2001, "Calcarine_L"), (2102, "Fusiform_R"), (9000, "Vermis")]
    (folder / "AAL.xml").write_text(
        "<atlas>"
        + "".join(
            f"<label><index>{n}</index><name>{name}</name></label>" for n, name in rows
        )
        + "</atlas>"
    )
    values = np.array([0, *(n for n, _ in rows)], dtype=np.int16)[LABELS]
    image(values).to_filename(folder / "AAL.nii")
    found = fetch_atlas("aal:SPM12", data_dir=tmp_path, verbose=0)
    assert label_names(found) == dict(rows)
    with pytest.raises(ValueError, match=r"it says 'MNIColin27'. Pass space= if you"):
        atlas_sector(found, "Fusiform_R", name="FFA")
    with caplog.at_level(logging.WARNING, logger="versa"):
        sector = atlas_sector(found, "Fusiform_R", name="FFA", space="MNI152")
    assert "says that its space is MNIColin27; it is taken as MNI152" in caplog.text
    np.testing.assert_array_equal(sector.mask, LABELS == 2)


@pytest.mark.parametrize(
    "parts",
    [
        {"labels": ["Background", *NAMES]},
        {"labels": NAMES},  # earlier versions: the first name is that of label 1
        {"labels": np.array(["Background", *NAMES])},
        {"labels": {0: "Background", 1: "V1", 2: "V2", 3: "V3"}},
        {"labels": pd.DataFrame({"index": [0, 3, 2, 1], "name": ["Background", "V3",
                                                                  "V2", "V1"]})},
        {"labels": ["?", *NAMES],
         "lut": pd.DataFrame({"index": [0, 1, 2, 3], "name": ["Background", *NAMES],
                              "color": ["#000000"] * 4})},
    ],
)  # fmt: skip
def test_labels_have_their_names_in_every_form(parts):
    given = atlas(**parts)
    assert label_names(given) == {1: "V1", 2: "V2", 3: "V3"}
    for number, name in enumerate(NAMES, 1):
        for region in (name, number, np.int64(number)):
            sector = atlas_sector(given, region, name=name)
            np.testing.assert_array_equal(sector.mask, number == LABELS)


def test_names_that_fit_no_labels_are_refused():
    with pytest.raises(ValueError, match="2 names, the first 'V1', do not fit labels "):
        label_names(atlas(labels=["V1", "V2"]))
    with pytest.raises(ValueError, match="4 names, the first 'V1', do not fit"):
        label_names(atlas(labels=[*NAMES, "V4"]))
    with pytest.raises(ValueError, match="3 names, the first 'Background', do not fit"):
        label_names(atlas(labels=["Background", "V1", "V2"]))
    maps = image(np.ones((2, 2, 2, 3)))
    with pytest.raises(ValueError, match="one per map; got 2 for 3 maps"):
        label_names(atlas(maps=maps, labels=["V1", "V2"]))
    assert label_names(atlas(maps=maps))[2] == "map 2"


def test_difumo_names_its_maps_by_rows():
    table = pd.DataFrame({"component": [1, 2], "difumo_names": ["LOC", "V1"]})
    maps = image(np.ones((2, 2, 2, 2)))
    assert label_names(atlas(maps=maps, labels=table)) == {0: "LOC", 1: "V1"}


def test_a_name_of_two_labels_stands_for_both():
    given = atlas(labels={1: "V1", 2: "V1", 3: "V3"})
    sector = atlas_sector(given, "V1", name="V1")
    np.testing.assert_array_equal(sector.mask, np.isin(LABELS, [1, 2]))


def test_close_names_are_told():
    with pytest.raises(ValueError, match=r"must be among V1.*; got 'v1'. Did you mean"):
        atlas_sector(atlas(labels=NAMES), "v1", name="V1")
    with pytest.raises(ValueError, match="must have names to find 'V1'; it has none"):
        atlas_sector(atlas(), "V1", name="V1")


@pytest.mark.parametrize(
    ("names", "options", "text"),
    [
        (0, {}, "whole numbers other than 0, the background; got 0"),
        (7, {}, "must have voxels of 7; its image has none with the label 7"),
        ([1, 7], {}, "must have voxels of 7"),
        (1.5, {}, "names of regions, or whole numbers other than 0.*; got 1.5"),
        (None, {}, "names of regions, or whole numbers other than 0.*; got None"),
        ([np.nan], {}, "names of regions, or whole numbers other than 0.*; got nan"),
        ([np.inf, 1], {}, "names of regions, or whole numbers other than 0.*; got inf"),
        ([], {}, "must be one or more"),
        (1, {"threshold": 3}, "one label per voxel: threshold"),
        (1, {"resample": "linear"}, "one label per voxel: threshold and resample"),
        (1, {"space": "TAL"}, "is in space MNI152NLin6Asym, not 'TAL'"),
        (1, {"space": "mni"}, "space must be TAL, MNI152"),
    ],
)
def test_bad_requests_are_refused(names, options, text):
    with pytest.raises(ValueError, match=text):
        atlas_sector(atlas(labels=NAMES), names, name="V1", **options)


def test_maps_must_be_an_image_with_labels():
    with pytest.raises(ValueError, match=r"must be whole numbers; got .* by a thresho"):
        atlas_sector(atlas(maps=image(LABELS / 2)), 1, name="V1")
    with pytest.raises(ValueError, match=r"an image of voxels .*; got ndarray"):
        label_names({"maps": LABELS})
    with pytest.raises(ValueError, match=r"For regions of a surface use versa"):
        label_names({"map_left": LABELS})
    flat = nibabel.Nifti1Image(np.ones((3, 3)), np.eye(4))
    with pytest.raises(ValueError, match=r"n_maps\); got \(3, 3\)"):
        label_names({"maps": flat})


def test_labels_may_be_stored_as_floats(tmp_path):
    values = np.where(LABELS == 0, np.nan, LABELS)
    given = atlas(maps=image(values), labels=["Background", *NAMES])
    assert label_names(given) == {1: "V1", 2: "V2", 3: "V3"}
    for label in (2, 2.0, [np.float64(2)], np.array(2)):
        sector = atlas_sector(given, label, name="V2")
        np.testing.assert_array_equal(sector.mask, LABELS == 2)
    path = tmp_path / "scaled.nii"
    tens = image(LABELS * 10)
    tens.to_filename(path)
    with path.open("r+b") as file:  # scl_slope: labels are tenths of what is stored
        file.seek(112)
        file.write(np.float32(0.1).tobytes())
    assert not (nibabel.load(path).get_fdata() == LABELS).all()
    sector = atlas_sector(path, [1, 3], name="V1", space="TAL")
    np.testing.assert_array_equal(sector.mask, np.isin(LABELS, [1, 3]))


def test_a_sector_lies_in_the_space_that_is_asked_for(caplog):
    asked = {"name": "V1", "space": "MNI152NLin2009cAsym"}
    with caplog.at_level(logging.WARNING, logger="versa"):
        assert (
            atlas_sector(atlas(template="MNI152"), 1, **asked).space == asked["space"]
        )
        assert not caplog.records  # the variant is only more exact
        sector = atlas_sector(atlas(), 1, like=(LABELS.shape, AFFINE), **asked)
    assert sector.space == asked["space"]
    np.testing.assert_array_equal(sector.mask, LABELS == 1)
    assert "is MNI152NLin6Asym; it is taken as MNI152NLin2009cAsym" in caplog.text


@pytest.mark.parametrize(
    ("template", "space"),
    [
        ("MNI152NLin6Asym", "TAL"),
        ("MNI152NLin6Asym", "individual"),
        ("MNIColin27", "TAL"),
        ("Talairach", "MNI152"),
        ("T1w", "MNI152"),
        ("T1w", "TAL"),
    ],
)
def test_other_spaces_are_refused_before_other_grids(template, space):
    given = atlas(template=template)
    like = (LABELS.shape, AFFINE + np.eye(4)[:, [3, 0, 1, 2]])
    stated = "TAL" if template == "Talairach" else template
    with pytest.raises(ValueError, match=f"is in space {stated}, not '{space}', and"):
        atlas_sector(given, 1, name="V1", space=space, like=like)


def test_an_atlas_of_the_subject_is_in_its_own_space(tmp_path, caplog):
    path = tmp_path / "sub-01_space-T1w_dseg.nii.gz"
    image(code=2).to_filename(path)
    assert atlas_sector(path, 1, name="V1", space="individual").space == "individual"
    assert not caplog.records


def test_yeo_has_a_fourth_axis_of_one():
    sector = atlas_sector(atlas(maps=image(LABELS[..., None])), 2, name="Vis")
    np.testing.assert_array_equal(sector.mask, LABELS == 2)


def test_an_image_with_its_table_beside_it(tmp_path):
    path = tmp_path / "tpl-MNI152NLin2009cAsym_res-02_atlas-X_dseg.nii.gz"
    image(dtype=np.float32).to_filename(path)
    table = path.with_name(path.name.replace(".nii.gz", ".tsv"))
    table.write_text("index\tname\n" + "".join(f"{n}\tV{n}\n" for n in (1, 2, 3)))
    sector = atlas_sector(path, ["V1", "V2"], name="EarlyV")
    assert sector.space == "MNI152NLin2009cAsym"
    np.testing.assert_array_equal(sector.mask, np.isin(LABELS, [1, 2]))
    np.testing.assert_array_equal(
        atlas_sector(str(path), "one", name="V1", table={1: "one"}).mask, LABELS == 1
    )
    other = tmp_path / "other.csv"
    other.write_text("index,name\n3,three\n")
    assert label_names(path, table=other) == {3: "three"}


@pytest.mark.parametrize(
    ("code", "space"), [(3, "TAL"), (4, "MNI152"), (1, None), (2, None), (0, None)]
)
def test_the_form_code_of_a_file_tells_its_space(tmp_path, code, space):
    path = tmp_path / "atlas.nii"
    image(code=code).to_filename(path)
    if space is None:
        with pytest.raises(ValueError, match=r"must be TAL or MNI152.*does not say it"):
            atlas_sector(path, 1, name="V1")
        space = "individual"
        assert atlas_sector(path, 1, name="V1", space=space).space == space
    else:
        assert atlas_sector(path, 1, name="V1").space == space


def test_an_atlas_of_nilearn_with_unknown_space_is_refused():
    given = atlas(template="MNI?", maps=image(code=4))
    with pytest.raises(ValueError, match="it does not say it"):
        atlas_sector(given, 1, name="V1")


def test_files_that_are_no_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.nii must exist; it is missing"):
        label_names(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_text("nothing")
    with pytest.raises(ValueError, match="a whole NIfTI image; reading it fails"):
        label_names(tmp_path / "b.nii.gz")
    image().to_filename(tmp_path / "c.nii")
    whole = (tmp_path / "c.nii").read_bytes()
    (tmp_path / "c.nii").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="must be a whole NIfTI image"):
        atlas_sector(tmp_path / "c.nii", 1, name="V1", space="TAL")


def test_an_atlas_comes_onto_the_grid_of_the_data():
    given = atlas(labels=NAMES)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 4
    sector = atlas_sector(given, "V1", name="V1", like=(LABELS.shape, AFFINE @ flip))
    np.testing.assert_array_equal(sector.mask, (LABELS == 1)[::-1])
    fine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    shape = (10, 12, 14)
    with pytest.raises(ValueError, match="Nothing is resampled unless asked"):
        atlas_sector(given, "V1", name="V1", like=(shape, fine))
    sector = atlas_sector(
        given, "V1", name="V1", like=(shape, fine), resample="nearest"
    )
    np.testing.assert_array_equal(sector.mask[::2, ::2, ::2], LABELS == 1)
    corner = np.zeros(LABELS.shape, dtype=np.int16)
    corner[0] = 1
    right = fine.copy()
    right[0, 3] = 0.0  # the corner is at x = -4
    with pytest.raises(ValueError, match="'V1' of atlas image must reach the data"):
        atlas_sector(
            atlas(maps=image(corner), labels={1: "V1"}),
            "V1",
            name="V1",
            like=(shape, right),
            resample="nearest",
        )


def test_unknown_atlases_and_options_are_refused():
    with pytest.raises(ValueError, match=r"got 'harvard'. Did you mean"):
        fetch_atlas("harvard")
    with pytest.raises(ValueError, match="option of atlas yeo_2011 must be among"):
        fetch_atlas("yeo_2011", n_network=7)
    with pytest.raises(ValueError, match="allen_2011 has nothing to choose"):
        fetch_atlas("allen_2011:75")


def test_no_network_is_asked_if_that_is_forbidden(monkeypatch):
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="which VERSA_OFFLINE forbids"):
        fetch_atlas("yeo_2011")


def test_a_failed_download_is_one_sentence(monkeypatch):
    def refuse(atlas_name, data_dir=None):
        raise OSError("no\nroute")

    monkeypatch.setattr("nilearn.datasets.fetch_atlas_juelich", refuse)
    with pytest.raises(ConnectionError, match=r"cannot be downloaded: no route. Try"):
        fetch_atlas("juelich:maxprob-thr25-2mm")


def test_the_space_of_juelich_is_filled_in(monkeypatch):
    def give(atlas_name, data_dir=None):
        assert atlas_name == "maxprob-thr25-2mm"
        return atlas(labels=["Background", *NAMES], template="MNI?")

    monkeypatch.setattr("nilearn.datasets.fetch_atlas_juelich", give)
    found = fetch_atlas("juelich:maxprob-thr25-2mm")
    assert atlas_sector(found, "V1", name="V1").space == "MNI152NLin6Asym"
