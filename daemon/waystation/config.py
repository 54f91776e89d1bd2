"""One settings model: defaults, overridden by the TOML file, by ``WAYSTATION_…`` variables, by flags, in this order."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from waystation.errors import ConfigError
from waystation.model import RESERVED_SUFFIXES, parse_match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYSTEM_CONFIG = Path("/etc/waystation/waystation.toml")
ENV_PREFIX = "WAYSTATION_"
ENV_CONFIG = "WAYSTATION_CONFIG"
PASSED = "%d"
"""In front of `credentials_file`, as in a unit: the folder of the credentials that systemd passes to this process."""
_NESTING = "__"

_SIZE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _SIZE_UNITS[f"{_letter}b"] = 1000**_power
    _SIZE_UNITS[f"{_letter}ib"] = 1024**_power
_STEP, _UNITS = 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: object) -> int:
    """Read a size, ``"20GiB"`` or a whole number of bytes, as bytes.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    elif isinstance(value, str):
        text = value.strip()
    else:
        text = ""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if not match or match[2].lower() not in _SIZE_UNITS:
        raise ValueError('not a size: write it like "20GiB", "500MB" or a whole number of bytes')
    unit = _SIZE_UNITS[match[2].lower()]
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def human_size(size_bytes: float) -> str:
    """Write a size, such as ``1.5 GiB``."""
    unit = 0
    while round(size_bytes, 1) >= _STEP and unit < len(_UNITS) - 1:
        size_bytes /= _STEP
        unit += 1
    return f"{size_bytes:.1f} {_UNITS[unit]}" if unit else f"{size_bytes:.0f} B"


def parse_duration(value: object) -> float:
    """Read a duration, ``"30s"`` or a number of seconds, as seconds.

    Raises:
        ValueError: it is neither.
    """
    text = str(value).strip() if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|[smhd]?)", text)
    if not match:
        raise ValueError('not a duration: write it like "30s", "500ms", "5m", "7d" or a number of seconds')
    return float(match[1]) * _DURATION_UNITS[match[2] or "s"]


Size = Annotated[int, BeforeValidator(parse_size)]
PositiveSize = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_user() -> bool:
    return os.geteuid() != 0


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback)


def _default_origin_url() -> str:
    if _as_user():
        return (_xdg("XDG_DATA_HOME", ".local/share") / "waystation/artifacts").as_uri()
    return "file:///srv/artifacts"


def _of_systemd(variable: str) -> Path | None:
    """Give the folder that systemd made for the unit (StateDirectory=, RuntimeDirectory=), the first of them."""
    folder = os.environ.get(variable, "").partition(":")[0]
    return Path(folder) if folder else None


def _default_store_path() -> Path:
    if made := _of_systemd("STATE_DIRECTORY"):
        return made
    return _xdg("XDG_CACHE_HOME", ".cache") / "waystation" if _as_user() else Path("/var/lib/waystation")


def _default_socket() -> Path:
    if made := _of_systemd("RUNTIME_DIRECTORY"):
        return made / "admin.sock"
    if _as_user():
        return _xdg("XDG_RUNTIME_DIR", ".cache") / "waystation/admin.sock"
    return Path("/run/waystation/admin.sock")


class OriginSettings(_Section):
    """Where bytes come from."""

    url: str = Field(default_factory=_default_origin_url)
    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: Literal["path", "virtual", "auto"] = "path"
    ca_bundle: Path | None = None
    credentials_file: Path | None = None
    max_connections: int = Field(default=32, ge=1, le=1024)
    connect_timeout: PositiveDuration = 3.0
    request_timeout: PositiveDuration = 10.0
    attempts: int = Field(default=3, ge=1, le=10)
    notifications: bool = False
    """Whether the origin is asked to tell at once what is new (MinIO)."""
    writes: Literal["conditional", "single"] = "conditional"
    """How a publisher makes sure that it replaces nothing: S3 checks while it writes, or the publisher before."""

    @property
    def credentials_path(self) -> Path | None:
        """Where `credentials_file` is: ``%d/…`` is in the folder that systemd passes; else it stays as it is."""
        file, passed = self.credentials_file, os.environ.get("CREDENTIALS_DIRECTORY")
        if file and passed and file.parts[0] == PASSED:
            return Path(passed, *file.parts[1:])
        return file

    @property
    def folder(self) -> Path | None:
        """The folder that a ``file://`` URL names; None for S3."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def bucket_path(self) -> str | None:
        """The path of a path-style URL of the bucket, ``<bucket>/<prefix>``; a folder has none."""
        parts = urlsplit(self.url)
        return f"{parts.netloc}{parts.path}".rstrip("/") if parts.scheme == "s3" else None

    @property
    def endpoint_host(self) -> str | None:
        """The host of `endpoint_url`: clients that are sent to the mirror in its place go on calling it so."""
        return urlsplit(self.endpoint_url).hostname if self.endpoint_url else None

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "s3" and parts.netloc:
            if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
                raise ValueError(
                    "a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens,"
                    " and begins and ends with a letter or digit"
                )
            return value
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
            return value
        raise ValueError('expected "s3://bucket", "s3://bucket/prefix" or "file:///folder"')

    @field_validator("endpoint_url")
    @classmethod
    def _http_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            _check_http_url(value, ("http", "https"))
        return value


class CatalogSettings(_Section):
    """Which targets exist and what they must be."""

    mode: Literal["plain"] = "plain"
    missing_checksum: Literal["refuse", "pin-first"] = "refuse"
    refresh: Duration = 30.0


class MirrorSettings(_Section):
    """The HTTP face."""

    listen: tuple[str, ...] = Field(default=("http://127.0.0.1:4650",), min_length=1)
    hosts: tuple[str, ...] = ()
    drain_timeout: Duration = 30.0
    max_connections: int = Field(default=1024, ge=1)
    max_header_size: Size = 16 * 1024
    header_timeout: PositiveDuration = 10.0
    idle_timeout: PositiveDuration = 75.0
    send_timeout: PositiveDuration = 120.0
    access_log: bool = True

    @field_validator("listen")
    @classmethod
    def _plain_http(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            _check_http_url(address, ("http",))
            if urlsplit(address).port is None:
                raise ValueError(f'"{address}" names no port, expected one like "http://127.0.0.1:4650"')
        return value


class StoreSettings(_Section):
    """Blobs on disk."""

    path: Path = Field(default_factory=_default_store_path)
    max_size: Size = 20 * 1024**3
    min_free: Size = 1024**3
    pass_through_memory: Size = 64 * 1024**2
    """What is passed through without storing it may take so much memory, all clients together."""
    scrub_interval: PositiveDuration = 7 * 86400.0
    """Every blob is read again and checked within this time."""
    quarantine_keep: Duration = 7 * 86400.0
    """How long what was set aside is kept, unless its room is needed before."""


class TransferSettings(_Section):
    """From the origin to the store."""

    stall_timeout: PositiveDuration = 10.0
    connections: int = Field(default=2, ge=1, le=16)
    """Ranges asked for at once by one flight, once it has ramped up."""
    retries: int = Field(default=6, ge=0, le=100)
    """How many ranges of one flight may be lost in a row, without a good piece between them."""
    max_flights: int = Field(default=8, ge=1, le=256)
    """Flights that fetch at once; further ones are queued."""
    prefetch_flights: int = Field(default=2, ge=1, le=64)
    """Flights that prefetch at once, beside those that clients wait for."""
    prefetch_bandwidth: PositiveSize | None = None
    """Bytes a second of all prefetching together."""


class PrefetchSettings(_Section):
    """One ``[[prefetch]]``: what is fetched before it is asked for."""

    match: str
    newest: int = Field(default=1, ge=1, le=1000)
    """Versions of each app, for this machine's architecture."""

    @field_validator("match")
    @classmethod
    def _can_match(cls, value: str) -> str:
        if not value or value.startswith("/") or "//" in value:
            raise ValueError('expected a pattern of target names, such as "app/*" or "*"')
        if value.endswith(RESERVED_SUFFIXES):
            raise ValueError("a target never ends so: name the target itself")
        return value


class AdminSettings(_Section):
    """The Unix socket through which all that changes anything goes."""

    socket: Path = Field(default_factory=_default_socket)


class TakeoverSettings(_Section):
    """The redirect of the origin's own address to the mirror."""

    match: str = "system.slice/nomad.service"

    @field_validator("match")
    @classmethod
    def _cgroup_or_user(cls, value: str) -> str:
        return str(parse_match(value))


LogLevel = Literal["debug", "info", "warning", "error"]


class LogSettings(_Section):
    """What the daemon says of itself, on standard error."""

    level: LogLevel = "info"
    format: Literal["auto", "json", "console"] = "auto"


def _tables(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    raise ValueError("expected tables in double brackets, [[prefetch]], each with match and newest")


class Settings(_Section):
    """Everything that can be set, as `docs/configuration.md` lists it."""

    origin: OriginSettings = Field(default_factory=OriginSettings)
    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    mirror: MirrorSettings = Field(default_factory=MirrorSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    transfer: TransferSettings = Field(default_factory=TransferSettings)
    prefetch: Annotated[tuple[PrefetchSettings, ...], BeforeValidator(_tables)] = ()
    takeover: TakeoverSettings = Field(default_factory=TakeoverSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    log: LogSettings = Field(default_factory=LogSettings)


def default_config_path() -> Path:
    """Where the configuration is looked for when no ``--config`` names it."""
    if named := os.environ.get(ENV_CONFIG):
        return Path(named)
    return _xdg("XDG_CONFIG_HOME", ".config") / "waystation/waystation.toml" if _as_user() else SYSTEM_CONFIG


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
    layers += [(name, _nested(keys, value)) for name, keys, value in _from_environment(environment)]
    layers += [(f"--set {flag}", _from_flag(flag)) for flag in flags]
    merged: dict[str, Any] = {}
    for _, values in layers:
        _merge(merged, values)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, layers) from error


def _check_http_url(value: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(value)
        port_ok = parts.port is None or parts.port >= 0
    except ValueError:
        raise ValueError(f'"{value}" is not a URL') from None
    if not port_ok or parts.scheme not in schemes or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f'"{value}" is not like "{schemes[0]}://host:port"')
    if parts.username or parts.password:
        raise ValueError("credentials don't belong in a URL; use the AWS chain or credentials_file")


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
        raise ConfigError(f"{file}: not valid TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, list[str], str]]:
    return [
        (name, name[len(ENV_PREFIX) :].lower().split(_NESTING), environment[name])
        for name in sorted(environment)
        if name.startswith(ENV_PREFIX) and name != ENV_CONFIG
    ]


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
        except tomllib.TOMLDecodeError:
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
    place = next((name for name, values in reversed(layers) if _has(values, location)), layers[0][0])
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{place}: unknown key '{key}'")
    if first["type"] == "missing":
        return ConfigError(f"{place}: {key} is not there, and it has no default")
    message = _EXPECTED.get(first["type"], first["msg"]).format_map(first.get("ctx", {})).removeprefix("Value error, ")
    given = first["input"]
    shown = f", not {given!r}" if isinstance(given, str | int | float) and "secret" not in key else ""
    return ConfigError(f"{place}: {key}: {message}{shown}")


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
