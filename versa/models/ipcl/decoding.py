"""From the bytes of an image file to an RGB canvas, or a reason why not.

Three decoders make the same pixels of a JPEG (libjpeg-turbo is in each): torchvision's
while it has one, torchcodec's if it is installed, else Pillow's. Everything that is not
a plain JPEG is Pillow's.
"""

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from versa.models.images import to_rgb

_SMALLEST = 2  # pixels; an image of one row, column or point has nothing to crop
_LONGEST = 2  # the long side of a canvas, in short sides
_REDUCED = 4  # a JPEG this many times too large is decoded at a fraction of its size
_LARGE = 2**26  # pixels; whether more are an image or an attack is Pillow's to say
_HEADERS = 2**17  # bytes of a JPEG in which its tags stand
# what Pillow's readers raise on damaged files
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_UNUSUAL = ("CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "I;16L")


class ImageProblem(ValueError):  # noqa: N818
    """An image that cannot be used; the text says why."""


def canvas_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width of an image shrunk to a short side (None: not), never enlarged.

    The long side is at most twice `short_side`: a longer image is shrunk as a whole.
    """
    if short_side is None:
        return height, width
    short, long = min(height, width), max(height, width)
    if long * short_side <= _LONGEST * short_side * max(short, short_side):
        new_short = min(short, short_side)
        # rounded down, as torchvision's Resize does
        new_long = int(new_short * long / short) if new_short < short else long
    else:
        new_long = _LONGEST * short_side
        new_short = max(_SMALLEST, round(short * new_long / long))
    if new_short > short or new_long > long:
        return height, width
    return (new_short, new_long) if height <= width else (new_long, new_short)


def decode(content: bytes, *, short_side: int | None = None) -> tuple[np.ndarray, str]:
    """RGB pixels (height, width, 3) of an image file, shrunk to `canvas_size`.

    Also the mode of an image that was converted from an unusual one, else "". The first
    frame is taken, transparency becomes white, and orientation tags are not obeyed, as
    in torchvision's ImageFolder. Raises ImageProblem.
    """
    header = jpeg_header(content)
    if header is not None:
        height, width, channels = header
        _check_size(height, width)
        target = canvas_size(height, width, short_side)
        small = height * width <= _LARGE and min(height, width) < _REDUCED * min(target)
        if channels in (1, 3) and small:
            pixels = _jpeg(content)
            if pixels is not None:
                return _resized(pixels, target), ""
    return _any_format(content, short_side)


def jpeg_header(content: bytes) -> tuple[int, int, int] | None:
    """Height, width, number of channels in a JPEG's header; None if it has none."""
    if content[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack_from(">BHHB", content, at + 4)
            plain = marker in (0xC0, 0xC1, 0xC2) and bits == 8
            return (height, width, channels) if plain and height and width else None
        if marker == 0xDA or marker == 0x01 or 0xD0 <= marker <= 0xD9:
            return None
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def _jpeg(content: bytes) -> np.ndarray | None:
    """Pixels by the fast decoder, or None if it cannot: Pillow then says why."""
    decoder = _decoder()
    if decoder is None:
        return None
    try:
        decoded = decoder(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    except RuntimeError:
        return None
    return np.ascontiguousarray(decoded.permute(1, 2, 0).numpy())


@lru_cache(maxsize=1)
def _decoder() -> Callable[[torch.Tensor], torch.Tensor] | None:
    try:
        import torchvision.io  # noqa: F401  (registers the operator)

        # its Python function warns, at every call, that torchcodec shall follow it
        operator = torch.ops.image.decode_jpeg.default
    except (ImportError, AttributeError, RuntimeError):
        pass
    else:
        return lambda content: operator(content, 3, False)
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, OSError, RuntimeError):  # it links against other libraries
        return None

    def decoder(content: torch.Tensor) -> torch.Tensor:
        if b"Exif\0\0" in content[:_HEADERS].numpy().tobytes():
            # torchcodec would turn the image as its orientation tag says
            raise RuntimeError("the image may have an orientation tag")
        return decode_jpeg(content, mode="RGB")

    return decoder


def _any_format(content: bytes, short_side: int | None) -> tuple[np.ndarray, str]:
    try:
        image = Image.open(BytesIO(content))
        width, height = image.size
        _check_size(height, width)
        mode = image.mode
        target = canvas_size(height, width, short_side)
        if image.format == "JPEG" and min(height, width) >= _REDUCED * min(target):
            # twice the size that is needed, as Pillow's thumbnails take it
            image.draft(None, (2 * target[1], 2 * target[0]))
        image.load()
        rgb = to_rgb(image)
        if rgb is None:
            raise ImageProblem(f"the mode {mode} has no defined range")
        note = mode if mode in _UNUSUAL else ""
        return _resized(np.asarray(rgb), target), note
    except ImageProblem:
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        # Pillow names the buffer by its address, which differs in every run
        reason = reason.split(" <_io")[0] or type(error).__name__
        raise ImageProblem(reason) from error


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels of another size, by the antialiased bilinear filter of Pillow.

    torch has it for bytes, four times as fast and equal to one level of 255.
    """
    if pixels.shape[:2] == size:
        return pixels
    if not pixels.flags.writeable:  # torch warns of what it only reads
        pixels = pixels.copy()
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    y = functional.interpolate(x, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(y[0].permute(1, 2, 0).numpy())


def _check_size(height: int, width: int) -> None:
    if min(height, width) < _SMALLEST:
        raise ImageProblem(
            f"the image has {width} x {height} pixels; at least "
            f"{_SMALLEST} x {_SMALLEST} are needed"
        )
