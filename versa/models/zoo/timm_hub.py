"""Weights that timm itself knows: where its hub keeps them, and read as timm does."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from versa.cache import file_hash, offline
from versa.download import RemoteFile
from versa.models.building import build_seeded, on_meta_device
from versa.models.zoo.layouts import check_state
from versa.models.zoo.libraries import hash_in_name, timm_config
from versa.models.zoo.networks import build_network, check_timm_options
from versa.models.zoo.reading import DAMAGED
from versa.models.zoo.search import same_weights, weight_groups
from versa.models.zoo.weights import check_kept, remember_kept
from versa.wording import listing, one_line


def timm_address(name: str) -> RemoteFile | None:
    """Weight file that timm keeps at an address of its own; None if its hub has it."""
    config = timm_config(name, untrained=False)
    if config.hf_hub_id:
        return None
    return RemoteFile(f"timm/{name}", (config.url,), hash_in_name(config.url))


def hub_file(name: str) -> Path | None:
    """Weight file of a network of timm in the cache of its hub; None if absent."""
    from huggingface_hub import try_to_load_from_cache

    config = timm_config(name, untrained=False)
    for file_name in _hub_names(config):
        found = try_to_load_from_cache(config.hf_hub_id, file_name)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def fetch_from_hub(name: str) -> Path:
    """Weight file of a network from timm's hub: downloaded if need be, and checked."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    config = timm_config(name, untrained=False)
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
        except LocalEntryNotFoundError as error:  # the hub did not answer
            unasked = constants.HF_HUB_OFFLINE
            why = "HF_HUB_OFFLINE is set" if unasked else "there is no connection"
            raise ConnectionError(
                f"weights of timm/{name} are not in the cache, and {address} could not "
                f"be reached ({why}). Run `versa-data weights timm/{name}` where there "
                f"is a network, and copy {constants.HF_HUB_CACHE} here."
            ) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # of the hub, or of what it downloads with
            raise ConnectionError(
                f"weights of timm/{name} could not be downloaded from {address}: "
                f"{one_line(error)}."
            ) from error
        return _checked_blob(path, name, config)
    raise ConnectionError(
        f"weights of timm/{name} could not be downloaded: {address} holds none of "
        f"{listing(_hub_names(config))}."
    )


def timm_with_weights(name: str, path: Path, **options: Any) -> nn.Module:
    """A network of timm, `options` as of ``timm.create_model``, with a file's weights.

    Of options only ``num_classes=0`` may change the classifier.
    """
    from safetensors import SafetensorError

    check_timm_options(options)
    config = timm_config(name, untrained=False)
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
    if config.hf_hub_id and not _names_its_hash(path):
        remember_kept(_hub_record(name, config), path)
    return module


def timm_state(
    checkpoint: Any, module: nn.Module, *, source: str
) -> Mapping[str, Any] | None:
    """State dict of a network of timm by timm's own rules for its authors' files.

    They rename keys, as of DINOv2's. None if the network has no rules, if they do not
    give exactly its keys and shapes, or if weights would be resampled to another size.
    """
    home = type(module).__module__
    rules = getattr(sys.modules.get(home), "checkpoint_filter_fn", None)
    if rules is None or not home.startswith("timm."):
        return None
    found: dict[str, Mapping[str, Any]] = {}
    for path, group in weight_groups(checkpoint):
        try:
            with _Unresampled():
                state: Mapping[str, Any] = rules(dict(group), module)
            check_state(state, module.state_dict(), source=source)
        except Exception:  # the rules expect other keys
            continue
        if not any(same_weights(state, other) for other in found.values()):
            found[".".join(path)] = state
    if len(found) > 1:
        raise ValueError(
            f"{source} holds several networks that fit, under {listing(found)}. Write "
            "the wanted one to a file of its own."
        )
    return next(iter(found.values()), None)


class _Unresampled(torch.overrides.TorchFunctionMode):
    """Refuses that weights are resampled."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """See the base class."""
        if func is torch.nn.functional.interpolate:
            raise ValueError("weights must not be resampled")
        return func(*args, **(kwargs or {}))


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


def _hub_names(config: Any) -> tuple[str, ...]:
    """Names under which the hub may hold the weights, the best first."""
    named = (config.hf_hub_filename,) if config.hf_hub_filename else ()
    return (*named, "model.safetensors", "pytorch_model.bin")


def _names_its_hash(path: Path) -> bool:
    """Whether the hub's cache keeps the file under its SHA-256."""
    return re.fullmatch(r"[0-9a-f]{64}", path.resolve().name) is not None


def _hub_record(name: str, config: Any) -> RemoteFile:
    """Under what the hash of a file that does not name it is recorded."""
    return RemoteFile(f"timm/{name}", (f"hf-hub:{config.hf_hub_id}",))


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
