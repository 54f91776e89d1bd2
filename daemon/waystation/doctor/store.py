"""The store's folder: is it one, may this user write to it, and who holds it."""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from waystation.disk import Disk
from waystation.doctor.disk import nearest_existing
from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import StoreFormat, StoreLocked
from waystation.store.layout import Layout
from waystation.store.migration import check_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.doctor.daemon import DaemonHere

LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class StoreSeen:
    """The folder as this user finds it."""

    exists: bool
    blocked_at: Path | None = None
    """The first thing in the way of writing there: a folder or file of the store, or one above it."""
    why: str = ""
    owner: str = ""
    strangers: tuple[Path, ...] = ()
    """What in it belongs to somebody else than the folder does."""
    format_trouble: StoreFormat | None = None
    holders: tuple[int, ...] = field(default=())
    """The processes that hold its lock."""


class StoreFolder:
    """Permissions, owner, format and lock."""

    name = "store"

    def __init__(self, path: Path, here: DaemonHere, *, locks: Path = LOCKS) -> None:
        self._path = path
        self._layout = Layout(path)
        self._here = here
        self._locks = locks

    async def look(self) -> StoreSeen:
        return await asyncio.to_thread(self._look)

    def judge(self, seen: StoreSeen) -> Iterator[Finding]:
        if seen.blocked_at is not None:
            user = _user_name(os.geteuid())
            says = f"{self._path} can't be used by {user}: {seen.blocked_at} {seen.why}"
            advice = "Run this as the daemon's user; as root, give the folder to that user with `chown -R`."
            yield Finding(self.name, Level.FAILURE, says, advice)
        elif seen.format_trouble is not None:
            yield failure_of(self.name, seen.format_trouble)
        elif seen.holders and self._here.store != str(self._path):
            locked = f"{self._path} is held by process {seen.holders[0]}, which does not answer on [admin] socket"
            yield failure_of(self.name, StoreLocked(locked))
        elif seen.strangers:
            says = f"{seen.strangers[0]} belongs to {_owner_of(seen.strangers[0])}, the store to {seen.owner}"
            yield Finding(self.name, Level.WARNING, says, f"Run `chown -R {seen.owner} {self._path}`.")
        elif not seen.exists:
            yield Finding(self.name, Level.OK, f"{self._path} is not there yet and can be made")
        else:
            held = f", held by the daemon here, process {self._here.pid}" if seen.holders else ""
            yield Finding(self.name, Level.OK, f"{self._path} belongs to {seen.owner}{held}")

    # --- blocking, in a worker thread ----------------------------------------------------------

    def _look(self) -> StoreSeen:
        nearest = nearest_existing(self._path)
        if blocked := _blocked(nearest):
            return StoreSeen(nearest == self._path, nearest, blocked)
        if nearest != self._path:
            return StoreSeen(exists=False)
        try:
            inside = sorted(self._path.iterdir())
            owner = self._path.stat().st_uid
            for path in inside:
                if path.name in _OURS and (blocked := _blocked(path, folder=path.is_dir())):
                    return StoreSeen(True, path, blocked)
            strangers = [path for path in inside if path.name in _OURS and path.stat().st_uid != owner]
        except OSError as error:
            return StoreSeen(True, self._path, f"can't be looked at: {error.strerror}")
        try:
            check_format(Disk(), self._layout)
        except StoreFormat as error:
            return StoreSeen(True, owner=_user_name(owner), format_trouble=error)
        return StoreSeen(True, owner=_user_name(owner), strangers=tuple(strangers), holders=tuple(self._holders()))

    def _holders(self) -> list[int]:
        try:
            there = self._layout.lock.stat()
            return holders_of(there.st_dev, there.st_ino, self._locks.read_text())
        except OSError:
            return []


_OURS = frozenset({"format", "lock", "running", "blobs", "spool", "quarantine", "pins", "catalog.json"})


def holders_of(device: int, inode: int, locks: str) -> list[int]:
    """Find who holds a file's flock, by the text of ``/proc/locks`` (proc(5)); nothing is locked to find out."""
    file = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    lines = [line.split() for line in locks.splitlines() if " -> " not in line]
    return [int(fields[4]) for fields in lines if fields[1] == "FLOCK" and fields[5] == file]


def _blocked(path: Path, *, folder: bool = True) -> str:
    """Say why this user can't write there; empty where they can."""
    try:
        status = path.stat()
        if folder and not stat.S_ISDIR(status.st_mode):
            return "is no folder"
        rights = os.R_OK | os.W_OK | (os.X_OK if folder else 0)
        if os.access(path, rights, effective_ids=True):
            return ""
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return "is on a filesystem that is read-only"
    except OSError as error:
        return f"can't be looked at: {error.strerror}"
    return f"belongs to {_user_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):o}"


def _owner_of(path: Path) -> str:
    return _user_name(path.stat().st_uid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
