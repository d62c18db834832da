"""Betas made elsewhere: arrays and NIfTI images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.events import check_names, warn_of_twins
from versa.fmri.betas.trials import average_trials
from versa.fmri.volumes.nifti import (
    check_stated_space,
    common_space,
    list_grid,
    mask_file,
)
from versa.fmri.volumes.spaces import check_space
from versa.fmri.volumes.voxels import (
    PathLike,
    empty_volumes,
    read_map,
    read_voxels,
    refuse_empty,
    volumes_of,
)
from versa.wording import chosen_names, listing, unknown

logger = logging.getLogger("versa")


@dataclass(frozen=True)
class ImageOptions:
    """How the images of a subject are read, and what is known of them."""

    subject: str
    space: str
    mask: PathLike | None  # the voxels to read; by default those with data
    activity: PathLike | None  # the contrast of all conditions against rest
    resample: str | None
    unit: str
    source: str

    def betas(
        self,
        conditions: Sequence[str],
        values: np.ndarray,  # (n_conditions, n_voxels), as odd and even
        mask: np.ndarray,
        affine: np.ndarray,
        odd: np.ndarray | None,
        even: np.ndarray | None,
    ) -> ConditionBetas:
        """The betas that were read, with the map of activity beside them."""
        activity = None
        if self.activity is not None:
            activity = read_map(self.activity, mask, affine, resample=self.resample)
        return ConditionBetas(
            self.subject,
            tuple(conditions),
            values,
            mask,
            affine,
            self.space,
            odd=odd,
            even=even,
            activity=activity,
            unit=self.unit,
            source=self.source,
        )


def betas_from_array(
    values: ArrayLike,
    conditions: Sequence[str],
    *,
    subject: str,
    mask: np.ndarray | None = None,
    affine: ArrayLike | None = None,
    space: str = "none",
    odd: ArrayLike | None = None,
    even: ArrayLike | None = None,
    activity: ArrayLike | None = None,
    unit: str = "a.u.",
    source: str = "",
) -> ConditionBetas:
    """Take betas that are in memory.

    Parameters
    ----------
    values : array-like of shape (n_conditions, n_voxels)
        One row per condition. If it is a DataFrame whose index holds names, they must
        be the conditions.
    conditions : sequence of str, length n_conditions
        Names of the rows, in their order.
    subject : str
        Label such as ``"01"``.
    mask : ndarray of bool, shape (x, y, z), optional
        Where the voxels are; columns follow it in C order, as in ``volume[mask]``.
        Without it the voxels are a list, whose place in the head is not known.
    affine : array-like of shape (4, 4), optional
        From voxel indices to mm; needed with `mask`.
    space : str, default="none"
        See :class:`~versa.Sector`; "none" without `mask`.
    odd, even, activity : array-like, optional
        See :class:`~versa.fmri.betas.ConditionBetas`.
    unit : str, default="a.u."
        Unit of the betas.
    source : str, default=""
        How they were made, in a line.

    Returns
    -------
    betas : ConditionBetas
        The betas.

    Raises
    ------
    ValueError
        If shapes, names or the place of the voxels do not fit together.

    Examples
    --------
    >>> betas_from_array([[1.0, 2, 3], [4, 5, 6]], ["cup", "dog"], subject="01")
    <ConditionBetas of subject 01: 2 conditions, 3 voxels, none>
    """
    for what, given in (("values", values), ("odd", odd), ("even", even)):
        _check_row_names(given, conditions, f"{what} of subject {subject}")
    _check_conditions(conditions, subject)
    if mask is None:
        if space != "none" or affine is not None:
            raise ValueError(
                f"betas of subject {subject} must have a mask if they have a space or "
                f"an affine; got space {space!r} without mask."
            )
        shape = np.shape(values)
        if len(shape) != 2 or not shape[1]:
            raise ValueError(
                f"values of subject {subject} must be (n_conditions, n_voxels); got "
                f"{shape}."
            )
        grid = list_grid(shape[1])
        mask = (np.arange(np.prod(grid)) < shape[1]).reshape(grid)
        affine = np.eye(4)
    elif affine is None:
        raise ValueError(
            f"betas of subject {subject} must have the affine of their mask; got "
            "none. Without the place of the voxels, leave out the mask, too."
        )
    return ConditionBetas(
        subject,
        conditions,  # type: ignore[arg-type]  # checked and made a tuple there
        np.asarray(values, dtype=np.float64),
        mask,
        np.asarray(affine, dtype=np.float64),
        space,
        odd=None if odd is None else np.asarray(odd, dtype=np.float64),
        even=None if even is None else np.asarray(even, dtype=np.float64),
        activity=None if activity is None else np.asarray(activity, dtype=np.float64),
        unit=unit,
        source=source,
    )


def betas_from_images(
    images: Mapping[str, PathLike] | PathLike,
    conditions: Sequence[str] | None = None,
    *,
    subject: str,
    space: str | None = None,
    mask: PathLike | None = None,
    odd: Mapping[str, PathLike] | PathLike | None = None,
    even: Mapping[str, PathLike] | PathLike | None = None,
    activity: PathLike | None = None,
    resample: str | None = None,
    unit: str = "a.u.",
    source: str = "",
) -> ConditionBetas:
    """Read betas from NIfTI images.

    Parameters
    ----------
    images : mapping of str to path-like, or path-like
        The image of each condition (3-D, or 4-D with one volume), or one 4-D image
        with a volume per condition. ``.nii`` and ``.nii.gz``.
    conditions : sequence of str, optional
        Names of the volumes of a 4-D image, in their order; with a mapping, which
        conditions to read.
    subject : str
        Label such as ``"01"``.
    space : str, optional
        See :class:`~versa.Sector`; by default what the file names say
        in ``space-<name>``.
    mask : path-like, optional
        Image of the voxels to read, also with a threshold, ``mask.nii.gz:>0.5``; by
        default all.
    odd, even : as `images`, optional
        The same conditions over odd and over even runs.
    activity : path-like, optional
        Image of the contrast of all conditions against rest.
    resample : {"nearest", "linear"}, optional
        How to resample images to the grid of the first one. Images whose voxels are at
        the same places in another order (LAS, RAS, ...) need no resampling.
    unit, source : str
        See :class:`~versa.fmri.betas.ConditionBetas`.

    Returns
    -------
    betas : ConditionBetas
        On the grid of the first image. Voxels that are NaN or infinite in any image,
        or 0 in all images, are not in its mask.

    Raises
    ------
    ValueError
        If images are missing or damaged, their grids or numbers differ, or the space
        is not known.
    """
    names: tuple[str, ...] = ()
    parts: dict[str, list[Path]] = {}
    for what, given in (("images", images), ("odd", odd), ("even", even)):
        if given is None:
            continue
        if isinstance(given, Mapping):
            names = names or tuple(given if conditions is None else conditions)
            unasked = conditions is None and len(given) > len(names)
            if unasked or set(names) - set(given):
                raise ValueError(
                    f"{what} of subject {subject} must have an image for each of "
                    f"{listing(names)}; got {listing(given)}."
                )
            parts[what] = [Path(given[name]) for name in names]
        elif conditions is None:
            raise ValueError(
                f"conditions must name the volumes of {given}; got none. Volumes are "
                "not matched by position unless their names are given."
            )
        else:
            names = tuple(conditions)
            parts[what] = [Path(given)]
    if not parts.get("images"):
        raise ValueError(f"images of subject {subject} must be at least one; got none.")
    _check_conditions(names, subject)
    for what, paths in parts.items():
        # volumes of one image, or an image of each
        volumes = volumes_of(paths, [len(names) // len(paths)] * len(paths))
        empty = empty_volumes(volumes, mask=mask, resample=resample)
        refuse_empty(empty, names, f"{what} of subject {subject} ({paths[0].name})")
    files = [path for part in parts.values() for path in part]
    beside = [mask_file(p) for p in (mask, activity) if p is not None]
    options = ImageOptions(
        subject=subject,
        space=common_space([*files, *beside], space),
        mask=mask,
        activity=activity,
        resample=resample,
        unit=unit,
        source=source or f"images such as {files[0].name}",
    )
    values, inside, affine = read_voxels(
        files,
        n_volumes=[len(names) // len(part) for part in parts.values() for _ in part],
        groups=[row for row, part in enumerate(parts.values()) for _ in part],
        mask=mask,
        resample=resample,
    )
    halves = dict(zip(parts, np.split(values, len(parts)), strict=True))
    return options.betas(
        names, halves["images"], inside, affine, halves.get("odd"), halves.get("even")
    )


def betas_from_runs(
    images: Sequence[tuple[str, int, PathLike]],
    options: ImageOptions,
    *,
    conditions: Sequence[str] | None = None,
    halves: str | None = "runs",
) -> ConditionBetas:
    """Means over the runs of NIfTI images, each of a condition and a run in its order.

    A condition may have several images in a run, and need not be in every run (which is
    reported). Voxels that are 0 in all images of a run are not in the mask.
    """
    check_space(options.space)
    names = [name for name, _, _ in images]
    runs = [run for _, run, _ in images]
    wanted = tuple(dict.fromkeys(names))
    if conditions is not None:
        wanted = chosen_names(conditions, "condition", wanted)
    used = [one for one in images if one[0] in wanted]
    beside = [mask_file(path) for path in (options.mask, options.activity) if path]
    for path in [path for _, _, path in used] + beside:
        check_stated_space(Path(path), options.space)
    used = _estimated(used, options)
    for run in dict.fromkeys(runs):
        missing = set(wanted) - {name for name, own, _ in used if own == run}
        if missing:
            logger.warning(
                "run %d lacks %s; their betas are means over the other runs.",
                run,
                listing(sorted(missing)),
            )
    if len(set(runs)) == 1 and halves == "runs":
        logger.info(
            "subject %s has one run: there are no odd and even runs.", options.subject
        )
        halves = None
    if halves not in (None, "runs"):
        raise ValueError(unknown("halves", halves, ("runs",)))
    of_run = [run for _, run, _ in used]
    values, inside, affine = read_voxels(
        [path for _, _, path in used],
        groups=of_run,
        mask=options.mask,
        resample=options.resample,
    )
    found, mean, odd, even = average_trials(
        values, [name for name, _, _ in used], of_run, conditions=wanted, halves=halves
    )
    return options.betas(found, mean, inside, affine, odd, even)


def _estimated(
    images: Sequence[tuple[str, int, PathLike]], options: ImageOptions
) -> list[tuple[str, int, PathLike]]:
    """Images that hold an estimate; others are named. Each condition must have one.

    Where a run has no event of a condition, or was not estimated, programs leave an
    image of 0 or NaN, which is no response of 0.
    """
    subject = options.subject
    volumes = volumes_of([path for _, _, path in images])
    rows = empty_volumes(volumes, mask=options.mask, resample=options.resample)
    empty = [images[row] for row in rows]
    kept = [one for row, one in enumerate(images) if row not in set(rows)]
    if empty:
        said = listing(f"{n!r} of run {run} ({Path(p).name})" for n, run, p in empty)
        logger.warning(
            "subject %s: images that are 0 or NaN everywhere hold no estimate and are "
            "left out: %s.",
            *(subject, said),
        )
    lost = sorted({name for name, _, _ in empty} - {name for name, _, _ in kept})
    if lost:
        raise ValueError(
            f"subject {subject} must have an estimate of each condition in a run; "
            f"{listing(map(repr, lost))} has none: its images are 0 or NaN "
            f"everywhere ({said}). Name the conditions to read with conditions=."
        )
    return kept


def _check_conditions(conditions: Sequence[str], subject: str) -> None:
    """Refuse names for a missing value, and warn of those nearly the same."""
    texts = [name for name in conditions if isinstance(name, str)]
    check_names([name for name in texts if name], f"conditions of subject {subject}")
    warn_of_twins(texts, f"conditions of subject {subject}")


def _check_row_names(given: Any, conditions: Sequence[str], what: str) -> None:
    """Refuse a DataFrame whose rows are called otherwise."""
    index = list(given.index) if hasattr(given, "iloc") else []
    if any(isinstance(name, str) for name in index) and index != list(conditions):
        raise ValueError(
            f"{what} must have the conditions as its index, in their order; got "
            f"{listing(index)} for {listing(conditions)}."
        )
