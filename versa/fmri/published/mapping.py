"""Mapping files: a TOML text that says where in an archive the responses are.

``versa-data convert ARCHIVE`` lists the names, shapes and types that one needs for it::

    confirmed = true                      # convert refuses a file without it

    [dataset]
    name = "InanimateObjects"
    licence = "CC BY 4.0"                 # also: citation, description
    unit = "a.u."
    space = "none"

    [subjects]
    labels = ["01", "02"]                 # all of the archive, in its order
    file = "SECTORS.mat"                  # optional: where the archive lists them, to
    key = "SECTORS.subjects"              # check the labels; or file and column

    [sectors]                             # versa's name = the archive's name, or a
    EarlyV = "EarlyV"                     # list of names to be put side by side, such
    pOTC = ["lh_pOTC", "rh_pOTC"]         # as the two hemispheres

    [responses]
    file = "SECTORS.mat"                  # .mat .npz .npy .h5 .csv .tsv, or volumes:
                                          # .vmp .vtc .nii (also .gz)
    key = "SECTORS.Betas.{sector}[{index}]"     # in .mat, .npz and .h5
    axes = "voxels, conditions"           # or "conditions, voxels"; with "subjects"
                                          # for one array of all; "maps" for volumes
    header = false                        # of .csv and .tsv: is line 1 a header?
    convention = "radiological"           # of .vmp and .msk, or "neurological"
    label_column = "condition"            # of .csv and .tsv: a column that is no data;
                                          # without a name "column 1"
    counting_allowed = false              # of .csv and .tsv: may line 1 or column 1
                                          # count 0, 1, 2, ... and yet be data?
    same_values_allowed = false           # may two subjects or sectors be the same?

    [masks]                               # only for volumes
    file = "{subject}/rois.voi"           # .voi .msk .nii (also .gz); of .msk and .nii
                                          # also a threshold: "{subject}.nii.gz:>0.5"

    [conditions]
    number = 72
    names = ["cup", "dog"]                # or: file = "..." (column = "..." in a table,
                                          # key = "..." in .mat, .npz, .h5; a .txt has
                                          # one name per line), or: from_maps = true

    [images]
    file = "stimuli/{condition}.png"      # or: table = "stimuli.csv",
                                          # condition_column, file_column, folder

    [voxels.EarlyV]                       # optional: how many there must be
    "01" = 312

Files and keys are patterns: ``{subject}`` stands for the label, ``{index}`` for the
subject's place counted from 0, ``{number}`` for it counted from 1, ``{sector}`` for the
archive's name of a sector. Paths are relative to the archive and stay inside it. If the
conditions' file or key has placeholders, every subject (and sector) has an order of its
own; rows are matched by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from versa.fmri.published.files import ending
from versa.fmri.volumes.nifti import split_threshold
from versa.fmri.volumes.spaces import check_space
from versa.records import read_record
from versa.wording import listing, shown, unique_names, unknown

if TYPE_CHECKING:
    import os

_VOLUMES = (".vmp", ".vtc", ".nii", ".vmp.gz", ".vtc.gz", ".nii.gz")
_MASKS = (".voi", ".msk", ".nii", ".msk.gz", ".nii.gz")
_TABLES = (".csv", ".tsv")
_KEYED = (".mat", ".npz", ".h5", ".hdf5")
_PER_SUBJECT = frozenset(("subject", "index", "number"))
_PLACEHOLDERS = ("subject", "index", "number", "sector")


@dataclass(frozen=True)
class DatasetFacts:
    """Section [dataset]: as in :class:`~versa.BrainDataset`."""

    name: str
    unit: str = "a.u."
    space: str = "none"
    licence: str = ""
    citation: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name must not be empty.")
        check_space(self.space)


@dataclass(frozen=True)
class Subjects:
    """Section [subjects]."""

    labels: tuple[str, ...]
    file: str = ""
    key: str = ""
    column: str = ""

    def __post_init__(self) -> None:
        unique_names(self.labels, "labels")


@dataclass(frozen=True)
class Responses:
    """Section [responses]."""

    file: str
    axes: str
    key: str = ""
    header: bool | None = None
    label_column: str = ""
    counting_allowed: bool = False
    convention: str = ""
    same_values_allowed: bool = False


@dataclass(frozen=True)
class Masks:
    """Section [masks]."""

    file: str = ""


@dataclass(frozen=True)
class Conditions:
    """Section [conditions]."""

    number: int
    names: tuple[str, ...] = ()
    file: str = ""
    key: str = ""
    column: str = ""
    from_maps: bool = False

    def __post_init__(self) -> None:
        if self.number < 2:
            raise ValueError(f"number must be at least 2; got {self.number}.")
        if self.names:
            unique_names(self.names, "names")
        if self.names and len(self.names) != self.number:
            raise ValueError(
                f"names must have as many names as number says, {self.number}; got "
                f"{len(self.names)}."
            )


@dataclass(frozen=True)
class Images:
    """Section [images]."""

    file: str = ""
    table: str = ""
    condition_column: str = ""
    file_column: str = ""
    folder: str = ""


@dataclass(frozen=True)
class ArchiveMapping:
    """A mapping file, section by section; one that contradicts itself is refused."""

    dataset: DatasetFacts
    subjects: Subjects
    sectors: Mapping[str, str | tuple[str, ...]]
    responses: Responses
    conditions: Conditions
    images: Images
    masks: Masks = Masks()
    voxels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    confirmed: bool = False

    def __post_init__(self) -> None:
        _check_sectors(self)
        _check_voxel_counts(self)
        _check_responses(self)
        _check_subject_placeholders(self)
        _check_table(self)
        _check_names(self)
        _check_images(self)

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The archive's names of every sector."""
        return {
            sector: (names,) if isinstance(names, str) else tuple(names)
            for sector, names in self.sectors.items()
        }

    @property
    def axes(self) -> list[str]:
        """Names of the axes of the arrays with responses."""
        return [part.strip() for part in self.responses.axes.split(",")]

    @property
    def has_volumes(self) -> bool:
        """Whether the responses are volumes with masks."""
        return self.axes == ["maps"]


def read_mapping(path: "str | os.PathLike[str]") -> ArchiveMapping:
    """Read a mapping file.

    Parameters
    ----------
    path : path-like
        A TOML file, as docs/scanner.md ("Archives of any layout") and the head of
        ``versa/fmri/published/mapping.py`` explain it.

    Returns
    -------
    mapping : ArchiveMapping
        What it says, for :func:`~versa.fmri.published.convert`.

    Raises
    ------
    ValueError
        If the file is missing or is not TOML, an entry is unknown (with close
        matches), missing or of a wrong type, or entries contradict one another.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"the mapping file {path} must exist; it is missing. Write one from the "
            "list that `versa-data convert ARCHIVE` prints; docs/scanner.md explains "
            "its entries."
        )
    return read_record(ArchiveMapping, path)


# ---- placeholders ---------------------------------------------------------------


def fill(pattern: str, **words: object) -> str:
    """Put words into the placeholders of a pattern; other braces stay.

    >>> fill("{subject}_{sector}.npy", subject="01")
    '01_{sector}.npy'
    """
    return re.sub(
        r"\{(\w+)\}", lambda match: str(words.get(match[1], match[0])), pattern
    )


def _placeholders(*patterns: str) -> set[str]:
    return {name for pattern in patterns for name in re.findall(r"\{(\w*)\}", pattern)}


def _check_inside(what: str, path: str) -> None:
    """Refuse a path that leads out of the archive, or is of another system."""
    inside = PurePosixPath(path)
    if (
        inside.is_absolute()
        or ".." in inside.parts
        or PureWindowsPath(path).drive
        or "\\" in path
        or path.startswith("~")
    ):
        raise ValueError(
            f"{what} must be a path inside the archive, with / between folders; got "
            f"{path!r}."
        )


def _check_place(what: str, file: str, key: str) -> None:
    """Refuse a file and key that are no patterns of a place in the archive."""
    _check_inside(f"{what}.file", file)
    for word, pattern in (("file", file), ("key", key)):
        for name in sorted(_placeholders(pattern) - set(_PLACEHOLDERS)):
            raise ValueError(
                unknown(f"placeholder of {what}.{word}", name, _PLACEHOLDERS)
            )
    if "[{number}]" in key:
        raise ValueError(
            f"{what}.key must count from 0 in brackets; got {key!r}. Write [{{index}}]."
        )
    if file and (ending(file) in _KEYED) != bool(key):
        raise ValueError(
            f"{what}.key must name a part of a .mat, .npz or .h5 file, and only of "
            f"one; got {key!r} for {file}."
        )


# ---- what contradicts itself ----------------------------------------------------


def _check_sectors(mapping: ArchiveMapping) -> None:
    if not mapping.sectors:
        raise ValueError("sectors must not be empty.")
    owners: dict[str, str] = {}
    for sector, names in mapping.parts.items():
        for name in unique_names(names, f"sectors.{sector}"):
            if name in owners:
                raise ValueError(
                    "sectors must have different names in the archive; "
                    f"{owners[name]} and {sector} are both {name!r}."
                )
            owners[name] = sector


def _check_voxel_counts(mapping: ArchiveMapping) -> None:
    for sector, counts in mapping.voxels.items():
        if sector not in mapping.sectors:
            raise ValueError(unknown("sector of [voxels]", sector, mapping.sectors))
        for subject, count in counts.items():
            labels = mapping.subjects.labels
            if subject not in labels:
                raise ValueError(
                    unknown(f"subject of [voxels.{sector}]", subject, labels)
                )
            if count < 1:
                raise ValueError(
                    f"voxels.{sector}.{subject} must be at least 1; got {count}."
                )


def _check_responses(mapping: ArchiveMapping) -> None:
    """Refuse a place of the responses that cannot be one."""
    responses, kind = mapping.responses, ending(mapping.responses.file)
    options = (*_KEYED, ".npy", *_TABLES, *_VOLUMES)
    if kind not in options:
        what = "the suffix of responses.file"
        raise ValueError(unknown(what, kind or responses.file, options))
    _check_place("responses", responses.file, responses.key)
    sides = ("radiological", "neurological")
    if responses.convention not in ("", *sides):
        raise ValueError(unknown("responses.convention", responses.convention, sides))
    if (kind in _VOLUMES) != mapping.has_volumes:
        raise ValueError(
            'responses.axes must be "maps" for volumes (.vmp, .vtc, .nii), and only '
            f"for them; got {responses.axes!r} for {responses.file}."
        )
    if mapping.has_volumes:
        _check_masks(mapping)
        return
    if mapping.masks.file:
        raise ValueError(
            f"masks.file must come with volumes; the responses are in {responses.file}."
        )
    n_parts = sum(map(len, mapping.parts.values()))
    if n_parts > 1 and "sector" not in _placeholders(responses.file, responses.key):
        raise ValueError(
            "responses.file or responses.key must hold {sector}, as there are "
            f"{n_parts} of them; else all would have the same values."
        )
    if sorted(mapping.axes) not in (
        ["conditions", "voxels"],
        ["conditions", "subjects", "voxels"],
    ):
        raise ValueError(
            'responses.axes must be "conditions, voxels" or "voxels, conditions", or '
            f"have subjects among them; got {responses.axes!r}."
        )


def _check_masks(mapping: ArchiveMapping) -> None:
    """Refuse sectors of volumes that cannot be told apart."""
    file, threshold = split_threshold(mapping.masks.file)
    kind = ending(file)
    if mapping.dataset.space == "none":
        raise ValueError(
            "dataset.space must be stated for volumes, such as TAL; got none."
        )
    if kind not in _MASKS:
        raise ValueError(
            "masks.file must give the sectors of the volumes, as .voi, .msk or .nii; "
            f"got {file!r}."
        )
    if threshold is not None and kind == ".voi":
        raise ValueError(
            "masks.file must be an image to have a threshold; got "
            f"{mapping.masks.file!r}. Leave the threshold out."
        )
    _check_place("masks", file, "")
    if "sector" in _placeholders(mapping.responses.file):
        raise ValueError(
            "responses.file must hold no {sector}, as masks.file gives the sectors of "
            f"volumes; got {mapping.responses.file!r}."
        )
    n_parts = sum(map(len, mapping.parts.values()))
    if n_parts > 1 and kind != ".voi" and "sector" not in _placeholders(file):
        raise ValueError(
            f"masks.file must hold {{sector}}, as there are {n_parts} of them; got "
            f"{file!r}."
        )


def _check_subject_placeholders(mapping: ArchiveMapping) -> None:
    """Refuse responses that would be the same for all subjects."""
    responses, n_subjects = mapping.responses, len(mapping.subjects.labels)
    per_subject = _placeholders(responses.file, responses.key) & _PER_SUBJECT
    together = "subjects" in mapping.axes
    if together and per_subject:
        raise ValueError(
            "responses.axes must be without subjects if file or key hold a "
            f"placeholder of the subject; got {responses.axes!r}."
        )
    if not together and n_subjects > 1 and not per_subject:
        raise ValueError(
            "responses.file or responses.key must hold {subject}, {index} or "
            f"{{number}}, as there are {n_subjects} subjects; else all would have the "
            "same values."
        )


def _check_table(mapping: ArchiveMapping) -> None:
    """Refuse entries on tables where there is none, and the reverse."""
    responses = mapping.responses
    is_table = ending(responses.file) in _TABLES
    if is_table != (responses.header is not None):
        raise ValueError(
            "responses.header must say true or false for a table (.csv, .tsv), and "
            f"only for one; got {responses.header} for {responses.file}."
        )
    by_place = re.fullmatch(r"column \d+", responses.label_column)
    if responses.label_column and not (
        responses.header or (is_table and by_place is not None)
    ):
        raise ValueError(
            "responses.label_column must come with a table that has a header, or be a "
            "place such as 'column 1' in one without; got "
            f"{responses.label_column!r}."
        )
    if responses.counting_allowed and not is_table:
        raise ValueError(
            "responses.counting_allowed must come with a table (.csv, .tsv); got "
            f"{responses.file}."
        )


def _check_names(mapping: ArchiveMapping) -> None:
    """Refuse anything but one source of the names of conditions and of subjects."""
    conditions, subjects = mapping.conditions, mapping.subjects
    sources = {
        "names": bool(conditions.names),
        "file": bool(conditions.file),
        "from_maps": conditions.from_maps,
    }
    if sum(sources.values()) != 1:
        found = listing(name for name, given in sources.items() if given) or "none"
        raise ValueError(
            f"[conditions] must have exactly one of names, file and from_maps; got "
            f"{found}. Rows without names cannot be matched to images."
        )
    if conditions.from_maps and "vmp" not in ending(mapping.responses.file):
        raise ValueError(
            "conditions.from_maps must come with .vmp files, whose maps have names; "
            f"got {mapping.responses.file}."
        )
    for what, place in (("conditions", conditions), ("subjects", subjects)):
        file, kind = place.file, ending(place.file)
        if not file and (place.key or place.column):
            raise ValueError(f"{what}.file must come with {what}.key and column.")
        if file and kind not in (".txt", ".npy", *_TABLES, *_KEYED):
            raise ValueError(
                f"{what}.file must be .txt, .csv, .tsv, .npy, .mat, .npz or .h5; got "
                f"{file!r}."
            )
        if file and (kind in _TABLES) != bool(place.column):
            raise ValueError(
                f"{what}.column must name a column of a table (.csv, .tsv), and only "
                f"of one; got {place.column!r} for {file}."
            )
        _check_place(what, file, place.key)
    if _placeholders(subjects.file, subjects.key):
        raise ValueError("subjects.file and subjects.key must hold no placeholder.")


def _check_images(mapping: ArchiveMapping) -> None:
    """Refuse anything but one way from conditions to image files."""
    images = mapping.images
    if bool(images.file) == bool(images.table):
        found = "both" if images.file else "neither"
        raise ValueError(
            f"[images] must have exactly one of file and table; got {found}."
        )
    for word in ("file", "table", "folder"):
        _check_inside(f"images.{word}", getattr(images, word))
    if images.file and _placeholders(images.file) != {"condition"}:
        raise ValueError(
            "images.file must hold {condition} and no other placeholder; got "
            f"{shown(images.file)!r}."
        )
    columns = (images.condition_column, images.file_column)
    if images.table and (ending(images.table) not in _TABLES or not all(columns)):
        raise ValueError(
            "images.table must be .csv or .tsv and come with condition_column and "
            f"file_column; got {images.table!r}, {columns[0]!r} and {columns[1]!r}."
        )
    if images.file and (any(columns) or images.folder):
        raise ValueError(
            "images.condition_column, file_column and folder must come with "
            "images.table."
        )
