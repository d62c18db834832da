"""A dataset folder that grows: betas of every subject come first.

Beside the responses it keeps, for each subject, the betas of odd and even runs, and the
activity and reliability of every voxel. One subject is in memory at a time, and its
files are written atomically, so that an interrupted run resumes.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.cache import atomic_write, file_hash, file_system_time, made_folder
from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.glm import GLMSettings, conditions_of, fit_betas
from versa.fmri.betas.runs import Run, find_runs, find_subjects, has_runs
from versa.fmri.ceilings import rdm_reliability
from versa.fmri.dataset.tables import (
    FORMAT,
    check_labels,
    read_description,
    read_participants,
    subject_labels,
    write_json,
    write_table,
)
from versa.fmri.study.files import (
    Input,
    read_betas,
    read_conditions,
    read_inputs,
    read_subject_map,
    write_subject,
)
from versa.fmri.study.images import images_by_name, match_images, write_images
from versa.fmri.volumes.nifti import mask_file
from versa.progress import counted
from versa.wording import listing

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("versa")

_SETTLED = 3600.0  # seconds since a file's change; clocks of two disks differ by less


def estimate_betas(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    subjects: Sequence[str] | None = None,
    derivatives: str | os.PathLike[str] | None = None,
    filters: Mapping[str, str] | None = None,
    confounds: str | Sequence[str] | None = None,
    condition_column: str = "trial_type",
    settings: GLMSettings | None = None,
    mask: str | None = None,
    space: str | None = None,
    resample: str | None = None,
    images: str | os.PathLike[str] | None = None,
    slice_time_ref: float | None = None,
    repetition_time: str | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Path:
    """Estimate the betas of every subject of a BIDS folder, and begin a dataset folder.

    Parameters
    ----------
    source : path-like
        The BIDS folder with the events, and, without `derivatives`, with the images.
    folder : path-like
        The dataset folder. Subjects that an interrupted run with the same options left
        there are kept, if their files have not changed since.
    subjects : sequence of str, optional
        Labels, with or without ``sub-``; by default all of `source` that have images.
    derivatives, filters, confounds, condition_column, slice_time_ref, repetition_time
        See :func:`~versa.fmri.betas.find_runs`.
    settings : GLMSettings, optional
        See :func:`~versa.fmri.betas.fit_betas`.
    mask : str, optional
        Path of the mask of voxels, with ``{subject}`` for the label and maybe a
        threshold, ``mask-{subject}.nii.gz:>0.5``. By default as in `fit_betas`.
    space : str, optional
        Space of the images. By default what names or headers say, and "individual" for
        images of a raw BIDS folder.
    resample : {"nearest"}, optional
        Resample masks of another grid to that of the runs.
    images : path-like, optional
        Folder of the images, see :func:`add_images`. That every condition has one is
        checked before the first GLM.
    name : str, optional
        Name of the dataset; by default that of the folder.
    progress : bool, default=True
        Whether to show a bar on a terminal.

    Returns
    -------
    folder : Path
        The dataset folder.

    Raises
    ------
    ValueError
        If the folder exists with other options, files from which its betas were made
        have changed, subjects have different conditions, or a file is not right.
    """
    source, folder = Path(source), Path(folder)
    settings = settings or GLMSettings()
    find: dict[str, Any] = {
        "derivatives": derivatives,
        "filters": dict(filters or {}),
        "confounds": confounds,
        "condition_column": condition_column,
        "slice_time_ref": slice_time_ref,
        "repetition_time": repetition_time,
    }
    labels = _labels(source, subjects, find)
    recipe = {
        "source": str(source.resolve()),
        **find,
        "derivatives": derivatives and str(Path(derivatives).resolve()),
        "glm": {**asdict(settings), "signal_scaling": settings.unit},
        "mask": mask,
        "space": space,
        "resample": resample,
    }
    find["left_out"] = settings.left_out
    available = None if images is None else images_by_name(images)
    _begin(folder, name or folder.resolve().name, json.loads(json.dumps(recipe)))
    done = subject_labels(folder)
    _write_participants(folder, labels)
    here = [label for label in labels if label in done]
    for label in here:
        runs = find_runs(source, label, **find)
        before = read_inputs(folder, label)
        now = _inputs(runs, _of_subject(mask, label), source, folder, before or {})
        _check_inputs(folder, label, before, now)
    if here:
        logger.info("%s: betas of %s are there already.", folder, listing(here))
    conditions = read_conditions(folder, done[0]) if done else ()
    missing = [label for label in labels if label not in done]
    with counted(len(missing), "betas", "subject", show=progress) as bar:
        for label in missing:
            runs = find_runs(source, label, **find)
            if available is not None:
                match_images(conditions_of(runs, settings), available, images)
            own_mask = _of_subject(mask, label)
            inputs = _inputs(runs, own_mask, source, folder)
            betas = fit_betas(
                runs,
                label,
                settings=settings,
                mask=own_mask,
                space=_space(space, runs[0].bold, raw=derivatives is None),
                resample=resample,
            )
            conditions = conditions or betas.conditions
            _check_conditions(betas, conditions)
            write_subject(betas.in_order(conditions), folder, inputs=inputs)
            _write_participants(folder, labels)
            bar.update()
    if available is not None:
        write_images(folder, match_images(conditions, available, images))
    return folder


def write_betas(
    betas: Iterable[ConditionBetas],
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    licence: str = "",
    citation: str = "",
) -> Path:
    """Begin a dataset folder with betas that were made elsewhere.

    Parameters
    ----------
    betas : iterable of ConditionBetas
        One per subject; of a generator one subject is in memory at a time. All must
        have the conditions of the first, which are put in its order.
    folder : path-like
        A folder that does not exist yet, is empty, or was begun without any subject.
    name : str, optional
        Name of the dataset; by default that of the folder.
    licence, citation : str, default=""
        What others need to know to use the data.

    Returns
    -------
    folder : Path
        The dataset folder; what was written before an error is kept.

    Raises
    ------
    ValueError
        If the folder is in use, or subjects have different conditions.
    """
    folder = Path(folder)
    if folder.exists() and not _is_free(folder):
        raise ValueError(f"{folder} must be new or empty; it is not. Choose another.")
    _begin(folder, name or folder.resolve().name, None, licence, citation)
    done: list[str] = []
    conditions: tuple[str, ...] = ()
    for one in betas:
        conditions = conditions or one.conditions
        _check_conditions(one, conditions)
        write_subject(one.in_order(conditions), folder)
        done.append(one.subject)
        _write_participants(folder, done)
    if not done:
        raise ValueError("betas must be those of at least one subject; got none.")
    return folder


def reliability_table(folder: str | os.PathLike[str]) -> "pd.DataFrame":
    """How reliable the betas of each subject are.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas of odd and even runs.

    Returns
    -------
    table : DataFrame
        For each subject the number of voxels, the median of their odd/even
        reliability, the share of voxels above .3, and the correlation of the RDMs of
        odd and even runs over all voxels. NaN for subjects without halves.

    Raises
    ------
    ValueError
        If a file is missing or does not fit the others.
    """
    import pandas as pd

    folder = Path(folder)
    rows = []
    for label in read_participants(folder):
        betas = read_betas(folder, label)
        row = {"subject": label, "conditions": betas.n_conditions,
               "voxels": betas.n_voxels}  # fmt: skip
        found = read_subject_map(folder, label, "reliability_statmap")
        if found is not None and betas.odd is not None and betas.even is not None:
            r = found[betas.mask]
            row |= {
                "median r": float(np.nanmedian(r)),
                "r > .3": float(np.mean(r > 0.3)),
                "RDM r": rdm_reliability(betas.odd, betas.even),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _labels(
    source: Path, subjects: Sequence[str] | None, find: Mapping[str, Any]
) -> list[str]:
    """Labels of the subjects; by default those that have images, others are named."""
    if subjects is not None:
        labels = list(dict.fromkeys(one.removeprefix("sub-") for one in subjects))
        check_labels("subject", labels)
        return labels
    every = find_subjects(source)
    check_labels("subject", every)
    home = Path(find["derivatives"] or source)
    labels = [label for label in every if has_runs(home, label, find["filters"])]
    passed = [f"sub-{label}" for label in every if label not in labels]
    if passed and labels:
        logger.warning(
            "%s: %s have no BOLD images with these entities in %s and are passed over. "
            "--subjects (subjects=) names those to take.",
            *(source, listing(passed), home),
        )
    return labels or every  # without any, find_runs says what is missing


def _of_subject(mask: str | None, label: str) -> str | None:
    return None if mask is None else mask.replace("{subject}", label)


def _inputs(
    runs: Sequence[Run],
    mask: str | None,
    source: Path,
    folder: Path,
    before: Mapping[str, Input] = MappingProxyType({}),
) -> dict[str, Input]:
    """Every file that the betas of a subject depend on, by its path.

    A mask that is given takes the place of the masks beside the images. A file of the
    size and times that it had before is not hashed again. Times that were young when
    they were noted are not trusted: a file may change twice within one tick.
    """
    trusted = (file_system_time(folder) - _SETTLED) * 1e9
    files = {path for run in runs for path in run.inputs}
    if mask is not None:
        files -= {run.brain_mask for run in runs if run.brain_mask is not None}
        files.add(mask_file(mask))
    found = {}
    for path in sorted(files):
        near = path.is_relative_to(source)
        shown = path.relative_to(source) if near else path.resolve()
        if not path.is_file():
            raise ValueError(f"{path} must exist; it is missing.")
        facts = path.stat()
        state = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
        known = before.get(shown.as_posix())
        if known is None or known.state != state:
            settled = max(state[1:]) < trusted
            known = Input(file_hash(path), state if settled else None)
        found[shown.as_posix()] = known
    return found


def _check_inputs(
    folder: Path,
    label: str,
    before: Mapping[str, Input] | None,
    now: Mapping[str, Input],
) -> None:
    """Refuse betas whose events, images, masks, confounds or sidecars have changed."""
    if before is None:
        logger.warning(
            "%s does not say from which files the betas of sub-%s were made, so that "
            "it cannot be checked whether they have changed since.",
            *(folder, label),
        )
        return
    both = before.keys() & now.keys()
    parts = {
        "changed": [p for p in both if before[p].sha256 != now[p].sha256],
        "new": now.keys() - before.keys(),
        "gone": before.keys() - now.keys(),
    }
    said = [
        f"{word}: {listing(sorted(paths))}" for word, paths in parts.items() if paths
    ]
    if said:
        raise ValueError(
            f"the betas of sub-{label} in {folder} must be those of their files; since "
            f"they were made, files have changed ({'; '.join(said)}). Remove "
            f"{folder / f'sub-{label}'} to estimate them anew, or use another folder."
        )


def _is_free(folder: Path) -> bool:
    """Whether a folder is empty, or holds what a first try without betas left."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()} - {"dataset_description.json"}
    if any(not name.startswith(".") for name in names):  # those are of killed runs
        return False
    path = folder / "dataset_description.json"
    return not path.exists() or "Betas" in read_description(folder)[1]


def _begin(
    folder: Path,
    name: str,
    recipe: Mapping[str, Any] | None,
    licence: str = "",
    citation: str = "",
) -> None:
    """Make the folder, or check that it was made with the same options."""
    path = folder / "dataset_description.json"
    free = folder.exists() and _is_free(folder)
    if path.exists() and not free:
        differences = _differences(read_description(folder)[1].get("Betas"), recipe)
        if differences:
            raise ValueError(
                f"{folder} exists with other options: {differences}. Use another "
                "folder."
            )
        return
    if folder.exists() and not free:
        raise ValueError(
            f"{folder} must be new, empty, or a dataset folder with betas; it is none "
            "of these. Use another folder."
        )
    made_folder(folder)
    about: dict[str, Any] = {
        "Name": name,
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "versa"}],
        "versa": {"Format": FORMAT, "Sectors": [], "Betas": recipe},
    }
    if licence:
        about["License"] = licence
    if citation:
        about["HowToAcknowledge"] = citation
    with atomic_write(path) as temporary:
        write_json(temporary, about)


def _differences(old: Any, new: Mapping[str, Any] | None) -> str:
    """What differs between the options of two estimations; empty if nothing does.

    An option that an older folder does not know had its default.

    >>> _differences({"filters": {}, "glm": {"a": 1}}, {"filters": {}, "glm": {"a": 2}})
    'a was 1, now 2'
    """
    if not isinstance(old, dict) or new is None:
        return "its betas were made elsewhere"
    defaults = json.loads(json.dumps(asdict(GLMSettings())))
    before, after = (
        {**defaults, **one, **(one.get("glm") or {}), "glm": None} for one in (old, new)
    )
    return "; ".join(
        f"{option} was {before.get(option)}, now {after.get(option)}"
        for option in {**before, **after}
        if before.get(option) != after.get(option)
    )


def _write_participants(folder: Path, labels: Sequence[str]) -> None:
    """List all subjects that are there: known ones first, then in the order given."""
    path = folder / "participants.tsv"
    there = subject_labels(folder)
    if not there:
        return
    known = read_participants(folder) if path.exists() else []
    order = [label for label in dict.fromkeys([*known, *labels]) if label in there]
    rows = [f"sub-{label}" for label in dict.fromkeys([*order, *there])]
    with atomic_write(path) as temporary:
        write_table(temporary, {"participant_id": rows})


def _space(space: str | None, bold: Path, *, raw: bool) -> str | None:
    """Space of the images; those of a raw folder are individual by BIDS's rules."""
    if space is not None or not raw or "_space-" in bold.name:
        return space
    return "individual"


def _check_conditions(betas: ConditionBetas, conditions: Sequence[str]) -> None:
    """Refuse a subject whose conditions are not those of the others."""
    missing = sorted(set(conditions) - set(betas.conditions))
    extra = sorted(set(betas.conditions) - set(conditions))
    if missing or extra:
        parts = [
            f"{word} {listing(names)}"
            for word, names in (("lacks", missing), ("alone has", extra))
            if names
        ]
        raise ValueError(
            f"all subjects must have the same conditions; subject {betas.subject} "
            f"{' and '.join(parts)}. Name events that are no conditions as nuisance "
            "or leave them out."
        )
