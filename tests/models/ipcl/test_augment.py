"""Views: torchvision and Pillow are the oracles."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from versa.models.ipcl.augment import _crops, views
from versa.models.ipcl.augmentation import SET_1, SET_2, Augmentation
from versa.models.ipcl.color_jitter import color_jitter_each, color_jitter_fused
from versa.models.ipcl.random_numbers import _unit, draws, hashed

# torch 2.6 rounds some bytes of an antialiased crop to the next level
ONE_ROUNDING = 1.01 if torch.__version__.startswith("2.6.") else 1e-4  # levels
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1), "grayscale": 0.0, "jitter": 0.0}
CHANGES = (
    tv.adjust_brightness,
    tv.adjust_contrast,
    tv.adjust_saturation,
    tv.adjust_hue,
)


def some_draws(augmentation=SET_1, n=3, sizes=None, seed=0, epoch=0, n_views=5):
    return draws(
        augmentation,
        seed=seed,
        epoch=epoch,
        images=np.arange(n) + 11,
        n_views=n_views,
        sizes=[[256, 341]] * n if sizes is None else sizes,
    )


def some_canvases(n=3, height=256, width=341, seed=0):
    """Smooth noise, so that resampling matters but does not decide everything."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(n, 3, 32, 32, generator=generator) * 255
    large = torch.nn.functional.interpolate(small, (height, width), mode="bicubic")
    return large.clamp(0, 255).to(torch.uint8)


# Random numbers


def test_hash_is_splitmix64():
    # the first outputs of the reference implementation for the seed 1234567
    gold = 0x9E3779B97F4A7C15
    first, second = (hashed((1234567 + k * gold) % 2**64)[0] for k in (0, 1))
    assert (first, second) == (6457827717110365317, 3203168211198807973)


def test_hash_depends_on_every_part_and_their_order():
    assert len({int(hashed(*p)[0]) for p in [(0, 1), (1, 0), (1,), (0, 0, 1)]}) == 4
    assert hashed(2**64 + 5) == hashed(5)
    assert hashed(-1) == hashed(2**64 - 1)
    rows = hashed(0, np.arange(3)[:, None], np.arange(2))
    assert rows.shape == (3, 2)
    assert rows[2, 1] == hashed(0, 2, 1)[0]


def test_uniform_numbers_are_uniform_and_uncorrelated():
    u = _unit(hashed(7, np.arange(500)[:, None], np.arange(40)))
    assert ((u >= 0) & (u < 1)).all()
    assert ks_2samp(u.ravel(), np.linspace(0, 1, 20000)).pvalue > 0.01
    r = np.corrcoef(u.T)[np.triu_indices(40, 1)]
    assert abs(r).max() < 0.2


def test_draws_do_not_depend_on_the_batch():
    sizes = [[256, 341], [300, 256], [256, 256]]
    all_ = some_draws(sizes=sizes)
    one = draws(SET_1, seed=0, epoch=0, images=[12], n_views=3, sizes=sizes[1:2])
    for field in dataclasses.fields(all_):
        a, b = getattr(all_.part(1, 2), field.name), getattr(one, field.name)
        assert torch.equal(a if field.name == "sizes" else a[:3], b), field.name


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_draws_depend_on_seed_and_epoch(change):
    a, b = some_draws(n=50), some_draws(n=50, **change)
    assert (a.factors != b.factors).float().mean() > 0.99


def test_crops_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(224, SET_1.scale, SET_1.ratio)
    image = torch.empty(3, 256, 341)
    theirs = [crop.make_params([image]) for _ in range(3000)]
    ours = some_draws(n=3000, n_views=1).boxes[0].numpy()
    for k, name in enumerate(("top", "left", "height", "width")):
        values = [params[name] for params in theirs]
        assert ks_2samp(ours[:, k], values).pvalue > 0.001, name


@pytest.mark.parametrize("size", [[1, 1], [1, 50], [256, 2000], [2000, 256], [2, 3]])
def test_crops_lie_in_the_image(size):
    top, left, height, width = some_draws(n=200, sizes=[size] * 200).boxes.unbind(-1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()


def test_where_no_crop_fits_the_middle_is_taken():
    # a tenth of the width is the most that a crop of ratio 4/3 can have
    boxes = some_draws(Augmentation(scale=(0.9, 1)), n=5, sizes=[[75, 1000]] * 5).boxes
    assert (boxes == torch.tensor([0, 450, 75, 100])).all()


def test_orders_flips_and_grey_have_their_probabilities():
    drawn = some_draws(n=4000, n_views=1)
    codes = (drawn.order[0] * torch.tensor([64, 16, 4, 1])).sum(-1)
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 24
    assert chisquare(counts).pvalue > 0.001
    assert abs(drawn.flip.float().mean() - 0.5) < 0.03
    assert abs(drawn.grey.float().mean() - 0.2) < 0.03
    assert drawn.jitter.all()
    assert (drawn.angle == 0).all()


def test_factors_fill_their_ranges():
    f = some_draws(n=4000, n_views=1).factors[0]
    low, high = f.min(0).values, f.max(0).values
    assert torch.allclose(low, torch.tensor([0.6, 0.6, 0.6, -0.4]), atol=0.002)
    assert torch.allclose(high, torch.tensor([1.4, 1.4, 1.4, 0.4]), atol=0.002)
    assert Augmentation(brightness=1.5).factor_ranges()[0] == (0, 2.5)


# Colours


def colour_inputs():
    x = torch.rand(8, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    x[0] = (x[0] * 3).floor() / 3  # many ties between channels
    x[1], x[2] = 0, 1
    x[3] = x[3, :1]  # grey
    x[4] *= 1e-4
    return x


@pytest.mark.parametrize("colours", [color_jitter_each, color_jitter_fused])
@pytest.mark.parametrize("seed", range(6))
def test_colours_equal_torchvision(colours, seed):
    x = colour_inputs()
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(4), (8, 1)), axis=1))
    factors = torch.from_numpy(rng.uniform(0.3, 1.7, (8, 4)).astype(np.float32))
    factors[:, 3] = torch.from_numpy(rng.uniform(-0.5, 0.5, 8))
    grey, jitter = (torch.from_numpy(rng.random(8) < p) for p in (0.3, 0.8))
    before = x.clone()
    y = colours(x, grey, jitter, order, factors, SET_1.mean, SET_1.std, torch.float32)
    expected = []
    for k, view in enumerate(x):
        if grey[k]:
            view = tv.rgb_to_grayscale(view, 3)
        for step in order[k].tolist() if jitter[k] else ():
            view = CHANGES[step](view, factors[k, step].item())
        expected.append(tv.normalize(view, list(SET_1.mean), list(SET_1.std)))
    assert torch.equal(x, before)
    assert (y - torch.stack(expected)).abs().max() < 2e-5  # of about 4.5


def test_fused_colours_compile_into_one_graph():
    drawn = some_draws(n=2, n_views=1)
    arguments = (
        torch.rand(2, 3, 8, 8),
        drawn.grey[0],
        drawn.jitter[0],
        drawn.order[0],
        drawn.factors[0],
        SET_1.mean,
        SET_1.std,
        torch.bfloat16,
    )
    compiled = torch.compile(color_jitter_fused, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*arguments), color_jitter_fused(*arguments))


# Crops


def box_of(drawn, view, image):
    return drawn.boxes[view, image].tolist()


def test_antialiased_crops_equal_torchvision_and_pillow():
    canvases, augmentation = some_canvases(), Augmentation(**PLAIN)
    drawn = some_draws(augmentation)
    made = views(canvases, drawn, augmentation).view(5, 3, 3, 224, 224) * 255
    for v, i in np.ndindex(5, 3):
        top, left, height, width = box_of(drawn, v, i)
        size = [224, 224]
        ours = made[v, i].flip(-1) if drawn.flip[v, i] else made[v, i]
        theirs = tv.resized_crop(canvases[i], top, left, height, width, size)
        assert (ours - theirs).abs().max() < ONE_ROUNDING
        image = Image.fromarray(canvases[i].permute(1, 2, 0).numpy())
        image = image.crop((left, top, left + width, top + height)).resize(size, 2)
        pillow = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert (ours - pillow).abs().max() < 1.01  # levels
        assert (ours - pillow).abs().mean() < 0.15


@pytest.mark.parametrize("interpolation", ["antialias", "bilinear"])
@pytest.mark.parametrize("size", [(256, 341), (60, 500), (20, 17), (1, 1)])
def test_crops_in_blocks_equal_those_one_by_one(interpolation, size):
    augmentation = Augmentation(**PLAIN, interpolation=interpolation, size=64)
    canvases = some_canvases(2, *size)
    drawn = some_draws(augmentation, n=2, sizes=[size] * 2)
    one = views(canvases, drawn, augmentation) * 255
    for dtype in (torch.float32, torch.float16):
        made = _crops(canvases, drawn, augmentation, dtype=dtype).flatten(0, 1)
        if interpolation == "bilinear":
            assert (one - made * 255).abs().max() < 0.01  # levels
        else:
            assert made.dtype == torch.uint8
            assert (one - made).abs().max() < 1.01
            assert (one - made).abs().mean() < 0.2


def test_bilinear_crops_equal_torchs_interpolation():
    canvases = some_canvases()
    augmentation = Augmentation(**PLAIN, interpolation="bilinear", flip=1.0)
    drawn = some_draws(augmentation)
    made = views(canvases, drawn, augmentation).view(5, 3, 3, 224, 224)
    for v, i in np.ndindex(5, 3):
        top, left, height, width = box_of(drawn, v, i)
        box = canvases[i : i + 1, :, top : top + height, left : left + width]
        expected = torch.nn.functional.interpolate(
            box / 255, (224, 224), mode="bilinear"
        )
        assert (made[v, i].flip(-1) - expected[0]).abs().max() < 1e-4


@pytest.mark.parametrize(("angle", "turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_rotation_by_right_angles_is_counter_clockwise(angle, turns):
    canvases = some_canvases(1, 64, 64)
    whole = Augmentation(
        **PLAIN, size=64, scale=(1, 1), ratio=(1, 1), flip=0, rotation=180
    )
    drawn = some_draws(whole, n=1, sizes=[[64, 64]], n_views=1)
    drawn = dataclasses.replace(drawn, angle=torch.full((1, 1), float(angle)))
    expected = torch.rot90(canvases, turns, (-2, -1)) / 255
    assert (views(canvases, drawn, whole) - expected).abs().max() < 1e-4


def test_rotation_stays_in_its_range_and_in_the_image():
    augmentation = Augmentation(**PLAIN, rotation=30, size=32)
    canvases = torch.full((2, 3, 80, 90), 200, dtype=torch.uint8)
    canvases[:, :, 64:] = 0
    canvases[:, :, :, 70:] = 0
    drawn = some_draws(augmentation, n=2, sizes=[[64, 70]] * 2)
    assert 20 < drawn.angle.abs().max() <= 30
    made = views(canvases, drawn, augmentation)
    assert (made * 255 - 200).abs().max() < 0.01  # nothing of the padding


def test_views_in_blocks_equal_those_of_each_image():
    canvases, drawn = some_canvases(), some_draws()
    each = views(canvases, drawn, SET_1)
    blocks = views(canvases, drawn, SET_1, color_jitter=color_jitter_fused, block=2)
    levels = (each - blocks).abs() * 0.225 * 255
    assert levels.max() < 8  # the jitter magnifies a level
    assert levels.mean() < 0.4


@pytest.mark.parametrize(
    "augmentation", [SET_1, Augmentation(interpolation="bilinear", size=48)]
)
def test_a_view_is_the_same_in_every_batch(augmentation):
    sizes = torch.tensor([[256, 341], [200, 300], [230, 256]])
    canvases = some_canvases()
    drawn = some_draws(augmentation, sizes=sizes)
    together = views(canvases, drawn, augmentation)
    size = augmentation.size
    rows, columns = sizes[1].tolist()
    alone = views(canvases[1:2, :, :rows, :columns], drawn.part(1, 2), augmentation)
    assert torch.equal(together.view(5, 3, 3, size, size)[:, 1], alone)
    memory = canvases.contiguous(memory_format=torch.channels_last)
    assert torch.equal(views(memory, drawn, augmentation), together)


def test_views_are_view_major():
    canvases = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    canvases += torch.arange(3, dtype=torch.uint8)[:, None, None, None] * 10
    augmentation = Augmentation(**PLAIN, size=8)
    drawn = some_draws(augmentation, sizes=[[32, 32]] * 3, n_views=2)
    means = views(canvases, drawn, augmentation).mean(dim=(1, 2, 3)) * 255
    assert means.round().tolist() == [0, 10, 20, 0, 10, 20]


def test_views_of_a_whole_recipe_in_another_type():
    x = views(some_canvases(), some_draws(SET_2), SET_2, dtype=torch.bfloat16)
    assert x.dtype == torch.bfloat16
    assert x.shape == (15, 3, 224, 224)
    assert x.isfinite().all()
    assert x.abs().max() <= 2.5
    empty = some_draws(n=0, sizes=np.empty((0, 2)))
    nothing = torch.empty(0, 3, 4, 4, dtype=torch.uint8)
    assert views(nothing, empty, SET_1).shape == (0, 3, 224, 224)


# Refusals


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": 0}, "size must be at least 1; got 0"),
        ({"scale": (0.5, 0.2)}, r"scale must be rising in \(0, 1\]"),
        ({"scale": (0.5, 1.2)}, "scale must be"),
        ({"ratio": (0, 1)}, "ratio must be two rising"),
        ({"hue": 0.6}, r"hue must be in \[0, 0.5\]; got 0.6"),
        ({"flip": 1.1}, "flip must be a probability"),
        ({"contrast": -1}, "contrast must be at least 0"),
        ({"std": (1, 1, 0)}, "std must be three above 0"),
        ({"rotation": 200}, "rotation must be in"),
        (
            {"interpolation": "bicubic"},
            "interpolation must be among antialias, bilinear",
        ),
    ],
)
def test_augmentations_are_checked(change, text):
    with pytest.raises(ValueError, match=text):
        Augmentation(**change)


def test_draws_and_views_are_checked():
    with pytest.raises(ValueError, match="one entry per image"):
        draws(SET_1, seed=0, epoch=0, images=[1], n_views=5, sizes=[[2, 2]] * 2)
    with pytest.raises(ValueError, match="at least 1; got n_views=0"):
        some_draws(n_views=0)
    with pytest.raises(ValueError, match="canvases must be uint8 of shape"):
        views(some_canvases().float(), some_draws(), SET_1)
    with pytest.raises(ValueError, match=r"shape \(3, 3, height, width\)"):
        views(some_canvases(2), some_draws(), SET_1)
