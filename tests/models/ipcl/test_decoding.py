"""Images from bytes: Pillow is the oracle, and damage is never a surprise."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.models.ipcl.test_sources import encoded, picture
from versa.models.ipcl import decoding
from versa.models.ipcl.decoding import ImageProblem, canvas_size, decode, jpeg_header


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((375, 500), (256, 341)),
        ((500, 375), (341, 256)),
        ((256, 300), (256, 300)),
        ((100, 80), (100, 80)),
        ((100, 500), (100, 500)),
        ((100, 5000), (10, 512)),
        ((2, 10000), (2, 512)),
        ((256, 512), (256, 512)),
        ((300, 700), (219, 512)),
    ],
)
def test_canvas_sizes(size, canvas):
    assert canvas_size(*size, 256) == canvas
    assert canvas_size(*canvas, 256) == canvas
    assert canvas_size(*size, None) == size


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_fast_jpegs_equal_pillows(monkeypatch, mode, subsampling, progressive):
    options = {"subsampling": subsampling, "progressive": progressive}
    content = encoded(picture(height=61, width=83).convert(mode), **options)
    fast, note = decode(content)
    assert note == ""
    expected = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
    assert np.array_equal(fast, expected)
    small, _ = decode(content, short_side=32)
    monkeypatch.setattr(decoding, "_decoder", lambda: None)
    assert np.array_equal(decode(content)[0], expected)
    assert np.array_equal(decode(content, short_side=32)[0], small)
    assert small.shape == (32, 43, 3)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "L", "P", "1")),
        *((kind, "RGB") for kind in ("BMP", "WEBP", "TIFF", "PPM")),
        ("GIF", "P"),
    ],
)
def test_other_formats(kind, mode):
    image = picture().convert(mode)
    content = encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    pixels, note = decode(content)
    assert note == ""
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_unusual_modes_are_converted_and_named():
    cmyk = picture().convert("CMYK")
    content = encoded(cmyk)
    pixels, note = decode(content)
    assert note == "CMYK"
    expected = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
    assert np.array_equal(pixels, expected)
    deep = np.linspace(0, 65535, 20 * 30).astype(np.uint16).reshape(20, 30)
    pixels, note = decode(encoded(Image.fromarray(deep), "PNG"))
    assert note in ("I", "I;16")
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_transparency_becomes_white():
    pixels, _ = decode(encoded(Image.new("RGBA", (3, 3), (9, 9, 9, 0)), "PNG"))
    assert (pixels == 255).all()


def test_large_jpegs_are_reduced_while_they_are_read():
    image = picture(height=1300, width=1700)
    pixels, _ = decode(encoded(image, quality=95), short_side=64)
    expected = image.resize((83, 64), Image.Resampling.BILINEAR)
    assert pixels.shape == (64, 83, 3)
    assert abs(pixels.astype(int) - np.asarray(expected)).mean() < 2


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_images_of_one_pixel_are_problems(size, kind):
    with pytest.raises(ImageProblem, match="at least 2 x 2 are needed"):
        decode(encoded(Image.new("RGB", size), kind))


def test_a_jpeg_cut_anywhere_is_a_problem():
    content = encoded(picture(height=100, width=120), quality=95)
    for end in (0, 1, 2, 20, 200, 620, len(content) // 2, len(content) - 2):
        with pytest.raises(ImageProblem, match=r"\w"):
            decode(content[:end])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"GIF89a",
        b"<html>not found</html>",
        bytes(3000),
        b"\x89PNG\r\n",
    ],
)
def test_what_is_no_image_is_a_problem(content):
    with pytest.raises(ImageProblem) as caught:
        decode(content)
    assert "0x" not in str(caught.value)  # the same text in every run


def test_modes_without_a_range_are_problems():
    floats = encoded(Image.fromarray(np.ones((5, 5), np.float32)), "TIFF")
    with pytest.raises(ImageProblem, match="the mode F has no defined range"):
        decode(floats)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_decompression_bomb_is_a_problem(monkeypatch, kind):
    content = encoded(picture(), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(decoding, "_LARGE", 1000)
    with pytest.raises(ImageProblem, match="could be decompression bomb"):
        decode(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_bytes_never_raise_anything_else(kind):
    content = encoded(picture(height=24, width=30), kind)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = np.frombuffer(content, dtype=np.uint8).copy()
        places = rng.integers(0, len(damaged), 4)
        places[0] %= 64  # the head matters most
        damaged[places] = rng.integers(0, 256, 4)
        try:
            pixels, _ = decode(damaged.tobytes(), short_side=16)
        except ImageProblem:
            continue
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


def test_layout_of_a_jpeg():
    assert jpeg_header(encoded(picture(height=30, width=50))) == (30, 50, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    turned = encoded(picture(height=30, width=50), exif=exif)
    assert jpeg_header(turned) == (30, 50, 3)
    assert decode(turned)[0].shape == (30, 50, 3)  # orientation is not obeyed


@pytest.mark.parametrize(
    ("size", "target"),
    [((375, 500), (256, 341)), ((90, 64), (81, 60)), ((64, 64), (10, 13))],
)
def test_shrinking_is_pillows(size, target):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize(target[::-1], Image.Resampling.BILINEAR)
    error = decoding._resized(pixels, target).astype(int) - expected
    assert np.abs(error).max() <= 1  # of 255, on noise, the worst case
    assert abs(error.mean()) < 0.1
    assert decoding._resized(pixels, size) is pixels
