"""Labels: whole numbers that say which region a voxel belongs to, and their names."""

import csv
import re
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.scaling import whole_labels
from versa.wording import listing, reading

_INDEX_COLUMNS = ("index", "value")
_NAME_COLUMNS = ("name", "label", "difumo_names")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
# label, red, green, blue, opacity, two switches, "name"
_ITK_SNAP = re.compile(rf'(\d+)(?:\s+{_NUMBER}){{6}}\s+"(.*)"')
_FSLEYES = re.compile(rf"(\d+)(?:\s+{_NUMBER}){{3}}\s+(\S.*)")  # label, color, name


def label_sector(
    labels: ArrayLike,
    values: int | Iterable[int],
    *,
    name: str,
    affine: ArrayLike,
    space: str,
) -> Sector:
    """Voxels that have one of some labels, such as V1, V2 and V3.

    Parameters
    ----------
    labels : array-like of shape (x, y, z)
        A whole number per voxel, 0 or NaN where there is no label.
    values : int or iterable of int
        The labels to take; all of them must occur.
    name : str
        Name of the sector.
    affine : array-like of shape (4, 4)
        Affine of the label image, from voxel indices to mm.
    space : str
        Space of the label image, one of those of :class:`~versa.Sector`.

    Returns
    -------
    sector : Sector
        On the grid of the label image.

    Raises
    ------
    ValueError
        If `labels` are not whole numbers, or a value is not a whole number, is 0 or
        does not occur.

    Examples
    --------
    >>> labels = np.array([[[0, 1, 2, 3, 9]]])
    >>> label_sector(labels, [1, 2, 3], name="EarlyV", affine=np.eye(4), space="TAL")
    <Sector EarlyV: 3 of 1 x 1 x 5 voxels, TAL>
    """
    image = np.asarray(labels)
    if image.ndim != 3:
        raise ValueError(f"labels of {name} must be (x, y, z); got {image.shape}.")
    image = whole_labels(image, f"labels of {name}")
    asked = region_list(values)
    wanted = [whole_number(value) for value in asked]
    if not wanted or not all(wanted):
        raise ValueError(
            f"values of {name} must be one or more labels, whole numbers other than 0, "
            f"which marks voxels without a label; got {asked}."
        )
    present = np.unique(image)
    missing = [value for value in wanted if value not in present]
    if missing:
        raise ValueError(
            f"labels of {name} must occur in the label image; "
            f"{listing(missing)} do not. The image has "
            f"{listing(int(value) for value in present[present != 0])}."
        )
    mask = np.isin(image, np.array(wanted))
    return Sector(name, mask, np.asarray(affine, float), space)


def region_list(regions: Any) -> list[Any]:
    """One region or several, given by names or labels, as a list."""
    if isinstance(regions, np.ndarray):
        return list(regions.ravel())
    if isinstance(regions, str | bytes) or not isinstance(regions, Iterable):
        return [regions]
    return list(regions)


def whole_number(value: Any) -> int | None:
    """A label given as a number of any type; None for anything else."""
    if not isinstance(value, Real):
        return None
    number = float(value)
    return int(number) if number.is_integer() else None


def read_label_table(path: str | Path) -> dict[int, str]:
    """Which label of an atlas has which name, background included, of a file.

    Its format is told by its ending; FSL counts regions from 0, but the labels of its
    probabilistic atlases from 1.
    """
    path = Path(path)
    readers = {
        ".tsv": _read_columns,
        ".csv": _read_columns,
        ".txt": _read_colors,
        ".lut": _read_colors,
        ".xml": _read_fsl,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"{path} must be a table of labels: .tsv, .csv, .txt or .lut of "
            "FreeSurfer, FSLeyes or ITK-SNAP, .xml of FSL; got "
            f"{path.suffix or 'no suffix'!r}."
        )
    rule = "a table of labels and names"
    with reading(path, rule):
        pairs = readers[path.suffix.lower()](path)
        names = {int(label): str(text).strip() for label, text in pairs}
    if len(names) < len(pairs) or not names:
        raise ValueError(
            f"{path} must name each label once; got {len(pairs)} rows for {len(names)} "
            "labels."
        )
    return names


def table_columns(columns: Iterable[Any]) -> tuple[Any, Any]:
    """The two columns of a table that hold labels and names, in any case of letters."""
    lowered = {str(column).lower(): column for column in columns}
    index = next((lowered[name] for name in _INDEX_COLUMNS if name in lowered), None)
    name = next((lowered[name] for name in _NAME_COLUMNS if name in lowered), None)
    if index is None or name is None:
        raise ValueError(
            "a table of labels must have the columns index and name; it has "
            f"{listing(lowered) or 'none'}"
        )
    return index, name


def _read_columns(path: Path) -> list[tuple[Any, Any]]:
    """Rows of a table with a header."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, delimiter=delimiter)
        index, name = table_columns(rows.fieldnames or ())
        return [(row[index], row[name]) for row in rows]


def _read_colors(path: Path) -> list[tuple[Any, Any]]:
    """Rows of a look-up table of FreeSurfer, FSLeyes or ITK-SNAP."""
    pairs = []
    for whole in path.read_text(encoding="utf-8-sig").splitlines():
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        if quoted := _ITK_SNAP.fullmatch(line):
            pairs.append((quoted[1], quoted[2]))
            continue
        if colored := _FSLEYES.fullmatch(line):
            label, name = colored.groups()
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
