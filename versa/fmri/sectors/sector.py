"""Sector: a named set of voxels on a grid with a known place in the head."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.spaces import check_space


@dataclass(frozen=True, eq=False, repr=False)
class Sector:
    """One sector of one subject's brain.

    Parameters
    ----------
    name : str
        Such as ``"EarlyV"``.
    mask : ndarray of bool, shape (x, y, z)
        The sector's voxels. Columns of responses follow it in C order, as in
        ``volume[mask]``.
    affine : array-like of shape (4, 4)
        From voxel indices to mm.
    space : str
        ``"TAL"``, ``"MNI152..."`` (with its variant), ``"individual"``, or ``"none"``
        for voxels whose place is not known.

    Attributes
    ----------
    n_voxels : int
        Number of voxels in the mask.
    coordinates : ndarray of shape (n_voxels, 3)
        Voxel centers in mm, in C order of the mask.

    Raises
    ------
    ValueError
        If the name is empty, the mask is not boolean, not 3-D or empty, the affine is
        not invertible, or the space is unknown.

    Examples
    --------
    >>> mask = np.zeros((2, 3, 4), dtype=bool)
    >>> mask[1, 2, 3] = True
    >>> sector = Sector("EarlyV", mask, np.diag([3.0, 3.0, 3.0, 1.0]), "TAL")
    >>> sector
    <Sector EarlyV: 1 of 2 x 3 x 4 voxels, TAL>
    >>> sector.coordinates
    array([[3., 6., 9.]])
    """

    name: str
    mask: np.ndarray
    affine: np.ndarray
    space: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"a sector's name must be a text; got {self.name!r}.")
        mask = np.asarray(self.mask)
        if mask.dtype != bool:
            raise ValueError(
                f"sector {self.name}: mask must be boolean; got {mask.dtype}. "
                "Choose its voxels by a comparison, such as image > 0."
            )
        if mask.ndim != 3:
            raise ValueError(
                f"sector {self.name}: mask must be (x, y, z); got {mask.shape}."
            )
        if not mask.any():
            raise ValueError(
                f"sector {self.name}: mask must hold at least one voxel; "
                f"got none among {mask.size}."
            )
        affine = np.asarray(self.affine, dtype=float)
        if affine.shape != (4, 4):
            raise ValueError(
                f"sector {self.name}: affine must be (4, 4); got {affine.shape}."
            )
        if (
            not np.isfinite(affine).all()
            or affine[3].tolist() != [0, 0, 0, 1]
            or np.linalg.matrix_rank(affine) < 4
        ):
            raise ValueError(
                f"sector {self.name}: affine must be finite and invertible with a last "
                f"row of 0 0 0 1; got {affine.tolist()}."
            )
        check_space(self.space)
        for field, array in (("mask", mask), ("affine", affine)):
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    def __repr__(self) -> str:
        grid = " x ".join(map(str, self.mask.shape))
        return f"<Sector {self.name}: {self.n_voxels} of {grid} voxels, {self.space}>"

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def coordinates(self) -> np.ndarray:
        """Voxel centers in mm, shape (n_voxels, 3), in C order of the mask."""
        return np.argwhere(self.mask) @ self.affine[:3, :3].T + self.affine[:3, 3]


def check_same_grid(sectors: Iterable[Sector]) -> None:
    """Refuse sectors that differ in space or grid from the first one."""
    first, *others = sectors
    shape = first.mask.shape
    differing: tuple[str, object, object]
    for other in others:
        if first.space != other.space:
            differing = "space", first.space, other.space
        elif shape != other.mask.shape:
            differing = "shape", shape, other.mask.shape
        elif not same_grid(shape, first.affine, shape, other.affine):
            differing = "affine", first.affine.tolist(), other.affine.tolist()
        else:
            continue
        what, value, others_value = differing
        raise ValueError(
            f"sectors must share one grid: {first.name} has {what} {value}, "
            f"{other.name} has {what} {others_value}. Resample both masks onto one "
            "grid first."
        )
