"""Sectors made from labels, activity and a coordinate cut: EarlyV, pOTC, aOTC."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.sectors.sector import Sector, check_same_grid
from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.spaces import to_talairach
from versa.wording import listing, unknown

logger = logging.getLogger("versa")

PAPER_CUT = -53.0  # mm, Talairach y
ON_PLANE = 1e-4  # mm; voxels this close to a plane are on it


def union(sectors: Iterable[Sector], *, name: str) -> Sector:
    """All voxels of some sectors on one grid, such as V1, V2 and V3."""
    items = list(sectors)
    if not items:
        raise ValueError(f"sector {name} must be the union of one or more; got none.")
    check_same_grid(items)
    mask = np.any([item.mask for item in items], axis=0)
    return replace(items[0], name=name, mask=mask)


def without(sector: Sector, *others: Sector) -> Sector:
    """A sector without the voxels of others on its grid; refuses that none is left."""
    check_same_grid([sector, *others])
    mask = sector.mask.copy()
    for other in others:
        mask &= ~other.mask
    if not mask.any():
        raise ValueError(
            f"sector {sector.name} must have voxels outside "
            f"{listing(other.name for other in others)}; all its {sector.n_voxels} "
            "voxels are inside."
        )
    return replace(sector, mask=mask)


def group_contrast(
    contrasts: Sequence[ArrayLike],
    affines: Sequence[ArrayLike] | None = None,
    *,
    statistic: str = "t",
) -> np.ndarray:
    """One map of activity for all subjects.

    Parameters
    ----------
    contrasts : sequence of array-like of shape (x, y, z)
        One contrast of betas per subject, such as [all > rest], on one grid.
    affines : sequence of array-like of shape (4, 4), optional
        The affines of the contrasts: checked to be one, since images of equal shape
        may be placed in the head differently.
    statistic : {"t", "mean"}, default="t"
        The t value of a one-sample t-test over subjects, or the mean.

    Returns
    -------
    contrast : ndarray of shape (x, y, z)
        NaN where any subject has no finite value, and for "t" also where subjects do
        not differ at all.

    Raises
    ------
    ValueError
        If the grids differ, or there are too few subjects.

    Examples
    --------
    >>> group_contrast([[[[1.0, 2]]], [[[3.0, np.nan]]]]).round(6)
    array([[[ 2., nan]]])
    """
    if statistic not in ("t", "mean"):
        raise ValueError(unknown("statistic", statistic, ["t", "mean"]))
    maps = [np.asarray(contrast, dtype=float) for contrast in contrasts]
    least = 2 if statistic == "t" else 1
    if len(maps) < least:
        raise ValueError(
            f"contrasts must come from at least {least} subjects for the {statistic}; "
            f"got {len(maps)}."
        )
    for number, one in enumerate(maps):
        if one.ndim != 3 or one.shape != maps[0].shape:
            raise ValueError(
                f"contrasts must share one shape (x, y, z); contrast 0 is "
                f"{maps[0].shape}, contrast {number} is {one.shape}."
            )
    if affines is not None:
        grids = [np.asarray(affine, dtype=float) for affine in affines]
        if len(grids) != len(maps):
            raise ValueError(
                f"affines must be one per contrast; got {len(grids)} for {len(maps)}."
            )
        for number, grid in enumerate(grids):
            if not same_grid(maps[0].shape, grids[0], maps[0].shape, grid):
                raise ValueError(
                    "contrasts must be on one grid; contrast 0 has the affine "
                    f"{grids[0].tolist()}, contrast {number} has {grid.tolist()}. "
                    "Resample them onto one grid first (versa.fmri.volumes.onto_grid)."
                )
    stack = np.stack(maps)
    stack[:, ~np.isfinite(stack).all(axis=0)] = np.nan
    mean = stack.mean(axis=0)
    if statistic == "mean":
        return mean
    error = stack.std(axis=0, ddof=1) / np.sqrt(len(stack))
    # equal values leave a rounding error of a few units in the last place
    error[error <= 1e-14 * np.abs(mean)] = np.nan
    return mean / error


def most_active(
    sector: Sector,
    contrast: ArrayLike,
    n_voxels: int = 1000,
    *,
    per_hemisphere: bool = False,
    affine: ArrayLike | None = None,
) -> Sector:
    """The voxels of a sector that have the largest contrast.

    Parameters
    ----------
    sector : Sector
        Where to choose.
    contrast : array-like of shape (x, y, z)
        Activity on the sector's grid, such as [all > rest] of the subject or
        :func:`group_contrast`. Voxels without a finite value are never chosen.
    n_voxels : int, default=1000
        How many voxels to choose. Of equally active voxels at the border the first
        ones, in C order of the grid, are taken.
    per_hemisphere : bool, default=False
        Choose `n_voxels` in each hemisphere instead of in total. Left is x < 0 mm,
        right is x > 0 mm; voxels at x = 0 belong to neither and are not chosen.
    affine : array-like of shape (4, 4), optional
        Affine of the contrast: checked to be the sector's.

    Returns
    -------
    sector : Sector
        Of the same name.

    Raises
    ------
    ValueError
        If the contrast is on another grid, there are fewer voxels than asked for,
        or hemispheres are asked for in a space without places.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4: 1,000 voxels
    of an occipito-temporal mask, by [all objects > rest] at the group level.

    Examples
    --------
    >>> sector = Sector("OTC", np.ones((1, 1, 4), dtype=bool), np.eye(4), "TAL")
    >>> most_active(sector, [[[3.0, np.nan, 1.0, 2.0]]], 2).mask
    array([[[ True, False, False,  True]]])
    """
    values = np.asarray(contrast, dtype=float)
    own = sector.affine if affine is None else np.asarray(affine, dtype=float)
    if values.shape != sector.mask.shape or not same_grid(
        sector.mask.shape, sector.affine, values.shape, own
    ):
        raise ValueError(
            f"the contrast for sector {sector.name} must be on its grid, "
            f"{sector.mask.shape} with affine {sector.affine.tolist()}; got "
            f"{values.shape} with {own.tolist()}. Resample it first "
            "(versa.fmri.volumes.onto_grid)."
        )
    if not isinstance(n_voxels, Real) or n_voxels < 1 or n_voxels % 1 != 0:
        raise ValueError(f"n_voxels must be a whole number above 0; got {n_voxels!r}.")
    n_voxels = int(n_voxels)
    parts = {"": np.ones(sector.n_voxels, dtype=bool)}
    if per_hemisphere:
        if sector.space == "none":
            raise ValueError(
                f"sector {sector.name} must have places in the head to be halved into "
                "hemispheres; its space is 'none'. Choose voxels in total, or in a "
                "sector of each hemisphere."
            )
        x = sector.coordinates[:, 0]
        parts = {
            " in the left hemisphere": x < -ON_PLANE,
            " in the right hemisphere": x > ON_PLANE,
        }
    inside = values[sector.mask]
    chosen = np.zeros(sector.n_voxels, dtype=bool)
    for where, part in parts.items():
        candidates = np.flatnonzero(part & np.isfinite(inside))
        if candidates.size < n_voxels:
            raise ValueError(
                f"sector {sector.name} must have at least n_voxels = {n_voxels} voxels "
                f"with a finite contrast{where}; it has {candidates.size}. Ask for "
                "fewer, or widen the mask."
            )
        order = np.argsort(-inside[candidates], kind="stable")
        chosen[candidates[order[:n_voxels]]] = True
    n_below = int(np.count_nonzero(inside[chosen] <= 0))
    if n_below:
        logger.warning(
            "%d of the %d most active voxels of sector %s have a contrast of 0 or "
            "less: the mask has few active voxels.",
            n_below,
            np.count_nonzero(chosen),
            sector.name,
        )
    mask = np.zeros_like(sector.mask)
    mask[sector.mask] = chosen
    return replace(sector, mask=mask)


def posterior_of(
    coordinates: ArrayLike,
    space: str,
    y: float = PAPER_CUT,
    *,
    transform: str = "lancaster",
    closed: str = "posterior",
) -> np.ndarray:
    """Which places (n, 3) in mm are behind a coronal plane of Talairach space.

    True on the plane (within 1e-4 mm) if `closed` is "posterior".
    """
    if closed not in ("posterior", "anterior"):
        raise ValueError(unknown("closed", closed, ["posterior", "anterior"]))
    _check_plane(y)
    edge = y + ON_PLANE * (1 if closed == "posterior" else -1)
    return to_talairach(coordinates, space, transform=transform)[:, 1] <= edge


def split_at_y(
    sector: Sector,
    y: float = PAPER_CUT,
    *,
    transform: str = "lancaster",
    closed: str = "posterior",
) -> tuple[Sector, Sector]:
    """Halve a sector at a coronal plane of Talairach space, voxel by voxel.

    Parameters
    ----------
    sector : Sector
        In Talairach or MNI space.
    y : float, default=-53.0
        Talairach y of the plane, in mm.
    transform : {"lancaster", "lancaster-spm", "lancaster-fsl", "brett"}
        From MNI to Talairach, see :func:`~versa.fmri.volumes.to_talairach`; in MNI
        space the plane is tilted.
    closed : {"posterior", "anterior"}, default="posterior"
        The half that voxels on the plane (within 1e-4 mm) belong to.

    Returns
    -------
    posterior, anterior : Sector
        Their names have the prefixes "p" and "a", as in pOTC and aOTC.

    Raises
    ------
    ValueError
        If the space is unknown, `y` is not a number, or one half would be empty.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4: Talairach
    y = -53 between pOTC and aOTC.

    Examples
    --------
    >>> affine = np.array([[3.0, 0, 0, 30], [0, 3, 0, -60], [0, 0, 3, 0], [0, 0, 0, 1]])
    >>> sector = Sector("OTC", np.ones((1, 4, 1), dtype=bool), affine, "TAL")
    >>> [(half.name, half.n_voxels) for half in split_at_y(sector)]
    [('pOTC', 3), ('aOTC', 1)]
    """
    _check_plane(y)
    if sector.space in ("individual", "none"):
        raise ValueError(
            f"sector {sector.name} must be in TAL or MNI152... to be cut at Talairach "
            f"y = {y:g}; its space is {sector.space!r}. Normalise its mask to one of "
            "them first, or make masks of the two halves."
        )
    behind = posterior_of(
        sector.coordinates, sector.space, y, transform=transform, closed=closed
    )
    if behind.all() or not behind.any():
        raise ValueError(
            f"sector {sector.name} must have voxels on both sides of Talairach y = "
            f"{y:g}; all its {sector.n_voxels} voxels are "
            f"{'posterior' if behind.all() else 'anterior'}. Check its affine and "
            "space."
        )
    halves = []
    for prefix, chosen in (("p", behind), ("a", ~behind)):
        mask = np.zeros_like(sector.mask)
        mask[sector.mask] = chosen
        halves.append(replace(sector, name=f"{prefix}{sector.name}", mask=mask))
    return halves[0], halves[1]


def define_sectors(
    early: Sector,
    occipito_temporal: Sector,
    contrast: ArrayLike,
    *,
    exclude: Iterable[Sector] = (),
    n_voxels: int = 1000,
    per_hemisphere: bool = False,
    y: float = PAPER_CUT,
    transform: str = "lancaster",
    closed: str = "posterior",
    affine: ArrayLike | None = None,
) -> dict[str, Sector]:
    """EarlyV, pOTC and aOTC by the recipe of Konkle & Alvarez (2022).

    Parameters
    ----------
    early : Sector
        V1-V3 of the subject.
    occipito_temporal : Sector
        Mask of occipito-temporal cortex; voxels of `early` are left out of it.
    contrast : array-like of shape (x, y, z)
        [all > rest], of the subject or of the group.
    exclude : iterable of Sector
        More voxels to leave out. For a definition at group level pass EarlyV of all
        subjects: then all of them get the same pOTC and aOTC.
    n_voxels : int, default=1000
        How many of the most active voxels to choose.
    per_hemisphere : bool, default=False
        Choose `n_voxels` in each hemisphere, see :func:`most_active`. The paper's
        sentence can be read both ways.
    y : float, default=-53.0
        Talairach y of the cut, in mm.
    transform : {"lancaster", "lancaster-spm", "lancaster-fsl", "brett"}
        From MNI to Talairach, see :func:`~versa.fmri.volumes.to_talairach`.
    closed : {"posterior", "anterior"}, default="posterior"
        The half that voxels on the plane belong to, see :func:`split_at_y`.
    affine : array-like of shape (4, 4), optional
        Affine of the contrast: checked to be that of the sectors.

    Returns
    -------
    sectors : dict of str to Sector
        ``"EarlyV"``, ``"pOTC"`` and ``"aOTC"``, without common voxels.

    Raises
    ------
    ValueError
        If the grids differ or a step leaves no voxels.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
    """
    cortex = without(occipito_temporal, early, *exclude)
    active = most_active(
        cortex, contrast, n_voxels, per_hemisphere=per_hemisphere, affine=affine
    )
    posterior, anterior = split_at_y(active, y, transform=transform, closed=closed)
    return {
        "EarlyV": replace(early, name="EarlyV"),
        "pOTC": replace(posterior, name="pOTC"),
        "aOTC": replace(anterior, name="aOTC"),
    }


def _check_plane(y: float) -> None:
    """Refuse a plane that is not a number of mm."""
    if not isinstance(y, Real) or not np.isfinite(y):
        raise ValueError(f"y must be a number, in mm; got {y!r}.")
