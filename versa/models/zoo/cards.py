"""Model cards: what is known of a network, read from TOML and checked.

A card holds the preprocessing too, so the same weights are never used with two
transforms. Cards lie in the package and in the folders that ``VERSA_ZOO`` names.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from versa.models.preprocess import Preprocess
from versa.models.zoo.layouts import LAYOUTS, Layout
from versa.records import read_record
from versa.wording import unknown

__all__ = [
    "BUILDERS",
    "ModelCard",
    "card_folder",
    "card_folders",
    "find_card",
    "licence_notice",
    "read_card",
    "read_cards",
]

# where the constructor of a card's network lies
BUILDERS = {
    "alexnet_gn": ("versa.models.architectures", "AlexNetGN"),
    "taskonomy": ("versa.models.taskonomy", "TaskonomyEncoder"),
    "timm": ("versa.models.zoo.networks", "timm_network"),
    "torchvision": ("versa.models.zoo.networks", "torchvision_network"),
}
_PLUG_IN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_FREE = (
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-4.0",
    "CC0-1.0",
    "MIT",
    "own",  # weights that were trained here
)


@dataclass(frozen=True)
class ModelCard:
    """Everything known of one network, as read from its TOML file.

    The weights come from one of four sources: a `seed` (untrained), a `file` beside
    the card, a `url`, or, for the builder "timm" without these, timm's own.

    Parameters
    ----------
    name : str
        Name in the zoo, and of the file.
    method, architecture, diet : str
        How, what and on which images it was trained.
    builder : str
        Which constructor makes the module; `options` are its arguments. One of
        `BUILDERS`, or ``package.module:callable`` of an installed package.
    preprocess : Preprocess
        Of the stimuli of a brain experiment, whose edges are not cropped.
    layers : tuple of str
        Default layers, in the order of execution.
    licence : str
        Of the weights, as an SPDX identifier where there is one.
    units : tuple of int
        Units per image of each layer; empty if not known.
    paper : bool
        Whether Konkle and Alvarez (2022) used it, or may have.
    citation : str
        Address of the paper.
    status : str
        How far the facts of the card were checked.
    url : str
        Address of the weight file.
    mirrors : tuple of str
        Other addresses of the same file.
    file : str
        Weight file on this machine, relative to the card.
    sha256, md5 : str
        First digits of the file's SHA-256 (8 or more), or its MD5. If both are empty,
        the hash that is seen first is recorded and rules from then on.
    size : int or None
        Bytes of the file, where published.
    adapter : str
        Layout of the file by its name in `versa.models.zoo.layouts.LAYOUTS`.
    layout : Layout or None
        Layout of the file in full; takes the place of `adapter`.
    holds : mapping of str to tuple of int
        Shapes of keys that the layout drops, such as the head's, where they tell this
        network from others of its architecture.
    allow : tuple of str
        Sets of old globals that the file may hold; see
        `versa.models.zoo.reading.open_checkpoint`.
    requires : str
        What to install for a builder that is not part of versa.
    seed : int or None
        Default seed of an untrained network; None for a pretrained one.
    options : mapping
        Arguments of the constructor.
    validation : Preprocess or None
        Transform of the ImageNet validation images, for read-out accuracy only.
    aliases : tuple of str
        Other names of the same network.
    alias_note : str
        What a user of an alias must know; shown when the network is loaded by one.
    reference, augmentation, notes : str
        Number in the paper's Supplementary Table 1, set of augmentations, remarks.
    epochs : int or None
        Length of the training.
    top1_knn, top1_linear, top1 : float or None
        ImageNet accuracy in percent as published: of nearest neighbours, of a linear
        read-out, and of the network's own classifier.
    accuracy_source : str
        Where the accuracies come from.
    unverified : tuple of str
        Facts of this card that nobody has checked yet.
    """

    name: str
    method: str
    architecture: str
    diet: str
    builder: str
    preprocess: Preprocess
    layers: tuple[str, ...]
    licence: str
    units: tuple[int, ...] = ()
    paper: bool = False
    citation: str = ""
    status: str = ""
    url: str = ""
    mirrors: tuple[str, ...] = ()
    file: str = ""
    sha256: str = ""
    md5: str = ""
    size: int | None = None
    adapter: str = ""
    layout: Layout | None = None
    holds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    requires: str = ""
    seed: int | None = None
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    validation: Preprocess | None = None
    aliases: tuple[str, ...] = ()
    alias_note: str = ""
    reference: str = ""
    augmentation: str = ""
    notes: str = ""
    epochs: int | None = None
    top1_knn: float | None = None
    top1_linear: float | None = None
    top1: float | None = None
    accuracy_source: str = ""
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.builder not in BUILDERS and not _PLUG_IN.fullmatch(self.builder):
            rule = "builder (or package.module:callable)"
            raise ValueError(unknown(rule, self.builder, BUILDERS))
        if not self.layers:
            raise ValueError("layers must name at least one layer.")
        if self.units and len(self.units) != len(self.layers):
            raise ValueError(
                f"units must hold one number per layer; got {len(self.units)} for "
                f"{len(self.layers)} layers."
            )
        self._check_source()
        if self.adapter and self.adapter not in LAYOUTS:
            raise ValueError(unknown("adapter", self.adapter, LAYOUTS))
        if self.adapter and self.layout is not None:
            raise ValueError("layout must be left out beside an adapter; got both.")

    def _check_source(self) -> None:
        sources = {"seed": self.seed is not None, "file": self.file, "url": self.url}
        given = [name for name, value in sources.items() if value]
        if len(given) > 1 or (not given and self.builder != "timm"):
            raise ValueError(
                "seed, file or url must be given, and only one of them; got "
                f"{' and '.join(given) or 'none'}."
            )
        if given != ["url"]:
            for name in ("mirrors", "sha256", "md5", "size"):
                if getattr(self, name):
                    raise ValueError(f"{name} must come with a url.")
        if given in ([], ["seed"]):
            for name in ("adapter", "layout", "holds", "allow"):
                if getattr(self, name):
                    raise ValueError(f"{name} must come with a url or file.")
        for url in (self.url, *self.mirrors):
            if url and not url.startswith(("https://", "http://")):
                raise ValueError(f"url must be a web address; got {url!r}.")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(
                f"sha256 must be 8 to 64 hexadecimal digits; got {self.sha256!r}."
            )
        if self.md5 and not re.fullmatch(r"[0-9a-f]{32}", self.md5):
            raise ValueError(f"md5 must be 32 hexadecimal digits; got {self.md5!r}.")

    @property
    def rules(self) -> Layout:
        """Layout of the weight file."""
        return self.layout or LAYOUTS[self.adapter or "plain"]

    @property
    def notice(self) -> str:
        """What its licence asks a user to know; empty if it restricts nothing."""
        if self.seed is not None:
            return ""
        return licence_notice(self.name, self.licence, self.citation)


def licence_notice(name: str, licence: str, citation: str = "") -> str:
    """What a licence asks a user to know; empty if it restricts nothing.

    Parameters
    ----------
    name : str
        Of the network.
    licence : str
        Of its weights, as an SPDX identifier where there is one.
    citation : str, optional

    Returns
    -------
    notice : str

    Examples
    --------
    >>> licence_notice("net", "CC-BY-NC-4.0")[:51]
    'net: the licence of these weights is CC-BY-NC-4.0; '
    >>> licence_notice("net", "MIT")
    ''
    """
    if licence in _FREE:
        return ""
    return (
        f"{name}: the licence of these weights is {licence}; check that your use is "
        f"covered. Cite {citation or 'its authors'}."
    )


def card_folder() -> Path:
    """Folder of versa's own cards: in an installed package, else beside the source."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "model_zoo", package.parent / "model_zoo"):
        if any(folder.glob("*.toml")):
            return folder
    raise FileNotFoundError(
        f"the model cards must lie in {package / 'model_zoo'}; they are not there. "
        "Install versa again."
    )


def card_folders() -> list[Path]:
    """versa's own folder of cards, then those of the variable ``VERSA_ZOO``.

    Returns
    -------
    folders : list of Path

    Raises
    ------
    ValueError
        If a folder of ``VERSA_ZOO`` does not exist.
    """
    named = os.environ.get("VERSA_ZOO", "").split(os.pathsep)
    mine = [Path(text).expanduser() for text in named if text]
    for folder in mine:
        if not folder.is_dir():
            raise ValueError(
                f"VERSA_ZOO must name folders of cards; {str(folder)!r} is none. "
                "Make the folder, or unset the variable."
            )
    folders = [card_folder(), *mine]
    return list({folder.resolve(): folder for folder in folders}.values())


def read_card(path: Path) -> ModelCard:
    """Read and check one card.

    Parameters
    ----------
    path : Path
        A TOML file.

    Returns
    -------
    card : ModelCard

    Raises
    ------
    ValueError
        If a field is unknown, absent, of another type or out of range; the message
        names the file.
    """
    card = read_record(ModelCard, path)
    if card.name != path.stem:
        raise ValueError(f"{path}: name must be that of the file; got {card.name!r}.")
    if card.file:
        return replace(card, file=str(path.parent / Path(card.file).expanduser()))
    return card


def read_cards(folder: Path | None = None) -> dict[str, ModelCard]:
    """All cards of a folder, by name.

    Parameters
    ----------
    folder : Path, optional
        By default all of `card_folders`.

    Returns
    -------
    cards : dict of str to ModelCard
        In the order of their names, folder by folder.

    Raises
    ------
    ValueError
        If a card is wrong, or two cards use one name.
    """
    folders = card_folders() if folder is None else [folder]
    paths = [path for place in folders for path in _card_paths(place)]
    cards: dict[str, ModelCard] = {}
    owners: dict[str, Path] = {}
    for path in paths:
        card = read_card(path)
        for name in (card.name, *card.aliases):
            if name in owners:
                raise ValueError(
                    f"{path}: {name!r} already names {owners[name].stem} of "
                    f"{owners[name].parent}. Choose another name."
                )
            owners[name] = path
        cards[card.name] = card
    return cards


def _card_paths(folder: Path) -> list[Path]:
    """Cards of a folder; hidden files, as some systems leave them, are none."""
    return [p for p in sorted(folder.glob("*.toml")) if not p.name.startswith(".")]


def find_card(name: str) -> ModelCard | None:
    """The card of a name or an alias; None if there is none.

    Parameters
    ----------
    name : str

    Returns
    -------
    card : ModelCard or None
    """
    if re.fullmatch(r"[\w@+-][\w.@+-]*", name):  # else it is no name of a file
        owners = [folder / f"{name}.toml" for folder in card_folders()]
        found = [path for path in owners if path.is_file()]
        if len(owners) == len(found) == 1:  # the quick way: one file, not all of them
            return read_card(found[0])
    for card in read_cards().values():
        if name in (card.name, *card.aliases):
            return card
    return None
