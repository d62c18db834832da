"""Names of conditions: in the order of the data, and each with its image."""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.published.archive import counts_up, take_texts
from versa.fmri.published.layout import Layout
from versa.fmri.published.osf import folded
from versa.fmri.published.patterns import fill, inside
from versa.wording import listing

__all__ = ["IMAGES", "check_order", "find_images"]

logger = logging.getLogger("versa")

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def check_order(
    place: str, labels: Sequence[str], names: Sequence[str], what: str
) -> None:
    """Refuse labels in the data whose order is not that of the conditions.

    The suffix of an image, case, blanks, underscores and hyphens make no difference. A
    warning tells if no label is a name, as then nothing shows that the order is right.

    Parameters
    ----------
    place : str
        Where the labels stand, for the sentences.
    labels : sequence of str
        What the data call their conditions.
    names : sequence of str
        The conditions, as the mapping file gives them.
    what : str
        How messages call the data.

    Raises
    ------
    ValueError
        If labels are names of conditions, in another order.

    Examples
    --------
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


def find_images(
    folder: Path, layout: Layout, names: Sequence[str], opened: Callable[[Path], Any]
) -> StimulusSet:
    """The image of every condition.

    Parameters
    ----------
    folder : Path
        The archive.
    layout : Layout
        Says where images are.
    names : sequence of str
        The conditions.
    opened : callable
        Opens a file, as :func:`~versa.fmri.published.archive.open_file`.

    Returns
    -------
    stimuli : StimulusSet
        In the order of `names`.

    Raises
    ------
    ValueError
        If a condition has no image.
    """
    if layout.images_table:
        files = _images_of_table(folder, layout, names, opened)
    else:
        files = [fill(layout.images_file, condition=name) for name in names]
    paths = [inside(folder, file) for file in files]
    missing = [
        name for name, path in zip(names, paths, strict=True) if not path.is_file()
    ]
    if missing:
        around = {item for path in paths for item in _files_beside(path)}
        unused = sorted(item.name for item in around - set(paths))
        found = (
            f"files without a condition: {listing(unused)}" if unused else "none else"
        )
        raise ValueError(
            f"every condition must have an image, such as {files[0]}; "
            f"{len(missing)} of {len(names)} have none: {listing(missing)} ({found})."
        )
    return StimulusSet.from_paths(paths, list(names))


def _files_beside(path: Path) -> list[Path]:
    """Files of the folder of a path, if there is one."""
    return [item for item in path.parent.glob("*") if item.is_file()]


def _images_of_table(
    folder: Path, layout: Layout, names: Sequence[str], opened: Callable[[Path], Any]
) -> list[str]:
    """Image files by the names of their conditions."""
    path = inside(folder, layout.images_table)
    what = str(path.relative_to(folder))
    rows = opened(path)
    conditions = take_texts(rows, "", layout.images_condition_column, what)
    files = take_texts(rows, "", layout.images_file_column, what)
    table = dict(zip(conditions, files, strict=True))
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(
            f"{what} must have a line for every condition; there is none for "
            f"{listing(map(repr, missing))}."
        )
    start = f"{layout.images_folder.rstrip('/')}/" if layout.images_folder else ""
    return [start + table[name] for name in names]
