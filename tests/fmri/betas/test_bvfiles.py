"""Opening BrainVoyager's files: what is refused, and with which words."""

import gzip
import sys

import pytest

from versa.fmri.betas.bvfiles import read_file, unpacked


def test_files_of_other_kinds_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"must be of kind vtc, msk, .* got map.vmp"):
        read_file(tmp_path / "map.vmp", ("vtc", "msk"))
    with pytest.raises(ValueError, match=r"run.vtc.gz must exist; it is missing"):
        read_file(tmp_path / "run.vtc.gz", ("vtc",))


def test_bvbabel_is_optional(tmp_path, monkeypatch):
    path = tmp_path / "run.vtc"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "bvbabel", None)
    monkeypatch.delitem(sys.modules, "bvbabel.vtc", raising=False)
    with pytest.raises(ImportError, match=r'pip install "versa\[brainvoyager\]"'):
        read_file(path, ("vtc",))


@pytest.mark.parametrize("content", [b"", b"\3", b"\1" * 999, bytes(999), b"NIfTI"])
@pytest.mark.parametrize("kind", ["vtc", "vmp", "vmr", "voi", "prt", "sdm"])
def test_other_bytes_are_refused(tmp_path, kind, content):
    pytest.importorskip("bvbabel")
    path = tmp_path / f"file.{kind}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"must be a whole {kind.upper()} file; read"):
        read_file(path, (kind,))


def test_damaged_packing_is_refused(tmp_path):
    pytest.importorskip("bvbabel")
    packed = gzip.compress(bytes(range(256)) * 9)
    path = tmp_path / "file.VTC.gz"
    for content in (packed[:50], b"no gzip", packed[:20] + b"\0" + packed[21:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be a whole VTC file"):
            read_file(path, ("vtc",))


def test_a_packed_file_is_plain_for_a_while(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    with unpacked(path) as plain:
        assert plain == path
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"text"))
    with unpacked(packed) as plain:
        assert (plain.name, plain.read_text()) == ("a.txt", "text")
    assert not plain.exists()
