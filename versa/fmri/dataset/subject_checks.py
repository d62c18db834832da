"""Checks of the subjects' files in a dataset folder, one subject at a time."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from versa.cache import file_hash
from versa.fmri.dataset.problems import Findings
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.subject_files import (
    betas_path,
    check_conditions,
    exact_affine,
    read_mask_like,
    read_rdm,
    read_space,
    read_volumes,
    sidecar_path,
)
from versa.fmri.dataset.tables import read_json
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.nifti import check_stated_space, read_image, take_voxels
from versa.wording import listing

__all__ = ["SubjectFacts", "check_rdms", "check_responses", "compare_subjects"]

_FEW_VOXELS = 50
_ROUNDING = 8 * np.finfo(float).eps


@dataclass(frozen=True)
class SubjectFacts:
    """What is kept of one subject, to be compared with the others.

    Parameters
    ----------
    file : Path
        The file that findings about the subject are noted for.
    unit, space : str or None
        Of the responses; None if they could not be read.
    affine : ndarray of shape (4, 4) or None
        Of the responses.
    shape : tuple of int or None
        Their grid.
    file_hash : str
        SHA-256 of the file; empty if it could not be read.
    content : dict of str to str
        Per sector a hash of its values.
    """

    file: Path
    unit: str | None = None
    space: str | None = None
    affine: np.ndarray | None = None
    shape: tuple[int, ...] | None = None
    file_hash: str = ""
    content: dict[str, str] = field(default_factory=dict)


def check_responses(
    findings: Findings,
    func: Path,
    masks: Mapping[str, Path],
    stimuli: StimulusSet | None,
    *,
    placed: bool = True,
) -> SubjectFacts | None:
    """Check one subject's responses, their sidecar and the masks.

    Parameters
    ----------
    findings : Findings
        Where to note what is found.
    func : Path
        The folder with the files.
    masks : mapping of str to Path
        Mask of each sector.
    stimuli : StimulusSet or None
        The images; None if they are not known.
    placed : bool, default=True
        Whether the voxels have a place in the head.

    Returns
    -------
    facts : SubjectFacts or None
        None if there are no responses.
    """
    betas = findings.attempt(func, betas_path, func)
    if betas is None:
        return None
    path = sidecar_path(betas)
    sidecar = findings.attempt(path, read_json, path)
    space = None
    if sidecar is not None:
        space = _check_sidecar(findings, sidecar, path, betas, stimuli)
        if placed and space == "none":
            findings.warning(
                path,
                "says nothing about the space of the voxels (Space), so sectors cannot "
                "be put on a brain or be cut by coordinates. Write TAL, MNI152... or "
                "individual.",
            )
    read = findings.attempt(betas, _read_betas, betas, stimuli, sidecar)
    if read is None:
        return SubjectFacts(betas, _unit(sidecar), space)
    findings.attempt(betas, check_stated_space, betas, space or "none")
    volumes, affine = read
    exact = affine
    if sidecar is not None:
        found = findings.attempt(path, exact_affine, sidecar, path, affine)
        exact = affine if found is None else found
    values = {}
    places = {}
    grid = volumes.shape[:3]
    for name, file in masks.items():
        mask = findings.attempt(file, read_mask_like, file, grid, affine, betas.name)
        if mask is None:
            continue
        sector = findings.attempt(betas, Sector, name, mask, exact, space or "none")
        if sector is None:
            break  # the affine is that of all sectors
        values[name] = take_voxels(volumes, mask)
        places[name] = np.flatnonzero(mask)
        _check_few(findings, file, places[name].size)
    _check_overlap(findings, func, places)
    _check_values(findings, betas, values, stimuli)
    return SubjectFacts(
        betas,
        _unit(sidecar),
        space,
        exact,
        tuple(grid),
        findings.attempt(betas, file_hash, betas) or "",
        {name: _hash(part) for name, part in values.items()},
    )


def check_rdms(
    findings: Findings,
    folder: Path,
    tables: Mapping[str, Path],
    pairs: Sequence[tuple[str, str]] | None,
) -> SubjectFacts:
    """Check one subject's RDM tables.

    Parameters
    ----------
    findings : Findings
        Where to note what is found.
    folder : Path
        The subject's folder.
    tables : mapping of str to Path
        Table of each sector.
    pairs : sequence of (str, str) or None
        The pairs of images, in their order; None if they are not known.

    Returns
    -------
    facts : SubjectFacts
        With a hash of the RDM of each sector.
    """
    content = {}
    for name, path in tables.items():
        if pairs is None:
            continue
        values = findings.attempt(path, read_rdm, path, pairs)
        if values is None:
            continue
        rdm = np.array(values)
        n_bad = int(np.count_nonzero(~np.isfinite(rdm)))
        if n_bad:
            findings.error(
                path,
                f"must hold finite dissimilarities; {n_bad} of {rdm.size} pairs are "
                "NaN or infinite.",
            )
            continue
        if np.ptp(rdm) <= _ROUNDING * np.abs(rdm).max():
            findings.warning(
                path, "has one dissimilarity for all pairs; it has no correlation."
            )
        n_negative = int(np.count_nonzero(rdm < 0))
        if n_negative:
            findings.warning(
                path,
                f"has {n_negative} of {rdm.size} dissimilarities below 0. Cross-"
                "validated distances may be; similarities are not meant.",
            )
        content[name] = _hash(rdm)
    return SubjectFacts(folder, content=content)


def compare_subjects(findings: Findings, facts: Sequence[SubjectFacts]) -> None:
    """Check that subjects fit together, and that none is a copy of another.

    Parameters
    ----------
    findings : Findings
        Where to note what is found.
    facts : sequence of SubjectFacts
        One per subject, in the order of the subjects.
    """
    for one in facts[1:]:
        for what in ("unit", "space"):
            value, first = getattr(one, what), getattr(facts[0], what)
            if None not in (value, first) and value != first:
                findings.error(
                    one.file,
                    f"must have the {what} of {facts[0].file.name}, {first!r}; got "
                    f"{value!r}.",
                )
    for row, one in enumerate(facts):
        _check_copy(findings, one, facts[:row])
    placed = [one for one in facts if one.affine is not None]
    for one in placed[1:]:
        _check_grid(findings, one, placed[0])


def _check_sidecar(
    findings: Findings,
    sidecar: Mapping[str, Any],
    path: Path,
    betas: Path,
    stimuli: StimulusSet | None,
) -> str | None:
    """Conditions, space and unit of the responses; the space if it is a known one."""
    if stimuli is not None:
        findings.attempt(path, check_conditions, sidecar, path, betas, stimuli)
    if "Units" not in sidecar:
        findings.warning(
            path, "has no Units, so they are taken to be a.u.; write what they are."
        )
    return findings.attempt(path, read_space, betas, sidecar, path)


def _read_betas(
    betas: Path, stimuli: StimulusSet | None, sidecar: Mapping[str, Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Responses with as many volumes as there are images, as far as anybody says."""
    conditions = (sidecar or {}).get("Conditions")
    if stimuli is not None:
        return read_volumes(betas, len(stimuli))
    if isinstance(conditions, list):
        return read_volumes(betas, len(conditions))
    return read_volumes(betas, max(read_image(betas)[0].shape[3:], default=1))


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _unit(sidecar: Mapping[str, Any] | None) -> str | None:
    return None if sidecar is None else str(sidecar.get("Units", "a.u."))


def _check_few(findings: Findings, file: Path, n_voxels: int) -> None:
    if n_voxels < _FEW_VOXELS:
        findings.warning(
            file,
            f"has {n_voxels} voxels; an RDM of fewer than {_FEW_VOXELS} is noisy.",
        )


def _check_overlap(
    findings: Findings, func: Path, places: Mapping[str, np.ndarray]
) -> None:
    """Sectors that share voxels, by counting once how often each voxel is used."""
    if len(places) < 2:
        return
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
    findings.warning(
        func,
        f"has sectors that share voxels: {listing(found)}. If they are meant to be "
        "apart, correct the masks.",
    )


def _check_values(
    findings: Findings,
    betas: Path,
    values: Mapping[str, np.ndarray],
    stimuli: StimulusSet | None,
) -> None:
    """NaN, constant and standardised voxels, and images of one response."""
    for name, part in values.items():
        broken = ~np.isfinite(part).all(axis=0)
        constant = (part == part[0]).all(axis=0) & ~broken
        n_broken, n_constant = int(broken.sum()), int(constant.sum())
        if n_broken or n_constant:
            findings.warning(
                betas,
                f"has {n_broken} voxels with NaN or infinity and {n_constant} constant "
                f"ones among the {part.shape[1]} of {name}. They are refused unless "
                "drop_bad_voxels=True.",
            )
        if broken.all() or constant.all():
            continue
        _check_same_rows(findings, betas, name, part, stimuli)
        clean = part[:, ~(broken | constant)]
        if clean.size and _is_standardised(clean):
            findings.warning(
                betas,
                f"looks z-scored: every voxel of {name} has mean 0 and standard "
                "deviation 1 over the images. That changes RDMs; betas as the GLM "
                "gives them are wanted.",
            )


def _check_same_rows(
    findings: Findings,
    betas: Path,
    name: str,
    part: np.ndarray,
    stimuli: StimulusSet | None,
) -> None:
    """Images with the same response in every voxel of a sector."""
    if part.shape[1] < 2:
        return  # rounded values of a single voxel may well be equal
    seen: dict[str, int] = {}
    for row, response in enumerate(part):
        first = seen.setdefault(_hash(response), row)
        if first != row:
            one, two = (
                (f"volume {first + 1}", f"volume {row + 1}")
                if stimuli is None
                else (repr(stimuli.names[first]), repr(stimuli.names[row]))
            )
            findings.warning(
                betas,
                f"has the same response to {one} and {two} in every voxel of {name}; "
                "was a volume copied?",
            )
            return


def _is_standardised(part: np.ndarray) -> bool:
    """Whether columns have mean 0 and standard deviation 1."""
    if len(part) < 3:
        return False
    spread = [part.std(axis=0, ddof=ddof) for ddof in (0, 1)]
    return bool(np.abs(part.mean(axis=0)).max() < 1e-3) and any(
        bool(np.abs(one - 1).max() < 1e-3) for one in spread
    )


def _check_copy(
    findings: Findings, one: SubjectFacts, before: Sequence[SubjectFacts]
) -> None:
    """Responses or RDMs that are those of another subject."""
    for other in before:
        if one.file_hash and one.file_hash == other.file_hash:
            findings.warning(
                one.file,
                f"is byte for byte {other.file.name}, of another subject; was it "
                "copied?",
            )
            return
        same = [
            name for name, key in one.content.items() if other.content.get(name) == key
        ]
        if same:
            findings.warning(
                one.file,
                f"has the very values of {other.file.name}, of another subject, in "
                f"{listing(same)}; was it copied?",
            )
            return


def _check_grid(findings: Findings, one: SubjectFacts, first: SubjectFacts) -> None:
    """Orientation and voxel size that differ between subjects, or a whole grid."""
    from nibabel.orientations import aff2axcodes

    if one.affine is None or first.affine is None:
        return
    if np.linalg.matrix_rank(one.affine) < 4 or np.linalg.matrix_rank(first.affine) < 4:
        return  # an error already
    codes = ["".join(map(str, aff2axcodes(part.affine))) for part in (one, first)]
    sizes = [abs(np.linalg.det(affine)) for affine in (one.affine, first.affine)]
    if codes[0] != codes[1]:
        findings.warning(
            one.file,
            f"has the orientation {codes[0]}, and {first.file.name} has {codes[1]}; "
            "were left and right, or other axes, flipped on the way?",
        )
    elif not np.isclose(sizes[0], sizes[1], rtol=1e-3):
        findings.warning(
            one.file,
            f"has voxels of {sizes[0]:.3g} mm3, and {first.file.name} has "
            f"{sizes[1]:.3g}.",
        )
    elif one.space == first.space and one.space not in (None, "individual", "none"):
        same = np.allclose(one.affine, first.affine, rtol=0, atol=1e-3)
        if one.shape != first.shape or not same:
            findings.warning(
                one.file,
                f"lies on another grid than {first.file.name}, although both are in "
                f"{one.space}.",
            )
