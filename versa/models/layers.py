"""Which layers of a network to look at, and how to look without leaving a trace."""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn

from versa.models.architectures import AlexNetGN
from versa.models.images import network_input
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
_PASSING_ON_NAMES = ("DropPath", "StochasticDepth", "PatchDropout")
_PROBES = 2  # images of a trial pass; with one, any axis of length 1 looks like them


def default_layers(module: nn.Module) -> tuple[str, ...]:
    """Layers that a neuroscientist would analyse: the outputs of the blocks.

    Parameters
    ----------
    module : nn.Module
        AlexNetGN and the families of torchvision and timm (AlexNet, VGG, SqueezeNet,
        MobileNet, DenseNet, ResNet, ResNeXt, ConvNeXt, EfficientNet, ViT) have a rule.
        Of any other module: its children, containers opened into their own children.

    Returns
    -------
    layers : tuple of str
        Dotted names, in the order of registration. The network is not run.

    Examples
    --------
    >>> default_layers(nn.Sequential(nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Tanh()))
    ('0.0', '0.1', '1')
    """
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
    if isinstance(children.get("features"), nn.Sequential):
        return _feature_layers(type(module).__name__, children)
    names: list[str] = []
    for name, child in children.items():
        if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            names += [f"{name}.{k}" for k, _ in child.named_children()]
        else:
            names.append(name)
    return tuple(n for n in names if not _passes_on(module.get_submodule(n)))


def resolve_layers(
    model: VisionModel,
    layer_list: Sequence[str] | str | None = None,
    x: torch.Tensor | None = None,
) -> tuple[str, ...]:
    """Names of the layers that a request means; see `requested_layers` and
    `usable_layers`, which makes a trial pass where it is needed."""
    names, sure = requested_layers(model, layer_list)
    return names if sure else usable_layers(model, names, x)


def requested_layers(
    model: VisionModel, layer_list: Sequence[str] | str | None
) -> tuple[tuple[str, ...], bool]:
    """Names that a request may mean, and whether it means all of them.

    A list of dotted names means them, None the layers of the network's card. Of
    "leaf", all modules without children (for AlexNetGN without ``ave_pool``, which
    repeats ``conv_block_5.3``), and of the defaults of other networks, it means those
    that have one output per image.
    """
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
    for name in names:
        if name not in known:
            raise ValueError(unknown(f"layer of {model.name}", name, known))
    return unique_names(names, "layer_list"), True


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
    """One forward pass of a batch (n_images, 3, height, width), for those who watch.

    What the network raises comes as one sentence; errors of those who watch pass as
    they are. `place` is where the network is.
    """
    place = place or device_of(model.module)
    try:
        model.module(batch.to(place))
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"batch_size must be smaller; {len(batch)} images of {model.name} do not "
            f"fit into the memory of {place}."
        ) from error
    except (
        AssertionError,
        IndexError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        if not isinstance(error, RuntimeError) and _comes_from_watcher(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{model.name} cannot take a batch of shape {tuple(batch.shape)}: "
            f"{lines[0].rstrip('.')}. Check its preprocess."
        ) from error


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
    module: nn.Module, layer: str, output: object, n_images: int
) -> torch.Tensor:
    """Output of a layer as rows (n_images, n_units), in the same memory if it can be.

    The network is needed for the advice in the error.
    """
    problem = _problem(output, n_images)
    if problem or not isinstance(output, torch.Tensor):
        raise ValueError(
            f"layer {layer!r} must return one tensor with one row per image; it "
            f"returns {problem}. {_advice(module, layer)}"
        )
    return output.detach().reshape(n_images, -1)


def require_all_ran(module: nn.Module, runs: Mapping[str, int]) -> None:
    """Refuse layers that did not run exactly once in a forward pass."""
    for layer, count in runs.items():
        if count != 1:
            times = "does not run" if count == 0 else f"runs {count} times"
            raise ValueError(
                f"layer {layer!r} must run once per forward pass; it {times}. "
                f"{_advice(module, layer)}"
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


def usable_layers(
    model: VisionModel, layers: Sequence[str], x: torch.Tensor | None = None
) -> tuple[str, ...]:
    """Those of the layers that have one output per image, in the order of execution.

    An input (3, height, width) passes twice, as one batch; by default noise of
    256 x 256, which a network without a resizing preprocess may not take.
    """
    runs: dict[str, list[str]] = {}  # layer: the problem of each of its outputs

    def receive(layer: str, output: object) -> None:
        runs.setdefault(layer, []).append(_problem(output, _PROBES))

    if x is None:
        rng = np.random.default_rng(0)
        noise = Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))
        x = network_input(noise, model.preprocess, "noise")
    with evaluating(model.module), watch_layers(model.module, layers, receive):
        run_network(model, torch.stack([x] * _PROBES))
    kept = [name for name, problems in runs.items() if problems == [""]]
    if left_out := [name for name in layers if name not in kept]:
        logger.info(
            "%s: left out %s, which have no single output per image.",
            model.name,
            listing(left_out),
        )
    if not kept:
        raise ValueError(
            f"{model.name} must have a layer with one output per image; tried "
            f"{listing(layers)}. Name the layers in layer_list."
        )
    return tuple(kept)


def _problem(output: object, n_images: int) -> str:
    """What keeps an output from being one row per image; empty if nothing does."""
    if not isinstance(output, torch.Tensor):
        return f"a {type(output).__name__}"
    shape = tuple(output.shape)
    if not shape or shape[0] != n_images:
        return f"the shape {shape} for {n_images} images"
    if output.numel() == 0 or output.layout != torch.strided or output.is_complex():
        return f"a tensor of shape {shape}, {output.dtype} and {output.layout}"
    return ""


def _advice(module: nn.Module, layer: str) -> str:
    """What to hook instead: the block around a layer, or the items of a list."""
    part = module.get_submodule(layer)
    if isinstance(part, nn.ModuleList | nn.ModuleDict) and len(part):
        items = [f"{layer}.{name}" for name, _ in part.named_children()]
        return f"Name its items instead: {listing(items)}."
    around = layer.rpartition(".")[0]
    while around and isinstance(
        module.get_submodule(around), nn.ModuleList | nn.ModuleDict
    ):
        around = around.rpartition(".")[0]
    if around:
        return f"Name the block around it instead: {around!r}."
    parts = dict(module.named_modules(remove_duplicate=False))
    others = [name for name in default_layers(module) if parts.get(name) is not part]
    if others:
        return f"Name another layer, such as {listing(others)}."
    return "Wrap it in a module that returns one tensor."
