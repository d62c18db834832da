"""Weight files: downloaded once, checked at every opening, never trusted.

A file lies in the cache under the name of its model and the start of its hash, so that
two files of one name cannot be confused. It is written to a partial file, checked, and
moved: what lies in the cache is whole. Where its publisher names no hash, the hash of
the first file that proves to be the network is recorded beside it and compared ever
after.
"""

import datetime
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from versa.cache import atomic_write, cache_folder, file_hash, offline, sweep_leftovers
from versa.transfer import (
    AddressError,
    discard,
    page_in,
    partial_path,
    sweep_partials,
    transfer,
    writing_alone,
)

__all__ = [
    "WeightFile",
    "check_kept",
    "fetch",
    "install",
    "notice_once",
    "remember_kept",
    "weights_path",
]

logger = logging.getLogger("versa")

_PREFIX_LENGTH = 10
_SUFFIX = re.compile(r"(\.(?:pth|pt|ckpt|torch|tar|zip|bin|safetensors|npz|pkl))+$")
_PAGE_START = 2**16  # bytes that are searched for a title


@dataclass(frozen=True)
class WeightFile:
    """A published file of weights: where it is, and how to know that it is the one.

    Parameters
    ----------
    name : str
        Name of the model.
    urls : tuple of str
        Its address, then mirrors, tried in this order.
    sha256 : str
        First hexadecimal digits of the file's SHA-256 (8 or more), or all 64; empty if
        none is published.
    md5 : str
        MD5 of the file, 32 hexadecimal digits; used if there is no `sha256`.
    size : int, optional
        Bytes of the file, if published.

    Raises
    ------
    ValueError
        If a value is not of this form.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str = ""
    md5: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.urls, str) or not self.urls:
            raise ValueError(
                f"urls of {self.name} must be a tuple of one address or more; got "
                f"{self.urls!r}."
            )
        for kind, digits, rule in (
            ("sha256", self.sha256, "8,64"),
            ("md5", self.md5, "32"),
        ):
            if digits and not re.fullmatch(f"[0-9a-f]{{{rule}}}", digits):
                raise ValueError(
                    f"{kind} of {self.name} must be {rule.replace(',', ' to ')} "
                    f"lower-case hexadecimal digits; got {digits!r}."
                )
        if self.size is not None and self.size <= 0:
            raise ValueError(
                f"size of {self.name} must be a count of bytes; got {self.size}."
            )


def weights_path(file: WeightFile) -> Path:
    """Where the weights of a model lie, or would lie.

    Parameters
    ----------
    file : WeightFile
        Of its first address only the ending is used, or, if no hash is published, a
        hash of the address.

    Returns
    -------
    path : Path
        In the folder ``weights`` of the cache. It need not exist.

    Examples
    --------
    >>> url = "https://x.org/a/net.pth.tar"
    >>> weights_path(WeightFile("net_b", (url,), sha256="51bcc71556")).name
    'net_b-51bcc71556.pth.tar'
    >>> weights_path(WeightFile("net_b", (url,))).name
    'net_b-urlad956c7.pth.tar'
    """
    suffix = _SUFFIX.search(urlsplit(file.urls[0]).path)
    published = (file.sha256 or file.md5)[:_PREFIX_LENGTH]
    digits = published or f"url{hashlib.sha256(file.urls[0].encode()).hexdigest()[:7]}"
    file_name = f"{_label(file.name)}-{digits}{suffix.group() if suffix else ''}"
    return cache_folder() / "weights" / file_name


def fetch(
    file: WeightFile,
    *,
    notice: str = "",
    proof: Callable[[Path], object] | None = None,
) -> Path:
    """Path of a weight file, downloaded if it is not in the cache.

    The file's hash is checked on every call. A damaged file in the cache is reported
    as a warning and downloaded again. If another process downloads the same file, its
    end is waited for.

    Parameters
    ----------
    file : WeightFile
    notice : str, optional
        A sentence to show once on this machine, such as a restricting licence.
    proof : callable, optional
        Opens a file of that path, and raises ValueError unless it is the network's. It
        is called where there is no hash to compare, published or recorded, before the
        file is accepted and its hash recorded.

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
        If the server sent a web page or another file, or the record of the hash cannot
        be read.
    OSError
        If the cache cannot be written.
    """
    path = weights_path(file)
    fault = _fault(file, path)
    if fault is not None and path.exists():
        logger.warning(
            "weights of %s: %s is damaged and is not used: %s.", file.name, path, fault
        )
    if fault is not None and offline():
        raise FileNotFoundError(_offline_sentence(file, path))
    if fault is not None:
        with writing_alone(path, f"weights of {file.name}"):
            if _fault(file, path) is not None:  # nobody fetched it while we waited
                _download(file, path, proof)
    elif (unproven := _unproven(file, path, path, proof)) is not None:
        raise ValueError(
            f"weights of {file.name}: {unproven.reason}. Delete {path}; the next call "
            "downloads it."
        )
    _remember(file, path, "placed by hand")
    notice_once(path.name, notice)
    return path


def install(
    file: WeightFile,
    source: Path,
    *,
    notice: str = "",
    proof: Callable[[Path], object] | None = None,
) -> Path:
    """Copy a file that was fetched by hand to its place in the cache.

    Parameters
    ----------
    file : WeightFile
        What `source` must be.
    source : Path
        A local file. It is left where it is.
    notice, proof : optional
        As in `fetch`.

    Returns
    -------
    path : Path
        The checked file in the cache.

    Raises
    ------
    FileNotFoundError
        If `source` is not a file.
    ValueError
        If it is another file.
    OSError
        If the cache cannot be written.
    """
    source, path = Path(source), weights_path(file)
    if not source.is_file():
        found = "a folder" if source.is_dir() else "not there"
        raise FileNotFoundError(
            f"weights of {file.name} must be installed from a file; {source} is "
            f"{found}. Give the path of the file that was fetched by hand."
        )
    try:
        _check(file, source, path)
        if unproven := _unproven(file, source, path, proof):
            raise unproven
    except AddressError as error:
        raise ValueError(
            f"weights of {file.name} cannot be installed from {source}: "
            f"{error.reason}. {error.advice}"
        ) from None
    with writing_alone(path, f"weights of {file.name}"):
        if not (path.exists() and path.samefile(source)):
            with atomic_write(path) as temporary:
                shutil.copyfile(source, temporary)
                _check(file, temporary, path)  # what is used is what was checked
        discard(partial_path(path))
    _remember(file, path, "installed by hand")
    notice_once(path.name, notice)
    return path


def check_kept(file: WeightFile, found: Path) -> None:
    """Refuse a file that another library keeps, if it is not the recorded one.

    Parameters
    ----------
    file : WeightFile
        Its name and address say where the record lies.
    found : Path

    Raises
    ------
    ValueError
        If the file has another hash than the recorded one, or is a web page.
    """
    try:
        _check(file, found, weights_path(file))
    except AddressError as error:
        raise ValueError(
            f"weights of {file.name} in {found}: {error.reason}. {error.advice}"
        ) from None


def remember_kept(file: WeightFile, found: Path) -> None:
    """Record the hash of a file that another library keeps, unless it is recorded.

    Parameters
    ----------
    file, found
        As of `check_kept`; the file has proved to be the network's.
    """
    _remember(file, weights_path(file), str(found), found=found)


def notice_once(key: str, notice: str) -> None:
    """Log a sentence as a warning, once on this machine.

    Parameters
    ----------
    key : str
        What the sentence is about; another sentence about it is shown again.
    notice : str
        The sentence. Nothing is done with an empty one.
    """
    if not notice:
        return
    marker = cache_folder() / "weights" / "notices" / f"{_label(key)}.txt"
    try:
        if marker.read_bytes() == notice.encode():
            return
    except OSError:  # not shown yet, or nobody knows
        pass
    logger.warning("%s", notice)
    try:
        with atomic_write(marker) as temporary:
            temporary.write_bytes(notice.encode())
    except OSError as error:
        logger.debug("%s cannot be written (%s).", marker, error)


def _label(name: str) -> str:
    return re.sub(r"[^\w.@-]+", "_", name)


def _published(file: WeightFile) -> str:
    if file.sha256:
        return f"SHA-256 {file.sha256}{'...' if len(file.sha256) < 64 else ''}"
    return f"MD5 {file.md5}" if file.md5 else ""


def _offline_sentence(file: WeightFile, path: Path) -> str:
    addresses = " or ".join(file.urls)
    recorded = _record(file, path).get("sha256")
    expected = _published(file) or (f"SHA-256 {recorded}" if recorded else "")
    hint = f" ({expected})" if expected else ""
    return (
        f"weights of {file.name} are not in the cache and VERSA_OFFLINE forbids the "
        f"download. Unset it, or put {addresses}{hint} at {path} (`versa-data weights "
        f"{file.name} --file FILE` does so), or run `versa-data weights {file.name}` "
        f"on a machine with network and copy its cache to {cache_folder()}."
    )


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.record.json")


def _record(file: WeightFile, path: Path) -> dict[str, str]:
    """SHA-256 and date of the file that was used first; empty if there was none."""
    place = _record_path(path)
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
        digits, date = record["sha256"], str(record["first_used"])
        if not re.fullmatch("[0-9a-f]{64}", digits):
            raise ValueError(f"{digits!r} is no SHA-256")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"record of the weights of {file.name} must be JSON with sha256 and "
            f"first_used; {place} cannot be read ({type(error).__name__}: {error}). "
            "Delete it to trust the next file anew."
        ) from error
    return {"sha256": digits, "first_used": date}


def _remember(
    file: WeightFile, path: Path, origin: str, *, found: Path | None = None
) -> None:
    """Record the hash of a file that was accepted, unless it is recorded."""
    place, found = _record_path(path), found or path
    if place.exists():
        return
    digits = file_hash(found)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    record = {"sha256": digits, "size": found.stat().st_size, "url": origin}
    try:
        with atomic_write(place) as temporary:
            text = json.dumps({**record, "first_used": today}, indent=1)
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:  # a cache that is read-only serves as well
        logger.debug("%s cannot be written (%s).", place, error)
        return
    if not _published(file):
        logger.info(
            "weights of %s have no published hash; their SHA-256 %s is recorded in %s "
            "and will be checked from now on.",
            *(file.name, digits, place),
        )


def _fault(file: WeightFile, path: Path) -> str | None:
    """Why the file in the cache cannot be used; None if it can."""
    if not path.is_file():
        return "it is not a file"
    try:
        _check(file, path, path)
    except AddressError as error:
        return error.reason
    return None


def _check(file: WeightFile, found: Path, path: Path) -> None:
    """Refuse a file, `found`, that is not the published or recorded one of `path`."""
    size = found.stat().st_size
    advice = "It was damaged on its way, or replaced at its source: get it again."
    if not size:
        raise AddressError("the file is empty", advice, ValueError)
    with open(found, "rb") as stream:
        page = page_in(stream.read(_PAGE_START))
    if page:
        advice = "Open the address in a browser; the page usually says why."
        raise AddressError(f"the file is {page}", advice, ValueError)
    if file.size is not None and size != file.size:
        reason = f"the file must have {file.size} bytes; it has {size}"
        raise AddressError(reason, advice, ValueError)
    if file.sha256:
        rule, digits = f"a SHA-256 that starts with {file.sha256}", file_hash(found)
        good = digits.startswith(file.sha256)
    elif file.md5:
        with open(found, "rb") as stream:
            digits = hashlib.file_digest(stream, "md5").hexdigest()
        rule, good = f"the MD5 {file.md5}", digits == file.md5
    elif record := _record(file, path):
        rule = f"the SHA-256 {record['sha256']} recorded on {record['first_used']}"
        digits = file_hash(found)
        good = digits == record["sha256"]
        advice = f"If this change is wanted, delete the record {_record_path(path)}."
    else:
        return
    if not good:
        reason = f"the file must have {rule}; it has {digits}"
        raise AddressError(reason, advice, ValueError)


def _unproven(
    file: WeightFile, found: Path, path: Path, proof: Callable[[Path], object] | None
) -> AddressError | None:
    """Why a file without a hash to compare is not the network's; None if it is."""
    if proof is None or _published(file) or _record(file, path):
        return None
    try:
        proof(found)
    except ValueError as error:
        reason = str(error).rstrip(".")
        advice = "Get it again; if the same file comes, its source has changed."
        return AddressError(f"it is not the network's: {reason}", advice, ValueError)
    return None


def _download(
    file: WeightFile, path: Path, proof: Callable[[Path], object] | None
) -> None:
    """Bring the file to its place from the first address that has it."""
    sweep_leftovers(path.parent)
    sweep_partials(path.parent)
    part = partial_path(path)

    def accept() -> None:
        _check(file, part, path)
        if unproven := _unproven(file, part, path, proof):
            raise unproven

    url = transfer(
        f"weights of {file.name}",
        file.urls,
        part,
        checked=bool(_published(file) or _record(file, path)),
        accept=accept,
        otherwise=f"Run it again, or put the file at {path}.",
    )
    os.replace(part, path)
    discard(part)
    _remember(file, path, url)
