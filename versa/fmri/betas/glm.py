"""Betas from runs: one first-level GLM per run, through nilearn."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.events import LEFT_OUT, warn_of_twins
from versa.fmri.betas.runs import Run
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import onto_grid, same_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    common_space,
    mask_file,
    mean_volume,
    read_grid,
    read_mask,
    read_series,
)
from versa.wording import in_text_order, listing, unique_names, unknown

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("versa")

_HRF = tuple(
    name + tail
    for name in ("glover", "spm")
    for tail in ("", " + derivative", " + derivative + dispersion")
)
_DRIFT = ("cosine", "polynomial", "none")
_CHUNK = 10_000  # voxels; the residuals of all voxels at once would fill the memory
_CHUNK_BYTES = 2**28  # of the signal; for models that cost the same for few and many
_DEPENDENT = 1e-6  # what is left of a regressor that the others explain


@dataclass(frozen=True)
class GLMSettings:
    """How the GLM of a run is made; names and defaults are nilearn's.

    Parameters
    ----------
    hrf_model : str, default="glover"
        "glover" or "spm", alone or with " + derivative" or " + derivative +
        dispersion". The betas are those of the canonical response.
    drift_model : {"cosine", "polynomial", "none"}, default="cosine"
        Slow changes of the signal.
    high_pass : float, default=0.01
        Cut-off in Hz, for cosine drifts.
    drift_order : int, default=1
        Order of polynomial drifts.
    noise_model : str, default="ar1"
        "ols", or "arN" for autoregressive noise of order N.
    signal_scaling : {0, False}, default=0
        0 divides each voxel by its mean over the scans: betas in % of it. False leaves
        the signal as it is.
    smoothing_fwhm : float, optional
        Full width at half maximum of a Gaussian smoothing in mm.
    left_out : sequence of str, default=()
        Events that are not modelled, such as "rest".
    nuisance : sequence of str, default=()
        Events that are modelled and are no conditions, such as "target".
    drop_late : bool, default=False
        Leave out events that begin after the end of their run, as of one that was cut
        short, also where the run has no other event of the condition. By default that
        is refused.

    Raises
    ------
    ValueError
        If a model is unknown or a number cannot be right.

    Examples
    --------
    >>> GLMSettings(hrf_model="spm", noise_model="ols").unit
    '% signal change'
    """

    hrf_model: str = "glover"
    drift_model: str = "cosine"
    high_pass: float = 0.01
    drift_order: int = 1
    noise_model: str = "ar1"
    signal_scaling: Any = 0
    smoothing_fwhm: float | None = None
    left_out: Sequence[str] = ()
    nuisance: Sequence[str] = ()
    drop_late: bool = False

    def __post_init__(self) -> None:
        if self.hrf_model not in _HRF:
            raise ValueError(unknown("hrf_model", self.hrf_model, _HRF))
        if self.drift_model not in _DRIFT:
            raise ValueError(unknown("drift_model", self.drift_model, _DRIFT))
        if not re.fullmatch("ols|ar[1-9][0-9]*", self.noise_model):
            raise ValueError(
                f"noise_model must be ols or arN, such as ar1; got "
                f"{self.noise_model!r}."
            )
        if not (np.isfinite(self.high_pass) and self.high_pass >= 0):
            raise ValueError(
                f"high_pass must be a frequency in Hz from 0; got {self.high_pass}."
            )
        if self.drift_order < 0:
            raise ValueError(f"drift_order must be 0 or more; got {self.drift_order}.")
        if self.signal_scaling is not False and (
            isinstance(self.signal_scaling, bool) or self.signal_scaling != 0
        ):
            raise ValueError(
                "signal_scaling must be 0 (each voxel by its mean) or False; got "
                f"{self.signal_scaling!r}."
            )
        if self.smoothing_fwhm is not None and not self.smoothing_fwhm > 0:
            raise ValueError(
                "smoothing_fwhm must be a width in mm above 0; got "
                f"{self.smoothing_fwhm}. Leave it out for none."
            )
        for name in ("left_out", "nuisance"):
            value = getattr(self, name)
            value = (value,) if isinstance(value, str) else tuple(value)
            object.__setattr__(self, name, value)

    @property
    def unit(self) -> str:
        """Unit of the betas."""
        return "a.u." if self.signal_scaling is False else "% signal change"


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
        The voxels; a path may have a threshold behind it, ``mask.nii.gz:>0.5``. By
        default those that the brain masks of all runs share, or, if a
        run has none, those that nilearn finds in the mean image of the first run.
    space : str, optional
        Space of the images; by default what their names or headers say.
    resample : {"nearest"}, optional
        Resample a mask of another grid to that of the runs.

    Returns
    -------
    betas : ConditionBetas
        Conditions in the order of their names; `activity` is the t value of the mean
        over the conditions against rest, runs combined as fixed effects. `odd` and
        `even` are None if a condition is missing in one of the halves.

    Raises
    ------
    ValueError
        If runs are on different grids, the space is not known, or no voxel is left.

    Notes
    -----
    Voxels that are constant or not finite in a run are left out.
    """
    settings = settings or GLMSettings()
    if not runs:
        raise ValueError(f"subject {subject} must have at least one run; got none.")
    if in_text_order(run.name for run in runs):
        logger.warning(
            "runs of subject %s are in the order of their names as texts: %s. Give "
            "them in the order of their numbers, or odd and even runs are others.",
            *(subject, listing((run.name for run in runs), limit=4)),
        )
    grid = _common_grid(runs)
    space = common_space([run.bold for run in runs], space)
    _check_names(runs, settings, subject)
    voxels = _choose_voxels(runs, mask, grid, space, resample)
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
    unseen = [name for name, row in rows.items() if not counts[:, row].any()]
    if unseen:
        raise ValueError(
            f"subject {subject} must have an event of every condition while a run is "
            f"scanned; {listing(map(repr, unseen))} has none. Leave these events out: "
            "--leave-out (left_out=)."
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
        affine=grid[1],
        space=space,
        odd=halved[0],
        even=halved[1],
        activity=effect[good] / np.sqrt(np.maximum(variance[good], 1e-300)),
        unit=settings.unit,
        source=f"GLM of {len(runs)} runs, {settings}",
    )


def _check_names(runs: Sequence[Run], settings: GLMSettings, subject: str) -> None:
    """Refuse names of events that do not occur: a misspelt one stays a condition."""
    names = {name for run in runs for name in run.events["trial_type"]}
    warn_of_twins(names - {*settings.left_out}, f"subject {subject}")
    dropped = {name for run in runs for name in run.events.attrs.get(LEFT_OUT, ())}
    shown = sorted(names | dropped)
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


def _common_grid(runs: Sequence[Run]) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape (x, y, z) and affine of the runs, which must be the same for all."""
    shape, affine = read_grid(runs[0].bold)
    for run in runs[1:]:
        other_shape, other = read_grid(run.bold)
        if not same_grid(shape, affine, other_shape, other):
            raise ValueError(
                f"runs of a subject must share one grid; {run.bold} has "
                f"{other_shape[:3]} and {other.tolist()}, {runs[0].bold} has "
                f"{shape[:3]} and {affine.tolist()}. Coregister them first."
            )
    return shape[:3], affine


def _choose_voxels(
    runs: Sequence[Run],
    mask: Sector | str | os.PathLike[str] | None,
    grid: tuple[tuple[int, ...], np.ndarray],
    space: str,
    resample: str | None,
) -> np.ndarray:
    """Mask of the voxels to estimate, on the grid of the runs; see `fit_betas`."""
    shape, affine = grid
    if isinstance(mask, Sector):
        if mask.space != space:
            raise ValueError(
                f"mask {mask.name} must be in the space of the runs, {space}; got "
                f"{mask.space}."
            )
        given = [(mask.mask, mask.affine, f"mask {mask.name}")]
    elif mask is not None:
        check_stated_space(mask_file(mask), space)
        given = [(*read_mask(mask), str(mask))]
    else:
        paths = [run.brain_mask for run in runs]
        if None in paths:
            return _epi_mask(runs[0].bold)
        given = [(*read_mask(path), str(path)) for path in paths if path]
    found = np.ones(shape, dtype=bool)
    for values, own, what in given:
        found &= onto_grid(
            values.astype(np.uint8), own, shape, affine, what=what, resample=resample
        ).astype(bool)
    if not found.any():
        raise ValueError(
            f"{given[0][2]} must have voxels within the images; it has none."
        )
    return found


def _epi_mask(bold: Path) -> np.ndarray:
    """The brain, by nilearn's rule, in the mean image of a run."""
    import nibabel
    from nilearn.masking import compute_epi_mask

    logger.info("no mask is given: the brain is looked for in the mean of %s.", bold)
    mean, affine = mean_volume(bold)
    found = compute_epi_mask(nibabel.Nifti1Image(mean, affine))
    voxels = np.asanyarray(found.dataobj).astype(bool)
    if not voxels.any():
        raise ValueError(f"the mean of {bold} must show a brain; none was found.")
    return voxels


def conditions_of(runs: Sequence[Run], settings: GLMSettings) -> list[str]:
    """Names of the conditions of some runs, sorted; events without beta left out."""
    shown = {name for run in runs for name in run.events["trial_type"]}
    return sorted(shown - {*settings.left_out, *settings.nuisance})


def while_scanned(run: Run, n_scans: int, settings: GLMSettings) -> Run:
    """A run without the events that begin after its end, which are named.

    That a condition has no other event in the run is refused, unless `drop_late`.
    """
    end = n_scans * run.t_r
    events = run.events[~run.events["trial_type"].isin(settings.left_out)]
    is_late = events["onset"] >= end
    if not is_late.any():
        return run
    late = listing(
        f"{name!r} at {onset:g} s"
        for name, onset in events.loc[is_late, ["trial_type", "onset"]].to_numpy()
    )
    lost = {*events["trial_type"]} - {*events.loc[~is_late, "trial_type"]}
    if lost and not settings.drop_late:
        raise ValueError(
            f"{run.name}: events must begin while the run is scanned; it ends at "
            f"{end:g} s, after {n_scans} scans, and {late} begin later, so that "
            f"{listing(map(repr, sorted(lost)))} cannot be estimated in this run. If "
            "it was cut short, leave them out: --drop-late (drop_late=True)."
        )
    logger.warning("%s ends at %g s; left out are %s.", run.name, end, late)
    kept = run.events.drop(index=events.index[is_late])
    return replace(run, events=kept.reset_index(drop=True))


class RunEstimates(NamedTuple):
    """What the GLM of one run gives."""

    conditions: tuple[str, ...]
    betas: np.ndarray  # (n_conditions, n_voxels)
    effect: np.ndarray  # (n_voxels,), the mean over the conditions
    variance: np.ndarray  # (n_voxels,), of the effect


def design_matrix(run: Run, n_scans: int, settings: GLMSettings) -> "pd.DataFrame":
    """Design matrix (n_kept_scans, n_regressors) of a run by nilearn.

    The index is the time of each scan in s.
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    run = while_scanned(run, n_scans, settings)
    events = run.events[~run.events["trial_type"].isin(settings.left_out)]
    names = sorted(set(events["trial_type"]))
    if not set(names) - set(settings.nuisance):
        raise ValueError(
            f"{run.name} must have at least one condition; its events are "
            f"{listing(sorted(set(run.events['trial_type'])))}."
        )
    if run.confounds is not None and len(run.confounds) != n_scans:
        raise ValueError(
            f"{run.name} must have one row of confounds per scan; got "
            f"{len(run.confounds)} for {n_scans} scans."
        )
    if run.kept is not None:
        kept = np.asarray(run.kept)
        if kept.dtype.kind not in "iu" or not ((kept >= 0) & (kept < n_scans)).all():
            raise ValueError(
                f"{run.name}: kept must be numbers of scans from 0 to {n_scans - 1}; "
                f"got {listing(kept.tolist(), limit=4)}."
            )
    # names of conditions may be anything; nilearn's columns are put together from them
    codes = {name: f"event{i:06d}" for i, name in enumerate(names)}
    coded = events.assign(trial_type=events["trial_type"].map(codes))
    taken = ["onset", "duration", "trial_type", "modulation"]
    first = run.slice_time_ref * run.t_r
    times = np.linspace(first, first + (n_scans - 1) * run.t_r, n_scans)
    design = make_first_level_design_matrix(
        times,
        coded[[name for name in taken if name in coded]],
        hrf_model=settings.hrf_model,
        drift_model=None if settings.drift_model == "none" else settings.drift_model,
        high_pass=settings.high_pass,
        drift_order=settings.drift_order,
        add_regs=run.confounds,
    )
    back = {code: name for name, code in codes.items()}
    design.columns = [
        re.sub("^event[0-9]{6}", lambda match: back[match[0]], column)
        for column in design.columns
    ]
    unique_names(
        design.columns,
        f"{run.name}: names of regressors",
        hint="Rename the condition or the confound.",
    )
    if run.kept is not None:
        design = design.iloc[np.asarray(run.kept)]
    _check_estimable(design, names, run.name)
    return design


def estimate(
    series: np.ndarray, design: "pd.DataFrame", run: Run, settings: GLMSettings
) -> RunEstimates:
    """Estimate the responses of one run from its signal (n_kept_scans, n_voxels).

    No voxel may be constant or NaN.
    """
    from nilearn.glm.first_level import mean_scaling, run_glm

    conditions = tuple(conditions_of([run], settings))
    columns = [list(design.columns).index(name) for name in conditions]
    contrast = np.zeros(design.shape[1])
    contrast[columns] = 1 / len(columns)
    n_voxels = series.shape[1]
    betas = np.empty((len(columns), n_voxels))
    effect, variance = np.empty(n_voxels), np.empty(n_voxels)
    step = _voxels_at_once(len(series), n_voxels, settings.noise_model)
    for start in range(0, n_voxels, step):
        part = slice(start, start + step)
        signal = series[:, part]
        if settings.signal_scaling is not False:
            signal = mean_scaling(signal)[0]
        labels, results = run_glm(
            signal, design.to_numpy(), settings.noise_model, random_state=0
        )
        for label, result in results.items():
            here = np.flatnonzero(labels == label) + start
            betas[:, here] = result.theta[columns]
            found = result.Tcontrast(contrast)
            effect[here] = np.ravel(found.effect)
            variance[here] = np.ravel(found.sd) ** 2
    return RunEstimates(conditions, betas, effect, variance)


def fit_run(
    run: Run, voxels: np.ndarray, settings: GLMSettings
) -> tuple[RunEstimates, np.ndarray]:
    """Read a run and estimate its responses.

    The second value says which of the voxels vary and are finite in this run.
    """
    series = read_series(run.bold, voxels, smoothing_fwhm=settings.smoothing_fwhm)
    run = while_scanned(run, len(series), settings)
    design = design_matrix(run, len(series), settings)
    if run.kept is not None:
        series = series[np.asarray(run.kept)]
    low, high = series.min(axis=0), series.max(axis=0)
    usable = np.isfinite(low) & np.isfinite(high) & (low < high)
    if not usable.any():
        raise ValueError(f"{run.bold} must have voxels that vary; none does.")
    if not usable.all():
        logger.info(
            "%s: %d of %d voxels of the mask are constant or not finite and are left "
            "out.",
            run.name,
            usable.size - int(usable.sum()),
            usable.size,
        )
        series = series[:, usable]
    if settings.signal_scaling is not False:
        mean, spread = np.abs(series.mean(axis=0)), series.std(axis=0)
        if np.median(mean) < np.median(spread):
            raise ValueError(
                f"{run.bold} must have a baseline to be scaled to % signal change; the "
                f"median voxel has a mean of {np.median(mean):.3g} and varies by "
                f"{np.median(spread):.3g}, so it was centred. Leave the signal as it "
                "is: signal_scaling=False (--raw-signal)."
            )
    return estimate(series, design, run, settings), usable


def _voxels_at_once(n_scans: int, n_voxels: int, noise_model: str) -> int:
    """How many voxels a call of the GLM gets."""
    if noise_model == "ols":
        return _CHUNK
    if noise_model == "ar1":  # one fit for each of up to 200 values of the noise
        return max(_CHUNK, _CHUNK_BYTES // (8 * n_scans))
    return n_voxels  # noise of higher order is clustered over all voxels together


def _check_estimable(design: "pd.DataFrame", names: Sequence[str], run: str) -> None:
    """Refuse conditions that the other regressors explain."""
    matrix = design.to_numpy(dtype=float)
    if matrix.shape[0] <= matrix.shape[1]:
        raise ValueError(
            f"{run} must have more scans than regressors; got {matrix.shape[0]} scans "
            f"for {matrix.shape[1]} regressors. Use fewer confounds or drifts."
        )
    scale = np.linalg.norm(matrix, axis=0)
    # nilearn lifts an empty regressor a little above 0 to keep the matrix regular
    empty = scale <= 1e-9 * scale.max()
    scaled = matrix / np.where(empty, 1, scale)
    # what the others leave of a regressor of length 1 is 1 / sqrt of this diagonal
    _, values, vectors = np.linalg.svd(scaled, full_matrices=False)
    left = 1 / np.sqrt(
        np.sum((vectors / np.maximum(values, 1e-12)[:, None]) ** 2, axis=0)
    )
    columns = list(design.columns)
    bad = [
        name
        for name in names
        if empty[columns.index(name)] or left[columns.index(name)] < _DEPENDENT
    ]
    if bad:
        raise ValueError(
            f"{run}: conditions must differ from one another and from nuisance "
            f"regressors while it is scanned; {listing(map(repr, bad))} cannot be "
            "estimated. Check onsets, confounds and kept scans."
        )
