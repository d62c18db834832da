"""Recipes: configurations as YAML, read with every key checked, written, compared.

A recipe holds some of the keys of `TrainConfig`; the complete configuration is written
into the folder of a run.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from versa.models.ipcl.config import TrainConfig
from versa.models.zoo.cards import card_folder
from versa.records import plain, typed_record
from versa.wording import one_line, unknown

_UNSET = "not set"  # an option that is absent, which is not one that is None
# 1e-3 and 1.0e3, to YAML 1.1 texts
_EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Takes 1e-3 for a number, and refuses a key that is there twice."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789")
    )


def read_config(path: str | os.PathLike[str] | None, *changes: str) -> TrainConfig:
    """Configuration of a recipe with some changes.

    Parameters
    ----------
    path : path-like, optional
        YAML file, or the name of a recipe of versa (``model_zoo/recipes``), such as
        ``ipcl_ref01``; without it, the defaults.
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
    try:
        if path is not None:
            path = _recipe(path)
            table = _yaml(path.read_text(encoding="utf-8"))
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
        unsettled = table.get("unsettled")
        if isinstance(unsettled, dict) and names[0] != "unsettled":
            changed = ".".join(names)
            table["unsettled"] = {
                k: v
                for k, v in unsettled.items()
                if not f"{k}.".startswith(f"{changed}.")
            }
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
        raise FileNotFoundError(f"a recipe must be a file; {name} is not a file.")
    raise ValueError(unknown("recipe", name, recipe_names()))


def read_text(text: str) -> TrainConfig:
    """Configuration from the text of `config_text`."""
    return parse_config(_yaml(text))


def parse_config(table: Mapping[str, Any]) -> TrainConfig:
    """Configuration from a nested table, every key checked."""
    return typed_record(TrainConfig, table, default=TrainConfig())


def config_text(config: TrainConfig) -> str:
    """The complete configuration as YAML, which `read_config` reads."""
    text: str = yaml.dump(
        plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True
    )
    return text


def differences(one: TrainConfig, other: TrainConfig) -> list[str]:
    """Where two configurations would train different networks: "epochs: 100 and 90".

    `EngineConfig` and `MonitorConfig` are not compared, nor the remarks of a recipe
    (`unsettled`), nor `data`: the images' digest tells whether they are the same.
    """
    first, second = (dict(_leaves(plain(config))) for config in (one, other))
    ignored = ("data", "monitor", "engine", "unsettled")
    return [
        f"{key}: {first.get(key, _UNSET)} and {second.get(key, _UNSET)}"
        for key in dict.fromkeys([*first, *second])
        if first.get(key, _UNSET) != second.get(key, _UNSET)
        and key.split(".")[0] not in ignored
    ]


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            raise ValueError(f"keys must be text; line {line} has another.")
        if key.value in seen:
            raise ValueError(
                f"keys must be different; {key.value!r} is there twice, the second "
                f"time in line {line}."
            )
        seen.add(key.value)
    made: dict[Any, Any] = yaml.SafeLoader.construct_mapping(loader, node, True)
    return made


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _yaml(text: str) -> dict[str, Any]:
    try:
        # a few aliases of aliases make more values than any memory holds
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("a configuration must write out its aliases (*name).")
        table = yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("a configuration must not be nested so deeply.") from error
    except yaml.YAMLError as error:
        raise ValueError(
            f"a configuration must be YAML; it is not ({one_line(error)})."
        ) from error
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise ValueError(
            f"a configuration must be a table of keys; got {type(table).__name__}."
        )
    return table
