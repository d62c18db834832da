"""The images of a dataset folder that grows, matched to conditions by name."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from versa.cache import atomic_write
from versa.fmri.dataset.folder import write_stimuli
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.dataset.tables import read_image_table, read_participants
from versa.fmri.study.files import read_conditions
from versa.wording import listing

logger = logging.getLogger("versa")


def add_images(
    folder: str | os.PathLike[str], images: str | os.PathLike[str]
) -> StimulusSet:
    """Add the images to a dataset folder: one per condition, matched by name.

    Parameters
    ----------
    folder : path-like
        A dataset folder with betas.
    images : path-like
        Folder of image files; each is called like its condition, with or without the
        ending in the name of the condition.

    Returns
    -------
    stimuli : StimulusSet
        In the order of the conditions, which is that of the responses.

    Raises
    ------
    ValueError
        If a condition has no image, or two; or the folder has its images already.
    """
    folder = Path(folder)
    if any((folder / name).exists() for name in ("stimuli.tsv", "stimuli")):
        raise ValueError(
            f"{folder} must not have images yet; remove stimuli.tsv and the folder "
            "stimuli to add others."
        )
    conditions = read_conditions(folder, read_participants(folder)[0])
    stimuli = match_images(conditions, images_by_name(images), images)
    write_images(folder, stimuli)
    return stimuli


def images_by_name(images: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Image files of a folder under their names with and without ending."""
    found = StimulusSet.from_folder(images)
    by_name: dict[str, list[Path]] = {}
    for name, path in zip(found.names, found.paths, strict=True):
        for key in {name, path.name}:
            by_name.setdefault(key, []).append(path)
    return by_name


def match_images(
    conditions: Sequence[str],
    available: Mapping[str, list[Path]],
    images: str | os.PathLike[str] | None,
) -> StimulusSet:
    """The image of every condition, among those of :func:`images_by_name`.

    `images` is their folder, for the message.
    """
    missing = [name for name in conditions if name not in available]
    stems = sorted({path.stem for paths in available.values() for path in paths})
    if missing:
        raise ValueError(
            f"{images} must have an image called like each condition; there is none "
            f"for {listing(map(repr, missing))} among {listing(stems)}. "
            "Conditions that are no images can be left out of the betas, or modelled "
            "as nuisance."
        )
    chosen = [available[name][0] for name in conditions]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{images} must have an image of its own for each condition.")
    unused = sorted(set(stems) - {path.stem for path in chosen})
    if unused:
        logger.info(
            "images of %s that are no conditions are not used: %s.",
            *(images, listing(unused)),
        )
    return StimulusSet.from_paths(chosen, conditions)


def write_images(folder: Path, stimuli: StimulusSet) -> None:
    """Write the images; if the folder has images, check that they are the same."""
    if (folder / "stimuli.tsv").exists():
        there = read_image_table(folder)
        stimuli.check_same(there.names, there.hashes, str(folder / "stimuli.tsv"))
        return
    with atomic_write(folder / "stimuli") as temporary:
        write_stimuli(stimuli, temporary.parent)
        os.replace(temporary.parent / "stimuli.tsv", folder / "stimuli.tsv")
