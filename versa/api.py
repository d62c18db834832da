"""`fit`: the one place where networks and brains meet."""

import dataclasses
import datetime
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

import versa
from versa.cache import ArrayStore, cache_folder, content_key, sweep_leftovers
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.registry import load_dataset
from versa.fmri.encoding import alpha_grid
from versa.fmri.scoring import ENCODING_METHODS, null_warnings, score
from versa.result import METHODS, FitResult, pack
from versa.stats.splits import SplitHalves, split_halves
from versa.wording import chosen_names, listing

if TYPE_CHECKING:
    from torch import nn

    from versa.models.features import LayerGram
    from versa.models.vision import VisionModel

__all__ = ["fit"]

logger = logging.getLogger("versa")

_GRAM_SCHEMA = "gram-2"  # counts up when what a cache entry means changes
_FEWEST_VOXELS = 3


def fit(
    model: "str | nn.Module | VisionModel",
    layer_list: str | Sequence[str] | None = None,
    dataset: "str | os.PathLike[str] | BrainDataset" = "orientation",
    *,
    methods: Sequence[str] = METHODS,
    sectors: Sequence[str] | None = None,
    alphas: str | ArrayLike = "auto",
    alpha_per_voxel: bool = True,
    standardize: bool = False,
    splits: SplitHalves | None = None,
    device: str | None = None,
    preprocess: Callable[..., Any] | None = None,
    name: str | None = None,
    batch_size: int = 32,
    convert_images: bool = False,
    drop_bad_voxels: bool = False,
    cache: "bool | str | os.PathLike[str]" = True,
    progress: bool = True,
) -> FitResult:
    """Fit the layers of a network to the responses of a group of subjects.

    One forward pass over the images, leave-one-out ridge regression from every layer
    to every voxel, RDMs of the predicted responses, and their correlation with the
    brain's RDMs in both halves of every half-split of the subjects.

    Parameters
    ----------
    model : str, torch.nn.Module or VisionModel
        A name of :func:`versa.list_models`, ``torchvision/NAME``, ``timm/NAME``, or
        your own network together with `preprocess`.
    layer_list : sequence of str, or "leaf", optional
        Dotted module names; ``"leaf"`` for all leaf modules. Default: the layers of
        the network's card or architecture.
    dataset : str, path or BrainDataset, default="orientation"
        A name of :func:`versa.list_datasets`, a dataset folder, or a dataset.
    methods : sequence of {"versa", "versa-debiased", "rsa"}
        ``versa`` is the paper's procedure; ``versa-debiased`` the same weights
        without the held-out response that the intercept of the training fold
        carries; ``rsa`` classic RSA, without an encoding model.
    sectors : sequence of str, optional
        Default: all sectors of the dataset.
    alphas : {"auto", "sklearn"} or array-like, default="auto"
        Ridge penalties, see :func:`versa.fmri.encoding.alpha_grid`.
    alpha_per_voxel : bool, default=True
        One alpha per voxel, or one for all voxels of a subject's sector.
    standardize : bool, default=False
        Give every unit unit variance over the images before the ridge regression.
        The variance is that of all images, the held-out one included; responses are
        not involved.
    splits : SplitHalves, optional
        Default: all half-splits (1000 random ones beyond 20 subjects).
    device : str, optional
        ``"cuda"``, ``"cpu"``, ... for the forward pass. Default: where the network
        is.
    preprocess : callable, optional
        PIL image (RGB) -> float tensor (3, height, width). Required with a network
        of your own; a zoo network brings its own.
    name : str, optional
        Name of the model in tables.
    batch_size : int, default=32
        Images per forward pass.
    convert_images : bool, default=False
        Convert images that are not RGB (transparent pixels become white) and accept
        different sizes, instead of refusing them.
    drop_bad_voxels : bool, default=False
        Drop voxels whose betas are constant or hold NaN, instead of refusing them.
    cache : bool or path, default=True
        Keep Gram matrices and predicted RDMs in the cache folder, or in this one.
    progress : bool, default=True
        Show progress bars.

    Returns
    -------
    result : FitResult
        Scores (method, sector, layer, split, half), null, noise ceiling, tables.

    Raises
    ------
    ValueError
        If a name is unknown, images or betas are not usable as they are, or the
        method does not apply to the dataset.

    References
    ----------
    Konkle & Alvarez (2022), Nature Communications 13:491,
    https://doi.org/10.1038/s41467-022-28091-4

    Examples
    --------
    >>> import versa
    >>> result = versa.fit("alexnet_gn_untrained", ["conv_block_1", "fc6"],
    ...                    dataset="simulated-orientation")  # doctest: +SKIP
    >>> result.layers()  # doctest: +SKIP
    """
    started = time.perf_counter()
    methods = chosen_names(methods, "method", METHODS)
    brain = _usable(load_dataset(dataset), methods, sectors, drop_bad_voxels)
    alpha_grid(alphas, 1.0)  # wrong options are refused before the long work
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; got {batch_size}.")
    splits = split_halves(brain.n_subjects) if splits is None else splits
    if splits.n_subjects != brain.n_subjects:
        raise ValueError(
            f"splits must be of the dataset's {brain.n_subjects} subjects; got splits "
            f"of {splits.n_subjects}."
        )
    store = _store(cache)
    vision, fingerprint, grams = _grams(
        model,
        layer_list,
        brain,
        store,
        preprocess=preprocess,
        name=name,
        device=device,
        batch_size=batch_size,
        standardize=standardize,
        convert=convert_images,
        progress=progress,
    )
    options: dict[str, Any] = {
        "alphas": alphas if isinstance(alphas, str) else np.ravel(alphas).tolist(),
        "alpha_per_voxel": alpha_per_voxel,
        "standardize": standardize,
    }
    arrays = score(vision.name, grams, brain, splits, methods, options, store, progress)
    warned = null_warnings(arrays, brain, list(grams), methods)
    for sentence in warned:
        logger.warning("%s", sentence)
    arrays |= {
        "members": (("split", "subject"), splits.members),
        "n_units": (("layer",), np.array([gram.n_units for gram in grams.values()])),
        "sha256": (("stimulus",), np.array(brain.stimuli.hashes, dtype=object)),
        "thumbnail": (("stimulus",), np.array(_thumbnails(brain), dtype=object)),
    }
    del arrays["repaired"]
    options |= {
        "convert_images": convert_images,
        "drop_bad_voxels": drop_bad_voxels,
        "batch_size": batch_size,
        "device": device,
        "n_splits": splits.n_splits,
        "literal_test_train_ratio": splits.test_train_ratio,
    }
    return pack(
        arrays,
        {
            "method": methods,
            "sector": brain.sector_names,
            "layer": tuple(grams),
            "subject": brain.subjects,
            "stimulus": brain.stimuli.names,
        },
        {
            "model": _model_record(vision, fingerprint),
            "dataset": _dataset_record(brain),
            "options": options,
            "warnings": warned,
            "versions": _versions(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(
                timespec="seconds"
            ),
            "seconds": round(time.perf_counter() - started, 3),
        },
    )


def _require_images(brain: BrainDataset, methods: Sequence[str]) -> None:
    fewest = 4 if any(method in ENCODING_METHODS for method in methods) else 3
    if brain.n_images < fewest:
        raise ValueError(
            f"a dataset must have at least {fewest} images for {listing(methods)}; "
            f"{brain.name} has {brain.n_images}."
        )


def _usable(
    brain: BrainDataset,
    methods: Sequence[str],
    sectors: Sequence[str] | None,
    drop_bad_voxels: bool,
) -> BrainDataset:
    """The dataset with the wanted sectors, if the methods can be run on it."""
    if sectors is not None:
        brain = brain.select(sectors)
    _require_images(brain, methods)
    if not brain.has_responses:
        refused = [method for method in methods if method in ENCODING_METHODS]
        if refused:
            raise ValueError(
                f"methods must be rsa for {brain.name}, which holds RDMs and no voxel "
                f"responses to encode; got {listing(methods)}. Pass methods=('rsa',), "
                "or --methods rsa."
            )
        for sector, rdms in (brain.rdms or {}).items():
            flat = np.flatnonzero(np.ptp(rdms, axis=1) == 0)
            if flat.size:
                raise ValueError(
                    f"RDMs must vary over pairs; in {sector} those of subjects "
                    f"{listing(brain.subjects[int(i)] for i in flat)} do not. "
                    "Leave them out."
                )
        return brain
    if drop_bad_voxels:
        brain = brain.drop_bad_voxels()
    brain.require_clean_voxels()
    for sector, responses in _responses(brain).items():
        for subject, voxels in zip(brain.subjects, responses, strict=True):
            if voxels.shape[1] < _FEWEST_VOXELS:
                raise ValueError(
                    f"sectors must have at least {_FEWEST_VOXELS} voxels for a "
                    f"correlation distance; {sector} of subject {subject} has "
                    f"{voxels.shape[1]}. Leave the sector or the subject out."
                )
            flat = np.flatnonzero(np.ptp(voxels, axis=1) == 0)
            if flat.size:
                ids = listing(brain.stimuli.names[int(i)] for i in flat)
                raise ValueError(
                    "responses to an image must vary over voxels; in "
                    f"{sector} of subject {subject} those to {ids} do not. Check the "
                    "betas, or leave the sector or the subject out."
                )
    return brain


def _responses(brain: BrainDataset) -> Mapping[str, Sequence[np.ndarray]]:
    return brain.responses or {}


def _store(cache: "bool | str | os.PathLike[str]") -> ArrayStore | None:
    if cache is False:
        return None
    folder = cache_folder() / "store" if cache is True else Path(cache)
    sweep_leftovers(folder)
    return ArrayStore(folder)


def _grams(
    model: "str | nn.Module | VisionModel",
    layer_list: str | Sequence[str] | None,
    brain: BrainDataset,
    store: ArrayStore | None,
    *,
    preprocess: Callable[..., Any] | None,
    name: str | None,
    device: str | None,
    batch_size: int,
    standardize: bool,
    convert: bool,
    progress: bool,
) -> "tuple[VisionModel, str, dict[str, LayerGram]]":
    """Gram matrices of all layers: from the cache, or by one forward pass."""
    from versa.models.features import (
        LayerGram,
        computing_device,
        extract_grams,
        inputs_digest,
        probe,
        resolve_layers,
    )
    from versa.models.images import check_images
    from versa.models.zoo.loading import load_model

    stimuli = brain.stimuli
    vision = load_model(model, preprocess=preprocess)
    computing_device(vision.module, device)
    if name is not None:
        vision = dataclasses.replace(vision, name=name)
    check_images(stimuli.paths, names=stimuli.names, convert=convert)
    richest = max(stimuli.paths, key=lambda path: path.stat().st_size)
    layers = resolve_layers(vision, layer_list, image=richest, convert=convert)
    probed = probe(vision, richest, layers, convert=convert)
    _log_memory(probed.n_units, brain)
    inputs = inputs_digest(vision, stimuli.paths, convert=convert) if store else ""
    keys = {
        layer: content_key(
            schema=_GRAM_SCHEMA,
            network=network,
            layer=layer,
            inputs=inputs,
            images=list(stimuli.hashes),
            convert=convert,
            standardize=standardize,
        )
        for layer, network in zip(probed.layers, probed.fingerprints, strict=True)
    }
    found: dict[str, LayerGram] = {}
    for layer, key in keys.items():
        entry = store.read(key) if store else None
        if entry is not None:
            found[layer] = LayerGram(
                layer=layer,
                gram=entry["gram"],
                sums=entry["sums"],
                n_units=int(entry["n_units"]),
                names=stimuli.names,
                hashes=tuple(entry["hashes"].tolist()),
                standardized=entry.get("standardized"),
            )
    missing = [layer for layer in keys if layer not in found]
    if missing:
        extracted = extract_grams(
            vision,
            stimuli.paths,
            missing,
            names=stimuli.names,
            batch_size=batch_size,
            device=device,
            standardize=standardize,
            convert=convert,
            progress=progress,
        )
        found |= extracted
        if store and inputs != inputs_digest(vision, stimuli.paths, convert=convert):
            logger.warning(
                "preprocess gives another result every time; the features of %s are "
                "not kept in the cache.",
                vision.name,
            )
        elif store:
            for layer, gram in extracted.items():
                store.write(keys[layer], **_as_entry(gram))
    for gram in found.values():
        stimuli.check_same(gram.names, gram.hashes, f"features of {gram.layer}")
    return vision, probed.fingerprint, {layer: found[layer] for layer in keys}


def _as_entry(gram: "LayerGram") -> dict[str, np.ndarray]:
    entry = {
        "gram": gram.gram,
        "sums": gram.sums,
        "n_units": np.array(gram.n_units),
        "hashes": np.array(gram.hashes),
    }
    if gram.standardized is not None:
        entry["standardized"] = gram.standardized
    return entry


def _log_memory(n_units: Sequence[int], brain: BrainDataset) -> None:
    """Say what a long run will need before it starts."""
    from versa.models.features import buffer_bytes

    features = buffer_bytes(brain.n_images, n_units)
    voxels = max(
        (sum(v.shape[1] for v in group) for group in _responses(brain).values()),
        default=0,
    )
    # responses, predictions, alphas and centred predictions of one sector at a time
    encoding = 5 * 8 * brain.n_images * voxels
    logger.info(
        "%s: %d layers, %d images, %d subjects; about %.0f MB beside the network "
        "(features %.0f MB, encoding %.0f MB).",
        brain.name,
        len(n_units),
        brain.n_images,
        brain.n_subjects,
        (features + encoding) / 2**20,
        features / 2**20,
        encoding / 2**20,
    )


def _model_record(vision: "VisionModel", fingerprint: str) -> dict[str, Any]:
    card = None if vision.card is None else dataclasses.asdict(vision.card)
    return {
        "name": vision.name,
        "fingerprint": fingerprint,
        "preprocess": repr(vision.preprocess),
        "card": card,
    }


def _thumbnails(brain: BrainDataset) -> list[str]:
    from versa.models.images import thumbnail

    return [thumbnail(path) for path in brain.stimuli.paths]


def _dataset_record(brain: BrainDataset) -> dict[str, Any]:
    return {
        "name": brain.name,
        "fingerprint": brain.fingerprint,
        "stimuli": brain.stimuli.digest,
        "unit": brain.unit,
        "space": brain.space,
        "licence": brain.licence,
        "citation": brain.citation,
    }


def _versions() -> dict[str, str]:
    found = {"versa": versa.__version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "torch", "torchvision", "timm", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
