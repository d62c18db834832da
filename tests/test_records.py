"""Typed records: what a table may hold, and how each fault is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from versa.records import plain, read_record, typed_record


@dataclass(frozen=True)
class Inner:
    size: int = 1
    pair: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size must be at least 1; got {self.size}.")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner(size=5)
    other: Inner | None = None
    tags: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    part: str | Sequence[str] = ""
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)
    share: float | None = None


def test_values_take_the_types_of_their_fields():
    table = {
        "name": "a",
        "inner": {"pair": [1, 2]},
        "other": {},
        "tags": ["x"],
        "rename": [["a", "b"]],
        "part": ["l", "r"],
        "counts": {"V1": {"01": 3}},
        "options": {"on": True, "n": 1, "lr": 0.5, "norm": "batch"},
        "rest": {"deep": [1, {"er": None}]},
        "share": 1,
    }
    record = typed_record(Outer, table)
    assert record.inner == Inner(5, (1.0, 2.0))  # in part: the rest is the default's
    assert record.other == Inner()
    assert (record.tags, record.rename) == (("x",), (("a", "b"),))
    assert (record.part, record.share) == (("l", "r"), 1.0)
    assert isinstance(record.share, float)
    assert record.options["on"] is True
    assert typed_record(Outer, plain(record)) == record
    assert typed_record(Outer, {"part": "l"}, default=record).part == "l"
    assert typed_record(Outer, {"inner": {"size": 2}}, default=record).inner == Inner(
        2, (1.0, 2.0)
    )


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([], r"the file must be a table of keys; got \[\]"),
        ({}, "keys must include name"),
        ({"nane": "a"}, "key must be among name, .*'nane'. Did you mean name"),
        ({"name": 3}, "name must be text; got 3"),
        ({"name": None}, "name must be text; got None"),
        ({"inner": 3}, "inner must be a table of keys; got 3"),
        ({"inner": {"sise": 3}}, "key must be among inner.size.*mean inner.size"),
        ({"inner": {"size": True}}, "inner.size must be an integer; got True"),
        ({"inner": {"size": 0}}, "inner.size must be at least 1; got 0"),
        ({"other": {"size": 1.0}}, "other.size must be an integer; got 1.0"),
        ({"inner": {"pair": [1]}}, r"inner.pair must be a list of 2 numbers; got \[1"),
        ({"inner": {"pair": [1, "a"]}}, r"inner.pair\[1\] must be a number; got 'a'"),
        ({"tags": "a"}, "tags must be a list of texts; got 'a'"),
        ({"rename": [["a"]]}, r"rename\[0\] must be a list of 2 texts"),
        ({"rename": "a"}, "rename must be a list of lists; got 'a'"),
        ({"part": 3}, "part must be text or a list of texts; got 3"),
        ({"counts": {"V1": {"01": "3"}}}, "counts.V1.01 must be an integer; got '3'"),
        ({"counts": {"V1": 3}}, "counts.V1 must be a table of keys; got 3"),
        ({"options": {"a": [1]}}, r"options.a must be text or an integer or .*\[1"),
        ({"options": {1: 2}}, "keys of options must be text; got 1"),
        ({"rest": {"a": [{"b": {1}}]}}, r"rest.a\[0\].b must be a number, text, .*1"),
        ({"rest": {"a": {2: 3}}}, "keys of rest.a must be text; got 2"),
        ({"share": "1"}, "share must be a number; got '1'"),
        ({"share": 10**400}, "share must be a number; got 1000"),
    ],
)
def test_a_wrong_table_is_one_sentence(table, sentence):
    if table:
        table = {"name": "a", **table}
    with pytest.raises(ValueError, match=f"^{sentence}") as caught:
        typed_record(Outer, table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"name = ", " must be TOML in UTF-8; Invalid value"),
        (b"name = '\xff'", " must be TOML in UTF-8; .*0xff"),
        (b"name = 3", ": name must be text; got 3"),
        (b"name = " + b"[" * 100_000, " must be TOML of at most 50 levels"),
        (b"rest." + b"a." * 9_000 + b"b = 1", " must be TOML of at most 50 levels"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}{sentence}"):
        read_record(Outer, path)
    path.write_bytes(b"\xef\xbb\xbfname = 'a'")  # as some editors begin a file
    assert read_record(Outer, path) == Outer("a")
