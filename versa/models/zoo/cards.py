"""Model cards: what is known of a network, read from TOML, found by name and listed.

A card holds the preprocessing too, so the same weights are never used with two
transforms. Cards are in the package and in the folders that ``VERSA_ZOO`` names;
`versa.models.zoo.names` makes those of torchvision's and timm's networks.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from versa.models.preprocess import Preprocess
from versa.models.zoo.layouts import LAYOUTS, CheckpointLayout
from versa.records import read_record
from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd

# module and name of the constructor of a card's network
BUILDERS = {
    "alexnet_gn": ("versa.models.architectures", "AlexNetGN"),
    "taskonomy": ("versa.models.taskonomy", "TaskonomyEncoder"),
    "timm": ("versa.models.zoo.networks", "timm_network"),
    "torchvision": ("versa.models.zoo.networks", "torchvision_network"),
}
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_PLUG_IN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_FREE = (
    "",  # torchvision records none
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-4.0",
    "CC0-1.0",
    "MIT",
    "own",  # weights that were trained here
)


_README = """\
# The model zoo

One card per network: `<name>.toml` holds where the weights are, the hash that they must
have, the preprocessing, the layers, the licence, and which of these facts are not yet
verified (`unverified`). Load one with `versa.load_model("<name>")`; `:seed=3` after
the name of an untrained network gives another initialisation. `torchvision/NAME` and
`timm/NAME` load anything else by name.

kNN, linear and own are top-1 accuracies on ImageNet in percent, as published: of
nearest neighbours, of a linear read-out, of the network's own classifier. This page is
made by `zoo_markdown()` of `versa/models/zoo/cards.py`.

"""
_COLUMNS = (
    "name",
    "method",
    "architecture",
    "diet",
    "augmentation",
    "paper",
    "reference",
    "top1_knn",
    "top1_linear",
    "top1",
    "seed",
    "licence",
    "status",
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
        `BUILDERS`, or ``package.module:callable`` of an installed package: a class of
        ``nn.Module`` or a listed network of torchvision or timm; of other packages
        those that the variable ``VERSA_BUILDERS`` names.
    preprocess : Preprocess
        Of the stimuli of a brain experiment, whose edges are not cropped.
    layers : tuple of str
        Default layers, in the order of execution. Only the card of a library's network
        leaves them to its architecture.
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
        Layout of the file by its name in `versa.models.zoo.LAYOUTS`.
    layout : CheckpointLayout or None
        Layout of the file in full; takes the place of `adapter`.
    holds : mapping of str to tuple of int
        Shapes of keys that the layout drops, such as the head's, where they tell this
        network from others of its architecture.
    allow : tuple of str
        Sets of old globals that the file may hold beside tensors: "numpy_array",
        "numpy_scalar", "namespace", "path".
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
        Facts of this card that are not yet verified.
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
    layout: CheckpointLayout | None = None
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
        if not given and not isinstance(self.options.get("name"), str):
            raise ValueError("options must hold the name of a network of timm.")
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
    def rules(self) -> CheckpointLayout:
        """Layout of the weight file."""
        return self.layout or LAYOUTS[self.adapter or "plain"]

    @property
    def timm_name(self) -> str:
        """Name in timm, if timm itself knows where the weights are; else empty."""
        if self.seed is not None or self.file or self.url:
            return ""
        return str(self.options["name"])

    @property
    def notice(self) -> str:
        """What its licence asks a user to know; empty if it restricts nothing."""
        if self.seed is not None or self.licence in _FREE:
            return ""
        return (
            f"{self.name}: the licence of these weights is {self.licence}; check that "
            f"your use is covered. Cite {self.citation or 'its authors'}."
        )


def hash_in_name(url: str) -> str:
    """First digits of a file's SHA-256, if its address names them."""
    found = _HASH_IN_NAME.search(url)
    return found.group(1) if found else ""


def card_folder() -> Path:
    """Folder of versa's own cards: in an installed package, else beside the source."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "model_zoo", package.parent / "model_zoo"):
        if any(folder.glob("*.toml")):
            return folder
    raise FileNotFoundError(
        f"the model cards must be in {package / 'model_zoo'}; they are not there. "
        "Install versa again."
    )


def card_folders() -> list[Path]:
    """versa's own folder of cards, then those of ``VERSA_ZOO``, which must exist."""
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
    """Card of a TOML file; an error names the file."""
    card = read_record(ModelCard, path)
    if card.name != path.stem:
        raise ValueError(f"{path}: name must be that of the file; got {card.name!r}.")
    if not card.layers:
        raise ValueError(f"{path}: layers must name at least one layer.")
    if card.file:
        return replace(card, file=str(path.parent / Path(card.file).expanduser()))
    return card


def read_cards(folder: Path | None = None) -> dict[str, ModelCard]:
    """All cards of a folder, by default of all `card_folders`, in order of their names.

    Two cards may not use one name or alias.
    """
    folders = card_folders() if folder is None else [folder]
    cards: dict[str, ModelCard] = {}
    owners: dict[str, Path] = {}
    for path, card in [pair for place in folders for pair in _cards_in(place)]:
        for name in (card.name, *card.aliases):
            if name in owners:
                raise ValueError(
                    f"{path}: {name!r} already names {owners[name].stem} of "
                    f"{owners[name].parent}. Choose another name."
                )
            owners[name] = path
        cards[card.name] = card
    return cards


def _cards_in(folder: Path) -> list[tuple[Path, ModelCard]]:
    if folder == card_folder():
        return _own_cards()
    # hidden files, as some systems leave them beside every file, are no cards
    paths = [p for p in sorted(folder.glob("*.toml")) if not p.name.startswith(".")]
    return [(path, read_card(path)) for path in paths]


@functools.cache
def _own_cards() -> list[tuple[Path, ModelCard]]:
    """versa's own cards, which do not change while it runs."""
    return [(path, read_card(path)) for path in sorted(card_folder().glob("*.toml"))]


def find_card(name: str) -> ModelCard | None:
    """The card of a name or an alias; None if there is none."""
    if re.fullmatch(r"[\w@+-][\w.@+-]*", name):  # else it is no name of a file
        owners = [folder / f"{name}.toml" for folder in card_folders()]
        found = [path for path in owners if path.is_file()]
        if len(owners) == len(found) == 1:  # the quick way: one file, not all of them
            return read_card(found[0])
    for card in read_cards().values():
        if name in (card.name, *card.aliases):
            return card
    return None


def list_models(
    *,
    method: str | None = None,
    architecture: str | None = None,
    diet: str | None = None,
    paper: bool | None = None,
) -> "pd.DataFrame":
    """Table of the zoo. Nothing is downloaded and torch is not loaded.

    Parameters
    ----------
    method, architecture, diet : str, optional
        Keep the networks of this training method, architecture or set of images;
        case does not matter.
    paper : bool, optional
        Keep those that Konkle and Alvarez (2022) used or, where the paper leaves it
        open, may have used (the card's ``unverified`` says so); or the others.

    Returns
    -------
    table : DataFrame
        One row per network; the column ``name`` is what `load_model` takes. All other
        networks of torchvision and timm load as ``torchvision/NAME`` and
        ``timm/NAME``; they are not listed.

    Examples
    --------
    >>> list_models(method="untrained")["name"].tolist()
    ['alexnet_bn_untrained', 'alexnet_gn_untrained', 'alexnet_lrn_untrained']
    """
    import pandas as pd

    columns = list(_COLUMNS)
    cards = read_cards().values()
    table = pd.DataFrame(
        [{name: getattr(card, name) for name in columns} for card in cards],
        columns=columns,
    ).astype({"seed": "Int64", "top1_knn": float, "top1_linear": float, "top1": float})
    chosen = {"method": method, "architecture": architecture, "diet": diet}
    for column, value in chosen.items():
        if value is None:
            continue
        if not isinstance(value, str):
            raise ValueError(f"{column} must be text; got {value!r}.")
        options = {str(option).lower(): option for option in table[column]}
        if value.lower() not in options:
            raise ValueError(unknown(column, value, sorted(set(options.values()))))
        table = table[table[column] == options[value.lower()]]
    if paper is not None:
        table = table[table["paper"] == paper]
    return table.reset_index(drop=True)


def zoo_markdown() -> str:
    """Text of ``model_zoo/README.md``, made from versa's own cards.

    Returns
    -------
    text : str
        A table in Markdown, one row per card.
    """
    rows = [
        "| name | method | architecture | diet | kNN | linear | own | licence | also",
        "|---|---|---|---|---|---|---|---|---",
    ]
    for card in read_cards(card_folder()).values():
        accuracies = [
            "" if value is None else f"{value:g}"
            for value in (card.top1_knn, card.top1_linear, card.top1)
        ]
        aliases = ", ".join(f"`{alias}`" for alias in card.aliases)
        cells = [f"`{card.name}`", card.method, card.architecture, card.diet]
        rows.append("| " + " | ".join([*cells, *accuracies, card.licence, aliases]))
    return _README + " |\n".join(rows) + " |\n"
