"""Tables and JSON files: exact round trips, and sentences about broken ones."""

import pytest

from versa.fmri.dataset.tables import read_json, read_table, write_json, write_table


def test_a_table_round_trip(tmp_path):
    path = tmp_path / "a.tsv"
    columns = {"stim_id": ["a b", 'c"d', "é"], "file": ["", "2", " 3"]}
    write_table(path, columns)
    assert path.read_bytes().count(b"\n") == 4
    assert read_table(path, ["file", "stim_id"]) == columns


def test_a_table_from_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufeffstim_id\tfile\r\na\t1\r\n".encode())
    assert read_table(path, ["stim_id"]) == {"stim_id": ["a"], "file": ["1"]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b"stim_id,file\na,b\n",
            "columns stim_id, file; stim_id, file is missing, its",
        ),
        (b"stim_id\tfile\na\n", "2 cells in every line; line 2 has 1: 'a'"),
        (b"stim_id\tfile\n", "at least one line below its header"),
        (b"", "stim_id, file is missing, its first line is ''"),
        (b"\xff\xfe\x00", "text in UTF-8"),
    ],
)
def test_bad_tables_are_refused(tmp_path, content, text):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.tsv must .*{text}"):
        read_table(path, ["stim_id", "file"])


def test_a_json_round_trip(tmp_path):
    path = tmp_path / "a.json"
    content = {"Name": "é [ 1 ]", "Affine": [[0.1, 1e-17], [1 / 3, -0.0]], "n": None}
    write_json(path, content)
    assert repr(read_json(path)) == repr(content)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{'a': 1}", "must be JSON; .*line 1 column 2"),
        (b"[1]", "must hold a JSON object; got list"),
        (b"\xff", "must be a text in UTF-8"),
        pytest.param(
            b"[" * 100_000,
            "must be JSON; it is nested deeper",
            id="deep list",
        ),
        pytest.param(
            b'{"a":' * 100_000,
            "must be JSON; it is nested deeper",
            id="deep object",
        ),
    ],
)
def test_bad_json_is_refused(tmp_path, content, text):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.json {text}"):
        read_json(path)
    with pytest.raises(ValueError, match=r"b.json must exist; it is missing"):
        read_json(tmp_path / "b.json")
