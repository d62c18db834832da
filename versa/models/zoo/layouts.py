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

__all__ = [
    "LAYOUTS",
    "Layout",
    "check_held",
    "check_state",
    "matching_state",
    "state_from",
]


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


_RESNET_HEAD, _VIT_HEAD = "module.base_encoder.fc.", "module.base_encoder.head."
_MOCO_V3_REST = ("module.momentum_encoder.", "module.predictor.")

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "plain": Layout(),
        "ipcl": Layout(path=("state_dict",), prefix="module."),
        "vissl": Layout(
            path=("classy_state_dict", "base_model", "model", "trunk"),
            prefix="_feature_blocks.",
        ),
        "moco": Layout(
            path=("state_dict",),
            drop=("module.encoder_q.fc.", "module.encoder_k.", "module.queue"),
            prefix="module.encoder_q.",
        ),
        "moco_v3": Layout(
            path=("state_dict",),
            drop=(_RESNET_HEAD, _VIT_HEAD, *_MOCO_V3_REST),
            prefix="module.base_encoder.",
        ),
        "swav": Layout(
            drop=("module.projection_head.", "module.prototypes."), prefix="module."
        ),
        # temporal classification on SAYCam; the head is the file's last layer
        "tc": Layout(
            path=("model_state_dict",),
            drop=("module.fc.", "module.classifier."),
            prefix="module.",
        ),
        "dino_saycam": Layout(
            path=("teacher",), drop=("module.head.",), prefix="module.backbone."
        ),
        "mmselfsup": Layout(
            path=("state_dict",),
            drop=("neck.", "head.", "target_net.", "data_preprocessor."),
            prefix="backbone.",
        ),
        # the wrapped network lies in the file twice, the second time as the attacker's
        "robust": Layout(
            path=("model",),
            drop=("module.attacker.", "module.normalizer."),
            prefix="module.model.",
        ),
        "taskonomy": Layout(path=("state_dict",), missing=("*.num_batches_tracked",)),
        "no_head": Layout(path=("state_dict",), drop=("fc.",)),
        # the DenseNets of 2017 write norm.1 for today's norm1 and count no batches
        "torchvision": Layout(
            rename=((r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$", r"\1\2"),),
            missing=("*.num_batches_tracked",),
        ),
        # what training scripts write around the weights
        "state_dict": Layout(path=("state_dict",)),
        "model": Layout(path=("model",)),
        "model_state_dict": Layout(path=("model_state_dict",)),
        "data_parallel": Layout(prefix="module."),
        "compiled": Layout(prefix="_orig_mod."),
        "lightning": Layout(path=("state_dict",), prefix="model."),
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


def matching_state(
    checkpoint: Any, expected: Mapping[str, Any], *, source: str
) -> dict[str, Any]:
    """State dict of the network, by the one layout of `LAYOUTS` that fits exactly.

    Parameters
    ----------
    checkpoint : dict
        What ``torch.load`` gave.
    expected : dict of str to Tensor
        State dict of the network; names and shapes are compared.
    source : str
        Name of the checkpoint, for the errors.

    Returns
    -------
    state : dict of str to Tensor

    Raises
    ------
    ValueError
        If no layout gives all keys and shapes of the network and no others, or if
        two do with different tensors. Without a fit the message is that of the layout
        that comes closest.

    Examples
    --------
    >>> import numpy as np
    >>> file = {"epoch": 3, "state_dict": {"module.w": np.ones(2)}}
    >>> list(matching_state(file, {"w": np.zeros(2)}, source="toy"))
    ['w']
    """
    fitting: dict[str, dict[str, Any]] = {}
    seen: list[dict[str, int]] = []
    closest, reason = -1, ""
    for name, layout in LAYOUTS.items():
        shared = -1
        try:
            state = state_from(checkpoint, layout, source=source)
            shared = len(state.keys() & expected.keys())
            check_state(state, expected, source=source, missing=layout.missing)
        except ValueError as error:
            if shared > closest or not reason:
                closest, reason = shared, str(error)
            continue
        tensors = {key: id(value) for key, value in state.items()}
        if tensors not in seen:
            seen.append(tensors)
            fitting[name] = state
    if not fitting:
        raise ValueError(f"{reason} If another layout is meant, pass layout=.")
    if len(fitting) > 1:
        raise ValueError(
            f"{source} holds several networks that fit, under the layouts "
            f"{listing(fitting)}. Pass one of them as layout=."
        )
    return next(iter(fitting.values()))


def check_held(
    checkpoint: Any,
    layout: Layout,
    held: Mapping[str, Sequence[int]],
    *,
    source: str,
) -> None:
    """Refuse a checkpoint whose other parts are not those of the network.

    Networks of one architecture that differ only in their training have equal keys and
    shapes once the head is dropped; the shape of the head tells them apart.

    Parameters
    ----------
    checkpoint : dict
        What ``torch.load`` gave.
    layout : Layout
        How the file is written.
    held : mapping of str to sequence of int
        Shapes by the key in the file, under the path of the layout.
    source : str
        Name of the checkpoint, for the errors.

    Raises
    ------
    ValueError
        If a key is absent or has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> check_held({"fc.w": np.ones(3)}, Layout(), {"fc.w": [2]}, source="toy")
    Traceback (most recent call last):
    ...
    ValueError: toy must hold 'fc.w' of shape (2,); it is (3,). It is another network.
    """
    found = checkpoint
    for step in layout.path if held else ():
        found = _step(found, step, source)
    for key, shape in held.items():
        value = found.get(key) if isinstance(found, Mapping) else None
        has = "not there" if value is None else str(tuple(getattr(value, "shape", ())))
        if has != str(tuple(shape)):
            raise ValueError(
                f"{source} must hold {key!r} of shape {tuple(shape)}; it is {has}. It "
                "is another network."
            )


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
