"""Building a module: with seeded weights, or on the meta device without memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def build_seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network on the CPU with PyTorch's own initialisation under a seed.

    The same seed gives the same weights in every process, and the global random
    state is left as it was.

    >>> first, second = (build_seeded(lambda: nn.Linear(2, 1), 3) for _ in range(2))
    >>> bool((first.weight == second.weight).all())
    True
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed reseeds GPUs too
        return build()


def on_meta_device(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network as names and shapes: no memory for weights, no initialisation.

    A network whose constructor reads a number of a tensor is built in full and moved.
    """
    try:
        with torch.device("meta"), _NoInitialisation():
            module = build()
    except (NotImplementedError, RuntimeError, ValueError):
        module = build_seeded(build, 0)
    return module.to("meta")


class _NoInitialisation(torch.overrides.TorchFunctionMode):
    """Leaves out what would only write into tensors without memory: half the time."""

    _METHODS = ("fill_", "normal_", "uniform_", "zero_")
    _WRITING = frozenset(getattr(torch.Tensor, name) for name in _METHODS)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """See the base class."""
        if func in self._WRITING and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
