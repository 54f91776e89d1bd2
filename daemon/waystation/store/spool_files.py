"""What the store does to its spools' files: create them, take up what lies here, make them blobs; all of it blocks."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from waystation.disk import SAYS_NOTHING, discard, exists, read_file, replace_file
from waystation.pieces import MAX_PIECES_FILE_BYTES
from waystation.store.files import remove_file
from waystation.store.spool_file import SpoolFile

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.model import Digest, Span
    from waystation.store.files import StoreFiles
    from waystation.store.held import Held
    from waystation.store.layout import Layout
    from waystation.store.quarantine import Quarantine


class SpoolFiles:
    """The file operations of one store's spools."""

    def __init__(self, layout: Layout, *, disk: Disk, quarantine: Quarantine, files: StoreFiles) -> None:
        self._layout = layout
        self._disk = disk
        self._quarantine = quarantine
        self._files = files
        self._lasting_folders: set[Path] = set()
        """Blob folders whose own names were synced since this start."""

    def create(self, digest: Digest, size_bytes: int, pieces: bytes) -> SpoolFile:
        """Create a spool that has its room on disk, and the pieces (where there are any) beside it.

        Nothing is synced here: what stands in a spool is never believed after a restart.

        Raises:
            OSError: the disk refuses; nothing is left behind.
        """
        disk, path, pieces_path = self._disk, self._layout.spool(digest), self._layout.spool_pieces(digest)
        for one in (path, pieces_path):
            remove_file(disk, self._quarantine, one)
        fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            disk.allocate(fd, size_bytes)
            if pieces:
                self._write_new(pieces_path, pieces)
        except OSError:
            disk.close(fd)
            discard(disk, path)
            discard(disk, pieces_path)
            raise
        return SpoolFile(disk, fd, size_bytes)

    def resume(self, digest: Digest, size_bytes: int, pieces: bytes) -> tuple[SpoolFile, list[Span]] | None:
        """Open a kept spool again, these pieces beside it, and say where it holds data.

        None where it is not a file of that size, or can't be used.
        """
        path = self._layout.spool(digest)
        try:
            if self._disk.stat(path).st_size != size_bytes:
                return None
            self._put_pieces(self._layout.spool_pieces(digest), pieces)
            fd = self._disk.open(path, os.O_RDWR)
        except OSError:
            return None
        return SpoolFile(self._disk, fd, size_bytes), self._disk.data_spans(fd, size_bytes)

    def borrow(self, held: Held, size_bytes: int, pieces: bytes) -> SpoolFile | None:
        """Open a suspect blob where it is, as a spool that leaves its place before the first write.

        So a blob that nothing is wrong with stays where it is, whatever becomes of the flight or the daemon.
        None where it is not a file of that size, or can't be used.

        Raises:
            OSError: the system lacks something, and the blob may be right.
        """
        digest, has_pieces = held.digest, bool(pieces or held.pieces_bytes)
        path = self._layout.blob(digest)
        try:
            if self._disk.stat(path).st_size != size_bytes:
                return None
            if pieces:
                self._put_pieces(self._layout.blob_pieces(digest), pieces)
            fd = self._disk.open(path, os.O_RDWR)
        except OSError as error:
            if error.errno in SAYS_NOTHING:
                raise
            return None
        leave = partial(self._files.take_out, digest, has_pieces=has_pieces)
        return SpoolFile(self._disk, fd, size_bytes, leave=leave)

    def promote(self, digest: Digest, file: SpoolFile, *, has_pieces: bool, used_ns: int, verified_ns: int) -> None:
        """Make a spool a blob, lasting: its bytes, then its pieces, then its name.

        Raises:
            OSError: the disk refuses; no trusted blob of this digest is there.
        """
        disk, layout, blob = self._disk, self._layout, self._layout.blob(digest)
        if file.in_place:
            disk.touch(blob, accessed_ns=used_ns, modified_ns=verified_ns)
            return
        disk.touch(layout.spool(digest), accessed_ns=used_ns, modified_ns=verified_ns)
        file.sync()
        if has_pieces:
            self._sync_file(layout.spool_pieces(digest))
        self._make_lasting_folder(blob.parent)
        try:
            if has_pieces:
                disk.rename(layout.spool_pieces(digest), layout.blob_pieces(digest))
            disk.rename(layout.spool(digest), blob)
            disk.sync_folder(blob.parent)
        except OSError:
            discard(disk, blob)
            discard(disk, layout.blob_pieces(digest))
            raise

    # -------------------------------------------------------------------------------------------

    def _put_pieces(self, path: Path, pieces: bytes) -> None:
        """Have these pieces beside a file, whatever stood there."""
        try:
            if read_file(self._disk, path, limit_bytes=MAX_PIECES_FILE_BYTES) == pieces:
                return
        except OSError:
            remove_file(self._disk, self._quarantine, path)
        replace_file(self._disk, path, pieces)

    def _make_lasting_folder(self, folder: Path) -> None:
        if folder in self._lasting_folders and exists(self._disk, folder):
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
