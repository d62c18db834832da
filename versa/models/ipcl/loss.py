"""The loss of instance-prototype contrastive learning (IPCL).

Noise-contrastive estimation in log space, exact for any number of groups at once. A
*group* is the paper's mini-batch (128 images, 5 views each): the queue of negatives
moves on by one group at a time. Groups given together see the queue that they would
have seen one after the other, so the size of a chunk and the number of processes
change the speed and nothing else.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

_EPSILON = 1e-7  # the authors', in the denominators only
_LINEAR = 40.0  # softplus(x) is x to 4e-18 from here on; torch's own limit is 20


class LossTerms(NamedTuple):
    """Loss of every group, with the two parts for the log."""

    loss: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor


def unit_rows(embeddings: torch.Tensor) -> torch.Tensor:
    """Embeddings of unit length, in the precision of the loss."""
    with torch.autocast(embeddings.device.type, enabled=False):
        if embeddings.dtype != torch.float64:
            embeddings = embeddings.float()
        return functional.normalize(embeddings, dim=-1)


class IPCLLoss(nn.Module):
    """Views of an image are drawn to their mean, and away from earlier views.

    With unit embeddings x, the prototype p of an image (the mean of its views, no
    gradient), the queue q of K earlier views, P(l) = exp(l / T) / Z, c = K / N and
    eps = 1e-7, a view costs::

        - log(P(x.p) / (P(x.p) + c + eps)) - sum_k log(c / (P(x.q_k) + c + eps))

    and the loss is the mean over views. Z is N times the mean of exp(l / T) over the
    first group in training, and is then frozen. Everything is computed as softplus of
    log-probabilities, in float32 (in float64 for float64 embeddings) even under
    autocast: in half precision the formula overflows.

    Parameters
    ----------
    dim : int
        Size of an embedding.
    queue_size : int
        K, the number of negatives.
    temperature : float
        T.
    n_images : int
        N, the number of training images. It shifts the loss and hardly its gradient.
    normalize_prototype : bool
        Whether prototypes are scaled to unit length (not in the paper).
    queue_prototypes : bool
        Whether an image enters the queue once, as its prototype (scaled if
        `normalize_prototype`), instead of with all its views (not in the paper).
    log_z : float, optional
        Natural logarithm of a fixed Z. By default it comes from the first group.
    seed : int
        Of the initial queue.

    Attributes
    ----------
    queue : Tensor of shape (dim, queue_size)
        Buffer; newest group first, and rows of a group in their own order.
    log_z : Tensor of shape ()
        Buffer in float64 whatever the type of the module, NaN until it is frozen.

    Notes
    -----
    Do not fill the queue with embeddings before the first group: Z belongs to the
    random initial queue. Keep the module outside DistributedDataParallel, whose
    broadcast of buffers would send the queue at every step.

    TF32, where the caller allows it, applies to the product with the queue: simulated
    by rounding, it moved the gradient by a relative 1e-5.

    A state dict of the authors' code is taken as it is: their ``Z`` may be an integer
    or a float, and -1 stands for "not yet frozen".

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4

    Examples
    --------
    >>> loss = IPCLLoss(dim=8, queue_size=16, n_images=100)
    >>> views = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    >>> value = loss(views, n_views=3)  # two images
    >>> bool(value > 0), loss.frozen
    (True, True)
    >>> torch.equal(loss.queue[:, :6], unit_rows(views).T)
    True
    """

    queue: torch.Tensor
    log_z: torch.Tensor

    def __init__(
        self,
        dim: int = 128,
        queue_size: int = 4096,
        temperature: float = 0.07,
        n_images: int = 1_281_167,
        *,
        normalize_prototype: bool = False,
        queue_prototypes: bool = False,
        log_z: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("dim", dim),
            ("queue_size", queue_size),
            ("temperature", temperature),
            ("n_images", n_images),
        ):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 and finite; got {value}.")
        self.dim = dim
        self.queue_size = queue_size
        self.temperature = temperature
        self.n_images = n_images
        self.normalize_prototype = normalize_prototype
        self.queue_prototypes = queue_prototypes
        rng = torch.Generator("cpu").manual_seed(seed)
        queue = torch.rand(dim, queue_size, generator=rng, device="cpu") * 2 - 1
        self.register_buffer("queue", functional.normalize(queue, dim=0))
        self.register_buffer(
            "log_z", torch.tensor(math.nan, dtype=torch.float64, device="cpu")
        )
        self._frozen = False
        if log_z is not None:
            self.freeze_z(log_z)

    @property
    def frozen(self) -> bool:
        """Whether Z is fixed."""
        return self._frozen

    def freeze_z(self, log_z: float) -> None:
        """Fix Z from now on.

        Parameters
        ----------
        log_z : float
            Natural logarithm of Z, finite.

        Raises
        ------
        ValueError
            If `log_z` is not finite.
        """
        if not math.isfinite(log_z):
            raise ValueError(
                f"log_z must be a finite number (a logarithm); got {log_z}."
            )
        self.log_z.fill_(log_z)
        self._frozen = True

    def forward(self, embeddings: torch.Tensor, n_views: int = 5) -> torch.Tensor:
        """Loss of one group; in train mode its views then enter the queue.

        Parameters
        ----------
        embeddings : Tensor of shape (n_views * n_images, dim)
            Of any length, view-major: view 1 of all images, then view 2, and so on.
        n_views : int
            Views per image, at least 2.

        Returns
        -------
        loss : Tensor of shape ()
            In nats per view.

        Raises
        ------
        ValueError
            If the shape does not suit `dim` and `n_views`.
        """
        if embeddings.ndim != 2:
            raise ValueError(
                "embeddings must be (n_views * n_images, dim); got "
                f"{tuple(embeddings.shape)}. Several groups at once go to `groups`."
            )
        return self.groups(embeddings[None], n_views).loss[0]

    def groups(
        self,
        embeddings: torch.Tensor,
        n_views: int = 5,
        *,
        gathered: torch.Tensor | None = None,
        first: int = 0,
    ) -> LossTerms:
        """Losses of consecutive groups, as if each was given to `forward` in turn.

        Parameters
        ----------
        embeddings : Tensor of shape (n_groups, n_views * n_images, dim)
            Groups of this process, view-major inside each; with `gathered` there may
            be none.
        n_views : int
            Views per image, at least 2.
        gathered : Tensor of shape (n_all_groups, n_views * n_images, dim), optional
            `unit_rows` of the groups of all processes, detached, in global order, own
            groups included. By default the own groups are all there are.
        first : int
            Place of the first own group in `gathered`.

        Returns
        -------
        terms : LossTerms
            Of the own groups. In train mode all gathered groups then enter the queue,
            and Z, if not frozen, comes from the first of them.

        Raises
        ------
        ValueError
            If shapes do not suit each other, `dim` and `n_views`.
        """
        self._check(embeddings, n_views, gathered, first)
        with torch.autocast(embeddings.device.type, enabled=False):
            x = unit_rows(embeddings)
            everyone = (x if gathered is None else gathered.to(x.dtype)).detach()
            n_groups, n_rows, _ = x.shape
            prototypes = self._prototypes(x, n_views)
            enqueued = everyone
            if self.queue_prototypes:
                enqueued = self._prototypes(everyone, n_views)
            memory = torch.cat(
                [enqueued.flip(0).flatten(0, 1), self.queue.T.to(x.dtype)]
            )
            log_z = self._log_z(everyone, memory, n_views)
            # log of the noise's density, on the scale of logits
            offset = (log_z + math.log(self.queue_size / self.n_images + _EPSILON)).to(
                x.dtype
            )

            similarity = (x.unflatten(1, (n_views, -1)) * prototypes[:, None]).sum(-1)
            positive = _softplus(offset - similarity / self.temperature)
            # Group g sees what precedes it. Strides are positive, so newest goes first
            newest = len(everyone) - (first + n_groups)
            step = enqueued.shape[1]
            windows = memory[(newest + 1) * step :].as_strided(
                (n_groups, self.queue_size, self.dim), (step * self.dim, self.dim, 1)
            )
            logits = torch.bmm(x.flip(0) / self.temperature, windows.mT)
            negative = _softplus(logits - offset).sum(2).flip(0)  # (n_groups, n_rows)

            positive_part = positive.sum((1, 2)) / n_rows
            negative_part = negative.sum(1) / n_rows + self._floor
            if self.training:
                self.queue.copy_(memory[: self.queue_size].T)
        return LossTerms(
            positive_part + negative_part,
            positive_part.detach(),
            negative_part.detach(),
        )

    def extra_repr(self) -> str:
        """Options, for ``repr``."""
        return (
            f"{self.dim}, {self.queue_size}, {self.temperature}, {self.n_images}, "
            f"normalize_prototype={self.normalize_prototype}, "
            f"queue_prototypes={self.queue_prototypes}"
        )

    @property
    def _floor(self) -> float:
        """What eps adds to the negative part, whatever the embeddings."""
        noise = self.queue_size / self.n_images
        return self.queue_size * math.log1p(_EPSILON / noise)

    def _prototypes(self, x: torch.Tensor, n_views: int) -> torch.Tensor:
        """Mean view of each image, (n_groups, n_images, dim), without gradient."""
        mean = x.detach().unflatten(1, (n_views, -1)).mean(1)
        return functional.normalize(mean, dim=-1) if self.normalize_prototype else mean

    def _log_z(
        self, everyone: torch.Tensor, memory: torch.Tensor, n_views: int
    ) -> torch.Tensor:
        """Frozen log Z, or that of the very first group, kept when training."""
        if self._frozen:
            return self.log_z
        x = everyone[:1].double()
        positive = x.unflatten(1, (n_views, -1)) * self._prototypes(x, n_views)[:, None]
        negative = x[0] @ memory[-self.queue_size :].double().T
        logits = torch.cat([positive.sum(-1).flatten(), negative.flatten()])
        mean = torch.logsumexp(logits / self.temperature, 0) - math.log(len(logits))
        log_z = mean + math.log(self.n_images)
        if self.training:
            self.log_z.copy_(log_z)
            self._frozen = True
        return log_z

    def _check(
        self,
        embeddings: torch.Tensor,
        n_views: int,
        gathered: torch.Tensor | None,
        first: int,
    ) -> None:
        shape = tuple(embeddings.shape)
        least = 1 if gathered is None else 0
        if len(shape) != 3 or shape[0] < least or shape[1] < 1 or shape[2] != self.dim:
            raise ValueError(
                f"embeddings must have {self.dim} columns and at least one row; got "
                f"shape {shape}. Set dim to the size of the network's output."
            )
        if n_views < 2 or shape[1] % n_views:
            raise ValueError(
                "n_views must be at least 2 and divide the rows of a group; got "
                f"{n_views} views and {shape[1]} rows."
            )
        if gathered is None:
            if first:
                raise ValueError(f"first must be 0 without gathered; got {first}.")
            return
        n_all = len(gathered)
        if tuple(gathered.shape[1:]) != shape[1:] or not (
            0 <= first <= n_all - shape[0]
        ):
            raise ValueError(
                "gathered must hold the own groups from first on, with rows and columns"
                f" like theirs; got shape {tuple(gathered.shape)} and first {first} "
                f"for embeddings of shape {shape}."
            )

    def _apply(self, fn: Any, recurse: bool = True) -> "IPCLLoss":
        # log Z stays float64 when the module is cast
        exact = self.log_z
        super()._apply(fn, recurse)
        if self.log_z.dtype != exact.dtype:
            self.log_z = exact.to(self.log_z.device)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        z = state_dict.pop(f"{prefix}Z", None)
        if z is not None:
            z = torch.as_tensor(z).double().reshape(())
            state_dict[f"{prefix}log_z"] = torch.where(z > 0, z.log(), math.nan)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._frozen = bool(self.log_z.isfinite())


def _softplus(x: torch.Tensor) -> torch.Tensor:
    return functional.softplus(x, threshold=_LINEAR)
