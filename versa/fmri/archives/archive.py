"""Files of a downloaded archive, opened by their suffix: numbers, texts and tables."""

import csv
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from versa.fmri.archives.matlab import read_struct, take
from versa.fmri.archives.patterns import ending
from versa.wording import listing, unknown

__all__ = ["open_file", "table_column", "table_header", "take_numbers", "take_texts"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


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
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8; {error}.") from error
    if kind == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    lines = text.splitlines()
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


def _numpy_file(path: Path) -> Any:
    """An array, or a dict of arrays; never a pickle."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as file:
            return {name: file[name] for name in file.files}
    except (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} must be a whole .npy or .npz file of numbers or texts; reading it "
            f"fails with: {' '.join(str(error).split()).rstrip('.')}."
        ) from error


def table_header(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names of a table's columns; one without a name is called by its place.

    Parameters
    ----------
    rows : sequence of sequence of str
        The table, with its header.

    Returns
    -------
    names : list of str
        The first line.

    Examples
    --------
    >>> table_header([["", "beta"], ["cup", "0.5"]])
    ['column 1', 'beta']
    """
    return [
        cell.strip() or f"column {number}"
        for number, cell in enumerate(rows[0], start=1)
    ]


def table_column(rows: Sequence[Sequence[str]], column: str, what: str) -> list[str]:
    """One column of a table with a header.

    Parameters
    ----------
    rows : sequence of sequence of str
        The table.
    column : str
        The column's name.
    what : str
        How messages call the table.

    Returns
    -------
    cells : list of str
        The cells below the header.

    Raises
    ------
    ValueError
        If there is no such column, or more than one.
    """
    header = table_header(rows)
    if column not in header:
        raise ValueError(f"{what}: {unknown('column', column, header)}")
    if header.count(column) > 1:
        raise ValueError(
            f"{what}: columns must have different names; {column!r} occurs "
            f"{header.count(column)} times."
        )
    place = header.index(column)
    return [row[place].strip() for row in rows[1:]]


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
    if not found or not all(found):
        raise ValueError(f"{where} must be a list of texts; some or all are empty.")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(
            f"{where} must have every name once; {listing(map(repr, twice))} occur "
            "more than once."
        )
    return found


def take_numbers(
    content: Any,
    key: str,
    what: str,
    *,
    header: bool | None = None,
    label_column: str = "",
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
        A column of a table that holds names.

    Returns
    -------
    values : ndarray
        As stored, with all its axes; float64 from a table.

    Raises
    ------
    ValueError
        If there is no such part, or it is not of real numbers.
    """
    where = f"{what}: {key}" if key else what
    if header is not None:
        return _table_numbers(content, where, header, label_column)
    found = take(content, key, what) if key else content
    if not isinstance(found, np.ndarray):
        raise ValueError(
            f"{where} must be an array of numbers; it is a {type(found).__name__}."
        )
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{where} must hold real numbers; its type is {found.dtype}.")
    return found


def _table_numbers(
    rows: list[list[str]], where: str, header: bool, label_column: str
) -> np.ndarray:
    """Numbers of a table, without header and names."""
    skipped = -1
    if label_column:
        table_column(rows, label_column, where)
        skipped = table_header(rows).index(label_column)
    numbers = []
    for line, row in enumerate(rows[int(header) :], start=1 + int(header)):
        cells = [cell for place, cell in enumerate(row) if place != skipped]
        try:
            numbers.append([float(cell) for cell in cells])
        except ValueError:
            odd = next(cell for cell in cells if not _is_number(cell))
            raise ValueError(
                f"{where} must hold numbers; line {line} has {odd!r}. A header is "
                "declared by responses.header, a column of names by "
                "responses.label_column."
            ) from None
    return np.array(numbers, dtype=np.float64)


def _is_number(cell: str) -> bool:
    """Whether a cell is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
