"""Sector: a named set of voxels on a grid with a known place in the head."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["Sector", "check_same_grid", "check_space", "same_affine"]

_AFFINE_TOLERANCE = 1e-4  # mm; a NIfTI header keeps an affine in float32


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
        """Voxel centres in mm, shape (n_voxels, 3), in C order of the mask."""
        return np.argwhere(self.mask) @ self.affine[:3, :3].T + self.affine[:3, 3]


def check_space(space: str) -> None:
    """Refuse a space that versa does not know.

    Parameters
    ----------
    space : str
        The name to check.

    Raises
    ------
    ValueError
        If `space` is none of the names that :class:`Sector` takes.
    """
    known = ("TAL", "individual", "none")
    if isinstance(space, str) and (space in known or space.startswith("MNI152")):
        return
    raise ValueError(
        "space must be TAL, MNI152... (such as MNI152NLin2009cAsym), individual or "
        f"none; got {space!r}."
    )


def same_affine(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two affines agree to 1e-4 mm.

    Parameters
    ----------
    first, second : ndarray of shape (4, 4)
        The affines.

    Returns
    -------
    same : bool
        True if no element differs by more.
    """
    return bool(np.allclose(first, second, rtol=0.0, atol=_AFFINE_TOLERANCE))


def check_same_grid(sectors: Iterable[Sector]) -> None:
    """Refuse sectors that do not share shape, affine and space.

    Parameters
    ----------
    sectors : iterable of Sector
        At least two to be of use; the first one is the standard.

    Raises
    ------
    ValueError
        If a sector lies on another grid than the first; names both and both values.

    Examples
    --------
    >>> mask = np.ones((1, 1, 2), dtype=bool)
    >>> check_same_grid(
    ...     [Sector("V1", mask, np.eye(4), "TAL"), Sector("V2", mask, np.eye(4), "TAL")]
    ... )
    """
    items = list(sectors)
    for other in items[1:]:
        first = items[0]
        pairs = {
            "space": (first.space, other.space, first.space == other.space),
            "shape": (
                first.mask.shape,
                other.mask.shape,
                first.mask.shape == other.mask.shape,
            ),
            "affine": (
                first.affine.tolist(),
                other.affine.tolist(),
                same_affine(first.affine, other.affine),
            ),
        }
        for what, (one, two, same) in pairs.items():
            if not same:
                raise ValueError(
                    f"sectors must share one grid: {first.name} has {what} {one}, "
                    f"{other.name} has {what} {two}. Bring both masks onto one grid "
                    "first."
                )
