"""Tables and JSON files of a dataset folder: written plainly, read strictly."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from versa.wording import listing

__all__ = ["read_json", "read_table", "write_json", "write_table"]


def write_table(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    """Write a tab-separated table with a header line.

    Parameters
    ----------
    path : Path
        The file to make.
    columns : mapping of str to sequence
        Cells are written with ``str``; they must not hold tabs or line breaks.
    """
    lines = ["\t".join(columns)]
    lines += ["\t".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_bytes(("\n".join(lines) + "\n").encode())


def read_table(path: Path, needed: Sequence[str]) -> dict[str, list[str]]:
    """Read a tab-separated table.

    Parameters
    ----------
    path : Path
        The file, in UTF-8.
    needed : sequence of str
        Columns that must be there; others may be.

    Returns
    -------
    columns : dict of str to list of str
        All columns; cells are texts as they stand.

    Raises
    ------
    ValueError
        If the file is missing, a column is, or a line has another number of cells.
    """
    text = _read_text(path)
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    header = lines[0].split("\t")
    missing = [name for name in needed if name not in header]
    if missing:
        raise ValueError(
            f"{path} must be a tab-separated table with the columns "
            f"{listing(needed)}; {listing(missing)} is missing, its first line is "
            f"{lines[0][:80]!r}."
        )
    rows = [line.split("\t") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(
                f"{path} must have {len(header)} cells in every line; line {number} "
                f"has {len(row)}: {lines[number - 1][:80]!r}."
            )
    if not rows:
        raise ValueError(f"{path} must have at least one line below its header.")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people to read; floats keep every digit.

    Parameters
    ----------
    path : Path
        The file to make.
    content : mapping
        What to write.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_bytes((text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Parameters
    ----------
    path : Path
        The file, in UTF-8.

    Returns
    -------
    content : dict
        The object.

    Raises
    ------
    ValueError
        If the file is missing, is not JSON, or holds something else.
    """
    text = _read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} must be JSON; {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} must be JSON; it is nested too deeply.") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a JSON object; got {type(content).__name__}."
        )
    return content


def _read_text(path: Path) -> str:
    """A text file, or a sentence that says what is wrong with it."""
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8; {error}.") from error
