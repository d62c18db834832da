"""Labels: what counts as one, in images of every type."""

import numpy as np
import pytest

from versa.fmri.sectors.labels import label_sector, whole_labels
from versa.fmri.sectors.making import label_sector as from_sectors

AFFINE = np.array([[3.0, 0, 0, -60], [0, 3, 0, -101], [0, 0, 3, -30], [0, 0, 0, 1]])


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_labels_become_a_sector(dtype):
    labels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    sector = label_sector(labels, [3, 1, 2], name="EarlyV", affine=AFFINE, space="TAL")
    assert np.argwhere(sector.mask).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 3]]
    single = label_sector(labels, np.int64(23), name="V1", affine=AFFINE, space="TAL")
    assert np.argwhere(single.mask).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("labels", "values", "text"),
    [
        ([[[0, 1]]], [1, 7, 9], "7, 9 do not. The image has 1"),
        ([[[0, 1]]], 0, "values of V1 must be .* other than 0, .*got \\[0\\]"),
        ([[[0, 1]]], [], "got \\[\\]"),
        ([[[0, 0.5]]], 1, "whole numbers; got values such as 0.5"),
        ([[[0, np.inf]]], 1, "whole numbers; got values such as inf"),
        ([[["V1"]]], 1, "labels of V1 must be numbers; got <U2"),
        ([[[0, 1]]], 1.5, "whole numbers other than 0, .*got \\[1.5\\]"),
        ([[[0, 1]]], None, "whole numbers other than 0, .*got \\[None\\]"),
        ([[0, 1]], 1, "labels of V1 must be \\(x, y, z\\); got \\(1, 2\\)"),
    ],
)
def test_bad_labels_are_refused(labels, values, text):
    with pytest.raises(ValueError, match=text):
        label_sector(labels, values, name="V1", affine=AFFINE, space="TAL")


def test_it_can_be_had_from_sectors():
    assert from_sectors is label_sector


@pytest.mark.parametrize("times", [3, 7, 10, 41])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_survive_the_scale_factor_of_a_header(times, dtype):
    labels = np.array([0, 1, 2, 3, 7, 1021, 12105])
    factor = np.float32(1 / times)  # as a header keeps it
    scaled = (labels * times * factor.astype(np.float64)).astype(dtype)
    if dtype == np.float64:
        assert (scaled != labels).any()
    np.testing.assert_array_equal(whole_labels(scaled, "labels"), labels)


def test_nan_is_no_label():
    image = np.array([[[np.nan, 1, 2, np.nan]]])
    np.testing.assert_array_equal(whole_labels(image, "labels"), [[[0, 1, 2, 0]]])
    sector = label_sector(image, 2, name="V2", affine=AFFINE, space="TAL")
    assert np.argwhere(sector.mask).tolist() == [[0, 0, 2]]
    assert np.isnan(image).sum() == 2


@pytest.mark.parametrize("value", [0.5, 1.00001, 1e-5, 1e7 + 0.3])
def test_values_of_a_map_are_no_labels(value):
    with pytest.raises(
        ValueError, match="a map must be whole numbers; got values such"
    ):
        whole_labels(np.array([0, 1, value]), "a map")
