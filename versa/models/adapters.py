"""From a checkpoint as published to the state dict of a network.

A layout says where the weights lie in the file and how their keys are written there.
One line per layout; nothing here knows a model, opens a file or imports torch.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from versa.wording import listing

__all__ = ["LAYOUTS", "Layout", "check_state", "state_from"]


@dataclass(frozen=True)
class Layout:
    """How a checkpoint stores the weights of one network.

    Parameters
    ----------
    path : tuple of str
        Keys of the nested dicts that lead to the weights.
    drop : tuple of str
        Keys that start with one of these belong to other parts (heads, queues).
    prefix : str
        Every key that is left starts with this text, which is cut off once.
    rename : tuple of (pattern, replacement)
        Regular expressions, applied in order to the keys without prefix.
    missing : tuple of str
        Keys of the network (``*`` is any text) that the file need not hold.
    """

    path: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    prefix: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "plain": Layout(),
        "ipcl": Layout(path=("state_dict",), prefix="module."),
        # the DenseNets of 2017 write norm.1 for today's norm1
        "torchvision": Layout(
            rename=((r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$", r"\1\2"),)
        ),
    }
)


def state_from(checkpoint: Any, layout: Layout, *, source: str) -> dict[str, Any]:
    """State dict of the network inside a checkpoint.

    Parameters
    ----------
    checkpoint : dict
        What ``torch.load`` gave.
    layout : Layout
        How the file is written.
    source : str
        Name of the checkpoint, for the errors.

    Returns
    -------
    state : dict of str to Tensor
        Keys as in the network. Nothing of `checkpoint` is changed.

    Raises
    ------
    ValueError
        If the path does not exist, a key lacks the prefix, two keys become one, or a
        value is no tensor.

    Examples
    --------
    >>> import numpy as np
    >>> file = {"epoch": 3, "state_dict": {"module.fc.weight": np.ones((2, 2))}}
    >>> list(state_from(file, LAYOUTS["ipcl"], source="toy"))
    ['fc.weight']
    """
    found = checkpoint
    for step in layout.path:
        found = _step(found, step, source)
    if not isinstance(found, Mapping):
        raise ValueError(
            f"{source} must hold a dict of weights; got {type(found).__name__}."
        )
    kept = {
        key: value
        for key, value in found.items()
        if not str(key).startswith(layout.drop or ("\0",))
    }
    bare = [key for key in kept if not str(key).startswith(layout.prefix)]
    if bare:
        raise ValueError(
            f"{source} must hold keys that start with {layout.prefix!r}; got "
            f"{listing(bare)}. The file has another layout than its card says."
        )
    state: dict[str, Any] = {}
    for key, value in kept.items():
        name = str(key).removeprefix(layout.prefix)
        for pattern, replacement in layout.rename:
            name = re.sub(pattern, replacement, name)
        if name in state:
            raise ValueError(f"{source} holds {name!r} twice.")
        if not hasattr(value, "shape"):
            raise ValueError(
                f"{source} must hold a tensor under {key!r}; got "
                f"{type(value).__name__}."
            )
        state[name] = value
    return state


def check_state(
    state: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    source: str,
    missing: Sequence[str] = (),
) -> None:
    """Refuse a state dict that is not exactly that of the network.

    Parameters
    ----------
    state, expected : dict of str to Tensor
        Of the file and of the network; only names and shapes are compared.
    source : str
        Name of the checkpoint, for the errors.
    missing : sequence of str
        Patterns of keys that `state` need not hold.

    Raises
    ------
    ValueError
        If a key is absent, a key is unknown, or a shape differs.

    Examples
    --------
    >>> import numpy as np
    >>> check_state({"w": np.ones(3)}, {"w": np.ones(2)}, source="toy")
    Traceback (most recent call last):
        ...
    ValueError: toy has other shapes than the network: w is (3,), not (2,).
    """
    absent = [
        key
        for key in expected
        if key not in state and not any(fnmatchcase(key, p) for p in missing)
    ]
    if absent:
        raise ValueError(
            f"{source} lacks {len(absent)} of the network's {len(expected)} keys: "
            f"{listing(absent)}."
        )
    extra = [key for key in state if key not in expected]
    if extra:
        raise ValueError(
            f"{source} holds {len(extra)} keys that the network has not: "
            f"{listing(extra)}."
        )
    differing = [
        f"{key} is {tuple(value.shape)}, not {tuple(expected[key].shape)}"
        for key, value in state.items()
        if tuple(value.shape) != tuple(expected[key].shape)
    ]
    if differing:
        raise ValueError(
            f"{source} has other shapes than the network: {listing(differing)}."
        )


def _step(found: Any, step: str, source: str) -> Any:
    if not isinstance(found, Mapping):
        raise ValueError(
            f"{source} must hold a dict with the key {step!r}; got "
            f"{type(found).__name__}."
        )
    if step not in found:
        raise ValueError(
            f"{source} must hold the key {step!r}; got {listing(found)}. The file has "
            "another layout than its card says."
        )
    return found[step]
