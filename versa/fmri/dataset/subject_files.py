"""The files of one subject in a dataset folder: responses and masks, or RDMs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from versa.fmri.dataset.braindata import BrainDataset, check_images
from versa.fmri.dataset.problems import Problems
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.tables import (
    LABEL,
    read_json,
    read_table,
    write_json,
    write_table,
)
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import same_grid
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
from versa.wording import listing, one_line, shown


class SubjectResponses(NamedTuple):
    """What the files of one subject hold, as far as they could be read."""

    betas: Path
    sidecar: dict[str, Any] | None  # None: not readable
    space: str | None
    affine: np.ndarray | None
    shape: tuple[int, ...] | None  # (x, y, z)
    responses: dict[str, np.ndarray]  # per sector (n_images, n_voxels)
    sectors: dict[str, Sector]
    reliability: dict[str, np.ndarray]  # per sector (n_voxels,); empty if not known
    halves: dict[str, tuple[np.ndarray, np.ndarray]]  # odd, even runs, if asked for

    @property
    def unit(self) -> str | None:
        """Unit of the responses; None if the sidecar could not be read."""
        return None if self.sidecar is None else str(self.sidecar.get("Units", "a.u."))


# ---- writing ----------------------------------------------------------------------


def write_responses(dataset: BrainDataset, row: int, func: Path) -> None:
    """Write one subject's responses, their sidecar, and a mask per sector."""
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
    if dataset.reliability is not None:
        known = [dataset.reliability[name][row][None] for name in names]
        maps, _ = fill_volumes(masks, known)
        maps[~np.logical_or.reduce(masks)] = np.nan
        file = func / f"sub-{subject}_desc-reliability_statmap.nii"
        write_image(file, maps[..., 0], affine, space)
    about = {
        "Conditions": list(dataset.stimuli.names),
        "Units": dataset.unit,
        "Space": space,
        "Affine": affine.tolist(),
    }
    write_json(func / f"{stem}.json", about)
    for k, which in enumerate(("odd", "even") if dataset.halves else ()):
        parts = [(dataset.halves or {})[name][row][k] for name in names]
        half = f"sub-{subject}_desc-{which}betas_stat"
        write_image(func / f"{half}.nii", fill_volumes(masks, parts)[0], affine, space)
        write_json(func / f"{half}.json", about)
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
    """Write one subject's RDMs, a table per sector."""
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


# ---- reading ----------------------------------------------------------------------


def files_by_sector(
    files: Iterable[Path], subject: str, ending: str
) -> dict[str, Path]:
    """Files of one subject and kind, by the sector in their names, in their order.

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


def read_rdm(path: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """One RDM table, whose lines must be these pairs of images in this order."""
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
        rdm = np.array(list(map(float, table["dissimilarity"])))
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers; {one_line(error)}.") from None
    n_bad = int(np.count_nonzero(~np.isfinite(rdm)))
    if n_bad:
        raise ValueError(
            f"{path} must hold finite dissimilarities; {n_bad} of {rdm.size} pairs are "
            "NaN or infinite."
        )
    return rdm


def read_responses(
    func: Path,
    masks: Mapping[str, Path],
    stimuli: StimulusSet | None,
    problems: Problems,
    *,
    halves: bool = False,
) -> SubjectResponses | None:
    """One subject's responses in the voxels of every sector; None without a file.

    The sidecar must list `stimuli`, if they are known, in their order. What is wrong
    goes to `problems`; where that raises nothing, what is right is read.
    """
    betas = problems.attempt(func, betas_path, func)
    if betas is None:
        return None
    path = sidecar_path(betas)
    sidecar = problems.attempt(path, read_json, path)
    space = None
    if sidecar is not None:
        if stimuli is not None:
            problems.attempt(path, _check_conditions, sidecar, path, betas, stimuli)
        space = problems.attempt(path, read_space, betas, sidecar, path)
    conditions = (sidecar or {}).get("Conditions")
    n_images = len(conditions) if isinstance(conditions, list) else None
    n_images = n_images if stimuli is None else len(stimuli)
    read = problems.attempt(betas, _read_volumes, betas, n_images)
    if read is None:
        return SubjectResponses(betas, sidecar, space, None, None, {}, {}, {}, {})
    volumes, affine = read
    problems.attempt(betas, check_stated_space, betas, space or "none")
    exact = None
    if sidecar is not None:
        exact = problems.attempt(
            path, exact_affine, sidecar, path, volumes.shape, affine
        )
    exact = affine if exact is None else exact
    shape = volumes.shape[:3]
    found = SubjectResponses(betas, sidecar, space, exact, shape, {}, {}, {}, {})
    parts = [
        problems.attempt(func, _read_half, func, which, betas, volumes.shape, affine)
        for which in (("odd", "even") if halves else ())
    ]
    of_map, known = reliability_path(func), None
    if of_map is not None:
        known = problems.attempt(
            of_map, _read_map_like, of_map, shape, affine, betas.name
        )
    for name, file in masks.items():
        mask = problems.attempt(file, _read_mask_like, file, shape, affine, betas.name)
        if mask is None:
            continue
        sector = problems.attempt(betas, Sector, name, mask, exact, space or "none")
        if sector is None:
            break  # the affine is that of all sectors
        found.responses[name] = values = take_voxels(volumes, mask)
        names = stimuli.names if stimuli is not None else conditions or ()
        whole = f"{betas}: the responses of {name}"
        problems.attempt(betas, check_images, values, list(map(str, names)), whole)
        found.sectors[name] = sector
        if known is not None:
            found.reliability[name] = known[mask]
        known_parts = [part for part in parts if part is not None]
        if len(known_parts) == 2:
            odd, even = (take_voxels(part, mask) for part in known_parts)
            found.halves[name] = odd, even
    return found


def _read_half(
    func: Path, which: str, betas: Path, shape: tuple[int, ...], affine: np.ndarray
) -> np.ndarray:
    """Betas of odd or even runs, images and grid as those of all runs."""
    ending = f"desc-{which}betas_stat.nii"
    files = sorted(func.glob(f"{func.parent.name}_*{ending}*"))
    if not files:
        raise ValueError(
            f"{func} must hold betas of odd and even runs for crossnobis distances; "
            f"there is no {func.parent.name}_{ending}.gz. Estimate betas from at least "
            "two runs, or take another distance."
        )
    values, own_affine = read_image(files[0])
    first = values[..., 0] if values.ndim == 4 else values
    _require_grid(files[0], first, own_affine, shape[:3], affine, betas.name)
    if values.shape != shape:
        raise ValueError(
            f"{files[0]} must have the images of {betas.name}, {shape[3]}; got shape "
            f"{values.shape}."
        )
    stated, whole = (read_json(sidecar_path(f)) for f in (files[0], betas))
    if stated.get("Conditions") != whole.get("Conditions"):
        raise ValueError(
            f"{sidecar_path(files[0])} must have the Conditions of {betas.name}, in "
            "their order."
        )
    return values


def reliability_path(func: Path) -> Path | None:
    """``sub-XX_..._desc-reliability_statmap.nii`` or ``.nii.gz``, if there is one."""
    found = sorted(func.glob(f"{func.parent.name}_*desc-reliability_statmap.nii*"))
    return found[0] if found else None


def betas_path(func: Path) -> Path:
    """The only ``sub-XX_..._desc-betas..._*.nii`` or ``.nii.gz`` of ``sub-XX/func``."""
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

    Examples
    --------
    >>> sidecar_path(Path("sub-01_desc-betas_stat.nii.gz")).name
    'sub-01_desc-betas_stat.json'
    """
    return image.with_name(image.name.partition(".nii")[0] + ".json")


def _check_conditions(
    sidecar: Mapping[str, Any], path: Path, betas: Path, stimuli: StimulusSet
) -> None:
    """Refuse responses whose conditions are not the images, in their order."""
    conditions = sidecar.get("Conditions")
    if not isinstance(conditions, list):
        raise ValueError(
            f"{path} must list the stim_id of every volume of {betas.name} as "
            f"Conditions; got {conditions!r}. Responses are not matched by position."
        )
    stimuli.check_same(conditions, what=f"Conditions of {path}")


def _read_volumes(betas: Path, n_images: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Responses (x, y, z, n_images), a memory map where possible, and their affine."""
    volumes, affine = read_image(betas)
    if volumes.ndim != 4 or n_images not in (None, volumes.shape[3]):
        count = f" with {n_images} images" if n_images is not None else ""
        raise ValueError(
            f"{betas} must be (x, y, z, n_images){count}; got {volumes.shape}."
        )
    if not np.isfinite(affine).all():
        raise ValueError(
            f"{betas} must have an affine of finite numbers; got {affine.tolist()}. "
            "Correct its header."
        )
    return volumes, affine


def _read_map_like(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, betas: str
) -> np.ndarray:
    """A map of correlations on the grid of the responses."""
    values, own_affine = read_image(path)
    _require_grid(path, values, own_affine, shape, affine, betas)
    return np.asarray(values, dtype=float)


def _read_mask_like(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, betas: str
) -> np.ndarray:
    """A mask on the grid of the responses."""
    advice = "Choose its voxels by a threshold first."
    mask, own_affine = read_mask(path, advice=advice)
    _require_grid(path, mask, own_affine, shape, affine, betas)
    return mask


def _require_grid(
    path: Path,
    mask: np.ndarray,
    own_affine: np.ndarray,
    shape: tuple[int, ...],
    affine: np.ndarray,
    betas: str,
) -> None:
    """Refuse an image that is not on the grid of the responses."""
    if mask.shape != shape:
        raise ValueError(
            f"{path} must have the shape of {betas}, {shape}; got {mask.shape}."
        )
    if not same_grid(shape, own_affine, shape, affine):
        raise ValueError(
            f"{path} must have the affine of {betas}, {affine.tolist()}; got "
            f"{own_affine.tolist()}."
        )


def exact_affine(
    sidecar: Mapping[str, Any],
    path: Path,
    shape: tuple[int, ...],
    affine: np.ndarray,
) -> np.ndarray:
    """The affine in float64, which a sidecar may keep beside the header's float32."""
    if "Affine" not in sidecar:
        return np.asarray(affine, dtype=float)
    try:
        exact = np.array(sidecar["Affine"], dtype=float)
    except (TypeError, ValueError):
        exact = np.empty(0)
    if exact.shape != (4, 4) or not same_grid(shape, exact, shape, affine):
        raise ValueError(
            f"{path} must have the image's own affine as Affine, {affine.tolist()}; "
            f"got {shown(sidecar['Affine'])}. Correct it, or leave it out."
        )
    return exact


def read_space(betas: Path, sidecar: Mapping[str, Any], path: Path) -> str:
    """Space of the responses, from their sidecar or the name of their file."""
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
