"""How fast brain data come in: betas, sectors, the dataset folder.

Three parts, each against its bar:

- betas of a subject against bare nilearn (a FirstLevelModel per run, effect sizes of
  all conditions), on the same files, OLS and AR(1); the floor is reading the files;
- EarlyV, pOTC and aOTC of 10 subjects on the 2 mm MNI grid, from arrays and from files;
- writing and reading a dataset folder of 10 subjects x 72 conditions x 100,000 voxels;
  the floor is the bytes.

    python benchmarks/brain_data.py --work /tmp/brain-data
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

SHAPE = (64, 64, 40)
N_SCANS = 240
N_RUNS = 4
N_CONDITIONS = 40
T_R = 2.0
MNI_SHAPE = (91, 109, 91)
MNI = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


def brain(shape):
    """An ellipsoid that fills most of the grid."""
    axes = [np.linspace(-1.1, 1.1, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < 1


def write_betas(folder):
    """Runs of one subject as int16 .nii.gz, with events; a mask."""
    rng = np.random.default_rng(0)
    func = folder / "sub-01" / "func"
    func.mkdir(parents=True)
    (folder / "task-x_bold.json").write_text(json.dumps({"RepetitionTime": T_R}))
    mask = brain(SHAPE)
    affine = np.diag([3.0, 3, 3, 1])
    nibabel.Nifti1Image(mask.astype(np.uint8), affine).to_filename(
        folder / "mask.nii.gz"
    )
    for run in range(1, N_RUNS + 1):
        values = np.zeros((*SHAPE, N_SCANS), np.int16)
        values[mask] = rng.normal(800, 20, (mask.sum(), N_SCANS))
        image = nibabel.Nifti1Image(values, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((3, 3, 3, T_R))
        stem = f"sub-01_task-x_run-{run}"
        image.to_filename(func / f"{stem}_bold.nii.gz")
        names = rng.permutation([f"object{i:02d}" for i in range(N_CONDITIONS)])
        events = pd.DataFrame(
            {"onset": 8.0 + 11 * np.arange(N_CONDITIONS), "duration": 4.0,
             "trial_type": names}
        )  # fmt: skip
        events.to_csv(func / f"{stem}_events.tsv", sep="\t", index=False)


def ours(folder, noise):
    from versa.fmri.betas.glm import GLMSettings, fit_betas
    from versa.fmri.betas.runs import find_runs

    settings = GLMSettings(noise_model=noise)
    betas = fit_betas(
        find_runs(folder, "01"), "01", settings=settings, mask=folder / "mask.nii.gz",
        space="individual",
    )  # fmt: skip
    return betas.values


def bare_nilearn(folder, noise):
    from nilearn.glm.first_level import FirstLevelModel

    func = folder / "sub-01" / "func"
    mask = nibabel.load(folder / "mask.nii.gz")
    inside = mask.get_fdata() > 0
    total = 0
    for run in range(1, N_RUNS + 1):
        stem = func / f"sub-01_task-x_run-{run}"
        model = FirstLevelModel(t_r=T_R, noise_model=noise, mask_img=mask)
        model.fit(f"{stem}_bold.nii.gz", events=f"{stem}_events.tsv")
        total = total + np.array(
            [
                model.compute_contrast(f"object{i:02d}", output_type="effect_size")
                .get_fdata()[inside]
                for i in range(N_CONDITIONS)
            ]
        )  # fmt: skip
    return total / N_RUNS


def reading(folder, _noise):
    for path in (folder / "sub-01" / "func").glob("*_bold.nii.gz"):
        np.asarray(nibabel.load(path).dataobj)


def peak(name, folder, noise):
    """Peak memory of one way in a process of its own, in GB beyond its imports."""
    code = (
        "import re, sys; sys.path.insert(0, 'benchmarks');"
        "import brain_data as b; from pathlib import Path;"
        "import nilearn.glm.first_level, versa.fmri.betas.glm;"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', "
        "open('/proc/self/status').read())[1]) / 2**20;"
        f"start = peak(); b.{name}(Path({str(folder)!r}), {noise!r});"
        "print(peak() - start)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(run.stdout)


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def betas(work, n_pairs):
    folder = work / "bids"
    if not folder.exists():
        write_betas(folder)
    n_voxels = int(brain(SHAPE).sum())
    print(f"betas: {N_RUNS} runs of {N_SCANS} scans, {n_voxels} voxels, "
          f"{N_CONDITIONS} conditions")  # fmt: skip
    for noise in ("ols", "ar1"):
        ratios, floors = [], []
        for _ in range(n_pairs):
            mine, values = timed(ours, folder, noise)
            theirs, expected = timed(bare_nilearn, folder, noise)
            floor, _ = timed(reading, folder, noise)
            ratios.append(mine / theirs)
            floors.append(mine / floor)
        scale = np.abs(expected).max()
        print(
            f"  {noise}: versa {mine:.2f} s, bare nilearn {theirs:.2f} s, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}); "
            f"against reading the files {statistics.median(floors):.1f}; largest "
            f"difference {np.abs(values - expected).max() / scale:.1e}; peak "
            f"{peak('ours', folder, noise):.2f} GB, nilearn "
            f"{peak('bare_nilearn', folder, noise):.2f} GB"
        )


def sectors():
    from versa.fmri.sectors import Sector, define_sectors, group_contrast

    rng = np.random.default_rng(0)
    inside = brain(MNI_SHAPE)
    y = (np.indices(MNI_SHAPE).reshape(3, -1).T @ MNI[:3, :3].T + MNI[:3, 3])[:, 1]
    y = y.reshape(MNI_SHAPE)
    early = [inside & (y < -85 - i % 3) for i in range(10)]
    otc = inside & (y < -20)
    contrasts = [
        np.where(inside, rng.normal(size=MNI_SHAPE), np.nan) for _ in range(10)
    ]
    space = "MNI152NLin6Asym"

    def define():
        group = group_contrast(contrasts)
        people = [Sector("EarlyV", mask, MNI, space) for mask in early]
        mask = Sector("OTC", otc, MNI, space)
        return [define_sectors(one, mask, group, exclude=people) for one in people]

    seconds, found = timed(define)
    assert all(len(one) == 3 for one in found)
    print(f"sectors of 10 subjects on {MNI_SHAPE}: {seconds:.2f} s (bar 5 s)")


def sectors_of_a_folder(work):
    """The same from the files of a dataset folder, masks written at the end."""
    from versa.fmri.betas.conditions import ConditionBetas
    from versa.fmri.study.betas import write_betas
    from versa.fmri.study.sectors import add_sectors, paper_sectors

    rng = np.random.default_rng(0)
    mask = np.zeros(MNI_SHAPE, dtype=bool)
    inside = np.flatnonzero(brain(MNI_SHAPE))
    mask.flat[rng.choice(inside, 100_000, replace=False)] = True
    y = (np.indices(MNI_SHAPE).reshape(3, -1).T @ MNI[:3, :3].T + MNI[:3, 3])[:, 1]
    y = y.reshape(MNI_SHAPE)
    folder = work / "sectors"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, region in (("early", y < -88), ("otc", y < -20)):
        image = nibabel.Nifti1Image((mask & region).astype(np.uint8), MNI)
        image.to_filename(folder / f"{name}.nii.gz")
    names = [f"image{i:02d}" for i in range(72)]
    people = (
        ConditionBetas(
            f"{s:02d}", names, rng.normal(size=(72, 100_000)), mask, MNI,
            "MNI152NLin6Asym", activity=rng.normal(size=100_000),
        )
        for s in range(10)
    )  # fmt: skip
    write_betas(people, folder / "study")

    def define():
        found = paper_sectors(
            folder / "study",
            early=str(folder / "early.nii.gz"),
            occipito_temporal=str(folder / "otc.nii.gz"),
            group=True,
        )
        add_sectors(folder / "study", found.sectors)
        return found

    seconds, found = timed(define)
    assert len(found.sectors) == 10
    shutil.rmtree(folder)
    print(f"the same from the files of a dataset folder, with writing: {seconds:.2f} s")


def folders(work):
    from PIL import Image

    import versa

    rng = np.random.default_rng(0)
    images = work / "images"
    images.mkdir(parents=True, exist_ok=True)
    for i in range(72):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"image{i:02d}.png")
    mask = np.zeros(MNI_SHAPE, dtype=bool)
    mask[np.unravel_index(rng.choice(mask.size, 100_000, replace=False), MNI_SHAPE)] = (
        True
    )
    sector = versa.Sector("all", mask, MNI, "MNI152NLin6Asym")
    values = [rng.normal(size=(72, 100_000)).astype(np.float32) for _ in range(10)]
    dataset = versa.BrainDataset(
        "large",
        versa.StimulusSet.from_folder(images),
        [f"{i:02d}" for i in range(10)],
        {"all": values},
        sectors={"all": [sector] * 10},
    )
    target = work / "large"
    shutil.rmtree(target, ignore_errors=True)
    write, _ = timed(versa.write_dataset, dataset, target)
    read, back = timed(versa.read_dataset, target)
    assert np.array_equal(back.responses["all"][9], dataset.responses["all"][9])
    n_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    shutil.rmtree(target)

    def plain():
        block = bytes(2**24)
        with open(work / "plain", "wb") as file:
            for _ in range(n_bytes // len(block)):
                file.write(block)
        (work / "plain").read_bytes()
        (work / "plain").unlink()

    floor, _ = timed(plain)
    print(
        f"folder of 10 x 72 x 100,000: write {write:.1f} s + read {read:.1f} s = "
        f"{write + read:.1f} s (bar 20 s), {n_bytes / 2**30:.1f} GiB; "
        f"{(write + read) / floor:.1f} x writing and reading as many bytes"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    betas(options.work, options.pairs)
    sectors()
    sectors_of_a_folder(options.work)
    folders(options.work)


if __name__ == "__main__":
    main()
