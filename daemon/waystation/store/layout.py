"""Where everything stands in a store's folder, and what makes a folder one that this version may use."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.disk import read_file
from waystation.errors import StoreFormat, StoreLocked, StoreUnusable
from waystation.model import PIECES_SUFFIX

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Digest

TEMPORARY_SUFFIX = ".new"
"""What `replace_file` leaves behind when it is interrupted ends so, and begins with a dot."""

_OWNER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAY_PRECEDE_FORMAT = frozenset(
    {
        "lock",
        ".format.new",
        "lost+found",
        "catalog.json",
        ".catalog.json.new",
        "catalog.json.bad",
        "admin.sock",
    }
)
"""What a folder may hold before it is a store: a start that was interrupted, a fresh filesystem, other rooms' files."""
_SMALL_BYTES = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: Path

    @property
    def format(self) -> Path:
        return self.root / "format"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def running(self) -> Path:
        return self.root / "running"

    @property
    def suspect_before(self) -> Path:
        return self.root / "suspect-before"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def sha256(self) -> Path:
        return self.blobs / "sha256"

    @property
    def spools(self) -> Path:
        return self.root / "spool"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def pins(self) -> Path:
        return self.root / "pins"

    def blob(self, digest: Digest) -> Path:
        return self.sha256 / digest[:2] / digest

    def blob_pieces(self, digest: Digest) -> Path:
        return self.sha256 / digest[:2] / (digest + PIECES_SUFFIX)

    def spool(self, digest: Digest) -> Path:
        return self.spools / digest

    def spool_pieces(self, digest: Digest) -> Path:
        return self.spools / (digest + PIECES_SUFFIX)

    def pins_of(self, owner: str) -> Path:
        """Raises ValueError where the owner's name can't be a file's name."""
        if not is_owner(owner):
            raise ValueError(f"not a pins' owner: {owner[:80]!r}")
        return self.pins / f"{owner}.json"


def is_owner(name: str) -> bool:
    """Whether pins may be held in this name: lower-case letters, digits and ``._-``, 64 at most."""
    return _OWNER.fullmatch(name) is not None


def unusable(doing: str, error: OSError) -> StoreUnusable:
    """Say in words what the operating system refused."""
    return StoreUnusable(f"can't {doing}: {error.strerror or error}")


def make_root(disk: Disk, layout: Layout) -> None:
    """Create the store's own folder, lasting, and refuse one that is full of something else.

    Raises:
        StoreFormat: a folder that holds things, and no ``format`` file.
    """
    missing = [folder for folder in (layout.root, *layout.root.parents) if not folder.exists()]
    for folder in reversed(missing):
        disk.make_folder(folder)
    if has_format(disk, layout):
        return
    # All of them, also those that are there: a start that was interrupted may have made them without syncing.
    for folder in layout.root.parents:
        with suppress(PermissionError):  # then it is not ours, and was there before
            disk.sync_folder(folder)


def has_format(disk: Disk, layout: Layout) -> bool:
    """Whether there is a ``format`` file.

    Raises:
        StoreFormat: there is none, in a folder that holds things of somebody else's.
    """
    names = {entry.name for entry in disk.scan(layout.root)}
    if layout.format.name in names:
        return True
    if strangers := sorted(names - _MAY_PRECEDE_FORMAT):
        raise StoreFormat(
            f"{layout.root} has no format file but holds {strangers[0][:80]!a}: not a store of Waystation's",
            advice="Give [store] path a folder of its own, empty at first.",
        )
    return False


def take_lock(disk: Disk, layout: Layout) -> int:
    """Hold the store for this process, as long as the returned descriptor is open; its pid stands in the file.

    Raises:
        StoreLocked: another process holds it; the message names its pid.
    """
    fd = disk.open(layout.lock, os.O_RDWR | os.O_CREAT)
    try:
        held = disk.lock(fd)
        if held:
            disk.truncate(fd, 0)
            disk.write_at(fd, memoryview(f"{os.getpid()}\n".encode()), 0)
        holder = read_file(disk, layout.lock, limit_bytes=_SMALL_BYTES).decode("ascii", "replace").strip()
    except OSError:
        disk.close(fd)
        raise
    if held:
        return fd
    disk.close(fd)
    who = f"process {holder}" if holder.isdigit() else "another process"
    raise StoreLocked(f"{layout.root} is in use by {who}")
