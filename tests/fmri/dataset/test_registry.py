"""The registry of datasets, and what load_dataset takes."""

import subprocess
import sys

import numpy as np
import pytest

from versa.fmri.dataset import registry as datasets
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.folder import write_dataset
from versa.fmri.dataset.registry import list_datasets, load_dataset, register_dataset
from versa.fmri.dataset.stimuli import StimulusSet


@pytest.fixture(autouse=True)
def own_registry(monkeypatch, tmp_path):
    """A registry and a cache folder that other tests do not see."""
    monkeypatch.setattr(datasets, "_ENTRIES", dict(datasets._ENTRIES))
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def dataset(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("ant", "bee", "cup"):
        (images / f"{name}.png").write_bytes(name.encode())
    responses = np.random.default_rng(0).normal(size=(2, 3, 4))
    return BrainDataset(
        "mine", StimulusSet.from_folder(images), ["01", "02"], {"EarlyV": responses}
    )


def test_the_built_in_datasets_are_listed():
    table = list_datasets()
    columns = ["name", "n_subjects", "n_images", "available", "description"]
    assert list(table.columns) == columns
    rows = table.set_index("name")
    for name, n_subjects, n_images in (("orientation", 7, 40), ("inanimate", 10, 72)):
        for full in (name, f"simulated-{name}"):
            assert rows.loc[full, "n_subjects"] == n_subjects
            assert rows.loc[full, "n_images"] == n_images
            assert rows.loc[full, "description"]
        assert not rows.loc[name, "available"]


def test_a_dataset_is_returned_as_it_is(dataset):
    assert load_dataset(dataset) is dataset


def test_a_folder_is_read(dataset, tmp_path, monkeypatch):
    folder = write_dataset(dataset, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for given in (folder, str(folder), "mine", "./mine"):
        assert load_dataset(given).fingerprint == dataset.fingerprint


def test_a_name_goes_before_a_folder_of_that_name(dataset, tmp_path, monkeypatch):
    write_dataset(dataset, tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    other = dataset.select(subjects=["02"])
    register_dataset("other", lambda: other)
    assert load_dataset("other") is other
    assert load_dataset("./other").fingerprint == dataset.fingerprint


def test_a_loader_is_registered(dataset):
    register_dataset("own", lambda: dataset, description="ours", n_subjects=2)
    assert load_dataset("own") is dataset
    row = list_datasets().set_index("name").loc["own"]
    assert row["available"]
    assert (row["n_subjects"], row["description"]) == (2, "ours")
    with pytest.raises(ValueError, match=r"'own' is registered already. Pass replace"):
        register_dataset("own", lambda: dataset)
    other = dataset.select(subjects=["01"])
    register_dataset("own", lambda: other, replace=True)
    assert load_dataset("own") is other


def test_a_loader_by_name_is_imported_when_it_is_needed(dataset, tmp_path, monkeypatch):
    (tmp_path / "lab_data_for_test.py").write_text(
        "dataset = None\nload = lambda: dataset"
    )
    register_dataset("lab", "lab_data_for_test:load")
    assert not list_datasets().set_index("name").loc["lab", "available"]
    with pytest.raises(
        ValueError, match="'lab_data_for_test:load', which cannot be imp"
    ):
        load_dataset("lab")
    monkeypatch.syspath_prepend(tmp_path)
    assert list_datasets().set_index("name").loc["lab", "available"]
    assert "lab_data_for_test" not in sys.modules
    with pytest.raises(
        ValueError, match="'lab' must return a BrainDataset; got NoneType"
    ):
        load_dataset("lab")
    monkeypatch.setattr(sys.modules["lab_data_for_test"], "dataset", dataset)
    assert load_dataset("lab") is dataset
    register_dataset("gone", "lab_data_for_test:missing")
    with pytest.raises(ValueError, match=r"cannot be imported: .*missing"):
        load_dataset("gone")
    register_dataset("nowhere", "no_such_package.data:load")
    assert not list_datasets().set_index("name").loc["nowhere", "available"]


@pytest.mark.parametrize(
    ("name", "loader", "text"),
    [
        ("", print, "a text without path separators; got ''"),
        ("a/b", print, "without path separators; got 'a/b'"),
        ("a", 3, "a function or 'module:function'; got int"),
        ("a", "module.function", "got 'module.function'"),
        ("a", "module:", "got 'module:'"),
    ],
)
def test_bad_registrations_are_refused(name, loader, text):
    with pytest.raises(ValueError, match=text):
        register_dataset(name, loader)


@pytest.mark.parametrize("name", ["orientation", "inanimate"])
def test_the_papers_data_are_found_in_the_cache_or_asked_for(name, dataset, tmp_path):
    folder = tmp_path / "cache" / "datasets" / name
    with pytest.raises(ValueError, match=f"`versa-data fetch {name}`") as caught:
        load_dataset(name)
    assert str(folder) in str(caught.value)
    assert f"'simulated-{name}'" in str(caught.value)
    assert "versa.list_datasets()" in str(caught.value)
    write_dataset(dataset, folder)
    assert load_dataset(name).fingerprint == dataset.fingerprint
    assert list_datasets().set_index("name").loc[name, "available"]


def test_unknown_datasets_are_refused_with_close_matches(tmp_path):
    with pytest.raises(
        ValueError, match=r"got 'orientatoin'. Did you mean orientation"
    ):
        load_dataset("orientatoin")
    with pytest.raises(ValueError, match=r"nowhere must be a folder that exists"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nowhere/at/all must be a folder"):
        load_dataset("nowhere/at/all")
    with pytest.raises(ValueError, match="a name or a folder; got int"):
        load_dataset(3)


def test_importing_the_module_is_light():
    code = (
        "import sys, versa.fmri.dataset.registry, versa.fmri.dataset.folder; "
        "print({'pandas', 'nibabel', 'torch'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "set()", out.stderr
