"""The checksum file beside a target, as ``sha256sum`` writes it: read in all its forms, written in the plainest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from waystation.errors import MalformedChecksum
from waystation.model import parse_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.model import Digest, TargetPath

MAX_CHECKSUM_BYTES = 64 * 1024
"""No valid ``.sha256`` object is longer: it may list a release's files, but not a distribution's."""

_HEX = r"(?P<digest>[0-9a-fA-F]{64})"
_LINE = re.compile(rf"(?P<escaped>\\?){_HEX}[ \t][ *]?(?P<name>.+)", re.DOTALL)
_TAGGED = re.compile(rf"(?P<escaped>\\?)SHA(?:2-)?256 ?\((?P<name>.+)\) ?= ?{_HEX}", re.DOTALL)
# A bare hash names nothing.
_BARE = re.compile(rf"(?P<escaped>){_HEX}(?P<name>)[ \t]*")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "\\": "\\"}


def parse_checksum(body: bytes, target: TargetPath) -> Digest:
    """Find the sha256 that a checksum file states for a target.

    Lines are ``hash  name``, ``hash *name``, ``SHA256 (name) = hash`` or a bare hash, each perhaps with
    names escaped behind a leading backslash (GNU coreutils, "cksum output modes"); empty lines and
    those that begin with ``#`` say nothing. The only line counts whatever it names, for the file's own
    name says whose it is; of several, the one that names the target, its last part, or a path to it.

    Raises:
        MalformedChecksum: it is not such a file, names another target only, or contradicts itself.
    """
    if len(body) > MAX_CHECKSUM_BYTES:
        raise MalformedChecksum(f"{target}.sha256 has more than {MAX_CHECKSUM_BYTES} bytes")
    entries = list(_entries(body, target))
    if len(entries) == 1:
        return entries[0][1]
    file = _last_part(target)
    for means_target in (
        lambda name: name == target,
        lambda name: name == file,
        lambda name: _last_part(name) == file,
    ):
        digests = {digest for name, digest in entries if means_target(name)}
        if len(digests) > 1:
            raise MalformedChecksum(f"{target}.sha256 states {len(digests)} checksums for '{file}'")
        if digests:
            return digests.pop()
    raise MalformedChecksum(f"{target}.sha256 has {len(entries)} lines, and none of them names '{file}'")


def format_checksum(digest: Digest, target: TargetPath) -> bytes:
    """Write a checksum file that ``sha256sum -c`` accepts in the folder where the file itself lies."""
    file = _last_part(target)
    escaped = file.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != file else ""
    return f"{mark}{digest}  {escaped}\n".encode()


def _entries(body: bytes, target: TargetPath) -> Iterator[tuple[str, Digest]]:
    # Names may be of any bytes: those that are not UTF-8 simply name something else.
    text = body.decode("utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.removesuffix("\r").lstrip(" \t")  # at its end, spaces are part of a name
        if not entry or entry.startswith("#"):
            continue
        match = _TAGGED.fullmatch(entry) or _LINE.fullmatch(entry) or _BARE.fullmatch(entry)
        if not match:
            raise MalformedChecksum(f"{target}.sha256, line {number}, is not a sha256 checksum: {_shown(entry)}")
        name = _unescaped(match["name"]) if match["escaped"] else match["name"]
        if name is None:
            raise MalformedChecksum(f"{target}.sha256, line {number}, has a wrong escape: {_shown(entry)}")
        yield name, parse_digest(match["digest"])


def _unescaped(name: str) -> str | None:
    if any(match[1] not in _ESCAPED for match in _ESCAPE.finditer(name)):
        return None
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], name)


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _shown(text: str) -> str:
    """Make what the origin wrote fit for a log line."""
    return "'" + text[:60].encode("unicode_escape").decode("ascii") + "'"
