"""One memory-mapped file of small JPEGs, instead of a tree of large ones.

The file, all numbers little-endian:

==============  ===================================================================
bytes           content
==============  ===================================================================
0 to 7          ``VERSAPK1``
8 to 23         place and length of the JSON text, two uint64
24 to 63        0
64 and on       the JPEG files, one after the other
then            the tables, each at a multiple of 64
last            JSON: ``n_images``, ``classes``, ``counts`` (images of each folder),
                ``digest``, ``source_digest``, ``short_side``, ``quality``,
                ``n_skipped``, and ``tables``: name -> [place, type, shape]
==============  ===================================================================

Tables are ``offsets`` uint64 (n + 1), ``checks`` uint32 (n, the CRC-32 of each JPEG),
``sizes`` int32 (n, 2; height and width), ``labels`` int64 (n), ``name_offsets`` uint64
(n + 1) and ``names`` uint8 (UTF-8).
"""

import contextlib
import errno
import hashlib
import json
import logging
import mmap
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from versa.cache import atomic_write
from versa.models.ipcl.decoding import ImageProblem, canvas_size, decode, jpeg_header
from versa.models.ipcl.image_source import ImageSource, patiently
from versa.parallel import n_cores
from versa.records import parse_json
from versa.wording import reading

logger = logging.getLogger("versa")

_MAGIC = b"VERSAPK1"
_HEAD = 64  # bytes before the first JPEG
_PLACES = struct.Struct("<8sQQ")
_GROUP = 32  # images between two lines of the journal reaching the system
_SAFE = 2048  # images between two waits for the disk
_TYPES = {
    "offsets": "<u8",
    "checks": "<u4",
    "sizes": "<i4",
    "labels": "<i8",
    "name_offsets": "<u8",
    "names": "|u1",
}


class PackedImages:
    """Images in one memory-mapped file that `pack` wrote; pickled as its path."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = open(self.path, "rb")  # noqa: SIM115
        with open(self.path, "rb") as file:
            n_bytes = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            if len(head) < _HEAD or not head.startswith(_MAGIC):
                raise ValueError(
                    f"{self.path} must be a file that versa packed; it is not. Pack "
                    "the folder of images again."
                )
            _, place, length = _PLACES.unpack_from(head)
            if place + length > n_bytes:
                raise ValueError(
                    f"{self.path} must have {place + length} bytes; it has {n_bytes}. "
                    "Copy it again."
                )
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with reading(self.path, "a whole file that versa packed"):
            text = self._map[place : place + length].decode()
            self.info: dict[str, Any] = parse_json(text)
            self.classes: tuple[str, ...] = tuple(self.info["classes"])
            self.counts: tuple[int, ...] = tuple(self.info["counts"])
            self.digest: str = self.info["digest"]
            self.labels = self._table("labels")
            self.sizes = self._table("sizes")
            self._offsets = self._table("offsets")
            self._checks = self._table("checks")
            self._name_offsets = self._table("name_offsets")
            self._names_place = int(self.info["tables"]["names"][0])
            self._check_tables(place)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """Pickled as its path."""
        return type(self), (self.path,)

    def name(self, index: int) -> str:
        """Path of the image that was packed."""
        bounds = self._name_offsets[index : index + 2]
        start, stop = (int(at) + self._names_place for at in bounds)
        return self._map[start:stop].decode("utf-8", "surrogateescape")

    def read(self, index: int) -> bytes:
        """Bytes of a JPEG file, or an ImageProblem if they have changed."""
        start, stop = (int(at) for at in self._offsets[index : index + 2])
        content = patiently(lambda: self._bytes(start, stop), str(self.path))
        if zlib.crc32(content) != self._checks[index]:
            raise ImageProblem(f"its bytes in {self.path} are damaged")
        return content

    def _bytes(self, start: int, stop: int) -> bytes:
        """Read, not mapped: a file system that fails is an OSError then, no SIGBUS."""
        try:
            return os.pread(self._file.fileno(), stop - start, start)
        except OSError:  # such as of a handle that the server has forgotten
            with open(self.path, "rb") as file:
                file.seek(start)
                return file.read(stop - start)

    def _check_tables(self, end: int) -> None:
        """Refuse tables that contradict one another, or the file."""
        n = len(self.labels)
        edges = {"offsets": self._offsets, "name_offsets": self._name_offsets}
        lengths = {len(self.sizes), len(self._checks), sum(self.counts)}
        lengths |= {len(table) - 1 for table in edges.values()}
        if lengths != {n} or self.sizes.shape != (n, 2):
            raise ValueError("its tables are of different numbers of images")
        if not ((self.labels >= 0) & (self.labels < len(self.classes))).all():
            raise ValueError("its labels are not those of its classes")
        for name, table in edges.items():
            low = 0 if name == "name_offsets" else _HEAD
            steps = np.diff(table.astype(np.int64))
            if table[0] < low or table[-1] > end or (steps < 0).any():
                raise ValueError(f"its {name} are not in ascending order within it")

    def _table(self, name: str) -> np.ndarray:
        place, dtype, shape = self.info["tables"][name]
        count = int(np.prod(shape))
        table = np.frombuffer(self._map, dtype=dtype, count=count, offset=place)
        # in the byte order of this machine, and free of the file
        return table.astype(table.dtype.newbyteorder("=")).reshape(shape)


def pack(
    images: ImageSource,
    path: str | os.PathLike[str],
    *,
    short_side: int = 256,
    quality: int = 90,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PackedImages:
    """Write images into one file, as JPEGs of a small size.

    An image is shrunk to `canvas_size`, never enlarged. A baseline JPEG, grey or of
    three channels, that is small enough already is kept byte by byte. Beside the file
    stand ``<file>.partial`` and ``<file>.journal`` while it is written: after an
    interruption, the same call resumes where it stopped, and the file comes out the
    same. Images that cannot be used are left out and named in ``<file>.skipped.txt``.

    Parameters
    ----------
    images : ImageSource
        For example an `ImageTree`.
    path : path-like
        The file to make.
    short_side : int
        Largest short side, in pixels.
    quality : int
        Of the JPEGs, from 1 to 95.
    workers : int, optional
        Threads; default: one per CPU core.
    progress : callable, optional
        Called as ``progress(n_done, n_images)`` now and then.

    Returns
    -------
    packed : PackedImages

    Raises
    ------
    ValueError
        If the file exists, an interrupted one was begun with other images or options,
        no image can be used, or another process is packing into this file.
    OSError
        If the disk is full or cannot be written. What is done stays done.

    Examples
    --------
    >>> import tempfile
    >>> from versa.models.ipcl.sources import ImageTree
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("a.png", "b.png"):
    ...     Image.new("RGB", (600, 300)).save(root / name)
    >>> packed = pack(ImageTree(root), root / "images.pack")
    >>> len(packed), packed.sizes.tolist()
    (2, [[256, 512], [256, 512]])
    """
    import filelock

    path = Path(path)
    if not 1 <= quality <= 95 or not 2 <= short_side <= 16384:
        raise ValueError(
            "quality must be in 1 to 95 and short_side in 2 to 16384; got "
            f"quality={quality}, short_side={short_side}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{path}.lock", timeout=0)
    try:
        with lock:
            if path.exists():
                raise ValueError(
                    f"{path} must not exist before it is packed; it does. Remove it, "
                    "or choose another name."
                )
            options = {
                "format": _MAGIC.decode(),
                "source_digest": images.digest,
                "short_side": short_side,
                "quality": quality,
            }
            _pack(images, path, options, workers or n_cores(), progress)
    except filelock.Timeout as error:
        raise ValueError(
            f"{path} is being packed by another process. Wait for it to end."
        ) from error
    Path(f"{path}.lock").unlink(missing_ok=True)
    return PackedImages(path)


def _pack(
    images: ImageSource,
    path: Path,
    options: dict[str, Any],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    partial, journal = Path(f"{path}.partial"), Path(f"{path}.journal")
    records = _resumed(partial, journal, options)
    try:
        with open(partial, "r+b") as data, open(journal, "a", encoding="utf-8") as log:
            data.seek(0, os.SEEK_END)
            lines = []
            made = _encoded(images, len(records), options, workers)
            with contextlib.closing(made):
                for content, record in made:
                    data.write(content)
                    records.append(record)
                    lines.append(json.dumps(record) + "\n")
                    n_done = len(records)
                    if n_done % _GROUP and n_done < len(images):
                        continue
                    # the journal may lag behind the data, never the other way round
                    data.flush()
                    if n_done % _SAFE == 0:
                        os.fsync(data.fileno())
                    log.writelines(lines)
                    log.flush()
                    lines = []
                    if progress is not None:
                        progress(n_done, len(images))
            _finish(images, data, records, options)
        skipped = [(k, r["skipped"]) for k, r in enumerate(records) if "skipped" in r]
        if skipped:
            with atomic_write(f"{path}.skipped.txt") as temporary:
                text = "".join(f"{images.name(k)}: {why}\n" for k, why in skipped)
                temporary.write_text(text, "utf-8", "backslashreplace")
            logger.warning(
                "%d of %d images were left out; they are named in %s.skipped.txt.",
                len(skipped),
                len(images),
                path,
            )
        os.replace(partial, path)
        journal.unlink()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"the disk of {path} is full. Free some space and pack again: it resumes "
            f"after the {len(records)} images that are done",
        ) from error


def _resumed(
    partial: Path, journal: Path, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """What is done already; both files then end where it ends."""
    records: list[dict[str, Any]] = []
    if not (partial.exists() and journal.exists()):
        partial.write_bytes(bytes(_HEAD))
        journal.write_text(json.dumps(options) + "\n", encoding="utf-8")
        return records
    with reading(journal, f"what an interrupted packing left; remove it and {partial}"):
        text = journal.read_text(encoding="utf-8").rpartition("\n")[0]
        whole: list[Any] = [
            parse_json(line) if line else None for line in text.split("\n")
        ]
        if not all(isinstance(line, dict) for line in whole[1:]):
            raise ValueError("a line is no table")
    if whole[0] != options:
        raise ValueError(
            f"{journal} must be of the same images and options, to resume what "
            f"was interrupted; it is not. Remove it and {partial} to begin again."
        )
    with open(partial, "r+b") as data:
        n_bytes, end = os.fstat(data.fileno()).st_size, _HEAD
        for record in whole[1:]:
            if end + record.get("bytes", 0) > n_bytes:
                break
            end += record.get("bytes", 0)
            records.append(record)
        # after a power failure, what the disk had not been waited for may be missing
        first = max(0, len(records) - 2 * _SAFE)
        end -= sum(record.get("bytes", 0) for record in records[first:])
        data.seek(end)
        for k, record in enumerate(records[first:], start=first):
            content = data.read(record.get("bytes", 0))
            if zlib.crc32(content) != record.get("check", 0):
                records = records[:k]
                break
            end += len(content)
        data.truncate(end)
    lines = [json.dumps(line) + "\n" for line in (options, *records)]
    with atomic_write(journal) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    logger.info("packing resumes after %d images.", len(records))
    return records


def _encoded(
    images: ImageSource, first: int, options: dict[str, Any], workers: int
) -> Generator[tuple[bytes, dict[str, Any]], None, None]:
    """JPEG and record of each image from `first` on, in order."""

    def one(index: int) -> tuple[bytes, dict[str, Any]]:
        try:
            content = images.read(index)
            pixels, _ = decode(content, short_side=options["short_side"])
        except ImageProblem as problem:
            return b"", {"skipped": str(problem)}
        if not _kept(content, options["short_side"]):
            file = BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=options["quality"])
            content = file.getvalue()
        height, width = pixels.shape[:2]
        record = {"bytes": len(content), "check": zlib.crc32(content)}
        return content, {**record, "height": height, "width": width}

    pool = ThreadPoolExecutor(workers, thread_name_prefix="versa-pack")
    ahead: deque[Future[tuple[bytes, dict[str, Any]]]] = deque()
    try:
        for index in range(first, len(images)):
            ahead.append(pool.submit(one, index))
            if len(ahead) > 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _kept(content: bytes, short_side: int) -> bool:
    """Whether an image, known to be whole, is a small baseline JPEG already."""
    header = jpeg_header(content)
    if header is None or header[2] not in (1, 3):
        return False
    if canvas_size(header[0], header[1], short_side) != header[:2]:
        return False
    return "progressive" not in Image.open(BytesIO(content)).info


def _finish(
    images: ImageSource,
    data: BinaryIO,
    records: list[dict[str, Any]],
    options: dict[str, Any],
) -> None:
    """Tables, JSON and, last of all, the head."""
    good = np.array([k for k, r in enumerate(records) if "bytes" in r], dtype=np.int64)
    if not good.size:
        raise ValueError(
            f"at least one of {len(records)} images must be usable; none is "
            f"({images.name(0)}: {records[0]['skipped']})."
        )
    lengths = np.array([records[k]["bytes"] for k in good], dtype=np.int64)
    names = [images.name(int(k)) for k in good]
    first, last = min(names).split("/"), max(names).split("/")
    pairs = enumerate(zip(first[:-1], last[:-1], strict=False))
    n_shared = next(
        (k for k, (a, b) in pairs if a != b), min(len(first), len(last)) - 1
    )
    encoded = [
        "/".join(name.split("/")[n_shared:]).encode("utf-8", "surrogateescape")
        for name in names
    ]
    name_lengths = np.array([len(name) for name in encoded], dtype=np.int64)
    edges = np.cumsum([0, *images.counts])
    tables = {
        "offsets": _HEAD + np.concatenate([[0], np.cumsum(lengths)]),
        "checks": np.array([records[k]["check"] for k in good]),
        "sizes": np.array([(records[k]["height"], records[k]["width"]) for k in good]),
        "labels": images.labels[good],
        "name_offsets": np.concatenate([[0], np.cumsum(name_lengths)]),
        "names": np.frombuffer(b"".join(encoded), dtype=np.uint8),
    }
    places = {}
    for name, table in tables.items():
        data.write(bytes(-data.tell() % 64))
        places[name] = [data.tell(), _TYPES[name], list(table.shape)]
        data.write(table.astype(_TYPES[name]).tobytes())
    text = json.dumps(options, sort_keys=True).encode()
    info = {
        **options,
        "n_images": len(good),
        "n_skipped": len(records) - len(good),
        "classes": images.classes,
        "counts": np.histogram(good, edges)[0].tolist(),
        "digest": hashlib.sha256(text).hexdigest(),
        "tables": places,
    }
    data.write(bytes(-data.tell() % 64))
    place, content = data.tell(), json.dumps(info).encode()
    data.write(content)
    data.flush()
    os.fsync(data.fileno())
    data.seek(0)
    data.write(_PLACES.pack(_MAGIC, place, len(content)))
    data.flush()
    os.fsync(data.fileno())
