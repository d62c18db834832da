"""Betas of first-level analyses that FSL's FEAT made."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.elsewhere import ImageOptions, betas_from_runs
from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.nifti import read_grid
from versa.fmri.volumes.spaces import check_space
from versa.fmri.volumes.voxels import PathLike
from versa.wording import in_text_order, listing, reading, unique_names, unknown

logger = logging.getLogger("versa")

_BASIS_SETS = ("4", "5", "6", "7")  # FEAT's codes: gammas, sines, FIR, own functions
_NO_CONDITION = ("4", "10")  # FEAT's codes of shapes: interaction, empty


def read_feat(
    folders: PathLike | Sequence[PathLike],
    *,
    subject: str,
    space: str,
    conditions: Sequence[str] | None = None,
    maps: str = "cope",
    halves: str | None = "runs",
    mask: PathLike | None = None,
    activity: PathLike | None = None,
    resample: str | None = None,
    unit: str = "a.u.",
) -> ConditionBetas:
    """Read the betas of FEAT folders, one per run, averaged over the runs.

    FEAT leaves its images in the space of each run and its registrations in ``reg/``;
    these are not applied here. Transform the images of all runs to one space first, as
    ``featregapply`` does, if the runs were not aligned before FEAT.

    Parameters
    ----------
    folders : path-like, or sequence of path-like
        ``.feat`` folders of single runs, in the order of the runs.
    subject : str
        Label such as ``"01"``.
    space : str
        See :class:`~versa.Sector`.
    conditions : sequence of str, optional
        Names of contrasts (or of explanatory variables), and their order; by default
        all that stand for one condition: contrasts with a single weight, of 1.
    maps : {"cope", "pe"}, default="cope"
        Contrasts, named in ``design.con``, or parameter estimates, named in
        ``design.fsf``.
    halves : {"runs"}, optional
        Odd and even runs; with a single run there are no halves.
    mask : path-like, optional
        Image of the voxels to read; by default those with data in all runs.
    activity : path-like, optional
        Image of the contrast of all conditions against rest.
    resample : {"nearest", "linear"}, optional
        How to resample runs to the grid of the first one.
    unit : str, default="a.u."
        Unit of the betas.

    Returns
    -------
    betas : ConditionBetas
        Means over runs.

    Raises
    ------
    ValueError
        If files are missing, runs are on different grids, or a condition is missing.
    """
    check_space(space)
    given = [folders] if isinstance(folders, str | os.PathLike) else folders
    paths = [Path(path) for path in given]
    if maps not in ("cope", "pe"):
        raise ValueError(unknown("maps", maps, ("cope", "pe")))
    if len({path.resolve() for path in paths}) < len(paths) or not paths:
        raise ValueError(
            "folders must be different .feat folders, one per run; got "
            f"{listing(paths) or 'none'}."
        )
    if in_text_order(paths):
        logger.warning(
            "FEAT folders count as runs 1, 2, ... as they are given, in the order of "
            "their names as texts: %s. Give them in the order of their numbers, or "
            "odd and even runs are others.",
            listing((path.name for path in paths), limit=4),
        )
    estimates = []
    for run, path in enumerate(paths, start=1):
        if any(part.endswith(".gfeat") for part in (path.name, path.parent.name)):
            raise ValueError(
                f"{path} must be the .feat folder of one run; it is of a higher level. "
                "Pass the folders of its runs."
            )
        found = _copes(path) if maps == "cope" else _parameters(path)
        names = list(found if conditions is None else conditions)
        for name in names:
            if name not in found:
                raise ValueError(f"{path}: {unknown('condition', name, found)}")
        kept = [name for name in names if conditions is not None or found[name][1]]
        others = [name for name in names if name not in kept]
        if others:
            logger.info(
                "%s: %s stand for no single condition and are left out.",
                path.name,
                listing(others),
            )
        if not kept:
            raise ValueError(
                f"{path} must have a contrast per condition, with a single weight of "
                f"1; got {listing(names)}. Name those to read with conditions=, or "
                "pass maps='pe'."
            )
        estimates += [
            (name, run, _feat_image(path, f"{maps}{found[name][0]}")) for name in kept
        ]
        _warn_of_registration(path, space, len(paths), estimates[-1][2])
    source = f"FEAT ({maps}), {listing(path.name for path in paths)}"
    options = ImageOptions(subject, space, mask, activity, resample, unit, source)
    return betas_from_runs(estimates, options, conditions=conditions, halves=halves)


def _copes(folder: Path) -> dict[str, tuple[int, bool]]:
    """Number of each contrast, and whether it is the beta of one condition."""
    lines = _text(folder / "design.con").splitlines()
    names: dict[int, str] = {}
    for line in lines:
        match = re.fullmatch(r"/ContrastName(\d+)\s+(.*\S)\s*", line)
        if match:
            names[int(match[1])] = match[2].strip('"')
    begin = [row for row, line in enumerate(lines) if line.startswith("/Matrix")]
    body = [line for line in lines[begin[0] + 1 :] if line.strip()] if begin else []
    try:
        weights = [[float(cell) for cell in line.split()] for line in body]
    except ValueError:
        weights = []
    if not names or sorted(names) != list(range(1, len(weights) + 1)):
        raise ValueError(
            f"{folder / 'design.con'} must have a row of numbers for each contrast; "
            f"got {len(names)} names and {len(weights)} rows."
        )
    unique_names(names.values(), f"{folder / 'design.con'}: names of contrasts")
    return {
        name: (number, [weight for weight in weights[number - 1] if weight] == [1.0])
        for number, name in names.items()
    }


def _parameters(folder: Path) -> dict[str, tuple[int, bool]]:
    """Number of each variable's parameter estimate; whether it is of a condition."""
    path = folder / "design.fsf"
    pattern = r'^\s*set fmri\((\w+)\)\s+"?([^"\n]*?)"?\s*$'
    settings = dict(re.findall(pattern, _text(path), flags=re.MULTILINE))
    found: dict[str, tuple[int, bool]] = {}
    names = []
    number = 1

    def stated(key: str) -> str:
        if key not in settings:
            raise ValueError(f"{path} must set fmri({key}).")
        return settings[key]

    with reading(path, "a design of FEAT"):
        for row in range(1, int(stated("evs_orig")) + 1):
            name = stated(f"evtitle{row}")
            names.append(name)
            if stated(f"convolve{row}") in _BASIS_SETS:
                raise ValueError(
                    f"{path} must have one response function per variable; "
                    f"{name} has a set of basis functions, without an amplitude."
                )
            is_condition = stated(f"shape{row}") not in _NO_CONDITION
            found[name] = number, is_condition
            number += 1 + int(stated(f"deriv_yn{row}"))
        n_real = int(stated("evs_real"))
    unique_names(names, f"{path}: names of variables")
    if number - 1 != n_real:
        raise ValueError(
            f"{path} must have {n_real} real variables, as it says; its titles and "
            f"derivatives make {number - 1}."
        )
    return found


def _text(path: Path) -> str:
    """A text file of FEAT."""
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    return path.read_bytes().decode("utf-8", errors="replace")


def _feat_image(folder: Path, stem: str) -> Path:
    """An image in the folder stats."""
    for ending in (".nii.gz", ".nii"):
        path = folder / "stats" / f"{stem}{ending}"
        if path.is_file():
            return path
    raise ValueError(f"{folder / 'stats'} must have {stem}.nii.gz; it is missing.")


def _warn_of_registration(folder: Path, space: str, n_runs: int, image: Path) -> None:
    """Warn of a registration that is not applied."""
    path = folder / "reg" / "example_func2standard.mat"
    if not path.is_file() or (space == "individual" and n_runs == 1):
        return
    with reading(path, "a matrix of FLIRT"):
        matrix = np.array(_text(path).split(), dtype=float)
    shape, affine = read_grid(image)
    scale = np.diag([*np.linalg.norm(affine[:3, :3], axis=0), 1.0])  # FLIRT's mm
    moved = matrix.reshape(4, 4) @ scale if matrix.shape == (16,) else scale * np.nan
    if not same_grid(shape, moved, shape, scale):
        logger.warning(
            "%s has a registration, %s, which is not applied: its images are taken to "
            "be in the space %s, aligned with the other runs.",
            folder.name,
            path.relative_to(folder),
            space,
        )
