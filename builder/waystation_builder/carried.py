"""What a PyInstaller executable carries: shared libraries that may need a newer C library than its loader does.

The archive, as PyInstaller's own loader looks for it: a cookie at the end says where the table of contents is.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

from waystation_builder.elf import MAGIC, parse_elf
from waystation_builder.errors import Unrunnable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from waystation_builder.elf import Elf

_COOKIE = struct.Struct("!8sIIII64s")
"""Its magic number, the archive's length, the table's place in it and length, and what is Python's."""
_COOKIE_MAGIC = b"MEI\x0c\x0b\x0a\x0b\x0e"
_ENTRY = struct.Struct("!IIIIBc")
"""The entry's length, the content's place, length, and length unpacked, whether it is packed, its kind; then a name."""
_LIBRARY = b"b"


def carried_libraries(file: Path) -> Iterator[Elf]:
    """Read the headers of the libraries in an executable; none where it is not PyInstaller's.

    Raises:
        Unrunnable: one of them is damaged.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as held:
        cookie = held.rfind(_COOKIE_MAGIC)
        if not 0 <= cookie <= len(held) - _COOKIE.size:
            return
        _, length, table, table_length, _, _ = _COOKIE.unpack_from(held, cookie)
        start = cookie + _COOKIE.size - length
        for name, content in _libraries(held, start, start + table, start + table + table_length):
            if content.startswith(MAGIC):
                yield parse_elf(BytesIO(content), name)


def _libraries(held: mmap.mmap, start: int, entry: int, end: int) -> Iterator[tuple[str, bytes]]:
    while start >= 0 and entry + _ENTRY.size <= min(end, len(held)):
        length, place, size, _, is_packed, kind = _ENTRY.unpack_from(held, entry)
        if kind == _LIBRARY:
            content = held[start + place : start + place + size]
            name = held[entry + _ENTRY.size : entry + length].rstrip(b"\0").decode(errors="replace")
            try:
                yield name, zlib.decompress(content) if is_packed else content
            except zlib.error as error:
                raise Unrunnable(
                    f"{name}, which it carries, can't be unpacked: {error}", advice="Build it again."
                ) from error
        entry += max(length, _ENTRY.size)
