"""Check a dataset folder and say what is wrong with it, file by file."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from versa.cache import file_hash
from versa.fmri.dataset.problems import Finding, Findings
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.subject_checks import (
    check_rdms,
    check_responses,
    compare_subjects,
)
from versa.fmri.dataset.subject_files import files_by_sector
from versa.fmri.dataset.tables import read_json
from versa.fmri.dataset.top_files import (
    LABEL,
    description_problems,
    read_image_table,
    read_participants,
    subject_folders,
)
from versa.fmri.volumes.spaces import check_space
from versa.stats.splits import split_halves
from versa.wording import listing

__all__ = ["Finding", "check_dataset"]

_DESCRIPTION = "dataset_description.json"
_FEW_SUBJECTS = 4
_ARCHIVES = (".mat", ".vtc", ".vmp", ".msk", ".voi", ".vmr", ".h5", ".npy", ".npz")
_FOR_PEOPLE = re.compile(
    r"(README|CHANGES|LICEN[CS]E|CITATION)(\..*)?|(participants|stimuli)\.json"
)
_FOLDERS_FOR_PEOPLE = ("code", "figures", "sourcedata")
_MAPS = re.compile(
    rf"sub-{LABEL}_desc-((odd|even)betas_stat|(active|reliability)_statmap)"
    r"\.(nii|nii\.gz|json)"
)  # what versa.fmri.study keeps beside the responses


def check_dataset(folder: str | os.PathLike[str]) -> list[Finding]:
    """Check every file of a dataset folder, and go on after the first problem.

    Parameters
    ----------
    folder : path-like
        A folder as :func:`versa.write_dataset` makes it, or one made by
        hand.

    Returns
    -------
    findings : list of Finding
        Empty if nothing is wrong. Without an ``"error"`` among them,
        :func:`versa.read_dataset` reads the folder; what it refuses has at
        least one. A ``"warning"`` is what can be read but looks wrong. A folder that
        is something else, such as raw BIDS or the output of fMRIPrep, has one error
        that says so.

    Notes
    -----
    Responses are read one subject at a time.

    Examples
    --------
    >>> import tempfile
    >>> for finding in check_dataset(tempfile.mkdtemp()):
    ...     print(finding)
    error: .: is empty; it should hold a dataset.
    """
    folder = Path(folder)
    findings = Findings(folder)
    other = _other_kind(folder) if folder.is_dir() else "must be a folder that exists."
    if other:
        findings.error(folder, other)
        return findings.found
    own, used = _check_description(findings)
    stimuli = _check_images(findings, used)
    subjects = _check_subjects(findings)
    used |= {folder / "stimuli.tsv", folder / "participants.tsv"}
    if subjects:
        first = folder / f"sub-{subjects[0]}"
        has_rdms = findings.attempt(first, _has_rdms, first)
        if has_rdms and (first / "func").exists():
            findings.error(
                first,
                "must hold either func or *_rdm.tsv; got both. A dataset has responses "
                "or RDMs: keep one.",
            )
        if has_rdms is not None:
            check = _check_rdm_files if has_rdms else _check_response_files
            check(findings, subjects, stimuli, own, used)
    _check_unread(findings, used)
    return findings.by_file()


# ---- what kind of folder it is --------------------------------------------------


def _other_kind(folder: Path) -> str:
    """What a folder is that is no dataset of versa; empty if it is, or tries to be."""
    if (folder / "stimuli.tsv").exists():
        return ""
    whole = folder.resolve().parent
    if folder.resolve().name.startswith("sub-") and (whole / "stimuli.tsv").exists():
        return f"is one subject of a dataset; check the dataset, {whole}."
    about = _json_or_nothing(folder / _DESCRIPTION)
    ours = ("sub-*/func/*desc-betas*", "sub-*/*_rdm.tsv")
    if "versa" in about or any(any(folder.glob(pattern)) for pattern in ours):
        return ""
    makers = _makers(about)
    depths = ("sub-*/func", "sub-*/ses-*/func")
    runs = [path for depth in depths for path in folder.glob(f"{depth}/*_bold.nii*")]
    if "fmriprep" in [maker.lower() for maker in makers] or any(
        "_desc-preproc_" in path.name for path in runs
    ):
        return (
            "is the output of fMRIPrep, time series and no responses per image. "
            "versa-data betas makes a dataset of it."
        )
    if runs:
        return (
            "is a raw BIDS dataset, time series and no responses per image. "
            "Preprocess it, with fMRIPrep for example; versa-data betas then makes a "
            "dataset of it."
        )
    if makers or about.get("DatasetType") == "derivative":
        return (
            f"is a BIDS derivative of {listing(makers) or 'another program'} without "
            "stimuli.tsv and responses per image. If it holds preprocessed runs, "
            "versa-data betas makes a dataset of it."
        )
    if about or subject_folders(folder) or (folder / "participants.tsv").exists():
        return ""
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if not names:
        return "is empty; it should hold a dataset."
    kinds = {
        Path(file.removesuffix(".gz")).suffix
        for _, _, files in os.walk(folder)
        for file in files
    }
    archives = [suffix for suffix in _ARCHIVES if suffix in kinds]
    if archives:
        return (
            f"looks like an archive, with {listing(archives)} files. versa reads it "
            "through a mapping file: `versa-data convert`."
        )
    return (
        f"is no dataset: there is no {_DESCRIPTION}, participants.tsv or stimuli.tsv "
        f"among {listing(sorted(names))}."
    )


def _json_or_nothing(path: Path) -> dict[str, Any]:
    """A JSON file that need not be there or be whole."""
    try:
        return read_json(path)
    except (ValueError, OSError):
        return {}


def _makers(about: Mapping[str, Any]) -> list[str]:
    """Names of the programs that made a BIDS derivative."""
    entries = about.get("GeneratedBy", about.get("PipelineDescription", []))
    entries = [entries] if isinstance(entries, dict) else entries
    if not isinstance(entries, list):
        return []
    return [
        str(one["Name"]) for one in entries if isinstance(one, dict) and "Name" in one
    ]


# ---- the files at the top -------------------------------------------------------


def _check_description(findings: Findings) -> tuple[dict[str, Any], set[Path]]:
    """What the description says to versa, as far as it can be used; its path."""
    path = findings.folder / _DESCRIPTION
    about = findings.attempt(path, read_json, path)
    if about is None:
        return {}, {path}
    for problem in description_problems(about):
        findings.error(path, problem)
    if not str(about.get("License", "")).strip():
        findings.warning(
            path, "has no License, so nobody knows whether the data may be used."
        )
    own = about.get("versa", {})
    own = dict(own) if isinstance(own, dict) else {}
    sectors = own.get("Sectors")
    if not isinstance(sectors, list) or not all(isinstance(s, str) for s in sectors):
        own.pop("Sectors", None)
    return own, {path}


def _check_images(findings: Findings, used: set[Path]) -> StimulusSet | None:
    """The images of stimuli.tsv; ids are right even where files are not."""
    path = findings.folder / "stimuli.tsv"
    table = findings.attempt(path, read_image_table, findings.folder)
    if table is None:
        used.update((findings.folder / "stimuli").rglob("*"))
        return None
    used.update(table.files)
    looks: dict[str, tuple[str, tuple[int, int]]] = {}
    by_content = defaultdict(list)
    for name, file, expected in zip(*table, strict=True):
        if not file.is_file():
            findings.error(file, f"must exist; it is the image of {name!r}.")
            continue
        found = findings.attempt(file, file_hash, file)
        if found is not None and found != expected:
            findings.error(
                file,
                f"must be the file that stimuli.tsv describes; its SHA-256 is {found}, "
                f"not {expected or 'empty'}. Use the image that was shown, or correct "
                "the table.",
            )
        by_content[found].append(name)
        look = findings.attempt(file, _look, file)
        if look is not None:
            looks[name] = look
    _check_looks(findings, looks)
    for names in by_content.values():
        if len(names) > 1:
            findings.warning(
                path, f"has one image under {len(names)} names: {listing(names)}."
            )
    hashes = ["0" * 64] * len(table.names)  # only ids are compared from here on
    return findings.attempt(path, StimulusSet, table.names, table.files, hashes)


def _look(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and size of a picture that can be decoded to its end."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image.mode, image.size
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(
            f"{path} must be an image that Pillow reads; reading it fails with: "
            f"{' '.join(str(error).split())}."
        ) from error


def _check_looks(
    findings: Findings, looks: Mapping[str, tuple[str, tuple[int, int]]]
) -> None:
    """Images that versa.fit refuses unless it is told to convert them."""
    folder = findings.folder / "stimuli"
    other = [f"{name} ({mode})" for name, (mode, _) in looks.items() if mode != "RGB"]
    if other:
        findings.warning(
            folder,
            f"has {len(other)} of {len(looks)} images that are not RGB: "
            f"{listing(other)}. They are refused unless convert_images=True.",
        )
    sizes = defaultdict(list)
    for name, (_, size) in looks.items():
        sizes[size].append(name)
    if len(sizes) > 1:
        parts = [
            f"{width} x {height} ({listing(names, limit=3)})"
            for (width, height), names in sizes.items()
        ]
        findings.warning(
            folder,
            f"has images of {len(sizes)} sizes: {listing(parts)}. They are refused "
            "unless convert_images=True.",
        )


def _check_subjects(findings: Findings) -> list[str]:
    """Labels of the subjects that have a folder, in their order."""
    path = findings.folder / "participants.tsv"
    found = subject_folders(findings.folder)
    labels = findings.attempt(path, read_participants, findings.folder)
    if labels is None:
        ids = [name for name in found if re.fullmatch(f"sub-{LABEL}", name)]
        return [name.removeprefix("sub-") for name in ids]
    ids = [f"sub-{label}" for label in labels]
    missing = [name for name in ids if name not in found]
    if missing:
        findings.error(
            path,
            "must list the subject folders; there is no folder for "
            f"{listing(missing)}.",
        )
    for name in found:
        if name not in ids:
            findings.error(
                findings.folder / name,
                "must have a line in participants.tsv. Add it, or move the folder "
                "away.",
            )
    if len(ids) == 1:
        findings.warning(path, "has one subject, who cannot be split into halves.")
    elif len(ids) < _FEW_SUBJECTS:
        n_splits = split_halves(len(ids)).n_splits
        word = "half-split" if n_splits == 1 else "half-splits"
        findings.warning(
            path,
            f"has {len(ids)} subjects, which give {n_splits} {word}: scores will have "
            "wide intervals or none.",
        )
    return [name.removeprefix("sub-") for name in ids if name in found]


# ---- the files of the subjects --------------------------------------------------


def _has_rdms(folder: Path) -> bool:
    return any(folder.glob("*_rdm.tsv"))


def _sector_files(folder: Path, subject: str, ending: str) -> dict[str, Path]:
    return files_by_sector(list(folder.iterdir()), subject, ending)


def _check_response_files(
    findings: Findings,
    subjects: Sequence[str],
    stimuli: StimulusSet | None,
    own: Mapping[str, Any],
    used: set[Path],
) -> None:
    """Responses and masks of all subjects, one after the other."""
    masks: dict[str, dict[str, Path]] = {}
    for subject in subjects:
        func = findings.folder / f"sub-{subject}" / "func"
        if not func.is_dir():
            findings.error(func, "must exist, with *_desc-betas_stat.nii in it.")
            continue
        found = findings.attempt(
            func, _sector_files, func, subject, r"mask\.nii(?:\.gz)?"
        )
        if found is None:
            used.update(func.iterdir())
        else:
            masks[subject] = found
    names = _check_sectors(findings, masks, own, "func", "mask.nii")
    placed = own.get("HasCoordinates", True) is not False
    if not placed:
        path = findings.folder / _DESCRIPTION
        findings.attempt(path, check_space, own.get("Space", "none"))
    facts = []
    for subject, found in masks.items():
        func = findings.folder / f"sub-{subject}" / "func"
        chosen = {name: found[name] for name in names if name in found}
        used.update(found.values())
        used.update(func.glob(f"sub-{subject}_*desc-betas*"))
        one = check_responses(findings, func, chosen, stimuli, placed=placed)
        if one is not None:
            facts.append(one)
    if facts:
        compare_subjects(findings, facts)


def _check_rdm_files(
    findings: Findings,
    subjects: Sequence[str],
    stimuli: StimulusSet | None,
    own: Mapping[str, Any],
    used: set[Path],
) -> None:
    """RDM tables of all subjects."""
    tables: dict[str, dict[str, Path]] = {}
    for subject in subjects:
        folder = findings.folder / f"sub-{subject}"
        found = findings.attempt(folder, _sector_files, folder, subject, r"rdm\.tsv")
        if found is not None:
            tables[subject] = found
    names = _check_sectors(findings, tables, own, "", "rdm.tsv")
    path = findings.folder / _DESCRIPTION
    findings.attempt(path, check_space, own.get("Space", "none"))
    pairs = None if stimuli is None else list(combinations(stimuli.names, 2))
    facts = []
    for subject, found in tables.items():
        chosen = {name: found[name] for name in names if name in found}
        used.update(found.values())
        folder = findings.folder / f"sub-{subject}"
        facts.append(check_rdms(findings, folder, chosen, pairs))
    compare_subjects(findings, facts)


def _check_sectors(
    findings: Findings,
    files: Mapping[str, Mapping[str, Path]],
    own: Mapping[str, Any],
    below: str,
    ending: str,
) -> list[str]:
    """Names of the sectors, which every subject must have."""
    listed = own.get("Sectors")
    names = dict.fromkeys(
        [name for found in files.values() for name in found]
        if listed is None
        else listed
    )
    if not names and files:
        findings.error(
            findings.folder,
            "must have at least one sector; there is no "
            f"sub-{next(iter(files))}_desc-<Sector>_{ending}.",
        )
    for subject, found in files.items():
        folder = findings.folder / f"sub-{subject}" / below
        for name in names:
            if name not in found:
                findings.error(
                    folder / f"sub-{subject}_desc-{name}_{ending}",
                    "must exist; every subject must have every sector.",
                )
        for name, path in found.items():
            if name not in names:
                findings.warning(
                    path,
                    f"is left out, because Sectors in {_DESCRIPTION} does not name it.",
                )
    return list(names)


# ---- files that nobody reads ----------------------------------------------------


def _check_unread(findings: Findings, used: set[Path]) -> None:
    """Files and folders that no reader opens: a misspelt name looks like that."""
    folder = findings.folder
    noted = [folder / one.file for one in findings.found]
    inside = {path for file in used for path in file.parents}
    known = {*used, *inside, *(path for one in noted for path in (one, *one.parents))}
    stems = {file.parent / file.name.partition(".nii")[0] for file in used}
    for place, folders, files in os.walk(folder):
        here = Path(place)
        left = [name for name in sorted(folders) if _is_unread(here / name, known)]
        folders[:] = sorted(name for name in folders if here / name in inside)
        for name in left:
            if here != folder or name not in _FOLDERS_FOR_PEOPLE:
                findings.warning(
                    here / name,
                    "is not read by anybody. If it is meant to be, correct its name.",
                )
        left = [
            name
            for name in sorted(files)
            if _is_unread(here / name, known)
            and not (here == folder and _FOR_PEOPLE.fullmatch(name))
            and not _MAPS.fullmatch(name)
            and here / name.removesuffix(".json") not in stems
        ]
        if left:
            findings.warning(
                here,
                f"has files that nobody reads: {listing(left)}. If one of them is "
                "meant to be read, correct its name.",
            )


def _is_unread(path: Path, known: set[Path]) -> bool:
    return path not in known and not path.name.startswith(".")
