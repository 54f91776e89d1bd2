"""The values that every room speaks of: digests, target names, artifacts and byte spans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NewType

from waystation.errors import BadTarget

if TYPE_CHECKING:
    from datetime import datetime

    from waystation.pieces import PieceTree

Digest = NewType("Digest", str)
"""A sha256 as 64 lower-case hexadecimal digits."""

TargetPath = NewType("TargetPath", str)
"""A target's name in the catalog, checked by `parse_target`."""

RESERVED_APPS = frozenset({"root", "targets", "snapshot", "timestamp", "metadata"})
CHECKSUM_SUFFIX = ".sha256"
PIECES_SUFFIX = ".pieces"
RESERVED_SUFFIXES = (CHECKSUM_SUFFIX, PIECES_SUFFIX, ".provenance.json")
MAX_TARGET_BYTES = 1024  # an S3 key's own limit
MAX_FILE_BYTES = 255 - max(map(len, RESERVED_SUFFIXES))
"""How long a published file's name may be: most filesystems, and MinIO, hold 255 bytes, its longest ending included."""
ARCH_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Go's names of machines, as in Nomad's ``${attr.cpu.arch}``, to the kernel's, as in ``${attr.kernel.arch}``."""

SHORT_DIGEST_DIGITS = 12

_DIGEST = re.compile(r"[0-9a-f]{64}")
_APP = re.compile(r"[a-z0-9][a-z0-9-]*")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")


SLICE_BYTES = 16 * 1024 * 1024
"""An artifact without pieces is moved and resumed in slices of this length; none of them can be checked by itself."""


class CacheResult(StrEnum):
    """Where a request's bytes came from."""

    HIT = "hit"
    MISS = "miss"
    JOINED = "joined"
    PASSED = "passed"
    NONE = "none"


class Priority(IntEnum):
    """Who wants an artifact; the lower goes first."""

    CLIENT = 0
    """Somebody waits for it."""
    PREFETCH = 1
    """Somebody may ask for it later."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of bytes, ``start <= byte < stop``."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a span: {self.start}..{self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Artifact:
    """All that a transfer must know. The catalog fills it in; nobody below asks the catalog again."""

    target: TargetPath
    digest: Digest
    size_bytes: int
    modified: datetime
    key: str
    """Where it lies in the origin, below the configured prefix."""
    etag: str | None
    """Which revision of the key: sent as If-Match with every range."""
    pieces: PieceTree | None
    """Root and piece length; without them the artifact is released only as a whole."""

    @property
    def unit_bytes(self) -> int:
        """The length of a piece, or of a slice where there are no pieces."""
        return self.pieces.piece_length if self.pieces else SLICE_BYTES


def printable(text: str) -> str:
    """Escape what would steer a terminal or break a line: names come from origins and clients."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def short_digest(digest: str) -> str:
    """Cut a digest to the digits by which a person tells it from others, and which `waystation store` takes."""
    return digest[:SHORT_DIGEST_DIGITS]


def parse_digest(text: str) -> Digest:
    """Read a sha256 in hexadecimal, in either case.

    Raises:
        ValueError: it is not 64 hexadecimal digits.
    """
    lowered = text.lower()
    if not _DIGEST.fullmatch(lowered):
        raise ValueError(f"not a sha256 in hexadecimal: {text[:80]!r}")
    return Digest(lowered)


def parse_target(name: str) -> TargetPath:
    """Check a name that a client or a person gave: any key that can be a target.

    Raises:
        BadTarget: empty or too long, an empty, ``.`` or ``..`` part, control characters, a
            backslash, a reserved app, or a reserved ending.
    """
    shown = name[:80].encode("unicode_escape").decode("ascii")
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        size_bytes = 0
    if not 0 < size_bytes <= MAX_TARGET_BYTES:
        raise BadTarget(f"a target's name has 1 to {MAX_TARGET_BYTES} bytes of UTF-8, not like '{shown}'")
    if _UNSAFE.search(name):
        raise BadTarget(f"control characters and backslashes can't be in a target's name: '{shown}'")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BadTarget(f"a target's name has no empty, '.' or '..' part: '{shown}'")
    if len(parts) > 1 and parts[0] in RESERVED_APPS:
        raise BadTarget(f"'{parts[0]}' is reserved and can't be an app: '{shown}'")
    if name.endswith(RESERVED_SUFFIXES):
        raise BadTarget(f"'{shown}' names what describes a target, not a target")
    return TargetPath(name)


def published_target(app: str, file: str) -> TargetPath:
    """Build the name under which a publisher publishes, ``<app>/<file>``.

    Raises:
        BadTarget: either part is outside the published alphabet, reserved, or too long to be announced everywhere.
    """
    if not _APP.fullmatch(app):
        raise BadTarget(
            f"'{app[:80]}' can't be an app: lower-case letters, digits and hyphens, starting with a letter or digit"
        )
    if not _FILE.fullmatch(file):
        raise BadTarget(
            f"'{file[:80]}' can't be a file's name: letters, digits and ._+~-, starting with a letter or digit"
        )
    if len(file) > MAX_FILE_BYTES:
        raise BadTarget(
            f"'{file[:80]}…' has {len(file)} bytes, at most {MAX_FILE_BYTES} can be published",
            advice="Choose a shorter name or version.",
        )
    return parse_target(f"{app}/{file}")


_CGROUP = re.compile(r"[A-Za-z0-9:_.@\\-]+(?:/[A-Za-z0-9:_.@\\-]+)*")
_USER = re.compile(r"user:([a-z_][a-z0-9_-]*|[0-9]+)")


@dataclass(frozen=True, slots=True)
class Match:
    """Whose connections are taken over: those of one cgroup (v2, a path below its mount) or of one user."""

    cgroup: str | None = None
    user: str | None = None

    def __str__(self) -> str:
        return self.cgroup if self.cgroup is not None else f"user:{self.user}"


def parse_match(text: str) -> Match:
    """Read a cgroup's path or ``user:NAME``.

    Raises:
        ValueError: it is neither.
    """
    if user := _USER.fullmatch(text):
        return Match(user=user[1])
    path = text.strip("/")
    if not _CGROUP.fullmatch(path) or path.startswith("user:") or any(part in (".", "..") for part in path.split("/")):
        raise ValueError('expected a cgroup like "system.slice/nomad.service", or "user:NAME"')
    return Match(cgroup=path)
