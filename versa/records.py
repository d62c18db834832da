"""Typed records: a frozen dataclass from a table of TOML, YAML or JSON.

Model cards, training recipes and mapping files are read here. It is ours because
msgspec checks types only: unknown keys, a table that changes a few fields of a default,
and keys of mappings in the errors would still be ours, which is most of this module.
"""

import functools
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from versa.wording import listing, one_line, shown, unknown

T = TypeVar("T")
_WORDS = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
_LEVELS = 50  # of tables and lists in one another
_SHALLOW = f"must be TOML of at most {_LEVELS} levels; it is nested deeper."
_MANY = {str: "texts", int: "integers", float: "numbers"}


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of a TOML file, whatever editor wrote it; an error names the file."""
    try:
        table = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except RecursionError:
        raise ValueError(f"{path} {_SHALLOW}") from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are
        raise ValueError(f"{path} must be TOML in UTF-8; {one_line(error)}.") from None
    if depth_of(table) > _LEVELS:  # dotted keys, which are read without recursion
        raise ValueError(f"{path} {_SHALLOW}")
    return table


def parse_json(text: str | bytes) -> Any:
    """Content of a text in JSON, or a ValueError without the name of its file."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {_LEVELS} levels") from None
    except ValueError as error:
        raise ValueError(one_line(error)) from None
    if depth_of(content) > _LEVELS:
        raise ValueError(f"it is nested deeper than {_LEVELS} levels")
    return content


def depth_of(table: object) -> int:
    """Levels of tables and lists in one another, counted to one beyond the limit."""
    level, here = 0, [table]
    while here and level <= _LEVELS:
        tables = [item for item in here if isinstance(item, Mapping)]
        lists = [item for item in here if isinstance(item, list)]
        level += bool(tables or lists)
        here = [v for table in tables for v in table.values()]
        here += [v for items in lists for v in items]
    return level


def read_record(kind: type[T], path: str | os.PathLike[str]) -> T:
    """Record of the type `kind` from a TOML file; an error names the file."""
    table = read_toml(path)
    try:
        return typed_record(kind, table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def typed_record(
    kind: type[T], table: Any, *, within: str = "", default: T | None = None
) -> T:
    """Record of the type `kind`, every key and value of the table checked.

    Absent keys take their value from `default`, else from the class. A field whose
    class default is a record may be given in part. `within` is the path of the table,
    which begins every name in an error: ``optimizer.lr must be a number; got 'x'.``
    """
    if not isinstance(table, Mapping):
        what = within or "the file"
        raise ValueError(f"{what} must be a table of keys; got {shown(repr(table))}.")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    prefix = f"{within}." if within else ""
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        if key not in known:
            options = [f"{prefix}{name}" for name in known]
            raise ValueError(unknown("key", f"{prefix}{key}", options))
        usual = known[key].default if default is None else getattr(default, key)
        values[key] = _typed(value, hints[key], f"{prefix}{key}", usual)
    absent = [
        f"{prefix}{name}"
        for name, field in known.items()
        if name not in table
        and field.default is MISSING
        and field.default_factory is MISSING
    ]
    if absent and default is None:
        raise ValueError(f"keys must include {listing(absent)}.")
    try:
        # the class checks what its values mean
        return kind(**values) if default is None else replace(default, **values)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def plain(value: Any) -> Any:
    """A record as nested dicts and lists, which TOML, YAML and JSON can hold."""
    if is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in fields(value)
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(value: Any, hint: Any, name: str, usual: Any = None) -> Any:
    """The value in the type of its field: lists become tuples, integers floats."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _one_of(value, arguments, name)
    if hint is Any:
        return _plain_value(value, name)
    if is_dataclass(hint) and isinstance(hint, type):
        default = usual if isinstance(usual, hint) else None
        return typed_record(hint, value, within=name, default=default)
    if origin is Mapping and isinstance(value, Mapping):
        return {
            _text_key(key, name): _typed(item, arguments[1], f"{name}.{key}")
            for key, item in value.items()
        }
    if origin in (tuple, Sequence) and isinstance(value, tuple | list):
        exact = origin is tuple and arguments[-1] is not Ellipsis
        kinds = arguments if exact else arguments[:1] * len(value)
        if len(kinds) == len(value):
            pairs = enumerate(zip(value, kinds, strict=True))
            return tuple(_typed(v, k, f"{name}[{i}]") for i, (v, k) in pairs)
    if type(value) is hint:
        return value
    if hint is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    raise ValueError(f"{name} must be {_words(hint)}; got {shown(repr(value))}.")


def _one_of(value: Any, options: tuple[Any, ...], name: str) -> Any:
    """The value in the type of a field that may have several."""
    if type(value) in options:  # NoneType, too
        return value
    kinds = [option for option in options if option is not NoneType]
    for kind in kinds[:-1]:
        try:
            return _typed(value, kind, name)
        except ValueError:
            continue
    try:
        return _typed(value, kinds[-1], name)
    except ValueError:
        if len(kinds) == 1:
            raise
    words = " or ".join(map(_words, kinds))
    raise ValueError(f"{name} must be {words}; got {shown(repr(value))}.")


def _plain_value(value: Any, name: str) -> Any:
    """Refuse what would not be the same after writing and reading."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _plain_value(item, f"{name}.{_text_key(key, name)}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _plain_value(item, f"{name}[{i}]")
    elif type(value) not in (bool, int, float, str, NoneType):
        raise ValueError(
            f"{name} must be a number, text, true, false, null, a list or a table; "
            f"got {shown(repr(value))}."
        )
    return value


def _text_key(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"keys of {name} must be text; got {shown(repr(key))}.")
    return key


def _words(hint: Any) -> str:
    """What a value must be, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin not in (tuple, Sequence):
        return _WORDS.get(hint, "a table of keys")
    many = origin is Sequence or arguments[-1] is Ellipsis
    number = "" if many else f"{len(arguments)} "
    return f"a list of {number}{_MANY.get(arguments[0], 'lists')}"
