"""Each owner's whole set of digests that are never evicted, one JSON file an owner."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from waystation.disk import read_file, replace_file
from waystation.model import parse_digest

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Digest

FORMAT = 1
MAX_PINS_BYTES = 64 * 1024 * 1024


def write_pins(disk: Disk, path: Path, digests: frozenset[Digest]) -> None:
    """Replace an owner's set, lasting; an empty one leaves no file."""
    if digests:
        body = json.dumps({"format": FORMAT, "digests": sorted(digests)}, indent=1)
        replace_file(disk, path, body.encode() + b"\n")
        return
    try:
        disk.unlink(path)
    except FileNotFoundError:
        return
    disk.sync_folder(path.parent)


def read_pins(disk: Disk, path: Path) -> frozenset[Digest]:
    """Read an owner's set.

    Raises:
        ValueError: it is not what `write_pins` writes.
    """
    body = json.loads(read_file(disk, path, limit_bytes=MAX_PINS_BYTES))
    if not isinstance(body, dict) or body.get("format") != FORMAT or not isinstance(body.get("digests"), list):
        raise ValueError("not a set of pins of a known format")
    return frozenset(parse_digest(str(digest)) for digest in body["digests"])
