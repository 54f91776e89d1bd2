"""Keeps the daemon's own tasks going: jobs depend on a cache, also where one of its chores meets a fault of ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.telemetry.metrics import Metrics

PAUSE_S = 60.0
"""Before a task is begun again: what it fell over may still be there."""

log = structlog.get_logger()


async def keep_going(
    name: str,
    task: Callable[[], Awaitable[None]],
    metrics: Metrics,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run a task until it ends well or is cancelled; what nobody foresaw is logged and counted, and it begins again."""
    while True:
        try:
            await task()
        except Exception:
            metrics.task_failures.labels(name).inc()
            log.exception("task_failed", task=name, again_in_s=PAUSE_S)
            await sleep(PAUSE_S)
        else:
            return
