"""The paper's data: from a server that speaks OSF's API to versa.load_dataset."""

import hashlib

import numpy as np
import pytest

import versa
from tests.archives import (
    ARRAYS,
    MATLAB,
    NAMES,
    SECTORS,
    SUBJECTS,
    TABLES,
    VOLUMES,
    array_archive,
    brainvoyager_archive,
    known_betas,
    matlab_archive,
    table_archive,
    write_mapping,
)
from tests.fmri.published.test_unpacking import files_of, zipped
from tests.osf_server import osf
from versa.cache import cache_folder
from versa.cli.data import data_command
from versa.fmri.dataset import registry as datasets
from versa.fmri.published.konkle2022 import (
    archive_folder,
    convert_archive,
    fetch_archive,
    mapping_path,
)

__all__ = ["osf"]


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A cache of our own, and a published dataset as small as the archives."""
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERSA_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    entry = datasets.DatasetEntry("orientation", None, "made up", 3, 6)
    monkeypatch.setitem(datasets._ENTRIES, "orientation", entry)


def in_order(found, known):
    """Known values of one sector and subject, in the order of a dataset."""
    return known[[NAMES.index(name) for name in found.stimuli.names]]


def check_known(found):
    for sector, per_subject in known_betas().items():
        for values, known in zip(found.responses[sector], per_subject, strict=True):
            np.testing.assert_array_equal(values, in_order(found, known))


ARCHIVES = {
    "mat73": (lambda folder: matlab_archive(folder, 73), MATLAB),
    "tables": (table_archive, TABLES),
    "brainvoyager": (brainvoyager_archive, VOLUMES),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_fetch_map_convert_load(osf, tmp_path, capsys, kind):
    if kind == "brainvoyager":
        pytest.importorskip("bvbabel")
    make, entries = ARCHIVES[kind]
    osf.components = {"trne8": files_of(make(tmp_path / "made"))}
    place = cache_folder() / "osf" / "trne8-orientation.toml"
    assert mapping_path("orientation") == place
    command = ["fetch", "orientation", "--quiet"]
    assert data_command(command) == 2
    said = capsys.readouterr()
    assert f"{place} is missing. Write it from the contents of" in said.err
    listed = {"mat73": "SECTORS.Betas.aOTC[2]", "tables": "7 x 10"}
    assert listed.get(kind, "volume of BrainVoyager") in said.out
    assert not (cache_folder() / "datasets").exists()
    write_mapping(place, entries, confirmed=False)
    assert data_command(command) == 2
    assert "must be confirmed" in capsys.readouterr().err
    write_mapping(place, entries)
    assert data_command(command) == 0
    folder = cache_folder() / "datasets" / "orientation"
    assert f"{folder}: no errors" in capsys.readouterr().out
    found = versa.load_dataset("orientation")
    assert (found.n_subjects, found.n_images) == (3, 6)
    assert set(found.sector_names) == set(SECTORS)
    if kind != "brainvoyager":
        check_known(found)
    osf.asked.clear()
    assert data_command(command) == 0
    assert osf.asked == []  # what is there is only checked


def test_packed_files_are_unpacked(osf, tmp_path):
    content = zipped(files_of(array_archive(tmp_path / "made")))
    osf.components = {"trne8": {"data/all.zip": content}}
    folder, table = fetch_archive("orientation")
    assert table["file"].tolist() == ["data/all.zip"]
    assert table["bytes"].tolist() == [len(content)]
    changes = {
        name: f"data/all.zip.unpacked/{ARRAYS[name]}"
        for name in ("responses__file", "conditions__file", "images__file")
    }
    mapping = write_mapping(tmp_path / "map.toml", ARRAYS, **changes)
    assert convert_archive("orientation", folder, mapping).is_dir()


def test_another_size_is_not_the_published_dataset(osf, tmp_path, monkeypatch):
    osf.components = {"trne8": files_of(table_archive(tmp_path / "made"))}
    folder, _ = fetch_archive("orientation")
    place = write_mapping(mapping_path("orientation"), TABLES)
    entry = datasets.DatasetEntry("orientation", None, "made up", 7, 40)
    monkeypatch.setitem(datasets._ENTRIES, "orientation", entry)
    rule = r"must have 7 subjects and 40 images; by .*toml it has 3 and 6"
    with pytest.raises(ValueError, match=rule):
        convert_archive("orientation", folder, place)
    assert not entry.folder.exists()


def test_listing_and_patterns(osf, tmp_path, capsys):
    osf.components = {"trne8": files_of(table_archive(tmp_path / "made"))}
    long = f"{'betas of one subject and sector ' * 3}/x.txt"
    osf.components["trne8"][long] = b"x"
    assert data_command(["fetch", "orientation", "--list"]) == 0
    said = capsys.readouterr().out
    assert "betas/S1/EarlyV.csv" in said
    assert long in said
    assert "http" not in said
    for content in osf.components["trne8"].values():
        assert hashlib.sha256(content).hexdigest() in said
    assert osf.downloads == []
    folder, table = fetch_archive("orientation", patterns="*S2*")
    assert table["file"].tolist() == [
        f"betas/S2/{sector}.csv" for sector in sorted(SECTORS)
    ]
    assert sorted(path.name for path in folder.rglob("*.csv")) == sorted(
        f"{sector}.csv" for sector in SECTORS
    )


@pytest.mark.parametrize("options", [[], ["--list"]])
def test_unknown_names(osf, capsys, options):
    assert data_command(["fetch", "orientations", *options]) == 2
    assert osf.asked == []
    said = capsys.readouterr().err
    assert "published dataset must be among orientation, inanimate; got 'orie" in said
    assert "Did you mean orientation?" in said
    with pytest.raises(ValueError, match="got 'simulated-orientation'"):
        archive_folder("simulated-orientation")


def test_any_archive(tmp_path, capsys):
    archive = str(matlab_archive(tmp_path / "made"))
    mapping, out = tmp_path / "map.toml", tmp_path / "dataset"
    assert data_command(["convert", archive]) == 0
    assert "SECTORS.Betas.EarlyV[0]" in capsys.readouterr().out
    start = ["convert", archive, "--mapping", str(mapping)]
    assert data_command(start) == 2
    assert "--out is missing. Without both" in capsys.readouterr().err
    start += ["--out", str(out)]
    assert data_command(start) == 2
    assert f"mapping file {mapping} must exist" in capsys.readouterr().err
    write_mapping(mapping, MATLAB, confirmed=False)
    assert data_command(start) == 2
    assert "must be confirmed" in capsys.readouterr().err
    assert not out.exists()
    write_mapping(mapping, MATLAB)
    assert data_command(start) == 0
    found = versa.read_dataset(out)
    assert found.n_subjects == len(SUBJECTS)
    check_known(found)


def test_names_with_blanks_and_umlauts(osf, tmp_path):
    made = array_archive(tmp_path / "made")
    place = "Beta Maps/Süd & 50% #1"
    files = {f"{place}/{path}": content for path, content in files_of(made).items()}
    osf.components = {"trne8": files}
    archive, _ = fetch_archive("orientation")
    assert {k: v for k, v in files_of(archive).items() if k in files} == files
    changes = {
        name: f"{place}/{ARRAYS[name]}"
        for name in ("responses__file", "conditions__file", "images__file")
    }
    write_mapping(mapping_path("orientation"), ARRAYS, **changes)
    assert data_command(["fetch", "orientation", "--quiet"]) == 0
    check_known(versa.load_dataset("orientation"))


@pytest.mark.parametrize("project", ["TRNE8", "https://osf.io/trne8/", "osf.io/trne8"])
def test_a_project_has_one_folder_however_it_is_written(osf, tmp_path, project):
    assert archive_folder("orientation", project) == cache_folder() / "osf" / "trne8"
    with pytest.raises(ValueError, match="project must be the five letters"):
        archive_folder("orientation", "../x")


@pytest.mark.parametrize("options", [[], ["--update"], ["--mapping", "map.toml"]])
def test_a_dataset_that_is_there_needs_no_network(osf, tmp_path, capsys, options):
    osf.components = {"trne8": files_of(table_archive(tmp_path / "made"))}
    write_mapping(mapping_path("orientation"), TABLES)
    assert data_command(["fetch", "orientation", "--quiet"]) == 0
    (cache_folder() / "osf" / "trne8" / "betas" / "S1" / "pOTC.csv").unlink()
    osf.asked.clear()
    capsys.readouterr()
    folder = cache_folder() / "datasets" / "orientation"
    code = data_command(["fetch", "orientation", *options])
    said = capsys.readouterr()
    assert osf.asked == []
    if options:
        assert code == 2
        assert f"Remove {folder} to convert anew." in said.err
    else:
        assert code == 0
        assert f"{folder}: no errors" in said.out


def test_a_mapping_file_with_a_mistake_names_it(tmp_path):
    archive = array_archive(tmp_path / "made")
    mapping = tmp_path / "map.toml"
    mapping.write_text("confirmed = true\n[dataset]\nnam = 'x'\n")
    with pytest.raises(ValueError, match=r"Did you mean dataset\.name"):
        convert_archive("orientation", archive, mapping)


def test_a_mapping_file_that_changed_is_named(osf, tmp_path, capsys):
    osf.components = {"trne8": files_of(table_archive(tmp_path / "made"))}
    write_mapping(mapping_path("orientation"), TABLES)
    assert data_command(["fetch", "orientation", "--quiet"]) == 0
    place = mapping_path("orientation")
    place.write_text(place.read_text() + "\n# another thought\n")
    assert data_command(["fetch", "orientation", "--quiet"]) == 2
    assert f"{place} has changed since" in capsys.readouterr().err
