"""Networks in training: ghost groups against groups in turn, layouts against torch."""

import copy
import logging

import pytest
import torch
from torch import nn
from torch.nn import functional

from versa.models.architectures import AlexNetGN
from versa.models.ipcl import network as network_module
from versa.models.ipcl.loss import IPCLLoss
from versa.models.ipcl.memory_format import (
    MomentsGroupNorm,
    StridedConv2d,
    fast_memory_format,
)
from versa.models.ipcl.network import embedding_network, training_network
from versa.models.ipcl.norms import (
    GroupedBatchNorm,
    GroupedBatchNorm2d,
    apply_statistics,
    set_groups,
    take_statistics,
)
from versa.models.zoo.networks import build_network, build_seeded

N_VIEWS, N_IMAGES, N_GROUPS = 5, 8, 5
ROWS = N_VIEWS * N_IMAGES


def tiny():
    """Convolution, GroupNorm, both grouped norms, 6 dimensions."""
    network = build_seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, bias=False),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            GroupedBatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(1),
            nn.Linear(8, 12),
            GroupedBatchNorm(12),
            nn.ReLU(),
            nn.Linear(12, 6),
        ),
        0,
    )
    return network.double().train()


def images(n_groups=N_GROUPS):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n_groups * ROWS, 3, 8, 8, generator=rng, dtype=torch.float64)


def step(network, loss, x, n_chunks):
    """One optimizer step's gradient, in chunks; then everything that changed."""
    values = []
    for chunk in x.chunk(n_chunks):
        out = network(chunk).unflatten(0, (-1, ROWS))
        terms = loss.groups(out, N_VIEWS)
        (terms.loss.sum() / (len(x) // ROWS)).backward()
        values.append(terms.loss.detach())
    return {
        "loss": torch.cat(values),
        **loss.state_dict(),
        **network.state_dict(),
        **{f"{key} grad": p.grad for key, p in network.named_parameters()},
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(
            found[key], expected[key], rtol=1e-9, atol=1e-12, msg=lambda m, k=key: k + m
        )


def in_turn(n_groups=N_GROUPS):
    """Oracle: torch's own norms, one pass per group."""
    network = tiny()
    for k, kind in ((4, nn.BatchNorm2d(8)), (8, nn.BatchNorm1d(12))):
        network[k] = kind.double()
    return step(network, IPCLLoss(6, 96).double(), images(n_groups), n_groups)


@pytest.mark.parametrize("n_chunks", [1, 5])
def test_forty_images_are_five_groups_of_eight(n_chunks):
    network = tiny()
    set_groups(network, ROWS)
    found = step(network, IPCLLoss(6, 96).double(), images(), n_chunks)
    assert_same(found, in_turn())


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"eps": 0.1}])
@pytest.mark.parametrize(
    ("kind", "plain", "shape"),
    [
        (GroupedBatchNorm, nn.BatchNorm1d, (12, 3)),
        (GroupedBatchNorm, nn.BatchNorm1d, (12, 3, 4)),
        (GroupedBatchNorm2d, nn.BatchNorm2d, (12, 3, 4, 2)),
    ],
)
def test_grouped_norm_equals_passes_in_turn(kind, plain, shape, momentum, options):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    grouped = kind(3, momentum=momentum, rows=4, **options).double()
    oracle = plain(3, momentum=momentum, **options).double()
    assert list(grouped.state_dict()) == list(oracle.state_dict())
    expected = torch.cat([oracle(part) for part in x.split(4)])
    assert torch.equal(grouped(x), expected)
    for key, value in oracle.state_dict().items():
        torch.testing.assert_close(
            grouped.state_dict()[key], value, rtol=1e-13, atol=1e-15
        )
    torch.testing.assert_close(grouped.eval()(x), oracle.eval()(x), rtol=1e-12, atol=0)


def test_statistics_wait_until_they_are_applied():
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).double()
    at_once, later = (
        nn.Sequential(
            GroupedBatchNorm(3), GroupedBatchNorm(3, track_running_stats=False)
        ).double()
        for _ in range(2)
    )
    set_groups(at_once, 4)
    set_groups(later, 4, collect=True)
    before = copy.deepcopy(later.state_dict())
    at_once(x)
    for part in (x[:8], x[8:]):
        later(part)
    for key, value in later.state_dict().items():
        assert torch.equal(value, before[key])
    found = take_statistics(later)
    assert found.shape == (3, 12)
    assert take_statistics(later).shape == (0, 12)
    apply_statistics(later, take_statistics(later))  # of nothing: nothing
    apply_statistics(later, found)
    for key, value in later.state_dict().items():
        torch.testing.assert_close(value, at_once.state_dict()[key], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"must have 12 columns .* got 6"):
        apply_statistics(later, found[:, :6])


def test_rows_that_are_no_whole_groups_are_refused():
    norm = GroupedBatchNorm(3, rows=4)
    with pytest.raises(ValueError, match=r"whole groups of 4 rows.*; got 10 rows"):
        norm(torch.ones(10, 3))
    norm.eval()(torch.ones(10, 3))
    with pytest.raises(ValueError, match="rows must be at least 2; got 1"):
        set_groups(norm, 1)


def test_grouped_norm_takes_half_precision():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    grouped, oracle = GroupedBatchNorm(3, rows=4), GroupedBatchNorm(3, rows=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = grouped(x.bfloat16())
    torch.testing.assert_close(
        out.float(), oracle(x.bfloat16().float()), rtol=0, atol=0.02
    )
    assert grouped.running_mean.dtype == torch.float32
    torch.testing.assert_close(grouped.running_var, oracle.running_var)


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_moments_are_those_of_group_norm(kind, tolerance, channels_last):
    rng = torch.Generator().manual_seed(0)
    kind = getattr(torch, kind)
    ours, theirs = MomentsGroupNorm(4, 12).to(kind), nn.GroupNorm(4, 12).to(kind)
    for norm in (ours, theirs):
        norm.weight.data = torch.linspace(0.5, 2, 12, dtype=kind)
        norm.bias.data = torch.linspace(-1, 1, 12, dtype=kind)
    x = (3 + 2 * torch.randn(5, 12, 9, 7, generator=rng)).to(kind)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    weight = torch.randn(x.shape, generator=rng).to(kind)
    gradients = []
    for norm in (ours, theirs):
        y = x.clone().requires_grad_()
        out = norm(y)
        (out * weight).sum().backward()
        gradients.append((out, y.grad, norm.weight.grad, norm.bias.grad))
    for found, expected in zip(*gradients, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def test_moments_keep_the_type_and_its_precision():
    x = 100 + torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    x = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = MomentsGroupNorm(2, 4)(x)
    assert out.dtype == torch.bfloat16
    expected = functional.group_norm(x.double(), 2)
    torch.testing.assert_close(out.double(), expected, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        (11, 4, 2, (224, 224)),
        (11, 4, 2, (37, 50)),
        (7, 2, 3, (32, 33)),
        (3, 2, 1, (9, 8)),
        (16, 16, 0, (40, 48)),
        (5, 4, 0, (31, 12)),
    ],
)
def test_blocks_are_the_convolution(kernel, stride, padding, size):
    conv = build_seeded(
        lambda: StridedConv2d(3, 4, kernel, stride, padding), 0
    ).double()
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=rng, dtype=torch.float64)
    results = []
    for forward in (conv.forward, lambda y: nn.Conv2d.forward(conv, y)):
        conv.zero_grad()
        y = x.clone().requires_grad_()
        out = forward(y)
        out.sin().sum().backward()
        results.append((out, y.grad, conv.weight.grad, conv.bias.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    assert results[0][0].is_contiguous(memory_format=torch.channels_last)


def trunk():
    """Convolutional blocks of AlexNet-GN, in float64."""
    with torch.device("meta"):
        whole = AlexNetGN()
    blocks = nn.Sequential(*list(whole.children())[:5]).to_empty(device="cpu")
    rng = torch.Generator().manual_seed(0)
    for parameter in blocks.parameters():
        values = torch.randn(parameter.shape, generator=rng)
        fan_in = parameter[0].numel()
        parameter.data = 1 + 0.1 * values if fan_in == 1 else values / fan_in**0.5
    return blocks.double()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fast_memory_format_keeps_values_gradients_and_keys(device):
    plain, other = trunk(), trunk()
    fast = fast_memory_format(other, device, compiled=True)
    assert fast is other
    kinds = {type(part) for part in fast.modules()}
    assert StridedConv2d in kinds
    assert (MomentsGroupNorm in kinds) == (device == "cuda")
    eager = fast_memory_format(trunk(), device)
    last = eager[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert last == (device == "cpu")  # elsewhere it pays with compiling only
    plain_kinds = {type(part) for part in eager.modules()}
    assert MomentsGroupNorm not in plain_kinds  # slower unless it is compiled
    assert list(fast.state_dict()) == list(plain.state_dict())
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 99, 120, generator=rng, dtype=torch.float64)
    results = []
    for network in (fast, plain):
        out = network(x)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in network.parameters())])
    for found, expected in zip(*results, strict=True):
        error = (found - expected).abs().max()
        assert error < 1e-11 * expected.abs().max()
    plain.load_state_dict(fast.state_dict())


def test_alexnet_has_the_authors_keys_and_grouped_norms(shared):
    with torch.device("meta"):
        network = training_network("alexnet_gn")
        plain = AlexNetGN()
    assert list(network.state_dict()) == list(plain.state_dict())
    assert [
        k for k, m in network.named_modules() if isinstance(m, GroupedBatchNorm)
    ] == ["fc6.1", "fc7.1"]
    assert network.training


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("torchvision/resnet18", {}),
        ("timm/mobilenetv3_small_050", {"drop_rate": 0.0}),  # BatchNorm and activation
    ],
)
def test_library_network_with_groups_equals_itself_in_turn(name, options):
    library, _, own = name.partition("/")
    network = build_seeded(lambda: training_network(name, {"out_dim": 8, **options}), 0)
    plain = build_network(library, {"name": own, "num_classes": 8, **options})
    assert list(network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(network.state_dict())
    network, plain = network.double().train(), plain.double().train()
    set_groups(network, 4)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, 40, 40, generator=rng, dtype=torch.float64)
    expected = torch.cat([functional.normalize(plain(part)) for part in x.split(4)])
    torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-12)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(
            network.state_dict()[key], value, rtol=1e-9, atol=1e-12
        )
    torch.testing.assert_close(
        network.eval()(x), functional.normalize(plain.eval()(x)), rtol=1e-9, atol=1e-12
    )


def test_supervised_twin_has_no_unit_length():
    with torch.device("meta"):
        options = {"out_dim": 10, "l2norm": False}
        alexnet = training_network("alexnet_gn", options)
        resnet = training_network("torchvision/resnet18", options)
    assert alexnet.fc8[0].out_features == resnet.fc.out_features == 10
    assert not hasattr(resnet, "l2norm")


def test_head_of_zeros_is_drawn(monkeypatch):
    def zeros(_name, *, num_classes):
        head = nn.Linear(3, num_classes)
        nn.init.zeros_(head.weight)
        return nn.Sequential(nn.Linear(3, 3), head)

    monkeypatch.setattr(network_module, "torchvision_network", zeros)
    plain = embedding_network("torchvision/vit_b_16", out_dim=4, l2norm=False)
    assert not plain[1].weight.any()
    drawn = embedding_network("torchvision/vit_b_16", out_dim=4)
    assert drawn[1].weight.all()
    torch.testing.assert_close(drawn(torch.ones(2, 3)).norm(dim=1), torch.ones(2))


def small_network(out_dim, width):
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))[:out_dim]


def test_a_network_of_the_user():
    name = f"{__name__}:small_network"
    network = training_network(name, {"out_dim": 2, "width": 5})
    assert isinstance(network[1], GroupedBatchNorm)
    ran = []
    network.l2norm.register_forward_hook(lambda *_: ran.append(1))
    torch.testing.assert_close(network(torch.randn(4, 3)).norm(dim=1), torch.ones(4))
    assert ran == [1]
    with pytest.raises(ValueError, match=r"options must suit .*small_network: .*tall"):
        training_network(name, {"out_dim": 2, "tall": 5})
    with pytest.raises(ImportError, match="no_such_pack:net must be installed"):
        training_network("no_such_pack:net")


def test_random_layers_are_named(caplog):
    with caplog.at_level(logging.WARNING, logger="versa"), torch.device("meta"):
        training_network("torchvision/resnet18")
        assert not caplog.records
        training_network("torchvision/alexnet")
    assert "torchvision/alexnet draws random numbers" in caplog.text
    assert "(Dropout)" in caplog.text


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alexnet", {}, r"architecture must be among .* Did you mean alexnet_gn\?"),
        ("torchvision", {}, "architecture must be among alexnet_gn, torchvision/NAME"),
        ("torchvision/resnet51", {}, "of torchvision must be among .* Did you mean"),
        ("timm/resnet51", {}, "of timm must be a known name.* Did you mean"),
        ("torchvision/resnet18", {"num_classes": 3}, "must be given as out_dim; got 3"),
        (
            "torchvision/resnet18",
            {"colour": 3},
            "options must suit torchvision/resnet18",
        ),
        ("alexnet_gn", {"norm": "bach"}, "norm must be among .* Did you mean batch"),
        ("alexnet_gn", {"colour": 3}, "options must suit alexnet_gn: .*colour"),
        (
            "torchvision/resnet18",
            {"norm_layer": nn.SyncBatchNorm},
            "bn1 is SyncBatchNorm, which knows no groups",
        ),
    ],
)
def test_refused_networks(name, options, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        training_network(name, options)
