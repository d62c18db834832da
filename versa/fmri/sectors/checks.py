"""What to look at before sectors are used: where they lie, and what looks wrong."""

import re
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from versa.fmri.sectors.making import PAPER_CUT, posterior_of
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.spaces import to_talairach

if TYPE_CHECKING:
    from pandas import DataFrame

_MIDLINE = 1e-4  # mm; a NIfTI header keeps an affine in float32
# A side in a name: a word of its own (lh, left, L), or capitals as in LHOTC, otcLeft.
_SIDE = re.compile(
    r"(?:(?<![A-Za-z])(?:lh|rh|left|right|LEFT|RIGHT|[lLrR](?![A-Za-z]))"
    r"|(?<![A-Z])(?:LH|RH|Left|Right))(?![a-z])"
)
_POSTERIOR = re.compile(r"early ?v|(?<![a-z])v[123](?![0-9a-z])|potc", re.IGNORECASE)
_ANTERIOR = re.compile(r"aotc", re.IGNORECASE)


def sector_table(
    sectors: Mapping[str, Sector] | Iterable[Sector], *, transform: str = "lancaster"
) -> "DataFrame":
    """Where sectors lie and how large they are.

    Parameters
    ----------
    sectors : mapping to, or iterable of, Sector
        Sectors of one subject or of a group.
    transform : str, default="lancaster"
        From MNI to Talairach, as of :func:`~versa.fmri.volumes.spaces.to_talairach`.

    Returns
    -------
    table : DataFrame
        One row per sector: `sector`, `space`, `n_voxels`, `mm3`, voxels at x < 0 mm
        (`left`) and x > 0 mm (`right`), the centroid `x`, `y`, `z` in mm, the range of
        Talairach y in mm (`tal_y_min`, `tal_y_max`; NaN in other spaces than TAL and
        MNI), `shared`: voxels that another sector has as well, and `shared_with`:
        which sectors, with numbers. Sectors on different grids are not compared, and
        what a space without places cannot tell is missing. In individual space left
        and right are those of the image's own x = 0.

    Examples
    --------
    >>> mask = np.ones((1, 1, 2), dtype=bool)
    >>> sector = Sector("V1", mask, np.diag([2.0, 2, 2, 1]), "TAL")
    >>> sector_table([sector])[["sector", "n_voxels", "mm3", "z"]]
      sector  n_voxels   mm3    z
    0     V1         2  16.0  1.0
    """
    import pandas as pd

    items = _listed(sectors)
    rows = []
    for sector in items:
        placed = sector.space != "none"
        x = sector.coordinates[:, 0]
        centroid = sector.coordinates.mean(axis=0) if placed else np.full(3, np.nan)
        y = np.array([np.nan])
        if _cuttable(sector):
            y = to_talairach(sector.coordinates, sector.space, transform=transform)[
                :, 1
            ]
        rivals = [
            other
            for other in items
            if other is not sector and _comparable(sector, other)
        ]
        elsewhere = np.zeros_like(sector.mask)
        for other in rivals:
            elsewhere |= other.mask
        n_shared = np.count_nonzero(sector.mask & elsewhere)
        shared = [(_n_common(sector, other), other.name) for other in rivals]
        voxel = abs(np.linalg.det(sector.affine[:3, :3]))
        rows.append(
            {
                "sector": sector.name,
                "space": sector.space,
                "n_voxels": sector.n_voxels,
                "mm3": round(sector.n_voxels * voxel, 6) if placed else np.nan,
                "left": np.count_nonzero(x < -_MIDLINE) if placed else pd.NA,
                "right": np.count_nonzero(x > _MIDLINE) if placed else pd.NA,
                **dict(zip("xyz", centroid, strict=True)),
                "tal_y_min": y.min(),
                "tal_y_max": y.max(),
                "shared": n_shared if placed else pd.NA,
                "shared_with": ", ".join(f"{name} {n}" for n, name in shared if n),
            }
        )
    counts = dict.fromkeys(["left", "right", "shared"], "Int64")
    return pd.DataFrame(rows).astype(counts)


def sector_warnings(
    sectors: Mapping[str, Sector] | Iterable[Sector],
    *,
    y: float = PAPER_CUT,
    transform: str = "lancaster",
    n_fewest: int = 50,
) -> list[str]:
    """What looks wrong with sectors, in sentences.

    Parameters
    ----------
    sectors : mapping to, or iterable of, Sector
        Sectors of one subject or of a group.
    y : float, default=-53.0
        Talairach y in mm of the cut between posterior and anterior sectors.
    transform : str, default="lancaster"
        From MNI to Talairach.
    n_fewest : int, default=50
        Sectors of fewer voxels are named.

    Returns
    -------
    warnings : list of str
        A sentence for each of: few voxels; a name that says left or right (LH, lh,
        Left, L ...) and voxels on the other side (in individual space: most voxels,
        since x = 0 need not lie between the hemispheres); voxels in one hemisphere
        only though the name says no side; EarlyV, V1-V3 or pOTC with voxels anterior
        of the cut, aOTC with voxels posterior of it; two sectors with common voxels.
        Places are not looked at where the space has none.

    Examples
    --------
    >>> affine = np.diag([-3.0, 3, 3, 1])
    >>> affine[:3, 3] = [-10, -90, 0]
    >>> mask = np.ones((3, 5, 4), dtype=bool)
    >>> sector_warnings([Sector("RH_EarlyV", mask, affine, "TAL")])
    ['RH_EarlyV: 60 of 60 voxels lie in the left hemisphere, against its name.']
    """
    items = _listed(sectors)
    found = []
    for sector in items:
        if sector.n_voxels < n_fewest:
            found.append(
                f"{sector.name}: only {sector.n_voxels} voxels, fewer than {n_fewest}."
            )
        if sector.space != "none":
            found += _side_warnings(sector)
        if _cuttable(sector):
            found += _cut_warnings(sector, y, transform)
    for one, two in combinations(items, 2):
        if _comparable(one, two) and (n_common := _n_common(one, two)):
            found.append(f"{one.name} and {two.name}: {n_common} voxels in common.")
    return found


def _side_warnings(sector: Sector) -> list[str]:
    """Sentences about the hemispheres of one sector."""
    x = sector.coordinates[:, 0]
    counts = {
        "left": np.count_nonzero(x < -_MIDLINE),
        "right": np.count_nonzero(x > _MIDLINE),
    }
    sides = {
        "left" if match[0][0].lower() == "l" else "right"
        for match in _SIDE.finditer(sector.name)
    }
    if len(sides) == 1:
        wrong = "right" if sides == {"left"} else "left"
        # x = 0 of an individual image is not the plane between the hemispheres
        fewest = sector.n_voxels / 2 if sector.space == "individual" else 0
        if counts[wrong] > fewest:
            return [
                f"{sector.name}: {counts[wrong]} of {sector.n_voxels} voxels lie in "
                f"the {wrong} hemisphere, against its name."
            ]
    elif (counts["left"] == 0) != (counts["right"] == 0):
        side = "left" if counts["left"] else "right"
        return [f"{sector.name}: all voxels lie in the {side} hemisphere."]
    return []


def _cut_warnings(sector: Sector, y: float, transform: str) -> list[str]:
    """Sentences about the side of the cut that the name of a sector promises."""
    posterior = bool(_POSTERIOR.search(sector.name))
    if posterior == bool(_ANTERIOR.search(sector.name)):
        return []
    behind = posterior_of(sector.coordinates, sector.space, y, transform=transform)
    n_wrong = np.count_nonzero(~behind if posterior else behind)
    if not n_wrong:
        return []
    return [
        f"{sector.name}: {n_wrong} of {sector.n_voxels} voxels lie "
        f"{'anterior' if posterior else 'posterior'} of Talairach y = {y:g}."
    ]


def _listed(sectors: Mapping[str, Sector] | Iterable[Sector]) -> list[Sector]:
    """Sectors as a list, whether or not they come by name."""
    return list(sectors.values() if isinstance(sectors, Mapping) else sectors)


def _cuttable(sector: Sector) -> bool:
    """Whether Talairach coordinates of the sector are known."""
    return sector.space == "TAL" or sector.space.startswith("MNI152")


def _comparable(one: Sector, two: Sector) -> bool:
    """Whether two sectors lie on the same voxels of a head."""
    return one.space == two.space != "none" and same_grid(
        one.mask.shape, one.affine, two.mask.shape, two.affine
    )


def _n_common(one: Sector, two: Sector) -> int:
    """Number of voxels in both."""
    return int(np.count_nonzero(one.mask & two.mask))
