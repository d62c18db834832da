"""The zoo: which networks there are, and a network ready for use by its name."""

import importlib
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from versa.models.adapters import LAYOUTS, check_state, state_from
from versa.models.cards import (
    BUILDERS,
    ModelCard,
    Preprocess,
    card_folder,
    read_card,
    read_cards,
)
from versa.models.download import fetch, open_checkpoint
from versa.wording import listing, unknown

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from PIL import Image

__all__ = [
    "ModelCard",
    "Preprocess",
    "VisionModel",
    "card_folder",
    "find_model",
    "list_models",
    "load_model",
    "read_card",
    "read_cards",
    "zoo_markdown",
]

_README = """\
# The model zoo

One card per network: `<name>.toml` holds where the weights lie, the hash that they must
have, the preprocessing, the layers, the licence, and which of these facts nobody has
checked yet (`unverified`). Load one with `versa.load_model("<name>")`; `:seed=3` after
the name of an untrained network gives another initialisation. `torchvision/NAME` and
`timm/NAME` load anything else by name.

kNN and linear are top-1 accuracies on ImageNet in percent, as published by the authors.
This page is made by `versa.models.zoo.zoo_markdown()`.

"""
_COLUMNS = (
    "name",
    "method",
    "architecture",
    "diet",
    "augmentation",
    "paper",
    "reference",
    "top1_knn",
    "top1_linear",
    "seed",
    "licence",
    "status",
)


@dataclass(frozen=True)
class VisionModel:
    """A network with the preprocessing of its images.

    Parameters
    ----------
    name : str
        Names the network in every result.
    module : nn.Module
        On any device. Networks built here are in eval mode without gradients; a
        module of the user is left as it is and evaluated in eval mode.
    preprocess : callable
        From an RGB ``PIL.Image`` to a float tensor (3, height, width).
    layers : tuple of str
        Default layers, as dotted names of submodules.
    card : ModelCard or None
        Where the network came from, if from the zoo.
    """

    name: str
    module: "torch.nn.Module" = field(repr=False)
    preprocess: "Callable[[Image.Image], torch.Tensor]" = field(repr=False)
    layers: tuple[str, ...]
    card: ModelCard | None = field(default=None, repr=False)


def list_models(
    *,
    method: str | None = None,
    architecture: str | None = None,
    diet: str | None = None,
    paper: bool | None = None,
) -> "pd.DataFrame":
    """Table of the zoo. Nothing is downloaded and torch is not loaded.

    Parameters
    ----------
    method, architecture, diet : str, optional
        Keep the networks of this training method, architecture or set of images;
        case does not matter.
    paper : bool, optional
        Keep those that Konkle and Alvarez (2022) used, or the others.

    Returns
    -------
    table : DataFrame
        One row per network; the column ``name`` is what `load_model` takes. Networks
        of torchvision and timm, which load as ``torchvision/NAME`` and ``timm/NAME``,
        are not listed.

    Examples
    --------
    >>> list_models(method="untrained")["name"].tolist()
    ['alexnet_bn_untrained', 'alexnet_gn_untrained', 'alexnet_lrn_untrained']
    """
    import pandas as pd

    columns = list(_COLUMNS)
    table = pd.DataFrame(
        [{name: getattr(card, name) for name in columns} for card in _cards()],
        columns=columns,
    ).astype({"seed": "Int64", "top1_knn": float, "top1_linear": float})
    chosen = {"method": method, "architecture": architecture, "diet": diet}
    for column, value in chosen.items():
        if value is None:
            continue
        options = {str(option).lower(): option for option in table[column]}
        if value.lower() not in options:
            raise ValueError(unknown(column, value, sorted(set(options.values()))))
        table = table[table[column] == options[value.lower()]]
    if paper is not None:
        table = table[table["paper"] == paper]
    return table.reset_index(drop=True)


def load_model(
    model: "str | torch.nn.Module | VisionModel",
    *,
    preprocess: "Callable[[Image.Image], torch.Tensor] | None" = None,
    name: str | None = None,
    seed: int | None = None,
) -> VisionModel:
    """A network with its weights and its preprocessing.

    Parameters
    ----------
    model : str, nn.Module or VisionModel
        - a name or alias of `list_models`; ``NAME:seed=3`` for another seed of an
          untrained network;
        - ``torchvision/NAME`` (weights IMAGENET1K_V1) or ``torchvision/NAME@WEIGHTS``,
          ``timm/NAME``, each also with ``:untrained`` and ``:untrained:seed=3``;
          the bare NAME will do where the zoo has no such name (torchvision first);
        - your own module, with `preprocess`. It is not changed;
        - a VisionModel, which is returned as it is.
    preprocess : callable, optional
        For your own module: from an RGB ``PIL.Image`` to a float tensor
        (3, height, width), such as a `Preprocess` or a torchvision transform.
    name : str, optional
        Label of your own module; by default the name of its class.
    seed : int, optional
        The same as ``:seed=`` in the name.

    Returns
    -------
    model : VisionModel

    Raises
    ------
    ValueError
        If the name, the suffix or the combination of arguments is not known, or the
        weights are not those of the network.
    FileNotFoundError
        If weights are needed that ``VERSA_OFFLINE`` forbids to download.
    ConnectionError
        If a download fails.

    Examples
    --------
    >>> load_model("alexnet_gn_untrained:seed=1")  # doctest: +SKIP
    VisionModel(name='alexnet_gn_untrained:seed=1', layers=('conv_block_1', ...))
    """
    if not isinstance(model, str):
        if seed is not None:
            raise ValueError(f"seed must come with the name of a model; got {seed}.")
        return _wrap_module(model, preprocess, name)
    if preprocess is not None or name is not None:
        raise ValueError(
            "preprocess and name must come with an nn.Module; got the name "
            f"{model!r}, whose preprocessing is known."
        )
    found = _find(model, seed)
    if found.card is not None:
        return _load_card(found.card, found.seed, found.label)
    from versa.models.libraries import load_library_model

    module, transform, layers = load_library_model(
        found.library, found.base, untrained=found.untrained, seed=found.seed
    )
    return VisionModel(found.label, module, transform, layers)


def find_model(name: str, *, seed: int | None = None) -> str:
    """Name that `load_model` would give to a network, without loading it.

    Parameters
    ----------
    name : str
        As for `load_model`.
    seed : int, optional
        The same as ``:seed=`` in the name.

    Returns
    -------
    name : str
        Without aliases and without the default seed.

    Raises
    ------
    ValueError
        If there is no such network.

    Examples
    --------
    >>> find_model("alexnet_gn_untrained_ref16:seed=0")
    'alexnet_gn_untrained'
    """
    return _find(name, seed).label


def zoo_markdown() -> str:
    """Text of ``model_zoo/README.md``, made from the cards."""
    rows = [
        "| name | method | architecture | diet | kNN | linear | also |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in _cards():
        accuracies = ["" if a is None else a for a in (card.top1_knn, card.top1_linear)]
        cells = [f"`{card.name}`", card.method, card.architecture, card.diet]
        aliases = ", ".join(f"`{alias}`" for alias in card.aliases)
        rows.append("| " + " | ".join(map(str, [*cells, *accuracies, aliases])) + " |")
    return _README + "\n".join(rows) + "\n"


def _cards() -> list[ModelCard]:
    return list(read_cards().values())


@dataclass(frozen=True)
class _Found:
    """What a name means: a card, or a network of a library."""

    label: str
    card: ModelCard | None = None
    library: str = ""
    base: str = ""
    untrained: bool = False
    seed: int = 0


def _find(name: str, seed: int | None) -> _Found:
    base, untrained, in_name = _split_name(name)
    if seed is not None and in_name not in (None, seed):
        raise ValueError(f"seed must be {in_name} as in {name!r}; got {seed}.")
    seed = in_name if seed is None else seed
    if seed is not None and not (
        isinstance(seed, numbers.Integral) and 0 <= seed < 2**63
    ):
        raise ValueError(f"seed must be an integer of 0 or more; got {seed!r}.")
    cards = {key: card for card in _cards() for key in (card.name, *card.aliases)}
    if base not in cards:
        from versa.models.libraries import find_library_model

        library, base = find_library_model(base, untrained=untrained, zoo_names=cards)
        label = f"{library}/{base}"
        if seed is not None and not untrained:
            raise ValueError(
                f"seed must come with an untrained network; got {seed} for {label}. "
                f"Ask for {label}:untrained:seed={seed}."
            )
        label += ":untrained" if untrained else ""
        label += f":seed={seed}" if seed else ""
        return _Found(label, None, library, base, untrained, int(seed or 0))
    card = cards[base]
    if untrained:
        twins = [c.name for c in cards.values() if c.seed is not None]
        raise ValueError(
            "':untrained' must follow a name of torchvision or timm; got "
            f"{name!r}. Untrained networks of the zoo: {listing(dict.fromkeys(twins))}."
        )
    if card.seed is None:
        if seed is not None:
            raise ValueError(
                f"seed must come with an untrained network; {card.name} is pretrained."
            )
        return _Found(card.name, card)
    seed = card.seed if seed is None else int(seed)
    suffix = "" if seed == card.seed else f":seed={seed}"
    return _Found(card.name + suffix, card, seed=seed)


def _split_name(text: str) -> tuple[str, bool, int | None]:
    """Name without suffixes, whether ':untrained' follows it, and its seed."""
    base, *suffixes = text.split(":")
    untrained, seed = False, None
    for suffix in suffixes:
        if suffix == "untrained":
            untrained = True
        elif match := re.fullmatch(r"seed=(\d+)", suffix):
            seed = int(match.group(1))
        else:
            raise ValueError(
                f"suffix of {base!r} must be ':untrained' or ':seed=' and a whole "
                f"number; got {':' + suffix!r}."
            )
    return base, untrained, seed


def _wrap_module(
    model: object,
    preprocess: "Callable[[Image.Image], torch.Tensor] | None",
    name: str | None,
) -> VisionModel:
    if isinstance(model, VisionModel):
        if preprocess is not None or name is not None:
            raise ValueError(
                "preprocess and name must come with an nn.Module; got a VisionModel, "
                "which has its own. Use dataclasses.replace to change them."
            )
        return model
    import torch

    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            "model must be a name, an nn.Module or a VisionModel; got "
            f"{getattr(model, '__name__', type(model).__name__)!r}."
        )
    if not callable(preprocess):
        raise ValueError(
            "preprocess must come with an nn.Module, as a callable from a PIL image to "
            f"a tensor (3, height, width); got {preprocess!r}. For example "
            "versa.models.zoo.Preprocess(224, 224, mean, std)."
        )
    from versa.models.layers import default_layers

    return VisionModel(
        name=type(model).__name__ if name is None else name,
        module=model,
        preprocess=preprocess,
        layers=default_layers(model),
    )


def _load_card(card: ModelCard, seed: int, label: str) -> VisionModel:
    import torch

    from versa.models.architectures import build_seeded

    module_name, attribute = BUILDERS[card.builder]
    builder = getattr(importlib.import_module(module_name), attribute)
    if card.seed is not None:
        module = build_seeded(lambda: builder(**card.options), seed)
    else:
        layout = LAYOUTS[card.adapter]
        source = f"checkpoint of {card.name}"
        path = fetch(card.url, card.name, card.sha256)
        state = state_from(open_checkpoint(path, source=source), layout, source=source)
        if layout.missing:
            module = build_seeded(lambda: builder(**card.options), 0)
        else:
            with torch.device("meta"):  # no time is lost with an initialisation
                module = builder(**card.options)
        expected = module.state_dict()
        check_state(state, expected, source=source, missing=layout.missing)
        state = {key: value.to(expected[key].dtype) for key, value in state.items()}
        module.load_state_dict(state, strict=not layout.missing, assign=True)
    module.eval().requires_grad_(False)
    return VisionModel(label, module, card.preprocess, card.layers, card)
