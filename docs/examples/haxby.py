"""From real scans to a sector: one subject of Haxby et al. (2001), one slice.

python docs/examples/haxby.py FOLDER

FOLDER is a BIDS-like tree with 12 runs of sub-01, acq-slice, their events, and a mask
of the brain in derivatives/masks/sub-01.
"""

import sys
from pathlib import Path

import numpy as np

from versa.fmri.betas import ConditionBetas, GLMSettings, Run, find_runs, fit_betas
from versa.fmri.ceilings import rdm_reliability
from versa.fmri.reliability import voxel_reliability
from versa.fmri.sectors import Sector, most_active

SETTINGS = GLMSettings(hrf_model="spm", noise_model="ols", high_pass=1 / 128)


def slice_runs(folder: Path) -> list[Run]:
    """The 12 runs of the slice."""
    return find_runs(folder, "01", filters={"acq": "slice"})


def betas_of(folder: Path, runs: list[Run]) -> ConditionBetas:
    """Betas of all, odd and even of some runs."""
    mask = folder / "derivatives/masks/sub-01/sub-01_acq-slice_desc-brain_mask.nii.gz"
    return fit_betas(runs, "01", settings=SETTINGS, mask=mask, space="individual")


def reliability(betas: ConditionBetas) -> dict[str, float]:
    """How well odd and even runs agree."""
    r = voxel_reliability(betas.odd, betas.even)
    return {
        "voxels": betas.n_voxels,
        "median r": float(np.median(r)),
        "share above .3": float(np.mean(r > 0.3)),
        "r of the RDMs": rdm_reliability(betas.odd, betas.even),
    }


def active_voxels(folder: Path, n_voxels: int = 100) -> dict[str, float]:
    """The most active voxels of runs 1 to 6, and their reliability in runs 7 to 12."""
    runs = slice_runs(folder)
    first, second = betas_of(folder, runs[:6]), betas_of(folder, runs[6:])
    brain = Sector("brain", first.mask, first.affine, first.space)
    active = most_active(brain, first.volumes(first.activity), n_voxels)
    r = voxel_reliability(second.odd, second.even)
    inside = active.mask[second.mask]
    return {
        "voxels": active.n_voxels,
        "median r": float(np.median(r[inside])),
        "median r of the others": float(np.median(r[~inside])),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    betas = betas_of(folder, slice_runs(folder))
    print(betas)
    for title, numbers in (
        ("odd against even runs", reliability(betas)),
        ("the most active voxels of runs 1-6, in runs 7-12", active_voxels(folder)),
    ):
        print(f"\n{title}")
        for name, value in numbers.items():
            print(f"  {name:<24} {value:.4g}")


if __name__ == "__main__":
    main()
