"""Who takes a client off a listening socket, with real sockets and no mirror behind them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from waystation.mirror.acceptor import Acceptor
from waystation.mirror.listeners import Listener

CLIENTS = 5


class Taken(asyncio.Protocol):
    """Remembers its connection, and closes it with the test."""

    def __init__(self, taken: list[asyncio.BaseTransport]) -> None:
        self._taken = taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken.append(transport)


def acceptor(taken: list[asyncio.BaseTransport], *, limit: int = 100) -> Acceptor:
    return Acceptor(limit, connect=lambda _: Taken(taken), crowded=lambda: None)


@pytest.mark.parametrize("lent", [False, True])
async def test_a_lent_socket_s_queue_is_left_to_the_next_and_an_own_one_s_is_taken(*, lent: bool) -> None:
    taken: list[asyncio.BaseTransport] = []
    then: list[asyncio.BaseTransport] = []
    with ExitStack() as stack:
        kept = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        kept.setblocking(False)
        first, second = acceptor(taken), acceptor(then)
        first.start([Listener(kept.dup(), secure=False)], lent=lent)
        await asyncio.sleep(0)
        for _ in range(CLIENTS):  # the loop has no turn meanwhile: they are all in the queue
            stack.enter_context(socket.create_connection(kept.getsockname()))
        await first.stop()
        second.start([Listener(kept.dup(), secure=False)], lent=lent)
        async with asyncio.timeout(10):
            while len(taken) + len(then) < CLIENTS:
                await asyncio.sleep(0.001)
        assert (len(taken), len(then)) == ((0, CLIENTS) if lent else (CLIENTS, 0))
        await second.stop()
        for transport in (*taken, *then):
            transport.close()


async def test_who_finds_no_room_before_the_end_is_not_taken_and_dropped() -> None:
    taken: list[asyncio.BaseTransport] = []
    then: list[asyncio.BaseTransport] = []
    with ExitStack() as stack:
        kept = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        kept.setblocking(False)
        first, second = acceptor(taken, limit=1), acceptor(then)
        first.start([Listener(kept.dup(), secure=False)], lent=True)
        for _ in range(2):
            stack.enter_context(socket.create_connection(kept.getsockname()))
        async with asyncio.timeout(10):
            while not taken:
                await asyncio.sleep(0.001)
        await first.stop()
        assert len(taken) == 1
        second.start([Listener(kept.dup(), secure=False)], lent=True)
        async with asyncio.timeout(10):
            while not then:
                await asyncio.sleep(0.001)
        await second.stop()
        for transport in (*taken, *then):
            transport.close()


async def test_who_waits_for_room_is_let_in_once_the_limit_is_raised() -> None:
    taken: list[asyncio.BaseTransport] = []
    with ExitStack() as stack:
        kept = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        kept.setblocking(False)
        mirror = acceptor(taken, limit=1)
        mirror.start([Listener(kept.dup(), secure=False)])
        for _ in range(3):
            stack.enter_context(socket.create_connection(kept.getsockname()))
        async with asyncio.timeout(10):
            while not taken:
                await asyncio.sleep(0.001)
            mirror.allow(3)
            while len(taken) < 3:
                await asyncio.sleep(0.001)
            mirror.allow(1)
            late = stack.enter_context(socket.create_connection(kept.getsockname()))
            mirror.release()
            mirror.release()
            await asyncio.sleep(0.05)  # that nothing happens is what is tested: one is still too many
            assert len(taken) == 3
            mirror.release()
            while len(taken) < 4:
                await asyncio.sleep(0.001)
        await mirror.stop()
        for transport in taken:
            transport.close()
        late.close()
