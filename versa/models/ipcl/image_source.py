"""What training needs to know of some images, wherever they are stored."""

from typing import Protocol

import numpy as np


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
        """Bytes of an image file; raises ImageProblem."""
