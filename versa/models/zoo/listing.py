"""The layers of a network and their sizes, without its weights."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from PIL import Image

from versa.models.layers import (
    default_layers,
    evaluating,
    resolve_layers,
    run_network,
    watch_layers,
)
from versa.models.vision import VisionModel
from versa.models.zoo.libraries import library_model
from versa.models.zoo.loading import load_model
from versa.models.zoo.names import named_model
from versa.models.zoo.networks import on_meta

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["list_layers", "sketch_model"]


def sketch_model(name: str) -> VisionModel:
    """A network as names and shapes: no weights, no memory, no download.

    Parameters
    ----------
    name : str
        As `versa.load_model` takes it, without a file.

    Returns
    -------
    model : VisionModel
        Its module lies on the meta device; passes give shapes and no numbers.

    Raises
    ------
    ValueError
        If there is no such network.
    ImportError
        If the network needs a package that is not installed.
    """
    named = named_model(name)
    if named.weights:
        raise ValueError(f"name must be of the zoo or of a library; got {name!r}.")
    card = named.card
    if card is not None:
        module = on_meta(card.builder, card.options, requires=card.requires)
        return VisionModel(named.label, module, card.preprocess, card.layers, card)
    record = library_model(named.library, named.base)
    module = on_meta(record.builder, record.options)
    layers = default_layers(module)
    return VisionModel(named.label, module, record.preprocess, layers)


def list_layers(
    model: str | VisionModel, layer_list: Sequence[str] | str | None = None
) -> "pd.DataFrame":
    """Table of a network's layers. Nothing is downloaded.

    Parameters
    ----------
    model : str or VisionModel
        A name as `versa.load_model` takes it, or a loaded network with a resizing
        preprocess. ``ARCHITECTURE@FILE`` is loaded.
    layer_list : None, "leaf" or list of str
        The default layers, all modules without children, or these.

    Returns
    -------
    table : DataFrame
        One row per layer in the order of execution: ``layer``, ``units`` (per image),
        ``shape`` (of one image, as text) and ``type`` (class of the module).

    Raises
    ------
    ValueError
        If there is no such network or layer.

    Examples
    --------
    >>> list_layers("alexnet_gn_ipcl_ref01").head(2)
              layer  units     shape        type
    0  conv_block_1  69984  96x27x27  Sequential
    1  conv_block_2  43264 256x13x13  Sequential
    """
    import pandas as pd

    if isinstance(model, str):
        own = named_model(model).weights  # their file may say how it was built
        model = load_model(model) if own else sketch_model(model)
    layers = resolve_layers(model, layer_list)
    shapes: dict[str, tuple[int, ...]] = {}

    def receive(layer: str, output: object) -> None:
        if isinstance(output, torch.Tensor):
            shapes[layer] = tuple(output.shape[1:])

    x = model.preprocess(Image.new("RGB", (256, 256)))
    batch = torch.stack([x, x])
    with evaluating(model.module), watch_layers(model.module, layers, receive):
        run_network(model, batch)
    rows = [
        {
            "layer": layer,
            "units": prod(shape),
            "shape": "x".join(map(str, shape)),
            "type": type(model.module.get_submodule(layer)).__name__,
        }
        for layer, shape in shapes.items()
    ]
    return pd.DataFrame(rows, columns=["layer", "units", "shape", "type"])
