"""Hashes of what a network holds."""

import hashlib
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from versa.parallel import n_cores

__all__ = ["tensor_bytes", "weights_digest"]

_BLOCK_BYTES = 2**24  # hashed at a time, several blocks side by side

# module: (what its tensors looked like, digest)
_digests: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, str]]" = (
    weakref.WeakKeyDictionary()
)


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over the state dict: names, types, shapes and bytes.

    It is remembered until a tensor moves, counts another version or has another sum
    of its bits.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    digest : str
        64 hexadecimal digits.
    """
    state = module.state_dict()
    tensors = {k: v.detach() for k, v in state.items() if isinstance(v, torch.Tensor)}
    look = tuple(
        (name, tensor.data_ptr(), _version(state[name]), _checksum(tensor))
        for name, tensor in tensors.items()
    )
    known = _digests.get(module)
    if known is not None and known[0] == look:
        return known[1]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=min(8, n_cores())) as pool:
        for name, value in state.items():
            if name not in tensors:
                digest.update(f"{name} {value!r}".encode())
                continue
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            content = tensor_bytes(tensors[name])
            blocks = range(0, max(1, len(content)), _BLOCK_BYTES)
            for part in pool.map(
                lambda k, c=content: hashlib.sha256(c[k : k + _BLOCK_BYTES]).digest(),
                blocks,
            ):
                digest.update(part)
    _digests[module] = (look, digest.hexdigest())
    return digest.hexdigest()


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _checksum(tensor: torch.Tensor) -> int:
    """Sum of the bits: cheap, and sees what was written through ``.data``."""
    content = tensor.contiguous().reshape(-1).view(torch.uint8)
    whole = len(content) // 8 * 8
    # view(int64) needs an aligned start; the first bytes of a tensor may not be
    if whole and content.data_ptr() % 8 == 0:
        words = content[:whole].view(torch.int64)
        return int(words.sum()) + int(content[whole:].sum())
    return int(content.sum())


def tensor_bytes(tensor: torch.Tensor) -> np.ndarray:
    """Content of a tensor.

    Parameters
    ----------
    tensor : Tensor
        Of any shape and type, on any device.

    Returns
    -------
    content : ndarray of uint8, shape (n_bytes,)
        In C order; shares memory with the tensor where it can.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()
