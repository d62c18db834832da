"""Encoding scores of a result, voxel by voxel: their table, and their maps."""

from typing import TYPE_CHECKING

import numpy as np

from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from nibabel import Nifti1Image

WHAT = ("r", "r2", "ceiling", "normalized")
"""What a map can show."""

_RELIABLE = 0.3  # ceiling (r) above which a voxel's normalised score is counted


def has_voxels(data: "xr.Dataset") -> bool:
    """Whether a result holds scores of voxels."""
    return "voxel_r" in data


def require_voxels(data: "xr.Dataset") -> None:
    """Refuse a result without scores of voxels."""
    if not has_voxels(data):
        raise ValueError(
            "scores of voxels must be kept by the fit, and this result has none. Fit "
            "again with voxel_scores=True, or --voxel-scores."
        )


def encoding_table(data: "xr.Dataset", model: str) -> "pd.DataFrame":
    """What :meth:`versa.result.FitResult.encoding` returns."""
    import pandas as pd

    require_voxels(data)
    rows = []
    for sector in data["sector"].values:
        for layer in data["layer"].values:
            for subject in data["subject"].values:
                here = _voxels(data, subject, sector)
                r, r2 = (
                    data[name].loc[layer].values[here].astype(float)
                    for name in ("voxel_r", "voxel_r2")
                )
                row = {
                    "model": model,
                    "sector": str(sector),
                    "layer": str(layer),
                    "subject": str(subject),
                    "n_voxels": r.size,
                    "median_r": _median(r),
                    "median_r2": _median(r2),
                }
                if "voxel_ceiling" in data:
                    ceiling = data["voxel_ceiling"].values[here].astype(float)
                    share = normalized(r, ceiling)
                    row["median_ceiling"] = _median(ceiling)
                    row["median_normalized"] = _median(share)
                    row["n_reliable"] = int(np.isfinite(share).sum())
                rows.append(row)
    return pd.DataFrame(rows)


def normalized(r: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    """r over the ceiling of the voxel; NaN where that is not above 0.3."""
    share = np.full(r.shape, np.nan)
    np.divide(r, ceiling, out=share, where=ceiling > _RELIABLE)
    return share


def voxel_image(
    data: "xr.Dataset", layer: str, subject: str, what: str, sector: str | None
) -> "Nifti1Image":
    """What :meth:`versa.result.FitResult.voxel_map` returns."""
    require_voxels(data)
    if what not in WHAT:
        raise ValueError(unknown("what", what, WHAT))
    _require(data, "layer", layer)
    if what in ("ceiling", "normalized") and "voxel_ceiling" not in data:
        raise ValueError(
            f"a map of {what} needs the reliability of the voxels, which the dataset "
            "did not hold. versa-data betas keeps it; in Python, pass reliability= to "
            "BrainDataset."
        )
    if what == "ceiling":
        values = data["voxel_ceiling"].values
    elif what == "normalized":
        r, ceiling = data["voxel_r"].loc[layer].values, data["voxel_ceiling"].values
        values = normalized(r, ceiling)
    else:
        values = data[f"voxel_{what}"].loc[layer].values
    return _image(data, values.astype(np.float32), subject, sector, np.float32(np.nan))


def best_layer_image(
    data: "xr.Dataset", subject: str, sector: str | None
) -> "Nifti1Image":
    """What :meth:`versa.result.FitResult.best_layer_map` returns."""
    require_voxels(data)
    r = data["voxel_r"].transpose("layer", "voxel").values
    best = np.argmax(np.where(np.isnan(r), -np.inf, r), axis=0) + 1
    best[~(np.nanmax(np.where(np.isnan(r), -np.inf, r), axis=0) > 0)] = 0
    return _image(data, best.astype(np.int16), subject, sector, np.int16(0))


def _image(
    data: "xr.Dataset",
    values: np.ndarray,
    subject: str,
    sector: str | None,
    outside: "np.generic",
) -> "Nifti1Image":
    """Values of all voxels of a result, of one subject on the subject's grid."""
    import nibabel

    if "voxel_place" not in data:
        raise ValueError(
            "a map must have voxels with a place in the head; the dataset had none. "
            "Give the masks with the responses: sectors= of BrainDataset, or files."
        )
    _require(data, "subject", subject)
    if sector is not None:
        _require(data, "sector", sector)
    here = _voxels(data, subject, sector)
    shape = data["grid_shape"].sel(subject=subject).values
    volume = np.full(int(np.prod(shape)), outside, dtype=values.dtype)
    # of sectors that share voxels the first one is shown
    volume[data["voxel_place"].values[here][::-1]] = values[here][::-1]
    affine = data["grid_affine"].sel(subject=subject).values
    image = nibabel.Nifti1Image(volume.reshape(shape), affine)
    image.header.set_xyzt_units("mm")
    return image


def _voxels(data: "xr.Dataset", subject: str, sector: str | None) -> np.ndarray:
    """Places of a subject's voxels, of one sector or all, along the voxels."""
    row = list(data["subject"].values).index(subject)
    here = data["voxel_subject"].values == row
    if sector is not None:
        here = here & (
            data["voxel_sector"].values == list(data["sector"].values).index(sector)
        )
    return np.flatnonzero(here)


def _require(data: "xr.Dataset", dimension: str, name: str) -> None:
    known = [str(label) for label in data[dimension].values]
    if name not in known:
        raise ValueError(unknown(dimension, name, known))


def _median(values: np.ndarray) -> float:
    """Median of the finite values; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan
