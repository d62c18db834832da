"""From a card to its module, with initial weights or those of a state dict.

Networks are built by their builder: AlexNet-GN, Taskonomy's encoder, torchvision, timm
and installed plug-ins; on the meta device where only names and shapes are wanted.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from versa.models.zoo.cards import BUILDERS, ModelCard
from versa.models.zoo.reading import DAMAGED
from versa.models.zoo.state_dicts import StateDict
from versa.wording import listing, unknown

# what torchvision's pretrained builders change
_TORCHVISION_OPTIONS = {
    "googlenet": {"transform_input": True, "aux_logits": True},
    "inception_v3": {"transform_input": True, "aux_logits": True},
}
_HEADS = ("fc", "classifier", "heads", "head")
# packages whose networks a card may name: torch's, and those of versa's own cards
_PACKAGES = ("torch", "torchvision", "timm", "versa", "cornet", "vonenet")
# what would have timm read another file than the card's, which has no hash
_TIMM_FILES = ("cache_dir", "checkpoint_path", "pretrained_cfg")
_named_by_user: set[str] = set()


def constructor(
    card: ModelCard, options: Mapping[str, Any] | None = None
) -> Callable[[], nn.Module]:
    """Function that builds the network of a card, perhaps with other options.

    Raises ImportError at once if the package of a plug-in is not installed.
    """
    find_builder(card.builder, requires=card.requires)
    chosen = card.options if options is None else options
    return functools.partial(
        build_network, card.builder, chosen, requires=card.requires
    )


def build_network(
    builder: str, options: Mapping[str, Any] | None = None, *, requires: str = ""
) -> nn.Module:
    """Make a module with its initial weights.

    `builder` is one of `BUILDERS` or ``package.module:callable``, `options` are its
    arguments, and `requires` is what to install if the package is not there.
    """
    build = find_builder(builder, requires=requires)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # some plug-ins print
            module = build(**(options or {}))
    except (AssertionError, TypeError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"options must suit {builder}: {reason}.") from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"builder must return an nn.Module; {builder} returns "
            f"{type(module).__name__}."
        )
    return module


def find_builder(builder: str, *, requires: str = "") -> Callable[..., Any]:
    """The constructor that a card names, imported; refused unless it makes networks.

    Cards are shared like data: nothing of a package is imported or called that is not
    known, or named by the user in the variable VERSA_BUILDERS.
    """
    own = BUILDERS.get(builder)
    module_name, attribute = own or builder.split(":")
    package = module_name.partition(".")[0]
    trusted = own is not None or package in _trusted_packages()
    if not trusted and package not in _PACKAGES:
        raise ValueError(
            f"builder must be a network of {', '.join(_PACKAGES)}; got {builder!r}, "
            "which a card could use to run any code. If you trust the card and the "
            f"package, set VERSA_BUILDERS={package}."
        )
    try:
        build: Callable[..., Any] = getattr(
            importlib.import_module(module_name), attribute
        )
    except (ImportError, AttributeError) as error:
        if own:
            raise
        raise ImportError(
            f"{builder} must be installed to build this network; it is not there "
            f"({error}). Install it with `pip install {requires or package}`."
        ) from error
    if not (trusted or _makes_networks(build, attribute)):
        raise ValueError(
            "builder must be a class of nn.Module, or a network that torchvision or "
            f"timm lists; got {builder!r}, which is none and is not called."
        )
    return build


def trust_package_of(builder: str) -> None:
    """Let this process use the package of a builder that the user named himself."""
    _named_by_user.add(builder.partition(":")[0].partition(".")[0])


def _trusted_packages() -> list[str]:
    """Packages of which the user lets a card name anything."""
    named = os.environ.get("VERSA_BUILDERS", "").split(",")
    return [*_named_by_user, *(name.strip() for name in named if name.strip())]


def _makes_networks(build: object, name: str) -> bool:
    """Whether it is a class of modules, or a listed network of torchvision or timm.

    Of versa's own functions it is the one that exported training runs name.
    """
    if isinstance(build, type):
        return issubclass(build, nn.Module)
    module = getattr(build, "__module__", "")
    if (module, name) == ("versa.models.ipcl.network", "embedding_network"):
        return True
    home = module.partition(".")[0]
    if home == "torchvision":
        from torchvision import models

        return name in models.list_models() and models.get_model_builder(name) is build
    if home == "timm":
        import timm

        return timm.is_model(name) and timm.model_entrypoint(name) is build
    return False


# ---- builders of our own -------------------------------------------------------------


def torchvision_network(
    name: str,
    *,
    head: bool = True,
    max_pool: str = "torch",
    init_weights: bool = False,
    **options: Any,
) -> nn.Module:
    """A network of torchvision with its initial weights.

    Without `head`, the classifier's place gives the pooled features. `max_pool` is the
    padding of a ResNet's stem: "torch", one pixel on every side, or "same", as in
    TensorFlow for inputs of even size, at the bottom and right only. `init_weights`
    gives GoogLeNet and Inception their slow initialisation.
    """
    from torchvision import models

    if max_pool not in ("torch", "same"):
        raise ValueError(unknown("max_pool", max_pool, ["torch", "same"]))
    chosen = {**_TORCHVISION_OPTIONS.get(name, {}), **options}
    if name in _TORCHVISION_OPTIONS:
        chosen["init_weights"] = init_weights
    module: nn.Module = models.get_model(name, weights=None, **chosen)
    if max_pool == "same":
        if not isinstance(getattr(module, "maxpool", None), nn.MaxPool2d):
            raise ValueError(
                f"max_pool must be 'torch' for {name}, which has no max-pool in its "
                "stem."
            )
        # after a ReLU, zeros beyond the border are as good as nothing at all
        module.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))
    if not head:
        place = next((part for part in _HEADS if hasattr(module, part)), None)
        if place is None:
            raise ValueError(f"head must be true for {name}, which has none to drop.")
        setattr(module, place, nn.Identity())
    return module


def timm_network(name: str, **options: Any) -> nn.Module:
    """A network of ``timm.create_model`` with its initial weights.

    `name` is one that timm lists, not the address of a hub or a folder.
    """
    import timm

    if not timm.is_model(name):
        raise ValueError(unknown("model of timm", name, timm.list_models()))
    check_timm_options(options)
    module: nn.Module = timm.create_model(name, pretrained=False, **options)
    return module


def check_timm_options(options: Mapping[str, Any]) -> None:
    """Refuse options that make timm read a file by itself, whose hash nobody checks."""
    if files := [key for key in options if key.startswith(_TIMM_FILES)]:
        raise ValueError(
            f"options of timm must not name files; got {files[0]}. Pass your file as "
            "weights=, or name it in the card."
        )


# ---- initial weights, or none --------------------------------------------------------


def build_seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network on the CPU with PyTorch's own initialisation under a seed.

    The same seed gives the same weights in every process, and the global random
    state is left as it was.

    >>> first, second = (build_seeded(lambda: nn.Linear(2, 1), 3) for _ in range(2))
    >>> bool((first.weight == second.weight).all())
    True
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed reseeds GPUs too
        return build()


def on_meta_device(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network as names and shapes: no memory for weights, no initialisation.

    A network whose constructor reads a number of a tensor is built in full and moved.
    """
    try:
        with torch.device("meta"), _NoInitialisation():
            module = build()
    except (NotImplementedError, RuntimeError, ValueError):
        module = build_seeded(build, 0)
    return module.to("meta")


class _NoInitialisation(torch.overrides.TorchFunctionMode):
    """Leaves out what would only write into tensors without memory: half the time."""

    _METHODS = ("fill_", "normal_", "uniform_", "zero_")
    _WRITING = frozenset(getattr(torch.Tensor, name) for name in _METHODS)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """See the base class."""
        if func in self._WRITING and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


# ---- the weights of a file -----------------------------------------------------------


def fill(
    network: nn.Module, state: StateDict, build: Callable[[], nn.Module]
) -> nn.Module:
    """Give a network on the meta device its weights, which must be exactly those.

    They are not copied where their type is right. `build` makes the network anew if it
    holds what no file does, such as buffers that are computed.
    """
    expected = network.state_dict()
    typed: Any = OrderedDict(
        (key, _typed(value, expected[key].dtype) if key in expected else value)
        for key, value in state.values.items()
    )
    if state.layout.versions:
        typed._metadata = getattr(state.values, "_metadata", {})
    _fill(network, typed, state)
    if _has_meta(network):
        network = build_seeded(build, 0)
        _fill(network, typed, state)
    return network


def _typed(value: Any, dtype: torch.dtype) -> torch.Tensor:
    return torch.as_tensor(value).to(dtype)  # old files hold arrays of NumPy


def _fill(module: nn.Module, values: Mapping[str, Any], state: StateDict) -> None:
    try:
        found = module.load_state_dict(values, strict=False, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{state.source} does not fit the network: {reason}"
        ) from error
    absent = [key for key in found.missing_keys if not state.layout.may_lack(key)]
    if absent or found.unexpected_keys:
        raise ValueError(
            f"{state.source} does not fit the network: it lacks "
            f"{listing(absent) or 'no key'} and holds "
            f"{listing(found.unexpected_keys) or 'no other'}."
        )


def _has_meta(module: nn.Module) -> bool:
    """Whether a tensor has no content: a parameter, a buffer or a plain attribute."""
    return any(
        isinstance(value, torch.Tensor) and value.is_meta
        for part in module.modules()
        for held in (part._parameters, part._buffers, vars(part))
        for value in held.values()
    )


def timm_with_weights(path: Path, name: str, **options: Any) -> nn.Module:
    """A network of timm, `options` as of ``timm.create_model``, with a file's weights.

    Of options only ``num_classes=0`` may change the classifier.
    """
    import timm
    from safetensors import SafetensorError

    check_timm_options(options)
    config: Any = timm.get_pretrained_cfg(name)
    classes = options.get("num_classes", config.num_classes)
    if classes not in (0, config.num_classes):
        raise ValueError(
            f"num_classes of timm/{name} must be 0, for no classifier, or "
            f"{config.num_classes} as in its weights; got {classes}."
        )
    # timm compares file and network strictly only if it need not drop the classifier
    headless = classes != config.num_classes
    kept = {k: v for k, v in options.items() if not (headless and k == "num_classes")}
    try:
        module = _filled(name, path, kept)
    except (SafetensorError, *DAMAGED) as error:
        # options may be at fault, not the file
        on_meta_device(lambda: build_network("timm", {"name": name, **kept}))
        reason = shorten(str(error), 400, placeholder=" ...").rstrip(".")
        raise ValueError(
            f"weights of timm/{name} are damaged, or not the network's "
            f"({reason or type(error).__name__}). Delete {path} and load it again; if "
            "the same file comes, another version of timm may suit it."
        ) from error
    if headless:
        cut: Any = module  # every network of timm has this method
        cut.reset_classifier(0)
    return module


def _filled(name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    """Read a file as timm does, but refuse one that lacks a weight of the network.

    timm renames and resizes what it reads, and leaves a weight that some files lack as
    it was initialised.
    """
    import timm

    # what the hub keeps of networks with a loader of their own is no .npz any more
    custom = {} if path.suffix == ".npz" else {"custom_load": False}
    overlay = {"file": str(path), **custom}
    with _Filled() as filled:
        module = build_seeded(
            lambda: timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, **options
            ),
            0,
        )
    expected = module.state_dict(keep_vars=True)
    usual = _absent_by_design(timm.get_pretrained_cfg(name))
    absent = [
        key
        for key, value in expected.items()
        if id(value) not in filled.tensors and not key.startswith(usual)
    ]
    if absent:
        raise ValueError(
            f"the file lacks {len(absent)} of the network's {len(expected)} keys: "
            f"{listing(absent)}"
        )
    return module


def _absent_by_design(config: Any) -> tuple[str, ...]:
    """Beginnings of the keys that a file without classifier need not hold.

    ConvNeXt V2 by FCMAE has not even the norm beside its classifier, head.norm.
    """
    names = config.classifier or ()
    names = (names,) if isinstance(names, str) else names
    if config.num_classes != 0:
        return ()
    return tuple(f"{name.rpartition('.')[0]}." for name in names if "." in name)


class _Filled(torch.overrides.TorchFunctionMode):
    """Notes the tensors into which others are copied, as weights of a file are."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[int, torch.Tensor] = {}  # held, so that no id is used twice

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """See the base class."""
        if func is torch.Tensor.copy_:
            self.tensors[id(args[0])] = args[0]
        return func(*args, **(kwargs or {}))
