"""Stimulus images: read once, hashed, checked, and made ready for a network.

The hash is that of the very bytes that the network sees. Nothing is repaired without
being asked: an image of another mode or size than the rest is an error.
"""

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from versa.cache import ArrayStore, content_key, file_hash
from versa.models.hashes import tensor_digest
from versa.models.preprocess import Preprocess
from versa.parallel import n_cores
from versa.wording import listing, unique_names

_WINDOW = 32  # decoded images held at a time
_THUMBNAIL_SCHEMA = "thumbnails-1"  # counts up when what a cache entry means changes
_CONVERT = "pass convert=True (versa.fit: convert_images=True, --convert-images)"
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_Looks = tuple[str, str, tuple[int, int] | None]  # problem, mode, size
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class _Seen:
    """One image file: its hash, and either an image or what is wrong with it."""

    digest: str
    image: Image.Image | None
    mode: str = ""
    problem: str = ""  # "missing", "unreadable" or "mode"


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """Checked images, as inputs of one network.

    `kept` (n_kept, ...) are the inputs of the first images; the others are
    read a second time, in their batch.
    """

    names: tuple[str, ...]
    hashes: tuple[str, ...]
    paths: tuple[Path, ...]
    preprocess: Callable[[Image.Image], torch.Tensor]
    convert: bool
    kept: torch.Tensor

    def batch(self, start: int, stop: int) -> torch.Tensor:
        """Inputs (stop - start, ...) of the images from `start` up to but
        without `stop`; valid for one use, as they may share memory with `kept`."""
        n_kept = len(self.kept)
        if stop <= n_kept:
            return self.kept[start:stop]
        again = range(max(start, n_kept), stop)
        with ThreadPoolExecutor(max_workers=_threads()) as pool:
            seen = pool.map(lambda k: _look(self.paths[k], self.convert), again)
            rows = [self._input(k, look) for k, look in zip(again, seen, strict=True)]
        return torch.cat([self.kept[start:], torch.stack(rows)])

    def _input(self, k: int, seen: _Seen) -> torch.Tensor:
        if seen.digest != self.hashes[k] or seen.image is None:
            raise ValueError(
                f"image {self.names[k]} ({self.paths[k]}) must not change while it is "
                "in use; its content is another than a moment ago. Run again."
            )
        row = network_input(seen.image, self.preprocess, self.names[k])
        _check_shape(row, self.kept, self.names[k])
        return row

    def digest(self) -> str:
        """Hash of the inputs of all images."""
        digest = hashlib.sha256()
        for k in range(len(self.names)):
            digest.update(tensor_digest(self.batch(k, k + 1)[0]).encode())
        return digest.hexdigest()


def image_inputs(
    images: Sequence[str | os.PathLike[str]],
    preprocess: Callable[[Image.Image], torch.Tensor],
    *,
    names: Sequence[str] | None = None,
    convert: bool = False,
    max_bytes: int = 2**28,
) -> ImageInputs:
    """Read, hash, check and preprocess image files that Pillow reads.

    With `convert`, images of another mode are turned into RGB (transparency on white)
    and sizes may differ; else they are refused, all of them by their ids. `max_bytes`
    is the memory for inputs; images beyond it are read again in their batch, and their
    hash is compared.
    """
    if isinstance(images, str | os.PathLike):
        raise ValueError(f"images must be a list of paths; got {str(images)!r}.")
    paths = tuple(Path(path) for path in images)
    ids = tuple(path.name for path in paths) if names is None else tuple(names)
    _check_names(ids, len(paths))
    digests: list[str] = []
    looks: list[_Looks] = []
    kept: torch.Tensor = torch.empty(0)
    n_kept = len(paths)  # until the size of an input is known
    in_threads = isinstance(preprocess, Preprocess)  # others may not be safe there

    def prepare(k: int) -> tuple[_Seen, torch.Tensor | None]:
        seen = _look(paths[k], convert)
        if seen.image is None or k >= n_kept or not in_threads:
            return seen, None
        return seen, network_input(seen.image, preprocess, ids[k])

    with ThreadPoolExecutor(max_workers=_threads()) as pool:
        for start in range(0, len(paths), _WINDOW):
            window = range(start, min(start + _WINDOW, len(paths)))
            for k, (seen, row) in zip(window, pool.map(prepare, window), strict=True):
                size = None if seen.image is None else seen.image.size
                looks.append((seen.problem, seen.mode, size))
                digests.append(seen.digest)
                if seen.image is None or k >= n_kept:
                    continue
                if row is None:
                    row = network_input(seen.image, preprocess, ids[k])
                if kept.ndim == 1:
                    n_kept = min(len(paths), max_bytes // max(1, row.nbytes))
                    kept = torch.empty((n_kept, *row.shape), dtype=row.dtype)
                _check_shape(row, kept, ids[k])
                if k < n_kept and in_threads:
                    # torch would wake its own threads, which then keep the cores busy
                    kept.numpy()[k] = row.numpy()
                elif k < n_kept:
                    kept[k] = row
    _check_looks(ids, paths, looks, convert)
    return ImageInputs(ids, tuple(digests), paths, preprocess, convert, kept)


def require_unchanged(
    paths: Sequence[Path], names: Sequence[str], hashes: Sequence[str]
) -> None:
    """Refuse image files that are not those of these hashes. Each is read once."""

    def look(path: Path) -> tuple[str, str]:
        try:
            return "", file_hash(path)
        except _ABSENT:
            return "missing", ""
        except OSError:
            return "unreadable", ""

    with ThreadPoolExecutor(max_workers=_threads()) as pool:
        found = list(pool.map(look, paths))
    looks = [(problem, "RGB", None) for problem, _ in found]
    _check_looks(tuple(names), tuple(paths), looks, convert=True)
    require_same_hashes(paths, names, hashes, [digest for _, digest in found])


def require_same_hashes(
    paths: Sequence[Path],
    names: Sequence[str],
    hashes: Sequence[str],
    found: Sequence[str],
) -> None:
    """Refuse image files that have changed since they were hashed first."""
    changed = [
        f"{names[k]} ({paths[k]})"
        for k, pair in enumerate(zip(hashes, found, strict=True))
        if pair[0] != pair[1]
    ]
    if changed:
        raise ValueError(
            "images must be the files that the dataset was loaded with; changed since: "
            f"{listing(changed)}. Load the dataset again."
        )


def read_rgb(
    image: str | os.PathLike[str] | Image.Image, *, convert: bool = False
) -> Image.Image:
    """One image in mode RGB, not turned by its EXIF orientation.

    An image of another mode is refused, or converted.
    """
    if isinstance(image, Image.Image):
        name, path = "the image", Path()
        rgb = to_rgb(image) if convert or image.mode == "RGB" else None
        seen = _Seen("", rgb, image.mode, "mode" if rgb is None else "")
    else:
        path = Path(image)
        name, seen = path.name, _look(path, convert)
    size = None if seen.image is None else seen.image.size
    _check_looks((name,), (path,), [(seen.problem, seen.mode, size)], convert)
    if seen.image is None:
        raise ValueError(f"{name} could not be read.")
    return seen.image


def network_input(
    image: Image.Image,
    preprocess: Callable[[Image.Image], torch.Tensor],
    name: str,
) -> torch.Tensor:
    """An RGB image, preprocessed: usually (3, height, width), but a network may take
    other shapes. `name` is for the error.

    A NumPy array counts as a tensor; of a processor that gives a dictionary with
    ``pixel_values`` those are taken, without the axis of its single image.
    """
    given = x = preprocess(image)
    if isinstance(x, Mapping):
        x = x.get("pixel_values")
        if (isinstance(x, list | tuple) and len(x) == 1) or (
            hasattr(x, "shape") and len(x.shape) > 3 and x.shape[0] == 1
        ):
            x = x[0]
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = torch.from_numpy(np.array(x))
    if isinstance(x, torch.Tensor) and x.layout == torch.strided and x.numel():
        x = x.detach().cpu()
        if x.ndim and not x.is_quantized:
            return x if type(x) is torch.Tensor else x.as_subclass(torch.Tensor)
    got = repr(tuple(x.shape)) if hasattr(x, "shape") else type(given).__name__
    if isinstance(given, Mapping):
        got += f" with the keys {listing(given)}"
    raise ValueError(
        "preprocess must give a tensor, usually (3, height, width), an array, or a "
        f"dictionary with the pixel_values of one image; got {got} for image {name}."
    )


def to_rgb(image: Image.Image) -> Image.Image | None:
    """The image in mode RGB, transparency composited on white.

    16-bit grey is scaled to 8 bits; None for modes without a defined range (32-bit
    integers and floats).

    Examples
    --------
    >>> to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = np.asarray(image).astype(np.float64) / 257  # 65535 becomes 255
        return Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode in ("I", "F"):
        return None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def thumbnails(
    paths: Sequence[Path], hashes: Sequence[str], store: ArrayStore | None
) -> np.ndarray:
    """Small pictures of stimuli (n_images,), JPEG in base64; kept in the store."""
    key = content_key(schema=_THUMBNAIL_SCHEMA, images=list(hashes))
    entry = store.read(key) if store else None
    if entry is None:
        entry = {"pictures": np.array([_thumbnail(path) for path in paths])}
        if store:
            store.write(key, **entry)
    return entry["pictures"].astype(str).astype(object)


def _thumbnail(path: Path) -> bytes:
    """At most 96 pixels wide and high, transparent pixels in white."""
    image = read_rgb(path, convert=True)
    image.thumbnail((96, 96))
    memory = BytesIO()
    image.save(memory, "JPEG", quality=85)
    return base64.b64encode(memory.getvalue())


def _threads() -> int:
    return min(8, n_cores())


def _look(path: Path, convert: bool) -> _Seen:
    try:
        content = path.read_bytes()
    except _ABSENT:
        return _Seen("", None, problem="missing")
    except OSError:
        return _Seen("", None, problem="unreadable")
    digest = hashlib.sha256(content).hexdigest()
    try:
        image = Image.open(BytesIO(content))
        image.load()
        mode = image.mode
        rgb = to_rgb(image) if convert or mode == "RGB" else None
    except _BROKEN:
        return _Seen(digest, None, problem="unreadable")
    return _Seen(digest, rgb, mode, problem="mode" if rgb is None else "")


def _check_shape(row: torch.Tensor, kept: torch.Tensor, name: str) -> None:
    if row.shape != kept.shape[1:] or row.dtype != kept.dtype:
        raise ValueError(
            "preprocess must give all images one shape and type; got "
            f"{tuple(row.shape)} {row.dtype} for {name} and {tuple(kept.shape[1:])} "
            f"{kept.dtype} before. Crop or resize both sides in it."
        )


def _check_names(names: tuple[str, ...], n_images: int) -> None:
    if not n_images:
        raise ValueError("images must hold at least one path; got none.")
    if len(names) != n_images:
        raise ValueError(
            f"names must hold one id per image; got {len(names)} for {n_images}."
        )
    unique_names(map(str, names), "names of images")


def _check_looks(
    names: tuple[str, ...],
    paths: tuple[Path, ...],
    looks: Sequence[_Looks],
    convert: bool,
) -> None:
    def those(problem: str) -> list[int]:
        return [k for k, look in enumerate(looks) if look[0] == problem]

    if missing := those("missing"):
        files = [f"{names[k]} ({paths[k]})" for k in missing]
        raise ValueError(f"images must exist; missing: {listing(files)}.")
    if broken := those("unreadable"):
        files = [f"{names[k]} ({paths[k]})" for k in broken]
        raise ValueError(
            f"images must be whole and of a known format; damaged or unknown: "
            f"{listing(files)}. Save them again as PNG or JPEG."
        )
    if other := those("mode"):
        modes = [f"{names[k]} is {looks[k][1]}" for k in other]
        step = "" if convert else f", or {_CONVERT}"
        raise ValueError(
            f"images must have the mode RGB; {listing(modes)}. Save them as RGB{step}."
        )
    sizes = Counter(look[2] for look in looks)
    if len(sizes) > 1 and not convert:
        common = sizes.most_common(1)[0][0]
        others = [
            f"{name} is {_text(look[2])}"
            for name, look in zip(names, looks, strict=True)
            if look[2] != common
        ]
        raise ValueError(
            f"images must have one size; most are {_text(common)}, but "
            f"{listing(others)}. Resize them, or {_CONVERT} to let the preprocessing "
            "do it."
        )


def _text(size: tuple[int, int] | None) -> str:
    return "unread" if size is None else f"{size[0]} x {size[1]}"
