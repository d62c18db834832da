"""Made-up scans: a small BIDS folder, and runs much larger than the memory."""

import json
import subprocess
import sys

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


LARGE = (128, 128, 100)  # grid of the large runs
N_LARGE = 20 * 128  # voxels of their mask, one block in every scan


def write_large_mask(path):
    mask = np.zeros(LARGE, np.uint8)
    mask[:, :20, 0] = 1
    nibabel.Nifti1Image(mask, np.eye(4)).to_filename(path)


def write_large_run(path, n_scans, rng):
    """Scans of 3 MB with signal in the mask; the rest is a hole that takes no room."""
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2, 2), np.int16), np.eye(4)).header
    header.set_data_shape((*LARGE, n_scans))
    header["vox_offset"] = 352
    n_bytes = 2 * int(np.prod(LARGE))  # of a scan
    with open(path, "wb") as file:
        header.write_to(file)
        file.truncate(352 + n_bytes * n_scans)
        for scan in range(n_scans):
            file.seek(352 + n_bytes * scan)
            file.write(rng.integers(1, 99, N_LARGE).astype(np.int16).tobytes())


def run_in_little_memory(code, folder, n_bytes):
    """What a script prints that may take so many bytes beyond its imports."""
    limit = (
        "import resource, nilearn.glm.first_level, nibabel, scipy.spatial, pandas\n"
        "import versa.fmri.betas.glm, versa.fmri.study.betas\n"
        "used = int(open('/proc/self/statm').read().split()[0])\n"
        f"room = used * resource.getpagesize() + {n_bytes}\n"
        "resource.setrlimit(resource.RLIMIT_AS, (room, room))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", limit + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout
