"""What a daemon's process holds on to: memory, descriptors, threads, and what of its own work is open."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peers.station import Station

SETTLES_WITHIN_S = 60.0
_LOOKS = 5
_SCRUBS = 1
"""So many descriptors come and go while nobody asks for anything: the scrub's, on the blob that it reads."""


@dataclass(frozen=True, slots=True)
class Held:
    """One look at it."""

    resident_bytes: int
    descriptors: int
    threads: int


def look(station: Station) -> Held:
    """See what it holds now."""
    process = Path("/proc") / f"{station.process.pid}"
    status = (process / "status").read_text()
    return Held(_number(status, "VmRSS") * 1024, len(os.listdir(process / "fd")), _number(status, "Threads"))


def settled(station: Station) -> Held:
    """Wait until no flight is left, no connection but the one that asks, and the descriptors stay the same.

    Raises:
        AssertionError: that does not come to be.
    """
    deadline = time.monotonic() + SETTLES_WITHIN_S
    same, before = 0, -1
    while same < _LOOKS:
        if time.monotonic() > deadline:
            raise AssertionError(f"it does not come to rest: {look(station)}")
        working = station.metric("waystation_flights") or station.metric("waystation_connections") > 1
        now = look(station).descriptors
        if working or abs(now - before) > _SCRUBS:
            same, before = 0, now
        else:
            same += 1
        time.sleep(0.2)
    return look(station)


def _number(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    if found is None:
        raise AssertionError(f"the kernel does not tell {name}")
    return int(found[1])
