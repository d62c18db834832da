"""Images of a dataset folder, matched to conditions by name."""

import logging
import shutil
import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.scans import AFFINE, CONDITIONS, brain
from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.elsewhere import betas_from_array
from versa.fmri.dataset.tables import read_image_table
from versa.fmri.study.betas import estimate_betas, write_betas
from versa.fmri.study.files import write_subject
from versa.fmri.study.images import add_images, images_by_name, match_images


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
    (folder / "dataset_description.json").write_text('{"Name": "mine"}')
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


# ---- folders inside the folder of images ------------------------------------------


def pictures(folder, names):
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(path)
    return folder


@pytest.mark.parametrize(
    ("conditions", "files"),
    [
        (["bird/a.jpg", "key/a.jpg", "x.jpg"], ["bird/a.jpg", "key/a.jpg", "x.jpg"]),
        (["stimuli/func/a.bmp", "func/b"], ["func/a.bmp", "func/b.bmp"]),
        (["shown/func/a.bmp", "./b.bmp"], ["func/a.bmp", "b.bmp"]),
        (["func\\a.bmp"], ["func/a.bmp"]),
        (["n02_1.JPEG", "coral"], ["ImageNet/n02_1.JPEG", "Scene/coral.jpg"]),
        (["cup"], ["cup.png", "thumbnails/cup.png"]),  # the place says which
    ],
)
def test_images_in_subfolders(tmp_path, conditions, files):
    shown = pictures(tmp_path / "shown", [*files, "._hidden.png", ".old/coral.jpg"])
    found = match_images(conditions, images_by_name(shown), shown)
    assert found.names == tuple(conditions)
    n = len(conditions)
    assert found.paths == tuple(shown / file for file in files)[:n]


def test_bare_names_that_mean_two_images(tmp_path):
    shown = pictures(tmp_path / "shown", ["a/cup.png", "b/cup.png", "c/dog.png"])
    with pytest.raises(
        ValueError, match=r"'cup' may be .*a/cup.png, .*b/cup.png\. Name"
    ):
        match_images(["cup"], images_by_name(shown), shown)
    with pytest.raises(
        ValueError, match="none for 'fan' among cup, dog, subfolders in"
    ):
        match_images(["fan"], images_by_name(shown), shown)
    assert len(match_images(["dog"], images_by_name(shown), shown)) == 1


def test_names_of_paths_reach_the_dataset(bids, options, tmp_path):
    paths = {name: f"kind/{name}.png" for name in CONDITIONS}
    own = shutil.copytree(bids, tmp_path / "bids")
    for path in own.rglob("*_events.tsv"):
        table = pd.read_csv(path, sep="\t")
        table = table.assign(stim_file=table["trial_type"].map(paths))
        table.to_csv(path, sep="\t", index=False)
    shown = pictures(tmp_path / "shown", paths.values())
    options = {**options, "condition_column": "stim_file", "subjects": ["01"]}
    folder = estimate_betas(own, tmp_path / "s", images=shown, **options)
    table = read_image_table(folder)
    assert table.names == list(paths.values())
    assert [path.name for path in table.files] == [f"{name}.png" for name in paths]


def test_names_that_look_the_same_are_the_same(tmp_path):
    names = [unicodedata.normalize("NFC", "café"), "dog "]
    betas = betas_from_array(np.eye(2, 5), names, subject="sub-01")
    folder = write_betas([betas], tmp_path / "study")
    images = tmp_path / "own"
    images.mkdir()
    for name in (unicodedata.normalize("NFD", "café"), "dog"):
        Image.fromarray(np.full((4, 4, 3), len(name), np.uint8)).save(
            images / f"{name}.png"
        )
    assert add_images(folder, images).names == tuple(names)
