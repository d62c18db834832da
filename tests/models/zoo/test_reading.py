"""Checkpoints of every container, and what they may not hold."""

import argparse
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch

from tests.serving import old_numpy
from versa.models.zoo import reading
from versa.models.zoo.reading import open_checkpoint


@pytest.mark.parametrize("zipped", [True, False])
def test_both_containers_of_pytorch_open(tmp_path, zipped):
    state = {"state_dict": {"w": torch.arange(3.0)}, "epoch": 3}
    torch.save(state, tmp_path / "net", _use_new_zipfile_serialization=zipped)
    found = open_checkpoint(tmp_path / "net", source="toy")
    assert torch.equal(found["state_dict"]["w"], torch.arange(3.0))


@pytest.mark.parametrize("name", ["net.safetensors", "net.bin", "net"])
def test_safetensors_open(tmp_path, name):
    from safetensors.torch import save_file

    save_file({"w": torch.arange(3.0)}, tmp_path / name)
    found = open_checkpoint(tmp_path / name, source="toy")
    assert torch.equal(found["w"], torch.arange(3.0))


def saved(value, path, *, old):
    """Save as torch 1 and NumPy 1 did, or as they do today."""
    buffer = io.BytesIO()
    state = {"w": torch.arange(3.0), "log": value}
    torch.save(state, buffer, _use_new_zipfile_serialization=not old)
    content = buffer.getvalue()
    if old:  # the name is a line of its own, so its length is free
        assert content.count(b"cnumpy._core.multiarray\n") == 1
        content = old_numpy(content)
        assert not content.startswith(b"PK")
    path.write_bytes(content)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize(
    ("name", "maker", "other"),
    [("numpy_array", "_reconstruct", "numpy_scalar"),
     ("numpy_scalar", "scalar", "numpy_array")],
)  # fmt: skip
def test_numpy_opens_where_it_is_allowed(tmp_path, name, maker, other, dtype, old):
    array = np.array([1, 2], dtype)
    value = array if name == "numpy_array" else array[1]
    saved(value, tmp_path / "net.tar", old=old)
    known = torch.serialization.get_safe_globals()
    found = open_checkpoint(tmp_path / "net.tar", source="toy", allow=(name,))
    assert np.array_equal(found["log"], value)
    assert found["log"].dtype == dtype
    assert torch.equal(found["w"], torch.arange(3.0))
    core = "core" if old else "_core"
    for allow in ((), ("namespace",), (other,)):
        with pytest.raises(ValueError, match=f"numpy.{core}.multiarray.{maker}, and"):
            open_checkpoint(tmp_path / "net.tar", source="toy", allow=allow)
    assert set(torch.serialization.get_safe_globals()) == set(known)


def test_other_types_of_numpy_are_refused(tmp_path):
    saved(np.array([object()], dtype=object), tmp_path / "a", old=False)
    saved(np.array(["2026-01-01"], "M8[D]"), tmp_path / "b", old=False)
    for name in "ab":
        with pytest.raises(ValueError, match=r"it holds .*, and to build that may run"):
            open_checkpoint(tmp_path / name, source="toy", allow=("numpy_array",))


def test_namespace_opens_where_it_is_allowed(tmp_path):
    torch.save({"args": argparse.Namespace(lr=0.3)}, tmp_path / "net")
    found = open_checkpoint(tmp_path / "net", source="toy", allow=("namespace",))
    assert found["args"].lr == 0.3
    with pytest.raises(ValueError, match=r"it holds argparse\.Namespace, and"):
        open_checkpoint(tmp_path / "net", source="toy", allow=("numpy_array",))


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"allow must be among namespace, .* Did you"):
        open_checkpoint(tmp_path / "net", source="toy", allow=("numpy_arrays",))


def test_globals_of_the_process_stay(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "net")
    mine = (argparse.Namespace, "argparse.Namespace")
    with torch.serialization.safe_globals([mine]):
        open_checkpoint(tmp_path / "net", source="toy", allow=("namespace",))
        assert mine in torch.serialization.get_safe_globals()


class Evil:
    def __reduce__(self):
        return (print, ("code was run",))


class Shell:
    def __reduce__(self):
        return (os.system, ("echo code was run",))


@pytest.mark.parametrize(("made", "name"), [(Evil, "print"), (Shell, r"\w+\.system")])
@pytest.mark.parametrize("allow", [(), reading.GLOBAL_SETS])
def test_code_in_a_file_is_not_run(tmp_path, capfd, made, name, allow):
    torch.save({"state_dict": made()}, tmp_path / "net")
    with pytest.raises(ValueError, match="checkpoint of toy cannot be read") as caught:
        open_checkpoint(tmp_path / "net", source="checkpoint of toy", allow=allow)
    assert caught.match(
        f"it holds (builtins[.])?{name}, and to build that may run code of the file"
    )
    assert caught.match("safetensors.torch.save_file and use that file, or load it")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty. Get it again"),
        (b"garbage" * 9, "it is cut off or damaged, or no file of weights"),
        (pickle.dumps([1], protocol=2)[:-2], "it is cut off or damaged, or no file"),
        (b"<html><title>Oh</title>", "it is a web page, titled 'Oh'. Get the file"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^toy cannot be read from .*: {why}.*\.$"):
        open_checkpoint(tmp_path / name, source="toy")


def test_whole_files_of_other_formats_are_named(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    np.savez(tmp_path / "arrays.npz", w=np.zeros(2))
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name, why in (
        ("script.pt", r"a TorchScript archive, .*torch\.jit\.load.*and use that file"),
        ("arrays.npz", r"a zip archive of w\.npy, not a file of torch\.save"),
        ("model.h5", r"HDF5, not a file of torch\.save or safetensors"),
    ):
        with pytest.raises(ValueError, match=rf"it is {why}.*\.$") as caught:
            open_checkpoint(tmp_path / name, source=f"weights {tmp_path / name}")
        assert str(caught.value).count(name) == 1
        assert "weights_only" not in str(caught.value)


def test_every_cut_of_a_file_is_told_with_its_name(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({f"{k}.weight": torch.arange(400.0) for k in range(6)}, path)
    sound = path.read_bytes()
    for end in range(200, len(sound), 331):  # some cuts end in an OSError of torch
        path.write_bytes(sound[:end])
        with pytest.raises(ValueError, match=r"w\.pth cannot be read: it is cut off"):
            open_checkpoint(path, source=f"weights {path}")


def test_a_tar_of_early_torch_is_named(tmp_path):
    with tarfile.open(tmp_path / "net.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(
        ValueError, match=r"it is a tar archive of an early torch. Use a"
    ):
        open_checkpoint(tmp_path / "net.pth", source="toy")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_files_cut_or_changed_anywhere_are_one_sentence(tmp_path, zipped):
    buffer = io.BytesIO()
    state = {"w": torch.zeros(100), "log": [1, 2.5, "a"]}
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    content = buffer.getvalue()
    rng = np.random.default_rng(0)
    damaged = [content[:end] for end in range(0, len(content), 97)]
    for _ in range(150):
        changed = bytearray(content)
        changed[rng.integers(len(content) - 400)] = rng.integers(256)
        damaged.append(bytes(changed))
    refused = 0
    for number, bad in enumerate(damaged):
        (tmp_path / "net.pth").write_bytes(bad)
        try:
            open_checkpoint(tmp_path / "net.pth", source="toy")
        except ValueError as error:
            assert str(error).startswith("toy cannot be read from")  # noqa: PT017
            assert str(error).endswith(".")  # noqa: PT017
            refused += 1
        else:
            assert number >= len(damaged) - 150, "a file that was cut opened"
    assert refused > len(damaged) - 150


def test_pickles_open_without_a_warning(tmp_path, recwarn):
    saved(np.zeros(2), tmp_path / "net", old=True)
    open_checkpoint(tmp_path / "net", source="toy", allow=("numpy_array",))
    assert [str(warning.message) for warning in recwarn] == []
