"""The daemon's chores go on, whatever fault of ours they meet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from waystation.telemetry.going_on import PAUSE_S, keep_going

if TYPE_CHECKING:
    from waystation.telemetry.metrics import Metrics


async def test_a_fault_that_nobody_foresaw_is_told_counted_and_the_task_begun_again(metrics: Metrics) -> None:
    faults = [ZeroDivisionError(), ExceptionGroup("two", [KeyError(), ValueError()])]
    slept: list[float] = []

    async def chore() -> None:
        if faults:
            raise faults.pop(0)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with capture_logs() as logs:
        await keep_going("scrub", chore, metrics, sleep=sleep)
    assert [(line["event"], line["task"], bool(line["exc_info"])) for line in logs] == [
        ("task_failed", "scrub", True)
    ] * 2
    assert slept == [PAUSE_S, PAUSE_S]
    assert metrics.registry.get_sample_value("waystation_task_failures_total", {"task": "scrub"}) == 2


async def test_a_cancelled_task_is_not_begun_again(metrics: Metrics) -> None:
    begun = asyncio.Event()

    async def chore() -> None:
        begun.set()
        await asyncio.Event().wait()

    going = asyncio.create_task(keep_going("scrub", chore, metrics))
    await begun.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
