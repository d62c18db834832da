"""Files of archives: exact numbers, names, and sentences about what is wrong."""

import numpy as np
import pytest

from versa.fmri.archives.archive import open_file, take_numbers, take_texts


def test_tables_keep_every_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 3)) * 10.0 ** np.arange(
        -200, 100, 100
    )
    for kind, mark in ((".csv", ","), (".tsv", "\t")):
        lines = [mark.join(["", "a", "b", "c"])]
        lines += [mark.join(["x", *map(repr, row)]) for row in values.tolist()]
        path = tmp_path / f"t{kind}"
        path.write_text("\ufeff" + "\r\n".join(lines))
        found = take_numbers(
            open_file(path), "", "t", header=True, label_column="column 1"
        )
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", b"1,2\n3\n", "must have 2 cells in every line; line 2 has 1"),
        ("a.csv", b"", "must have at least one line; it is empty"),
        ("a.csv", b'1,"2\n', "must be a table; unexpected end of data"),
        ("a.txt", b"\xff\xfe", "must be a text in UTF-8"),
        ("a.xls", b"", "must be .mat, .h5, .* got '.xls'"),
        ("a.npy", b"\x93NUMPY\x01", r"a\.npy must be a whole .npy or .npz file"),
        ("a.npz", b"PK\x03\x04 no", r"a\.npz must be a whole .npy or .npz file"),
    ],
)
def test_damaged_files(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=text):
        open_file(tmp_path / name)


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match="of numbers or texts; reading it fails"):
            open_file(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"x": np.eye(2)}, "t: x must be a list of texts; it is not"),
        ({"x": np.array([["a", "b"], ["c", "d"]])}, "must be a list of texts; it is n"),
        ({"x": ["a", ""]}, "some or all are empty"),
        ({"x": ["a", "a"]}, "t: x must have every name once; 'a' occur"),
    ],
)
def test_texts_that_are_none(content, text):
    with pytest.raises(ValueError, match=text):
        take_texts(content, "x", "", "t")
    assert take_texts({"x": np.array([["a", "b"]])}, "x", "", "t") == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a"], "t: x must be an array of numbers; it is a list"),
        (np.array([True]), "t: x must hold real numbers; its type is bool"),
        (np.array([1j]), "its type is complex128"),
    ],
)
def test_numbers_that_are_none(value, text):
    with pytest.raises(ValueError, match=text):
        take_numbers({"x": value}, "x", "t")


def test_columns_must_be_told_apart():
    rows = [["a", "a"], ["x", "y"]]
    with pytest.raises(ValueError, match="different names; 'a' occurs 2 times"):
        take_texts(rows, "", "a", "t")
