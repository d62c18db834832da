"""Forward passes that leave no trace, and a short trial before a long one.

The trial shows which layers can be analysed, and whether what they give is a function
of the image alone: one image passes alone, and twice in the company of another one.
That shows the axis of the images, whatever its place, random numbers, and features that
depend on the batch.
"""

import logging
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.parameter import is_lazy

from versa.models.images import network_input
from versa.models.layer_names import LayerName, output_names, parsed, picked
from versa.models.layers import (
    default_layers,
    inner_names,
    left_out_mass,
    requested_layers,
)
from versa.models.vision import VisionModel
from versa.wording import listing

logger = logging.getLogger("versa")

_OTHERS = "Name another layer; versa.list_layers shows those that can be analysed."
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
RANDOM, DRAWS, COMPANY = "random", "draws", "company"
_COMPANY = 3  # images of the second pass
_REPEATS = 8  # passes of a network that draws random numbers: some change little
# difference of equal images, relative to their features, that rounding may make
_ROUNDING = {torch.float16: 0.05, torch.bfloat16: 0.1}
_ROUNDING_CPU, _ROUNDING_TF32 = 1e-3, 1e-2

_Outputs = dict[str, list[torch.Tensor | str]]  # layer: what each of its runs returned


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients for a while; every submodule's mode and every buffer
    comes back, as some networks count or average in each forward pass."""
    modes = {part: part.training for part in module.modules()}
    buffers = [
        (part, name, buffer, buffer._version, _copied(buffer))
        for part in modes
        for name, buffer in part._buffers.items()
        if buffer is not None and not (buffer.is_meta or buffer.is_inference())
    ]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        for part, name, buffer, version, before in buffers:
            part._buffers[name] = buffer  # it may have been replaced, or written to
            if before is not None and buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(before)


def _copied(tensor: torch.Tensor) -> torch.Tensor | None:
    """A copy, if torch can make one of this kind of tensor (not of all quantised)."""
    try:
        return tensor.detach().clone()
    except RuntimeError:
        return None


def device_of(module: nn.Module) -> torch.device:
    """Device of the first parameter or buffer; the CPU if there is none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def computing_device(
    module: nn.Module, device: str | torch.device | None
) -> torch.device:
    """The device that was asked for, if it is there; by default the module's own."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            state = "no shape yet (a lazy module)"
            if not is_lazy(tensor):
                state = "no numbers (it is on the meta device)"
            raise ValueError(
                f"the network must have its weights; {name} has {state}. Load them "
                "first."
            )
    if device is None:
        return device_of(module)
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].rstrip(".")
        raise ValueError(
            f"device must exist on this machine; got {str(device)!r} ({reason}). Pass "
            "'cpu'."
        ) from None
    if place.type == "meta":
        raise ValueError("device must hold numbers; got 'meta'. Pass 'cpu'.")
    return place


@contextmanager
def on_device(module: nn.Module, place: torch.device) -> Iterator[None]:
    """Module on another device for a while; refused if it is on several."""
    homes = {t.device for t in (*module.parameters(), *module.buffers())}
    home = device_of(module)
    if home == place or not homes:
        yield
        return
    if len(homes) > 1:
        raise ValueError(
            f"device must be left out for a module on several devices; got {place} for "
            f"one on {listing(sorted(map(str, homes)))}."
        )
    try:
        module.to(place)
        yield
    finally:
        module.to(home)


def run_network(
    model: VisionModel, batch: torch.Tensor, place: torch.device | None = None
) -> None:
    """One forward pass of a batch (n_images, ...), for those who watch.

    Floating numbers are given in the type of the weights, and compiled networks run as
    they are written, because compiled code calls no hooks. What the network raises
    comes as one sentence; errors of those who watch pass as they are. `place` is where
    the network is.
    """
    place = place or device_of(model.module)
    module = _unwrapped(model.module)
    try:
        with torch.compiler.set_stance("force_eager"):
            module(batch.to(place, _input_type(module, batch.dtype)))
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"batch_size must be smaller; {len(batch)} images of {model.name} do not "
            f"fit into the memory of {place}."
        ) from error
    except Exception as error:
        if not isinstance(error, RuntimeError) and _comes_from_watcher(error):
            raise
        lines = str(error).strip().splitlines() or [""]
        plain = isinstance(error, RuntimeError | ValueError) and lines[0]
        reason = lines[0] if plain else f"{type(error).__name__}: {lines[0]}"
        where = _failing_layer(model.module, error)
        raise ValueError(
            f"{model.name} cannot take a batch of shape {tuple(batch.shape)}: "
            f"{reason.rstrip('.: ')}{where}. Check its preprocess, and that its "
            "forward needs the images alone."
        ) from error


def _unwrapped(module: nn.Module) -> nn.Module:
    """The network itself: copies of it would each see a part of the batch."""
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    return module


def _input_type(module: nn.Module, given: torch.dtype) -> torch.dtype:
    """Type of the weights (the first that are no scalar), for floating inputs."""
    if given.is_floating_point:
        for weight in module.parameters():
            if weight.ndim and weight.dtype in _FLOATS:
                return weight.dtype
    return given


def _failing_layer(module: nn.Module, error: BaseException) -> str:
    """Where in a network an error was raised: its innermost module with a name."""
    names = {id(part): name for name, part in module.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = names.get(id(frame.f_locals.get("self")), "") or found
    return f" (in layer {found!r})" if found else ""


@contextmanager
def watch_layers(
    module: nn.Module, layers: Sequence[str], receive: Callable[[str, object], None]
) -> Iterator[None]:
    """Hand every output of the named layers to `receive` until the block ends.

    A name may be of one run or one output; see `versa.models.layer_names`. An output
    may be changed in place by the next module as soon as `receive` returns, so it must
    be copied there. The hooks are gone after the block, also on an error.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    names: dict[str, list[tuple[str, LayerName]]] = {}
    for name in layers:
        meant = parsed(name, modules)
        names.setdefault(meant.module, []).append((name, meant))
    runs: Counter[str] = Counter()

    def begin(*_: object) -> None:
        runs.clear()

    handles = []
    try:
        for part in (module, _unwrapped(module), getattr(module, "_orig_mod", module)):
            handles.append(part.register_forward_pre_hook(begin))
        for own, wanted in names.items():
            hook = partial(_hand_over, receive, wanted, runs, own)
            handles.append(module.get_submodule(own).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def output_rows(
    layer: str, output: object, n_images: int, axis: int = 0
) -> torch.Tensor:
    """Output of a layer as rows (n_images, n_units), in the same memory if it can be.

    `axis` is that of the images, as a trial found it.
    """
    tensor = single_tensor(output)
    if isinstance(tensor, torch.Tensor) and tensor.shape[axis : axis + 1] != (
        n_images,
    ):
        tensor = f"the shape {tuple(tensor.shape)} for {n_images} images"
    if isinstance(tensor, str):
        raise ValueError(
            f"layer {layer!r} must return one tensor with one row per image; it "
            f"returns {tensor}. {_OTHERS}"
        )
    return tensor.detach().movedim(axis, 0).reshape(n_images, -1)


def single_tensor(output: object) -> torch.Tensor | str:
    """The tensor that a layer returns, alone or as the only one of a collection; or
    what it returns instead. Quantised numbers are given as what they stand for."""
    items: list[object] = [output]
    if isinstance(output, Mapping):
        items = list(output.values())
    elif isinstance(output, tuple | list):
        items = list(output)
    items = [item for item in items if item is not None]
    if len(items) != 1 or not isinstance(items[0], torch.Tensor):
        return f"a {type(output).__name__}"
    tensor = items[0]
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.numel() == 0 or tensor.layout != torch.strided or tensor.is_complex():
        return (
            f"a tensor of shape {tuple(tensor.shape)}, {tensor.dtype} and "
            f"{tensor.layout}"
        )
    return tensor


def require_all_ran(runs: Mapping[str, int]) -> None:
    """Refuse layers that did not run exactly once in a forward pass."""
    for layer, count in runs.items():
        if problem := run_problem(count):
            raise ValueError(f"layer {layer!r} must {problem}. {_OTHERS}")


def run_problem(count: int) -> str:
    """What is wrong with a layer that runs so often in a pass; empty if nothing is."""
    if count == 1:
        return ""
    times = "does not run" if count == 0 else f"runs {count} times"
    return f"run once per forward pass; it {times}"


def _hand_over(
    receive: Callable[[str, object], None],
    wanted: Sequence[tuple[str, LayerName]],
    runs: Counter[str],
    own: str,
    _module: nn.Module,
    _inputs: object,
    output: object,
) -> None:
    """The forward hook of a watched module."""
    run = runs[own]
    runs[own] += 1
    for name, meant in wanted:
        if meant.run in (None, run):
            receive(name, picked(output, name, meant.keys))


def _comes_from_watcher(error: BaseException) -> bool:
    """Whether an error was raised in a hook of `watch_layers`, not by the network."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is _hand_over.__code__ for frame, _ in frames)


# ---- the trial -----------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """What a trial shows of one layer.

    `problem` is empty if the layer gives one row per image. Then `axis` is that of the
    images, `row` (1, n_units) what it makes of the image alone, `shape` its shape, and
    `unsteady` is "random", "draws" (of random numbers, whose effect was not seen) or
    "company" where it is, or may be, no function of the image alone.
    """

    problem: str
    axis: int = 0
    row: torch.Tensor | None = None
    shape: tuple[int, ...] = ()
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
        for _ in range(_REPEATS if drew or any(changed.values()) else 0):
            again.append(_outputs(model, x[None], usable))
        late = _after_draws(model, x, usable) if drew else set()
    for layer in usable:
        first, others = alone[layer][0], [outputs[layer][0] for outputs in again]
        unlike = any(_differ(first, other, exact=drew) for other in others)
        seen = RANDOM if unlike else COMPANY if changed[layer] else ""
        unsteady = seen or (DRAWS if layer in late else "")
        found[layer] = replace(found[layer], unsteady=unsteady)
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
            "%s: left out %s, which have no single output per image; "
            "versa.list_layers names their runs and outputs.",
            model.name,
            listing(left_out),
        )
    share, largest = left_out_mass(model.module, kept)
    if share > 0.5:
        logger.warning(
            "%s: most of the network is left out: %.0f%% of its parameters lie outside "
            "the layers %s, most in %s. Name the layers in layer_list; "
            "versa.list_layers shows what can be named.",
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
    return keep_usable(model, layers, try_shapes(model, x, layers))


def try_shapes(
    model: VisionModel, x: torch.Tensor, layers: Sequence[str]
) -> dict[str, Tried]:
    """A trial of shapes alone, in batches of two and three."""
    return _shapes(model, x, layers, (2, 3))


def usable_parts(
    model: VisionModel, layers: Sequence[str], x: torch.Tensor
) -> dict[str, dict[str, Tried]]:
    """Of layers that run several times, or return several tensors: their names, such
    as ``IT:4[0]``, and what a trial shows of each that can be analysed."""
    outputs: dict[str, list[object]] = {layer: [] for layer in layers}
    with (
        evaluating(model.module),
        watch_layers(model.module, layers, lambda k, output: outputs[k].append(output)),
    ):
        run_network(model, torch.stack([x, x]))
    parts: dict[str, dict[str, Tried]] = {}
    for layer, found in outputs.items():
        several = len(found) > 1
        names = [
            name
            for run, output in enumerate(found)
            for name in output_names(f"{layer}:{run}" if several else layer, output)
        ]
        tried = {} if names in ([], [layer]) else try_shapes(model, x, names)
        usable = {name: one for name, one in tried.items() if not one.problem}
        if usable:
            parts[layer] = usable
    return parts


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
    if names := [layer for layer, kind in unsteady.items() if kind == DRAWS]:
        sentences.append(
            f"{rule}; random numbers are drawn before the output of {listing(names)}, "
            f"though the same image gave the same result in {_REPEATS} passes (perhaps "
            "a part that is left out now and then, such as stochastic depth): scores "
            "may differ from fit to fit, and none is kept in the cache. Switch that "
            "off in the network, or name earlier layers."
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


def _after_draws(
    model: VisionModel, x: torch.Tensor, layers: Sequence[str]
) -> set[str]:
    """Layers before whose output random numbers were drawn in a pass."""
    state, late = _random_state(), set()

    def receive(layer: str, _: object) -> None:
        if _random_state() != state:
            late.add(layer)

    with watch_layers(model.module, layers, receive):
        run_network(model, x[None])
    return late


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
    rows = one.movedim(axes[0], 0)
    shape = tuple(rows.shape[1:])
    return Tried("", axes[0], rows.reshape(n_few, -1), shape)


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
    parts = usable_parts(model, [layer], x).get(layer)
    if parts:
        return f"Name one of its runs or outputs, counted from 0: {listing(parts)}."
    within = [name for name in inner_names(module, layer) if name in usable]
    if within:
        return f"Name its parts instead: {listing(within)}."
    defaults = [name for name in default_layers(module) if name in usable]
    if others := defaults or usable:
        return f"Name another layer, such as {listing(others)}."
    return "Wrap it in a module that returns one tensor."
