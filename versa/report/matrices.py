"""RDMs for the viewer of the report: whole numbers, packed into a text."""

import base64
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.result import FitResult

if TYPE_CHECKING:
    import pandas as pd

_DIGITS = 4  # significant ones of the largest distance
_UNDEFINED = np.iinfo(np.int16).min
_UNIT = "1 − r"


def quantised(distances: np.ndarray) -> tuple[np.ndarray, int]:
    """Distances as int16 in units of ``10 ** -decimals``, and `decimals`.

    The largest has four digits; NaN becomes the lowest int16.

    >>> quantised(np.array([0.12344, 1.9, np.nan]))
    (array([   123,   1900, -32768], dtype=int16), 3)
    """
    finite = distances[np.isfinite(distances)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    decimals = _DIGITS - 1 - int(np.floor(np.log10(largest))) if largest else 0
    numbers = np.full(distances.shape, _UNDEFINED, dtype=np.int16)
    inside = np.isfinite(distances)
    numbers[inside] = np.rint(distances[inside] * 10.0**decimals).astype(np.int16)
    return numbers, decimals


def pack_integers(numbers: np.ndarray) -> str:
    """The int16 as a text: all low bytes, all high bytes, deflated, base64.

    The high bytes are almost all alike, which is why they are together.
    """
    planes = numbers.astype("<i2").view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def matrices(
    results: Sequence[FitResult], best: "pd.DataFrame"
) -> dict[str, Any] | None:
    """The brain's RDM and that of every network's best layer, by sector and method.

    JSON-able: ``n`` images, ``sectors``, ``brain`` {sector: matrix}, ``models`` [{name,
    methods: {method: {sector: matrix}}}], ``data`` (of :func:`pack_integers`). A matrix
    has ``at`` (place of its first pair), its ``decimals``, ``low``, ``high``, ``unit``
    and, of a network, its ``layer``. None if the results hold no RDMs.
    """
    held = [result for result in results if "brain_rdm" in result.data]
    if not held:
        return None
    first = held[0]
    packed = _Packed()
    # RDMs that a dataset came with have a unit of their own
    unit = {"unit": "distance" if first.given_as_rdms else _UNIT}
    brain = {
        sector: packed.add(first.data["brain_rdm"].sel(sector=sector).values) | unit
        for sector in first.sectors
    }
    models = [
        {"name": result.model, "methods": _of_network(result, best, packed)}
        for result in held
        if "model_rdm" in result.data
    ]
    return {
        "n": len(first.stimuli),
        "sectors": list(first.sectors),
        "brain": brain,
        "models": models,
        "data": packed.text(),
    }


def _of_network(
    result: FitResult, best: "pd.DataFrame", packed: "_Packed"
) -> dict[str, dict[str, Any]]:
    """RDMs of the layers that were chosen most often."""
    found: dict[str, dict[str, Any]] = {}
    rows = best.loc[best["model"] == result.model, ["method", "sector", "layer"]]
    for method, sector, layer in rows.astype(str).itertuples(index=False):
        if layer in result.layer_names:
            rdm = result.data["model_rdm"].loc[method, sector, layer]
            matrix = packed.add(rdm.values) | {"layer": layer, "unit": _UNIT}
            found.setdefault(method, {})[sector] = matrix
    return found


class _Packed:
    """Matrices, one after the other."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.size = 0

    def add(self, distances: np.ndarray) -> dict[str, Any]:
        """Where a matrix is, and what its numbers mean."""
        numbers, decimals = quantised(np.asarray(distances, dtype=float))
        known = numbers[numbers != _UNDEFINED]
        at, self.size = self.size, self.size + numbers.size
        self.parts.append(numbers)
        return {
            "at": at,
            "decimals": decimals,
            "low": int(known.min()) if known.size else 0,
            "high": int(known.max()) if known.size else 0,
        }

    def text(self) -> str:
        """All of them."""
        return pack_integers(np.concatenate(self.parts))
