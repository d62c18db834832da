"""Training images: folders of them, and in which order an epoch takes them.

A source of images has a length, labels, classes, counts, a digest, `name` and `read`.
There are three: `ImageTree` (a folder), `PackedImages` (one file, see `pack`), and
`JoinedImages` (several of the former, one after the other).
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from versa.models.ipcl.decoding import ImageProblem
from versa.models.ipcl.random_numbers import hashed
from versa.wording import listing, unique_names

__all__ = ["ImageSource", "ImageTree", "JoinedImages", "epoch_order", "open_images"]

_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"),
    *(".webp", ".gif"),
)
# Purposes of random numbers, beyond every index of an image; 2**63 + 3 is the loader's
_ORDER, _SHUFFLE = 2**63 + 1, 2**63 + 2


class ImageSource(Protocol):
    """What the loader needs to know of some images.

    Attributes
    ----------
    labels : ndarray of shape (n_images,)
        Class of each image, int64.
    classes : tuple of str
        Their names.
    counts : tuple of int
        Images of each folder, in the order of the images.
    digest : str
        Changes when the images do: 64 hexadecimal digits.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    digest: str

    def __len__(self) -> int:
        """Number of images."""

    def name(self, index: int) -> str:
        """Where an image comes from, for people."""

    def read(self, index: int) -> bytes:
        """Bytes of an image file, or an ImageProblem."""


class ImageTree:
    """A folder of images, one subfolder per class, or none.

    Images may lie deeper inside the folder of their class. Hidden files are left out;
    links are followed. Every size is read once, to notice later changes.

    Parameters
    ----------
    root : path-like
        ``root/<class>/.../<image>``, or ``root/<image>`` for images without classes
        (then the only class is the folder's name).

    Raises
    ------
    ValueError
        If the folder is missing or holds no image, or images lie both beside and in
        subfolders.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("cat/2.jpg", "cat/1.jpg", "ant/a.png", "ant/notes.txt"):
    ...     (root / name).parent.mkdir(exist_ok=True)
    ...     _ = (root / name).write_bytes(b"...")
    >>> images = ImageTree(root)
    >>> len(images), images.classes, images.labels
    (3, ('ant', 'cat'), array([0, 1, 1]))
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"images must lie in a folder; {self.root} is none.")
        found = sorted(_images_below(self.root))
        if not found:
            raise ValueError(
                f"the folder {self.root} must hold images ({', '.join(_SUFFIXES)}); "
                "it holds none."
            )
        self.files = tuple(file for file, _ in found)
        tops = [file.split("/")[0] if "/" in file else "" for file in self.files]
        names = sorted(set(tops))
        if "" in names and len(names) > 1:
            beside = [file for file in self.files if "/" not in file]
            raise ValueError(
                f"images must lie in one subfolder of {self.root} per class, or all "
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
        try:
            with open(self.root / self.files[index], "rb") as file:
                return file.read()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ImageProblem(f"the file cannot be read ({reason})") from error


class JoinedImages:
    """Several sources of images as one.

    Parameters
    ----------
    sources : sequence of ImageSource
        Their images follow each other. Classes stay apart even if they have one name:
        each is written ``<source>/<class>``.
    titles : sequence of str
        Names of the sources, all different.

    Raises
    ------
    ValueError
        If there is no source, or titles are missing or the same.
    """

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
    """Images of folders and packed files.

    Parameters
    ----------
    paths : iterable of path-like
        Folders (see `ImageTree`) or files that `pack` wrote.

    Returns
    -------
    images : ImageSource

    Raises
    ------
    ValueError
        If there is no path, one is given twice, or one holds no images.
    """
    from versa.models.ipcl.pack import PackedImages

    if isinstance(paths, str | os.PathLike):
        raise ValueError(f"paths of images must be a list; got {str(paths)!r}.")
    places = [Path(path) for path in paths]
    unique_names(map(str, places), "paths of images")
    sources: list[ImageSource] = [
        PackedImages(place) if place.is_file() else ImageTree(place) for place in places
    ]
    return sources[0] if len(sources) == 1 else JoinedImages(sources, _titles(places))


def epoch_order(
    counts: Sequence[int],
    *,
    seed: int,
    epoch: int,
    images_per_epoch: int | None = None,
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Which images an epoch takes, in which order.

    Each folder gives its share of the epoch, drawn without replacement (again from all
    of it when the share is larger than the folder), and all are shuffled. The order is
    a function of the arguments alone; it needs no memory of other epochs.

    Parameters
    ----------
    counts : sequence of int
        Images of each folder, (n_folders,).
    seed : int
        Of the training run.
    epoch : int
        From 0.
    images_per_epoch : int, optional
        Length of the epoch; default: all images.
    weights : sequence of float, optional
        Share of each folder, (n_folders,), in any unit; default: its number of images.
        Shares are rounded by the largest remainder.

    Returns
    -------
    order : ndarray of shape (images_per_epoch,)
        Indices into all images, int64.

    Raises
    ------
    ValueError
        If a number is not positive, or the weights do not go with the folders.

    Examples
    --------
    >>> np.sort(epoch_order([5], seed=0, epoch=0))
    array([0, 1, 2, 3, 4])
    >>> order = epoch_order([3, 100], seed=0, epoch=1, images_per_epoch=10,
    ...                     weights=[1, 1])
    >>> int((order < 3).sum())
    5
    """
    sizes = np.asarray(counts, dtype=np.int64)
    total = int(sizes.sum()) if images_per_epoch is None else int(images_per_epoch)
    if sizes.ndim != 1 or not sizes.size or sizes.min() < 1 or total < 1:
        raise ValueError(
            "counts and images_per_epoch must be at least 1; got "
            f"counts={list(counts)}, images_per_epoch={images_per_epoch}."
        )
    if weights is not None and len(weights) != len(sizes):
        raise ValueError(
            f"there must be one weight per folder; got {len(weights)} for {len(sizes)}."
        )
    starts = np.cumsum([0, *sizes])
    picked = []
    for k, share in enumerate(_shares(total, sizes if weights is None else weights)):
        rounds = -(-share // int(sizes[k]))
        for again in range(rounds):
            keys = hashed(seed, epoch, _ORDER, k, again, np.arange(sizes[k]))
            left = share - again * int(sizes[k])
            picked.append(starts[k] + np.argsort(keys, kind="stable")[:left])
    order = np.concatenate(picked)
    if len(sizes) == 1:
        return order
    keys = hashed(seed, epoch, _SHUFFLE, np.arange(total))
    return order[np.argsort(keys, kind="stable")]


def _shares(total: int, weights: ArrayLike) -> list[int]:
    parts = np.asarray(weights, dtype=float)
    if not np.isfinite(parts).all() or parts.min() < 0 or parts.sum() <= 0:
        raise ValueError(
            f"weights must be numbers of at least 0, not all 0; got {parts.tolist()}."
        )
    exact = total * parts / parts.sum()
    share = np.floor(exact).astype(np.int64)
    largest = np.argsort(share - exact, kind="stable")
    share[largest[: total - int(share.sum())]] += 1
    return [int(n) for n in share]


def _images_below(root: Path) -> Iterable[tuple[str, int]]:
    """(path relative to `root`, size in bytes), in no order."""
    folders = [("", str(root))]
    while folders:
        prefix, folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = prefix + entry.name
                if entry.is_dir():
                    folders.append((f"{name}/", entry.path))
                elif entry.name.lower().endswith(_SUFFIXES):
                    yield name, _size(entry)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nowhere; it is reported when it is read
        return -1


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
