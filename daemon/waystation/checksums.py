"""The checksum file that announces a target: written as ``sha256sum`` writes it, read in all of go-getter's forms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from waystation.errors import MalformedChecksum
from waystation.model import parse_digest

if TYPE_CHECKING:
    from waystation.model import Digest

MAX_CHECKSUM_FILE_BYTES = 64 * 1024
"""No valid checksum file is longer."""

_GNU = re.compile(r"\\?([0-9A-Fa-f]{64})(?: [ *](.+))?")
_BSD = re.compile(r"\\?SHA256 \((.+)\) ?= ?([0-9A-Fa-f]{64})")


def dump_checksum(digest: Digest, file_name: str) -> bytes:
    """Write a checksum file for one file, so that ``sha256sum -c`` checks it where both lie side by side."""
    return f"{digest}  {file_name}\n".encode()


def parse_checksum(body: bytes, file_name: str) -> Digest:
    """Read the digest of `file_name` from a checksum file: ``hash  name``, ``hash *name``, BSD's form, or a bare hash.

    A single line counts whatever name it carries (files are renamed on their way to a bucket);
    among several, the one that names the file does.

    Raises:
        MalformedChecksum: no line, or not exactly one, says what the file must be.
    """
    try:
        lines = [line.strip() for line in body.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise MalformedChecksum(f"the checksum file of '{file_name}' is not text") from None
    entries = [_parse_line(line, file_name) for line in lines if line and not line.startswith("#")]
    if len(entries) > 1:
        entries = [entry for entry in entries if entry[0].rpartition("/")[2] == file_name]
    digests = {digest for _, digest in entries}
    if len(digests) != 1:
        raise MalformedChecksum(f"the checksum file of '{file_name}' has {len(digests)} digests for it, expected one")
    return digests.pop()


def _parse_line(line: str, file_name: str) -> tuple[str, Digest]:
    if match := _GNU.fullmatch(line):
        return match[2] or "", parse_digest(match[1])
    if match := _BSD.fullmatch(line):
        return match[1], parse_digest(match[2])
    raise MalformedChecksum(f"the checksum file of '{file_name}' has a line that is no sha256 checksum")
