"""Tests of versa.simulated.render."""

import numpy as np
import pytest
from PIL import Image

from versa.simulated import render
from versa.simulated.objects import INANIMATE, ORIENTED, recipes
from versa.simulated.render import inanimate_stimuli, orientation_stimuli, write_pngs

SIZE = 64


@pytest.fixture(scope="module")
def oriented():
    return orientation_stimuli(SIZE)


@pytest.fixture(scope="module")
def inanimate():
    return inanimate_stimuli(SIZE)


@pytest.fixture(params=["oriented", "inanimate"])
def images(request):
    return request.getfixturevalue(request.param)


def test_names_of_orientation_stimuli(oriented):
    names = list(oriented)
    assert len(names) == 40
    assert names == sorted(names)
    degrees = ["rot-000", "rot-045", "rot-090", "rot-135", "rot-180"]
    assert [name.split("_")[2] for name in names] == degrees * 8
    assert len({name.split("_")[1] for name in names}) == 8


def test_names_of_inanimate_stimuli(inanimate):
    names = list(inanimate)
    assert [name.split("_")[0] for name in names] == [
        f"item-{i:02d}" for i in range(1, 73)
    ]
    assert len({name.split("_")[1] for name in names}) == 72


def test_images_are_rgb_bytes(images):
    for image in images.values():
        assert image.shape == (SIZE, SIZE, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous


def test_objects_stand_on_white_and_inside_the_picture(images):
    for name, image in images.items():
        assert (image[[0, -1]] == 255).all(), name
        assert (image[:, [0, -1]] == 255).all(), name
        covered = (image < 250).any(axis=2).mean()
        assert 0.05 < covered < 0.5, name


def test_rendering_is_deterministic(oriented):
    np.random.seed(1)  # noqa: NPY002
    again = orientation_stimuli(SIZE)
    assert list(again) == list(oriented)
    for name, image in again.items():
        np.testing.assert_array_equal(image, oriented[name])


def test_images_differ_pairwise(images):
    pixels = np.stack([image.ravel() for image in images.values()]).astype(float)
    distance = 1 - np.corrcoef(pixels)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.15


def test_objects_have_color(inanimate):
    colorful = [np.ptp(image.astype(int), axis=2).max() for image in inanimate.values()]
    assert np.mean(np.array(colorful) > 40) > 0.8


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2)])
def test_rotated_stimulus_is_the_turned_picture(oriented, degrees, quarters):
    upright = [image for name, image in oriented.items() if name.endswith("rot-000")]
    turned = [image for name, image in oriented.items() if name.endswith(f"{degrees}")]
    assert len(upright) == len(turned) == 8
    for before, after in zip(upright, turned, strict=True):
        difference = np.abs(np.rot90(before, quarters).astype(int) - after)
        assert difference.mean() < 0.05  # ties between pixels on an edge may differ
        assert np.mean(difference > 2) < 0.002


def test_rotation_by_45_degrees_keeps_the_object(oriented):
    images = list(oriented.values())
    for k in range(0, 40, 5):
        ink = [(1 - (image / 255.0) ** 2).sum() for image in images[k : k + 5]]
        assert np.ptp(ink) < 0.02 * np.mean(ink)


def test_size_scales_the_picture(oriented):
    double = orientation_stimuli(2 * SIZE)
    for name, image in oriented.items():
        light = (double[name] / 255.0) ** 2  # pictures are averaged in linear light
        mean = 255 * np.sqrt(light.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3)))
        assert np.abs(mean - image).mean() < 3


@pytest.mark.parametrize("size", [15, -224, 64.0, "64", True, None])
def test_size_is_checked(size):
    with pytest.raises(ValueError, match=r"size must be an int of at least 16 pixels;"):
        orientation_stimuli(size)


def test_write_pngs_round_trip(tmp_path, oriented):
    folder = tmp_path / "made" / "here"
    paths = write_pngs(oriented, folder)
    assert [path.stem for path in paths] == list(oriented)
    assert sorted(folder.iterdir()) == sorted(paths)
    for path, image in zip(paths, oriented.values(), strict=True):
        with Image.open(path) as read:
            assert (read.format, read.mode) == ("PNG", "RGB")
            np.testing.assert_array_equal(np.asarray(read), image)


def test_write_pngs_gives_the_same_bytes(tmp_path, inanimate):
    some = dict(list(inanimate.items())[:5])
    first = [path.read_bytes() for path in write_pngs(some, tmp_path / "a")]
    again = [path.read_bytes() for path in write_pngs(some, tmp_path / "a")]
    assert first == again


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "what?", "nul\0"])
def test_write_pngs_refuses_names(tmp_path, name):
    good = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="image names must be plain file names; got"):
        write_pngs({"good": good, name: good}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))],
)
def test_write_pngs_refuses_images(tmp_path, image):
    with pytest.raises(ValueError, match=r"image 'a' must be uint8 of shape"):
        write_pngs({"a": image}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_visible_agrees_with_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    width = 24
    corners = rng.uniform(1, width - 1, size=(12, 3, 3))
    where, triangle, weights = render._visible(corners, width)
    expected = {}
    for pixel in range(width * width):
        point = np.array([pixel % width + 0.5, pixel // width + 0.5, 1.0])
        best = -np.inf
        for t, corner in enumerate(corners):
            basis = np.concatenate([corner[:, :2].T, np.ones((1, 3))])
            share = np.linalg.solve(basis, point)
            depth = share @ corner[:, 2]
            if np.linalg.det(basis) > 0 and share.min() >= 0 and depth > best:
                best = depth
                expected[pixel] = (t, share)
    assert sorted(where) == sorted(expected)
    for pixel, t, share in zip(where, triangle, weights, strict=True):
        assert t == expected[pixel][0]
        np.testing.assert_allclose(share, expected[pixel][1], atol=1e-9)


def test_normals_are_smooth_on_a_ball_and_creased_on_a_box():
    ball, box = next(recipes("pair: 1 0 0 0; ball 1 1 1; box 2 2 2 0")).parts
    corners, normals = render._triangles(ball.grid)
    assert (normals * corners).sum(axis=2).min() > 0.99
    corners, normals = render._triangles(box.grid)
    np.testing.assert_allclose(np.abs(normals).max(axis=2), 1, atol=1e-9)
    np.testing.assert_allclose((normals * corners).sum(axis=2), 1, atol=1e-9)


@pytest.mark.parametrize("table", [ORIENTED, INANIMATE], ids=["oriented", "inanimate"])
def test_surfaces_of_all_objects_face_outwards(table):
    for recipe in recipes(table):
        model = render._model(recipe)
        for k in range(len(recipe.parts)):
            a, b, c = model.corners[model.part == k].transpose(1, 0, 2)
            volume = (np.cross(a, b) * c).sum() / 6
            assert volume > 0, (recipe.name, k)


def test_shadow_falls_on_the_floor():
    floor = "scene: 1 0 60 0; box 4 4 .1 #white.m"
    bare, blocked = (
        render._draw(render._model(next(recipes(table))), SIZE, 0).astype(int)
        for table in (floor, f"{floor}; box 1 1 .2 @0,0,.6")
    )
    darker = (bare - blocked).max(axis=2) > 40
    assert 0.01 < darker.mean() < 0.2
