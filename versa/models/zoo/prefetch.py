"""Weights of networks, downloaded or installed before they are needed."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from versa.models.zoo.loading import network_from
from versa.models.zoo.names import Named, find_network
from versa.models.zoo.networks import constructor
from versa.models.zoo.weights import (
    card_file,
    existing_file,
    fetch_weights,
    hub_file,
    install,
    weight_file,
    weights_path,
)

if TYPE_CHECKING:
    import pandas as pd


def prefetch_weights(name: str) -> Path | None:
    """Checked weight file of a network, downloaded if absent; None if it needs none."""
    named = find_network(name)
    if named.weights:
        return existing_file(named.weights, f"weights of {name}")
    card = named.card
    if card.seed is not None:
        return None
    # an absent package is told before any download
    return fetch_weights(card, partial(network_from, constructor(card))).path


def install_weights(name: str, source: Path) -> Path:
    """Copy a weight file that was fetched by other means into the cache, checked."""
    named = find_network(name)
    card = named.card
    file = None if named.weights else weight_file(card)
    if file is None:
        raise ValueError(
            f"{name} must be a network whose weight file versa keeps; it is untrained, "
            "has a file of its own, or is kept by timm's hub."
        )
    build = constructor(card)
    return install(
        file,
        source,
        notice=card.notice,
        proof=lambda path: network_from(build, card_file(card, path)),
    )


def weights_table(names: Iterable[str]) -> "pd.DataFrame":
    """Where the weights of networks come from, and whether they are here.

    One row per network: ``name``, ``present``, ``url`` (empty if none is needed),
    ``path`` (in the cache; empty if timm's hub keeps it) and ``licence``. Hashes are
    not checked here.
    """
    import pandas as pd

    rows = []
    for name in names:
        named = find_network(name)
        licence = "" if named.weights else named.card.licence
        rows.append((named.label, *_place(named), licence))
    return pd.DataFrame(rows, columns=["name", "present", "url", "path", "licence"])


def _place(named: Named) -> tuple[bool, str, str]:
    """Whether the weights are here, their address, and their path."""
    card = named.card
    if own := named.weights or card.file:
        return Path(own).expanduser().is_file(), "", own
    if card.seed is not None:
        return True, "", ""
    file = weight_file(card)
    if file is None:
        return hub_file(card.timm_name) is not None, f"timm/{card.timm_name}", ""
    path = weights_path(file)
    return path.is_file(), file.urls[0], str(path)
