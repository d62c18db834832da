"""Which layers of a network to look at, and how to look without leaving a trace."""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from versa.models.architectures import AlexNetGN
from versa.models.taskonomy import TaskonomyEncoder
from versa.models.vision import VisionModel
from versa.wording import listing, unique_names, unknown

logger = logging.getLogger("versa")

# torchvision's AlexNet: the ReLUs, the last pool, the fully connected ones
_ALEXNET = tuple(f"features.{k}" for k in (1, 4, 7, 9, 11, 12))
_RESNET_ENDS = (
    ("relu", "act1", "maxpool"),
    ("avgpool", "global_pool", "fc"),
)
_BLOCK_TOPS = ("norm", "global_pool", "classifier")
# modules that give their input on unchanged in eval mode, or only reshape it
_PASSING_ON = (
    nn.Identity,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_OTHERS = "Name another layer; versa.list_layers shows those that can be analysed."
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WRAPPED = 0.9  # share of a network above which what holds it is a wrapper
_PASSING_ON_NAMES = ("DropPath", "StochasticDepth", "PatchDropout")


def default_layers(module: nn.Module) -> tuple[str, ...]:
    """Layers that a neuroscientist would analyse: the outputs of the blocks.

    Parameters
    ----------
    module : nn.Module
        AlexNetGN and the families of torchvision and timm (AlexNet, VGG, SqueezeNet,
        MobileNet, DenseNet, ResNet, ResNeXt, ConvNeXt, EfficientNet, ViT) have a rule.
        Of any other module: its children, containers opened into their own children;
        a child that holds most of the parameters (a network within a wrapper, an
        encoder) is opened in the same way as far as blocks lie below it.

    Returns
    -------
    layers : tuple of str
        Dotted names, in the order of registration. The network is not run.

    Examples
    --------
    >>> default_layers(nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Tanh()))
    ('0.0', '0.1', '1')
    >>> default_layers(nn.Sequential(nn.Identity(), nn.Sequential(nn.Conv2d(3, 4, 3))))
    ('1.0',)
    """
    _require_python(module, ())
    known = _known_layers(module)
    return _opened_layers(module) if known is None else known


def _known_layers(module: nn.Module) -> tuple[str, ...] | None:
    """The layers of a family with a rule; None of any other module."""
    if isinstance(module, AlexNetGN | TaskonomyEncoder):
        return tuple(module.layers)
    children = dict(module.named_children())
    if all(isinstance(children.get(f"layer{k}"), nn.Sequential) for k in (1, 2, 3, 4)):
        return _resnet_layers(children)
    if "encoder" in children:  # torchvision's ViT
        encoder = dict(children["encoder"].named_children())
        if isinstance(encoder.get("layers"), nn.Sequential):
            blocks = [
                f"layers.{name}" for name, _ in encoder["layers"].named_children()
            ]
            ends = ["ln"] if "ln" in encoder else []
            return tuple(f"encoder.{name}" for name in (*blocks, *ends))
    for trunk in ("blocks", "stages"):  # timm's ViT and EfficientNet; its ConvNeXt
        if isinstance(children.get(trunk), nn.Sequential | nn.ModuleList):
            stem = ["stem"] if "stem" in children else []
            blocks = [f"{trunk}.{name}" for name, _ in children[trunk].named_children()]
            tops = [name for name in _BLOCK_TOPS if _computes(children, name)]
            return (*stem, *blocks, *tops)
    features = children.get("features")
    if isinstance(features, nn.Sequential) and not any(
        n_parameters(part) > _WRAPPED * n_parameters(features)
        and _within(part, features)
        for part in features
    ):
        return _feature_layers(type(module).__name__, children)
    return None


def _opened_layers(module: nn.Module) -> tuple[str, ...]:
    """The children of a module; containers, and the child that holds most, opened."""
    parts: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        if isinstance(child, _CONTAINERS):
            parts += [(f"{name}.{k}", part) for k, part in child.named_children()]
        else:
            parts.append((name, child))
    names: list[str] = []
    for name, part in parts:
        if inner := _within(part, module):
            names += [f"{name}.{below}" for below in inner]
        elif not _passes_on(part):
            names.append(name)
    return tuple(names)


def _within(part: nn.Module, whole: nn.Module) -> tuple[str, ...]:
    """Layers within a part that holds most of the whole, if blocks lie below it."""
    share = n_parameters(part) / max(1, n_parameters(whole))
    if share <= 0.5 or isinstance(part, torch.jit.ScriptModule):
        return ()
    if (known := _known_layers(part)) is not None:
        return known
    if isinstance(part, _CONTAINERS):
        return _opened_layers(part)
    below = list(part.children())
    wraps = share > _WRAPPED and not type(part).__module__.startswith(
        "torch.nn.modules"
    )
    if (wraps and below) or any(
        (
            isinstance(child, _CONTAINERS)
            and n_parameters(child) > 0.5 * n_parameters(part)
        )
        or _within(child, part)
        for child in below
    ):
        return _opened_layers(part)
    return ()


def n_parameters(module: nn.Module) -> int:
    """How many numbers the parameters of a module have."""
    return sum(p.numel() for p in module.parameters() if not is_lazy(p))


def left_out_mass(module: nn.Module, layers: Sequence[str]) -> tuple[float, str]:
    """Share of the parameters in modules that hold no layer and lie in none, and the
    name of the largest. Modules without children count with what follows them."""
    prefixes = [f"{name}." for name in layers]
    left_out: dict[str, int] = {}

    def walk(part: nn.Module, name: str) -> None:
        for own, child in part.named_children():
            path = f"{name}{own}"
            if path in layers:
                continue
            if any(prefix.startswith(f"{path}.") for prefix in prefixes):
                walk(child, f"{path}.")
            elif any(True for _ in child.children()):
                left_out[path] = n_parameters(child)

    walk(module, "")
    total = max(1, n_parameters(module))
    largest = max(left_out, key=lambda name: left_out[name], default="")
    return sum(left_out.values()) / total, largest


def requested_layers(
    model: VisionModel, layer_list: Sequence[str] | str | None
) -> tuple[tuple[str, ...], bool]:
    """Names that a request may mean, and whether it means all of them.

    A list of dotted names means them, None the layers of the network's card. Of
    "leaf", all modules without children (for AlexNetGN without ``ave_pool``, which
    repeats ``conv_block_5.3``), and of the defaults of other networks, it means those
    that have one output per image.
    """
    _require_python(model.module, ())
    if layer_list is None:
        return model.layers, model.card is not None
    if isinstance(layer_list, str):
        if layer_list != "leaf":
            raise ValueError(
                f"layer_list must be a list of names or 'leaf'; got {layer_list!r}. "
                f"Write [{layer_list!r}]."
            )
        return _leaves(model.module), False
    names = list(layer_list)
    if not names:
        raise ValueError(
            "layer_list must name at least one layer; got an empty list. Leave it out "
            f"for {listing(model.layers)}."
        )
    for name in names:
        if not isinstance(name, str):
            raise ValueError(
                f"layer_list must hold names as text; got {name!r} of type "
                f"{type(name).__name__}. Write {str(name)!r}."
            )
    known = [n for n, _ in model.module.named_modules(remove_duplicate=False) if n]
    if "leaf" in names and "leaf" not in known:
        raise ValueError(
            "layer_list must be either 'leaf', which stands alone, or a list of names; "
            f"got {names}. Write 'leaf', or only the names."
        )
    _require_python(model.module, names)
    for name in names:
        if name not in known:
            raise ValueError(unknown(f"layer of {model.name}", name, known))
    return unique_names(names, "layer_list"), True


def _require_python(module: nn.Module, layers: Sequence[str]) -> None:
    """Refuse a TorchScript module, and layers within one: no hook of theirs runs."""
    scripted = [
        name
        for name, part in module.named_modules()
        if isinstance(part, torch.jit.ScriptModule)
    ]
    inside = [
        layer
        for layer in layers
        if any(layer.startswith(f"{name}.") for name in scripted if name)
    ]
    if "" in scripted or inside:
        what = f"layers {listing(inside)} lie in" if inside else "the network is"
        raise ValueError(
            f"layers must be modules that Python runs; {what} a TorchScript module "
            "(scripted, traced or frozen), whose layers cannot be watched. Build the "
            "network as an nn.Module and load the weights of the scripted one."
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients for a while; every submodule's mode and every buffer
    comes back, as some networks count or average in each forward pass."""
    modes = {part: part.training for part in module.modules()}
    buffers = [
        (part, name, buffer, buffer._version, buffer.detach().clone())
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
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(before)


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
    module = model.module
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module  # its copies would each see a part of the batch
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

    An output may be changed in place by the next module as soon as `receive` returns,
    so it must be copied there. The hooks are gone after the block, also on an error.
    """
    handles = []
    try:
        for name in layers:
            part = module.get_submodule(name)
            handles.append(
                part.register_forward_hook(partial(_hand_over, receive, name))
            )
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


def inner_names(module: nn.Module, layer: str) -> tuple[str, ...]:
    """Names of the modules within a layer, outer ones first, at most two levels."""
    below = module.get_submodule(layer).named_modules()
    names = [name for name, _ in below if name and name.count(".") < 2]
    return tuple(
        f"{layer}.{name}" for name in sorted(names, key=lambda n: n.count("."))
    )


def _hand_over(
    receive: Callable[[str, object], None],
    layer: str,
    _module: nn.Module,
    _inputs: object,
    output: object,
) -> None:
    """The forward hook of a watched layer."""
    receive(layer, output)


def _comes_from_watcher(error: BaseException) -> bool:
    """Whether an error was raised in a hook of `watch_layers`, not by the network."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is _hand_over.__code__ for frame, _ in frames)


def _resnet_layers(children: Mapping[str, nn.Module]) -> tuple[str, ...]:
    stem, top = (
        [name for name in ends if _computes(children, name)] for ends in _RESNET_ENDS
    )
    blocks = [
        f"layer{k}.{name}"
        for k in (1, 2, 3, 4)
        for name, _ in children[f"layer{k}"].named_children()
    ]
    return (*stem, *blocks, *top)


def _feature_layers(family: str, children: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """Of networks with a trunk ``features`` and a head ``classifier``."""
    if family == "AlexNet":
        trunk = list(_ALEXNET)
    else:
        kept = nn.MaxPool2d if family == "VGG" else nn.Module
        trunk = [
            f"features.{name}"
            for name, child in children["features"].named_children()
            if isinstance(child, kept)
            and not isinstance(child, nn.Conv2d | nn.BatchNorm2d)
            and not _passes_on(child)
        ]
    if getattr(children.get("avgpool"), "output_size", None) in (1, (1, 1)):
        trunk.append("avgpool")
    head = children.get("classifier")
    if not isinstance(head, nn.Sequential):
        return (*trunk, *(["classifier"] if _computes(children, "classifier") else []))
    last = len(head) - 1
    tops = [
        f"classifier.{k}"
        for k, child in enumerate(head)
        if isinstance(child, nn.ReLU) or k == last
    ]
    return (*trunk, *tops)


def _leaves(module: nn.Module) -> tuple[str, ...]:
    repeated = ("ave_pool",) if isinstance(module, AlexNetGN) else ()
    return tuple(
        name
        for name, part in module.named_modules()
        if name
        and name not in repeated
        and not any(True for _ in part.children())
        and not _passes_on(part)
    )


def _passes_on(part: nn.Module) -> bool:
    """Whether a module returns the values of its input in eval mode."""
    return isinstance(part, _PASSING_ON) or type(part).__name__ in _PASSING_ON_NAMES


def _computes(children: Mapping[str, nn.Module], name: str) -> bool:
    return name in children and not _passes_on(children[name])
