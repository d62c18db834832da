"""The table of sectors by hand, and what is said about suspicious ones."""

import csv

import nibabel
import numpy as np
import pandas as pd
import pytest

from versa.fmri.sectors.checks import sector_table, sector_warnings
from versa.fmri.sectors.making import split_at_y
from versa.fmri.sectors.sector import Sector

AFFINE = np.array([[2.0, 0, 0, -10], [0, 2, 0, -70], [0, 0, 2, 0], [0, 0, 0, 1]])
SHAPE = (11, 20, 10)  # x = -10 ... 10, y = -70 ... -32


def box(name, where=np.s_[:], space="TAL", affine=AFFINE):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[where] = True
    return Sector(name, mask, affine, space)


def test_the_table_is_what_can_be_counted_by_hand():
    first = box("OTC", np.s_[0:6, 0:2, 0:1])  # x = -10 ... 0, y = -70, -68
    second = box("V1", np.s_[4:6, 1:3, 0:1])  # x = -2, 0, y = -68, -66
    table = sector_table([first, second]).set_index("sector")
    row = table.loc["OTC"]
    assert row[["n_voxels", "mm3", "left", "right"]].tolist() == [12, 96, 10, 0]
    assert row[["x", "y", "z"]].tolist() == [-5, -69, 0]
    assert row[["tal_y_min", "tal_y_max"]].tolist() == [-70, -68]
    assert row[["shared", "shared_with"]].tolist() == [2, "V1 2"]
    assert table.loc["V1", "shared_with"] == "OTC 2"


def test_the_table_says_nothing_about_places_that_are_not_known():
    table = sector_table([box("a", space="none"), box("b", space="none")])
    missing = ["mm3", "left", "right", "x", "tal_y_min", "shared"]
    assert table[missing].isna().all().all()
    individual = sector_table([box("a", space="individual")])
    assert individual.loc[0, "right"] == 5 * 200
    assert pd.isna(individual.loc[0, "tal_y_max"])


def test_sectors_of_different_grids_are_not_compared():
    items = [box("a"), box("b"), box("c", affine=np.diag([3.0, 3, 3, 1]))]
    table = sector_table(items)
    assert table["shared"].tolist() == [2200, 2200, 0]


def test_y_in_mni_is_that_of_the_cut():
    halves = split_at_y(box("OTC", space="MNI152NLin6Asym"))
    table = sector_table(halves)
    assert table.loc[0, "tal_y_max"] <= -53 < table.loc[1, "tal_y_min"]


def test_sound_sectors_give_no_warning():
    posterior, anterior = split_at_y(box("OTC"))
    assert sector_warnings([posterior, anterior]) == []


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("LHFusiform", "left"),
        ("RHLOC", "right"),
        ("lh.LOC", "left"),
        ("LOC_L", "left"),
        ("right-OTC", "right"),
        ("otcLeft", "left"),
        ("sub-CSI1_mask-RHRSC", "right"),
        ("R OTC", "right"),
        ("FFAleft", "left"),
        ("hemi-L_LOC", "left"),
        ("hemiR_LOC", "right"),
        ("LhLOC", "left"),
        ("Bright", None),
        ("LOC", None),
        ("RSC", None),
        ("lingual", None),
        ("rhinal", None),
        ("left-right", None),
    ],
)
def test_names_that_say_a_side_are_believed(name, side):
    left, right = np.s_[0:5], np.s_[6:11]
    for where, real in ((left, "left"), (right, "right")):
        found = sector_warnings([box(name, where)])
        if side is None:
            assert found == [f"{name}: all voxels are in the {real} hemisphere."]
        elif side == real:
            assert found == []
        else:
            assert found == [
                f"{name}: 1000 of 1000 voxels are in the {real} hemisphere, against "
                "its name."
            ]


@pytest.mark.parametrize(
    ("name", "where", "text"),
    [
        ("EarlyV", np.s_[:, 8:10], "EarlyV: 110 of 220 voxels are anterior of"),
        ("V1", np.s_[:, 8:10], "V1: 110 of 220 voxels are anterior of"),
        ("pOTC", np.s_[:, 9:11], "pOTC: 220 of 220 voxels are anterior of"),
        ("aOTC", np.s_[:, 8:10], "aOTC: 110 of 220 voxels are posterior of"),
    ],
)
def test_voxels_on_the_wrong_side_of_the_cut_are_counted(name, where, text):
    # y = -54 is index 8
    assert sector_warnings([box(name, where)]) == [f"{text} Talairach y = -53."]
    assert sector_warnings([box(name, where, space="individual")]) == []


def test_a_few_voxels_across_the_middle_count_in_a_standard_space_only():
    where = np.s_[0:7]  # x = -10 ... 2
    assert sector_warnings([box("L_LOC", where, space="individual")]) == []
    assert sector_warnings([box("L_LOC", where)]) == [
        "L_LOC: 200 of 1400 voxels are in the right hemisphere, against its name."
    ]


def test_small_and_overlapping_sectors_are_named():
    small, large = box("LOC", np.s_[3:8, 0:3, 0:3]), box("PPA")
    assert sector_warnings([small, large]) == [
        "LOC: only 45 voxels, fewer than 50.",
        "LOC and PPA: 45 voxels in common.",
    ]
    assert sector_warnings([small], n_fewest=40) == []


def test_real_masks_lie_where_their_names_say(shared):
    folder = shared / "data" / "bold5000_masks"
    with open(folder / "masks.csv") as file:
        rows = list(csv.DictReader(file))
    sided = [row for row in rows if "group" not in row["file"]]
    assert len(sided) == 60
    found = []
    sectors = []
    for row in sided:
        space = "individual" if "subject" in row["file"] else "MNI152NLin6Asym"
        image = nibabel.load(folder / row["file"])
        mask, affine = image.get_fdata() > 0, image.affine  # some were interpolated
        name = row["file"].split("/")[1].removesuffix(".nii.gz")
        sectors.append(Sector(name, mask, affine, space))
        found += sector_warnings(sectors[-1:])
    table = sector_table(sectors)
    np.testing.assert_array_equal(
        table["n_voxels"], [int(row["n_voxels"]) for row in sided]
    )
    for axis in "xyz":
        expected = [float(row[f"centroid_{axis}"]) for row in sided]
        np.testing.assert_allclose(table[axis], expected, atol=0.006)
    assert found == []
    turned = [
        Sector(s.name, s.mask, np.diag([-1.0, 1, 1, 1]) @ s.affine, s.space)
        for s in sectors
    ]
    assert all("against its name" in sector_warnings([one])[0] for one in turned)
