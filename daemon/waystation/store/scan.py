"""Learns from the disk alone what a store holds, clearing away leftovers and setting strange things aside.

It runs once, at the start, before anything else uses the folder. It opens no blob: 100,000 of
them are known from their folders and their inodes.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from waystation.model import Digest
from waystation.pieces import MAX_PIECES_FILE_BYTES
from waystation.store.held import Held
from waystation.store.layout import TEMPORARY_SUFFIX, is_owner
from waystation.store.pins import read_pins
from waystation.store.quarantine import Aside, printable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from waystation.disk import Disk
    from waystation.store.layout import Layout
    from waystation.store.quarantine import Quarantine

_BLOB = re.compile(r"([0-9a-f]{64})(\.pieces)?")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.pieces" + re.escape(TEMPORARY_SUFFIX))
_FOLDER = re.compile(r"[0-9a-f]{2}")
_EMPTY = sha256().hexdigest()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """What a store's folder held, each least recently used first."""

    blobs: list[Held] = field(default_factory=list)
    partials: list[tuple[Digest, int]] = field(default_factory=list)
    pins: dict[str, frozenset[Digest]] = field(default_factory=dict)
    quarantined: list[Aside] = field(default_factory=list)


def scan_store(disk: Disk, layout: Layout, quarantine: Quarantine) -> Found:
    """Read the whole tree; blocking.

    Raises:
        OSError: the store's own top folders can't be read.
    """
    return _Scan(disk, layout, quarantine).run()


class _Scan:
    def __init__(self, disk: Disk, layout: Layout, quarantine: Quarantine) -> None:
        self._disk = disk
        self._layout = layout
        self._quarantine = quarantine

    def run(self) -> Found:
        self._make_folders()
        orphans: dict[Digest, Path] = {}
        blobs = {held.digest: held for held in self._blobs(orphans)}
        partials = list(self._partials(blobs, orphans))
        return Found(
            blobs=sorted(blobs.values(), key=lambda held: held.used_ns),
            partials=[(digest, total_bytes) for _, digest, total_bytes in sorted(partials)],
            pins=dict(self._pins()),
            quarantined=list(self._quarantine.removable()),
        )

    def _make_folders(self) -> None:
        layout = self._layout
        for path in (layout.format, layout.running, layout.suspect_before):
            self._remove(path.with_name(f".{path.name}{TEMPORARY_SUFFIX}"))
        for folder in (layout.quarantine, layout.blobs, layout.sha256, layout.spools, layout.pins):
            try:
                there = self._disk.stat(folder)
            except FileNotFoundError:
                pass
            else:
                if stat.S_ISDIR(there.st_mode):
                    continue
                self._clear_the_way(folder)
            self._disk.make_folder(folder)
        self._disk.sync_folder(layout.blobs)
        self._disk.sync_folder(layout.root)

    def _clear_the_way(self, path: Path) -> None:
        if path == self._layout.quarantine:
            # There is no quarantine to move it to; the top of the store is nobody's business but the operator's.
            self._disk.rename(path, path.with_name("strange-quarantine"))
            log.warning("strange_thing_set_aside", path=printable(path), why="not a folder")
        else:
            self._quarantine.set_aside(path, "not a folder")

    # --- blobs ---------------------------------------------------------------------------------

    def _blobs(self, orphans: dict[Digest, Path]) -> Iterator[Held]:
        for entry in self._disk.scan(self._layout.blobs):
            if entry.name != self._layout.sha256.name:
                self._set_aside(entry, "only the folder sha256 belongs here")
        for folder in self._disk.scan(self._layout.sha256):
            if not _FOLDER.fullmatch(folder.name):
                self._set_aside(folder, "not the first two digits of a sha256")
            elif not folder.is_dir(follow_symlinks=False):
                self._set_aside(folder, "not a folder")
            else:
                yield from self._blobs_of(folder, orphans)

    def _blobs_of(self, folder: os.DirEntry[str], orphans: dict[Digest, Path]) -> Iterator[Held]:
        try:
            entries = self._entries(Path(folder.path))
        except OSError as error:
            self._set_aside(folder, f"can't be read: {error.strerror}")
            return
        files: dict[Digest, os.stat_result] = {}
        pieces: dict[Digest, int] = {}
        for entry in entries:
            match = _BLOB.fullmatch(entry.name)
            if match is None or not entry.name.startswith(folder.name):
                self._set_aside(entry, "not a sha256 that belongs in this folder")
            elif (there := self._regular(entry)) is None:
                continue
            elif match[2] and there.st_size > MAX_PIECES_FILE_BYTES:
                self._set_aside(entry, "larger than any .pieces file")
            elif match[2]:
                pieces[Digest(match[1])] = there.st_size
            elif not there.st_size and match[1] != _EMPTY:
                self._set_aside(entry, "empty, which its sha256 is not")
            else:
                files[Digest(match[1])] = there
        for digest in pieces.keys() - files.keys():
            orphans[digest] = self._layout.blob_pieces(digest)
        for digest, there in files.items():
            yield Held(digest, there.st_size, pieces.get(digest, 0), there.st_atime_ns, there.st_mtime_ns)

    # --- spools --------------------------------------------------------------------------------

    def _partials(self, blobs: dict[Digest, Held], orphans: dict[Digest, Path]) -> Iterator[tuple[int, Digest, int]]:
        """Kept spools whose pieces can be checked again; whatever else a crash left here is removed."""
        files: dict[Digest, os.stat_result] = {}
        pieces: dict[Digest, os.stat_result] = {}
        for entry in self._entries(self._layout.spools):
            match = _BLOB.fullmatch(entry.name)
            if match is None:
                self._set_aside(entry, "not a sha256")
            elif (there := self._regular(entry)) is not None:
                (pieces if match[2] else files)[Digest(match[1])] = there
        for digest, orphan in orphans.items():
            if digest in files and digest not in pieces:
                # A commit was interrupted between its two renames: give the spool its pieces back.
                there = self._disk.stat(orphan)
                self._disk.rename(orphan, self._layout.spool_pieces(digest))
                pieces[digest] = there
            else:
                self._remove(orphan)
        for digest in pieces.keys() - files.keys():
            self._remove(self._layout.spool_pieces(digest))
        for digest, there in files.items():
            if digest in pieces and digest not in blobs:
                yield there.st_mtime_ns, digest, there.st_size + pieces[digest].st_size
                continue
            self._remove(self._layout.spool(digest))
            if digest in pieces:
                self._remove(self._layout.spool_pieces(digest))

    # --- pins ----------------------------------------------------------------------------------

    def _pins(self) -> Iterator[tuple[str, frozenset[Digest]]]:
        for entry in self._disk.scan(self._layout.pins):
            owner = entry.name.removesuffix(".json")
            if entry.name.startswith(".") and entry.name.endswith(TEMPORARY_SUFFIX):
                self._remove(Path(entry.path))
            elif owner == entry.name or not is_owner(owner):
                self._set_aside(entry, "not an owner's pins")
            elif self._regular(entry) is not None:
                try:
                    yield owner, read_pins(self._disk, Path(entry.path))
                except (OSError, ValueError, RecursionError) as error:
                    self._set_aside(entry, f"its pins can't be read: {error}")

    # --- what does not belong here -------------------------------------------------------------

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """List a folder, without what a crash left of a ``.pieces`` file that was being replaced."""
        entries = self._disk.scan(folder)
        leftovers = {entry.name for entry in entries if entry.name[0] == "." and _TEMPORARY.fullmatch(entry.name)}
        for name in leftovers:
            self._remove(folder / name)
        return [entry for entry in entries if entry.name not in leftovers] if leftovers else entries

    def _regular(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Describe a regular file; anything else is set aside."""
        try:
            there = entry.stat(follow_symlinks=False)
        except OSError as error:
            self._set_aside(entry, f"can't be read: {error.strerror}")
            return None
        if stat.S_ISREG(there.st_mode):
            return there
        self._set_aside(entry, "not a regular file")
        return None

    def _set_aside(self, entry: os.DirEntry[str], why: str) -> None:
        self._quarantine.set_aside(Path(entry.path), why)

    def _remove(self, path: Path) -> None:
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("leftover_not_removed", path=printable(path), error=error.strerror)
        else:
            log.info("leftover_removed", path=printable(path))
