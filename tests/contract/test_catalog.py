"""What the plain catalog says of targets, on a folder and on a bucket of a real MinIO."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from asked import AskedOrigin
from waystation.catalog import lookups
from waystation.catalog.plain import PlainCatalog
from waystation.catalog.vouching import VouchedBy
from waystation.config import CatalogSettings
from waystation.disk import Disk
from waystation.errors import (
    Denied,
    Inconsistent,
    MalformedChecksum,
    NoChecksum,
    NotListable,
    OriginError,
    StoreUnusable,
    TargetChanged,
    TooManyQuestions,
    UnknownTarget,
    Unreachable,
)
from waystation.model import Digest, TargetPath
from waystation.origin.opening import open_origin
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from peers.places import Place
    from waystation.telemetry.metrics import Metrics

TARGET = TargetPath("app/app-0.1.0-x86_64")
BODY, OTHER_BODY = b"the bytes\n" * 1000, b"other bytes\n" * 1000
AWAY = Unreachable("the origin is away")
DENIED = Denied("the origin denies it")


def digest_of(body: bytes) -> Digest:
    return Digest(sha256(body).hexdigest())


def sums_of(body: bytes) -> bytes:
    return f"{digest_of(body)}  app-0.1.0-x86_64\n".encode()


def pieces_of(body: bytes) -> bytes:
    hasher = TreeHasher(len(body))
    hasher.update(body)
    tree, layer = hasher.finish()
    return dump_pieces(PiecesLine(digest_of(body), len(body), tree), layer)


def publish(place: Place, body: bytes, target: str = TARGET, *, pieces: bool = True) -> None:
    place.put(target, body)
    if pieces:
        place.put(f"{target}.pieces", pieces_of(body))
    place.put(f"{target}.sha256", sums_of(body))


class Bench:
    """One origin, a clock, and catalogs that are opened on them one after the other."""

    def __init__(self, origin: AskedOrigin, memory: Path, metrics: Metrics) -> None:
        self.origin = origin
        self.memory = memory
        self.metrics = metrics
        self.now = 1000.0
        self.catalogs: list[PlainCatalog] = []

    async def open(self, disk: Disk | None = None, *, deadline_s: float = 30.0, **settings: Any) -> PlainCatalog:
        """A catalog as a newly started process has it."""
        await self.close()
        catalog = PlainCatalog(
            self.origin,
            memory=self.memory,
            disk=disk or Disk(),
            settings=CatalogSettings(**settings),
            metrics=self.metrics,
            wall=lambda: self.now,
            monotonic=lambda: self.now,
            deadline_s=deadline_s,
        )
        await catalog.load()
        self.catalogs.append(catalog)
        return catalog

    async def close(self) -> None:
        while self.catalogs:
            await self.catalogs.pop().close()

    def later(self) -> None:
        """Let so much time pass that nothing is fresh any more."""
        self.now += 31

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"waystation_{name}", labels) or 0.0


@pytest.fixture
async def bench(place: Place, tmp_path: Path, metrics: Metrics) -> AsyncIterator[Bench]:
    origin = AskedOrigin(open_origin(place.settings, metrics))
    bench = Bench(origin, tmp_path / "catalog.json", metrics)
    yield bench
    origin.speak()
    await bench.close()
    await origin.close()


async def names(found: AsyncIterator[TargetPath]) -> list[str]:
    return [name async for name in found]


# --- what vouches --------------------------------------------------------------------------------


async def test_a_published_target_resolves_to_its_digest_pieces_and_revision(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    artifact = await (await bench.open()).resolve(TARGET)
    found = await bench.origin.inner.head(TARGET)
    hasher = TreeHasher(len(BODY))
    hasher.update(BODY)
    assert artifact.pieces == hasher.finish()[0]
    assert (artifact.target, artifact.key, artifact.digest) == (TARGET, TARGET, digest_of(BODY))
    assert (artifact.size_bytes, artifact.etag, artifact.modified) == (len(BODY), found.etag, found.modified)


async def test_an_unknown_target_costs_one_round_of_three_requests(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    await (await bench.open()).resolve(TARGET)
    assert bench.origin.asked == {f"head {TARGET}": 1, f"get {TARGET}.pieces": 1, f"get {TARGET}.sha256": 1}


async def test_all_three_requests_are_under_way_at_once(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    bench.origin.hush()
    resolving = asyncio.create_task(catalog.resolve(TARGET))
    async with asyncio.timeout(10):
        while bench.origin.total() < 3:
            await asyncio.sleep(0)
    bench.origin.speak()
    assert (await resolving).digest == digest_of(BODY)


@pytest.mark.parametrize("beside", [".sha256", ".pieces"])
async def test_either_file_beside_the_object_vouches_for_it(bench: Bench, place: Place, beside: str) -> None:
    place.put(TARGET, BODY)
    place.put(TARGET + beside, {".sha256": sums_of(BODY), ".pieces": pieces_of(BODY)}[beside])
    artifact = await (await bench.open()).resolve(TARGET)
    assert artifact.digest == digest_of(BODY)
    assert (artifact.pieces is not None) == (beside == ".pieces")


async def test_a_key_that_the_bucket_already_had_is_a_target_too(bench: Bench, place: Place) -> None:
    name = TargetPath("a/b/c d.tar.gz")
    place.put(name, BODY)
    place.put(f"{name}.sha256", f"{digest_of(BODY)} *c d.tar.gz\n".encode())
    assert (await (await bench.open()).resolve(name)).digest == digest_of(BODY)


async def test_an_empty_object_resolves(bench: Bench, place: Place) -> None:
    publish(place, b"", pieces=False)
    assert (await (await bench.open()).resolve(TARGET)).size_bytes == 0


async def test_a_target_that_the_origin_does_not_have_is_unknown(bench: Bench) -> None:
    catalog = await bench.open()
    with pytest.raises(UnknownTarget, match=f"the origin has no '{TARGET}'"):
        await catalog.resolve(TARGET)


async def test_an_object_without_a_checksum_is_refused_and_the_log_names_adopt(bench: Bench, place: Place) -> None:
    place.put(TARGET, BODY)
    catalog = await bench.open()
    with capture_logs() as logs, pytest.raises(NoChecksum, match="nothing vouches for"):
        await catalog.resolve(TARGET)
    (line,) = logs
    assert (line["event"], line["target"], line["reason"]) == ("target_refused", TARGET, "no_checksum")
    assert "waystation adopt" in line["advice"]
    assert bench.metric("verification_failures_total", where="catalog") == 0


async def test_once_adopted_it_resolves_at_once(bench: Bench, place: Place) -> None:
    place.put(TARGET, BODY)
    catalog = await bench.open()
    with pytest.raises(NoChecksum):
        await catalog.resolve(TARGET)
    publish(place, BODY)
    assert (await catalog.resolve(TARGET)).digest == digest_of(BODY)


async def test_a_target_that_is_published_after_it_was_asked_for_resolves_at_once(bench: Bench, place: Place) -> None:
    catalog = await bench.open()
    with pytest.raises(UnknownTarget):
        await catalog.resolve(TARGET)
    publish(place, BODY)
    assert (await catalog.resolve(TARGET)).digest == digest_of(BODY)


async def test_files_that_disagree_are_refused_and_counted(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    place.put(f"{TARGET}.sha256", sums_of(OTHER_BODY))
    catalog = await bench.open()
    with pytest.raises(Inconsistent):
        await catalog.resolve(TARGET)
    assert bench.metric("verification_failures_total", where="catalog") == 1


async def test_pieces_of_another_size_are_refused(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    place.put(TARGET, BODY[:-1])
    with pytest.raises(Inconsistent, match="10000 bytes, the object has 9999"):
        await (await bench.open()).resolve(TARGET)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        (f"{TARGET}.sha256", b"<html>not found</html>"),
        (f"{TARGET}.sha256", b"#" * (64 * 1024 + 1)),
        (f"{TARGET}.pieces", b"not pieces"),
        (f"{TARGET}.pieces", b" " * 3_000_000),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_and_counted(
    bench: Bench, place: Place, key: str, body: bytes
) -> None:
    publish(place, BODY)
    place.put(key, body)
    with pytest.raises(MalformedChecksum, match=key):
        await (await bench.open()).resolve(TARGET)
    assert bench.metric("verification_failures_total", where="catalog") == 1


# --- freshness -----------------------------------------------------------------------------------


async def test_within_refresh_the_origin_is_not_asked_again(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open(refresh="30s")
    artifact = await catalog.resolve(TARGET)
    bench.now += 29
    bench.origin.asked.clear()
    assert await catalog.resolve(TARGET) == artifact
    assert bench.origin.total() == 0


async def test_after_refresh_one_head_is_all_that_is_asked(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    artifact = await catalog.resolve(TARGET)
    bench.later()
    bench.origin.asked.clear()
    assert await catalog.resolve(TARGET) == artifact
    assert bench.origin.asked == {f"head {TARGET}": 1}
    await catalog.resolve(TARGET)
    assert bench.origin.asked == {f"head {TARGET}": 1}


async def test_who_wants_it_fresh_gets_it_fresh(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    before = await catalog.resolve(TARGET)
    publish(place, BODY)
    assert await catalog.resolve(TARGET) == before
    after = await catalog.resolve(TARGET, fresh=True)
    assert after.digest == before.digest
    assert after.etag == (await bench.origin.inner.head(TARGET)).etag


async def test_a_known_target_without_pieces_looks_for_them_whenever_it_is_refreshed(
    bench: Bench, place: Place
) -> None:
    publish(place, BODY, pieces=False)
    catalog = await bench.open()
    assert (await catalog.resolve(TARGET)).pieces is None
    place.put(f"{TARGET}.pieces", pieces_of(BODY))
    bench.later()
    assert (await catalog.resolve(TARGET)).pieces is not None


async def test_many_who_ask_at_once_share_one_question(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    for _ in ("unknown", "known"):
        bench.origin.asked.clear()
        async with asyncio.TaskGroup() as group:
            resolving = [group.create_task(catalog.resolve(TARGET)) for _ in range(50)]
        assert {task.result().digest for task in resolving} == {digest_of(BODY)}
        assert bench.origin.asked[f"head {TARGET}"] == 1
        bench.later()


async def test_one_who_leaves_does_not_take_the_answer_from_the_others(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    bench.origin.hush()
    first = asyncio.create_task(catalog.resolve(TARGET))
    await bench.origin.silent.wait()
    second = asyncio.create_task(catalog.resolve(TARGET))
    await asyncio.sleep(0)
    first.cancel()
    bench.origin.speak()
    assert (await second).digest == digest_of(BODY)
    assert bench.origin.asked[f"head {TARGET}"] == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_who_wants_it_fresh_does_not_share_an_older_question(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    bench.later()
    bench.origin.hush()
    older = asyncio.create_task(catalog.resolve(TARGET))
    await bench.origin.silent.wait()
    bench.origin.asked.clear()
    fresh = [asyncio.create_task(catalog.resolve(TARGET, fresh=True)) for _ in range(10)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert bench.origin.total() == 0  # one question at a time: an older answer can't overwrite a newer one
    bench.origin.speak()
    await asyncio.gather(older, *fresh)
    assert bench.origin.asked[f"head {TARGET}"] == 1


# --- an origin without an answer -----------------------------------------------------------------


@pytest.mark.parametrize("fault", [AWAY, DENIED])
async def test_what_is_known_stays_known_while_the_origin_gives_no_answer(
    bench: Bench, place: Place, fault: OriginError
) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    artifact = await catalog.resolve(TARGET)
    bench.later()
    bench.origin.fault = fault
    assert await catalog.resolve(TARGET) == artifact
    assert await catalog.resolve(TARGET, fresh=True) == artifact


@pytest.mark.parametrize("fault", [AWAY, DENIED])
async def test_a_restart_with_the_origin_dead_still_knows_what_was_known(
    bench: Bench, place: Place, fault: OriginError
) -> None:
    publish(place, BODY)
    artifact = await (await bench.open()).resolve(TARGET)
    bench.origin.fault = fault
    catalog = await bench.open()
    assert await catalog.resolve(TARGET) == artifact
    assert catalog.by_digest(artifact.digest) == artifact
    with pytest.raises(type(fault)):
        await catalog.resolve(TargetPath("app/never-seen"))


async def test_an_origin_that_denies_is_never_taken_for_one_that_does_not_have_it(bench: Bench) -> None:
    bench.origin.fault = DENIED
    with pytest.raises(Denied):
        await (await bench.open()).resolve(TARGET)


@pytest.mark.parametrize("beside", [".sha256", ".pieces"])
async def test_a_file_beside_it_that_is_denied_is_not_taken_for_absent(bench: Bench, place: Place, beside: str) -> None:
    publish(place, BODY)
    bench.origin.faults[f"get {TARGET}{beside}"] = DENIED
    with pytest.raises(Denied):
        await (await bench.open()).resolve(TARGET)


async def test_that_the_object_is_missing_weighs_more_than_what_lies_beside_it(bench: Bench) -> None:
    bench.origin.faults = {f"get {TARGET}.sha256": DENIED, f"get {TARGET}.pieces": AWAY}
    with pytest.raises(UnknownTarget):
        await (await bench.open()).resolve(TARGET)


async def test_a_silent_origin_is_waited_for_until_the_deadline_once(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    artifact = await (await bench.open()).resolve(TARGET)
    catalog = await bench.open(deadline_s=0.2)
    bench.origin.hush()
    bench.origin.asked.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await catalog.resolve(TARGET) == artifact
    assert 0.19 < loop.time() - began < 5
    # The question is still out, and its time is over: nobody else waits for it.
    async with asyncio.timeout(2):
        for _ in range(20):
            assert await catalog.resolve(TARGET) == artifact
    assert bench.origin.asked[f"head {TARGET}"] == 1


async def test_a_late_answer_is_not_lost(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    await (await bench.open()).resolve(TARGET)
    catalog = await bench.open(deadline_s=0.01)
    bench.origin.hush()
    publish(place, BODY)
    await catalog.resolve(TARGET)
    bench.origin.speak()
    await asyncio.gather(*catalog._lookups._running)
    bench.origin.asked.clear()
    assert (await catalog.resolve(TARGET)).etag == (await bench.origin.inner.head(TARGET)).etag
    assert bench.origin.total() == 0


async def test_more_names_than_can_be_asked_for_at_once_are_refused_and_what_is_known_is_served(
    bench: Bench, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MOST_AT_ONCE", 3)
    publish(place, BODY)
    catalog = await bench.open()
    known = await catalog.resolve(TARGET)
    bench.later()
    bench.origin.hush()
    for number in range(3):  # each leaves at once, its question stays
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await catalog.resolve(TargetPath(f"app/made-up-{number}"))
    async with asyncio.timeout(10):
        with pytest.raises(TooManyQuestions):
            await catalog.resolve(TargetPath("app/made-up-3"))
        assert await catalog.resolve(TARGET) == known
    joined = asyncio.create_task(catalog.resolve(TargetPath("app/made-up-0")))
    assert not (await asyncio.wait({joined}, timeout=0.01))[0]
    bench.origin.speak()
    with pytest.raises(UnknownTarget):
        await joined
    await asyncio.gather(*catalog._lookups._running)
    with pytest.raises(UnknownTarget):
        await catalog.resolve(TargetPath("app/made-up-3"))


async def test_an_origin_that_just_gave_no_answer_is_not_asked_for_every_request(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    bench.later()
    bench.origin.fault = AWAY
    bench.origin.asked.clear()
    for _ in range(10):
        await catalog.resolve(TARGET)
    assert bench.origin.total() == 1
    bench.now += 5.5
    await catalog.resolve(TARGET)
    assert bench.origin.total() == 2


async def test_requests_that_a_half_open_circuit_held_back_follow_its_probe(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    held_back = Unreachable("one probe at a time", retry_after_s=1.0)
    bench.origin.faults = {f"get {TARGET}.sha256": held_back, f"get {TARGET}.pieces": held_back}
    catalog = await bench.open()
    bench.origin.hush()
    resolving = asyncio.create_task(catalog.resolve(TARGET))
    async with asyncio.timeout(10):
        while bench.origin.total() < 3:
            await asyncio.sleep(0)
        bench.origin.speak()
        while bench.origin.asked[f"head {TARGET}"] < 2:
            await asyncio.sleep(0)
    bench.origin.faults.clear()
    assert (await resolving).digest == digest_of(BODY)


# --- what was once seen --------------------------------------------------------------------------


async def test_a_new_revision_with_the_same_digest_goes_on_with_that_revision(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    before = await catalog.resolve(TARGET)
    publish(place, BODY)
    bench.later()
    after = await catalog.resolve(TARGET)
    found = await bench.origin.inner.head(TARGET)
    assert after == replace(before, etag=found.etag, modified=after.modified)


async def test_a_digest_that_changes_is_refused_until_it_is_forgotten(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    publish(place, OTHER_BODY)
    bench.later()
    said = f"was sha256 {digest_of(BODY)}, the origin now says {digest_of(OTHER_BODY)}"
    with capture_logs() as logs, pytest.raises(TargetChanged, match=said) as refusal:
        await catalog.resolve(TARGET)
    assert [(line["event"], line["reason"]) for line in logs] == [("target_refused", "changed")]
    assert "catalog forget" in refusal.value.advice
    assert bench.metric("verification_failures_total", where="catalog") == 1
    assert catalog.by_digest(digest_of(BODY)) is None
    catalog = await bench.open()
    with pytest.raises(TargetChanged):
        await catalog.resolve(TARGET)
    assert catalog.by_digest(digest_of(BODY)) is None
    assert await catalog.forget(TARGET)
    assert (await catalog.resolve(TARGET)).digest == digest_of(OTHER_BODY)
    assert not await catalog.forget(TargetPath("app/never-seen"))


@pytest.mark.parametrize("fault", [AWAY, DENIED])
async def test_a_change_is_still_refused_when_the_origin_goes_away(
    bench: Bench, place: Place, fault: OriginError
) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    publish(place, OTHER_BODY)
    bench.later()
    with pytest.raises(TargetChanged):
        await catalog.resolve(TARGET)
    bench.origin.fault = fault
    catalog = await bench.open()
    with pytest.raises(TargetChanged):
        await catalog.resolve(TARGET)


async def test_a_change_within_refresh_is_refused_after_a_restart_too(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    await (await bench.open()).resolve(TARGET)
    publish(place, OTHER_BODY)
    catalog = await bench.open()
    with pytest.raises(TargetChanged):
        await catalog.resolve(TARGET)


async def test_an_object_that_is_restored_is_served_again(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    publish(place, OTHER_BODY)
    bench.later()
    with pytest.raises(TargetChanged):
        await catalog.resolve(TARGET)
    publish(place, BODY)
    bench.later()
    assert (await catalog.resolve(TARGET)).digest == digest_of(BODY)


async def test_a_target_that_the_origin_no_longer_has_is_unknown_and_its_digest_remembered(
    bench: Bench, place: Place
) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    place.remove(TARGET)
    bench.later()
    with pytest.raises(UnknownTarget):
        await catalog.resolve(TARGET)
    assert catalog.by_digest(digest_of(BODY)) is None
    bench.origin.fault = AWAY
    catalog = await bench.open()
    with pytest.raises(Unreachable):  # that it is known to be gone is not served as if it were there
        await catalog.resolve(TARGET)
    bench.origin.fault = None
    publish(place, OTHER_BODY)
    with pytest.raises(TargetChanged):
        await catalog.resolve(TARGET)
    publish(place, BODY)
    bench.later()
    assert (await catalog.resolve(TARGET)).digest == digest_of(BODY)


async def test_what_is_forgotten_while_the_origin_is_asked_stays_forgotten(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    publish(place, OTHER_BODY)
    bench.later()
    bench.origin.hush()
    resolving = asyncio.create_task(catalog.resolve(TARGET))
    await bench.origin.silent.wait()
    assert await catalog.forget(TARGET)
    bench.origin.speak()
    assert (await resolving).digest == digest_of(OTHER_BODY)


async def test_a_digest_that_cannot_be_remembered_is_not_released(bench: Bench, place: Place) -> None:
    class FullDisk(Disk):
        def sync(self, fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", fd)

    publish(place, BODY)
    catalog = await bench.open(FullDisk())
    with pytest.raises(StoreUnusable, match="No space left"):
        await catalog.resolve(TARGET)
    assert catalog.by_digest(digest_of(BODY)) is None


async def test_a_damaged_memory_is_no_reason_to_stop(bench: Bench, place: Place) -> None:
    bench.memory.write_bytes(b"\0rubbish")
    publish(place, BODY)
    assert (await (await bench.open()).resolve(TARGET)).digest == digest_of(BODY)


# --- pin-first -----------------------------------------------------------------------------------


async def test_pin_first_reads_an_object_once_and_remembers_its_digest(bench: Bench, place: Place) -> None:
    place.put(TARGET, BODY)
    catalog = await bench.open(missing_checksum="pin-first")
    async with asyncio.TaskGroup() as group:
        resolving = [group.create_task(catalog.resolve(TARGET)) for _ in range(20)]
    assert {task.result().digest for task in resolving} == {digest_of(BODY)}
    bench.later()
    await catalog.resolve(TARGET)
    await (await bench.open(missing_checksum="pin-first")).resolve(TARGET)
    assert bench.origin.asked[f"source {TARGET}"] == 1
    assert bench.metric("verified_bytes_total", where="catalog") == len(BODY)


async def test_pin_first_refuses_other_bytes_and_reads_them_once(bench: Bench, place: Place) -> None:
    place.put(TARGET, BODY)
    catalog = await bench.open(missing_checksum="pin-first")
    await catalog.resolve(TARGET)
    place.put(TARGET, OTHER_BODY)
    for _ in range(3):
        bench.later()
        with pytest.raises(TargetChanged):
            await catalog.resolve(TARGET)
    assert bench.origin.asked[f"source {TARGET}"] == 2
    assert await catalog.forget(TARGET)
    assert (await catalog.resolve(TARGET)).digest == digest_of(OTHER_BODY)


async def test_pin_first_goes_on_with_a_new_revision_of_the_same_bytes(bench: Bench, place: Place) -> None:
    place.put(TARGET, BODY)
    catalog = await bench.open(missing_checksum="pin-first")
    await catalog.resolve(TARGET)
    place.put(TARGET, BODY)
    bench.later()
    assert (await catalog.resolve(TARGET)).etag == (await bench.origin.inner.head(TARGET)).etag


async def test_pin_first_asks_nothing_of_an_object_that_is_vouched_for(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    await (await bench.open(missing_checksum="pin-first")).resolve(TARGET)
    assert bench.origin.asked[f"source {TARGET}"] == 0


async def test_what_only_pin_first_vouched_for_is_refused_where_checksums_are_required(
    bench: Bench, place: Place
) -> None:
    place.put(TARGET, BODY)
    artifact = await (await bench.open(missing_checksum="pin-first")).resolve(TARGET)
    catalog = await bench.open()
    assert catalog.by_digest(artifact.digest) is None
    with pytest.raises(NoChecksum):
        await catalog.resolve(TARGET)
    bench.origin.fault = AWAY
    with pytest.raises(Unreachable):
        await catalog.resolve(TARGET)


async def test_pin_first_reads_again_what_was_replaced_while_it_was_read(
    bench: Bench, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(TARGET, BODY)
    catalog = await bench.open(missing_checksum="pin-first")
    source = bench.origin.source

    async def replaced_meanwhile(key: str, *, if_match: str | None) -> Any:
        monkeypatch.setattr(bench.origin, "source", source)
        place.put(TARGET, OTHER_BODY)
        return await source(key, if_match=if_match)

    monkeypatch.setattr(bench.origin, "source", replaced_meanwhile)
    assert (await catalog.resolve(TARGET)).digest == digest_of(OTHER_BODY)


async def test_while_a_new_revision_is_being_read_its_verdict_is_waited_for(bench: Bench, place: Place) -> None:
    place.put(TARGET, BODY)
    await (await bench.open(missing_checksum="pin-first")).resolve(TARGET)
    place.put(TARGET, OTHER_BODY)
    catalog = await bench.open(missing_checksum="pin-first")
    reading, go = asyncio.Event(), asyncio.Event()
    inner_source = bench.origin.inner.source

    async def slow(key: str, *, if_match: str | None) -> Any:
        reading.set()
        await go.wait()
        return await inner_source(key, if_match=if_match)

    bench.origin.source = slow  # type: ignore[method-assign]  # a slow object, however fast the machine
    first = asyncio.create_task(catalog.resolve(TARGET))
    await reading.wait()
    catalog._lookups._latest[TARGET]._deadline = 0.0  # its time is long over
    second = asyncio.create_task(catalog.resolve(TARGET))
    assert not (await asyncio.wait({second}, timeout=0.05))[0]
    go.set()
    for resolving in (first, second):
        with pytest.raises(TargetChanged):
            await resolving


# --- listing, digests, snapshots -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["app/a-1", "app/a-2", "other/deep/er", "top"]),
        ("app/*", ["app/a-1", "app/a-2"]),
        ("*/*", ["app/a-1", "app/a-2", "other/deep/er"]),
        ("app/a-?", ["app/a-1", "app/a-2"]),
        ("app/a-[2-9]", ["app/a-2"]),
        ("app/a-1", ["app/a-1"]),
        ("other", []),
        ("APP/*", []),
    ],
)
async def test_a_pattern_lists_announced_targets_and_crosses_slashes(
    bench: Bench, place: Place, pattern: str, expected: list[str]
) -> None:
    for name in ("app/a-1", "app/a-2", "other/deep/er"):
        publish(place, BODY, name)
    place.put("top", BODY)
    place.put("metadata/1.root.json", b"{}")
    place.put("app/a-3", BODY)
    place.put("app/a-3.pieces", pieces_of(BODY))  # its publisher is still at work
    assert await names((await bench.open()).list(pattern)) == expected


async def test_only_the_part_of_the_bucket_that_may_match_is_listed(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    await names((await bench.open()).list("app/app-*"))
    assert bench.origin.asked == {"list app/app-": 1}


@pytest.mark.parametrize("fault", [AWAY, DENIED, NotListable("this origin can't list")])
async def test_an_origin_that_cannot_list_says_so(bench: Bench, fault: OriginError) -> None:
    bench.origin.fault = fault
    catalog = await bench.open()
    with pytest.raises(type(fault)):
        await names(catalog.list("*"))


async def test_a_digest_leads_to_the_target_that_was_resolved(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    assert catalog.by_digest(digest_of(BODY)) is None
    artifact = await catalog.resolve(TARGET)
    assert catalog.by_digest(digest_of(BODY)) == artifact


async def test_the_status_and_the_metrics_say_how_much_is_known_and_since_when(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    assert (catalog.status().targets, catalog.status().last_refresh) == (0, None)
    await catalog.resolve(TARGET)
    assert (catalog.status().targets, catalog.status().last_refresh) == (1, bench.now)
    assert bench.metric("catalog_targets") == 1
    assert bench.metric("catalog_last_refresh_timestamp_seconds") == bench.now
    resolved_at = bench.now
    bench.later()
    bench.origin.fault = AWAY
    await catalog.resolve(TARGET)
    assert catalog.status().last_refresh == resolved_at
    catalog = await bench.open()
    assert (catalog.status().mode, catalog.status().targets) == ("plain", 1)
    await catalog.forget(TARGET)
    assert bench.metric("catalog_targets") == 0


async def test_closing_ends_a_question_that_is_still_out(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    bench.origin.hush()
    resolving = asyncio.create_task(catalog.resolve(TARGET))
    await bench.origin.silent.wait()
    async with asyncio.timeout(5):
        await catalog.close()
    await asyncio.wait({resolving}, timeout=5)
    assert resolving.cancelled()


# --- looking without touching --------------------------------------------------------------------


async def test_looking_says_what_resolving_would_and_remembers_nothing(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    seen = await catalog.look(TARGET)
    assert (seen.before, seen.refusal) == (None, None)
    assert catalog.recall(TARGET) is None
    assert seen.now is not None
    assert seen.now.artifact == await catalog.resolve(TARGET)
    assert seen.now.vouched_by is VouchedBy.BOTH


async def test_looking_at_what_is_fresh_asks_nobody_and_says_for_how_long(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    asked = bench.origin.total()
    bench.now += 10
    seen = await catalog.look(TARGET)
    assert (seen.fresh_for_s, seen.now, bench.origin.total()) == (20, catalog.recall(TARGET), asked)


@pytest.mark.parametrize("trouble", [AWAY, DENIED])
async def test_looking_while_the_origin_gives_no_answer_says_that_what_is_known_holds(
    bench: Bench, place: Place, trouble: OriginError
) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    bench.later()
    bench.origin.fault = trouble
    seen = await catalog.look(TARGET)
    assert (seen.now, seen.not_refreshed, seen.refusal) == (catalog.recall(TARGET), trouble, None)
    assert (await catalog.look(TargetPath("app/never-seen"))).refusal is trouble


async def test_looking_at_what_is_known_does_not_wait_long_for_a_silent_origin(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open(deadline_s=0.1)
    await catalog.resolve(TARGET)
    bench.later()
    bench.origin.hush()
    seen = await catalog.look(TARGET)
    assert isinstance(seen.not_refreshed, Unreachable)
    assert seen.now == catalog.recall(TARGET)


async def test_looking_at_what_changed_or_went_away_leaves_what_was_known(bench: Bench, place: Place) -> None:
    publish(place, BODY)
    catalog = await bench.open()
    await catalog.resolve(TARGET)
    known = catalog.recall(TARGET)
    bench.later()
    publish(place, OTHER_BODY)
    assert isinstance((await catalog.look(TARGET)).refusal, TargetChanged)
    place.remove(TARGET)
    seen = await catalog.look(TARGET)
    assert (type(seen.refusal), seen.before, catalog.recall(TARGET)) == (UnknownTarget, known, known)


async def test_looking_at_what_would_be_pinned_reads_nothing_of_it(bench: Bench, place: Place) -> None:
    place.put(TARGET, BODY)
    catalog = await bench.open(missing_checksum="pin-first")
    seen = await catalog.look(TARGET)
    assert (seen.unread_bytes, seen.now, seen.refusal) == (len(BODY), None, None)
    assert bench.origin.asked[f"source {TARGET}"] == 0
    await catalog.resolve(TARGET)
    bench.later()
    assert (again := (await catalog.look(TARGET)).now) is not None
    assert again.vouched_by is VouchedBy.READING


@pytest.mark.parametrize("pieces", [True, False])
async def test_a_listing_answers_for_every_known_target_that_is_as_it_was(
    bench: Bench, place: Place, pieces: bool
) -> None:
    publish(place, BODY, pieces=pieces)
    catalog = await bench.open(refresh=30)
    artifact = await catalog.resolve(TARGET)
    bench.now += 31
    bench.origin.asked.clear()
    assert await names(catalog.list("app/*")) == [TARGET]
    bench.now += 29
    assert await catalog.resolve(TARGET) == artifact
    assert catalog.standing(TARGET) == artifact
    assert dict(bench.origin.asked) == {"list app/": 1}


async def test_a_target_that_is_listed_with_another_revision_is_asked_for_again_however_fresh(
    bench: Bench, place: Place
) -> None:
    publish(place, BODY)
    catalog = await bench.open(refresh=30)
    await catalog.resolve(TARGET)
    place.put(TARGET, OTHER_BODY)
    await names(catalog.list("*"))
    assert catalog.standing(TARGET) is None
    bench.origin.asked.clear()
    with pytest.raises(Inconsistent):
        await catalog.resolve(TARGET)
    assert bench.origin.asked[f"head {TARGET}"] == 1


async def test_pieces_that_were_added_are_noticed_by_the_listing(bench: Bench, place: Place) -> None:
    publish(place, BODY, pieces=False)
    catalog = await bench.open(refresh=30)
    assert (await catalog.resolve(TARGET)).pieces is None
    place.put(f"{TARGET}.pieces", pieces_of(BODY))
    await names(catalog.list("*"))
    assert catalog.standing(TARGET) is None
    assert (await catalog.resolve(TARGET)).pieces is not None
    assert catalog.standing(TARGET) is not None


async def test_what_stands_for_a_name_is_told_without_asking_and_not_once_it_is_withdrawn(
    bench: Bench, place: Place
) -> None:
    publish(place, BODY)
    catalog = await bench.open(refresh=0)
    assert catalog.standing(TARGET) is None
    artifact = await catalog.resolve(TARGET)
    bench.origin.fault = AWAY
    assert catalog.standing(TARGET) == artifact
    bench.origin.fault = None
    place.remove(TARGET)
    with pytest.raises(UnknownTarget):
        await catalog.resolve(TARGET)
    assert catalog.standing(TARGET) is None
