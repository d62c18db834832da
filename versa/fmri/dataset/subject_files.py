"""The files of one subject in a dataset folder: responses and masks, or RDMs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.tables import read_json, read_table, write_json, write_table
from versa.fmri.dataset.top_files import LABEL
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import same_affine
from versa.fmri.volumes.nifti import (
    check_stated_space,
    fill_volumes,
    list_grid,
    read_image,
    read_mask,
    take_voxels,
    write_image,
)
from versa.fmri.volumes.spaces import check_space
from versa.wording import listing

__all__ = [
    "SubjectResponses",
    "betas_path",
    "check_conditions",
    "exact_affine",
    "files_by_sector",
    "read_mask_like",
    "read_rdm",
    "read_responses",
    "read_space",
    "read_volumes",
    "sidecar_path",
    "write_rdms",
    "write_responses",
]


class SubjectResponses(NamedTuple):
    """What the files of one subject hold."""

    betas: Path
    responses: dict[str, np.ndarray]
    sectors: dict[str, Sector]
    unit: str
    space: str


def write_responses(dataset: BrainDataset, row: int, func: Path) -> None:
    """Write one subject's responses, their sidecar, and a mask per sector.

    Parameters
    ----------
    dataset : BrainDataset
        A dataset with responses.
    row : int
        Which subject.
    func : Path
        The folder to make.

    Raises
    ------
    ValueError
        If sectors hold different values for a voxel that they share.
    """
    func.mkdir(parents=True)
    subject = dataset.subjects[row]
    names = dataset.sector_names
    responses = [(dataset.responses or {})[name][row] for name in names]
    if dataset.sectors is None:
        masks = _list_masks([values.shape[1] for values in responses])
        affine, space = np.eye(4), "none"
    else:
        sectors = [dataset.sectors[name][row] for name in names]
        masks = [sector.mask for sector in sectors]
        affine, space = sectors[0].affine, sectors[0].space
    volumes, conflicts = fill_volumes(masks, responses)
    if conflicts:
        first, second, count = conflicts[0]
        raise ValueError(
            "sectors must hold the same values for voxels they share; "
            f"{names[first]} and {names[second]} of subject {subject} differ in "
            f"{count} voxels."
        )
    stem = f"sub-{subject}_desc-betas_stat"
    write_image(func / f"{stem}.nii", volumes, affine, space)
    write_json(
        func / f"{stem}.json",
        {
            "Conditions": list(dataset.stimuli.names),
            "Units": dataset.unit,
            "Space": space,
            "Affine": affine.tolist(),
        },
    )
    for name, mask in zip(names, masks, strict=True):
        file = func / f"sub-{subject}_desc-{name}_mask.nii"
        write_image(file, mask.astype(np.uint8), affine, space)


def _list_masks(counts: list[int]) -> list[np.ndarray]:
    """Masks of sectors that follow one another on a list-like grid."""
    shape = list_grid(sum(counts))
    masks = []
    start = 0
    for count in counts:
        flat = np.zeros(shape[0] * shape[1], dtype=bool)
        flat[start : start + count] = True
        masks.append(flat.reshape(shape))
        start += count
    return masks


def write_rdms(dataset: BrainDataset, row: int, folder: Path) -> None:
    """Write one subject's RDMs, a table per sector.

    Parameters
    ----------
    dataset : BrainDataset
        A dataset of RDMs.
    row : int
        Which subject.
    folder : Path
        The subject's folder, to be made.
    """
    folder.mkdir()
    pairs = list(combinations(dataset.stimuli.names, 2))
    for name, rdms in (dataset.rdms or {}).items():
        write_table(
            folder / f"{folder.name}_desc-{name}_rdm.tsv",
            {
                "stim_a": [pair[0] for pair in pairs],
                "stim_b": [pair[1] for pair in pairs],
                "dissimilarity": [repr(value) for value in rdms[row].tolist()],
            },
        )


def files_by_sector(
    files: Iterable[Path], subject: str, ending: str
) -> dict[str, Path]:
    """Choose files of one subject and kind, by the sector in their names.

    Parameters
    ----------
    files : iterable of Path
        What lies in the subject's folder.
    subject : str
        Label without ``sub-``.
    ending : str
        Regular expression for what follows the sector's name, such as ``rdm.tsv``.

    Returns
    -------
    found : dict of str to Path
        One file per sector, in the order of the file names.

    Raises
    ------
    ValueError
        If a sector has two files.

    Examples
    --------
    >>> files = [Path("sub-01_desc-V1_mask.nii.gz"), Path("sub-01_desc-betas_stat.nii")]
    >>> [str(path) for path in files_by_sector(files, "01", r"mask.nii(.gz)?").values()]
    ['sub-01_desc-V1_mask.nii.gz']
    """
    pattern = re.compile(rf"sub-{subject}_(?:\S*_)?desc-({LABEL})_{ending}")
    found: dict[str, Path] = {}
    for path in sorted(files):
        match = pattern.fullmatch(path.name)
        if not match:
            continue
        if match[1] in found:
            raise ValueError(
                f"{path.parent} must have one file per sector; {match[1]} has "
                f"{found[match[1]].name} and {path.name}."
            )
        found[match[1]] = path
    return found


def read_rdm(path: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Read one RDM table.

    Parameters
    ----------
    path : Path
        The table.
    pairs : sequence of (str, str)
        The pairs of images that its lines must have, in this order.

    Returns
    -------
    rdm : list of float
        The dissimilarities.

    Raises
    ------
    ValueError
        If a pair is missing, or in another place, or a value is not a number.
    """
    table = read_table(path, ["stim_a", "stim_b", "dissimilarity"])
    given = list(zip(table["stim_a"], table["stim_b"], strict=True))
    if len(given) != len(pairs):
        raise ValueError(
            f"{path} must have one line per pair of images; got {len(given)} for "
            f"{len(pairs)} pairs."
        )
    if given != list(pairs):
        row = next(i for i, pair in enumerate(pairs) if given[i] != pair)
        raise ValueError(
            f"{path} must have the pairs of stimuli.tsv in its order; line {row + 2} "
            f"must be {pairs[row][0]!r} and {pairs[row][1]!r}, got {given[row][0]!r} "
            f"and {given[row][1]!r}."
        )
    try:
        return list(map(float, table["dissimilarity"]))
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers; {error}.") from None


def read_responses(
    func: Path, masks: Mapping[str, Path], stimuli: StimulusSet
) -> SubjectResponses:
    """Read one subject's responses in the voxels of every sector.

    Parameters
    ----------
    func : Path
        The folder with the responses.
    masks : mapping of str to Path
        Mask file of each sector.
    stimuli : StimulusSet
        The images; the sidecar must list them in their order.

    Returns
    -------
    found : SubjectResponses
        Responses (n_images, n_voxels) and sectors by name, with unit and space.

    Raises
    ------
    ValueError
        If a file is missing, damaged or at odds with another one.
    """
    betas = betas_path(func)
    path = sidecar_path(betas)
    sidecar = read_json(path)
    check_conditions(sidecar, path, betas, stimuli)
    volumes, affine = read_volumes(betas, len(stimuli))
    space = read_space(betas, sidecar, path)
    check_stated_space(betas, space)
    exact = exact_affine(sidecar, path, affine)
    responses = {}
    sectors = {}
    for name, file in masks.items():
        mask = read_mask_like(file, volumes.shape[:3], affine, betas.name)
        responses[name] = take_voxels(volumes, mask)
        sectors[name] = Sector(name, mask, exact, space)
    unit = str(sidecar.get("Units", "a.u."))
    return SubjectResponses(betas, responses, sectors, unit, space)


def betas_path(func: Path) -> Path:
    """The one file of responses in a subject's folder.

    Parameters
    ----------
    func : Path
        The folder ``sub-XX/func``.

    Returns
    -------
    betas : Path
        The only ``sub-XX_..._desc-betas..._*.nii`` or ``.nii.gz``.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    found = [
        path
        for path in sorted(func.glob(f"{func.parent.name}_*desc-betas*"))
        if re.search(r"\.nii(\.gz)?$", path.name)
        and not re.search(r"_mask\.nii(\.gz)?$", path.name)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{func} must have exactly one {func.parent.name}_*desc-betas*.nii or "
            ".nii.gz; got "
            f"{listing(path.name for path in found) or 'none'}."
        )
    return found[0]


def sidecar_path(image: Path) -> Path:
    """The JSON file that belongs to an image.

    Parameters
    ----------
    image : Path
        A ``.nii`` or ``.nii.gz`` file.

    Returns
    -------
    path : Path

    Examples
    --------
    >>> sidecar_path(Path("sub-01_desc-betas_stat.nii.gz")).name
    'sub-01_desc-betas_stat.json'
    """
    return image.with_name(image.name.partition(".nii")[0] + ".json")


def check_conditions(
    sidecar: Mapping[str, Any], path: Path, betas: Path, stimuli: StimulusSet
) -> None:
    """Refuse responses whose conditions are not the images, in their order.

    Parameters
    ----------
    sidecar : mapping
        Content of the sidecar.
    path, betas : Path
        The sidecar's file and that of the responses, for the message.
    stimuli : StimulusSet
        The images.

    Raises
    ------
    ValueError
        If ``Conditions`` is missing or differs.
    """
    conditions = sidecar.get("Conditions")
    if not isinstance(conditions, list):
        raise ValueError(
            f"{path} must list the stim_id of every volume of {betas.name} as "
            f"Conditions; got {conditions!r}. Responses are not matched by position."
        )
    stimuli.check_same(conditions, what=f"Conditions of {path}")


def read_volumes(betas: Path, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Responses of one subject, one volume per image.

    Parameters
    ----------
    betas : Path
        The image of responses.
    n_images : int
        How many volumes it must have.

    Returns
    -------
    volumes : ndarray of shape (x, y, z, n_images)
        As stored; a memory map where possible.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Raises
    ------
    ValueError
        If the file is missing or damaged, or has another shape, or its affine is not
        finite.
    """
    volumes, affine = read_image(betas)
    if volumes.ndim != 4 or volumes.shape[3] != n_images:
        raise ValueError(
            f"{betas} must be (x, y, z, n_images) with {n_images} images; got "
            f"{volumes.shape}."
        )
    if not np.isfinite(affine).all():
        raise ValueError(
            f"{betas} must have an affine of finite numbers; got {affine.tolist()}. "
            "Correct its header."
        )
    return volumes, affine


def read_mask_like(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, betas: str
) -> np.ndarray:
    """A mask on the grid of the responses.

    Parameters
    ----------
    path : Path
        The mask's file.
    shape : tuple of int
        The (x, y, z) of the responses.
    affine : ndarray of shape (4, 4)
        Theirs, too.
    betas : str
        Name of their file, for the message.

    Returns
    -------
    mask : ndarray of bool, shape (x, y, z)

    Raises
    ------
    ValueError
        If the file is missing or damaged, or lies on another grid.
    """
    mask, own_affine = read_mask(path)
    if mask.shape != shape:
        raise ValueError(
            f"{path} must have the shape of {betas}, {shape}; got {mask.shape}."
        )
    if not same_affine(own_affine, affine):
        raise ValueError(
            f"{path} must have the affine of {betas}, {affine.tolist()}; got "
            f"{own_affine.tolist()}."
        )
    return mask


def exact_affine(
    sidecar: Mapping[str, Any], path: Path, affine: np.ndarray
) -> np.ndarray:
    """The affine in float64, which a sidecar may keep beside the header's float32.

    Parameters
    ----------
    sidecar : mapping
        Content of the sidecar.
    path : Path
        Its file, for the message.
    affine : ndarray of shape (4, 4)
        That of the header.

    Returns
    -------
    exact : ndarray of shape (4, 4)
        ``Affine`` of the sidecar, or else `affine`.

    Raises
    ------
    ValueError
        If the two differ by more than rounding.
    """
    try:
        exact = np.array(sidecar.get("Affine", affine), dtype=float)
    except (TypeError, ValueError):
        exact = np.empty(0)
    if exact.shape != (4, 4) or not np.allclose(exact, affine, rtol=1e-6, atol=1e-4):
        raise ValueError(
            f"{path} must have the image's own affine as Affine, {affine.tolist()}; "
            f"got {sidecar['Affine']}. Correct it, or leave it out."
        )
    return exact


def read_space(betas: Path, sidecar: Mapping[str, Any], path: Path) -> str:
    """Space of the responses, from their sidecar or their file's name.

    Parameters
    ----------
    betas : Path
        The file of the responses.
    sidecar : mapping
        Content of the sidecar.
    path : Path
        Its file, for the message.

    Returns
    -------
    space : str
        As :class:`~versa.Sector` takes it.

    Raises
    ------
    ValueError
        If the two differ, or versa does not know the space.
    """
    match = re.search(r"_space-([^_]+)_", betas.name)
    named = match[1] if match else "none"
    space = sidecar.get("Space", named)
    if match and space != named:
        raise ValueError(
            f"{path} must have the space of the file name, {named}, as Space; got "
            f"{space!r}."
        )
    try:
        check_space(space)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return str(space)
