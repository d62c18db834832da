"""Tables and JSON files of a dataset folder: written plainly, read strictly."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from versa.fmri.dataset.problems import Problems
from versa.records import parse_json
from versa.wording import listing, unique_names

DESCRIPTION = "dataset_description.json"
FORMAT = 1  # of the folder; a reader refuses a later one
_LONGEST_NAME = 255  # bytes of a file's name on common systems
LABEL = "[0-9A-Za-z]+"  # what BIDS allows between "sub-" or "desc-" and "_"


class ImageTable(NamedTuple):
    """What stimuli.tsv says: ids, files and their SHA-256, in one order."""

    names: list[str]
    files: list[Path]
    hashes: list[str]


# ---- any table, any JSON file -----------------------------------------------------


def write_table(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    """Write a tab-separated table with a header; cells are written with ``str``."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_bytes(("\n".join(lines) + "\n").encode())


def read_table(path: Path, needed: Sequence[str]) -> dict[str, list[str]]:
    """All columns of a tab-separated table, which must have the `needed` ones.

    Cells are texts as they stand. pandas would fill short lines and skip empty ones.
    """
    lines = _read_text(path).replace("\r\n", "\n").rstrip("\n").split("\n")
    header = lines[0].split("\t")
    missing = [name for name in needed if name not in header]
    if missing:
        raise ValueError(
            f"{path} must be a tab-separated table with the columns "
            f"{listing(needed)}; {listing(missing)} is missing, its first line is "
            f"{lines[0][:80]!r}."
        )
    unique_names(header, f"{path}: names of columns")
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
    """Write a JSON file for people to read; floats keep every digit."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_bytes((text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    text = _read_text(path)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} must be JSON; {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a JSON object; got {type(content).__name__}."
        )
    return content


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text in UTF-8; {error}.") from error


# ---- the files at the top of a dataset folder -------------------------------------


def check_labels(kind: str, names: Sequence[str]) -> None:
    """Refuse names that BIDS file names cannot hold, or only case tells apart."""
    odd = [name for name in names if not re.fullmatch(LABEL, name)]
    if odd:
        raise ValueError(
            f"{kind} names must be letters and digits to be part of BIDS file names; "
            f"got {listing(map(repr, odd))}. Rename before writing."
        )
    if len({name.lower() for name in names}) < len(names):
        raise ValueError(
            f"{kind} names must differ by more than upper and lower case to be part of "
            f"file names; got {listing(names)}. Rename before writing."
        )


def read_description(
    folder: Path, problems: Problems | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The description of a dataset and its object ``versa``, as far as right."""
    problems = problems or Problems(folder)
    path = folder / DESCRIPTION
    about = problems.attempt(path, read_json, path)
    if about is None:
        return {}, {}
    own = about.get("versa", {})
    if not isinstance(about.get("Name"), str) or not isinstance(own, dict):
        problems.error(path, "must have a text Name; versa must be an object.")
        own = dict(own) if isinstance(own, dict) else {}
    elif not about["Name"]:
        problems.error(path, "must have a text Name; it is empty.")
    if own.get("Format", FORMAT) != FORMAT:
        problems.error(
            path,
            f"must have versa format {FORMAT}; got {own['Format']!r}. A newer versa "
            "may read it.",
        )
    sectors = own.get("Sectors", [])
    if not isinstance(sectors, list) or not all(isinstance(s, str) for s in sectors):
        problems.error(path, f"must have a list of names as Sectors; got {sectors}.")
        own = {key: value for key, value in own.items() if key != "Sectors"}
    elif sectors:
        problems.attempt(path, unique_names, sectors, "Sectors")
    placed = own.get("HasCoordinates", True)
    if not isinstance(placed, bool):
        problems.error(
            path, f"must have true or false as HasCoordinates; got {placed!r}."
        )
    return about, own


def read_image_table(folder: Path) -> ImageTable:
    """What stimuli.tsv says, without a look at the images; hashes in lower case."""
    path = folder / "stimuli.tsv"
    table = read_table(path, ["stim_id", "file", "sha256"])
    names = unique_names(table["stim_id"], f"{path}: stim_id")
    odd = [
        file
        for file in table["file"]
        if Path(file).is_absolute()
        or ".." in Path(file).parts
        or any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(file).parts)
    ]
    if odd:
        raise ValueError(
            f"{path} must name files inside {folder / 'stimuli'}; got "
            f"{listing(map(repr, odd))}."
        )
    files = [folder / "stimuli" / file for file in table["file"]]
    return ImageTable(list(names), files, [text.lower() for text in table["sha256"]])


def read_participants(folder: Path) -> list[str]:
    """Labels of the subjects in participants.tsv, without ``sub-``, in their order."""
    path = folder / "participants.tsv"
    table = read_table(path, ["participant_id"])
    ids = unique_names(table["participant_id"], f"{path}: participant_id")
    odd = [item for item in ids if not re.fullmatch(f"sub-{LABEL}", item)]
    if odd:
        raise ValueError(
            f"{path} must have participant_ids such as sub-01; got "
            f"{listing(map(repr, odd))}."
        )
    return [item.removeprefix("sub-") for item in ids]


def subject_labels(folder: Path) -> list[str]:
    """Labels of the folders ``sub-...`` in a folder, sorted, without ``sub-``."""
    found = sorted(item.name for item in folder.glob("sub-*") if item.is_dir())
    return [name.removeprefix("sub-") for name in found]
