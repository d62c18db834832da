"""Labels: whole numbers that say which region a voxel or vertex belongs to."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.sectors.sector import Sector
from versa.wording import listing

__all__ = ["asked_regions", "label_number", "label_sector", "whole_labels"]

# A scale factor in the header of an image is a float32: 10 times 0.1 is 1.0000000149.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # relative
_MOST = 0.01  # however large the label


def label_sector(
    labels: ArrayLike,
    values: int | Iterable[int],
    *,
    name: str,
    affine: ArrayLike,
    space: str,
) -> Sector:
    """Voxels that have one of some labels, such as V1, V2 and V3.

    Parameters
    ----------
    labels : array-like of shape (x, y, z)
        A whole number per voxel, 0 or NaN where there is no label.
    values : int or iterable of int
        The labels to take; all of them must occur.
    name : str
        Name of the sector.
    affine : array-like of shape (4, 4)
        Of the label image, from voxel indices to mm.
    space : str
        Space of the label image, as of :class:`~versa.Sector`.

    Returns
    -------
    sector : Sector
        On the grid of the label image.

    Raises
    ------
    ValueError
        If `labels` are not whole numbers, or a value is no whole number, 0 or does not
        occur.

    Examples
    --------
    >>> labels = np.array([[[0, 1, 2, 3, 9]]])
    >>> label_sector(labels, [1, 2, 3], name="EarlyV", affine=np.eye(4), space="TAL")
    <Sector EarlyV: 3 of 1 x 1 x 5 voxels, TAL>
    """
    image = np.asarray(labels)
    if image.ndim != 3:
        raise ValueError(f"labels of {name} must be (x, y, z); got {image.shape}.")
    image = whole_labels(image, f"labels of {name}")
    asked = asked_regions(values)
    wanted = [label_number(value) for value in asked]
    if not wanted or not all(wanted):
        raise ValueError(
            f"values of {name} must be one or more labels, whole numbers other than 0, "
            f"which marks voxels without a label; got {asked}."
        )
    present = np.unique(image)
    missing = [value for value in wanted if value not in present]
    if missing:
        raise ValueError(
            f"labels of {name} must occur in the label image; "
            f"{listing(missing)} do not. The image has "
            f"{listing(int(value) for value in present[present != 0])}."
        )
    mask = np.isin(image, np.array(wanted))
    return Sector(name, mask, np.asarray(affine, float), space)


def whole_labels(image: np.ndarray, what: str) -> np.ndarray:
    """Labels of an image as whole numbers, however the file stores them.

    Parameters
    ----------
    image : ndarray
        Labels of any shape.
    what : str
        What they are, for the message.

    Returns
    -------
    labels : ndarray, same shape
        Integers as they are. Of floats, NaN is 0, no label, and what lies within the
        rounding of float32 of a whole number is that number.

    Raises
    ------
    ValueError
        If there are other values.

    Examples
    --------
    >>> whole_labels(np.array([np.nan, 1.0000000149, 2.0]), "labels")
    array([0., 1., 2.])
    """
    if image.dtype.kind in "biu":
        return image
    if image.dtype.kind != "f":
        raise ValueError(f"{what} must be numbers; got {image.dtype}.")
    labels = np.where(np.isnan(image), 0, image)
    whole = np.rint(labels)
    infinite = np.isinf(labels)
    off = np.abs(np.subtract(labels, whole, out=np.ones_like(labels), where=~infinite))
    wrong = off > np.minimum(_ROUNDING * np.abs(whole), _MOST)
    if wrong.any() or infinite.any():
        raise ValueError(
            f"{what} must be whole numbers; got values such as "
            f"{labels[wrong | infinite][0]:g}. Choose the voxels of a map by a "
            "threshold, and make a Sector of them."
        )
    return whole


def asked_regions(regions: Any) -> list[Any]:
    """What is asked for in a list: one region or several.

    Parameters
    ----------
    regions : str, number or iterable of these
        Names or labels.

    Returns
    -------
    regions : list
        One item per region; of something that is neither a name, nor a number, nor
        iterable: that.

    Examples
    --------
    >>> asked_regions("V1"), asked_regions(range(1, 3)), asked_regions(None)
    (['V1'], [1, 2], [None])
    """
    if isinstance(regions, np.ndarray):
        return list(regions.ravel())
    if isinstance(regions, str | bytes) or not isinstance(regions, Iterable):
        return [regions]
    return list(regions)


def label_number(region: Any) -> int | None:
    """The label that a region is given by.

    Parameters
    ----------
    region : object
        A number of any type, or something else.

    Returns
    -------
    label : int or None
        The number if it is whole; else None.

    Examples
    --------
    >>> label_number(np.float32(2)), label_number(1.7), label_number("V1")
    (2, None, None)
    """
    if not isinstance(region, Real):
        return None
    number = float(region)
    return int(number) if number.is_integer() else None
