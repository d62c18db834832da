"""The images of a dataset folder that grows, matched to conditions by name."""

import logging
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from versa.cache import atomic_write
from versa.fmri.dataset.folder import write_stimuli
from versa.fmri.dataset.stimuli import StimulusSet, image_files
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
        Folder of image files, and folders inside it; each is called like its condition,
        with or without the ending and the path below the folder.

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
    """Image files of a folder and those inside it, by the names that may mean them.

    A path below the folder, with or without ending, means one file, also with the name
    of the folder in front; else a bare name means every file that is called so.
    """
    folder = Path(images)
    bare: dict[str, list[Path]] = {}
    exact: dict[str, list[Path]] = {}
    for path in image_files(folder, below=True):
        inside = path.relative_to(folder)
        for name in {path.name, path.stem}:
            bare.setdefault(_plain_name(name), []).append(path)
        for place in (inside, Path(folder.resolve().name) / inside):
            for name in {place.as_posix(), place.with_suffix("").as_posix()}:
                exact.setdefault(_plain_name(name), []).append(path)
    return {**bare, **exact}


def match_images(
    conditions: Sequence[str],
    available: Mapping[str, list[Path]],
    images: str | os.PathLike[str] | None,
) -> StimulusSet:
    """The image of every condition, among those of :func:`images_by_name`.

    `images` is their folder, for the message.
    """
    named = {name: available.get(_plain_path(name), []) for name in conditions}
    missing = [name for name, paths in named.items() if not paths]
    stems = sorted({path.stem for paths in available.values() for path in paths})
    if missing:
        raise ValueError(
            f"{images} must have an image called like each condition; there is none "
            f"for {listing(map(repr, missing))} among {listing(stems)}, subfolders "
            "included. "
            "Conditions that are no images can be left out of the betas, or modelled "
            "as nuisance."
        )
    twice = [name for name, paths in named.items() if len(paths) > 1]
    if twice:
        raise ValueError(
            f"{images} must have one image for each condition; {twice[0]!r} may be "
            f"{listing(named[twice[0]])}. Name the path below the folder in the "
            "events, or move the others away."
        )
    chosen = [paths[0] for paths in named.values()]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{images} must have an image of its own for each condition.")
    unused = sorted(set(stems) - {path.stem for path in chosen})
    if unused:
        logger.info(
            "images of %s that are no conditions are not used: %s.",
            *(images, listing(unused)),
        )
    return StimulusSet.from_paths(chosen, conditions)


def _plain_path(name: str) -> str:
    """A name of an image as a path below the folder; BIDS's stimuli/ is that folder."""
    path = _plain_name(name).replace("\\", "/")
    return path.removeprefix("./").removeprefix("stimuli/")


def _plain_name(name: str) -> str:
    """A name without what nobody sees: blanks around it, and how accents are stored."""
    return unicodedata.normalize("NFC", name.strip())


def write_images(folder: Path, stimuli: StimulusSet) -> None:
    """Write the images; if the folder has images, check that they are the same."""
    if (folder / "stimuli.tsv").exists():
        there = read_image_table(folder)
        stimuli.check_same(there.names, there.hashes, str(folder / "stimuli.tsv"))
        return
    with atomic_write(folder / "stimuli") as temporary:
        write_stimuli(stimuli, temporary.parent)
        os.replace(temporary.parent / "stimuli.tsv", folder / "stimuli.tsv")
