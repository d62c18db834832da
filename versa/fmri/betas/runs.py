"""Runs of a scanning session: the images, what was shown when, and nuisance signals.

A :class:`Run` can be made by hand; :func:`find_runs` finds all of a subject in a BIDS
folder, raw or as fMRIPrep leaves it, with the inheritance of sidecars that BIDS has.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.fmri.betas.events import (
    check_columns,
    check_events,
    read_events,
    read_tsv,
)
from versa.fmri.dataset.tables import read_json, subject_labels
from versa.fmri.volumes.nifti import header_repetition_time
from versa.wording import listing, one_line, reading, unknown

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("versa")

STRATEGIES = ("simple", "scrubbing", "compcor", "ica_aroma")
_IMAGE = r"\.nii(\.gz)?"
_ABSENT = "none"  # value of a filter for files that do not have the key
_ANY = "any"  # value of a filter for an entity in which runs may differ
_OF_A_RUN = ("ses", "run")  # what may differ between the runs of a subject
_BY_DESIGN = ("dir", "acq")  # may differ, too, where session and run tell runs apart
_INDICES = ("run", "echo", "inv", "flip", "split", "chunk")  # numbers, by BIDS's rules


@dataclass(frozen=True, eq=False)
class Run:
    """One run of one subject.

    Parameters
    ----------
    bold : path-like
        NIfTI image (x, y, z, n_scans).
    events : DataFrame
        Columns onset and duration in s, and trial_type, the condition.
        :func:`read_events` reads one.
    t_r : float
        Repetition time in s.
    name : str, default=""
        For messages; by default the image's file name.
    slice_time_ref : float, default=0.0
        When in the repetition time the scan counts as taken, from 0 to 1, as in
        nilearn.
    confounds : DataFrame, optional
        Nuisance signals, one row per scan.
    kept : sequence of int, optional
        Which scans to use, counted from 0; all by default.
    brain_mask : path-like, optional
        Mask of the brain, on the grid of the image.
    inputs : sequence of path-like, default=()
        All files from which the run was read, to be hashed with the betas; by default
        the image and the mask.

    Raises
    ------
    ValueError
        If a value cannot be right.

    Examples
    --------
    >>> import pandas as pd
    >>> events = pd.DataFrame(
    ...     {"onset": [0.0, 20.0], "duration": [4.0, 4.0], "trial_type": ["cup", "dog"]}
    ... )
    >>> Run("sub-01_task-objects_bold.nii.gz", events, t_r=2.0).name
    'sub-01_task-objects_bold.nii.gz'
    """

    bold: Path
    events: "pd.DataFrame"
    t_r: float
    name: str = ""
    slice_time_ref: float = 0.0
    confounds: "pd.DataFrame | None" = None
    kept: Sequence[int] | np.ndarray | None = None
    brain_mask: Path | None = None
    inputs: Sequence[Path] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "bold", Path(self.bold))
        object.__setattr__(self, "name", self.name or self.bold.name)
        if self.brain_mask is not None:
            object.__setattr__(self, "brain_mask", Path(self.brain_mask))
        own = [path for path in (self.bold, self.brain_mask) if path is not None]
        inputs = tuple(map(Path, self.inputs or own))
        object.__setattr__(self, "inputs", inputs)
        check_events(self.events, self.name)
        if not (np.isfinite(self.t_r) and self.t_r > 0):
            raise ValueError(
                f"{self.name}: t_r must be a time in s above 0; got {self.t_r}."
            )
        if not 0 <= self.slice_time_ref <= 1:
            raise ValueError(
                f"{self.name}: slice_time_ref must be from 0 to 1; got "
                f"{self.slice_time_ref}."
            )


def find_subjects(folder: str | os.PathLike[str]) -> list[str]:
    """Labels of the subjects that have a folder sub-... in a BIDS folder, sorted."""
    folder = Path(folder)
    found = subject_labels(folder)
    if not found:
        raise ValueError(
            f"{folder} must be a BIDS folder with a folder sub-... per subject; there "
            f"is {'none in it' if folder.is_dir() else 'no such folder'}."
        )
    return found


def find_runs(
    folder: str | os.PathLike[str],
    subject: str,
    *,
    derivatives: str | os.PathLike[str] | None = None,
    filters: Mapping[str, str] | None = None,
    confounds: str | Sequence[str] | None = None,
    condition_column: str = "trial_type",
    left_out: Sequence[str] = (),
    slice_time_ref: float | None = None,
    repetition_time: str | None = None,
) -> list[Run]:
    """Find the runs of a subject in a BIDS folder.

    Parameters
    ----------
    folder : path-like
        The BIDS folder, with the events.
    subject : str
        Label, with or without ``sub-``.
    derivatives : path-like, optional
        The folder of fMRIPrep with the preprocessed images; by default the images of
        `folder` are used.
    filters : mapping of str to str, optional
        Entities that file names must have, such as ``{"task": "objects", "space":
        "MNI152NLin2009cAsym"}``; "none" for files without the entity, as fMRIPrep's
        images in native space; "any" for an entity in which runs may differ. Runs,
        echoes and inversions are numbers: 1 is 01.
    confounds : str or sequence of str, optional
        A strategy of ``nilearn.interfaces.fmriprep.load_confounds_strategy`` (simple,
        scrubbing, compcor, ica_aroma), or columns of the table of confounds beside the
        images. None by default.
    condition_column : str, default="trial_type"
        Which column of the events names the condition.
    left_out : sequence of str, default=()
        Events whose times need not be known; see :func:`read_events`.
    slice_time_ref : float, optional
        When in the repetition time the scans count as taken, from 0 to 1. By default
        StartTime in the sidecar, and without it 0, with a warning where slices have
        times (SliceTiming) and nothing says whether they were corrected. Images whose
        slices were corrected to a time that no sidecar states count as corrected to
        the middle slice, as fMRIPrep did before 21.0, with a warning.
    repetition_time : {"sidecar", "header"}, optional
        Which counts if they differ; by default that is refused.

    Returns
    -------
    runs : list of Run
        In the order of sessions and run numbers. All have the same other entities,
        but for dir and acq where session and run tell the runs apart.

    Raises
    ------
    ValueError
        If there is no run, runs of several tasks or spaces are mixed, or a run lacks
        its events or repetition time.
    """
    folder = Path(folder)
    subject = subject.removeprefix("sub-")
    images = folder if derivatives is None else Path(derivatives)
    runs = []
    guessed: list[str] = []
    uncorrected: list[str] = []
    for path in _bold_images(images, subject, dict(filters or {})):
        own = _entities(path)
        tables = _inherited(folder, own, "events", ".tsv")
        if not tables:
            raise ValueError(
                f"{path.name} must have a table of events in {folder}; there is no "
                "..._events.tsv whose name fits."
            )
        sidecars = _sidecars(folder, images, own)
        about: dict[str, Any] = {}
        for sidecar in sidecars:
            about.update(read_json(sidecar))
        t_r = _repetition_time(path, about, repetition_time)
        reference = slice_time_ref
        if reference is None:
            reference, known = _slice_time_ref(path, about, t_r)
            if known is None:
                uncorrected.append(path.name)
            guessed += [path.name] if known is False else []
        signals, kept, beside = _confounds(path, images, own, confounds)
        mask = _brain_mask(path)
        runs.append(
            Run(
                bold=path,
                events=read_events(
                    tables[-1], condition_column=condition_column, left_out=left_out
                ),
                t_r=t_r,
                slice_time_ref=reference,
                confounds=signals,
                kept=kept,
                brain_mask=mask,
                inputs=[
                    path,
                    tables[-1],
                    *sidecars,
                    *beside,
                    *([mask] if mask else []),
                ],
            )
        )
    if guessed:
        logger.warning(
            "the slices of %s were corrected to a time that no sidecar states as "
            "StartTime; it is taken to be that of the middle slice, %.3g of the "
            "repetition time. State it by --slice-time-ref (slice_time_ref=).",
            listing(guessed, limit=3),
            runs[-1].slice_time_ref,
        )
    if uncorrected:
        logger.warning(
            "%s have slices of their own times (SliceTiming) and do not say whether "
            "these were corrected; they are taken as not corrected: scans count as "
            "taken at the start of their repetition time. If they were corrected, say "
            "to when: --slice-time-ref (slice_time_ref=).",
            listing(uncorrected, limit=3),
        )
    return runs


def has_runs(folder: Path, subject: str, filters: Mapping[str, str]) -> bool:
    """Whether a subject has images that pass the filters."""
    paths = _all_bold(folder / f"sub-{subject}")
    return any(_passes(_entities(path), filters) for path in paths)


def _entities(path: Path) -> dict[str, str]:
    """Key-value pairs of a BIDS file name; its ending under "suffix".

    >>> _entities(Path("sub-01_task-objects_run-02_bold.nii.gz"))
    {'sub': '01', 'task': 'objects', 'run': '2', 'suffix': 'bold'}
    """
    *pairs, suffix = path.name.split(".")[0].split("_")
    found = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    found = {key: _plain_index(key, value) for key, value in found.items()}
    return {**found, "suffix": suffix}


def _plain_index(key: str, value: str) -> str:
    """Value of an entity; that of an index without zeros in front, as 01 is 1."""
    return str(int(value)) if key in _INDICES and value.isdecimal() else value


def _passes(entities: Mapping[str, str], filters: Mapping[str, str]) -> bool:
    return all(
        value == _ANY or entities.get(key, _ABSENT) == _plain_index(key, value)
        for key, value in filters.items()
    )


def _all_bold(home: Path) -> list[Path]:
    """All BOLD images of a subject, sorted by path."""
    return sorted(
        path
        for pattern in ("func/*_bold.nii*", "ses-*/func/*_bold.nii*")
        for path in home.glob(pattern)
        if re.search(_IMAGE + "$", path.name)
    )


def _bold_images(folder: Path, subject: str, filters: dict[str, str]) -> list[Path]:
    """BOLD images of a subject that pass the filters, in the order of the runs."""
    home = folder / f"sub-{subject}"
    if not home.is_dir():
        labels = find_subjects(folder)
        raise ValueError(unknown("subject", subject, labels))
    paths = _all_bold(home)
    if any(_entities(path).get("desc") == "preproc" for path in paths):
        filters = {"desc": "preproc", **filters}
    for key, value in filters.items():
        options = sorted({_entities(path).get(key, _ABSENT) for path in paths})
        fitting = [path for path in paths if _passes(_entities(path), {key: value})]
        if paths and not fitting:
            raise ValueError(f"{home}: {unknown(key, value, options)}")
        paths = fitting
    if not paths:
        raise ValueError(
            f"{home} must have images func/..._bold.nii or .nii.gz; there is none. "
            "Name the subjects that have some by --subjects (subjects=)."
        )
    free = [key for key, value in filters.items() if value == _ANY]
    return _in_order_of_runs(home, paths, free)


def _in_order_of_runs(home: Path, paths: list[Path], free: list[str]) -> list[Path]:
    """Images of one analysis in the order of the runs; others are refused.

    `free` are entities in which runs may differ because the user says so.
    """
    every = [_entities(path) for path in paths]
    telling = [*_OF_A_RUN, *free]  # what tells runs apart
    places = [tuple(one.get(key, "") for key in telling) for one in every]
    apart = len(set(places)) == len(places)
    for key in sorted({key for one in every for key in one} - {*telling}):
        values = sorted({one.get(key, _ABSENT) for one in every})
        if len(values) == 1:
            continue
        if apart and key in _BY_DESIGN:
            logger.info("%s: runs of %s %s are taken.", home, key, listing(values))
            continue
        raise ValueError(
            f"{home}: all runs must have the same {key}; got {listing(values)}. "
            f"Choose one by the filter {key}={values[-1]}, or take all by {key}=any."
        )
    twice = [path.name for path, at in zip(paths, places, strict=True)
             if places.count(at) > 1]  # fmt: skip
    if twice:
        raise ValueError(
            f"{home} must have one image per session and run; got {listing(twice)}."
        )
    order = sorted(range(len(paths)), key=lambda row: _run_order(every[row], telling))
    return [paths[row] for row in order]


def _run_order(
    entities: Mapping[str, str], keys: Sequence[str]
) -> tuple[tuple[bool, int, str], ...]:
    """Sessions and runs by their number where they are numbers."""
    labels = (entities.get(key, "") for key in keys)
    return tuple(
        (not label.isdigit(), int(label) if label.isdigit() else 0, label)
        for label in labels
    )


def _inherited(
    folder: Path, own: Mapping[str, str], suffix: str, ending: str
) -> list[Path]:
    """Files that apply to an image, from the most general to the closest one."""
    subject = folder / f"sub-{own['sub']}"
    home = subject / f"ses-{own['ses']}" if "ses" in own else subject
    levels = list(dict.fromkeys([folder, subject, home, home / "func"]))
    found: list[tuple[int, int, Path]] = []
    for depth, level in enumerate(levels):
        for path in level.glob(f"*{suffix}{ending}"):
            pairs = _entities(path)
            if pairs.pop("suffix") == suffix and pairs.items() <= own.items():
                found.append((depth, len(pairs), path))
    found.sort()
    if len(found) > 1 and found[-1][:2] == found[-2][:2]:
        raise ValueError(
            f"{found[-1][2].parent} must have one {suffix}{ending} for each image; "
            f"both {found[-2][2].name} and {found[-1][2].name} fit."
        )
    return [path for _, _, path in found]


def _sidecars(folder: Path, images: Path, own: Mapping[str, str]) -> list[Path]:
    """Sidecars of an image, the closest one last."""
    paths = _inherited(folder, own, "bold", ".json")
    if images != folder:
        paths += _inherited(images, own, "bold", ".json")
    return paths


def _repetition_time(bold: Path, about: Mapping[str, Any], wanted: str | None) -> float:
    """Repetition time in s, of sidecar and header alike unless one is wanted."""
    sources = ("sidecar", "header")
    if wanted is not None and wanted not in sources:
        raise ValueError(unknown("repetition_time", wanted, sources))
    header = header_repetition_time(bold)
    stated = about.get("RepetitionTime")
    if wanted == "header" and header is not None:
        return header
    if stated is None:
        if header is None or wanted == "sidecar":
            place = "sidecar" if wanted == "sidecar" else "sidecar or header"
            raise ValueError(
                f"{bold.name} must have a RepetitionTime in its {place}; "
                "there is none. Write it into ..._bold.json."
            )
        return header
    if isinstance(stated, bool) or not isinstance(stated, int | float) or stated <= 0:
        raise ValueError(
            f"RepetitionTime of {bold.name} must be a number of s above 0; got "
            f"{stated!r}."
        )
    if wanted is None and header is not None and abs(header - stated) > 1e-3:
        raise ValueError(
            f"{bold.name} must have one repetition time; its sidecar says {stated} s, "
            f"its header {header:g} s. Correct the one that is wrong, or say which "
            "counts: --repetition-time sidecar (repetition_time=)."
        )
    return float(stated)


def _slice_time_ref(
    bold: Path, about: Mapping[str, Any], t_r: float
) -> tuple[float, bool | None]:
    """Where in the repetition time slice-time correction put the scans; if it is known.

    None: slices have times, and nothing says whether they were corrected. fMRIPrep
    before 21.0 corrected to the mean of the slices' times, and did not say so.
    """
    corrected = about.get("SliceTimingCorrected")
    start = about.get("StartTime")
    slices = about.get("SliceTiming")
    derived = _entities(bold).get("desc") == "preproc"
    if start is not None:
        numeric = isinstance(start, int | float) and not isinstance(start, bool)
        if not numeric or not 0 <= start <= t_r:
            raise ValueError(
                f"StartTime of {bold.name} must be a time within the repetition time, "
                f"{t_r} s; got {start!r}."
            )
        return float(start) / t_r, True
    if corrected not in (None, True, False):
        raise ValueError(
            f"SliceTimingCorrected of {bold.name} must be true or false; got "
            f"{corrected!r}. Correct it in the sidecar."
        )
    if corrected is None and slices and not derived:
        return 0.0, None
    if corrected is False or not (corrected or (derived and slices)):
        return 0.0, True
    try:
        middle = float(np.mean(slices)) / t_r if slices else 0.5
    except (TypeError, ValueError):
        middle = 0.5
    return middle if 0 <= middle <= 1 else 0.5, False


def _confounds(
    bold: Path,
    images: Path,
    own: Mapping[str, str],
    wanted: str | Sequence[str] | None,
) -> tuple["pd.DataFrame | None", np.ndarray | None, list[Path]]:
    """Nuisance signals of a run, which scans to keep (None for all), and the files."""
    if wanted is None:
        return None, None, []
    described = {**own}
    described.pop("desc", None)

    def tables(ending: str) -> list[Path]:
        return [
            path
            for suffix in ("timeseries", "regressors")
            for desc in ("motion", "confounds")
            for path in _inherited(images, {**described, "desc": desc}, suffix, ending)
        ]

    found = tables(".tsv")
    if isinstance(wanted, str):
        if wanted not in STRATEGIES:
            raise ValueError(
                f"{unknown('confounds', wanted, STRATEGIES)} A list names columns."
            )
        return *_strategy(bold, wanted), [*found, *tables(".json")]
    if not found:
        raise ValueError(
            f"{bold.name} must have a table of confounds beside it "
            "(..._desc-confounds_timeseries.tsv); there is none."
        )
    return _columns_of(found[-1], wanted), None, found[-1:]


def _columns_of(path: Path, wanted: Sequence[str]) -> "pd.DataFrame":
    """Columns of a table of confounds as numbers."""

    rule = "a tab-separated table of confounds"
    table = read_tsv(path, rule, na_values=["n/a"])
    check_columns(table, str(path), wanted)
    with reading(path, rule):
        signals = table[list(wanted)].astype(float)
    empty = [name for name in wanted if signals[name].isna().all()]
    if empty:
        raise ValueError(
            f"{path} must have numbers as confounds; {listing(empty)} is n/a in "
            "every row."
        )
    endless = [name for name in wanted if np.isinf(signals[name]).any()]
    if endless:
        raise ValueError(
            f"{path} must have finite numbers as confounds; {listing(endless)} is "
            "infinite in a row. Write n/a where there is no value."
        )
    # the first rows of derivatives are n/a; their mean adds nothing to a regressor
    return signals.fillna(signals.mean())


def _strategy(bold: Path, name: str) -> tuple["pd.DataFrame | None", np.ndarray | None]:
    """Confounds of fMRIPrep by a named strategy of nilearn."""
    from nilearn.interfaces.fmriprep import load_confounds_strategy

    try:
        return load_confounds_strategy(str(bold), denoise_strategy=name)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(
            f"confounds of {bold.name} (..._desc-confounds_timeseries.tsv) cannot be "
            f"had by the strategy {name}: {one_line(error)}."
        ) from error


def _brain_mask(bold: Path) -> Path | None:
    """The mask that fMRIPrep leaves beside an image."""
    stem = re.sub("_bold$", "", bold.name.split(".")[0])
    stem = re.sub("_desc-[^_]+", "", stem)
    for ending in (".nii.gz", ".nii"):
        path = bold.with_name(f"{stem}_desc-brain_mask{ending}")
        if path.is_file():
            return path
    return None
