"""Label tables in the formats of BIDS, FreeSurfer, FSL and ITK-SNAP, by hand."""

import pytest

from versa.fmri.sectors.label_tables import read_label_table, table_columns


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
        ("a.tsv", "index\tname\n", "columns index and name; it has none"),
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


def test_columns_are_found_in_any_case():
    assert table_columns(["NAME", "Value"]) == ("Value", "NAME")
