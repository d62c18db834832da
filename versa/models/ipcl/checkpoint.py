"""Checkpoints of a training run: the newest few, and that of every tenth epoch.

A checkpoint holds tensors, numbers and text in plain containers, so that it opens
without trusting its author (``weights_only=True``). It appears under its name when all
of it is on the disk. One that cannot be read is passed over for the one before.
"""

import logging
import os
import re
import shutil
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch

from versa.cache import atomic_write

logger = logging.getLogger("versa")

CHECKPOINTS = "checkpoints"  # in the folder of a run
_NAME = re.compile(r"step-(\d{8,})(?:-epoch-(\d{4,}))?\.pt")
_MILESTONE = 10  # epochs
_PIECE = 2**24  # bytes written at a time
_DIRECTORY = 0x10  # attribute of a part that torch would take for empty


class Checkpoint(NamedTuple):
    """A file of a run."""

    step: int  # optimizer steps done
    epoch: int | None  # epochs done, if it was saved at the end of one
    path: Path


def saved_checkpoints(folder: Path) -> list[Checkpoint]:
    """Checkpoints of a folder, oldest first. They are not opened."""
    found = []
    if folder.is_dir():
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                epoch = None if match[2] is None else int(match[2])
                found.append(Checkpoint(int(match[1]), epoch, path))
    return sorted(found, key=lambda one: (one.step, one.path.name))


def save_state(
    folder: Path,
    state: dict[str, Any],
    *,
    step: int,
    epoch: int | None = None,
    keep: int = 3,
) -> Path:
    """Write a checkpoint atomically; the newest `keep`, and every tenth epoch, stay.

    `epoch` is the number of epochs done, at the end of one. Raises TypeError for what
    could not be read again, and OSError if the disk is full (what was there stays).
    """
    _check_plain("state", state)
    ending = "" if epoch is None else f"-epoch-{epoch:04d}"
    path = folder / f"step-{step:08d}{ending}.pt"
    # through memory: torch's own writer does not survive a disk that fills up
    content = BytesIO()
    torch.save(state, content)
    view = content.getbuffer()
    with atomic_write(path) as temporary, open(temporary, "wb", buffering=0) as file:
        start = 0
        while start < len(view):
            start += file.write(view[start : start + _PIECE])
        os.fsync(file.fileno())
    _sync_folder(folder)
    # A torn one of a later step, which the run has gone back from, displaces none
    others = [
        one
        for one in saved_checkpoints(folder)
        if one.step <= step and one.path != path
    ]
    for old in others[: max(0, len(others) - (keep - 1))]:
        if old.epoch is None or old.epoch % _MILESTONE:
            old.path.unlink(missing_ok=True)
    return path


def read_state(path: Path) -> dict[str, Any]:
    """Content of a checkpoint, on the CPU."""
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                if part.compress_type or part.external_attr & _DIRECTORY:
                    raise ValueError(f"its part {part.filename} is not one of torch's")
            if (bad := archive.testzip()) is not None:
                raise ValueError(f"the check sum of its part {bad} is wrong")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}, not a state")
    except FileNotFoundError:
        raise
    except Exception as error:  # torch does not say how it ends on a damaged file
        reason = " ".join(str(error).split()).partition(". ")[0][:160]
        raise ValueError(f"checkpoint {path} cannot be read ({reason}).") from error
    return state


def load_newest(folder: Path) -> tuple[Checkpoint, dict[str, Any]] | None:
    """Newest checkpoint that can be read, with its content."""
    saved = saved_checkpoints(folder)
    for checkpoint in reversed(saved):
        try:
            return checkpoint, read_state(checkpoint.path)
        except ValueError as error:
            logger.warning("%s The one before it is tried.", error)
    if saved:
        raise ValueError(
            f"at least one of {len(saved)} checkpoints in {folder} must be readable; "
            "none is. Move the folder away to begin again."
        )
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed writer left; for the only process that writes there."""
    for leftover in folder.glob(".step-*.versa-tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _check_plain(name: str, value: Any) -> None:
    """Refuse what ``torch.load(weights_only=True)`` would not read."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _check_plain(f"key of {name}", key)
            _check_plain(f"{name}[{key!r}]", item)
    elif type(value) in (list, tuple):
        for i, item in enumerate(value):
            _check_plain(f"{name}[{i}]", item)
    elif not (
        isinstance(value, torch.Tensor)
        or type(value) in (bool, int, float, str, bytes, type(None))
    ):
        raise TypeError(
            f"{name} must be a tensor, a number, text, or a dict, list or tuple of "
            f"them; got {type(value).__name__}. Convert it before saving."
        )


def _sync_folder(folder: Path) -> None:
    """Wait until a new name in the folder is on the disk, where that is possible."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network drives do not know it
        logger.debug("the folder %s cannot be synchronised (%s).", folder, error)
    finally:
        os.close(handle)
