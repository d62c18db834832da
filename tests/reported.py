"""Comparisons with all that a report can show, for tests of it."""

import json

import numpy as np

from tests.pictured import pictured_fit
from versa.comparison import compare
from versa.result import FitResult


def reported_fit(model="net", seed=0, card=None, warnings=(), edge=0.1, **changes):
    data = pictured_fit(model=model, seed=seed, **changes).data
    # all networks of a comparison saw the same brains
    first = pictured_fit(seed=0, **changes).data
    for name in ("brain_rdm", "null", "ceiling"):
        data[name] = first[name]
    shares = np.full((data.sizes["sector"], data.sizes["layer"]), edge)
    data["alpha_at_largest"] = ("sector", "layer"), shares
    data["alpha_at_smallest"] = ("sector", "layer"), np.zeros_like(shares)
    provenance = json.loads(data.attrs["provenance"])
    provenance["model"]["card"] = card
    provenance["dataset"] |= {"citation": "Someone (2020).", "licence": "CC0-1.0"}
    provenance["warnings"] = list(warnings)
    provenance["versions"] = {"versa": "9.9", "numpy": "2.0"}
    provenance["created"] = "2026-01-02T03:04:05+00:00"
    data.attrs["provenance"] = json.dumps(provenance)
    return FitResult(data)


def reported(n_networks=3, baseline=None, **changes):
    fits = [
        reported_fit(f"net{n}", n, shift=0.3 * n, **changes) for n in range(n_networks)
    ]
    return compare(fits, baseline=baseline)
