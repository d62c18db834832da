"""Recipes: configurations as YAML, read with every key checked, written, compared.

A recipe holds some of the keys of `TrainConfig`; the complete configuration is written
into the folder of a run.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from versa.models.ipcl.config import TrainConfig
from versa.models.zoo.cards import card_folder
from versa.wording import unknown

_UNSET = "not set"  # an option that is absent, which is not one that is None


def read_config(path: str | os.PathLike[str] | None, *changes: str) -> TrainConfig:
    """Configuration of a recipe with some changes.

    Parameters
    ----------
    path : path-like, optional
        YAML file, or the name of a recipe of versa (see `recipe_names`); without it,
        the defaults.
    *changes : str
        ``key=value``, with dots in the names of nested keys and YAML as the value.

    Returns
    -------
    config : TrainConfig

    Raises
    ------
    ValueError
        If a key is unknown, or a value is of another type or out of range.

    Examples
    --------
    >>> config = read_config(None, "epochs=5", "augmentation.scale=[0.4, 1]")
    >>> config.epochs, config.augmentation.scale
    (5, (0.4, 1.0))
    """
    table: dict[str, Any] = {}
    if path is not None:
        path = _recipe(path)
        try:
            table = _yaml(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    try:
        parse_config(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for change in changes:
        key, equals, text = change.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise ValueError(f"a change must be written key=value; got {change!r}.")
        place = table
        for name in names[:-1]:
            # what is not a table here is refused when the whole is parsed
            inner = place.get(name)
            place[name] = dict(inner) if isinstance(inner, dict) else {}
            place = place[name]
        written = _yaml(f"value: {text}")
        if list(written) != ["value"]:
            raise ValueError(f"a change must set one key; got {change!r}.")
        place[names[-1]] = written["value"]
    return parse_config(table)


def recipe_names() -> list[str]:
    """Names of the recipes that come with versa, for `read_config`."""
    return sorted(path.stem for path in (card_folder() / "recipes").glob("*.yaml"))


def _recipe(path: str | os.PathLike[str]) -> Path:
    if Path(path).is_file():
        return Path(path)
    name = os.fspath(path)
    if name in recipe_names():
        return card_folder() / "recipes" / f"{name}.yaml"
    if "/" in name or name.endswith((".yaml", ".yml")):
        raise FileNotFoundError(f"a recipe must be a file; {name} is none.")
    raise ValueError(unknown("recipe", name, recipe_names()))


def read_text(text: str) -> TrainConfig:
    """Configuration from the text of `config_text`."""
    return parse_config(_yaml(text))


def parse_config(table: Mapping[str, Any]) -> TrainConfig:
    """Configuration from a nested table, every key checked."""
    config: TrainConfig = _record(TrainConfig(), table, "")
    return config


def config_text(config: TrainConfig) -> str:
    """The complete configuration as YAML, which `read_config` reads."""
    import yaml

    text: str = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)
    return text


def differences(one: TrainConfig, other: TrainConfig) -> list[str]:
    """Where two configurations would train different networks."""
    first, second = (dict(_leaves(_plain(c))) for c in (one, other))
    ignored = ("data", "monitor", "engine")
    return [
        f"{key}: {first.get(key, _UNSET)} and {second.get(key, _UNSET)}"
        for key in dict.fromkeys([*first, *second])
        if first.get(key, _UNSET) != second.get(key, _UNSET)
        and key.split(".")[0] not in ignored
    ]


def _plain(config: TrainConfig) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(item) for name, item in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    table: dict[str, Any] = plain(asdict(replace(config, options=dict(config.options))))
    return table


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _yaml(text: str) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice."""

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise ValueError(
                    f"keys must be text; line {key.start_mark.line + 1} has another."
                )
            if key.value in seen:
                raise ValueError(
                    f"keys must be different; {key.value!r} is there twice, the second "
                    f"time in line {key.start_mark.line + 1}."
                )
            seen.add(key.value)
        made: dict[Any, Any] = yaml.SafeLoader.construct_mapping(loader, node, True)
        return made

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        table = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"a configuration must be YAML; it is not ({reason}).") from (
            error
        )
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise ValueError(
            f"a configuration must be a table of keys; got {type(table).__name__}."
        )
    return table


def _record(default: Any, table: Any, prefix: str) -> Any:
    """A dataclass with the values of a table in place of those of `default`."""
    if not isinstance(table, Mapping):
        raise ValueError(
            f"{prefix.rstrip('.') or 'a configuration'} must be a table of keys; got "
            f"{table!r}."
        )
    hints = get_type_hints(type(default))
    known = [f.name for f in fields(default)]
    values = {}
    for name, value in table.items():
        if name not in known:
            options = [f"{prefix}{option}" for option in known]
            raise ValueError(unknown("option", f"{prefix}{name}", options))
        now = getattr(default, name)
        if is_dataclass(now):
            values[name] = _record(now, value, f"{prefix}{name}.")
        else:
            values[name] = _typed(f"{prefix}{name}", value, hints[name])
    try:
        return replace(default, **values)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def _typed(name: str, value: Any, hint: Any) -> Any:
    arguments = get_args(hint)
    if get_origin(hint) is UnionType:
        if value is None:
            return None
        return _typed(name, value, next(a for a in arguments if a is not NoneType))
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        many = len(arguments) == 2 and arguments[1] is Ellipsis
        kinds = [arguments[0]] * len(value) if many else list(arguments)
        if len(kinds) == len(value):
            pairs = zip(value, kinds, strict=True)
            return tuple(
                _typed(f"{name}[{i}]", item, kind)
                for i, (item, kind) in enumerate(pairs)
            )
    elif isinstance(hint, type) and type(value) is hint:
        return value
    elif hint is float and type(value) in (int, str):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)  # YAML takes 1e-3 for text
    elif isinstance(value, Mapping) and get_origin(hint) is Mapping:
        _check_plain(name, value)
        return dict(value)
    raise ValueError(f"{name} must be {_kind(hint)}; got {value!r}.")


def _check_plain(name: str, value: Any) -> None:
    """Refuse what would not be the same after writing and reading."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"keys of {name} must be text; got {key!r}.")
            _check_plain(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_plain(f"{name}[{i}]", item)
    elif type(value) not in (bool, int, float, str, NoneType):
        raise ValueError(
            f"{name} must be a number, text, true, false, null, a list or a table; "
            f"got {value!r}."
        )


def _kind(hint: Any) -> str:
    """What a value must be, in words."""
    words = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    if hint in words:
        return words[hint]
    if get_origin(hint) is not tuple:
        return "a table of keys"
    arguments = get_args(hint)
    many = arguments[1] is Ellipsis
    kind = {float: "numbers", str: "texts"}[arguments[0]]
    return f"a list of {kind}" if many else f"a list of {len(arguments)} {kind}"
