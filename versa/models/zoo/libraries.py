"""Networks of torchvision and timm, by name, with the preprocessing they record.

Their names, their weights and their normalisation are theirs; the rule that a brain
stimulus is resized to the network's input without cropping its edges is the paper's.
"""

import math
import os.path
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import nn

from versa.cache import file_hash, offline
from versa.models.building import build_seeded
from versa.models.preprocess import Preprocess
from versa.models.zoo.layouts import LAYOUTS, state_from
from versa.models.zoo.networks import build_network, filled_timm_network, on_meta
from versa.models.zoo.reading import DAMAGED, open_checkpoint
from versa.models.zoo.weights import WeightFile, check_kept, fetch, remember_kept
from versa.wording import listing, unknown

__all__ = [
    "LibraryModel",
    "fetch_library_weights",
    "find_library_model",
    "hub_file",
    "library_licence",
    "library_model",
    "library_weights",
    "load_library_model",
    "load_timm",
    "timm_transforms",
]

_DEFAULT_WEIGHTS = "IMAGENET1K_V1"
# licences as timm writes them
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "mit": "MIT",
}
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
            "model must be a name (see versa-compare --list-models), torchvision/NAME, "
            "timm/NAME, or ARCHITECTURE@FILE for weights of your own, or for "
            f"versa-compare a saved result (.nc); {name!r} is a {kind}."
        )
    if library not in ("", "torchvision", "timm"):
        raise ValueError(unknown("library", library, ["torchvision", "timm"]))
    if library != "timm" and base.partition("@")[0] in _torchvision_names():
        _torchvision_weights(base, untrained=untrained)
        return "torchvision", base
    if library != "torchvision" and _is_timm(base):
        _timm_config(base, untrained=untrained)
        return "timm", base
    raise ValueError(_unknown_name(library, base, zoo_names))


@dataclass(frozen=True)
class LibraryModel:
    """What a library records of one of its networks.

    Parameters
    ----------
    builder : {"torchvision", "timm"}
    options : mapping
        Arguments of `versa.models.zoo.networks.build_network`.
    preprocess : Preprocess
        The library's normalisation, without a crop.
    validation : Preprocess
        Its transform of the ImageNet validation images.
    """

    builder: str
    options: Mapping[str, Any]
    preprocess: Preprocess
    validation: Preprocess


def library_model(library: str, base: str) -> LibraryModel:
    """What a library records of a network. Nothing is built or downloaded.

    Parameters
    ----------
    library, base : str
        As `find_library_model` gives them.

    Returns
    -------
    model : LibraryModel
    """
    if library == "timm":
        config = _timm_config(base, untrained=True)
        preprocess, validation = timm_transforms(config)
        return LibraryModel("timm", {"name": base}, preprocess, validation)
    transform = _torchvision_weights(base, untrained=True).transforms()
    size, resize = transform.crop_size[0], transform.resize_size[0]
    mean, std = tuple(transform.mean), tuple(transform.std)
    rest = (mean, std, transform.interpolation.value)
    name = base.partition("@")[0]
    options = {"name": name, "init_weights": True}
    if name.startswith("vit_"):  # its positions are those of the weights' images
        options["image_size"] = size
    return LibraryModel(
        "torchvision",
        options,
        Preprocess(size, size, *rest),
        Preprocess(max(resize, size), size, *rest),
    )


def load_library_model(
    library: str, base: str, *, untrained: bool = False, seed: int = 0
) -> nn.Module:
    """A network of torchvision or timm.

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
        On the CPU, as its constructor leaves it.
    """
    if untrained:
        model = library_model(library, base)
        return build_seeded(lambda: build_network(library, model.options), seed)
    load = _torchvision_model if library == "torchvision" else load_timm
    return load(base)


def fetch_library_weights(library: str, base: str) -> Path:
    """Weight file of a network of torchvision or timm, downloaded if need be.

    Parameters
    ----------
    library, base : str
        As `find_library_model` gives them.

    Returns
    -------
    path : Path
    """
    if library == "timm":
        return _timm_file(base, _timm_config(base, untrained=False))
    return fetch(_torchvision_file(base))


def library_weights(library: str, base: str) -> WeightFile | None:
    """Weight file of a network, or None if timm's own hub holds it."""
    if library == "torchvision":
        return _torchvision_file(base)
    config = _timm_config(base, untrained=False)
    return None if config.hf_hub_id else _timm_address(base, config)


def timm_transforms(
    config: Any, size: int | None = None
) -> tuple[Preprocess, Preprocess]:
    """Transform of brain stimuli and of the ImageNet validation images.

    Parameters
    ----------
    config : PretrainedCfg
        Of timm.
    size : int, optional
        Side of the input, if it is not the recorded one.

    Returns
    -------
    preprocess, validation : Preprocess
    """
    crop = size or config.input_size[1]
    rest = (tuple(config.mean), tuple(config.std), config.interpolation)
    resize = max(crop, math.floor(crop / config.crop_pct))
    return Preprocess(crop, crop, *rest), Preprocess(resize, crop, *rest)


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


def _torchvision_weights(name: str, *, untrained: bool = False) -> Any:
    """Member of torchvision's enum of weights that a name means.

    An untrained network needs only the transform of one: of the smallest images, if
    the name says nothing and the usual weights do not exist.
    """
    from torchvision import models

    base, _, wanted = name.partition("@")
    members = {member.name: member for member in models.get_model_weights(base)}
    if untrained and not wanted and _DEFAULT_WEIGHTS not in members:
        return min(members.values(), key=lambda w: w.transforms().crop_size[0])
    wanted = wanted or _DEFAULT_WEIGHTS
    if wanted not in members:
        rule = f"WEIGHTS of torchvision/{base}@WEIGHTS"
        raise ValueError(unknown(rule, wanted, members))
    return members[wanted]


def _torchvision_file(name: str) -> WeightFile:
    weights = _torchvision_weights(name)
    label = f"torchvision_{name.partition('@')[0]}@{weights.name}"
    return WeightFile(label, (weights.url,), _hash_of(weights.url))


def _torchvision_model(name: str) -> nn.Module:
    file = _torchvision_file(name)
    options = {**library_model("torchvision", name).options, "init_weights": False}
    path = fetch(file)
    module = build_seeded(lambda: build_network("torchvision", options), 0)
    _fill(module, path, f"checkpoint of {file.name}")
    return module


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


def load_timm(name: str, **options: Any) -> nn.Module:
    """A network of timm with the weights that timm knows.

    Parameters
    ----------
    name : str
        With its tag.
    **options
        Of ``timm.create_model``, such as ``num_classes=0``.

    Returns
    -------
    module : nn.Module

    Raises
    ------
    ValueError
        If the file is damaged, or its keys and shapes are not the network's, or the
        options do not suit it.
    FileNotFoundError, ConnectionError
        If the file cannot be had.
    """
    from safetensors import SafetensorError

    config = _timm_config(name, untrained=False)
    classes = options.get("num_classes", config.num_classes)
    if classes not in (0, config.num_classes):
        raise ValueError(
            f"num_classes of timm/{name} must be 0, for no classifier, or "
            f"{config.num_classes} as in its weights; got {classes}."
        )
    path = _timm_file(name, config)
    # timm compares file and network strictly only if it need not drop the classifier
    headless = classes != config.num_classes
    kept = {k: v for k, v in options.items() if not (headless and k == "num_classes")}
    try:
        module = filled_timm_network(name, path, **kept)
    except (SafetensorError, *DAMAGED) as error:
        on_meta("timm", {"name": name, **kept})  # options may be at fault, not the file
        reason = shorten(str(error), 400, placeholder=" ...").rstrip(".")
        raise ValueError(
            f"weights of timm/{name} are damaged, or not the network's "
            f"({reason or type(error).__name__}). Delete {path} and load it again; if "
            "the same file comes, another version of timm may suit it."
        ) from error
    if headless:
        cut: Any = module  # every network of timm has this method
        cut.reset_classifier(0)
    if config.hf_hub_id and not _names_its_hash(path):
        remember_kept(_hub_record(name, config), path)
    return module


def _timm_address(name: str, config: Any) -> WeightFile:
    found = _HASH_IN_NAME.search(config.url)
    return WeightFile(f"timm_{name}", (config.url,), found.group(1) if found else "")


def _timm_file(name: str, config: Any) -> Path:
    """Weight file of a network of timm: from its hub, else from its address."""
    if not config.hf_hub_id:
        source = f"weights of timm/{name}"
        return fetch(
            _timm_address(name, config),
            proof=lambda path: open_checkpoint(path, source=source),
        )
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    found = hub_file(name)
    if found is not None:
        return _checked_blob(found, name, config)
    address = f"{constants.ENDPOINT}/{config.hf_hub_id}"
    if offline():
        raise FileNotFoundError(
            f"weights of timm/{name} are not in the cache and VERSA_OFFLINE forbids "
            f"the download. Unset it, or put {address} into {constants.HF_HUB_CACHE} "
            f"with `hf download {config.hf_hub_id}`, or run `versa-data weights "
            f"timm/{name}` where there is a network."
        )
    for file_name in _hub_names(config):
        try:
            path = Path(hf_hub_download(config.hf_hub_id, file_name))
        except EntryNotFoundError:
            continue
        except OSError as error:  # the hub's other errors are subclasses of it
            raise ConnectionError(
                f"weights of timm/{name} could not be downloaded from {address}: "
                f"{error}"
            ) from error
        return _checked_blob(path, name, config)
    raise ConnectionError(
        f"weights of timm/{name} could not be downloaded: {address} holds none of "
        f"{listing(_hub_names(config))}."
    )


def hub_file(name: str) -> Path | None:
    """Weight file of a network of timm in the cache of its hub; None if absent."""
    from huggingface_hub import try_to_load_from_cache

    config = _timm_config(name, untrained=False)
    for file_name in _hub_names(config):
        found = try_to_load_from_cache(config.hf_hub_id, file_name)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def _hub_names(config: Any) -> tuple[str, ...]:
    """Names under which the hub may hold the weights, the best first."""
    named = (config.hf_hub_filename,) if config.hf_hub_filename else ()
    return (*named, "model.safetensors", "pytorch_model.bin")


def library_licence(library: str, base: str) -> str:
    """Licence of the weights of a network as its library records it, or nothing.

    Parameters
    ----------
    library, base : str
        As `find_library_model` gives them.

    Returns
    -------
    licence : str
        As an SPDX identifier where it is one; torchvision records none.
    """
    if library != "timm":
        return ""
    recorded = _timm_config(base, untrained=True).license or ""
    return _SPDX.get(recorded, recorded)


def _names_its_hash(path: Path) -> bool:
    """Whether the hub's cache keeps the file under its SHA-256."""
    return re.fullmatch(r"[0-9a-f]{64}", path.resolve().name) is not None


def _hub_record(name: str, config: Any) -> WeightFile:
    """Under what the hash of a file that does not name it is recorded."""
    return WeightFile(f"timm_{name}", (f"hf-hub:{config.hf_hub_id}",))


def _checked_blob(path: Path, name: str, config: Any) -> Path:
    """The file, if it has the SHA-256 under which it is kept, or that was recorded."""
    if not _names_its_hash(path):  # a copy, or a system without links
        check_kept(_hub_record(name, config), path)
        return path
    promised = path.resolve().name
    if file_hash(path) != promised:
        raise ValueError(
            f"weights of timm/{name} must have the SHA-256 {promised}; {path} has "
            "another: the file is damaged. Delete it and run again."
        )
    return path
