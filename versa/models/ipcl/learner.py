"""A network in training: its weights, the loss, the optimizer, and their one step.

A step is made of rounds. In a round every process takes some groups through the
network; what the groups leave behind (queue, running statistics) moves on as if they
had come one after the other, whoever took them. Gradients are exchanged once per step.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from versa.models.ipcl.augment import views
from versa.models.ipcl.color_jitter import color_jitter_fused
from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.image_source import ImageSource
from versa.models.ipcl.loader import BadImages, Chunk, ChunkLoader
from versa.models.ipcl.loss import IPCLLoss, unit_rows
from versa.models.ipcl.memory_format import fast_memory_format
from versa.models.ipcl.network import random_layers, training_network
from versa.models.ipcl.norms import apply_statistics, set_groups, take_statistics
from versa.models.ipcl.process_group import ProcessGroup
from versa.models.ipcl.random_numbers import DROPOUT, draws, hashed
from versa.models.ipcl.spread import SPREAD, moments, spread
from versa.models.zoo.loading import network_from
from versa.models.zoo.networks import build_seeded
from versa.models.zoo.weights import own_file

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(ValueError):  # noqa: N818
    """The loss or its gradient is no longer finite."""


def network_options(config: TrainConfig, n_classes: int) -> dict[str, Any]:
    """Arguments of `training_network`, and of a card, for the network of a run."""
    ipcl = config.method == "ipcl"
    head = {"out_dim": config.dim if ipcl else n_classes, "l2norm": ipcl}
    return {**config.options, **head}


def loss_parts(config: TrainConfig) -> list[str]:
    """Names of the loss and of what it is made of, or of what goes with it."""
    if config.method == "supervised":
        return ["loss", "accuracy"]
    return ["loss", "positive", "negative"]


def logged_parts(config: TrainConfig) -> list[str]:
    """`loss_parts`, and how far the embeddings of a step are spread out."""
    return [*loss_parts(config), *(SPREAD if config.method == "ipcl" else ())]


class Learner:
    """A network in training; its loss is None if it is supervised."""

    def __init__(
        self, config: TrainConfig, *, n_images: int, n_classes: int, group: ProcessGroup
    ) -> None:
        self.config = config
        self.group = group
        kind = torch.float64 if config.precision == "fp64" else torch.float32
        self._options = network_options(config, n_classes)
        network = build_seeded(
            lambda: training_network(config.architecture, self._options), config.seed
        )
        compiled = config.engine.compile
        network = network.to(group.device, kind)
        self.network = fast_memory_format(
            network, group.device, compiled=compiled
        ).train()
        self.rows = config.group_images * config.n_views
        set_groups(self.network, self.rows, collect=not group.alone)
        self.loss = None
        if config.method == "ipcl":
            chosen = config.loss
            self.loss = IPCLLoss(
                config.dim,
                chosen.queue_size,
                chosen.temperature,
                chosen.n_images or n_images,
                normalize_prototype=chosen.normalize_prototype,
                queue_prototypes=chosen.queue_prototypes,
                log_z=chosen.log_z,
                seed=config.seed,
            ).to(group.device, kind)
        self._parameters = [p for p in self.network.parameters() if p.requires_grad]
        cuda = group.device.type == "cuda"
        self.optimizer = torch.optim.SGD(
            self._parameters,
            lr=config.optimizer.lr,
            momentum=config.optimizer.momenta[0],
            weight_decay=config.optimizer.weight_decay,
            fused=cuda or None,
        )
        self._scaler = torch.amp.GradScaler(
            group.device.type, enabled=config.precision == "fp16"
        )
        # at most two sizes of a chunk, each compiled for itself
        self._forward: Any = (
            torch.compile(self.network, dynamic=False) if compiled else self.network
        )
        self._color_jitter = torch.compile(color_jitter_fused) if compiled else None
        self._drops = bool(random_layers(self.network))
        self._sums: list[torch.Tensor] = []
        self._moments: list[torch.Tensor] = []  # of the embeddings of a step
        self._before: dict[str, Any] = {}

    def loader(self, images: ImageSource, bad: BadImages) -> ChunkLoader:
        """Images decoded for this network and device."""
        engine = self.config.engine
        return ChunkLoader(
            images,
            short_side=self.config.short_side,
            workers=engine.workers or self.group.cores,
            prefetch=engine.prefetch,
            pinned=self.group.device.type == "cuda",
            bad=bad,
        )

    def views(self, chunk: Chunk, epoch: int) -> torch.Tensor:
        """Views (n_groups * n_views * group_images, 3, size, size) of whole groups.

        Group after group, view-major inside each; on the device.
        """
        config = self.config
        drawn = draws(
            config.augmentation,
            seed=config.seed,
            epoch=epoch,
            images=chunk.indices.numpy(),
            n_views=config.n_views,
            sizes=chunk.sizes.numpy(),
        )
        x = views(
            chunk.canvases.to(self.group.device, non_blocking=True),
            drawn,
            config.augmentation,
            dtype=self.input_type,
            color_jitter=self._color_jitter,
        )
        n_groups = len(chunk.indices) // config.group_images
        shape = (config.n_views, n_groups, config.group_images)
        return x.unflatten(0, shape).transpose(0, 1).flatten(0, 2)

    @property
    def input_type(self) -> torch.dtype:
        """Type of what the network takes."""
        if self.config.precision == "fp64":
            return torch.float64
        on_cpu = self.group.device.type == "cpu"
        return (
            torch.float32 if on_cpu else _HALF.get(self.config.precision, torch.float32)
        )

    def cast(self) -> AbstractContextManager[Any]:
        """The precision in which the network computes."""
        half = _HALF.get(self.config.precision)
        if half is None:
            return nullcontext()
        return torch.autocast(self.group.device.type, dtype=half)

    def begin(self) -> None:
        """Start a step. What `abandon` needs is copied."""
        self._sums, self._moments = [], []
        self._before = {
            "network": {k: b.clone() for k, b in self.network.named_buffers()},
            "loss": {}
            if self.loss is None
            else {k: b.clone() for k, b in self.loss.state_dict().items()},
        }

    def abandon(self) -> None:
        """Undo what the rounds of an unfinished step, if any, have left behind."""
        if not self._before:
            return
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for key, buffer in self.network.named_buffers():
                buffer.copy_(self._before["network"][key])
        if self.loss is not None:
            self.loss.load_state_dict(self._before["loss"])

    def learn(
        self, x: torch.Tensor, labels: torch.Tensor, counts: Sequence[int], step: int
    ) -> None:
        """One round: gradients of the own groups are added to those of the step.

        x is as `views` gives it, of `counts[rank]` groups (maybe 0); labels are of its
        images (n_groups * group_images,); counts are the groups of each process.
        """
        own = counts[self.group.rank]
        if self.group.device.type == "cuda":  # without waiting for what it is doing
            labels = labels.pin_memory().to(self.group.device, non_blocking=True)
        if own:
            with self._drawing(step), self.cast():
                out = self._forward(x).unflatten(0, (own, self.rows))
        else:
            units = self.config.dim if self.loss is not None else 1
            out = x.new_zeros(0, self.rows, units)
        if self.loss is not None:
            first = sum(counts[: self.group.rank])
            losses, sums = self._contrast(self.loss, out, counts, first)
        else:
            losses, sums = self._classify(out, labels)
        self._sums.append(sums)
        if own:
            share = losses.sum() / self.config.groups_per_step
            self._scaler.scale(share).backward()
        if not self.group.alone:
            found = take_statistics(self.network)
            if found.shape[1]:
                apply_statistics(self.network, self.group.all_gather(found, counts))

    def finish(self, step: int, lr: float, momentum: float) -> dict[str, float]:
        """End a step: exchange gradients and change the weights.

        Returns the values of `logged_parts` and the norm of the gradient.
        If one is not finite, it raises Diverged and leaves the weights as they were.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.group.all_reduce_tensors(gradients)
        self._scaler.unscale_(self.optimizer)
        norm = torch.stack([g.detach().norm() for g in gradients]).norm()
        own = torch.stack(self._sums).sum(0).tolist()
        sums = [
            value / self.config.groups_per_step for value in self.group.all_reduce(own)
        ]
        found = dict(zip(loss_parts(self.config), sums, strict=True))
        found["gradient_norm"] = float(norm)
        bad = [
            name
            for name, value in found.items()
            if not math.isfinite(value)
            # in fp16 the scaler leaves such a step out and continues more carefully
            and not (name == "gradient_norm" and self._scaler.is_enabled())
        ]
        if bad:
            raise Diverged(
                f"{bad[0]} must be finite; it is {found[bad[0]]} in step {step}. What "
                "was saved before is kept. Train in another folder with a lower "
                "optimizer.lr, or a precision of wider range, such as bf16 or fp32."
            )
        if self._moments:
            total = torch.stack(self._moments).sum(0)
            self.group.all_reduce_tensors([total])
            found |= spread(total)
        for group in self.optimizer.param_groups:
            group["lr"], group["momentum"] = lr, momentum
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._before = {}
        return found

    def state(self) -> dict[str, Any]:
        """Everything that changes in training, on the CPU."""
        parts = {
            "network": self.network.state_dict(),
            "loss": {} if self.loss is None else self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        kept: dict[str, Any] = _on_cpu(parts)
        return kept

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        try:
            self.network.load_state_dict(state["network"])
            if self.loss is not None:
                self.loss.load_state_dict(state["loss"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
        except (RuntimeError, KeyError, TypeError) as error:
            raise ValueError(
                "a checkpoint must hold the network, the loss and the optimizer of "
                f"this configuration; it does not ({str(error)[:200]})."
            ) from error

    def begin_from(self, weights: Path) -> None:
        """Begin with the weights of a file."""
        made = network_from(
            lambda: training_network(self.config.architecture, self._options),
            own_file(weights),
        )
        self.network.load_state_dict(made.state_dict())

    def begin_after(self, state: dict[str, Any]) -> None:
        """Begin with the network, the queue and Z of another run."""
        try:
            self.network.load_state_dict(state["network"])
            if self.loss is not None and state["loss"]:
                self.loss.load_state_dict(state["loss"])
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                "init_from must be a run of the same network, and for IPCL of the same "
                f"dim and loss.queue_size; it is not ({str(error)[:200]}). Export it, "
                "and begin from its weights."
            ) from error

    def _contrast(
        self, loss: IPCLLoss, out: torch.Tensor, counts: Sequence[int], first: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gathered, rows = None, unit_rows(out.detach())
        self._moments.append(moments(rows.flatten(0, 1)))
        if not self.group.alone:
            gathered = self.group.all_gather(rows, counts)
        terms = loss.groups(
            out,
            self.config.n_views,
            gathered=gathered,
            first=0 if gathered is None else first,
        )
        parts = torch.stack([terms.loss.detach(), terms.positive, terms.negative])
        return terms.loss, parts.double().sum(1)

    def _classify(
        self, out: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_groups, n_views = len(out), self.config.n_views
        truth = labels.view(n_groups, 1, self.config.group_images)
        truth = truth.expand(-1, n_views, -1).reshape(n_groups, self.rows)
        logits = out if out.dtype == torch.float64 else out.float()
        costs = [
            functional.cross_entropy(rows, classes)
            for rows, classes in zip(logits, truth, strict=True)
        ]
        losses = torch.stack(costs) if costs else logits.new_zeros(0)
        hits = 100 * (logits.detach().argmax(-1) == truth).double().mean(1)
        return losses, torch.stack([losses.detach().double().sum(), hits.sum()])

    def _drawing(self, step: int) -> AbstractContextManager[Any]:
        """Seeds of Dropout and its like, so that a restart changes nothing."""
        if not self._drops:
            return nullcontext()
        place = (step, len(self._sums), self.group.rank)
        seed = int(hashed(self.config.seed, DROPOUT, *place)[0] >> 1)
        return _seeded(seed, self.group.device)


@contextmanager
def torch_flags(precision: str, device: torch.device) -> Iterator[None]:
    """torch's global flags for the arithmetic of a training; as before at the end."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32 = True, precision == "tf32"
    matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A seed of torch's generators that is forgotten at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _on_cpu(value: Any) -> Any:
    """Plain containers with tensors of the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value
