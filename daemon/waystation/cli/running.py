"""Running a verb's coroutine: the signals that stop it cancel it, so that it cleans up behind itself."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from waystation.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run_verb(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; SIGTERM and SIGHUP cancel it as Ctrl-C does; nothing is logged, for verbs tell it themselves."""
    configure_logs("silent")
    stopped_by: list[signal.Signals] = []

    async def supervised() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number: signal.Signals) -> None:
            stopped_by.append(number)
            if task is not None:
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        return await work

    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        raise typer.Exit(128 + stopped_by[0] if stopped_by else 1) from None
