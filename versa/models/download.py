"""Weight files: downloaded once, checked at every opening, never trusted.

A file lies in the cache under the name of its model and the start of its SHA-256,
so that two files of one name cannot be confused. It is written to a temporary place,
checked, and moved: what lies in the cache is whole.
"""

import logging
import pickle
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from versa.cache import atomic_write, cache_folder, file_hash, offline, sweep_leftovers

__all__ = ["fetch", "open_checkpoint", "weights_path"]

logger = logging.getLogger("versa")

_PREFIX_LENGTH = 10
_SUFFIX = re.compile(r"(\.(?:pth|pt|ckpt|torch|tar|zip|bin|safetensors|npz|pkl))+$")
_TIMEOUT = 30.0  # seconds without a byte


def weights_path(url: str, name: str, sha256: str) -> Path:
    """Where the weights of a model lie, or would lie.

    Parameters
    ----------
    url : str
        Address; only its file ending is used.
    name : str
        Name of the model.
    sha256 : str
        First hexadecimal digits of the file's SHA-256 (8 or more), or all 64.

    Returns
    -------
    path : Path
        In the folder ``weights`` of the cache. It need not exist.

    Examples
    --------
    >>> weights_path("https://x.org/a/net.pth.tar", "net_b", "51bcc71556").name
    'net_b-51bcc71556.pth.tar'
    """
    suffix = _SUFFIX.search(urlsplit(url).path)
    label = re.sub(r"[^\w.@-]+", "_", name)
    file_name = f"{label}-{sha256[:_PREFIX_LENGTH]}{suffix.group() if suffix else ''}"
    return cache_folder() / "weights" / file_name


def fetch(url: str, name: str, sha256: str) -> Path:
    """Path of a weight file, downloaded if it is not in the cache.

    The file's hash is checked on every call. A damaged file in the cache is reported
    as a warning and downloaded again.

    Parameters
    ----------
    url : str
        Where to get the file.
    name : str
        Name of the model.
    sha256 : str
        First hexadecimal digits of the file's SHA-256 (8 or more), or all 64.

    Returns
    -------
    path : Path
        The checked file.

    Raises
    ------
    FileNotFoundError
        If the file is needed and ``VERSA_OFFLINE`` forbids the download.
    ConnectionError
        If the download fails.
    ValueError
        If the server sent a web page or a file with another hash.
    """
    path = weights_path(url, name, sha256)
    if path.is_file():
        found = file_hash(path)
        if found.startswith(sha256):
            return path
        logger.warning(
            "weights of %s: %s has SHA-256 %s, not %s; it is not used.",
            name,
            path,
            found,
            sha256,
        )
    if offline():
        raise FileNotFoundError(
            f"weights of {name} are not in the cache and VERSA_OFFLINE forbids the "
            f"download. Unset it, or put {url} (SHA-256 {sha256}...) at {path}."
        )
    sweep_leftovers(path.parent)
    logger.info("downloading %s", url)
    with atomic_write(path) as temporary:
        _download(url, temporary, name, path)
        _refuse_wrong_file(temporary, url, name, sha256)
    return path


def open_checkpoint(path: Path, *, source: str) -> Any:
    """Content of a PyTorch or safetensors file, on the CPU, without running code.

    Parameters
    ----------
    path : Path
        A file of ``torch.save`` (zip or legacy container) or ``.safetensors``.
    source : str
        Name of the checkpoint, for the errors.

    Returns
    -------
    checkpoint : object
        For safetensors a dict of tensors.

    Raises
    ------
    ValueError
        If the file is damaged or holds anything but plain containers and tensors.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path, device="cpu")
        except SafetensorError as error:
            raise ValueError(f"{source} cannot be read from {path}: {error}.") from None
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].rstrip(".")
        raise ValueError(f"{source} cannot be read from {path}: {reason}.") from error


def _download(url: str, temporary: Path, name: str, path: Path) -> None:
    import pooch

    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=2**20,
        timeout=_TIMEOUT,
    )
    try:
        download(url, str(temporary), None)
    except OSError as error:  # requests raises subclasses of it
        raise ConnectionError(
            f"weights of {name} could not be downloaded from {url}: {error}. Try again "
            f"or put the file at {path}."
        ) from error


def _refuse_wrong_file(temporary: Path, url: str, name: str, sha256: str) -> None:
    with open(temporary, "rb") as file:
        start = file.read(512).lstrip()
    if start.startswith(b"<"):
        raise ValueError(
            f"weights of {name}: {url} sent a web page instead of a file. Open the "
            "address in a browser; the page usually says why."
        )
    found = file_hash(temporary)
    if not found.startswith(sha256):
        raise ValueError(
            f"weights of {name} must have a SHA-256 that starts with {sha256}; {url} "
            f"sent {found}. The file was thrown away: it was damaged on its way, or "
            "was replaced at its source."
        )
