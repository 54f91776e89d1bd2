"""The settings model: every section and key, its default and what it may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from waystation.config.places import default_origin_url, default_socket, default_store_path, passed_file
from waystation.config.units import parse_duration, parse_size
from waystation.model import RESERVED_SUFFIXES, parse_match

NO_LIST = "{url} can't be listed, so each target must be named without wildcards; a hub's url ends in /artifacts"
WILDCARDS = "*?["

Location = tuple[int | str, ...]
PlaceOf = Callable[[Location], str]

Size = Annotated[int, BeforeValidator(parse_size)]
PositiveSize = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


def _named(value: object) -> object:
    """Let a file be named only: what belongs into it, a key perhaps, would come back in every refusal."""
    if isinstance(value, str) and ("\n" in value or "-----BEGIN" in value):
        raise ValueError("expected the path of a file, and it is what belongs into one")
    return value


File = Annotated[Path, BeforeValidator(_named)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OriginSettings(_Section):
    """Where bytes come from."""

    url: str = Field(default_factory=default_origin_url)
    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: Literal["path", "virtual", "auto"] = "path"
    ca_bundle: File | None = None
    credentials_file: File | None = None
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
        """Where `credentials_file` is."""
        return passed_file(self.credentials_file)

    @property
    def folder(self) -> Path | None:
        """The folder that a ``file://`` URL names; None for S3 and for HTTP."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def http_base(self) -> str | None:
        """What stands before the slash in front of each key, for an origin that is read over HTTP; None for others."""
        return self.url.rstrip("/") if urlsplit(self.url).scheme in ("http", "https") else None

    @property
    def hub_api(self) -> str | None:
        """Where a hub answers about itself, where `http_base` may be one: its targets lie at ``…/artifacts``."""
        base, _, last = (self.http_base or "").rpartition("/")
        return f"{base}/api/v1" if last == "artifacts" and not base.endswith(":/") else None

    @property
    def own_base(self) -> str | None:
        """What stands before the slash in front of each key where jobs ask the origin itself; None: not over HTTP."""
        parts = urlsplit(self.url)
        if parts.scheme == "s3" and self.endpoint_url:
            return f"{self.endpoint_url.rstrip('/')}/{parts.netloc}{parts.path}".rstrip("/")
        return self.http_base

    @property
    def own_scheme(self) -> str | None:
        """What jobs speak with the origin itself: ``http`` or ``https``."""
        return urlsplit(self.own_base).scheme if self.own_base else None

    @property
    def own_path(self) -> str | None:
        """The path of `own_base`, or that of a path-style URL of the bucket; None: keys have no path in front."""
        parts = urlsplit(self.url)
        if parts.scheme == "s3":
            return f"{parts.netloc}{parts.path}".rstrip("/")
        return unquote(urlsplit(self.http_base).path).strip("/") or None if self.http_base else None

    @property
    def own_host(self) -> str | None:
        """The host of `own_base`: clients that are sent to the mirror in its place go on calling it so."""
        return urlsplit(self.own_base).hostname if self.own_base else None

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
        if parts.scheme in ("http", "https"):
            _check_http_base(value)
            return value
        raise ValueError('expected "s3://bucket", "s3://bucket/prefix", "file:///folder" or "http://host:port/folder"')

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

    tls_cert: File | None = None
    """The certificate, and behind it those of its issuers, in PEM."""
    tls_key: File | None = Field(default=None, validate_default=True)
    allow_insecure: bool = False
    """Whether other machines may be spoken to without TLS."""
    listen: tuple[str, ...] = Field(default=("http://127.0.0.1:4650",), min_length=1)
    hosts: tuple[str, ...] = ()
    drain_timeout: Duration = 30.0
    max_connections: int = Field(default=1024, ge=1)
    max_connections_per_peer: int = Field(default=128, ge=1)
    """Of one address, but for this machine's own."""
    max_header_size: Size = 16 * 1024
    header_timeout: PositiveDuration = 10.0
    idle_timeout: PositiveDuration = 75.0
    send_timeout: PositiveDuration = 120.0
    request_timeout: PositiveDuration = 3600.0
    access_log: bool = True

    @property
    def tls_files(self) -> tuple[Path, Path] | None:
        """Where certificate and key are; None: TLS is not spoken."""
        certificate, key = passed_file(self.tls_cert), passed_file(self.tls_key)
        return (certificate, key) if certificate and key else None

    @field_validator("tls_key")
    @classmethod
    def _beside_its_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_cert" in info.data and (value is None) != (info.data["tls_cert"] is None):
            raise ValueError("expected both or none of tls_cert and tls_key")
        return value

    @field_validator("listen")
    @classmethod
    def _as_safe_as_wanted(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for address in value:
            _check_http_url(address, ("http", "https"))
            parts = urlsplit(address)
            if parts.port is None:
                raise ValueError(f'"{address}" names no port, expected one like "http://127.0.0.1:4650"')
            if parts.scheme == "https" and info.data.get("tls_cert", "") is None:
                raise ValueError(f'"{address}" needs tls_cert and tls_key')
            if (
                parts.scheme == "http"
                and not info.data.get("allow_insecure", True)
                and not _on_loopback(parts.hostname)
            ):
                raise ValueError(
                    f'"{address}" is open to other machines without TLS: expected https://, a loopback address,'
                    " or allow_insecure = true"
                )
        return value


class StoreSettings(_Section):
    """Blobs on disk."""

    path: Path = Field(default_factory=default_store_path)
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

    socket: Path = Field(default_factory=default_socket)


class TakeoverSettings(_Section):
    """The redirect of the origin's own address to the mirror."""

    enabled: bool = False
    """Whether the units take it over whenever the daemon can serve."""
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


def _nowhere(_: Location) -> str:
    return "the settings"


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

    _place_of: PlaceOf = PrivateAttr(default_factory=lambda: _nowhere)

    def read_from(self, place_of: PlaceOf) -> Self:
        """Remember where each key was set, for errors that only show once the origin has been asked."""
        self._place_of = place_of
        return self

    def unlistable(self) -> str | None:
        """Say which key asks for a list of targets, and where it was set; None: none does."""
        for index, subscription in enumerate(self.prefetch):
            if has_wildcards(subscription.match):
                return f"{self._place_of(('prefetch', index, 'match'))}: prefetch[{index + 1}].match"
        return None

    @model_validator(mode="after")
    def _can_be_listed(self) -> Self:
        if self.origin.http_base is None or self.origin.hub_api is not None:
            return self
        for index, subscription in enumerate(self.prefetch):
            if has_wildcards(subscription.match):
                at = ("prefetch", index, "match")
                kind = PydanticCustomError("not_listable", "{why}", {"why": NO_LIST.format(url=self.origin.url)})
                raise ValidationError.from_exception_data(
                    "Settings", [InitErrorDetails(type=kind, loc=at, input=subscription.match)]
                )
        return self


def has_wildcards(pattern: str) -> bool:
    """Whether a shell-style pattern matches more than one name."""
    return any(letter in pattern for letter in WILDCARDS)


def _check_http_base(value: str) -> None:
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or re.search(r"[\x00-\x20\x7f-\U0010ffff\"<>\\^`{|}?#]", value):
        raise ValueError('expected a URL without query, such as "http://host:port/folder", percent-encoded')
    if parts.username is not None or parts.password is not None:
        raise ValueError("an http origin is asked without credentials, and none belong into a URL")
    folders = parts.path.rstrip("/").split("/")[1:]
    if any(unquote(folder) in ("", ".", "..") for folder in folders):
        raise ValueError("a folder of the URL can't be empty, '.' or '..'")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it: an IP address."""
    ip = ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).is_loopback


def _on_loopback(host: str | None) -> bool:
    """Of a name that is seen only once the mirror listens there."""
    try:
        return is_loopback(host or "")
    except ValueError:
        return True


def _check_http_url(value: str, schemes: tuple[str, ...]) -> None:
    if "@" in value:  # first, so that no other refusal shows them
        raise ValueError("credentials don't belong in a URL; use the AWS chain or credentials_file")
    try:
        parts = urlsplit(value)
        port_ok = parts.port is None or parts.port >= 0
    except ValueError:
        raise ValueError(f'"{value}" is not a URL') from None
    if not port_ok or parts.scheme not in schemes or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f'"{value}" is not like "{schemes[0]}://host:port"')
