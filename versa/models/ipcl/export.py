"""From the folder of a run to weights and a card that `versa.load_model` takes."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

import versa
from versa.cache import atomic_write
from versa.models.ipcl.checkpoint import (
    CHECKPOINTS,
    load_newest,
    read_state,
    saved_checkpoints,
)
from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.image_source import dataset_name
from versa.models.ipcl.learner import network_options
from versa.models.ipcl.logs import collapse_step
from versa.models.ipcl.recipes import read_text
from versa.models.ipcl.schedule import Plan
from versa.models.layers import default_layers
from versa.models.preprocess import Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.cards import ModelCard, find_card, read_card
from versa.models.zoo.listing import list_layers
from versa.models.zoo.networks import build_network

EXPORTS = "export"
_EMBEDDING = "versa.models.ipcl.network:embedding_network"
_NAME = re.compile(r"[\w@+-][\w.@+-]*")
_VALIDATION = 256 / 224  # what the short side is resized to, in crops
_TITLES = {
    "group": "AlexNet-GN",
    "batch": "AlexNet-BN",
    "local_response": "AlexNet-LRN",
}


def export_run(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    step: int | None = None,
) -> Path:
    """Write the network of a run as safetensors, with a card of the zoo beside it.

    The keys are those of the network, for AlexNet-GN the authors'. The file records
    how the network is built and how its images were prepared.

    Parameters
    ----------
    folder : path-like
        Of the run.
    out : path-like, optional
        Folder of the card and the weights; by default ``export`` in that of the run.
        With it in ``VERSA_ZOO`` the network has a name like any other.
    name : str, optional
        In the zoo; by default the name of the run's folder.
    step : int, optional
        Of the checkpoint; by default the newest.

    Returns
    -------
    card : Path
        ``<name>.toml``, beside ``<name>.safetensors``.

    Raises
    ------
    ValueError
        If there is no such checkpoint, or the name is taken or cannot be one.
    """
    folder = Path(folder)
    state = _state_of(folder, step)
    config = read_text(state["config"])
    name = folder.resolve().name if name is None else name
    place = folder / EXPORTS if out is None else Path(out)
    _check_name(name, place)
    builder, options = _constructor(config, len(state["classes"]))
    seen = config.augmentation
    size = seen.size
    preprocess = Preprocess(size, size, seen.mean, seen.std)
    validation = Preprocess(round(size * _VALIDATION), size, seen.mean, seen.std)
    module = build_network(builder, options)
    weights = {
        key: (t.float() if t.dtype == torch.float64 else t).contiguous()
        for key, t in state["network"].items()
    }
    module.load_state_dict(weights)
    model = VisionModel(name, module.eval(), preprocess, default_layers(module))
    layers = list_layers(model)
    plan = Plan(
        config.images_per_epoch or state["n_images"],
        config.group_images,
        config.groups_per_step,
        config.epochs,
    )
    table = {
        "name": name,
        "method": {"ipcl": "IPCL"}.get(config.method, config.method),
        "architecture": _architecture(config),
        "diet": "+".join(dataset_name(Path(path)) for path in config.data) or "unknown",
        "epochs": state["step"] // plan.steps_per_epoch,
        "notes": _notes(config, state, plan, folder),
        "builder": builder,
        "file": f"{name}.safetensors",
        "layers": layers["layer"].tolist(),
        "units": layers["units"].tolist(),
        "licence": "own",
        "options": options,
        "preprocess": asdict(preprocess),
        "validation": asdict(validation),
    }
    record = {
        "builder": builder,
        "options": options,
        "preprocess": asdict(preprocess),
        "classes": state["classes"] if config.method == "supervised" else [],
        "step": state["step"],
        "config": state["config"],
        "images": state["digest"],
        "versa": versa.__version__,
    }
    _write_weights(place / f"{name}.safetensors", weights, record)
    card = place / f"{name}.toml"
    _write_card(card, table)
    return card


def _notes(
    config: TrainConfig, state: Mapping[str, Any], plan: Plan, folder: Path
) -> str:
    """Remarks of a card: how it was trained, and what to be careful with."""
    said = [
        f"trained by versa {state['versa']}, step {state['step']} of {plan.n_steps}"
    ]
    if config.init_from is not None:
        said.append(f"begun from {config.init_from}")
    if (collapsed := collapse_step(folder, state["step"])) is not None:
        said.append(
            f"the embedding may have collapsed in step {collapsed}, where the negative "
            "part of the loss passed 20 times its start"
        )
    said += [f"{key}: {why}" for key, why in config.unsettled.items()]
    return "; ".join(said)


def add_accuracy(
    path: str | os.PathLike[str], accuracies: Mapping[str, float], source: str
) -> None:
    """Write accuracies that were measured into a card."""
    import tomllib

    path = Path(path)
    card = read_card(path)
    for field in accuracies:
        if field not in ("top1_knn", "top1_linear", "top1"):
            raise ValueError(f"{field} is no accuracy of a card.")
    with open(path, "rb") as file:
        table = tomllib.load(file)
    parts = [part for part in card.accuracy_source.split("; ") if part]
    names = " and ".join(accuracies)
    parts = [part for part in parts if not part.startswith(f"{names}: ")]
    table |= {
        **{field: round(float(value), 4) for field, value in accuracies.items()},
        "accuracy_source": "; ".join([*parts, f"{names}: {source}"]),
    }
    _write_card(path, table)


def _state_of(folder: Path, step: int | None) -> dict[str, Any]:
    saved = saved_checkpoints(folder / CHECKPOINTS)
    if step is not None:
        found = [one.path for one in saved if one.step == step]
        if not found:
            known = ", ".join(str(one.step) for one in saved) or "none"
            raise ValueError(
                f"step must be that of a checkpoint in {folder}, {known}; got {step}."
            )
        return read_state(found[-1])
    newest = load_newest(folder / CHECKPOINTS)
    if newest is None:
        raise ValueError(
            f"the folder of a run must hold {CHECKPOINTS} with at least one; {folder} "
            "does not. Give the --out of a training."
        )
    return newest[1]


def _check_name(name: str, place: Path) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "the name of a network must be made of letters, digits and _ . @ + -; got "
            f"{name!r}. Choose another."
        )
    known = find_card(name)
    if known is not None and (
        not known.file or Path(known.file).resolve().parent != place.resolve()
    ):
        raise ValueError(
            f"the name of a network must be its own; {name!r} is in the zoo already. "
            "Choose another."
        )


def _constructor(config: TrainConfig, n_classes: int) -> tuple[str, dict[str, Any]]:
    """Builder and options, as a card has them."""
    options = network_options(config, n_classes)
    if config.architecture == "alexnet_gn":
        return "alexnet_gn", options
    return _EMBEDDING, {"architecture": config.architecture, **options}


def _architecture(config: TrainConfig) -> str:
    if config.architecture == "alexnet_gn":
        return _TITLES[config.options.get("norm", "group")]
    return config.architecture


def _write_weights(
    path: Path, weights: dict[str, torch.Tensor], record: dict[str, Any]
) -> None:
    from safetensors.torch import save_file

    with atomic_write(path) as temporary:
        save_file(weights, temporary, metadata={"versa": json.dumps(record)})


def _write_card(path: Path, table: Mapping[str, Any]) -> None:
    """Write a card as TOML, in the order of its fields, and read it again."""
    order = [f.name for f in fields(ModelCard)]
    names = sorted(table, key=order.index)
    plain = [name for name in names if not isinstance(table[name], Mapping)]
    lines = [f"{name} = {_toml(table[name])}" for name in plain]
    for name in names:
        if isinstance(table[name], Mapping):
            lines += ["", f"[{name}]"]
            lines += [f"{_key(k)} = {_toml(v)}" for k, v in table[name].items()]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        read_card(temporary)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _toml(name)


def _toml(value: Any) -> str:
    """A value in TOML: what JSON writes for text, numbers and lists is TOML too."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if not isinstance(value, str | bool | int | float):
        raise ValueError(
            f"options of a card must be text, numbers, true or false; got {value!r}."
        )
    return json.dumps(value, ensure_ascii=False)
