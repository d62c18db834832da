"""An archive and its mapping file become a dataset, or a sentence says why not."""

import functools
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from versa.fmri.betas.events import check_names, warn_of_twins
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.published.contents import IMAGES
from versa.fmri.published.files import (
    counts_up,
    ending,
    open_file,
    table_column,
    table_header,
    table_numbers,
    take,
    take_numbers,
    take_texts,
)
from versa.fmri.published.mapping import ArchiveMapping, fill
from versa.fmri.published.osf import folded
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import onto_grid
from versa.fmri.volumes.nifti import (
    check_stated_space,
    read_image,
    read_mask,
    split_threshold,
    take_voxels,
)
from versa.wording import listing, unique_names, unknown

logger = logging.getLogger("versa")

_OPEN_FILES = 4  # that are kept while subjects and sectors go by


def convert(archive: str | os.PathLike[str], mapping: ArchiveMapping) -> BrainDataset:
    """Make a dataset of an archive.

    Values are those of the archive, bit for bit; nothing is resampled. Rows are
    brought into one order by the names of their conditions, which are also those of
    the images.

    Parameters
    ----------
    archive : path-like
        Folder of the archive, unpacked.
    mapping : ArchiveMapping
        Where things are in it, from :func:`~versa.fmri.published.read_mapping`; it must
        be confirmed.

    Returns
    -------
    dataset : BrainDataset
        Images in the order of the first subject's conditions; with sectors if the
        archive has volumes. NaN and constant voxels are kept, and reported as a warning
        of the logger ``versa``.

    Raises
    ------
    ValueError
        If the mapping is not confirmed, or the archive is not as it says: a file or
        part is missing, an array has another shape, the number of subjects,
        conditions or voxels is another one, a condition has no image, or two subjects
        or sectors have the same values.
    """
    folder = Path(archive)
    if not folder.is_dir():
        raise ValueError(f"the archive must be a folder; got {str(folder)!r}.")
    if not mapping.confirmed:
        raise ValueError(
            "a mapping file must be confirmed; this one says confirmed = false. Check "
            "every entry against the archive, then set confirmed = true."
        )
    opened = _Archive(folder, mapping, functools.lru_cache(_OPEN_FILES)(open_file))
    _check_subjects(opened)
    responses: dict[str, list[np.ndarray]] = {name: [] for name in mapping.sectors}
    sectors: dict[str, list[Sector]] = {name: [] for name in mapping.sectors}
    names: tuple[str, ...] = ()
    read = _from_volumes if mapping.has_volumes else _from_arrays
    for index, subject in enumerate(mapping.subjects.labels):
        for sector, part in read(opened, index).items():
            names = names or part.names
            order = _order(part.names, names, f"{sector} of subject {subject}")
            responses[sector].append(part.values[order])
            if part.sector is not None:
                sectors[sector].append(part.sector)
    warn_of_twins(names, "conditions of the archive")
    _check_voxels(mapping, responses)
    if not mapping.responses.same_values_allowed:
        _check_different(mapping, responses)
    facts = mapping.dataset
    dataset = BrainDataset(
        name=facts.name,
        stimuli=_find_images(opened, names),
        subjects=[label.removeprefix("sub-") for label in mapping.subjects.labels],
        responses=responses,
        sectors=sectors if mapping.has_volumes else None,
        unit=facts.unit,
        space=facts.space,
        licence=facts.licence,
        citation=facts.citation,
        description=facts.description,
    )
    _report_bad_voxels(dataset)
    return dataset


@dataclass(frozen=True)
class _Archive:
    """A folder, what its mapping file says, and how its files are opened."""

    folder: Path
    mapping: ArchiveMapping
    open: Callable[[Path], Any]

    def path(self, pattern: str, **words: object) -> Path:
        """A file of the archive, which need not exist; no link may lead out of it."""
        path = fill(pattern, **words)
        if not (self.folder / path).resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{path} must be in the archive; it leads out of it.")
        return self.folder / path

    def name(self, path: Path) -> str:
        """How errors call a file."""
        return str(path.relative_to(self.folder))

    def words(self, index: int, part: str = "") -> dict[str, object]:
        """What stands for the placeholders."""
        subject = self.mapping.subjects.labels[index]
        words = {"subject": subject, "index": index, "number": index + 1}
        return words | ({"sector": part} if part else {})


class _Part(NamedTuple):
    """One sector of one subject, as the archive has it."""

    names: tuple[str, ...]
    values: np.ndarray  # (n_conditions, n_voxels), in the order of names
    sector: Sector | None


# ---- responses ------------------------------------------------------------------


def _from_arrays(archive: _Archive, index: int) -> dict[str, _Part]:
    """Sectors of one subject, each an array of its own or several side by side."""
    found = {}
    for sector, parts in archive.mapping.parts.items():
        names: tuple[str, ...] = ()
        blocks = []
        for part in parts:
            words = archive.words(index, part)
            rows = _condition_names(archive, words)
            values = _array(archive, index, words, rows)
            names = names or rows
            what = f"{part} of subject {words['subject']}"
            blocks.append(values[_order(rows, names, what)])
        found[sector] = _Part(names, np.concatenate(blocks, axis=1), None)
    return found


def _array(
    archive: _Archive, index: int, words: dict[str, object], names: Sequence[str]
) -> np.ndarray:
    """One array as (n_conditions, n_voxels), if it is what the mapping file says."""
    mapping, responses = archive.mapping, archive.mapping.responses
    path = archive.path(responses.file, **words)
    content = archive.open(path)
    key, file = fill(responses.key, **words), archive.name(path)
    what = f"{file}{f', {key}' if key else ''}"
    if "[{index}]" in responses.key:
        _check_list(mapping, content, words, path.name)
    if responses.header is None:
        values = take_numbers(content, key, file)
    else:
        values = table_numbers(
            content,
            file,
            header=responses.header,
            label_column=responses.label_column,
            counting_allowed=responses.counting_allowed,
        )
    axes = mapping.axes
    if values.ndim != len(axes):
        raise ValueError(
            f"{what} must have the axes {', '.join(axes)}; its shape is {values.shape}."
        )
    lengths = dict(zip(axes, values.shape, strict=True))
    for axis, number in (
        ("subjects", len(mapping.subjects.labels)),
        ("conditions", mapping.conditions.number),
    ):
        if lengths.get(axis, number) != number:
            raise ValueError(
                f"{what} must have {number} {axis}; its axes {', '.join(axes)} have "
                f"the lengths {', '.join(map(str, values.shape))}. Is responses.axes "
                "right?"
            )
    if lengths["conditions"] == lengths["voxels"]:
        logger.warning(
            "%s has as many voxels as conditions: its shape cannot show whether "
            "responses.axes is right.",
            what,
        )
    if responses.header is not None:
        _check_labels(mapping, content, names, what)
    if "subjects" in axes:
        values = np.take(values, index, axis=axes.index("subjects"))
        axes.remove("subjects")
    return values if axes[0] == "conditions" else values.T


def _check_list(
    mapping: ArchiveMapping, content: Any, words: dict[str, object], what: str
) -> None:
    """Refuse a list of subjects that is longer or shorter than the mapping file's."""
    key = fill(mapping.responses.key.partition("[{index}]")[0], **words)
    items = take(content, key, what) if key else content
    n_subjects = len(mapping.subjects.labels)
    if isinstance(items, list) and len(items) != n_subjects:
        raise ValueError(
            f"{what}: {key} must have one entry per subject, {n_subjects}; it has "
            f"{len(items)}. subjects.labels must name all of the archive, in its order."
        )


def _check_labels(
    mapping: ArchiveMapping, rows: list[list[str]], names: Sequence[str], what: str
) -> None:
    """Refuse a table whose own names of the conditions are in another order."""
    header, column = bool(mapping.responses.header), mapping.responses.label_column
    by_row = mapping.axes == ["conditions", "voxels"]
    if by_row and column:
        labels = table_column(rows, column, what, header=header)
        check_order(f"column {column!r}", labels, names, what)
    elif header and not by_row:
        labels = [label for label in table_header(rows) if label != column]
        check_order("header", labels, names, what)


def _from_volumes(archive: _Archive, index: int) -> dict[str, _Part]:
    """Sectors of one subject, cut out of volumes."""
    mapping, words = archive.mapping, archive.words(index)
    path = archive.path(mapping.responses.file, **words)
    what = archive.name(path)
    maps: tuple[str, ...] = ()
    if ending(path.name).startswith(".nii"):
        check_stated_space(path, mapping.dataset.space)
        values, affine = read_image(path)
    else:
        from versa.fmri.betas.brainvoyager import read_volumes

        image = read_volumes(path, **_stated(mapping))
        values, affine, maps = image.values, image.affine, image.names
    if values.ndim != 4 or values.shape[3] != mapping.conditions.number:
        raise ValueError(
            f"{what} must hold {mapping.conditions.number} volumes, one per condition; "
            f"its shape is {values.shape}."
        )
    names = _condition_names(archive, words, maps)
    if maps:
        check_order("maps", maps, names, what)
    found = {}
    for sector, parts in mapping.parts.items():
        mask = np.zeros(values.shape[:3], dtype=bool)
        for part in parts:
            mask |= _mask(archive, archive.words(index, part), mask.shape, affine)
        place = Sector(sector, mask, affine, mapping.dataset.space)
        found[sector] = _Part(names, take_voxels(values, mask), place)
    return found


def _mask(
    archive: _Archive,
    words: dict[str, object],
    shape: tuple[int, ...],
    affine: np.ndarray,
) -> np.ndarray:
    """The voxels of a part of a sector, on the grid of the volumes."""
    source = archive.path(archive.mapping.masks.file, **words)
    part = str(words["sector"])
    place, least = split_threshold(str(source))
    path = Path(place)
    what, kind = archive.name(path), ending(path.name)
    if kind.startswith(".nii"):
        check_stated_space(path, archive.mapping.dataset.space)
        mask, own_affine = read_mask(source)
        return onto_grid(mask, own_affine, shape, affine, what=what)
    from versa.fmri.betas.brainvoyager import read_voi, read_volumes, voi_sector

    stated = _stated(archive.mapping)
    if kind == ".voi":
        areas, space = read_voi(path, **stated)
        if part not in areas:
            raise ValueError(f"{what}: {unknown('the VOI', part, areas)}")
        return voi_sector(part, areas[part], shape, affine, space).mask
    own = read_volumes(path, **stated).sector(part, least)
    return onto_grid(own.mask, own.affine, shape, affine, what=what)


def _stated(mapping: ArchiveMapping) -> dict[str, str | None]:
    """What is said of BrainVoyager files; it must not contradict them."""
    convention = mapping.responses.convention or None
    return {"space": mapping.dataset.space, "convention": convention}


# ---- names of conditions, and their images --------------------------------------


def _condition_names(
    archive: _Archive, words: dict[str, object], maps: Sequence[str] = ()
) -> tuple[str, ...]:
    """Names of the conditions of one array, in the order of the archive."""
    conditions = archive.mapping.conditions
    if conditions.names:
        check_names(conditions.names, "conditions.names")
        return conditions.names
    if conditions.from_maps:
        what = f"the maps of subject {words['subject']}"
        names = unique_names(maps, f"names of {what}")
    else:
        path = archive.path(conditions.file, **words)
        what, key = archive.name(path), fill(conditions.key, **words)
        names = take_texts(archive.open(path), key, conditions.column, what)
    if len(names) != conditions.number:
        raise ValueError(
            f"{what} must name as many conditions as conditions.number says, "
            f"{conditions.number}; it names {len(names)}."
        )
    check_names(names, what)
    return names


def _order(names: Sequence[str], expected: Sequence[str], what: str) -> list[int]:
    """Where the conditions of another list stand in this one."""
    if set(names) != set(expected):
        missing = [name for name in expected if name not in names]
        extra = [name for name in names if name not in expected]
        raise ValueError(
            f"{what} must have the conditions of the first subject; it lacks "
            f"{listing(map(repr, missing))} and has {listing(map(repr, extra))}."
        )
    return [names.index(name) for name in expected]


def check_order(
    place: str, labels: Sequence[str], names: Sequence[str], what: str
) -> None:
    """Refuse labels in the data whose order is not that of the conditions.

    The suffix of an image, case, blanks, underscores and hyphens make no difference. A
    warning tells if no label is a name, as then nothing shows that the order is right.

    >>> check_order("header", ["Dog.bmp", "tea cup"], ["dog", "tea_cup"], "b.csv")
    >>> check_order("header", ["Dog.bmp", "tea cup"], ["tea_cup", "dog"], "b.csv")
    Traceback (most recent call last):
    ...
    ValueError: b.csv: the header must have the conditions as [conditions] has them;
    condition 1 is 'Dog.bmp' here and 'tea_cup' there.
    """
    ours, theirs = list(map(_plain, labels)), list(map(_plain, names))
    if len(set(ours)) < len(set(labels)) or len(set(theirs)) < len(set(names)):
        ours, theirs = list(labels), list(names)  # they differ in spelling only
    is_index = counts_up(labels) and set(ours) != set(theirs)
    if is_index or not set(ours) & set(theirs):
        logger.warning(
            "%s: none of the conditions is named by the %s (%s there, %s in "
            "[conditions]), so nothing shows that the order is the same.",
            *(what, place, listing(labels, limit=3), listing(names, limit=3)),
        )
        return
    for number, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        if one != two:
            raise ValueError(
                f"{what}: the {place} must have the conditions as [conditions] has "
                f"them; condition {number + 1} is {labels[number]!r} here and "
                f"{names[number]!r} there."
            )


def _plain(name: str) -> str:
    """A name without what only its spelling adds."""
    stem = name.strip()
    for suffix in IMAGES:
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    return folded(re.sub(r"[\s_-]+", "", stem))


def _find_images(archive: _Archive, names: Sequence[str]) -> StimulusSet:
    """The image of every condition, in the order of `names`."""
    if archive.mapping.images.table:
        files = _images_of_table(archive, names)
    else:
        pattern = archive.mapping.images.file
        files = [fill(pattern, condition=name) for name in names]
    paths = [archive.path(file) for file in files]
    missing = [
        name for name, path in zip(names, paths, strict=True) if not path.is_file()
    ]
    if missing:
        beside = {item for path in paths for item in path.parent.glob("*")}
        unused = sorted(item.name for item in beside - set(paths) if item.is_file())
        found = (
            f"files without a condition: {listing(unused)}" if unused else "none else"
        )
        raise ValueError(
            f"every condition must have an image, such as {files[0]}; "
            f"{len(missing)} of {len(names)} have none: {listing(missing)} ({found})."
        )
    return StimulusSet.from_paths(paths, list(names))


def _images_of_table(archive: _Archive, names: Sequence[str]) -> list[str]:
    """Image files by the names of their conditions."""
    images = archive.mapping.images
    path = archive.path(images.table)
    what, rows = archive.name(path), archive.open(path)
    conditions = take_texts(rows, "", images.condition_column, what)
    files = take_texts(rows, "", images.file_column, what)
    table = dict(zip(conditions, files, strict=True))
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(
            f"{what} must have a line for every condition; there is none for "
            f"{listing(map(repr, missing))}."
        )
    start = f"{images.folder.rstrip('/')}/" if images.folder else ""
    return [start + table[name] for name in names]


# ---- checks of the whole --------------------------------------------------------


def _check_subjects(archive: _Archive) -> None:
    """Refuse labels that are not those the archive lists; report files of others."""
    subjects = archive.mapping.subjects
    if subjects.file:
        path = archive.path(subjects.file)
        what = archive.name(path)
        found = take_texts(archive.open(path), subjects.key, subjects.column, what)
        if found != subjects.labels:
            raise ValueError(
                f"subjects.labels must be those that {what} lists, in its order: "
                f"{listing(found, limit=20)}; got {listing(subjects.labels, limit=20)}."
            )
    others = sorted(set(_labels_of_files(archive)) - set(subjects.labels))
    if others:
        logger.warning(
            "the archive has files like %s for %s too, which are not among "
            "subjects.labels; they are left out.",
            archive.mapping.responses.file,
            listing(others),
        )


def _labels_of_files(archive: _Archive) -> Iterator[str]:
    """What stands for the subject in the names of files with responses."""
    file = archive.mapping.responses.file
    if "{subject}" not in file:
        return
    parts = [part for names in archive.mapping.parts.values() for part in names]
    pattern = re.escape(file)
    pattern = pattern.replace(r"\{sector\}", f"(?:{'|'.join(map(re.escape, parts))})")
    pattern = pattern.replace(r"\{subject\}", "(?P<subject>[^/]+)", 1)
    pattern = pattern.replace(r"\{subject\}", "(?P=subject)")
    pattern = re.sub(r"\\\{(?:index|number)\\\}", r"\\d+", pattern)
    for path in archive.folder.rglob("*"):
        match = re.fullmatch(pattern, path.relative_to(archive.folder).as_posix())
        if match:
            yield match["subject"]


def _check_voxels(
    mapping: ArchiveMapping, responses: dict[str, list[np.ndarray]]
) -> None:
    """Refuse numbers of voxels that are not those of the mapping file."""
    for sector, counts in mapping.voxels.items():
        pairs = zip(mapping.subjects.labels, responses[sector], strict=True)
        for subject, values in pairs:
            expected = counts.get(subject, values.shape[1])
            if values.shape[1] != expected:
                raise ValueError(
                    f"{sector} of subject {subject} must have {expected} voxels, as "
                    f"[voxels.{sector}] says; it has {values.shape[1]}. Are the "
                    "subjects in the order of the archive?"
                )


def _check_different(
    mapping: ArchiveMapping, responses: dict[str, list[np.ndarray]]
) -> None:
    """Refuse the same values under two names."""
    owners: dict[tuple[tuple[int, ...], str], str] = {}
    for sector, per_subject in responses.items():
        for subject, values in zip(mapping.subjects.labels, per_subject, strict=True):
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
