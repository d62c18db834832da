"""Networks that embed images, as they are trained."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from versa.models.architectures import L2Norm
from versa.models.ipcl.norms import give_groups
from versa.models.zoo.networks import build_network, timm_network, torchvision_network
from versa.wording import unknown

logger = logging.getLogger("versa")

_LIBRARIES = ("torchvision", "timm")
# These two have outputs beside the main one, and rescale what other weights expect
_PLAIN = {"aux_logits": False, "transform_input": False, "init_weights": True}
_TORCHVISION_OPTIONS = {"googlenet": _PLAIN, "inception_v3": _PLAIN}
_RANDOM = ("DropBlock2d", "DropPath", "PatchDropout", "StochasticDepth")


def training_network(
    architecture: str, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """`embedding_network` with ghost groups in every BatchNorm, in train mode.

    The keys stay. `versa.models.ipcl.norms.set_groups` sets the rows of a group.
    """
    network = embedding_network(architecture, **(options or {}))
    give_groups(network)
    random = random_layers(network)
    if random:
        logger.warning(
            "%s draws random numbers in the network itself (%s): its training depends "
            "on the size of a chunk and on the number of processes.",
            architecture,
            ", ".join(random),
        )
    return network


def random_layers(network: nn.Module) -> list[str]:
    """Kinds of layers that draw random numbers in training, such as Dropout."""
    return sorted(
        {
            type(part).__name__
            for part in network.modules()
            if (isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0)
            or type(part).__name__ in _RANDOM
        }
    )


def embedding_network(
    architecture: str, *, out_dim: int = 128, l2norm: bool = True, **options: Any
) -> nn.Module:
    """A network whose last layer of `out_dim` units embeds images, or scores classes.

    `architecture` is ``alexnet_gn``, ``torchvision/NAME``, ``timm/NAME`` or
    ``package.module:callable``. Also the builder of the cards of such networks.
    """
    library, _, name = architecture.partition("/")
    own = ":" in architecture
    if not (own or (library in _LIBRARIES and name) or architecture == "alexnet_gn"):
        known = ["alexnet_gn", *(f"{library}/NAME" for library in _LIBRARIES)]
        known.append("package.module:callable")
        raise ValueError(unknown("architecture", architecture, known))
    if "num_classes" in options:
        raise ValueError(
            f"num_classes must be given as out_dim; got {options['num_classes']}."
        )
    if own:
        network = build_network(architecture, {"out_dim": out_dim, **options})
    elif library == "alexnet_gn":
        options = {"out_dim": out_dim, "l2norm": l2norm, **options}
        return build_network("alexnet_gn", options)
    else:
        network = _library_network(library, name, out_dim, options)
    if l2norm:
        for part in network.modules():  # transformers begin with a head of zeros
            if not isinstance(part, nn.Linear) or part.out_features != out_dim:
                continue
            if not (part.weight.is_meta or part.weight.any()):
                part.reset_parameters()
        network.add_module("l2norm", L2Norm())
        if type(network).forward is not nn.Sequential.forward:  # which runs it now
            network.register_forward_hook(_scaled_output)
    return network


def _library_network(
    library: str, name: str, out_dim: int, options: Mapping[str, Any]
) -> nn.Module:
    if name not in _names(library):
        raise ValueError(unknown(f"architecture of {library}", name, _names(library)))
    try:
        if library == "timm":
            return timm_network(name, num_classes=out_dim, **options)
        options = {**_TORCHVISION_OPTIONS.get(name, {}), **options}
        return torchvision_network(name, num_classes=out_dim, **options)
    except TypeError as error:
        raise ValueError(
            f"options must suit {library}/{name}: {str(error).rstrip('.')}."
        ) from error


def _scaled_output(module: nn.Module, _inputs: Any, out: torch.Tensor) -> torch.Tensor:
    scaled: torch.Tensor = module.get_submodule("l2norm")(out)
    return scaled


def _names(library: str) -> list[str]:
    if library == "torchvision":
        from torchvision import models

        return models.list_models(models)
    import timm

    return timm.list_models()
