"""Dataset folders without any fault, to be damaged."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.fmri.dataset.damage import AFFINE, NAMES, SHAPE, SUBJECTS
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.folder import write_dataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.sectors.sector import Sector


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder of responses and one of RDMs, both without any fault."""
    home = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    (home / "images").mkdir()
    for name in NAMES:
        pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / "images" / f"{name}.png")
    stimuli = StimulusSet.from_folder(home / "images")
    grid = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    masks = {"EarlyV": grid < 60, "pOTC": (grid >= 60) & (grid < 120)}
    dataset = BrainDataset(
        "good",
        stimuli,
        SUBJECTS,
        responses={s: [rng.normal(size=(5, 60)) for _ in SUBJECTS] for s in masks},
        sectors={s: [Sector(s, m, AFFINE, "TAL")] * 4 for s, m in masks.items()},
        unit="% signal change",
        licence="CC0",
    )
    write_dataset(dataset, home / "good")
    rdms = {"IT": rng.random((4, 10)), "EVC": rng.random((4, 10))}
    of_rdms = BrainDataset("rdms", stimuli, SUBJECTS, rdms=rdms, licence="CC0")
    write_dataset(of_rdms, home / "rdms")
    return home


def without_hashes(folder):
    """As made by hand; else every damage would be found by its hash."""
    path = folder / "dataset_description.json"
    about = json.loads(path.read_text())
    del about["versa"]["SHA256"]
    path.write_text(json.dumps(about))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return without_hashes(shutil.copytree(made / "good", tmp_path / "good"))


@pytest.fixture
def rdm_folder(made, tmp_path):
    return without_hashes(shutil.copytree(made / "rdms", tmp_path / "rdms"))
