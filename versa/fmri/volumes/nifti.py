"""Volumes on disk, and the voxels in them: the only place that opens NIfTI files."""

import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

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


def list_grid(n_voxels: int) -> tuple[int, int, int]:
    """Shape of a grid that holds voxels as a list.

    Parameters
    ----------
    n_voxels : int
        Number of voxels, without place in the head.

    Returns
    -------
    shape : tuple of int
        The smallest grid whose axes NIfTI-1 can count.

    Examples
    --------
    >>> list_grid(2000)
    (2000, 1, 1)
    >>> list_grid(100_000)
    (25000, 4, 1)
    """
    width = -(-n_voxels // _LONGEST_AXIS)
    return -(-n_voxels // width), width, 1


def fill_volumes(
    masks: Sequence[np.ndarray], responses: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Put responses to their places.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape (x, y, z)
        Where the voxels are; masks may share voxels.
    responses : sequence of ndarray of shape (n_images, n_voxels)
        For each mask its voxels' values, in C order of the mask.

    Returns
    -------
    volumes : ndarray of shape (x, y, z, n_images)
        0 outside the masks. It is float32 if that keeps every bit of the values, else
        float64, and in Fortran order as in a NIfTI file.
    conflicts : list of (int, int, int)
        Pairs of masks with the number of voxels they share but disagree on.
    """
    exact = all(_fits_float32(values) for values in responses)
    dtype = np.dtype(np.float32 if exact else np.float64)
    shape = masks[0].shape
    n_images = responses[0].shape[0]
    rows = np.zeros((n_images, masks[0].size), dtype=dtype)  # (n_images, grid)
    owner = np.full(masks[0].size, -1)
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
    """Read the voxels of a mask, image by image.

    Parameters
    ----------
    volumes : ndarray of shape (x, y, z, n_images)
        The volumes; a memory map in Fortran order is read only where it is needed.
    mask : ndarray of bool, shape (x, y, z)
        The voxels.

    Returns
    -------
    values : ndarray of float64, shape (n_images, n_voxels)
        Columns in C order of the mask.

    Examples
    --------
    >>> volumes = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> take_voxels(volumes, np.array([[[True, False], [True, True]]]))
    array([[0., 4., 6.],
           [1., 5., 7.]])
    """
    # (n_images, grid); a plain array, so that the result does not hold the map open
    rows = np.asarray(volumes).reshape(-1, volumes.shape[3], order="F").T
    return np.take(rows, _places(mask), axis=1).astype(np.float64, copy=False)


def read_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine of a NIfTI file.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.

    Returns
    -------
    values : ndarray
        As stored, after the scaling of the header; a memory map where possible.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Raises
    ------
    ValueError
        If the file is missing, is not a NIfTI image, is cut, or is not of numbers.
    """
    with _opened(path) as image:
        values = np.asanyarray(image.dataobj)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers; got {values.dtype}.")
    return values, image.affine


def read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a NIfTI file, without its values.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.

    Returns
    -------
    shape : tuple of int
        Shape of the image.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Raises
    ------
    ValueError
        If the file is missing or is not a NIfTI image.
    """
    with _opened(path) as image:
        return tuple(image.shape), image.affine


def read_series(
    path: Path, mask: np.ndarray, *, smoothing_fwhm: float | None = None
) -> np.ndarray:
    """Time series of the voxels of a mask, read some volumes at a time.

    Parameters
    ----------
    path : Path
        NIfTI image (x, y, z, n_scans).
    mask : ndarray of bool, shape (x, y, z)
        The voxels.
    smoothing_fwhm : float, optional
        Smooth every volume by a Gaussian of this full width at half maximum in mm.

    Returns
    -------
    series : ndarray of float64, shape (n_scans, n_voxels)
        Columns in C order of the mask.

    Raises
    ------
    ValueError
        If the file cannot be read, or is not of the mask's shape.
    """
    shape, affine = read_grid(path)
    _check_run(path, shape)
    if shape[:3] != mask.shape:
        raise ValueError(
            f"{path} must lie on the grid of the mask, {mask.shape}; got {shape[:3]}."
        )
    series = np.empty((shape[3], int(np.count_nonzero(mask))))
    for start, values in _blocks(path):
        if smoothing_fwhm is not None:
            values = _smoothed(values, affine, smoothing_fwhm)
        series[start : start + values.shape[3]] = take_voxels(values, mask)
    return series


def mean_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the scans of a run, read some volumes at a time.

    Parameters
    ----------
    path : Path
        NIfTI image (x, y, z, n_scans).

    Returns
    -------
    mean : ndarray of float64, shape (x, y, z)
        0 where a scan is not finite.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.
    """
    shape, affine = read_grid(path)
    _check_run(path, shape)
    total = np.zeros(shape[:3])
    for _, values in _blocks(path):
        total += values.sum(axis=3, dtype=np.float64)
    return np.nan_to_num(total / shape[3], posinf=0.0, neginf=0.0), affine


def header_repetition_time(path: Path) -> float | None:
    """Repetition time that a header states.

    Parameters
    ----------
    path : Path
        NIfTI image (x, y, z, n_scans).

    Returns
    -------
    t_r : float or None
        In s; None if the header does not know it.
    """
    with _opened(path) as image:
        header = image.header
        zooms, (_, unit) = header.get_zooms(), header.get_xyzt_units()
    scale = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(unit)
    if len(zooms) < 4 or not zooms[3] > 0 or scale is None:
        return None
    return round(float(zooms[3]) * scale, 6)


def header_space(path: Path) -> str | None:
    """Space that a file's name or header states.

    Parameters
    ----------
    path : Path
        NIfTI image.

    Returns
    -------
    space : str or None
        That of the ``space-`` part of the name; else "TAL" or "MNI152" if the header
        has the code of one of these, "individual" for scanner coordinates, and None
        if it states nothing.

    Raises
    ------
    ValueError
        If the header does not say where its voxels are.
    """
    with _opened(path) as image:
        header = image.header
        codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        raise ValueError(
            f"{path} must say where its voxels are; its header has neither sform nor "
            "qform (both codes are 0), so left and right could be exchanged. Write the "
            "affine of the original image into it."
        )
    match = re.search(r"_space-([^_]+)_", path.name)
    if match:
        return _NAMES_OF_SPACES.get(match[1], match[1])
    return {1: "individual", 3: "TAL", 4: "MNI152"}.get(codes[0] or codes[1])


def check_stated_space(path: Path, space: str) -> None:
    """Refuse an image whose name or header says that it is in another space.

    Parameters
    ----------
    path : Path
        NIfTI image.
    space : str
        The space in which it is taken to be. Nothing is asked of voxels without known
        place, ``"none"``.

    Raises
    ------
    ValueError
        If the name or the header's code contradicts, or the header does not say where
        its voxels are. Scanner coordinates in a header (code 1) contradict nothing:
        programs keep that code after a normalisation. Another template of MNI152 is
        let through with a warning.
    """
    if space == "none":
        return
    stated = header_space(path)
    named = re.search(r"_space-([^_]+)_", path.name) is not None
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
        f"{stated}. Correct the one that is wrong, or bring the image into that space."
    )


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mask and affine of a NIfTI file.

    Parameters
    ----------
    path : Path
        An image of 0 (or NaN) and one other value.

    Returns
    -------
    mask : ndarray of bool, shape (x, y, z)
        Where the image is neither 0 nor NaN.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Raises
    ------
    ValueError
        If the image is not 3-D, is empty, or has more than two values.
    """
    values, affine = read_image(path)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise ValueError(f"{path} must be a mask (x, y, z); got {values.shape}.")
    mask = np.asarray((values != 0) & ~np.isnan(values))
    inside = np.asarray(values[mask])
    if not inside.size:
        raise ValueError(
            f"{path} must be a mask with at least one voxel; all {mask.size} are 0 or "
            "NaN."
        )
    if not (inside == inside[0]).all():
        raise ValueError(
            f"{path} must be a mask of 0 and one other value; got values from "
            f"{inside.min():g} to {inside.max():g}. Choose its voxels by a threshold "
            "first."
        )
    return mask, affine


def write_image(path: Path, values: np.ndarray, affine: np.ndarray, space: str) -> None:
    """Write a NIfTI-1 file.

    Parameters
    ----------
    path : Path
        The file to make.
    values : ndarray of shape (x, y, z) or (x, y, z, n_images)
        Stored in their type, without scaling.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm; the header keeps it in float32.
    space : str
        The header's code says Talairach, MNI, or else "aligned".

    Raises
    ------
    ValueError
        If an axis is longer than NIfTI-1 can count.
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


@contextmanager
def _opened(path: Path) -> "Iterator[nibabel.Nifti1Image]":
    """A NIfTI image to read from; what fails within is one sentence."""
    import nibabel

    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        # kept open: every opening of a compressed file begins at its first byte
        image = nibabel.load(path, keep_file_open=True)
        if not isinstance(image, nibabel.Nifti1Image):
            raise ValueError(f"it is a {type(image).__name__}")
        yield image
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        EOFError,
        OSError,
        OverflowError,  # a length that no file can have
        ValueError,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} must be a whole NIfTI image; reading it fails with: "
            f"{' '.join(str(error).split())}."
        ) from error


def _check_run(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse an image that is no series of scans."""
    if len(shape) != 4 or shape[3] < 2:
        raise ValueError(
            f"{path} must be a run (x, y, z, n_scans) of two scans or more; got "
            f"{shape}."
        )


def _blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Some volumes at a time, with the number of the first."""
    with _opened(path) as image:
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
    """Where a mask's voxels, in C order, lie in a volume in Fortran order."""
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
