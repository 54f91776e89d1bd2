"""The first range of a flight is asked for early, and until the layer is checked not a byte of it is read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from transfers import MIB, eventually, read, world
from waystation.disk import Disk
from waystation.errors import LayerMismatch, NoRoom
from waystation.model import Priority, Span
from waystation.origin.just_read import JustRead

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.telemetry.metrics import Metrics

START = 2 * MIB
"""Where the client begins to read."""
PORTION = 128 * 1024


class WatchedDisk(Disk):
    """A disk that tells what was written."""

    def __init__(self) -> None:
        self.written: list[Span] = []

    def write_at(self, fd: int, data: memoryview, offset: int) -> None:
        super().write_at(fd, data, offset)
        self.written.append(Span(offset, offset + len(data)))


async def test_it_is_asked_for_at_the_clients_place_while_the_layer_is_still_being_fetched(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(40 * MIB)
        it.origin.small.clear()
        fetching = asyncio.create_task(it.fetch(artifact, Span(START, START + MIB)))
        await eventually(lambda: it.origin.open_answers, "the origin has answered")
        assert it.origin.spans == [Span(START, START + 16 * MIB)]
        assert it.origin.read_bytes == 0
        it.origin.small.set()
        assert await fetching == it.bytes_of(artifact)[START : START + MIB]
        assert it.origin.spans.count(Span(START, START + 16 * MIB)) == 1


async def test_the_layer_that_the_catalog_has_just_read_is_not_fetched_again(tmp_path: Path, metrics: Metrics) -> None:
    just_read = JustRead()
    async with world(tmp_path, metrics, just_read=just_read) as it:
        artifact = await it.artifact(3 * MIB)
        _, body = await it.origin.get(artifact.key + ".pieces", limit_bytes=MIB)
        just_read.put(artifact.key + ".pieces", body)
        it.origin.small.clear()
        assert await it.fetch(artifact) == it.bytes_of(artifact)


async def test_a_layer_that_was_read_and_does_not_lead_to_the_root_is_fetched_again(
    tmp_path: Path, metrics: Metrics
) -> None:
    just_read = JustRead()
    async with world(tmp_path, metrics, just_read=just_read) as it:
        artifact = await it.artifact(3 * MIB)
        _, body = await it.origin.get(artifact.key + ".pieces", limit_bytes=MIB)
        just_read.put(artifact.key + ".pieces", body[:-1] + b"?")
        assert await it.fetch(artifact) == it.bytes_of(artifact)


async def test_its_first_piece_is_written_while_the_rest_of_it_still_arrives(tmp_path: Path, metrics: Metrics) -> None:
    disk = WatchedDisk()
    async with world(tmp_path, metrics, disk=disk) as it:
        artifact = await it.artifact(2 * MIB + 5)
        got: list[Span] = []
        it.origin.hold_at(MIB - PORTION)
        collecting = asyncio.create_task(it.collect(artifact, got))
        portions = [Span(at, at + PORTION) for at in range(0, MIB, PORTION)]
        await eventually(lambda: portions[-2] in disk.written, "all portions but one are written")
        assert portions[-1] not in disk.written
        assert got == [], "no byte of a piece leaves before the last of it was checked"
        it.origin.release()
        await collecting
        assert [span for span in disk.written if len(span) == PORTION] == portions
        assert Span(MIB, 2 * MIB) in disk.written, "what follows goes in whole pieces"


@pytest.mark.parametrize("at", [0, PORTION, MIB - 1])
async def test_a_bad_byte_in_any_portion_of_its_first_piece_is_found(tmp_path: Path, metrics: Metrics, at: int) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(2 * MIB + 5)
        it.origin.rotten = {at: 1}
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.rotten == {at: 0}


async def test_it_ends_unread_when_the_layer_is_not_the_published_one(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        pieces_file = it.root / (artifact.key + ".pieces")
        pieces_file.write_bytes(pieces_file.read_bytes()[:-1] + b"?")
        with pytest.raises(LayerMismatch):
            await it.fetch(artifact)
        assert (it.origin.read_bytes, it.origin.open_answers) == (0, 0)


async def test_it_ends_unread_when_there_is_no_room(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics, max_size=MIB) as it:
        artifact = await it.artifact(3 * MIB)
        with pytest.raises(NoRoom):
            await it.fetch(artifact)
        assert (it.origin.read_bytes, it.origin.open_answers) == (0, 0)


async def test_it_is_asked_for_in_vain_once_and_again_only_when_there_is_room(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics, max_size=4 * MIB) as it:
        large = await it.artifact(9 * MIB)
        for _ in range(3):
            with pytest.raises(NoRoom):
                await it.fetch(large)
        assert len(it.origin.spans) == 1
        small = await it.artifact(2 * MIB, name="app/app-2-x86_64", seed=2)
        it.origin.small.clear()
        async with it.transfers.open(small):
            await eventually(lambda: it.origin.open_answers, "what is smaller is asked for ahead")
        it.origin.small.set()


async def test_what_found_no_room_is_asked_for_ahead_again_once_it_has_found_some(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics, max_size=4 * MIB) as it:
        pinned = await it.artifact(2 * MIB)
        await it.fetch(pinned)
        await eventually(lambda: not it.transfers.flights(), "a blob")
        await it.store.pin("test", frozenset({pinned.digest}))
        target = await it.artifact(3 * MIB, name="app/app-2-x86_64", seed=2)
        with pytest.raises(NoRoom):
            await it.fetch(target)
        await it.store.pin("test", frozenset())
        await it.fetch(target)
        await eventually(lambda: not it.transfers.flights(), "a blob")
        another = await it.artifact(3 * MIB, name="app/app-3-x86_64", seed=3)
        it.origin.small.clear()
        async with it.transfers.open(another):
            await eventually(lambda: it.origin.open_answers, "the origin has answered")
        it.origin.small.set()


async def test_it_ends_unread_when_the_last_client_leaves_before_there_is_a_layer(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        it.origin.small.clear()
        async with it.transfers.open(artifact):
            await eventually(lambda: it.origin.open_answers, "the origin has answered")
        await eventually(lambda: not it.transfers.flights(), "the flight has ended")
        assert (it.origin.read_bytes, it.origin.open_answers) == (0, 0)


async def test_it_is_asked_for_anew_when_the_client_is_somewhere_else_by_then(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(40 * MIB)
        it.origin.small.clear()
        async with it.transfers.open(artifact) as body:
            await eventually(lambda: it.origin.open_answers, "the origin has answered")
            reading = asyncio.ensure_future(read(body, Span(START, START + MIB)))
            await asyncio.sleep(0)
            it.origin.small.set()
            assert await reading == it.bytes_of(artifact)[START : START + MIB]
            assert it.origin.spans[:2] == [Span(0, 16 * MIB), Span(START, START + 16 * MIB)]
        await eventually(lambda: not it.transfers.flights(), "the flight has ended")
        assert it.origin.open_answers == 0


async def test_only_what_is_missing_is_asked_for_where_a_part_is_here(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        it.origin.hold_at(5 * MIB)
        async with it.transfers.open(artifact):
            await eventually(lambda: it.transfers.flights()[0].held_bytes == 5 * MIB, "five pieces")
        await eventually(lambda: not it.transfers.flights(), "the flight has ended")
        it.origin.release()
        it.origin.spans.clear()
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert min(span.start for span in it.origin.spans) == 5 * MIB


async def test_what_is_prefetched_asks_for_nothing_before_there_is_a_layer(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        pieces_file = it.root / (artifact.key + ".pieces")
        pieces_file.write_bytes(b"no layer")
        async with it.transfers.open(artifact, Priority.PREFETCH) as body:
            with pytest.raises(LayerMismatch):
                await body.stored()
        assert not it.origin.spans
