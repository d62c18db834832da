"""Every example of docs/scanner.md, run on made-up files of the real formats."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel import cifti2
from PIL import Image

import versa
from tests.archives import brainvoyager_archive, matlab_archive
from tests.fmri.betas import test_fsl as test_feat
from tests.fmri.betas import test_glmsingle, test_spm
from tests.fmri.study.test_sectors import study
from tests.fmri.volumes import test_surface_files
from tests.scans import CONDITIONS, write_bids, write_events
from versa.fmri.betas.conditions import ConditionBetas

__all__ = ["study"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scanner.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)


def pictures(folder, names):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


def volume(path, values, affine=test_spm.AFFINE):
    path.parent.mkdir(exist_ok=True, parents=True)
    nibabel.Nifti1Image(values.astype(np.float32), affine).to_filename(path)


@pytest.fixture
def here(tmp_path, study, monkeypatch):
    """A working directory with all that the page mentions."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    write_bids(tmp_path / "bids")
    single = tmp_path / "glmsingle"
    single.mkdir()
    test_glmsingle.write_python(single, rng.normal(size=(*test_glmsingle.SHAPE, 8)))
    volume(single / "run-1_bold.nii.gz", rng.normal(size=(*test_glmsingle.SHAPE, 5)))
    for run in (1, 2):
        write_events(single / f"run-{run}_events.tsv", rng.permutation(CONDITIONS))
    names = [f"Sn({s}) {name}*bf(1)" for s in (1, 2) for name in CONDITIONS]
    for subject in ("01", "02"):
        folder = tmp_path / "spm" / f"sub-{subject}"
        folder.parent.mkdir(exist_ok=True)
        test_spm.write_betas(folder, names)
    for run in (1, 2):
        test_feat.write_feat(tmp_path / "fsl" / f"run-{run}.feat", run)
    brainvoyager_archive(tmp_path / "bv")
    for name in ("cup", "dog"):
        volume(tmp_path / "nifti" / f"{name}.nii.gz", rng.normal(size=(3, 4, 5)))
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "trials.npy", rng.normal(size=(4, 20)))
    pictures(tmp_path / "stimuli", CONDITIONS)
    for kind in ("visual", "otc"):  # of the study, with the page's names
        for path in (tmp_path / "rois").glob(f"*_{kind}.nii.gz"):
            path.rename(path.with_name(path.name.replace("otc", "OTC")))
    labels = nibabel.load(tmp_path / "rois" / "sub-01_visual.nii.gz")
    active = rng.normal(size=labels.shape)
    volume(tmp_path / "rois" / "sub-01_active.nii.gz", active, labels.affine)
    (tmp_path / "surface").mkdir()
    models = test_surface_files.brain_models()
    test_surface_files.write_cifti(
        tmp_path / "surface" / "sub-01_betas.dscalar.nii",
        cifti2.ScalarAxis(CONDITIONS),
        models,
    )
    keys = {0: ("none", (0, 0, 0, 0)), 1: ("V1", (1, 0, 0, 1)), 2: ("V2", (0, 1, 0, 1))}
    test_surface_files.write_cifti(
        tmp_path / "surface" / "areas.dlabel.nii",
        cifti2.LabelAxis(["areas"], [keys]),
        models,
        (np.arange(len(models)) % 3)[None].astype(np.float32),
    )
    matlab_archive(tmp_path / "matlab")
    return tmp_path


def test_every_example_runs(here, study):
    assert len(BLOCKS) == 13
    found = {}
    names = {}
    for number, block in enumerate(BLOCKS):
        if "ceilings_table" in block:  # it needs the images and other conditions
            (here / "letters").mkdir()
            for letter in "abcde":
                Image.new("RGB", (8, 8), f"#{letter * 6}").save(
                    here / "letters" / f"{letter}.png"
                )
            (study / "dataset_description.json").write_text(
                '{"Name": "x", "versa": {"Sectors": ["EarlyV", "pOTC", "aOTC"]}}'
            )
            from versa.fmri.study.images import add_images

            add_images(study, here / "letters")
        if "add_sectors" in block:
            (study / "dataset_description.json").write_text('{"Name": "x"}')
        exec(compile(block, f"block {number}", "exec"), names)
        found[number] = names.get("betas")
    assert all(isinstance(betas, ConditionBetas) for betas in list(found.values())[:6])
    assert found[0].conditions == CONDITIONS
    assert found[1].odd is not None  # GLMsingle
    assert set(found[2].conditions) == set(CONDITIONS)  # SPM
    assert "face" in found[3].conditions  # FSL
    assert names["responses"].shape == (6, 7)  # VMP and VOI
    assert found[6].odd is not None  # trials
    assert (here / "mine" / "stimuli.tsv").is_file()
    assert versa.load_dataset("./study").sector_names == ("EarlyV", "pOTC", "aOTC")
    assert names["brain"].responses["V1"][0].shape[0] == len(CONDITIONS)
    assert names["betas"]["shape"].iloc[0] == "9 x 6"  # of the MATLAB archive
