"""The disk below the store: which filesystem it is, and whether what the settings ask for fits."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from waystation.config import human_size
from waystation.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.config import StoreSettings

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    "9p afs beegfs ceph cephfs cifs davfs glusterfs gpfs lustre ncpfs nfs nfs4 orangefs smb3 smbfs".split()  # noqa: SIM905
)
_MEMORY = frozenset({"tmpfs", "ramfs"})
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Filesystem:
    """One line of mountinfo."""

    kind: str
    mounted_at: Path


@dataclass(frozen=True, slots=True)
class DiskSeen:
    """The filesystem that the store is on, or will be on."""

    filesystem: Filesystem | None
    total_bytes: int
    free_bytes: int
    """What an ordinary user may still take."""
    stored_bytes: int
    """What the store takes already."""


class DiskSpace:
    """Room and kind of the filesystem."""

    name = "disk"

    def __init__(self, store: StoreSettings, *, mounts: Path = MOUNTS) -> None:
        self._store = store
        self._mounts = mounts

    async def look(self) -> DiskSeen | str:
        return await asyncio.to_thread(self._look)

    def judge(self, seen: DiskSeen | str) -> Iterator[Finding]:
        if isinstance(seen, str):
            yield Finding(self.name, Level.FAILURE, seen, "Correct [store] path.")
            return
        yield from self._judge_filesystem(seen)
        yield from self._judge_room(seen)

    def _judge_filesystem(self, seen: DiskSeen) -> Iterator[Finding]:
        kind = seen.filesystem.kind if seen.filesystem else "unknown"
        where = f"{self._store.path} is on {kind}"
        if kind in _NETWORK or kind.startswith("fuse."):
            advice = "Put [store] path on a disk of this machine: a cache behind a network is no shorter way."
            yield Finding(self.name, Level.WARNING, f"{where}, a filesystem behind a network or a program", advice)
        elif kind in _MEMORY:
            advice = "Put [store] path on a disk, so that a reboot finds what was cached."
            yield Finding(self.name, Level.WARNING, f"{where}, in memory: a restart of the machine empties it", advice)
        else:
            yield Finding(self.name, Level.OK, where)

    def _judge_room(self, seen: DiskSeen) -> Iterator[Finding]:
        max_size, min_free = self._store.max_size, self._store.min_free
        room = seen.free_bytes + seen.stored_bytes - min_free
        free = f"{human_size(seen.free_bytes)} of {human_size(seen.total_bytes)} are free"
        if room <= 0:
            says = f"{free}, and [store] min_free keeps {human_size(min_free)} of them: the store can hold nothing"
            yield Finding(self.name, Level.FAILURE, says, "Free disk space, or lower [store] min_free.")
        elif room < max_size:
            says = f"{free}: the store can hold {human_size(room)}, not its max_size of {human_size(max_size)}"
            advice = "Free disk space, or lower [store] max_size to what is there."
            yield Finding(self.name, Level.WARNING, says, advice)
        else:
            yield Finding(self.name, Level.OK, f"{free}, room for [store] max_size, {human_size(max_size)}")

    def _look(self) -> DiskSeen | str:
        path = nearest_existing(self._store.path)
        try:
            usage = os.statvfs(path)
            mounts = self._mounts.read_text(errors="surrogateescape") if self._mounts.exists() else ""
        except OSError as error:
            return f"{path} can't be looked at: {error.strerror}"
        return DiskSeen(
            filesystem_of(path.resolve(), mounts),
            total_bytes=usage.f_blocks * usage.f_frsize,
            free_bytes=usage.f_bavail * usage.f_frsize,
            stored_bytes=_allocated_bytes(self._store.path),
        )


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next((place for place in (path, *path.parents) if os.path.lexists(place)), Path("/"))


def filesystem_of(path: Path, mountinfo: str) -> Filesystem | None:
    """Find the filesystem of a path without links in it, by the text of ``/proc/self/mountinfo`` (proc(5))."""
    found: Filesystem | None = None
    for line in mountinfo.splitlines():
        mount, _, rest = line.partition(" - ")
        fields, kind = mount.split(" "), rest.partition(" ")[0]
        mounted_at = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # The longest one counts, and of several at one place the last.
        if path.is_relative_to(mounted_at) and (found is None or len(mounted_at.parts) >= len(found.mounted_at.parts)):
            found = Filesystem(kind, mounted_at)
    return found


def _allocated_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except OSError:
                continue  # gone meanwhile
    return total
