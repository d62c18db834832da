"""The loss of IPCL: the authors' numbers, their formula in slow loops, invariances."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from versa.models.ipcl.loss import IPCLLoss, unit_rows

DIM, QUEUE, N_IMAGES, N_VIEWS = 16, 48, 900, 5


def made(rows, seed=0, *, scale=1.0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * rng.standard_normal((*rows, DIM)))


def small(**options):
    return IPCLLoss(DIM, QUEUE, n_images=N_IMAGES, **options).double()


def printed_formula(
    x, queue, z, n_views, temperature=0.07, n_images=N_IMAGES, *, scaled=False
):
    """-log h+ and -log h- of methods.md 1.1 in float64 loops; also Z."""
    x = np.asarray(x, dtype=float)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    n_rows, n_queue = len(x), queue.shape[1]
    batch = n_rows // n_views
    prototypes = [
        sum(x[v * batch + i] for v in range(n_views)) / n_views for i in range(batch)
    ]
    if scaled:
        prototypes = [p / np.linalg.norm(p) for p in prototypes]
    plus = [math.exp(x[j] @ prototypes[j % batch] / temperature) for j in range(n_rows)]
    minus = [
        [math.exp(x[j] @ queue[:, k] / temperature) for k in range(n_queue)]
        for j in range(n_rows)
    ]
    if z is None:
        z = (sum(plus) + sum(map(sum, minus))) / (n_rows * (n_queue + 1)) * n_images
    c, eps = n_queue / n_images, 1e-7
    positive = sum(-math.log(p / z / (p / z + c + eps)) for p in plus)
    negative = sum(-math.log(c / (p / z + c + eps)) for row in minus for p in row)
    return positive / n_rows, negative / n_rows, z, np.array(prototypes)


# The reference was computed in float32. The authors' formula evaluated in float64
# (second test) departs from it by 1.5e-6 in loss and 1.0e-6 (norm) in gradient, and so
# does any exact evaluation; the formula itself is met to 1e-12 below.
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("kind", "value", "gradient", "z", "queue"),
    [(torch.float64, 2e-6, 2e-6, 2e-7, 1e-7), (torch.float32, 1e-5, 1e-5, 1e-6, 1e-7)],
)
def test_authors_numbers(shared, kind, value, gradient, z, queue, at_once):
    known = np.load(shared / "reference" / "ipcl_loss.npz")
    loss = IPCLLoss(128, 512, 0.07, int(known["N"])).to(kind)
    loss.queue.copy_(torch.from_numpy(known["queue0"]))
    x = [torch.from_numpy(known[f"x{s}"]).to(kind).requires_grad_() for s in range(3)]
    if at_once:
        found = loss.groups(torch.stack(x)).loss
        found.sum().backward()
    else:
        found = []
        for s in range(3):
            found.append(loss(x[s], n_views=5))
            found[s].backward()
            expected = known[f"queue_after{s}"]
            np.testing.assert_allclose(loss.queue, expected, rtol=0, atol=queue)
    np.testing.assert_allclose(loss.queue, known["queue_after2"], rtol=0, atol=queue)
    for s in range(3):
        assert found[s].dtype == kind
        assert found[s].item() == pytest.approx(known[f"loss{s}"].item(), rel=value)
        expected = known[f"grad{s}"].astype(float)
        error = np.linalg.norm(x[s].grad.double().numpy() - expected)
        assert error < gradient * np.linalg.norm(expected)
        assert loss.log_z.exp().item() == pytest.approx(known[f"Z{s}"].item(), rel=z)


@pytest.mark.parametrize("n_views", [2, 5])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("log_z", [None, 9.5])
def test_printed_formula(n_views, scaled, store, log_z):
    loss = small(normalize_prototype=scaled, queue_prototypes=store, log_z=log_z)
    z = None if log_z is None else math.exp(log_z)
    for step in range(3):
        x = made((3 * n_views,), seed=step)
        queue = loss.queue.numpy().copy()
        positive, negative, z, prototypes = printed_formula(
            x, queue, z, n_views, scaled=scaled
        )
        terms = loss.groups(x[None], n_views)
        assert terms.positive.item() == pytest.approx(positive, rel=1e-11)
        assert terms.negative.item() == pytest.approx(negative, rel=1e-11)
        assert terms.loss.item() == pytest.approx(positive + negative, rel=1e-11)
        assert loss.log_z.item() == pytest.approx(math.log(z), rel=1e-13)
        new = prototypes if store else unit_rows(x).numpy()
        expected = np.concatenate([new.T, queue], axis=1)[:, :QUEUE]
        np.testing.assert_allclose(loss.queue, expected, atol=1e-15)


def test_gradient_is_that_of_finite_differences_with_fixed_prototypes():
    loss = small(log_z=9.0).eval()
    x = made((10,))
    y = x.clone().requires_grad_()
    loss(y).backward()
    unit = unit_rows(x)
    prototypes = unit.unflatten(0, (5, 2)).mean(0).repeat(5, 1)
    c = QUEUE / N_IMAGES + 1e-7

    def value(rows):
        rows = functional.normalize(rows, dim=1)
        plus = torch.exp((rows * prototypes).sum(1) / 0.07 - 9.0)
        minus = torch.exp(rows @ loss.queue / 0.07 - 9.0)
        return ((plus + c).log() - plus.log()).mean() + (minus + c).log().sum() / 10

    for seed in range(9):
        step = 1e-5 * made((10,), seed=10 + seed)
        numeric = (value(x + step) - value(x - step)) / 2
        assert (y.grad * step).sum().item() == pytest.approx(numeric.item(), rel=1e-6)


@pytest.mark.parametrize("rows", [10, 30, 60])  # 60 is more than the queue holds
@pytest.mark.parametrize("store", [False, True])
def test_groups_at_once_equal_groups_in_turn(rows, store):
    x = made((4, rows))
    turn, once, split = (small(queue_prototypes=store) for _ in range(3))
    first, second, third = (x.clone().requires_grad_() for _ in range(3))
    expected = torch.stack([turn(group) for group in first])
    expected.sum().backward()
    terms = once.groups(second)
    terms.loss.sum().backward()
    torch.testing.assert_close(terms.loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(
        terms.positive + terms.negative, expected, rtol=1e-12, atol=0
    )
    assert not terms.positive.requires_grad
    for part in (third[:1], third[1:]):
        split.groups(part).loss.sum().backward()
    torch.testing.assert_close(third.grad, first.grad, rtol=1e-10, atol=1e-14)
    for other in (once, split):
        assert torch.equal(other.queue, turn.queue)
        assert torch.equal(other.log_z, turn.log_z)


def test_a_process_without_a_group_follows_the_others():
    x = made((6, 20))
    one, idle = small(), small()
    one.groups(x)
    terms = idle.groups(x[:0], gathered=unit_rows(x), first=6)
    assert terms.loss.shape == (0,)
    assert torch.equal(idle.queue, one.queue)
    assert torch.equal(idle.log_z, one.log_z)


@pytest.mark.parametrize("own", [2, 3])
def test_own_groups_among_the_gathered_ones(own):
    x = made((6, 20))
    one = small()
    expected = one.groups(x).loss
    for first in range(0, 6, own):
        rank = small()
        block = x[first : first + own]
        terms = rank.groups(block, gathered=unit_rows(x), first=first)
        torch.testing.assert_close(
            terms.loss, expected[first : first + own], rtol=1e-12, atol=0
        )
        assert torch.equal(rank.queue, one.queue)
        assert torch.equal(rank.log_z, one.log_z)


def test_evaluation_changes_nothing():
    loss = small().eval()
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    value = loss(made((10,)))
    assert not loss.frozen
    for key, tensor in loss.state_dict().items():
        torch.testing.assert_close(tensor, before[key], equal_nan=True, rtol=0, atol=0)
    assert value == loss.train()(made((10,)))  # with the Z that training would take
    frozen = loss.log_z.clone()
    loss(made((10,), seed=1))
    assert torch.equal(loss.log_z, frozen)


def test_same_directions_give_the_closed_form():
    loss = small(log_z=3.0)
    x = torch.zeros(10, DIM, dtype=torch.float64)
    x[:, 0] = 2
    loss.queue.zero_()
    loss.queue[1] = 1  # at right angles to all views
    terms = loss.groups(x[None])
    c = QUEUE / N_IMAGES
    plus, minus = math.exp(1 / 0.07 - 3), math.exp(-3)
    assert terms.positive.item() == pytest.approx(math.log1p((c + 1e-7) / plus))
    assert terms.negative.item() == pytest.approx(
        QUEUE * math.log((minus + c + 1e-7) / c)
    )


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cast", [False, True])
def test_half_precision_never_touches_the_loss(kind, cast):
    """Autocast around the loss; with `cast` the embeddings are in half precision."""
    x = made((2, 40)).to(kind if cast else torch.float32)
    exact = x.double().requires_grad_()
    small().groups(exact).loss.sum().backward()
    y = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=kind):
        loss = IPCLLoss(DIM, QUEUE, n_images=N_IMAGES)
        terms = loss.groups(y)
    terms.loss.sum().backward()
    assert terms.loss.dtype == torch.float32
    assert loss.queue.dtype == torch.float32
    error = (y.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < (0.01 if cast else 1e-5)


def test_extreme_embeddings_stay_finite():
    x = torch.zeros(10, DIM)
    x[:5, 0], x[5:, 0] = 1, -1  # views that could not disagree more
    for log_z in (-50.0, 60.0):
        loss = IPCLLoss(DIM, QUEUE, temperature=0.01, n_images=N_IMAGES, log_z=log_z)
        loss.queue.zero_()
        loss.queue[0] = 1
        y = x.clone().requires_grad_()
        value = loss(y)
        value.backward()
        assert value.isfinite()
        assert y.grad.isfinite().all()


def test_state_goes_around():
    loss = small()
    loss(made((10,)))
    other = small(seed=1)
    assert not torch.equal(other.queue, loss.queue)
    other.load_state_dict(loss.state_dict())
    assert other.frozen
    x = made((10,), seed=1)
    assert other(x) == loss(x)
    assert torch.equal(other.queue, loss.queue)


def test_log_z_stays_float64():
    loss = IPCLLoss(DIM, QUEUE, log_z=1 / 3).half().float()
    assert loss.queue.dtype == torch.float32
    assert loss.log_z.dtype == torch.float64
    assert loss.log_z.item() == 1 / 3
    assert IPCLLoss(DIM, QUEUE).double().log_z.isnan()


@pytest.mark.parametrize(
    ("z", "log_z"),
    [
        (torch.tensor([-1]), None),
        (torch.tensor(-1.0), None),
        (torch.tensor(3_400_000), math.log(3.4e6)),
        (torch.tensor([3.4e6]), math.log(3.4e6)),
        (3_400_000.0, math.log(3.4e6)),
    ],
)
def test_checkpoint_of_the_authors(z, log_z):
    queue = torch.ones(DIM, QUEUE)
    loss = IPCLLoss(DIM, QUEUE, log_z=1.0)
    loss.load_state_dict({"queue": queue, "Z": z})
    assert torch.equal(loss.queue, queue)
    assert loss.frozen == (log_z is not None)
    if log_z is not None:
        assert loss.log_z.item() == pytest.approx(log_z, rel=1e-15)


def test_initial_queue_has_unit_columns_and_a_seed():
    first, again, other = (IPCLLoss(seed=seed).queue for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(4096))
    assert abs(first.mean()) < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue_size": 0}, "queue_size must be above 0 and finite; got 0"),
        ({"temperature": -1.0}, "temperature must be above 0 and finite; got -1"),
        ({"n_images": math.inf}, "n_images must be above 0"),
        ({"log_z": math.nan}, "log_z must be a finite number"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        IPCLLoss(**options)


@pytest.mark.parametrize(
    ("shape", "n_views", "message"),
    [
        ((2, 10, DIM), 5, r"embeddings must be \(n_views \* n_images, dim\); got \(2,"),
        ((10, 7), 5, r"embeddings must have 16 columns .* Set dim"),
        ((0, DIM), 5, "at least one row"),
        ((11, DIM), 5, "divide the rows of a group; got 5 views and 11 rows"),
        ((10, DIM), 1, "n_views must be at least 2"),
    ],
)
def test_refused_embeddings(shape, n_views, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.ones(shape), n_views)


@pytest.mark.parametrize(
    ("gathered", "first"), [((3, 10, DIM), 2), ((3, 15, DIM), 0), ((1, 10, DIM), 0)]
)
def test_refused_gathered(gathered, first):
    with pytest.raises(ValueError, match="gathered must hold the own groups"):
        small().groups(
            torch.ones(2, 10, DIM), gathered=torch.ones(gathered), first=first
        )
    with pytest.raises(ValueError, match="first must be 0 without gathered"):
        small().groups(torch.ones(2, 10, DIM), first=1)
