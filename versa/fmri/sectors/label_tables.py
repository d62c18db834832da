"""Tables that say which label of an atlas has which name, in their usual formats."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from versa.wording import listing

__all__ = ["read_label_table", "table_columns"]

_INDEX_COLUMNS = ("index", "value")
_NAME_COLUMNS = ("name", "label", "difumo_names")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
# label, red, green, blue, opacity, two switches, "name"
_ITK_SNAP = re.compile(rf'(\d+)(?:\s+{_NUMBER}){{6}}\s+"(.*)"')
_FSLEYES = re.compile(rf"(\d+)(?:\s+{_NUMBER}){{3}}\s+(\S.*)")  # label, colours, name


def read_label_table(path: str | Path) -> dict[int, str]:
    """Read which label of an atlas has which name.

    Parameters
    ----------
    path : str or Path
        A ``.tsv`` or ``.csv`` file with the columns `index` and `name` (as BIDS has
        them in ``dseg.tsv``) or `value` and `label`; a ``.txt`` or ``.lut`` file of
        FreeSurfer, with a number, a name and a colour per line, of FSLeyes, with three
        colours before the name, or of ITK-SNAP, with a name in quotation marks; or an
        ``.xml`` file of FSL, which counts regions from 0 but labels of its
        probabilistic atlases from 1.

    Returns
    -------
    names : dict of int to str
        Background included.

    Raises
    ------
    ValueError
        If the file is missing, is of another form, or names a label twice.
    """
    path = Path(path)
    readers = {
        ".tsv": _read_columns,
        ".csv": _read_columns,
        ".txt": _read_colours,
        ".lut": _read_colours,
        ".xml": _read_fsl,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"{path} must be a table of labels: .tsv, .csv, .txt or .lut of "
            "FreeSurfer, FSLeyes or ITK-SNAP, .xml of FSL; got "
            f"{path.suffix or 'no suffix'!r}."
        )
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        pairs = readers[path.suffix.lower()](path)
        names = {int(label): str(text).strip() for label, text in pairs}
    except (UnicodeDecodeError, ValueError, ElementTree.ParseError) as error:
        raise ValueError(
            f"{path} must be a table of labels and names; reading it fails with: "
            f"{' '.join(str(error).split())}."
        ) from error
    if len(names) < len(pairs) or not names:
        raise ValueError(
            f"{path} must name each label once; got {len(pairs)} rows for {len(names)} "
            "labels."
        )
    return names


def table_columns(columns: Iterable[Any]) -> tuple[Any, Any]:
    """Names of the two columns of a table that hold labels and names.

    Parameters
    ----------
    columns : iterable of str
        All columns.

    Returns
    -------
    index, name : str
        `index` or `value`; `name`, `label` or `difumo_names`, in any case of letters.

    Raises
    ------
    ValueError
        If one is missing.

    Examples
    --------
    >>> table_columns(["Index", "abbreviation", "name"])
    ('Index', 'name')
    """
    lowered = {str(column).lower(): column for column in columns}
    found = [
        next((lowered[name] for name in names if name in lowered), None)
        for names in (_INDEX_COLUMNS, _NAME_COLUMNS)
    ]
    if None in found:
        raise ValueError(
            "a table of labels must have the columns index and name; it has "
            f"{listing(lowered) or 'none'}"
        )
    return found[0], found[1]


def _read_columns(path: Path) -> list[tuple[Any, Any]]:
    """Rows of a table with a header."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        rows = list(csv.DictReader(file, delimiter=delimiter))
    columns = list(rows[0]) if rows else []
    index, name = table_columns(columns)
    return [(row[index], row[name]) for row in rows]


def _read_colours(path: Path) -> list[tuple[Any, Any]]:
    """Rows of a look-up table of FreeSurfer, FSLeyes or ITK-SNAP."""
    pairs = []
    for whole in path.read_text(encoding="utf-8-sig").splitlines():
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        if quoted := _ITK_SNAP.fullmatch(line):
            pairs.append((quoted[1], quoted[2]))
            continue
        if coloured := _FSLEYES.fullmatch(line):
            label, name = coloured.groups()
        else:  # of FreeSurfer, with tabs or with spaces
            cells = line.split("\t") if "\t" in line else line.split()
            label, name = cells[0], cells[1] if len(cells) > 1 else ""
        if not name or re.fullmatch(_NUMBER, name.split()[0]):
            raise ValueError(f"the line {line!r} has no name, or only a number")
        pairs.append((label, name))
    return pairs


def _read_fsl(path: Path) -> list[tuple[Any, Any]]:
    """Labels of an atlas of FSL."""
    root = ElementTree.parse(path).getroot()
    kind = (root.findtext("header/type") or "").strip().lower()
    if not kind.startswith(("prob", "label")):
        raise ValueError(f"the type must be Probabilistic or Label; it is {kind!r}")
    first = 1 if kind.startswith("prob") else 0
    return [
        (int(label.get("index", "")) + first, label.text or "")
        for label in root.iterfind(".//label")
    ]
