"""Files of a downloaded archive, opened by their suffix: numbers, texts and tables."""

import csv
import lzma
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from versa.fmri.published.matlab import Unreadable, read_struct, take
from versa.fmri.published.patterns import ending
from versa.wording import unique_names, unknown

__all__ = [
    "counts_up",
    "is_number",
    "open_file",
    "table_column",
    "table_header",
    "take_numbers",
    "take_texts",
]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# what numpy and zipfile raise on files that are damaged, or of another program
_FAULTS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # and NotImplementedError, for packings that Python lacks
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def open_file(path: Path) -> Any:
    """Read a file as a tree, an array, lines or a table.

    Parameters
    ----------
    path : Path
        ``.mat``, ``.h5``, ``.hdf5`` or ``.npz`` (a dict by key), ``.npy`` (an array),
        ``.txt`` (its lines), ``.csv`` or ``.tsv`` (its lines, each a list of cells).

    Returns
    -------
    content : dict, ndarray, or list
        What :func:`take_numbers` and :func:`take_texts` take from.

    Raises
    ------
    ValueError
        If the file is missing, damaged, of another kind, or a pickle of Python objects.
    """
    kind = ending(path.name)
    if kind in (".mat", ".h5", ".hdf5"):
        return read_struct(path)
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    if kind in (".npy", ".npz"):
        return _numpy_file(path)
    if kind not in (".txt", *_DELIMITERS):
        raise ValueError(
            f"{path} must be .mat, .h5, .npz, .npy, .txt, .csv or .tsv; got {kind!r}."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a text in UTF-8; {error}.") from error
    if kind == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    lines = text.splitlines()
    if kind == ".csv" and _has_semicolons(lines):
        raise ValueError(
            f"{path} must have commas between its cells; it has semicolons. Save it "
            "again as CSV with commas, and with points in its numbers."
        )
    try:
        rows = list(csv.reader(lines, delimiter=_DELIMITERS[kind], strict=True))
    except csv.Error as error:
        raise ValueError(f"{path} must be a table; {error}.") from error
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{path} must have {len(rows[0])} cells in every line; line {number} "
                f"has {len(row)}."
            )
    if not rows:
        raise ValueError(f"{path} must have at least one line; it is empty.")
    return rows


def _has_semicolons(lines: Sequence[str]) -> bool:
    """Whether semicolons stand between the cells of every line."""
    counts = {re.sub('"[^"]*"', "", line).count(";") for line in lines if line.strip()}
    return len(counts) == 1 and counts != {0}


def _numpy_file(path: Path) -> Any:
    """An array, or a dict of arrays; never a pickle."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as file:
            found = {name: file[name] for name in file.files}
    except _FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} must be a whole .npy or .npz file of numbers or texts; reading it "
            f"fails with: {reason.rstrip('.')}."
        ) from error
    return {
        name: item if isinstance(item, np.ndarray) else Unreadable("no array")
        for name, item in found.items()
    }


def is_number(cell: str) -> bool:
    """Whether a cell is a number.

    Parameters
    ----------
    cell : str

    Returns
    -------
    number : bool

    Examples
    --------
    >>> [is_number(cell) for cell in ("1e-3", "nan", "cup", "")]
    [True, True, False, False]
    """
    try:
        float(cell)
    except ValueError:
        return False
    return True


def counts_up(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2, ... or 1, 2, 3, ..., as an index is.

    Parameters
    ----------
    cells : sequence of str
        A line or a column of a table.

    Returns
    -------
    counting : bool

    Examples
    --------
    >>> counts_up(["0", "1", "2"]), counts_up(["1.0", "2.0"]), counts_up(["1", "3"])
    (True, True, False)
    """
    if len(cells) < 2 or not all(map(is_number, cells)):
        return False
    numbers = [float(cell) for cell in cells]
    return numbers[0] in (0, 1) and all(
        number == place for place, number in enumerate(numbers, start=int(numbers[0]))
    )


def table_header(rows: Sequence[Sequence[str]], header: bool = True) -> list[str]:
    """Names of a table's columns; one without a name is called by its place.

    Parameters
    ----------
    rows : sequence of sequence of str
        The table.
    header : bool, default=True
        Whether its first line is a header; without one, no column has a name.

    Returns
    -------
    names : list of str
        One per column.

    Examples
    --------
    >>> table_header([["", "beta"], ["cup", "0.5"]])
    ['column 1', 'beta']
    """
    return [
        (cell.strip() if header else "") or f"column {number}"
        for number, cell in enumerate(rows[0], start=1)
    ]


def table_column(
    rows: Sequence[Sequence[str]], column: str, what: str, *, header: bool = True
) -> list[str]:
    """One column of a table.

    Parameters
    ----------
    rows : sequence of sequence of str
        The table.
    column : str
        The column's name, as of :func:`table_header`.
    what : str
        How messages call the table.
    header : bool, default=True
        Whether the first line is a header.

    Returns
    -------
    cells : list of str
        The cells, without that of the header.

    Raises
    ------
    ValueError
        If there is no such column, or more than one.
    """
    names = table_header(rows, header)
    if column not in names:
        raise ValueError(f"{what}: {unknown('column', column, names)}")
    if names.count(column) > 1:
        raise ValueError(
            f"{what}: columns must have different names; {column!r} occurs "
            f"{names.count(column)} times."
        )
    place = names.index(column)
    return [row[place].strip() for row in rows[int(header) :]]


def take_texts(content: Any, key: str, column: str, what: str) -> list[str]:
    """Names that a file holds.

    Parameters
    ----------
    content : dict, ndarray, or list
        As :func:`open_file` returns it.
    key : str
        Which part of a dict.
    column : str
        Which column of a table.
    what : str
        How messages call the file.

    Returns
    -------
    texts : list of str
        The names, in the file's order.

    Raises
    ------
    ValueError
        If there are none, they are no texts, or one occurs twice.
    """
    found = take(content, key, what) if key else content
    if column:
        found = table_column(found, column, what)
    where = f"{what}: {key}" if key else what
    if isinstance(found, np.ndarray) and found.dtype.kind == "U":
        found = found.ravel().tolist() if max((0, *found.shape)) == found.size else None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"{where} must be a list of texts; it is not.")
    return list(unique_names(found, where))


def take_numbers(
    content: Any,
    key: str,
    what: str,
    *,
    header: bool | None = None,
    label_column: str = "",
    counting_allowed: bool = False,
) -> np.ndarray:
    """Numbers that a file holds.

    Parameters
    ----------
    content : dict, ndarray, or list
        As :func:`open_file` returns it.
    key : str
        Which part of a dict.
    what : str
        How messages call the file.
    header : bool, optional
        For a table, whether its first line is a header.
    label_column : str, default=""
        A column of a table that holds names, or an index.
    counting_allowed : bool, default=False
        Whether the first line or column of a table may count 0, 1, 2, ..., which is
        rather a header or an index than data.

    Returns
    -------
    values : ndarray
        As stored, with all its axes; float64 from a table.

    Raises
    ------
    ValueError
        If there is no such part, it is not of real numbers, or a table has a line or
        column that looks like an index.
    """
    where = f"{what}: {key}" if key else what
    if header is not None:
        return _table_numbers(content, where, header, label_column, counting_allowed)
    found = take(content, key, what) if key else content
    if not isinstance(found, np.ndarray):
        raise ValueError(
            f"{where} must be an array of numbers; it is a {type(found).__name__}."
        )
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{where} must hold real numbers; its type is {found.dtype}.")
    return found


def _table_numbers(
    rows: list[list[str]],
    where: str,
    header: bool,
    label_column: str,
    counting_allowed: bool,
) -> np.ndarray:
    """Numbers of a table, without header and names."""
    skipped = -1
    if label_column:
        table_column(rows, label_column, where, header=header)
        skipped = table_header(rows, header).index(label_column)
    _check_index(rows, where, header, skipped, counting_allowed)
    numbers = []
    for line, row in enumerate(rows[int(header) :], start=1 + int(header)):
        cells = [cell for place, cell in enumerate(row) if place != skipped]
        try:
            numbers.append([float(cell) for cell in cells])
        except ValueError:
            odd = next(cell for cell in cells if not is_number(cell))
            raise ValueError(
                f"{where} must hold numbers; line {line} has {odd!r}. A header is "
                "declared by responses.header, a column of names by "
                "responses.label_column."
            ) from None
    return np.array(numbers, dtype=np.float64)


def _check_index(
    rows: list[list[str]], where: str, header: bool, skipped: int, allowed: bool
) -> None:
    """Refuse a line or column that would be an index among the values."""
    places = [place for place in range(len(rows[0])) if place != skipped]
    names = table_header(rows, header)
    advice = (
        "Take it out of the file, as responses.label_column names another"
        if skipped >= 0
        else "Write responses.label_column = {!r}, which leaves it out"
    )
    for place in places if header else ():
        if not rows[0][place].strip():
            raise ValueError(
                f"{where} must have a name for every column of values; {names[place]} "
                "has none, as the index has that pandas writes. "
                f"{advice.format(names[place])}, or give it a name."
            )
    if allowed or not places:
        return
    value = "responses.counting_allowed = true if these are values"
    if not header and counts_up([rows[0][place] for place in places]):
        raise ValueError(
            f"{where} must begin with values; its first line counts "
            f"{rows[0][places[0]]}, {rows[0][places[1]]}, ..., as a header does. Set "
            f"responses.header = true, or {value}."
        )
    if counts_up([row[places[0]] for row in rows[int(header) :]]):
        raise ValueError(
            f"{where} must begin with values; {names[places[0]]!r} counts "
            f"{rows[int(header)][places[0]]}, {rows[int(header) + 1][places[0]]}, ..., "
            f"as an index does. {advice.format(names[places[0]])}, or set {value}."
        )
