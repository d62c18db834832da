"""Voxels of several images at once: on one grid, and with data in all of them."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from versa.fmri.volumes.grids import onto_grid
from versa.fmri.volumes.nifti import one_volume, read_image, read_mask
from versa.wording import listing

logger = logging.getLogger("versa")

PathLike = str | os.PathLike[str]
Volume = tuple[str, int, np.ndarray, np.ndarray]  # what it is, group, values, affine

_FIRST = 1024  # values of a row that are looked at before all others
_COVERED = 0.999  # part of an interpolated voxel that must come from measured ones


def has_estimate(values: np.ndarray) -> bool:
    """Whether a beta image or row was estimated: programs leave 0 or NaN for none."""
    first = values.reshape(-1)[:_FIRST]  # mostly enough
    return any(
        bool((np.isfinite(part) & (part != 0)).any()) for part in (first, values)
    )


def check_estimates(rows: np.ndarray, names: Sequence[str], what: str) -> None:
    """Refuse rows (n_conditions, n_voxels) of which one was never estimated."""
    refuse_empty(
        [n for n, row in enumerate(rows) if not has_estimate(row)], names, what
    )


def refuse_empty(rows: Sequence[int], names: Sequence[str], what: str) -> None:
    """Refuse conditions, by their numbers, that were never estimated."""
    if rows:
        raise ValueError(
            f"{what} must have an estimate of each condition; "
            f"{listing(names[row] for row in rows)} "
            f"{'is' if len(rows) == 1 else 'are'} 0 or NaN in all voxels, as where "
            "nothing was estimated. Leave these conditions out."
        )


def empty_volumes(
    volumes: Callable[[], Iterator[Volume]],
    *,
    mask: PathLike | None = None,
    resample: str | None = None,
) -> list[int]:
    """Which volumes hold no estimate: they are 0 or NaN in all voxels of the mask."""
    empty = []
    for row, (_, _, volume, affine) in enumerate(volumes()):
        inside = volume
        if mask is not None:
            inside = volume[_mask_like(mask, volume.shape, affine, resample)]
        if not has_estimate(inside):
            empty.append(row)
    return empty


def volumes_of(
    paths: Sequence[PathLike],
    n_volumes: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
) -> Callable[[], Iterator[Volume]]:
    """The volumes of images, for `gather_voxels`; arguments as of `read_voxels`."""
    counts = [1] * len(paths) if n_volumes is None else list(n_volumes)
    numbers = [0] * len(paths) if groups is None else list(groups)

    def volumes() -> Iterator[Volume]:
        for path, count, group in zip(map(Path, paths), counts, numbers, strict=True):
            values, affine = read_image(path)
            if values.ndim == 3:
                values = values[..., None]
            if values.ndim != 4 or values.shape[3] != count:
                raise ValueError(
                    f"{path} must be (x, y, z) with {count} "
                    f"{'volume' if count == 1 else 'volumes'}; got {values.shape}."
                )
            for row in range(count):
                yield path.name, group, values[..., row], affine

    return volumes


def read_voxels(
    paths: Sequence[PathLike],
    *,
    n_volumes: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    mask: PathLike | None = None,
    resample: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels that have data in all of several images; see `gather_voxels`.

    `n_volumes`: how many volumes each image must hold, by default 1. `groups`: which
    images were made together, such as those of one run; by default all.
    """
    volumes = volumes_of(paths, n_volumes, groups)
    return gather_voxels(volumes, mask=mask, resample=resample)


def read_map(
    path: PathLike,
    mask: np.ndarray,
    affine: np.ndarray,
    *,
    resample: str | None = None,
) -> np.ndarray:
    """Values (n_voxels,) of one image at a mask; NaN where a resampled one has none."""
    path = Path(path)
    values, own = read_image(path)
    values = one_volume(values, path, "one volume")
    moved = _placed(values, own, mask.shape, affine, path.name, resample)
    return moved[mask].astype(np.float64)


def gather_voxels(
    volumes: Callable[[], Iterator[Volume]],
    *,
    mask: PathLike | None = None,
    resample: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (n_volumes, n_voxels), mask and affine on the grid of the first volume.

    Voxels are left out that are not finite in all volumes, or 0 in all of a group, as
    programs write 0 where there are no data. `volumes` is called twice, so that few
    are in memory at a time.
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
        inside = inside & _asked(mask, inside, affine, resample)
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


def _asked(
    path: PathLike, inside: np.ndarray, affine: np.ndarray, resample: str | None
) -> np.ndarray:
    """A mask on the grid of the voxels with data; says how many have none."""
    asked = _mask_like(path, inside.shape, affine, resample)
    n_lost = int(np.count_nonzero(asked & ~inside))
    if n_lost:
        logger.info(
            "%d of %d voxels of %s have no data (0, NaN or infinite); they are "
            "left out.",
            n_lost,
            np.count_nonzero(asked),
            path,
        )
    return asked


def _mask_like(
    path: PathLike, shape: tuple[int, ...], affine: np.ndarray, resample: str | None
) -> np.ndarray:
    """A mask on a grid."""
    asked, own = read_mask(path)
    how = None if resample is None else "nearest"
    return onto_grid(asked, own, shape, affine, what=str(path), resample=how)


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
