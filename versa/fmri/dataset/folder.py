"""Datasets as folders in the style of BIDS derivatives.

A folder holds::

    dataset_description.json       Name, License, ..., and what only versa needs
    participants.tsv               participant_id: the order of the subjects
    stimuli.tsv                    stim_id, file, sha256: the order of the images
    stimuli/                       the image files, byte for byte
    sub-01/func/sub-01_desc-betas_stat.nii      responses (x, y, z, condition)
    sub-01/func/sub-01_desc-betas_stat.json     Conditions, Units, Space
    sub-01/func/sub-01_desc-EarlyV_mask.nii     one mask per sector

or, for a dataset of RDMs, ``sub-01/sub-01_desc-EarlyV_rdm.tsv`` with the columns
stim_a, stim_b and dissimilarity in place of ``func``.

Such a folder can be made by hand: images are ``.nii`` or ``.nii.gz``; any
``sub-01_..._desc-betas..._*.nii`` is taken for the responses and any
``sub-01_..._desc-EarlyV_mask.nii`` for a mask; ``Conditions`` lists the stim_ids in the
order of the volumes and must be in the order of ``stimuli.tsv``; the space is
``Space`` of the sidecar, or the ``space-`` part of the file name, or else "none".
Files in the folder ``stimuli`` are named relative to it. Only ``Name`` is needed in
``dataset_description.json``; ``versa.Sectors`` there gives the order of the sectors,
which otherwise is that of their names. ``Affine`` in a sidecar keeps in float64 what
the image's header rounds to float32.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from versa.cache import atomic_write
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.subject_files import (
    files_by_sector,
    read_rdm,
    read_responses,
    write_rdms,
    write_responses,
)
from versa.fmri.dataset.tables import write_json, write_table
from versa.fmri.dataset.top_files import (
    FORMAT,
    check_labels,
    read_description,
    read_image_table,
    read_participants,
    subject_folders,
)
from versa.wording import listing

__all__ = ["read_dataset", "write_dataset", "write_stimuli"]

logger = logging.getLogger("versa")


def write_dataset(dataset: BrainDataset, folder: str | os.PathLike[str]) -> Path:
    """Write a dataset as a folder that :func:`read_dataset` reads back without loss.

    Responses are stored as float32 where that keeps every bit, else as float64. Voxels
    without known place lie on a grid that is a list. The folder appears whole or not
    at all.

    Parameters
    ----------
    dataset : BrainDataset
        Names of sectors and subjects must be letters and digits, as BIDS wants.
    folder : path-like
        Where to write: a folder that does not exist yet, or is empty.

    Returns
    -------
    folder : Path
        The folder.

    Raises
    ------
    ValueError
        If the folder is in use, a name cannot be part of a file name, an image file
        has changed, or sectors hold different values for a voxel they share.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the output folder must not be a file; got {folder}.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"the output folder must be new or empty; {folder} is not. Choose another "
            "one, or remove it first."
        )
    for kind, names in (
        ("sector", dataset.sector_names),
        ("subject", dataset.subjects),
    ):
        check_labels(kind, names)
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        _write_description(dataset, temporary)
        write_table(
            temporary / "participants.tsv",
            {"participant_id": [f"sub-{subject}" for subject in dataset.subjects]},
        )
        write_stimuli(dataset.stimuli, temporary)
        for row, subject in enumerate(dataset.subjects):
            if dataset.has_responses:
                write_responses(dataset, row, temporary / f"sub-{subject}" / "func")
            else:
                write_rdms(dataset, row, temporary / f"sub-{subject}")
        if folder.is_dir():
            folder.rmdir()  # only some systems can move a folder onto an empty one
    return folder


def read_dataset(folder: str | os.PathLike[str]) -> BrainDataset:
    """Read a dataset from a folder, checking every file.

    Parameters
    ----------
    folder : path-like
        As :func:`write_dataset` makes it; the head of this module has the layout.

    Returns
    -------
    dataset : BrainDataset
        The dataset.

    Raises
    ------
    ValueError
        If anything is missing, damaged, or at odds with another file: the images with
        their hashes, the order of conditions with that of the images, the grid of a
        mask with that of the responses. Nothing is re-sorted or resampled.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"the dataset folder must exist; got {folder}.")
    about, own = read_description(folder)
    stimuli = _read_stimuli(folder)
    subjects = _read_subjects(folder)
    first = folder / f"sub-{subjects[0]}"
    has_rdms = any(first.glob("*_rdm.tsv"))
    if has_rdms and (first / "func").exists():
        raise ValueError(
            f"{first} must hold either func or *_rdm.tsv; got both. A dataset has "
            "responses or RDMs: keep one."
        )
    read = _read_rdms if has_rdms else _read_responses
    return BrainDataset(
        name=about["Name"],
        stimuli=stimuli,
        subjects=subjects,
        licence=str(about.get("License", "")),
        citation=str(about.get("HowToAcknowledge", "")),
        description=str(own.get("Description", "")),
        **read(folder, subjects, stimuli, own),
    )


# ---- writing --------------------------------------------------------------------


def _write_description(dataset: BrainDataset, folder: Path) -> None:
    """What BIDS asks for, and under "versa" what it has no word for."""
    about: dict[str, Any] = {
        "Name": dataset.name,
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "versa"}],
    }
    if dataset.licence:
        about["License"] = dataset.licence
    if dataset.citation:
        about["HowToAcknowledge"] = dataset.citation
    about["versa"] = {
        "Format": FORMAT,
        "Description": dataset.description,
        "Sectors": list(dataset.sector_names),
        "Unit": dataset.unit,
        "Space": dataset.space,
        "HasCoordinates": dataset.sectors is not None,
    }
    write_json(folder / "dataset_description.json", about)


def write_stimuli(stimuli: StimulusSet, folder: Path) -> None:
    """Write the images and their table, ``stimuli`` and ``stimuli.tsv``.

    Parameters
    ----------
    stimuli : StimulusSet
        The images.
    folder : Path
        The dataset folder, which has no ``stimuli`` yet.

    Raises
    ------
    ValueError
        If an image file is missing, or is not what was hashed.
    """
    target = folder / "stimuli"
    target.mkdir()
    files = [path.name for path in stimuli.paths]
    if len({file.lower() for file in files}) < len(files) or not all(
        file.isprintable() for file in files
    ):
        files = [f"{i:05d}{path.suffix}" for i, path in enumerate(stimuli.paths)]
    changed = []
    for name, path, file, digest in zip(
        stimuli.names, stimuli.paths, files, stimuli.hashes, strict=True
    ):
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != digest:
            changed.append(f"{name} ({path})")
            continue
        (target / file).write_bytes(content)
    if changed:
        raise ValueError(
            "image files must be as they were when the stimulus set was made; "
            f"{listing(changed)} are missing or have changed."
        )
    write_table(
        folder / "stimuli.tsv",
        {"stim_id": stimuli.names, "file": files, "sha256": stimuli.hashes},
    )


# ---- reading --------------------------------------------------------------------


def _read_stimuli(folder: Path) -> StimulusSet:
    """The images that stimuli.tsv names, with the hashes it gives."""
    path = folder / "stimuli.tsv"
    names, files, hashes = read_image_table(folder)
    try:
        stimuli = StimulusSet.from_paths(files, names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    stimuli.check_same(names, hashes, str(path))
    return stimuli


def _read_subjects(folder: Path) -> list[str]:
    """Subject labels in the order of participants.tsv, all of which have a folder."""
    labels = read_participants(folder)
    ids = [f"sub-{label}" for label in labels]
    found = subject_folders(folder)
    missing = [item for item in ids if item not in found]
    extra = [item for item in found if item not in ids]
    if missing or extra:
        parts = [
            f"{label} {listing(items)}"
            for label, items in (("no folder for", missing), ("no line for", extra))
            if items
        ]
        raise ValueError(
            f"{folder / 'participants.tsv'} must list the subject folders of the "
            f"dataset; there is {' and '.join(parts)}."
        )
    return labels


def _read_responses(
    folder: Path, subjects: list[str], stimuli: StimulusSet, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Responses and sectors of all subjects, with unit and space."""
    funcs = [folder / f"sub-{subject}" / "func" for subject in subjects]
    for func in funcs:
        if not func.is_dir():
            raise ValueError(
                f"{func} must exist, with *_desc-betas_stat.nii in it; it is missing, "
                "and so are *_rdm.tsv beside it."
            )
    masks = [
        files_by_sector(func.iterdir(), subject, r"mask\.nii(?:\.gz)?")
        for func, subject in zip(funcs, subjects, strict=True)
    ]
    names = _sector_names(folder, own, subjects, masks, "mask.nii")
    found = [
        read_responses(func, {name: paths[name] for name in names}, stimuli)
        for func, paths in zip(funcs, masks, strict=True)
    ]
    first = found[0]
    for other in found[1:]:
        if (other.unit, other.space) != (first.unit, first.space):
            raise ValueError(
                f"{other.betas} must have the unit and space of {first.betas}, "
                f"{first.unit!r} and {first.space!r}; got {other.unit!r} and "
                f"{other.space!r}."
            )
    placed = own.get("HasCoordinates", True)
    return {
        "responses": {name: [one.responses[name] for one in found] for name in names},
        "sectors": (
            {name: [one.sectors[name] for one in found] for name in names}
            if placed
            else None
        ),
        "unit": first.unit,
        "space": first.space if placed else own.get("Space", "none"),
    }


def _read_rdms(
    folder: Path, subjects: list[str], stimuli: StimulusSet, own: Mapping[str, Any]
) -> dict[str, Any]:
    """RDMs of all subjects, with unit and space."""
    paths = [
        files_by_sector((folder / f"sub-{subject}").iterdir(), subject, r"rdm\.tsv")
        for subject in subjects
    ]
    names = _sector_names(folder, own, subjects, paths, "rdm.tsv")
    pairs = list(combinations(stimuli.names, 2))
    return {
        "rdms": {
            name: np.array([read_rdm(found[name], pairs) for found in paths])
            for name in names
        },
        "unit": own.get("Unit", "a.u."),
        "space": own.get("Space", "none"),
    }


def _sector_names(
    folder: Path,
    own: Mapping[str, Any],
    subjects: list[str],
    paths: list[dict[str, Path]],
    ending: str,
) -> list[str]:
    """Names of the sectors, which every subject must have."""
    listed = own.get("Sectors")
    names = list(paths[0]) if listed is None else list(listed)
    if not names:
        raise ValueError(
            f"{folder} must have at least one sector; there is no "
            f"sub-{subjects[0]}_desc-<Sector>_{ending}."
        )
    for subject, found in zip(subjects, paths, strict=True):
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"{folder} must have every sector for every subject; there is no "
                f"sub-{subject}_desc-{missing[0]}_{ending}."
            )
        extra = [found[name] for name in found if name not in names]
        if extra and listed is None:
            raise ValueError(
                f"{folder} must have every sector for every subject; sub-{subjects[0]} "
                f"has no counterpart of {extra[0]}."
            )
        if extra:
            logger.warning(
                "%s: left out, because Sectors in dataset_description.json does not "
                "name it.",
                listing(extra),
            )
    return names
