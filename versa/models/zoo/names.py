"""What the name of a network means: a card, a network of a library, a file."""

import numbers
import os
import re
from dataclasses import dataclass

from versa.models.zoo.cards import ModelCard, find_card, licence_notice, read_cards
from versa.wording import listing

__all__ = ["Named", "named_model"]


@dataclass(frozen=True)
class Named:
    """What a name means: a card, a network of a library, or a file of weights.

    Parameters
    ----------
    label : str
        The name without aliases and default seed.
    card : ModelCard or None
    library, base : str
        Of a network of torchvision or timm; with `weights` only `base` is filled.
    untrained : bool
    seed : int
        Of an untrained network.
    weights : str
        Path after the ``@``.
    note : str
        What a user of this alias must know.
    """

    label: str
    card: ModelCard | None = None
    library: str = ""
    base: str = ""
    untrained: bool = False
    seed: int = 0
    weights: str = ""
    note: str = ""

    @property
    def licence(self) -> str:
        """Licence of the weights, as far as it is recorded."""
        if self.card is not None:
            return self.card.licence
        if self.weights or self.untrained:
            return ""
        from versa.models.zoo.libraries import library_licence

        return library_licence(self.library, self.base)

    @property
    def notice(self) -> str:
        """What the licence asks a user to know; empty if it restricts nothing."""
        if self.card is not None:
            return self.card.notice
        return licence_notice(self.label, self.licence) if self.licence else ""


def named_model(name: str, seed: int | None = None) -> Named:
    """What a name means. Nothing is built or downloaded.

    Parameters
    ----------
    name : str
        As `versa.load_model` takes it.
    seed : int, optional
        The same as ``:seed=`` in the name.

    Returns
    -------
    named : Named

    Raises
    ------
    ValueError
        If there is no such network, or the suffix does not suit it.

    Examples
    --------
    >>> named_model("alexnet_gn@runs/ipcl/weights.safetensors").weights
    'runs/ipcl/weights.safetensors'
    """
    head, _, tail = name.partition("@")
    if os.path.sep in tail or "." in tail:  # names of torchvision's weights have none
        if seed is not None:
            raise ValueError(
                f"seed must come with an untrained network; got {seed} for {name!r}."
            )
        return Named(name, base=head, weights=tail)
    base, untrained, in_name = _split(name)
    if seed is not None and in_name not in (None, seed):
        raise ValueError(f"seed must be {in_name} as in {name!r}; got {seed}.")
    seed = in_name if seed is None else seed
    if seed is not None and not (
        isinstance(seed, numbers.Integral) and 0 <= seed < 2**63
    ):
        raise ValueError(f"seed must be an integer of 0 or more; got {seed!r}.")
    card = find_card(base)
    if card is None:
        return _of_library(base, untrained, seed)
    if untrained:
        twins = [c.name for c in read_cards().values() if c.seed is not None]
        raise ValueError(
            "':untrained' must follow a name of torchvision or timm; got "
            f"{name!r}. Untrained networks of the zoo: {listing(twins)}."
        )
    note = card.alias_note if base != card.name else ""
    if card.seed is None:
        if seed is not None:
            raise ValueError(
                f"seed must come with an untrained network; {card.name} is pretrained."
            )
        return Named(card.name, card, note=note)
    seed = card.seed if seed is None else int(seed)
    suffix = "" if seed == card.seed else f":seed={seed}"
    return Named(card.name + suffix, card, seed=seed, note=note)


def _of_library(base: str, untrained: bool, seed: int | None) -> Named:
    from versa.models.zoo.libraries import find_library_model

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
    return Named(label, None, library, base, untrained, int(seed or 0))


def _split(text: str) -> tuple[str, bool, int | None]:
    """Name without suffixes, whether ':untrained' follows it, and its seed."""
    base, *suffixes = text.split(":")
    untrained, seed = False, None
    for suffix in suffixes:
        if suffix == "untrained":
            untrained = True
        elif match := re.fullmatch(r"seed=(\d+)", suffix):
            seed = int(match.group(1))
        else:
            raise ValueError(
                f"suffix of {base!r} must be ':untrained' or ':seed=' and a whole "
                f"number; got {':' + suffix!r}."
            )
    return base, untrained, seed
