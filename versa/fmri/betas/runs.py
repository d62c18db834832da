"""Runs of a scanning session: the images, what was shown when, and nuisance signals.

A :class:`Run` can be made by hand; :func:`find_runs` finds all of a subject in a BIDS
folder, raw or as fMRIPrep leaves it, with the inheritance of sidecars that BIDS has.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.fmri.dataset.tables import read_json, subject_labels
from versa.fmri.volumes.nifti import header_repetition_time
from versa.wording import listing, reading, unknown

if TYPE_CHECKING:
    import pandas as pd


STRATEGIES = ("simple", "scrubbing", "compcor", "ica_aroma")
_IMAGE = r"\.nii(\.gz)?"
_ABSENT = "none"  # value of a filter for files that do not have the key
_OF_A_RUN = ("ses", "run")  # what may differ between the runs of a subject


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "bold", Path(self.bold))
        object.__setattr__(self, "name", self.name or self.bold.name)
        if self.brain_mask is not None:
            object.__setattr__(self, "brain_mask", Path(self.brain_mask))
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


def read_events(
    path: str | os.PathLike[str], *, condition_column: str = "trial_type"
) -> "pd.DataFrame":
    """Read an events table as BIDS has it.

    Parameters
    ----------
    path : path-like
        Tab-separated, with the columns onset and duration in s.
    condition_column : str, default="trial_type"
        Which column names the condition, such as "stim_file".

    Returns
    -------
    events : DataFrame
        Columns onset, duration and trial_type; events without a condition ("n/a") are
        left out.

    Raises
    ------
    ValueError
        If a column is missing, or a time is not a number.
    """
    import pandas as pd

    path = Path(path)
    with reading(path, "a tab-separated table"):
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    _check_columns(table, str(path), ["onset", "duration", condition_column])
    table = table[~table[condition_column].isin(("n/a", ""))]
    times = {}
    for name in ("onset", "duration"):
        times[name] = pd.to_numeric(table[name], errors="coerce")
        bad = table[name][times[name].isna()]
        if len(bad):
            raise ValueError(
                f"{path} must have numbers as {name}; line {bad.index[0] + 2} has "
                f"{bad.iloc[0]!r}."
            )
    events = pd.DataFrame({**times, "trial_type": table[condition_column]})
    check_events(events, str(path))
    return events.reset_index(drop=True)


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
) -> list[Run]:
    """Find the runs of a subject in a BIDS folder.

    Parameters
    ----------
    folder : path-like
        The BIDS folder, with the events.
    subject : str
        Label without ``sub-``.
    derivatives : path-like, optional
        The folder of fMRIPrep with the preprocessed images; by default the images of
        `folder` are used.
    filters : mapping of str to str, optional
        Entities that file names must have, such as ``{"task": "objects", "space":
        "MNI152NLin2009cAsym"}``; "none" for files without the entity, as fMRIPrep's
        images in native space.
    confounds : str or sequence of str, optional
        A strategy of ``nilearn.interfaces.fmriprep.load_confounds_strategy`` (simple,
        scrubbing, compcor, ica_aroma), or columns of the table of confounds beside the
        images. None by default.
    condition_column : str, default="trial_type"
        Which column of the events names the condition.

    Returns
    -------
    runs : list of Run
        In the order of sessions and run numbers. All have the same other entities.

    Raises
    ------
    ValueError
        If there is no run, runs of several tasks or spaces are mixed, or a run lacks
        its events or repetition time.
    """
    folder = Path(folder)
    images = folder if derivatives is None else Path(derivatives)
    found = _bold_images(images, subject, dict(filters or {}))
    runs = []
    for path in found:
        own = _entities(path)
        tables = _inherited(folder, own, "events", ".tsv")
        if not tables:
            raise ValueError(
                f"{path.name} must have a table of events in {folder}; there is no "
                "..._events.tsv whose name fits."
            )
        about = _metadata(folder, images, own, path)
        t_r = _repetition_time(path, about)
        signals, kept = _confounds(path, images, own, confounds)
        runs.append(
            Run(
                bold=path,
                events=read_events(tables[-1], condition_column=condition_column),
                t_r=t_r,
                slice_time_ref=_slice_time_ref(path, about, t_r),
                confounds=signals,
                kept=kept,
                brain_mask=_brain_mask(path),
            )
        )
    return runs


def check_events(
    events: "pd.DataFrame",
    what: str,
    *,
    condition: str = "trial_type",
    times: Sequence[str] = ("onset", "duration"),
    may_be_empty: bool = False,
) -> None:
    """Refuse a table whose conditions are no texts or whose times are not finite."""
    _check_columns(events, what, [*times, condition])
    if not (len(events) or may_be_empty):
        raise ValueError(f"{what}: events must name at least one condition; got none.")
    odd = [n for n in events[condition] if not isinstance(n, str) or not n]
    if odd:
        raise ValueError(
            f"{what}: {condition} must hold texts; got {listing(map(repr, odd[:4]))}. "
            "Turn numbers into names with .astype(str)."
        )
    for name in times:
        values = events[name].to_numpy(dtype=float)
        low = name == "duration" and bool((values < 0).any())
        if low or not np.isfinite(values).all():
            raise ValueError(
                f"{what}: {name} must be finite times in s"
                f"{' from 0' if name == 'duration' else ''}; got "
                f"{listing(events[name].tolist(), limit=4)}."
            )


def _check_columns(table: "pd.DataFrame", what: str, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in table]
    if missing:
        raise ValueError(
            f"{what} must have the columns {listing(needed)}; {listing(missing)} is "
            f"missing among {listing(table.columns)}."
        )


def _entities(path: Path) -> dict[str, str]:
    """Key-value pairs of a BIDS file name; its ending under "suffix".

    >>> _entities(Path("sub-01_task-objects_run-2_bold.nii.gz"))
    {'sub': '01', 'task': 'objects', 'run': '2', 'suffix': 'bold'}
    """
    *pairs, suffix = path.name.split(".")[0].split("_")
    found = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    return {**found, "suffix": suffix}


def _bold_images(folder: Path, subject: str, filters: dict[str, str]) -> list[Path]:
    """BOLD images of a subject that pass the filters, in the order of the runs."""
    home = folder / f"sub-{subject}"
    if not home.is_dir():
        labels = find_subjects(folder)
        raise ValueError(unknown("subject", subject, labels))
    paths = sorted(
        path
        for pattern in ("func/*_bold.nii*", "ses-*/func/*_bold.nii*")
        for path in home.glob(pattern)
        if re.search(_IMAGE + "$", path.name)
    )
    if any(_entities(path).get("desc") == "preproc" for path in paths):
        filters = {"desc": "preproc", **filters}
    for key, value in filters.items():
        options = sorted({_entities(path).get(key, _ABSENT) for path in paths})
        if paths and value not in options:
            raise ValueError(f"{home}: {unknown(key, value, options)}")
        paths = [path for path in paths if _entities(path).get(key, _ABSENT) == value]
    if not paths:
        raise ValueError(
            f"{home} must have images func/..._bold.nii or .nii.gz; there is none."
        )
    every = [_entities(path) for path in paths]
    for key in sorted({key for one in every for key in one} - {*_OF_A_RUN}):
        values = sorted({one.get(key, _ABSENT) for one in every})
        if len(values) > 1:
            raise ValueError(
                f"{home}: all runs must have the same {key}; got {listing(values)}. "
                f"Choose one by the filter {key}={values[-1]}."
            )
    places = [tuple(one.get(key, "") for key in _OF_A_RUN) for one in every]
    twice = [path.name for path, at in zip(paths, places, strict=True)
             if places.count(at) > 1]  # fmt: skip
    if twice:
        raise ValueError(
            f"{home} must have one image per session and run; got {listing(twice)}."
        )
    order = sorted(range(len(paths)), key=lambda row: _run_order(every[row]))
    return [paths[row] for row in order]


def _run_order(entities: Mapping[str, str]) -> tuple[tuple[bool, int, str], ...]:
    """Sessions and runs by their number where they are numbers."""
    labels = (entities.get(key, "") for key in _OF_A_RUN)
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


def _metadata(
    folder: Path, images: Path, own: Mapping[str, str], bold: Path
) -> dict[str, Any]:
    """Sidecars of an image, the closest one on top."""
    about: dict[str, Any] = {}
    paths = _inherited(folder, own, "bold", ".json")
    if images != folder:
        paths += _inherited(images, own, "bold", ".json")
    for path in paths:
        about.update(read_json(path))
    return about


def _repetition_time(bold: Path, about: Mapping[str, Any]) -> float:
    """Repetition time in s, of the sidecar and the header alike."""
    header = header_repetition_time(bold)
    stated = about.get("RepetitionTime")
    if stated is None:
        if header is None:
            raise ValueError(
                f"{bold.name} must have a RepetitionTime in its sidecar or header; "
                "there is none. Write it into ..._bold.json."
            )
        return header
    if not isinstance(stated, int | float) or not stated > 0:
        raise ValueError(
            f"RepetitionTime of {bold.name} must be a number of s above 0; got "
            f"{stated!r}."
        )
    if header is not None and abs(header - stated) > 1e-3:
        raise ValueError(
            f"{bold.name} must have one repetition time; its sidecar says {stated} s, "
            f"its header {header:g} s. Correct the one that is wrong."
        )
    return float(stated)


def _slice_time_ref(bold: Path, about: Mapping[str, Any], t_r: float) -> float:
    """Where in the repetition time fMRIPrep's slice-time correction put the scans."""
    start = about.get("StartTime", 0.0)
    if not isinstance(start, int | float) or not 0 <= start <= t_r:
        raise ValueError(
            f"StartTime of {bold.name} must be a time within the repetition time, "
            f"{t_r} s; got {start!r}."
        )
    return float(start) / t_r


def _confounds(
    bold: Path,
    images: Path,
    own: Mapping[str, str],
    wanted: str | Sequence[str] | None,
) -> tuple["pd.DataFrame | None", np.ndarray | None]:
    """Nuisance signals of a run, and which scans to keep (None for all)."""
    if wanted is None:
        return None, None
    if isinstance(wanted, str):
        if wanted not in STRATEGIES:
            raise ValueError(
                f"{unknown('confounds', wanted, STRATEGIES)} A list names columns."
            )
        return _strategy(bold, wanted)
    import pandas as pd

    described = {**own}
    described.pop("desc", None)
    tables = [
        path
        for suffix in ("timeseries", "regressors")
        for desc in ("motion", "confounds")
        for path in _inherited(images, {**described, "desc": desc}, suffix, ".tsv")
    ]
    if not tables:
        raise ValueError(
            f"{bold.name} must have a table of confounds beside it "
            "(..._desc-confounds_timeseries.tsv); there is none."
        )
    table = pd.read_csv(tables[-1], sep="\t", na_values=["n/a"])
    _check_columns(table, str(tables[-1]), wanted)
    signals = table[list(wanted)].astype(float)
    empty = [name for name in wanted if signals[name].isna().all()]
    if empty:
        raise ValueError(
            f"{tables[-1]} must have numbers as confounds; {listing(empty)} is n/a in "
            "every row."
        )
    # the first rows of derivatives are n/a; their mean adds nothing to a regressor
    return signals.fillna(signals.mean()), None


def _strategy(bold: Path, name: str) -> tuple["pd.DataFrame | None", np.ndarray | None]:
    """Confounds of fMRIPrep by a named strategy of nilearn."""
    from nilearn.interfaces.fmriprep import load_confounds_strategy

    try:
        return load_confounds_strategy(str(bold), denoise_strategy=name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"confounds of {bold.name} cannot be had by the strategy {name}: "
            f"{' '.join(str(error).split())}"
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
