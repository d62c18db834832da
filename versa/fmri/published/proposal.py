"""A first mapping file for an archive, guessed from names and shapes.

What is proposed is never converted before somebody has read it: the file says
``confirmed = false``, and every remark in it is of one of three kinds: *sure* (the
archive shows it), *guess* (plausible, to be checked), *decide* (the archive does not
say it). Rows without names are not named by us: then there is no complete proposal.
"""

import math
import os
import re
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

from versa.cache import atomic_write
from versa.fmri.published.layout import Layout
from versa.fmri.published.mapping import layout_text
from versa.fmri.published.patterns import ending
from versa.fmri.published.survey import Family, Survey, families, survey_archive
from versa.wording import listing

__all__ = ["Remark", "propose_layout", "write_proposal"]

_HEMISPHERE = re.compile(r"(?i)^([lr]h?|left|right)[_./-]|[_./-]([lr]h?|left|right)$")
_DATA = re.compile(r"(?i)beta|respon|pattern|voxel|data")
_PEOPLE = re.compile(r"(?i)subj|particip|people|label")
_HEAD = (
    "Proposed from names and shapes. Check every line against the archive, correct it,",
    "then set confirmed = true: nothing is converted before.",
)
_COUNTING = (
    "count 0, 1, 2, ..., as an index does, and are taken for no data: see header and "
    "label_column. If they are data, correct these and set counting_allowed = true."
)


class Remark(NamedTuple):
    """One thing that was found, guessed, or is left to decide.

    ``kind`` is ``"sure"``, ``"guess"`` or ``"decide"``; ``section`` is that of the
    mapping file it is about.
    """

    kind: str
    section: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: [{self.section}] {self.text}"


_Draft = tuple[dict[str, Any], list[Remark]]  # entries of a mapping file, with remarks


def propose_layout(
    folder: str | os.PathLike[str],
    *,
    n_images: int | None = None,
    n_subjects: int | None = None,
) -> tuple[Layout | None, list[Remark]]:
    """Guess where things lie in an archive.

    Parameters
    ----------
    folder : path-like
        The archive, unpacked.
    n_images, n_subjects : int, optional
        What the paper says; a proposal must fit them.

    Returns
    -------
    layout : Layout or None
        The proposal, not confirmed; None if something is left to decide without which
        there is none.
    remarks : list of Remark
        What is sure, what was guessed, and what is to be decided.

    Raises
    ------
    ValueError
        If there is no such folder.
    """
    values, remarks = _drafted(Path(folder), n_images, n_subjects)
    required = [
        one.name
        for one in fields(Layout)
        if one.default is MISSING and one.default_factory is MISSING
    ]
    if any(name not in values for name in required):
        return None, remarks
    try:
        return Layout(**values), remarks
    except ValueError as error:
        return None, [*remarks, Remark("decide", "dataset", f"not complete: {error}")]


def write_proposal(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    n_images: int | None = None,
    n_subjects: int | None = None,
) -> list[Remark]:
    """Write a mapping file to be corrected, with a comment for every remark.

    Parameters
    ----------
    path : path-like
        The file to make; it must not exist.
    folder : path-like
        The archive, unpacked.
    n_images, n_subjects : int, optional
        What the paper says.

    Returns
    -------
    remarks : list of Remark
        As of :func:`propose_layout`. Entries that are left to decide are missing from
        the file, and a comment says so.

    Raises
    ------
    ValueError
        If the file exists, or there is no such folder.
    """
    path = Path(path)
    if path.exists():
        raise ValueError(
            f"{path} must not exist: what was corrected in it would be lost. Choose "
            "another name."
        )
    values, remarks = _drafted(Path(folder), n_images, n_subjects)
    comments: dict[str, list[str]] = {"": list(_HEAD)}
    for kind, section, text in remarks:
        lines = textwrap.wrap(f"{kind.upper()}: {text}", 84, break_on_hyphens=False)
        comments.setdefault(section, []).extend(lines)
    with atomic_write(path) as temporary:
        temporary.write_bytes(layout_text(values, comments).encode())
    return remarks


def _drafted(folder: Path, n_images: int | None, n_subjects: int | None) -> _Draft:
    """As many entries of a mapping file as can be had, with remarks."""
    if not folder.is_dir():
        raise ValueError(f"the archive must be a folder; got {str(folder)!r}.")
    survey = survey_archive(folder)
    values: dict[str, Any] = {"name": folder.resolve().name}
    remarks = [
        Remark("guess", "dataset", "the name is that of the folder."),
        Remark(
            "decide", "dataset", "licence, citation and unit, from the archive's page."
        ),
    ]
    for reason in survey.damaged:
        remarks.append(Remark("decide", "responses", f"passed over: {reason}"))
    found, stems, said = _images(survey, n_images)
    values |= found
    remarks += said
    n_conditions = n_images or len(stems)
    if not n_conditions:
        text = "how many conditions there are; pass n_images, and see what fits."
        return values, [*remarks, Remark("decide", "conditions", text)]
    values["n_conditions"] = n_conditions
    family, others = _best_family(survey, n_conditions, n_subjects)
    if family is not None:
        said = []
        if others:
            patterns = listing((other.pattern for other in others), limit=4)
            said = [Remark("guess", "responses", f"others would fit, too: {patterns}.")]
        draft = _array_responses(family, n_conditions)
    else:
        family, draft, said = _volume_responses(folder, survey, n_conditions)
    if family is None:
        shapes = listing((f"{a.address} {a.shape}" for a in survey.arrays), limit=6)
        text = (
            f"no family of arrays has an axis of {n_conditions} conditions, and there "
            f"are no volumes with sectors; arrays: {shapes or 'none'}."
        )
        return values, [*remarks, *said, Remark("decide", "responses", text)]
    values |= draft[0]
    remarks += draft[1] + said
    for found, said in (
        _subjects(survey, family, n_subjects),
        _names(survey, family, n_conditions, stems, values),
    ):
        values |= found
        remarks += said
    if "subjects" in values and values.get("axes") != "maps":
        values["voxels"] = _voxels(family, values, n_conditions)
    return values, remarks


def _voxels(
    family: Family, values: dict[str, Any], n_conditions: int
) -> dict[str, dict[str, int]]:
    """How many voxels there are, by sector and subject: convert checks them."""
    return {
        sector: {
            label: sum(
                math.prod(family.members[subject, part].shape) // n_conditions
                for part in parts
            )
            for label, subject in zip(
                values["subjects"], _in_order(family, values), strict=True
            )
            if all((subject, part) in family.members for part in parts)
        }
        for sector, parts in (
            values["sectors"] if any(family.sectors) else {"ROI": [""]}
        ).items()
    }


def _in_order(family: Family, values: dict[str, Any]) -> Sequence[str]:
    """Subjects of a family in the order of the labels."""
    named = set(values["subjects"]) == set(family.subjects)
    return values["subjects"] if named else family.subjects


def _images(
    survey: Survey, n_images: int | None
) -> tuple[dict[str, Any], tuple[str, ...], list[Remark]]:
    """Entries, names of the image files, and remarks."""
    sizes = {pattern: len(stems) for pattern, stems in survey.images.items()}
    fitting = [one for one, n in sizes.items() if n_images in (None, n)]
    if not fitting:
        found = listing(f"{one} ({n})" for one, n in sizes.items()) or "none"
        wanted = f"{n_images} images" if n_images else "images"
        text = f"no folder holds {wanted}; found: {found}. Put them into the archive."
        return {}, (), [Remark("decide", "images", text)]
    best = max(fitting, key=sizes.__getitem__)
    kind = "sure" if n_images and len(fitting) == 1 else "guess"
    text = f"{best} fits {sizes[best]} files"
    rest = [one for one in fitting if one != best]
    text += f"; so would {listing(rest)}." if rest else "."
    return {"images_file": best}, survey.images[best], [Remark(kind, "images", text)]


def _best_family(
    survey: Survey, n_conditions: int, n_subjects: int | None
) -> tuple[Family | None, list[Family]]:
    """The arrays that look most like responses, and others that might be."""
    fitting = [
        find
        for find in survey.arrays
        if len(find.shape) == 2
        and n_conditions in find.shape
        and min(find.shape) > 1  # one number per condition is no response pattern
    ]
    found = [
        family
        for family in families(fitting)
        if any(len(set(find.shape)) > 1 for find in family.members.values())
    ]  # square ones are rather RDMs

    def rank(family: Family) -> tuple[bool, ...]:
        n_cells = len(family.subjects) * len(family.sectors)
        return (
            n_subjects in (None, len(family.subjects)),
            len(family.members) == n_cells,
            bool(_DATA.search(family.pattern)),
        )

    ranked = sorted(found, key=rank, reverse=True)
    return (ranked[0], ranked[1:]) if ranked else (None, [])


def _array_responses(family: Family, n_conditions: int) -> _Draft:
    """Entries on responses that are arrays."""
    file, _, key = family.pattern.partition("|")
    remarks = [
        Remark(
            "guess",
            "responses",
            f"{file}{f', {key}' if key else ''} fits {len(family.members)} arrays.",
        )
    ]
    values: dict[str, Any] = {"responses_file": file}
    if key:
        values["responses_key"] = key
    firsts = {
        find.shape[0] == n_conditions
        for find in family.members.values()
        if len(set(find.shape)) > 1
    }
    if len(firsts) == 1:
        ordered = (
            ("conditions", "voxels") if firsts == {True} else ("voxels", "conditions")
        )
        values["axes"] = ", ".join(ordered)
        text = f"the axis of length {n_conditions} is that of the conditions."
        remarks.append(Remark("sure", "responses", text))
    else:
        text = "axes: arrays have their conditions on different axes."
        remarks.append(Remark("decide", "responses", text))
    finds = list(family.members.values())
    if ending(file) in (".csv", ".tsv"):
        headers = {find.header for find in finds}
        columns = {find.column for find in finds}
        if len(headers) == len(columns) == 1:
            values["header"] = headers.pop()
            if column := columns.pop():
                values["label_column"] = column
            kind = "sure" if values["header"] else "guess"
            text = f"the first line is {'a' if values['header'] else 'no'} header."
            remarks.append(Remark(kind, "responses", text))
            if counting := {place for find in finds for place in find.counting}:
                text = f"the {' and the '.join(sorted(counting))} of tables {_COUNTING}"
                remarks.append(Remark("decide", "responses", text))
        else:
            text = "header and label_column: the tables differ in them."
            remarks.append(Remark("decide", "responses", text))
    values["sectors"], said = _sectors(family.sectors)
    holes = [
        f"{sector} of {subject}"
        for subject in family.subjects
        for sector in family.sectors
        if (subject, sector) not in family.members
    ]
    if holes:
        text = f"these are missing: {listing(holes)}."
        said.append(Remark("decide", "sectors", text))
    return values, remarks + said


def _sectors(names: Sequence[str]) -> tuple[dict[str, Any], list[Remark]]:
    """Names of sectors by those of the archive; hemispheres are put together."""
    if not any(names):
        text = "there is one sector only, and its name is made up."
        return {"ROI": "ROI"}, [Remark("guess", "sectors", text)]
    by_base: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_base[_HEMISPHERE.sub("", name) or name].append(name)
    table: dict[str, Any] = {}
    for base, parts in by_base.items():
        pairs = {base: parts} if len(parts) == 2 else {part: [part] for part in parts}
        for owner, own in pairs.items():
            table[re.sub("[^0-9A-Za-z]", "", owner) or owner] = own
    text = f"sectors are called {listing(names, limit=20)} in the archive."
    remarks = [Remark("guess", "sectors", text)]
    if len(table) < len(names):
        remarks.append(Remark("guess", "sectors", "hemispheres are put together."))
    return table, remarks


def _volume_responses(
    folder: Path, survey: Survey, n_conditions: int
) -> tuple[Family | None, _Draft, list[Remark]]:
    """Entries on responses that are volumes, cut by masks."""
    volumes = [one for one in families(survey.volumes) if len(one.sectors) == 1]
    if not volumes or not survey.masks:
        return None, ({}, []), []
    family = volumes[0]
    file = family.pattern.rstrip("|")
    masks = families(survey.masks)[0]
    masks_file = masks.pattern.rstrip("|")
    values: dict[str, Any] = {
        "responses_file": file,
        "axes": "maps",
        "masks_file": masks_file,
    }
    text = f"{file} fits {len(family.members)} files, cut by {masks_file}."
    remarks = [Remark("guess", "responses", text)]
    names = masks.sectors
    by_brainvoyager = not ending(file).startswith(".nii")
    if by_brainvoyager:
        values |= {"space": "TAL", "convention": "radiological"}
        text = "the space is TAL: the files may not say it."
        remarks.append(Remark("guess", "dataset", text))
        text = "radiological is the usual convention: BrainVoyager may not say it."
        remarks.append(Remark("guess", "responses", text))
    else:
        remarks.append(Remark("decide", "dataset", "the space of the volumes."))
    if ending(masks_file) == ".voi":
        from versa.fmri.betas.brainvoyager import read_voi

        try:
            first = next(iter(masks.members.values())).file
            found, space = read_voi(folder / first)
        except (ImportError, ValueError) as error:
            remarks.append(Remark("decide", "masks", f"the VOIs: {error}"))
        else:
            names = tuple(found)
            values["space"] = space
            remarks.append(
                Remark("sure", "masks", f"{first} says that it is in {space}.")
            )
    values["sectors"], said = _sectors(names)
    if set(masks.subjects) not in (set(family.subjects), {""}):
        text = "the subjects of the masks are not those of the volumes."
        said.append(Remark("decide", "masks", text))
    return family, (values, remarks + said), []


def _subjects(survey: Survey, family: Family, n_subjects: int | None) -> _Draft:
    """Entries on the subjects."""
    n_found = len(family.subjects)
    if n_subjects not in (None, n_found):
        text = f"there should be {n_subjects} subjects; {n_found} fit the pattern."
        return {}, [Remark("decide", "subjects", text)]
    by_index = "{index}" in family.pattern
    if by_index and list(family.subjects) != [str(i) for i in range(n_found)]:
        text = f"the indices {listing(family.subjects)} are not without gaps."
        return {}, [Remark("decide", "subjects", text)]
    for find in survey.names:
        fits = by_index or set(find.texts) == set(family.subjects)
        named = _PEOPLE.search(f"{find.file} {find.key} {find.column}")
        if len(find.texts) == n_found and fits and named and len(set(find.texts)) > 1:
            values = {
                "subjects": find.texts,
                "subjects_file": find.file,
                "subjects_key": find.key,
                "subjects_column": find.column,
            }
            text = f"the labels are listed in {find.file}."
            return values, [Remark("sure", "subjects", text)]
    if by_index:
        labels = [f"{i + 1:02d}" for i in range(n_found)]
        text = "the archive does not name its subjects; they are numbered as they come."
    elif family.subjects == ("",):
        labels = ["01"]
        text = "there is one subject only, and its label is made up."
    else:
        labels = list(family.subjects)
        text = "the labels are those of the file names."
    return {"subjects": labels}, [Remark("guess", "subjects", text)]


def _names(
    survey: Survey,
    family: Family,
    n_conditions: int,
    stems: Sequence[str],
    values: dict[str, Any],
) -> _Draft:
    """Entries on the names of the conditions."""
    file = values["responses_file"]
    if ending(file).startswith(".vmp"):
        text = "the maps are called as the images: convert checks it."
        return {"conditions_from_maps": True}, [Remark("guess", "conditions", text)]
    suffix = Path(values.get("images_file", "")).suffix
    lists = [one for one in survey.names if set(one.texts) == set(stems) and stems]
    remarks: list[Remark] = []
    found: dict[str, Any] = {}
    if not lists:
        with_suffix = {stem + suffix for stem in stems}
        lists = [one for one in survey.names if stems and set(one.texts) == with_suffix]
        if lists:
            pattern = values["images_file"].removesuffix(suffix)
            found["images_file"] = pattern
            text = "the names of the conditions include the suffix of the images."
            remarks.append(Remark("sure", "images", text))
    own = {find.file for find in family.members.values()}
    inside = [one for one in lists if one.file in own]
    chosen = inside or lists
    for group in families([one._replace(column="") for one in chosen]):
        fits = group.subjects == family.subjects and len(group.subjects) > 1
        by_part = group.sectors == family.sectors or group.sectors == ("",)
        if fits and by_part:
            place, _, key = group.pattern.partition("|")
            column = chosen[0].column
            text = "every subject has names of its own, which are those of the images."
            remarks.append(Remark("sure", "conditions", text))
            return found | _source(place, key, column), remarks
    orders = {one.texts for one in chosen}
    if len(orders) == 1:
        one = chosen[0]
        text = f"{one.file} has the names of the images"
        text += (
            " beside the responses."
            if inside
            else ("; check that the rows of the responses are in its order.")
        )
        remarks.append(Remark("guess", "conditions", text))
        return found | _source(one.file, one.key, one.column), remarks
    if orders:
        files = listing(dict.fromkeys(one.address for one in chosen))
        text = f"the order of the conditions: {files} have the names in several orders."
    else:
        sized = [one.address for one in survey.names if len(one.texts) == n_conditions]
        text = (
            "the order of the conditions: no list of names is that of the images"
            f"{f'; {listing(sized)} have as many' if sized else ''}. Write conditions."
            "names, or file; the authors of the archive know it."
        )
    return found, [*remarks, Remark("decide", "conditions", text)]


def _source(file: str, key: str, column: str) -> dict[str, Any]:
    """Entries on a list of names."""
    return {
        "conditions_file": file,
        "conditions_key": key,
        "conditions_column": column,
    }
