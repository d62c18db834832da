"""An archive and its Layout become a BrainDataset, or a sentence says why not."""

import functools
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.published.archive import (
    open_file,
    table_column,
    table_header,
    take_numbers,
    take_texts,
)
from versa.fmri.published.layout import Layout
from versa.fmri.published.matlab import take
from versa.fmri.published.naming import check_order, find_images
from versa.fmri.published.patterns import ending, fill, inside
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import onto_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    read_image,
    read_mask,
    take_voxels,
)
from versa.wording import listing, unknown

__all__ = ["convert"]

logger = logging.getLogger("versa")

_OPEN_FILES = 4  # that are kept while subjects and sectors go by


_Opener = Callable[[Path], Any]


class _Part(NamedTuple):
    """One sector of one subject, as the archive has it."""

    names: list[str]
    values: np.ndarray  # (n_conditions, n_voxels), in the order of names
    sector: Sector | None


def convert(folder: str | os.PathLike[str], layout: Layout) -> BrainDataset:
    """Make a dataset of an archive.

    Values are those of the archive, bit for bit; nothing is resampled. Rows are
    brought into one order by the names of their conditions, which are also those of
    the images.

    Parameters
    ----------
    folder : path-like
        The archive, unpacked.
    layout : Layout
        Where things lie in it; it must be confirmed.

    Returns
    -------
    dataset : BrainDataset
        Images in the order of the first subject's conditions; with sectors if the
        archive has volumes. NaN and constant voxels are kept, and reported as a warning
        of the logger ``versa``.

    Raises
    ------
    ValueError
        If the layout is not confirmed, or the archive is not as it says: a file or
        part is missing, an array has another shape, the number of subjects,
        conditions or voxels is another one, a condition has no image, or two subjects
        or sectors have the same values.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"the archive must be a folder; got {str(folder)!r}.")
    if not layout.confirmed:
        raise ValueError(
            "a mapping file must be confirmed; this one says confirmed = false. Check "
            "every entry against the archive, then set confirmed = true."
        )
    opened = functools.lru_cache(_OPEN_FILES)(open_file)
    _check_subjects(folder, layout, opened)
    responses: dict[str, list[np.ndarray]] = {name: [] for name in layout.sectors}
    sectors: dict[str, list[Sector]] = {name: [] for name in layout.sectors}
    names: list[str] = []
    for index, subject in enumerate(layout.subjects):
        read = _from_volumes if layout.has_volumes else _from_arrays
        for sector, part in read(folder, layout, index, opened).items():
            names = names or part.names
            order = _order(part.names, names, f"{sector} of subject {subject}")
            responses[sector].append(part.values[order])
            if part.sector is not None:
                sectors[sector].append(part.sector)
    _check_voxels(layout, responses)
    if not layout.same_values_allowed:
        _check_different(layout, responses)
    dataset = BrainDataset(
        name=layout.name,
        stimuli=find_images(folder, layout, names, opened),
        subjects=layout.subjects,
        responses=responses,
        sectors=sectors if layout.has_volumes else None,
        unit=layout.unit,
        space=layout.space,
        licence=layout.licence,
        citation=layout.citation,
        description=layout.description,
    )
    _report_bad_voxels(dataset)
    return dataset


# ---- responses ------------------------------------------------------------------


def _from_arrays(
    folder: Path, layout: Layout, index: int, opened: _Opener
) -> dict[str, _Part]:
    """Sectors of one subject, each an array of its own or several side by side."""
    found = {}
    for sector, parts in layout.sectors.items():
        names: list[str] = []
        blocks = []
        for part in parts:
            words = _words(layout, index, part)
            rows = _condition_names(folder, layout, words, opened)
            values = _array(folder, layout, index, words, rows, opened)
            names = names or rows
            what = f"{part} of subject {words['subject']}"
            blocks.append(values[_order(rows, names, what)])
        found[sector] = _Part(names, np.concatenate(blocks, axis=1), None)
    return found


def _array(
    folder: Path,
    layout: Layout,
    index: int,
    words: dict[str, object],
    names: list[str],
    opened: _Opener,
) -> np.ndarray:
    """One array as (n_conditions, n_voxels), if it is what the layout says."""
    path = inside(folder, fill(layout.responses_file, **words))
    content = opened(path)
    key = fill(layout.responses_key, **words)
    what = f"{path.relative_to(folder)}{f', {key}' if key else ''}"
    if "[{index}]" in layout.responses_key:
        _check_list(layout, content, words, path.name)
    values = take_numbers(
        content,
        key,
        str(path.relative_to(folder)),
        header=layout.header,
        label_column=layout.label_column,
        counting_allowed=layout.counting_allowed,
    )
    axes = layout.axes.split(", ")
    if values.ndim != len(axes):
        raise ValueError(
            f"{what} must have the axes {layout.axes}; its shape is {values.shape}."
        )
    lengths = dict(zip(axes, values.shape, strict=True))
    for axis, number in (
        ("subjects", len(layout.subjects)),
        ("conditions", layout.n_conditions),
    ):
        if lengths.get(axis, number) != number:
            raise ValueError(
                f"{what} must have {number} {axis}; its axes {layout.axes} have the "
                f"lengths {', '.join(map(str, values.shape))}. Is responses.axes right?"
            )
    if lengths["conditions"] == lengths["voxels"]:
        logger.warning(
            "%s has as many voxels as conditions: its shape cannot show whether "
            "responses.axes is right.",
            what,
        )
    if layout.header is not None:
        _check_labels(layout, content, names, what)
    if "subjects" in axes:
        values = np.take(values, index, axis=axes.index("subjects"))
        axes.remove("subjects")
    return values if axes[0] == "conditions" else values.T


def _check_list(
    layout: Layout, content: Any, words: dict[str, object], what: str
) -> None:
    """Refuse a list of subjects that is longer or shorter than that of the layout."""
    key = fill(layout.responses_key.partition("[{index}]")[0], **words)
    items = take(content, key, what) if key else content
    if isinstance(items, list) and len(items) != len(layout.subjects):
        raise ValueError(
            f"{what}: {key} must have one entry per subject, {len(layout.subjects)}; "
            f"it has {len(items)}. subjects.labels must name all of the archive, in "
            "its order."
        )


def _check_labels(
    layout: Layout, rows: list[list[str]], names: list[str], what: str
) -> None:
    """Refuse a table whose own names of the conditions are not those of the layout."""
    header, column = bool(layout.header), layout.label_column
    by_row = layout.axes == "conditions, voxels"
    if by_row and column:
        labels = table_column(rows, column, what, header=header)
        check_order(f"column {column!r}", labels, names, what)
    elif header and not by_row:
        labels = [label for label in table_header(rows) if label != column]
        check_order("header", labels, names, what)


def _from_volumes(
    folder: Path, layout: Layout, index: int, opened: _Opener
) -> dict[str, _Part]:
    """Sectors of one subject, cut out of volumes."""
    words = _words(layout, index)
    path = inside(folder, fill(layout.responses_file, **words))
    what = str(path.relative_to(folder))
    maps: tuple[str, ...] = ()
    if ending(path.name).startswith(".nii"):
        check_stated_space(path, layout.space)
        values, affine = read_image(path)
    else:
        from versa.fmri.betas.brainvoyager import read_volumes

        image = read_volumes(path, **_stated(layout))
        values, affine, maps = image.values, image.affine, image.names
    if values.ndim != 4 or values.shape[3] != layout.n_conditions:
        raise ValueError(
            f"{what} must hold {layout.n_conditions} volumes, one per condition; its "
            f"shape is {values.shape}."
        )
    names = _condition_names(folder, layout, words, opened, maps)
    if maps:
        check_order("maps", maps, names, what)
    found = {}
    for sector, parts in layout.sectors.items():
        mask = np.zeros(values.shape[:3], dtype=bool)
        for part in parts:
            mask |= _mask(folder, layout, index, part, values.shape[:3], affine)
        place = Sector(sector, mask, affine, layout.space)
        found[sector] = _Part(names, take_voxels(values, mask), place)
    return found


def _mask(
    folder: Path,
    layout: Layout,
    index: int,
    part: str,
    shape: tuple[int, ...],
    affine: np.ndarray,
) -> np.ndarray:
    """The voxels of a part, on the grid of the volumes."""
    path = inside(folder, fill(layout.masks_file, **_words(layout, index, part)))
    what = str(path.relative_to(folder))
    kind = ending(path.name)
    if kind.startswith(".nii"):
        check_stated_space(path, layout.space)
        mask, own_affine = read_mask(path)
        return onto_grid(mask, own_affine, shape, affine, what=what)
    from versa.fmri.betas.brainvoyager import read_voi, read_volumes, voi_sector

    if kind == ".voi":
        areas, space = read_voi(path, **_stated(layout))
        if part not in areas:
            raise ValueError(f"{what}: {unknown('the VOI', part, areas)}")
        return voi_sector(part, areas[part], shape, affine, space).mask
    image = read_volumes(path, **_stated(layout))
    own = image.sector(part)
    return onto_grid(own.mask, own.affine, shape, affine, what=what)


def _stated(layout: Layout) -> dict[str, str | None]:
    """What the layout says of BrainVoyager files; it must not contradict them."""
    return {"space": layout.space, "convention": layout.convention or None}


# ---- names ----------------------------------------------------------------------


def _condition_names(
    folder: Path,
    layout: Layout,
    words: dict[str, object],
    opened: _Opener,
    maps: Sequence[str] = (),
) -> list[str]:
    """Names of the conditions of one array, in the order of the archive."""
    if layout.condition_names:
        return list(layout.condition_names)
    if layout.conditions_from_maps:
        names, what = list(maps), f"the maps of subject {words['subject']}"
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(
                f"{what} must each have a name of their own; got {listing(names)}."
            )
    else:
        path = inside(folder, fill(layout.conditions_file, **words))
        what = str(path.relative_to(folder))
        key = fill(layout.conditions_key, **words)
        names = take_texts(opened(path), key, layout.conditions_column, what)
    if len(names) != layout.n_conditions:
        raise ValueError(
            f"{what} must name as many conditions as conditions.number says, "
            f"{layout.n_conditions}; it names {len(names)}."
        )
    return names


def _order(names: list[str], expected: list[str], what: str) -> list[int]:
    """Where the conditions of another list stand in this one."""
    if set(names) != set(expected):
        missing = [name for name in expected if name not in names]
        extra = [name for name in names if name not in expected]
        raise ValueError(
            f"{what} must have the conditions of the first subject; it lacks "
            f"{listing(map(repr, missing))} and has {listing(map(repr, extra))}."
        )
    return [names.index(name) for name in expected]


def _check_subjects(folder: Path, layout: Layout, opened: _Opener) -> None:
    """Refuse labels that are not those the archive lists; report files of others."""
    if layout.subjects_file:
        path = inside(folder, layout.subjects_file)
        what = str(path.relative_to(folder))
        found = take_texts(
            opened(path), layout.subjects_key, layout.subjects_column, what
        )
        if found != list(layout.subjects):
            raise ValueError(
                f"subjects.labels must be those that {what} lists, in its order: "
                f"{listing(found, limit=20)}; got {listing(layout.subjects, limit=20)}."
            )
    others = sorted(set(_labels_of_files(folder, layout)) - set(layout.subjects))
    if others:
        logger.warning(
            "the archive has files like %s for %s too, which are not among "
            "subjects.labels; they are left out.",
            layout.responses_file,
            listing(others),
        )


def _labels_of_files(folder: Path, layout: Layout) -> Iterator[str]:
    """What stands for the subject in the names of files with responses."""
    if "{subject}" not in layout.responses_file:
        return
    parts = [part for names in layout.sectors.values() for part in names]
    pattern = re.escape(layout.responses_file)
    pattern = pattern.replace(r"\{sector\}", f"(?:{'|'.join(map(re.escape, parts))})")
    pattern = pattern.replace(r"\{subject\}", "(?P<subject>[^/]+)", 1)
    pattern = pattern.replace(r"\{subject\}", "(?P=subject)")
    pattern = re.sub(r"\\\{(?:index|number)\\\}", r"\\d+", pattern)
    for path in folder.rglob("*"):
        match = re.fullmatch(pattern, path.relative_to(folder).as_posix())
        if match:
            yield match["subject"]


def _words(layout: Layout, index: int, part: str | None = None) -> dict[str, object]:
    """What stands for the placeholders."""
    words: dict[str, object] = {
        "subject": layout.subjects[index],
        "index": index,
        "number": index + 1,
    }
    return words if part is None else words | {"sector": part}


# ---- checks of the whole --------------------------------------------------------


def _check_voxels(layout: Layout, responses: dict[str, list[np.ndarray]]) -> None:
    """Refuse numbers of voxels that are not those of the layout."""
    for sector, counts in layout.voxels.items():
        for subject, values in zip(layout.subjects, responses[sector], strict=True):
            expected = counts.get(subject, values.shape[1])
            if values.shape[1] != expected:
                raise ValueError(
                    f"{sector} of subject {subject} must have {expected} voxels, as "
                    f"[voxels.{sector}] says; it has {values.shape[1]}. Are the "
                    "subjects in the order of the archive?"
                )


def _check_different(layout: Layout, responses: dict[str, list[np.ndarray]]) -> None:
    """Refuse the same values under two names."""
    owners: dict[tuple[tuple[int, ...], str], str] = {}
    for sector, per_subject in responses.items():
        for subject, values in zip(layout.subjects, per_subject, strict=True):
            content = np.ascontiguousarray(values, dtype=np.float64)
            key = content.shape, hashlib.sha256(content.data).hexdigest()
            what = f"{sector} of subject {subject}"
            if key in owners:
                raise ValueError(
                    f"subjects and sectors must have values of their own; {what} has "
                    f"those of {owners[key]}. If that is right, set "
                    "responses.same_values_allowed = true."
                )
            owners[key] = what


def _report_bad_voxels(dataset: BrainDataset) -> None:
    """Warn of voxels with NaN and of constant ones."""
    counts = dataset.bad_voxels()
    if counts:
        logger.warning(
            "%s: some voxels have NaN or one value for all conditions: %s. They are "
            "kept; drop_bad_voxels() leaves them out.",
            dataset.name,
            listing(
                f"{sector} of subject {subject} {broken} with NaN, {constant} constant"
                for (sector, subject), (broken, constant) in counts.items()
            ),
        )
