"""Layouts of checkpoints: where in a file the weights are, and how keys are written.

One line per layout; nothing here knows a model, opens a file or imports torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from versa.wording import unknown


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


_WRITTEN = ("path", "prefix", "drop", "missing")  # of a layout on the command line
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


def layout_of(text: str) -> CheckpointLayout:
    """A layout by its name, or written out for a command line.

    >>> layout_of("path=model/ema,prefix=net.").path
    ('model', 'ema')
    """
    if "=" not in text:
        if text not in LAYOUTS:
            raise ValueError(unknown("layout", text, LAYOUTS))
        return LAYOUTS[text]
    fields: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in _WRITTEN:
            raise ValueError(unknown("part of a layout", name, _WRITTEN))
        fields[name] = value if name == "prefix" else tuple(value.split("/"))
    return CheckpointLayout(**fields)
