"""What a transfer promises its riders, on a real folder as origin and a real store."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from transfers import MIB, FullDisk, SlowDisk, blobs, eventually, read, world
from waystation.errors import (
    DigestMismatch,
    LayerMismatch,
    NoRoom,
    PieceMismatch,
    RevisionChanged,
    Short,
    TransferError,
    Unreachable,
)
from waystation.model import CacheResult, Digest, Priority, Span
from waystation.transfer.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.telemetry.metrics import Metrics


@pytest.mark.parametrize("pieces", [True, False])
@pytest.mark.parametrize("size_bytes", [1, 16 * 1024, MIB - 1, MIB, MIB + 1, 40 * MIB + 3])
async def test_a_miss_is_fetched_checked_and_kept_and_then_a_hit(
    tmp_path: Path, metrics: Metrics, size_bytes: int, pieces: bool
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(size_bytes, pieces=pieces)
        async with it.transfers.open(artifact) as body:
            assert body.cache is CacheResult.MISS
            assert await read(body) == it.bytes_of(artifact)
        asked = it.origin.read_bytes
        assert asked == size_bytes
        async with it.transfers.open(artifact) as body:
            assert body.cache is CacheResult.HIT
            assert await read(body) == it.bytes_of(artifact)
            assert await read(body, Span(size_bytes // 2, size_bytes)) == it.bytes_of(artifact)[size_bytes // 2 :]
        assert it.origin.read_bytes == asked
        await eventually(lambda: not it.transfers.flights(), "the blob is on disk")
        async with it.transfers.open(artifact) as body:
            assert body.cache is CacheResult.HIT


async def test_however_many_ask_the_origin_sends_the_bytes_once(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(30 * MIB + 7)
        it.origin.hold_at(5 * MIB)

        async def ride() -> tuple[CacheResult, bytes]:
            async with it.transfers.open(artifact) as body:
                return body.cache, await read(body)

        async with asyncio.TaskGroup() as group:
            rides = [group.create_task(ride()) for _ in range(20)]
            await eventually(lambda: it.transfers.flights() and it.transfers.flights()[0].riders == 20, "20 riders")
            it.origin.release()
        results = [ride.result() for ride in rides]
        assert [cache for cache, _ in results].count(CacheResult.MISS) == 1
        assert [cache for cache, _ in results].count(CacheResult.JOINED) == 19
        assert all(data == it.bytes_of(artifact) for _, data in results)
        assert it.origin.read_bytes == artifact.size_bytes


async def test_a_piece_leaves_once_it_verifies_and_the_last_one_only_with_the_whole(
    tmp_path: Path, metrics: Metrics
) -> None:
    slow = SlowDisk()
    async with world(tmp_path, metrics, disk=slow) as it:
        artifact = await it.artifact(4 * MIB)
        it.origin.hold_at(2 * MIB)
        got: list[Span] = []
        async with asyncio.TaskGroup() as group:
            riding = group.create_task(it.collect(artifact, got))
            await eventually(lambda: got and got[-1].stop == 2 * MIB, "two pieces while the third is held back")
            slow.reads.hold()
            it.origin.release()
            await eventually(lambda: got[-1].stop == 3 * MIB, "all but the last piece before the whole is hashed")
            await eventually(lambda: it.transfers.flights()[0].state == "sealing", "every piece is here")
            assert got[-1].stop == 3 * MIB
            slow.syncs.hold()
            slow.reads.release()
            await riding
            assert got[-1].stop == 4 * MIB, "what is checked need not wait for the disk"
            assert it.transfers.flights()[0].state == "sealing"
            slow.syncs.release()


async def test_without_pieces_nothing_leaves_before_the_whole_is_checked(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB, pieces=False)
        it.origin.hold_at(19 * MIB)
        async with it.transfers.open(artifact) as body:
            runs = aiter(body.runs(Span(0, 10)))
            first = asyncio.ensure_future(anext(runs))
            await eventually(lambda: it.origin.read_bytes >= 18 * MIB, "most bytes are here")
            assert not first.done()
            it.origin.release()
            assert await first == Span(0, 10)


@pytest.mark.parametrize("pieces", [True, False])
async def test_other_bytes_than_the_catalog_said_are_refused_and_nothing_is_kept(
    tmp_path: Path, metrics: Metrics, pieces: bool
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB, pieces=pieces)
        it.origin.rotten = {17 * MIB: 99}
        got: list[Span] = []
        with pytest.raises((PieceMismatch, DigestMismatch)) as caught:
            await it.collect(artifact, got)
        assert caught.type is (PieceMismatch if pieces else DigestMismatch)
        if pieces:
            assert "piece 17 of 20" in str(caught.value)
            assert all(run.stop <= 17 * MIB for run in got), "a piece left that did not verify"
            assert it.origin.read_bytes <= 20 * MIB + 2 * MIB
        else:
            assert not got
        assert not blobs(tmp_path)
        await eventually(lambda: not list((tmp_path / "store/spool").iterdir()), "the spool is given up")
        assert metrics.verification_failures.labels("origin")._value.get() == 1


async def test_pieces_all_good_but_the_whole_wrong_never_releases_the_last_piece(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        good = await it.artifact(5 * MIB)
        wrong = Digest(sha256(b"something else").hexdigest())
        pieces_file = it.root / (good.key + ".pieces")
        pieces_file.write_bytes(pieces_file.read_bytes().replace(good.digest.encode(), wrong.encode()))
        got: list[Span] = []
        with pytest.raises(DigestMismatch):
            await it.collect(replace(good, digest=wrong), got)
        assert got[-1].stop == 4 * MIB
        assert not blobs(tmp_path)


async def test_a_piece_that_came_bad_once_is_asked_for_once_more(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        it.origin.rotten = {3 * MIB + 5: 1}
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == artifact.size_bytes + MIB
        assert Span(3 * MIB, 4 * MIB) in it.origin.spans


@pytest.mark.parametrize("size_bytes", [MIB, 17 * MIB, 33 * MIB])
async def test_a_bad_last_piece_is_asked_for_once_more_too_and_hangs_nobody(
    tmp_path: Path, metrics: Metrics, size_bytes: int
) -> None:
    async with world(tmp_path, metrics) as it:
        for seed in range(4):
            artifact = await it.artifact(size_bytes, name=f"app/app-{seed}-x86_64", seed=seed)
            it.origin.spans.clear()
            it.origin.rotten = {size_bytes - 5: 1}
            async with asyncio.timeout(10):
                assert await it.fetch(artifact) == it.bytes_of(artifact)
            assert it.origin.spans.count(Span(size_bytes - MIB, size_bytes)) == 2


async def test_a_rider_that_leaves_before_its_flight_has_begun_wedges_nothing(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        async with it.transfers.open(artifact):
            pass
        async with asyncio.timeout(5):
            assert await it.fetch(artifact) == it.bytes_of(artifact)


async def test_a_layer_that_does_not_lead_to_the_root_is_refused(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        path = it.root / (artifact.key + ".pieces")
        body = bytearray(path.read_bytes())
        body[-1] ^= 1
        path.write_bytes(body)
        with pytest.raises(LayerMismatch):
            await it.fetch(artifact)
        assert it.origin.read_bytes == 0


async def test_a_target_whose_pieces_vanished_is_still_served_as_a_whole(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        (it.root / (artifact.key + ".pieces")).unlink()
        assert await it.fetch(artifact) == it.bytes_of(artifact)


async def test_lost_ranges_are_asked_for_again_from_where_they_broke(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        it.origin.losses = [Short("cut"), Unreachable("reset")]
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == artifact.size_bytes
        assert metrics.flight_retries.labels("short_body")._value.get() == 1


async def test_a_spent_budget_fails_the_flight_and_keeps_what_was_verified(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics, retries=2, connections=1) as it:
        artifact = await it.artifact(20 * MIB)
        it.origin.cuts = {4 * MIB: 3}
        with pytest.raises(Short):
            await it.fetch(artifact)
        assert it.origin.read_bytes == 4 * MIB
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == artifact.size_bytes, "what was verified was asked for again"


async def test_what_was_verified_is_rechecked_and_resumed_also_after_a_restart(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(40 * MIB)
        it.origin.hold_at(30 * MIB)
        async with it.transfers.open(artifact):
            await eventually(lambda: it.transfers.flights()[0].held_bytes >= 30 * MIB, "30 MiB")
        await eventually(lambda: not it.transfers.flights(), "the flight ends when its last rider leaves")
    spool = tmp_path / "store/spool" / artifact.digest
    with spool.open("r+b") as file:
        file.seek(7 * MIB)
        file.write(b"rotten while nobody looked")
    async with world(tmp_path, metrics) as it:
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == 11 * MIB
    async with world(tmp_path, metrics) as it, it.transfers.open(artifact) as body:
        assert body.cache is CacheResult.HIT
        assert await read(body) == it.bytes_of(artifact)


async def test_a_range_in_the_middle_is_answered_before_what_comes_before_it(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(100 * MIB)
        it.origin.hold_at(2 * MIB)
        async with it.transfers.open(artifact) as first:
            assert await read(first, Span(0, MIB)) == it.bytes_of(artifact)[:MIB]
            async with it.transfers.open(artifact) as body:
                tail = asyncio.ensure_future(read(body, Span(80 * MIB, 81 * MIB)))
                await asyncio.sleep(0)
                it.origin.release()
                assert await tail == it.bytes_of(artifact)[80 * MIB : 81 * MIB]
                position = it.origin.spans.index(Span(80 * MIB, 96 * MIB))
                assert position <= 2, "the rider's pieces were not moved to the front"


async def test_a_newcomer_to_a_flight_that_is_being_abandoned_waits_for_its_end_and_starts_anew(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        it.origin.hold_at(5 * MIB)
        async with it.transfers.open(artifact):
            await eventually(lambda: it.transfers.flights()[0].held_bytes == 5 * MIB, "five pieces")
        (flight,) = it.transfers.flights()
        assert flight.state == "abandoned", "the flight is ending, not ended"
        it.origin.release()
        async with asyncio.timeout(10), it.transfers.open(artifact) as body:
            assert body.cache is CacheResult.MISS
            assert await read(body) == it.bytes_of(artifact)
        assert it.origin.read_bytes <= 20 * MIB + MIB


async def test_a_flight_to_an_origin_that_does_not_answer_is_abandoned_at_once(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        it.origin.silent = True
        async with it.transfers.open(artifact):
            await eventually(lambda: it.origin.spans, "a range is asked for")
        it.origin.silent = False
        async with asyncio.timeout(2):
            assert await it.fetch(artifact) == it.bytes_of(artifact)


@pytest.mark.parametrize("how", ["leave", "cancel"])
async def test_the_last_client_leaving_does_not_stop_a_commit(tmp_path: Path, metrics: Metrics, how: str) -> None:
    slow = SlowDisk()
    async with world(tmp_path, metrics, disk=slow) as it:
        artifact = await it.artifact(3 * MIB)
        it.origin.hold_at(MIB)

        async def ride() -> None:
            async with it.transfers.open(artifact) as body:
                if how == "cancel":
                    await read(body)
                else:
                    await asyncio.to_thread(slow.syncs.reached.wait, 10)

        rider = asyncio.create_task(ride())
        await eventually(lambda: it.transfers.flights() and it.transfers.flights()[0].held_bytes, "a first piece")
        slow.syncs.hold()
        it.origin.release()
        await asyncio.to_thread(slow.syncs.reached.wait, 10)
        if how == "cancel":
            rider.cancel()
        await asyncio.wait([rider])
        (flight,) = it.transfers.flights()
        assert (flight.state, flight.riders) == ("sealing", 0)
        slow.syncs.release()
        await eventually(lambda: not it.transfers.flights(), "the commit finishes")
        async with it.transfers.open(artifact) as body:
            assert body.cache is CacheResult.HIT
        assert it.origin.read_bytes == artifact.size_bytes


async def test_closing_waits_for_what_is_sealing_and_gives_up_the_rest(tmp_path: Path, metrics: Metrics) -> None:
    slow = SlowDisk()
    async with world(tmp_path, metrics, disk=slow) as it:
        sealing = await it.artifact(3 * MIB)
        fetching = await it.artifact(30 * MIB, name="b/b-1-x86_64", seed=2)
        it.origin.hold_at(2 * MIB)
        riders = [asyncio.create_task(it.fetch(artifact)) for artifact in (sealing, fetching)]
        await eventually(
            lambda: [flight.held_bytes for flight in it.transfers.flights()] == [2 * MIB] * 2, "two flights"
        )
        slow.syncs.hold()
        it.origin.release(to=20 * MIB)
        await asyncio.to_thread(slow.syncs.reached.wait, 10)
        closing = asyncio.create_task(it.transfers.close())
        await eventually(lambda: len(it.transfers.flights()) == 1, "what is fetching ends at once")
        assert not closing.done()
        slow.syncs.release()
        await closing
        assert await riders[0] == it.bytes_of(sealing)
        with pytest.raises(Exception, match="given up"):
            await riders[1]


async def test_while_closing_nobody_starts_anew_who_waited_for_a_flight_to_end(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        it.origin.hold_at(5 * MIB)
        async with it.transfers.open(artifact):
            await eventually(lambda: it.transfers.flights()[0].held_bytes == 5 * MIB, "five pieces")
        newcomer = asyncio.create_task(it.fetch(artifact))
        await asyncio.sleep(0)
        (flight,) = it.transfers.flights()
        assert flight.state == "abandoned", "the newcomer waits for its end"
        await it.transfers.close()
        async with asyncio.timeout(10):
            with pytest.raises(TransferError, match="no transfer is started"):
                await newcomer
        assert it.transfers.flights() == ()


async def test_a_rider_may_read_what_it_was_given_after_its_flight_failed(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        it.origin.rotten = {10 * MIB: 99}
        it.origin.hold_at(4 * MIB)
        async with it.transfers.open(artifact) as body:
            run = await anext(aiter(body.runs(Span(0, artifact.size_bytes))))
            it.origin.release()
            await eventually(lambda: not it.transfers.flights(), "the flight fails")
            it.origin.rotten = {}
            other = await it.artifact(20 * MIB, name="b/b-1-x86_64", seed=2)
            assert await it.fetch(other) == it.bytes_of(other)
            assert os.pread(body.fd, len(run), run.start) == it.bytes_of(artifact)[run.start : run.stop]


async def test_a_fault_of_the_program_itself_ends_the_flight_and_hangs_nobody(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        with monkeypatch.context() as patch:
            patch.setattr(Plan, "landed", broken)
            async with asyncio.timeout(5):
                with pytest.raises(TransferError, match="fault of its own"):
                    await it.fetch(artifact)
        assert await it.fetch(artifact) == it.bytes_of(artifact)


async def test_flights_beyond_the_limit_are_queued(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics, max_flights=1) as it:
        first = await it.artifact(5 * MIB)
        second = await it.artifact(5 * MIB, name="b/b-1-x86_64", seed=2)
        it.origin.hold_at(2 * MIB)
        async with asyncio.TaskGroup() as group:
            group.create_task(it.fetch(first))
            await eventually(lambda: any(flight.held_bytes for flight in it.transfers.flights()), "the first one flies")
            waiting = group.create_task(it.fetch(second))
            await eventually(lambda: len(it.transfers.flights()) == 2, "the second one is there")
            assert [flight.state for flight in it.transfers.flights()] == ["fetching", "queued"]
            it.origin.release()
        assert waiting.result() == it.bytes_of(second)


async def test_no_room_is_said_before_the_origin_is_asked_for_a_byte(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics, max_size=10 * MIB) as it:
        artifact = await it.artifact(20 * MIB)
        with pytest.raises(NoRoom):
            await it.fetch(artifact)
        assert it.origin.read_bytes == 0


async def test_a_disk_that_fills_up_ends_the_flight_in_words_and_leaves_nothing_wrong(
    tmp_path: Path, metrics: Metrics
) -> None:
    full = FullDisk()
    async with world(tmp_path, metrics, disk=full) as it:
        artifact = await it.artifact(20 * MIB)
        full.writes_left = 10
        with pytest.raises(NoRoom, match="filled up"):
            await it.fetch(artifact)
        assert not blobs(tmp_path)
        full.writes_left = 1000
        assert await it.fetch(artifact) == it.bytes_of(artifact)


async def test_an_object_that_is_another_revision_by_now_fails_at_once(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB)
        with pytest.raises(RevisionChanged):
            await it.fetch(replace(artifact, etag='"another"'))
        assert it.origin.read_bytes == 0


async def test_two_names_of_the_same_bytes_share_a_flight_but_no_wrong_size(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        first = await it.artifact(20 * MIB)
        second = await it.artifact(20 * MIB, name="b/b-1-x86_64")
        lying = replace(second, size_bytes=second.size_bytes - 1)
        it.origin.hold_at(2 * MIB)
        async with it.transfers.open(first) as one, it.transfers.open(second) as two:
            assert (one.artifact.target, two.artifact.target) == (first.target, second.target)
            assert two.cache is CacheResult.JOINED
            with pytest.raises(DigestMismatch, match="has 20971519 bytes in the origin"):
                async with it.transfers.open(lying):
                    pass
            it.origin.release()
            assert await read(two) == it.bytes_of(second)
        with pytest.raises(DigestMismatch):
            async with it.transfers.open(lying):
                pass
        assert it.origin.read_bytes == first.size_bytes


@pytest.mark.parametrize("change", [-1, -MIB, 1])
async def test_a_stored_blob_of_another_size_is_not_believed_but_fetched_again(
    tmp_path: Path, metrics: Metrics, change: int
) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(3 * MIB, pieces=False)
        await it.fetch(artifact)
    os.truncate(blobs(tmp_path)[0], 3 * MIB + change)
    async with world(tmp_path, metrics) as it:
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert it.origin.read_bytes == artifact.size_bytes
        assert metrics.verification_failures.labels("store")._value.get() == 1
        assert metrics.verification_failures.labels("origin")._value.get() == 0


async def test_a_claim_that_a_right_blob_has_another_size_is_checked_once_and_refused_ever_after(
    tmp_path: Path, metrics: Metrics
) -> None:
    disk = SlowDisk()
    async with world(tmp_path, metrics, disk=disk) as it:
        artifact = await it.artifact(3 * MIB, pieces=False)
        await it.fetch(artifact)
        await eventually(lambda: not it.transfers.flights(), "the blob is on disk")
        lying = replace(artifact, size_bytes=3 * MIB + 1)
        for _ in range(2):
            async with asyncio.timeout(5):
                with pytest.raises(DigestMismatch, match="has 3145729 bytes in the origin"):
                    await it.fetch(lying)
            disk.reads.hold()
        disk.reads.release()
        assert await it.fetch(artifact) == it.bytes_of(artifact)
        assert metrics.verification_failures.labels("store")._value.get() == 0


async def test_an_empty_artifact_is_checked_like_any_other(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        empty = await it.artifact(0, pieces=False)
        assert await it.fetch(empty) == b""
        with pytest.raises(DigestMismatch):
            await it.fetch(replace(empty, digest=Digest("0" * 64)))


async def test_a_client_s_flight_is_not_kept_waiting_by_any_number_of_prefetching_ones(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics, max_flights=1, prefetch_flights=1) as it, AsyncExitStack() as prefetching:
        it.origin.hold_at(4 * MIB)
        for seed in range(2, 6):
            artifact = await it.artifact(20 * MIB, name=f"app/app-{seed}-x86_64", seed=seed)
            await prefetching.enter_async_context(it.transfers.open(artifact, Priority.PREFETCH))
        wanted = await it.artifact(3 * MIB)
        await eventually(lambda: it.origin.read_bytes >= 4 * MIB, "a prefetching flight hangs in its first range")
        assert await it.fetch(wanted) == it.bytes_of(wanted)
        states = [flight.state for flight in it.transfers.flights() if flight.target != wanted.target]
        assert sorted(states) == ["fetching", "queued", "queued", "queued"]


async def test_prefetching_asks_for_nothing_while_a_client_s_range_is_under_way(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics, connections=1) as it:
        later, now = await it.artifact(60 * MIB, name="app/app-2-x86_64", seed=2), await it.artifact(60 * MIB)
        it.origin.hold_at(8 * MIB)
        async with it.transfers.open(later, Priority.PREFETCH) as prefetched:
            await eventually(lambda: it.transfers.flights()[0].held_bytes == 8 * MIB, "it has begun")
            async with it.transfers.open(now) as body:
                await eventually(lambda: it.origin.read_bytes == 16 * MIB, "the client has begun too")
                it.origin.release(to=9 * MIB)
                await eventually(lambda: it.transfers.flights()[0].held_bytes == 9 * MIB, "its next piece has landed")
                it.origin.release(to=10 * MIB)
                await eventually(lambda: it.origin.open_answers == 1, "its range ended early, a piece later at most")
                it.origin.release()
                await asyncio.gather(body.stored(), prefetched.stored())
    starts = [span.start // MIB for span in it.origin.spans]
    assert starts[:5] == [0, 0, 16, 32, 48], "the next one waited for all of the client's"
    assert starts[5] in (9, 10), "and goes on where the first one ended"


async def test_on_one_flight_a_client_s_pieces_go_before_the_rest(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics, connections=1) as it:
        artifact = await it.artifact(80 * MIB)
        it.origin.hold_at(2 * MIB)
        async with it.transfers.open(artifact, Priority.PREFETCH) as prefetched:
            await eventually(lambda: it.origin.read_bytes == 2 * MIB, "it has begun")
            tail = Span(70 * MIB, 71 * MIB)
            reading = asyncio.create_task(it.fetch(artifact, tail))
            await eventually(lambda: it.transfers.flights()[0].riders == 2, "the client rides")
            it.origin.release()
            assert await reading == it.bytes_of(artifact)[tail.start : tail.stop]
            await prefetched.stored()
        assert it.origin.spans[1].start == tail.start, "the range that was under way ended early for it"
        assert sum(blob.stat().st_size for blob in blobs(tmp_path)) > artifact.size_bytes


async def test_a_client_that_joins_what_is_still_queued_to_be_prefetched_gets_its_piece_first(
    tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics, prefetch_flights=1, connections=1) as it, AsyncExitStack() as prefetching:
        it.origin.hold_at(2 * MIB)
        artifacts = [await it.artifact(80 * MIB, name=f"app/app-{seed}-x86_64", seed=seed) for seed in (1, 2)]
        for artifact in artifacts:
            await prefetching.enter_async_context(it.transfers.open(artifact, Priority.PREFETCH))
        await eventually(lambda: it.origin.read_bytes == 2 * MIB, "the first fetches, the second queues")
        tail = Span(70 * MIB, 71 * MIB)
        reading = asyncio.create_task(it.fetch(artifacts[1], tail))
        await eventually(lambda: len(it.origin.spans) == 2, "the second fetches too")
        assert it.origin.spans[1].start == tail.start
        it.origin.release()
        assert await reading == it.bytes_of(artifacts[1])[tail.start : tail.stop]


async def test_prefetching_goes_on_when_its_client_leaves(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(20 * MIB)
        async with it.transfers.open(artifact, Priority.PREFETCH) as prefetched:
            async with it.transfers.open(artifact) as body:
                assert body.cache is CacheResult.JOINED
            await prefetched.stored()
        assert blobs(tmp_path)


async def test_prefetching_learns_why_its_flight_failed(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics) as it:
        artifact = await it.artifact(5 * MIB)
        it.origin.rotten = {2 * MIB: 9}
        async with it.transfers.open(artifact, Priority.PREFETCH) as prefetched:
            with pytest.raises(PieceMismatch):
                await prefetched.stored()


async def test_prefetching_keeps_to_its_bandwidth_until_a_client_joins(tmp_path: Path, metrics: Metrics) -> None:
    async with world(tmp_path, metrics, prefetch_bandwidth=4 * MIB) as it:
        artifact = await it.artifact(64 * MIB)
        began = time.monotonic()
        async with it.transfers.open(artifact, Priority.PREFETCH) as prefetched:
            await eventually(lambda: it.origin.read_bytes >= 8 * MIB, "two seconds' bytes are here")
            assert time.monotonic() - began >= 1.2, "what is read is paid for afterwards, by two readers"
            assert await it.fetch(artifact) == it.bytes_of(artifact)
            await prefetched.stored()
        assert time.monotonic() - began < 8, "at the prefetching pace it takes 16 s"
