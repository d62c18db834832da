"""Images on one grid: nothing moves in the head."""

import nibabel
import numpy as np
import pytest
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    ornt_transform,
)

from versa.fmri.volumes.grids import onto_grid, orientation, same_grid

SHAPE = (4, 5, 6)
RAS = np.array([[2.0, 0, 0, -3], [0, 2.5, 0, -90], [0, 0, 3, -20], [0, 0, 0, 1]])
TURN = np.array(nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.1, 0.3), [1.0, 2, 3]
))  # fmt: skip
TILT = np.array(nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.03, -0.02, 0.01), [0.3, -0.2, 0.1]
))  # fmt: skip
CODES = ["RAS", "LAS", "LPS", "PIR", "SLA", "IPL", "ASR"]


def turned(values, affine, codes):
    """The same image with its axes in another order, by nibabel."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return (
        apply_orientation(values, change),
        affine @ inv_ornt_aff(change, values.shape[:3]),
    )


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("oblique", [False, True])
def test_a_landmark_stays_where_it_is(codes, oblique):
    affine = TURN @ RAS if oblique else RAS
    values = np.random.default_rng(0).integers(0, 99, (*SHAPE, 3)).astype(np.int16)
    values[1, 3, 2, 0] = 100
    moved, own = turned(values, affine, codes)
    assert oblique or orientation(own) == codes
    back = onto_grid(moved, own, (*SHAPE, 7), affine, what="mask")
    assert back.dtype == np.int16
    np.testing.assert_array_equal(back, values)
    there = onto_grid(values, affine, moved.shape, own, what="mask")
    np.testing.assert_array_equal(there, moved)
    place = nibabel.affines.apply_affine(affine, (1, 3, 2))
    index = np.argwhere(there[..., 0] == 100)
    np.testing.assert_allclose(nibabel.affines.apply_affine(own, index), [place])


def other_grids():
    shifted = RAS.copy()
    shifted[0, 3] += 1
    bigger = RAS @ np.diag([1.5, 1, 1, 1])
    return {
        "shifted by half a voxel": (SHAPE, shifted),
        "other voxel size": (SHAPE, bigger),
        "other field of view": ((4, 5, 7), RAS),
        "turned": (SHAPE, TILT @ RAS),
        "a voxel further": (SHAPE, RAS + np.outer([1, 0, 0, 0], [0, 0, 0, 2.0])),
    }


@pytest.mark.parametrize("name", other_grids())
def test_nothing_is_resampled_unless_asked(name):
    shape, affine = other_grids()[name]
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:3, 1:4, 2:5] = True
    rule = "^mask of V1 must have its voxels where the data have theirs: it is 4 x 5 x"
    with pytest.raises(ValueError, match=rule) as caught:
        onto_grid(mask, RAS, shape, affine, what="mask of V1")
    assert "resample='nearest'" in str(caught.value)
    found = onto_grid(mask, RAS, shape, affine, what="mask", resample="nearest")
    assert found.shape == shape
    assert found.dtype == bool
    # every voxel has the value of the voxel of the mask that is nearest to it
    index = np.argwhere(np.ones(shape))
    own = nibabel.affines.apply_affine(np.linalg.inv(RAS) @ affine, index)
    near = np.floor(own + 0.5).astype(int)
    clear = (np.abs(own - np.floor(own) - 0.5) > 0.02).all(axis=1)  # no ties
    within = ((near >= 0) & (near < SHAPE)).all(axis=1)
    expected = np.zeros(len(index), dtype=bool)
    expected[within] = mask[tuple(near[within].T)]
    got = found[tuple(index.T)]
    np.testing.assert_array_equal(got[clear & within], expected[clear & within])


def test_headers_in_float32_are_the_same_grid():
    affine = (TURN @ RAS).astype(np.float32).astype(float)
    assert same_grid(SHAPE, affine, SHAPE, TURN @ RAS)
    assert not same_grid(SHAPE, affine, (4, 5, 7), TURN @ RAS)
    near = TURN @ RAS
    near[1, 3] += 0.1
    assert not same_grid(SHAPE, affine, SHAPE, near)


@pytest.mark.parametrize(
    ("affine", "resample", "text"),
    [
        (RAS, "cubic", "resample must be among nearest, linear"),
        (
            RAS + np.outer([1, 0, 0, 0], [0, 0, 0, 500.0]),
            "nearest",
            "mask must reach the data to be resampled; it is",
        ),
        (np.diag([0.0, 2, 2, 1]), None, "mask: affines must be finite and invertible"),
    ],
)
def test_what_cannot_be_put_on_a_grid_is_refused(affine, resample, text):
    mask = np.ones(SHAPE, dtype=np.uint8)
    with pytest.raises(ValueError, match=text):
        onto_grid(mask, affine, SHAPE, RAS, what="mask", resample=resample)
