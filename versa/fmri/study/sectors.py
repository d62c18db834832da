"""The sectors of a dataset folder, from masks, labels or an atlas.

Where voxels come from is written as a *source*: the path of an image with
``{subject}`` for the label, or ``atlas/NAME`` for an atlas of nilearn; after a colon
the regions of a label image, with ``+`` between them, or a threshold. ``+`` also joins
sources, such as the two hemispheres of a region::

    masks/sub-{subject}_OTC.nii.gz
    masks/sub-{subject}_lh_OTC.nii.gz+masks/sub-{subject}_rh_OTC.nii.gz
    masks/sub-{subject}_resampled.nii.gz:>0.5
    rois/sub-{subject}_visual.nii.gz:1+2+3
    atlas/juelich:GM Visual cortex V1 BA17 L+GM Visual cortex V1 BA17 R
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from versa.cache import atomic_write, file_hash
from versa.fmri.dataset.folder import write_own
from versa.fmri.dataset.subject_files import files_by_sector
from versa.fmri.dataset.tables import (
    check_labels,
    read_description,
    read_participants,
)
from versa.fmri.reliability import reliable_voxels
from versa.fmri.sectors.atlases import atlas_sector, fetch_atlas
from versa.fmri.sectors.checks import against_name, sector_table, sector_warnings
from versa.fmri.sectors.making import PAPER_CUT, define_sectors, group_contrast, union
from versa.fmri.sectors.making import most_active as most_active_voxels
from versa.fmri.sectors.sector import Sector
from versa.fmri.study.files import (
    Grid,
    keep_voxels,
    read_betas,
    read_subject_grid,
    read_subject_map,
    voxels_with_betas,
)
from versa.fmri.volumes.grids import onto_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    read_image,
    read_mask,
    split_threshold,
    write_image,
)
from versa.wording import listing, unknown

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("versa")

_ATLAS = "atlas/"
_WHOLE = re.compile(r"^atlas/|\.nii(\.gz)?(:[^/]*)?$")  # a source, with its regions
_IMAGE = re.compile(r"\.nii(\.gz)?$")
_NEXT = re.compile(r"atlas/|([A-Za-z]:)?[^:+]*\.nii(\.gz)?(?=[:+]|$)")
_NEXT_IN_A_FOLDER = re.compile(r"([A-Za-z]:)?[^:]*/[^:+]*\.nii(\.gz)?(?=[:+]|$)")
_Sectors = dict[str, dict[str, Sector]]  # subject -> name -> sector


class FolderSectors(NamedTuple):
    """The sectors of a dataset folder, with what is to be known of them."""

    sectors: _Sectors
    table: "pd.DataFrame"
    warnings: list[str]


def paper_sectors(
    folder: str | os.PathLike[str],
    *,
    early: str,
    occipito_temporal: str,
    contrast: str = "active",
    group: bool = False,
    n_voxels: int = 1000,
    per_hemisphere: bool = False,
    y: float = PAPER_CUT,
    transform: str = "lancaster",
    closed: str = "posterior",
    min_reliability: float | None = None,
    resample: str | None = None,
) -> FolderSectors:
    """Define EarlyV, pOTC and aOTC of every subject by the paper's recipe.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas.
    early : str
        Source of EarlyV (V1 to V3).
    occipito_temporal : str
        Source of the occipito-temporal mask; voxels of EarlyV are left out of it.
    contrast : str, default="active"
        What the most active voxels are chosen by: "active" for the map that
        :func:`~versa.fmri.study.estimate_betas` left, "betas" for the mean of the
        betas over the conditions, or the path of a map with ``{subject}``.
    group : bool, default=False
        Choose the voxels once for all subjects, by a t-test of the maps over subjects,
        as the paper does. The subjects must share one grid in TAL or MNI. Voxels of
        anyone's EarlyV, and those that are not in everyone's OTC, are left out then.
    n_voxels, per_hemisphere, y, transform, closed
        See :func:`~versa.fmri.sectors.define_sectors`.
    min_reliability : float, optional
        Keep only voxels whose odd/even reliability is above this, at the end. The
        paper has no such threshold.
    resample : {"nearest"}, optional
        Resample masks of another grid to that of the betas (maps linearly).

    Returns
    -------
    found : FolderSectors
        Nothing is written; :func:`~versa.fmri.study.add_sectors` does that.

    Raises
    ------
    ValueError
        If a source does not fit the betas, or a step leaves no voxels.
    """
    folder = Path(folder)
    subjects = read_participants(folder)
    sources = {"EarlyV": early, "OTC": occipito_temporal}
    regions = _regions(folder, subjects, sources, resample)
    maps = {label: _contrast(folder, label, contrast, resample) for label in subjects}
    exclude: list[Sector] = []
    if group:
        _check_common(folder, subjects)
        shared = group_contrast([maps[label] for label in subjects])
        maps = dict.fromkeys(subjects, shared)
        exclude = [regions[label]["EarlyV"] for label in subjects]
        common = np.logical_and.reduce([regions[s]["OTC"].mask for s in subjects])
        for label in subjects:
            regions[label]["OTC"] = keep_voxels(
                regions[label]["OTC"], common, label, why="are not in everyone's OTC"
            )
    sectors = {
        label: define_sectors(
            regions[label]["EarlyV"],
            regions[label]["OTC"],
            maps[label],
            exclude=exclude,
            n_voxels=n_voxels,
            per_hemisphere=per_hemisphere,
            y=y,
            transform=transform,
            closed=closed,
            affine=regions[label]["OTC"].affine,
        )
        for label in subjects
    }
    return _described(_reliable(folder, sectors, min_reliability), y, transform)


def choose_sectors(
    folder: str | os.PathLike[str],
    sources: Mapping[str, str],
    *,
    most_active: Mapping[str, int] | None = None,
    contrast: str = "active",
    per_hemisphere: bool = False,
    min_reliability: float | None = None,
    y: float = PAPER_CUT,
    transform: str = "lancaster",
    resample: str | None = None,
) -> FolderSectors:
    """Take sectors as they are drawn: from masks, labels or an atlas.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas.
    sources : mapping of str to str
        Source of each sector.
    most_active : mapping of str to int, optional
        For some sectors the number of their most active voxels to keep.
    contrast, per_hemisphere, min_reliability
        See :func:`paper_sectors`.
    y, transform
        The cut that the table and the warnings speak of.
    resample : {"nearest"}, optional
        Resample masks of another grid to that of the betas.

    Returns
    -------
    found : FolderSectors
        Nothing is written; :func:`~versa.fmri.study.add_sectors` does that.

    Raises
    ------
    ValueError
        If a source does not fit the betas, or a sector has fewer voxels than asked.
    """
    folder = Path(folder)
    limits = dict(most_active or {})
    for name in limits:
        if name not in sources:
            raise ValueError(unknown("sector of most_active", name, sources))
    subjects = read_participants(folder)
    sectors = _regions(folder, subjects, sources, resample)
    if limits:
        for label in subjects:
            active = _contrast(folder, label, contrast, resample)
            for name, count in limits.items():
                sectors[label][name] = most_active_voxels(
                    sectors[label][name], active, count, per_hemisphere=per_hemisphere
                )
    reliable = _reliable(folder, sectors, min_reliability)
    return _described(reliable, y, transform)


def add_sectors(
    folder: str | os.PathLike[str],
    sectors: Mapping[str, Mapping[str, Sector]],
    *,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Add sectors to a dataset folder, or put new ones in the place of old ones.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas.
    sectors : mapping of str to mapping of str to Sector
        For each subject its sectors by name, on the grid of its betas. Voxels that
        have no betas are left out. Masks of the same name are replaced.
    recipe : mapping, optional
        How they were made, JSON-able; it is kept in dataset_description.json.

    Raises
    ------
    ValueError
        If a subject is missing, subjects have different sectors, or a sector is on
        another grid. Nothing is written then.
    """
    folder = Path(folder)
    subjects = read_participants(folder)
    sectors = {label.removeprefix("sub-"): own for label, own in sectors.items()}
    missing = [label for label in subjects if label not in sectors]
    if missing:
        raise ValueError(
            f"sectors must be given for every subject of {folder}; "
            f"{listing(missing)} is missing."
        )
    names = list(sectors[subjects[0]])
    check_labels("sector", names)
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
        _check_files(folder / f"sub-{label}" / "func", label, names)
    own = read_description(folder)[1]
    listed = list(dict.fromkeys([*own.get("Sectors", []), *names]))
    # until all masks are in place the folder does not name them: it is never read with
    # new masks of some subjects and old ones of others
    files = {
        (label, name): f"sub-{label}/func/sub-{label}_desc-{name}_mask.nii"
        for label in subjects
        for name in names
    }
    recipes = {k: v for k, v in own.get("SectorRecipe", {}).items() if k not in names}
    write_own(
        folder,
        Sectors=[name for name in listed if name not in names],
        SectorRecipe={**recipes, **dict.fromkeys(names, recipe)},
        SHA256=dict.fromkeys(files.values()),
    )
    hashes = {}
    for (label, name), file in files.items():
        sector = masks[label][name]
        with atomic_write(folder / file) as temporary:
            values = sector.mask.astype(np.uint8)
            write_image(temporary, values, sector.affine, sector.space)
            hashes[file] = file_hash(temporary)
    write_own(folder, Sectors=listed, SHA256=hashes)


def read_region(
    source: str, subject: str, name: str, grid: Grid, *, resample: str | None = None
) -> Sector:
    """The voxels of one source on the grid of a subject's betas."""
    parts = [
        _read_part(part, name, grid, resample)
        for part in _joined(source.replace("{subject}", subject))
    ]
    return union(parts, name=name)


def _read_part(source: str, name: str, grid: Grid, resample: str | None) -> Sector:
    """The voxels of one file or atlas; says if its name is of the other hemisphere."""
    place, labels, threshold = _split(source)
    shape, affine, space = grid
    labelled = partial(
        atlas_sector,
        name=name,
        space=space,
        threshold=threshold,
        like=(shape, affine),
        resample=resample,
    )
    if place.startswith(_ATLAS):
        if not labels:
            raise ValueError(
                f"source {source!r} must name regions of the atlas after a colon."
            )
        return labelled(fetch_atlas(place.removeprefix(_ATLAS)), labels)
    path = Path(place)
    check_stated_space(path, space)
    if labels:
        sector = labelled(path, labels)
    else:
        mask, own = read_mask(source)
        found = onto_grid(mask, own, shape, affine, what=str(path), resample=resample)
        sector = Sector(name, found, affine, space)
    for sentence in against_name(sector, path.name, of_file=True):
        logger.warning("%s", sentence)
    return sector


def _joined(source: str) -> list[str]:
    """Sources that + joins: images and atlases of their own, each with its regions.

    >>> _joined("lh.nii.gz:1+2+rh.nii.gz:3")
    ['lh.nii.gz:1+2', 'rh.nii.gz:3']
    >>> _joined("a+b/lh.nii.gz+a+b/rh.nii.gz")
    ['a+b/lh.nii.gz', 'a+b/rh.nii.gz']
    """
    found: list[str] = []
    start = 0
    for match in re.finditer(r"\+", source):
        before, after = source[start : match.start()], source[match.end() :]
        # + in the name of a folder is no +, but after regions it is
        begins = _NEXT.match(after) or (
            _IMAGE.search(before) and _NEXT_IN_A_FOLDER.match(after)
        )
        if begins and _WHOLE.search(before):
            found.append(before)
            start = match.end()
    return [*found, source[start:]]


def _split(source: str) -> tuple[str, list[str | int], float | None]:
    """Place, regions and threshold (from which value on) of a source.

    >>> _split("atlas/harvard_oxford:cort-maxprob-thr25-2mm:Cuneal Cortex")
    ('atlas/harvard_oxford:cort-maxprob-thr25-2mm', ['Cuneal Cortex'], None)
    >>> _split("C:/rois/sub-01.nii.gz:1+2")
    ('C:/rois/sub-01.nii.gz', [1, 2], None)
    >>> _split("rois/sub-01.nii.gz:>=0.5")
    ('rois/sub-01.nii.gz', [], 0.5)
    """
    place, colon, regions = source.rpartition(":")
    if not colon or "/" in regions or re.search(r"\.nii(\.gz)?$", regions):
        return source, [], None
    regions, threshold = split_threshold(regions)
    parts = [part.strip() for part in regions.split("+") if part.strip()]
    labels = [int(part) if part.isdigit() else part for part in parts]
    return place, labels, threshold


def _regions(
    folder: Path,
    subjects: Sequence[str],
    sources: Mapping[str, str],
    resample: str | None,
) -> _Sectors:
    """The regions of every subject, in the voxels that have betas."""
    found: _Sectors = {label: {} for label in subjects}
    for label in subjects:
        grid = read_subject_grid(folder, label)
        for name, source in sources.items():
            region = read_region(source, label, name, grid, resample=resample)
            kept = voxels_with_betas(folder, label, region.mask)
            found[label][name] = keep_voxels(region, kept, label)
    return found


def _contrast(
    folder: Path, subject: str, contrast: str, resample: str | None
) -> np.ndarray:
    """How active the voxels of a subject are, on the grid of its betas."""
    if contrast == "betas":
        betas = read_betas(folder, subject)
        return betas.volumes(betas.values.mean(axis=0))
    if contrast == "active":
        found = read_subject_map(folder, subject, "active_statmap")
        if found is None:
            raise ValueError(
                f"subject {subject} must have a map of activity; "
                f"{folder} has no sub-{subject}_desc-active_statmap.nii.gz. Name a "
                "map, or choose 'betas' for the mean of the betas."
            )
        return found
    path = Path(contrast.replace("{subject}", subject))
    values, own = read_image(path)
    shape, affine, space = read_subject_grid(folder, subject)
    check_stated_space(path, space)
    moved = onto_grid(
        np.asarray(values, dtype=float),
        own,
        shape,
        affine,
        what=str(path),
        resample=None if resample is None else "linear",
    )
    return moved[..., 0] if moved.ndim == 4 and moved.shape[3] == 1 else moved


def _reliable(
    folder: Path,
    sectors: _Sectors,
    threshold: float | None,
) -> _Sectors:
    """The sectors without voxels whose reliability is not above the threshold."""
    if threshold is None:
        return sectors
    found: _Sectors = {}
    for label, own in sectors.items():
        reliability = read_subject_map(folder, label, "reliability_statmap")
        if reliability is None:
            raise ValueError(
                f"subject {label} must have odd and even betas for min_reliability; "
                f"{folder} has no sub-{label}_desc-reliability_statmap.nii.gz."
            )
        found[label] = {}
        for name, sector in own.items():
            mask = sector.mask.copy()
            try:
                mask[mask] = reliable_voxels(reliability[mask], threshold)
            except ValueError as error:
                raise ValueError(f"sector {name} of subject {label}: {error}") from None
            found[label][name] = replace(sector, mask=mask)
    return found


def _check_common(folder: Path, subjects: Sequence[str]) -> None:
    """Refuse a group whose subjects do not share one grid in a common space."""
    grids = [read_subject_grid(folder, label) for label in subjects]
    first = grids[0]
    if not first.space.startswith(("TAL", "MNI152")):
        raise ValueError(
            f"voxels can be chosen for the group in TAL or MNI only; {folder} is in "
            f"space {first.space}. Choose them per subject."
        )
    for label, grid in zip(subjects, grids, strict=True):
        if not first.same(*grid):
            raise ValueError(
                f"voxels can be chosen for the group on a common grid only; subject "
                f"{label} has {grid.shape} in {grid.space}, subject {subjects[0]} "
                f"{first.shape} in {first.space}. Choose them per subject."
            )


def _described(sectors: _Sectors, y: float, transform: str) -> FolderSectors:
    """With the table and the warnings of all subjects."""
    import pandas as pd

    tables = []
    warnings = []
    for label, own in sectors.items():
        table = sector_table(own.values(), transform=transform)
        table.insert(0, "subject", label)
        tables.append(table)
        said = sector_warnings(own.values(), y=y, transform=transform)
        warnings += [f"subject {label}: {text}" for text in said]
    return FolderSectors(sectors, pd.concat(tables, ignore_index=True), warnings)


def _check_files(func: Path, subject: str, names: Sequence[str]) -> None:
    """Refuse to put a mask beside one of the same sector that is called otherwise."""
    found = files_by_sector(func.iterdir(), subject, r"mask\.nii(?:\.gz)?")
    for name in names:
        own = func / f"sub-{subject}_desc-{name}_mask.nii"
        if found.get(name, own) != own:
            raise ValueError(
                f"{func} must have one mask per sector; {name} has {found[name].name}. "
                "Remove it, or give the new sector another name."
            )


def _with_betas(folder: Path, subject: str, sector: Sector) -> Sector:
    """The sector without the voxels that have no betas."""
    grid = read_subject_grid(folder, subject)
    if not grid.same(sector.mask.shape, sector.affine, sector.space):
        raise ValueError(
            f"sector {sector.name} of subject {subject} must be on the grid of the "
            f"betas, {grid.shape} in space {grid.space}; got {sector.mask.shape} in "
            f"space {sector.space} with the affine {sector.affine.tolist()}."
        )
    return keep_voxels(
        Sector(sector.name, sector.mask, grid.affine, grid.space),
        voxels_with_betas(folder, subject, sector.mask),
        subject,
    )
