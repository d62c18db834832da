"""Packages of an archive: unpacked whole, nowhere else, and nothing of others lost."""

import errno
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import numpy as np
import pytest

from versa.fmri.published.unpacking import is_packed, unpack


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def zipped(files, method=zipfile.ZIP_STORED):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as packed:
        for path, content in files.items():
            packed.writestr(path, content)
    return memory.getvalue()


def tarred(files, mode="w:gz"):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode) as packed:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return memory.getvalue()


def damaged_zip(method):
    """A package whose second member is damaged within, though its end is whole."""
    files = {"a.txt": b"abc" * 99, "b.txt": np.random.default_rng(0).bytes(5000)}
    content = bytearray(zipped(files, method))
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        start = packed.getinfo("b.txt").header_offset
    content[start + 45 : start + 145] = b"\xff" * 100
    return bytes(content)


FILES = {"data/a.txt": b"a", "b.bin": bytes(range(256))}
DAMAGED = {
    "cut.zip": lambda: zipped({"a.txt": b"abc" * 999})[:-30],
    "deflated.zip": lambda: damaged_zip(zipfile.ZIP_DEFLATED),
    "lzma.zip": lambda: damaged_zip(zipfile.ZIP_LZMA),
    "bzip2.zip": lambda: damaged_zip(zipfile.ZIP_BZIP2),
    "cut.tar.gz": lambda: gzip.compress(bytes(range(256)) * 9)[:-20],
    "damaged.tgz": lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 600,
}


def test_packages_are_known_by_their_suffix(tmp_path):
    names = ["all.ZIP", "all.tar", "all.tar.gz", "all.tgz", "betas.mat", "S1.nii.gz"]
    assert [is_packed(tmp_path / name) for name in names] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_package_is_unpacked_beside_itself_once(tmp_path, pack):
    path = tmp_path / "all.zip"  # told by its content, whatever it is called
    path.write_bytes(pack(FILES))
    folder = unpack(path)
    assert folder == tmp_path / "all.zip.unpacked"
    assert files_of(folder) == FILES
    (folder / "b.bin").write_bytes(b"kept")
    assert files_of(unpack(path))["b.bin"] == b"kept"


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_package_is_told(tmp_path, caplog, name):
    path = tmp_path / name
    path.write_bytes(DAMAGED[name]())
    target = unpack(path)
    assert f"unpack it by hand into {target}" in caplog.text
    assert not target.exists()
    target.mkdir()
    (target / "a.txt").write_bytes(b"by hand")
    os.utime(target, (0, 0))  # as some programs date it
    caplog.clear()
    for _ in range(2):
        assert files_of(unpack(path)) == {"a.txt": b"by hand"}
    assert not [r for r in caplog.records if r.levelno > 20]


def test_a_full_disk_is_not_a_damaged_package(tmp_path, monkeypatch):
    (tmp_path / "z.zip").write_bytes(zipped(FILES))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "z.zip")
    assert not (tmp_path / "z.zip.unpacked").exists()


def test_packages_that_lead_out_write_nothing_there(tmp_path, caplog):
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    (folder / "all.tar").write_bytes(tarred({"../../evil.txt": b""}, "w"))
    unpack(folder / "all.tar")
    assert "all.tar cannot be unpacked" in caplog.text
    assert not list(tmp_path.rglob("evil.txt"))
    (folder / "all.zip").write_bytes(zipped({"../../evil.txt": b"x"}))
    assert list(tmp_path.rglob("evil.txt")) == []
    inside = unpack(folder / "all.zip")
    assert list(tmp_path.rglob("evil.txt")) == [inside / "evil.txt"]


@pytest.mark.parametrize("change", ["added", "changed", "none", "by hand"])
def test_an_update_loses_no_files_of_others(tmp_path, caplog, change):
    first, second = zipped({"a.txt": b"a"}), zipped({"b.txt": b"b"})
    path, target = tmp_path / "x.zip", tmp_path / "x.zip.unpacked"
    path.write_bytes(first)
    if change == "by hand":
        target.mkdir()
        (target / "a.txt").write_bytes(b"a")
    unpack(path)
    if change == "added":
        (target / "notes.txt").write_bytes(b"mine")
    if change == "changed":
        (target / "a.txt").write_bytes(b"mine")
    before = files_of(target)
    path.write_bytes(second)
    caplog.clear()
    assert files_of(unpack(path)) == {"b.txt": b"b"}
    aside = list(tmp_path.glob("x.zip.unpacked.old-20??-??-??"))
    if change == "none":
        assert aside == []
        assert not [r for r in caplog.records if r.levelno > 20]
    else:
        assert files_of(aside[0]) == before
        assert f"it is moved to {aside[0].name}" in caplog.text
    (target / "notes.txt").write_bytes(b"again")
    path.write_bytes(first)
    unpack(path)
    assert len(list(tmp_path.glob("*.old-*"))) == len(aside) + 1


def test_a_damaged_update_does_not_pass_for_the_earlier_one(tmp_path, caplog):
    path = tmp_path / "x.zip"
    path.write_bytes(zipped({"a.txt": b"a"}))
    assert unpack(path).is_dir()
    path.write_bytes(damaged_zip(zipfile.ZIP_DEFLATED))
    assert not unpack(path).exists()
    assert "x.zip cannot be unpacked" in caplog.text


def refused(path, caplog):
    """What is said of a package of which nothing is unpacked."""
    caplog.clear()
    assert not unpack(path).exists()
    (said,) = (record.getMessage() for record in caplog.records if record.levelno > 20)
    return said


def test_a_wrong_bit_and_a_missing_end_are_told(tmp_path, caplog):
    packed = bytearray(gzip.compress(tarred({"a.txt": b"1.5"}, "w"), compresslevel=0))
    packed[packed.find(b"1.5")] ^= 1
    (tmp_path / "bit.tar.gz").write_bytes(packed)
    assert "CRC check failed" in refused(tmp_path / "bit.tar.gz", caplog)
    whole = tarred({"a.txt": b"a", "b.txt": b"b"}, "w")
    (tmp_path / "cut.tar").write_bytes(whole[:1024])  # between two members
    assert "it is cut short" in refused(tmp_path / "cut.tar", caplog)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_not_unpacked(tmp_path, caplog, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "inside"
        packed.addfile(member)
    said = refused(tmp_path / "x.tar", caplog)
    assert "must hold files and folders only; 'link' is a link or a device" in said


@pytest.mark.parametrize("pack", ["tar.gz", "zip"])
def test_a_package_that_fills_the_disk_is_refused(tmp_path, caplog, pack):
    files = {"zeros.bin": bytes(13 * 10**7)}
    zipping = pack == "zip"
    content = zipped(files, zipfile.ZIP_DEFLATED) if zipping else tarred(files)
    (tmp_path / f"x.{pack}").write_bytes(content)
    said = refused(tmp_path / f"x.{pack}", caplog)
    assert "must unpack to at most" in said


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_header_of_a_package_does_not_fill_the_memory(tmp_path, caplog, pack):
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 13 * 10**7
    (tmp_path / "x.tar").write_bytes(pack(member.tobuf() + bytes(member.size)))
    assert "must unpack to at most" in refused(tmp_path / "x.tar", caplog)
