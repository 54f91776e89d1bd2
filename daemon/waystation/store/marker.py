"""Tells a clean stop from a crash of the machine, and remembers which blobs must be checked again.

While a daemon runs, ``running`` holds the machine's boot id. It is removed by a clean stop. Found at
a start, with the same boot id, the daemon was killed: what it had committed is where it was, since
the page cache lives on. With another boot id the machine went down under it, and a disk may have
lost what it said to have kept. Then every blob last verified before now is suspect: ``suspect-before``
says since when, and stands until none of them is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.disk import read_file, replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.store.layout import Layout

_SMALL_BYTES = 64


def mark_running(disk: Disk, layout: Layout, *, later_ns: int) -> int:
    """Write down that the store is in use, and return the time before which verifications don't count, or 0.

    `later_ns` is later than the verification of any blob that is here, whatever the clock says now.

    Raises:
        OSError: the disk refuses.
    """
    suspect_before_ns = _suspect_before(disk, layout.suspect_before, unreadable_ns=later_ns)
    boot_id = disk.boot_id()
    marked = _read(disk, layout.running)
    if marked is not None and (not boot_id or marked != boot_id):
        suspect_before_ns = later_ns
        # Before the marker: a crash between the two must not make this boot look like the one that was marked.
        suspect_all(disk, layout, before_ns=suspect_before_ns)
    if marked is None or marked != boot_id:
        replace_file(disk, layout.running, f"{boot_id}\n".encode())
    return suspect_before_ns


def mark_stopped(disk: Disk, layout: Layout) -> None:
    """Write down that the store is at rest: all that counts is on the disk.

    Raises:
        OSError: the disk refuses.
    """
    _remove(disk, layout.running)


def suspect_all(disk: Disk, layout: Layout, *, before_ns: int) -> None:
    """Write down that from the next start on, blobs last verified before this time must be checked again.

    Raises:
        OSError: the disk refuses.
    """
    replace_file(disk, layout.suspect_before, f"{before_ns}\n".encode())


def trust_all(disk: Disk, layout: Layout) -> None:
    """Write down that no suspect is left.

    Raises:
        OSError: the disk refuses.
    """
    _remove(disk, layout.suspect_before)


def _suspect_before(disk: Disk, path: Path, *, unreadable_ns: int) -> int:
    text = _read(disk, path)
    if text is None:
        return 0
    return int(text) if text.isascii() and text.isdigit() else unreadable_ns


def _read(disk: Disk, path: Path) -> str | None:
    """The file's text, or None where there is none; what can't be read is no text that we wrote."""
    try:
        return read_file(disk, path, limit_bytes=_SMALL_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _remove(disk: Disk, path: Path) -> None:
    try:
        disk.unlink(path)
    except FileNotFoundError:
        return
    disk.sync_folder(path.parent)
