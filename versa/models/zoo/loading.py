"""A network ready for use, in five stages.

| stage | module |
|---|---|
| name -> card | `names` (cards are read in `cards`) |
| card -> file | `weights` |
| file -> state dict | `state_dicts` (files are opened in `reading`) |
| state dict -> module | `networks` |
| module -> `VisionModel` | here |

`load_model` strings them together; no stage calls an earlier one. The two stages from a
file to its module are a function of their own, because they also prove that a file
without a published hash is the network's.
"""

import copy
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from versa.models.layers import default_layers
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.cards import ModelCard
from versa.models.zoo.layouts import CheckpointLayout
from versa.models.zoo.names import Named, find_network
from versa.models.zoo.networks import (
    build_seeded,
    constructor,
    fill,
    on_meta_device,
    timm_with_weights,
)
from versa.models.zoo.reading import training_record
from versa.models.zoo.state_dicts import Variant, read_state
from versa.models.zoo.weights import (
    CheckpointFile,
    fetch_weights,
    own_file,
)
from versa.records import typed_record

if TYPE_CHECKING:
    from versa.models.vision import Transform

logger = logging.getLogger("versa")


@dataclass(frozen=True)
class Wanted:
    """What is to be loaded: how its module is built, and what goes with it.

    `layers` are those of the architecture if empty; `card` that of the weights, if they
    are not the user's, who gives `file` instead or nothing; `variant` is that of
    `read_state`; `note` what the user must know.
    """

    label: str
    build: Callable[[], nn.Module]
    preprocess: "Transform"
    validation: Preprocess | None = None
    layers: tuple[str, ...] = ()
    card: ModelCard | None = None
    in_zoo: bool = False
    file: CheckpointFile | None = None
    variant: Variant | None = None
    note: str = ""


def load_model(
    model: str | nn.Module | VisionModel,
    *,
    weights: str | Path | None = None,
    preprocess: "Transform | None" = None,
    name: str | None = None,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    layout: CheckpointLayout | str | None = None,
) -> VisionModel:
    """A network with its weights and its preprocessing.

    Parameters
    ----------
    model : str, nn.Module or VisionModel
        - a name or alias of `list_models`; ``NAME:seed=3`` for another seed of an
          untrained network;
        - the path of a card of your own, ``FOLDER/NAME.toml``;
        - ``torchvision/NAME`` (weights IMAGENET1K_V1) or ``torchvision/NAME@WEIGHTS``,
          ``timm/NAME``, each also with ``:untrained`` and ``:untrained:seed=3``;
          the bare NAME will do where the zoo has no such name (torchvision first);
        - for weights of your own ``ARCHITECTURE@FILE``, or ARCHITECTURE with `weights`:
          ``alexnet_gn``, a name of the zoo, ``torchvision/NAME`` or ``timm/NAME``;
        - your own module, with `preprocess`. It is not changed;
        - a VisionModel, which is returned as it is.
    weights : path, optional
        Your own checkpoint: safetensors or ``torch.save``. Its keys and shapes must be
        exactly those of the network, under wrappers and prefixes of any name. A file
        with two networks that fit is refused until `layout` chooses one.
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
    layout : CheckpointLayout or str, optional
        With `weights`: how the file is written, a name of `versa.models.zoo.LAYOUTS`,
        a `versa.models.zoo.CheckpointLayout`, or such a one as the text
        ``path=KEY/KEY,prefix=TEXT,drop=TEXT/TEXT``. By default the weights are searched
        for: the nested dict and the beginning of its keys under which there are exactly
        the network's.

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
    _check_arguments(preprocess, layout, weights, options)
    if not isinstance(model, str):
        if seed is not None:
            raise ValueError(f"seed must come with the name of a model; got {seed}.")
        if options is not None:
            raise ValueError("options must come with the name of an architecture.")
        if isinstance(model, VisionModel):
            return _unchanged(model, preprocess, name, weights)
        wanted = _of_module(model, preprocess, name, weights, layout)
    else:
        named = find_network(model, seed, weights)  # name -> card
        if named.weights:
            wanted = _of_own_weights(named, preprocess, name, options or {}, layout)
        elif preprocess is not None or name is not None:
            raise ValueError(
                "preprocess and name must come with an nn.Module or with weights=; got "
                f"the name {model!r}, whose preprocessing is known."
            )
        else:
            wanted = of_card(named)
    if wanted.note:
        logger.warning("%s", wanted.note)
    file = wanted.file
    if wanted.card is not None and wanted.card.seed is None:
        proof = functools.partial(network_from, wanted.build)
        file = fetch_weights(wanted.card, proof)  # card -> file
    if file is None:  # initial weights, or a module of the user
        module = wanted.build()
    else:
        module = network_from(wanted.build, file, wanted.variant)
    if module is not model:
        module.eval().requires_grad_(False)
    return vision_model(wanted, module)  # module -> VisionModel


def network_from(
    build: Callable[[], nn.Module], file: CheckpointFile, variant: Variant | None = None
) -> nn.Module:
    """A network with the weights of a file; `variant` is that of `read_state`."""
    if file.timm is not None:  # timm reads its files by itself: it renames and resizes
        return timm_with_weights(file.path, **file.timm)
    network = on_meta_device(build)
    state = read_state(file, network, variant)  # file -> state dict
    return fill(network, state, build)  # state dict -> module


def vision_model(wanted: Wanted, module: nn.Module) -> VisionModel:
    """The module with what is known of its images and layers."""
    return VisionModel(
        wanted.label,
        module,
        wanted.preprocess,
        wanted.layers or default_layers(module),
        wanted.card if wanted.in_zoo else None,
        wanted.validation,
    )


def of_card(named: Named) -> Wanted:
    """The network of a card; initial weights are made under the seed of the name."""
    card = named.card
    build = constructor(card)  # an absent package is told before any download
    if card.seed is not None:
        seed = card.seed if named.seed is None else named.seed
        build = functools.partial(build_seeded, build, seed)
    return Wanted(
        named.label,
        build,
        card.preprocess,
        card.validation,
        card.layers,
        card,
        named.in_zoo,
        note=named.note,
    )


def _of_own_weights(
    named: Named,
    preprocess: "Transform | None",
    name: str | None,
    options: Mapping[str, Any],
    layout: CheckpointLayout | str | None,
) -> Wanted:
    """A known architecture, as its card or the file itself says that it is built."""
    card, note = named.card, ""
    constructor(card)  # an absent package is told before an absent file
    file = own_file(named.weights, layout)
    record = training_record(file.path)
    known = dict(card.options)
    if record.get("builder") == card.builder:
        known |= record.get("options", {})
    if preprocess is None and "preprocess" in record:
        try:
            preprocess = typed_record(
                Preprocess, record["preprocess"], within="preprocess"
            )
        except ValueError as error:
            raise ValueError(f"metadata 'versa' of {file.path}: {error}") from error
    if preprocess is None:
        preprocess = card.preprocess
        note = (
            f"{name or named.label}: nothing records how the images of its training "
            f"were prepared; as for {card.builder}, they are prepared by {preprocess}. "
            "Pass preprocess= if that is wrong."
        )
    chosen = known | dict(options)
    return Wanted(
        name or named.label,
        constructor(card, chosen),
        preprocess,
        _normalised_alike(card.validation, preprocess),
        # with other options than the card's, its layers may not be the network's
        card.layers if chosen == dict(card.options) else (),
        file=file,
        variant=lambda more: on_meta_device(constructor(card, {**chosen, **more})),
        note=note,
    )


def _of_module(
    model: object,
    preprocess: "Transform | None",
    name: str | None,
    weights: str | Path | None,
    layout: CheckpointLayout | str | None,
) -> Wanted:
    """A module of the user, or a copy of it that is filled."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            "model must be a name, an nn.Module or a VisionModel; got "
            f"{getattr(model, '__name__', type(model).__name__)!r}."
        )
    if not callable(preprocess):
        raise ValueError(
            "preprocess must come with an nn.Module, as a callable from a PIL image to "
            f"a tensor (3, height, width); got {preprocess!r}. For example "
            "versa.Preprocess(224, 224, mean, std)."
        )
    label = type(model).__name__
    if weights is None:
        return Wanted(label if name is None else name, lambda: model, preprocess)
    return Wanted(
        f"{label}@{weights}" if name is None else name,
        lambda: copy.deepcopy(model),
        preprocess,
        file=own_file(weights, layout),
    )


def _unchanged(
    model: VisionModel, preprocess: object, name: object, weights: object
) -> VisionModel:
    if any(value is not None for value in (preprocess, name, weights)):
        raise ValueError(
            "preprocess, name and weights must come with an nn.Module; got a "
            "VisionModel, which has its own. Use dataclasses.replace to change it."
        )
    return model


def _check_arguments(
    preprocess: object, layout: object, weights: object, options: object
) -> None:
    if preprocess is not None and not callable(preprocess):
        raise ValueError(
            "preprocess must be a callable from a PIL image to a tensor (3, height, "
            f"width), such as a Preprocess; got {preprocess!r}."
        )
    if layout is not None and not isinstance(layout, CheckpointLayout | str):
        raise ValueError(
            "layout must be a CheckpointLayout or a name of versa.models.zoo.LAYOUTS; "
            f"got {layout!r}."
        )
    if weights is None and (options is not None or layout is not None):
        given = "options" if options is not None else "layout"
        raise ValueError(f"{given} must come with weights=, the path of your file.")


def _normalised_alike(
    validation: Preprocess | None, preprocess: "Transform"
) -> Preprocess | None:
    """Validation transform of weights that are trained with another mean and std."""
    if validation is None or not isinstance(preprocess, Preprocess):
        return None  # how the network wants its images is not known
    return dataclasses.replace(validation, mean=preprocess.mean, std=preprocess.std)
