"""What prefetching promises, on a real folder as origin, with a real catalog, store and transfers."""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest

from asked import AskedOrigin
from faults import FaultyOrigin
from waystation.catalog.plain import PlainCatalog
from waystation.config import OriginSettings, PrefetchSettings, Settings, StoreSettings, TransferSettings
from waystation.disk import Disk
from waystation.errors import Unreachable
from waystation.model import Digest, TargetPath
from waystation.origin.directory import DirectoryOrigin
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces
from waystation.prefetch import poller, queue
from waystation.prefetch.prefetcher import OWNER, Prefetcher
from waystation.store.disk_store import DiskStore
from waystation.telemetry.metrics import Metrics
from waystation.transfer.flights import Flights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

MIB = 1024 * 1024
REFRESH_S = 0.2
AWAY = Unreachable("the origin is away")


def name(version: str, arch: str = "x86_64", app: str = "app") -> TargetPath:
    return TargetPath(f"{app}/{app}-{version}-{arch}")


@dataclass
class World:
    """Prefetching over real parts; started as often as wanted, always on one store."""

    folder: Path
    subscriptions: list[PrefetchSettings]
    max_size: int
    settings: Settings = field(init=False)
    origin: AskedOrigin = field(init=False)
    faults: FaultyOrigin = field(init=False)
    store: DiskStore = field(init=False)
    catalog: PlainCatalog = field(init=False)
    transfers: Flights = field(init=False)
    prefetch: Prefetcher = field(init=False)
    metrics: Metrics = field(init=False)

    @property
    def root(self) -> Path:
        return self.folder / "origin"

    def publish(self, target: TargetPath, size_bytes: int = 3 * MIB, *, seed: object = None) -> Digest:
        data = random.Random(str(seed or target)).randbytes(size_bytes)
        path = self.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = sha256(data).hexdigest()
        hasher = TreeHasher(size_bytes, MIB)
        hasher.update(data)
        tree, layer = hasher.finish()
        path.with_name(f"{path.name}.pieces").write_bytes(dump_pieces(PiecesLine(digest, size_bytes, tree), layer))
        path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
        return Digest(digest)

    def withdraw(self, target: TargetPath) -> None:
        for path in (self.root / target).parent.glob(f"{(self.root / target).name}*"):
            path.unlink()

    @asynccontextmanager
    async def running(self, *, prefetching: bool = True) -> AsyncIterator[World]:
        self.root.mkdir(parents=True, exist_ok=True)
        self.metrics = Metrics()
        self.settings = settings = Settings.model_validate(
            {
                "origin": OriginSettings(url=self.root.as_uri()),
                "catalog": {"refresh": REFRESH_S},
                "store": StoreSettings(path=self.folder / "store", max_size=self.max_size, min_free=0),
                "transfer": TransferSettings(prefetch_flights=2),
                "prefetch": self.subscriptions,
            }
        )
        self.faults = FaultyOrigin(DirectoryOrigin(self.root, disk=Disk()))
        self.origin = AskedOrigin(self.faults)
        self.store = DiskStore(settings.store, disk=Disk(), metrics=self.metrics)
        await self.store.recover()
        self.catalog = PlainCatalog(
            self.origin,
            memory=self.folder / "store/catalog.json",
            disk=Disk(),
            settings=settings.catalog,
            metrics=self.metrics,
        )
        await self.catalog.load()
        self.transfers = Flights(self.origin, self.store, settings=settings.transfer, metrics=self.metrics)
        self.prefetch = Prefetcher(
            settings,
            DirectoryOrigin(self.root, disk=Disk()),
            self.catalog,
            self.store,
            self.transfers,
            metrics=self.metrics,
            arch="x86_64",
        )
        running = asyncio.create_task(self.prefetch.run()) if prefetching else None
        try:
            yield self
            assert running is None or not running.done()
        finally:
            self.faults.release()
            if running:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
            await self.transfers.close()
            await self.catalog.close()
            await self.store.close()

    def stored(self) -> set[str]:
        return set(self.store.digests())

    def pinned(self) -> frozenset[Digest]:
        return self.store.pins().get(OWNER, frozenset())

    def metric(self, line: str) -> float:
        for sample in generate_latest(self.metrics.registry).decode().splitlines():
            if sample.startswith(f"waystation_{line} "):
                return float(sample.rpartition(" ")[2])
        return 0.0


def world(tmp_path: Path, *subscriptions: tuple[str, int], max_size: int = 1024 * MIB) -> World:
    settings = [PrefetchSettings(match=match, newest=newest) for match, newest in subscriptions or [("app/*", 2)]]
    return World(tmp_path, settings, max_size)


def is_stored(it: World, digest: Digest) -> bool:
    return digest in it.stored()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a refresh be shorter than any that a person would set."""
    monkeypatch.setattr(poller, "SHORTEST_PAUSE_S", 0.1)


async def eventually(condition: Callable[[], object], what: str, *, within_s: float = 10.0) -> None:
    began = asyncio.get_running_loop().time()
    while not condition():
        assert asyncio.get_running_loop().time() < began + within_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.002)


async def test_the_newest_versions_for_this_machine_are_fetched_and_pinned(tmp_path: Path) -> None:
    async with world(tmp_path).running() as it:
        it.publish(name("0.2.0"))
        nine, ten = it.publish(name("0.9.0")), it.publish(name("0.10.0"))
        it.publish(name("0.11.0", "aarch64"))
        it.publish(name("5.0.0", app="other"))
        await eventually(lambda: it.stored() == {nine, ten}, "both are here")
        await eventually(lambda: it.metric('wanted_targets{state="ready"}') == 2, "both are counted")
        assert it.pinned() == {nine, ten}
        assert it.metric('wanted_targets{state="missing"}') == it.metric('wanted_targets{state="fetching"}') == 0
        assert it.metric('prefetch_total{outcome="fetched"}') == 2
        assert it.metric("prefetch_lag_seconds") == 0


async def test_the_newest_version_comes_first(tmp_path: Path) -> None:
    it = world(tmp_path, ("app/*", 9))
    for minor in range(9):
        it.publish(name(f"1.{minor}"))
    async with it.running():
        it.faults.hold_at(MIB)
        await eventually(lambda: len(it.transfers.flights()) == 2, "the prefetching slots are full")
        assert {flight.target for flight in it.transfers.flights()} == {name("1.8"), name("1.7")}
        queued = [each.target for each in it.prefetch.status().missing if each.state == "queued"]
        assert queued == [name(f"1.{minor}") for minor in range(6, -1, -1)]


async def test_when_nothing_changes_a_refresh_is_one_listing_for_all_subscriptions(tmp_path: Path) -> None:
    async with world(tmp_path, ("app/*", 1), ("app/app-0*", 3)).running() as it:
        digests = {it.publish(name(f"0.{minor}.0")) for minor in range(4)}
        await eventually(lambda: len(it.stored()) == 3, "the newest three are here")
        assert it.stored() < digests
        await eventually(lambda: it.metric('wanted_targets{state="ready"}') == 3, "all is settled")
        it.origin.asked.clear()
        await eventually(lambda: it.origin.asked["list app/"] >= 4, "some refreshes went by")
        assert set(it.origin.asked) == {"list app/"}


async def test_a_newer_version_takes_the_pin_of_the_older_once_it_is_here(tmp_path: Path) -> None:
    async with world(tmp_path, ("app/*", 1)).running() as it:
        old = it.publish(name("1.0"))
        await eventually(lambda: it.pinned() == {old} and it.stored() == {old}, "the first is here")
        it.faults.hold_at(MIB)
        new = it.publish(name("2.0"))
        await eventually(lambda: new in it.pinned(), "the second is on its way")
        await eventually(lambda: it.faults.read_bytes > 3 * MIB, "it is being fetched")
        assert it.pinned() == {old, new}, "until the new one is here, the old one must not go"
        it.faults.release()
        await eventually(lambda: it.pinned() == {new}, "the old one is let go")
        assert it.stored() == {old, new}, "which does not evict it yet"


async def test_where_the_store_has_room_for_one_version_alone_the_older_makes_it_for_the_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "FIRST_WAIT_S", 600.0)  # nobody waits for it: room is what it waits for
    async with world(tmp_path, ("app/*", 1), max_size=5 * MIB).running() as it:
        old = it.publish(name("1.0"))
        await eventually(lambda: it.pinned() == {old} and it.stored() == {old}, "the first is here")
        new = it.publish(name("2.0"))
        await eventually(lambda: it.stored() == {new}, "the second took its place")
        await eventually(lambda: it.pinned() == {new}, "and its pin")
        too_large = it.publish(name("3.0"), 6 * MIB)
        await eventually(lambda: [each.reason for each in it.prefetch.status().missing] == ["no_room"], "no room")
        settled = it.prefetch.status().last_poll or 0.0
        await eventually(lambda: (it.prefetch.status().last_poll or 0.0) > settled + REFRESH_S, "two more polls")
        assert it.pinned() == {new, too_large}, "which does not take the room of the one that is here"
        assert it.stored() == {new}


@pytest.mark.parametrize("way", ["unpin", "evict", "raise max_size"])
async def test_what_found_no_room_is_tried_again_as_soon_as_somebody_makes_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(queue, "FIRST_WAIT_S", 600.0)
    async with world(tmp_path, ("app/*", 1), max_size=5 * MIB).running() as it:
        other = it.publish(name("1.0", app="other"))
        await it.store.pin("operator", frozenset({other}))
        asked = it.prefetch.fetcher.ask(await it.catalog.resolve(name("1.0", app="other")))
        await eventually(lambda: asked.outcome, "an operator's own is here")
        digest = it.publish(name("1.0"))
        await eventually(lambda: [each.reason for each in it.prefetch.status().missing] == ["no_room"], "no room")
        if way == "raise max_size":
            limits = it.settings.store.model_copy(update={"max_size": 1024 * MIB})
            settings = it.settings.model_copy(update={"store": limits})
            it.store.reload(settings)
            it.prefetch.reload(settings)
        else:
            await it.store.pin("operator", frozenset())
            if way == "unpin":
                it.prefetch.look()
            else:
                await it.store.evict(other)
        await eventually(partial(is_stored, it, digest), "it has room now")


async def test_a_withdrawn_version_loses_its_pin_and_the_next_newest_comes(tmp_path: Path) -> None:
    async with world(tmp_path, ("app/*", 1)).running() as it:
        one = it.publish(name("1.0"))
        two = it.publish(name("2.0"))
        await eventually(lambda: it.pinned() == {two}, "the newest is pinned")
        it.withdraw(name("2.0"))
        await eventually(lambda: it.pinned() == {one} and one in it.stored(), "the one before it took its place")


async def test_a_listing_that_shows_too_little_unpins_nothing_that_the_origin_still_has(tmp_path: Path) -> None:
    async with world(tmp_path).running() as it:
        both = {it.publish(name("1.0")), it.publish(name("2.0"))}
        await eventually(lambda: it.pinned() == both == it.stored(), "both are here")
        it.origin.lists_nothing = True
        it.origin.asked.clear()
        await eventually(lambda: it.origin.asked["list app/"] >= 3, "some empty listings came")
        assert it.pinned() == both
        it.origin.lists_nothing = False
        third = it.publish(name("3.0"))
        await eventually(lambda: third in it.stored(), "it goes on as before")


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_origin_that_can_not_be_asked_unpins_nothing(tmp_path: Path, restarted: bool) -> None:
    it = world(tmp_path)
    async with it.running():
        both = {it.publish(name("1.0")), it.publish(name("2.0"))}
        await eventually(lambda: it.pinned() == both == it.stored(), "both are here")
        if not restarted:
            it.origin.fault = AWAY
            await eventually(lambda: it.prefetch.status().poll_trouble, "a poll failed")
            assert it.pinned() == both
    if restarted:
        it.withdraw(name("1.0"))
        it.withdraw(name("2.0"))
        it.root.rename(it.folder / "elsewhere")
        async with it.running(prefetching=False):
            it.origin.fault = AWAY
            assert it.pinned() == both, "they are there before anything else starts"
            running = asyncio.create_task(it.prefetch.run())
            await eventually(lambda: it.prefetch.status().poll_trouble, "a poll failed")
            assert it.pinned() == both
            assert it.metric('wanted_targets{state="ready"}') == 2
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def test_a_subscription_that_is_taken_away_gives_its_pins_back(tmp_path: Path) -> None:
    it = world(tmp_path)
    async with it.running():
        digest = it.publish(name("1.0"))
        await eventually(lambda: it.pinned() == {digest}, "it is pinned")
    it.subscriptions = []
    async with it.running():
        await eventually(lambda: not it.pinned(), "nothing is")


async def test_what_the_disk_lost_and_someone_pins_is_fetched_again_without_a_client(tmp_path: Path) -> None:
    async with world(tmp_path, ("app/*", 1)).running() as it:
        digest = it.publish(name("1.0"))
        other = it.publish(name("1.0", app="other"))
        await eventually(lambda: it.stored() == {digest}, "the subscribed one is here")
        await it.catalog.resolve(name("1.0", app="other"))
        await it.store.pin("operator", frozenset({other}))
        it.prefetch.look()
        await eventually(lambda: it.stored() == {digest, other}, "what a person pinned came too")
        for lost in (digest, other):
            before = it.faults.read_bytes
            blob = next(path for path in (it.folder / "store/blobs").rglob(lost))
            with blob.open("r+b") as file:
                file.seek(MIB + 5)
                file.write(b"rot")
            assert not await it.store.verify(lost)
            assert lost not in it.stored()
            await eventually(partial(is_stored, it, lost), "it was repaired")
            assert it.faults.read_bytes - before == MIB, "one piece was asked for"


async def test_while_the_disk_is_short_of_room_nothing_is_prefetched(tmp_path: Path) -> None:
    it = world(tmp_path)
    async with it.running() as it:
        free = it.store.status().free_bytes
        it.store._index.min_free_bytes = free * 2
        digest = it.publish(name("1.0"))
        await eventually(lambda: it.prefetch.status().missing, "it is wanted")
        assert it.prefetch.status().paused_because
        assert it.metric("prefetch_queue_length") == 1
        assert it.stored() == set()
        it.store._index.min_free_bytes = 0
        it.prefetch.look()
        await eventually(lambda: it.stored() == {digest}, "there is room again")


async def test_a_target_that_can_not_be_fetched_holds_up_no_other(tmp_path: Path) -> None:
    async with world(tmp_path, ("app/*", 3)).running() as it:
        it.publish(name("3.0"))
        (it.root / name("3.0")).write_bytes(b"something else")
        good = {it.publish(name("2.0")), it.publish(name("1.0"))}
        await eventually(lambda: it.metric('wanted_targets{state="ready"}') == 2, "the others are here")
        assert it.stored() == good
        await eventually(
            lambda: [each.reason for each in it.prefetch.status().missing] == ["inconsistent"], "it failed"
        )
        (missing,) = it.prefetch.status().missing
        assert (missing.target, missing.state) == (name("3.0"), "failed")
        assert it.metric('wanted_targets{state="missing"}') == 1


async def test_an_origin_that_is_away_is_asked_for_one_target_at_a_time_and_ever_more_seldom(tmp_path: Path) -> None:
    async with world(tmp_path, ("app/*", 30)).running() as it:
        digests = {it.publish(name(f"1.{minor}"), 1000) for minor in range(30)}
        it.origin.faults = {f"get {name(f'1.{minor}')}.pieces": AWAY for minor in range(30)}
        await eventually(lambda: it.prefetch.status().missing, "they are wanted")
        await asyncio.sleep(1.2)
        asked = sum(count for call, count in it.origin.asked.items() if call.startswith("head"))
        assert asked <= 4, "two flights at first, then one after a pause"
        it.origin.faults = {}
        await eventually(lambda: it.stored() == digests, "it recovers by itself")


async def test_what_is_asked_for_by_hand_goes_first_and_tells_what_came_of_it(tmp_path: Path) -> None:
    async with world(tmp_path, ("app/*", 9)).running() as it:
        for minor in range(6):
            it.publish(name(f"1.{minor}"), 30 * MIB)
        wanted = it.publish(name("1.0", app="other"))
        it.faults.hold_at(4 * MIB)
        await eventually(lambda: len(it.transfers.flights()) == 2, "the prefetching slots are full")
        artifact = await it.catalog.resolve(name("1.0", app="other"))
        asked = it.prefetch.fetcher.ask(artifact)
        assert it.prefetch.fetcher.ask(artifact) is asked
        await eventually(lambda: asked.outcome, "it came")
        assert asked.outcome == "fetched"
        assert it.stored() == {wanted}
        assert wanted not in it.pinned()
        again = it.prefetch.fetcher.ask(artifact)
        await eventually(lambda: again.outcome, "it is here")
        assert again.outcome == "here"


async def test_the_lag_is_since_a_target_was_published_or_lost(tmp_path: Path) -> None:
    async with world(tmp_path).running() as it:
        it.faults.hold_at(MIB)
        digest = it.publish(name("1.0"))
        path = it.root / name("1.0")
        os.utime(path, (time.time() - 500, time.time() - 500))
        await eventually(lambda: it.prefetch.status().missing and it.transfers.flights(), "it is on its way")
        await eventually(lambda: it.metric("prefetch_lag_seconds") > 400, "published long ago")
        assert it.metric("prefetch_lag_seconds") < 510
        it.faults.release()
        await eventually(lambda: it.stored() == {digest}, "it is here")
        await eventually(lambda: it.metric("prefetch_lag_seconds") == 0, "no lag")
        await it.store.distrust(digest, "a test says so")
        it.faults.hold_at(0)
        await eventually(lambda: it.prefetch.status().missing, "it is being fetched again")
        assert it.metric("prefetch_lag_seconds") < 5
