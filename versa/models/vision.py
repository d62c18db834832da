"""A network with the preprocessing of its images and its default layers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from versa.models.preprocess import Preprocess

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from versa.models.zoo.cards import ModelCard

    Transform = Callable[[Image.Image], torch.Tensor]


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
        From an RGB ``PIL.Image`` to a float tensor (3, height, width), for the stimuli
        of a brain experiment: resized to the network's input, no edge cut off.
    layers : tuple of str
        Default layers, as dotted names of submodules.
    card : ModelCard or None
        Where the network came from, if from the zoo.
    validation : Preprocess or None
        Transform of the ImageNet validation images, which crops; for read-out
        accuracy only. None if not known.
    """

    name: str
    module: "torch.nn.Module" = field(repr=False)
    preprocess: "Transform" = field(repr=False)
    layers: tuple[str, ...]
    card: "ModelCard | None" = field(default=None, repr=False)
    validation: Preprocess | None = field(default=None, repr=False)
