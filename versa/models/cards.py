"""Model cards: what is known of a network, read from TOML and checked.

A card holds the preprocessing too, so the same weights are never used with two
transforms.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from versa.models.adapters import LAYOUTS
from versa.wording import unknown

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = [
    "BUILDERS",
    "ModelCard",
    "Preprocess",
    "card_folder",
    "read_card",
    "read_cards",
]

# where the constructor of a card's network lies
BUILDERS = {"alexnet_gn": ("versa.models.architectures", "AlexNetGN")}
_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preprocess:
    """From an RGB image to the input of a network.

    Equal to torchvision's Resize, CenterCrop, ToTensor, Normalize.

    Parameters
    ----------
    resize : int
        Length of the short side after resizing, in pixels.
    crop : int
        Side of the square cut from the middle, in pixels; at most `resize`.
    mean, std : tuple of 3 floats
        Of the red, green and blue channel in [0, 1].
    interpolation : str
        Filter of Pillow: "nearest", "box", "bilinear", "hamming", "bicubic" or
        "lanczos".

    Examples
    --------
    >>> from PIL import Image
    >>> preprocess = Preprocess(224, 224, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    >>> preprocess(Image.new("RGB", (300, 400), "white"))[:, 0, 0]
    tensor([2.5000, 2.5000, 2.5000])
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(
                "crop must be between 1 and resize; got "
                f"crop={self.crop}, resize={self.resize}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                "mean and std must have 3 values each, std above 0; got "
                f"mean={self.mean}, std={self.std}."
            )
        if self.interpolation not in _FILTERS:
            raise ValueError(unknown("interpolation", self.interpolation, _FILTERS))

    def __call__(self, image: "Image.Image") -> "torch.Tensor":
        """Input of the network.

        Parameters
        ----------
        image : PIL.Image.Image
            In mode RGB.

        Returns
        -------
        x : Tensor of shape (3, crop, crop)
            float32.
        """
        import numpy as np
        import torch
        from PIL import Image

        if image.mode != "RGB":
            raise ValueError(f"image must have the mode RGB; got {image.mode}.")
        short, long = sorted(image.size)
        scaled = int(self.resize * long / short)
        portrait = image.width <= image.height
        size = (self.resize, scaled) if portrait else (scaled, self.resize)
        if image.size != size:
            image = image.resize(size, Image.Resampling[self.interpolation.upper()])
        if image.size != (self.crop, self.crop):
            left = round((image.width - self.crop) / 2)
            top = round((image.height - self.crop) / 2)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        # NumPy, because images are prepared in several threads
        x = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
        x /= np.float32(255)
        x -= np.array(self.mean, dtype=np.float32)[:, None, None]
        x /= np.array(self.std, dtype=np.float32)[:, None, None]
        return torch.from_numpy(x)


@dataclass(frozen=True)
class ModelCard:
    """Everything known of one network, as read from its TOML file.

    Parameters
    ----------
    name : str
        Name in the zoo, and of the file.
    method, architecture, diet : str
        How, what and on which images it was trained.
    paper : bool
        Whether Konkle and Alvarez (2022) used it.
    builder : str
        Which constructor makes the module; `options` are its arguments.
    preprocess : Preprocess
        Of the stimuli of a brain experiment, whose edges are not cropped.
    layers : tuple of str
        Default layers, in the order of execution.
    licence, citation : str
        Of the weights; address of the paper.
    status : str
        How far the facts of the card were checked.
    url, sha256, adapter : str
        Weight file, the first digits of its hash, and its layout; empty if untrained.
    seed : int or None
        Default seed of an untrained network; None for a pretrained one.
    options : mapping
        Arguments of the constructor.
    aliases : tuple of str
        Other names of the same network.
    reference, augmentation, notes : str
        Number in the paper's Supplementary Table 1, set of augmentations, remarks.
    epochs : int or None
        Length of the training.
    top1_knn, top1_linear : float or None
        ImageNet accuracy of the source in percent.
    accuracy_source : str
        Where the accuracies come from.
    unverified : tuple of str
        Facts of this card that nobody has checked yet.
    """

    name: str
    method: str
    architecture: str
    diet: str
    paper: bool
    builder: str
    preprocess: Preprocess
    layers: tuple[str, ...]
    licence: str
    citation: str
    status: str
    url: str = ""
    sha256: str = ""
    adapter: str = ""
    seed: int | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    reference: str = ""
    augmentation: str = ""
    notes: str = ""
    epochs: int | None = None
    top1_knn: float | None = None
    top1_linear: float | None = None
    accuracy_source: str = ""
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.builder not in BUILDERS:
            raise ValueError(unknown("builder", self.builder, BUILDERS))
        if not self.layers:
            raise ValueError("layers must name at least one layer.")
        if self.seed is not None:
            if self.url or self.sha256 or self.adapter:
                raise ValueError("url, sha256 and adapter must be empty with a seed.")
            return
        if not self.url.startswith(("https://", "http://")):
            raise ValueError(f"url must be a web address; got {self.url!r}.")
        if not re.fullmatch(r"[0-9a-f]{8,64}", self.sha256):
            raise ValueError(
                f"sha256 must be 8 to 64 hexadecimal digits; got {self.sha256!r}."
            )
        if self.adapter not in LAYOUTS:
            raise ValueError(unknown("adapter", self.adapter, LAYOUTS))


def card_folder() -> Path:
    """Folder of the cards: inside an installed package, else beside the source."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "model_zoo", package.parent / "model_zoo"):
        if any(folder.glob("*.toml")):
            return folder
    raise FileNotFoundError(
        f"the model cards must lie in {package / 'model_zoo'}; they are not there. "
        "Install versa again."
    )


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
    try:
        with open(path, "rb") as file:
            card = _record(ModelCard, tomllib.load(file))
        if card.name != path.stem:
            raise ValueError(f"name must be that of the file; got {card.name!r}.")
    except ValueError as error:  # TOMLDecodeError is one
        raise ValueError(f"{path.name}: {error}") from None
    return card


def read_cards(folder: Path | None = None) -> dict[str, ModelCard]:
    """All cards of a folder, by name.

    Parameters
    ----------
    folder : Path, optional
        By default that of `card_folder`.

    Returns
    -------
    cards : dict of str to ModelCard
        In the order of their names.
    """
    paths = sorted((folder or card_folder()).glob("*.toml"))
    cards = {path.stem: read_card(path) for path in paths}
    owners: dict[str, str] = {}
    for card in cards.values():
        for name in (card.name, *card.aliases):
            if name in owners:
                raise ValueError(
                    f"{card.name}.toml: {name!r} already names {owners[name]}."
                )
            owners[name] = card.name
    return cards


def _record(kind: type, table: Mapping[str, Any]) -> Any:
    """Frozen dataclass from a TOML table, every field checked for its type."""
    known = {f.name: f for f in fields(kind)}
    hints = get_type_hints(kind)
    for name in table:
        if name not in known:
            raise ValueError(unknown("field", name, known))
    required = [
        n for n, f in known.items() if f.default is f.default_factory is MISSING
    ]
    if absent := [name for name in required if name not in table]:
        raise ValueError(f"fields must include {', '.join(absent)}.")
    return kind(**{name: _typed(name, v, hints[name]) for name, v in table.items()})


def _typed(name: str, value: Any, hint: Any) -> Any:
    """The value in the type of its field; TOML knows no tuples and no None."""
    if hint is Preprocess and isinstance(value, dict):
        return _record(Preprocess, value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _typed(name, value, next(a for a in arguments if a is not NoneType))
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(name, item, arguments[0]) for item in value)
    if origin is Mapping and isinstance(value, dict):
        kinds = get_args(arguments[1])
        if all(type(item) in kinds for item in value.values()):
            return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (str, int, float, bool) and type(value) is hint:
        return value
    expected = getattr(hint, "__name__", str(hint))
    raise ValueError(f"{name} must be of type {expected}; got {value!r}.")
