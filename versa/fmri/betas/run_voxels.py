"""Which voxels of a subject's runs to estimate."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from versa.fmri.betas.runs import Run
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import onto_grid, same_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    mean_volume,
    read_grid,
    read_mask,
)

__all__ = ["choose_voxels", "common_grid"]

logger = logging.getLogger("versa")


def common_grid(runs: Sequence[Run]) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of the runs, which must be the same for all.

    Parameters
    ----------
    runs : sequence of Run
        At least one.

    Returns
    -------
    shape : tuple of int
        The first three axes.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Raises
    ------
    ValueError
        If two runs lie on different grids.
    """
    shape, affine = read_grid(runs[0].bold)
    for run in runs[1:]:
        other_shape, other = read_grid(run.bold)
        if not same_grid(shape, affine, other_shape, other):
            raise ValueError(
                f"runs of a subject must share one grid; {run.bold} has "
                f"{other_shape[:3]} and {other.tolist()}, {runs[0].bold} has "
                f"{shape[:3]} and {affine.tolist()}. Coregister them first."
            )
    return shape[:3], affine


def choose_voxels(
    runs: Sequence[Run],
    mask: Sector | str | os.PathLike[str] | None = None,
    *,
    space: str,
    resample: str | None = None,
) -> np.ndarray:
    """Choose the voxels to estimate.

    Parameters
    ----------
    runs : sequence of Run
        All on one grid.
    mask : Sector or path-like, optional
        The voxels. By default those that the brain masks of all runs share, or, if a
        run has none, those that nilearn finds in the mean image of the first run.
    space : str
        Space of the runs, in which the mask must be, too.
    resample : {"nearest"}, optional
        Bring a mask that lies on another grid onto that of the runs.

    Returns
    -------
    voxels : ndarray of bool, shape (x, y, z)
        On the grid of the runs.

    Raises
    ------
    ValueError
        If a mask lies on another grid, or no voxel is left.
    """
    shape, affine = common_grid(runs)
    if isinstance(mask, Sector):
        if mask.space != space:
            raise ValueError(
                f"mask {mask.name} must be in the space of the runs, {space}; got "
                f"{mask.space}."
            )
        given = [(mask.mask, mask.affine, f"mask {mask.name}")]
    elif mask is not None:
        check_stated_space(Path(mask), space)
        given = [(*read_mask(Path(mask)), str(mask))]
    else:
        paths = [run.brain_mask for run in runs]
        if None in paths:
            return _epi_mask(runs[0].bold)
        given = [(*read_mask(path), str(path)) for path in paths if path]
    found = np.ones(shape, dtype=bool)
    for values, own, what in given:
        found &= onto_grid(
            values.astype(np.uint8), own, shape, affine, what=what, resample=resample
        ).astype(bool)
    if not found.any():
        raise ValueError(
            f"{given[0][2]} must have voxels within the images; it has none."
        )
    return found


def _epi_mask(bold: Path) -> np.ndarray:
    """The brain, by nilearn's rule, in the mean image of a run."""
    import nibabel
    from nilearn.masking import compute_epi_mask

    logger.info("no mask is given: the brain is looked for in the mean of %s.", bold)
    mean, affine = mean_volume(bold)
    found = compute_epi_mask(nibabel.Nifti1Image(mean, affine))
    voxels = np.asanyarray(found.dataobj).astype(bool)
    if not voxels.any():
        raise ValueError(f"the mean of {bold} must show a brain; none was found.")
    return voxels
