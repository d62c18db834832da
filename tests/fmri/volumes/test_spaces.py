"""Talairach and MNI: published check points, planes worked out by hand, round trips."""

import numpy as np
import pytest

from versa.fmri.volumes.spaces import TRANSFORMS, to_mni, to_talairach

# Where the plane y = -53 of Talairach space lies in MNI space, worked out by hand from
# the middle row of each matrix: y = constant + slope_x * x + slope_z * z.
PLANES = {
    "lancaster": (-54.92, 0.0069, 0.0773),
    "lancaster-spm": (-54.99, 0.0052, 0.0935),
    "lancaster-fsl": (-54.83, 0.0088, 0.0612),
}
# y in MNI of (35, -53, -12) and (-35, -53, -12) in Talairach space.
VENTRAL = {
    "lancaster": (-55.7, -56.1),
    "lancaster-spm": (-56.0, -56.3),
    "lancaster-fsl": (-55.3, -55.9),
    "brett": (-53.9, -53.9),
}


@pytest.fixture
def points():
    points = np.random.default_rng(0).uniform(-90, 90, size=(500, 3))
    points[:100, 2] *= 1e-3  # many close to the seam of Brett's transform
    points[100:110, 2] = 0.0
    return points


@pytest.mark.parametrize("transform", PLANES)
def test_the_cut_is_a_tilted_plane_in_mni(transform):
    constant, slope_x, slope_z = PLANES[transform]
    x, z = (grid.ravel() for grid in np.meshgrid([-60.0, 0, 60], [-40.0, 0, 60]))
    y = constant + slope_x * x + slope_z * z
    cut = to_talairach(np.stack([x, y, z], axis=1), "MNI152", transform=transform)
    np.testing.assert_allclose(cut[:, 1], -53, atol=0.02)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_cut_at_ventral_cortex(transform):
    found = to_mni([[35, -53, -12], [-35, -53, -12]], transform=transform)
    np.testing.assert_allclose(found[:, 1], VENTRAL[transform], atol=0.06)


def test_check_points_of_lancaster():
    # Table IV of https://doi.org/10.1002/hbm.20345: means over brains, SPM to Talairach
    mni = [[73.7, -26.0, 7.0], [6.3, 75.1, 5.9]]
    talairach = [[68.3, -26.9, 8.3], [5.7, 67.5, 17.1]]
    found = to_talairach(mni, "MNI152", transform="lancaster-spm")
    np.testing.assert_allclose(found, talairach, atol=1.5)


def test_check_points_of_brett():
    # the example of the original mni2tal, and one below the seam, worked out by hand
    found = to_talairach([[10, 12, 14], [10, 12, -14]], "MNI152", transform="brett")
    np.testing.assert_allclose(found[0], [9.9, 12.27003, 12.28254], atol=1e-5)
    y = 0.9988 * 0.97 * 12 + 0.05 * 0.84 * -14
    z = -0.05 * 0.97 * 12 + 0.9988 * 0.84 * -14
    np.testing.assert_allclose(found[1], [9.9, y, z], atol=1e-12)


def test_brett_is_continuous_at_the_seam():
    above, below = to_talairach(
        [[20, -60, 1e-9], [20, -60, -1e-9]], "MNI152", transform="brett"
    )
    np.testing.assert_allclose(above, below, atol=1e-8)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_there_and_back(points, transform):
    there = to_talairach(points, "MNI152NLin6Asym", transform=transform)
    np.testing.assert_allclose(to_mni(there, transform=transform), points, atol=1e-10)
    back = to_mni(points, transform=transform)
    again = to_talairach(back, "MNI152", transform=transform)
    np.testing.assert_allclose(again, points, atol=1e-10)


def test_mni305_goes_through_mni152():
    # The example and the printed inverse of FreeSurfer's page on coordinate systems.
    in_152 = [10.695, -18.409, 36.137]
    found = to_talairach([[10, -20, 35]], "MNI305")
    np.testing.assert_allclose(found, to_talairach([in_152], "MNI152"), atol=5e-3)
    inverse = np.array(
        [
            [1.0022, 0.0071, -0.0177, 0.0528],
            [-0.0146, 0.9990, 0.0027, -1.5519],
            [0.0129, 0.0094, 1.0027, -1.2012],
        ]
    )
    in_305 = inverse @ [10, -20, 35, 1]
    np.testing.assert_allclose(in_305, [9.3131, -21.5849, 33.8345], atol=2e-3)
    found = to_talairach([in_305], "MNI305")
    np.testing.assert_allclose(
        found, to_talairach([[10, -20, 35]], "MNI152"), atol=0.02
    )


def test_talairach_stays_and_is_a_copy(points):
    same = to_talairach(points, "TAL")
    np.testing.assert_array_equal(same, points)
    same[:] = 0
    assert points.any()


@pytest.mark.parametrize("space", ["individual", "none", "MNI", "tal", None])
def test_other_spaces_are_refused(space):
    with pytest.raises(ValueError, match=r"must be in TAL, MNI152... or MNI305 .* got"):
        to_talairach([[0, 0, 0]], space)


def test_wrong_values_are_refused():
    for convert in (to_mni, lambda c, **k: to_talairach(c, "MNI152", **k)):
        with pytest.raises(ValueError, match=r"must be \(n_points, 3\); got \(3,\)"):
            convert([0, 0, 0])
        with pytest.raises(ValueError, match="must be finite; 1 of 2 are not"):
            convert([[0, 0, np.nan], [0, 0, 0]])
        with pytest.raises(ValueError, match="Did you mean lancaster-fsl"):
            convert([[0, 0, 0]], transform="lancaster_fsl")
    with pytest.raises(ValueError, match="transform must be among lancaster"):
        to_talairach([[0, 0, 0]], "TAL", transform="affine")
