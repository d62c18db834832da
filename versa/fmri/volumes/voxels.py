"""Voxels of several images at once: on one grid, and with data in all of them."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from versa.fmri.volumes.grids import onto_grid
from versa.fmri.volumes.nifti import read_image, read_mask

logger = logging.getLogger("versa")

PathLike = str | os.PathLike[str]
Volume = tuple[str, int, np.ndarray, np.ndarray]  # what it is, group, values, affine

_COVERED = 0.999  # part of an interpolated voxel that must come from measured ones


def read_voxels(
    paths: Sequence[PathLike],
    *,
    n_volumes: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    mask: PathLike | None = None,
    resample: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the voxels that have data in all of several NIfTI images.

    Parameters
    ----------
    paths : sequence of path-like
        The images, 3-D or 4-D.
    n_volumes : sequence of int, optional
        How many volumes each must hold; 1 by default.
    groups : sequence of int, optional
        Which images were made together, such as those of one run: programs write 0
        where an image has no data, so a voxel that is 0 in all images of a group is
        left out. By default they are one group.
    mask : path-like, optional
        Image of the voxels to read; by default all.
    resample : {"nearest", "linear"}, optional
        How to bring images onto the grid of the first one if their voxels lie at other
        places.

    Returns
    -------
    values : ndarray of float64, shape (sum of n_volumes, n_voxels)
        Columns in C order of the mask.
    mask : ndarray of bool, shape (x, y, z)
        Voxels that are finite in all images, and not 0 in all images of a group.
    affine : ndarray of shape (4, 4)
        That of the first image.

    Raises
    ------
    ValueError
        If an image is missing or damaged, has another number of volumes or another
        grid, or no voxel is left.
    """
    counts = [1] * len(paths) if n_volumes is None else list(n_volumes)
    places = [0] * len(paths) if groups is None else list(groups)

    def read() -> Iterator[Volume]:
        for path, count, group in zip(map(Path, paths), counts, places, strict=True):
            values, affine = read_image(path)
            found = (
                1 if values.ndim == 3 else values.shape[3] if values.ndim == 4 else 0
            )
            if found != count:
                raise ValueError(
                    f"{path} must be (x, y, z) with {count} "
                    f"{'volume' if count == 1 else 'volumes'}; got {values.shape}."
                )
            for row in range(count):
                yield (
                    path.name,
                    group,
                    values if values.ndim == 3 else values[..., row],
                    affine,
                )

    return gather_voxels(read, mask=mask, resample=resample)


def read_map(
    path: PathLike,
    mask: np.ndarray,
    affine: np.ndarray,
    *,
    resample: str | None = None,
) -> np.ndarray:
    """Read one NIfTI image at the voxels of a mask.

    Parameters
    ----------
    path : path-like
        The image, such as the contrast of all conditions against rest.
    mask : ndarray of bool, shape (x, y, z)
        The voxels.
    affine : ndarray of shape (4, 4)
        Of the mask.
    resample : {"nearest", "linear"}, optional
        How to bring the image onto the grid of the mask if its voxels lie at other
        places.

    Returns
    -------
    values : ndarray of float64, shape (n_voxels,)
        In C order of the mask; NaN where an image that was resampled has no data.

    Raises
    ------
    ValueError
        If the image is missing, is not one volume, or lies on another grid.
    """
    path = Path(path)
    values, own = read_image(path)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise ValueError(f"{path} must be one volume (x, y, z); got {values.shape}.")
    moved = _placed(values, own, mask.shape, affine, path.name, resample)
    return moved[mask].astype(np.float64)


def gather_voxels(
    volumes: Callable[[], Iterator[Volume]],
    *,
    mask: PathLike | None = None,
    resample: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the voxels that have data in all of several volumes.

    Parameters
    ----------
    volumes : callable
        Gives an iterator over the volumes, each as a tuple of what it is (for
        messages), its group (see :func:`read_voxels`), its values (x, y, z) and its
        affine. It is called twice, so that few volumes are in memory at a time.
    mask, resample : optional
        As of :func:`read_voxels`.

    Returns
    -------
    values, mask, affine : ndarray
        As of :func:`read_voxels`.

    Raises
    ------
    ValueError
        If a volume lies on another grid, or no voxel is left.
    """

    def on_one_grid() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        first: tuple[tuple[int, ...], np.ndarray] | None = None
        for what, group, volume, affine in volumes():
            if not np.isfinite(affine).all():
                raise ValueError(
                    f"{what} must have an affine of finite numbers; got "
                    f"{affine.tolist()}. Correct its header."
                )
            shape, target = first = first or (volume.shape, affine)
            moved = _placed(volume, affine, shape, target, what, resample)
            yield group, moved, target

    finite = np.True_
    nonzero: dict[int, np.ndarray] = {}
    affine = np.eye(4)
    n_volumes = 0
    for group, volume, target in on_one_grid():
        affine = target
        finite = finite & np.isfinite(volume)
        nonzero[group] = nonzero.get(group, np.False_) | (volume != 0)
        n_volumes += 1
    if not n_volumes:
        raise ValueError("there must be at least one image to read; got none.")
    inside = np.asarray(finite)
    for has_data in nonzero.values():
        inside = inside & has_data
    if mask is not None:
        asked, own = read_mask(Path(mask))
        how = None if resample is None else "nearest"
        asked = onto_grid(
            asked, own, inside.shape, affine, what=str(mask), resample=how
        )
        n_lost = int(np.count_nonzero(asked & ~inside))
        if n_lost:
            logger.info(
                "%d of %d voxels of %s have no data (0, NaN or infinite); they are "
                "left out.",
                n_lost,
                np.count_nonzero(asked),
                mask,
            )
        inside = inside & asked
    if not inside.any():
        raise ValueError(
            "the images must share at least one voxel with data; none of "
            f"{inside.size} is finite in all and not 0 in all"
            f"{'' if mask is None else f' and in {mask}'}."
        )
    values = np.empty((n_volumes, np.count_nonzero(inside)))
    for row, (_, volume, _) in enumerate(on_one_grid()):
        values[row] = volume[inside]
    return values, inside, affine


def _placed(
    volume: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    target: np.ndarray,
    what: str,
    resample: str | None,
) -> np.ndarray:
    """A volume on another grid; NaN where interpolation would need absent voxels."""
    if resample is None:
        return onto_grid(volume, affine, shape, target, what=what)
    finite = np.isfinite(volume)

    def moved(values: np.ndarray) -> np.ndarray:
        return onto_grid(values, affine, shape, target, what=what, resample=resample)

    with warnings.catch_warnings():
        # nilearn's advice for masks; here the share of measured voxels is wanted
        warnings.filterwarnings("ignore", message="Resampling binary images")
        covered = moved(finite.astype(np.float64)) > _COVERED
    return np.where(covered, moved(np.where(finite, volume, 0).astype(float)), np.nan)
