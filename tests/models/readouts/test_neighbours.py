"""The nearest-neighbour read-out against slow loops, scikit-learn and torchvision."""

import threading
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models.feature_extraction import create_feature_extractor

from tests.models.readouts.conftest import VALIDATION
from versa.models.preprocess import IMAGENET
from versa.models.readouts.images import class_ranks, labelled_images, stream_features
from versa.models.readouts.maps import embedding_map
from versa.models.readouts.neighbours import _class_scores, knn_accuracy, readout_knn
from versa.models.vision import VisionModel

COLOURS = ("blue", "green", "lime", "pink", "red", "teal")


def write_folder(root, n_images, seed):
    rng = np.random.default_rng(seed)
    for colour in COLOURS:
        folder = root / colour
        folder.mkdir(parents=True)
        for k in range(n_images):
            size = rng.integers(18, 40, 2)
            noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            flat = Image.new("RGB", tuple(size[::-1].tolist()), colour)
            image = Image.blend(flat, Image.fromarray(noise), 0.5)
            image.save(folder / f"{k}.{'jpg' if k % 2 else 'png'}")
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return write_folder(root / "train", 7, 1), write_folder(root / "val", 3, 2)


def vote(gallery, gallery_labels, query, k, temperature, n_classes):
    """Scores of the classes for one query, by loops over Python numbers."""

    def unit(x):
        x = np.array(x, dtype=float)
        flat = x.reshape(len(x), -1)  # (channels, positions)
        for place in range(flat.shape[1]):
            flat[:, place] /= np.sqrt(sum(value**2 for value in flat[:, place]))
        return flat.ravel()

    q, pairs = unit(query), zip(gallery, gallery_labels, strict=True)
    similar = [(float(q @ unit(g)), int(c)) for g, c in pairs]
    nearest = sorted(similar, reverse=True)[:k]
    scores = np.zeros(n_classes)
    for s, c in nearest:
        scores[c] += np.exp(np.longdouble((s - nearest[0][0]) / temperature))
    return scores


@pytest.mark.parametrize("shape", [(5,), (4, 2, 3)])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (9, 0.07), (40, 1.0)])
def test_vote_is_that_of_slow_loops(shape, k, temperature):
    rng = np.random.default_rng(k)
    gallery, labels = rng.normal(size=(40, *shape)), rng.integers(0, 7, 40)
    queries, truth = rng.normal(size=(25, *shape)), rng.integers(0, 7, 25)
    hits = np.zeros(2)
    for query, label in zip(queries, truth, strict=True):
        scores = vote(gallery, labels, query, k, temperature, 7)
        order = np.lexsort((np.arange(7), -scores))
        hits[0] += order[0] == label
        hits[1] += label in order[:5] and scores[label] > 0
    found = knn_accuracy(
        gallery, labels, queries, truth, k=k, temperature=temperature, n_classes=7
    )
    assert found == {"top1": 100 * hits[0] / 25, "top5": 100 * hits[1] / 25}


def test_vote_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 16))
    labels, truth = rng.integers(0, 10, 600), rng.integers(0, 10, 200)
    gallery = centres[labels] + 2 * rng.normal(size=(600, 16))
    queries = centres[truth] + 2 * rng.normal(size=(200, 16))
    theirs = KNeighborsClassifier(
        50, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute"
    )
    scores = theirs.fit(gallery, labels).predict_proba(queries)
    best = np.argsort(-scores, axis=1)
    found = knn_accuracy(gallery, labels, queries, truth, k=50)
    assert found["top1"] == 100 * np.mean(best[:, 0] == truth)
    assert found["top5"] == 100 * np.mean((best[:, :5] == truth[:, None]).any(axis=1))
    assert 20 < found["top1"] < 95


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_streaming_changes_nothing(chunk):
    rng = np.random.default_rng(3)
    gallery, labels = (
        torch.tensor(rng.normal(size=(150, 3, 4))),
        rng.integers(0, 6, 150),
    )
    queries, truth = torch.tensor(rng.normal(size=(40, 3, 4))), rng.integers(0, 6, 40)
    whole = knn_accuracy(gallery, labels, queries, truth, k=20)
    parts = zip(gallery.split(11), torch.tensor(labels).split(11), strict=True)
    assert knn_accuracy(parts, None, queries, truth, k=20, chunk=chunk) == whole


def test_gallery_is_dropped_as_it_passes():
    alive, most = weakref.WeakSet(), 0
    rng = torch.Generator().manual_seed(0)

    def chunks():
        nonlocal most
        for _ in range(40):
            x = torch.randn(8, 4, generator=rng)
            alive.add(x)
            most = max(most, len(alive))
            yield x, torch.arange(8) % 5
            del x

    queries = torch.randn(5, 4, generator=rng)
    knn_accuracy(chunks(), None, queries, torch.zeros(5).long(), k=3, chunk=16)
    assert most <= 3


def test_similarities_of_many_positions_do_not_overflow():
    # 30 x 30 positions: exp(900 / 0.07) is infinite, also in float64
    rng = torch.Generator().manual_seed(0)
    queries = torch.randn(12, 4, 30, 30, generator=rng)
    gallery = torch.cat([queries + 0.1, torch.randn(30, 4, 30, 30, generator=rng)])
    labels = torch.cat([torch.arange(12) % 6, torch.arange(30) % 6])
    found = knn_accuracy(gallery, labels, queries, torch.arange(12) % 6, k=30)
    assert found == {"top1": 100.0, "top5": 100.0}
    # far classes keep their order: every neighbour but the first has no weight at all
    near = torch.tensor([[900.0, 500.0, 400.0]])
    scores = _class_scores(near, torch.tensor([[2, 0, 1]]), 4, 0.07)
    ranks = [int(class_ranks(scores, torch.tensor([c]))) for c in range(4)]
    assert ranks[:3] == [1, 2, 0]
    assert ranks[3] >= 5


def test_top5_needs_five_classes():
    x = torch.eye(4)
    labels = torch.arange(4)
    found = knn_accuracy(x, labels, x, labels, k=2)
    assert found["top1"] == 100
    assert np.isnan(found["top5"])
    found = knn_accuracy(x, labels, x, labels, k=2, n_classes=5)
    assert found == {"top1": 100.0, "top5": 100.0}


def test_class_without_a_vote_is_no_hit():
    x = torch.eye(6)
    found = knn_accuracy(x[:1], [3], x, [0, 1, 2, 3, 4, 5], k=1)
    assert found == {"top1": 100 / 6, "top5": 100 / 6}


def test_low_precision_is_compared_in_float32():
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).half()
    labels = torch.arange(30) % 6
    ours = knn_accuracy(x[10:], labels[10:], x[:10], labels[:10], k=5)
    full = x.float()
    assert ours == knn_accuracy(full[10:], labels[10:], full[:10], labels[:10], k=5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"k": 9}, "k must be at most the number of gallery images, 8; got 9"),
        ({"k": 0}, "k must be 1 or more; got 0"),
        ({"temperature": 0.0}, "temperature must be above 0; got 0.0"),
        ({"chunk": 0}, "chunk must be 1 or more; got 0"),
        ({"n_classes": 4}, "from 0 to n_classes - 1 = 3; got 0 to 4"),
        ({"query_labels": [0]}, "one per query, .* shape \\(1,\\) for 2 queries"),
        ({"query_labels": [0.5, 1]}, "indices of classes; got torch.float"),
        ({"queries": np.ones((2, 5))}, "units of the queries, 5; got features \\(8, 3"),
        ({"queries": np.ones(2)}, "one row per image; got shape \\(2,\\)"),
        ({"queries": np.array([[0, 1, 2], [0, np.nan, 0]])}, "finite; rows 1 are not"),
    ],
)
def test_refusals_of_the_vote(change, text):
    options = {
        "gallery": np.ones((8, 3)),
        "gallery_labels": np.arange(8) % 5,
        "queries": np.ones((2, 3)),
        "query_labels": [0, 1],
        "k": 2,
    }
    with pytest.raises(ValueError, match=text):
        knn_accuracy(**(options | change))


def test_folder_is_that_of_torchvision(folders):
    ours, theirs = labelled_images(folders[0]), ImageFolder(str(folders[0]))
    assert list(ours.classes) == theirs.classes
    assert list(zip(ours.images, ours.labels, strict=True)) == theirs.samples
    assert len(ours) == 42


def torchvision_features(module, layer, folder):
    """Features and labels by torchvision alone."""
    prepare = transforms.Compose(
        [
            transforms.Resize(20),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(*IMAGENET),
        ]
    )
    images = ImageFolder(str(folder), prepare)
    extractor = create_feature_extractor(module.eval(), {layer: "x"})
    with torch.no_grad():
        x = torch.stack([image for image, _ in images])
        return extractor(x)["x"], torch.tensor(images.targets)


def test_readout_is_that_of_torchvisions_parts(model, folders):
    model.module.train()
    found = readout_knn(model, *folders, ["2", "4"], k=9, batch_size=5, workers=2)
    assert all(part.training for part in model.module.modules())
    assert not any(part._forward_hooks for part in model.module.modules())
    for layer in ("2", "4"):
        train, val = (torchvision_features(model.module, layer, f) for f in folders)
        assert found[layer] == knn_accuracy(*train, *val, k=9)
    assert found["4"] != found["2"]
    assert found["2"]["top1"] > 50


def test_stream_gives_outputs_before_they_are_changed(model, folders):
    chunks = list(stream_features(model, folders[1], "1", batch_size=4))
    assert [len(x) for x, _ in chunks] == [4, 4, 4, 4, 2]
    x = torch.cat([x for x, _ in chunks])
    theirs, labels = torchvision_features(model.module, "2", folders[1])
    assert x.min() < 0
    torch.testing.assert_close(functional.relu(x), theirs)
    assert torch.equal(torch.cat([y for _, y in chunks]), labels)


def test_arrays_are_images_too(model):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    names = np.array(["b", "a", "c"] * 4)
    x, labels = next(stream_features(model, (pixels, names), "4", batch_size=12))
    assert labels.tolist() == [1, 0, 2] * 4
    torch.testing.assert_close(
        x,
        model.module.eval()(
            torch.stack([VALIDATION(Image.fromarray(p)) for p in pixels])
        ),
    )
    found = readout_knn(model, (pixels, names), (pixels, names), ["4"], k=1)
    assert found["4"]["top1"] == 100


def test_classes_are_matched_by_name(model, folders, tmp_path):
    val = tmp_path / "val"
    (val / "red").mkdir(parents=True)
    image = Image.open(folders[0] / "red" / "0.png")
    image.save(val / "red" / "a.png")
    assert readout_knn(model, folders[0], val, ["4"], k=1)["4"]["top1"] == 100
    (val / "white").mkdir()
    image.save(val / "white" / "a.png")
    with pytest.raises(ValueError, match="among those of train, not white"):
        readout_knn(model, folders[0], val, ["4"], k=1)


def test_other_modes_are_read_and_damaged_files_named(model, tmp_path):
    folder = tmp_path / "cat"
    folder.mkdir()
    rgb = Image.new("RGB", (30, 25), "teal")
    for mode in ("CMYK", "L"):
        rgb.convert(mode).save(folder / f"{mode}.jpg")
    rgb.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.full((30, 30), 40000, dtype=np.uint16)).save(folder / "deep.png")
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    assert sum(len(x) for x, _ in stream_features(model, tmp_path, "4")) == 5
    content = (folder / "L.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    for workers in (1, 4):
        with pytest.raises(ValueError, match=r"damaged or unknown: cut\.jpg \(.*cat"):
            list(stream_features(model, tmp_path, "4", workers=workers))


def test_threads_end_with_the_stream(model, folders):
    before = threading.active_count()
    stream = stream_features(model, folders[0], "4", batch_size=3, workers=3)
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


def test_foreign_transforms_run_one_at_a_time(model, folders):
    busy, most = 0, 0

    def transform(image):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        x = VALIDATION(image)
        busy -= 1
        return x

    found = readout_knn(model, *folders, ["4"], k=5, transform=transform, workers=4)
    assert most == 1
    assert found == readout_knn(model, *folders, ["4"], k=5)


def test_refusals_of_the_readout(model, folders, tmp_path):
    bare = VisionModel("bare", model.module, VALIDATION, ("4",))
    with pytest.raises(ValueError, match="transform must be given for bare"):
        readout_knn(bare, *folders, ["4"], k=5)
    with pytest.raises(ValueError, match="at most the number of gallery images, 42"):
        readout_knn(model, *folders, ["4"])
    with pytest.raises(ValueError, match=r"Write \['4'\]"):
        readout_knn(model, *folders, "4", k=5)
    with pytest.raises(ValueError, match="one shape; got"):
        list(stream_features(model, folders[1], "4", transform=transforms.ToTensor()))
    with pytest.raises(ValueError, match="above 0; got 0"):
        next(stream_features(model, folders[1], "4", batch_size=0))
    with pytest.raises(FileNotFoundError):
        next(stream_features(model, tmp_path / "none", "4"))
    with pytest.raises(ValueError, match=r"folder or \(images, labels\); got a list"):
        labelled_images([1, 2])
    with pytest.raises(ValueError, match="uint8 of shape"):
        labelled_images((np.zeros((2, 4, 4)), [0, 1]))
    with pytest.raises(ValueError, match=r"at least one; got .* for 0 images"):
        labelled_images(([], []))
    with torch.no_grad():
        model.module[4].weight[0, 0] = torch.nan
    with pytest.raises(
        ValueError, match=r"layer '4' has NaN .* for blue/0\.png, blue/1"
    ):
        next(stream_features(model, folders[1], "4"))


def test_map_keeps_groups_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 15)
    x = 10 * rng.normal(size=(3, 4, 2))[groups] + rng.normal(size=(45, 4, 2))
    places = embedding_map(torch.tensor(x), seed=1, perplexity=5)
    assert places.shape == (45, 2)
    nearest = KNeighborsClassifier(3).fit(places, groups)
    assert nearest.score(places, groups) == 1
    assert np.array_equal(places, embedding_map(x, seed=1, perplexity=5))
    with pytest.raises(ValueError, match="below the number of images, 45; got 45"):
        embedding_map(x, perplexity=45)
    x[3, 0, 0] = np.inf
    with pytest.raises(ValueError, match="rows 3 are not"):
        embedding_map(x)
