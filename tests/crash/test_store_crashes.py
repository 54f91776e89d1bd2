"""Every operation of the store, interrupted at every file call: by a power cut, a full disk, a broken one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from crash_disk import Fault
from crash_points import at_every_call
from store_scene import BODIES, ONE, THREE, TWO, Operation, StoreScene
from stores import artifact_of, content, digest_of
from waystation.disk import replace_file
from waystation.store.layout import Layout
from waystation.store.scrub import LOOK_PAUSE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def first_start(scene: StoreScene) -> AsyncIterator[None]:
    yield
    await scene.start()


async def later_start(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    await scene.pin(frozenset({digest_of(ONE)}))
    await scene.stop()
    yield
    await scene.start()


async def commit_with_pieces(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    yield
    await scene.put(ONE)


async def commit_without_pieces(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    yield
    await scene.put(ONE, pieces=False)


async def commit_beside_another(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(TWO)
    yield
    done = await asyncio.gather(scene.put(ONE), scene.put(THREE), return_exceptions=True)
    for error in filter(None, done):
        raise error


async def abandon_and_resume(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    yield
    spool = await scene.reserve(ONE)
    await scene.write(spool, ONE)
    spool.close(keep=True)
    await scene.put(ONE)


async def discard(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    yield
    spool = await scene.reserve(ONE)
    await scene.write(spool, ONE)
    spool.close(keep=False)
    await scene.running.tidy()


async def resume_behind_a_restart(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    spool = await scene.reserve(ONE)
    await scene.write(spool, ONE)
    spool.close(keep=True)
    await scene.stop()
    await scene.start()
    yield
    await scene.put(ONE)


async def evict_for_room(scene: StoreScene) -> AsyncIterator[None]:
    scene.quota = len(ONE) + len(THREE) + 10_000
    await scene.start()
    await scene.put(ONE)
    await scene.put(TWO)
    yield
    scene.must.discard(digest_of(ONE))
    await scene.put(THREE)


async def use_and_record(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    yield
    assert content(scene.running, digest_of(ONE)) == ONE
    assert await scene.running.pieces_file(digest_of(ONE)) in (None, artifact_of(ONE)[1])
    await scene.running.tidy()


async def pin_and_unpin(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    yield
    await scene.pin(frozenset({digest_of(ONE)}))
    await scene.pin(frozenset({digest_of(TWO)}))
    await scene.pin(frozenset())


async def distrust_with_pieces(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    scene.rot(ONE)
    yield
    await scene.running.distrust(digest_of(ONE), "a test says so")
    scene.rotten.clear()
    await scene.put(ONE)


async def distrust_without_pieces(scene: StoreScene) -> AsyncIterator[None]:
    scene.sets_aside = True
    await scene.start()
    await scene.put(ONE, pieces=False)
    scene.rot(ONE)
    yield
    await scene.running.distrust(digest_of(ONE), "a test says so")
    scene.rotten.clear()
    await scene.put(ONE, pieces=False)


async def verify(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    await scene.put(TWO)
    scene.rot(ONE)
    yield
    assert not await scene.running.verify(digest_of(ONE))
    scene.rotten.clear()
    if not await scene.running.verify(digest_of(TWO)):
        assert scene.disk.struck_reading, "what the disk can't read is taken for bad, nothing else"
        scene.must.discard(digest_of(TWO))


async def mend_pieces(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    body = artifact_of(ONE)[1]
    assert body
    scene.disk.rot(scene.running._layout.blob_pieces(digest_of(ONE)), len(body) - 1)
    yield
    if not await scene.running.verify(digest_of(ONE)):
        assert scene.disk.struck_reading
        scene.must.discard(digest_of(ONE))


async def evict(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    await scene.put(TWO)
    (await scene.reserve(THREE)).close(keep=True)
    yield
    scene.must.discard(digest_of(ONE))
    await scene.running.evict(digest_of(ONE))
    await scene.running.evict(digest_of(THREE))
    await scene.put(ONE)


async def clear_the_quarantine(scene: StoreScene) -> AsyncIterator[None]:
    scene.sets_aside = True
    await scene.start()
    await scene.put(ONE, pieces=False)
    await scene.put(TWO)
    scene.rot(ONE)
    await scene.running.distrust(digest_of(ONE), "a test says so")
    scene.rotten.clear()
    yield
    scene.now += 30 * 24 * 3600
    await scene.running.tidy()


async def check_behind_a_power_cut(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    await scene.put(TWO, pieces=False)
    await scene.put(THREE)
    scene.rot(THREE)
    await scene.stop_without_marking_it()
    yield
    store = await scene.start()
    for digest in BODIES:
        if not await store.verify(digest) and digest not in scene.rotten:
            assert scene.disk.struck_reading
            scene.must.discard(digest)
    await store.tidy()


async def scrub_behind_a_power_cut(scene: StoreScene) -> AsyncIterator[None]:
    scene.sets_aside = True
    await scene.start()
    await scene.put(ONE)
    await scene.put(TWO, pieces=False)
    await scene.put(THREE, pieces=False)
    scene.rot(THREE)
    await scene.stop_without_marking_it()
    yield
    store, pauses = await scene.start(), 0

    async def sleep(seconds: float) -> None:
        nonlocal pauses
        pauses += seconds >= LOOK_PAUSE_S  # nothing is due, or the disk refused something
        if pauses == 3:
            raise NothingDueError

    with suppress(NothingDueError):
        await store.scrub(sleep=sleep)
    for digest in scene.must.copy():
        if content(store, digest) is None:
            assert scene.disk.struck_reading
            scene.must.discard(digest)


class NothingDueError(Exception):
    """The scrub rests."""


async def repair_behind_a_power_cut(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    await scene.put(TWO)
    scene.rot(ONE)
    await scene.stop_without_marking_it()
    yield
    await scene.start()
    await scene.put(ONE)
    await scene.put(TWO)


async def migrate_from_format_1(scene: StoreScene) -> AsyncIterator[None]:
    layout, pieces = Layout(scene.path), artifact_of(ONE)[1]
    assert pieces
    files = {layout.format: b"1\n", layout.blob(digest_of(ONE)): ONE, layout.blob_pieces(digest_of(ONE)): pieces}
    folders = {folder for path in files for folder in path.parents if folder.is_relative_to(scene.disk.root)}
    for folder in sorted(folders | {layout.spools, layout.quarantine, layout.pins}):
        scene.disk.make_folder(folder)
    for path, body in files.items():
        replace_file(scene.disk, path, body)
    for folder in folders:
        scene.disk.sync_folder(folder)
    scene.must.add(digest_of(ONE))
    scene.was_down = True  # of a store of format 1 nobody knows
    yield
    store = await scene.start()
    assert store.open(digest_of(ONE)) is None


async def clean_end(scene: StoreScene) -> AsyncIterator[None]:
    await scene.start()
    await scene.put(ONE)
    (await scene.reserve(TWO)).close(keep=False)
    yield
    await scene.stop()


OPERATIONS = (
    first_start,
    later_start,
    commit_with_pieces,
    commit_without_pieces,
    commit_beside_another,
    abandon_and_resume,
    discard,
    resume_behind_a_restart,
    evict_for_room,
    use_and_record,
    pin_and_unpin,
    distrust_with_pieces,
    distrust_without_pieces,
    clear_the_quarantine,
    verify,
    mend_pieces,
    evict,
    check_behind_a_power_cut,
    scrub_behind_a_power_cut,
    repair_behind_a_power_cut,
    migrate_from_format_1,
    clean_end,
)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_an_operation_keeps_every_promise_wherever_it_is_interrupted(
    memory_folder: Path, operation: Operation, fault: Fault
) -> None:
    await at_every_call(memory_folder, lambda disk: StoreScene(disk, operation), fault)
