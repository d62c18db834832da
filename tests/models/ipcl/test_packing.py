"""Packed files: what went in comes out, whatever happened on the way."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import filelock
import numpy as np
import pytest
from PIL import Image

from tests.models.ipcl.test_sources import encoded, picture, write_tree
from versa.models.ipcl import packing as pack_module
from versa.models.ipcl.decoding import ImageProblem, decode
from versa.models.ipcl.packing import PackedImages, pack
from versa.models.ipcl.sources import ImageTree, JoinedImages, open_images


def names_beside(path):
    return sorted(file.name for file in path.parent.glob(f"{path.name}*"))


def test_what_went_in_comes_out(tmp_path):
    tree = write_tree(tmp_path / "tree")
    seen = []
    packed = pack(
        tree, tmp_path / "a.pack", short_side=30, progress=lambda *n: seen.append(n)
    )
    assert isinstance(packed, PackedImages)
    assert len(packed) == 12
    assert packed.classes == tree.classes
    assert packed.labels.tolist() == tree.labels.tolist()
    assert packed.counts == (12,)
    assert packed.name(3) == tree.files[3]
    assert seen[-1] == (12, 12)
    for k in range(12):
        pixels, _ = decode(tree.read(k), short_side=30)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        assert packed.read(k) == file.getvalue()
        assert packed.sizes[k].tolist() == list(pixels.shape[:2])
        assert decode(packed.read(k), short_side=30)[0].shape == pixels.shape
    assert names_beside(packed.path) == ["a.pack"]


def test_small_jpegs_are_kept_byte_by_byte(tmp_path):
    contents = {
        "0_fits.jpg": encoded(picture(0, 30, 40)),
        "1_grey.jpg": encoded(picture(1, 20, 20).convert("L"), quality=50),
        "2_progressive.jpg": encoded(picture(2, 30, 40), progressive=True),
        "3_large.jpg": encoded(picture(3, 33, 40)),
        "4_cmyk.jpg": encoded(picture(4, 30, 40).convert("CMYK")),
        "5.png": encoded(picture(5, 30, 40), "PNG"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    packed = pack(ImageTree(tmp_path), tmp_path / "a.pack", short_side=30)
    kept = [packed.read(k) == c for k, c in enumerate(contents.values())]
    assert kept == [True, True, False, False, False, False]
    assert packed.sizes.max() == 40
    for k in range(6):
        image = Image.open(BytesIO(packed.read(k)))
        assert "progressive" not in image.info
        assert image.mode in ("RGB", "L")


def test_damaged_images_are_left_out_and_named(tmp_path, caplog):
    tree = write_tree(tmp_path / "tree")
    (tmp_path / "tree" / tree.files[0]).write_bytes(b"")
    (tmp_path / "tree" / tree.files[7]).write_bytes(tree.read(7)[:200])
    other = write_tree(tmp_path / "other", 4, 1)
    joined = JoinedImages([ImageTree(tree.root), other], ["tree", "other"])
    packed = pack(joined, tmp_path / "a.pack")
    assert len(packed) == 14
    assert packed.counts == (10, 4)
    assert packed.info["n_skipped"] == 2
    assert packed.labels.tolist() == np.delete(joined.labels, [0, 7]).tolist()
    assert packed.name(0) == f"tree/{tree.files[1]}"
    assert packed.name(13) == f"other/{other.files[3]}"
    lines = (tmp_path / "a.pack.skipped.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in lines] == [tree.name(0), tree.name(7)]
    assert "2 of 16 images were left out" in caplog.text


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="at least one of 1 images must be usable"):
        pack(ImageTree(tmp_path), tmp_path / "a.pack")


def test_opened_and_joined(tmp_path):
    tree = write_tree(tmp_path / "tree")
    packed = pack(write_tree(tmp_path / "other", 4, 1), tmp_path / "faces.pack")
    assert isinstance(open_images([packed.path]), PackedImages)
    joined = open_images([packed.path, tree.root])
    assert joined.counts == (4, 12)
    assert joined.classes[0] == "faces/class0"
    assert joined.read(3) == packed.read(3)


def test_pickled_as_a_path(tmp_path):
    packed = pack(write_tree(tmp_path / "tree"), tmp_path / "a.pack")
    content = pickle.dumps(packed)
    assert len(content) < 500
    assert pickle.loads(content).read(5) == packed.read(5)


def test_a_digest_knows_images_and_options(tmp_path):
    tree = write_tree(tmp_path / "tree")
    digests = {
        pack(tree, tmp_path / "1.pack").digest,
        pack(tree, tmp_path / "2.pack", quality=80).digest,
        pack(tree, tmp_path / "3.pack", short_side=40).digest,
        pack(write_tree(tmp_path / "b", 5), tmp_path / "4.pack").digest,
    }
    assert len(digests) == 4
    assert pack(tree, tmp_path / "5.pack").digest in digests


def test_damaged_files_are_noticed(tmp_path):
    path = tmp_path / "a.pack"
    pack(write_tree(tmp_path / "tree"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    packed = PackedImages(path)
    with pytest.raises(ImageProblem, match="are damaged"):
        packed.read(0)
    packed.read(1)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"must have \d+ bytes.* Copy it again"):
        PackedImages(path)
    for content in (b"", b"text" * 50):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be a file that versa packed"):
            PackedImages(path)


# Interruptions


@pytest.mark.slow
def test_killed_and_called_again_gives_the_same_file(tmp_path):
    tree = write_tree(tmp_path / "tree", 300)
    expected = pack(tree, tmp_path / "whole.pack", short_side=20).path.read_bytes()
    path = tmp_path / "a.pack"
    code = (
        "import sys, time\n"
        "from versa.models.ipcl.sources import ImageTree\n"
        "from versa.models.ipcl.packing import pack\n"
        "def slow(done, n): print(done, flush=True); time.sleep(0.2)\n"
        "pack(ImageTree(sys.argv[1]), sys.argv[2], short_side=20, progress=slow)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tree.root), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    for line in process.stdout:
        if int(line) >= 96:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not path.exists()
    n_done = len(Path(f"{path}.journal").read_text().splitlines()) - 1
    assert 96 <= n_done < 300
    reads = []
    tree.read, read = lambda k: reads.append(k) or read(k), tree.read
    assert pack(tree, path, short_side=20).path.read_bytes() == expected
    assert sorted(reads) == list(range(n_done, 300))
    assert names_beside(path) == ["a.pack"]


class StopError(Exception):
    """Something that ends a program."""


def begin(tree, path, **options):
    def stop(n_done, n_images):
        raise StopError

    with pytest.raises(StopError):
        pack(tree, path, progress=stop, **options)


@pytest.mark.parametrize("damage", ["journal", "data", "zeros", "no journal"])
def test_what_a_power_failure_loses_is_made_again(tmp_path, damage):
    tree = write_tree(tmp_path / "tree", 70)
    expected = pack(tree, tmp_path / "whole.pack").path.read_bytes()
    path = tmp_path / "a.pack"
    begin(tree, path)
    journal, partial = Path(f"{path}.journal"), Path(f"{path}.partial")
    if damage == "journal":
        journal.write_bytes(journal.read_bytes()[:-7])
    elif damage == "data":
        os.truncate(partial, partial.stat().st_size - 3000)
    elif damage == "zeros":
        content = partial.read_bytes()
        partial.write_bytes(content[:-3000] + bytes(3000))
    else:
        journal.unlink()
    assert pack(tree, path).path.read_bytes() == expected


def test_a_journal_of_other_images_is_refused(tmp_path):
    tree = write_tree(tmp_path / "tree", 70)
    begin(tree, tmp_path / "a.pack")
    with pytest.raises(ValueError, match=r"must be of the same images and options"):
        pack(tree, tmp_path / "a.pack", quality=80)


def test_a_full_disk_says_so_and_what_is_done_stays(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "tree", 70)
    expected = pack(tree, tmp_path / "whole.pack").path.read_bytes()

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pack_module.os, "fsync", full)
        with pytest.raises(OSError, match=r"is full\. Free some space and pack again"):
            pack(tree, tmp_path / "a.pack")
    assert not (tmp_path / "a.pack").exists()
    assert pack(tree, tmp_path / "a.pack").path.read_bytes() == expected


def test_two_cannot_pack_into_one_file(tmp_path):
    tree = write_tree(tmp_path / "tree")
    with (
        filelock.FileLock(tmp_path / "a.pack.lock"),
        pytest.raises(ValueError, match="being packed by another process"),
    ):
        pack(tree, tmp_path / "a.pack")
    pack(tree, tmp_path / "a.pack")
    with pytest.raises(ValueError, match="must not exist before it is packed"):
        pack(tree, tmp_path / "a.pack")


@pytest.mark.parametrize(
    "options", [{"quality": 0}, {"quality": 99}, {"short_side": 1}]
)
def test_options_are_checked(tmp_path, options):
    with pytest.raises(ValueError, match="quality must be in 1 to 95 and short_side"):
        pack(write_tree(tmp_path / "tree"), tmp_path / "a.pack", **options)


def test_the_format_is_as_documented(tmp_path):
    path = tmp_path / "a.pack"
    tree = write_tree(tmp_path / "tree")
    pack(tree, path)
    content = path.read_bytes()
    assert content[:8] == b"VERSAPK1"
    place, length = np.frombuffer(content, "<u8", 2, 8)
    assert place + length == len(content)
    info = json.loads(content[place:])
    tables = {
        name: np.frombuffer(content, dtype, int(np.prod(shape)), at).reshape(shape)
        for name, (at, dtype, shape) in info["tables"].items()
    }
    assert all(at % 64 == 0 for at, _, _ in info["tables"].values())
    offsets, names = tables["offsets"], tables["names"].tobytes()
    assert offsets[0] == 64
    assert content[offsets[2] : offsets[3]] == tree.read(2)
    start, stop = tables["name_offsets"][2:4]
    assert names[start:stop].decode() == tree.files[2]
    assert tables["labels"].dtype == np.dtype("<i8")
    assert info["n_images"] == 12
    assert time.time() - path.stat().st_mtime < 600
