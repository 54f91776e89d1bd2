"""Whose turn it is: what somebody waits for goes before what is only prefetched; no I/O, and nothing that blocks.

Clients' flights and prefetching have slots of their own, so that no amount of prefetching keeps a client waiting
for a slot. And while a client's flight is asking the origin for anything, prefetching asks for nothing more: the
network is the client's.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from waystation.model import Priority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Precedence:
    """All flights of one daemon: a fixed number of slots for each priority, and who may ask the origin now."""

    def __init__(self, *, clients: int, prefetches: int) -> None:
        self._free = {Priority.CLIENT: clients, Priority.PREFETCH: prefetches}
        self._queues: dict[Priority, dict[Ticket, None]] = {priority: {} for priority in Priority}
        self._asking: set[Ticket] = set()
        self._held_back: set[asyncio.Event] = set()

    def ticket(self, priority: Priority) -> Ticket:
        """Give a new flight its ticket."""
        return Ticket(self, priority)

    def join(self, ticket: Ticket) -> None:
        self._queues[ticket.priority][ticket] = None
        self._give_slots()

    def leave(self, ticket: Ticket) -> None:
        self.asks(ticket, anything=False)
        if ticket.slot is None:
            del self._queues[ticket.priority][ticket]
        else:
            self._free[ticket.slot] += 1
            self._give_slots()

    def lift(self, ticket: Ticket) -> None:
        queued = ticket in self._queues[ticket.priority]
        if queued:
            del self._queues[ticket.priority][ticket]
        ticket.priority = Priority.CLIENT
        if queued:
            self.join(ticket)

    def asks(self, ticket: Ticket, *, anything: bool) -> None:
        if anything:
            self._asking.add(ticket)
        else:
            self._asking.discard(ticket)
        if not self.a_client_asks:
            held_back, self._held_back = self._held_back, set()
            for wake in held_back:
                wake.set()

    def hold_back(self, wake: asyncio.Event) -> None:
        self._held_back.add(wake)

    @property
    def a_client_asks(self) -> bool:
        return any(ticket.priority is Priority.CLIENT for ticket in self._asking)

    def _give_slots(self) -> None:
        for priority, queue in self._queues.items():
            while queue and self._free[priority]:
                ticket = next(iter(queue))
                del queue[ticket]
                self._free[priority] -= 1
                ticket.slot = priority
                ticket.has_slot.set()


class Ticket:
    """One flight's place: in the queue of its priority until it has a slot, and from then on in that slot."""

    def __init__(self, precedence: Precedence, priority: Priority) -> None:
        self.priority = priority
        self.slot: Priority | None = None
        """Whose slot it has; it stays that one when the flight is lifted later."""
        self.has_slot = asyncio.Event()
        self._precedence = precedence

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a slot, in the order of asking, and have it for the time of the block."""
        self._precedence.join(self)
        try:
            await self.has_slot.wait()
            yield
        finally:
            self._precedence.leave(self)

    def lift(self) -> None:
        """Somebody waits for it now: from here on it is a client's flight, at the end of their queue if it queues."""
        self._precedence.lift(self)

    def asks(self, *, anything: bool) -> None:
        """Say whether ranges are under way."""
        self._precedence.asks(self, anything=anything)

    def must_yield(self) -> bool:
        """Whether this flight should ask for nothing more just now."""
        return self.priority is not Priority.CLIENT and self._precedence.a_client_asks

    def hold_back(self, wake: asyncio.Event) -> None:
        """Set `wake` once it need not yield any more to those that ask now."""
        self._precedence.hold_back(wake)
