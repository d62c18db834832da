"""What is measured and written down while a network trains."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from tests.ipcl_runs import config, image_tree
from versa.models.ipcl.augment import views
from versa.models.ipcl.augmentation import SET_1
from versa.models.ipcl.decoding import decode
from versa.models.ipcl.learner import Learner
from versa.models.ipcl.loader import BadImages, stack_canvases
from versa.models.ipcl.monitor import Monitor, middle_draws, pair_retrieval
from versa.models.ipcl.process_group import Launch, ProcessGroup
from versa.models.ipcl.sources import ImageTree, JoinedImages
from versa.models.ipcl.stopping import Stopped
from versa.models.readouts.neighbours import knn_accuracy


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return image_tree(tmp_path_factory.mktemp("data") / "images")


def learner_of(settings):
    group = ProcessGroup(Launch(), torch.device("cpu"))
    return Learner(settings, n_images=48, n_classes=3, group=group)


def monitor_of(settings, images, val=None, check_signals=lambda: None):
    bad = BadImages(len(images))
    return Monitor(settings, images, val, bad=bad, check_signals=check_signals)


@pytest.mark.parametrize("size", [(64, 64), (64, 90), (80, 64)])
def test_the_middle_is_that_of_torchvision(size):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    canvases, sizes = stack_canvases([pixels, pixels[:64, :64]])
    look = config("x", augmentation__size=56).augmentation
    found = views(canvases, middle_draws(sizes.numpy()), look)
    expected = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize(SET_1.mean, SET_1.std),
        ]
    )
    for k, one in enumerate((pixels, pixels[:64, :64])):
        torch.testing.assert_close(
            found[k], expected(Image.fromarray(one)), rtol=0, atol=1e-5
        )


def test_pairs_by_hand():
    x = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    assert pair_retrieval(x, x) == 100.0
    assert pair_retrieval(x, -x) == 0.0
    y = torch.nn.functional.normalize(x + 0.3 * torch.randn(40, 3), dim=1)
    nearest = [int(np.argmax([float(a @ b) for b in y])) for a in x]
    hits = sum(k == n for k, n in enumerate(nearest))
    assert pair_retrieval(x, y) == pytest.approx(100 * hits / 40)


def test_neighbours_are_those_of_the_middles(data):
    settings = config(data, monitor__k=7, monitor__pairs=0)
    images = ImageTree(data)
    learner = learner_of(settings)
    before = {k: v.clone() for k, v in learner.network.state_dict().items()}
    monitor = monitor_of(settings, images, images)
    assert monitor.names == ["knn_top1", "knn_top5"]
    found = monitor.measure(learner)
    for key, value in learner.network.state_dict().items():
        assert torch.equal(value, before[key])  # nothing has moved
    assert learner.network.training

    rows = []
    learner.network.eval()
    for k in range(len(images)):
        canvas, size = stack_canvases([decode(images.read(k), short_side=256)[0]])
        x = views(canvas, middle_draws(size.numpy()), settings.augmentation)
        with torch.no_grad():
            rows.append(learner.network(x))
    rows = torch.cat(rows)
    labels = images.labels
    expected = knn_accuracy(rows, labels, rows, labels, k=7)
    assert found["knn_top1"] == expected["top1"]
    assert np.isnan(found["knn_top5"])  # three classes


def test_supervised_accuracy(data):
    settings = config(data, method="supervised")
    images = ImageTree(data)
    learner = learner_of(settings)
    monitor = monitor_of(settings, images, images)
    assert monitor.names == ["val_top1", "val_top5"]
    learner.network.eval()
    hits = 0
    for k in range(len(images)):
        canvas, size = stack_canvases([decode(images.read(k), short_side=256)[0]])
        x = views(canvas, middle_draws(size.numpy()), settings.augmentation)
        with torch.no_grad():
            hits += int(learner.network(x).argmax() == images.labels[k])
    assert monitor.measure(learner)["val_top1"] == pytest.approx(100 * hits / 48)


def test_classes_of_several_folders_are_found_by_their_last_name(data, tmp_path):
    images = ImageTree(data)
    other = ImageTree(image_tree(tmp_path / "other", seed=1))
    joined = JoinedImages([images, other], ["a", "b"])
    settings = config(data, monitor__k=3)
    with pytest.raises(ValueError, match="class0, class1, class2 are not, or not by"):
        monitor_of(settings, joined, images)
    (tmp_path / "other" / "class0").rename(tmp_path / "other" / "class7")
    other = ImageTree(tmp_path / "other")
    joined = JoinedImages([images, other], ["a", "b"])
    (tmp_path / "val" / "class7").mkdir(parents=True)
    image = next((tmp_path / "other" / "class7").iterdir())
    (tmp_path / "val" / "class7" / "x.png").write_bytes(image.read_bytes())
    val = ImageTree(tmp_path / "val")
    monitor = monitor_of(settings, joined, val)
    assert joined.classes[monitor._classes[0]] == "b/class7"


def test_a_measure_can_be_stopped(data):
    settings = config(data)
    learner = learner_of(settings)

    def stop():
        raise Stopped

    monitor = monitor_of(settings, ImageTree(data), check_signals=stop)
    with pytest.raises(Stopped):
        monitor.measure(learner)
    assert learner.network.training
