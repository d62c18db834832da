"""Features of one layer on their way into a Gram matrix, in memory or in a file."""

import tempfile
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["FeatureBuffer", "SpilledBuffer", "chunk_width", "grams_of"]

_CHUNK_BYTES = 2**24  # of a float64 chunk: wide enough for a fast product
_MIN_WIDTH = 512
_BLOCK_ROWS = 256  # images whose products are made at a time


def chunk_width(n_images: int) -> int:
    """Units that are multiplied at a time.

    Examples
    --------
    >>> chunk_width(72), chunk_width(1000)
    (29127, 2097)
    """
    return max(_MIN_WIDTH, _CHUNK_BYTES // (8 * n_images))


class FeatureBuffer:
    """Features of all images in one tensor.

    Parameters
    ----------
    n_images, n_units : int
    dtype : torch.dtype
        float32 or float64.
    device : torch.device
        Where the tensor lies.
    """

    def __init__(
        self, n_images: int, n_units: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.n_images, self.n_units = n_images, n_units
        self._features = torch.empty((n_images, n_units), dtype=dtype, device=device)

    def write(self, start: int, rows: torch.Tensor) -> None:
        """Copy the features (n_rows, n_units) of the images from `start` on."""
        self._features[start : start + len(rows)].copy_(rows)

    def chunks(self) -> Iterator[torch.Tensor]:
        """Features (n_images, up to `chunk_width` units), piece by piece."""
        return iter(self._features.split(chunk_width(self.n_images), dim=1))

    def close(self) -> None:
        """Give the memory back."""
        self._features = self._features[:0]


class SpilledBuffer:
    """Features of all images in a temporary file without a name.

    The file is laid out chunk by chunk, (n_chunks, n_images, width), so that each
    chunk of units is read in one piece. It lies in the folder of `tempfile`, which
    the environment variable ``TMPDIR`` moves, and is gone when the process ends in
    whatever way.

    Parameters
    ----------
    n_images, n_units : int
    dtype : torch.dtype
        float32 or float64.
    """

    def __init__(self, n_images: int, n_units: int, dtype: torch.dtype) -> None:
        self.n_images, self.n_units, self._dtype = n_images, n_units, dtype
        self._file = tempfile.TemporaryFile(prefix="versa-")  # noqa: SIM115

    def write(self, start: int, rows: torch.Tensor) -> None:
        """Write the features (n_rows, n_units) of the images from `start` on."""
        values = rows.to("cpu", self._dtype)
        for first, width in self._pieces():
            position = first * self.n_images + start * width
            self._file.seek(position * self._dtype.itemsize)
            piece = values[:, first : first + width].contiguous()
            self._file.write(piece.numpy().data)

    def chunks(self) -> Iterator[torch.Tensor]:
        """Features (n_images, up to `chunk_width` units), piece by piece."""
        self._file.seek(0)
        for _, width in self._pieces():
            piece = torch.empty((self.n_images, width), dtype=self._dtype)
            n_read = self._file.readinto(piece.numpy().data)
            if n_read != piece.nbytes:
                raise OSError("the temporary file of features was cut.")
            yield piece

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _pieces(self) -> Iterator[tuple[int, int]]:
        width = chunk_width(self.n_images)
        for first in range(0, self.n_units, width):
            yield first, min(width, self.n_units - first)


def grams_of(
    buffer: FeatureBuffer | SpilledBuffer, *, standardize: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gram matrix, row sums and Gram matrix of standardized features.

    Parameters
    ----------
    buffer : FeatureBuffer or SpilledBuffer
        Features ``X`` of shape (n_images, n_units).
    standardize : bool
        Whether the third array is wanted.

    Returns
    -------
    gram : ndarray of shape (n_images, n_images)
        ``X @ X.T`` in float64.
    sums : ndarray of shape (n_images,)
        Sums of the rows of ``X``.
    standardized : ndarray of shape (n_images, n_images) or None
        ``Z @ Z.T``, where ``Z`` has every unit's z-scores over the images (with
        standard deviation ``ddof=0``) and zeros for constant units.
    """
    n = buffer.n_images
    total: _Total | None = None
    for chunk in buffer.chunks():
        if total is None:
            total = _Total(n, chunk.device, standardize=standardize)
        total.add(chunk)
    if total is None:
        raise ValueError("a layer must have at least one unit.")
    return total.arrays()


class _Total:
    """Running sums over chunks, on the device of the chunks."""

    def __init__(self, n: int, device: torch.device, *, standardize: bool) -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.scratch = zeros(n * chunk_width(n))
        self.gram = zeros(n, n)
        self.sums = zeros(n)
        self.standardized = zeros(n, n) if standardize else None

    def add(self, chunk: torch.Tensor) -> None:
        x = self.scratch[: chunk.numel()].view(chunk.shape)  # (n, width)
        x.copy_(chunk)
        _add_lower_product(self.gram, x)
        self.sums += x.sum(dim=1)
        if self.standardized is None:
            return
        varies = (x != x[:1]).any(dim=0)
        x -= x.mean(dim=0)
        scale = x.square().mean(dim=0).sqrt()
        x *= torch.where(varies & (scale > 0), 1 / scale, 0.0)
        _add_lower_product(self.standardized, x)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        def symmetric(total: torch.Tensor) -> np.ndarray:
            return (total.tril() + total.tril(-1).T).cpu().numpy()

        z = None if self.standardized is None else symmetric(self.standardized)
        return symmetric(self.gram), self.sums.cpu().numpy(), z


def _add_lower_product(total: torch.Tensor, x: torch.Tensor) -> None:
    """Add the lower triangle of ``x @ x.T``, and little of the upper one."""
    for first in range(0, len(x), _BLOCK_ROWS):
        rows = slice(first, first + _BLOCK_ROWS)
        until = min(first + _BLOCK_ROWS, len(x))
        total[rows, :until].addmm_(x[rows], x[:until].T)
