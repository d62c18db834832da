"""Weights of networks, brought to this machine before they are needed."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from versa.models.zoo.checkpoints import card_proof, card_weights
from versa.models.zoo.libraries import (
    fetch_library_weights,
    hub_file,
    library_weights,
)
from versa.models.zoo.names import Named, named_model
from versa.models.zoo.weights import (
    WeightFile,
    fetch,
    install,
    notice_once,
    weights_path,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["install_weights", "prefetch_weights", "weights_table"]


def prefetch_weights(name: str) -> Path | None:
    """Bring the weights of a network into the cache, checked.

    Parameters
    ----------
    name : str
        As `versa.load_model` takes it.

    Returns
    -------
    path : Path or None
        The file; None for an untrained network, which needs none.

    Raises
    ------
    ValueError
        If there is no such network, or its file is not what it should be.
    FileNotFoundError, ConnectionError
        If the file cannot be had.
    """
    named = named_model(name)
    if _own_file(named):
        path = Path(_own_file(named)).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"weights of {name} must be a file; {path} is none."
            )
        return path
    if _untrained(named):
        return None
    card = named.card
    if card is not None and card.url:
        proof = card_proof(card)
        return fetch(card_weights(card), notice=named.notice, proof=proof)
    if card is None:
        path = fetch_library_weights(named.library, named.base)
    else:
        path = fetch_library_weights("timm", _timm_name(named))
    notice_once(named.label, named.notice)
    return path


def install_weights(name: str, source: Path) -> Path:
    """Put a weight file that was fetched by other means into the cache, checked.

    Parameters
    ----------
    name : str
        As `versa.load_model` takes it.
    source : Path
        The file. It is copied.

    Returns
    -------
    path : Path
        Its place in the cache.

    Raises
    ------
    ValueError
        If the network needs no file or takes it from timm's hub, or the file is not
        what it should be.
    FileNotFoundError
        If `source` does not exist.
    """
    named = named_model(name)
    file = None if _own_file(named) or _untrained(named) else _download(named)
    if file is None:
        raise ValueError(
            f"{name} must be a network whose weight file versa keeps; it is untrained, "
            "has a file of its own, or is kept by timm's hub."
        )
    return install(file, source, notice=named.notice, proof=_proof(named))


def weights_table(names: Iterable[str]) -> "pd.DataFrame":
    """Where the weights of networks come from, and whether they are here.

    Parameters
    ----------
    names : iterable of str
        As `versa.load_model` takes them.

    Returns
    -------
    table : DataFrame
        One row per network: ``name``, ``present``, ``url`` (empty if none is needed),
        ``path`` (in the cache; empty if timm's hub keeps it) and ``licence``. Hashes
        are not checked here.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    import pandas as pd

    rows = []
    for name in names:
        named = named_model(name)
        url, path, present = "", "", True
        if _own_file(named):
            path = _own_file(named)
            present = Path(path).expanduser().is_file()
        elif not _untrained(named):
            file = _download(named)
            if file is None:
                base = _timm_name(named)
                url, present = f"timm/{base}", hub_file(base) is not None
            else:
                url, path = file.urls[0], str(weights_path(file))
                present = Path(path).is_file()
        rows.append((named.label, present, url, path, named.licence))
    return pd.DataFrame(rows, columns=["name", "present", "url", "path", "licence"])


def _own_file(named: Named) -> str:
    return named.weights or ("" if named.card is None else named.card.file)


def _untrained(named: Named) -> bool:
    return named.untrained or (named.card is not None and named.card.seed is not None)


def _timm_name(named: Named) -> str:
    return named.base if named.card is None else str(named.card.options["name"])


def _proof(named: Named) -> Callable[[Path], None] | None:
    """Opens the file, if it is a card's; the hash of a library's is in its name."""
    card = named.card
    return card_proof(card) if card is not None and card.url else None


def _download(named: Named) -> WeightFile | None:
    """The file to download, or None if timm's hub keeps it."""
    card = named.card
    if card is None:
        return library_weights(named.library, named.base)
    return (
        card_weights(card) if card.url else library_weights("timm", _timm_name(named))
    )
