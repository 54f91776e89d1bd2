"""Tells what changed in the store to whoever listens, and never waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

from waystation.errors import ChangesMissed

if TYPE_CHECKING:
    from waystation.store.interface import StoreChange

BUFFERED_CHANGES = 4096


class Listener:
    """One listener's changes since it began to listen; an async iterator that ends when the store closes."""

    def __init__(self, buffered: int) -> None:
        self._pending: deque[StoreChange] = deque()
        self._buffered = buffered
        self._wake = asyncio.Event()
        self._missed = False
        self._ended = False

    def tell(self, change: StoreChange) -> None:
        if len(self._pending) >= self._buffered:
            self._missed = True
            self._pending.clear()
        if not self._missed:
            self._pending.append(change)
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoreChange:
        while not self._pending:
            if self._missed:
                self._missed = False
                raise ChangesMissed(f"more than {self._buffered} changes of the store were not read in time")
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._pending.popleft()


class Changes:
    """All listeners; one that is dropped is forgotten."""

    def __init__(self, *, buffered: int = BUFFERED_CHANGES) -> None:
        self._buffered = buffered
        self._listeners: WeakSet[Listener] = WeakSet()

    def listen(self) -> Listener:
        listener = Listener(self._buffered)
        self._listeners.add(listener)
        return listener

    def tell(self, change: StoreChange) -> None:
        for listener in tuple(self._listeners):
            listener.tell(change)

    def end(self) -> None:
        for listener in tuple(self._listeners):
            listener.end()
