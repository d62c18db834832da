"""What lies in an archive: arrays, lists of names, volumes, sectors and images."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from versa.fmri.published.archive import (
    counts_up,
    is_number,
    open_file,
    table_header,
)
from versa.fmri.published.matlab import list_arrays, read_struct, take, walk
from versa.fmri.published.naming import IMAGES
from versa.fmri.published.patterns import ending
from versa.fmri.volumes.nifti import read_image

__all__ = ["Family", "Find", "Survey", "families", "survey_archive"]

_ARRAYS = (".mat", ".h5", ".hdf5", ".npz", ".npy")
_TABLES = (".csv", ".tsv")
_VOLUMES = (".vmp", ".vtc", ".vmp.gz", ".vtc.gz")
_MASKS = (".voi", ".msk", ".msk.gz")
_KNOWN = re.compile(
    r"(?i)(^|[^a-z])(early ?v|[apv]?otc|evc|v[1-4]|loc?|it|[fpo][fp]a|rsc)($|[^a-z])"
)
_ASIDE = re.compile(r"\.unpacked\.old-\d")  # folders of earlier versions
_BREAKS = r"([/_.\[\]|-])"  # what parts of names are put together with; | before keys


class Find(NamedTuple):
    """An array, a list of names, or a file, with its address in the archive."""

    file: str
    key: str = ""
    column: str = ""
    shape: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    header: bool | None = None
    counting: tuple[str, ...] = ()  # "first line", "first column": 0, 1, 2, ...

    @property
    def address(self) -> str:
        """File and key in one."""
        return f"{self.file}|{self.key}"


@dataclass(frozen=True)
class Survey:
    """All finds of an archive.

    Parameters
    ----------
    arrays, names, volumes, masks : tuple of Find
        Arrays of numbers with their shapes, lists of texts, volumes, and files of
        sectors.
    images : dict of str to tuple of str
        Stems of image files by their pattern.
    damaged : tuple of str
        Why files could not be read.
    """

    arrays: tuple[Find, ...]
    names: tuple[Find, ...]
    volumes: tuple[Find, ...]
    masks: tuple[Find, ...]
    images: dict[str, tuple[str, ...]]
    damaged: tuple[str, ...]


class Family(NamedTuple):
    """Finds whose addresses differ in the subject and the sector only."""

    pattern: str  # of addresses, with {subject} or {index}, and {sector}
    subjects: tuple[str, ...]
    sectors: tuple[str, ...]
    members: dict[tuple[str, str], Find]  # by subject and sector


def survey_archive(folder: Path) -> Survey:
    """Look at every file of an archive.

    Parameters
    ----------
    folder : Path
        The archive; hidden files, and packages unpacked in earlier versions, are
        passed over.

    Returns
    -------
    survey : Survey
        What was found, in the order of the paths.
    """
    arrays: list[Find] = []
    names: list[Find] = []
    volumes: list[Find] = []
    masks: list[Find] = []
    damaged: list[str] = []
    images: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder).as_posix()
        hidden = any(part[0] == "." or _ASIDE.search(part) for part in Path(file).parts)
        if hidden or not path.is_file():
            continue
        kind = ending(path.name)
        found: list[Find] = []
        lists: list[Find] = []
        try:
            if kind in _ARRAYS:
                found, lists = _arrays(path, file)
            elif kind in _TABLES:
                found, lists = _table(open_file(path), file)
            elif kind == ".txt":
                lists = [Find(file, texts=tuple(open_file(path)))]
            elif kind in (".nii", ".nii.gz"):
                shape = read_image(path)[0].shape
                (volumes if len(shape) == 4 else masks).append(Find(file, shape=shape))
            elif kind in _VOLUMES:
                volumes.append(Find(file))
            elif kind in _MASKS:
                masks.append(Find(file))
            elif path.suffix.lower() in IMAGES:
                pattern = f"{file[: -len(path.name)]}{{condition}}{path.suffix}"
                images[pattern].append(path.stem)
        except (OSError, ValueError) as error:
            damaged.append(str(error))
        arrays += found
        names += lists
    return Survey(
        tuple(arrays),
        tuple(names),
        tuple(volumes),
        tuple(masks),
        {pattern: tuple(stems) for pattern, stems in images.items()},
        tuple(damaged),
    )


def _arrays(path: Path, file: str) -> tuple[list[Find], list[Find]]:
    """Arrays of numbers and lists of texts of a file of arrays."""
    if ending(file) in (".npy", ".npz"):
        tree = open_file(path)
        entries = list(walk(tree))
    else:
        tree = None
        entries = list_arrays(path)
    arrays = [
        Find(file, entry.key, shape=entry.shape)
        for entry in entries
        if re.match("float|int|uint", entry.dtype)
    ]
    named = [
        entry.key
        for entry in entries
        if (entry.dtype == "text" and entry.shape) or entry.dtype.startswith("<U")
    ]
    lists = []
    if named and tree is None:
        tree = read_struct(path)
    for key in named:
        found = take(tree, key) if key else tree
        texts = found if isinstance(found, list) else found.ravel().tolist()
        lists.append(Find(file, key, texts=tuple(texts)))
    return arrays, lists


def _table(rows: list[list[str]], file: str) -> tuple[list[Find], list[Find]]:
    """A table as an array, if it has numbers, and its columns of texts."""
    counting = ["first line"] if counts_up(rows[0]) else []
    header = bool(counting) or not all(map(is_number, rows[0]))
    body = rows[int(header) :]
    labels = [
        place
        for place in range(len(rows[0]))
        if body and not any(is_number(row[place]) for row in body)
    ]
    titles = table_header(rows, header)
    lists = [
        Find(file, column=titles[place], texts=tuple(row[place] for row in body))
        for place in labels
        if header
    ]
    if len(labels) > 1 or (labels and not header):
        return [], lists
    width = len(rows[0]) - len(labels)
    if counts_up([row[0] for row in body]):
        counting.append("first column")
        labels = labels or [0]
        width -= 1
    if not width:
        return [], lists
    column = titles[labels[0]] if labels else ""
    return [
        Find(
            file,
            column=column,
            shape=(len(body), width),
            header=header,
            counting=tuple(counting),
        )
    ], lists


def families(finds: Sequence[Find]) -> list[Family]:
    """Sort finds into families whose addresses differ in subject and sector only.

    Parameters
    ----------
    finds : sequence of Find
        Such as all arrays with one axis as long as there are conditions.

    Returns
    -------
    families : list of Family
        The largest first.

    Examples
    --------
    >>> finds = [Find(f"S{i}/{roi}.npy") for i in (1, 2, 10) for roi in ("V1", "IT")]
    >>> family = families(finds)[0]
    >>> family.pattern, family.subjects, family.sectors
    ('{subject}/{sector}.npy|', ('S1', 'S2', 'S10'), ('V1', 'IT'))
    """
    groups: dict[tuple[str, ...], list[tuple[Find, list[str]]]] = defaultdict(list)
    for find in finds:
        tokens = _tokens(find.address)
        groups[tuple(tokens[1::2])].append((find, tokens))
    found = [family for group in groups.values() for family in _split(group)]
    return sorted(found, key=lambda family: -len(family.members))


def _tokens(address: str) -> list[str]:
    """Parts of an address and what stands between them; a hemisphere is no part."""
    tokens = re.split(_BREAKS, address)
    for place in range(len(tokens) - 1, -1, -2):
        if not re.fullmatch("(?i)lh|rh|left|right", tokens[place]):
            continue
        after = tokens[place + 1 : place + 4]  # separator, part, separator
        is_first = after[:1] and after[0] not in "|[" and after[2:] != ["|"]
        start = place if is_first else max(place - 2, 0)
        tokens[start : start + 3] = ["".join(tokens[start : start + 3])]
    return tokens


def _split(group: list[tuple[Find, list[str]]]) -> list[Family]:
    """Families of finds whose addresses are put together alike."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place in range(0, len(group[0][1]), 2):
        values = tuple(tokens[place] for _, tokens in group)
        if len(set(values)) > 1:
            places[values].append(place)  # a subject's folder and file vary together
    separators = group[0][1]

    def rank(values: tuple[str, ...]) -> int:
        first = places[values][0]
        if first and separators[first - 1] == "[":
            return 3
        if all(re.fullmatch(r"(?i)[a-z]{0,12}\d+", value) for value in values):
            return 0 if any(re.match(r"(?i)v\d", value) for value in values) else 2
        return 0

    subject = max(places, key=rank, default=None)
    if subject is not None and not rank(subject):
        subject = None
    others = [values for values in places if values != subject]
    others.sort(key=lambda values: sum(map(bool, map(_KNOWN.search, values))))
    if len(others) > 1:
        # a sector's name is known, or stands closest to the end; what else varies is
        # another kind of data, such as odd and even runs
        kinds = defaultdict(list)
        for row, member in enumerate(group):
            kinds[tuple(values[row] for values in others[:-1])].append(member)
        return [family for part in kinds.values() for family in _split(part)]
    sector = others[0] if others else None
    pattern = list(group[0][1])
    for place in places[subject] if subject else []:
        pattern[place] = "{index}" if rank(subject or ()) == 3 else "{subject}"
    for place in places[sector] if sector else []:
        pattern[place] = "{sector}"
    members = {
        (subject[row] if subject else "", sector[row] if sector else ""): find
        for row, (find, _) in enumerate(group)
    }
    subjects = sorted({one for one, _ in members}, key=_natural)
    sectors = list(dict.fromkeys(two for _, two in members))
    return [Family("".join(pattern), tuple(subjects), tuple(sectors), members)]


def _natural(text: str) -> list[tuple[int, str]]:
    """Key that sorts 2 before 10."""
    return [
        (int(part), "") if part.isdigit() else (0, part)
        for part in re.split(r"(\d+)", text)
    ]
