"""A few operations in any order, interrupted at any file call: what may lie between those that stand by themselves."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from crash_disk import CrashDisk, Fault
from crash_points import at_one_call
from store_scene import ONE, THREE, TWO, StoreScene
from stores import digest_of
from waystation.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Step = Callable[[StoreScene, bytes], Awaitable[object]]


async def put(scene: StoreScene, data: bytes, *, pieces: bool = True) -> None:
    blob = scene.running.blob(digest_of(data))
    if blob is None or blob.suspect:
        await scene.put(data, pieces=pieces)


async def put_without_pieces(scene: StoreScene, data: bytes) -> None:
    await put(scene, data, pieces=False)


async def abandon(scene: StoreScene, data: bytes) -> None:
    if scene.running.blob(digest_of(data)) is None:
        spool = await scene.reserve(data)
        await scene.write(spool, data)
        spool.close(keep=True)


async def evict(scene: StoreScene, data: bytes) -> None:
    scene.must.discard(digest_of(data))
    await scene.running.evict(digest_of(data))


async def pin(scene: StoreScene, data: bytes) -> None:
    await scene.pin(frozenset({digest_of(data)}))


async def verify(scene: StoreScene, data: bytes) -> None:
    if not await scene.running.verify(digest_of(data)):
        assert digest_of(data) in scene.rotten or scene.disk.struck_reading
        scene.must.discard(digest_of(data))
        scene.rotten.discard(digest_of(data))


async def rot_and_verify(scene: StoreScene, data: bytes) -> None:
    if scene.running.blob(digest_of(data)) is not None and digest_of(data) not in scene.rotten:
        scene.sets_aside = True
        scene.rot(data)
        await verify(scene, data)


async def tidy(scene: StoreScene, _: bytes) -> None:
    await scene.running.tidy()


async def restart(scene: StoreScene, _: bytes) -> None:
    await scene.stop()
    await scene.start()


async def lose_power(scene: StoreScene, _: bytes) -> None:
    try:
        await scene.stop_without_marking_it()
    except OSError:
        return  # the fault came to the marker that the test itself writes
    await scene.start()


STEPS = (put, put_without_pieces, abandon, evict, pin, verify, rot_and_verify, tidy, restart, lose_power)
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2)), min_size=2, max_size=8)


@settings(max_examples=80)
@given(steps, st.sampled_from(Fault), st.integers(0, 150))
def test_operations_in_any_order_keep_every_promise_wherever_they_are_interrupted(
    chosen: list[tuple[Step, int]], fault: Fault, at: int
) -> None:
    async def operations(scene: StoreScene) -> AsyncIterator[None]:
        await scene.start()
        yield
        for step, which in chosen:
            try:
                if scene.store is None:
                    await scene.start()
                await step(scene, (ONE, TWO, THREE)[which])
            except StoreError:
                continue  # refused, or the fault's doing: the next one finds what it left

    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - as in conftest.py
    with tempfile.TemporaryDirectory(prefix="waystation-crash-", dir=folder) as root:
        scene_on: Callable[[CrashDisk], StoreScene] = lambda disk: StoreScene(disk, operations)  # noqa: E731
        asyncio.run(at_one_call(Path(root) / "one", scene_on, fault, at))
