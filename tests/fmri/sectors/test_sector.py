"""Sectors: voxels, coordinates against nibabel, and the grids they share."""

import nibabel
import numpy as np
import pytest

from versa.fmri.sectors.sector import Sector, check_same_grid
from versa.fmri.volumes.grids import same_grid

OBLIQUE = np.array(
    [
        [-2.9, 0.3, 0.1, 90.0],
        [0.3, 2.8, 0.4, -126.0],
        [0.0, -0.5, 3.1, -72.0],
        [0, 0, 0, 1],
    ]
)


def make_mask(shape=(4, 5, 6), n_voxels=11):
    mask = np.zeros(np.prod(shape), dtype=bool)
    mask[np.random.default_rng(0).permutation(mask.size)[:n_voxels]] = True
    return mask.reshape(shape)


@pytest.mark.parametrize("affine", [OBLIQUE, np.diag([-3.0, 3, 3, 1])])
def test_coordinates_agree_with_nibabel(affine):
    mask = make_mask()
    sector = Sector("EarlyV", mask, affine, "TAL")
    expected = nibabel.affines.apply_affine(affine, np.argwhere(mask))
    np.testing.assert_allclose(sector.coordinates, expected, atol=1e-12)
    assert sector.n_voxels == 11


def test_a_sector_is_read_only():
    sector = Sector("EarlyV", make_mask(), OBLIQUE, "TAL")
    with pytest.raises(ValueError, match="read-only"):
        sector.mask[0, 0, 0] = True
    with pytest.raises(ValueError, match="read-only"):
        sector.affine[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "a sector's name must be a text; got ''"),
        ({"mask": make_mask().astype(float)}, "mask must be boolean; got float64"),
        ({"mask": make_mask()[0]}, r"mask must be \(x, y, z\); got \(5, 6\)"),
        ({"mask": np.zeros((2, 2, 2), bool)}, "at least one voxel; got none among 8"),
        ({"affine": np.eye(3)}, r"affine must be \(4, 4\); got \(3, 3\)"),
        ({"affine": np.diag([0.0, 1, 1, 1])}, "affine must be finite and invertible"),
        ({"affine": np.full((4, 4), np.nan)}, "affine must be finite and invertible"),
        ({"affine": np.eye(4)[::-1]}, "last row of 0 0 0 1"),
        ({"space": "tal"}, "space must be TAL, MNI152.*got 'tal'"),
        ({"space": None}, "got None"),
    ],
)
def test_bad_sectors_are_refused(change, text):
    fields = {"name": "EarlyV", "mask": make_mask(), "affine": OBLIQUE, "space": "TAL"}
    with pytest.raises(ValueError, match=text):
        Sector(**fields | change)


@pytest.mark.parametrize("space", ["TAL", "MNI152NLin2009cAsym", "individual", "none"])
def test_known_spaces_pass(space):
    assert Sector("EarlyV", make_mask(), OBLIQUE, space).space == space


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"space": "MNI152"}, "EarlyV has space TAL, pOTC has space MNI152"),
        (
            {"mask": make_mask((4, 5, 7))},
            r"EarlyV has shape \(4, 5, 6\), pOTC has shape \(4, 5, 7\)",
        ),
        ({"affine": np.eye(4)}, "EarlyV has affine .*-2.9.*, pOTC has affine .*1.0"),
    ],
)
def test_mixed_grids_are_refused_by_both_names(change, text):
    fields = {"name": "pOTC", "mask": make_mask(), "affine": OBLIQUE, "space": "TAL"}
    first = Sector(**fields | {"name": "EarlyV"})
    check_same_grid([first, first, Sector(**fields)])
    with pytest.raises(ValueError, match=text):
        check_same_grid([first, first, Sector(**fields | change)])


@pytest.mark.parametrize(("voxels", "same"), [(0.009, True), (0.011, False)])
def test_sectors_share_a_grid_up_to_a_hundredth_of_a_voxel(voxels, same):
    moved = OBLIQUE.copy()
    moved[:3, 3] += voxels * OBLIQUE[:3, 1]
    first = Sector("EarlyV", make_mask(), OBLIQUE, "TAL")
    second = Sector("pOTC", make_mask(), moved, "TAL")
    assert same_grid((4, 5, 6), OBLIQUE, (4, 5, 6), moved) == same
    if same:
        check_same_grid([first, second])
        return
    with pytest.raises(ValueError, match="EarlyV has affine"):
        check_same_grid([first, second])
