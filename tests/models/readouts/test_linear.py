"""The trained read-out against torch's optimiser, torchvision's crops and itself."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import transforms

from tests.models.readouts.conftest import VALIDATION
from versa.models.preprocess import IMAGENET
from versa.models.readouts.images import accuracy, class_ranks
from versa.models.readouts.linear import readout_linear, readout_rates, training_crop
from versa.models.vision import VisionModel

SHORT = {"layer": "4", "epochs": 3, "batch_size": 4, "peak_lr": 0.5, "seed": 7}


def photographs(n_images, seed):
    """Five colours under noise, and their names."""
    rng = np.random.default_rng(seed)
    colours = np.array([[0, 0, 255], [0, 128, 0], [9, 255, 9], [255, 0, 0], [255] * 3])
    names = np.array(["blue", "green", "lime", "red", "white"])
    labels = np.arange(n_images) % 5
    noise = rng.integers(0, 256, (n_images, 26, 22, 3))
    pixels = (colours[labels][:, None, None] + noise) // 2
    return pixels.astype(np.uint8), names[labels]


@pytest.fixture
def train():
    return photographs(23, 0)


@pytest.fixture
def val():
    return photographs(13, 1)


class FastaiScheduler:
    """The loop of fastai v1: one value per call, two phases."""

    def __init__(self, n_steps, ends, rise):
        counts = rise, n_steps - rise
        self.values = [ends[0]]
        for (start, end), count in zip((ends[:2], ends[1:]), counts, strict=True):
            for n in range(1, count + 1):
                cosine = math.cos(math.pi * (n / count)) + 1
                self.values.append(end + (start - end) / 2 * cosine)


@pytest.mark.parametrize("n_steps", [10, 37, 50_050])
def test_schedule_is_fastais(n_steps):
    rise = int(n_steps * 0.3)
    rates = FastaiScheduler(n_steps, (3e-5, 30, 3e-9), rise).values[:n_steps]
    momenta = FastaiScheduler(n_steps, (0.95, 0.85, 0.95), rise).values[:n_steps]
    ours = np.array([readout_rates(step, n_steps, 30.0) for step in range(n_steps)])
    np.testing.assert_allclose(ours[:, 0], rates, rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(ours[:, 1], momenta, rtol=1e-12)


class TorchDraws:
    """Numbers from torch's global generator, in the order in which they are asked."""

    def uniform(self, low, high):
        return torch.empty(1).uniform_(low, high).item()

    def integers(self, high):
        return torch.randint(0, high, (1,)).item()

    def random(self):
        return torch.rand(1).item()


@pytest.mark.parametrize("size", [(50, 40), (31, 64), (17, 16), (300, 20), (4, 90)])
def test_crops_are_torchvisions(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(16),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(*IMAGENET),
        ]
    )
    for seed in range(20):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = theirs(image)
            torch.manual_seed(seed)
            found = training_crop(image, VALIDATION, TorchDraws())
        assert found.shape == (3, 16, 16)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_ranks_count_the_classes_ahead():
    scores = torch.tensor([[0.1, 0.3, 0.2, 0.3], [0.0, 0.0, 0.0, -torch.inf]])
    ranks = torch.stack([class_ranks(scores, torch.tensor([c, c])) for c in range(4)])
    assert ranks.T.tolist() == [[3, 0, 2, 1], [0, 1, 2, 9]]
    assert accuracy(torch.tensor([0, 4, 5, 0]), 6) == {"top1": 50.0, "top5": 75.0}


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_training_is_that_of_torchs_optimizer(
    model, train, val, tmp_path, weight_decay
):
    file = tmp_path / "readout.pt"
    found = readout_linear(
        model, train, val, **SHORT, weight_decay=weight_decay, resume=file
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        classifier = nn.Linear(8, 5)
    n_steps = 3 * 6
    sgd = torch.optim.SGD(
        classifier.parameters(), 1.0, momentum=0.9, weight_decay=weight_decay
    )
    pixels, names = train
    classes, labels = np.unique(names, return_inverse=True)
    module, losses = model.module.eval(), []
    for epoch in range(3):
        order = np.random.default_rng([0, 7, epoch]).permutation(23)
        total = 0.0
        for step, start in enumerate(range(0, 23, 4)):
            part = order[start : start + 4]
            crops = [
                training_crop(
                    Image.fromarray(pixels[k]),
                    VALIDATION,
                    np.random.default_rng([1, 7, epoch, k]),
                )
                for k in part
            ]
            group = sgd.param_groups[0]
            group["lr"], group["momentum"] = readout_rates(
                6 * epoch + step, n_steps, 0.5
            )
            with torch.no_grad():
                x = module(torch.stack(crops))
            loss = functional.cross_entropy(classifier(x), torch.tensor(labels[part]))
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            total += loss.item() * len(part)
        losses.append(total / 23)
    state = torch.load(file, weights_only=True)
    torch.testing.assert_close(state["weight"], classifier.weight.detach())
    torch.testing.assert_close(state["bias"], classifier.bias.detach())
    history = [epoch["loss"] for epoch in state["history"]]
    assert history == pytest.approx(losses, rel=1e-5)
    with torch.no_grad():
        x = torch.stack([VALIDATION(Image.fromarray(image)) for image in val[0]])
        best = classifier(module(x)).topk(5).indices.numpy()
    right = classes[best] == val[1][:, None]
    assert found["top1"] == pytest.approx(100 * right[:, 0].mean())
    assert found["top5"] == 100
    assert found["loss"] == history[-1]


def test_it_learns_and_leaves_the_network_alone(model, train, val):
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    model.module.train()
    options = SHORT | {"epochs": 12, "peak_lr": 1.0}
    assert readout_linear(model, train, val, **options)["top1"] > 80
    after = model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(part.training for part in model.module.modules())
    assert all(p.grad is None for p in model.module.parameters())


def test_fewer_than_five_classes_have_no_top5(model, train, val):
    pairs = [(x[np.isin(y, ["red", "blue"])], y[np.isin(y, ["red", "blue"])])
             for x, y in (train, val)]  # fmt: skip
    assert math.isnan(readout_linear(model, *pairs, **SHORT)["top5"])


def same(first, second):
    first, second = (torch.load(file, weights_only=True) for file in (first, second))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        else:
            assert value == second[name], name


def interrupt_at(module, n_passes):
    """Raise KeyboardInterrupt in the forward pass number `n_passes`, from 0."""
    seen = iter(range(n_passes + 1))

    def hook(*_):
        if next(seen) == n_passes:
            raise KeyboardInterrupt

    return module.register_forward_pre_hook(hook)


# an epoch has 6 steps and 4 passes over the validation images
@pytest.mark.slow
@pytest.mark.parametrize("n_passes", [1, 7, 9, 14])
def test_resumed_equals_uninterrupted(model, train, val, tmp_path, n_passes):
    whole, broken = tmp_path / "whole.pt", tmp_path / "broken.pt"
    expected = readout_linear(model, train, val, **SHORT, resume=whole)
    options = SHORT | {"resume": broken, "save_every": 2}
    handle = interrupt_at(model.module, n_passes)
    with pytest.raises(KeyboardInterrupt):
        readout_linear(model, train, val, **options)
    handle.remove()
    assert broken.exists() == (n_passes >= 2)
    assert readout_linear(model, train, val, **options, workers=3) == expected
    same(whole, broken)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "broken.pt",
        "whole.pt",
    ]


def test_finished_file_answers_at_once(model, train, val, tmp_path):
    file = tmp_path / "readout.pt"
    first = readout_linear(model, train, val, **SHORT, resume=file)
    handle = interrupt_at(model.module, 0)
    assert readout_linear(model, train, val, **SHORT, resume=file) == first
    handle.remove()


def test_seed_decides_and_global_random_state_does_not(model, train, val, tmp_path):
    state = torch.random.get_rng_state()
    first = readout_linear(model, train, val, **SHORT)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(1)
    assert readout_linear(model, train, val, **SHORT) == first
    other = readout_linear(model, train, val, **(SHORT | {"seed": 8}))
    assert other["loss"] != first["loss"]


def test_file_of_another_readout_is_refused(model, train, val, tmp_path):
    file = tmp_path / "readout.pt"
    readout_linear(model, train, val, **SHORT, resume=file)
    for change in ({"seed": 8}, {"epochs": 4}, {"layer": "2"}, {"weight_decay": 0.1}):
        with pytest.raises(ValueError, match=f"differs in {next(iter(change))}"):
            readout_linear(model, train, val, **(SHORT | change), resume=file)
    with pytest.raises(ValueError, match="differs in val"):
        readout_linear(model, train, photographs(13, 2), **SHORT, resume=file)
    with torch.no_grad():
        model.module[0].bias += 1
    with pytest.raises(ValueError, match="differs in model"):
        readout_linear(model, train, val, **SHORT, resume=file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"readout\.pt"):
        readout_linear(model, train, val, **SHORT, resume=file)
    torch.save({"some": "thing"}, file)
    with pytest.raises(ValueError, match="differs in model, layer"):
        readout_linear(model, train, val, **SHORT, resume=file)


def test_full_disk_does_not_end_the_training(
    model, train, val, tmp_path, monkeypatch, caplog
):
    file = tmp_path / "readout.pt"
    expected = readout_linear(model, train, val, **SHORT)
    save, count = torch.save, iter(range(100))

    def sometimes(state, target):
        if next(count) >= 1:
            raise OSError(28, "No space left on device")
        save(state, target)

    monkeypatch.setattr(torch, "save", sometimes)
    found = readout_linear(model, train, val, **SHORT, resume=file, save_every=2)
    assert found == expected
    assert "cannot be written, its last state stays: " in caplog.text
    assert "No space left on device" in caplog.text
    assert torch.load(file, weights_only=True)["step"] == 2


def test_divergence_stops_and_keeps_the_last_file(model, train, val, tmp_path):
    file = tmp_path / "readout.pt"
    options = SHORT | {"peak_lr": 1e38, "resume": file, "save_every": 1}
    with pytest.raises(ValueError, match=r"loss must be finite; it is \w+ at step"):
        readout_linear(model, train, val, **options)
    assert torch.load(file, weights_only=True)["weight"].isfinite().all()


def test_damaged_image_is_named(model, train, val, tmp_path):
    folder = tmp_path / "train" / "red"
    folder.mkdir(parents=True)
    for k in range(6):
        Image.fromarray(train[0][k]).save(folder / f"{k}.png")
    content = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(content[: len(content) // 2])
    images = photographs(5, 3)[0], np.array(["red"] * 5)
    with pytest.raises(ValueError, match=r"damaged or unknown: 3\.png \(.*red"):
        readout_linear(model, tmp_path / "train", images, **SHORT)


def test_refusals(model, train, val):
    for name, value in {
        "epochs": 0,
        "batch_size": 0,
        "peak_lr": -1,
        "seed": -1,
    }.items():
        with pytest.raises(ValueError, match=f"above 0 and seed not below; .*{value}"):
            readout_linear(model, train, val, **(SHORT | {name: value}))
    with pytest.raises(
        ValueError, match="must be a Preprocess, for the training crops"
    ):
        readout_linear(model, train, val, transform=transforms.ToTensor())
    bare = VisionModel("bare", model.module, VALIDATION, ("4",))
    with pytest.raises(ValueError, match="transform must be given for bare"):
        readout_linear(bare, train, val)
