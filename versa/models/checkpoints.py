"""From a weight file to a network: read, compared with the network, filled in."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from versa.models.adapters import (
    LAYOUTS,
    Layout,
    check_state,
    matching_state,
    state_from,
)
from versa.models.architectures import build_seeded
from versa.models.cards import ModelCard
from versa.models.download import WeightFile, fetch, weights_path
from versa.models.networks import build_network
from versa.models.opening import open_checkpoint
from versa.wording import unknown

__all__ = [
    "card_network",
    "card_weights",
    "filled",
    "own_network",
    "training_record",
    "while_checked",
]


def card_weights(card: ModelCard) -> WeightFile:
    """Weight file of a card with a url."""
    return WeightFile(
        card.name, (card.url, *card.mirrors), card.sha256, card.md5, card.size
    )


def card_network(card: ModelCard, *, seed: int | None = None) -> nn.Module:
    """The network of a card with its weights.

    Parameters
    ----------
    card : ModelCard
        With a seed, a file or a url.
    seed : int, optional
        Another seed for an untrained network.

    Returns
    -------
    module : nn.Module
        On the CPU, as its constructor leaves it.

    Raises
    ------
    ValueError
        If the file is not what the card says.
    FileNotFoundError, ConnectionError
        If the file is not there or cannot be downloaded.
    """

    def build() -> nn.Module:
        return build_network(card.builder, card.options, requires=card.requires)

    if card.seed is not None:
        return build_seeded(build, card.seed if seed is None else seed)
    source = f"checkpoint of {card.name}"

    def network(path: Path) -> nn.Module:
        checkpoint = open_checkpoint(path, source=source, allow=card.allow)
        state = state_from(checkpoint, card.rules, source=source)
        return filled(build, state, source=source, missing=card.rules.missing)

    if card.file:
        return network(_existing(Path(card.file), f"file of {card.name}.toml"))
    return while_checked(card_weights(card), network, notice=card.notice)


def while_checked(
    file: WeightFile, use: Callable[[Path], nn.Module], *, notice: str = ""
) -> nn.Module:
    """Make a network of a weight file, while another thread hashes the file.

    Reading a file takes as long as hashing it. Nothing is given back before the hash
    is known to be right; a file that is absent or damaged is downloaded first.

    Parameters
    ----------
    file : WeightFile
    use : callable
        From the path of the file to the network.
    notice : str
        What its licence asks a user to know.

    Returns
    -------
    module : nn.Module
    """
    path = weights_path(file)
    if not path.is_file():
        return use(fetch(file, notice=notice))
    before = path.stat()
    module, problem = None, None
    with ThreadPoolExecutor(max_workers=1) as pool:
        checked = pool.submit(fetch, file, notice=notice)
        try:
            module = use(path)
        except (ValueError, OSError) as error:  # perhaps because the file is damaged
            problem = error
        path = checked.result()
    after = path.stat()
    replaced = (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns)
    if module is None and problem is not None and not replaced:
        raise problem
    return use(path) if module is None or replaced else module


def filled(
    build: Callable[[], nn.Module],
    state: Mapping[str, torch.Tensor],
    *,
    source: str,
    missing: tuple[str, ...] = (),
) -> nn.Module:
    """Build a network around its weights.

    Parameters
    ----------
    build : callable
        Makes the module with any weights.
    state : mapping of str to Tensor
        Its weights. They are not copied where their type is right.
    source : str
        Name of the checkpoint, for the errors.
    missing : tuple of str
        Patterns of keys that `state` need not hold; they keep their initial value.

    Returns
    -------
    module : nn.Module

    Raises
    ------
    ValueError
        If a key is absent, unknown, or of another shape.
    """
    try:
        with torch.device("meta"):  # no time is lost with an initialisation
            module = build()
    except (NotImplementedError, RuntimeError, ValueError):
        # it reads a tensor while it is built
        module = build_seeded(build, 0)
    expected = module.state_dict()
    check_state(state, expected, source=source, missing=missing)
    state = {key: value.to(expected[key].dtype) for key, value in state.items()}
    module.load_state_dict(state, strict=False, assign=True)
    if _has_meta(module):  # what no file holds, such as buffers that are computed
        module = build_seeded(build, 0)
        module.load_state_dict(state, strict=False, assign=True)
    return module


def own_network(
    build: Callable[[], nn.Module],
    path: Path,
    layout: Layout | str | None = None,
) -> nn.Module:
    """A network with the weights of a file of the user.

    Parameters
    ----------
    build : callable
        Makes the module with any weights.
    path : Path
        A file of ``torch.save`` or safetensors.
    layout : Layout or str, optional
        How the file is written: one of `LAYOUTS`, or a `Layout`. By default the one
        that gives exactly the keys and shapes of the network.

    Returns
    -------
    module : nn.Module

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If its content is not the network's.
    """
    path = _existing(path, "weights")
    source = f"weights {path}"
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(unknown("layout", layout, LAYOUTS))
        layout = LAYOUTS[layout]
    checkpoint = open_checkpoint(path, source=source)
    if layout is None:
        with torch.device("meta"):
            expected = build().state_dict()
        state = matching_state(checkpoint, expected, source=source)
        absent = tuple(key for key in expected if key not in state)
        return filled(build, state, source=source, missing=absent)
    state = state_from(checkpoint, layout, source=source)
    return filled(build, state, source=source, missing=layout.missing)


def training_record(path: Path) -> dict[str, Any]:
    """What versa's own training wrote into a safetensors file about its network.

    Parameters
    ----------
    path : Path

    Returns
    -------
    record : dict
        With ``builder``, ``options`` and ``preprocess`` if versa made the file, else
        empty.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("versa", "{}")
    except safetensors.SafetensorError:  # the reader of its weights will say so
        return {}
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"metadata 'versa' of {path} must be JSON; it is not ({error}). Export the "
            "network again."
        ) from error
    return record if isinstance(record, dict) else {}


def _existing(path: Path, what: str) -> Path:
    path = path.expanduser()
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
