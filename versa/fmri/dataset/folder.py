"""Datasets as folders in the style of BIDS derivatives.

A folder holds::

    dataset_description.json       Name, License, ..., and what only versa needs
    participants.tsv               participant_id: the order of the subjects
    stimuli.tsv                    stim_id, file, sha256: the order of the images
    stimuli/                       the image files, byte for byte
    sub-01/func/sub-01_desc-betas_stat.nii      responses (x, y, z, condition)
    sub-01/func/sub-01_desc-betas_stat.json     Conditions, Units, Space
    sub-01/func/sub-01_desc-EarlyV_mask.nii     one mask per sector
    sub-01/func/sub-01_desc-reliability_statmap.nii   odd/even r of voxels, if known

or, for a dataset of RDMs, ``sub-01/sub-01_desc-EarlyV_rdm.tsv`` with the columns
stim_a, stim_b and dissimilarity in place of ``func``.

Such a folder can be made by hand: images are ``.nii`` or ``.nii.gz``; any
``sub-01_..._desc-betas..._*.nii`` is taken for the responses and any
``sub-01_..._desc-EarlyV_mask.nii`` for a mask; ``Conditions`` lists the stim_ids in the
order of the volumes and must be in the order of ``stimuli.tsv``; the space is
``Space`` of the sidecar, or the ``space-`` part of the file name, or else "none".
Files in the folder ``stimuli`` are named relative to it. Only ``Name`` is needed in
``dataset_description.json``; ``versa.Sectors`` there gives the order of the sectors,
which otherwise is that of their names; ``versa.SHA256`` the hashes of betas, masks and
RDMs, which are compared on reading for the files that it lists. ``Affine`` in a
sidecar keeps in float64 what the image's header rounds to float32.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, overload

import numpy as np

from versa.cache import atomic_write, file_hash
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.problems import Problem, Problems
from versa.fmri.dataset.stimuli import StimulusSet, image_oddities
from versa.fmri.dataset.subject_files import (
    SubjectResponses,
    files_by_sector,
    read_rdm,
    read_responses,
    write_rdms,
    write_responses,
)
from versa.fmri.dataset.tables import (
    DESCRIPTION,
    FORMAT,
    LABEL,
    ImageTable,
    check_labels,
    read_description,
    read_image_table,
    read_participants,
    subject_labels,
    write_json,
    write_table,
)
from versa.fmri.volumes.spaces import check_space
from versa.wording import listing

_HASHED = re.compile(r"\.nii(\.gz)?$|_rdm\.tsv$")  # betas, masks and RDMs


def write_dataset(dataset: BrainDataset, folder: str | os.PathLike[str]) -> Path:
    """Write a dataset as a folder that :func:`read_dataset` reads back without loss.

    Responses are stored as float32 where that keeps every bit, else as float64. Voxels
    without known place are put on a grid that is a list. The folder is written
    atomically.

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
        _write_description(dataset, temporary)
        if folder.is_dir():
            folder.rmdir()  # only some systems can move a folder onto an empty one
    return folder


@overload
def read_dataset(
    folder: str | os.PathLike[str], problems: None = None, *, halves: bool = False
) -> BrainDataset: ...
@overload
def read_dataset(
    folder: str | os.PathLike[str], problems: list[Problem], *, halves: bool = False
) -> BrainDataset | None: ...
def read_dataset(
    folder: str | os.PathLike[str],
    problems: list[Problem] | None = None,
    *,
    halves: bool = False,
) -> BrainDataset | None:
    """Read a dataset from a folder, checking every file.

    Parameters
    ----------
    folder : path-like
        As :func:`write_dataset` makes it, or made by hand.
    problems : list, optional
        Takes every problem of a file as an item with ``file``, ``level`` ("error" or
        "warning") and ``text``; reading goes on with the other files. Without a list
        the first error is raised.
    halves : bool, default=False
        Read the betas of odd and even runs, too, for crossnobis distances: three times
        the memory.

    Returns
    -------
    dataset : BrainDataset
        The dataset; None if `problems` has got an error.

    Raises
    ------
    ValueError
        If anything is missing, damaged, or at odds with another file: the images with
        their hashes, the order of conditions with that of the images, the grid of a
        mask with that of the responses. Nothing is re-sorted or resampled.

    See Also
    --------
    versa.fmri.dataset.check_dataset : The same, and what can be read but looks wrong.
    """
    folder = Path(folder)
    found: list[Problem] = []
    reports = Problems(folder, None if problems is None else found)
    contents = read_contents(folder, reports)
    if contents.has_rdms:
        values = _rdms(contents, reports)
    else:
        values = _responses(contents, reports, halves=halves)
    check_hashes(contents, reports)
    check_oddities(contents, reports)
    if problems is not None:
        problems += found
    if contents.stimuli is None or any(one.level == "error" for one in found):
        return None
    return BrainDataset(
        name=contents.about["Name"],
        stimuli=contents.stimuli,
        subjects=contents.subjects,
        licence=str(contents.about.get("License", "")),
        citation=str(contents.about.get("HowToAcknowledge", "")),
        description=str(contents.own.get("Description", "")),
        **values,
    )


# ---- writing --------------------------------------------------------------------


def _write_description(dataset: BrainDataset, folder: Path) -> None:
    """What BIDS asks for, and under "versa" what it has no word for; written last."""
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
        "SHA256": hashes_below(folder),
    }
    write_json(folder / DESCRIPTION, about)


def hashes_below(folder: Path, start: str = "") -> dict[str, str]:
    """SHA-256 of betas, masks, maps and RDMs, by their path with `start` in front."""
    return {
        start + path.relative_to(folder).as_posix(): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if _HASHED.search(path.name) and path.is_file()
    }


def write_own(folder: Path, **entries: Any) -> None:
    """Put entries of the object ``versa`` into a description, whole or not at all.

    Those of SHA256 are added to the ones that are there, or removed by None.
    """
    about, own = read_description(folder)
    before = own.get("SHA256", {})
    if "SHA256" in entries and isinstance(before, dict):
        table = {**before, **entries["SHA256"]}
        entries["SHA256"] = {file: text for file, text in table.items() if text}
    path = folder / DESCRIPTION
    with atomic_write(path) as temporary:
        write_json(temporary, {**about, "versa": {**own, **entries}})


def write_stimuli(stimuli: StimulusSet, folder: Path) -> None:
    """Write the images, byte for byte, and their table."""
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


# ---- reading ----------------------------------------------------------------------


@dataclass
class Contents:
    """What is in a dataset folder, but for the values, as far as it could be read."""

    folder: Path
    about: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)  # what is said to versa only
    images: ImageTable | None = None
    stimuli: StimulusSet | None = None  # ids are right even where files are not
    subjects: list[str] = field(default_factory=list)  # those with a folder
    has_rdms: bool = False
    files: dict[str, dict[str, Path]] = field(default_factory=dict)  # subject, sector
    sector_names: list[str] = field(default_factory=list)

    @property
    def has_coordinates(self) -> bool:
        """Whether the voxels have a known place."""
        return self.own.get("HasCoordinates", True) is not False

    def subject_folder(self, subject: str) -> Path:
        """Where the masks or the RDMs of a subject are."""
        folder = self.folder / f"sub-{subject}"
        return folder if self.has_rdms else folder / "func"


def read_contents(folder: Path, problems: Problems) -> Contents:
    """Everything but the values: description, images, subjects, sectors."""
    contents = Contents(folder)
    if not folder.is_dir():
        problems.error(folder, "must be a folder that exists.")
        return contents
    contents.about, contents.own = read_description(folder, problems)
    path = folder / "stimuli.tsv"
    contents.images = problems.attempt(path, read_image_table, folder)
    if contents.images is not None:
        contents.stimuli = _read_stimuli(path, contents.images, problems)
    contents.subjects = _read_subjects(folder, problems)
    if not contents.subjects:
        return contents
    first = folder / f"sub-{contents.subjects[0]}"
    contents.has_rdms = any(first.glob("*_rdm.tsv"))
    if contents.has_rdms and (first / "func").exists():
        problems.error(
            first,
            "must hold either func or *_rdm.tsv; got both. A dataset has responses or "
            "RDMs: keep one.",
        )
    if contents.has_rdms or not contents.has_coordinates:
        space = contents.own.get("Space", "none")
        problems.attempt(folder / DESCRIPTION, check_space, space)
    _find_sectors(contents, problems)
    return contents


def _read_stimuli(
    path: Path, table: ImageTable, problems: Problems
) -> StimulusSet | None:
    """The images that stimuli.tsv names, with the hashes of their files."""
    hashes = []
    for name, file, expected in zip(*table, strict=True):
        found = None
        if file.is_file():
            found = problems.attempt(file, file_hash, file)
        else:
            problems.error(file, f"must exist; it is the image of {name!r}.")
        if found not in (None, expected):
            problems.error(
                file,
                f"must be the file that stimuli.tsv describes; its SHA-256 is {found}, "
                f"not {expected or 'empty'}. Use the image that was shown, or correct "
                "the table.",
            )
        hashes.append(found or "0" * 64)
    return problems.attempt(path, StimulusSet, table.names, table.files, hashes)


def _read_subjects(folder: Path, problems: Problems) -> list[str]:
    """Labels of the subjects that have a folder, in the order of participants.tsv."""
    path = folder / "participants.tsv"
    found = subject_labels(folder)
    labels = problems.attempt(path, read_participants, folder)
    if labels is None:
        return [label for label in found if re.fullmatch(LABEL, label)]
    missing = [f"sub-{label}" for label in labels if label not in found]
    if missing:
        problems.error(
            path,
            "must list the subject folders; there is no folder for "
            f"{listing(missing)}.",
        )
    for label in found:
        if label not in labels:
            problems.error(
                folder / f"sub-{label}",
                "must have a line in participants.tsv. Add it, or move the folder "
                "away.",
            )
    return [label for label in labels if label in found]


def _find_sectors(contents: Contents, problems: Problems) -> None:
    """Files and names of the sectors, which every subject must have."""
    ending = "rdm.tsv" if contents.has_rdms else "mask.nii"
    pattern = r"rdm\.tsv" if contents.has_rdms else r"mask\.nii(?:\.gz)?"
    for subject in contents.subjects:
        folder = contents.subject_folder(subject)
        if not folder.is_dir():
            problems.error(
                folder, "must exist, with *_desc-betas_stat.nii in it; it is missing."
            )
            continue
        files = list(folder.iterdir())
        found = problems.attempt(folder, files_by_sector, files, subject, pattern)
        if found is not None:
            contents.files[subject] = found
    listed = contents.own.get("Sectors")
    every = [name for found in contents.files.values() for name in found]
    names = contents.sector_names = list(
        dict.fromkeys(every if listed is None else listed)
    )
    if not names and contents.files:
        problems.error(
            contents.folder,
            "must have at least one sector; there is no "
            f"sub-{next(iter(contents.files))}_desc-<Sector>_{ending}.",
        )
    for subject, found in contents.files.items():
        for name in names:
            if name not in found:
                problems.error(
                    contents.subject_folder(subject)
                    / f"sub-{subject}_desc-{name}_{ending}",
                    "must exist; every subject must have every sector.",
                )
        for name, path in found.items():
            if name not in names:
                problems.warning(
                    path,
                    f"is left out, because Sectors in {DESCRIPTION} does not name it.",
                )


def check_oddities(contents: Contents, problems: Problems) -> None:
    """Warn of images that a network sees otherwise than viewers show them."""
    files = [] if contents.images is None else contents.images.files
    for text, odd in image_oddities(file for file in files if file.is_file()).items():
        problems.warning(
            contents.folder / "stimuli.tsv",
            f"names images that {text} They are {listing(file.name for file in odd)}.",
        )


def check_hashes(contents: Contents, problems: Problems) -> None:
    """Refuse betas, masks and RDMs that are not those that the description lists.

    Files without a hash, as in a folder made by hand, pass; so do files that have an
    error already.
    """
    path = contents.folder / DESCRIPTION
    table = contents.own.get("SHA256", {})
    if not isinstance(table, dict):
        problems.error(path, "must have a mapping of files to hashes as SHA256.")
        return
    wrong = {one.file for one in problems.found or () if one.level == "error"}
    found = {
        file.relative_to(contents.folder).as_posix(): file
        for file in sorted(contents.folder.glob("sub-*/**/*"))
        if _HASHED.search(file.name)
    }
    for name, file in found.items():
        if name not in table or name in wrong:
            continue
        digest = problems.attempt(file, file_hash, file)
        if digest not in (None, table[name]):
            problems.error(
                file,
                f"must be the file that {DESCRIPTION} describes; its SHA-256 is "
                f"{digest}, not {table[name]}. Take it from where it came from again, "
                "or, if it was changed on purpose, remove its line from SHA256 there.",
            )


def each_responses(
    contents: Contents, problems: Problems, *, halves: bool = False
) -> Iterator[tuple[str, SubjectResponses]]:
    """Each subject with its responses, all of one unit and space, one at a time."""
    first = None
    for subject, files in contents.files.items():
        masks = {name: files[name] for name in contents.sector_names if name in files}
        func = contents.subject_folder(subject)
        one = read_responses(func, masks, contents.stimuli, problems, halves=halves)
        if one is None:
            continue
        if first is None:
            first = one._replace(responses={}, sectors={}, reliability={}, halves={})
        for what in ("unit", "space"):
            value, expected = getattr(one, what), getattr(first, what)
            if None not in (value, expected) and value != expected:
                problems.error(
                    one.betas,
                    f"must have the {what} of {first.betas.name}, {expected!r}; got "
                    f"{value!r}.",
                )
        yield subject, one


def each_rdms(
    contents: Contents, problems: Problems
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Each subject with its RDMs by sector."""
    if contents.stimuli is None:
        return
    pairs = list(combinations(contents.stimuli.names, 2))
    for subject, files in contents.files.items():
        rdms = {}
        for name in contents.sector_names:
            if name in files:
                rdm = problems.attempt(files[name], read_rdm, files[name], pairs)
                if rdm is not None:
                    rdms[name] = rdm
        yield subject, rdms


def _responses(
    contents: Contents, problems: Problems, *, halves: bool
) -> dict[str, Any]:
    """Responses and sectors of all subjects, with unit and space, if all are right."""
    found = [one for _, one in each_responses(contents, problems, halves=halves)]
    names, placed = contents.sector_names, contents.has_coordinates
    if any(set(names) - set(one.sectors) for one in found) or not found:
        return {}
    return {
        "responses": {name: [one.responses[name] for one in found] for name in names},
        "sectors": (
            {name: [one.sectors[name] for one in found] for name in names}
            if placed
            else None
        ),
        "reliability": _reliability(found, names),
        "halves": (
            {name: [one.halves[name] for one in found] for name in names}
            if halves and all(set(names) <= set(one.halves) for one in found)
            else None
        ),
        "unit": found[0].unit,
        "space": found[0].space if placed else contents.own.get("Space", "none"),
    }


def _reliability(
    found: list[SubjectResponses], names: list[str]
) -> dict[str, list[np.ndarray]] | None:
    """Reliability of the voxels, NaN where it is not known; None if it never is."""
    if not any(one.reliability for one in found):
        return None
    return {
        name: [
            one.reliability.get(name, np.full(one.responses[name].shape[1], np.nan))
            for one in found
        ]
        for name in names
    }


def _rdms(contents: Contents, problems: Problems) -> dict[str, Any]:
    """RDMs of all subjects, with unit and space, if all are right."""
    found = [rdms for _, rdms in each_rdms(contents, problems)]
    names = contents.sector_names
    if any(set(names) - set(rdms) for rdms in found) or not found:
        return {}
    return {
        "rdms": {name: np.array([rdms[name] for rdms in found]) for name in names},
        "unit": contents.own.get("Unit", "a.u."),
        "space": contents.own.get("Space", "none"),
    }
