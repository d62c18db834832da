"""Mapping files: written, read back, and refused with the entry's name."""

import tomllib
from dataclasses import fields, replace

import pytest

from tests.fmri.published.test_converting import ARRAYS, MATLAB, TABLES, VOLUMES
from versa.fmri.published.layout import PLACES, Layout
from versa.fmri.published.mapping import layout_text, read_layout, write_layout


@pytest.mark.parametrize("layout", [ARRAYS, MATLAB, TABLES, VOLUMES])
def test_what_is_written_is_read_back(tmp_path, layout):
    path = write_layout(tmp_path / "map.toml", layout)
    assert read_layout(path) == layout
    odd = replace(
        layout,
        name='quote " backslash \\ tab \t line \n bell \x07 \x7f é',
        sectors={"EarlyV": ["lh V1", "rh.V1"], "IT=it": "i.t"},
        voxels={"EarlyV": {layout.subjects[0]: 12}},
        licence="CC0",
        citation="Author (2022)",
        description="words",
        unit="%",
        same_values_allowed=True,
        counting_allowed=layout.header is not None,
    )
    assert read_layout(write_layout(path, odd)) == odd


def test_every_field_has_a_place():
    assert {one.name for one in fields(Layout)} == {*PLACES, "sectors", "voxels"}
    assert len(set(PLACES.values())) == len(PLACES)


def test_the_example_of_the_module_is_a_mapping_file():
    import versa.fmri.published.mapping as module

    text = "\n".join(
        line[4:] for line in (module.__doc__ or "").splitlines() if line[:4] == "    "
    )
    content = tomllib.loads(text)
    assert set(content) == {
        "confirmed",
        "dataset",
        "subjects",
        "sectors",
        "responses",
        "masks",
        "conditions",
        "images",
        "voxels",
    }
    known = set(PLACES.values())
    for section, entries in content.items():
        if section in ("sectors", "voxels", "confirmed"):
            continue
        assert {(section, entry) for entry in entries} <= known


def test_comments_stand_below_the_names_of_their_sections():
    text = layout_text({"name": "x"}, {"": ["head"], "images": ["where are they?"]})
    assert text.startswith("# head\nconfirmed = false\n")
    assert "[images]\n# where are they?\n" in text
    assert tomllib.loads(text)["images"] == {}


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "[images]",
            "[image]",
            "entry must be among .* got 'image'. Did you mean imag",
        ),
        ("axes =", "axis =", r"entry of \[responses\] must be .* Did you mean axes"),
        ("confirmed = true", "confirm = true", "got 'confirm'. Did you mean confirmed"),
        ("number = 6", "number = '6'", "conditions.number must be a whole number"),
        ("number = 6", "", "must say conditions.number; nothing does"),
        ("number = 6", "number = ", "map.toml must be TOML in UTF-8; Invalid value"),
        ("confirmed = true", "images = 3", "Cannot (overwrite|declare)"),
        ("[images]", "[images]\n[masks]\n", "masks.file must come with volumes"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, text):
    path = write_layout(tmp_path / "map.toml", ARRAYS)
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(ValueError, match=text) as caught:
        read_layout(path)
    assert str(path) in str(caught.value)


def test_a_section_must_be_one(tmp_path):
    path = tmp_path / "map.toml"
    path.write_text("dataset = 3")
    with pytest.raises(ValueError, match=r"dataset must be a section, \[dataset\]"):
        read_layout(path)
    path.write_bytes("name = 'é'".encode("latin-1"))
    with pytest.raises(ValueError, match="must be TOML in UTF-8"):
        read_layout(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"map\.toml must exist; it is missing"):
        read_layout(path)
