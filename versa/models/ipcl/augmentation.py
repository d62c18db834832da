"""How images are varied: the record of an augmentation, and the paper's two sets."""

import math
from dataclasses import dataclass

from versa.models.preprocess import IMAGENET
from versa.wording import unknown

_INTERPOLATIONS = ("antialias", "bilinear")


def _rising(pair: tuple[float, float]) -> bool:
    return len(pair) == 2 and 0 < pair[0] <= pair[1] < math.inf


@dataclass(frozen=True)
class Augmentation:
    """How an image is varied.

    Parameters
    ----------
    size : int
        Side of a view in pixels.
    scale : tuple of 2 floats
        Smallest and largest share of the image's area in a crop, in (0, 1].
    ratio : tuple of 2 floats
        Smallest and largest width / height of a crop.
    grayscale : float
        Probability of a grey view.
    brightness, contrast, saturation : float
        A factor is uniform in ``[max(0, 1 - x), 1 + x]``.
    hue : float
        The shift is uniform in ``[-hue, hue]`` turns of the circle; at most 0.5.
    jitter : float
        Probability that the colours are jittered at all.
    flip : float
        Probability of exchanging left and right.
    rotation : float
        The angle is uniform in ``[-rotation, rotation]`` degrees about the middle of
        the crop (not in the paper, which names varied orientation as a next step). A
        turned crop shows what lies beyond its box; beyond the image, its edge.
    mean, std : tuple of 3 floats
        Of the red, green and blue channel in [0, 1].
    interpolation : str
        "antialias", as Pillow and so the paper's torchvision resize, or "bilinear"
        between the nearest four pixels, as cv2 does. Rotated crops are always
        bilinear. They differ by little: crops are shrunk by a factor of 2.3 at most.

    References
    ----------
    Wu et al. (2018), https://doi.org/10.1109/CVPR.2018.00393

    Examples
    --------
    >>> Augmentation(scale=(0.4, 1.0), hue=0.1).factor_ranges()[3]
    (-0.1, 0.1)
    """

    size: int = 224
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    grayscale: float = 0.2
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.4
    jitter: float = 1.0
    flip: float = 0.5
    rotation: float = 0.0
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    interpolation: str = "antialias"

    def __post_init__(self) -> None:
        rules = (
            ("size", self.size >= 1, "at least 1"),
            ("scale", _rising(self.scale) and self.scale[1] <= 1, "rising in (0, 1]"),
            ("ratio", _rising(self.ratio), "two rising numbers above 0"),
            ("hue", 0 <= self.hue <= 0.5, "in [0, 0.5]"),
            ("rotation", 0 <= self.rotation <= 180, "in [0, 180] degrees"),
            ("mean", len(self.mean) == 3, "three numbers"),
            ("std", len(self.std) == 3 and min(self.std) > 0, "three above 0"),
            *(
                (name, 0 <= getattr(self, name) <= 1, "a probability in [0, 1]")
                for name in ("grayscale", "jitter", "flip")
            ),
            *(
                (name, 0 <= getattr(self, name) < math.inf, "at least 0")
                for name in ("brightness", "contrast", "saturation")
            ),
        )
        for name, kept, rule in rules:
            if not kept:
                raise ValueError(f"{name} must be {rule}; got {getattr(self, name)}.")
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                unknown("interpolation", self.interpolation, _INTERPOLATIONS)
            )

    def factor_ranges(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest factor of brightness, contrast, saturation, hue."""
        scales = (self.brightness, self.contrast, self.saturation)
        around_one = ((max(0.0, 1.0 - x), 1.0 + x) for x in scales)
        return (*around_one, (-self.hue, self.hue))


# Set 1 of the paper (references 1-5, 12, 13 of its Supplementary Table 1)
SET_1 = Augmentation()
# Set 2 (6-11, 14, 15). "Less extreme cropping", but the range of crop areas is not
# known: that of set 1 stands here until someone finds it. The normalisation is known.
SET_2 = Augmentation(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
