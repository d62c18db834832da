"""Training images: a folder, a packed file, or several of them one after the other."""

import errno
import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from versa.models.ipcl.image_source import ImageSource, patiently, require_no_dataset
from versa.models.ipcl.packing import PackedImages
from versa.wording import listing, unique_names

_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"),
    *(".webp", ".gif"),
)


class ImageTree:
    """A folder of images, one subfolder per class, or none."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(
                f"images must be in a folder; {self.root} is not a folder."
            )
        found = sorted(_images_below(self.root))
        if not found:
            raise ValueError(
                f"the folder {self.root} must hold images ({', '.join(_SUFFIXES)}); "
                "it holds none."
            )
        lost = [file for file, size in found if size < 0]
        if lost:
            raise ValueError(
                f"images of {self.root} must be there; {listing(lost)} are links to "
                "nowhere. Restore what they point to, or remove them."
            )
        self.files = tuple(file for file, _ in found)
        tops = [file.split("/")[0] if "/" in file else "" for file in self.files]
        names = sorted(set(tops))
        require_no_dataset(self.root, self.files)
        if "" in names and len(names) > 1:
            beside = [file for file in self.files if "/" not in file]
            raise ValueError(
                f"images must be in one subfolder of {self.root} per class, or all "
                f"beside each other; {listing(beside)} beside {len(names) - 1} "
                "folders with images. Move them."
            )
        numbers = {name: k for k, name in enumerate(names)}
        self.classes: tuple[str, ...] = tuple(
            name or self.root.resolve().name for name in names
        )
        self.labels = np.array([numbers[top] for top in tops], dtype=np.int64)
        self.counts: tuple[int, ...] = (len(self.files),)
        digest = hashlib.sha256()
        for file, size in found:
            digest.update(f"{file}\0{size}\n".encode("utf-8", "surrogateescape"))
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def name(self, index: int) -> str:
        """Path of an image."""
        return str(self.root / self.files[index])

    def read(self, index: int) -> bytes:
        """Bytes of an image file."""
        return patiently((self.root / self.files[index]).read_bytes, self.name(index))


class JoinedImages:
    """Several sources as one; each class is called ``<title>/<class>``."""

    def __init__(self, sources: Sequence[ImageSource], titles: Sequence[str]) -> None:
        if (
            not sources
            or len(set(titles)) != len(sources)
            or len(titles) != len(sources)
        ):
            raise ValueError(
                "each source of images must have a title of its own; got "
                f"{len(sources)} sources and {listing(titles)}."
            )
        self.sources = tuple(sources)
        self.classes = tuple(
            f"{title}/{name}"
            for title, source in zip(titles, sources, strict=True)
            for name in source.classes
        )
        first = np.cumsum([0, *(len(source.classes) for source in sources)])
        self.labels = np.concatenate(
            [source.labels + k for source, k in zip(sources, first, strict=False)]
        )
        self.counts = tuple(n for source in sources for n in source.counts)
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        text = "\n".join(source.digest for source in sources)
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        """Number of images."""
        return int(self._starts[-1])

    def name(self, index: int) -> str:
        """Where an image comes from."""
        k, inside = self._place(index)
        return self.sources[k].name(inside)

    def read(self, index: int) -> bytes:
        """Bytes of an image file."""
        k, inside = self._place(index)
        return self.sources[k].read(inside)

    def _place(self, index: int) -> tuple[int, int]:
        k = int(np.searchsorted(self._starts, index, side="right")) - 1
        return k, int(index - self._starts[k])


def open_images(paths: Iterable[str | os.PathLike[str]]) -> ImageSource:
    """Images of folders and of files that `pack` wrote."""
    if isinstance(paths, str | os.PathLike):
        raise ValueError(f"paths of images must be a list; got {str(paths)!r}.")
    places = [Path(path) for path in paths]
    unique_names(map(str, places), "paths of images")
    sources: list[ImageSource] = [
        PackedImages(place) if place.is_file() else ImageTree(place) for place in places
    ]
    return sources[0] if len(sources) == 1 else JoinedImages(sources, _titles(places))


def _images_below(root: Path) -> Iterable[tuple[str, int]]:
    """(path relative to `root`, size in bytes), in no order."""
    folders = [("", str(root))]
    while folders:
        prefix, folder = folders.pop()
        for entry in patiently(partial(_entries, folder), folder):
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            if entry.is_dir():
                folders.append((f"{name}/", entry.path))
            elif entry.name.lower().endswith(_SUFFIXES):
                yield name, patiently(partial(_size, entry), entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _size(entry: os.DirEntry[str]) -> int:
    """Bytes of a file; -1 of a link to nowhere."""
    try:
        return entry.stat().st_size
    except OSError as error:
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP):
            return -1
        raise


def _titles(places: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell them apart."""
    parts = [
        (place.resolve().with_suffix("") if place.is_file() else place.resolve()).parts
        for place in places
    ]
    for length in range(1, max(map(len, parts)) + 1):
        titles = ["/".join(part[-length:]) for part in parts]
        if len(set(titles)) == len(titles):
            return titles
    return [str(place) for place in places]
