"""Small pictures: read from anywhere, upright, and each where it belongs."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.pictured import in_base64, patch, pictured_fit
from versa.plotting.pictures import (
    draw_names,
    draw_scale,
    draw_spots,
    draw_strips,
    read_picture,
    stored_pictures,
)
from versa.result import FitResult


def new_panel(width=4.0):
    return Figure(figsize=(width, width)).add_axes((0, 0, 1, 1))


def flat(colour, size=(10, 10)):
    return Image.new("RGB", size, colour)


def at(image, x, y):
    """Pixel of a drawn image at a place of its panel."""
    left, right, down, up = image.get_extent()
    pixels = np.asarray(image.get_array())
    row = int((up - y) / (up - down) * len(pixels))
    column = int((x - left) / (right - left) * pixels.shape[1])
    return pixels[row, column]


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK"])
def test_pictures_of_any_mode_are_read(tmp_path, mode):
    path = tmp_path / "a.tiff"
    flat("black", (200, 100)).convert(mode).save(path)
    for given in (path, str(path)):
        read = read_picture(given, 0)
        assert read.mode == "RGB"
        assert read.size == (96, 48)
        assert np.asarray(read).max() < 30


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_base64_equals_the_file(tmp_path, kind):
    image = patch(3, (40, 20))
    image.save(tmp_path / "a", kind)
    from_text = read_picture(in_base64(image, kind), 0)
    np.testing.assert_array_equal(from_text, read_picture(tmp_path / "a", 0))
    assert from_text.size == (40, 20)


def test_transparent_pixels_are_white_and_photographs_upright(tmp_path):
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert np.asarray(read_picture(in_base64(clear, "PNG"), 0)).min() == 255
    lying = flat("black", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    lying.save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg", 0).size == (20, 40)


def test_unreadable_pictures_are_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    for given, text in (
        (tmp_path / "none.png", "number 4 cannot be read .*No such file"),
        (tmp_path / "text.png", "number 4 cannot be read .*cannot identify"),
        ("/9j/not base64!", "number 4 cannot be read"),
        (tmp_path / "deep.png", "8 bits per channel; number 4 has mode I"),
    ):
        with pytest.raises(ValueError, match=text):
            read_picture(given, 4)


def test_results_without_all_pictures_have_none():
    fit = pictured_fit(4)
    assert [picture.size for picture in stored_pictures(fit)] == [(48, 48)] * 4
    assert stored_pictures(pictured_fit(4, pictures=False)) is None
    data = fit.data.copy()
    stored = data["thumbnail"].values.copy()
    stored[2] = ""
    data["thumbnail"] = ("stimulus",), stored
    assert stored_pictures(FitResult(data)) is None


@pytest.mark.parametrize("n_images", [2, 40, 100])
def test_each_picture_of_a_strip_is_centred_on_its_row(n_images):
    rng = np.random.default_rng(n_images)
    colours = rng.integers(0, 255, (n_images, 3))
    panel = new_panel()
    band, overhang = draw_strips(panel, [flat(tuple(c.tolist())) for c in colours])
    left, top = panel.get_images()
    k = round(2 * overhang) + 1
    assert left.get_extent()[0] == pytest.approx(-band)
    assert top.get_extent()[3] == pytest.approx(n_images + band)
    for n, colour in enumerate(colours):
        # rows of pictures go away from the matrix, which begins after half a picture
        away = k / 2 + k * (n % k) + k / 2
        for off in (-0.4 * k, 0, 0.4 * k):
            for drawn in (
                at(left, -away, n_images - n - 0.5 + off),
                at(top, n + 0.5 + off, n_images + away),
            ):
                np.testing.assert_array_equal(drawn, [*colour, 255])


def test_pictures_of_a_strip_keep_their_aspect():
    panel = new_panel()
    draw_strips(panel, [flat("red", (40, 10)), flat("red", (10, 40))])
    left, top = (np.asarray(image.get_array())[..., 3] > 0 for image in
                 panel.get_images())  # fmt: skip
    for first, second in (np.vsplit(left, 2), np.hsplit(top, 2)):
        for inside, ratio in ((first, 4), (second, 0.25)):
            shape = inside.any(axis=0).sum() / inside.any(axis=1).sum()
            assert shape == pytest.approx(ratio, rel=0.1)


def test_names_beside_a_matrix_stand_at_their_rows_and_do_not_touch():
    names = [f"thing-{n:03d}-with-a-long-name" for n in range(80)]
    panel = new_panel(3.4)
    band = draw_names(panel, names)
    panel.set(xlim=(-band, 80), ylim=(0, 80 + band), aspect="equal")
    rows = [text for text in panel.texts if not text.get_rotation()]
    columns = [text for text in panel.texts if text.get_rotation()]
    assert len(rows) == len(columns) > 10
    for text, other in zip(rows, columns, strict=True):
        n = int(text.get_text()[6:7].replace("-", "") or 0)
        assert text.get_text() == other.get_text()
        assert text.get_text().endswith("…ng-name")
        assert n in range(10)
        assert text.get_position()[1] == pytest.approx(80 - other.get_position()[0])
    boxes = [text.get_window_extent() for text in rows]
    for above, below in itertools.pairwise(boxes):
        assert above.y0 > below.y1
    assert min(box.x0 for box in boxes) >= 0


def test_pictures_are_centred_at_their_places_in_their_aspect():
    spots = np.array([[0.0, 0.0], [10.0, 4.0], [3.0, 20.0]])
    panel = new_panel()
    shapes = [(20, 10), (10, 20), (10, 10)]
    side = draw_spots(panel, spots, [flat("red", s) for s in shapes], [], 0.1)
    assert side == pytest.approx(2.0)
    for image, spot, shape in zip(panel.get_images(), spots, shapes, strict=True):
        left, right, down, up = image.get_extent()
        np.testing.assert_allclose([(left + right) / 2, (down + up) / 2], spot)
        assert max(right - left, up - down) == pytest.approx(side)
        assert (right - left) / (up - down) == pytest.approx(shape[0] / shape[1])
        assert image.get_alpha() is None
    assert panel.get_aspect() == 1.0


def test_only_pictures_that_overlap_are_transparent():
    spots = np.array([[0.0, 0.0], [0.5, 0.5], [10.0, 0.0]])
    panel = new_panel()
    draw_spots(panel, spots, [flat("red")] * 3, [], 0.1)
    alphas = [image.get_alpha() for image in panel.get_images()]
    assert alphas == [0.9, 0.9, None]


def test_white_around_a_thing_is_left_out_but_not_within_it():
    ring = Image.new("RGB", (30, 30), "white")
    ring.paste("red", (0, 5, 25, 25))  # it reaches the edge
    ring.paste("white", (10, 10, 15, 15))
    spots = np.array([[0.0, 0.0], [9.0, 9.0]])
    panel = new_panel()
    draw_spots(panel, spots, [ring, flat((127, 127, 127))], [])
    thing, grey = (np.asarray(image.get_array()) for image in panel.get_images())
    expected = np.zeros((30, 30), dtype=bool)
    expected[5:25, 0:25] = True
    np.testing.assert_array_equal(thing[..., 3] > 0, expected)
    assert (grey[..., 3] == 255).all()


def test_names_of_dots_cover_nothing():
    rng = np.random.default_rng(0)
    spots = rng.normal(size=(60, 2))
    names = [f"thing-{n:02d}" for n in range(60)]
    panel = new_panel()
    draw_spots(panel, spots, None, names)
    (dots,) = panel.get_lines()
    np.testing.assert_array_equal(dots.get_xydata(), spots)
    assert len(panel.texts) > 8
    panel.apply_aspect()
    pixels = panel.transData.transform(spots)
    boxes = [text.get_window_extent() for text in panel.texts]
    for text, box in zip(panel.texts, boxes, strict=True):
        place = pixels[int(text.get_text()[-2:])]
        assert min(abs(place[0] - box.x0), abs(place[0] - box.x1)) < 15
        assert box.y0 < place[1] < box.y1
        assert not box.count_contains(pixels)
        assert box.count_overlaps(boxes) == 1  # itself


@pytest.mark.parametrize(
    ("extent", "length"), [(1.0, 0.2), (0.03, 0.005), (42.0, 10.0), (90.0, 20.0)]
)
def test_the_scale_is_a_round_length_below_the_map(extent, length):
    spots = np.array([[0.0, 0.0], [extent, extent]])
    panel = new_panel()
    side = draw_spots(panel, spots, None, ["a", "b"])
    draw_scale(panel, spots, side, "1 − r")
    (x, y) = panel.get_lines()[-1].get_data()
    assert np.ptp(x) == pytest.approx(length)
    assert panel.get_ylim()[0] < y[0] == y[1] < 0
    assert panel.texts[-1].get_text() == f"{length:g} (1 − r)"
