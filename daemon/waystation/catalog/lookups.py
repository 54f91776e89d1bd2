"""One question to the origin for each name at a time, however many wait for its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from waystation.errors import TooManyQuestions, WaystationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.catalog.remembered import Remembered
    from waystation.model import TargetPath

MOST_AT_ONCE = 2048
"""Questions go on when those who asked them leave: who asks for ever more names and leaves must not fill the memory."""


class Lookup:
    """A running question. Those who wait may leave; it goes on, so that the origin's circuit learns its end."""

    def __init__(
        self, ask: Callable[[Lookup], Awaitable[Remembered]], *, deadline_s: float, after: Lookup | None
    ) -> None:
        self.asking = False
        """Whether the origin is being asked: from then on its answer may be older than a newcomer's question."""
        self.unhurried = False
        """The origin has answered, and what is left to do takes its time: the deadline no longer holds."""
        self._deadline = asyncio.get_running_loop().time() + deadline_s
        self.task = asyncio.create_task(self._run(ask, after))

    async def in_time(self) -> bool:
        """Wait for the end until the deadline; False where what is known must do."""
        left_s = max(0.0, self._deadline - asyncio.get_running_loop().time())
        await asyncio.wait({self.task}, timeout=left_s)
        return self.task.done() or self.unhurried

    async def answer(self) -> Remembered:
        """Wait for the end, however long.

        Raises:
            WaystationError: what asking raised.
        """
        await asyncio.wait({self.task})
        outcome = self.task.result()
        if isinstance(outcome, WaystationError):
            raise outcome.with_traceback(None)
        return outcome

    async def _run(
        self, ask: Callable[[Lookup], Awaitable[Remembered]], after: Lookup | None
    ) -> Remembered | WaystationError:
        if after is not None:
            await asyncio.wait({after.task})
        self.asking = True
        try:
            return await ask(self)
        except WaystationError as error:
            # A value, not the task's exception: there may be nobody left who takes it.
            return error


class Lookups:
    """All running questions: for each name at most one that is being asked, and one that waits behind it."""

    def __init__(self, ask: Callable[[TargetPath, Lookup], Awaitable[Remembered]], *, deadline_s: float) -> None:
        self._ask = ask
        self._deadline_s = deadline_s
        self._latest: dict[TargetPath, Lookup] = {}
        self._running: set[asyncio.Task[Remembered | WaystationError]] = set()

    def join(self, name: TargetPath, *, fresh: bool) -> Lookup:
        """Share the latest question, or ask; `fresh`: only one that the origin has not been asked yet will do.

        Raises:
            TooManyQuestions: so many others are being asked.
        """
        latest = self._latest.get(name)
        if latest is not None and not (fresh and latest.asking):
            return latest
        if len(self._running) >= MOST_AT_ONCE:
            raise TooManyQuestions(f"the origin is being asked for {MOST_AT_ONCE} other names")
        lookup = Lookup(lambda lookup: self._ask(name, lookup), deadline_s=self._deadline_s, after=latest)
        self._latest[name] = lookup
        self._running.add(lookup.task)
        lookup.task.add_done_callback(lambda task: self._ended(name, lookup, task))
        return lookup

    async def close(self) -> None:
        """End all of them, and wait for that."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _ended(self, name: TargetPath, lookup: Lookup, task: asyncio.Task[Remembered | WaystationError]) -> None:
        self._running.discard(task)
        if self._latest.get(name) is lookup:
            del self._latest[name]
