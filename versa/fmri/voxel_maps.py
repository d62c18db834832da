"""Encoding scores of a result, voxel by voxel: their table, and their maps."""

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from versa.cache import atomic_write, made_folder
from versa.fmri.voxel_scores import median_of_known
from versa.stats.permutation import permutation_test
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
                    "median_r": median_of_known(r),
                    "median_r2": median_of_known(r2),
                }
                if "voxel_ceiling" in data:
                    ceiling = data["voxel_ceiling"].values[here].astype(float)
                    share = normalized(r, ceiling)
                    row["median_ceiling"] = median_of_known(ceiling)
                    row["median_normalized"] = median_of_known(share)
                    row["n_reliable"] = int(np.isfinite(share).sum())
                rows.append(row)
    table = pd.DataFrame(rows)
    return with_chance(table, data) if "permuted_voxels" in data else table


def with_chance(table: "pd.DataFrame", data: "xr.Dataset") -> "pd.DataFrame":
    """The table with what permutations of the images say of its median r."""
    shape = tuple(data.sizes[name] for name in ("sector", "layer", "subject"))
    observed = table["median_r"].to_numpy().reshape(shape)
    permuted = data["permuted_voxels"].values  # (sector, layer, subject, permutation)
    chance = np.full(shape, np.nan)
    alone, group, highest = (np.full(shape, np.nan) for _ in range(3))
    for s in range(shape[0]):
        for row in range(shape[2]):
            own = permutation_test(observed[s, :, row], permuted[s, :, row])
            chance[s, :, row], alone[s, :, row] = own.chance, own.p
        every = permutation_test(observed[s].mean(axis=1), permuted[s].mean(axis=1))
        group[s], highest[s] = every.p[:, None], every.p_max[:, None]
    return table.assign(
        chance=chance.ravel(),
        p_perm_subject=alone.ravel(),
        p_perm=group.ravel(),
        p_perm_max=highest.ravel(),
    )


def over_subjects(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table of :func:`encoding_table` with one row for all subjects of a layer:
    means of their medians, and the p-values of these."""
    shown = table.drop(columns=["subject", "p_perm_subject"], errors="ignore")
    counts = {name: "sum" for name in ("n_voxels", "n_reliable") if name in shown}
    keys = ["model", "sector", "layer"]
    ways = {name: counts.get(name, "mean") for name in shown.columns.drop(keys)}
    return shown.groupby(keys, sort=False, as_index=False).agg(ways)


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


def write_maps(data: "xr.Dataset", folder: Path, name: str) -> list[Path]:
    """Write the maps of every subject; files begin with `name` and the subject.

    ``_r.nii.gz`` has the layers as its fourth axis, in the order of ``_r.json``;
    ``_best-layer.nii.gz`` their places in it, from 1; ``_ceiling.nii.gz`` is there if
    it is known.
    """
    made_folder(folder)
    layers = [str(layer) for layer in data["layer"].values]
    paths = []
    for subject in map(str, data["subject"].values):
        each = [voxel_image(data, layer, subject, "r", None) for layer in layers]
        images = {
            "r": type(each[0])(
                np.stack([np.asarray(one.dataobj) for one in each], axis=-1),
                each[0].affine,
                each[0].header,
            ),
            "best-layer": best_layer_image(data, subject, None),
        }
        if "voxel_ceiling" in data:
            images["ceiling"] = voxel_image(data, layers[0], subject, "ceiling", None)
        for what, image in images.items():
            path = folder / f"{name}_sub-{subject}_{what}.nii.gz"
            with atomic_write(path) as temporary:
                temporary.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
            paths.append(path)
        path = folder / f"{name}_sub-{subject}_r.json"
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"Layers": layers}, indent=2) + "\n")
        paths.append(path)
    return paths
