"""From a card to its network: weights found, read, compared with it, filled in."""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from versa.download import RemoteFile
from versa.models.building import build_seeded, on_meta_device
from versa.models.zoo.cards import ModelCard
from versa.models.zoo.layouts import (
    LAYOUTS,
    CheckpointLayout,
    check_held,
    check_state,
    state_from,
)
from versa.models.zoo.networks import constructor
from versa.models.zoo.reading import (
    GLOBAL_SETS,
    begins_as_safetensors,
    open_checkpoint,
)
from versa.models.zoo.search import (
    closest_layout,
    contents,
    fitting_layouts,
    left_out,
    unread_means,
    written,
)
from versa.models.zoo.timm_hub import (
    fetch_from_hub,
    timm_address,
    timm_state,
    timm_with_weights,
)
from versa.models.zoo.weights import fetch, has_hash, notice_once, weights_path
from versa.wording import listing, unknown

logger = logging.getLogger("versa")

# a constructor under options that are given beside the network's own
WithOptions = Callable[[Mapping[str, Any]], Callable[[], nn.Module]]


def load_network(card: ModelCard, *, seed: int | None = None) -> nn.Module:
    """The network of a card with its weights, or with initial ones under a seed.

    Weights that are not here are downloaded; of a file in versa's cache the hash is
    checked at every load.
    """
    build = constructor(card)  # an absent package is told before any download
    if card.seed is not None:
        return build_seeded(build, card.seed if seed is None else seed)
    file = weight_file(card)
    # without a hash, it is the building of the network that proves the file
    if file is not None and has_hash(file):
        path = weights_path(file)
        if path.is_file():
            return _while_hashed(card, path)
    return filled_network(card, fetch_weights(card))


def weight_file(card: ModelCard) -> RemoteFile | None:
    """The file that versa downloads; None if none is needed or timm's hub keeps it."""
    if card.url:
        urls = (card.url, *card.mirrors)
        return RemoteFile(card.name, urls, card.sha256, card.md5, card.size)
    return timm_address(card.timm_name) if card.timm_name else None


def fetch_weights(card: ModelCard) -> Path:
    """Weight file of a card that has one: downloaded if need be, and checked."""
    if card.file:
        return existing_file(card.file, f"file of {card.name}.toml")
    file = weight_file(card)
    if file is not None:
        return fetch(file, notice=card.notice, proof=proof_of(card))
    path = fetch_from_hub(card.timm_name)
    notice_once(card.name, card.notice)
    return path


def proof_of(card: ModelCard) -> Callable[[Path], object]:
    """A function that refuses a file that does not hold the network of a card."""
    constructor(card)  # without its package no file can be proved
    if card.timm_name:  # timm goes by a file's ending, which a partial file lacks
        source = f"weights of timm/{card.timm_name}"
        return lambda path: open_checkpoint(path, source=source)
    return lambda path: filled_network(card, path)


def filled_network(card: ModelCard, path: Path) -> nn.Module:
    """The network of a card with the weights of a file."""
    if card.timm_name:
        options = {key: value for key, value in card.options.items() if key != "name"}
        return timm_with_weights(card.timm_name, path, **options)
    source = f"checkpoint of {card.name}"
    checkpoint = open_checkpoint(path, source=source, allow=card.allow)
    check_held(checkpoint, card.rules, card.holds, source=source)
    state = state_from(checkpoint, card.rules, source=source)
    return filled(constructor(card), state, card.rules, source=source)


def _while_hashed(card: ModelCard, path: Path) -> nn.Module:
    """Fill the network of a card, while another thread hashes the file at `path`.

    Reading a file takes as long as hashing it. Nothing is given back before the hash
    is known to be right; a damaged file is downloaded again.
    """
    before = path.stat()
    module, problem = None, None
    with ThreadPoolExecutor(max_workers=1) as pool:
        checked = pool.submit(fetch_weights, card)
        try:
            module = filled_network(card, path)
        except (ValueError, OSError) as error:  # perhaps because the file is damaged
            problem = error
        path = checked.result()
    after = path.stat()
    replaced = (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns)
    if module is None and problem is not None and not replaced:
        raise problem
    return filled_network(card, path) if module is None or replaced else module


def filled(
    build: Callable[[], nn.Module],
    state: Mapping[str, torch.Tensor],
    layout: CheckpointLayout = LAYOUTS["plain"],
    *,
    source: str,
) -> nn.Module:
    """Build a network around its weights, which must be exactly those of the network.

    They are not copied where their type is right.
    """
    module = on_meta_device(build)
    expected = module.state_dict()
    if not layout.versions:
        check_state(state, expected, source=source, missing=layout.missing)
    typed: Any = OrderedDict(
        (key, _typed(value, expected[key].dtype) if key in expected else value)
        for key, value in state.items()
    )
    if layout.versions:
        typed._metadata = getattr(state, "_metadata", {})
    _fill(module, typed, layout, source)
    if _has_meta(module):  # what no file holds, such as buffers that are computed
        module = build_seeded(build, 0)
        _fill(module, typed, layout, source)
    return module


def _typed(value: Any, dtype: torch.dtype) -> torch.Tensor:
    return torch.as_tensor(value).to(dtype)  # old files hold arrays of NumPy


def _fill(
    module: nn.Module, state: Mapping[str, Any], layout: CheckpointLayout, source: str
) -> None:
    try:
        found = module.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{source} does not fit the network: {reason}") from error
    absent = [key for key in found.missing_keys if not layout.may_lack(key)]
    if absent or found.unexpected_keys:
        raise ValueError(
            f"{source} does not fit the network: it lacks {listing(absent) or 'no key'}"
            f" and holds {listing(found.unexpected_keys) or 'no other'}."
        )


def own_network(
    build: Callable[[], nn.Module],
    path: Path,
    layout: CheckpointLayout | str | None = None,
    *,
    with_options: WithOptions | None = None,
) -> nn.Module:
    """A network with the weights of a file of the user.

    Without a layout, the weights are searched for. `with_options` gives the constructor
    under other options, to say in a refusal which of them suit the file.
    """
    path = existing_file(path, "weights")
    source = f"weights {path}"
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(unknown("layout", layout, LAYOUTS))
        layout = LAYOUTS[layout]
    checkpoint = open_checkpoint(path, source=source, allow=GLOBAL_SETS)
    if layout is not None:
        state = state_from(checkpoint, layout, source=source)
        return filled(build, state, layout, source=source)
    sketch = on_meta_device(build)
    expected = sketch.state_dict()
    found = fitting_layouts(checkpoint, expected, source=source)
    if not found:
        published = timm_state(checkpoint, sketch, source=source)
        if published is not None:
            logger.info("%s: read by timm's own rules for published files.", source)
            return filled(build, published, source=source)
        reason = _misfit(checkpoint, expected, source)
        advice = _suiting_options(checkpoint, expected, source, with_options)
        raise ValueError(
            f"{reason} {contents(checkpoint)} {advice}If another layout is meant, pass "
            "layout=."
        )
    if len(found) > 1:
        raise ValueError(
            f"{source} holds {len(found)} networks that fit, with different weights: "
            f"{'; '.join(found)}. Pass one of these arguments. Where one is the "
            "running mean of the other (EMA), timm takes the mean."
        )
    layout = next(iter(found.values()))
    if layout != LAYOUTS["plain"]:
        logger.info("%s: read with %s.", source, written(layout))
    if others := unread_means(checkpoint, layout):
        logger.warning(
            "%s: its %s cannot be read as this network; the other weights are used.",
            *(source, listing(others)),
        )
    state = state_from(checkpoint, layout, source=source)
    return filled(build, state, layout, source=source)


def _misfit(checkpoint: Any, expected: Mapping[str, Any], source: str) -> str:
    """Why no place of a checkpoint holds the network, told of the closest one."""
    layout = closest_layout(checkpoint, expected, source=source)
    state: Mapping[str, Any] = {}
    if layout is not None:
        state = state_from(checkpoint, layout, source=source)
    try:
        check_state(state, expected, source=source, missing=("*num_batches_tracked",))
    except ValueError as error:
        return str(error)
    if layout is None:  # a network without weights
        return f"{source} holds no weights."
    extra = left_out(checkpoint, layout)
    return (
        f"{source} holds {len(extra)} keys that the network has not: {listing(extra)}. "
        f"If they belong to no part of it, pass {written(layout)}."
    )


def _suiting_options(
    checkpoint: Any,
    expected: Mapping[str, Any],
    source: str,
    with_options: WithOptions | None,
) -> str:
    """A sentence with the options under which the network fits the file, if any do."""
    if with_options is None:
        return ""
    tries: list[dict[str, Any]] = [{"head": False}, {"num_classes": 0}]
    layout = closest_layout(checkpoint, expected, source=source)
    if layout is not None:
        state = state_from(checkpoint, layout, source=source)
        classes = {
            value.shape[0]
            for key, value in state.items()
            if key in expected
            and value.ndim == expected[key].ndim > 0
            and value.shape[0] != expected[key].shape[0]
            and value.shape[1:] == expected[key].shape[1:]
        }
        for n in classes if len(classes) == 1 else ():
            tries += [{"num_classes": n}, {"out_dim": n}]
    tries.append({"global_pool": "avg"})
    for options in tries:
        try:
            other = on_meta_device(with_options(options))
        except (ValueError, TypeError, AttributeError, RuntimeError):
            continue  # the architecture has no such option
        if fitting_layouts(checkpoint, other.state_dict(), source=source):
            return f"The file fits with options={options!r}. "
    return ""


def training_record(path: Path) -> dict[str, Any]:
    """What versa's own training wrote into a safetensors file about its network.

    A table with ``builder``, ``options`` and ``preprocess``; empty for other files.
    """
    path = path.expanduser()
    if not path.is_file() or not begins_as_safetensors(path):
        return {}
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("versa", "{}")
    except safetensors.SafetensorError:  # the reader of its weights will say so
        return {}
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"metadata 'versa' of {path} must be JSON; it is not ({error}). Export the "
            "network again."
        ) from error
    kinds = {"builder": str, "options": dict, "preprocess": dict}
    if not isinstance(record, dict) or any(
        name in record and not isinstance(record[name], kind)
        for name, kind in kinds.items()
    ):
        raise ValueError(
            f"metadata 'versa' of {path} must be a table with a text builder and the "
            f"tables options and preprocess; got {text}. Export the network again."
        )
    return record


def existing_file(path: str | Path, what: str) -> Path:
    """The path with the user's home folder in it, if it is a file."""
    path = Path(path).expanduser()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{what} must be a file; {path} {kind}.")
    return path


def _has_meta(module: nn.Module) -> bool:
    """Whether a tensor has no content: a parameter, a buffer or a plain attribute."""
    return any(
        isinstance(value, torch.Tensor) and value.is_meta
        for part in module.modules()
        for held in (part._parameters, part._buffers, vars(part))
        for value in held.values()
    )
