"""How the store tells what changed, without ever waiting for whoever listens."""

from __future__ import annotations

import asyncio
import gc

import pytest

from stores import digest_of
from waystation.errors import ChangesMissed
from waystation.store.changes import Changes
from waystation.store.interface import StoreChange

CHANGES = [StoreChange("stored", digest_of(bytes([number]))) for number in range(10)]


async def test_a_listener_hears_what_happens_after_it_began_in_order() -> None:
    changes = Changes()
    changes.tell(CHANGES[0])
    listener = changes.listen()
    for change in CHANGES[1:4]:
        changes.tell(change)
    changes.end()
    assert [change async for change in listener] == CHANGES[1:4]


async def test_a_listener_that_waits_is_woken() -> None:
    changes = Changes()
    listener = changes.listen()
    heard = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    changes.tell(CHANGES[0])
    assert await heard == CHANGES[0]


async def test_a_listener_that_is_too_slow_is_told_so_and_goes_on_complete() -> None:
    changes = Changes(buffered=2)
    slow, quick = changes.listen(), changes.listen()
    for change in CHANGES[:4]:
        changes.tell(change)
        assert await anext(quick) == change
    with pytest.raises(ChangesMissed):
        await anext(slow)
    changes.tell(CHANGES[5])
    assert await anext(slow) == CHANGES[5]


async def test_a_dropped_listener_is_forgotten() -> None:
    changes = Changes()
    listener = changes.listen()
    del listener
    gc.collect()
    assert not list(changes._listeners)
