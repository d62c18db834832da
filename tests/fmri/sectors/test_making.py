"""Sectors: activity against scipy, and the cut at Talairach y = -53."""

import csv
import logging

import numpy as np
import pytest
from scipy import stats

from versa.fmri.sectors.labels import label_sector
from versa.fmri.sectors.making import (
    define_sectors,
    group_contrast,
    most_active,
    posterior_of,
    split_at_y,
    union,
    without,
)
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.nifti import read_mask
from versa.fmri.volumes.spaces import to_mni

TAL = np.array([[3.0, 0, 0, -60], [0, 3, 0, -101], [0, 0, 3, -30], [0, 0, 0, 1]])
MNI = "MNI152NLin6Asym"


def box(name, where, shape=(4, 5, 6), affine=TAL, space="TAL"):
    mask = np.zeros(shape, dtype=bool)
    mask[where] = True
    return Sector(name, mask, affine, space)


def full(name="OTC", shape=(41, 34, 20), affine=TAL, space="TAL"):
    return Sector(name, np.ones(shape, dtype=bool), affine, space)


def test_union_and_difference_are_those_of_sets():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 4, 5, 6)) < 0.4
    first, second, third = (Sector(f"V{n}", m, TAL, "TAL") for n, m in enumerate(masks))
    both = union([first, second, third], name="EarlyV")
    np.testing.assert_array_equal(both.mask, masks.any(axis=0))
    rest = without(full(shape=(4, 5, 6)), first, second)
    np.testing.assert_array_equal(rest.mask, ~(masks[0] | masks[1]))
    assert rest.name == "OTC"
    assert without(first).n_voxels == first.n_voxels
    with pytest.raises(ValueError, match=r"V0 must have voxels outside OTC; all its"):
        without(first, full(shape=(4, 5, 6)))
    with pytest.raises(ValueError, match="must share one grid"):
        without(first, full(shape=(4, 5, 7)))
    with pytest.raises(ValueError, match="union of one or more; got none"):
        union([], name="EarlyV")


def test_the_group_contrast_is_a_t_test():
    rng = np.random.default_rng(1)
    maps = rng.normal(0.5, 1, (7, 3, 4, 5))
    np.testing.assert_allclose(
        group_contrast(maps, [TAL] * 7), stats.ttest_1samp(maps, 0).statistic
    )
    np.testing.assert_allclose(
        group_contrast(maps, statistic="mean"), maps.mean(axis=0)
    )


def test_a_voxel_counts_only_if_all_subjects_have_it():
    maps = np.random.default_rng(1).normal(size=(4, 1, 1, 5))
    maps[2, 0, 0, 1] = np.nan
    maps[1, 0, 0, 2] = np.inf
    maps[:, 0, 0, 3] = 0  # outside the brain
    maps[:, 0, 0, 4] = 0.1  # no variance: t is not a number, not infinity
    found = group_contrast(maps)
    assert np.isfinite(found).tolist() == [[[True, False, False, False, False]]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"contrasts": [np.ones((2, 2, 2))]}, "at least 2 subjects for the t; got 1"),
        ({"statistic": "median"}, "statistic must be among t, mean; got 'median'"),
        (
            {"contrasts": [np.ones((2, 2, 2)), np.ones((2, 2, 3))]},
            r"contrast 0 is \(2, 2, 2\), contrast 1 is \(2, 2, 3\)",
        ),
        ({"affines": [TAL, TAL * [[-1], [1], [1], [1]]]}, "must be on one grid"),
        ({"affines": [TAL]}, "one per contrast; got 1 for 2"),
    ],
)
def test_mixed_contrasts_are_refused(change, text):
    fields = {"contrasts": [np.ones((2, 2, 2))] * 2} | change
    with pytest.raises(ValueError, match=text):
        group_contrast(**fields)


def test_the_most_active_voxels_are_the_largest():
    sector = full(shape=(6, 7, 8))
    contrast = np.random.default_rng(2).permutation(336).reshape(6, 7, 8) + 1.0
    chosen = most_active(sector, contrast, 50)
    assert chosen.n_voxels == 50
    np.testing.assert_array_equal(chosen.mask, contrast > 286)
    smaller = most_active(sector, contrast, 20)
    assert not (smaller.mask & ~chosen.mask).any()


def test_ties_go_to_the_first_voxels_and_nan_is_never_chosen():
    contrast = np.array([[[np.nan, 1, 2, 1, 1, np.inf, 2]]])
    sector = full(shape=(1, 1, 7))
    chosen = most_active(sector, contrast, 4)
    assert chosen.mask.ravel().astype(int).tolist() == [0, 1, 1, 1, 0, 0, 1]
    with pytest.raises(ValueError, match=r"n_voxels = 6 voxels .*; it has 5"):
        most_active(sector, contrast, 6)


@pytest.mark.parametrize("flip", [1, -1])
def test_hemispheres_go_by_millimetres_in_any_orientation(flip):
    affine = np.diag([flip * 2.0, 2, 2, 1])
    affine[0, 3] = -flip * 4.0  # x = -4, -2, 0, 2, 4 or its mirror image
    sector = full(shape=(5, 2, 1), affine=affine)
    contrast = np.arange(1.0, 11).reshape(5, 2, 1)
    chosen = most_active(sector, contrast, 2, per_hemisphere=True)
    x = chosen.coordinates[:, 0]
    assert sorted(x) == [-2, -2, 4, 4] if flip == 1 else [-4, -4, 2, 2]
    with pytest.raises(ValueError, match="in the left hemisphere; it has 4"):
        most_active(sector, contrast, 5, per_hemisphere=True)


def test_inactive_voxels_are_reported(caplog):
    with caplog.at_level(logging.WARNING, logger="versa"):
        most_active(full(shape=(1, 1, 3)), [[[1.0, -1, -2]]], 2)
    assert "1 of the 2 most active voxels of sector OTC" in caplog.text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"contrast": np.ones((2, 2, 3))}, "must be on its grid, \\(2, 2, 2\\)"),
        ({"affine": np.eye(4)}, "must be on its grid"),
        ({"n_voxels": 0}, "n_voxels must be a whole number above 0; got 0"),
        ({"n_voxels": 1.5}, "got 1.5"),
        ({"n_voxels": None}, "whole number above 0; got None"),
        ({"n_voxels": np.inf}, "whole number above 0; got inf"),
        ({"n_voxels": "1"}, "whole number above 0; got '1'"),
        ({"per_hemisphere": True, "space": "none"}, "its space is 'none'"),
    ],
)
def test_bad_choices_are_refused(change, text):
    space = change.pop("space", "TAL")
    fields = {"contrast": np.ones((2, 2, 2)), "n_voxels": 1} | change
    with pytest.raises(ValueError, match=text):
        most_active(full(shape=(2, 2, 2), space=space), **fields)


def test_the_cut_is_exact_in_talairach_space():
    sector = full()  # y = -101, -98 ... -2: one plane of voxels lies at -53
    posterior, anterior = split_at_y(sector)
    assert (posterior.name, anterior.name) == ("pOTC", "aOTC")
    assert posterior.coordinates[:, 1].max() == -53
    assert anterior.coordinates[:, 1].min() == -50
    np.testing.assert_array_equal(posterior.mask ^ anterior.mask, sector.mask)
    posterior, anterior = split_at_y(sector, closed="anterior")
    assert posterior.coordinates[:, 1].max() == -56
    assert anterior.coordinates[:, 1].min() == -53


def test_the_cut_survives_the_rounding_of_a_header():
    affine = TAL.copy()
    affine[1, 3] += np.float32(1e-5)
    posterior, _ = split_at_y(full(affine=affine))
    assert posterior.coordinates[:, 1].max() == pytest.approx(-53, abs=1e-4)


def test_a_sector_is_cut_alike_in_talairach_and_mni():
    rng = np.random.default_rng(4)
    talairach = rng.uniform([-60, -70, -40], [60, -40, 60], (2000, 3))
    for transform in ("lancaster", "brett"):
        np.testing.assert_array_equal(
            posterior_of(
                to_mni(talairach, transform=transform), MNI, transform=transform
            ),
            posterior_of(talairach, "TAL"),
        )


def test_a_cut_does_not_depend_on_the_order_of_voxels():
    mask = np.random.default_rng(5).random((10, 34, 5)) < 0.5
    flip = np.diag([-1.0, -1, 1, 1])
    flip[:2, 3] = np.array(mask.shape[:2]) - 1
    one = split_at_y(Sector("OTC", mask, TAL, MNI))[0]
    two = split_at_y(Sector("OTC", mask[::-1, ::-1], TAL @ flip, MNI))[0]
    np.testing.assert_array_equal(one.mask, two.mask[::-1, ::-1])


@pytest.mark.parametrize("y", ["-53", None, np.nan])
def test_the_cut_is_at_a_number(y):
    text = "y must be a number, in mm; got "
    with pytest.raises(ValueError, match=text):
        posterior_of([[0, 0, 0]], "TAL", y)
    for space in ("TAL", "individual"):
        with pytest.raises(ValueError, match=text):
            split_at_y(full(space=space), y)


@pytest.mark.parametrize("space", ["individual", "none"])
def test_a_sector_without_known_space_is_not_cut(space):
    with pytest.raises(ValueError, match=f"y = -53; its space is '{space}'"):
        split_at_y(full(space=space))
    with pytest.raises(ValueError, match=f"got '{space}'"):
        posterior_of(full().coordinates, space)


def test_an_empty_half_is_refused():
    with pytest.raises(ValueError, match=r"on both sides of Talairach y = 20; .*poste"):
        split_at_y(full(), 20)
    with pytest.raises(ValueError, match=r"y = -150; .* are anterior"):
        split_at_y(full(), -150)
    with pytest.raises(ValueError, match="closed must be among posterior, anterior"):
        split_at_y(full(), closed="both")


def test_the_recipe_is_its_steps():
    rng = np.random.default_rng(6)
    shape = (41, 34, 20)
    labels = np.zeros(shape, dtype=int)
    labels[10:30, :6, 5:15] = rng.integers(1, 5, (20, 6, 10))
    early = label_sector(labels, [1, 2, 3], name="V1-V3", affine=TAL, space="TAL")
    other = label_sector(labels, 4, name="V4", affine=TAL, space="TAL")
    mask = full()
    contrast = rng.normal(2, 1, shape)
    found = define_sectors(
        early, mask, contrast, exclude=[other], n_voxels=700, per_hemisphere=True
    )
    assert [(key, one.name) for key, one in found.items()] == [
        (name, name) for name in ("EarlyV", "pOTC", "aOTC")
    ]
    np.testing.assert_array_equal(found["EarlyV"].mask, early.mask)
    x, y, _ = np.moveaxis(
        (np.indices(shape).reshape(3, -1).T @ TAL[:3, :3].T + TAL[:3, 3]).reshape(
            *shape, 3
        ),
        -1,
        0,
    )
    allowed = np.where(labels == 0, contrast, -np.inf)
    chosen = np.zeros(shape, dtype=bool)
    for side in (x < 0, x > 0):
        limit = np.sort(allowed[side])[-700]
        chosen |= side & (allowed >= limit)
    np.testing.assert_array_equal(found["pOTC"].mask, chosen & (y <= -53))
    np.testing.assert_array_equal(found["aOTC"].mask, chosen & (y > -53))


def test_the_recipe_checks_where_the_contrast_lies():
    early, shape = box("V1-V3", np.s_[:, :2], (6, 34, 4)), (6, 34, 4)
    contrast = np.random.default_rng(8).normal(2, 1, shape)
    parts = early, full(shape=shape), contrast
    found = define_sectors(*parts, n_voxels=300, affine=TAL)
    plain = define_sectors(*parts, n_voxels=300)
    np.testing.assert_array_equal(found["aOTC"].mask, plain["aOTC"].mask)
    mirrored = TAL * [[-1], [1], [1], [1]]
    with pytest.raises(ValueError, match="contrast for sector OTC must be on its grid"):
        define_sectors(*parts, n_voxels=300, affine=mirrored)


def test_subjects_of_a_group_get_the_same_halves():
    affine = np.array([[-4.0, 0, 0, 90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
    shape = (46, 55, 46)
    rng = np.random.default_rng(7)
    cortex = box("OTC", np.s_[5:40, 2:30, 7:20], shape, affine, MNI)
    earlies = [
        box("V1-V3", np.s_[17 + number % 3 : 27, 4:10, 12:20], shape, affine, MNI)
        for number in range(4)
    ]
    contrasts = [rng.normal(1, 1, shape) for _ in earlies]
    contrast = group_contrast(contrasts)
    found = [
        define_sectors(early, cortex, contrast, exclude=earlies) for early in earlies
    ]
    for sectors in found:
        np.testing.assert_array_equal(sectors["pOTC"].mask, found[0]["pOTC"].mask)
        assert sectors["pOTC"].n_voxels + sectors["aOTC"].n_voxels == 1000
        assert not any((sectors["pOTC"].mask & early.mask).any() for early in earlies)


def test_the_cut_through_areas_of_real_subjects(shared):
    folder = shared / "data" / "bold5000_masks"
    with open(folder / "masks.csv") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    early = [name for name in names if "EarlyVis" in name and "mni/" in name]
    assert len(early) == 7
    for name in early:  # behind it, by every transform
        sector = Sector("EarlyV", *read_mask(folder / name), MNI)
        for transform in ("lancaster", "lancaster-fsl", "brett"):
            behind = posterior_of(sector.coordinates, MNI, transform=transform)
            assert behind.all(), (name, transform)
    place_area = Sector("PPA", *read_mask(folder / "group_mni" / "PPA.nii.gz"), MNI)
    posterior, anterior = split_at_y(place_area)
    assert min(posterior.n_voxels, anterior.n_voxels) > 100
    assert posterior.coordinates[:, 1].mean() < -56 < anterior.coordinates[:, 1].mean()
