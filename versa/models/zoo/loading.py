"""The zoo: which networks there are, and a network ready for use by its name."""

import copy
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versa.models.preprocess import IMAGENET, Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.cards import (
    ModelCard,
    card_folder,
    find_card,
    read_card,
    read_cards,
)
from versa.models.zoo.layouts import Layout
from versa.models.zoo.names import Named, named_model
from versa.records import typed_record
from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from versa.models.vision import Transform

__all__ = [
    "ModelCard",
    "Preprocess",
    "card_folder",
    "find_model",
    "list_models",
    "load_model",
    "read_card",
    "read_cards",
    "zoo_markdown",
]

logger = logging.getLogger("versa")

_README = """\
# The model zoo

One card per network: `<name>.toml` holds where the weights lie, the hash that they must
have, the preprocessing, the layers, the licence, and which of these facts nobody has
checked yet (`unverified`). Load one with `versa.load_model("<name>")`; `:seed=3` after
the name of an untrained network gives another initialisation. `torchvision/NAME` and
`timm/NAME` load anything else by name.

kNN, linear and own are top-1 accuracies on ImageNet in percent, as published: of
nearest neighbours, of a linear read-out, of the network's own classifier. This page is
made by `versa.models.zoo.loading.zoo_markdown()`.

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
    "top1",
    "seed",
    "licence",
    "status",
)
# of weights of one's own, if nothing else says how the images were prepared: stimuli,
# then validation images
_OWN_PREPROCESS: dict[str, tuple[Preprocess, Preprocess | None]] = {
    "alexnet_gn": (Preprocess(224, 224, *IMAGENET), Preprocess(256, 224, *IMAGENET)),
    "taskonomy": (Preprocess(256, 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), None),
}


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
        Keep those that Konkle and Alvarez (2022) used or, where the paper leaves it
        open, may have used (the card's ``unverified`` says so); or the others.

    Returns
    -------
    table : DataFrame
        One row per network; the column ``name`` is what `load_model` takes. All other
        networks of torchvision and timm load as ``torchvision/NAME`` and
        ``timm/NAME``; they are not listed.

    Examples
    --------
    >>> list_models(method="untrained")["name"].tolist()
    ['alexnet_bn_untrained', 'alexnet_gn_untrained', 'alexnet_lrn_untrained']
    """
    import pandas as pd

    columns = list(_COLUMNS)
    cards = read_cards().values()
    table = pd.DataFrame(
        [{name: getattr(card, name) for name in columns} for card in cards],
        columns=columns,
    ).astype({"seed": "Int64", "top1_knn": float, "top1_linear": float, "top1": float})
    chosen = {"method": method, "architecture": architecture, "diet": diet}
    for column, value in chosen.items():
        if value is None:
            continue
        if not isinstance(value, str):
            raise ValueError(f"{column} must be text; got {value!r}.")
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
    weights: str | Path | None = None,
    preprocess: "Transform | None" = None,
    name: str | None = None,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    layout: Layout | str | None = None,
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
        - for weights of your own ``ARCHITECTURE@FILE``, or ARCHITECTURE with `weights`:
          ``alexnet_gn``, a name of the zoo, ``torchvision/NAME`` or ``timm/NAME``;
        - your own module, with `preprocess`. It is not changed;
        - a VisionModel, which is returned as it is.
    weights : path, optional
        Your own checkpoint: safetensors or ``torch.save``. Its keys and shapes must be
        exactly those of the network.
    preprocess : callable, optional
        From an RGB ``PIL.Image`` to a float tensor (3, height, width), such as a
        `Preprocess` or a torchvision transform. Required for your own module; with
        `weights` it replaces that of the file or of the architecture.
    name : str, optional
        Label of your own module or weights; by default the name of its class, or
        ``ARCHITECTURE@FILE``.
    seed : int, optional
        The same as ``:seed=`` in the name.
    options : mapping, optional
        With `weights`: arguments of the architecture, such as ``{"out_dim": 1000,
        "l2norm": False}`` for alexnet_gn.
    layout : Layout or str, optional
        With `weights`: how the file is written, one of
        `versa.models.zoo.layouts.LAYOUTS` or a `Layout`. By default the one that gives
        exactly the network's keys.

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
    ImportError
        If the network needs a package that is not installed.

    Examples
    --------
    >>> load_model("alexnet_gn_untrained:seed=1")  # doctest: +SKIP
    VisionModel(name='alexnet_gn_untrained:seed=1', layers=('conv_block_1', ...))
    """
    if preprocess is not None and not callable(preprocess):
        raise ValueError(
            "preprocess must be a callable from a PIL image to a tensor (3, height, "
            f"width), such as a Preprocess; got {preprocess!r}."
        )
    if layout is not None and not isinstance(layout, Layout | str):
        raise ValueError(
            f"layout must be a Layout or a name of its LAYOUTS; got {layout!r}."
        )
    if weights is None and (options is not None or layout is not None):
        given = "options" if options is not None else "layout"
        raise ValueError(f"{given} must come with weights=, the path of your file.")
    if not isinstance(model, str):
        if seed is not None:
            raise ValueError(f"seed must come with the name of a model; got {seed}.")
        if options is not None:
            raise ValueError("options must come with the name of an architecture.")
        return _wrap_module(model, preprocess, name, weights, layout)
    if weights is not None:
        if seed is not None:
            raise ValueError(f"seed must be left out beside weights; got {seed}.")
        label = name or f"{model}@{weights}"
        path = Path(weights).expanduser()
        return _own(model, path, label, preprocess, dict(options or {}), layout)
    named = named_model(model, seed)
    if named.weights:
        path = Path(named.weights).expanduser()
        return _own(named.base, path, name or named.label, preprocess, {}, None)
    if preprocess is not None or name is not None:
        raise ValueError(
            "preprocess and name must come with an nn.Module or with weights=; got the "
            f"name {model!r}, whose preprocessing is known."
        )
    if named.note:
        logger.warning("%s: %s", model, named.note)
    if named.card is not None:
        return _load_card(named.card, named)
    return _load_library(named)


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
    return named_model(name, seed).label


def zoo_markdown() -> str:
    """Text of ``model_zoo/README.md``, made from versa's own cards."""
    rows = [
        "| name | method | architecture | diet | kNN | linear | own | licence | also",
        "|---|---|---|---|---|---|---|---|---",
    ]
    for card in read_cards(card_folder()).values():
        accuracies = [
            "" if value is None else f"{value:g}"
            for value in (card.top1_knn, card.top1_linear, card.top1)
        ]
        aliases = ", ".join(f"`{alias}`" for alias in card.aliases)
        cells = [f"`{card.name}`", card.method, card.architecture, card.diet]
        rows.append("| " + " | ".join([*cells, *accuracies, card.licence, aliases]))
    return _README + " |\n".join(rows) + " |\n"


def _wrap_module(
    model: object,
    preprocess: "Transform | None",
    name: str | None,
    weights: str | Path | None,
    layout: Layout | str | None,
) -> VisionModel:
    if isinstance(model, VisionModel):
        given = {"preprocess": preprocess, "name": name, "weights": weights}
        if any(value is not None for value in given.values()):
            raise ValueError(
                "preprocess, name and weights must come with an nn.Module; got a "
                "VisionModel, which has its own. Use dataclasses.replace to change it."
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
            "versa.models.zoo.loading.Preprocess(224, 224, mean, std)."
        )
    label = type(model).__name__ if name is None else name
    module = model
    if weights is not None:
        from versa.models.zoo.checkpoints import own_network

        module = own_network(lambda: copy.deepcopy(model), Path(weights), layout)
        module.eval().requires_grad_(False)
        label = f"{label}@{weights}" if name is None else name
    from versa.models.layers import default_layers

    return VisionModel(label, module, preprocess, default_layers(module))


def _load_card(card: ModelCard, named: Named) -> VisionModel:
    from versa.models.zoo.checkpoints import card_network
    from versa.models.zoo.weights import notice_once

    if card.builder == "timm" and not (card.url or card.file or card.seed is not None):
        from versa.models.zoo.libraries import load_timm

        options = dict(card.options)
        module = load_timm(str(options.pop("name")), **options)
        notice_once(card.name, card.notice)
    else:
        module = card_network(card, seed=named.seed)
    module.eval().requires_grad_(False)
    return VisionModel(
        named.label, module, card.preprocess, card.layers, card, card.validation
    )


def _load_library(named: Named) -> VisionModel:
    from versa.models.layers import default_layers
    from versa.models.zoo.libraries import library_model, load_library_model
    from versa.models.zoo.weights import notice_once

    module = load_library_model(
        named.library, named.base, untrained=named.untrained, seed=named.seed
    )
    module.eval().requires_grad_(False)
    notice_once(named.label, named.notice)
    record = library_model(named.library, named.base)
    layers = default_layers(module)
    transforms = record.preprocess, record.validation
    return VisionModel(named.label, module, transforms[0], layers, None, transforms[1])


def _own(
    architecture: str,
    path: Path,
    label: str,
    preprocess: "Transform | None",
    options: dict[str, Any],
    layout: Layout | str | None,
) -> VisionModel:
    """A network of a known architecture with weights of the user."""
    from versa.models.layers import default_layers
    from versa.models.zoo.checkpoints import own_network, training_record
    from versa.models.zoo.networks import build_network, find_builder

    card = find_card(architecture)
    builder, known, usual, validation = _architecture(architecture, card)
    requires = card.requires if card is not None else ""
    find_builder(builder, requires=requires)
    record = training_record(path)
    if record.get("builder") == builder:
        known = {**known, **record.get("options", {})}
    if preprocess is None and "preprocess" in record:
        try:
            preprocess = typed_record(Preprocess, record["preprocess"])
        except ValueError as error:
            raise ValueError(f"metadata 'versa' of {path}: preprocess: {error}") from (
                error
            )
    chosen = {**known, **options}
    module = own_network(
        lambda: build_network(builder, chosen, requires=requires), path, layout
    )
    if preprocess is None:
        logger.warning(
            "%s: nothing records how the images of its training were prepared; as for "
            "%s, they are prepared by %s. Pass preprocess= if that is wrong.",
            *(label, builder, usual),
        )
        preprocess = usual
    module.eval().requires_grad_(False)
    same = card is not None and chosen == dict(card.options)
    layers = card.layers if card is not None and same else default_layers(module)
    validation = _normalised_alike(validation, preprocess)
    return VisionModel(label, module, preprocess, layers, None, validation)


def _normalised_alike(
    validation: Preprocess | None, preprocess: "Transform"
) -> Preprocess | None:
    """Validation transform of weights that are trained with another mean and std."""
    if validation is None or not isinstance(preprocess, Preprocess):
        return None  # nobody knows how the network wants its images
    return dataclasses.replace(validation, mean=preprocess.mean, std=preprocess.std)


def _architecture(
    name: str, card: ModelCard | None
) -> tuple[str, dict[str, Any], Preprocess, Preprocess | None]:
    """Builder, its options, and the usual transforms of an architecture."""
    if card is not None:
        return card.builder, dict(card.options), card.preprocess, card.validation
    if name in _OWN_PREPROCESS:
        return name, {}, *_OWN_PREPROCESS[name]
    from versa.models.zoo.libraries import find_library_model, library_model

    names = [*_OWN_PREPROCESS, *read_cards()]
    found = find_library_model(name, untrained=True, zoo_names=names)
    record = library_model(*found)
    return record.builder, dict(record.options), record.preprocess, record.validation
