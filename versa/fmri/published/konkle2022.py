"""The paper's data: from the archive on osf.io to a dataset folder.

What the archive holds is not assumed: a mapping file says it, one is proposed, and
nothing is converted before somebody has confirmed it.
"""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from versa.cache import cache_folder
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.folder import write_dataset
from versa.fmri.dataset.registry import DatasetEntry, published_entry
from versa.fmri.published.converting import convert
from versa.fmri.published.layout import Layout
from versa.fmri.published.mapping import read_layout
from versa.fmri.published.osf import OSF_PROJECT, fetch_files, project_id
from versa.fmri.published.proposal import Remark, write_proposal
from versa.fmri.published.unpacking import is_packed, unpack

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "archive_folder",
    "bring_archive",
    "convert_archive",
    "convert_folder",
    "converted_folder",
    "lacking",
    "propose_mapping",
]

logger = logging.getLogger("versa")


def archive_folder(name: str, project: str = OSF_PROJECT) -> Path:
    """Where the archive of a published dataset lies, or would lie.

    Parameters
    ----------
    name : str
        "orientation" or "inanimate"; both lie in one archive.
    project : str, default="trne8"
        The project on osf.io: its letters, or its address.

    Returns
    -------
    folder : Path
        In the cache folder. It need not exist.

    Raises
    ------
    ValueError
        If there is no such dataset, or `project` cannot be one.
    """
    published_entry(name)
    return cache_folder() / "osf" / project_id(project)


def bring_archive(
    name: str,
    project: str = OSF_PROJECT,
    *,
    patterns: str | Sequence[str] | None = None,
    update: bool = False,
    api: str | None = None,
) -> tuple[Path, "pd.DataFrame"]:
    """Download the archive of a published dataset, and unpack what is packed in it.

    Parameters
    ----------
    name, project
        As of :func:`archive_folder`.
    patterns, update, api
        As of :func:`~versa.fmri.published.osf.fetch_files`.

    Returns
    -------
    folder : Path
        The archive. A packed file ``x.zip`` is unpacked into ``x.zip.unpacked``; a
        warning tells if that fails.
    files : DataFrame
        Columns file and bytes: what was asked for.

    Raises
    ------
    ValueError, ConnectionError, OSError
        As of :func:`~versa.fmri.published.osf.fetch_files`.
    """
    import pandas as pd

    folder = archive_folder(name, project)
    paths = fetch_files(project, folder, patterns=patterns, update=update, api=api)
    for path in paths:
        if is_packed(path):
            unpack(path)
    table = pd.DataFrame(
        {
            "file": [str(path.relative_to(folder)) for path in paths],
            "bytes": [path.stat().st_size for path in paths],
        }
    )
    return folder, table


def convert_archive(name: str, archive: Path, mapping: Path | None = None) -> Path:
    """Convert a published dataset into the folder where `versa.fit` looks for it.

    Parameters
    ----------
    name : str
        "orientation" or "inanimate".
    archive : Path
        Folder of the archive.
    mapping : Path, optional
        The mapping file; by default ``NAME.toml`` beside the archive's folder. If it
        does not exist, one is proposed there.

    Returns
    -------
    folder : Path
        The dataset folder. If it is there already it is left as it is.

    Raises
    ------
    ValueError
        If the mapping file had to be proposed, is not confirmed or does not fit the
        archive, what it gives has other numbers of subjects and images than the
        published dataset, or one is given and the dataset is there already.
    """
    entry = published_entry(name)
    if converted_folder(name, anew=mapping is not None) is not None:
        logger.info(
            "%s is there already and is left as it is; remove it to convert anew.",
            entry.folder,
        )
        return entry.folder
    place = mapping or archive.parent / f"{archive.name}-{name}.toml"
    if not place.exists():
        remarks = propose_mapping(
            archive, place, n_images=entry.n_images, n_subjects=entry.n_subjects
        )
        told = "".join(f"\n  {remark}" for remark in remarks)
        logger.info("a mapping file is proposed in %s:%s", place, told)
        raise ValueError(
            f"dataset {name!r} needs a mapping file that somebody has checked; one is "
            f"proposed in {place}{_lack(place)}. Compare it with the archive in "
            f"{archive}, correct it, set confirmed = true, and run the same command "
            "again."
        )
    dataset = convert(archive, _layout(place))
    _check_size(dataset, entry, place)
    return write_dataset(dataset, entry.folder)


def converted_folder(name: str, *, anew: bool = False) -> Path | None:
    """The folder of a published dataset, if it has been converted.

    Parameters
    ----------
    name : str
        "orientation" or "inanimate".
    anew : bool, default=False
        Whether it shall be converted anew, which is refused if it is there.

    Returns
    -------
    folder : Path or None
        None if the dataset is not there.

    Raises
    ------
    ValueError
        If there is no such dataset, or it is there and shall be converted anew.
    """
    folder = published_entry(name).folder
    if not folder.is_dir():
        return None
    if anew:
        raise ValueError(
            f"dataset {name!r} must not be there to be converted by other files or "
            f"another mapping; it lies in {folder}. Remove {folder} to convert anew."
        )
    return folder


def convert_folder(
    archive: Path, mapping: Path, folder: str | os.PathLike[str]
) -> Path:
    """Convert any archive into a dataset folder.

    Parameters
    ----------
    archive : Path
        Folder of the archive, unpacked.
    mapping : Path
        A confirmed mapping file.
    folder : path-like
        The dataset folder to make.

    Returns
    -------
    folder : Path
        The dataset folder.

    Raises
    ------
    ValueError
        If the mapping file is not confirmed or does not fit the archive, or the folder
        is in use.
    """
    return write_dataset(convert(archive, _layout(mapping)), folder)


def propose_mapping(
    archive: Path,
    mapping: Path,
    *,
    n_images: int | None = None,
    n_subjects: int | None = None,
) -> list[Remark]:
    """Write a mapping file to be checked.

    Parameters
    ----------
    archive : Path
        Folder of the archive, unpacked.
    mapping : Path
        The file to make.
    n_images, n_subjects : int, optional
        What is known of the dataset.

    Returns
    -------
    remarks : list of Remark
        What is sure, what was guessed, and what is left to decide.

    Raises
    ------
    ValueError
        If the file exists, or the archive does not.
    """
    return write_proposal(mapping, archive, n_images=n_images, n_subjects=n_subjects)


def lacking(mapping: Path) -> str:
    """What a mapping file lacks before it can be confirmed.

    Parameters
    ----------
    mapping : Path
        The file.

    Returns
    -------
    reason : str
        Why it cannot be read as it is; empty if it can.
    """
    try:
        read_layout(mapping)
    except ValueError as error:
        return str(error).removeprefix(f"{mapping}: ").rstrip(".")
    return ""


def _lack(mapping: Path) -> str:
    """What a mapping file lacks, as part of a sentence."""
    reason = lacking(mapping)
    return f" (not complete: {reason})" if reason else ""


def _layout(mapping: Path) -> Layout:
    """Read a mapping file; say how to go on if one that was proposed is refused."""
    try:
        return read_layout(mapping)
    except ValueError as error:
        if not mapping.is_file():
            raise
        text = mapping.read_text(encoding="utf-8", errors="replace")
        if re.search(r"(?m)^\s*confirmed\s*=\s*true\b", text):
            raise
        raise ValueError(
            f"{error} Correct {mapping}; remove it to have one proposed anew."
        ) from None


def _check_size(dataset: BrainDataset, entry: DatasetEntry, mapping: Path) -> None:
    """Refuse what cannot be the published dataset."""
    found = dataset.n_subjects, dataset.n_images
    if found != (entry.n_subjects, entry.n_images):
        raise ValueError(
            f"dataset {entry.name!r} must have {entry.n_subjects} subjects and "
            f"{entry.n_images} images; by {mapping} it has {found[0]} and {found[1]}. "
            "Correct the mapping file."
        )
