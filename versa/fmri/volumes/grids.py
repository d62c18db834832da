"""Images on one grid: as they are, re-ordered exactly, or resampled if asked."""

import numpy as np

from versa.wording import unknown

# Voxels that one image may be off another and still be on its grid: programs keep
# affines in float32, or as text. All rooms ask this question here.
AFFINE_TOLERANCE = 0.01

_RESAMPLE = ("nearest", "linear")


def orientation(affine: np.ndarray) -> str:
    """Directions in which the axes grow, such as "RAS": right, anterior, superior.

    An oblique axis has the letter it is closest to.
    """
    import nibabel

    return "".join(letter or "?" for letter in nibabel.aff2axcodes(affine))


def same_grid(
    shape: tuple[int, ...],
    affine: np.ndarray,
    other_shape: tuple[int, ...],
    other_affine: np.ndarray,
) -> bool:
    """Whether two images have their voxels at the same places, in the same order.

    Only the first three axes of the shapes count; no voxel may be displaced by more
    than `AFFINE_TOLERANCE`, a hundredth of a voxel.
    """
    if tuple(shape[:3]) != tuple(other_shape[:3]):
        return False
    if np.array_equal(affine, other_affine):
        return True
    if not np.isfinite(other_affine).all() or np.linalg.matrix_rank(other_affine) < 4:
        return False
    return _agree(shape, np.linalg.solve(other_affine, affine), np.eye(4))


def onto_grid(
    values: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    target_affine: np.ndarray,
    *,
    what: str,
    resample: str | None = None,
) -> np.ndarray:
    """Put an image on another grid, without moving anything in the head.

    Parameters
    ----------
    values : ndarray of shape (x, y, z) or (x, y, z, n_images)
        The image.
    affine : ndarray of shape (4, 4)
        Its affine, from voxel indices to mm.
    shape : tuple of int
        Shape of the other grid; only the first three axes count.
    target_affine : ndarray of shape (4, 4)
        Affine of the other grid.
    what : str
        What the image is, for the error message.
    resample : {"nearest", "linear"}, optional
        How to interpolate if the grids differ in more than the order and direction of
        their axes: "nearest" for masks and labels, "linear" for maps.

    Returns
    -------
    values : ndarray of shape (x, y, z) or (x, y, z, n_images)
        The image on the other grid: itself if the grids agree; with its axes flipped
        and exchanged, which changes no value, if the voxels are at the same places in
        another order; else interpolated, with 0 where it does not reach.

    Raises
    ------
    ValueError
        If the voxels are at other places and `resample` is not given, an affine is not
        invertible, or the image does not reach the other grid.

    Examples
    --------
    >>> left = np.arange(3).reshape(3, 1, 1)
    >>> las = np.array([[-2.0, 0, 0, 4], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    >>> ras = np.diag([2.0, 2, 2, 1])
    >>> onto_grid(left, las, (3, 1, 1), ras, what="mask").ravel()
    array([2, 1, 0])
    """
    if resample is not None and resample not in _RESAMPLE:
        raise ValueError(unknown("resample", resample, _RESAMPLE))
    for one in (affine, target_affine):
        if not np.isfinite(one).all() or np.linalg.matrix_rank(one) < 4:
            raise ValueError(
                f"{what}: affines must be finite and invertible; got "
                f"{np.asarray(one).tolist()}. Correct the header."
            )
    if same_grid(values.shape, affine, shape, target_affine):
        return values
    reordered = _reordered(values, affine, tuple(shape[:3]), target_affine)
    if reordered is not None:
        return reordered
    if resample is None:
        raise ValueError(
            f"{what} must have its voxels where the data have theirs: it is "
            f"{_description(values.shape, affine)}, the data are "
            f"{_description(shape, target_affine)}. Nothing is resampled unless "
            "asked: pass resample='nearest' for masks and labels ('linear' for maps), "
            "or resample it onto the grid of the data first."
        )
    found = _resampled(values, affine, tuple(shape[:3]), target_affine, resample)
    if found is None or (values.any() and not found.any()):
        raise ValueError(
            f"{what} must reach the data to be resampled; it is "
            f"{_description(values.shape, affine)}, the data are "
            f"{_description(shape, target_affine)}. Are they in one space?"
        )
    return found


def _agree(shape: tuple[int, ...], mapping: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two maps of voxel indices agree at every corner of the grid."""
    if not (np.isfinite(mapping).all() and np.isfinite(expected).all()):
        return False
    corners = np.array(
        [[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1)
         for k in (0, shape[2] - 1)],
        dtype=float,
    )  # fmt: skip
    return bool(np.abs(corners @ (mapping - expected).T).max() <= AFFINE_TOLERANCE)


def _reordered(
    values: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    target_affine: np.ndarray,
) -> np.ndarray | None:
    """The same voxels in the order of another grid; None if they are elsewhere."""
    mapping = np.linalg.solve(target_affine, affine)  # from own to target indices
    if not np.isfinite(mapping).all():
        return None
    turn = np.round(mapping[:3, :3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (
        (np.abs(turn).sum(axis=1) == 1).all()
    ):
        return None
    order = np.abs(turn).argmax(axis=1)  # which own axis runs along each target axis
    if tuple(values.shape[axis] for axis in order) != shape:
        return None
    flips = turn.sum(axis=1) < 0
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[:3, 3] = np.where(flips, np.array(shape) - 1, 0)
    if not _agree(values.shape, mapping, exact):
        return None
    moved = values.transpose(*order, *range(3, values.ndim))
    return moved[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _resampled(
    values: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
    target_affine: np.ndarray,
    interpolation: str,
) -> np.ndarray | None:
    """Interpolated by nilearn; "nearest" keeps the type. None where nothing meets."""
    import nibabel
    from nilearn.image import resample_img
    from nilearn.image.resampling import BoundingBoxError

    kept = interpolation == "nearest" and values.dtype.kind in "biu"
    image = nibabel.Nifti1Image(values.astype(np.float64), affine)
    try:
        found = resample_img(
            image,
            target_affine=np.asarray(target_affine, dtype=float),
            target_shape=shape,
            interpolation=interpolation,
            copy_header=True,
            force_resample=True,
        )
    except BoundingBoxError:
        return None
    result = np.asanyarray(found.dataobj)
    return result.astype(values.dtype) if kept else result


def _description(shape: tuple[int, ...], affine: np.ndarray) -> str:
    """Shape, voxel size, orientation and origin of a grid, for a sentence."""
    sizes = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    grid = " x ".join(str(n) for n in shape[:3])
    size = " x ".join(f"{value:.4g}" for value in sizes)
    origin = ", ".join(f"{value:.4g}" for value in np.asarray(affine)[:3, 3])
    return f"{grid} voxels of {size} mm, {orientation(affine)}, first at ({origin})"
