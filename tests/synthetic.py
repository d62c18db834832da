"""Fits with made-up scores, for tests of what comes after the fit."""

import json

import numpy as np
import xarray as xr

from versa.result import METHODS, FitResult
from versa.stats.splits import split_halves

LAYERS = ("conv_block_1", "conv_block_2", "fc6")
SECTORS = ("EarlyV", "aOTC")


def synthetic_fit(model="net", seed=0, n_subjects=7, shift=0.0, **changes) -> FitResult:
    rng = np.random.default_rng(seed)
    splits = changes.get("splits", split_halves(n_subjects))
    methods = changes.get("methods", METHODS)
    sectors = changes.get("sectors", SECTORS)
    names = changes.get("names", ("cup", "saw", "key", "pan"))
    shape = (len(methods), len(sectors), len(LAYERS), splits.n_splits, 2)
    level = np.linspace(0.3, 0.6, len(LAYERS))[:, None, None] + shift
    scores = np.tanh(rng.normal(level, 0.05, shape))
    null = np.tanh(rng.normal(0.4, 0.05, (len(sectors), splits.n_splits, 2)))
    ceiling = np.tanh(rng.normal(1.2, 0.05, (len(sectors), splits.n_splits)))
    variables = {
        "scores": (("methods", "sector", "layer", "split", "half"), scores),
        "null": (("sector", "split", "half"), null),
        "ceiling": (("sector", "split"), ceiling),
        "members": (("split", "subject"), splits.members),
        "sha256": (("stimulus",), np.array(["0" * 64] * len(names), dtype=object)),
    }
    m = changes.get("permutations", 0)
    if m:  # a list of its own, so that the scores stay those without permutations
        null = np.random.default_rng(seed).normal(0.02, 0.1, (*shape[:3], m))
        variables["permuted"] = (("methods", "sector", "layer", "permutation"), null)
        best = (("methods", "sector", "permutation"), null.max(axis=2))
        variables["permuted_best"] = best
    labels = {
        "methods": list(methods),
        "sector": list(sectors),
        "layer": list(LAYERS),
        "subject": [f"{i:02d}" for i in range(splits.n_subjects)],
        "stimulus": list(names),
        "half": ["first", "second"],
    }
    provenance = {
        "model": {"name": model, "fingerprint": "f" * 64},
        "dataset": {
            "name": changes.get("dataset", "made-up"),
            "fingerprint": changes.get("fingerprint", "d" * 64),
        },
        "options": {
            "alphas": changes.get("alphas", "auto"),
            "alpha_per_voxel": True,
            "standardize": changes.get("standardize", False),
        },
        "warnings": [],
    }
    attrs = {"provenance": json.dumps(provenance, sort_keys=True)}
    return FitResult(xr.Dataset(variables, labels, attrs))
