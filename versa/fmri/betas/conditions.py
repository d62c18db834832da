"""Betas: one subject's responses to every condition, voxel by voxel."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.reliability import voxel_reliability
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.voxels import check_estimates
from versa.wording import listing, unique_names


@dataclass(frozen=True, eq=False, repr=False)
class ConditionBetas:
    """Betas of one subject: one response per condition and voxel.

    Arrays are taken as float64 and are not copied when they are float64 already.

    Parameters
    ----------
    subject : str
        Label such as ``"01"``, with or without ``sub-``.
    conditions : sequence of str, length n_conditions
        Names of the rows, unique.
    values : array-like of shape (n_conditions, n_voxels)
        Betas over all runs, in C order of the mask.
    mask : ndarray of bool, shape (x, y, z)
        The voxels.
    affine : array-like of shape (4, 4)
        From voxel indices to mm.
    space : str
        See :class:`~versa.Sector`.
    odd, even : array-like of shape (n_conditions, n_voxels), optional
        Betas over the odd and the even runs (or repeats).
    activity : array-like of shape (n_voxels,), optional
        How active a voxel is: the contrast of all conditions against rest.
    unit : str, default="a.u."
        Unit of the betas.
    source : str, default=""
        How they were made, in a line.

    Raises
    ------
    ValueError
        If shapes or names do not belong together, or a condition is 0 or NaN in all
        voxels, as where nothing was estimated.

    Examples
    --------
    >>> mask = np.ones((1, 1, 3), dtype=bool)
    >>> values = [[1.0, 2, 3], [4, 5, 6]]
    >>> betas = ConditionBetas("01", ["cup", "dog"], values, mask, np.eye(4), "TAL")
    >>> betas
    <ConditionBetas of subject 01: 2 conditions, 3 voxels, TAL>
    >>> betas.in_order(["dog", "cup"]).values
    array([[4., 5., 6.],
           [1., 2., 3.]])
    """

    subject: str
    conditions: tuple[str, ...]
    values: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    space: str
    odd: np.ndarray | None = None
    even: np.ndarray | None = None
    activity: np.ndarray | None = None
    unit: str = "a.u."
    source: str = ""

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        put("subject", self.subject.removeprefix("sub-"))
        what = f"betas of subject {self.subject}"
        put("conditions", unique_names(self.conditions, f"conditions of {what}"))
        grid = Sector("mask", self.mask, self.affine, self.space)  # checks all three
        put("mask", grid.mask)
        put("affine", grid.affine)
        shape = len(self.conditions), grid.n_voxels
        if (self.odd is None) != (self.even is None):
            raise ValueError(f"{what} must have both odd and even, or neither.")
        for part, wanted in (
            ("values", shape),
            ("odd", shape),
            ("even", shape),
            ("activity", shape[1:]),
        ):
            given = getattr(self, part)
            if given is None:
                continue
            array = np.asarray(given, dtype=np.float64)
            if array.shape != wanted:
                rule = "(n_conditions, n_voxels)" if len(wanted) == 2 else "(n_voxels,)"
                turned = " Is it transposed?" if array.shape == wanted[::-1] else ""
                raise ValueError(
                    f"{part} of {what} must be {rule}, that is {wanted} for the "
                    f"{shape[0]} conditions and the mask; got {array.shape}.{turned}"
                )
            if array.ndim == 2:
                whole = f"{part} of subject {self.subject}"
                check_estimates(array, self.conditions, whole)
            view = array.view()
            view.flags.writeable = False
            put(part, view)

    def __repr__(self) -> str:
        return (
            f"<ConditionBetas of subject {self.subject}: {self.n_conditions} "
            f"conditions, {self.n_voxels} voxels, {self.space}>"
        )

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return len(self.conditions)

    @property
    def n_voxels(self) -> int:
        """Number of voxels in the mask."""
        return int(np.count_nonzero(self.mask))

    def in_order(self, names: Sequence[str]) -> "ConditionBetas":
        """Keep some conditions, in the order given: matched by name.

        Parameters
        ----------
        names : sequence of str
            Conditions to keep; others are left out.

        Returns
        -------
        betas : ConditionBetas
            With these rows.

        Raises
        ------
        ValueError
            If a name is not among the conditions, or is given twice.
        """
        names = unique_names(names, "names of conditions")
        rows = {name: row for row, name in enumerate(self.conditions)}
        missing = [name for name in names if name not in rows]
        if missing:
            raise ValueError(
                f"betas of subject {self.subject} must have a condition for every "
                f"name; there is none for {listing(map(repr, missing))}. The "
                f"conditions are {listing(self.conditions)}."
            )
        order = [rows[name] for name in names]

        def taken(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[order]

        return replace(
            self,
            conditions=names,
            values=self.values[order],
            odd=taken(self.odd),
            even=taken(self.even),
        )

    def in_sector(self, sector: Sector) -> np.ndarray:
        """Betas of a sector's voxels.

        Parameters
        ----------
        sector : Sector
            On the grid of the betas, and inside their mask.

        Returns
        -------
        values : ndarray of shape (n_conditions, n_voxels)
            Columns in C order of the sector's mask.

        Raises
        ------
        ValueError
            If the sector is on another grid, in another space, or has voxels without
            betas.
        """
        what = f"sector {sector.name} of subject {self.subject}"
        if sector.space != self.space or not same_grid(
            sector.mask.shape, sector.affine, self.mask.shape, self.affine
        ):
            raise ValueError(
                f"{what} must be on the grid of the betas, {self.mask.shape} in space "
                f"{self.space}; got {sector.mask.shape} in space {sector.space} with "
                f"the affine {sector.affine.tolist()}. Resample its mask to the grid "
                "first (versa.fmri.volumes.onto_grid)."
            )
        outside = int(np.count_nonzero(sector.mask & ~self.mask))
        if outside:
            raise ValueError(
                f"{what} must be inside the mask of the betas; {outside} of its "
                f"{sector.n_voxels} voxels have no betas. Leave them out of the "
                "sector."
            )
        return self.values[:, sector.mask[self.mask]]

    def volumes(self, values: np.ndarray) -> np.ndarray:
        """Put values of the mask's voxels to their places.

        Parameters
        ----------
        values : ndarray of shape (n_voxels,) or (n, n_voxels)
            Such as `activity` or `odd`.

        Returns
        -------
        volumes : ndarray of shape (x, y, z) or (x, y, z, n)
            NaN outside the mask.
        """
        rows = np.atleast_2d(values)
        volumes = np.full((len(rows), *self.mask.shape), np.nan)
        volumes[:, self.mask] = rows
        return volumes[0] if np.ndim(values) == 1 else np.moveaxis(volumes, 0, -1)


def dataset_from_betas(
    name: str,
    betas: Sequence[ConditionBetas],
    sectors: Mapping[str, Sequence[Sector]],
    stimuli: StimulusSet,
    *,
    licence: str = "",
    citation: str = "",
    description: str = "",
) -> BrainDataset:
    """Make a dataset of the betas of several subjects in their sectors.

    Parameters
    ----------
    name : str
        How tables and figures call the dataset.
    betas : sequence of ConditionBetas
        One per subject. Conditions that are no images are left out.
    sectors : mapping of str to sequence of Sector
        For each sector one mask per subject, in the order of `betas`.
    stimuli : StimulusSet
        The images; their names are names of conditions.
    licence, citation, description : str, default=""
        See :class:`~versa.BrainDataset`.

    Returns
    -------
    dataset : BrainDataset
        Rows are the betas of the conditions that have the images' names. With the
        reliability of the voxels where there are odd and even halves.

    Raises
    ------
    ValueError
        If an image has no condition, a sector does not fit its subject's betas, or
        the units differ.

    Examples
    --------
    >>> mask = np.ones((1, 1, 3), dtype=bool)
    >>> values = [[0, 0, 1], [1, 2, 3], [3, 2, 1]]
    >>> betas = ConditionBetas(
    ...     "01", ["rest", "cup", "dog"], values, mask, np.eye(4), "individual"
    ... )
    >>> sector = Sector("EarlyV", mask, np.eye(4), "individual")
    >>> images = StimulusSet(["dog", "cup"], ["dog.png", "cup.png"], ["0" * 64] * 2)
    >>> dataset = dataset_from_betas("mine", [betas], {"EarlyV": [sector]}, images)
    >>> dataset.responses["EarlyV"][0]
    array([[3., 2., 1.],
           [1., 2., 3.]])
    """
    units = sorted({one.unit for one in betas})
    if len(units) > 1:
        raise ValueError(
            f"betas of all subjects must share one unit; got {listing(units)}."
        )
    for sector, masks in sectors.items():
        if len(masks) != len(betas):
            raise ValueError(
                f"sectors[{sector!r}] must hold one mask per subject; got "
                f"{len(masks)} for {len(betas)} subjects."
            )
    ordered = [one.in_order(stimuli.names) for one in betas]
    return BrainDataset(
        name=name,
        stimuli=stimuli,
        subjects=[one.subject for one in betas],
        responses={
            sector: [
                one.in_sector(mask) for one, mask in zip(ordered, masks, strict=True)
            ]
            for sector, masks in sectors.items()
        },
        sectors=sectors,
        reliability=_reliability(ordered, sectors),
        unit=units[0] if units else "a.u.",
        licence=licence,
        citation=citation,
        description=description,
    )


def _reliability(
    betas: Sequence[ConditionBetas], sectors: Mapping[str, Sequence[Sector]]
) -> dict[str, list[np.ndarray]] | None:
    """Reliability of the voxels, NaN where it is not known; None if it never is."""
    maps = [
        one.volumes(voxel_reliability(one.odd, one.even))
        if one.odd is not None and one.even is not None and len(one.conditions) > 2
        else None
        for one in betas
    ]
    if all(one is None for one in maps):
        return None
    return {
        name: [
            np.full(mask.n_voxels, np.nan) if one is None else one[mask.mask]
            for one, mask in zip(maps, masks, strict=True)
        ]
        for name, masks in sectors.items()
    }
