"""Networks by their builder: AlexNet-GN, torchvision, timm, and installed plug-ins."""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from versa.models.zoo.cards import BUILDERS, ModelCard
from versa.wording import unknown

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


def _trusted_packages() -> list[str]:
    """Packages of which the user lets a card name anything."""
    named = os.environ.get("VERSA_BUILDERS", "").split(",")
    return [name.strip() for name in named if name.strip()]


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
