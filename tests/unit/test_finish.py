"""Work that is finished even when its waiter is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from waystation.store.finish import to_the_end


async def test_the_result_and_the_error_come_through() -> None:
    async def work(fail: bool) -> int:
        if fail:
            raise KeyError("no")
        return 1

    assert await to_the_end(work(fail=False)) == 1
    with pytest.raises(KeyError):
        await to_the_end(work(fail=True))


async def test_however_often_the_waiter_is_cancelled_the_work_ends_first() -> None:
    gate, steps = asyncio.Event(), []

    async def work() -> int:
        steps.append("begun")
        await gate.wait()
        steps.append("ended")
        return 7

    waiter = asyncio.ensure_future(to_the_end(work(), undo=lambda result: steps.append(f"undone {result}")))
    for _ in range(3):
        await asyncio.sleep(0)
        waiter.cancel()
    await asyncio.sleep(0)
    assert steps == ["begun"]
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert steps == ["begun", "ended", "undone 7"]


async def test_an_error_behind_a_cancellation_is_not_left_unretrieved() -> None:
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        raise KeyError("nobody waits for this")

    waiter = asyncio.ensure_future(to_the_end(work()))
    await asyncio.sleep(0)
    waiter.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiter
