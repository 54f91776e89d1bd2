"""Which layouts of a store's folder this version can use, and how an older one becomes today's.

A step is made of writes that may each be the last before a crash: it ends with the new number in
``format``, and done again from its beginning it does no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from waystation.disk import read_file, replace_file
from waystation.errors import StoreFormat
from waystation.store.layout import has_format

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.disk import Disk
    from waystation.store.layout import Layout

FORMAT = 2
_SMALL_BYTES = 64

log = structlog.get_logger()


def bring_up_to_date(disk: Disk, layout: Layout) -> None:
    """Write the ``format`` file of a new store, before anything that it describes; migrate an old one.

    Raises:
        StoreFormat: a newer version's, or unreadable as one.
        OSError: the disk refuses.
    """
    format_ = _read_format(disk, layout)
    if format_ is None:
        replace_file(disk, layout.format, f"{FORMAT}\n".encode())
        return
    while format_ != FORMAT:
        _STEPS[format_](disk, layout)
        replace_file(disk, layout.format, f"{format_ + 1}\n".encode())
        log.info("store_migrated", path=str(layout.root), from_format=format_, to_format=format_ + 1)
        format_ += 1


def check_format(disk: Disk, layout: Layout) -> None:
    """Look whether a folder is a store that this version can use, or can become one; write nothing.

    Raises:
        StoreFormat: it is not.
    """
    if has_format(disk, layout):
        _read_format(disk, layout)


def _read_format(disk: Disk, layout: Layout) -> int | None:
    try:
        text = read_file(disk, layout.format, limit_bytes=_SMALL_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreFormat(f"{layout.format} can't be read: {error.strerror}") from error
    if text not in _KNOWN:
        raise StoreFormat(f"{layout.root} has store format {text!a}; this version knows {_SPOKEN}")
    return _KNOWN[text]


def _from_1_to_2(disk: Disk, layout: Layout) -> None:
    """Format 2 tells a clean stop from a crash; of a store of format 1 nobody knows how its daemon ended.

    So it is marked as one whose machine went down. A daemon of format 1 would not keep the marker:
    that is why it must not use the folder any more.
    """
    replace_file(disk, layout.running, b"unknown since format 1\n")


_STEPS: dict[int, Callable[[Disk, Layout], None]] = {1: _from_1_to_2}
_KNOWN = {str(number): number for number in (*_STEPS, FORMAT)}
_SPOKEN = f"formats {min(_STEPS)} to {FORMAT}"
