"""Betas of a subject: rows by name, voxels by place, and the dataset they make."""

import numpy as np
import pytest

from tests.scans import AFFINE
from versa.fmri.betas.conditions import ConditionBetas, dataset_from_betas
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.sectors.sector import Sector


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
        with pytest.raises(ValueError, match="must be on the grid of the betas"):
            betas.in_sector(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"odd": None}, "both odd and even, or neither"),
        ({"odd": np.zeros((4, 3))}, r"odd of .* must be .* Is it transposed"),
        ({"activity": np.zeros(3)}, r"activity of .* must be \(n_voxels,\), that is"),
        ({"conditions": ("a", "a", "b")}, "must be unique; repeated: 'a'"),
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
