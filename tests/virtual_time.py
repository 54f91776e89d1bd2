"""An event loop on which time passes at once when nothing is left to do but to wait; threads and disks stay real.

While work runs in a worker thread, no time passes at all: so a day of a daemon takes as long as its work.
Sockets are not for it: of them the loop can't tell whether anything is under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, which starts at 0."""

    def __init__(self) -> None:
        self._now = 0.0
        self._under_way = 0
        super().__init__()

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        self._under_way += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._one_less)
        return future

    def _one_less(self, _: asyncio.Future[Any]) -> None:
        self._under_way -= 1

    def _run_once(self) -> None:
        waiting: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and not self._under_way and waiting:  # type: ignore[attr-defined]
            self._now = max(self._now, waiting[0].when())
        super()._run_once()  # type: ignore[misc]


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
