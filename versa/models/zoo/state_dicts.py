"""From a weight file to the state dict of a network.

A layout says where in the file the weights are. Where nobody knows it they are searched
for: training scripts put weights under dicts and prefixes of any name. A place is a
nested dict with a common beginning of its keys, written as a `CheckpointLayout`; it
fits if the keys that begin so are exactly the network's, with its shapes.
"""

import logging
import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

from versa.models.zoo.layouts import LAYOUTS, CheckpointLayout
from versa.models.zoo.reading import open_checkpoint
from versa.models.zoo.weights import CheckpointFile
from versa.wording import listing

logger = logging.getLogger("versa")

State = Mapping[str, Any]
# the same network under other options, on the meta device
Variant = Callable[[Mapping[str, Any]], nn.Module]
_DEPTH = 8  # of dicts in one another
_TRIED = 32  # beginnings of keys in one dict
_COUNTED = ("*num_batches_tracked",)  # absent from files of an early torch, not used
_MEANS = re.compile(r"(?i)(?:^|[^a-z])(?:ema|swa)(?:[^a-z]|$)|teacher|shadow")
# what wrappers of parts of a network write in the middle of its keys
_WRAPPERS = (
    r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.)+"
)


@dataclass(frozen=True)
class StateDict:
    """Weights under the keys of the network, and by which layout they were read."""

    values: State
    source: str
    layout: CheckpointLayout = LAYOUTS["plain"]


def read_state(
    file: CheckpointFile, network: nn.Module, variant: Variant | None = None
) -> StateDict:
    """Weights of a network, which may be on the meta device, from a file.

    Its keys and shapes are exactly the network's, apart from those that the layout
    allows, or that the network itself brings up to date.
    `variant` makes the network under other options, to say in a refusal which of them
    suit the file.
    """
    source, expected = file.source, network.state_dict()
    checkpoint = as_dicts(open_checkpoint(file.path, source=source, allow=file.allow))
    if file.layout is not None:
        check_held(checkpoint, file.layout, file.holds, source=source)
        values = state_from(checkpoint, file.layout, source=source)
        if not file.layout.versions:
            missing = file.layout.missing
            check_state(values, expected, source=source, missing=missing)
        return StateDict(values, source, file.layout)
    found = fitting_layouts(checkpoint, expected, source=source)
    if not found:
        published = timm_state(checkpoint, network, source=source)
        if published is not None:
            logger.info("%s: read by timm's own rules for published files.", source)
            return StateDict(published, source)
        reason = _misfit(checkpoint, expected, source)
        advice = _suiting_options(checkpoint, expected, source, variant)
        raise ValueError(
            f"{reason} {contents(checkpoint)} {advice}If another layout is meant, pass "
            "layout=."
        )
    if len(found) > 1:
        raise ValueError(
            f"{source} holds {len(found)} networks that fit, with different weights: "
            f"{'; '.join(found)}. Pass one of these arguments (--layout path=KEY/KEY,"
            "prefix=TEXT on the command line). Where one is the running mean of the "
            "other (EMA), timm takes the mean."
        )
    layout = next(iter(found.values()))
    if layout != LAYOUTS["plain"]:
        logger.info("%s: read with %s.", source, written(layout))
    if others := unread_means(checkpoint, layout):
        logger.warning(
            "%s: its %s cannot be read as this network; the other weights are used.",
            *(source, listing(others)),
        )
    return StateDict(state_from(checkpoint, layout, source=source), source, layout)


# ---- by a layout ---------------------------------------------------------------------


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


def is_dense(value: Any) -> bool:
    """Whether it is an array with a number at every place."""
    kinds = ("is_nested", "is_quantized", "is_sparse", "is_sparse_csr")
    odd = any(getattr(value, kind, False) for kind in kinds)
    return not odd and hasattr(value, "shape")


def as_dicts(content: Any) -> Any:
    """The content of a file with texts as keys and tensors as weights.

    Arrays of NumPy become tensors, pairs of names and tensors a dict, and other lists
    with dicts in them dicts with the keys "0", "1" and so on.
    """
    return _as_dicts(content, {}, _DEPTH)


def _as_dicts(content: Any, known: dict[int, Any], depth: int) -> Any:
    """The same; `known` are those that were met, which may hold one another."""
    if isinstance(content, np.ndarray) and content.dtype.char in "?bBhilqefd":
        native = content.astype(content.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.ascontiguousarray(native).reshape(content.shape))
    if not isinstance(content, Mapping | list | tuple) or depth < 0:
        return content
    if id(content) in known:
        return known[id(content)]
    items: Any = content.items() if isinstance(content, Mapping) else enumerate(content)
    if not isinstance(content, Mapping):
        if all(_is_pair(item) for item in content):
            items = content
        elif not any(isinstance(item, Mapping | list | tuple) for item in content):
            return content
    made: Any = known.setdefault(id(content), OrderedDict())
    if hasattr(content, "_metadata"):
        made._metadata = content._metadata
    for key, value in items:
        text = str(key) if isinstance(key, int) else key
        made[text] = _as_dicts(value, known, depth - 1)
    return made


def _is_pair(item: Any) -> bool:
    """Whether it is the name of a weight and the weight."""
    return (
        isinstance(item, tuple | list)
        and len(item) == 2
        and isinstance(item[0], str)
        and isinstance(item[1], torch.Tensor | np.ndarray)
    )


# ---- by a search ---------------------------------------------------------------------


def fitting_layouts(
    checkpoint: Any, expected: State, *, source: str
) -> dict[str, CheckpointLayout]:
    """Layouts that give exactly the keys and shapes `expected`, by how to name them.

    Of several that give equal weights there is one. Keys outside of the place, such as
    a projector's, are left out.
    """
    found: dict[str, CheckpointLayout] = {}
    states: list[State] = []
    tried = [*LAYOUTS.values(), *_places(checkpoint, expected)]
    if not any(_fits(checkpoint, one, expected, source) for one in tried):
        tried = list(_places(checkpoint, expected, wrapped=True))
    for layout in tried:
        state = _fits(checkpoint, layout, expected, source)
        if state and not any(same_weights(state, other) for other in states):
            states.append(state)
            found[written(layout)] = layout
    return found


def closest_layout(
    checkpoint: Any, expected: State, *, source: str
) -> CheckpointLayout | None:
    """The place that holds most of the keys and shapes, if any holds one."""
    best, most = None, 0
    for layout in _places(checkpoint, expected, whole=False):
        state = state_from(checkpoint, layout, source=source)
        shared = sum(
            key in state and value.shape == state[key].shape
            for key, value in expected.items()
        )
        if shared > most:
            best, most = layout, shared
    return best


def left_out(checkpoint: Any, layout: CheckpointLayout) -> list[str]:
    """Weights that lie in the place of a layout and are not the network's."""
    group = checkpoint
    for step in layout.path:
        group = group[step]
    return [
        key
        for key, value in group.items()
        if _is_weight((key, value)) and key.startswith(layout.drop or ("\0",))
        if key.startswith(layout.prefix)
    ]


def unread_means(checkpoint: Mapping[str, Any], layout: CheckpointLayout) -> list[str]:
    """Parts of a file that by their names hold other weights of the same network."""
    parts = [
        str(key)
        for key, value in checkpoint.items()
        if isinstance(value, Mapping | list | tuple) and value
        if key not in layout.path[:1]
    ]
    return [name for name in (*parts, *layout.drop) if _MEANS.search(name)]


def same_weights(first: State, second: State) -> bool:
    """Whether two state dicts hold the same numbers."""
    return first.keys() == second.keys() and all(
        one is second[key]
        or (one.dtype == second[key].dtype and torch.equal(one, second[key]))
        for key, one in first.items()
    )


def weight_groups(checkpoint: Any) -> Iterator[tuple[tuple[str, ...], State]]:
    """Every nested dict that holds tensors, with its path; outer ones first."""
    level: list[tuple[tuple[str, ...], Any]] = [((), checkpoint)]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        below = []
        for path, found in level:
            if not isinstance(found, Mapping) or id(found) in seen:
                continue
            seen.add(id(found))
            if any(map(_is_weight, found.items())):
                yield path, found
            items = [item for item in found.items() if isinstance(item[0], str)]
            below += [((*path, key), value) for key, value in items]
        level = below


def contents(checkpoint: Any) -> str:
    """A sentence on the dicts of a file that hold tensors, and how their keys begin."""
    texts = []
    for path, group in weight_groups(checkpoint):
        keys = [key for key, value in group.items() if _is_weight((key, value))]
        heads = _heads(keys, _leads(keys)[-1])
        names = listing(
            [f"{head}*" if head[-1:] == "." else head for head in heads], limit=6
        )
        place = f" under {'.'.join(path)!r}" if path else ""
        texts.append(f"{len(keys)} tensors{place} ({names})")
    if not texts:
        keys = list(checkpoint) if isinstance(checkpoint, Mapping) else []
        held = listing(keys) or f"a {type(checkpoint).__name__}"
        return f"The file holds no tensors, but {held}."
    return f"The file holds {listing(texts, limit=4)}."


def written(layout: CheckpointLayout) -> str:
    """The layout as an argument: by its name, or as it is built."""
    for name, known in LAYOUTS.items():
        if known == layout:
            return f"layout={name!r}"
    fields = {
        name: getattr(layout, name)
        for name in ("path", "drop", "prefix", "rename", "missing")
    }
    given = ", ".join(f"{name}={value!r}" for name, value in fields.items() if value)
    return f"layout=versa.models.zoo.CheckpointLayout({given})"


def _heads(keys: list[str], shared: str) -> Counter[str]:
    """First parts of the keys after `shared`, with their dots."""
    rest = [key.removeprefix(shared) for key in keys]
    parts = [text[: text.find(".") + 1] or text for text in rest]
    return Counter(shared + part for part in parts)


def _is_weight(item: tuple[object, object]) -> bool:
    key, value = item
    tensor = isinstance(key, str) and isinstance(value, torch.Tensor)
    return tensor and is_dense(value)


def _fits(
    checkpoint: Any, layout: CheckpointLayout, expected: State, source: str
) -> State | None:
    try:
        state = state_from(checkpoint, layout, source=source)
        if not all(map(_is_weight, state.items())):
            return None
        check_state(state, expected, source=source, missing=layout.missing)
    except ValueError:
        return None
    return state


def _places(
    checkpoint: Any, expected: State, *, whole: bool = True, wrapped: bool = False
) -> Iterator[CheckpointLayout]:
    """Layouts of every dict and beginning under which keys of the network lie.

    `whole`: only where no other weight lies under the beginning. `wrapped`: names of
    wrappers are cut out of the keys.
    """
    for path, group in weight_groups(checkpoint):
        names = {key: key for key, value in group.items() if _is_weight((key, value))}
        if wrapped:
            names = {key: re.sub(_WRAPPERS, r"\1", key) for key in names}
        for lead in _leads(list(expected)):
            for prefix in _prefixes(names.values(), expected, lead):
                cut = len(prefix)
                inside = {key for key, name in names.items() if name.startswith(prefix)}
                kept = {key for key in inside if lead + names[key][cut:] in expected}
                drop, rest = _dropped(group, kept), inside - kept
                if drop is None or (whole and not all(_counts(group[k]) for k in rest)):
                    continue
                missing = _COUNTED if len(kept) < len(expected) else ()
                layout = CheckpointLayout(path=path, drop=drop, missing=missing)
                if wrapped:
                    ends = ("^" + re.escape(prefix), lead)
                    yield replace(layout, rename=((_WRAPPERS, r"\1"), ends))
                else:
                    ends = ("^", lead)
                    yield replace(layout, prefix=prefix, rename=(ends,) if lead else ())


def _leads(keys: list[str]) -> list[str]:
    """Beginnings that all keys share, whole parts with their dots; the first is none.

    Of a wrapped network, they are what its files may not have.
    """
    leads = [""]
    while len(heads := _heads(keys, leads[-1])) == 1:
        (head,) = heads
        if head in leads or not head.endswith("."):
            break
        leads.append(head)
    return leads


def _prefixes(keys: Any, expected: State, lead: str) -> list[str]:
    """Beginnings after which a key is one of the network, the most frequent first."""
    votes: Counter[str] = Counter()
    for key in keys:
        starts = [0, *(match.end() for match in re.finditer(r"\.", key))]
        votes.update(key[:start] for start in starts if lead + key[start:] in expected)
    return [prefix for prefix, _ in votes.most_common(_TRIED)]


def _counts(value: torch.Tensor) -> bool:
    """Whether it is one whole number beside the weights, such as ``n_averaged``."""
    return value.numel() == 1 and not value.is_floating_point()


def _dropped(group: Mapping[Any, Any], kept: set[str]) -> tuple[str, ...] | None:
    """Beginnings of the keys that are left out, as short as the `kept` ones allow."""
    drop = set()
    for key in [str(key) for key in group if key not in kept]:
        ends = [match.end() for match in re.finditer(r"\.", key)] + [len(key)]
        for start in (key[:end] for end in ends):
            if not any(name.startswith(start) for name in kept):
                drop.add(start)
                break
        else:
            return None
    return tuple(sorted(drop))


# ---- what to say, and the files that timm knows --------------------------------------


def _misfit(checkpoint: Any, expected: Mapping[str, Any], source: str) -> str:
    """Why no place of a checkpoint holds the network, told of the closest one."""
    layout = closest_layout(checkpoint, expected, source=source)
    state: Mapping[str, Any] = {}
    if layout is not None:
        state = state_from(checkpoint, layout, source=source)
    try:
        check_state(state, expected, source=source, missing=("*num_batches_tracked",))
    except ValueError as error:
        return str(error)
    if layout is None:  # a network without weights
        return f"{source} holds no weights."
    extra = left_out(checkpoint, layout)
    return (
        f"{source} holds {len(extra)} keys that the network has not: {listing(extra)}. "
        f"If they belong to no part of it, pass {written(layout)}."
    )


def _suiting_options(
    checkpoint: Any,
    expected: Mapping[str, Any],
    source: str,
    variant: Variant | None,
) -> str:
    """A sentence with the options under which the network fits the file, if any do."""
    if variant is None:
        return ""
    tries: list[dict[str, Any]] = [{"head": False}, {"num_classes": 0}]
    layout = closest_layout(checkpoint, expected, source=source)
    if layout is not None:
        state = state_from(checkpoint, layout, source=source)
        classes = {
            value.shape[0]
            for key, value in state.items()
            if key in expected
            and value.ndim == expected[key].ndim > 0
            and value.shape[0] != expected[key].shape[0]
            and value.shape[1:] == expected[key].shape[1:]
        }
        for n in classes if len(classes) == 1 else ():
            tries += [{"num_classes": n}, {"out_dim": n}]
    tries.append({"global_pool": "avg"})
    for options in tries:
        try:
            other = variant(options)
        except (ValueError, TypeError, AttributeError, RuntimeError):
            continue  # the architecture has no such option
        if fitting_layouts(checkpoint, other.state_dict(), source=source):
            return f"The file fits with options={options!r}. "
    return ""


def timm_state(
    checkpoint: Any, module: nn.Module, *, source: str
) -> Mapping[str, Any] | None:
    """State dict of a network of timm by timm's own rules for its authors' files.

    They rename keys, as of DINOv2's. None if the network has no rules, if they do not
    give exactly its keys and shapes, or if weights would be resampled to another size.
    """
    home = type(module).__module__
    rules = getattr(sys.modules.get(home), "checkpoint_filter_fn", None)
    if rules is None or not home.startswith("timm."):
        return None
    found: dict[str, Mapping[str, Any]] = {}
    for path, group in weight_groups(checkpoint):
        try:
            with _Unresampled():
                state: Mapping[str, Any] = rules(dict(group), module)
            check_state(state, module.state_dict(), source=source)
        except Exception:  # the rules expect other keys
            continue
        if not any(same_weights(state, other) for other in found.values()):
            found[".".join(path)] = state
    if len(found) > 1:
        raise ValueError(
            f"{source} holds several networks that fit, under {listing(found)}. Write "
            "the wanted one to a file of its own."
        )
    return next(iter(found.values()), None)


class _Unresampled(torch.overrides.TorchFunctionMode):
    """Refuses that weights are resampled."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """See the base class."""
        if func is torch.nn.functional.interpolate:
            raise ValueError("weights must not be resampled")
        return func(*args, **(kwargs or {}))
