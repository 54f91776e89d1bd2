"""What the store does to its blobs' files, one method an operation; everything here blocks."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from waystation.disk import exists, read_file
from waystation.errors import StoreError
from waystation.pieces import (
    MAX_LINE_BYTES,
    MAX_PIECES_FILE_BYTES,
    MalformedPieces,
    parse_pieces,
    parse_pieces_line,
)
from waystation.store.layout import make_root, take_lock
from waystation.store.marker import mark_running, mark_stopped, suspect_all, trust_all
from waystation.store.migration import bring_up_to_date
from waystation.store.quarantine import printable
from waystation.store.scan import scan_store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Digest
    from waystation.pieces import PieceLayer
    from waystation.store.held import Held, Leaving, Place
    from waystation.store.layout import Layout
    from waystation.store.quarantine import Aside, Quarantine
    from waystation.store.scan import Found

log = structlog.get_logger()


class Strange(Exception):
    """What stands in a blob's place is not that blob."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Something that was taken off its place, and what of it lies in quarantine now."""

    leaving: Leaving
    aside: Aside | None = None


class StoreFiles:
    """The file operations of one store, but for those of its spools."""

    def __init__(self, layout: Layout, *, disk: Disk, quarantine: Quarantine) -> None:
        self._layout = layout
        self._disk = disk
        self._quarantine = quarantine
        self._lock_fd: int | None = None
        self._aside: dict[Path, Aside] = {}
        """Moved to the quarantine, by where it was, while that is not lasting yet."""
        self.suspect_before_ns = 0
        """Blobs last verified before are suspect at a start; 0: none was, or none is left."""

    # --- the whole store -----------------------------------------------------------------------

    def recover(self, now_ns: int) -> Found:
        """Take the store's lock, learn what it holds, and mark it as in use.

        Raises:
            StoreLocked, StoreFormat: it can't be used by this process.
            OSError: the disk refuses.
        """
        make_root(self._disk, self._layout)
        self._lock_fd = take_lock(self._disk, self._layout)
        try:
            bring_up_to_date(self._disk, self._layout)
            found = scan_store(self._disk, self._layout, self._quarantine)
            later_ns = max((held.verified_ns for held in found.blobs), default=0)
            later_ns = max(later_ns, now_ns) + 1
            self.suspect_before_ns = mark_running(self._disk, self._layout, later_ns=later_ns)
        except (OSError, StoreError):
            self.unlock()
            raise
        for held in found.blobs:
            if held.verified_ns < self.suspect_before_ns:
                held.trust = "suspect"
        return found

    def stop(self) -> None:
        """Mark the store as at rest, where this process has it, and let another one have it."""
        if self._lock_fd is None:
            return
        try:
            mark_stopped(self._disk, self._layout)
        except OSError as error:
            log.warning("clean_stop_not_written", error=error.strerror)
        self.unlock()

    def unlock(self) -> None:
        """Let another process have the store."""
        if self._lock_fd is not None:
            self._disk.close(self._lock_fd)
            self._lock_fd = None

    def free_bytes(self) -> int:
        return self._disk.free_bytes(self._layout.root)

    # --- blobs ---------------------------------------------------------------------------------

    def open_blob(self, held: Held) -> int:
        """Open a blob for reading; two system calls, and once a look into its ``.pieces`` file.

        Raises:
            Strange: it is gone, or not a file of the size that it must have.
            OSError: the disk refuses.
        """
        path = self._layout.blob(held.digest)
        try:
            there = self._disk.stat(path)
            if not stat.S_ISREG(there.st_mode):
                raise Strange("not a regular file")
            fd = self._disk.open(path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Strange("it is gone") from error
        if there.st_size == held.size_bytes and (held.size_confirmed or self._size_confirmed(held)):
            return fd
        self._disk.close(fd)
        raise Strange("not of the size that it must have")

    def read_pieces(self, digest: Digest, place: Place) -> bytes:
        """Read the ``.pieces`` file beside a blob or spool.

        Raises:
            MalformedPieces: it is not the one that belongs here.
            OSError: the disk refuses.
        """
        path = self._layout.blob_pieces(digest) if place == "blob" else self._layout.spool_pieces(digest)
        body = read_file(self._disk, path, limit_bytes=MAX_PIECES_FILE_BYTES)
        line, _ = parse_pieces(body)
        if line.sha256 != digest:
            raise MalformedPieces(f"it describes {line.sha256}")
        return body

    def record_times(self, times: Iterable[tuple[Digest, int, int]]) -> None:
        """Write down when blobs were last used (as access time) and last verified (as modification time)."""
        for digest, used_ns, verified_ns in times:
            try:
                self._disk.touch(self._layout.blob(digest), accessed_ns=used_ns, modified_ns=verified_ns)
            except FileNotFoundError:
                continue  # evicted meanwhile

    def suspect_all(self, before_ns: int) -> None:
        """From the next start on, let blobs last verified before this time be checked again."""
        suspect_all(self._disk, self._layout, before_ns=before_ns)
        self.suspect_before_ns = before_ns

    def trust_all(self) -> None:
        """No suspect is left: nothing is to be remembered of them."""
        trust_all(self._disk, self._layout)
        self.suspect_before_ns = 0

    # --- what is wrong -------------------------------------------------------------------------

    def take_out(self, digest: Digest, *, has_pieces: bool) -> None:
        """Make a blob a spool, lasting: by its place alone it is not believed any more.

        Raises:
            OSError: the disk refuses; it may be tried again.
        """
        disk, layout = self._disk, self._layout
        # The blob first: pieces that a crash leaves without it are given to the spool at the next start, while a
        # blob left without its pieces would be believed.
        self._move(layout.blob(digest), layout.spool(digest))
        if has_pieces:
            self._move(layout.blob_pieces(digest), layout.spool_pieces(digest))
        disk.sync_folder(layout.spools)
        disk.sync_folder(layout.blob(digest).parent)

    def _move(self, old: Path, new: Path) -> None:
        try:
            self._disk.rename(old, new)
        except FileNotFoundError:
            if not exists(self._disk, new):  # else an attempt that failed later had moved it
                raise

    def mend_pieces(self, digest: Digest, layer: PieceLayer, offset: int) -> None:
        """Write the right layer into the ``.pieces`` file beside a blob.

        Torn by a crash, it does not lead to its root, and is found so again.

        Raises:
            OSError: the disk refuses.
        """
        fd = self._disk.open(self._layout.blob_pieces(digest), os.O_WRONLY)
        try:
            self._disk.write_at(fd, memoryview(layer.hashes), offset)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)

    def drop_pieces(self, digest: Digest) -> None:
        """Remove the ``.pieces`` file beside a blob.

        Raises:
            OSError: the disk refuses.
        """
        remove_file(self._disk, self._quarantine, self._layout.blob_pieces(digest))

    # --- leaving -------------------------------------------------------------------------------

    def remove(self, leaving: Iterable[Leaving]) -> list[Gone]:
        """Take blobs and spools off their place, with the pieces beside them; return those that are gone."""
        return [gone for one in leaving if (gone := self._remove_one(one)) is not None]

    def clear(self, names: Iterable[str]) -> list[str]:
        """Remove files from the quarantine; return those that are gone."""
        return [name for name in names if self._quarantine.remove(name)]

    def _remove_one(self, leaving: Leaving) -> Gone | None:
        digest, aside = leaving.digest, None
        if leaving.place == "blob":
            path, pieces = self._layout.blob(digest), self._layout.blob_pieces(digest)
        else:
            path, pieces = self._layout.spool(digest), self._layout.spool_pieces(digest)
        try:
            if leaving.strange is None:
                remove_file(self._disk, self._quarantine, path)
            elif (aside := self._aside.get(path)) is not None or exists(self._disk, path):
                aside = aside or self._quarantine.set_aside(path, leaving.strange)
                if aside is None:
                    return None
                self._aside[path] = aside
                self._disk.sync_folder(self._layout.quarantine)
                self._disk.sync_folder(path.parent)
            remove_file(self._disk, self._quarantine, pieces)
        except OSError as error:
            log.warning("file_not_removed", path=printable(path), error=error.strerror)
            return None
        self._aside.pop(path, None)
        return Gone(leaving, aside)

    # -------------------------------------------------------------------------------------------

    def _size_confirmed(self, held: Held) -> bool:
        """Compare a blob's size with its pieces' first line; where none can be read, nothing speaks against it."""
        held.size_confirmed = True
        if not held.pieces_bytes:
            return True
        buffer = bytearray(MAX_LINE_BYTES)
        try:
            fd = self._disk.open(self._layout.blob_pieces(held.digest), os.O_RDONLY)
            try:
                count = self._disk.read_into(fd, memoryview(buffer), 0)
            finally:
                self._disk.close(fd)
            line = parse_pieces_line(bytes(buffer[:count]))
        except (OSError, MalformedPieces):
            return True
        return line.sha256 != held.digest or line.size_bytes == held.size_bytes


def remove_file(disk: Disk, quarantine: Quarantine, path: Path) -> None:
    """Remove a file that may be gone already; a folder in its place is set aside.

    Raises:
        OSError: the disk refuses.
    """
    try:
        disk.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        if quarantine.set_aside(path, "a folder in a file's place") is None:
            raise
