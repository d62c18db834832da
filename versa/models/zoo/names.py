"""What the name of a network means: always a card, and perhaps a file of weights."""

import numbers
import os
import re
from dataclasses import dataclass
from pathlib import Path

from versa.models.preprocess import IMAGENET, Preprocess
from versa.models.zoo.cards import ModelCard, find_card, read_card, read_cards
from versa.models.zoo.libraries import check_no_hub, find_library_model, library_card
from versa.wording import listing

# architectures of ours, as they usually want their images: stimuli, then validation
# images
_ARCHITECTURES: dict[str, tuple[Preprocess, Preprocess | None]] = {
    "alexnet_gn": (Preprocess(224, 224, *IMAGENET), Preprocess(256, 224, *IMAGENET)),
    "taskonomy": (Preprocess(256, 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), None),
}


@dataclass(frozen=True)
class Named:
    """What a name means.

    `label` is the name without aliases and default seed; `in_zoo` says whether the card
    is a file, not one made here; `seed` is that of an untrained network; `weights` the
    path after the ``@``; `note` what a user of this alias must know.
    """

    label: str
    card: ModelCard
    in_zoo: bool = False
    seed: int | None = None
    weights: str = ""
    note: str = ""


def find_network(name: str, seed: int | None = None) -> Named:
    """What a name of `versa.load_model` means. Nothing is built or downloaded.

    >>> find_network("alexnet_gn_untrained_ref16:seed=0").label
    'alexnet_gn_untrained'
    >>> find_network("alexnet_gn@runs/ipcl/weights.safetensors").weights
    'runs/ipcl/weights.safetensors'
    """
    architecture, _, file = name.partition("@")
    base, untrained, in_name = _split(name)
    is_card_file = base.endswith(".toml")
    # names of torchvision's weights, after the @ too, have neither / nor .
    if not is_card_file and (os.path.sep in file or "." in file):
        if seed is not None:
            raise ValueError(
                f"seed must come with an untrained network; got {seed} for {name!r}."
            )
        return Named(name, find_architecture(architecture), weights=file)
    seed = _one_seed(name, in_name, seed)
    if is_card_file:
        return _of_card(name, base, _card_of_file(Path(base)), untrained, seed)
    card = find_card(base)
    if card is not None:
        return _of_card(name, base, card, untrained, seed)
    return _of_library(base, untrained, seed)


def find_architecture(name: str) -> ModelCard:
    """Card of an architecture that weights of one's own fill."""
    card = find_card(name)
    if card is not None:
        return card
    if name not in _ARCHITECTURES:
        check_no_hub(name)
        names = [*_ARCHITECTURES, *read_cards()]
        library, base = find_library_model(name, untrained=True, zoo_names=names)
        return library_card(library, base, untrained=True)
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
    note = card.alias_note if base in card.aliases else ""
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
    check_no_hub(base)
    name, _, rest = base.partition(":")
    if rest:
        raise ValueError(
            f"suffix of {name!r} must be ':untrained' or ':seed=' and a whole number; "
            f"got {':' + rest!r}."
        )
    names = [n for card in read_cards().values() for n in (card.name, *card.aliases)]
    library, base = find_library_model(base, untrained=untrained, zoo_names=names)
    label = f"{library}/{base}"
    if seed is not None and not untrained:
        raise ValueError(
            f"seed must come with an untrained network; got {seed} for {label}. "
            f"Ask for {label}:untrained:seed={seed}."
        )
    label += ":untrained" if untrained else ""
    label += f":seed={seed}" if seed else ""
    card = library_card(library, base, untrained=untrained)
    return Named(label, card, seed=(seed or 0) if untrained else None)
