"""Files of archives: exact numbers, names, and sentences about what is wrong."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from versa.fmri.published.files import (
    open_file,
    table_numbers,
    take,
    take_numbers,
    take_texts,
)


def test_tables_keep_every_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 3)) * 10.0 ** np.arange(
        -200, 100, 100
    )
    for kind, mark in ((".csv", ","), (".tsv", "\t")):
        lines = [mark.join(["", "a", "b", "c"])]
        lines += [mark.join(["x", *map(repr, row)]) for row in values.tolist()]
        path = tmp_path / f"t{kind}"
        path.write_text("\ufeff" + "\r\n".join(lines))
        found = table_numbers(
            open_file(path), "t", header=True, label_column="column 1"
        )
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", b"1,2\n3\n", "must have 2 cells in every line; line 2 has 1"),
        ("a.csv", b"", "must have at least one line; it is empty"),
        ("a.csv", b'1,"2\n', "must be a table; .* unexpected end of data"),
        ("a.txt", b"\xff\xfe", "must be a text in UTF-8"),
        ("a.csv", b"name;a;b\nx;0,5;1,5\n",
         "must have commas between its cells; it has semi"),
        ("a.xls", b"", "must be .mat, .h5, .* got '.xls'"),
        ("a.npy", b"\x93NUMPY\x01", r"a\.npy must be a whole .npy or .npz file"),
        ("a.npz", b"PK\x03\x04 no", r"a\.npz must be a whole .npy or .npz file"),
    ],
)  # fmt: skip
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
        ({"x": ["a", ""]}, "must be one or more non-empty texts"),
        ({"x": ["a", "a"]}, "t: x must be unique; repeated: 'a'"),
    ],
)
def test_texts_that_are_none(content, text):
    with pytest.raises(ValueError, match=text):
        take_texts(content, "x", "", "t")
    assert take_texts({"x": np.array([["a", "b"]])}, "x", "", "t") == ("a", "b")


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


VALUES = np.random.default_rng(1).normal(size=(5, 3))


@pytest.mark.parametrize(
    ("write", "header", "column", "text"),
    [
        # what pandas writes without being asked: an index in a column without a name
        ({}, True, "column 1", "must have a name for every column of values; column 1"),
        ({"index_label": "i"}, True, "i", "must begin with values; 'i' counts 0, 1, "),
        ({"header": False}, False, "column 1", "'column 1' counts 0, 1, ..., as an in"),
    ],
)
def test_an_index_never_becomes_a_voxel(tmp_path, write, header, column, text):
    path = tmp_path / "t.csv"
    pd.DataFrame(VALUES).to_csv(path, **write)
    rows = open_file(path)
    with pytest.raises(ValueError, match=text) as caught:
        table_numbers(rows, "t", header=header)
    assert f"responses.label_column = '{column}', which leaves it out" in str(
        caught.value
    )
    found = table_numbers(rows, "t", header=header, label_column=column)
    np.testing.assert_array_equal(found, VALUES)


def test_a_header_of_numbers_never_becomes_a_voxel(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame(VALUES).to_csv(path, index=False)
    rows = open_file(path)
    with pytest.raises(ValueError, match=r"its first line counts 0, 1, ..., as a head"):
        table_numbers(rows, "t", header=False)
    np.testing.assert_array_equal(table_numbers(rows, "t", header=True), VALUES)
    found = table_numbers(rows, "t", header=False, counting_allowed=True)
    np.testing.assert_array_equal(found, [[0, 1, 2], *VALUES])


def test_a_second_index_must_be_taken_out(tmp_path):
    frame = pd.DataFrame(VALUES, index=list("abcde"))
    frame.insert(0, "Unnamed: 0", range(1, 6))
    frame.to_csv(tmp_path / "t.csv")
    rows = open_file(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"'Unnamed: 0' counts 1, 2, .* Take it out"):
        table_numbers(rows, "t", header=True, label_column="column 1")


def test_semicolons_within_cells_are_no_delimiters(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('file,text\na.png,"one; two"\nb.png,three\n')
    assert open_file(path)[1] == ["a.png", "one; two"]


@pytest.mark.slow
def test_damaged_arrays_of_every_kind_are_refused_with_a_sentence(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=VALUES)
    np.save(tmp_path / "a.npy", VALUES)
    rng = np.random.default_rng(0)
    for name in ("a.npz", "a.npy"):
        whole = np.frombuffer((tmp_path / name).read_bytes(), dtype=np.uint8)
        n_refused = 0
        for _ in range(150):
            content = whole.copy()
            places = rng.integers(0, min(len(content), 150), size=2)
            content[places] = rng.integers(0, 256, size=2)
            (tmp_path / name).write_bytes(content.tobytes())
            try:
                open_file(tmp_path / name)
            except ValueError as error:
                n_refused += "must be a whole .npy or .npz file" in str(error)
        assert n_refused > 20


def test_a_member_that_is_no_array_does_not_spoil_the_others(tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as packed:
        packed.writestr("readme.txt", "hello")
    tree = open_file(tmp_path / "a.npz")
    np.testing.assert_array_equal(tree["x"], VALUES)
    with pytest.raises(ValueError, match=r"readme.txt must be .*; it is no array"):
        take(tree, "readme.txt")
