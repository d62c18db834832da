"""A short trial before a long pass: which layers can be analysed, and whether what they
give is a function of the image alone.

One image passes alone, and twice in the company of another one. That shows the axis of
the images, whatever its place, random numbers, and features that depend on the batch.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from versa.models.images import network_input
from versa.models.layers import (
    default_layers,
    evaluating,
    inner_names,
    left_out_mass,
    requested_layers,
    run_network,
    run_problem,
    single_tensor,
    watch_layers,
)
from versa.models.vision import VisionModel
from versa.wording import listing

logger = logging.getLogger("versa")

RANDOM, COMPANY = "random", "company"
_COMPANY = 3  # images of the second pass
_REPEATS = 8  # passes of a network that draws random numbers: some change little
# difference of equal images, relative to their features, that rounding may make
_ROUNDING = {torch.float16: 0.05, torch.bfloat16: 0.1}
_ROUNDING_CPU, _ROUNDING_TF32 = 1e-3, 1e-2

_Outputs = dict[str, list[torch.Tensor | str]]  # layer: what each of its runs returned


@dataclass(frozen=True)
class Tried:
    """What a trial shows of one layer.

    `problem` is empty if the layer gives one row per image. Then `axis` is that of the
    images, `row` (1, n_units) what it makes of the image alone, and `unsteady` is
    "random" or "company" where the row is no function of the image alone.
    """

    problem: str
    axis: int = 0
    row: torch.Tensor | None = None
    unsteady: str = ""


def try_layers(
    model: VisionModel, x: torch.Tensor, layers: Sequence[str], batch_size: int
) -> dict[str, Tried]:
    """Pass one input alone, and twice in other company where a batch has room."""
    company = torch.stack([x, x.flip(-1), x][: max(1, min(_COMPANY, batch_size))])
    with evaluating(model.module):
        state = _random_state()
        alone = _outputs(model, x[None], layers)
        drew = _random_state() != state
        together = _outputs(model, company, layers)
        found = _judged(alone, together, 1, len(company))
        usable = [layer for layer, tried in found.items() if not tried.problem]
        changed = {k: _in_company(found[k], together[k][0]) for k in usable}
        again: list[_Outputs] = []
        for _ in range(_REPEATS if drew else 1 if any(changed.values()) else 0):
            again.append(_outputs(model, x[None], usable))
    for layer in usable:
        first, others = alone[layer][0], [outputs[layer][0] for outputs in again]
        unlike = any(_differ(first, other, exact=drew) for other in others)
        unsteady = RANDOM if unlike else COMPANY if changed[layer] else ""
        found[layer] = Tried("", found[layer].axis, found[layer].row, unsteady)
    return found


def require_usable(
    model: VisionModel, x: torch.Tensor, layers: Sequence[str], batch_size: int
) -> dict[str, Tried]:
    """`try_layers`, refused for the first layer that cannot be analysed."""
    found = try_layers(model, x, layers, batch_size)
    for layer, tried in found.items():
        if tried.problem:
            advice = _advice(model, layer, x, batch_size)
            raise ValueError(f"layer {layer!r} must {tried.problem}. {advice}")
    return found


def keep_usable(
    model: VisionModel, layers: Sequence[str], found: Mapping[str, Tried]
) -> tuple[str, ...]:
    """Those of the layers that a trial shows to be usable, in its order.

    What is left out is said; as a warning if it holds most of the network.
    """
    kept = tuple(name for name, tried in found.items() if not tried.problem)
    if not kept:
        raise ValueError(
            f"{model.name} must have a layer with one output per image; tried "
            f"{listing(layers)}. Name the layers in layer_list."
        )
    if left_out := [name for name in layers if name not in kept]:
        logger.info(
            "%s: left out %s, which have no single output per image.",
            model.name,
            listing(left_out),
        )
    share, largest = left_out_mass(model.module, kept)
    if share > 0.5:
        logger.warning(
            "%s: most of the network is left out: %.0f%% of its parameters lie outside "
            "the layers %s, most in %s. Name the layers in layer_list.",
            *(model.name, 100 * share, listing(kept), largest),
        )
    return kept


def resolve_layers(
    model: VisionModel,
    layer_list: Sequence[str] | str | None = None,
    x: torch.Tensor | None = None,
) -> tuple[str, ...]:
    """Names of the layers that a request means; see `requested_layers` and
    `usable_layers`, which makes a trial where it is needed."""
    names, sure = requested_layers(model, layer_list)
    return names if sure else usable_layers(model, names, x)


def usable_layers(
    model: VisionModel, layers: Sequence[str], x: torch.Tensor | None = None
) -> tuple[str, ...]:
    """Those of the layers that have one output per image, in the order of execution.

    An input passes in batches of two and three; by default noise of 256 x 256, which
    a network without a resizing preprocess may not take.
    """
    if x is None:
        rng = np.random.default_rng(0)
        noise = Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))
        x = network_input(noise, model.preprocess, "noise")
    return keep_usable(model, layers, _shapes(model, x, layers, (2, 3)))


def unsteady_warnings(model: str, tried: Mapping[str, Tried]) -> list[str]:
    """Sentences about layers whose features are no function of the image alone."""
    unsteady = {layer: one.unsteady for layer, one in tried.items()}
    rule = f"features of {model} must be a function of the image alone"
    sentences = []
    if names := [layer for layer, kind in unsteady.items() if kind == RANDOM]:
        sentences.append(
            f"{rule}; {listing(names)} give another result each time the same image "
            "passes (random numbers such as dropout, noise or masking, or a memory of "
            "earlier images): every fit has other scores, and none is kept in the "
            "cache. Switch that off in the network, or name earlier layers."
        )
    if names := [layer for layer, kind in unsteady.items() if kind == COMPANY]:
        sentences.append(
            f"{rule}; {listing(names)} differ with the other images of the batch "
            "(statistics over the batch): scores depend on batch_size and on the order "
            "of the images, and are not kept in the cache. Pass batch_size=1, or name "
            "earlier layers."
        )
    return sentences


def _outputs(
    model: VisionModel, batch: torch.Tensor, layers: Sequence[str], *, copy: bool = True
) -> _Outputs:
    """What the layers return in one pass, in the order of execution."""
    found: _Outputs = {}

    def receive(layer: str, output: object) -> None:
        tensor = single_tensor(output)
        if isinstance(tensor, torch.Tensor):
            tensor = tensor.clone() if copy else tensor.to("meta")
        found.setdefault(layer, []).append(tensor)

    with watch_layers(model.module, layers, receive):
        run_network(model, batch)
    return found | {layer: [] for layer in layers if layer not in found}


def _judged(few: _Outputs, many: _Outputs, n_few: int, n_many: int) -> dict[str, Tried]:
    """Whether each layer gives one row per image, from batches of two sizes."""
    return {
        layer: _judge(outputs, many.get(layer, []), n_few, n_many)
        for layer, outputs in few.items()
    }


def _judge(
    few: list[torch.Tensor | str],
    many: list[torch.Tensor | str],
    n_few: int,
    n_many: int,
) -> Tried:
    for outputs in (few, many):
        if problem := run_problem(len(outputs)):
            return Tried(problem)
    one, three = few[0], many[0]
    if isinstance(one, str) or isinstance(three, str):
        kind = one if isinstance(one, str) else three
        return Tried(f"return one tensor with one row per image; it returns {kind}")
    sizes = list(zip(one.shape, three.shape, strict=False))
    axes = [k for k, pair in enumerate(sizes) if pair == (n_few, n_many)]
    if n_few != n_many:  # every other axis is the same
        others = [pair for k, pair in enumerate(sizes) if k not in axes]
        same = one.ndim == three.ndim and all(a == b for a, b in others)
        axes = axes if same and len(axes) == 1 else []
    if not axes:
        return Tried(
            "return one tensor with one row per image; it returns the shape "
            f"{tuple(three.shape)} for {n_many} images, which is on no axis"
        )
    row = one.movedim(axes[0], 0).reshape(n_few, -1)
    return Tried("", axes[0], row)


def _in_company(tried: Tried, output: torch.Tensor | str) -> bool:
    """Whether the image has another row in company than alone."""
    if tried.row is None or isinstance(output, str):
        return False
    rows = output.movedim(tried.axis, 0)  # the image is the first and the third
    return any(_differ(tried.row, row.reshape(1, -1), exact=False) for row in rows[::2])


def _differ(
    first: torch.Tensor | str, second: torch.Tensor | str, *, exact: bool
) -> bool:
    """Whether two outputs differ by more than rounding, or at all."""
    if isinstance(first, str) or isinstance(second, str) or first.is_meta:
        return False
    if first.shape != second.shape:
        return True
    a, b = (t.to("cpu", torch.float64) for t in (first, second))
    finite = a.isfinite() & b.isfinite()  # others are refused with the image's name
    a, b = a[finite], b[finite]
    on_cpu = first.device.type == "cpu"  # there, equal passes agree to the last bit
    usual = _ROUNDING_CPU if on_cpu else _ROUNDING_TF32
    bound = _ROUNDING.get(first.dtype, usual)
    if exact:
        bound = 0.0 if on_cpu else 1e-5
    return bool((a - b).norm() > bound * a.norm())


def _random_state() -> tuple[object, ...]:
    """State of the generators that a forward pass may draw from."""
    torch_cpu = torch.default_generator.get_state().numpy().tobytes()
    cuda: list[bytes] = []
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cuda = [s.numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch_cpu, cuda, repr(legacy["state"]), hash(random.getstate())


def _shapes(
    model: VisionModel, x: torch.Tensor, layers: Sequence[str], sizes: tuple[int, int]
) -> dict[str, Tried]:
    """A trial of shapes alone, which copies no features."""
    with evaluating(model.module):
        few, many = (
            _outputs(model, torch.stack([x] * n), layers, copy=False) for n in sizes
        )
    return _judged(few, many, *sizes)


def _advice(model: VisionModel, layer: str, x: torch.Tensor, batch_size: int) -> str:
    """Layers to name instead, each of them tried: around it, within, or others."""
    module = model.module
    every = list(dict(module.named_modules()))[1:]
    sizes = (1, max(1, min(_COMPANY, batch_size)))
    found = _shapes(model, x, every, sizes)
    usable = [name for name in every if not found[name].problem]
    around = [name for name in usable if layer.startswith(f"{name}.")]
    if around:
        return f"Name the block around it instead: {around[-1]!r}."
    within = [name for name in inner_names(module, layer) if name in usable]
    if within:
        return f"Name its parts instead: {listing(within)}."
    defaults = [name for name in default_layers(module) if name in usable]
    if others := defaults or usable:
        return f"Name another layer, such as {listing(others)}."
    return "Wrap it in a module that returns one tensor."
