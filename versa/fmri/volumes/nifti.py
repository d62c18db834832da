"""Volumes on disk, and the voxels in them: the only place that opens NIfTI files."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.fmri.volumes.scaling import exact_zeros, header_step, zero_within
from versa.fmri.volumes.spaces import FORM_SPACES, check_space
from versa.untrusted import check_expansion
from versa.wording import reading

if TYPE_CHECKING:
    import nibabel

logger = logging.getLogger("versa")

_LONGEST_AXIS = 32767  # NIfTI-1 counts voxels along an axis in int16
_BLOCK = 2**26  # bytes of a run that are held beside the series of its voxels
_NAMES_OF_SPACES = {
    **dict.fromkeys(("T1w", "T2w", "func", "boldref", "orig", "native"), "individual"),
    "Talairach": "TAL",
}
_FORM_CODES = {"TAL": 3, "MNI": 4}  # anything else is 2, "aligned"
_THRESHOLD = re.compile(r"\s*(>=?)\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*$")


@contextmanager
def open_image(path: Path) -> "Iterator[nibabel.Nifti1Image]":
    """A NIfTI image to read from; every error within becomes one sentence."""
    import nibabel

    with reading(path, "a whole NIfTI image"):
        # kept open: every opening of a compressed file begins at its first byte
        image = nibabel.load(path, keep_file_open=True)
        if not isinstance(image, nibabel.Nifti1Image):
            raise ValueError(f"it is a {type(image).__name__}")
        check_stored(path, image)
        affine = image.affine[:3, :3]
        if not (np.isfinite(image.affine).all() and np.linalg.matrix_rank(affine) == 3):
            raise ValueError(
                f"{path} must have an affine of finite numbers that gives voxels a "
                f"size; got {image.affine.tolist()}."
            )
        yield image


def check_stored(path: Path, image: Any) -> None:
    """Refuse an image whose header announces more than the file can hold."""
    itemsize = image.get_data_dtype().itemsize
    check_expansion(path, prod(map(int, image.shape)) * itemsize)


def read_image(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine of a NIfTI file.

    Parameters
    ----------
    path : str or Path
        A ``.nii`` or ``.nii.gz`` file.

    Returns
    -------
    values : ndarray of shape (x, y, z) or (x, y, z, n_images)
        As stored, after the scaling of the header; a memory map where possible. What
        a header with an intercept makes of a stored 0, such as 1e-5, is 0.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Raises
    ------
    ValueError
        If the file is missing, is not a NIfTI image, is cut, or is not of numbers.
    """
    with open_image(Path(path)) as image:
        values = exact_zeros(np.asanyarray(image.dataobj), image)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers; got {values.dtype}.")
    return values, image.affine


def read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a NIfTI file, without its values."""
    with open_image(path) as image:
        return tuple(image.shape), image.affine


def one_volume(values: np.ndarray, path: Path, what: str) -> np.ndarray:
    """Values (x, y, z) of an image, which may have a fourth axis of length 1."""
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise ValueError(f"{path} must be {what} (x, y, z); got {values.shape}.")
    return values


def split_threshold(source: str) -> tuple[str, float | None]:
    """A source of voxels without its threshold, and from which value on they count.

    >>> split_threshold("rois/sub-01_LOC.nii.gz:>=0.5")
    ('rois/sub-01_LOC.nii.gz', 0.5)
    """
    match = _THRESHOLD.search(source)
    if match is None:
        return source, None
    try:
        number = float(match[2])
    except ValueError:
        number = np.nan
    least = float(np.nextafter(number, np.inf)) if match[1] == ">" else number
    if not 0 < least < np.inf:
        raise ValueError(
            f"the threshold of source {source!r} must be above 0, where voxels "
            f"outside of the region are; got {match[0].strip()}."
        )
    return source[: match.start()].removesuffix(":"), least


def mask_file(source: str | os.PathLike[str]) -> Path:
    """The file of a mask that may be given with a threshold, ``mask.nii.gz:>0.5``."""
    return Path(split_threshold(os.fspath(source))[0])


def read_mask(
    source: str | os.PathLike[str], *, advice: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Boolean mask (x, y, z) and affine of an image of 0 (or NaN) and one other value.

    True is where the image is neither 0 nor NaN; with a threshold behind the path
    (``mask.nii.gz:>0.5``), where it is larger: then it may have any values. An empty
    mask is refused. `advice` ends the sentence on an image of several values.
    """
    place, least = split_threshold(os.fspath(source))
    path = Path(place)
    values, affine = read_image(path)
    values = one_volume(values, path, "a mask")
    if least is not None:
        values = values.astype(np.float64)
        mask = np.asarray(values >= least)
        if not mask.any():
            raise ValueError(
                f"{path} must have voxels from {least:g} on; its largest value is "
                f"{np.nanmax(values, initial=-np.inf):g}. Choose a lower threshold."
            )
        return mask, affine
    with open_image(path) as image:
        step = header_step(image)
    mask = np.asarray(~zero_within(values, step) & ~np.isnan(values))
    inside = np.asarray(values[mask])
    if not inside.size:
        raise ValueError(
            f"{path} must be a mask with at least one voxel; all {mask.size} are 0 or "
            "NaN."
        )
    if not (inside == inside[0]).all():
        raise ValueError(
            f"{path} must be a mask of 0 and one other value; got values from "
            f"{inside.min():g} to {inside.max():g}. "
            + (advice or f"State a threshold after a colon, such as {path.name}:>0.5.")
        )
    return mask, affine


def read_series(
    path: Path, mask: np.ndarray, *, smoothing_fwhm: float | None = None
) -> np.ndarray:
    """Time series (n_scans, n_voxels) of a mask in C order, read some scans at a time.

    `smoothing_fwhm` is the full width at half maximum of a Gaussian filter in mm.
    """
    shape, affine = _run_grid(path)
    if shape[:3] != mask.shape:
        raise ValueError(
            f"{path} must be on the grid of the mask, {mask.shape}; got {shape[:3]}."
        )
    series = np.empty((shape[3], int(np.count_nonzero(mask))))
    for start, values in _blocks(path):
        if smoothing_fwhm is not None:
            values = _smoothed(values, affine, smoothing_fwhm)
        series[start : start + values.shape[3]] = take_voxels(values, mask)
    return series


def mean_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean (x, y, z) over the scans of a run, 0 where one is not finite; its affine."""
    shape, affine = _run_grid(path)
    total = np.zeros(shape[:3])
    for _, values in _blocks(path):
        total += values.sum(axis=3, dtype=np.float64)
    return np.nan_to_num(total / shape[3], posinf=0.0, neginf=0.0), affine


def header_repetition_time(path: Path) -> float | None:
    """Repetition time in s that a header states; None if it does not know it."""
    with open_image(path) as image:
        header = image.header
        zooms, (_, unit) = header.get_zooms(), header.get_xyzt_units()
    scale = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(unit)
    if len(zooms) < 4 or not zooms[3] > 0 or scale is None:
        return None
    return round(float(zooms[3]) * scale, 6)


def header_space(path: Path) -> str | None:
    """Space by the ``space-`` part of a file's name, else by its header's code.

    Code 1, scanner coordinates, is "individual". Both codes 0 are refused.
    """
    with open_image(path) as image:
        header = image.header
        codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        raise ValueError(
            f"{path} must say where its voxels are; its header has neither sform nor "
            "qform (both codes are 0), so left and right could be exchanged. Write the "
            "affine of the original image into it."
        )
    if named := _named_space(path):
        return _NAMES_OF_SPACES.get(named, named)
    return {1: "individual", **FORM_SPACES}.get(codes[0] or codes[1])


def common_space(paths: Sequence[Path], space: str | None) -> str:
    """The space that is given, or that the first image states; all must agree."""
    chosen = header_space(paths[0]) if space is None else space
    if chosen is None:
        raise ValueError(
            f"the space of {paths[0].name} must be known: TAL, MNI152..., individual "
            "or none; neither its name nor its header says it. Pass space=."
        )
    check_space(chosen)
    for path in paths:
        check_stated_space(path, chosen)
    return chosen


def check_stated_space(path: Path, space: str) -> None:
    """Refuse an image whose name or header says that it is in another space.

    Scanner coordinates in a header contradict nothing: programs keep that code after a
    normalization. Another template of MNI152 is let through with a warning.
    """
    if space == "none":
        return
    stated = header_space(path)
    named = _named_space(path) is not None
    if stated in (None, space) or (stated == "individual" and not named):
        return
    if stated.startswith("MNI152") and space.startswith("MNI152"):
        if named and stated != "MNI152" != space:
            logger.warning(
                "%s is in %s and is taken to be in %s; the templates differ by some "
                "millimetres.",
                *(path, stated, space),
            )
        return
    raise ValueError(
        f"{path} must be in space {space}; its {'name' if named else 'header'} says "
        f"{stated}. Correct the one that is wrong, or transform the image into that "
        "space."
    )


def write_image(path: Path, values: np.ndarray, affine: np.ndarray, space: str) -> None:
    """Write a NIfTI-1 file of values (x, y, z[, n_images]) in their type, unscaled.

    The header keeps the affine in float32; its code says TAL, MNI or "aligned".
    """
    import nibabel

    if max(values.shape) > _LONGEST_AXIS:
        raise ValueError(
            f"a NIfTI-1 image must have axes of at most {_LONGEST_AXIS}; "
            f"{path.name} would be {values.shape}."
        )
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, code=_FORM_CODES.get(space[:3], 2))
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def list_grid(n_voxels: int) -> tuple[int, int, int]:
    """Smallest grid for voxels without place whose axes NIfTI-1 can count.

    >>> list_grid(2000), list_grid(100_000)
    ((2000, 1, 1), (25000, 4, 1))
    """
    width = -(-n_voxels // _LONGEST_AXIS)
    return -(-n_voxels // width), width, 1


def fill_volumes(
    masks: Sequence[np.ndarray], responses: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Volumes (x, y, z, n_images) of responses (n_images, n_voxels) at their masks.

    Fortran order as in NIfTI, float32 if that keeps every bit. Second: pairs of masks
    that share voxels but disagree there, with the number of these voxels.
    """
    exact = all(_fits_float32(values) for values in responses)
    dtype = np.dtype(np.float32 if exact else np.float64)
    shape = masks[0].shape
    n_images = responses[0].shape[0]
    rows = np.zeros((n_images, masks[0].size), dtype=dtype)  # (n_images, grid)
    owner = np.full(masks[0].size, -1)  # the last mask that filled each voxel
    conflicts = []
    for index, (mask, values) in enumerate(zip(masks, responses, strict=True)):
        places = _places(mask)
        for other in np.unique(owner[places]):
            if other < 0:
                continue
            shared = owner[places] == other
            mine = np.ascontiguousarray(values[:, shared], dtype=dtype)
            theirs = np.ascontiguousarray(rows[:, places[shared]])
            n_differ = int((_bits(mine) != _bits(theirs)).any(axis=0).sum())
            if n_differ:
                conflicts.append((int(other), index, n_differ))
        rows[:, places] = values
        owner[places] = index
    return rows.T.reshape(*shape, n_images, order="F"), conflicts


def take_voxels(volumes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Float64 values (n_images, n_voxels) of volumes (x, y, z, n_images) at a mask.

    A memory map in Fortran order is read only where it is needed.
    """
    # (n_images, grid); a plain array, so that the result does not hold the map open
    rows = np.asarray(volumes).reshape(-1, volumes.shape[3], order="F").T
    return np.take(rows, _places(mask), axis=1).astype(np.float64, copy=False)


def _named_space(path: Path) -> str | None:
    """The ``space-`` part of a file's name."""
    match = re.search(r"_space-([^_]+)_", path.name)
    return match[1] if match else None


def _run_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a series of scans; other images are refused."""
    shape, affine = read_grid(path)
    if len(shape) != 4 or shape[3] < 2:
        raise ValueError(
            f"{path} must be a run (x, y, z, n_scans) of two scans or more; got "
            f"{shape}."
        )
    return shape, affine


def _blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Some volumes at a time, with the number of the first."""
    with open_image(path) as image:
        n_voxels = int(np.prod(image.shape[:3]))
        step = max(1, _BLOCK // (8 * n_voxels))
        for start in range(0, image.shape[3], step):
            yield start, np.asanyarray(image.dataobj[..., start : start + step])


def _smoothed(values: np.ndarray, affine: np.ndarray, fwhm: float) -> np.ndarray:
    """Volumes after a Gaussian filter; what is not finite counts as 0."""
    import nibabel
    from nilearn.image import smooth_img

    # float32, as nilearn's maskers smooth
    image = nibabel.Nifti1Image(values.astype(np.float32), affine)
    return np.asanyarray(smooth_img(image, fwhm).dataobj)


def _places(mask: np.ndarray) -> np.ndarray:
    """Where a mask's voxels, in C order, are in a volume in Fortran order."""
    return np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")


def _fits_float32(values: np.ndarray) -> bool:
    """Whether float32 keeps every bit of float64 values, NaN payloads included."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows does not fit
        back = values.astype(np.float32).astype(np.float64)
    return bool((_bits(back) == _bits(values)).all())


def _bits(values: np.ndarray) -> np.ndarray:
    """Floats as integers, so that equal means equal in every bit."""
    contiguous = np.ascontiguousarray(values)
    return contiguous.view(f"i{contiguous.dtype.itemsize}")
