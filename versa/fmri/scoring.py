"""Score the layers of a network, given as Gram matrices, against a brain dataset."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.cache import ArrayStore, content_key
from versa.fmri.ceilings import half_correlations, noise_ceiling
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.rdm import correlation_rdm, rdm_from_gram
from versa.fmri.rsa import (
    EncodedRdms,
    EncodingTarget,
    encoded_rdms,
    encoding_target,
    null_rdms,
)
from versa.parallel import map_in_threads
from versa.stats.intervals import fisher_mean
from versa.stats.splits import SplitHalves
from versa.wording import listing

if TYPE_CHECKING:
    from versa.models.features import LayerGram

__all__ = ["ENCODING_METHODS", "null_warnings", "score"]

logger = logging.getLogger("versa")

ENCODING_METHODS = ("versa", "versa-debiased")
"""Methods that need voxel responses."""

_ENCODED_SCHEMA = "encoded-1"  # counts up when what a cache entry means changes
_WORTH_A_WARNING = 0.1  # r; whatever a smaller score is made of, nobody relies on it


def score(
    model: str,
    grams: "Mapping[str, LayerGram]",
    brain: BrainDataset,
    splits: SplitHalves,
    methods: Sequence[str],
    options: Mapping[str, Any],
    store: ArrayStore | None,
    progress: bool,
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """All variables of the result that depend on responses, with their dimensions."""
    from tqdm.auto import tqdm

    sectors, layers = brain.sector_names, list(grams)
    n_pairs = brain.n_images * (brain.n_images - 1) // 2
    shape = (len(methods), len(sectors), len(layers))
    scores = np.full((*shape, splits.n_splits, 2), np.nan)
    rdms = np.full((*shape, n_pairs), np.nan)
    edges = np.full((2, *shape[1:]), np.nan)
    repaired = np.full(shape[1:], np.nan)
    null = np.full((len(sectors), splits.n_splits, 2), np.nan)
    ceiling = np.full((len(sectors), splits.n_splits), np.nan)
    brain_rdm = np.full((len(sectors), n_pairs), np.nan)
    n_voxels = np.zeros((len(sectors), brain.n_subjects), dtype=int)
    encode = any(method in ENCODING_METHODS for method in methods)
    classic = {layer: _classic_rdm(gram) for layer, gram in grams.items()}
    with tqdm(
        total=len(sectors) * len(layers),
        desc=f"{model}: encoding" if encode else f"{model}: RSA",
        disable=not progress,
        leave=False,
    ) as bar:
        for j, sector in enumerate(sectors):
            measured = _brain_rdms(brain, sector)
            brain_rdm[j] = measured.mean(axis=0)
            ceiling[j] = noise_ceiling(measured, splits)
            target, responses_key = None, ""
            if brain.responses is not None:
                responses = brain.responses[sector]
                target = encoding_target(responses) if encode else None
                responses_key = content_key(responses=list(responses))
                n_voxels[j] = [voxels.shape[1] for voxels in responses]
                null[j] = half_correlations(null_rdms(responses), measured, splits)
            for k, (layer, gram) in enumerate(grams.items()):
                by_method = {"rsa": classic[layer]}
                if target is not None:
                    fitted = _encoded(gram, target, responses_key, options, store)
                    by_method["versa"] = fitted.versa
                    by_method["versa-debiased"] = fitted.debiased
                    edges[:, j, k] = fitted.at_smallest, fitted.at_largest
                by_split = {
                    method: half_correlations(by_method[method], measured, splits)
                    for method in {*methods, "versa-debiased"} & set(by_method)
                }
                if encode:
                    repaired[j, k] = fisher_mean(by_split["versa-debiased"])
                for i, method in enumerate(methods):
                    scores[i, j, k] = by_split[method]
                    rdms[i, j, k] = by_method[method].mean(axis=0)
                bar.update()
    return {
        "scores": (("method", "sector", "layer", "split", "half"), scores),
        "null": (("sector", "split", "half"), null),
        "ceiling": (("sector", "split"), ceiling),
        "model_rdm": (("method", "sector", "layer", "pair"), rdms),
        "brain_rdm": (("sector", "pair"), brain_rdm),
        "predicted_distance": (("method", "sector", "layer"), rdms.mean(axis=-1)),
        "alpha_at_smallest": (("sector", "layer"), edges[0]),
        "alpha_at_largest": (("sector", "layer"), edges[1]),
        "n_voxels": (("sector", "subject"), n_voxels),
        "repaired": (("sector", "layer"), repaired),
    }


def _classic_rdm(gram: "LayerGram") -> np.ndarray:
    rdm = rdm_from_gram(gram.gram, gram.sums, gram.n_units)
    if np.isnan(rdm).any():
        logger.warning(
            "layer %s has the same value in all units for some images; its classic "
            "RSA score is undefined.",
            gram.layer,
        )
    return rdm[None]  # (1, n_pairs): one for all subjects


def _brain_rdms(brain: BrainDataset, sector: str) -> np.ndarray:
    """Measured RDM of every subject, (n_subjects, n_pairs)."""
    if brain.responses is None:
        return np.asarray((brain.rdms or {})[sector])
    return np.stack(map_in_threads(correlation_rdm, brain.responses[sector]))


def _encoded(
    gram: "LayerGram",
    target: EncodingTarget,
    responses_key: str,
    options: Mapping[str, Any],
    store: ArrayStore | None,
) -> EncodedRdms:
    """RDMs of one layer's predictions: from the cache, or by ridge regression."""
    features = gram.standardized if options["standardize"] else gram.gram
    if features is None:
        raise ValueError(
            f"features of {gram.layer} were extracted without standardize."
        )
    key = content_key(
        schema=_ENCODED_SCHEMA,
        gram=features,
        responses=responses_key,
        alphas=options["alphas"],
        alpha_per_voxel=options["alpha_per_voxel"],
    )
    entry = store.read(key) if store else None
    if entry is not None:
        smallest, largest = entry["edges"].tolist()
        return EncodedRdms(entry["versa"], entry["debiased"], smallest, largest)
    fitted = encoded_rdms(
        features,
        target,
        options["alphas"],
        alpha_per_voxel=options["alpha_per_voxel"],
    )
    if store:
        edges = np.array([fitted.at_smallest, fitted.at_largest])
        store.write(key, versa=fitted.versa, debiased=fitted.debiased, edges=edges)
    return fitted


def null_warnings(
    arrays: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    brain: BrainDataset,
    layers: Sequence[str],
    methods: Sequence[str],
) -> list[str]:
    """A sentence per sector whose `versa` scores are mostly the null."""
    if "versa" not in methods:
        return []
    scores = arrays["scores"][1][methods.index("versa")]
    faithful = fisher_mean(scores, axis=(2, 3))  # (n_sectors, n_layers)
    repaired = arrays["repaired"][1]
    mostly = (faithful > _WORTH_A_WARNING) & ~(repaired >= faithful / 2)
    null = fisher_mean(arrays["null"][1], axis=(1, 2))
    return [
        f"{sector}: the versa score of {listing(np.array(layers)[mostly[j]])} is "
        "mostly that of an encoder that learned nothing (null r = "
        f"{null[j]:.2f}): less than half of it is left without the held-out response "
        "that the fold's intercept carries. Read versa-debiased instead."
        for j, sector in enumerate(brain.sector_names)
        if mostly[j].any()
    ]
