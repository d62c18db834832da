"""Networks of torchvision and timm, by name, with the preprocessing they record.

Their names, their weights and their normalisation are theirs; the rule that a brain
stimulus is resized to the network's input without cropping its edges is the paper's.
"""

import os.path
import re
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from versa.cache import offline
from versa.models.adapters import LAYOUTS, state_from
from versa.models.architectures import build_seeded
from versa.models.cards import Preprocess
from versa.models.download import fetch, open_checkpoint
from versa.models.layers import default_layers
from versa.wording import unknown

__all__ = ["find_library_model", "load_library_model"]

# What their pretrained builders change, so that the untrained twin has it too
_TORCHVISION_OPTIONS = {
    "googlenet": {"transform_input": True, "aux_logits": True},
    "inception_v3": {"transform_input": True, "aux_logits": True},
}
_DEFAULT_WEIGHTS = "IMAGENET1K_V1"
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def find_library_model(
    name: str, *, untrained: bool = False, zoo_names: Iterable[str] = ()
) -> tuple[str, str]:
    """Library of a network, and its name there. Nothing is built or downloaded.

    Parameters
    ----------
    name : str
        ``torchvision/NAME``, ``torchvision/NAME@WEIGHTS``, ``timm/NAME``, or a bare
        name, which is looked for in torchvision first.
    untrained : bool
        Whether the network is wanted without its weights.
    zoo_names : iterable of str
        Names to propose besides those of the two libraries.

    Returns
    -------
    library : {"torchvision", "timm"}
    base : str

    Raises
    ------
    ValueError
        If there is no such network, or no such weights, or the name is a path.

    Examples
    --------
    >>> find_library_model("resnet18")
    ('torchvision', 'resnet18')
    """
    library, _, base = name.rpartition("/")
    if "/" in name and library not in ("torchvision", "timm") and os.path.exists(name):
        kind = "folder" if os.path.isdir(name) else "file"
        raise ValueError(
            "model must be a name (see versa-compare --list-models), torchvision/NAME "
            "or timm/NAME, or for versa-compare a saved result file (.nc); "
            f"{name!r} is a {kind}."
        )
    if library not in ("", "torchvision", "timm"):
        raise ValueError(unknown("library", library, ["torchvision", "timm"]))
    if library != "timm" and base.partition("@")[0] in _torchvision_names():
        _torchvision_weights(base)
        return "torchvision", base
    if library != "torchvision" and _is_timm(base):
        _timm_config(base, untrained=untrained)
        return "timm", base
    raise ValueError(_unknown_name(library, base, zoo_names))


def load_library_model(
    library: str, base: str, *, untrained: bool = False, seed: int = 0
) -> tuple[nn.Module, Preprocess, tuple[str, ...]]:
    """A network of torchvision or timm with its preprocessing and default layers.

    Parameters
    ----------
    library, base : str
        As `find_library_model` gives them.
    untrained : bool
        Whether to leave the network with its initial weights.
    seed : int
        Of the initial weights.

    Returns
    -------
    module : nn.Module
        In eval mode, without gradients, on the CPU.
    preprocess : Preprocess
        The library's normalisation, without a crop.
    layers : tuple of str
    """
    load = _torchvision_model if library == "torchvision" else _timm_model
    module, preprocess = load(base, seed, untrained=untrained)
    module.eval().requires_grad_(False)
    return module, preprocess, default_layers(module)


def _unknown_name(library: str, name: str, zoo_names: Iterable[str]) -> str:
    import timm

    theirs = {"torchvision": _torchvision_names(), "timm": timm.list_models()}
    if library:
        return unknown(f"model of {library}", name, theirs[library])
    both = sorted({*theirs["torchvision"], *theirs["timm"]})
    return unknown("model", name, [*zoo_names, *both])


def _torchvision_names() -> list[str]:
    from torchvision import models

    return models.list_models(module=models)


def _is_timm(name: str) -> bool:
    import timm

    return timm.is_model(name)


def _torchvision_weights(name: str) -> Any:
    """Member of torchvision's enum of weights that a name means."""
    from torchvision import models

    base, _, wanted = name.partition("@")
    members = {member.name: member for member in models.get_model_weights(base)}
    wanted = wanted or _DEFAULT_WEIGHTS
    if wanted not in members:
        rule = f"WEIGHTS of torchvision/{base}@WEIGHTS"
        raise ValueError(unknown(rule, wanted, members))
    return members[wanted]


def _torchvision_model(
    name: str, seed: int, *, untrained: bool
) -> tuple[nn.Module, Preprocess]:
    from torchvision import models

    weights = _torchvision_weights(name)
    base = name.partition("@")[0]
    label = f"torchvision_{base}@{weights.name}"
    options: dict[str, Any] = dict(_TORCHVISION_OPTIONS.get(base, {}))
    if options:
        options["init_weights"] = untrained
    path = None if untrained else fetch(weights.url, label, _hash_of(weights.url))
    module = build_seeded(lambda: models.get_model(base, weights=None, **options), seed)
    if path is not None:
        _fill(module, path, f"checkpoint of {label}")
    transform = weights.transforms()
    size = transform.crop_size[0]
    mean, std = tuple(transform.mean), tuple(transform.std)
    return module, Preprocess(size, size, mean, std, transform.interpolation.value)


def _fill(module: nn.Module, path: Path, source: str) -> None:
    """Load a file of torchvision as torchvision itself does."""
    checkpoint = open_checkpoint(path, source=source)
    renamed = state_from(checkpoint, LAYOUTS["torchvision"], source=source)
    state: Any = OrderedDict(renamed)
    # the version numbers with which torchvision brings old files up to date
    state._metadata = getattr(checkpoint, "_metadata", {})
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{source} does not fit the network: {reason}") from error


def _hash_of(url: str) -> str:
    found = _HASH_IN_NAME.search(url)
    if found is None:
        raise ValueError(
            f"{url} must name the start of its SHA-256 (as in net-0123abcd.pth), else "
            "the file cannot be checked. Load the network yourself and pass the module."
        )
    return found.group(1)


def _timm_config(name: str, *, untrained: bool) -> Any:
    """What timm records of a network, if versa can use it."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a known architecture with an unknown tag
        tagged = timm.list_models(name.partition(".")[0] + ".*", pretrained=True)
        raise ValueError(unknown("model of timm", name, tagged)) from None
    if config is None:
        raise ValueError(
            f"timm/{name} records no preprocessing. Build it yourself and pass the "
            "module with preprocess=."
        )
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise ValueError(
            f"timm/{name} must take square RGB images; it takes {config.input_size}. "
            "Build it yourself and pass the module with preprocess=."
        )
    if not (untrained or config.has_weights):
        raise ValueError(
            f"timm/{name} has no pretrained weights; load timm/{name}:untrained or "
            "another of timm.list_pretrained()."
        )
    return config


def _timm_model(
    name: str, seed: int, *, untrained: bool
) -> tuple[nn.Module, Preprocess]:
    import timm

    config = _timm_config(name, untrained=untrained)
    size = config.input_size[1]
    mean, std = tuple(config.mean), tuple(config.std)
    preprocess = Preprocess(size, size, mean, std, config.interpolation)
    if untrained:
        return build_seeded(lambda: timm.create_model(name), seed), preprocess
    overlay = _timm_file(name, config)
    try:
        module = build_seeded(
            lambda: timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay
            ),
            seed,
        )
    except OSError as error:  # the hub's errors are subclasses of it
        raise ConnectionError(
            f"weights of timm/{name} could not be downloaded from "
            f"https://huggingface.co/{config.hf_hub_id}: {error}"
        ) from error
    return module, preprocess


def _timm_file(name: str, config: Any) -> dict[str, str] | None:
    """Where timm shall read the weights, unless it gets them from its own hub."""
    if not config.hf_hub_id:
        path = fetch(config.url, f"timm_{name}", _hash_of(config.url))
        return {"file": str(path)}
    if not offline():
        return None
    from huggingface_hub import constants, try_to_load_from_cache

    file_names = [config.hf_hub_filename] if config.hf_hub_filename else []
    for file_name in (*file_names, "model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(config.hf_hub_id, file_name)
        if isinstance(found, str) and Path(found).is_file():
            return {"file": found}
    raise FileNotFoundError(
        f"weights of timm/{name} are not in the cache and VERSA_OFFLINE forbids the "
        f"download. Unset it, or put https://huggingface.co/{config.hf_hub_id} into "
        f"{constants.HF_HUB_CACHE} with `hf download {config.hf_hub_id}`."
    )
