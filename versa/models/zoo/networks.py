"""Networks of torchvision and timm, built; those of timm also filled from a file."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from versa.models.building import build_seeded, sketched
from versa.models.zoo.cards import BUILDERS
from versa.wording import listing, unknown

__all__ = [
    "build_network",
    "filled_timm_network",
    "find_builder",
    "on_meta",
    "timm_network",
    "torchvision_network",
]

# What torchvision's pretrained builders change
_TORCHVISION_OPTIONS = {
    "googlenet": {"transform_input": True, "aux_logits": True},
    "inception_v3": {"transform_input": True, "aux_logits": True},
}
_HEADS = ("fc", "classifier", "heads", "head")


def build_network(
    builder: str, options: Mapping[str, Any] | None = None, *, requires: str = ""
) -> nn.Module:
    """Make the module of a card, with its initial weights.

    Parameters
    ----------
    builder : str
        One of `versa.models.zoo.cards.BUILDERS`, or ``package.module:callable``.
    options : mapping, optional
        Arguments of the constructor.
    requires : str
        What to install if the package is not there.

    Returns
    -------
    module : nn.Module

    Raises
    ------
    ImportError
        If the package of a plug-in is not installed.
    ValueError
        If the constructor does not take the options.
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
    """The constructor that a card names, imported.

    Parameters
    ----------
    builder, requires
        As of `build_network`.

    Returns
    -------
    build : callable

    Raises
    ------
    ImportError
        If the package of a plug-in is not installed.
    """
    own = BUILDERS.get(builder)
    module_name, attribute = own or builder.split(":")
    try:
        build: Callable[..., Any] = getattr(
            importlib.import_module(module_name), attribute
        )
    except (ImportError, AttributeError) as error:
        if own:
            raise
        raise ImportError(
            f"{builder} must be installed to build this network; it is not there "
            f"({error}). Install it with `pip install "
            f"{requires or module_name.partition('.')[0]}`."
        ) from error
    return build


def torchvision_network(
    name: str,
    *,
    head: bool = True,
    max_pool: str = "torch",
    init_weights: bool = False,
    **options: Any,
) -> nn.Module:
    """A network of torchvision with its initial weights.

    Parameters
    ----------
    name : str
        As ``torchvision.models.get_model`` takes it.
    head : bool
        Whether the classifier stays. Without it, its place gives the pooled features.
    max_pool : {"torch", "same"}
        Padding of the stem's max-pool in a ResNet: one pixel on every side, or, as in
        TensorFlow's SAME for inputs of even size, at the bottom and right only.
    init_weights : bool
        Whether GoogLeNet and Inception get their slow initialisation.
    **options
        More arguments of torchvision's constructor.

    Returns
    -------
    module : nn.Module

    Examples
    --------
    >>> import torch
    >>> with torch.device("meta"):
    ...     torchvision_network("resnet18", head=False).fc
    Identity()
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
    """A network of timm with its initial weights.

    Parameters
    ----------
    name : str
        As ``timm.create_model`` takes it.
    **options
        More arguments of it, such as ``num_classes=0`` for no classifier.

    Returns
    -------
    module : nn.Module

    Examples
    --------
    >>> import torch
    >>> with torch.device("meta"):
    ...     timm_network("vit_tiny_patch16_224", num_classes=0).num_features
    192
    """
    import timm

    module: nn.Module = timm.create_model(name, pretrained=False, **options)
    return module


def filled_timm_network(name: str, path: Path, **options: Any) -> nn.Module:
    """A network of timm with the weights of a file, read as timm itself does.

    timm renames and resizes what it reads, and leaves a weight that some files lack
    as it was initialised. Here that is an error.

    Parameters
    ----------
    name : str
        As ``timm.create_model`` takes it, with a tag.
    path : Path
        The file that timm knows under this name.
    **options
        More arguments of ``timm.create_model``. A classifier must have the classes of
        the file.

    Returns
    -------
    module : nn.Module

    Raises
    ------
    ValueError
        If a weight of the network is not in the file. What timm raises itself is left
        as it is.
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


def on_meta(
    builder: str, options: Mapping[str, Any] | None = None, *, requires: str = ""
) -> nn.Module:
    """The same module as a sketch: names and shapes, no memory, no initialisation.

    Parameters
    ----------
    builder, options, requires
        As of `build_network`.

    Returns
    -------
    module : nn.Module
        On the meta device. A network whose constructor needs numbers is built in
        full and moved there.
    """
    module = sketched(lambda: build_network(builder, options, requires=requires))
    return module.to("meta")
