"""Weight files, opened without running any code that they hold."""

import argparse
import pickle
import re
import struct
import tarfile
import types
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

from versa.download import page_in
from versa.records import parse_json
from versa.untrusted import check_expansion
from versa.wording import listing, shown, unknown

_PAGE_START = 2**16  # bytes that are searched for a title
GLOBAL_SETS = ("namespace", "numpy_array", "numpy_scalar", "path")
# how ``torch.load`` ends on a damaged file
DAMAGED = (
    *(pickle.UnpicklingError, struct.error, EOFError, RuntimeError, ValueError),
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError),
)
# What torch says of a global that its weights-only unpickler refuses
_REFUSED_GLOBAL = re.compile(
    r"GLOBAL (\S+)|unrecognized function (.+)|`add_safe_globals`,? but got (.+)"
)


def open_checkpoint(path: Path, *, source: str, allow: tuple[str, ...] = ()) -> Any:
    """Content of a ``torch.save`` or safetensors file, without running its code.

    Tensors are on the CPU. `source` names the checkpoint in the errors. `allow` says
    what it may hold beside plain containers and tensors: "numpy_array", "numpy_scalar"
    (of numbers and texts; old and new names), "namespace" (``argparse.Namespace`` and
    ``types.SimpleNamespace``), "path" (of ``pathlib``, as pure ones).
    What this process added to torch's safe globals is allowed, too.
    """
    for name in allow:
        if name not in GLOBAL_SETS:
            raise ValueError(unknown("allow", name, GLOBAL_SETS))
    if path.suffix == ".safetensors" or begins_as_safetensors(path):
        from safetensors.torch import load_file

        try:
            return load_file(path, device="cpu")
        except Exception as error:
            _refuse_checkpoint(path, source, error)
    import torch

    if zipfile.is_zipfile(path):
        _check_archive(path, source)
    known = torch.serialization.get_safe_globals()  # they stay when ours are removed
    ours: list[Any] = [g for name in allow for g in _globals(name) if g not in known]
    try:
        with torch.serialization.safe_globals(ours):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # torch does not say how it ends on a damaged file
        _refuse_checkpoint(path, source, error)


def _check_archive(path: Path, source: str) -> None:
    """Refuse a zip file that would fill the memory; torch itself packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(item.file_size for item in archive.infolist())
    except Exception as error:
        _refuse_checkpoint(path, source, error)
    check_expansion(path, n_bytes)


def training_record(path: Path) -> dict[str, Any]:
    """What versa's own training wrote into a safetensors file about its network.

    A table with ``builder``, ``options`` and ``preprocess``; empty for other files.
    """
    if not path.is_file() or not begins_as_safetensors(path):
        return {}
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("versa", "{}")
    except safetensors.SafetensorError:  # the reader of its weights will say so
        return {}
    try:
        record = parse_json(text)
    except ValueError as error:
        raise ValueError(
            f"metadata 'versa' of {path} must be JSON; {error}. Export the network "
            "again."
        ) from error
    kinds = {"builder": str, "options": dict, "preprocess": dict}
    if not isinstance(record, dict) or any(
        name in record and not isinstance(record[name], kind)
        for name, kind in kinds.items()
    ):
        raise ValueError(
            f"metadata 'versa' of {path} must be a table with a text builder and the "
            f"tables options and preprocess; got {shown(text)}. Export the network "
            "again."
        )
    return record


def begins_as_safetensors(path: Path) -> bool:
    """Whether a file of any ending is safetensors: a length, then JSON."""
    with open(path, "rb") as file:
        start = file.read(9)
    # immense for a pickle or a zip, by their first bytes
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and length <= path.stat().st_size - 8


def _globals(name: str) -> list[tuple[Any, str]]:
    """What one set of `open_checkpoint` allows, each under the name in the pickle."""
    import numpy as np
    from numpy._core import multiarray

    if name == "namespace":
        spaces = (argparse.Namespace, types.SimpleNamespace)
        return [(kind, f"{kind.__module__}.{kind.__name__}") for kind in spaces]
    if name == "path":  # pure ones touch no disk, and are the same on every system
        kinds = {"Posix": PurePosixPath, "Windows": PureWindowsPath}
        return [
            (kind, f"{home}.{pure}{system}Path")
            for system, kind in kinds.items()
            for home in ("pathlib", "pathlib._local")
            for pure in ("", "Pure")
        ]
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDU"]
    items: list[tuple[Any, str]] = [(np.dtype, "numpy.dtype")]
    items += [(dtype, f"numpy.dtypes.{dtype.__name__}") for dtype in set(dtypes)]
    maker = {"numpy_array": "_reconstruct", "numpy_scalar": "scalar"}[name]
    # NumPy 2 renamed numpy.core, and a pickle keeps the name of its time
    items += [
        (getattr(multiarray, maker), f"numpy.{core}.multiarray.{maker}")
        for core in ("core", "_core")
    ]
    return [*items, (np.ndarray, "numpy.ndarray")] if name == "numpy_array" else items


def _other_format(path: Path, start: bytes) -> str:
    """What a whole file of another format is, and what to do; empty for others."""
    beginnings = {
        b"\x89HDF": "HDF5",
        b"GGUF": "GGUF",
        b"\x1f\x8b": "compressed by gzip",
    }
    for signature, name in beginnings.items():
        if start.startswith(signature):
            return f"it is {name}, not a file of torch.save or safetensors"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # no archive, or a damaged one
        return ""
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "it is a TorchScript archive, which holds a program beside the weights. If "
            "you trust it, write its weights to a file once, with "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW), and use that file"
        )
    if any(name.endswith("data.pkl") for name in names):
        return ""
    return (
        f"it is a zip archive of {listing(names, limit=3)}, not a file of torch.save. "
        "If the weights are in it, unpack it"
    )


def _refuse_checkpoint(path: Path, source: str, error: Exception) -> NoReturn:
    said = error.strerror if isinstance(error, OSError) else str(error)
    text = (said or "").rpartition("WeightsUnpickler error:")[2]
    lines = text.strip().splitlines() or [type(error).__name__]
    with open(path, "rb") as file:
        start = file.read(_PAGE_START)
    page = page_in(start)
    if not start:
        why = "it is empty. Get it again"
    elif page:
        why = f"it is {page}. Get the file itself"
    elif kind := _other_format(path, start):
        why = kind
    elif tarfile.is_tarfile(path):
        why = "it is a tar archive of an early torch. Use a newer file of the weights"
    elif refused := _REFUSED_GLOBAL.search(text):
        name = refused.group(refused.lastindex or 0)
        why = (
            f"it must hold plain containers and tensors; it holds {name.rstrip('.')}, "
            "and to build that may run code of the file. If you trust it, open it once "
            "with torch.load(..., weights_only=False), write its tensors with "
            "safetensors.torch.save_file and use that file, or load it yourself and "
            "pass the module"
        )
    else:
        why = (
            f"it is cut off or damaged, or no file of weights ({lines[0].rstrip('.')})."
            " Get it again"
        )
    place = "" if str(path) in source else f" from {path}"
    raise ValueError(f"{source} cannot be read{place}: {why}.") from error
