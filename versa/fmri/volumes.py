"""Volumes on disk, and the voxels in them: the only place that opens NIfTI files."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = [
    "fill_volumes",
    "list_grid",
    "read_image",
    "read_mask",
    "take_voxels",
    "write_image",
]

_LONGEST_AXIS = 32767  # NIfTI-1 counts voxels along an axis in int16
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
    import nibabel

    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise ValueError(f"it is a {type(image).__name__}")
        values = np.asanyarray(image.dataobj)
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} must be a whole NIfTI image; reading it fails with: "
            f"{' '.join(str(error).split())}."
        ) from error
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers; got {values.dtype}.")
    return values, image.affine


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mask and affine of a NIfTI file.

    Parameters
    ----------
    path : Path
        An image of 0 and one other value.

    Returns
    -------
    mask : ndarray of bool, shape (x, y, z)
        Where the image is not 0.
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
    mask = np.asarray(values != 0)
    inside = np.asarray(values[mask])
    if not inside.size:
        raise ValueError(
            f"{path} must be a mask with at least one voxel; all {mask.size} are 0."
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
