"""From a name to a card: of the zoo, of torchvision or timm, or of an architecture.

The names, weights and normalisation of a library's networks are theirs; the rule that
a brain stimulus is resized to the network's input without cropping its edges is the
paper's.
"""

import difflib
import math
import numbers
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from versa.models.preprocess import IMAGENET, Preprocess
from versa.models.zoo.cards import (
    ModelCard,
    find_card,
    hash_in_name,
    read_card,
    read_cards,
)
from versa.wording import listing, unknown

# architectures of ours, as they usually want their images: stimuli, then validation
# images
_ARCHITECTURES: dict[str, tuple[Preprocess, Preprocess | None]] = {
    "alexnet_gn": (Preprocess(224, 224, *IMAGENET), Preprocess(256, 224, *IMAGENET)),
    "taskonomy": (Preprocess(256, 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), None),
}
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


@dataclass(frozen=True)
class Named:
    """What a name means.

    `label` is the name without aliases and default seed; `in_zoo` says whether the card
    is a file, not one made here; `seed` is that of an untrained network; `weights` the
    path after the ``@``; `note` what a user of this alias must know (a sentence).
    """

    label: str
    card: ModelCard
    in_zoo: bool = False
    seed: int | None = None
    weights: str = ""
    note: str = ""


def find_network(
    name: str, seed: int | None = None, weights: str | Path | None = None
) -> Named:
    """What a name of `versa.load_model` means. Nothing is built or downloaded.

    With `weights` of the user the name is that of an architecture.

    >>> find_network("alexnet_gn_untrained_ref16:seed=0").label
    'alexnet_gn_untrained'
    >>> find_network("alexnet_gn@runs/ipcl/weights.safetensors").weights
    'runs/ipcl/weights.safetensors'
    """
    base, untrained, in_name = _split(name)
    architecture, file = _own_weights(name, base, seed, weights)
    if file:
        label = name if weights is None else f"{name}@{weights}"
        own = find_card(architecture) or _architecture(architecture)
        return Named(label, own, weights=file)
    seed = _one_seed(name, in_name, seed)
    if base.endswith(".toml"):
        return _of_card(name, base, _card_of_file(Path(base)), untrained, seed)
    card = find_card(base)
    if card is not None:
        return _of_card(name, base, card, untrained, seed)
    return _of_library(base, untrained, seed)


def _own_weights(
    name: str, base: str, seed: int | None, weights: str | Path | None
) -> tuple[str, str]:
    """Architecture and file of the user, if a request means one; else empty texts."""
    if weights is not None:
        if seed is not None:
            raise ValueError(f"seed must be left out beside weights; got {seed}.")
        return name, str(weights)
    architecture, _, file = name.partition("@")
    # names of torchvision's weights, after the @ too, have neither / nor .
    if base.endswith(".toml") or not (os.path.sep in file or "." in file):
        return "", ""
    if seed is not None:
        raise ValueError(
            f"seed must come with an untrained network; got {seed} for {name!r}."
        )
    return architecture, file


def _architecture(name: str) -> ModelCard:
    """Card of an architecture that is not in the zoo, for weights of one's own."""
    if name not in _ARCHITECTURES:
        _check_no_hub(name)
        library, base = _find_library(name, untrained=True, others=_ARCHITECTURES)
        return _library_card(library, base, untrained=True)
    preprocess, validation = _ARCHITECTURES[name]
    return ModelCard(
        name=name,
        method="",
        architecture=name,
        diet="",
        builder=name,
        preprocess=preprocess,
        validation=validation,
        layers=(),
        licence="",
        seed=0,
    )


def _split(text: str) -> tuple[str, bool, int | None]:
    """Name without suffixes, whether ':untrained' is among them, and the seed."""
    base, untrained, seed = text, False, None
    while match := re.search(r":(?:(untrained)|seed=(\d+))$", base):
        base = base[: match.start()]
        untrained = untrained or match[1] is not None
        seed = seed if match[2] is None else int(match[2])
    return base, untrained, seed


def _one_seed(name: str, in_name: int | None, seed: int | None) -> int | None:
    if seed is not None and in_name not in (None, seed):
        raise ValueError(f"seed must be {in_name} as in {name!r}; got {seed}.")
    seed = in_name if seed is None else seed
    if seed is None:
        return None
    if not (isinstance(seed, numbers.Integral) and 0 <= seed < 2**63):
        raise ValueError(f"seed must be an integer of 0 or more; got {seed!r}.")
    return int(seed)


def _card_of_file(path: Path) -> ModelCard:
    path = path.expanduser()
    if not path.is_file():
        raise ValueError(f"a card must be a file; {path} is none.")
    return read_card(path)


def _of_card(
    name: str, base: str, card: ModelCard, untrained: bool, seed: int | None
) -> Named:
    if untrained:
        names = [c.name for c in read_cards().values() if c.seed is not None]
        raise ValueError(
            "':untrained' must follow a name of torchvision or timm; got "
            f"{name!r}. Untrained networks of the zoo: {listing(names)}."
        )
    if card.timm_name:
        _timm_config(card.timm_name, untrained=False)
    note = f"{name}: {card.alias_note}" if base in card.aliases else ""
    if card.seed is None:
        if seed is not None:
            raise ValueError(
                f"seed must come with an untrained network; {card.name} is pretrained."
            )
        return Named(card.name, card, in_zoo=True, note=note)
    seed = card.seed if seed is None else seed
    suffix = "" if seed == card.seed else f":seed={seed}"
    return Named(card.name + suffix, card, in_zoo=True, seed=seed, note=note)


def _of_library(base: str, untrained: bool, seed: int | None) -> Named:
    _check_no_hub(base)
    name, _, rest = base.partition(":")
    if rest:
        raise ValueError(
            f"suffix of {name!r} must be ':untrained' or ':seed=' and a whole number; "
            f"got {':' + rest!r}."
        )
    library, base = _find_library(base, untrained=untrained)
    label = f"{library}/{base}"
    if seed is not None and not untrained:
        raise ValueError(
            f"seed must come with an untrained network; got {seed} for {label}. "
            f"Ask for {label}:untrained:seed={seed}."
        )
    label += ":untrained" if untrained else ""
    label += f":seed={seed}" if seed else ""
    card = _library_card(library, base, untrained=untrained)
    return Named(label, card, seed=(seed or 0) if untrained else None)


# ---- networks of torchvision and timm ------------------------------------------------


def _find_library(
    name: str, *, untrained: bool, others: Iterable[str] = ()
) -> tuple[str, str]:
    """Library of a network, and its name there.

    A bare name is looked for in torchvision first. With `untrained` it need not have
    weights. Names of the zoo and `others` are proposed if there is no such name.
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
        raise ValueError(_foreign_name(name))
    if library != "timm" and base.partition("@")[0] in _torchvision_names():
        _torchvision_weights(base, untrained=untrained)
        return "torchvision", base
    if library != "torchvision" and _is_timm(base):
        _timm_config(base, untrained=untrained)
        return "timm", base
    raise ValueError(_unknown_name(library, base, others))


def _library_card(library: str, base: str, *, untrained: bool = False) -> ModelCard:
    """Card of a network that `_find_library` found."""
    make = _timm_card if library == "timm" else _torchvision_card
    return make(base, untrained)


def _timm_card(base: str, untrained: bool) -> ModelCard:
    config = _timm_config(base, untrained=untrained)
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
    weights = _torchvision_weights(base, untrained=untrained)
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


def _torchvision_weights(name: str, *, untrained: bool = False) -> Any:
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


def _timm_config(name: str, *, untrained: bool) -> Any:
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


def _check_no_hub(name: str) -> None:
    """Refuse the address of a hub, and say what it is called here if timm has it."""
    hub, colon, place = name.partition(":")
    library = hub.rpartition("/")[0]
    if not (hub.lower() in _HUBS or (colon and library not in ("", *_LIBRARIES))):
        return
    base = place.rpartition("/")[2]
    if place.startswith("timm/") and _is_timm(base):
        raise ValueError(f"model must be a name without {hub}:; you mean timm/{base}.")
    raise ValueError(_foreign_name(name))


def _foreign_name(name: str) -> str:
    """Sentence for a name of transformers, open_clip or a hub: what works here."""
    family = re.split(r"[^a-z0-9]", name.rpartition("/")[2].lower())[0]
    if name.startswith("ViT-") or name.lower().startswith("open_clip/"):
        family = "clip"
    known = _zoo_names() if len(family) > 3 else []
    near = [one for one in known if family in one.lower()]
    for number in re.findall(r"\d{2,}", name)[-1:]:  # ViT-B/32 has patches of 32
        near = [one for one in near if number in one] or near
    advice = f" Of the zoo, {listing(near, limit=4)} may do." if near else ""
    return (
        "model must be a name of the zoo, torchvision/NAME or timm/NAME; got "
        f"{name!r}. Load a network of another library yourself (such as with its "
        "from_pretrained) and pass the nn.Module with preprocess=, or look for it "
        f"with timm.list_models.{advice}"
    )


def _unknown_name(library: str, name: str, others: Iterable[str]) -> str:
    import timm

    theirs = {"torchvision": _torchvision_names(), "timm": timm.list_models()}
    if library:
        return unknown(f"model of {library}", name, theirs[library])
    both = sorted({*theirs["torchvision"], *theirs["timm"]})
    return unknown("model", name, [*others, *_zoo_names(), *both])


def _zoo_names() -> list[str]:
    return [n for card in read_cards().values() for n in (card.name, *card.aliases)]


def _torchvision_names() -> list[str]:
    from torchvision import models

    return models.list_models(module=models)


def _is_timm(name: str) -> bool:
    import timm

    return timm.is_model(name)
