"""Memory that a virtual machine's host has taken back is there again before a measurement begins.

Where free memory is reported to the host, the first to touch a page pays for the host's finding a new one: up to 1.6
processor seconds a GiB, charged to whichever program writes into fresh page cache, and to the next one nothing.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

_AVAILABLE = re.compile(r"MemAvailable:\s+(\d+) kB")


def touch_memory(size_bytes: int) -> None:
    """Touch so much free memory, at most half of what there is, and let it go: now the host backs it."""
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, min(size_bytes, _available_bytes() // 2), flags=anonymous).close()


def _available_bytes() -> int:
    match = _AVAILABLE.search(Path("/proc/meminfo").read_text())
    if not match:
        raise LookupError("MemAvailable is not in /proc/meminfo")
    return int(match[1]) * 1024
