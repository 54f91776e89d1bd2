"""Whose turn it is: slots and asks, clients before prefetching."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from waystation.model import Priority
from waystation.transfer.pace import Pace
from waystation.transfer.precedence import Precedence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waystation.transfer.precedence import Ticket

CLIENT, PREFETCH = Priority.CLIENT, Priority.PREFETCH


@asynccontextmanager
async def queueing(*tickets: Ticket) -> AsyncIterator[list[Ticket]]:
    """Let these wait for slots until the end; give the list of those that have one, in the order of getting it."""
    got: list[Ticket] = []
    done = asyncio.Event()

    async def fly(ticket: Ticket) -> None:
        async with ticket.turn():
            got.append(ticket)
            await done.wait()

    async with asyncio.TaskGroup() as group:
        for ticket in tickets:
            group.create_task(fly(ticket))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        yield got
        done.set()


async def test_prefetching_can_not_take_the_slots_of_clients() -> None:
    precedence = Precedence(clients=1, prefetches=2)
    prefetching = [precedence.ticket(PREFETCH) for _ in range(5)]
    client = precedence.ticket(CLIENT)
    async with queueing(*prefetching, client) as got:
        assert got == [*prefetching[:2], client]


async def test_a_slot_goes_to_the_one_that_has_waited_longest() -> None:
    precedence = Precedence(clients=1, prefetches=1)
    first, second, third = (precedence.ticket(CLIENT) for _ in range(3))
    order: list[Ticket] = []

    async def fly(ticket: Ticket) -> None:
        async with ticket.turn():
            order.append(ticket)
            await asyncio.sleep(0)

    await asyncio.gather(fly(first), fly(second), fly(third))
    assert order == [first, second, third]


async def test_a_flight_that_is_lifted_in_the_queue_takes_a_client_s_slot() -> None:
    precedence = Precedence(clients=1, prefetches=1)
    flying, queued, behind = (precedence.ticket(PREFETCH) for _ in range(3))
    async with queueing(flying, queued, behind) as got:
        assert got == [flying]
        behind.lift()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert got == [flying, behind]
        assert behind.slot is CLIENT


async def test_a_flight_that_is_lifted_while_it_flies_keeps_its_slot_and_takes_none_from_clients() -> None:
    precedence = Precedence(clients=1, prefetches=1)
    lifted, client, queued = precedence.ticket(PREFETCH), precedence.ticket(CLIENT), precedence.ticket(PREFETCH)
    async with AsyncExitStack() as outer:
        async with queueing(lifted):
            lifted.lift()
            got = await outer.enter_async_context(queueing(client, queued))
            assert got == [client]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert got == [client, queued], "the slot it gives back is a prefetching one"


@pytest.mark.parametrize("lifted", [False, True])
async def test_one_that_gives_up_in_the_queue_leaves_no_trace_there(lifted: bool) -> None:
    precedence = Precedence(clients=1, prefetches=1)
    async with AsyncExitStack() as flying:
        for priority in Priority:
            await flying.enter_async_context(precedence.ticket(priority).turn())
        leaving, staying = precedence.ticket(PREFETCH), precedence.ticket(CLIENT if lifted else PREFETCH)
        task = asyncio.create_task(leaving.turn().__aenter__())
        await asyncio.sleep(0)
        if lifted:
            leaving.lift()
        task.cancel()
        await asyncio.wait({task})
        stays = asyncio.create_task(staying.turn().__aenter__())
        await asyncio.sleep(0)
        assert not stays.done()
    await asyncio.wait_for(stays, 5)


async def test_one_that_gives_up_just_as_it_is_given_a_slot_gives_it_back() -> None:
    precedence = Precedence(clients=1, prefetches=1)
    flying, leaving = precedence.ticket(CLIENT), precedence.ticket(CLIENT)
    async with flying.turn():
        task = asyncio.create_task(leaving.turn().__aenter__())
        await asyncio.sleep(0)
    assert leaving.slot is CLIENT
    task.cancel()
    await asyncio.wait({task})
    async with asyncio.timeout(5), precedence.ticket(CLIENT).turn():
        pass


async def test_prefetching_yields_as_long_as_a_client_asks_and_then_is_woken() -> None:
    precedence = Precedence(clients=2, prefetches=2)
    one, two, prefetching = (precedence.ticket(priority) for priority in (CLIENT, CLIENT, PREFETCH))
    wake = asyncio.Event()
    assert not prefetching.must_yield()
    one.asks(anything=True)
    two.asks(anything=True)
    assert prefetching.must_yield()
    assert not one.must_yield()
    prefetching.hold_back(wake)
    one.asks(anything=False)
    assert prefetching.must_yield()
    assert not wake.is_set()
    two.asks(anything=False)
    assert not prefetching.must_yield()
    assert wake.is_set()


async def test_a_client_s_flight_that_breaks_off_in_the_middle_holds_nobody_back() -> None:
    precedence = Precedence(clients=1, prefetches=1)
    breaking, prefetching = precedence.ticket(CLIENT), precedence.ticket(PREFETCH)
    with suppress(RuntimeError):
        async with breaking.turn():
            breaking.asks(anything=True)
            assert prefetching.must_yield()
            raise RuntimeError
    assert not prefetching.must_yield()


async def test_what_is_prefetched_yields_to_nobody_but_clients_and_one_that_is_lifted_yields_to_nobody() -> None:
    precedence = Precedence(clients=1, prefetches=2)
    one, two = precedence.ticket(PREFETCH), precedence.ticket(PREFETCH)
    one.asks(anything=True)
    assert not two.must_yield()
    one.lift()
    assert two.must_yield()
    assert not one.must_yield()


def test_the_pace_is_one_for_all_readers_and_nothing_is_saved_up_while_nobody_reads() -> None:
    now = 0.0
    pace = Pace(1000, monotonic=lambda: now)
    assert pace.spend(500) == 0.5
    assert pace.spend(500) == 1.0
    now = 100.0
    assert pace.spend(500) == 0.5
