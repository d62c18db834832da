"""Cards of torchvision's and timm's networks, made from what the libraries record.

Their names, their weights and their normalisation are theirs; the rule that a brain
stimulus is resized to the network's input without cropping its edges is the paper's.
"""

import difflib
import math
import os.path
import re
from collections.abc import Iterable
from typing import Any

from versa.models.preprocess import Preprocess
from versa.models.zoo.cards import ModelCard
from versa.wording import listing, unknown

_DEFAULT_WEIGHTS = "IMAGENET1K_V1"
# licences as timm writes them
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "mit": "MIT",
}
_LIBRARIES = ("torchvision", "timm")
_HUBS = ("hf-hub", "hf_hub", "hf", "huggingface", "local-dir")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def find_library_model(
    name: str, *, untrained: bool = False, zoo_names: Iterable[str] = ()
) -> tuple[str, str]:
    """Library of a network, and its name there. Nothing is built or downloaded.

    A bare name is looked for in torchvision first. With `untrained` it need not have
    weights. `zoo_names` are proposed beside the libraries' if there is no such name.

    >>> find_library_model("resnet18")
    ('torchvision', 'resnet18')
    """
    library, _, base = name.rpartition("/")
    if "/" in name and library not in ("torchvision", "timm") and os.path.exists(name):
        kind = "folder" if os.path.isdir(name) else "file"
        raise ValueError(
            "model must be a name (see versa-compare --list-models), torchvision/NAME, "
            "timm/NAME, the .toml file of a card, or ARCHITECTURE@FILE for weights of "
            "your own, or for versa-compare a saved result (.nc); "
            f"{name!r} is a {kind}."
        )
    if library not in ("", *_LIBRARIES):
        path = name.startswith(("/", ".", "~"))
        if path or difflib.get_close_matches(library, _LIBRARIES):
            raise ValueError(unknown("library", library, _LIBRARIES))
        raise ValueError(_foreign_name(name, zoo_names))
    if library != "timm" and base.partition("@")[0] in _torchvision_names():
        torchvision_weights(base, untrained=untrained)
        return "torchvision", base
    if library != "torchvision" and _is_timm(base):
        timm_config(base, untrained=untrained)
        return "timm", base
    raise ValueError(_unknown_name(library, base, zoo_names))


def library_card(library: str, base: str, *, untrained: bool = False) -> ModelCard:
    """Card of a network that `find_library_model` found."""
    make = _timm_card if library == "timm" else _torchvision_card
    return make(base, untrained)


def _timm_card(base: str, untrained: bool) -> ModelCard:
    config = timm_config(base, untrained=untrained)
    crop = config.input_size[1]
    rest = (tuple(config.mean), tuple(config.std), config.interpolation)
    resize = max(crop, math.floor(crop / config.crop_pct))
    licence = config.license or ""
    return ModelCard(
        name=f"timm/{base}",
        method="",
        architecture=base,
        diet="",
        builder="timm",
        preprocess=Preprocess(crop, crop, *rest),
        validation=Preprocess(resize, crop, *rest),
        layers=(),
        licence="" if untrained else _SPDX.get(licence, licence),
        seed=0 if untrained else None,
        options={"name": base},
    )


def _torchvision_card(base: str, untrained: bool) -> ModelCard:
    name = base.partition("@")[0]
    weights = torchvision_weights(base, untrained=untrained)
    transform = weights.transforms()
    size, resize = transform.crop_size[0], transform.resize_size[0]
    mean, std = tuple(transform.mean), tuple(transform.std)
    rest = (mean, std, transform.interpolation.value)
    options: dict[str, Any] = {"name": name, "init_weights": untrained}
    if name.startswith("vit_"):  # its positions are those of the weights' images
        options["image_size"] = size
    return ModelCard(
        name=f"torchvision/{name}@{weights.name}",
        method="",
        architecture=name,
        diet="",
        builder="torchvision",
        preprocess=Preprocess(size, size, *rest),
        validation=Preprocess(max(resize, size), size, *rest),
        layers=(),
        licence="",  # torchvision records none
        options=options,
        **_torchvision_source(weights.url, untrained),
    )


def _torchvision_source(url: str, untrained: bool) -> dict[str, Any]:
    if untrained:
        return {"seed": 0}
    digits = hash_in_name(url)
    if not digits:
        raise ValueError(
            f"{url} must name the start of its SHA-256 (as in net-0123abcd.pth), else "
            "the file cannot be checked. Load the network yourself and pass the module."
        )
    return {"url": url, "sha256": digits, "adapter": "torchvision"}


def hash_in_name(url: str) -> str:
    """First digits of a file's SHA-256, if its address names them."""
    found = _HASH_IN_NAME.search(url)
    return found.group(1) if found else ""


def torchvision_weights(name: str, *, untrained: bool = False) -> Any:
    """Member of torchvision's enum of weights that a name means.

    An untrained network needs only the transform of one: of the smallest images, if
    the name says nothing and the usual weights do not exist.
    """
    from torchvision import models

    base, _, wanted = name.partition("@")
    members = {member.name: member for member in models.get_model_weights(base)}
    if untrained and not wanted and _DEFAULT_WEIGHTS not in members:
        return min(members.values(), key=lambda w: w.transforms().crop_size[0])
    wanted = wanted or _DEFAULT_WEIGHTS
    if wanted not in members:
        rule = f"WEIGHTS of torchvision/{base}@WEIGHTS"
        raise ValueError(unknown(rule, wanted, members))
    return members[wanted]


def timm_config(name: str, *, untrained: bool) -> Any:
    """What timm records of a network, if versa can use it."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a known architecture with an unknown tag
        tagged = timm.list_models(name.partition(".")[0] + ".*", pretrained=True)
        raise ValueError(unknown("model of timm", name, tagged)) from None
    if config is None:
        raise ValueError(
            f"timm/{name} records no preprocessing. Build it yourself and pass the "
            "module with preprocess=."
        )
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise ValueError(
            f"timm/{name} must take square RGB images; it takes {config.input_size}. "
            "Build it yourself and pass the module with preprocess=."
        )
    if not (untrained or config.has_weights):
        raise ValueError(
            f"timm/{name} has no pretrained weights; load timm/{name}:untrained or "
            "another of timm.list_pretrained()."
        )
    return config


def check_no_hub(name: str) -> None:
    """Refuse the address of a hub, and say what it is called here if timm has it."""
    hub, colon, place = name.partition(":")
    library = hub.rpartition("/")[0]
    if not (hub.lower() in _HUBS or (colon and library not in ("", *_LIBRARIES))):
        return
    base = place.rpartition("/")[2]
    if place.startswith("timm/") and _is_timm(base):
        raise ValueError(f"model must be a name without {hub}:; you mean timm/{base}.")
    raise ValueError(_foreign_name(name, ()))


def _foreign_name(name: str, zoo_names: Iterable[str]) -> str:
    """Sentence for a name of transformers, open_clip or a hub: what works here."""
    known = list(zoo_names)
    family = re.split(r"[^a-z0-9]", name.rpartition("/")[2].lower())[0]
    if name.startswith("ViT-") or name.lower().startswith("open_clip/"):
        family = "clip"
    near = [one for one in known if family in one.lower()] if len(family) > 3 else []
    for number in re.findall(r"\d{2,}", name)[-1:]:  # ViT-B/32 has patches of 32
        near = [one for one in near if number in one] or near
    advice = f" Of the zoo, {listing(near, limit=4)} may do." if near else ""
    return (
        "model must be a name of the zoo, torchvision/NAME or timm/NAME; got "
        f"{name!r}. Load a network of another library yourself (such as with its "
        "from_pretrained) and pass the nn.Module with preprocess=, or look for it "
        f"with timm.list_models.{advice}"
    )


def _unknown_name(library: str, name: str, zoo_names: Iterable[str]) -> str:
    import timm

    theirs = {"torchvision": _torchvision_names(), "timm": timm.list_models()}
    if library:
        return unknown(f"model of {library}", name, theirs[library])
    both = sorted({*theirs["torchvision"], *theirs["timm"]})
    return unknown("model", name, [*zoo_names, *both])


def _torchvision_names() -> list[str]:
    from torchvision import models

    return models.list_models(module=models)


def _is_timm(name: str) -> bool:
    import timm

    return timm.is_model(name)
