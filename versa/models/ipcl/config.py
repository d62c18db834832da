"""The configuration of a training run: every option, typed and checked.

The defaults are the recipe of Konkle & Alvarez (2022); `versa.models.ipcl.recipes`
reads others from YAML.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from versa.models.ipcl.augmentation import SET_1, Augmentation
from versa.wording import unknown

_METHODS = ("ipcl", "supervised")
_PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp64")


def _check(record: Any, *rules: tuple[str, bool, str]) -> None:
    for name, kept, rule in rules:
        if not kept:
            raise ValueError(f"{name} must be {rule}; got {getattr(record, name)}.")


@dataclass(frozen=True)
class LossConfig:
    """Options of the loss; see `versa.models.ipcl.IPCLLoss`.

    Parameters
    ----------
    queue_size : int
        K, earlier views that serve as negatives.
    temperature : float
        T.
    n_images : int, optional
        N of the noise; default: the number of training images.
    normalize_prototype : bool
        Whether prototypes are scaled to unit length (not in the paper).
    queue_prototypes : bool
        Whether the queue holds prototypes instead of views (not in the paper).
    log_z : float, optional
        Natural logarithm of a fixed Z; default: from the first group.
    """

    queue_size: int = 4096
    temperature: float = 0.07
    n_images: int | None = None
    normalize_prototype: bool = False
    queue_prototypes: bool = False
    log_z: float | None = None

    def __post_init__(self) -> None:
        _check(
            self,
            ("queue_size", self.queue_size >= 1, "at least 1"),
            ("temperature", 0 < self.temperature < math.inf, "above 0"),
            ("n_images", self.n_images is None or self.n_images >= 1, "at least 1"),
            ("log_z", self.log_z is None or math.isfinite(self.log_z), "finite"),
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD without Nesterov momentum, under one cycle of rate and momentum.

    Parameters
    ----------
    lr : float
        Peak learning rate.
    weight_decay : float
        Of all parameters, norms and biases included.
    warmup : float
        Part of the training in which the rate rises, in [0, 1].
    start_divisor, end_divisor : float
        The rate begins at ``lr / start_divisor`` and ends at that ``/ end_divisor``.
    momenta : tuple of 2 floats
        Momentum at both ends and at the peak, in [0, 1).
    """

    lr: float = 0.03
    weight_decay: float = 5e-4
    warmup: float = 0.4
    start_divisor: float = 1e3
    end_divisor: float = 1e4
    momenta: tuple[float, float] = (0.95, 0.85)

    def __post_init__(self) -> None:
        _check(
            self,
            ("lr", 0 < self.lr < math.inf, "above 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("warmup", 0 <= self.warmup <= 1, "in [0, 1]"),
            ("start_divisor", 1 <= self.start_divisor < math.inf, "at least 1"),
            ("end_divisor", 1 <= self.end_divisor < math.inf, "at least 1"),
            (
                "momenta",
                len(self.momenta) == 2 and all(0 <= m < 1 for m in self.momenta),
                "two numbers in [0, 1)",
            ),
        )


@dataclass(frozen=True)
class MonitorConfig:
    """What is measured between epochs; it never changes the training.

    Parameters
    ----------
    val : str, optional
        Folder or packed file of validation images with the classes of the training
        images. IPCL: accuracy of the nearest neighbours among the training images;
        supervised: accuracy of the classifier.
    every : int
        Epochs between two measurements; 0 for none.
    k, temperature : int, float
        Of the vote of the neighbours.
    gallery : int, optional
        Training images that vote; default: all.
    pairs : int
        Images of which two views that no epoch shows are compared: how often is the
        nearest neighbour among all second views that of the same image? 0 for none.
    """

    val: str | None = None
    every: int = 1
    k: int = 200
    temperature: float = 0.07
    gallery: int | None = None
    pairs: int = 1024

    def __post_init__(self) -> None:
        _check(
            self,
            ("every", self.every >= 0, "at least 0"),
            ("k", self.k >= 1, "at least 1"),
            ("temperature", 0 < self.temperature < math.inf, "above 0"),
            ("gallery", self.gallery is None or self.gallery >= 1, "at least 1"),
            ("pairs", self.pairs >= 0, "at least 0"),
        )


@dataclass(frozen=True)
class EngineConfig:
    """How the work is done; results stay the same but for rounding.

    Parameters
    ----------
    device : str, optional
        "cpu" or "cuda"; default: CUDA where there is a device.
    chunk_groups : int
        Groups that go through the network together, on one process. More are faster
        as long as memory suffices.
    workers : int, optional
        Threads that decode, of one process; default: its usable cores.
    prefetch : int
        Chunks that are decoded ahead.
    compile : bool
        Whether the network is compiled (`torch.compile`); for GPUs.
    save_minutes : float
        Time between two checkpoints, beside those after every epoch.
    keep : int
        Newest checkpoints that are kept, beside every tenth epoch.
    max_bad : float
        Share of the images that may be damaged, in [0, 1].
    """

    device: str | None = None
    chunk_groups: int = 1
    workers: int | None = None
    prefetch: int = 2
    compile: bool = False
    save_minutes: float = 15.0
    keep: int = 3
    max_bad: float = 0.001

    def __post_init__(self) -> None:
        _check(
            self,
            ("chunk_groups", self.chunk_groups >= 1, "at least 1"),
            ("workers", self.workers is None or self.workers >= 1, "at least 1"),
            ("prefetch", self.prefetch >= 1, "at least 1"),
            ("save_minutes", self.save_minutes > 0, "above 0"),
            ("keep", self.keep >= 1, "at least 1"),
            ("max_bad", 0 <= self.max_bad <= 1, "in [0, 1]"),
        )
        devices = ("cpu", "cuda")
        if self.device is not None and self.device not in devices:
            raise ValueError(unknown("device", self.device, devices))


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Parameters
    ----------
    data : tuple of str
        Folders or packed files of training images.
    method : {"ipcl", "supervised"}
        Supervised: cross-entropy over the classes of the images, in the same engine.
    architecture : str
        ``alexnet_gn``, ``torchvision/NAME``, ``timm/NAME``, or
        ``package.module:callable``, called with ``out_dim=`` and the options.
    options : mapping
        Arguments of its constructor, such as ``norm: batch`` of alexnet_gn.
    dim : int
        Size of the embedding.
    seed : int
        Of weights, order of images, views and queue.
    epochs : int
    images_per_epoch : int, optional
        Default: all images.
    weights : tuple of float
        Share of each folder in an epoch; default: its number of images.
    short_side : int
        Larger images are shrunk to this short side before anything else, in pixels.
    n_views : int
        Views per image.
    group_images : int
        Images of a group, the paper's mini-batch: BatchNorm and the queue see groups.
    groups_per_step : int
        Groups of one optimizer step.
    precision : {"fp32", "tf32", "bf16", "fp16", "fp64"}
        Of the network; the loss is computed in fp32 or better. tf32 is for the
        convolutions alone; fp64 is for tests.
    init_from : str, optional
        Weights that the run begins with: a file; or the folder of another run, whose
        queue and Z are taken over too, for a training that is continued by a new cycle.
    unsettled : mapping of str to str
        Keys of a recipe whose values are not known to be the paper's, and why. Said at
        the start and in the card; a key that is changed is dropped by `read_config`.
    augmentation : Augmentation
    loss : LossConfig
    optimizer : OptimizerConfig
    monitor : MonitorConfig
    engine : EngineConfig

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4

    Examples
    --------
    >>> TrainConfig(epochs=10).optimizer.lr
    0.03
    """

    data: tuple[str, ...] = ()
    method: str = "ipcl"
    architecture: str = "alexnet_gn"
    options: Mapping[str, Any] = field(default_factory=dict)
    dim: int = 128
    seed: int = 0
    epochs: int = 100
    images_per_epoch: int | None = None
    weights: tuple[float, ...] = ()
    short_side: int = 256
    n_views: int = 5
    group_images: int = 128
    groups_per_step: int = 20
    precision: str = "fp32"
    init_from: str | None = None
    unsettled: Mapping[str, str] = field(default_factory=dict)
    augmentation: Augmentation = SET_1
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    monitor: MonitorConfig = MonitorConfig()
    engine: EngineConfig = EngineConfig()

    def __post_init__(self) -> None:
        least = 2 if self.method == "ipcl" else 1
        per_epoch = self.images_per_epoch
        _check(
            self,
            ("dim", self.dim >= 1, "at least 1"),
            ("seed", 0 <= self.seed < 2**63, "from 0 to 2**63 - 1"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("images_per_epoch", per_epoch is None or per_epoch >= 1, "at least 1"),
            (
                "weights",
                all(0 <= w < math.inf for w in self.weights)
                and (not self.weights or sum(self.weights) > 0),
                "numbers of at least 0, not all 0",
            ),
            ("short_side", self.short_side >= 2, "at least 2"),
            ("n_views", self.n_views >= least, f"at least {least}"),
            ("group_images", self.group_images >= 1, "at least 1"),
            ("groups_per_step", self.groups_per_step >= 1, "at least 1"),
        )
        for name, options in (("method", _METHODS), ("precision", _PRECISIONS)):
            if getattr(self, name) not in options:
                raise ValueError(unknown(name, getattr(self, name), options))
        if self.group_images * self.n_views < 2:
            raise ValueError(
                "group_images times n_views must be at least 2, which a BatchNorm "
                "needs; got 1."
            )
        if known := [name for name in ("out_dim", "l2norm") if name in self.options]:
            raise ValueError(
                f"options must leave out {known[0]}, which dim and method set; got "
                f"{self.options[known[0]]}."
            )
        if self.weights and self.data and len(self.weights) != len(self.data):
            raise ValueError(
                "weights must hold one number per data folder; got "
                f"{len(self.weights)} for {len(self.data)}."
            )
