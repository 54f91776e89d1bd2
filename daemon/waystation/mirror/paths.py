"""Where a request leads: the rules for its path, its query and its Host, before anything is looked up."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from waystation.errors import DirectoryAsked, MalformedRequest, Misdirected, NotAnArtifact
from waystation.model import CHECKSUM_SUFFIX, PIECES_SUFFIX

MAX_PATH_BYTES = 4096
"""A target has at most 1024 bytes; percent-encoding triples them."""

_KNOWN_LENGTH = 512
"""Longer ones are not kept: a thousand of a client's making would take as much memory as it likes."""

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{0,5}))?")


class RouteName(StrEnum):
    """The label of a route in logs and metrics."""

    ARTIFACT = "artifacts"
    BUCKET = "bucket"
    CHECKSUM = "checksum"
    PIECES = "pieces"
    BLOB = "blobs"
    HEALTH = "healthz"
    READY = "readyz"
    METRICS = "metrics"
    STATUS = "status"
    TARGETS = "targets"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for: a route, and the target's name or digest, or the query of a list, where it has one."""

    name: RouteName
    subject: str = ""


_FIXED = {
    "/healthz": Route(RouteName.HEALTH),
    "/readyz": Route(RouteName.READY),
    "/metrics": Route(RouteName.METRICS),
    "/api/v1/status": Route(RouteName.STATUS),
}
_LIST = "/api/v1/targets"
_OF_TARGETS = frozenset({RouteName.ARTIFACT, RouteName.BUCKET, RouteName.CHECKSUM, RouteName.PIECES})
_ARTIFACTS = "/artifacts/"
_BLOBS = "/blobs/sha256/"
_DESCRIPTIONS = ((CHECKSUM_SUFFIX, RouteName.CHECKSUM), (PIECES_SUFFIX, RouteName.PIECES))


class Paths:
    """The mirror's paths; `bucket_path` is that of the origin's own URL: ``<bucket>/<prefix>`` of an S3 bucket."""

    def __init__(self, bucket_path: str | None) -> None:
        bucket, _, prefix = (bucket_path or "").strip("/").partition("/")
        self._bucket = f"/{bucket}/" if bucket else None
        self._prefix = f"{prefix}/" if prefix else ""
        self._known = lru_cache(maxsize=1024)(self._find)

    def route(self, target: str) -> Route:
        """Find where a path leads (RFC 9112 §3.2.1, origin-form).

        Raises:
            MalformedRequest: the path breaks a rule.
            DirectoryAsked: the query is go-getter's question for a folder.
            NotAnArtifact: there is nothing of that kind here.
        """
        return self._known(target) if len(target) <= _KNOWN_LENGTH else self._find(target)

    def _find(self, target: str) -> Route:
        raw, question, query = target.partition("?")
        path = decode_path(raw)
        if question and _asks_for_folder(query):
            raise DirectoryAsked("a folder is asked for, and artifacts are files")
        if fixed := _FIXED.get(path):
            return fixed
        if path == _LIST:
            return Route(RouteName.TARGETS, query)
        if path.startswith(_ARTIFACTS):
            name = path.removeprefix(_ARTIFACTS)
            return _target(name.removeprefix(self._prefix) if self._bucket == _ARTIFACTS else name, RouteName.ARTIFACT)
        if path.startswith(_BLOBS) and _HEX.fullmatch(digest := path.removeprefix(_BLOBS)):
            return Route(RouteName.BLOB, digest.lower())
        if self._bucket and path.startswith(self._bucket):
            key = path.removeprefix(self._bucket)
            if key.startswith(self._prefix):
                return _target(key.removeprefix(self._prefix), RouteName.BUCKET)
        raise NotAnArtifact("no artifact can be at this path")


def decode_path(raw: str) -> str:
    """Decode a path once and check it.

    Raises:
        MalformedRequest: it is too long or not absolute, has an empty, ``.`` or ``..`` part, a control
            character or a backslash, a broken percent-encoding, or bytes that are not UTF-8.
    """
    if len(raw) > MAX_PATH_BYTES:
        raise MalformedRequest(f"the path is longer than {MAX_PATH_BYTES} bytes")
    path = raw
    if "%" in raw:
        if _PERCENT.search(raw):
            raise MalformedRequest("a % in the path is not followed by two hexadecimal digits")
        try:
            path = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise MalformedRequest("the decoded path is not UTF-8") from None
    if not path.startswith("/") or _CONTROL.search(path) or "#" in raw:
        raise MalformedRequest("the path does not begin with a slash, or has a character that no path has")
    parts = path[1:].split("/")
    if parts[1:] == [""]:
        raise NotAnArtifact("a whole bucket is asked for, and lists are not kept here")
    if path != "/" and any(part in ("", ".", "..") for part in parts):
        raise MalformedRequest("the path has an empty, '.' or '..' part")
    return path


def split_target(target: str, host: str | None) -> tuple[str, str | None]:
    """Take a request target apart: the origin-form, and the authority that counts (RFC 9112 §3.2.2).

    Of an absolute-form the authority replaces the Host header.

    Raises:
        MalformedRequest: it is neither an origin-form nor an absolute-form of http or https.
    """
    if target.startswith("/"):
        return target, host
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise MalformedRequest("the path does not begin with a slash")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    return path if path.startswith("/") else f"/{path}", authority


class Hosts:
    """Which names the mirror answers to, beside every address and localhost: a web page must not reach it by DNS."""

    def __init__(self, names: tuple[str, ...], origin_host: str | None) -> None:
        self._origin_host = origin_host
        self.allow(names)

    def allow(self, names: tuple[str, ...]) -> None:
        """Let these be the configured names from now on."""
        own = {"localhost", *names, *([self._origin_host] if self._origin_host else [])}
        self._names = frozenset(name.lower().rstrip(".") for name in own)

    def check(self, authority: str) -> None:
        """Accept a Host.

        Raises:
            MalformedRequest: it is not like ``name:port``.
            Misdirected: it is a name that is not ours.
        """
        name = host_of(authority)
        if name is None:
            raise MalformedRequest("the Host is not like 'name:port'")
        if name and name not in self._names:
            raise Misdirected("the Host is neither an address, localhost nor a configured name")


class Directions:
    """Which target is meant by what a person copied: a name, a path on the mirror, or a whole URL."""

    def __init__(self, paths: Paths, hosts: Hosts) -> None:
        self._paths = paths
        self._hosts = hosts

    def name_in(self, asked: str) -> str:
        """Give the name; what is neither a path nor a URL is one itself.

        Raises:
            RequestError: no request for that leads to a target.
        """
        if not asked.startswith("/") and "://" not in asked:
            return asked
        path, authority = split_target(asked, None)
        if authority is not None:
            self._hosts.check(authority)
        route = self._paths.route(path)
        if route.name in _OF_TARGETS:
            return route.subject
        raise NotAnArtifact("this path names no target")


@lru_cache(maxsize=256)
def host_of(authority: str) -> str | None:
    """Read the name of an authority, without its port; empty for an address, None for nonsense."""
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        return None
    name = match[1].lower()
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None if name.startswith("[") else name.rstrip(".")
    return ""


def _target(name: str, route: RouteName) -> Route:
    for suffix, description in _DESCRIPTIONS:
        if name.endswith(suffix):
            return Route(description, name.removesuffix(suffix))
    return Route(route, name)


def _asks_for_folder(query: str) -> bool:
    keys = (pair.partition("=")[0] for pair in query.split("&"))
    return any(unquote_to_bytes(key) == b"terraform-get" for key in keys)
