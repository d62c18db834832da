"""Files of a downloaded archive: opened by their suffix, and taken apart by keys.

A file is a dict by key (``.mat``, ``.h5``, ``.hdf5``, ``.npz``), an array (``.npy``),
its lines (``.txt``), or its lines each a list of cells (``.csv``, ``.tsv``). A key such
as ``SECTORS.Betas.EarlyV[3]`` names a part of a dict; its indices count from 0: ``[3]``
is MATLAB's ``{4}`` or ``(4)``.
"""

import csv
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from versa.fmri.published.matlab import Unreadable, read_struct
from versa.untrusted import check_expansion
from versa.wording import listing, reading, unique_names, unknown

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def ending(path: str) -> str:
    """Suffix of a file in lower case, with what is below ``.gz``, or an empty text.

    >>> ending("S1/Betas.VMP"), ending("mask.nii.gz")
    ('.vmp', '.nii.gz')
    """
    match = re.search(r"\.\w+(\.gz)?$", path.lower())
    return match[0] if match else ""


def open_file(path: Path, *, load: bool = True) -> Any:
    """Content of a file; see the head of this module. Never a pickle.

    Without `load`, numbers of ``.mat`` and HDF5 files need not be read.
    """
    kind = ending(path.name)
    if kind in (".mat", ".h5", ".hdf5"):
        return read_struct(path, load=load)
    if kind in (".npy", ".npz"):
        # numpy and zipfile raise nearly anything on files that are damaged
        with reading(path, "a whole .npy or .npz file of numbers or texts"):
            return _numpy_file(path)
    if kind not in (".txt", *_DELIMITERS):
        raise ValueError(
            f"{path} must be .mat, .h5, .npz, .npy, .txt, .csv or .tsv; got {kind!r}."
        )
    with reading(path, "a text in UTF-8"):
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    if kind == ".txt":
        return [line.strip() for line in lines if line.strip()]
    return _table(path, lines, _DELIMITERS[kind])


def _numpy_file(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            check_expansion(path, sum(item.file_size for item in packed.infolist()))
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as file:
        found = {name: file[name] for name in file.files}
    return {
        name: item if isinstance(item, np.ndarray) else Unreadable("no array")
        for name, item in found.items()
    }


def _table(path: Path, lines: list[str], delimiter: str) -> list[list[str]]:
    """Lines as lists of equally many cells."""
    outside = [re.sub('"[^"]*"', "", line) for line in lines if line.strip()]
    semicolons = {line.count(";") for line in outside}
    if delimiter == "," and len(semicolons) == 1 and semicolons != {0}:
        raise ValueError(
            f"{path} must have commas between its cells; it has semicolons. Save it "
            "again as CSV with commas, and with points in its numbers."
        )
    with reading(path, "a table"):
        rows = [
            row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row
        ]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{path} must have {len(rows[0])} cells in every line; line {number} "
                f"has {len(row)}."
            )
    if not rows:
        raise ValueError(f"{path} must have at least one line; it is empty.")
    return rows


# ---- parts of a dict ------------------------------------------------------------


def take(tree: Any, key: str, what: str = "the file") -> Any:
    """The part of a dict that a key names; `what` is the file, for the errors.

    >>> take({"Betas": {"EarlyV": ["first", "second"]}}, "Betas.EarlyV[1]", "x.mat")
    'second'
    """
    part, done, rest = tree, "", key
    while rest:
        if isinstance(part, Mapping):
            name = _first_name(part, rest)
            if name is None:
                sought = re.split(r"[.\[]", rest, maxsplit=1)[0]
                raise ValueError(
                    f"{what}: {unknown(f'field of {done or what}', sought, part)}"
                )
            part, step = part[name], name
        elif isinstance(part, list) and (index := re.match(r"\[(\d+)\]", rest)):
            step = index[0]
            if int(index[1]) >= len(part):
                raise ValueError(
                    f"{what}: the index of {done}{step} must be below {len(part)}, "
                    "counted from 0."
                )
            part = part[int(index[1])]
        else:
            raise ValueError(
                f"{what}: {done or 'the whole'} is {_kind(part)}, which has no part "
                f"{rest!r}; the key is {key!r}."
            )
        done += f".{step}" if done and not step.startswith("[") else step
        rest = rest[len(step) :].removeprefix(".")
    if isinstance(part, Unreadable):
        raise ValueError(
            f"{what}: {done} must be numbers or texts; it is {part.kind}. Save it in "
            "MATLAB as a plain array, struct or cell array of these."
        )
    return part


def _first_name(names: Mapping[str, Any], rest: str) -> str | None:
    """The longest name that the rest of a key begins with: names may hold dots."""
    fitting = [
        name
        for name in names
        if rest == name or (rest.startswith(name) and rest[len(name)] in ".[")
    ]
    return max(fitting, key=len, default=None)


def _kind(part: Any) -> str:
    """What a part of a tree is, in words."""
    if isinstance(part, list):
        return f"a list of {len(part)}"
    if isinstance(part, Mapping):
        return f"a struct of {listing(part)}"
    if isinstance(part, str):
        return f"the text {part[:40]!r}"
    if isinstance(part, Unreadable):
        return part.kind
    return f"an array {part.shape}"


def take_texts(content: Any, key: str, column: str, what: str) -> tuple[str, ...]:
    """Names that a file holds under a key or in a column of a table, each once."""
    found = take(content, key, what) if key else content
    if column:
        found = table_column(found, column, what)
    where = f"{what}: {key}" if key else what
    if isinstance(found, np.ndarray) and found.dtype.kind == "U":
        found = found.ravel().tolist() if max((0, *found.shape)) == found.size else None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f"{where} must be a list of texts; it is not.")
    return unique_names(found, where)


def take_numbers(content: Any, key: str, what: str) -> np.ndarray:
    """Numbers that a file holds under a key, as stored, with all their axes."""
    where = f"{what}: {key}" if key else what
    found = take(content, key, what) if key else content
    if not isinstance(found, np.ndarray):
        raise ValueError(
            f"{where} must be an array of numbers; it is a {type(found).__name__}."
        )
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{where} must hold real numbers; its type is {found.dtype}.")
    return found


# ---- tables ---------------------------------------------------------------------


def counts_up(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2, ... or 1, 2, 3, ..., as an index is.

    >>> counts_up(["0", "1", "2"]), counts_up(["1.0", "2.0"]), counts_up(["1", "3"])
    (True, True, False)
    """
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return False
    return (
        len(numbers) > 1
        and numbers[0] in (0, 1)
        and numbers == [numbers[0] + place for place in range(len(numbers))]
    )


def table_header(rows: Sequence[Sequence[str]], header: bool = True) -> list[str]:
    """Names of a table's columns; one without a name is called by its place.

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
    """Cells of the one column of that name (see `table_header`), without the header."""
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


def table_numbers(
    rows: list[list[str]],
    what: str,
    *,
    header: bool,
    label_column: str = "",
    counting_allowed: bool = False,
) -> np.ndarray:
    """Numbers of a table as float64, without its header and its column of names.

    A line or column that counts 0, 1, 2, ... is refused unless `counting_allowed`: it
    is rather an index than data.
    """
    skipped = -1
    if label_column:
        table_column(rows, label_column, what, header=header)
        skipped = table_header(rows, header).index(label_column)
    _check_index(rows, what, header, skipped, counting_allowed)
    numbers = []
    for line, row in enumerate(rows[int(header) :], start=1 + int(header)):
        cell = ""
        try:
            for_line = []
            for place, cell in enumerate(row):
                if place != skipped:
                    for_line.append(float(cell))
        except ValueError:
            raise ValueError(
                f"{what} must hold numbers; line {line} has {cell!r}. A header is "
                "declared by responses.header, a column of names by "
                "responses.label_column."
            ) from None
        numbers.append(for_line)
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
