"""Whole numbers in images whose header scales them: what a slope moved is put back."""

from typing import Any

import numpy as np

# A scale factor in the header of an image is a float32: 10 times 0.1 is 1.0000000149.
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # relative
_MOST = 0.01  # however large the label
_COARSEST = 0.5  # of a step, so that half of it is no half of a label


def header_step(image: Any) -> float:
    """How far apart the values are that an image of integers stores; 0 for floats.

    Programs that write floats as integers choose a slope (``scl_slope``): every value
    comes back within half of it.
    """
    stored = image.dataobj
    if not hasattr(stored, "slope") or stored.dtype.kind not in "iu":
        return 0.0
    return abs(float(stored.slope))


def zero_within(values: np.ndarray, step: float) -> np.ndarray:
    """Where values are 0, up to half a step of their header; NaN is not."""
    largest = np.nanmax(np.abs(values), initial=0.0) if step else 0.0
    return np.abs(values) <= step / 2 + _ROUNDING * largest * (step > 0)


def exact_zeros(values: np.ndarray, image: Any) -> np.ndarray:
    """Values of an image with 0 where its integers stand for 0.

    With an intercept (``scl_inter``) they do so up to half a step: where programs wrote
    0 for "no data", 1e-5 comes back.
    """
    step = header_step(image)
    if not step or not float(getattr(image.dataobj, "inter", 0.0)):
        return values
    return np.where(zero_within(values, step), values.dtype.type(0), values)


def whole_labels(image: np.ndarray, what: str, step: float = 0.0) -> np.ndarray:
    """Labels of an image as whole numbers, however the file stores them.

    Floats within the rounding of float32, or half a step of the header, of a whole
    number are that number; NaN is 0. A step above 0.5 says nothing of labels.
    """
    if image.dtype.kind in "biu":
        return image
    if image.dtype.kind != "f":
        raise ValueError(f"{what} must be numbers; got {image.dtype}.")
    labels = np.where(np.isnan(image), 0, image)
    whole = np.rint(labels)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is never close
        allowed = np.minimum(_ROUNDING * np.abs(whole), _MOST)
        if 0 < step <= _COARSEST:
            largest = float(np.abs(whole).max(initial=0.0))
            allowed = np.asarray(step / 2 + min(_ROUNDING * largest, _MOST))
        close = np.abs(labels - whole) <= allowed
    if not close.all():
        scaled = ""
        if step not in (0.0, 1.0):
            scaled = f"; the header scales its integers by scl_slope = {step:.4g}"
        raise ValueError(
            f"{what} must be whole numbers; got values such as "
            f"{labels[~close][0]:g}{scaled}. Choose the voxels of a map by a threshold "
            "(SOURCE:>0.5 in versa-data sectors, or make a Sector of them); labels are "
            "to be stored as integers with a slope of 1."
        )
    return whole
