"""Bytes of a file into a socket: all of them, no more, and nothing left behind however it ends."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from stores import random_bytes
from waystation.errors import DaemonError
from waystation.mirror.sendfile import CHUNK_BYTES, send_file
from waystation.model import Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = random_bytes(2 * CHUNK_BYTES + 321)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(DATA)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def taken(theirs: socket.socket, size_bytes: int) -> bytes:
    loop, got = asyncio.get_running_loop(), bytearray()
    while len(got) < size_bytes:
        got += await loop.sock_recv(theirs, 65536)
    return bytes(got)


@pytest.mark.parametrize("span", [Span(0, len(DATA)), Span(1000, 1001), Span(CHUNK_BYTES - 1, 2 * CHUNK_BYTES + 1)])
async def test_exactly_the_span_is_sent_and_the_file_keeps_its_place(
    fd: int, pair: tuple[socket.socket, socket.socket], span: Span
) -> None:
    ours, theirs = pair
    sent, got = await asyncio.gather(send_file(ours.fileno(), fd, span), taken(theirs, len(span)))
    assert (sent, got) == (len(span), DATA[span.start : span.stop])
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


async def test_a_file_that_ends_early_tells_how_much_went(fd: int, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sending = send_file(ours.fileno(), fd, Span(len(DATA) - 10, len(DATA) + 10))
    sent, got = await asyncio.gather(sending, taken(theirs, 10))
    assert (sent, got) == (10, DATA[-10:])


async def test_one_that_is_cancelled_leaves_nothing_even_where_the_socket_was_closed_before(
    fd: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, _ = pair
    before = descriptors()
    sending = asyncio.create_task(send_file(ours.fileno(), fd, Span(0, len(DATA))))
    await asyncio.sleep(0)
    assert descriptors() == before + 1
    ours.close()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert descriptors() == before - 1
    loop = asyncio.get_running_loop()
    assert not any(loop.remove_writer(number) for number in range(1000))


async def test_a_peer_that_is_gone_is_an_error(fd: int, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sending = asyncio.create_task(send_file(ours.fileno(), fd, Span(0, len(DATA))))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 10)


async def test_with_no_descriptor_left_it_says_so(fd: int, pair: tuple[socket.socket, socket.socket]) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), before[1]))
    try:
        held = []
        with pytest.raises(OSError):  # noqa: PT011, PT012 - fills what is free below the limit
            while True:
                held.append(os.dup(fd))
        with pytest.raises(DaemonError, match="Too many open files"):
            await send_file(pair[0].fileno(), fd, Span(0, len(DATA)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in held:
            os.close(each)
