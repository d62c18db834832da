"""A dataset folder that grows: betas of every subject, then images, then sectors.

The folder is that of :mod:`versa.fmri.bids`; beside the responses it keeps, for each
subject, the betas of odd and even runs, the activity and reliability of every voxel.
One subject is in memory at a time, and a subject's files appear whole or not at all, so
that an interrupted run goes on where it stopped.
"""

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.cache import atomic_write
from versa.fmri.betas import ConditionBetas, fit_betas
from versa.fmri.glm import GLMSettings
from versa.fmri.grids import same_grid
from versa.fmri.reliability import rdm_reliability
from versa.fmri.runs import find_runs, find_subjects
from versa.fmri.sector import Sector
from versa.fmri.sidecars import write_json, write_table
from versa.fmri.stimuli import StimulusSet
from versa.fmri.study_files import (
    read_betas,
    read_conditions,
    read_subject_grid,
    read_subject_map,
    write_betas,
)
from versa.fmri.subject_files import betas_path
from versa.fmri.top_files import FORMAT, read_description, read_participants
from versa.fmri.volumes import read_image, write_image
from versa.wording import listing

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "add_images",
    "add_sectors",
    "estimate_betas",
    "reliability_table",
    "write_study",
]

logger = logging.getLogger("versa")


def estimate_betas(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    subjects: Sequence[str] | None = None,
    derivatives: str | os.PathLike[str] | None = None,
    filters: Mapping[str, str] | None = None,
    confounds: str | Sequence[str] | None = None,
    condition_column: str = "trial_type",
    settings: GLMSettings | None = None,
    mask: str | None = None,
    space: str | None = None,
    resample: str | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Path:
    """Estimate the betas of every subject of a BIDS folder, and begin a dataset folder.

    Parameters
    ----------
    source : path-like
        The BIDS folder with the events, and, without `derivatives`, with the images.
    folder : path-like
        The dataset folder. What an interrupted run with the same options left there is
        kept.
    subjects : sequence of str, optional
        Labels without ``sub-``; by default all of `source`.
    derivatives, filters, confounds, condition_column
        As of :func:`~versa.fmri.runs.find_runs`.
    settings : GLMSettings, optional
        As of :func:`~versa.fmri.betas.fit_betas`.
    mask : str, optional
        Path of the mask of voxels, with ``{subject}`` for the label. By default as of
        `fit_betas`.
    space : str, optional
        Space of the images. By default what names or headers say, and "individual" for
        images of a raw BIDS folder.
    resample : {"nearest"}, optional
        Bring masks that lie on another grid onto that of the runs.
    name : str, optional
        Name of the dataset; by default that of the folder.
    progress : bool, default=True
        Whether to show a bar on a terminal.

    Returns
    -------
    folder : Path
        The dataset folder.

    Raises
    ------
    ValueError
        If the folder was begun with other options, subjects have different conditions,
        or a file is not right.
    """
    from tqdm import tqdm

    source, folder = Path(source), Path(folder)
    settings = settings or GLMSettings()
    labels = list(subjects) if subjects is not None else find_subjects(source)
    recipe = {
        "Source": source.name,
        "Derivatives": None if derivatives is None else Path(derivatives).name,
        "Filters": dict(filters or {}),
        "Confounds": confounds if isinstance(confounds, str | None) else [*confounds],
        "ConditionColumn": condition_column,
        "GLM": {**asdict(settings), "left_out": [*settings.left_out],
                "nuisance": [*settings.nuisance]},
        "Mask": mask,
    }  # fmt: skip
    _begin(folder, name or folder.resolve().name, recipe)
    done = [label for label in labels if (folder / f"sub-{label}").is_dir()]
    if done:
        logger.info("%s: betas of %s are there already.", folder, listing(done))
    conditions = read_conditions(folder, done[0]) if done else ()
    bar = tqdm(labels, unit="subject", disable=not (progress and sys.stderr.isatty()))
    for label in bar:
        if label in done:
            continue
        runs = find_runs(
            source,
            label,
            derivatives=derivatives,
            filters=filters,
            confounds=confounds,
            condition_column=condition_column,
        )
        betas = fit_betas(
            runs,
            label,
            settings=settings,
            mask=None if mask is None else mask.format(subject=label),
            space=_space(space, runs[0].bold, raw=derivatives is None),
            resample=resample,
        )
        conditions = conditions or betas.conditions
        _check_conditions(betas, conditions)
        write_betas(betas.in_order(conditions), folder)
        done.append(label)
        _write_participants(folder, [label for label in labels if label in done])
    return folder


def write_study(
    betas: Iterable[ConditionBetas],
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    licence: str = "",
    citation: str = "",
) -> Path:
    """Begin a dataset folder with betas that were made elsewhere.

    Parameters
    ----------
    betas : iterable of ConditionBetas
        One per subject; of a generator one subject is in memory at a time. All must
        have the conditions of the first, which are put in its order.
    folder : path-like
        A folder that does not exist yet, or is empty.
    name : str, optional
        Name of the dataset; by default that of the folder.
    licence, citation : str, default=""
        What others need to know to use the data.

    Returns
    -------
    folder : Path
        The dataset folder; what was written before an error is kept.

    Raises
    ------
    ValueError
        If the folder is in use, or subjects have different conditions.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} must be new or empty; it is not. Choose another.")
    _begin(folder, name or folder.resolve().name, None, licence, citation)
    done: list[str] = []
    conditions: tuple[str, ...] = ()
    for one in betas:
        conditions = conditions or one.conditions
        _check_conditions(one, conditions)
        write_betas(one.in_order(conditions), folder)
        done.append(one.subject)
        _write_participants(folder, done)
    if not done:
        raise ValueError("betas must be those of at least one subject; got none.")
    return folder


def add_images(
    folder: str | os.PathLike[str], images: str | os.PathLike[str]
) -> StimulusSet:
    """Add the images to a dataset folder: one per condition, matched by name.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas.
    images : path-like
        Folder of image files; each is called like its condition, with or without the
        ending in the name of the condition.

    Returns
    -------
    stimuli : StimulusSet
        In the order of the conditions, which is that of the responses.

    Raises
    ------
    ValueError
        If a condition has no image, or two; or the folder has its images already.
    """
    from versa.fmri.bids import write_stimuli

    folder = Path(folder)
    if any((folder / name).exists() for name in ("stimuli.tsv", "stimuli")):
        raise ValueError(
            f"{folder} must not have images yet; remove stimuli.tsv and the folder "
            "stimuli to add others."
        )
    subjects = read_participants(folder)
    conditions = read_conditions(folder, subjects[0])
    found = StimulusSet.from_folder(images)
    by_name: dict[str, list[Path]] = {}
    for name, path in zip(found.names, found.paths, strict=True):
        for key in {name, path.name}:
            by_name.setdefault(key, []).append(path)
    missing = [name for name in conditions if name not in by_name]
    if missing:
        raise ValueError(
            f"{images} must have an image called like each condition; there is none "
            f"for {listing(map(repr, missing))} among {listing(found.names)}. "
            "Conditions that are no images can be left out of the betas, or modelled "
            "as nuisance."
        )
    stimuli = StimulusSet.from_paths(
        [by_name[name][0] for name in conditions], conditions
    )
    if len(set(stimuli.paths)) < len(stimuli):
        raise ValueError(f"{images} must have an image of its own for each condition.")
    with atomic_write(folder / "stimuli") as temporary:
        write_stimuli(stimuli, temporary.parent)
        os.replace(temporary.parent / "stimuli.tsv", folder / "stimuli.tsv")
    unused = [path for path in found.paths if path not in stimuli.paths]
    if unused:
        names = listing(path.stem for path in unused)
        logger.info("images of %s that are no conditions are not used: %s.",
                    images, names)  # fmt: skip
    return stimuli


def add_sectors(
    folder: str | os.PathLike[str], sectors: Mapping[str, Mapping[str, Sector]]
) -> None:
    """Add sectors to a dataset folder, or put new ones in the place of old ones.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas.
    sectors : mapping of str to mapping of str to Sector
        For each subject its sectors by name, on the grid of its betas. Voxels that
        have no betas are left out.

    Raises
    ------
    ValueError
        If a subject is missing, subjects have different sectors, or a sector lies on
        another grid. Nothing is written then.
    """
    folder = Path(folder)
    subjects = read_participants(folder)
    missing = [label for label in subjects if label not in sectors]
    if missing:
        raise ValueError(
            f"sectors must be given for every subject of {folder}; "
            f"{listing(missing)} is missing."
        )
    names = list(sectors[subjects[0]])
    for label in subjects:
        if list(sectors[label]) != names:
            raise ValueError(
                f"all subjects must have the same sectors; {subjects[0]} has "
                f"{listing(names)}, {label} has {listing(sectors[label])}."
            )
    masks = {
        label: {
            name: _with_betas(folder, label, sectors[label][name]) for name in names
        }
        for label in subjects
    }
    for label in subjects:
        func = folder / f"sub-{label}" / "func"
        for name, sector in masks[label].items():
            file = func / f"sub-{label}_desc-{name}_mask.nii"
            with atomic_write(file) as temporary:
                values = sector.mask.astype(np.uint8)
                write_image(temporary, values, sector.affine, sector.space)
    about, own = read_description(folder)
    listed = [*own.get("Sectors", []), *names]
    own["Sectors"] = list(dict.fromkeys(listed))
    _write_json_whole(folder / "dataset_description.json", {**about, "versa": own})


def reliability_table(folder: str | os.PathLike[str]) -> "pd.DataFrame":
    """How reliable the betas of each subject are.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas of odd and even runs.

    Returns
    -------
    table : DataFrame
        For each subject the number of voxels, the median of their odd/even
        reliability, the share of voxels above .3, and the correlation of the RDMs of
        odd and even runs over all voxels. NaN for subjects without halves.
    """
    import pandas as pd

    folder = Path(folder)
    rows = []
    for label in read_participants(folder):
        betas = read_betas(folder, label)
        row = {"subject": label, "conditions": betas.n_conditions,
               "voxels": betas.n_voxels}  # fmt: skip
        found = read_subject_map(folder, label, "reliability_statmap")
        if found is not None and betas.odd is not None and betas.even is not None:
            r = found[betas.mask]
            row |= {
                "median r": float(np.nanmedian(r)),
                "r > .3": float(np.mean(r > 0.3)),
                "RDM r": rdm_reliability(betas.odd, betas.even),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _begin(
    folder: Path,
    name: str,
    recipe: Mapping[str, Any] | None,
    licence: str = "",
    citation: str = "",
) -> None:
    """Make the folder, or see that it was made by the same recipe."""
    path = folder / "dataset_description.json"
    if path.exists():
        _, own = read_description(folder)
        if own.get("Betas") != recipe:
            raise ValueError(
                f"{folder} must be new, or begun with the same options; it was made "
                f"with {own.get('Betas')}, now asked is {recipe}. Choose another one."
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} must be new, empty, or a dataset folder to go on with; it is "
            "none of these. Choose another one."
        )
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {
        "Name": name,
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "versa"}],
        "versa": {"Format": FORMAT, "Sectors": [], "Betas": recipe},
    }
    if licence:
        about["License"] = licence
    if citation:
        about["HowToAcknowledge"] = citation
    _write_json_whole(path, about)


def _write_json_whole(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary:
        write_json(temporary, content)


def _write_participants(folder: Path, subjects: Sequence[str]) -> None:
    with atomic_write(folder / "participants.tsv") as temporary:
        write_table(temporary, {"participant_id": [f"sub-{s}" for s in subjects]})


def _space(space: str | None, bold: Path, *, raw: bool) -> str | None:
    """Space of the images; those of a raw folder are individual by BIDS's rules."""
    if space is not None or not raw or "_space-" in bold.name:
        return space
    return "individual"


def _check_conditions(betas: ConditionBetas, conditions: Sequence[str]) -> None:
    """Refuse a subject whose conditions are not those of the others."""
    missing = sorted(set(conditions) - set(betas.conditions))
    extra = sorted(set(betas.conditions) - set(conditions))
    if missing or extra:
        parts = [
            f"{word} {listing(names)}"
            for word, names in (("lacks", missing), ("alone has", extra))
            if names
        ]
        raise ValueError(
            f"all subjects must have the same conditions; subject {betas.subject} "
            f"{' and '.join(parts)}. Name events that are no conditions as nuisance "
            "or leave them out."
        )


def _with_betas(folder: Path, subject: str, sector: Sector) -> Sector:
    """The sector without the voxels that have no betas."""
    shape, affine, space = read_subject_grid(folder, subject)
    if sector.space != space or not same_grid(
        sector.mask.shape, sector.affine, shape, affine
    ):
        raise ValueError(
            f"sector {sector.name} of subject {subject} must lie on the grid of the "
            f"betas, {shape} in space {space}; got {sector.mask.shape} in space "
            f"{sector.space} with the affine {sector.affine.tolist()}."
        )
    volumes, _ = read_image(betas_path(folder / f"sub-{subject}" / "func"))
    mask = sector.mask.copy()
    mask[mask] = np.isfinite(volumes[mask]).all(axis=1)
    lost = sector.n_voxels - int(mask.sum())
    if not mask.any():
        raise ValueError(
            f"sector {sector.name} of subject {subject} must have voxels with betas; "
            f"all {lost} are outside the voxels that were estimated."
        )
    if lost:
        logger.warning(
            "sector %s of subject %s: %d of %d voxels have no betas and are left out.",
            sector.name,
            subject,
            lost,
            sector.n_voxels,
        )
    return Sector(sector.name, mask, affine, space)
