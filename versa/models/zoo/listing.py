"""The layers of a network and their sizes, from a pass on the meta device."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from PIL import Image

from versa.models.images import network_input
from versa.models.layer_names import parsed
from versa.models.layers import requested_layers
from versa.models.passes import Tried, keep_usable, try_shapes, usable_parts
from versa.models.vision import VisionModel
from versa.models.zoo.loading import load_model, of_card, vision_model
from versa.models.zoo.names import find_network
from versa.models.zoo.networks import constructor, on_meta_device

if TYPE_CHECKING:
    import pandas as pd


def meta_model(name: str) -> VisionModel:
    """A network of the zoo or a library on the meta device: no weights, no download.

    Passes give shapes and no numbers.
    """
    named = find_network(name)
    if named.weights:
        raise ValueError(f"name must be of the zoo or of a library; got {name!r}.")
    return vision_model(of_card(named), on_meta_device(constructor(named.card)))


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
        The default layers, all modules without children, or these. Of a layer that
        runs several times in a pass, or returns several tensors, the runs and outputs
        are listed under names that can be analysed, such as ``IT.output:4`` (its fifth
        run), ``IT[0]`` or ``IT:4[0]``.

    Returns
    -------
    table : DataFrame
        One row per layer in the order of execution: ``layer``, ``units`` (per image),
        ``shape`` (of one image, as text) and ``type`` (class of the module).

    Raises
    ------
    ValueError
        If there is no such network or layer.
    ImportError
        If the network needs a package that is not installed.

    Examples
    --------
    >>> list_layers("alexnet_gn_ipcl_ref01").head(2)
              layer  units     shape        type
    0  conv_block_1  69984  96x27x27  Sequential
    1  conv_block_2  43264 256x13x13  Sequential
    """
    import pandas as pd

    if isinstance(model, str):
        own = find_network(model).weights  # their file may say how it was built
        model = load_model(model) if own else meta_model(model)
    layers, _ = requested_layers(model, layer_list)
    x = network_input(Image.new("RGB", (256, 256)), model.preprocess, "in black")
    tried = try_shapes(model, x, layers)
    parts = usable_parts(model, [k for k, one in tried.items() if one.problem], x)
    usable: dict[str, Tried] = {}
    for layer, one in tried.items():
        usable |= parts.get(layer, {}) if one.problem else {layer: one}
    if not usable:
        keep_usable(model, layers, tried)  # refuses
    modules = dict(model.module.named_modules(remove_duplicate=False))
    rows = [
        {
            "layer": layer,
            "units": prod(one.shape),
            "shape": "x".join(map(str, one.shape)),
            "type": type(modules[parsed(layer, modules).module]).__name__,
        }
        for layer, one in usable.items()
    ]
    return pd.DataFrame(rows, columns=["layer", "units", "shape", "type"])
