"""Gram matrices of a network's layers, kept in a content-addressed store.

The key of an entry holds the fingerprint of the network: its weights, its structure and
what the layer makes of one stimulus, so that a network with another forward pass is
another network. That takes a pass of one image, whose outcome is remembered for
networks whose forward pass their classes and attributes tell (`code_digest`): with
these, equal weights, images and versions, nothing passes through the network.
"""

import hashlib
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

import versa
from versa.cache import ArrayStore, content_key, installed_versions
from versa.models.features import (
    ForwardOptions,
    LayerGram,
    buffer_bytes,
    doubtful_features,
    grams_of_inputs,
)
from versa.models.hashes import (
    code_digest,
    structure,
    tensor_digest,
    weights_digest,
)
from versa.models.images import (
    ImageInputs,
    image_inputs,
    require_same_hashes,
    require_unchanged,
)
from versa.models.layers import requested_layers
from versa.models.passes import (
    Tried,
    computing_device,
    device_of,
    keep_usable,
    require_usable,
    try_layers,
    unsteady_warnings,
)
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel

logger = logging.getLogger("versa")

_GRAM_SCHEMA = "gram-2"  # they count up when what a cache entry means changes
_PROBE_SCHEMA = "probe-3"


@dataclass(frozen=True, eq=False)
class Grams:
    """Gram matrices by layer, the fingerprint of the network they are of, and
    sentences about features that are to be doubted."""

    fingerprint: str
    layers: dict[str, LayerGram]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """What one image tells of a network, before a long run.

    `fingerprint` is a hash of everything that the features of all layers depend on,
    `fingerprints` of each layer alone, whatever else was asked for; in the same order
    `layers`, their sizes `n_units`, the `axes` of the images, and what makes them
    `unsteady` (see `Tried`).
    """

    fingerprint: str
    layers: tuple[str, ...]
    n_units: tuple[int, ...]
    fingerprints: tuple[str, ...]
    axes: tuple[int, ...]
    unsteady: tuple[str, ...]

    def tried(self) -> dict[str, Tried]:
        """What the trial showed of every layer."""
        each = zip(self.layers, self.axes, self.unsteady, strict=True)
        return {layer: Tried("", axis, unsteady=kind) for layer, axis, kind in each}


def probe(
    model: VisionModel,
    x: torch.Tensor,
    layers: Sequence[str],
    *,
    sure: bool = True,
    batch_size: int = 32,
) -> Probe:
    """Pass one input through a network, alone and in company; see `try_layers`.

    The fingerprint covers the weights, the structure, the input, and what the layers
    make of it alone: networks of equal weights but another forward pass differ. Take a
    rich image: on a blank one networks may agree by chance. It is the same in every
    process on one machine; another machine may round the outputs differently. Layers
    that cannot be analysed are refused if the request is `sure`, else left out.
    """
    if sure:
        found = require_usable(model, x, layers, batch_size)
        found = {layer: found[layer] for layer in layers}
    else:
        found = try_layers(model, x, layers, batch_size)
        found = {name: found[name] for name in keep_usable(model, layers, found)}
    rows = [tried.row for tried in found.values() if tried.row is not None]
    module = model.module
    common = f"{weights_digest(module)} {structure(module)} {tensor_digest(x)}"
    each = tuple(
        hashlib.sha256(f"{common} {layer} {tensor_digest(row)}".encode()).hexdigest()
        for layer, row in zip(found, rows, strict=True)
    )
    return Probe(
        hashlib.sha256(" ".join(each).encode()).hexdigest(),
        tuple(found),
        tuple(row.shape[1] for row in rows),
        each,
        tuple(tried.axis for tried in found.values()),
        tuple(tried.unsteady for tried in found.values()),
    )


class ImageFiles(Protocol):
    """Image files with their ids and the hashes that they had when they were found."""

    @property
    def paths(self) -> tuple[Path, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def hashes(self) -> tuple[str, ...]: ...


def cached_grams(
    model: VisionModel,
    layer_list: str | Sequence[str] | None,
    images: ImageFiles,
    store: ArrayStore | None,
    options: ForwardOptions,
) -> Grams:
    """Gram matrices of all layers: from the store, or by one forward pass.

    Every image file is read once, and refused if it has changed.
    """
    home = device_of(model.module)
    place = computing_device(model.module, options.device)
    names, sure = requested_layers(model, layer_list)
    inputs, prepared = None, ""
    if isinstance(model.preprocess, Preprocess):
        fields = repr(model.preprocess)  # they tell what it does to an image
        prepared = hashlib.sha256(fields.encode()).hexdigest()
    elif store:  # what another callable does to an image is seen on the images only
        inputs = _read(model, images, options)
        prepared = inputs.digest()
    key = ""
    if store:
        key = _probe_key(model, home, [*names, sure], images, prepared, options)
    probed = _read_probe(store, key) if store and key else None
    if probed is None:
        inputs = inputs or _read(model, images, options)
        richest = _richest(images)
        x = inputs.batch(richest, richest + 1)[0].clone()
        size = options.batch_size
        probed = probe(model, x, names, sure=sure, batch_size=size)
        if store and key:
            _write_probe(store, key, probed)
    keys = {
        layer: content_key(
            schema=_GRAM_SCHEMA,
            network=network,
            layer=layer,
            inputs=prepared,
            images=list(images.hashes),
            convert=options.convert,
            standardize=options.standardize,
        )
        for layer, network in zip(probed.layers, probed.fingerprints, strict=True)
    }
    tried = probed.tried()
    steady = {layer: key for layer, key in keys.items() if not tried[layer].unsteady}
    found = _read_grams(store, steady, images) if store else {}
    missing = {layer: tried[layer].axis for layer in keys if layer not in found}
    if missing:
        inputs = inputs or _read(model, images, options)
        _announce(probed, len(inputs.names), options)
        made = grams_of_inputs(model, inputs, missing, place, options)
        found |= made
        if store and _is_repeatable(model, images, prepared, options):
            _write_grams(store, steady, made)
    elif inputs is None:
        require_unchanged(images.paths, images.names, images.hashes)
    layers = {layer: found[layer] for layer in keys}
    warnings = unsteady_warnings(model.name, tried)
    warnings += doubtful_features(model.name, layers)
    return Grams(probed.fingerprint, layers, tuple(warnings))


def _read(
    model: VisionModel, images: ImageFiles, options: ForwardOptions
) -> ImageInputs:
    inputs = image_inputs(
        images.paths, model.preprocess, names=images.names, convert=options.convert
    )
    require_same_hashes(images.paths, images.names, images.hashes, inputs.hashes)
    return inputs


def _richest(images: ImageFiles) -> int:
    """Place of the largest file: on a blank image networks may agree by chance."""
    sizes = [path.stat().st_size for path in images.paths]
    return sizes.index(max(sizes))


def _announce(probed: Probe, n_images: int, options: ForwardOptions) -> None:
    """Say what a long pass will need before it starts."""
    logger.info(
        "%d layers, %d images; about %.0f MB for features beside the network.",
        len(probed.layers),
        n_images,
        buffer_bytes(n_images, probed.n_units, options.max_buffer) / 2**20,
    )


def _is_repeatable(
    model: VisionModel, images: ImageFiles, prepared: str, options: ForwardOptions
) -> bool:
    if isinstance(model.preprocess, Preprocess):
        return True
    again = _read(model, images, options).digest()
    if again != prepared:
        logger.warning(
            "preprocess gives another result every time; the features of %s are "
            "not kept in the cache.",
            model.name,
        )
    return again == prepared


# ---- entries of the store ------------------------------------------------------------


def _probe_key(
    model: VisionModel,
    home: torch.device,
    layers: Sequence[str | bool],
    images: ImageFiles,
    prepared: str,
    options: ForwardOptions,
) -> str:
    """All that the outcome of a probe depends on; empty if code is unknown."""
    code = code_digest(model.module)
    if code is None:
        return ""
    return content_key(
        schema=_PROBE_SCHEMA,
        code=code,
        weights=weights_digest(model.module),
        structure=structure(model.module),
        layers=list(layers),
        images=list(images.hashes),
        inputs=prepared,
        convert=options.convert,
        company=min(options.batch_size, 3),  # of the image in a trial
        arithmetic=_arithmetic(home),
        versa=versa.__version__,
        versions=installed_versions("numpy", "torch", "torchvision", "timm", "pillow"),
    )


def _arithmetic(device: torch.device) -> list[str]:
    """What the rounding of a forward pass depends on, beside code and versions."""
    kind = device.type
    state: list[object] = [kind, platform.machine(), torch.get_num_threads()]
    state += [torch.backends.cpu.get_cpu_capability()]
    if kind == "cuda":
        state += [torch.cuda.get_device_name(device), torch.version.cuda]
        state += [torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32]
    state += [torch.get_float32_matmul_precision()]
    state += [torch.are_deterministic_algorithms_enabled()]
    state += [torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)]
    return [str(value) for value in state]


def _read_probe(store: ArrayStore, key: str) -> Probe | None:
    entry = store.read(key)
    if entry is None:
        return None
    names = ("layers", "n_units", "fingerprints", "axes", "unsteady")
    return Probe(str(entry["fingerprint"]), *(tuple(entry[k].tolist()) for k in names))


def _write_probe(store: ArrayStore, key: str, probed: Probe) -> None:
    store.write(key, **{k: np.array(v) for k, v in vars(probed).items()})


def _read_grams(
    store: ArrayStore, keys: Mapping[str, str], images: ImageFiles
) -> dict[str, LayerGram]:
    found = {}
    for layer, key in keys.items():
        entry = store.read(key)
        if entry is not None:
            found[layer] = LayerGram(
                layer=layer,
                gram=entry["gram"],
                sums=entry["sums"],
                n_units=int(entry["n_units"]),
                names=images.names,
                hashes=images.hashes,
                standardized=entry.get("standardized"),
            )
    return found


def _write_grams(
    store: ArrayStore, keys: Mapping[str, str], grams: Mapping[str, LayerGram]
) -> None:
    for layer in keys.keys() & grams.keys():
        gram = grams[layer]
        entry = {
            "gram": gram.gram,
            "sums": gram.sums,
            "n_units": np.array(gram.n_units),
            "hashes": np.array(gram.hashes),
        }
        if gram.standardized is not None:
            entry["standardized"] = gram.standardized
        store.write(keys[layer], **entry)
