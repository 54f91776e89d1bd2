"""A range that is asked for ahead is read once, by whoever wants exactly it, and never left open."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from faults import FaultyOrigin
from waystation.disk import Disk
from waystation.errors import Short, Unreachable
from waystation.model import Span
from waystation.origin.directory import DirectoryOrigin
from waystation.transfer.ahead import AskedAhead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from waystation.origin.interface import Source

DATA = bytes(range(256)) * 64
SPAN = Span(256, 1024)
NO_BUFFER = memoryview(b"")


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[FaultyOrigin]:
    (tmp_path / "a").write_bytes(DATA)
    origin = FaultyOrigin(DirectoryOrigin(tmp_path, disk=Disk()))
    yield origin
    await origin.close()


@pytest.fixture
async def ahead(origin: FaultyOrigin) -> AskedAhead:
    etag = (await origin.head("a")).etag
    return AskedAhead(await origin.source("a", if_match=etag), SPAN)


@contextmanager
def in_thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


def read(source: Source, span: Span) -> bytes:
    buffer = bytearray(len(span))
    with source.read(span) as reader:
        assert reader.readinto(memoryview(buffer)) == len(span)
    return bytes(buffer)


def test_who_reads_the_span_gets_the_answer_that_was_asked_for_ahead(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    ahead.ask(NO_BUFFER)
    assert (origin.open_answers, origin.read_bytes) == (1, 0)
    assert read(ahead, SPAN) == DATA[SPAN.start : SPAN.stop]
    assert origin.spans == [SPAN]
    assert origin.open_answers == 0


def test_it_is_read_once_and_asked_for_again_after_that(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    ahead.ask(NO_BUFFER)
    for _ in range(2):
        assert read(ahead, SPAN) == DATA[SPAN.start : SPAN.stop]
    assert origin.spans == [SPAN, SPAN]


def test_who_reads_another_span_first_ends_the_answer_unread(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    ahead.ask(NO_BUFFER)
    with ahead.read(Span(0, 256)):
        assert origin.open_answers == 1
    assert read(ahead, SPAN) == DATA[SPAN.start : SPAN.stop]
    assert origin.spans == [SPAN, Span(0, 256), SPAN]
    assert origin.open_answers == 0


def test_an_error_is_told_to_who_reads_the_span_and_to_nobody_else(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    origin.losses = [Short("cut")]
    ahead.ask(NO_BUFFER)
    with pytest.raises(Short):
        read(ahead, SPAN)
    assert read(ahead, SPAN) == DATA[SPAN.start : SPAN.stop]


def test_an_error_while_it_is_read_reaches_the_source(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    ahead.ask(NO_BUFFER)
    origin.cuts = {SPAN.start + 7: 1}
    with pytest.raises(Short):
        read(ahead, SPAN)
    assert origin.open_answers == 0


def test_who_reads_before_the_answer_is_there_waits_for_it(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    with in_thread() as thread:
        reading = thread.submit(read, ahead, SPAN)
        assert not origin.spans
        ahead.ask(NO_BUFFER)
        assert reading.result(10) == DATA[SPAN.start : SPAN.stop]
    assert origin.spans == [SPAN]


def test_closing_ends_an_answer_that_nobody_took(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    ahead.ask(NO_BUFFER)
    ahead.close()
    assert origin.open_answers == 0


def test_closing_ends_an_answer_that_is_still_to_come_and_whoever_waits_for_it(
    origin: FaultyOrigin, ahead: AskedAhead
) -> None:
    origin.silent = True
    asking = threading.Thread(target=ahead.ask, args=(NO_BUFFER,))
    asking.start()
    with in_thread() as thread:
        reading = thread.submit(read, ahead, SPAN)
        ahead.close()
        with pytest.raises(Unreachable):
            reading.result(10)
    asking.join(10)
    assert not asking.is_alive()


def test_once_closed_nothing_is_asked_for(origin: FaultyOrigin, ahead: AskedAhead) -> None:
    ahead.close()
    ahead.ask(NO_BUFFER)
    assert not origin.spans
