"""Chunks of decoded images, made ahead of time by threads.

An image is decoded once, whatever the number of its views, and handed over as bytes.
Decoders release Python's lock, so threads suffice: no second process, no copies
through shared memory, nothing to clean up after a kill. What a chunk holds does not
depend on the number of threads.
"""

import csv
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from versa.models.ipcl.decoding import ImageProblem, decode
from versa.models.ipcl.image_source import ImageSource
from versa.models.ipcl.random_numbers import SUBSTITUTE, hashed
from versa.parallel import n_cores
from versa.untrusted import no_formula

logger = logging.getLogger("versa")

_SUBSTITUTES = 32  # tried before a chunk is given up
_PIECE = 8  # images per task of a thread
_HEADER = ("index", "image", "what", "reason")


class TooManyBadImages(ValueError):  # noqa: N818
    """More images are damaged than was allowed."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Decoded images."""

    indices: torch.Tensor  # (n_images,) in the source, after damaged ones were replaced
    # (n_images, 3, height, width) uint8 on the CPU, channels last in memory; smaller
    # images are at the top left. Overwritten when the next chunk is asked for
    canvases: torch.Tensor
    sizes: torch.Tensor  # (n_images, 2) height, width in pixels
    labels: torch.Tensor  # (n_images,)
    n_replaced: int  # damaged images among those asked for
    wait_seconds: float  # that the caller stood waiting


class BadImages:
    """A list of the images that could not be used, with a limit: a share of all.

    The CSV file `log` is continued if it exists, and counts. Each process has its own.
    """

    def __init__(
        self,
        n_images: int,
        *,
        limit: float = 0.001,
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"limit of bad images must be in [0, 1]; got {limit}.")
        self.n_images = n_images
        self.n_allowed = max(1, int(limit * n_images))
        self.log = None if log is None else Path(log)
        self._lock = threading.Lock()
        self._seen: dict[str, set[int]] = {"skipped": set(), "converted": set()}
        if self.log is not None and self.log.is_file():
            with open(self.log, newline="", encoding="utf-8", errors="replace") as file:
                for row in csv.DictReader(file):
                    what, index = row.get("what"), row.get("index") or ""
                    if what in self._seen and index.isdigit():
                        self._seen[what].add(int(index))

    @property
    def n_skipped(self) -> int:
        """Images that could not be used."""
        return len(self._seen["skipped"])

    @property
    def n_converted(self) -> int:
        """Images of unusual modes that were turned into RGB."""
        return len(self._seen["converted"])

    def forget(self) -> None:
        """Begin anew; a list that was written is set aside."""
        with self._lock:
            self._seen = {"skipped": set(), "converted": set()}
            if self.log is not None and self.log.is_file():
                number = 1
                while (old := self.log.with_suffix(f".old{number}.csv")).exists():
                    number += 1
                os.replace(self.log, old)

    def skip(self, index: int, name: str, reason: str) -> None:
        """Note an image that cannot be used."""
        with self._lock:
            if self._note("skipped", index, name, reason):
                logger.warning("image %s is skipped: %s.", name, reason)
            if self.n_skipped > self.n_allowed:
                raise TooManyBadImages(
                    f"at most {self.n_allowed} of {self.n_images} images may be "
                    f"damaged; {self.n_skipped} are, the last one {name} ({reason})."
                    + (f" All are named in {self.log}." if self.log else "")
                    + " Repair or remove them, or raise the limit."
                )

    def convert(self, index: int, name: str, mode: str) -> None:
        """Note an image of an unusual mode that was turned into RGB."""
        with self._lock:
            self._note("converted", index, name, f"the mode was {mode}")

    def _note(self, what: str, index: int, name: str, reason: str) -> bool:
        if index in self._seen[what]:
            return False
        self._seen[what].add(index)
        if self.log is None:
            return True
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            new = not self.log.exists()
            with open(
                self.log, "a", newline="", encoding="utf-8", errors="backslashreplace"
            ) as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(_HEADER)
                writer.writerow(map(no_formula, (index, name, what, reason)))
        except OSError as error:  # a full disk must not end the training
            logger.warning("the list %s cannot be written (%s).", self.log, error)
        return True


class ChunkLoader:
    """Chunks of images, decoded ahead of time; it holds ``prefetch + 1`` in memory.

    Pinned canvases are copied to a GPU while it works; they are overwritten only after
    a copy that was queued on the current stream.
    """

    def __init__(
        self,
        images: ImageSource,
        *,
        short_side: int | None = 256,
        workers: int | None = None,
        prefetch: int = 2,
        pinned: bool = False,
        bad: BadImages | None = None,
    ) -> None:
        if prefetch < 1 or (workers is not None and workers < 1):
            raise ValueError(
                "prefetch and workers must be at least 1; got "
                f"prefetch={prefetch}, workers={workers}."
            )
        self.images = images
        self.short_side = short_side
        self.workers = workers or n_cores()
        self.prefetch = prefetch
        self.pinned = pinned
        self.bad = BadImages(len(images)) if bad is None else bad
        self._slots: list[_Slot] = []  # of the last call of `chunks`

    def chunks(
        self, blocks: Iterable[ArrayLike], *, seed: int, epoch: int
    ) -> Generator[Chunk, None, None]:
        """Decode blocks of indices, one chunk after the other, `prefetch` ahead.

        A damaged image is replaced by another, which depends on the seed, the epoch and
        the image alone. Canvases are valid until the next chunk is asked for.
        """
        slots = self._slots or [_Slot(self.pinned) for _ in range(self.prefetch + 1)]
        self._slots = []  # a second call at the same time makes its own
        free, waiting = deque(slots), deque[_Work]()
        rest = iter(blocks)
        decoders = ThreadPoolExecutor(self.workers, thread_name_prefix="versa-decode")
        stacker = ThreadPoolExecutor(1, thread_name_prefix="versa-decode-stack")

        def decoded(indices: np.ndarray) -> list[tuple[int, np.ndarray]]:
            return [self._decoded(int(index), (seed, epoch)) for index in indices]

        def begin(block: ArrayLike, slot: _Slot) -> _Work:
            wanted = np.asarray(block).astype(np.int64)
            starts = range(0, len(wanted), _PIECE)
            pieces = [decoders.submit(decoded, wanted[k : k + _PIECE]) for k in starts]
            return _Work(wanted, slot, stacker.submit(_stacked, pieces, slot))

        try:
            while True:
                for block in islice(rest, self.prefetch - len(waiting)):
                    waiting.append(begin(block, free.popleft()))
                if not waiting:
                    return
                start = time.perf_counter()
                indices, canvases, sizes = waiting[0].made.result()
                waited = time.perf_counter() - start
                work = waiting.popleft()
                yield Chunk(
                    indices=torch.from_numpy(indices),
                    canvases=canvases,
                    sizes=sizes,
                    labels=torch.from_numpy(self.images.labels[indices]),
                    n_replaced=int((indices != work.wanted).sum()),
                    wait_seconds=waited,
                )
                work.slot.given_back()
                free.append(work.slot)
        finally:
            # reached as well by close(), Ctrl-C and errors: no thread stays behind
            decoders.shutdown(wait=True, cancel_futures=True)
            stacker.shutdown(wait=True, cancel_futures=True)
            for slot in slots:
                slot.given_back()
            self._slots = slots

    def _decoded(self, index: int, purpose: tuple[int, int]) -> tuple[int, np.ndarray]:
        candidate = index
        for attempt in range(_SUBSTITUTES):
            try:
                pixels, note = decode(
                    self.images.read(candidate), short_side=self.short_side
                )
            except ImageProblem as problem:
                name = self.images.name(candidate)
                self.bad.skip(candidate, name, str(problem))
                bits = hashed(*purpose, SUBSTITUTE, index, attempt)
                candidate = int(bits[0] % np.uint64(len(self.images)))
                continue
            if note:
                self.bad.convert(candidate, self.images.name(candidate), note)
            return candidate, pixels
        raise TooManyBadImages(
            f"the image {self.images.name(index)} must have a substitute; "
            f"{_SUBSTITUTES} images in a row are damaged. Repair or remove them."
        )


def stack_canvases(pixels: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (height, width, 3) of different sizes in one tensor; see `Chunk`."""
    return _Slot(False).filled(pixels)


class _Slot:
    """Memory of one chunk, used again and again; it grows when it must."""

    def __init__(self, pinned: bool) -> None:
        self._pinned = pinned
        self._bytes = torch.empty(0, dtype=torch.uint8)
        self._copied: torch.cuda.Event | None = None

    def filled(self, pixels: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Canvases and sizes, see `stack_canvases`."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None
        sizes = np.array([p.shape[:2] for p in pixels], dtype=np.int64).reshape(-1, 2)
        height, width = (int(side) for side in sizes.max(axis=0, initial=0))
        n_bytes = len(pixels) * height * width * 3
        if self._bytes.numel() < n_bytes:
            # a little more, because the next chunk may be a little larger
            room = n_bytes + n_bytes // 8
            self._bytes = torch.empty(room, dtype=torch.uint8, pin_memory=self._pinned)
        flat = self._bytes[:n_bytes].view(len(pixels), height, width, 3)
        rows = flat.numpy()  # NumPy, because torch would wake its own threads
        for k, image in enumerate(pixels):
            h, w = image.shape[:2]
            rows[k, :h, :w] = image
            rows[k, h:] = 0
            rows[k, :h, w:] = 0
        return flat.permute(0, 3, 1, 2), torch.from_numpy(sizes)

    def given_back(self) -> None:
        """To be called by the thread that queued a copy to a GPU, if one did."""
        if self._pinned:
            self._copied = torch.cuda.Event()
            self._copied.record()


class _Work(NamedTuple):
    """One chunk while it is made."""

    wanted: np.ndarray  # (n_images,) indices that were asked for
    slot: _Slot
    made: "Future[tuple[np.ndarray, torch.Tensor, torch.Tensor]]"  # as of `_stacked`


def _stacked(
    pieces: list[Future[list[tuple[int, np.ndarray]]]], slot: _Slot
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Indices, canvases and sizes of decoded pieces, when all are there."""
    images = [image for piece in pieces for image in piece.result()]
    indices = np.array([index for index, _ in images], dtype=np.int64)
    return (indices, *slot.filled([pixels for _, pixels in images]))
