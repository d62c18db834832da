"""Dataset folders with betas of made-up scans."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.scans import CONDITIONS, write_bids
from versa.fmri.betas.glm import GLMSettings
from versa.fmri.study.betas import estimate_betas

SUBJECTS = ("01", "02", "03", "04")
OLS = GLMSettings(noise_model="ols")


@pytest.fixture(scope="session")
def bids(tmp_path_factory):
    return write_bids(tmp_path_factory.mktemp("study") / "bids", SUBJECTS)


@pytest.fixture
def options(bids):
    return {"settings": OLS, "mask": str(bids / "mask-{subject}.nii.gz")}


@pytest.fixture(scope="session")
def estimated(bids, tmp_path_factory):
    mask = str(bids / "mask-{subject}.nii.gz")
    folder = tmp_path_factory.mktemp("estimated") / "study"
    return estimate_betas(bids, folder, settings=OLS, mask=mask)


@pytest.fixture
def folder(estimated, tmp_path):
    """A dataset folder with the betas of four subjects."""
    return shutil.copytree(estimated, tmp_path / "study")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in (*CONDITIONS, "unused"):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder
