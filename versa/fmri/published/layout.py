"""Layout: where in a downloaded archive the responses of a dataset lie."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from versa.fmri.published.patterns import check_inside, ending, placeholders
from versa.fmri.volumes.spaces import check_space
from versa.wording import listing, unique_names, unknown

__all__ = ["PLACES", "Layout"]

# field of Layout -> (section, name) in a mapping file, which messages name
PLACES = {
    "confirmed": ("", "confirmed"),
    "name": ("dataset", "name"),
    "licence": ("dataset", "licence"),
    "citation": ("dataset", "citation"),
    "description": ("dataset", "description"),
    "unit": ("dataset", "unit"),
    "space": ("dataset", "space"),
    "subjects": ("subjects", "labels"),
    "subjects_file": ("subjects", "file"),
    "subjects_key": ("subjects", "key"),
    "subjects_column": ("subjects", "column"),
    "responses_file": ("responses", "file"),
    "responses_key": ("responses", "key"),
    "axes": ("responses", "axes"),
    "header": ("responses", "header"),
    "label_column": ("responses", "label_column"),
    "counting_allowed": ("responses", "counting_allowed"),
    "convention": ("responses", "convention"),
    "same_values_allowed": ("responses", "same_values_allowed"),
    "masks_file": ("masks", "file"),
    "n_conditions": ("conditions", "number"),
    "condition_names": ("conditions", "names"),
    "conditions_file": ("conditions", "file"),
    "conditions_key": ("conditions", "key"),
    "conditions_column": ("conditions", "column"),
    "conditions_from_maps": ("conditions", "from_maps"),
    "images_file": ("images", "file"),
    "images_table": ("images", "table"),
    "images_condition_column": ("images", "condition_column"),
    "images_file_column": ("images", "file_column"),
    "images_folder": ("images", "folder"),
}
_VOLUMES = (".vmp", ".vtc", ".nii", ".vmp.gz", ".vtc.gz", ".nii.gz")
_MASKS = (".voi", ".msk", ".nii", ".msk.gz", ".nii.gz")
_TABLES = (".csv", ".tsv")
_KEYED = (".mat", ".npz", ".h5", ".hdf5")
_PER_SUBJECT = frozenset(("subject", "index", "number"))
_PLACEHOLDERS = ("subject", "index", "number", "sector")


@dataclass(frozen=True)
class Layout:
    """Where in an archive the responses, names and images of a dataset lie.

    The head of :mod:`versa.fmri.published.mapping` explains every entry of its file.

    Parameters
    ----------
    name : str
        Of the dataset.
    subjects : sequence of str, length n_subjects
        Labels of all subjects of the archive, in its order.
    sectors : mapping of str to str or sequence of str
        versa's names of the sectors, and the archive's.
    responses_file : str
        Pattern of the files with responses.
    axes : str
        ``"conditions, voxels"``, ``"voxels, conditions"``, these with ``subjects``
        among them, or ``"maps"``.
    n_conditions : int
        How many conditions there must be.
    responses_key, label_column : str, default=""
        Place of the responses in their file.
    header : bool, optional
        Whether a table begins with a header; must be said for tables.
    counting_allowed : bool, default=False
        Whether the first line or column of a table may count 0, 1, 2, ... and yet be
        values.
    masks_file : str, default=""
        Pattern of the sectors of volumes.
    condition_names : sequence of str, default=()
        Names in the order of the archive, or else one of the next four.
    conditions_file, conditions_key, conditions_column : str, default=""
        Where the archive has the names.
    conditions_from_maps : bool, default=False
        Whether the names of the maps are those of the conditions.
    images_file : str, default=""
        Pattern of an image, with ``{condition}``; or else a table.
    images_table, images_condition_column, images_file_column, images_folder : str, \
default=""
        A table of conditions and image files.
    subjects_file, subjects_key, subjects_column : str, default=""
        Where the archive lists its subjects, to check `subjects`.
    voxels : mapping of str to mapping of str to int, optional
        Expected n_voxels by sector and subject.
    convention : {"", "radiological", "neurological"}
        Of BrainVoyager files that do not say it: VMP and MSK.
    same_values_allowed : bool, default=False
        Whether two subjects or sectors may have the same values.
    unit, space, licence, citation, description : str
        As in :class:`~versa.fmri.dataset.braindata.BrainDataset`.
    confirmed : bool, default=False
        Whether somebody has checked it.

    Raises
    ------
    ValueError
        If an entry is missing, contradicts another one, or leads out of the archive.

    Examples
    --------
    >>> Layout(
    ...     name="mine",
    ...     subjects=["01", "02"],
    ...     sectors={"EarlyV": "V1-V3"},
    ...     responses_file="{subject}_{sector}.npy",
    ...     axes="voxels, conditions",
    ...     n_conditions=40,
    ...     conditions_file="names.txt",
    ...     images_file="stimuli/{condition}.png",
    ... ).axes
    'voxels, conditions'
    """

    name: str
    subjects: Sequence[str]
    sectors: Mapping[str, str | Sequence[str]]
    responses_file: str
    axes: str
    n_conditions: int
    responses_key: str = ""
    label_column: str = ""
    header: bool | None = None
    counting_allowed: bool = False
    masks_file: str = ""
    condition_names: Sequence[str] = ()
    conditions_file: str = ""
    conditions_key: str = ""
    conditions_column: str = ""
    conditions_from_maps: bool = False
    images_file: str = ""
    images_table: str = ""
    images_condition_column: str = ""
    images_file_column: str = ""
    images_folder: str = ""
    subjects_file: str = ""
    subjects_key: str = ""
    subjects_column: str = ""
    voxels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    convention: str = ""
    same_values_allowed: bool = False
    unit: str = "a.u."
    space: str = "none"
    licence: str = ""
    citation: str = ""
    description: str = ""
    confirmed: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        names = {
            key: _texts(f"sectors.{key}", [name] if isinstance(name, str) else name)
            for key, name in self.sectors.items()
        }
        put = functools.partial(object.__setattr__, self)
        put("sectors", MappingProxyType(names))
        put("axes", ", ".join(part.strip() for part in self.axes.split(",")))
        for name in ("subjects", "condition_names"):
            put(name, _texts(_place(name), getattr(self, name)))
        check_space(self.space)
        _check_names(self)
        _check_responses(self)
        _check_conditions(self)
        _check_images(self)

    @property
    def has_volumes(self) -> bool:
        """Whether the responses are volumes with masks."""
        return self.axes == "maps"


def _place(name: str) -> str:
    """How a field of Layout is called in a mapping file."""
    section, word = PLACES.get(name, ("", name))
    return f"{section}.{word}" if section else word


def _texts(what: str, value: Any) -> tuple[str, ...]:
    """Texts as a tuple, each once."""
    return () if value in ((), []) else unique_names(value, what)


def _check_types(layout: Layout) -> None:
    """Refuse texts, numbers and truth values that are none."""
    words = {str: "a text", bool: "true or false", int: "a whole number"}
    for one in fields(layout):
        value = getattr(layout, one.name)
        kind = bool if one.name == "header" and value is not None else one.type
        if kind in words and type(value) is not kind:
            raise ValueError(
                f"{_place(one.name)} must be {words[kind]}; got {value!r}."
            )
    for name, table in (("sectors", layout.sectors), ("voxels", layout.voxels)):
        if not isinstance(table, Mapping):
            raise ValueError(f"{name} must map names; got {table!r}.")


def _check_names(layout: Layout) -> None:
    """Refuse subjects, sectors and numbers of voxels that contradict one another."""
    for what in ("name", "subjects", "sectors"):
        if not getattr(layout, what):
            raise ValueError(f"{_place(what)} must not be empty.")
    if layout.n_conditions < 2:
        raise ValueError(
            f"conditions.number must be at least 2; got {layout.n_conditions}."
        )
    owners: dict[str, str] = {}
    for sector, names in layout.sectors.items():
        if not names:
            raise ValueError(f"sectors.{sector} must name a sector of the archive.")
        for name in names:
            if name in owners:
                raise ValueError(
                    "sectors must have different names in the archive; "
                    f"{owners[name]} and {sector} are both {name!r}."
                )
            owners[name] = sector
    for sector, counts in layout.voxels.items():
        if sector not in layout.sectors:
            raise ValueError(unknown("sector of [voxels]", sector, layout.sectors))
        if not isinstance(counts, Mapping):
            raise ValueError(
                f"voxels.{sector} must map subjects to numbers; got {counts!r}."
            )
        for subject, count in counts.items():
            if subject not in layout.subjects:
                raise ValueError(
                    unknown(f"subject of [voxels.{sector}]", subject, layout.subjects)
                )
            if type(count) is not int or count < 1:
                raise ValueError(
                    f"voxels.{sector} of subject {subject} must be a number of voxels; "
                    f"got {count!r}."
                )


def _check_responses(layout: Layout) -> None:
    """Refuse a place of the responses that cannot be one."""
    kind = ending(layout.responses_file)
    options = (*_KEYED, ".npy", *_TABLES, *_VOLUMES)
    if kind not in options:
        raise ValueError(
            unknown(
                "the suffix of responses.file", kind or layout.responses_file, options
            )
        )
    _check_place(layout, "responses", layout.responses_file, layout.responses_key)
    if (kind in _VOLUMES) != layout.has_volumes:
        raise ValueError(
            'responses.axes must be "maps" for volumes (.vmp, .vtc, .nii), and only '
            f"for them; got {layout.axes!r} for {layout.responses_file}."
        )
    used = placeholders(layout.responses_file) | placeholders(layout.responses_key)
    sides = ("", "radiological", "neurological")
    if layout.convention not in sides:
        raise ValueError(unknown("responses.convention", layout.convention, sides[1:]))
    n_parts = sum(map(len, layout.sectors.values()))
    if layout.has_volumes:
        _check_masks(layout, used, n_parts)
    else:
        if layout.masks_file:
            raise ValueError(
                "masks.file must come with volumes; the responses lie in "
                f"{layout.responses_file}."
            )
        if n_parts > 1 and "sector" not in used:
            raise ValueError(
                "responses.file or responses.key must hold {sector}, as there are "
                f"{n_parts} of them; else all would have the same values."
            )
        axes = layout.axes.split(", ")
        if sorted(axes) not in (
            ["conditions", "voxels"],
            ["conditions", "subjects", "voxels"],
        ):
            raise ValueError(
                'responses.axes must be "conditions, voxels" or "voxels, conditions", '
                f"or have subjects among them; got {layout.axes!r}."
            )
    together = "subjects" in layout.axes
    if together and used & _PER_SUBJECT:
        raise ValueError(
            "responses.axes must be without subjects if file or key hold a "
            f"placeholder of the subject; got {layout.axes!r}."
        )
    if not together and len(layout.subjects) > 1 and not used & _PER_SUBJECT:
        raise ValueError(
            "responses.file or responses.key must hold {subject}, {index} or "
            f"{{number}}, as there are {len(layout.subjects)} subjects; else all would "
            "have the same values."
        )
    if (kind in _TABLES) != (layout.header is not None):
        raise ValueError(
            "responses.header must say true or false for a table (.csv, .tsv), and "
            f"only for one; got {layout.header} for {layout.responses_file}."
        )
    by_place = layout.header is False and re.fullmatch(
        r"column \d+", layout.label_column
    )
    if layout.label_column and not (layout.header or by_place):
        raise ValueError(
            "responses.label_column must come with a table that has a header, or be a "
            f"place such as 'column 1' in one without; got {layout.label_column!r}."
        )
    if layout.counting_allowed and layout.header is None:
        raise ValueError(
            "responses.counting_allowed must come with a table (.csv, .tsv); got "
            f"{layout.responses_file}."
        )


def _check_masks(layout: Layout, used: set[str], n_parts: int) -> None:
    """Refuse sectors of volumes that cannot be told apart."""
    if layout.space == "none":
        raise ValueError(
            "dataset.space must be stated for volumes, such as TAL; got none."
        )
    kind = ending(layout.masks_file)
    if kind not in _MASKS:
        raise ValueError(
            "masks.file must give the sectors of the volumes, as .voi, .msk or .nii; "
            f"got {layout.masks_file!r}."
        )
    _check_place(layout, "masks", layout.masks_file, "")
    if "sector" in used:
        raise ValueError(
            "responses.file must hold no {sector}, as masks.file gives the sectors of "
            f"volumes; got {layout.responses_file!r}."
        )
    named = kind == ".voi" or "sector" in placeholders(layout.masks_file)
    if n_parts > 1 and not named:
        raise ValueError(
            f"masks.file must hold {{sector}}, as there are {n_parts} of them; got "
            f"{layout.masks_file!r}."
        )


def _check_conditions(layout: Layout) -> None:
    """Refuse anything but one source of the names of the conditions."""
    sources = {
        "names": bool(layout.condition_names),
        "file": bool(layout.conditions_file),
        "from_maps": layout.conditions_from_maps,
    }
    if sum(sources.values()) != 1:
        found = listing(name for name, given in sources.items() if given) or "none"
        raise ValueError(
            f"[conditions] must have exactly one of names, file and from_maps; got "
            f"{found}. Rows without names cannot be matched to images."
        )
    if layout.condition_names and len(layout.condition_names) != layout.n_conditions:
        raise ValueError(
            "conditions.names must have as many names as conditions.number says, "
            f"{layout.n_conditions}; got {len(layout.condition_names)}."
        )
    if layout.conditions_from_maps and "vmp" not in ending(layout.responses_file):
        raise ValueError(
            "conditions.from_maps must come with .vmp files, whose maps have names; "
            f"got {layout.responses_file}."
        )
    for what in ("conditions", "subjects"):
        file = getattr(layout, f"{what}_file")
        key, column = (getattr(layout, f"{what}_{end}") for end in ("key", "column"))
        kind = ending(file)
        if not file and (key or column):
            raise ValueError(f"{what}.file must come with {what}.key and column.")
        if file and kind not in (".txt", ".npy", *_TABLES, *_KEYED):
            raise ValueError(
                f"{what}.file must be .txt, .csv, .tsv, .npy, .mat, .npz or .h5; got "
                f"{file!r}."
            )
        if file and (kind in _TABLES) != bool(column):
            raise ValueError(
                f"{what}.column must name a column of a table (.csv, .tsv), and only "
                f"of one; got {column!r} for {file}."
            )
        _check_place(layout, what, file, key)
    if placeholders(layout.subjects_file) | placeholders(layout.subjects_key):
        raise ValueError("subjects.file and subjects.key must hold no placeholder.")


def _check_images(layout: Layout) -> None:
    """Refuse anything but one way from conditions to image files."""
    if bool(layout.images_file) == bool(layout.images_table):
        found = "both" if layout.images_file else "neither"
        raise ValueError(
            f"[images] must have exactly one of file and table; got {found}."
        )
    check_inside("images.file", layout.images_file)
    check_inside("images.table", layout.images_table)
    check_inside("images.folder", layout.images_folder)
    if layout.images_file and placeholders(layout.images_file) != {"condition"}:
        raise ValueError(
            "images.file must hold {condition} and no other placeholder; got "
            f"{layout.images_file!r}."
        )
    columns = (layout.images_condition_column, layout.images_file_column)
    if layout.images_table:
        if ending(layout.images_table) not in _TABLES or not all(columns):
            raise ValueError(
                "images.table must be .csv or .tsv and come with condition_column and "
                f"file_column; got {layout.images_table!r}, {columns[0]!r} and "
                f"{columns[1]!r}."
            )
    elif any(columns) or layout.images_folder:
        raise ValueError(
            "images.condition_column, file_column and folder must come with "
            "images.table."
        )


def _check_place(layout: Layout, what: str, file: str, key: str) -> None:
    """Refuse a file and key that are no patterns of a place in the archive."""
    check_inside(f"{what}.file", file)
    for word, pattern in (("file", file), ("key", key)):
        for name in sorted(placeholders(pattern)):
            if name not in _PLACEHOLDERS:
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
