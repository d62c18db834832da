"""Betas of GLMsingle, as its Python and its MATLAB version write them.

Its ``.npy`` files are pickles, which could run any code when they are opened. Here they
are opened by a reader that knows numbers, texts, lists, dicts and NumPy arrays, and
refuses everything else.
"""

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.trials import average_trials
from versa.fmri.volumes.grids import same_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    mask_file,
    read_image,
    read_mask,
)
from versa.fmri.volumes.spaces import check_space
from versa.fmri.volumes.voxels import PathLike, has_estimate
from versa.untrusted import check_expansion, load_mat, open_hdf5
from versa.wording import listing, reading, unknown

logger = logging.getLogger("versa")

_KEYS = ("betasmd", "modelmd")  # of the Python and of the MATLAB version
_DESIGN_KEYS = ("stimorder", "numtrialrun")
# What a pickled array needs to be put together again; the rest of a pickle of numbers
# are opcodes, which name no function.
_REBUILDERS = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}


def read_glmsingle(
    path: PathLike,
    trials: Sequence[str],
    *,
    subject: str,
    space: str,
    mask: PathLike | None = None,
    like: PathLike | None = None,
    runs: Sequence[object] | None = None,
    halves: str | None = "runs",
    conditions: Sequence[str] | None = None,
    design: PathLike | None = None,
    voxel_order: str | None = None,
    unit: str = "% signal change",
) -> ConditionBetas:
    """Read the betas of single trials that GLMsingle wrote, and average them.

    Parameters
    ----------
    path : path-like
        ``TYPED_FITHRF_GLMDENOISE_RR.npy``, ``.hdf5`` or ``.mat``, or the file of the
        models B or C; or an ``.npy`` file of nothing but the betas. They are (x, y, z,
        n_trials), or (n_voxels, n_trials), also with two axes of length 1 in between.
    trials : sequence of str, length n_trials
        The condition of each trial, run after run in the order of the onsets:
        :func:`versa.fmri.betas.trials_from_events` makes it.
    subject : str
        Label such as ``"01"``.
    space : str
        See :class:`~versa.Sector`.
    mask : path-like, optional
        NIfTI image of the voxels. Needed if the betas are those of a mask only; else
        it chooses among them.
    like : path-like, optional
        NIfTI image on the grid of the betas, such as a run that was analysed; needed
        without `mask`, for the affine.
    runs : sequence, length n_trials, optional
        The run of each trial; by default as the design says.
    halves : {"runs", "repeats"}, optional
        See :func:`versa.fmri.betas.average_trials`.
    conditions : sequence of str, optional
        Which conditions, and their order; by default all, as they first occur.
    design : path-like, optional
        ``DESIGNINFO.npy`` or ``.mat``; by default the one beside `path`, if there is
        one. The order of the trials in it must fit `trials`.
    voxel_order : {"C", "F"}, optional
        How the voxels of a mask were numbered: by default "C" for the Python version,
        as in ``volume[mask]`` of NumPy, and "F" for MATLAB, as in ``volume(mask)``.
    unit : str, default="% signal change"
        Unit of the betas; GLMsingle's own default.

    Returns
    -------
    betas : ConditionBetas
        Means over trials. Voxels that are not finite in all trials, or 0 in all, are
        not in its mask.

    Raises
    ------
    ValueError
        If the file holds no betas of single trials or anything but numbers, or
        trials, design and voxels do not fit.

    References
    ----------
    Prince et al. (2022), https://doi.org/10.7554/eLife.77599
    """
    path = Path(path)
    check_space(space)
    for image in (mask, like):
        if image is not None:
            check_stated_space(mask_file(image), space)
    betas, written_by = _betas(path)
    names = list(trials)
    if betas.ndim not in (2, 4) or betas.shape[-1] != len(names):
        raise ValueError(
            f"{path} must hold betas of {len(names)} trials, as many as trials name; "
            f"got an array of {betas.shape}. Model A (ONOFF) has none; events without "
            "a beta are to be left out of trials."
        )
    runs = _checked_with_design(path, design, names, runs)
    if betas.ndim == 4 and betas.shape[1:3] != (1, 1):
        asked, affine = _asked_voxels(betas.shape[:3], path, mask, like)
        betas, names, runs = _estimated_trials(betas, names, runs, path, asked)
        rows, inside = _of_volumes(betas, path, asked)
    else:
        order = voxel_order or {"Python": "C", "MATLAB": "F"}[written_by]
        betas = betas.reshape(len(betas), -1)
        betas, names, runs = _estimated_trials(betas, names, runs, path, ...)
        rows, inside, affine = _of_mask(betas, path, mask, order)
    usable = np.isfinite(rows).all(axis=0) & (rows != 0).any(axis=0)
    if not usable.all():
        logger.info(
            "%s: %d of %d voxels have no betas (0 or not finite) and are left out.",
            path.name,
            np.count_nonzero(~usable),
            usable.size,
        )
        inside = inside.copy()
        inside[inside] = usable
        rows = rows[:, usable]
    try:
        found, mean, odd, even = average_trials(
            rows, names, runs, conditions=conditions, halves=halves
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return ConditionBetas(
        subject,
        found,
        mean,
        inside,
        affine,
        space,
        odd=odd,
        even=even,
        unit=unit,
        source=f"GLMsingle ({written_by}), {path.name}, means over trials",
    )


def _estimated_trials(
    betas: np.ndarray,
    names: list[str],
    runs: Sequence[object] | None,
    path: Path,
    asked: Any,
) -> tuple[np.ndarray, list[str], Sequence[object] | None]:
    """Trials that have an estimate; those that are 0 or NaN everywhere are named.

    `asked` are the voxels to look at.
    """
    empty = [n for n in range(len(names)) if not has_estimate(betas[..., n][asked])]
    if not empty:
        return betas, names, runs
    logger.warning(
        "%s: %d of %d trials have no estimate (0 or NaN in all voxels) and are left "
        "out: %s.",
        *(path.name, len(empty), len(names)),
        listing(f"{names[row]!r}, trial {row + 1}" for row in empty),
    )
    kept = [row for row in range(len(names)) if row not in set(empty)]
    lost = sorted(set(names) - {names[row] for row in kept})
    if lost:
        raise ValueError(
            f"{path} must hold an estimate of each condition; {listing(lost)} has none "
            "in any trial: 0 or NaN in all voxels."
        )
    left = None if runs is None else [runs[row] for row in kept]
    return betas[..., kept], [names[row] for row in kept], left


def _betas(path: Path) -> tuple[np.ndarray, str]:
    """Betas of single trials, and the language that wrote them."""
    if path.is_dir():
        raise ValueError(
            f"{path} must be a file of GLMsingle; it is a folder, with "
            f"{listing(sorted(p.name for p in path.glob('TYPE*'))) or 'none in it'}."
        )
    content = _content(path, _KEYS)
    if isinstance(content, np.ndarray):
        content = {_KEYS[0]: content}
    for key, language in zip(_KEYS, ("Python", "MATLAB"), strict=True):
        value = content.get(key)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
            return value, language
    raise ValueError(
        f"{path} must hold the betas of single trials as {' or '.join(_KEYS)}; it "
        f"holds {listing(content) or 'neither'}. Files of the models B, C and D do."
    )


def _content(path: Path, keys: Sequence[str]) -> dict[str, Any] | np.ndarray:
    """Arrays of a file that GLMsingle wrote, with axes as the program had them."""
    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    if path.suffix == ".npy":
        return _unpickled(path)
    import h5py

    if h5py.is_hdf5(path):
        with reading(path, "a whole HDF5 file"), open_hdf5(path) as file:
            return {k: _hdf5_array(path, file[k]) if k in keys else None for k in file}
    if path.suffix == ".mat":
        with reading(path, "a MATLAB file"):
            return load_mat(path, variable_names=list(keys))
    raise ValueError(
        f"{path} must be a file of GLMsingle, .npy, .hdf5 or .mat, and whole; it is "
        "neither NumPy's, HDF5 nor MATLAB's."
    )


def _hdf5_array(path: Path, item: Any) -> np.ndarray | None:
    """Numbers of an HDF5 file; MATLAB stores their axes in reverse."""
    if getattr(item, "shape", None) is None or item.dtype.kind not in "iuf":
        return None  # a group, an empty dataset or texts
    check_expansion(path, item.nbytes)
    values = np.asarray(item[()])
    return values.T if "MATLAB_class" in item.attrs else values


class _ArrayUnpickler(pickle.Unpickler):
    """Opens pickles of numbers, texts, containers and NumPy arrays, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in _REBUILDERS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickled(path: Path) -> dict[str, Any] | np.ndarray:
    """The array or the dict of an .npy file."""
    rule = "an .npy file of GLMsingle, which holds numbers, texts and arrays only"
    with reading(path, rule), open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        _, _, dtype = readers[version](file)
        if not dtype.hasobject:
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
        content = _ArrayUnpickler(file).load()
    inner = (
        content.item() if isinstance(content, np.ndarray) and not content.ndim else 0
    )
    if not isinstance(inner, dict):
        raise ValueError(f"{path} must hold a dict of arrays, as GLMsingle writes it.")
    return inner


def _asked_voxels(
    grid: tuple[int, ...], path: Path, mask: PathLike | None, like: PathLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of whole volumes that are asked for, by default all, and their affine."""
    reference = mask if like is None else like
    if reference is None:
        raise ValueError(
            f"{path} does not say where its voxels are; pass like=, an image that was "
            "analysed, or mask=, on the same grid."
        )
    values, affine = read_image(mask_file(reference))
    inside = np.ones(grid, dtype=bool)
    shapes = {mask_file(reference): values.shape[:3]}
    if mask is not None:
        inside, mask_affine = read_mask(mask)
        shapes[mask_file(mask)] = inside.shape
        if not same_grid(inside.shape, mask_affine, inside.shape, affine):
            raise ValueError(
                f"{mask} must have the affine of {reference}, {affine.tolist()}; got "
                f"{mask_affine.tolist()}."
            )
    for image, shape in shapes.items():
        if shape != grid:
            raise ValueError(
                f"{image} must have the grid of the betas, {grid}; got {shape}."
            )
    return inside, affine


def _of_volumes(
    betas: np.ndarray, path: Path, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Betas (n_trials, n_voxels) of those of the voxels that have some; their mask."""
    # most of a volume is no brain: voxels without betas are dropped before the copy
    inside = inside & np.isfinite(betas).all(axis=3) & (betas != 0).any(axis=3)
    if not inside.any():
        raise ValueError(f"{path} must hold betas of at least one voxel; got none.")
    return betas[inside].T, inside


def _of_mask(
    betas: np.ndarray, path: Path, mask: PathLike | None, voxel_order: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Betas (n_trials, n_voxels) of a mask's voxels in C order, mask and affine."""
    if voxel_order not in ("C", "F"):
        raise ValueError(unknown("voxel_order", voxel_order, ("C", "F")))
    if mask is None:
        raise ValueError(
            f"{path} holds {len(betas)} voxels without their places; pass mask=, the "
            "image of the voxels that were analysed."
        )
    inside, affine = read_mask(mask)
    n_voxels = int(np.count_nonzero(inside))
    if n_voxels != len(betas):
        raise ValueError(
            f"{mask} must have the voxels of {path.name}, {len(betas)}; got {n_voxels}."
        )
    number = np.empty(inside.shape, dtype=np.intp)
    if voxel_order == "C":
        number[inside] = np.arange(n_voxels)
    else:
        number.T[inside.T] = np.arange(n_voxels)
    return betas[number[inside]].T, inside, affine


def _checked_with_design(
    path: Path,
    design: PathLike | None,
    trials: list[str],
    runs: Sequence[object] | None,
) -> Sequence[object] | None:
    """Runs of the trials, after the order of trials was compared with the design."""
    places = [path.with_name(f"DESIGNINFO{end}") for end in (".npy", ".mat")]
    found = [place for place in places if place.is_file()]
    if design is not None:
        found = [Path(design)]
    if not found:
        logger.info(
            "%s: there is no DESIGNINFO beside it; the order of trials is as given.",
            path.name,
        )
        return runs
    content = _content(found[0], _DESIGN_KEYS)
    stated = {
        key: np.ravel(np.asarray(content[key])).astype(int)
        for key in _DESIGN_KEYS
        if isinstance(content, dict) and content.get(key) is not None
    }
    if "stimorder" in stated:
        _check_order(found[0], stated["stimorder"], trials)
    if "numtrialrun" not in stated:
        return runs
    counts = stated["numtrialrun"]
    own = [run for run, count in enumerate(counts, start=1) for _ in range(count)]
    if len(own) != len(trials):
        raise ValueError(
            f"{found[0]} must describe the {len(trials)} trials; it has {len(own)}."
        )
    if runs is None:
        return own
    if len(runs) != len(own) or len(set(zip(runs, own, strict=True))) != len(counts):
        raise ValueError(
            f"runs must be those of {found[0]}, with {listing(counts)} trials one "
            "after the other; got others."
        )
    return runs


def _check_order(path: Path, order: np.ndarray, trials: list[str]) -> None:
    """Refuse names of trials that the numbers of the design contradict."""
    if len(order) != len(trials):
        raise ValueError(
            f"{path} must describe the {len(trials)} trials; it has {len(order)}."
        )
    named: dict[int, str] = {}
    for row, (number, name) in enumerate(zip(order.tolist(), trials, strict=True)):
        if named.setdefault(number, name) != name:
            raise ValueError(
                f"trials must be in the order of {path}: its condition {number} is "
                f"{named[number]!r} at first, but {name!r} at trial {row + 1}."
            )
    if len(set(named.values())) < len(named):
        logger.warning(
            "%s has %d conditions, trials name %d: some are averaged with each other, "
            "and their order cannot be checked wholly.",
            path.name,
            len(named),
            len(set(named.values())),
        )
