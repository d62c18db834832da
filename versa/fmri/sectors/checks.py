"""What to look at before sectors are used: where they are, and what looks wrong."""

import re
from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from versa.fmri.sectors.making import ON_PLANE, PAPER_CUT, posterior_of
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.spaces import has_talairach, stated_side, to_talairach

if TYPE_CHECKING:
    from pandas import DataFrame

_POSTERIOR = re.compile(r"early ?v|(?<![a-z])v[123](?![0-9a-z])|potc", re.IGNORECASE)
_ANTERIOR = re.compile(r"aotc", re.IGNORECASE)


def sector_table(
    sectors: Iterable[Sector], *, transform: str = "lancaster"
) -> "DataFrame":
    """Where the sectors of a subject or group are, and how large; one row per sector.

    `left`, `right`: voxels at x < 0 and x > 0 mm; `x`, `y`, `z`: centroid in mm;
    `tal_y_min`, `tal_y_max`: range of Talairach y; `shared`: voxels that other sectors
    on the same grid have too, and `shared_with` which. Unknown places are missing.
    """
    import pandas as pd

    items = list(sectors)
    rows = []
    for sector in items:
        placed = sector.space != "none"
        coordinates = sector.coordinates
        centroid = coordinates.mean(axis=0) if placed else np.full(3, np.nan)
        y = np.array([np.nan])
        if has_talairach(sector.space):
            y = to_talairach(coordinates, sector.space, transform=transform)[:, 1]
        others = [
            other
            for other in items
            if other is not sector and _comparable(sector, other)
        ]
        elsewhere = np.zeros_like(sector.mask)
        for other in others:
            elsewhere |= other.mask
        n_shared = np.count_nonzero(sector.mask & elsewhere)
        shared = [(_n_common(sector, other), other.name) for other in others]
        voxel = abs(np.linalg.det(sector.affine[:3, :3]))
        sides = _sides(sector) if placed else {"left": pd.NA, "right": pd.NA}
        rows.append(
            {
                "sector": sector.name,
                "space": sector.space,
                "n_voxels": sector.n_voxels,
                "mm3": round(sector.n_voxels * voxel, 6) if placed else np.nan,
                **sides,
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
    sectors: Iterable[Sector],
    *,
    y: float = PAPER_CUT,
    transform: str = "lancaster",
    n_fewest: int = 50,
) -> list[str]:
    """A sentence for each thing that looks wrong with sectors of a subject or group.

    These are: fewer than `n_fewest` voxels; voxels against the side that the name says,
    or in one hemisphere only; EarlyV, V1-V3, pOTC or aOTC across the cut at Talairach
    `y`; common voxels.
    """
    items = list(sectors)
    found = []
    for sector in items:
        if sector.n_voxels < n_fewest:
            found.append(
                f"{sector.name}: only {sector.n_voxels} voxels, fewer than {n_fewest}."
            )
        if sector.space != "none":
            found += _side_warnings(sector)
        if has_talairach(sector.space):
            found += _cut_warnings(sector, y, transform)
    for one, two in combinations(items, 2):
        if _comparable(one, two) and (n_common := _n_common(one, two)):
            found.append(f"{one.name} and {two.name}: {n_common} voxels in common.")
    return found


def against_name(sector: Sector, name: str, *, of_file: bool = False) -> list[str]:
    """A sentence if voxels are in another hemisphere than a name says."""
    named = stated_side(name, of_file=of_file)
    if named is None or sector.space == "none":
        return []
    wrong = "right" if named == "left" else "left"
    n_wrong = _sides(sector)[wrong]
    # x = 0 of an individual image is not the plane between the hemispheres
    fewest = sector.n_voxels / 2 if sector.space == "individual" else 0
    if n_wrong <= fewest:
        return []
    return [
        f"{name}: {n_wrong} of {sector.n_voxels} voxels are in the {wrong} hemisphere, "
        "against its name."
    ]


def _sides(sector: Sector) -> dict[str, int]:
    """Number of voxels in each hemisphere; those at x = 0 are in neither."""
    x = sector.coordinates[:, 0]
    return {
        "left": int(np.count_nonzero(x < -ON_PLANE)),
        "right": int(np.count_nonzero(x > ON_PLANE)),
    }


def _side_warnings(sector: Sector) -> list[str]:
    """Sentences about the hemispheres of one sector."""
    if stated_side(sector.name):
        return against_name(sector, sector.name)
    counts = _sides(sector)
    if (counts["left"] == 0) != (counts["right"] == 0):
        side = "left" if counts["left"] else "right"
        return [f"{sector.name}: all voxels are in the {side} hemisphere."]
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
        f"{sector.name}: {n_wrong} of {sector.n_voxels} voxels are "
        f"{'anterior' if posterior else 'posterior'} of Talairach y = {y:g}."
    ]


def _comparable(one: Sector, two: Sector) -> bool:
    """Whether two sectors are on the same voxels of a head."""
    return one.space == two.space != "none" and same_grid(
        one.mask.shape, one.affine, two.mask.shape, two.affine
    )


def _n_common(one: Sector, two: Sector) -> int:
    """Number of voxels in both."""
    return int(np.count_nonzero(one.mask & two.mask))
