"""Mapping files: a :class:`Layout` as a small TOML text that people correct.

A mapping file says where in a downloaded archive the responses of a dataset lie::

    confirmed = true                      # convert refuses a file without it

    [dataset]
    name = "InanimateObjects"
    licence = "CC BY 4.0"                 # also: citation, description
    unit = "a.u."
    space = "none"

    [subjects]
    labels = ["01", "02"]                 # all of the archive, in its order
    file = "SECTORS.mat"                  # optional: where the archive lists them, to
    key = "SECTORS.subjects"              # check the labels; or file and column

    [sectors]                             # versa's name = the archive's name, or a
    EarlyV = "EarlyV"                     # list of names to be put side by side, such
    pOTC = ["lh_pOTC", "rh_pOTC"]         # as the two hemispheres

    [responses]
    file = "SECTORS.mat"                  # .mat .npz .npy .h5 .csv .tsv, or volumes:
                                          # .vmp .vtc .nii (also .gz)
    key = "SECTORS.Betas.{sector}[{index}]"     # in .mat, .npz and .h5
    axes = "voxels, conditions"           # or "conditions, voxels"; with "subjects"
                                          # for one array of all; "maps" for volumes
    header = false                        # of .csv and .tsv: is line 1 a header?
    convention = "radiological"           # of .vmp and .msk, or "neurological"
    label_column = "condition"            # of .csv and .tsv: a column that is no data;
                                          # without a name "column 1"
    counting_allowed = false              # of .csv and .tsv: may line 1 or column 1
                                          # count 0, 1, 2, ... and yet be data?

    [masks]                               # only for volumes
    file = "{subject}/rois.voi"           # .voi .msk .nii (also .gz)

    [conditions]
    number = 72
    names = ["cup", "dog"]                # or: file = "..." (column = "..." in a table,
                                          # key = "..." in .mat, .npz, .h5; a .txt has
                                          # one name per line), or: from_maps = true

    [images]
    file = "stimuli/{condition}.png"      # or: table = "stimuli.csv",
                                          # condition_column, file_column, folder

    [voxels.EarlyV]                       # optional: how many there must be
    "01" = 312

Files and keys are patterns: ``{subject}`` stands for the label, ``{index}`` for the
subject's place counted from 0, ``{number}`` for it counted from 1, ``{sector}`` for the
archive's name of a sector. Paths are relative to the archive and stay inside it. If the
conditions' file or key has placeholders, every subject (and sector) has an order of its
own; rows are matched by name.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from versa.cache import atomic_write
from versa.fmri.published.layout import PLACES, Layout
from versa.wording import listing, unknown

__all__ = ["layout_text", "read_layout", "write_layout"]

_SECTIONS = (
    "dataset",
    "subjects",
    "sectors",
    "responses",
    "masks",
    "conditions",
    "images",
    "voxels",
)
_DEFAULTS = {
    one.name: {} if one.default is MISSING else one.default
    for one in fields(Layout)
    if one.default is not MISSING or one.default_factory is not MISSING
}


def read_layout(path: str | os.PathLike[str]) -> Layout:
    """Read a mapping file.

    Parameters
    ----------
    path : path-like
        The file; the head of this module has the format.

    Returns
    -------
    layout : Layout
        What it says.

    Raises
    ------
    ValueError
        If the file is missing or is not TOML, an entry is unknown (with close
        matches), missing or of a wrong type, or entries contradict one another.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"the mapping file {path} must exist; it is missing.")
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be TOML in UTF-8; {error}.") from error
    try:
        return Layout(**_entries(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_layout(path: str | os.PathLike[str], layout: Layout) -> Path:
    """Write a mapping file that :func:`read_layout` reads back equal.

    Parameters
    ----------
    path : path-like
        The file to make or replace.
    layout : Layout
        What to write; entries that are as by default are left out.

    Returns
    -------
    path : Path
        The file.
    """
    path = Path(path)
    text = layout_text({one.name: getattr(layout, one.name) for one in fields(layout)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode())
    return path


def layout_text(
    values: Mapping[str, Any], comments: Mapping[str, Sequence[str]] | None = None
) -> str:
    """A mapping file as text; it need not be complete.

    Parameters
    ----------
    values : mapping of str to object
        Arguments of :class:`Layout`; what is as by default is left out.
    comments : mapping of str to sequence of str, optional
        For a section (``""`` for the head) the lines to be written below its name.

    Returns
    -------
    text : str
        The content of the file.

    Examples
    --------
    >>> print(layout_text({"name": "mine"}, {"dataset": ["as the folder"]}))
    confirmed = false
    <BLANKLINE>
    [dataset]
    # as the folder
    name = "mine"
    <BLANKLINE>
    """
    notes = {
        section: [f"# {line}" for line in lines]
        for section, lines in (comments or {}).items()
    }
    blocks = [
        [*notes.get("", ()), f"confirmed = {_toml(values.get('confirmed', False))}"]
    ]
    for section in _SECTIONS:
        lines = _section_lines(section, values)
        if lines or section in notes:
            title = [] if section == "voxels" else [f"[{section}]"]
            blocks.append([*title, *notes.get(section, ()), *lines])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _section_lines(section: str, values: Mapping[str, Any]) -> list[str]:
    """The entries of one section."""
    lines = []
    if section == "voxels":
        for sector, counts in values.get("voxels", {}).items():
            lines.append(f"[voxels.{_toml_key(sector)}]")
            lines += [f"{_toml_key(who)} = {_toml(n)}" for who, n in counts.items()]
        return lines
    if section == "sectors":
        for sector, names in values.get("sectors", {}).items():
            alone = not isinstance(names, str) and len(names) == 1
            lines.append(f"{_toml_key(sector)} = {_toml(names[0] if alone else names)}")
        return lines
    for name, (where, word) in PLACES.items():
        given = where == section and name in values
        if given and values[name] != _DEFAULTS.get(name, MISSING):
            lines.append(f"{word} = {_toml(values[name])}")
    return lines


def _toml(value: Any) -> str:
    """A value of a mapping file as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one character that JSON lets stand
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _toml_key(name: str) -> str:
    """A name as a key of TOML: bare if it may be."""
    return name if re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name) else _toml(name)


def _entries(content: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Layout from the content of a mapping file."""
    names = {place: name for name, place in PLACES.items()}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if ("", key) in names:
            values[names["", key]] = value
            continue
        if key not in _SECTIONS:
            raise ValueError(unknown("entry", key, ["confirmed", *_SECTIONS]))
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} must be a section, [{key}]; got {value!r}.")
        if key in ("sectors", "voxels"):
            values[key] = value
            continue
        for word, item in value.items():
            if (key, word) not in names:
                options = [name for section, name in names if section == key]
                raise ValueError(unknown(f"entry of [{key}]", word, options))
            values[names[key, word]] = item
    required = [one.name for one in fields(Layout) if one.name not in _DEFAULTS]
    missing = [
        ".".join(PLACES.get(name, (name,))) for name in required if name not in values
    ]
    if missing:
        raise ValueError(f"a mapping file must say {listing(missing)}; nothing does.")
    return values
