"""The paper's data: from a server that speaks OSF's API to versa.load_dataset."""

import errno
import gzip
import hashlib
import io
import os
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
from versa.fmri.dataset import registry as datasets
from versa.fmri.published.konkle2022 import (
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
    osf.asked.clear()
    assert data_command(["fetch", "orientation", "--quiet"]) == 0
    assert osf.asked == []  # what is there is only checked


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


def damaged_zip(method):
    """A package whose second member is damaged within, though its end is whole."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as packed:
        packed.writestr("a.txt", b"abc" * 99)
        packed.writestr("b.txt", np.random.default_rng(0).bytes(5000))
        start = packed.getinfo("b.txt").header_offset
    content = bytearray(memory.getvalue())
    content[start + 45 : start + 145] = b"\xff" * 100
    return bytes(content)


PACKAGES = {
    "cut.zip": lambda: zipped({"a.txt": b"abc" * 999})[:-30],
    "deflated.zip": lambda: damaged_zip(zipfile.ZIP_DEFLATED),
    "lzma.zip": lambda: damaged_zip(zipfile.ZIP_LZMA),
    "bzip2.zip": lambda: damaged_zip(zipfile.ZIP_BZIP2),
    "cut.tar.gz": lambda: gzip.compress(bytes(range(256)) * 9)[:-20],
    "damaged.tgz": lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 600,
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_damaged_package_is_told_and_the_rest_goes_on(osf, tmp_path, caplog, name):
    osf.components = {"trne8": {name: PACKAGES[name](), "z.zip": zipped({"z": b"z"})}}
    folder, table = bring_archive("orientation")
    assert len(table) == 2
    target = folder / f"{name}.unpacked"
    assert f"unpack it by hand into {target}" in caplog.text
    assert not target.exists()
    assert files_of(folder / "z.zip.unpacked") == {"z": b"z"}
    target.mkdir()
    (target / "a.txt").write_bytes(b"by hand")
    os.utime(target, (0, 0))  # as some programs date it
    caplog.clear()
    for _ in range(2):
        bring_archive("orientation")
        assert files_of(target) == {"a.txt": b"by hand"}
    assert caplog.text == ""


def test_a_full_disk_is_not_a_damaged_package(osf, tmp_path, monkeypatch):
    osf.components = {"trne8": {"z.zip": zipped({"z": b"z"})}}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(OSError, match="No space left"):
        bring_archive("orientation")


def test_packages_that_lead_out_write_nothing_there(osf, tmp_path, caplog):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("../../evil.txt"))
    osf.components = {"trne9": {"all.tar": memory.getvalue()}}
    bring_archive("orientation", "trne9")
    assert "all.tar cannot be unpacked" in caplog.text
    assert not list(tmp_path.rglob("evil.txt"))
    osf.components = {"trn10": {"all.zip": zipped({"../../evil.txt": b"x"})}}
    folder, _ = bring_archive("orientation", "trn10")
    assert [p.relative_to(folder / "all.zip.unpacked").as_posix()
            for p in tmp_path.rglob("evil.txt")] == ["evil.txt"]  # fmt: skip


@pytest.mark.parametrize("change", ["added", "changed", "none", "by hand"])
def test_an_update_loses_no_files_of_others(osf, tmp_path, caplog, change):
    first, second = zipped({"a.txt": b"a"}), zipped({"b.txt": b"b"})
    osf.components = {"trne8": {"x.zip": [first]}}
    target = archive_folder("orientation") / "x.zip.unpacked"
    if change == "by hand":
        target.mkdir(parents=True)
        (target / "a.txt").write_bytes(b"a")
    bring_archive("orientation")
    if change == "added":
        (target / "notes.txt").write_bytes(b"mine")
    if change == "changed":
        (target / "a.txt").write_bytes(b"mine")
    before = files_of(target)
    osf.components["trne8"]["x.zip"].append(second)
    caplog.clear()
    bring_archive("orientation", update=True)
    assert files_of(target) == {"b.txt": b"b"}
    aside = list(target.parent.glob("x.zip.unpacked.old-20??-??-??"))
    if change == "none":
        assert aside == []
        assert caplog.text == ""
    else:
        assert files_of(aside[0]) == before
        assert f"it is moved to {aside[0].name}" in caplog.text
    (target / "notes.txt").write_bytes(b"again")
    osf.components["trne8"]["x.zip"].append(first)
    bring_archive("orientation", update=True)
    assert len(list(target.parent.glob("*.old-*"))) == len(aside) + 1


def test_a_damaged_update_does_not_pass_for_the_earlier_one(osf, caplog):
    osf.components = {"trne8": {"x.zip": [zipped({"a.txt": b"a"})]}}
    folder, _ = bring_archive("orientation")
    osf.components["trne8"]["x.zip"].append(damaged_zip(zipfile.ZIP_DEFLATED))
    bring_archive("orientation", update=True)
    assert "x.zip cannot be unpacked" in caplog.text
    assert not (folder / "x.zip.unpacked").exists()


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
    folder, table = bring_archive("orientation", patterns="*S2*")
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


def test_names_with_blanks_and_umlauts(osf, tmp_path):
    made = array_archive(tmp_path / "made")
    files = {
        f"Beta Maps/Süd & 50% #1/{path}": content
        for path, content in files_of(made).items()
    }
    osf.components = {"trne8": files}
    assert data_command(["fetch", "orientation", "--quiet"]) == 2
    place = cache_folder() / "osf" / "trne8-orientation.toml"
    archive = archive_folder("orientation")
    assert {k: v for k, v in files_of(archive).items() if k in files} == files
    confirm(place)
    assert data_command(["fetch", "orientation", "--quiet"]) == 0
    found = versa.load_dataset("orientation")
    order = [NAMES.index(name) for name in found.stimuli.names]
    for sector, per_subject in known_betas().items():
        for values, known in zip(found.responses[sector], per_subject, strict=True):
            np.testing.assert_array_equal(values, known[order])


@pytest.mark.parametrize("project", ["TRNE8", "https://osf.io/trne8/", "osf.io/trne8"])
def test_a_project_has_one_folder_however_it_is_written(osf, tmp_path, project):
    assert archive_folder("orientation", project) == cache_folder() / "osf" / "trne8"
    with pytest.raises(ValueError, match="project must be the five letters"):
        archive_folder("orientation", "../x")


@pytest.mark.parametrize("options", [[], ["--update"], ["--mapping", "map.toml"]])
def test_a_dataset_that_is_there_needs_no_network(osf, tmp_path, capsys, options):
    osf.components = {"trne8": files_of(table_archive(tmp_path / "made"))}
    data_command(["fetch", "orientation", "--quiet"])
    confirm(cache_folder() / "osf" / "trne8-orientation.toml")
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


def test_an_incomplete_proposal_is_no_dead_end(osf, tmp_path, capsys):
    files = files_of(array_archive(tmp_path / "made"))
    names = files.pop("conditions.txt")
    files["x.zip"] = damaged_zip(zipfile.ZIP_DEFLATED)
    files["flirt.mat"] = (b"1 0 0 0\n" * 9)[:52]
    osf.components = {"trne8": files}
    place = cache_folder() / "osf" / "trne8-orientation.toml"
    assert data_command(["fetch", "orientation", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert f"one is proposed in {place} (not complete: [conditions] must have" in said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert data_command(["fetch", "orientation", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert f"Correct {place}; remove it to have one proposed anew." in said
    place.unlink()
    files["conditions.txt"] = names
    assert data_command(["fetch", "orientation", "--quiet", "--update"]) == 2
    assert "(not complete" not in capsys.readouterr().err
    confirm(place)
    assert data_command(["fetch", "orientation", "--quiet"]) == 0


def test_a_confirmed_file_with_a_mistake_is_not_to_be_removed(osf, tmp_path):
    archive = array_archive(tmp_path / "made")
    mapping = tmp_path / "map.toml"
    mapping.write_text("confirmed = true\n[dataset]\nnam = 'x'\n")
    with pytest.raises(ValueError, match="Did you mean name") as caught:
        convert_archive("orientation", archive, mapping)
    assert "remove it" not in str(caught.value)


def test_sizes_for_a_proposal(tmp_path, capsys):
    archive = array_archive(tmp_path / "made")
    (archive / "stimuli" / "other.png").write_bytes(b"")
    mapping = tmp_path / "map.toml"
    start = ["convert", str(archive), "--mapping", str(mapping)]
    sizes = ["--n-images", "6", "--n-subjects", "3"]
    assert data_command([*start, *sizes, "--out", "x"]) == 2
    assert "--n-images must come with --propose" in capsys.readouterr().err
    assert data_command([*start, "--propose", "--n-subjects", "0"]) == 2
    assert "--n-subjects must be at least 1; got 0" in capsys.readouterr().err
    assert data_command([*start, "--propose"]) == 0
    said = capsys.readouterr().out
    assert f"{mapping}: not complete: [conditions] must have exactly" in said
    assert "set confirmed" not in said
    mapping.unlink()
    (archive / "stimuli" / "other.png").unlink()
    assert data_command([*start, "--propose", "--n-subjects", "7"]) == 0
    assert "there should be 7 subjects; 3 fit" in capsys.readouterr().out
    mapping.unlink()
    assert data_command([*start, "--propose", *sizes]) == 0
    assert "set confirmed = true, then" in capsys.readouterr().out
