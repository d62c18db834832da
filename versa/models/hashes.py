"""Hashes of what a network holds, and of what it does with an image."""

import dataclasses
import enum
import functools
import hashlib
import logging
import re
import types
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import nn

from versa.parallel import n_cores

logger = logging.getLogger("versa")

_BLOCK_BYTES = 2**24  # hashed at a time, several blocks side by side
_LIBRARIES = ("builtins", "torch", "torchvision", "timm", "versa")
# what every module has; its tensors and children are hashed as weights and structure
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")

# module: (what its tensors looked like, digest)
_digests: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, str]]" = (
    weakref.WeakKeyDictionary()
)


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over the state dict: names, types, shapes and bytes.

    It is remembered until a tensor moves, counts another version or has another sum
    of its bits.
    """
    state = module.state_dict()
    tensors = {k: v.detach() for k, v in state.items() if isinstance(v, torch.Tensor)}
    parts = {name: plain_parts(tensor) for name, tensor in tensors.items()}
    look = tuple(
        (name, kind, part.data_ptr(), _version(state[name]), _checksum(part))
        for name, pairs in parts.items()
        for kind, part in pairs
    )
    known = _digests.get(module)
    if known is not None and known[0] == look:
        return known[1]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=min(8, n_cores())) as pool:
        for name, value in state.items():
            if name not in tensors:
                digest.update(f"{name} {_held(value)}".encode())
                continue
            for kind, part in parts[name]:
                digest.update(f"{name} {kind}".encode())
                content = tensor_bytes(part)
                blocks = range(0, max(1, len(content)), _BLOCK_BYTES)
                for block in pool.map(
                    lambda k, c=content: hashlib.sha256(
                        c[k : k + _BLOCK_BYTES]
                    ).digest(),
                    blocks,
                ):
                    digest.update(block)
    _digests[module] = (look, digest.hexdigest())
    return digest.hexdigest()


def plain_parts(tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The dense tensors that a tensor consists of, each with what it is.

    That is one for ordinary tensors; quantised, sparse and nested ones and subclasses
    of several tensors have no bytes of their own to look at.
    """
    kind = f"{tensor.dtype} {_shape(tensor)}"
    if tensor.is_meta:
        raise ValueError("weights must have values; a tensor is on the meta device.")
    if hasattr(tensor, "__tensor_flatten__"):
        names, context = tensor.__tensor_flatten__()
        whole = f"{type(tensor).__name__} {kind} {context!r}"
        return _named_parts(whole, {name: getattr(tensor, name) for name in names})
    if tensor.is_nested:
        return _named_parts("nested", dict(enumerate(tensor.unbind())))
    if type(tensor) not in (torch.Tensor, nn.Parameter, nn.Buffer):
        tensor = _as_plain(tensor)
    if tensor.is_quantized:
        scheme = str(tensor.qscheme())
        if "channel" in scheme:
            parts = {
                "scales": tensor.q_per_channel_scales(),
                "zero points": tensor.q_per_channel_zero_points(),
            }
            scheme += f" {tensor.q_per_channel_axis()}"
        else:
            scheme += f" {tensor.q_scale()!r} {tensor.q_zero_point()}"
            parts = {}
        return _named_parts(f"{kind} {scheme}", {"": tensor.int_repr(), **parts})
    if tensor.layout == torch.strided:
        return [(kind, tensor.resolve_conj().resolve_neg())]
    whole = f"{kind} {tensor.layout}"
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        names = ("indices", "values")
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        names = ("crow_indices", "col_indices", "values")
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        names = ("ccol_indices", "row_indices", "values")
    else:
        return [(whole, tensor.to_dense())]
    return _named_parts(whole, {name: getattr(tensor, name)() for name in names})


def _named_parts(
    whole: str, parts: Mapping[Any, torch.Tensor]
) -> list[tuple[str, torch.Tensor]]:
    return [
        (f"{whole} {name} {kind}", part)
        for name, tensor in parts.items()
        for kind, part in plain_parts(tensor)
    ]


def _shape(tensor: torch.Tensor) -> str:
    return "nested" if tensor.is_nested else str(tuple(tensor.shape))


def _as_plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of a subclass as one of torch's own; refused if it has no memory."""
    try:
        with torch._C.DisableTorchFunctionSubclass():
            plain = tensor.as_subclass(torch.Tensor)
            if not tensor.numel() or plain.untyped_storage().data_ptr():
                return plain
    except Exception as error:  # whatever a class of others raises
        logger.debug("%s", error)
    raise ValueError(
        "weights must be tensors whose numbers can be read; got one of type "
        f"{type(tensor).__name__}, which has none of its own. Convert the network to "
        "ordinary tensors first."
    )


def _held(value: Any) -> str:
    """Another thing than a tensor in a state dict, in words that tell its content."""
    if isinstance(value, torch.Tensor):
        return tensor_digest(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        content = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
        return f"{value.dtype} {value.shape} {content}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_held, value))})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {_held(v)}' for k, v in value.items())}}}"
    return repr(value)


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
    """Bytes of a tensor (n_bytes,), in C order; shares memory with it where it can."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's type, shape and bytes."""
    digest = hashlib.sha256()
    for kind, part in plain_parts(tensor):
        digest.update(kind.encode())
        digest.update(tensor_bytes(part).data)
    return digest.hexdigest()


def structure(module: nn.Module) -> str:
    """Text of a network's modules, without addresses in memory."""
    return _ADDRESS.sub("", repr(module))


# ---- code ----------------------------------------------------------------------------


class _OpaqueError(Exception):
    """Something whose effect on a forward pass cannot be told without making one."""


def code_digest(module: nn.Module) -> str | None:
    """Hash of what a network computes, beside its weights and structure; or None.

    It holds the classes of all modules with the bytecode of their methods, and every
    attribute of every module. That tells the forward pass of a network whose classes
    are all of torch, torchvision, timm or versa, and whose attributes are numbers,
    texts, tensors, classes and functions of these libraries, or collections of them.
    Of any other network (a class or function of the user, a hook, an attribute of
    another kind) only a forward pass tells: None.
    """
    digest = hashlib.sha256()
    seen: set[type] = set()
    try:
        if nn.modules.module._global_forward_hooks:
            raise _OpaqueError
        for name, part in module.named_modules(remove_duplicate=False):
            if any(getattr(part, hooks) for hooks in _HOOKS):
                raise _OpaqueError
            own = {k: v for k, v in vars(part).items() if k not in _OF_EVERY_MODULE}
            temporary = part._non_persistent_buffers_set  # not in the state dict
            own |= {k: part._buffers[k] for k in sorted(temporary)}
            digest.update(f"{name} {_told(type(part))} {_told(own)}".encode())
            for kind in type(part).__mro__:
                if kind not in (nn.Module, object) and kind not in seen:
                    seen.add(kind)
                    digest.update(f"{_told(kind)} {_methods(kind)}".encode())
    except _OpaqueError:
        return None
    return digest.hexdigest()


def _told(value: Any) -> str:
    """An attribute in words; the same words in every process."""
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        place = str(getattr(value, "__module__", None))
        name = value.__qualname__
        if place.partition(".")[0] not in _LIBRARIES or "<" in name:
            raise _OpaqueError  # "<": a lambda or a closure
        return f"{place}.{name}"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return tensor_digest(value)
    if isinstance(value, torch.dtype | torch.device | enum.Enum):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"{_told(type(value))}({', '.join(map(_told, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_told, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_told(k)}: {_told(v)}' for k, v in value.items())}}}"
    if isinstance(value, functools.partial):
        return f"{_told(value.func)} {_told(value.args)} {_told(value.keywords)}"
    if dataclasses.is_dataclass(value):
        return f"{_told(type(value))} {_told(vars(value))}"
    raise _OpaqueError


def _methods(kind: type) -> str:
    """Names and bytecode of the functions of a class."""
    words = []
    for name, value in vars(kind).items():
        if isinstance(value, types.FunctionType):
            if value.__module__.partition(".")[0] not in _LIBRARIES:
                raise _OpaqueError  # a method that somebody replaced
            words.append(f"{name} {_bytecode(value.__code__)}")
    return " ".join(words)


def _bytecode(code: types.CodeType) -> str:
    constants = [
        _bytecode(value)
        if isinstance(value, types.CodeType)
        else str(sorted(map(repr, value)))
        if isinstance(value, frozenset)
        else repr(value)
        for value in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
