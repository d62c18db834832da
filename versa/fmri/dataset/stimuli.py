"""StimulusSet: the images of an experiment, known by name and by content."""

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from versa.cache import content_key, file_hash
from versa.wording import in_text_order, listing, unique_names

logger = logging.getLogger("versa")

_ORIENTATION = 0x0112  # EXIF's number for how a camera was held; 1 is upright
_IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


@dataclass(frozen=True, repr=False)
class StimulusSet:
    """The images of an experiment, in the order of its conditions.

    Usually made by :meth:`from_folder` or :meth:`from_paths`, which hash the files.

    Parameters
    ----------
    names : sequence of str, length n_images
        Ids of the images, unique and printable.
    paths : sequence of path-like, length n_images
        The image files.
    hashes : sequence of str, length n_images
        SHA-256 of each file's bytes, as 64 hexadecimal digits.

    Examples
    --------
    >>> stimuli = StimulusSet(["cup", "dog"], ["cup.png", "dog.png"], ["a" * 64] * 2)
    >>> stimuli
    <StimulusSet: 2 images, cup, dog>
    >>> stimuli.check_same(["dog", "cup"], what="betas.csv")
    Traceback (most recent call last):
    ...
    ValueError: betas.csv: the images must be in the order of the stimulus set; image 1
    must be 'cup', got 'dog' (2 of 2 differ). Nothing is re-sorted: reorder the data
    together with its names.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...] = field(compare=False)
    hashes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part in ("names", "paths", "hashes"):
            value = getattr(self, part)
            if isinstance(value, str):
                raise ValueError(
                    f"{part} must hold one entry per image; got the text {value!r}."
                )
            object.__setattr__(self, part, tuple(value))
        object.__setattr__(self, "paths", tuple(map(Path, self.paths)))
        lengths = len(self.names), len(self.paths), len(self.hashes)
        if len(set(lengths)) > 1:
            raise ValueError(
                "names, paths and hashes must be of one length; got "
                f"{lengths[0]}, {lengths[1]} and {lengths[2]}."
            )
        unique_names(self.names, "image names")
        odd = [name for name in self.names if not name.isprintable()]
        if odd:
            raise ValueError(
                "image names must be texts without tabs or line breaks; got "
                f"{listing(map(repr, odd))}."
            )
        odd = [
            name
            for name, digest in zip(self.names, self.hashes, strict=True)
            if not re.fullmatch("[0-9a-f]{64}", digest)
        ]
        if odd:
            raise ValueError(
                "hashes must be SHA-256 in 64 lower-case hexadecimal digits; those of "
                f"{listing(odd)} are not. StimulusSet.from_paths makes them."
            )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        word = "image" if len(self) == 1 else "images"
        return f"<StimulusSet: {len(self)} {word}, {listing(self.names, limit=3)}>"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and hashes in their order: the identity of the set."""
        return content_key(names=list(self.names), hashes=list(self.hashes))

    @classmethod
    def from_paths(
        cls,
        paths: Iterable[str | os.PathLike[str]],
        names: Iterable[str] | None = None,
    ) -> "StimulusSet":
        """Hash image files.

        Parameters
        ----------
        paths : iterable of path-like
            The files, in the order of the conditions.
        names : iterable of str, optional
            Ids of the images; by default the file names without suffix, with a warning
            if they are sorted as texts where their numbers have another order.

        Returns
        -------
        stimuli : StimulusSet
            The set, in the order given.

        Raises
        ------
        ValueError
            If files are missing (named by id), or names are not unique.
        """
        files = [Path(path) for path in paths]
        ids = [file.stem for file in files] if names is None else list(names)
        if len(ids) != len(files):
            raise ValueError(
                f"names must hold one name per path; got {len(ids)} names for "
                f"{len(files)} paths."
            )
        hint = "Pass names= to tell them apart." if names is None else ""
        unique_names(ids, "image names", hint=hint)
        missing = [
            f"{name} ({file})"
            for name, file in zip(ids, files, strict=True)
            if not file.is_file()
        ]
        if missing:
            raise ValueError(
                f"image files must exist; {len(missing)} of {len(files)} are missing: "
                f"{listing(missing)}."
            )
        if names is None and in_text_order(file.name for file in files):
            logger.warning(
                "images of %s are in the order of their names as texts, %s, and not in "
                "that of their numbers; rows of data without names must be in this "
                "order. StimulusSet.from_paths takes any other.",
                *(files[0].parent, listing((file.stem for file in files), limit=4)),
            )
        for text, odd in image_oddities(files).items():
            logger.warning("images %s %s", listing(file.name for file in odd), text)
        return cls(tuple(ids), tuple(files), tuple(file_hash(file) for file in files))

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike[str], pattern: str = "*"
    ) -> "StimulusSet":
        """Hash the image files of a folder.

        Parameters
        ----------
        folder : path-like
            Where the images are; folders inside it are not entered.
        pattern : str, default="*"
            Which files count, such as ``"obj*.png"``.

        Returns
        -------
        stimuli : StimulusSet
            The images in plain text order of the file names (``"10"`` before ``"2"``).
            Files without an image suffix, and hidden ones, are passed over. A warning
            says where the order of the numbers would be another.

        Raises
        ------
        ValueError
            If the folder is missing or holds no image.
        """
        return cls.from_paths(image_files(folder, pattern))

    def check_same(
        self,
        names: Iterable[str],
        hashes: Iterable[str] | None = None,
        what: str = "data",
    ) -> None:
        """Refuse data whose images are not exactly these, in exactly this order.

        Parameters
        ----------
        names : iterable of str
            Ids of the images in the order of the data.
        hashes : iterable of str, optional
            SHA-256 of their files, in the same order; unchecked if not given.
        what : str, default="data"
            How messages call the data.

        Raises
        ------
        ValueError
            If the set, the order or a file differs; the message names the ids.
        """
        given = [str(name) for name in names]
        rule = f"{what}: the images must be those of the stimulus set"
        unique_names(given, f"{what}: names of images")
        expected, found = set(self.names), set(given)
        missing = [name for name in self.names if name not in found]
        extra = [name for name in given if name not in expected]
        if missing or extra:
            parts = [
                f"{label} {listing(map(repr, ids))}"
                for label, ids in (("missing", missing), ("unknown", extra))
                if ids
            ]
            raise ValueError(
                f"{rule}; {' and '.join(parts)} ({len(given)} given, {len(self)} "
                "expected)."
            )
        moved = [i for i, name in enumerate(self.names) if given[i] != name]
        if moved:
            raise ValueError(
                f"{what}: the images must be in the order of the stimulus set; image "
                f"{moved[0] + 1} must be {self.names[moved[0]]!r}, got "
                f"{given[moved[0]]!r} ({len(moved)} of {len(self)} differ). Nothing is "
                "re-sorted: reorder the data together with its names."
            )
        if hashes is None:
            return
        digests = list(hashes)
        if len(digests) != len(self):
            raise ValueError(
                f"{what}: hashes must be one per image; got {len(digests)} for "
                f"{len(self)} images."
            )
        changed = [
            name
            for name, one, two in zip(self.names, self.hashes, digests, strict=True)
            if one != two
        ]
        if changed:
            raise ValueError(
                f"{what}: the image files must be those of the stimulus set; the "
                f"SHA-256 of {listing(map(repr, changed))} differs. The names are the "
                "same but the images are not: use one version of them throughout."
            )


def image_files(
    folder: str | os.PathLike[str], pattern: str = "*", *, below: bool = False
) -> list[Path]:
    """Image files of a folder, sorted by name; with `below` also of those inside it.

    Hidden files and folders are passed over.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"the folder of images must exist; got {str(folder)!r}.")
    found = folder.rglob(pattern) if below else folder.glob(pattern)
    files = sorted(
        (
            file
            for file in found
            if file.suffix.lower() in _IMAGE_SUFFIXES
            and not any(p.startswith(".") for p in file.relative_to(folder).parts)
            and file.is_file()
        ),
        key=lambda file: file.relative_to(folder).as_posix(),
    )
    if not files:
        suffixes = listing(sorted(_IMAGE_SUFFIXES), limit=20)
        raise ValueError(
            f"a folder of images must hold files with a suffix among {suffixes}; "
            f"{str(folder)!r} has none that match {pattern!r}."
        )
    return files


def image_oddities(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Images that a network sees otherwise than viewers show them, by what is odd."""
    found: dict[str, list[Path]] = {}
    for file in files:
        text = _oddity(file)
        if text:
            found.setdefault(text, []).append(file)
    return found


def _oddity(file: Path) -> str:
    """What is odd of an image, as the end of a sentence; empty if nothing is."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
            n_frames = getattr(image, "n_frames", 1)
    except Exception:  # damaged images are refused where their pixels are read
        return ""
    if orientation not in (0, 1):
        return (
            "have an EXIF orientation: viewers turn or mirror them, networks get the "
            "pixels as they are stored. Turn the files if they were shown so."
        )
    if n_frames > 1:
        return (
            "are animated or have several pages: networks get the first frame only. "
            "Save the frame that was shown as an image of its own."
        )
    return ""
