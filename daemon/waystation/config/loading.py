"""Reads the settings: defaults, overridden by the TOML file, by ``WAYSTATION_…`` variables, by flags, in this order."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from waystation.config.places import ENV_CONFIG, default_config_path
from waystation.config.settings import Settings
from waystation.errors import ConfigError
from waystation.model import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENV_PREFIX = "WAYSTATION_"
_NESTING = "__"


def load_settings(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> Settings:
    """Read the settings from file, environment and ``--set`` flags (``"mirror.listen=…"``).

    A file named by `path` or ``WAYSTATION_CONFIG`` must exist; the default one may be absent.

    Raises:
        ConfigError: the file can't be read, or a key or value is wrong: it names key and place.
    """
    environment = os.environ if environment is None else environment
    named = path or (Path(environment[ENV_CONFIG]) if environment.get(ENV_CONFIG) else None)
    file = named or default_config_path()
    layers: list[tuple[str, dict[str, Any]]] = [(str(file), _read_file(file, must_exist=named is not None))]
    layers += [(name, _nested(keys, _text(name, value))) for name, keys, value in _from_environment(environment)]
    layers += [(f"--set {flag.partition('=')[0]}", _from_flag(_text("--set", flag))) for flag in flags]
    merged: dict[str, Any] = {}
    for _, values in layers:
        _merge(merged, values)
    try:
        return Settings.model_validate(merged).read_from(lambda location: _place(layers, location))
    except ValidationError as error:
        raise _explain(error, layers) from error


def _read_file(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        if not must_exist:
            return {}
        raise ConfigError(f"{file}: there is no such file", advice="Name an existing file with --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        detail = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{file}: can't be read: {detail}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {printable(str(error))}") from None
    except RecursionError:
        raise ConfigError(f"{file}: not valid TOML: it is nested too deeply") from None


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, list[str], str]]:
    return [
        (name, name[len(ENV_PREFIX) :].lower().split(_NESTING), environment[name])
        for name in sorted(environment)
        if name.startswith(ENV_PREFIX) and name != ENV_CONFIG
    ]


def _text(place: str, value: str) -> str:
    """Take what was given in the bytes of the command line or the environment, which need not be UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{place}: what was given is not UTF-8") from None
    return value


def _from_flag(flag: str) -> dict[str, Any]:
    key, equals, value = flag.partition("=")
    if not equals:
        raise ConfigError(f"--set {flag}: expected KEY=VALUE, for example --set store.max_size=5GiB")
    return _nested(key.split("."), value)


def _nested(keys: list[str], value: str) -> dict[str, Any]:
    """Place a text value under its keys; lists are written in TOML, or as one bare value."""
    nested: Any = value
    if value.startswith(("[", "{")):
        try:
            nested = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            nested = value
    elif tuple(keys) in _LISTS:
        nested = [part.strip() for part in value.split(",") if part.strip()]
    for key in reversed(keys):
        nested = {key: nested}
    return dict(nested)


_LISTS = {("mirror", "listen"), ("mirror", "hosts")}


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def _explain(error: ValidationError, layers: list[tuple[str, dict[str, Any]]]) -> ConfigError:
    """Say of the first mistake which key is wrong, where it was set, and what was expected."""
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    key = _key(location)
    place = _place(layers, location)
    if first["type"] == "extra_forbidden":
        return ConfigError(printable(f"{place}: unknown key '{key}'"))
    if first["type"] == "missing":
        return ConfigError(f"{place}: {key} is not there, and it has no default")
    expected = _EXPECTED.get(first["type"])
    message = expected.format_map(first.get("ctx", {})) if expected else first["msg"].removeprefix("Value error, ")
    given = first["input"]
    may_hold_a_secret = "secret" in key or any(sign in str(given) for sign in ("@", "\n", "-----BEGIN"))
    shown = f", not {given!r}" if isinstance(given, str | int | float) and not may_hold_a_secret else ""
    return ConfigError(printable(f"{place}: {key}: {message}{shown}"))


def _place(layers: list[tuple[str, dict[str, Any]]], location: tuple[int | str, ...]) -> str:
    return next((name for name, values in reversed(layers) if _has(values, location)), layers[0][0])


_EXPECTED = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected {ge} or more",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "less_than_equal": "expected {le} or less",
    "literal_error": "expected {expected}",
    "model_type": "expected a section, with its keys below it",
    "path_type": "expected a path in quotes",
    "string_type": "expected a text in quotes",
    "too_short": "expected a list with at least {min_length} entry",
    "tuple_type": 'expected a list, such as ["one", "two"]',
}
"""What pydantic found, in the words of someone who edits a file."""


def _key(location: tuple[int | str, ...]) -> str:
    """Name a key; where it stands in one of several tables, say in which, counted from 1."""
    key = ""
    for part, behind in zip(location, (*location[1:], None), strict=True):
        if isinstance(part, str):
            key += f".{part}" if key else part
        elif behind is not None:
            key += f"[{part + 1}]"
    return key


def _has(values: Any, location: tuple[int | str, ...]) -> bool:
    """Whether this layer sets the key, or is the one that left out of a table what must be there."""
    for key in location:
        if isinstance(values, list):
            return True  # lists come from one layer whole
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True
