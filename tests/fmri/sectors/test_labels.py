"""Labels in images of every type, and tables of BIDS, FreeSurfer, FSL and ITK-SNAP."""

import numpy as np
import pytest

from versa.fmri.sectors.labels import (
    label_sector,
    read_label_table,
    table_columns,
    whole_labels,
)

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


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


BIDS = "index\tname\tabbreviation\n0\tBackground\tBG\n3\tV1 left\tV1\n"
FREESURFER = """#$Id: FreeSurferColorLUT.txt
#No. Label Name:                R   G   B   A

0   Unknown                     0   0   0   0
1021  ctx-lh-pericalcarine      120 100 60  0
"""
SCHAEFER = "1\t7Networks_LH_Vis_1\t120\t18\t131\t0\n2\t7Networks_LH_Vis_2\t1\t2\t3\t0\n"
FSLEYES = """1 .1 .2 .3 V1
2 0.00000 1.00000 1e-05 Frontal Pole
14 1 0 0 3rd-Ventricle
"""
ITK_SNAP = """################
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "V1 left"
    2     0  255    0      0.5  1  0    "17"
"""
FSL = """<?xml version="1.0" encoding="ISO-8859-1"?>
<atlas version="1.0"><header><name>Name</name><type>{kind}</type></header><data>
<label index="0" x="48" y="94" z="35">Frontal Pole</label>
<label index="1" x="25" y="70" z="32">Insular Cortex </label></data></atlas>"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("atlas_dseg.tsv", BIDS, {0: "Background", 3: "V1 left"}),
        ("a.csv", 'name,Index\nV1,7\n"hOc3v, V3v",8\n', {7: "V1", 8: "hOc3v, V3v"}),
        ("a.csv", "\ufeffvalue,label\n7,V1\n", {7: "V1"}),
        ("a.txt", FREESURFER, {0: "Unknown", 1021: "ctx-lh-pericalcarine"}),
        ("a.lut", SCHAEFER, {1: "7Networks_LH_Vis_1", 2: "7Networks_LH_Vis_2"}),
        ("a.lut", FSLEYES, {1: "V1", 2: "Frontal Pole", 14: "3rd-Ventricle"}),
        ("a.txt", ITK_SNAP, {0: "Clear Label", 1: "V1 left", 2: "17"}),
        ("a.txt", "1\tV1 left\t1\t2\t3\t0\n", {1: "V1 left"}),
        (
            "a.xml",
            FSL.format(kind="Probabalistic"),
            {1: "Frontal Pole", 2: "Insular Cortex"},
        ),
        ("a.xml", FSL.format(kind="Label"), {0: "Frontal Pole", 1: "Insular Cortex"}),
    ],
)
def test_tables_are_read(tmp_path, name, text, expected):
    assert read_label_table(written(tmp_path / name, text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.tsv", "region\tname\n1\tV1\n", "columns index and name; it has region, na"),
        ("a.tsv", "index\tname\n1\tV1\n1\tV2\n", "each label once; got 2 rows for 1"),
        ("a.tsv", "index\tname\nx\tV1\n", "invalid literal for int"),
        ("a.tsv", "index\tname\n", "each label once; got 0 rows for 0"),
        ("a.txt", "# nothing\n", "each label once; got 0 rows for 0"),
        ("a.txt", "1\n", "the line '1' has no name"),
        ("a.lut", "1 17 120 18 131 0\n", "'1 17 .*' has no name, or only a number"),
        ("a.lut", "1 0.1 0.2 0.3\n", "'1 0.1 0.2 0.3' has no name, or only a number"),
        ("a.xml", "<atlas>", "reading it fails with"),
        ("a.xml", FSL.format(kind="Other"), "must be Probabilistic or Label; it is"),
        ("a.json", "{}", "must be a table of labels: .tsv, .csv.*; got '.json'"),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_label_table(written(tmp_path / name, text))


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.tsv must exist; it is missing"):
        read_label_table(tmp_path / "a.tsv")


def test_a_delimiter_at_the_end_of_lines_is_no_column(tmp_path):
    path = written(tmp_path / "a.csv", "index,name\n7,V1,\n8,NA,\n")
    assert read_label_table(path) == {7: "V1", 8: "NA"}


def test_columns_are_found_in_any_case():
    assert table_columns(["NAME", "Value"]) == ("Value", "NAME")
