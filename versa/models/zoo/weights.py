"""From a card to its weight file: downloaded once, checked at every opening.

A file is in the cache under the name of its model and the start of its hash, so that
two files of one name cannot be confused. It is written to a partial file, checked, and
moved: what is in the cache is whole. Where its publisher names no hash, the hash of
the first file that proves to be the network is recorded beside it and compared ever
after.
"""

import datetime
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from versa.cache import (
    atomic_write,
    cache_folder,
    file_hash,
    file_lock,
    offline,
)
from versa.download import (
    RemoteFile,
    discard_partial,
    download,
    page_at,
    partial_path,
)
from versa.http import DownloadError
from versa.models.zoo.cards import ModelCard, hash_in_name
from versa.models.zoo.layouts import CheckpointLayout, layout_of
from versa.models.zoo.reading import GLOBAL_SETS
from versa.records import parse_json
from versa.wording import listing, one_line

logger = logging.getLogger("versa")

_PREFIX_LENGTH = 10
_SUFFIX = re.compile(r"(\.(?:pth|pt|ckpt|torch|tar|zip|bin|safetensors|npz|pkl))+$")

Proof = Callable[[Path], object]  # raises ValueError if a file is not the network's


@dataclass(frozen=True)
class CheckpointFile:
    """A file on this machine and how to read it, as its card says or its user.

    `source` names it in the errors; `allow` is that of `open_checkpoint`; `layout` is
    None where the weights have to be searched for; `holds` is that of the card. A file
    that timm reads by itself has the options of its network, `timm`.
    """

    path: Path
    source: str
    allow: tuple[str, ...] = GLOBAL_SETS
    layout: CheckpointLayout | None = None
    holds: Mapping[str, Sequence[int]] = field(default_factory=dict)
    timm: Mapping[str, Any] | None = None


def fetch_weights(
    card: ModelCard, proof: Callable[[CheckpointFile], object]
) -> CheckpointFile:
    """Weight file of a card that has one: downloaded if need be, and checked.

    Where there is no hash to compare, `proof` is asked; it raises ValueError if a file
    is not the network's.
    """

    def prove(path: Path) -> None:
        proof(card_file(card, path))

    if card.file:
        return card_file(card, existing_file(card.file, f"file of {card.name}.toml"))
    file = weight_file(card)
    if file is not None:
        path = fetch(file, notice=card.notice, proof=prove)
    else:
        path = fetch_from_hub(card.timm_name, prove)
        notice_once(card.name, card.notice)
    return card_file(card, path)


def card_file(card: ModelCard, path: Path) -> CheckpointFile:
    """A file, to be read as a card says."""
    timm = card.options if card.timm_name else None
    source = f"checkpoint of {card.name}"
    return CheckpointFile(path, source, card.allow, card.rules, card.holds, timm)


def own_file(
    path: str | Path, layout: CheckpointLayout | str | None = None
) -> CheckpointFile:
    """A file of the user, whose `layout` may be a name or not be known."""
    path = existing_file(path, "weights")
    if isinstance(layout, str):
        layout = layout_of(layout)
    return CheckpointFile(path, f"weights {path}", layout=layout)


def weight_file(card: ModelCard) -> RemoteFile | None:
    """The file that versa downloads; None if none is needed or timm's hub keeps it."""
    if card.url:
        urls = (card.url, *card.mirrors)
        return RemoteFile(card.name, urls, card.sha256, card.md5, card.size)
    if not card.timm_name:
        return None
    import timm

    config: Any = timm.get_pretrained_cfg(card.timm_name)
    if config.hf_hub_id:
        return None
    name = f"timm/{card.timm_name}"
    return RemoteFile(name, (config.url,), hash_in_name(config.url))


def existing_file(path: str | Path, what: str) -> Path:
    """The path with the user's home folder in it, if it is a file."""
    path = Path(path).expanduser()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{what} must be a file; {path} {kind}.")
    return path


# ---- files in versa's cache ----------------------------------------------------------


def weights_path(file: RemoteFile) -> Path:
    """Where the weights of a model are, or would be, in the folder of the cache.

    If no hash is published, the name has a hash of the first address.

    >>> url = "https://x.org/a/net.pth.tar"
    >>> weights_path(RemoteFile("net_b", (url,), sha256="51bcc71556")).name
    'net_b-51bcc71556.pth.tar'
    >>> weights_path(RemoteFile("net_b", (url,))).name
    'net_b-urlad956c7.pth.tar'
    """
    suffix = _SUFFIX.search(urlsplit(file.urls[0]).path)
    published = (file.sha256 or file.md5)[:_PREFIX_LENGTH]
    digits = published or f"url{hashlib.sha256(file.urls[0].encode()).hexdigest()[:7]}"
    file_name = f"{_label(file.name)}-{digits}{suffix.group() if suffix else ''}"
    return cache_folder() / "weights" / file_name


def fetch(file: RemoteFile, *, notice: str = "", proof: Proof | None = None) -> Path:
    """Path of a weight file, checked at every call, downloaded if it is not cached.

    `notice` is a sentence to show once on this machine, such as a restricting licence.
    `proof` is asked where there is no hash to compare, before the hash is recorded.

    Raises FileNotFoundError if ``VERSA_OFFLINE`` forbids the download, ConnectionError
    if it fails, ValueError if another file came or the record cannot be read, OSError
    if the cache cannot be written.
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
        with file_lock(path, f"weights of {file.name}"):
            if _fault(file, path) is not None:  # nobody fetched it while we waited
                _download(file, path, proof)
    elif (unproven := _unproven(file, path, proof)) is not None:
        raise ValueError(
            f"weights of {file.name}: {unproven.reason}. Delete {path}; the next call "
            "downloads it."
        )
    _remember(file, path, "placed by hand")
    notice_once(path.name, notice)
    return path


def install(
    file: RemoteFile, source: Path, *, notice: str = "", proof: Proof | None = None
) -> Path:
    """Copy a file that was downloaded by hand to its place in the cache, checked.

    Raises FileNotFoundError if `source` is not a file, ValueError if it is another one,
    OSError if the cache cannot be written.
    """
    source, path = Path(source), weights_path(file)
    if not source.is_file():
        found = "a folder" if source.is_dir() else "not found"
        raise FileNotFoundError(
            f"weights of {file.name} must be installed from a file; {source} is "
            f"{found}. Give the path of the file that was downloaded by hand."
        )
    try:
        _check(file, source, path)
        if unproven := _unproven(file, source, proof):
            raise unproven
        with file_lock(path, f"weights of {file.name}"):
            if not (path.exists() and path.samefile(source)):
                with atomic_write(path) as temporary:
                    shutil.copyfile(source, temporary)
                    _check(file, temporary, path)  # what is used is what was checked
            discard_partial(partial_path(path))
    except DownloadError as error:
        raise ValueError(
            f"weights of {file.name} cannot be installed from {source}: "
            f"{error.reason}. {error.advice}"
        ) from None
    _remember(file, path, "installed by hand")
    notice_once(path.name, notice)
    return path


def has_hash(file: RemoteFile) -> bool:
    """Whether a hash of the file is published, or was recorded at its first use."""
    return bool(_published(file) or _record(file, weights_path(file)))


def notice_once(key: str, notice: str) -> None:
    """Log a sentence about `key` as a warning, once on this machine; none if empty."""
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


def _published(file: RemoteFile) -> str:
    if file.sha256:
        return f"SHA-256 {file.sha256}{'...' if len(file.sha256) < 64 else ''}"
    return f"MD5 {file.md5}" if file.md5 else ""


def _offline_sentence(file: RemoteFile, path: Path) -> str:
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


def _record(file: RemoteFile, path: Path) -> dict[str, str]:
    """SHA-256 and date of the file that was used first; empty if there was none."""
    place = _record_path(path)
    try:
        record = parse_json(place.read_text(encoding="utf-8"))
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
    file: RemoteFile, path: Path, origin: str, *, found: Path | None = None
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


def _fault(file: RemoteFile, path: Path) -> str | None:
    """Why the file in the cache cannot be used; None if it can."""
    if not path.is_file():
        return "it is not a file"
    try:
        _check(file, path, path)
    except DownloadError as error:
        return error.reason
    return None


def _check(file: RemoteFile, found: Path, path: Path) -> None:
    """Refuse a file, `found`, that is not the published or recorded one of `path`."""
    advice = "It was damaged on its way, or replaced at its source: get it again."
    if not found.stat().st_size:
        raise DownloadError("the file is empty", advice, ValueError)
    if page := page_at(found):
        advice = "Open the address in a browser; the page usually says why."
        raise DownloadError(f"the file is {page}", advice, ValueError)
    reason = file.fault(found)
    if not (reason or _published(file)) and (record := _record(file, path)):
        reason = replace(file, sha256=record["sha256"]).fault(found)
        if reason:
            reason += f" (the first was recorded on {record['first_used']})"
            advice = (
                f"If this change is wanted, delete the record {_record_path(path)}."
            )
    if reason:
        raise DownloadError(reason, advice, ValueError)


def _unproven(
    file: RemoteFile, found: Path, proof: Proof | None
) -> DownloadError | None:
    """Why a file without a hash to compare is not the network's; None if it is."""
    if proof is None or has_hash(file):
        return None
    try:
        proof(found)
    except ValueError as error:
        reason = str(error).rstrip(".")
        advice = "Get it again; if the same file comes, its source has changed."
        return DownloadError(f"it is not the network's: {reason}", advice, ValueError)
    return None


def _download(file: RemoteFile, path: Path, proof: Proof | None) -> None:
    def accept(part: Path) -> None:
        _check(file, part, path)
        if unproven := _unproven(file, part, proof):
            raise unproven

    url = download(
        f"weights of {file.name}",
        file.urls,
        path,
        accept=accept,
        checked=has_hash(file),
        size=file.size,
        otherwise=f"Run it again, or put the file at {path}.",
    )
    _remember(file, path, url)


# ---- files in the cache of timm's hub ------------------------------------------------


def hub_file(name: str) -> Path | None:
    """Weight file of a network of timm in the cache of its hub; None if absent."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config: Any = timm.get_pretrained_cfg(name)
    for file_name in _hub_names(config):
        found = try_to_load_from_cache(config.hf_hub_id, file_name)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def fetch_from_hub(name: str, proof: Proof) -> Path:
    """Weight file of a network from timm's hub: downloaded if need be, and checked."""
    import timm
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    config: Any = timm.get_pretrained_cfg(name)
    found = hub_file(name)
    if found is not None:
        return _checked_blob(found, name, config, proof)
    address = f"{constants.ENDPOINT}/{config.hf_hub_id}"
    if offline():
        raise FileNotFoundError(
            f"weights of timm/{name} are not in the cache and VERSA_OFFLINE forbids "
            f"the download. Unset it, or put {address} into {constants.HF_HUB_CACHE} "
            f"with `hf download {config.hf_hub_id}`, or run `versa-data weights "
            f"timm/{name}` where there is a network."
        )
    for file_name in _hub_names(config):
        try:
            path = Path(hf_hub_download(config.hf_hub_id, file_name))
        except LocalEntryNotFoundError as error:  # the hub did not answer
            unasked = constants.HF_HUB_OFFLINE
            why = "HF_HUB_OFFLINE is set" if unasked else "there is no connection"
            raise ConnectionError(
                f"weights of timm/{name} are not in the cache, and {address} could not "
                f"be reached ({why}). Run `versa-data weights timm/{name}` where there "
                f"is a network, and copy {constants.HF_HUB_CACHE} here."
            ) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # of the hub, or of what it downloads with
            raise ConnectionError(
                f"weights of timm/{name} could not be downloaded from {address}: "
                f"{one_line(error)}."
            ) from error
        return _checked_blob(path, name, config, proof)
    raise ConnectionError(
        f"weights of timm/{name} could not be downloaded: {address} holds none of "
        f"{listing(_hub_names(config))}."
    )


def _hub_names(config: Any) -> tuple[str, ...]:
    """Names under which the hub may hold the weights, the best first."""
    named = (config.hf_hub_filename,) if config.hf_hub_filename else ()
    return (*named, "model.safetensors", "pytorch_model.bin")


def _checked_blob(path: Path, name: str, config: Any, proof: Proof) -> Path:
    """The file, if it has the SHA-256 under which it is kept, or that was recorded."""
    blob = path.resolve().name  # of a copy, or on a system without links, no hash
    promised = blob if re.fullmatch(r"[0-9a-f]{64}", blob) else ""
    file = RemoteFile(f"timm/{name}", (f"hf-hub:{config.hf_hub_id}",), promised)
    try:
        _check(file, path, weights_path(file))
    except DownloadError as error:
        damaged = "The file is damaged. Delete it and run again."
        advice = damaged if promised else error.advice
        raise ValueError(
            f"weights of {file.name} in {path}: {error.reason}. {advice}"
        ) from None
    if not has_hash(file):
        proof(path)
        _remember(file, weights_path(file), str(path), found=path)
    return path
