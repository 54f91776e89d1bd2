"""What lies in the store and is not believed: checked where it lies, and the origin asked only for what fails."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from transfers import MIB, SlowDisk, eventually, read, world
from waystation.errors import Denied, Unreachable
from waystation.model import CacheResult
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from transfers import World
    from waystation.model import Artifact
    from waystation.pieces import PieceLayer, PieceTree
    from waystation.telemetry.metrics import Metrics


async def stored(it: World, artifact: Artifact) -> None:
    """Fetch it, and wait until it is a blob."""
    await it.fetch(artifact)
    await eventually(lambda: not it.transfers.flights(), "the blob is on disk")
    it.origin.read_bytes = 0
    it.origin.spans.clear()


def spool_of(tmp_path: Path, artifact: Artifact) -> Path:
    return tmp_path / "store/spool" / artifact.digest


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), offset)


async def test_an_intact_blob_that_is_distrusted_is_served_again_without_any_answer_of_the_origin(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB + 3)
        await stored(it, artifact)
        checked = metrics.verified_bytes.labels("origin")._value.get()
        await it.store.distrust(artifact.digest, "a test says so")
        it.origin.away = Unreachable("the origin is dead")
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        await eventually(lambda: not it.transfers.flights(), "it is a blob again")
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert metrics.verified_bytes.labels("origin")._value.get() == checked
        assert metrics.verified_bytes.labels("store")._value.get() == 2 * artifact.size_bytes, "by pieces, and whole"
        assert metrics.verification_failures.labels("store")._value.get() == 1, "distrusted once, and nothing was wrong"


async def test_a_whole_partial_is_served_without_any_answer_of_the_origin_also_after_a_restart(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        await stored(it, artifact)
        await it.store.distrust(artifact.digest, "a test says so")
    async with world(tmp_path, metrics) as it:
        it.origin.away = Unreachable("the origin is dead")
        assert await it.fetch(artifact) == it.bytes_of(artifact)


async def test_of_a_rotten_blob_only_the_rotten_pieces_are_asked_for(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(40 * MIB)
        await stored(it, artifact)
        await it.store.distrust(artifact.digest, "a test says so")
        for offset in (0, 17 * MIB + 5, 40 * MIB - 1):
            flip(spool_of(tmp_path, artifact), offset)
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == 3 * MIB
    assert failures(metrics) == (1, 0), "it was counted when it was distrusted, and is not again"


async def test_a_rotten_blob_and_a_dead_origin_are_a_dead_origin_and_cost_nothing_that_was_good(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(40 * MIB)
        await stored(it, artifact)
        await it.store.distrust(artifact.digest, "a test says so")
        flip(spool_of(tmp_path, artifact), 17 * MIB)
        for error in (Unreachable("dead"), Denied("no")):
            it.origin.away = error
            with pytest.raises(type(error)):
                await it.fetch(artifact)
        it.origin.away = None
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == MIB


async def test_pieces_of_another_length_that_lie_beside_a_blob_are_not_taken_for_the_artifact_s_own(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        await stored(it, artifact)
        await it.store.distrust(artifact.digest, "a test says so")
        tree, layer = pieces_of(it.bytes_of(artifact), 2 * MIB)
        twin = replace(artifact, key="b/b-1-x86_64", pieces=tree)
        path = it.root / twin.key
        path.parent.mkdir()
        os.link(it.root / artifact.key, path)
        line = PiecesLine(artifact.digest, artifact.size_bytes, tree)
        path.with_name("b-1-x86_64.pieces").write_bytes(dump_pieces(line, layer))
        assert await it.fetch(twin) == it.bytes_of(artifact)


def pieces_of(data: bytes, piece_length: int) -> tuple[PieceTree, PieceLayer]:
    hasher = TreeHasher(len(data), piece_length)
    hasher.update(data)
    return hasher.finish()


async def test_pieces_that_rotted_beside_a_blob_are_fetched_again(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        await stored(it, artifact)
        await it.store.distrust(artifact.digest, "a test says so")
        flip(tmp_path / "store/spool" / f"{artifact.digest}.pieces", 400)
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        await eventually(lambda: not it.transfers.flights(), "it is a blob again")
        kept = await it.store.pieces_file(artifact.digest)
        assert kept == (it.root / f"{artifact.key}.pieces").read_bytes()


# --- what a crash of the machine leaves ----------------------------------------------------------


async def left_by_a_crash(tmp_path: Path, metrics: Metrics, *, pieces: bool) -> Artifact:
    """Store an artifact, and let it look as if the machine had gone down since."""
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(40 * MIB, pieces=pieces)
        await it.fetch(artifact)
        await eventually(lambda: not it.transfers.flights(), "the blob is on disk")
    (tmp_path / "store/running").write_text("of another boot\n")
    return artifact


def blob_of(tmp_path: Path, artifact: Artifact) -> Path:
    return tmp_path / "store/blobs/sha256" / artifact.digest[:2] / artifact.digest


def failures(metrics: Metrics) -> tuple[float, float]:
    """How often something of the store, and of the origin, was not what it must be."""
    counter = metrics.verification_failures
    return counter.labels("store")._value.get(), counter.labels("origin")._value.get()


@pytest.mark.parametrize("pieces", [True, False])
async def test_what_survived_a_crash_is_checked_and_served_without_any_answer_of_the_origin(
    tmp_path: Path, metrics: Metrics, pieces: bool
) -> None:
    artifact = await left_by_a_crash(tmp_path, metrics, pieces=pieces)
    checked = metrics.verified_bytes.labels("origin")._value.get()
    async with world(tmp_path, metrics) as it:
        assert it.store.open(artifact.digest) is None
        it.origin.away = Unreachable("the origin is dead")
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        await eventually(lambda: not it.transfers.flights(), "it is trusted again")
        async with it.transfers.open(artifact) as body:
            assert body.cache is CacheResult.HIT
    assert failures(metrics) == (0, 0)
    assert metrics.verified_bytes.labels("store")._value.get() == artifact.size_bytes * (1 + pieces)
    assert metrics.verified_bytes.labels("origin")._value.get() == checked


async def test_of_what_a_crash_tore_only_the_torn_pieces_are_asked_for(tmp_path: Path, metrics: Metrics) -> None:
    artifact = await left_by_a_crash(tmp_path, metrics, pieces=True)
    for offset in (7 * MIB, 39 * MIB):
        flip(blob_of(tmp_path, artifact), offset)
    async with world(tmp_path, metrics) as it:
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == 2 * MIB
    assert failures(metrics) == (2, 0)


async def test_what_a_crash_tore_without_pieces_is_fetched_anew_in_the_same_flight(
    tmp_path: Path, metrics: Metrics
) -> None:
    artifact = await left_by_a_crash(tmp_path, metrics, pieces=False)
    flip(blob_of(tmp_path, artifact), 7 * MIB)
    async with world(tmp_path, metrics) as it:
        async with it.transfers.open(artifact) as body:
            assert await read(body) == it.bytes_of(artifact)
            assert body.cache is CacheResult.MISS
        assert it.origin.read_bytes == artifact.size_bytes
        await eventually(lambda: not it.transfers.flights(), "it is a blob again")
        assert blob_of(tmp_path, artifact).read_bytes() == it.bytes_of(artifact)
    assert failures(metrics) == (1, 0)


async def test_what_a_crash_tore_without_pieces_is_given_up_at_once_also_while_the_origin_is_dead(
    tmp_path: Path, metrics: Metrics
) -> None:
    artifact = await left_by_a_crash(tmp_path, metrics, pieces=False)
    flip(blob_of(tmp_path, artifact), 7 * MIB)
    async with world(tmp_path, metrics) as it:
        it.origin.away = Unreachable("the origin is dead")
        for _ in range(2):
            with pytest.raises(Unreachable):
                await it.fetch(artifact)
        assert failures(metrics) == (1, 0), "it was read again for nothing"
        it.origin.away = None
        assert await it.fetch(artifact) == it.bytes_of(artifact)
    assert failures(metrics) == (1, 0)


async def test_a_client_that_leaves_while_a_suspect_is_checked_costs_it_nothing(
    tmp_path: Path, metrics: Metrics
) -> None:
    artifact = await left_by_a_crash(tmp_path, metrics, pieces=False)
    slow = SlowDisk()
    async with world(tmp_path, metrics, disk=slow) as it:
        it.origin.away = Unreachable("the origin is dead")
        slow.reads.hold()
        async with it.transfers.open(artifact):
            assert await asyncio.to_thread(slow.reads.reached.wait, 10)
        slow.reads.release()
        assert await it.fetch(artifact) == it.bytes_of(artifact)


@pytest.mark.parametrize("pieces", [True, False])
async def test_a_suspect_that_is_found_right_while_its_flight_begins_is_served_as_it_is(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, pieces: bool
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB, pieces=pieces)
        await stored(it, artifact)
    (tmp_path / "store/running").write_text("another boot\n")
    async with world(tmp_path, metrics) as it:
        reserve = it.store.reserve

        async def reserve_late(*arguments: Any) -> Any:
            assert await it.store.verify(artifact.digest), "as the scrub or an operator may, just before"
            return await reserve(*arguments)

        monkeypatch.setattr(it.store, "reserve", reserve_late)
        assert it.store.open(artifact.digest) is None
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == 0
        await eventually(lambda: not it.transfers.flights(), "the flight is over")
        await it.store.evict(artifact.digest)  # nobody holds it any more
