"""From a checkpoint as published to the state dict of a network.

A layout says where the weights are in the file and how their keys are written there.
One line per layout; nothing here knows a model, opens a file or imports torch.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from versa.wording import listing


@dataclass(frozen=True)
class CheckpointLayout:
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
    versions : bool
        Whether the network itself brings old files up to date, by the version numbers
        that they hold, as some of torchvision's do.

    Examples
    --------
    >>> layout = CheckpointLayout(path=("model",), prefix="encoder.")
    >>> versa.load_model(module, weights="file.pth", preprocess=preprocess,
    ...                  layout=layout)  # doctest: +SKIP
    """

    path: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    prefix: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    versions: bool = False

    def may_lack(self, key: str) -> bool:
        """Whether the file need not hold a key of the network.

        Parameters
        ----------
        key : str
            Key of the network's state dict.

        Returns
        -------
        may_lack : bool
            True if it matches one of the patterns of `missing`.
        """
        return any(fnmatchcase(key, pattern) for pattern in self.missing)


_RESNET_HEAD, _VIT_HEAD = "module.base_encoder.fc.", "module.base_encoder.head."
_MOCO_V3_REST = ("module.momentum_encoder.", "module.predictor.")

LAYOUTS: Mapping[str, CheckpointLayout] = MappingProxyType(
    {
        "plain": CheckpointLayout(),
        "ipcl": CheckpointLayout(path=("state_dict",), prefix="module."),
        "vissl": CheckpointLayout(
            path=("classy_state_dict", "base_model", "model", "trunk"),
            prefix="_feature_blocks.",
        ),
        "moco": CheckpointLayout(
            path=("state_dict",),
            drop=("module.encoder_q.fc.", "module.encoder_k.", "module.queue"),
            prefix="module.encoder_q.",
        ),
        "moco_v3": CheckpointLayout(
            path=("state_dict",),
            drop=(_RESNET_HEAD, _VIT_HEAD, *_MOCO_V3_REST),
            prefix="module.base_encoder.",
        ),
        "swav": CheckpointLayout(
            drop=("module.projection_head.", "module.prototypes."), prefix="module."
        ),
        # temporal classification on SAYCam; the head is the file's last layer
        "tc": CheckpointLayout(
            path=("model_state_dict",),
            drop=("module.fc.", "module.classifier."),
            prefix="module.",
        ),
        "dino_saycam": CheckpointLayout(
            path=("teacher",), drop=("module.head.",), prefix="module.backbone."
        ),
        "mmselfsup": CheckpointLayout(
            path=("state_dict",),
            drop=("neck.", "head.", "target_net.", "data_preprocessor."),
            prefix="backbone.",
        ),
        # the wrapped network is in the file twice, the second time as the attacker's
        "robust": CheckpointLayout(
            path=("model",),
            drop=("module.attacker.", "module.normalizer."),
            prefix="module.model.",
        ),
        "taskonomy": CheckpointLayout(
            path=("state_dict",), missing=("*.num_batches_tracked",)
        ),
        "no_head": CheckpointLayout(path=("state_dict",), drop=("fc.",)),
        # the DenseNets of 2017 write norm.1 for today's norm1 and count no batches
        "torchvision": CheckpointLayout(
            rename=((r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$", r"\1\2"),),
            missing=("*.num_batches_tracked",),
            versions=True,
        ),
        # what training scripts write around the weights
        "state_dict": CheckpointLayout(path=("state_dict",)),
        "model": CheckpointLayout(path=("model",)),
        "model_state_dict": CheckpointLayout(path=("model_state_dict",)),
        "data_parallel": CheckpointLayout(prefix="module."),
        "compiled": CheckpointLayout(prefix="_orig_mod."),
        "lightning": CheckpointLayout(path=("state_dict",), prefix="model."),
    }
)


def is_dense(value: Any) -> bool:
    """Whether it is an array with a number at every place."""
    kinds = ("is_nested", "is_quantized", "is_sparse", "is_sparse_csr")
    odd = any(getattr(value, kind, False) for kind in kinds)
    return not odd and hasattr(value, "shape")


def state_from(
    checkpoint: Any, layout: CheckpointLayout, *, source: str
) -> dict[str, Any]:
    """State dict of the network inside a checkpoint, which is not changed.

    `source` names the checkpoint in the errors. Version numbers of a checkpoint come
    along as the attribute ``_metadata``, as in PyTorch's own state dicts.
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
    state: Any = OrderedDict()
    state._metadata = getattr(found, "_metadata", {})
    for key, value in kept.items():
        name = str(key).removeprefix(layout.prefix)
        for pattern, replacement in layout.rename:
            name = re.sub(pattern, replacement, name)
        if name in state:
            raise ValueError(f"{source} holds {name!r} twice.")
        if not is_dense(value):
            raise ValueError(
                f"{source} must hold a dense tensor under {key!r}; got "
                f"{type(value).__name__}."
            )
        state[name] = value
    made: dict[str, Any] = state
    return made


def check_held(
    checkpoint: Any,
    layout: CheckpointLayout,
    held: Mapping[str, Sequence[int]],
    *,
    source: str,
) -> None:
    """Refuse a checkpoint whose other parts have not the shapes `held`.

    Networks of one architecture that differ only in their training have equal keys and
    shapes once the head is dropped; the shape of the head tells them apart.
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
    missing: tuple[str, ...] = (),
) -> None:
    """Refuse a state dict whose keys and shapes are not exactly those of the network.

    `missing` are patterns of keys that it need not hold.
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
