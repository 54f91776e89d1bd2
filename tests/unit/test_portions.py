"""Bytes of a file through a connection that must see them: all, a portion at a time, and no wait on the loop."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stores import random_bytes
from waystation.mirror.portions import PORTION_BYTES, send_portions
from waystation.model import Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = random_bytes(3 * PORTION_BYTES + 321)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(DATA)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


class Wire:
    """Takes what is written, and remembers how often it was waited for."""

    def __init__(self) -> None:
        self.portions: list[bytes] = []
        self.drained: list[int] = []

    def write(self, data: memoryview) -> None:
        self.portions.append(bytes(data))

    async def drain(self) -> None:
        self.drained.append(len(self.portions))


SPANS = [Span(0, len(DATA)), Span(7, 8), Span(PORTION_BYTES - 1, 2 * PORTION_BYTES + 1), Span(5, 5)]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("refuses", [None, errno.EAGAIN, errno.EOPNOTSUPP])
async def test_exactly_the_span_is_written_and_what_is_not_in_the_page_cache_is_read_in_a_thread(
    fd: int, span: Span, refuses: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, waited = threading.get_ident(), []
    real = os.preadv

    def preadv(fd: int, buffers: Any, at: int, flags: int = 0) -> int:
        if flags and refuses:
            raise OSError(refuses, os.strerror(refuses))
        if not flags:
            waited.append(threading.get_ident())
        return real(fd, buffers, at, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    wire = Wire()
    assert await send_portions(wire.write, wire.drain, fd, span) == len(span)
    assert b"".join(wire.portions) == DATA[span.start : span.stop]
    assert all(len(portion) <= PORTION_BYTES for portion in wire.portions)
    assert wire.drained == list(range(1, len(wire.portions) + 1)), "the next one only once this one is gone"
    if refuses:
        assert len(waited) == len(wire.portions)
    assert loop not in waited


async def test_a_file_that_ends_early_tells_how_much_went(fd: int) -> None:
    wire = Wire()
    assert await send_portions(wire.write, wire.drain, fd, Span(len(DATA) - 10, len(DATA) + 10)) == 10
    assert wire.portions == [DATA[-10:]]


async def test_a_disk_that_can_t_be_read_is_an_error() -> None:
    unreadable = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Input/output"):
            await send_portions(Wire().write, Wire().drain, unreadable, Span(0, 10))
    finally:
        os.close(unreadable)
