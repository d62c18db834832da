"""Which layers of a network to look at."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from versa.models.architectures import AlexNetGN
from versa.models.layer_names import parsed
from versa.models.taskonomy import TaskonomyEncoder
from versa.models.vision import VisionModel
from versa.wording import listing, unique_names, unknown

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
    modules = dict(module.named_modules(remove_duplicate=False))
    layers = [parsed(name, modules).module for name in layers]
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
        if parsed(name, known).module not in known:
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


def inner_names(module: nn.Module, layer: str) -> tuple[str, ...]:
    """Names of the modules within a layer, outer ones first, at most two levels."""
    modules = dict(module.named_modules(remove_duplicate=False))
    layer = parsed(layer, modules).module
    below = modules[layer].named_modules()
    names = [name for name, _ in below if name and name.count(".") < 2]
    return tuple(
        f"{layer}.{name}" for name in sorted(names, key=lambda n: n.count("."))
    )


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
