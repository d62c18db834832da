"""Images of a dataset folder, matched to conditions by name."""

import logging

import numpy as np
import pytest
from PIL import Image

from tests.scans import AFFINE, CONDITIONS, brain
from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.study.betas import estimate_betas
from versa.fmri.study.files import write_subject
from versa.fmri.study.images import add_images


def test_images_are_matched_by_name(folder, images, caplog):
    (images / "dog.png").rename(images / "hound.png")
    with pytest.raises(
        ValueError, match="there is none for 'dog' among cup, hound, ke"
    ):
        add_images(folder, images)
    assert not (folder / "stimuli").exists()
    (images / "hound.png").rename(images / "dog.png")
    with caplog.at_level(logging.INFO, logger="versa"):
        stimuli = add_images(folder, images)
    assert "that are no conditions are not used: unused" in caplog.text
    assert stimuli.names == CONDITIONS
    lines = (folder / "stimuli.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in lines[1:]] == [
        [name, f"{name}.png"] for name in CONDITIONS
    ]
    with pytest.raises(
        ValueError, match=r"must not have images yet; remove stimuli.tsv"
    ):
        add_images(folder, images)


def test_conditions_called_like_files(tmp_path, images):
    names = [f"{name}.png" for name in CONDITIONS]
    folder = tmp_path / "study"
    folder.mkdir()
    betas = ConditionBetas(
        "01",
        names,
        np.random.default_rng(0).normal(size=(4, int(brain().sum()))),
        brain(),
        AFFINE,
        "individual",
    )
    write_subject(betas, folder)
    (folder / "participants.tsv").write_text("participant_id\nsub-01\n")
    assert add_images(folder, images).names == tuple(names)
    with pytest.raises(ValueError, match=r"must not exist yet. Remove it to write"):
        write_subject(betas, folder)


def test_other_images_are_not_taken_for_those_that_are_there(
    bids, options, images, tmp_path
):
    folder = tmp_path / "s"
    estimate_betas(bids, folder, images=images, **options)
    estimate_betas(bids, folder, images=images, **options)
    Image.new("RGB", (8, 8)).save(images / "dog.png")
    with pytest.raises(ValueError, match="dog"):
        estimate_betas(bids, folder, images=images, **options)
