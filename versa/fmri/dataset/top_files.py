"""The files at the top of a dataset folder: description, images, subjects."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from versa.fmri.dataset.tables import read_json, read_table
from versa.wording import listing, unique_names

__all__ = [
    "FORMAT",
    "LABEL",
    "ImageTable",
    "check_labels",
    "description_problems",
    "read_description",
    "read_image_table",
    "read_participants",
    "subject_folders",
    "subject_labels",
]

FORMAT = 1  # of the folder; a reader refuses a later one
LABEL = "[0-9A-Za-z]+"  # what BIDS allows between "sub-" or "desc-" and "_"


class ImageTable(NamedTuple):
    """What stimuli.tsv says: ids, files and their SHA-256, in one order."""

    names: list[str]
    files: list[Path]
    hashes: list[str]


def check_labels(kind: str, names: Sequence[str]) -> None:
    """Refuse names that BIDS file names cannot hold.

    Parameters
    ----------
    kind : str
        What they are the names of.
    names : sequence of str
        Names of sectors or subjects.

    Raises
    ------
    ValueError
        If one is not of letters and digits, or two differ in their case only.
    """
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


def description_problems(about: Mapping[str, Any]) -> list[str]:
    """What is wrong with the content of ``dataset_description.json``.

    Parameters
    ----------
    about : mapping
        The content.

    Returns
    -------
    problems : list of str
        Sentences without their subject, the file; empty if there are none.

    Examples
    --------
    >>> description_problems({"Name": "mine", "versa": {"Sectors": "V1"}})
    ['must have a list of names as Sectors; got V1.']
    """
    own = about.get("versa", {})
    if not isinstance(about.get("Name"), str) or not isinstance(own, dict):
        return ["must have a text Name; versa must be an object."]
    problems = []
    if not about["Name"]:
        problems.append("must have a text Name; it is empty.")
    if own.get("Format", FORMAT) != FORMAT:
        problems.append(
            f"must have versa format {FORMAT}; got {own['Format']!r}. A newer versa "
            "may read it."
        )
    sectors = own.get("Sectors", [])
    if not isinstance(sectors, list) or not all(isinstance(s, str) for s in sectors):
        problems.append(f"must have a list of names as Sectors; got {sectors}.")
    else:
        try:
            unique_names(sectors or ["none"], "Sectors")
        except ValueError as error:
            problems.append(str(error))
    placed = own.get("HasCoordinates", True)
    if not isinstance(placed, bool):
        problems.append(f"must have true or false as HasCoordinates; got {placed!r}.")
    return problems


def read_description(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The description of a dataset, and what it says to versa only.

    Parameters
    ----------
    folder : Path
        The dataset folder.

    Returns
    -------
    about, own : dict
        The content of ``dataset_description.json``, and its object ``versa``.

    Raises
    ------
    ValueError
        If the file is missing or :func:`description_problems` finds any.
    """
    path = folder / "dataset_description.json"
    about = read_json(path)
    for problem in description_problems(about):
        raise ValueError(f"{path} {problem}")
    return about, about.get("versa", {})


def read_image_table(folder: Path) -> ImageTable:
    """Read stimuli.tsv, without looking at the images.

    Parameters
    ----------
    folder : Path
        The dataset folder.

    Returns
    -------
    table : ImageTable
        Files lie in the folder's ``stimuli``; hashes are in lower case.

    Raises
    ------
    ValueError
        If the table is missing or damaged, an id occurs twice, or a file would lie
        outside ``stimuli``.
    """
    path = folder / "stimuli.tsv"
    table = read_table(path, ["stim_id", "file", "sha256"])
    names = list(unique_names(table["stim_id"], f"{path}: stim_id"))
    odd = [
        file
        for file in table["file"]
        if Path(file).is_absolute() or ".." in Path(file).parts
    ]
    if odd:
        raise ValueError(
            f"{path} must name files inside {folder / 'stimuli'}; got "
            f"{listing(map(repr, odd))}."
        )
    files = [folder / "stimuli" / file for file in table["file"]]
    return ImageTable(names, files, [text.lower() for text in table["sha256"]])


def read_participants(folder: Path) -> list[str]:
    """Labels of the subjects in participants.tsv, in their order.

    Parameters
    ----------
    folder : Path
        The dataset folder.

    Returns
    -------
    labels : list of str
        Unique, without the ``sub-`` of the table.

    Raises
    ------
    ValueError
        If the table is missing or damaged, or an id is not one of BIDS.
    """
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
    """Labels of the subjects that have a folder, sorted, without ``sub-``.

    Parameters
    ----------
    folder : Path
        A folder with folders ``sub-...``.

    Returns
    -------
    labels : list of str
        Empty if there are none.
    """
    return [name.removeprefix("sub-") for name in subject_folders(folder)]


def subject_folders(folder: Path) -> list[str]:
    """Names of the folders ``sub-...`` in a dataset folder, sorted.

    Parameters
    ----------
    folder : Path
        The dataset folder.

    Returns
    -------
    names : list of str
    """
    return sorted(item.name for item in folder.glob("sub-*") if item.is_dir())
