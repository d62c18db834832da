"""The store under damage, two processes, and a kill at any moment."""

import errno
import hashlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from versa.cache import (
    ArrayStore,
    atomic_write,
    cache_folder,
    content_key,
    made_folder,
    offline,
    seal,
    seal_holds,
    sweep_leftovers,
)

KEY = content_key(test="entry")


@pytest.fixture
def store(tmp_path):
    return ArrayStore(tmp_path / "store")


def test_round_trip(store):
    assert store.read(KEY) is None
    arrays = {"gram": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "ß"])}
    store.write(KEY, **arrays)
    back = store.read(KEY)
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    assert [path.name for path in store.path(KEY).parent.iterdir()] == [f"{KEY}.npz"]


def test_every_damaged_byte_is_noticed(store, caplog):
    store.write(KEY, gram=np.random.default_rng(0).normal(size=(4, 4)))
    path = store.path(KEY)
    whole = path.read_bytes()
    start = whole.index(b"gram.npy") + 8
    for place in range(start + 70, start + 250, 7):  # header and numbers of the array
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with caplog.at_level(logging.WARNING, "versa"):
            assert store.read(KEY) is None, place
        assert "is damaged" in caplog.text
        assert not path.exists()
        caplog.clear()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(4, 16)", b"(1, 16)"),  # one row would stand for all
        (b"(4, 16)", b"(0, 16)"),
        (b"{'descr'", b"z'descr'"),
        (b"16)", b"16("),  # on which Python's tokenizer stumbles
        (b"'<f8'", b"'<i8'"),
        (b"gram.npy", b"gran.npy"),
        (b"versa-sha256:", b"versa-sha255:"),
    ],
)
def test_a_changed_header_is_noticed(store, old, new):
    store.write(KEY, gram=np.ones((4, 16)))
    path = store.path(KEY)
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new))
    assert store.read(KEY) is None
    store.write(KEY, gram=np.ones((4, 16)))
    assert store.read(KEY)["gram"].shape == (4, 16)


def test_an_entry_of_an_older_version_is_computed_again(store, caplog):
    path = store.path(KEY)
    path.parent.mkdir(parents=True)
    np.savez(path, __key__=np.array(KEY), gram=np.ones(2))
    with caplog.at_level(logging.INFO, "versa"):
        assert store.read(KEY) is None
    assert [record.levelname for record in caplog.records] == ["INFO"]
    store.write(KEY, gram=np.ones(2))
    assert store.read(KEY) is not None


def test_a_seal_is_a_check_sum_of_what_precedes_it(tmp_path):
    path = tmp_path / "file"
    content = np.random.default_rng(0).bytes(2**20 + 5)  # more than is read at once
    for size in (0, 10, len(content)):
        path.write_bytes(content[:size])
        assert seal_holds(path) is None
        seal(path)
        digest = hashlib.sha256(content[:size]).hexdigest().encode()
        assert path.read_bytes() == content[:size] + b"\nversa-sha256:" + digest + b"\n"
        assert seal_holds(path)
        with open(path, "r+b") as file:
            file.seek(size // 2)
            file.write(b"#")
        assert not seal_holds(path)


@pytest.mark.parametrize("keep", [0, 10, 200, -100])
def test_cut_files(store, keep, caplog):
    store.write(KEY, gram=np.ones((4, 4)))
    path = store.path(KEY)
    path.write_bytes(path.read_bytes()[:keep])
    assert store.read(KEY) is None
    assert "is damaged" in caplog.text
    store.write(KEY, gram=np.ones((4, 4)))
    assert store.read(KEY) is not None


def test_unusable_folder_costs_time_not_results(tmp_path, caplog):
    (tmp_path / "file").touch()
    store = ArrayStore(tmp_path / "file" / "store")
    assert store.read(KEY) is None
    store.write(KEY, gram=np.ones(2))
    assert "cannot be written" in caplog.text
    assert "VERSA_CACHE" in caplog.text


def test_unreadable_entry_is_left_alone(store, caplog):
    store.path(KEY).mkdir(parents=True)  # opening it is an OSError for everybody
    assert store.read(KEY) is None
    assert "cannot be read" in caplog.text
    assert store.path(KEY).exists()


def test_entry_of_another_key(store, caplog):
    store.write(KEY, gram=np.ones(2))
    other = content_key(test="other")
    store.path(other).parent.mkdir(exist_ok=True)
    store.path(KEY).rename(store.path(other))
    assert store.read(other) is None
    assert "another key" in caplog.text


def test_no_pickle(store, caplog):
    store.path(KEY).parent.mkdir(parents=True)
    np.savez(store.path(KEY), __key__=np.array(KEY), bad=np.array([{}], dtype=object))
    assert store.read(KEY) is None
    with pytest.raises(ValueError, match="allow_pickle"):
        store.write(KEY, bad=np.array([{}], dtype=object))
    assert store.read(KEY) is None


def test_keys_follow_content():
    x = np.arange(4.0)
    keys = [
        content_key(x=x),
        content_key(x=x.reshape(2, 2)),
        content_key(x=x.astype(np.float32)),
        content_key(x=x + 1e-16 + 1),
        content_key(y=x),
        content_key(x=1),
        content_key(x=1.0),
        content_key(x="1"),
        content_key(x=True),
        content_key(x=b"1"),
        content_key(x=None),
        content_key(x=["a", "b"]),
        content_key(x=["ab"]),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key(x=x.reshape(2, 2).T) == content_key(
        x=np.ascontiguousarray(x.reshape(2, 2).T)
    )


def _hammer(folder):
    store = ArrayStore(Path(folder))
    for _ in range(60):
        store.write(KEY, x=np.full(2000, 3.0))
        entry = store.read(KEY)
        if entry is None or not (entry["x"] == 3.0).all():
            raise SystemExit(1)


@pytest.mark.slow
def test_two_processes(store):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_hammer, args=(str(store.folder),)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_while_writing(store):
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from versa.cache import ArrayStore;"
        "store = ArrayStore(Path(sys.argv[1])); print('go', flush=True)\n"
        "while True: store.write(sys.argv[2], x=np.full(300_000, 3.0))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for delay in (0.0, 0.003, 0.011, 0.017, 0.029):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(store.folder), KEY],
            stdout=subprocess.PIPE,
            env=environment,
        )
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        entry = store.read(KEY)
        assert entry is None or (entry["x"] == 3.0).all()


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail_in_the_middle():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_made_by_another_first(tmp_path):
    path = tmp_path / "dataset"
    with atomic_write(path) as temporary:
        temporary.mkdir()
        (temporary / "ours").touch()
        path.mkdir()
        (path / "theirs").touch()
    assert [p.name for p in path.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [path]


def test_old_leftovers_are_swept(tmp_path):
    old, new = tmp_path / "ab/.a.1.versa-tmp", tmp_path / "ab/.a.2.versa-tmp"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "part").touch()
    os.utime(old / "part", (0, 0))
    os.utime(old, (0, 0))
    os.utime(new, (0, 0))  # the file in it grows
    sweep_leftovers(tmp_path)
    assert list((tmp_path / "ab").iterdir()) == [new]


def test_the_first_write_into_a_folder_sweeps_it(tmp_path):
    old = tmp_path / ".table.csv.x.versa-tmp"
    below = tmp_path / "other" / old.name
    for folder in (old, below):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    with atomic_write(tmp_path / "figure.svg") as temporary:
        temporary.touch()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "figure.svg", below.parent]
    assert below.exists()


def test_age_is_told_by_the_clock_of_the_file_system(tmp_path, monkeypatch):
    fresh = tmp_path / ".table.csv.x.versa-tmp"
    fresh.mkdir()
    # this machine is three days ahead
    ahead = time.time() + 3 * 86400
    monkeypatch.setattr(time, "time", lambda: ahead)
    sweep_leftovers(tmp_path)
    assert fresh.exists()


def test_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    assert not (tmp_path / "here").exists()
    monkeypatch.delenv("VERSA_CACHE")
    assert cache_folder().name == "versa"
    for value, expected in {"1": True, "yes": True, "0": False, "": False}.items():
        monkeypatch.setenv("VERSA_OFFLINE", value)
        assert offline() is expected


@pytest.mark.parametrize("name", ["file/x", "x" * 300, "a\0b"])
def test_a_place_that_cannot_be_written_is_named_in_a_sentence(tmp_path, name):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="must be a place that can be written; the system"),
        atomic_write(tmp_path / name),
    ):
        pass
    with pytest.raises(OSError, match="must be a place that can be written"):
        made_folder(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_disk_keeps_its_number_and_names_the_file(tmp_path):
    def write():
        with atomic_write(tmp_path / "x.csv"), open("/dev/full", "w") as full:
            full.write("x")
            full.flush()

    with pytest.raises(OSError, match=r"x\.csv must be a place that can be") as refused:
        write()
    assert refused.value.errno == errno.ENOSPC


def test_an_error_of_another_file_is_left_as_it_is(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"No such file or directory: .*input"),
        atomic_write(tmp_path / "x.csv"),
    ):
        (tmp_path / "input").read_text()
