"""A network ready for use: from a name, a card, a module or weights of one's own."""

import copy
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from versa.models.layers import default_layers
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.checkpoints import load_network, own_network, training_record
from versa.models.zoo.layouts import CheckpointLayout
from versa.models.zoo.names import Named, find_architecture, find_network
from versa.models.zoo.networks import constructor
from versa.records import typed_record

if TYPE_CHECKING:
    from versa.models.vision import Transform

logger = logging.getLogger("versa")


def load_model(
    model: str | torch.nn.Module | VisionModel,
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
        With `weights`: how the file is written, a name of `versa.models.zoo.LAYOUTS`
        or a `versa.models.zoo.CheckpointLayout`. By default the weights are searched
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
        return _wrap_module(model, preprocess, name, weights, layout)
    if weights is not None:
        if seed is not None:
            raise ValueError(f"seed must be left out beside weights; got {seed}.")
        label = f"{model}@{weights}"
        named = Named(label, find_architecture(model), weights=str(weights))
    else:
        named = find_network(model, seed)
    if named.weights:
        return _own(named, name, preprocess, dict(options or {}), layout)
    if preprocess is not None or name is not None:
        raise ValueError(
            "preprocess and name must come with an nn.Module or with weights=; got the "
            f"name {model!r}, whose preprocessing is known."
        )
    if named.note:
        logger.warning("%s: %s", model, named.note)
    module = load_network(named.card, seed=named.seed)
    return vision_model(named, module.eval().requires_grad_(False))


def vision_model(named: Named, module: torch.nn.Module) -> VisionModel:
    """The network of a card, with what the card says of its images and layers."""
    card = named.card
    return VisionModel(
        named.label,
        module,
        card.preprocess,
        card.layers or default_layers(module),
        card if named.in_zoo else None,
        card.validation,
    )


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


def _wrap_module(
    model: object,
    preprocess: "Transform | None",
    name: str | None,
    weights: str | Path | None,
    layout: CheckpointLayout | str | None,
) -> VisionModel:
    if isinstance(model, VisionModel):
        given = {"preprocess": preprocess, "name": name, "weights": weights}
        if any(value is not None for value in given.values()):
            raise ValueError(
                "preprocess, name and weights must come with an nn.Module; got a "
                "VisionModel, which has its own. Use dataclasses.replace to change it."
            )
        return model
    if not isinstance(model, torch.nn.Module):
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
    label = type(model).__name__ if name is None else name
    module = model
    if weights is not None:
        module = own_network(lambda: copy.deepcopy(model), Path(weights), layout)
        module.eval().requires_grad_(False)
        label = f"{label}@{weights}" if name is None else name
    return VisionModel(label, module, preprocess, default_layers(module))


def _own(
    named: Named,
    name: str | None,
    preprocess: "Transform | None",
    options: dict[str, Any],
    layout: CheckpointLayout | str | None,
) -> VisionModel:
    """A network of a known architecture with weights of the user."""
    card, path = named.card, Path(named.weights).expanduser()
    constructor(card)  # an absent package is told before an absent file
    record = training_record(path)
    known = dict(card.options)
    if record.get("builder") == card.builder:
        known |= record.get("options", {})
    if preprocess is None and "preprocess" in record:
        try:
            preprocess = typed_record(
                Preprocess, record["preprocess"], within="preprocess"
            )
        except ValueError as error:
            raise ValueError(f"metadata 'versa' of {path}: {error}") from error
    chosen = known | options
    module = own_network(
        constructor(card, chosen),
        path,
        layout,
        with_options=lambda more: constructor(card, {**chosen, **more}),
    )
    label = name or named.label
    if preprocess is None:
        preprocess = card.preprocess
        logger.warning(
            "%s: nothing records how the images of its training were prepared; as for "
            "%s, they are prepared by %s. Pass preprocess= if that is wrong.",
            *(label, card.builder, preprocess),
        )
    # with other options than the card's, its layers may not be the network's
    layers = card.layers if chosen == dict(card.options) else ()
    return VisionModel(
        label,
        module.eval().requires_grad_(False),
        preprocess,
        layers or default_layers(module),
        None,
        _normalised_alike(card.validation, preprocess),
    )


def _normalised_alike(
    validation: Preprocess | None, preprocess: "Transform"
) -> Preprocess | None:
    """Validation transform of weights that are trained with another mean and std."""
    if validation is None or not isinstance(preprocess, Preprocess):
        return None  # how the network wants its images is not known
    return dataclasses.replace(validation, mean=preprocess.mean, std=preprocess.std)
