"""The files of one subject in a dataset folder that grows: betas, maps, their grid."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from versa.cache import atomic_write
from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.dataset.subject_files import (
    betas_path,
    exact_affine,
    read_space,
    sidecar_path,
)
from versa.fmri.dataset.tables import read_json, write_json
from versa.fmri.dataset.top_files import check_labels
from versa.fmri.reliability import voxel_reliability
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import onto_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    read_grid,
    read_image,
    take_voxels,
    write_image,
)
from versa.wording import listing

__all__ = [
    "keep_voxels",
    "read_betas",
    "read_conditions",
    "read_estimated",
    "read_subject_grid",
    "read_subject_map",
    "write_betas",
]

logger = logging.getLogger("versa")


def write_betas(betas: ConditionBetas, folder: Path) -> None:
    """Write one subject's betas into a dataset folder.

    Parameters
    ----------
    betas : ConditionBetas
        Values are stored as float32, with NaN where there are none.
    folder : Path
        The dataset folder. The subject's folder in it must not exist.

    Raises
    ------
    ValueError
        If the subject is there already.
    """
    check_labels("subject", [betas.subject])
    target = folder / f"sub-{betas.subject}"
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
        stem = f"sub-{betas.subject}"
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
            write_json(func / f"{stem}_{what}.json", about)


def read_betas(folder: str | os.PathLike[str], subject: str) -> ConditionBetas:
    """Read one subject's betas from a dataset folder.

    Parameters
    ----------
    folder : path-like
        As :func:`estimate_betas` or :func:`write_betas` leaves it.
    subject : str
        Label without ``sub-``.

    Returns
    -------
    betas : ConditionBetas
        In the voxels whose betas are finite.

    Raises
    ------
    ValueError
        If a file is missing or does not fit the others.
    """
    path = betas_path(Path(folder) / f"sub-{subject}" / "func")
    about = read_json(sidecar_path(path))
    _, affine, space = read_subject_grid(folder, subject)
    volumes, _ = read_image(path)
    if volumes.ndim != 4:
        raise ValueError(f"{path} must be (x, y, z, n_images); got {volumes.shape}.")
    mask = np.isfinite(volumes).all(axis=3)

    def taken(what: str) -> np.ndarray | None:
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
        odd=taken("oddbetas_stat"),
        even=taken("evenbetas_stat"),
        activity=None if active is None else active[mask],
        unit=str(about.get("Units", "a.u.")),
        source=str(about.get("Source", "")),
    )


def read_subject_map(
    folder: str | os.PathLike[str], subject: str, what: str
) -> np.ndarray | None:
    """Read one of the maps that lie beside a subject's betas.

    Parameters
    ----------
    folder : path-like
        The dataset folder.
    subject : str
        Label without ``sub-``.
    what : str
        "active_statmap", "reliability_statmap", "oddbetas_stat" or "evenbetas_stat".

    Returns
    -------
    values : ndarray of shape (x, y, z) or (x, y, z, n_conditions), or None
        On the grid of the betas; None if there is no such file.

    Raises
    ------
    ValueError
        If the file is damaged, or its voxels or conditions are not those of the betas.
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


def read_subject_grid(
    folder: str | os.PathLike[str], subject: str
) -> tuple[tuple[int, ...], np.ndarray, str]:
    """Where the betas of a subject lie.

    Parameters
    ----------
    folder : path-like
        The dataset folder.
    subject : str
        Label without ``sub-``.

    Returns
    -------
    shape : tuple of int
        The first three axes.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.
    space : str
        As of :class:`~versa.Sector`.

    Raises
    ------
    ValueError
        If a file is missing or damaged.
    """
    path = betas_path(Path(folder) / f"sub-{subject}" / "func")
    about = read_json(sidecar_path(path))
    shape, affine = read_grid(path)
    space = read_space(path, about, sidecar_path(path))
    check_stated_space(path, space)
    affine = exact_affine(about, sidecar_path(path), affine)
    return shape[:3], affine, space


def read_conditions(folder: str | os.PathLike[str], subject: str) -> tuple[str, ...]:
    """Names of the conditions of a subject's betas, in their order.

    Parameters
    ----------
    folder : path-like
        The dataset folder.
    subject : str
        Label without ``sub-``.

    Returns
    -------
    conditions : tuple of str
        Those of the sidecar.

    Raises
    ------
    ValueError
        If the sidecar does not list them.
    """
    path = sidecar_path(betas_path(Path(folder) / f"sub-{subject}" / "func"))
    conditions = read_json(path).get("Conditions")
    if not isinstance(conditions, list) or not conditions:
        raise ValueError(
            f"{path} must list the condition of every volume as Conditions; got "
            f"{conditions!r}."
        )
    return tuple(map(str, conditions))


def read_estimated(
    folder: str | os.PathLike[str], subject: str, mask: np.ndarray
) -> np.ndarray:
    """Which voxels of a mask have betas.

    Parameters
    ----------
    folder : path-like
        The dataset folder.
    subject : str
        Label without ``sub-``.
    mask : ndarray of bool, shape (x, y, z)
        The voxels to look at; the file is not read elsewhere.

    Returns
    -------
    estimated : ndarray of bool, shape (x, y, z)
        Voxels of the mask where the betas of all conditions are finite.
    """
    path = betas_path(Path(folder) / f"sub-{subject}" / "func")
    volumes, _ = read_image(path)
    estimated = np.array(mask, dtype=bool)
    estimated[estimated] = np.isfinite(take_voxels(volumes, mask)).all(axis=0)
    return estimated


def keep_voxels(
    sector: Sector, kept: np.ndarray, subject: str, *, why: str = "have no betas"
) -> Sector:
    """Leave out voxels of a sector that are not to be used.

    Parameters
    ----------
    sector : Sector
        On the grid of `kept`.
    kept : ndarray of bool, shape (x, y, z)
        Voxels that may stay, such as those that have betas.
    subject : str
        For the message.
    why : str, default="have no betas"
        Why the others may not, for the message.

    Returns
    -------
    sector : Sector
        With these voxels; the same object if nothing is left out.

    Raises
    ------
    ValueError
        If none is left.
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
