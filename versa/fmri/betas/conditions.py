"""Betas: one subject's responses to every condition, voxel by voxel.

:func:`fit_betas` estimates them from runs, through nilearn's first-level GLM; betas
that other programs estimated come through :mod:`versa.fmri.betas.elsewhere`.
"""

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from versa.fmri.betas.glm import GLMSettings, conditions_of, fit_run
from versa.fmri.betas.run_voxels import choose_voxels, common_grid
from versa.fmri.betas.runs import Run
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.nifti import check_stated_space, header_space
from versa.fmri.volumes.spaces import check_space
from versa.wording import listing, unique_names

__all__ = ["ConditionBetas", "dataset_from_betas", "fit_betas"]

logger = logging.getLogger("versa")


@dataclass(frozen=True, eq=False, repr=False)
class ConditionBetas:
    """Betas of one subject: one response per condition and voxel.

    Arrays are taken as float64 and are not copied when they are float64 already.

    Parameters
    ----------
    subject : str
        Label such as ``"01"``.
    conditions : sequence of str, length n_conditions
        Names of the rows, unique.
    values : array-like of shape (n_conditions, n_voxels)
        Betas over all runs, in C order of the mask.
    mask : ndarray of bool, shape (x, y, z)
        The voxels.
    affine : array-like of shape (4, 4)
        From voxel indices to mm.
    space : str
        As of :class:`~versa.Sector`.
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
        If shapes or names do not belong together.

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
            If the sector lies on another grid, in another space, or has voxels without
            betas.
        """
        what = f"sector {sector.name} of subject {self.subject}"
        if sector.space != self.space or not same_grid(
            sector.mask.shape, sector.affine, self.mask.shape, self.affine
        ):
            raise ValueError(
                f"{what} must lie on the grid of the betas, {self.mask.shape} in space "
                f"{self.space}; got {sector.mask.shape} in space {sector.space} with "
                f"the affine {sector.affine.tolist()}. Bring its mask onto the grid "
                "first (versa.fmri.volumes.onto_grid)."
            )
        outside = int(np.count_nonzero(sector.mask & ~self.mask))
        if outside:
            raise ValueError(
                f"{what} must lie inside the mask of the betas; {outside} of its "
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
        As of :class:`~versa.fmri.dataset.braindata.BrainDataset`.

    Returns
    -------
    dataset : BrainDataset
        Rows are the betas of the conditions that have the images' names.

    Raises
    ------
    ValueError
        If an image has no condition, a sector does not fit its subject's betas, or
        the units differ.

    Examples
    --------
    >>> mask = np.ones((1, 1, 3), dtype=bool)
    >>> values = [[0, 0, 0], [1, 2, 3], [3, 2, 1]]
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
        unit=units[0] if units else "a.u.",
        licence=licence,
        citation=citation,
        description=description,
    )


def fit_betas(
    runs: Sequence[Run],
    subject: str,
    *,
    settings: GLMSettings | None = None,
    mask: Sector | str | os.PathLike[str] | None = None,
    space: str | None = None,
    resample: str | None = None,
) -> ConditionBetas:
    """Estimate a subject's responses from runs, one GLM per run, through nilearn.

    Betas are averaged over the runs that have the condition. One run is in memory at a
    time, and of it the voxels of the mask.

    Parameters
    ----------
    runs : sequence of Run
        All on one grid. The first, third, ... are the odd ones.
    subject : str
        Label such as ``"01"``.
    settings : GLMSettings, optional
        Response, drifts, noise, scaling.
    mask : Sector or path-like, optional
        The voxels. By default those that the brain masks of all runs share, or, if a
        run has none, those that nilearn finds in the mean image of the first run.
    space : str, optional
        Space of the images; by default what their names or headers say.
    resample : {"nearest"}, optional
        Bring a mask that lies on another grid onto that of the runs.

    Returns
    -------
    betas : ConditionBetas
        Conditions in the order of their names; `activity` is the t value of the mean
        over the conditions against rest, runs combined as fixed effects. `odd` and
        `even` are None if a condition is missing in one of the halves.

    Raises
    ------
    ValueError
        If runs lie on different grids, the space is not known, or no voxel is left.

    Notes
    -----
    Voxels that are constant or not finite in a run are left out.
    """
    settings = settings or GLMSettings()
    if not runs:
        raise ValueError(f"subject {subject} must have at least one run; got none.")
    _, affine = common_grid(runs)
    if space is None:
        space = header_space(runs[0].bold)
    else:
        check_space(space)
    if space is None:
        raise ValueError(
            f"{runs[0].name}: its space must be known; neither name nor header says "
            "it. Pass space='individual', 'TAL' or 'MNI152...'."
        )
    for run in runs:
        check_stated_space(run.bold, space)
    _check_names(runs, settings, subject)
    voxels = choose_voxels(runs, mask, space=space, resample=resample)
    conditions = conditions_of(runs, settings)
    if not conditions:
        raise ValueError(
            f"subject {subject} must have at least one condition; all events are left "
            "out or nuisance."
        )
    rows = {name: row for row, name in enumerate(conditions)}
    n_voxels = int(voxels.sum())
    sums = np.zeros((2, len(rows), n_voxels))  # odd and even runs
    counts = np.zeros((2, len(rows)), dtype=int)
    effect, variance = np.zeros(n_voxels), np.zeros(n_voxels)
    good = np.ones(n_voxels, dtype=bool)
    for number, run in enumerate(runs):
        estimates, usable = fit_run(run, voxels, settings)
        here = np.array([rows[name] for name in estimates.conditions])
        half = number % 2
        sums[half][np.ix_(here, usable)] += estimates.betas
        counts[half, here] += 1
        effect[usable] += estimates.effect
        variance[usable] += estimates.variance
        good &= usable
    if not good.any():
        raise ValueError(
            f"subject {subject} must have voxels that vary in every run; none of the "
            f"{n_voxels} voxels of the mask does."
        )
    sums = sums[..., good]
    voxels = voxels.copy()
    voxels[voxels] = good
    halved = _halves(sums, counts, conditions, subject)
    return ConditionBetas(
        subject=subject,
        conditions=tuple(conditions),
        values=sums.sum(axis=0) / counts.sum(axis=0)[:, None],
        mask=voxels,
        affine=affine,
        space=space,
        odd=halved[0],
        even=halved[1],
        activity=effect[good] / np.sqrt(np.maximum(variance[good], 1e-300)),
        unit=settings.unit,
        source=f"GLM of {len(runs)} runs, {settings}",
    )


def _check_names(runs: Sequence[Run], settings: GLMSettings, subject: str) -> None:
    """Refuse names of events that do not occur: a misspelt one stays a condition."""
    shown = sorted({name for run in runs for name in run.events["trial_type"]})
    for option in ("left_out", "nuisance"):
        unknown_names = [n for n in getattr(settings, option) if n not in shown]
        if unknown_names:
            raise ValueError(
                f"{option} must name events of subject {subject}; "
                f"{listing(map(repr, unknown_names))} does not occur among "
                f"{listing(shown)}."
            )


def _halves(
    sums: np.ndarray, counts: np.ndarray, conditions: Sequence[str], subject: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Betas of odd and even runs, if both have every condition."""
    missing = [
        name
        for name, count in zip(conditions, counts.min(axis=0), strict=True)
        if not count
    ]
    if missing:
        logger.warning(
            "subject %s has no odd/even halves: %s occur in odd or in even runs only.",
            subject,
            listing(missing),
        )
        return None, None
    return sums[0] / counts[0][:, None], sums[1] / counts[1][:, None]
