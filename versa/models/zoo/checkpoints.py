"""From a weight file to a network: read, compared with the network, filled in."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from versa.models.building import build_seeded, sketched
from versa.models.zoo.cards import ModelCard
from versa.models.zoo.layouts import (
    LAYOUTS,
    Layout,
    check_held,
    check_state,
    matching_state,
    state_from,
)
from versa.models.zoo.networks import build_network, find_builder
from versa.models.zoo.reading import begins_as_safetensors, open_checkpoint
from versa.models.zoo.weights import WeightFile, fetch, weights_path
from versa.wording import unknown

__all__ = [
    "card_network",
    "card_proof",
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
    missing = card.rules.missing

    def network(path: Path) -> nn.Module:
        state = _card_state(card, path)
        return filled(build, state, source=_source(card), missing=missing)

    if card.file:
        find_builder(card.builder, requires=card.requires)
        return network(_existing(Path(card.file), f"file of {card.name}.toml"))
    file, proof = card_weights(card), card_proof(card)
    return while_checked(file, network, notice=card.notice, proof=proof)


def card_proof(card: ModelCard) -> Callable[[Path], None]:
    """A function that refuses a file which does not hold the network of a card.

    Parameters
    ----------
    card : ModelCard
        With a url.

    Returns
    -------
    proof : callable
        From the path of a file to None; see `versa.models.zoo.weights.fetch`.

    Raises
    ------
    ImportError
        If the package of a plug-in is not installed: no file can be proved then.
    """
    find_builder(card.builder, requires=card.requires)

    def proof(path: Path) -> None:
        state = _card_state(card, path)
        module = sketched(
            lambda: build_network(card.builder, card.options, requires=card.requires)
        )
        expected, missing = module.state_dict(), card.rules.missing
        check_state(state, expected, source=_source(card), missing=missing)

    return proof


def _source(card: ModelCard) -> str:
    return f"checkpoint of {card.name}"


def _card_state(card: ModelCard, path: Path) -> dict[str, torch.Tensor]:
    source = _source(card)
    checkpoint = open_checkpoint(path, source=source, allow=card.allow)
    check_held(checkpoint, card.rules, card.holds, source=source)
    return state_from(checkpoint, card.rules, source=source)


def while_checked(
    file: WeightFile,
    use: Callable[[Path], nn.Module],
    *,
    notice: str = "",
    proof: Callable[[Path], object] | None = None,
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
    proof : callable, optional
        As of `versa.models.zoo.weights.fetch`.

    Returns
    -------
    module : nn.Module
    """
    path = weights_path(file)
    if not path.is_file():
        return use(fetch(file, notice=notice, proof=proof))
    before = path.stat()
    module, problem = None, None
    with ThreadPoolExecutor(max_workers=1) as pool:
        checked = pool.submit(fetch, file, notice=notice, proof=proof)
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
    module = sketched(build)
    check_state(state, module.state_dict(), source=source, missing=missing)
    return _assigned(module, build, state)


def _assigned(
    module: nn.Module,
    build: Callable[[], nn.Module],
    state: Mapping[str, torch.Tensor],
) -> nn.Module:
    """Put checked weights into a sketch, or, if it needs more, into a whole network."""
    expected = module.state_dict()
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
        module = sketched(build)
        state = matching_state(checkpoint, module.state_dict(), source=source)
        return _assigned(module, build, state)
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

    Raises
    ------
    ValueError
        If the record is not of this form.
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
    except json.JSONDecodeError as error:
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
