"""Check a dataset folder: what the reader refuses, and what only looks wrong."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from versa.cache import file_hash
from versa.fmri.dataset.braindata import bad_columns
from versa.fmri.dataset.folder import (
    Contents,
    check_hashes,
    check_oddities,
    each_rdms,
    each_responses,
    read_contents,
)
from versa.fmri.dataset.problems import LEVELS, Problem, Problems
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.subject_files import SubjectResponses, sidecar_path
from versa.fmri.dataset.tables import DESCRIPTION, LABEL, read_json, subject_labels
from versa.fmri.volumes.grids import orientation, same_grid
from versa.stats.splits import split_halves
from versa.wording import listing

_FEW_SUBJECTS = 4
_FEW_VOXELS = 50
_ROUNDING = 8 * np.finfo(float).eps
_ARCHIVES = (".mat", ".vtc", ".vmp", ".msk", ".voi", ".vmr", ".h5", ".npy", ".npz")
_FOR_PEOPLE = re.compile(
    r"(README|CHANGES|LICEN[CS]E|CITATION)(\..*)?|(participants|stimuli)\.json"
)
_FOLDERS_FOR_PEOPLE = ("code", "figures", "sourcedata")
_MAPS = re.compile(
    rf"sub-{LABEL}_desc-((odd|even)betas_stat|(active|reliability)_statmap)"
    r"\.(nii|nii\.gz|json)"
)  # what versa.fmri.study keeps beside the responses


class _Facts(NamedTuple):
    """What is kept of one subject, to be compared with the others."""

    file: Path  # that problems of the subject are noted for
    content: dict[str, str]  # per sector a hash of its values
    file_hash: str = ""
    space: str | None = None
    affine: np.ndarray | None = None  # of the responses
    shape: tuple[int, ...] | None = None


def check_dataset(folder: str | os.PathLike[str]) -> list[Problem]:
    """Check every file of a dataset folder, and go on after the first problem.

    What :func:`read_dataset` refuses is an error. What it reads but looks wrong is a
    warning: sectors that overlap, copies of images, volumes or subjects, z-scored
    responses, few voxels, files that are not read.

    Parameters
    ----------
    folder : path-like
        A folder as :func:`versa.write_dataset` makes it, or one made by hand.

    Returns
    -------
    problems : list
        Items with ``file``, ``level`` ("error" or "warning") and ``text``; empty if
        nothing is wrong. Without an error, :func:`versa.read_dataset` reads the folder;
        what it refuses has at least one. A folder that is something else, such as raw
        BIDS or the output of fMRIPrep, has one error that says so.

    Notes
    -----
    Responses are read one subject at a time.

    Examples
    --------
    >>> import tempfile
    >>> for problem in check_dataset(tempfile.mkdtemp()):
    ...     print(problem)
    error: .: is empty; it should hold a dataset.
    """
    folder = Path(folder)
    found: list[Problem] = []
    problems = Problems(folder, found)
    other = _other_kind(folder) if folder.is_dir() else "must be a folder that exists."
    if other:
        problems.error(folder, other)
        return found
    contents = read_contents(folder, problems)
    _check_about(contents, problems)
    _check_images(contents, problems)
    check = _check_rdms if contents.has_rdms else _check_responses
    facts = check(contents, problems)
    check_hashes(contents, problems)
    placed = [one for one in facts if one.affine is not None]
    for row, one in enumerate(facts):
        for text in (_copied(one, facts[:row]), _other_grid(one, placed)):
            if text:
                problems.warning(one.file, text)
    _check_unread(contents, problems)
    first = {one.file: row for row, one in reversed(list(enumerate(found)))}
    return sorted(found, key=lambda one: (first[one.file], LEVELS.index(one.level)))


# ---- what kind of folder it is --------------------------------------------------


def _other_kind(folder: Path) -> str:
    """What a folder is that is no dataset folder; empty if it is, or tries to be."""
    if (folder / "stimuli.tsv").exists():
        return ""
    whole = folder.resolve().parent
    if folder.resolve().name.startswith("sub-") and (whole / "stimuli.tsv").exists():
        return f"is one subject of a dataset; check the dataset, {whole}."
    about = _json_or_nothing(folder / DESCRIPTION)
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
    if about or subject_labels(folder) or (folder / "participants.tsv").exists():
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
        f"is not a dataset folder: it has no {DESCRIPTION}, participants.tsv or "
        f"stimuli.tsv, but {listing(sorted(names))}."
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


# ---- description, subjects and images -------------------------------------------


def _check_about(contents: Contents, problems: Problems) -> None:
    """Licence and number of subjects."""
    path = contents.folder / DESCRIPTION
    if contents.about and not str(contents.about.get("License", "")).strip():
        problems.warning(
            path, "has no License, so it is unclear whether the data may be used."
        )
    path = contents.folder / "participants.tsv"
    n_subjects = len(contents.subjects)
    if "participants.tsv" in [one.file for one in problems.found or ()]:
        return
    if n_subjects == 1:
        problems.warning(
            path,
            "has one subject, who cannot be split into halves: there will be no noise "
            "ceiling, and no interval or test over subjects.",
        )
    elif 1 < n_subjects < _FEW_SUBJECTS:
        n_splits = split_halves(n_subjects).n_splits
        word = "half-split" if n_splits == 1 else "half-splits"
        problems.warning(
            path,
            f"has {n_subjects} subjects, which give {n_splits} {word}: scores will "
            "have wide intervals or none.",
        )


def _check_images(contents: Contents, problems: Problems) -> None:
    """Images that cannot be decoded, differ in kind, or are there twice."""
    if contents.images is None or contents.stimuli is None:
        return
    looks: dict[str, tuple[str, tuple[int, int]]] = {}
    by_content = defaultdict(list)
    for name, file, digest in zip(
        contents.images.names,
        contents.images.files,
        contents.stimuli.hashes,
        strict=True,
    ):
        if file.is_file():
            by_content[digest].append(name)
            look = problems.attempt(file, _look, file)
            if look is not None:
                looks[name] = look
    _check_looks(problems, looks)
    check_oddities(contents, problems)
    for names in by_content.values():
        if len(names) > 1:
            problems.warning(
                contents.folder / "stimuli.tsv",
                f"has one image under {len(names)} names: {listing(names)}.",
            )


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
    problems: Problems, looks: Mapping[str, tuple[str, tuple[int, int]]]
) -> None:
    """Images that versa.fit refuses unless it is told to convert them."""
    folder = problems.folder / "stimuli"
    other = [f"{name} ({mode})" for name, (mode, _) in looks.items() if mode != "RGB"]
    if other:
        problems.warning(
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
        problems.warning(
            folder,
            f"has images of {len(sizes)} sizes: {listing(parts)}. They are refused "
            "unless convert_images=True.",
        )


# ---- the files of the subjects ----------------------------------------------------


def _check_responses(contents: Contents, problems: Problems) -> list[_Facts]:
    """Sidecars, masks and values of all subjects, one after the other."""
    facts = []
    for subject, one in each_responses(contents, problems):
        path = sidecar_path(one.betas)
        if one.sidecar is not None and "Units" not in one.sidecar:
            problems.warning(
                path, "has no Units, so they are taken to be a.u.; write what they are."
            )
        if contents.has_coordinates and one.space == "none":
            problems.warning(
                path,
                "says nothing about the space of the voxels (Space), so sectors cannot "
                "be put on a brain or be cut by coordinates. Write TAL, MNI152... or "
                "individual.",
            )
        _check_overlap(problems, one)
        for name, values in one.responses.items():
            if values.shape[1] < _FEW_VOXELS:
                problems.warning(
                    contents.files[subject][name],
                    f"has {values.shape[1]} voxels; an RDM of fewer than {_FEW_VOXELS} "
                    "is noisy.",
                )
            _check_values(problems, one.betas, name, values, contents.stimuli)
        facts.append(
            _Facts(
                one.betas,
                {name: _hash(values) for name, values in one.responses.items()},
                problems.attempt(one.betas, file_hash, one.betas) or "",
                one.space,
                one.affine,
                one.shape,
            )
        )
    return facts


def _check_rdms(contents: Contents, problems: Problems) -> list[_Facts]:
    """Values of the RDMs of all subjects."""
    facts = []
    for subject, rdms in each_rdms(contents, problems):
        for name, rdm in rdms.items():
            path = contents.files[subject][name]
            if np.ptp(rdm) <= _ROUNDING * np.abs(rdm).max():
                problems.warning(
                    path, "has one dissimilarity for all pairs; it has no correlation."
                )
            n_negative = int(np.count_nonzero(rdm < 0))
            if n_negative:
                problems.warning(
                    path,
                    f"has {n_negative} of {rdm.size} dissimilarities below 0. Cross-"
                    "validated distances may be; use distances, not similarities.",
                )
        hashes = {name: _hash(rdm) for name, rdm in rdms.items()}
        facts.append(_Facts(contents.subject_folder(subject), hashes))
    return facts


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _check_overlap(problems: Problems, one: SubjectResponses) -> None:
    """Sectors that share voxels, by counting once how often each voxel is used."""
    if len(one.sectors) < 2:
        return
    places = {name: np.flatnonzero(part.mask) for name, part in one.sectors.items()}
    voxels, counts = np.unique(np.concatenate([*places.values()]), return_counts=True)
    shared = voxels[counts > 1]
    if not shared.size:
        return
    # (n_sectors, n_shared); products of rows count what two sectors share
    inside = np.stack([np.isin(shared, part) for part in places.values()])
    common = inside.astype(np.float64) @ inside.T.astype(np.float64)
    names = list(places)
    found = [
        f"{names[i]} and {names[j]} ({int(common[i, j])})"
        for i, j in np.argwhere(np.triu(common, k=1) > 0)
    ]
    problems.warning(
        one.betas.parent,
        f"has sectors that share voxels: {listing(found)}. If they are meant to be "
        "apart, correct the masks.",
    )


def _check_values(
    problems: Problems,
    betas: Path,
    sector: str,
    values: np.ndarray,
    stimuli: StimulusSet | None,
) -> None:
    """NaN, constant and standardised voxels, and images of one response."""
    broken, constant = bad_columns(values)
    n_broken, n_constant = int(broken.sum()), int(constant.sum())
    if n_broken or n_constant:
        problems.warning(
            betas,
            f"has {n_broken} voxels with NaN or infinity and {n_constant} constant "
            f"ones among the {broken.size} of {sector}. They are refused unless "
            "drop_bad_voxels=True.",
        )
    if broken.all() or constant.all():
        return
    seen: dict[str, int] = {}
    firsts = [seen.setdefault(_hash(row), n) for n, row in enumerate(values)]
    again = next((n for n, first in enumerate(firsts) if n != first), None)
    # rounded values of a single voxel may well be equal
    if again is not None and broken.size > 1:
        one, two = (
            f"volume {n + 1}" if stimuli is None else repr(stimuli.names[n])
            for n in (firsts[again], again)
        )
        problems.warning(
            betas,
            f"has the same response to {one} and {two} in every voxel of {sector}; was "
            "a volume copied?",
        )
    clean = values[:, ~(broken | constant)]
    if clean.size and _is_standardised(clean):
        problems.warning(
            betas,
            f"looks z-scored: every voxel of {sector} has mean 0 and standard "
            "deviation 1 over the images. That changes RDMs; use the betas as the GLM "
            "gives them.",
        )


def _is_standardised(part: np.ndarray) -> bool:
    """Whether columns have mean 0 and standard deviation 1."""
    if len(part) < 3:
        return False
    spread = [part.std(axis=0, ddof=ddof) for ddof in (0, 1)]
    return bool(np.abs(part.mean(axis=0)).max() < 1e-3) and any(
        bool(np.abs(one - 1).max() < 1e-3) for one in spread
    )


# ---- subjects side by side --------------------------------------------------------


def _copied(one: _Facts, before: Sequence[_Facts]) -> str:
    """Whose responses or RDMs these are; empty if nobody else's."""
    for other in before:
        name = f"{other.file.name}, of another subject"
        if one.file_hash and one.file_hash == other.file_hash:
            return f"is byte for byte {name}; was it copied?"
        same = [
            key for key in one.content if other.content.get(key) == one.content[key]
        ]
        if same:
            return f"has the very values of {name}, in {listing(same)}; was it copied?"
    return ""


def _other_grid(one: _Facts, placed: Sequence[_Facts]) -> str:
    """How orientation, voxel size or grid differ from those of the first subject."""
    if one.affine is None or one is placed[0]:
        return ""
    first, affine = placed[0], placed[0].affine
    if affine is None or min(map(np.linalg.matrix_rank, (one.affine, affine))) < 4:
        return ""  # an error already
    codes = [orientation(part) for part in (one.affine, affine)]
    sizes = [abs(np.linalg.det(part)) for part in (one.affine, affine)]
    if codes[0] != codes[1]:
        return (
            f"has the orientation {codes[0]}, and {first.file.name} has {codes[1]}; "
            "were left and right, or other axes, flipped on the way?"
        )
    if not np.isclose(sizes[0], sizes[1], rtol=1e-3):
        return (
            f"has voxels of {sizes[0]:.3g} mm3, and {first.file.name} has "
            f"{sizes[1]:.3g}."
        )
    shared = one.space == first.space and one.space not in (None, "individual", "none")
    if shared and not same_grid(one.shape or (), one.affine, first.shape or (), affine):
        return (
            f"is on another grid than {first.file.name}, although both are in "
            f"{one.space}."
        )
    return ""


# ---- files that are not read ----------------------------------------------------


def _check_unread(contents: Contents, problems: Problems) -> None:
    """Files and folders that no reader opens: a misspelt name looks like that."""
    folder, used = contents.folder, _read_files(contents)
    noted = [folder / one.file for one in problems.found or ()]
    inside = {path for file in used for path in file.parents}
    known = {*used, *inside, *(path for one in noted for path in (one, *one.parents))}
    stems = {file.parent / file.name.partition(".nii")[0] for file in used}
    for place, folders, files in os.walk(folder):
        here = Path(place)
        left = [name for name in sorted(folders) if _is_unread(here / name, known)]
        folders[:] = sorted(name for name in folders if here / name in inside)
        for name in left:
            if here != folder or name not in _FOLDERS_FOR_PEOPLE:
                problems.warning(
                    here / name,
                    "is not read. If it is meant to be, correct its name.",
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
            problems.warning(
                here,
                f"has files that are not read: {listing(left)}. If one of them is "
                "meant to be read, correct its name.",
            )


def _is_unread(path: Path, known: set[Path]) -> bool:
    return path not in known and not path.name.startswith(".")


def _read_files(contents: Contents) -> set[Path]:
    """The files that the reader opens, or would open if others were right."""
    folder = contents.folder
    used = {folder / name for name in (DESCRIPTION, "stimuli.tsv", "participants.tsv")}
    images = contents.images
    used.update((folder / "stimuli").rglob("*") if images is None else images.files)
    for subject in contents.subjects:
        files, place = contents.files.get(subject), contents.subject_folder(subject)
        if files is not None:
            used.update(files.values())
            used.update(place.glob(f"sub-{subject}_*desc-betas*"))
        elif place.is_dir():
            used.update(place.iterdir())
    return used
