"""A small BIDS folder of made-up scans, with events and a brain."""

import json

import nibabel
import numpy as np
import pandas as pd

SHAPE = (6, 7, 5)
AFFINE = np.array([[3.0, 0, 0, -8], [0, 3.0, 0, -70], [0, 0, 3.5, -10], [0, 0, 0, 1]])
CONDITIONS = ("cup", "dog", "key", "saw")
T_R = 2.0
N_SCANS = 90


def brain():
    """A block of voxels in the middle of the grid."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:5, 1:6, 1:4] = True
    return mask


def write_events(path, order, extra=()):
    rows = [(8.0 + 40.0 * i, 8.0, name) for i, name in enumerate(order)]
    rows += list(extra)
    table = pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])
    table.to_csv(path, sep="\t", index=False)


def scan(rng, order, patterns, dtype=np.float32):
    """Signal of a run: a mean, the response of every block, and noise."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    events = pd.DataFrame(
        {
            "onset": [8.0 + 40.0 * i for i in range(len(order))],
            "duration": 8.0,
            "trial_type": list(order),
        }
    )
    times = np.arange(N_SCANS) * T_R
    design = make_first_level_design_matrix(times, events, drift_model=None)
    signal = design[list(order)].to_numpy() @ np.array([patterns[n] for n in order])
    signal = 800 + 20 * signal + rng.normal(scale=4, size=signal.shape)
    values = np.zeros((*SHAPE, N_SCANS), dtype=dtype)
    values[brain()] = signal.T
    return values


def write_bids(folder, subjects=("01",), n_runs=4, *, affine=AFFINE, ending=".nii.gz"):
    """Raw BIDS: sidecar at the top, images and events per subject, a brain mask."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "made-up"}))
    (folder / "task-view_bold.json").write_text(json.dumps({"RepetitionTime": T_R}))
    for subject in subjects:
        func = folder / f"sub-{subject}" / "func"
        func.mkdir(parents=True)
        patterns = {name: rng.normal(size=brain().sum()) for name in CONDITIONS}
        for run in range(1, n_runs + 1):
            order = rng.permutation(CONDITIONS)
            stem = f"sub-{subject}_task-view_run-{run}"
            write_events(func / f"{stem}_events.tsv", order)
            image = nibabel.Nifti1Image(scan(rng, order, patterns), affine)
            image.header.set_xyzt_units("mm", "sec")
            image.header.set_zooms((*image.header.get_zooms()[:3], T_R))
            image.to_filename(func / f"{stem}_bold{ending}")
        mask = nibabel.Nifti1Image(brain().astype(np.uint8), affine)
        mask.to_filename(folder / f"mask-{subject}.nii.gz")
    return folder
