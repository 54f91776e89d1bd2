"""What the store does to its files, one method an operation; everything here blocks."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog

from waystation.disk import read_file
from waystation.errors import StoreError
from waystation.pieces import (
    MAX_LINE_BYTES,
    MAX_PIECES_FILE_BYTES,
    MalformedPieces,
    parse_pieces,
    parse_pieces_line,
)
from waystation.store.layout import check_format, make_root, take_lock
from waystation.store.quarantine import printable
from waystation.store.scan import scan_store
from waystation.store.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Digest, Span
    from waystation.store.index import Held, Leaving, Place
    from waystation.store.layout import Layout
    from waystation.store.quarantine import Quarantine
    from waystation.store.scan import Found


log = structlog.get_logger()

HASH_BUFFER_BYTES = 1024 * 1024


class Strange(Exception):
    """What stands in a blob's place is not that blob."""


class StoreFiles:
    """The file operations of one store."""

    def __init__(self, layout: Layout, *, disk: Disk, quarantine: Quarantine) -> None:
        self._layout = layout
        self._disk = disk
        self._quarantine = quarantine
        self._lock_fd: int | None = None
        self._lasting_folders: set[Path] = set()
        """Blob folders whose own names were synced since this start."""

    # --- the whole store -----------------------------------------------------------------------

    def recover(self) -> Found:
        """Take the store's lock and learn what it holds.

        Raises:
            StoreLocked, StoreFormat: it can't be used by this process.
            OSError: the disk refuses.
        """
        make_root(self._disk, self._layout)
        self._lock_fd = take_lock(self._disk, self._layout)
        try:
            check_format(self._disk, self._layout)
            return scan_store(self._disk, self._layout, self._quarantine)
        except (OSError, StoreError):
            self.unlock()
            raise

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

    def record_uses(self, used: Iterable[tuple[Digest, int, int]]) -> None:
        """Write down when blobs were last used (as access time) and last verified (as modification time)."""
        for digest, used_ns, verified_ns in used:
            try:
                self._disk.touch(self._layout.blob(digest), accessed_ns=used_ns, modified_ns=verified_ns)
            except FileNotFoundError:
                continue  # evicted meanwhile

    def remove(self, leaving: Iterable[Leaving]) -> list[Leaving]:
        """Take blobs and spools off the disk, with the pieces beside them; return those that are gone."""
        return [one for one in leaving if self._remove_one(one)]

    def _remove_one(self, leaving: Leaving) -> bool:
        digest = leaving.digest
        if leaving.place == "blob":
            path, pieces = self._layout.blob(digest), self._layout.blob_pieces(digest)
        else:
            path, pieces = self._layout.spool(digest), self._layout.spool_pieces(digest)
        try:
            if leaving.strange is None:
                self._remove(path)
            elif self._exists(path) and not self._quarantine.set_aside(path, leaving.strange):
                return False
            self._remove(pieces)
        except OSError as error:
            log.warning("file_not_removed", path=printable(path), error=error.strerror)
            return False
        return True

    def hash_blob(self, held: Held) -> bool:
        """Read a blob whole and say whether it has its sha256; bytes that the disk can't read are wrong ones.

        Raises:
            OSError: it can't be opened.
        """
        buffer, hasher, at = memoryview(bytearray(HASH_BUFFER_BYTES)), sha256(), 0
        fd = self._disk.open(self._layout.blob(held.digest), os.O_RDONLY)
        try:
            while count := self._disk.read_into(fd, buffer, at):
                hasher.update(buffer[:count])
                at += count
        except OSError as error:
            log.warning("blob_unreadable", digest=held.digest, error=error.strerror)
            return False
        finally:
            self._disk.close(fd)
        return hasher.hexdigest() == held.digest

    def take_out(self, digest: Digest) -> None:
        """Make a blob with pieces a spool, lasting: by its new place alone it is not believed any more.

        Raises:
            OSError: the disk refuses.
        """
        disk, layout = self._disk, self._layout
        # In this order: pieces without a blob beside them are given back to their spool at the next start.
        disk.rename(layout.blob(digest), layout.spool(digest))
        disk.rename(layout.blob_pieces(digest), layout.spool_pieces(digest))
        disk.sync_folder(layout.spools)
        disk.sync_folder(layout.blob(digest).parent)

    # --- spools --------------------------------------------------------------------------------

    def create_spool(self, digest: Digest, size_bytes: int, pieces: bytes) -> SpoolFile:
        """Create a spool that has its room on disk, and the pieces (where there are any) beside it.

        Nothing is synced here: what stands in a spool is never believed after a restart.

        Raises:
            OSError: the disk refuses; nothing is left behind.
        """
        path, pieces_path = self._layout.spool(digest), self._layout.spool_pieces(digest)
        self._remove(path)
        self._remove(pieces_path)
        fd = self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            self._disk.allocate(fd, size_bytes)
            if pieces:
                self._write_new(pieces_path, pieces)
        except OSError:
            self._disk.close(fd)
            self._discard(path)
            self._discard(pieces_path)
            raise
        return SpoolFile(self._disk, fd, size_bytes)

    def resume_spool(self, digest: Digest, size_bytes: int, pieces: bytes) -> tuple[SpoolFile, list[Span]] | None:
        """Open a kept spool again and say where it holds data; None where it can't be this very artifact's."""
        path = self._layout.spool(digest)
        try:
            kept = read_file(self._disk, self._layout.spool_pieces(digest), limit_bytes=MAX_PIECES_FILE_BYTES)
            there = self._disk.stat(path)
            if kept != pieces or there.st_size != size_bytes:
                return None
            fd = self._disk.open(path, os.O_RDWR)
        except OSError:
            return None
        return SpoolFile(self._disk, fd, size_bytes), self._disk.data_spans(fd, size_bytes)

    def promote(self, digest: Digest, file: SpoolFile, *, has_pieces: bool, now_ns: int) -> None:
        """Make a spool a blob, lasting: its bytes, then its pieces, then its name.

        Raises:
            OSError: the disk refuses; no blob of this digest is there.
        """
        disk, layout = self._disk, self._layout
        disk.touch(layout.spool(digest), accessed_ns=now_ns, modified_ns=now_ns)
        file.sync()
        if has_pieces:
            self._sync_file(layout.spool_pieces(digest))
        blob = layout.blob(digest)
        self._make_lasting_folder(blob.parent)
        try:
            if has_pieces:
                disk.rename(layout.spool_pieces(digest), layout.blob_pieces(digest))
            disk.rename(layout.spool(digest), blob)
            disk.sync_folder(blob.parent)
        except OSError:
            self._discard(blob)
            self._discard(layout.blob_pieces(digest))
            raise

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

    def _make_lasting_folder(self, folder: Path) -> None:
        if folder in self._lasting_folders and self._exists(folder):
            return
        self._disk.make_folder(folder)
        self._disk.sync_folder(folder.parent)
        self._lasting_folders.add(folder)

    def _sync_file(self, path: Path) -> None:
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)

    def _write_new(self, path: Path, body: bytes) -> None:
        fd = self._disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self._disk.write_at(fd, memoryview(body), 0)
        finally:
            self._disk.close(fd)

    def _exists(self, path: Path) -> bool:
        try:
            self._disk.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _remove(self, path: Path) -> None:
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            if not self._quarantine.set_aside(path, "a folder in a file's place"):
                raise

    def _discard(self, path: Path) -> None:
        """Remove it, if that can be done, while another error is on its way."""
        try:
            self._disk.unlink(path)
        except OSError:
            return
