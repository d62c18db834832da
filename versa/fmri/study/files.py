"""The files of one subject in a dataset folder that grows: betas and maps."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from versa.cache import atomic_write
from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.dataset.folder import hashes_below, write_own
from versa.fmri.dataset.subject_files import (
    betas_path,
    exact_affine,
    read_space,
    sidecar_path,
)
from versa.fmri.dataset.tables import check_labels, read_json, write_json
from versa.fmri.reliability import voxel_reliability
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import onto_grid, same_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    read_grid,
    read_image,
    take_voxels,
    write_image,
)
from versa.wording import listing

logger = logging.getLogger("versa")


class Grid(NamedTuple):
    """Where the betas of a subject are."""

    shape: tuple[int, ...]  # (x, y, z)
    affine: np.ndarray  # (4, 4), from voxel indices to mm
    space: str

    def same(self, shape: tuple[int, ...], affine: np.ndarray, space: str) -> bool:
        """Whether a mask or other betas have their voxels at the same places."""
        return space == self.space and same_grid(shape, affine, self.shape, self.affine)


class Input(NamedTuple):
    """A file that betas were made from."""

    sha256: str
    state: list[int] | None  # size, and times of change in ns; None: not to be trusted


def write_subject(
    betas: ConditionBetas, folder: Path, *, inputs: Mapping[str, Input] | None = None
) -> None:
    """Write one subject's betas and maps as float32, its whole folder atomically.

    `inputs` are the files that the betas were made from.
    """
    check_labels("subject", [betas.subject])
    stem = f"sub-{betas.subject}"
    target = folder / stem
    if target.exists():
        raise ValueError(
            f"{target} must not exist yet. Remove it to write these betas anew."
        )
    maps: dict[str, np.ndarray] = {}
    if betas.odd is not None and betas.even is not None:
        maps["desc-oddbetas_stat"] = betas.odd
        maps["desc-evenbetas_stat"] = betas.even
        maps["desc-reliability_statmap"] = voxel_reliability(betas.odd, betas.even)
    if betas.activity is not None:
        maps["desc-active_statmap"] = betas.activity
    with atomic_write(target) as temporary:
        func = temporary / "func"
        func.mkdir(parents=True)
        for what, values in {"desc-betas_stat": betas.values, **maps}.items():
            # the responses are mapped into memory on reading; the others are kept small
            ending = ".nii" if what == "desc-betas_stat" else ".nii.gz"
            volumes = betas.volumes(values).astype(np.float32)
            write_image(
                func / f"{stem}_{what}{ending}", volumes, betas.affine, betas.space
            )
            about: dict[str, Any] = {
                "Space": betas.space,
                "Affine": betas.affine.tolist(),
            }
            if what.endswith("betas_stat"):
                about = {"Conditions": list(betas.conditions), "Units": betas.unit,
                         **about, "Source": betas.source}  # fmt: skip
            if inputs is not None and what == "desc-betas_stat":
                about["Inputs"] = {name: one.sha256 for name, one in inputs.items()}
                about["InputStates"] = {name: one.state for name, one in inputs.items()}
            write_json(func / f"{stem}_{what}.json", about)
        # first, so that no file is ever there without its hash
        write_own(folder, SHA256=hashes_below(temporary, f"{stem}/"))


def read_betas(folder: str | os.PathLike[str], subject: str) -> ConditionBetas:
    """Read one subject's betas from a dataset folder.

    Parameters
    ----------
    folder : path-like
        As :func:`estimate_betas` or :func:`write_betas` leaves it.
    subject : str
        Label, with or without ``sub-``.

    Returns
    -------
    betas : ConditionBetas
        In the voxels whose betas are finite.

    Raises
    ------
    ValueError
        If a file is missing or does not fit the others.
    """
    subject = subject.removeprefix("sub-")
    path = _betas_file(folder, subject)
    about = read_json(sidecar_path(path))
    _, affine, space = read_subject_grid(folder, subject)
    volumes, _ = read_image(path)
    if volumes.ndim != 4:
        raise ValueError(f"{path} must be (x, y, z, n_images); got {volumes.shape}.")
    mask = np.isfinite(volumes).all(axis=3)

    def half(what: str) -> np.ndarray | None:  # (n_conditions, n_voxels)
        found = read_subject_map(folder, subject, what)
        return None if found is None else np.moveaxis(found, -1, 0)[..., mask]

    active = read_subject_map(folder, subject, "active_statmap")
    return ConditionBetas(
        subject=subject,
        conditions=read_conditions(folder, subject),
        values=np.asarray(volumes)[mask].T,
        mask=mask,
        affine=affine,
        space=space,
        odd=half("oddbetas_stat"),
        even=half("evenbetas_stat"),
        activity=None if active is None else active[mask],
        unit=str(about.get("Units", "a.u.")),
        source=str(about.get("Source", "")),
    )


def read_subject_map(
    folder: str | os.PathLike[str], subject: str, what: str
) -> np.ndarray | None:
    """A map beside a subject's betas, on their grid; None if there is no such file.

    `what` is "active_statmap", "reliability_statmap", "oddbetas_stat" or
    "evenbetas_stat": (x, y, z), or (x, y, z, n_conditions).
    """
    func = Path(folder) / f"sub-{subject}" / "func"
    path = func / f"sub-{subject}_desc-{what}.nii.gz"
    if not path.is_file():
        return None
    shape, affine, space = read_subject_grid(folder, subject)
    check_stated_space(path, space)
    if what.endswith("betas_stat"):
        about = read_json(sidecar_path(path))
        conditions = read_conditions(folder, subject)
        if about.get("Conditions") != list(conditions):
            raise ValueError(
                f"{sidecar_path(path)} must have the Conditions of the betas, in their "
                f"order: {listing(conditions)}; got {about.get('Conditions')!r}."
            )
    values, own = read_image(path)
    return np.asarray(onto_grid(values, own, shape, affine, what=str(path)))


def read_subject_grid(folder: str | os.PathLike[str], subject: str) -> Grid:
    """Grid and space of a subject's betas, from the header and the JSON file."""
    path = _betas_file(folder, subject)
    sidecar = sidecar_path(path)
    about = read_json(sidecar)
    shape, affine = read_grid(path)
    space = read_space(path, about, sidecar)
    check_stated_space(path, space)
    return Grid(shape[:3], exact_affine(about, sidecar, shape, affine), space)


def read_conditions(folder: str | os.PathLike[str], subject: str) -> tuple[str, ...]:
    """Names of the conditions of a subject's betas, in their order."""
    path = sidecar_path(_betas_file(folder, subject))
    conditions = read_json(path).get("Conditions")
    if not isinstance(conditions, list) or not conditions:
        raise ValueError(
            f"{path} must list the condition of every volume as Conditions; got "
            f"{conditions!r}."
        )
    return tuple(map(str, conditions))


def read_inputs(folder: Path, subject: str) -> dict[str, Input] | None:
    """The files that a subject's betas were made from; None if it is not said."""
    path = sidecar_path(_betas_file(folder, subject))
    about = read_json(path)
    inputs, states = about.get("Inputs"), about.get("InputStates", {})
    if inputs is None:
        return None
    if not isinstance(inputs, dict) or not isinstance(states, dict):
        raise ValueError(
            f"{path} must map files to their SHA-256 as Inputs; got {inputs!r}."
        )
    return {name: Input(digest, states.get(name)) for name, digest in inputs.items()}


def voxels_with_betas(folder: Path, subject: str, mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask whose betas are all finite; the file is read only there."""
    volumes, _ = read_image(_betas_file(folder, subject))
    found = np.array(mask, dtype=bool)
    found[found] = np.isfinite(take_voxels(volumes, mask)).all(axis=0)
    return found


def keep_voxels(
    sector: Sector, kept: np.ndarray, subject: str, *, why: str = "have no betas"
) -> Sector:
    """A sector without the voxels that are not `kept`, which are counted in a warning.

    `why` ends the sentence "3 of 20 voxels ...".
    """
    mask = sector.mask & kept
    n_left = int(mask.sum())
    if n_left == sector.n_voxels:
        return sector
    if not n_left:
        raise ValueError(
            f"sector {sector.name} of subject {subject} must have voxels that can be "
            f"used; all {sector.n_voxels} {why}."
        )
    logger.warning(
        "sector %s of subject %s: %d of %d voxels %s and are left out.",
        sector.name,
        subject,
        sector.n_voxels - n_left,
        sector.n_voxels,
        why,
    )
    return Sector(sector.name, mask, sector.affine, sector.space)


def _betas_file(folder: str | os.PathLike[str], subject: str) -> Path:
    return betas_path(Path(folder) / f"sub-{subject}" / "func")
