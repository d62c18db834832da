"""Images of every unfit kind, and what the hashes are hashes of."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from versa.models.images import image_inputs, read_rgb, to_rgb
from versa.models.preprocess import Preprocess

PREPROCESS = Preprocess(8, 8, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def images(tmp_path):
    """Five RGB images of one size."""
    paths = [tmp_path / f"im{k}.png" for k in range(5)]
    for k, path in enumerate(paths):
        Image.fromarray(pixels(12, 10, 3, seed=k)).save(path)
    return paths


def own_transform(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


@pytest.mark.parametrize("max_bytes", [2**28, 2000, 0])
@pytest.mark.parametrize("preprocess", [PREPROCESS, own_transform])
def test_inputs_are_the_preprocessed_images(images, preprocess, max_bytes):
    inputs = image_inputs(images, preprocess, max_bytes=max_bytes)
    expected = torch.stack([preprocess(Image.open(path)) for path in images])
    assert torch.equal(inputs.batch(0, 5), expected)
    assert torch.equal(inputs.batch(3, 5), expected[3:])
    assert inputs.names == tuple(path.name for path in images)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images]
    assert inputs.hashes == tuple(digests)
    assert len(inputs.kept) == min(5, max_bytes // expected[0].nbytes)


def test_image_that_changes_between_readings_is_noticed(images):
    inputs = image_inputs(images, PREPROCESS, max_bytes=0)
    Image.fromarray(pixels(12, 10, 3, seed=9)).save(images[3])
    inputs.batch(0, 3)
    with pytest.raises(ValueError, match=r"image im3\.png .* must not change"):
        inputs.batch(2, 4)


def save_grey16(path):
    Image.fromarray(pixels(12, 10).astype(np.uint16) * 257).save(path)


UNFIT = {
    "L": lambda path: Image.fromarray(pixels(12, 10)).save(path),
    "LA": lambda path: Image.new("LA", (10, 12), (9, 9)).save(path),
    "1": lambda path: Image.new("1", (10, 12)).save(path),
    "I;16": save_grey16,
    "P": lambda path: Image.fromarray(pixels(12, 10, 3)).quantize(16).save(path),
    "CMYK": lambda path: Image.new("CMYK", (10, 12), (1, 2, 3, 4)).save(path, "TIFF"),
    "RGBA": lambda path: Image.new("RGBA", (10, 12), (9, 9, 9, 9)).save(path),
}


@pytest.mark.parametrize("mode", UNFIT)
def test_other_modes_are_refused_by_name_or_converted(images, mode):
    UNFIT[mode](images[1])
    UNFIT[mode](images[3])
    with pytest.raises(
        ValueError, match=r"^images must have the mode RGB; im1"
    ) as caught:
        image_inputs(images, PREPROCESS)
    assert f"im1.png is {mode}, im3.png is {mode}." in str(caught.value)
    assert "pass convert=True" in str(caught.value)
    converted = image_inputs(images, PREPROCESS, convert=True)
    expected = PREPROCESS(to_rgb(Image.open(images[3])))
    assert torch.equal(converted.batch(3, 4)[0], expected)


def test_float_images_cannot_be_converted(images):
    Image.fromarray(np.ones((12, 10), dtype=np.float32)).save(images[0], "TIFF")
    with pytest.raises(ValueError, match=r"im0\.png is F\. Save them as RGB\."):
        image_inputs(images, PREPROCESS, convert=True)


def test_missing_images_are_named(images):
    images[2].unlink()
    images[4] = images[4].parent
    with pytest.raises(ValueError, match=r"^images must exist; missing: im2\.png \("):
        image_inputs(images, PREPROCESS)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_damaged_images_are_named(images, content):
    whole = images[2].read_bytes()
    images[2].write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=r"damaged or unknown: im2\.png .*Save them"):
        image_inputs(images, PREPROCESS)


def test_other_sizes_are_named_or_allowed(images):
    Image.fromarray(pixels(10, 12, 3)).save(images[3])
    with pytest.raises(
        ValueError, match=r"one size; most are 10 x 12, but im3\.png is 12 x 10\."
    ):
        image_inputs(images, PREPROCESS)
    assert image_inputs(images, PREPROCESS, convert=True).batch(0, 5).shape[0] == 5
    for max_bytes in (2**20, 0):
        with pytest.raises(
            ValueError, match=r"one shape and type; .* for im3\.png and"
        ):
            image_inputs(
                images, own_transform, convert=True, max_bytes=max_bytes
            ).batch(0, 5)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a", "b"], "names must hold one id per image; got 2 for 5"),
        (["a", "b", "a", "c", "d"], "names of images must be unique; repeated: 'a'"),
    ],
)
def test_names_must_fit(images, names, text):
    with pytest.raises(ValueError, match=text):
        image_inputs(images, PREPROCESS, names=names)


def test_images_must_be_a_list(images):
    with pytest.raises(ValueError, match="images must hold at least one path"):
        image_inputs([], PREPROCESS)
    with pytest.raises(ValueError, match="images must be a list of paths"):
        image_inputs(images[0], PREPROCESS)


@pytest.mark.parametrize(
    "result", [None, {"ids": 1}, torch.zeros(()), np.array([None])]
)
def test_preprocess_must_give_one_tensor(images, result):
    with pytest.raises(ValueError, match=r"must give a tensor, .* image im0"):
        image_inputs(images, lambda _image: result)


def test_conversion_of_each_mode():
    assert (
        to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).getpixel((0, 0)) == (127,) * 3
    )
    assert to_rgb(Image.new("LA", (1, 1), (7, 255))).getpixel((0, 0)) == (7, 7, 7)
    deep = Image.fromarray(np.array([[65535, 0, 257 * 5]], dtype=np.uint16))
    assert np.asarray(to_rgb(deep))[0, :, 0].tolist() == [255, 0, 5]
    palette = Image.new("P", (1, 1))
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("F", (1, 1))) is None


def test_orientation_tag_is_left_alone(tmp_path):
    image = Image.fromarray(pixels(12, 10, 3))
    tags = Image.Exif()
    tags[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=tags)
    assert np.array_equal(read_rgb(tmp_path / "turned.png"), image)


def test_one_image_follows_the_same_rules(images):
    grey = Image.fromarray(pixels(12, 10))
    with pytest.raises(
        ValueError, match="images must have the mode RGB; the image is L"
    ):
        read_rgb(grey)
    assert read_rgb(grey, convert=True).mode == "RGB"
    with pytest.raises(ValueError, match=r"images must exist; missing: no\.png"):
        read_rgb(images[0].parent / "no.png")
