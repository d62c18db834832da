"""Where in a checkpoint a network's weights lie: a search by keys and shapes.

Training scripts put weights under dicts and prefixes of any name. A place is a nested
dict with a common beginning of its keys, written as a `CheckpointLayout`; it fits if
the keys that begin so are exactly the network's, with its shapes.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from versa.models.zoo.layouts import (
    LAYOUTS,
    CheckpointLayout,
    check_state,
    is_dense,
    state_from,
)
from versa.wording import listing

State = Mapping[str, Any]
_DEPTH = 8  # of dicts in one another
_TRIED = 32  # beginnings of keys in one dict
_COUNTED = ("*num_batches_tracked",)  # absent from files of an early torch, not used
_MEANS = re.compile(r"(?i)(?:^|[^a-z])(?:ema|swa)(?:[^a-z]|$)|teacher|shadow")
# what wrappers of parts of a network write in the middle of its keys
_WRAPPERS = (
    r"(^|\.)(?:(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.)+"
)


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
        return f"The file holds no tensors, but {listing(keys) or 'no dict'}."
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
