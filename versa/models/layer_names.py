"""Names of what a layer returns: one of several outputs, or of several runs in a pass.

``IT[0]`` is an output, ``IT.output:4`` a run, ``IT:4[0]`` an output of a run; all are
counted from 0.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from versa.wording import unknown

_NAME = re.compile(r"(.+?)(?::(\d+))?((?:\[[^\[\]]+\])*)(?::(\d+))?")


@dataclass(frozen=True)
class LayerName:
    """A module, perhaps one of its runs, and the way to one of its outputs."""

    module: str
    run: int | None = None
    keys: tuple[str, ...] = ()


def parsed(name: str, modules: Collection[str]) -> LayerName:
    """What a name means among the names of a network's modules.

    >>> parsed("IT:4[0]", ["IT"])
    LayerName(module='IT', run=4, keys=('0',))
    >>> parsed("IT[0]", ["IT", "IT[0]"])
    LayerName(module='IT[0]', run=None, keys=())
    """
    match = _NAME.fullmatch(name)
    if name in modules or match is None or (match[2] and match[4]):
        return LayerName(name)
    module, first, keys, last = match.groups()
    run = first or last
    if module not in modules or not (run or keys):
        return LayerName(name)
    inner = tuple(keys[1:-1].split("][")) if keys else ()
    return LayerName(module, int(run) if run else None, inner)


def picked(output: object, name: str, keys: tuple[str, ...]) -> object:
    """One of the outputs of a layer; refused if there is none of that name."""
    for key in keys:
        items = _items(output)
        if key not in items:
            of = f"output of layer {name!r}"
            if not items:
                raise ValueError(
                    f"{of} must be one of several; the layer returns a "
                    f"{type(output).__name__}. Name it without [{key}]."
                )
            raise ValueError(unknown(of, key, items))
        output = items[key]
    return output


def output_names(name: str, output: object) -> list[str]:
    """Names of the tensors that a layer returns; its own if it is a single one."""
    items = {k: v for k, v in _items(output).items() if v is not None}
    if len(items) < 2:
        return [name]
    found: list[str] = []
    for key, item in items.items():
        if isinstance(item, torch.Tensor) or _items(item):
            found += output_names(f"{name}[{key}]", item)
    return found


def _items(output: object) -> dict[str, object]:
    """Members of a collection that a layer returns; empty for anything else."""
    if isinstance(output, Mapping):
        return {str(key): item for key, item in output.items()}
    if isinstance(output, tuple | list):
        return {str(place): item for place, item in enumerate(output)}
    return {}
