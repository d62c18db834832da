"""Mapping files: what one may say, and how contradictions are refused."""

import tomllib

import pytest

from tests.archives import ARRAYS, MATLAB, TABLES, VOLUMES, mapped, write_mapping
from versa.fmri.published import mapping as module
from versa.fmri.published.mapping import ArchiveMapping, read_mapping
from versa.records import typed_record


@pytest.mark.parametrize("entries", [ARRAYS, MATLAB, TABLES, VOLUMES])
def test_a_file_is_read(tmp_path, entries):
    path = write_mapping(tmp_path / "map.toml", entries)
    assert read_mapping(path) == mapped(entries)


def test_names_of_sectors_are_always_lists():
    found = mapped(ARRAYS, sectors={"EarlyV": "V1", "OTC": ["lh_OTC", "rh_OTC"]})
    assert found.parts == {"EarlyV": ("V1",), "OTC": ("lh_OTC", "rh_OTC")}
    assert mapped(ARRAYS, responses__axes="conditions,voxels").axes[1] == "voxels"
    assert mapped(VOLUMES).has_volumes
    assert not mapped(ARRAYS).has_volumes


def test_the_example_of_the_module_names_every_entry():
    lines = [line[4:] for line in module.__doc__.splitlines() if line[:4] == "    "]
    content = tomllib.loads("\n".join(lines))
    with pytest.raises(ValueError, match="names must have as many names as number"):
        typed_record(ArchiveMapping, content)  # every entry is known
    assert len(content) == 9


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[images]", "[image]", "key must be among .* got 'image'. Did you mean ima"),
        ("axes", "axis", "key must be among .* Did you mean responses.axes"),
        ('"number" = 6', "", "must include conditions.number"),
        ('"number" = 6', "number = ", "map.toml must be TOML in UTF-8; Invalid value"),
        ("[images]", "[masks]\nfile='a.voi'\n[images]", "masks.file must come with v"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, text):
    path = write_mapping(tmp_path / "map.toml", ARRAYS)
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(ValueError, match=text) as caught:
        read_mapping(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(
        ValueError, match=r"map\.toml must exist; .*`versa-data convert A"
    ):
        read_mapping(tmp_path / "map.toml")


@pytest.mark.parametrize(
    ("entries", "change", "text"),
    [
        (ARRAYS, {"dataset__name": ""}, "dataset.name must not be empty"),
        (ARRAYS, {"dataset__name": 3}, "dataset.name must be text; got 3"),
        (ARRAYS, {"conditions__number": True},
         "conditions.number must be an integer; got True"),
        (ARRAYS, {"conditions__number": 1},
         "conditions.number must be at least 2; got 1"),
        (ARRAYS, {"confirmed": "yes"}, "confirmed must be true or false; got 'yes'"),
        (ARRAYS, {"subjects__labels": "S1"}, "subjects.labels must be a list of texts"),
        (ARRAYS, {"subjects__labels": []},
         "subjects.labels must be one or more non-empty texts; got none"),
        (ARRAYS, {"subjects__labels": ["1", "1"]},
         "labels must be unique; repeated: '1'"),
        (ARRAYS, {"subjects__labels": [1, 2]},
         r"subjects.labels\[0\] must be text; got 1"),
        (ARRAYS, {"sectors": ["V1"]}, r"sectors must be a table of keys; got \['V1'\]"),
        (ARRAYS, {"sectors": {"EarlyV": "V1", "pOTC": ["IT", "V1"]}},
         "different names in the archive; EarlyV and pOTC are both 'V1'"),
        (ARRAYS, {"dataset__space": "Talairach"}, "space must be TAL"),
        (ARRAYS, {"voxels": {"V4": {}}}, r"sector of \[voxels\] must be among EarlyV"),
        (ARRAYS, {"voxels": {"EarlyV": {"S9": 3}}},
         r"subject of \[voxels.EarlyV\] must be among S1, S2, S3; got 'S9'"),
        (ARRAYS, {"voxels": {"EarlyV": {"S1": "3"}}},
         "voxels.EarlyV.S1 must be an integer; got '3'"),
        (ARRAYS, {"responses__file": "../{subject}.npy"}, "a path inside the archive"),
        (ARRAYS, {"responses__file": "/{subject}.npy"}, "a path inside the archive"),
        (ARRAYS, {"responses__file": "C:/{subject}.npy"}, "a path inside the archive"),
        (ARRAYS, {"images__file": "a\\{condition}.png"}, "with / between folders"),
        (ARRAYS, {"responses__file": "{subject}_{sector}.xls"},
         "suffix of responses.file must be among .* got '.xls'"),
        (ARRAYS, {"responses__file": "{subjects}_{sector}.npy"},
         "placeholder of responses.file must be .* got 'subjects'. Did you mean sub"),
        (ARRAYS, {"responses__file": "{subject}.npy"},
         r"must hold \{sector\}, as there are 3 of them; else all would"),
        (ARRAYS, {"responses__file": "{sector}.npy"},
         r"must hold \{subject\}, \{index\} or \{number\}, as there are 3 subjects"),
        (ARRAYS, {"responses__axes": "voxels"},
         "must be \"conditions, voxels\" or .* got 'voxels'"),
        (ARRAYS, {"responses__axes": "maps"},
         'responses.axes must be "maps" for volumes'),
        (ARRAYS, {"responses__axes": "voxels, conditions, subjects"},
         "must be without subjects if file or key hold a placeholder"),
        (ARRAYS, {"responses__key": "x"},
         "key must name a part of a .mat, .npz or .h5"),
        (ARRAYS, {"responses__header": True},
         "header must say true or false for a table"),
        (ARRAYS, {"masks__file": "m.voi"}, "masks.file must come with volumes"),
        (ARRAYS, {"responses__convention": "left"},
         "responses.convention must be among radiol"),
        (TABLES, {"responses__header": None},
         "header must say true or false for a table"),
        (TABLES, {"responses__header": False},
         "label_column must come with a table that has a h"),
        (TABLES, {"responses__header": False, "responses__label_column": "column"},
         "or be a place such as 'column 1' in one without; got 'column'"),
        (ARRAYS, {"responses__counting_allowed": True},
         "responses.counting_allowed must come with a table"),
        (MATLAB, {"responses__key": ""}, "responses.key must name a part of a .mat"),
        (MATLAB, {"responses__key": "B.{sector}[{number}]"},
         r"must count from 0 in brackets; .* Write \[\{index\}\]"),
        (VOLUMES, {"masks__file": ""},
         "masks.file must give the sectors of the volumes"),
        (VOLUMES, {"masks__file": "a.msk"}, r"masks.file must hold \{sector\}"),
        (VOLUMES, {"dataset__space": "none"},
         "dataset.space must be stated for volumes"),
        (VOLUMES, {"responses__file": "{subject}_{sector}.vmp"},
         r"must hold no \{sector\}, as masks.file gives"),
        (VOLUMES, {"responses__file": "{subject}.nii"},
         r"from_maps must come with .vmp files"),
        (ARRAYS, {"conditions__file": ""},
         "exactly one of names, file and .* got none"),
        (ARRAYS, {"conditions__names": list("abcdef")},
         "exactly one of names, file and from_maps; got names, file"),
        (ARRAYS, {"conditions__names": ["a", "b"], "conditions__file": ""},
         "as many names as number says, 6; got 2"),
        (ARRAYS, {"conditions__file": "a.doc"}, "conditions.file must be .txt, .csv"),
        (ARRAYS, {"conditions__file": "a.csv"}, "column must name a column of a table"),
        (ARRAYS, {"subjects__key": "x"}, "subjects.file must come with subjects.key"),
        (ARRAYS, {"subjects__file": "{subject}.txt"},
         "subjects.file and subjects.key must hold no placeholder"),
        (ARRAYS, {"images__file": ""}, "exactly one of file and table; got neither"),
        (ARRAYS, {"images__table": "a.csv"}, "exactly one of file and table; got both"),
        (ARRAYS, {"images__file": "a.png"},
         r"images.file must hold \{condition\} and no"),
        (ARRAYS, {"images__file": "", "images__table": "a.csv"},
         "must be .csv or .tsv and come with condition_column and file_column"),
        (ARRAYS, {"images__folder": "x"}, "must come with images.table"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(entries, change, text):
    with pytest.raises(ValueError, match=text):
        mapped(entries, **change)
