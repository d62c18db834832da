"""What training needs to know of some images, wherever they are stored."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from versa.wording import listing, one_line

logger = logging.getLogger("versa")

T = TypeVar("T")
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between two tries
_PART = re.compile(  # train, Validation, val2017, images_test, train_32x32
    r"(?:images?|imgs?|data)?[-_ ]?(train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)"
    r"[-_ ]?(?:images?|imgs?|data|set)?[-_ ]?(?:\d{2,4}|\d+x\d+)?",
    re.IGNORECASE,
)


class UnreachableImages(OSError):  # noqa: N818
    """The file system did not hand out an image; the image itself may be well."""


def patiently(read: Callable[[], T], name: str) -> T:
    """What `read` returns, tried for half a minute; else UnreachableImages."""
    for pause in (*_PAUSES, None):
        try:
            return read()
        except OSError as error:
            if pause is None:
                raise UnreachableImages(
                    f"images must be within reach; {name} was not, for "
                    f"{sum(_PAUSES):.0f} s ({one_line(error)}). When the file system "
                    "is back, run the same command again."
                ) from error
            logger.warning(
                "%s is out of reach (%s); it is tried again.", name, one_line(error)
            )
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def require_no_dataset(root: Path, files: Sequence[str]) -> None:
    """Refuse the folder of a dataset, whose folders are its parts and not classes.

    `files` are relative to the root, with "/" between the names.
    """
    names = {file.partition("/")[0] for file in files if "/" in file}
    while len(names) == 1 and not _PART.fullmatch(only := min(names)):  # all in one
        rest = [file.removeprefix(f"{only}/") for file in files]
        names = {file.partition("/")[0] for file in rest if "/" in file}
        root, files = root / only, rest
    parts = {
        name: match[1] for name in sorted(names) if (match := _PART.fullmatch(name))
    }
    right = [root / name for name, part in parts.items() if part[:2].lower() == "tr"]
    if len(parts) < len(names) or not right:
        return
    others = [str(root / name) for name in parts if root / name not in right]
    rest_of = f" ({listing(others)} for validation)" if others else ""
    raise ValueError(
        f"images must be in one folder per class; {root} is a dataset whose folders "
        f"are {listing(parts)}. Give {right[0]}{rest_of}."
    )


def dataset_name(path: Path) -> str:
    """What a folder or packed file is called: "imagenet" of ``imagenet/train``."""
    place = path.resolve()
    place = place.with_suffix("") if place.suffix == ".pack" else place
    while _PART.fullmatch(place.name) and place.parent.name:
        place = place.parent
    return place.name or "unknown"


class ImageSource(Protocol):
    """Images with a class each: `ImageTree`, `PackedImages` or `JoinedImages`."""

    labels: np.ndarray  # (n_images,) index into `classes`, int64
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # images of each folder, in the order of the images
    digest: str  # changes when the images do: 64 hexadecimal digits

    def __len__(self) -> int:
        """Number of images."""

    def name(self, index: int) -> str:
        """Where an image comes from, for people."""

    def read(self, index: int) -> bytes:
        """Bytes of an image file; raises ImageProblem or UnreachableImages."""
