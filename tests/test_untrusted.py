"""Files that fill the memory, bring in other files, or end the process are refused."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from versa import untrusted
from versa.fmri.published.files import open_file
from versa.fmri.published.matlab import read_struct
from versa.untrusted import check_expansion, load_mat, open_hdf5

MOST = r"must unpack to at most \d+ bytes \(100 MB, and 100 times its size\)"


def test_a_file_unpacks_to_a_hundred_times_its_size(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(1000))
    check_expansion(path, 10**8 + 10**5)
    with pytest.raises(ValueError, match=MOST):
        check_expansion(path, 10**8 + 10**5 + 1)


@pytest.mark.parametrize("block", [0, 512])  # HDF5, and MATLAB 7.3
@pytest.mark.parametrize("kind", ["external storage", "external link", "virtual"])
def test_data_of_other_files_of_this_machine_are_refused(tmp_path, kind, block):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.arange(8)
    path = tmp_path / "betas.mat"
    with h5py.File(path, "w", userblock_size=block) as file:
        group = file.create_group("deep")
        if kind == "external storage":
            place = [(str(secret), 0, 200)]
            group.create_dataset("betas", (200,), dtype="u1", external=place)
        elif kind == "external link":
            group["betas"] = h5py.ExternalLink(str(secret), "x")
        else:
            layout = h5py.VirtualLayout((8,), dtype="i8")
            layout[:] = h5py.VirtualSource(str(secret), "x", (8,))
            group.create_virtual_dataset("betas", layout)
    text = r"betas\.mat must hold its own data; /?deep/betas is in another file"
    with pytest.raises(ValueError, match=text):
        read_struct(path)
    with pytest.raises(ValueError, match=text), open_hdf5(path):
        pass


def references(path, levels, *, loop=False):
    """Cells that refer to one another ten by ten."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("#refs#")
        last = group.create_dataset("d", data=np.ones((1, 1)))
        last.attrs["MATLAB_class"] = np.bytes_("double")
        first = None
        for level in range(levels):
            cell = group.create_dataset(f"c{level}", (10, 1), dtype=h5py.ref_dtype)
            cell[:, 0] = [last.ref] * 10
            cell.attrs["MATLAB_class"] = np.bytes_("cell")
            first, last = first or cell, cell
        if loop:
            first[3, 0] = last.ref
        file["betas"] = last


@pytest.mark.parametrize(("levels", "loop"), [(9, False), (3, True)])
def test_references_that_make_more_than_the_file_holds(tmp_path, levels, loop):
    references(tmp_path / "x.mat", levels, loop=loop)
    with pytest.raises(
        ValueError, match=r"at most 100000 parts|fails with: maximum rec"
    ):
        read_struct(tmp_path / "x.mat")
    references(tmp_path / "y.mat", 2)
    (row, *rows) = read_struct(tmp_path / "y.mat")["betas"]
    assert len(rows) == 9
    assert [cell.tolist() for cell in row] == [[[1.0]]] * 10


def test_an_array_that_is_not_stored_does_not_fill_the_memory(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (10**6, 10**6), dtype="f8", chunks=(9, 9))
    with pytest.raises(ValueError, match=MOST):
        read_struct(tmp_path / "x.h5")


def test_a_matlab_file_on_which_its_reader_crashes(tmp_path):
    path = tmp_path / "x.mat"
    content = {"x": np.arange(12.0).reshape(3, 4), "t": "text", "S": {"a": 1.0}}
    scipy.io.savemat(path, content | {"S": {"a": 1.0, "b": [1.0, 2.0]}})
    assert load_mat(path)["x"].tolist() == content["x"].tolist()
    damaged = bytearray(path.read_bytes())
    damaged[512] = damaged[516] = 0  # in the tag of a field's name
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="MATLAB file; its reader crashes"):
        load_mat(path)


def test_packed_numbers_of_a_small_file_do_not_fill_the_memory(tmp_path):
    zeros = np.zeros(15 * 10**6)
    scipy.io.savemat(tmp_path / "x.mat", {"x": zeros}, do_compression=True)
    np.savez_compressed(tmp_path / "x.npz", x=zeros)
    for name in ("x.mat", "x.npz"):
        assert (tmp_path / name).stat().st_size < 2 * 10**5
        with pytest.raises(ValueError, match=f"{name} {MOST}"):
            open_file(tmp_path / name)


@pytest.mark.parametrize("code", ["while True: pass", "import os; os.abort()"])
def test_a_reader_that_hangs_or_crashes_is_left(tmp_path, monkeypatch, code):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    monkeypatch.setattr(untrusted, "_PATIENCE", 1.0)
    monkeypatch.setattr(untrusted, "_HDF5", code)
    text = (
        "must be read in 1 seconds of" if "while" in code else "its reader crashes on"
    )
    with pytest.raises(ValueError, match=rf"x\.h5 .*{text}"), open_hdf5(path):
        pass
    with open_hdf5(path, checked=True) as file:
        assert file["x"][()].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_damages_of_every_kind_at_some_doors():
    """A small run of the script that tries 5,000 of them at all doors."""
    script = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
    doors = ["nifti gz", "hdf5", "result", "events", "card toml", "packed images"]
    chosen = [text for door in doors for text in ("--door", door)]
    command = [sys.executable, str(script), "--n", "60", "--seed", "7", *chosen]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "60 inputs" in run.stdout
