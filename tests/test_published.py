"""The paper's data: from a server that speaks OSF's API to versa.load_dataset."""

import io
import tarfile
import zipfile

import numpy as np
import pytest

import versa
from tests.archives import (
    NAMES,
    SECTORS,
    SUBJECTS,
    array_archive,
    brainvoyager_archive,
    known_betas,
    matlab_archive,
    table_archive,
)
from tests.osf_server import osf
from versa.cache import cache_folder
from versa.cli.data import data_command
from versa.fmri import datasets
from versa.fmri.archives.published import (
    archive_folder,
    bring_archive,
    convert_archive,
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


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def zipped(files):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as packed:
        for path, content in files.items():
            packed.writestr(path, content)
    return memory.getvalue()


def confirm(path):
    path.write_text(path.read_text().replace("confirmed = false", "confirmed = true"))


ARCHIVES = {
    "mat5": matlab_archive,
    "mat73": lambda folder: matlab_archive(folder, 73),
    "tables": table_archive,
    "arrays": array_archive,
    "brainvoyager": brainvoyager_archive,
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_fetch_propose_confirm_convert_load(osf, tmp_path, capsys, kind):
    if kind == "brainvoyager":
        pytest.importorskip("bvbabel")
    osf.components = {"trne8": files_of(ARCHIVES[kind](tmp_path / "made"))}
    place = cache_folder() / "osf" / "trne8-orientation.toml"
    assert data_command(["fetch", "orientation", "--quiet"]) == 2
    said = capsys.readouterr()
    assert f"one is proposed in {place}" in said.err
    assert not (cache_folder() / "datasets").exists()
    assert data_command(["fetch", "orientation", "--quiet"]) == 2
    assert "must be confirmed" in capsys.readouterr().err
    confirm(place)
    if kind != "brainvoyager":  # its maps are named, not its subjects' voxels
        assert "S1" in place.read_text() or "subjects" in place.read_text()
    assert data_command(["fetch", "orientation", "--quiet"]) == 0
    said = capsys.readouterr().out
    folder = cache_folder() / "datasets" / "orientation"
    assert f"{folder}: no errors" in said
    found = versa.load_dataset("orientation")
    assert (found.n_subjects, found.n_images) == (3, 6)
    assert set(found.sector_names) == set(SECTORS)
    if kind != "brainvoyager":
        order = [NAMES.index(name) for name in found.stimuli.names]
        for sector, per_subject in known_betas().items():
            for row, expected in enumerate(per_subject):
                np.testing.assert_array_equal(
                    found.responses[sector][row], expected[order]
                )
    n_asked = len(osf.downloads)
    assert data_command(["fetch", "orientation", "--quiet"]) == 0
    assert len(osf.downloads) == n_asked  # what is whole is not fetched again


@pytest.mark.parametrize("packing", ["zip", "tar.gz"])
def test_packed_files_are_unpacked(osf, tmp_path, packing):
    files = files_of(array_archive(tmp_path / "made"))
    if packing == "zip":
        content = zipped(files)
    else:
        memory = io.BytesIO()
        with tarfile.open(fileobj=memory, mode="w:gz") as packed:
            packed.add(tmp_path / "made", arcname=".")
        content = memory.getvalue()
    osf.components = {"trne8": {f"data/all.{packing}": content}}
    folder, table = bring_archive("orientation")
    assert table["file"].tolist() == [f"data/all.{packing}"]
    assert table["bytes"].tolist() == [len(content)]
    unpacked = folder / "data" / f"all.{packing}.unpacked"
    assert files_of(unpacked) == files
    (unpacked / "conditions.txt").write_text("kept")
    bring_archive("orientation")
    assert (unpacked / "conditions.txt").read_text() == "kept"
    (unpacked / "conditions.txt").write_bytes(files["conditions.txt"])
    with pytest.raises(ValueError, match="needs a mapping file that somebody has chec"):
        convert_archive("orientation", folder)
    confirm(folder.parent / "trne8-orientation.toml")
    assert convert_archive("orientation", folder).is_dir()


def test_damaged_and_malicious_packages(osf, tmp_path):
    osf.components = {"trne8": {"all.zip": zipped({"a.txt": b"abc" * 999})[:-30]}}
    with pytest.raises(
        ValueError, match=r"all.zip must be a whole packed file; unpack"
    ):
        bring_archive("orientation")
    assert not list(archive_folder("orientation").glob("*.unpacked"))
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("../../evil.txt"))
    osf.components = {"trne9": {"all.tar": memory.getvalue()}}
    with pytest.raises(ValueError, match=r"all.tar must be a whole packed file"):
        bring_archive("orientation", "trne9")
    assert not list(tmp_path.rglob("evil.txt"))
    osf.components = {"trn10": {"all.zip": zipped({"../../evil.txt": b"x"})}}
    folder, _ = bring_archive("orientation", "trn10")
    assert [p.relative_to(folder / "all.zip.unpacked").as_posix()
            for p in tmp_path.rglob("evil.txt")] == ["evil.txt"]  # fmt: skip


def test_another_size_is_not_the_published_dataset(osf, tmp_path, monkeypatch):
    osf.components = {"trne8": files_of(table_archive(tmp_path / "made"))}
    folder, _ = bring_archive("orientation")
    with pytest.raises(ValueError, match="needs a mapping file"):
        convert_archive("orientation", folder)
    place = folder.parent / "trne8-orientation.toml"
    confirm(place)
    entry = datasets.DatasetEntry("orientation", None, "made up", 7, 40)
    monkeypatch.setitem(datasets._ENTRIES, "orientation", entry)
    rule = r"must have 7 subjects and 40 images; by .*toml it has 3 and 6"
    with pytest.raises(ValueError, match=rule):
        convert_archive("orientation", folder)
    assert not entry.folder.exists()


def test_listing_and_patterns(osf, tmp_path, capsys):
    osf.components = {"trne8": files_of(table_archive(tmp_path / "made"))}
    assert data_command(["fetch", "orientation", "--list"]) == 0
    said = capsys.readouterr().out
    assert "betas/S1/EarlyV.csv" in said
    assert "http" not in said
    assert osf.downloads == []
    folder, table = bring_archive("orientation", patterns="*S2*")
    assert table["file"].tolist() == [
        f"betas/S2/{sector}.csv" for sector in sorted(SECTORS)
    ]
    assert sorted(path.name for path in folder.rglob("*.csv")) == sorted(
        f"{sector}.csv" for sector in SECTORS
    )


def test_unknown_names(capsys):
    assert data_command(["fetch", "orientations"]) == 2
    said = capsys.readouterr().err
    assert "published dataset must be among orientation, inanimate; got 'orie" in said
    assert "Did you mean orientation?" in said
    with pytest.raises(ValueError, match="got 'simulated-orientation'"):
        archive_folder("simulated-orientation")


def test_any_archive(tmp_path, capsys):
    archive = str(matlab_archive(tmp_path / "made"))
    mapping, out = tmp_path / "map.toml", tmp_path / "dataset"
    start = ["convert", archive, "--mapping", str(mapping)]
    assert data_command([*start, "--propose", "--out", str(out)]) == 2
    assert "--propose must come without --out" in capsys.readouterr().err
    assert data_command([*start, "--propose"]) == 0
    said = capsys.readouterr().out
    assert "sure: [" in said
    assert "set confirmed = true, then convert with --out" in said
    assert data_command(start) == 2
    assert "--out must name the dataset folder" in capsys.readouterr().err
    assert data_command([*start, "--out", str(out)]) == 2
    assert "must be confirmed" in capsys.readouterr().err
    assert not out.exists()
    confirm(mapping)
    assert data_command([*start, "--out", str(out)]) == 0
    found = versa.read_dataset(out)
    assert found.n_subjects == len(SUBJECTS)
    np.testing.assert_array_equal(
        found.responses["pOTC"][1],
        known_betas()["pOTC"][1][[NAMES.index(n) for n in found.stimuli.names]],
    )
