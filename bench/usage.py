"""What a server and its children have used: processor seconds and resident memory, from /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _STIME = 1, 11, 12
"""Fields of /proc/<pid>/stat, counted behind the command's name."""


def cpu_seconds(pid: int) -> float:
    """User and system time so far of a process and of all that descend from it and still run."""
    stats = _stats()
    family = {pid}
    while grown := {child for child, stat in stats.items() if int(stat[_PPID]) in family} - family:
        family |= grown
    return sum(int(stats[one][_UTIME]) + int(stats[one][_STIME]) for one in family if one in stats) / _TICKS_PER_S


def resident_bytes(pid: int, *, peak: bool = False) -> int:
    """Resident memory of one process, now or at its highest."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{wanted} is not in the status of process {pid}")


def _stats() -> dict[int, list[str]]:
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # it ended meanwhile
                found[int(entry)] = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
    return found
