"""From an RGB image to the input of a network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from versa.wording import unknown

if TYPE_CHECKING:
    import torch
    from PIL import Image

# mean and std of the ImageNet training images, as nearly everybody uses them
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
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
