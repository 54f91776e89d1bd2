"""Deadlines, retries and the circuit around an origin that fails on demand; the breaker's time is the test's own."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from waystation.config import OriginSettings
from waystation.errors import Denied, Missing, NotListable, OriginError, RevisionChanged, Short, TooLarge, Unreachable
from waystation.model import Span
from waystation.origin.breaker import FAILURES_TO_OPEN, FIRST_WAIT_S
from waystation.origin.interface import ObjectInfo
from waystation.origin.resilient import ResilientOrigin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from waystation.origin.interface import Reader, Source
    from waystation.telemetry.metrics import Metrics

NEVER = asyncio.Event  # a call that meets one of these waits for good


class Away(Unreachable):
    def __init__(self) -> None:
        super().__init__("no route to it", advice="Plug it in.")


def info(key: str) -> ObjectInfo:
    return ObjectInfo(key, 4, '"e"', datetime(2026, 1, 1, tzinfo=UTC), None, None)


class Pause(Unreachable):
    """Unreachable, after something happened."""

    def __init__(self, happening: Callable[[], None]) -> None:
        super().__init__("after a pause")
        self.happening = happening


@dataclass
class ScriptedOrigin:
    """Each call meets the next of `faults`: an error to raise, NEVER to hang, None to answer; then it answers."""

    faults: list[OriginError | type[asyncio.Event] | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    async def _meet(self, call: str) -> None:
        self.asked.append(call)
        fault = self.faults.pop(0) if self.faults else None
        if fault is NEVER:
            await asyncio.Event().wait()
        if isinstance(fault, Pause):
            fault.happening()
        if isinstance(fault, OriginError):
            raise fault

    async def head(self, key: str) -> ObjectInfo:
        await self._meet("head")
        return info(key)

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        await self._meet("get")
        return info(key), b"body"[:limit_bytes]

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:  # noqa: ARG002 - the origin's
        for name in ("a", "b", "c"):
            await self._meet(f"list {name}")
            yield info(prefix + name)

    async def source(self, key: str, *, if_match: str | None) -> Source:
        self.asked.append(f"source {key} {if_match}")
        return ScriptedSource(self)

    @asynccontextmanager
    async def changes(self, prefix: str) -> AsyncIterator[AsyncIterator[str]]:
        await self._meet("changes")

        async def keys() -> AsyncIterator[str]:
            yield f"{prefix}a"
            await self._meet("changes go on")

        yield keys()

    async def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedSource:
    origin: ScriptedOrigin
    closed: bool = False

    @contextmanager
    def read(self, span: Span) -> Iterator[Reader]:
        self.origin.asked.append(f"range {span.start}-{span.stop}")
        yield ScriptedReader(self.origin)

    def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedReader:
    origin: ScriptedOrigin
    aborted: bool = False

    def readinto(self, buffer: memoryview) -> int:
        fault = self.origin.faults.pop(0) if self.origin.faults else None
        if isinstance(fault, OriginError):
            raise fault
        return len(buffer)

    def abort(self) -> None:
        self.aborted = True


class Clock:
    """Starts at the real time and goes on with it, but jumps where a test says so."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass
class World:
    inner: ScriptedOrigin
    origin: ResilientOrigin
    clock: Clock
    metrics: Metrics

    def count(self, op: str, outcome: str) -> float:
        return (
            self.metrics.registry.get_sample_value("waystation_origin_requests_total", {"op": op, "outcome": outcome})
            or 0.0
        )

    @property
    def up(self) -> float | None:
        return self.metrics.registry.get_sample_value("waystation_origin_up")

    async def open_circuit(self) -> None:
        self.inner.faults = [Away() for _ in range(FAILURES_TO_OPEN)]
        while self.inner.faults:
            with pytest.raises(Unreachable):
                await self.origin.head("key")
        self.inner.asked.clear()

    def wait_for_probe(self) -> None:
        self.clock.ahead_s += self.origin.status().retry_after_s or 0.0


@pytest.fixture
def world(metrics: Metrics) -> World:
    return make_world(metrics, OriginSettings(attempts=3, request_timeout=5, connect_timeout=1))


def make_world(metrics: Metrics, settings: OriginSettings) -> World:
    inner, clock = ScriptedOrigin(), Clock()
    origin = ResilientOrigin(
        inner, url="s3://bucket", settings=settings, metrics=metrics, monotonic=clock, randomly=lambda: 0.0
    )
    return World(inner, origin, clock, metrics)


def read(source: Source, *, first: Callable[[Reader], None] = lambda _: None) -> int:
    with source.read(Span(0, 4)) as reader:
        first(reader)
        return reader.readinto(memoryview(bytearray(4)))


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Away(), Short("half of it")])
async def test_a_transient_error_is_tried_again(world: World, fault: OriginError) -> None:
    world.inner.faults = [fault, fault]
    assert await world.origin.get("key", limit_bytes=10) == (info("key"), b"body")
    assert world.inner.asked == ["get"] * 3
    assert world.count("get", fault.reason) == 2
    assert world.count("get", "ok") == 1
    assert world.metrics.registry.get_sample_value("waystation_origin_bytes_total") == 4


@pytest.mark.parametrize("fault", [Missing("no"), Denied("no"), TooLarge("no"), RevisionChanged("no")])
async def test_a_definite_answer_is_final(world: World, fault: OriginError) -> None:
    world.inner.faults = [fault]
    with pytest.raises(type(fault)):
        await world.origin.head("key")
    assert world.inner.asked == ["head"]
    assert world.count("head", fault.reason) == 1
    assert world.origin.status().up is True


async def test_attempts_are_bounded(metrics: Metrics) -> None:
    world = make_world(metrics, OriginSettings(attempts=2))
    world.inner.faults = [Away() for _ in range(10)]
    with pytest.raises(Unreachable, match="no route to it"):
        await world.origin.head("key")
    assert len(world.inner.asked) == 2


async def test_retries_wait_at_random_so_that_many_do_not_come_back_as_one(metrics: Metrics) -> None:
    waits: list[float] = []

    def randomly() -> float:
        waits.append(time.monotonic())
        return 1.0

    inner = ScriptedOrigin(faults=[Away(), Away()])
    settings = OriginSettings(attempts=3)
    origin = ResilientOrigin(inner, url="x", settings=settings, metrics=metrics, randomly=randomly)
    began = time.monotonic()
    await origin.head("key")
    assert 0.5 < time.monotonic() - began < 3  # 0.2 and 0.4 s at the most
    assert len(waits) == 2


# --- deadlines -----------------------------------------------------------------------------------


async def test_a_silent_origin_is_unreachable_at_the_deadline(metrics: Metrics) -> None:
    world = make_world(metrics, OriginSettings(request_timeout=0.1, connect_timeout=0.05))
    world.inner.faults = [NEVER]
    with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
        await world.origin.head("key")
    assert world.count("head", "origin_unreachable") == 1


async def test_the_deadline_holds_for_all_attempts_together(metrics: Metrics) -> None:
    world = make_world(metrics, OriginSettings(request_timeout=60, connect_timeout=50, attempts=10))

    def almost_a_minute() -> None:
        world.clock.ahead_s += 59.8

    world.inner.faults = [Pause(almost_a_minute), NEVER]
    with pytest.raises(Unreachable):
        async with asyncio.timeout(10):
            await world.origin.head("key")
    assert world.inner.asked == ["head"] * 2


async def test_a_caller_that_leaves_soon_says_nothing_of_the_origin(world: World) -> None:
    for _ in range(FAILURES_TO_OPEN * 2):
        world.inner.faults = [NEVER]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await world.origin.head("key")
    assert world.origin.status().circuit == "closed"
    assert world.origin.status().up is None
    assert world.count("head", "gave_up") == FAILURES_TO_OPEN * 2


async def test_callers_that_leave_after_long_silence_open_the_circuit(world: World) -> None:
    for _ in range(FAILURES_TO_OPEN):
        world.inner.faults = [NEVER]
        asking = asyncio.create_task(world.origin.head("key"))
        while not world.inner.asked:
            await asyncio.sleep(0)
        world.inner.asked.clear()
        world.clock.ahead_s += 1.5
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert world.origin.status().circuit == "open"


# --- the circuit ---------------------------------------------------------------------------------


async def test_an_open_circuit_refuses_at_once_and_says_when_to_come_back(world: World) -> None:
    await world.open_circuit()
    for call in (
        world.origin.head("key"),
        world.origin.get("key", limit_bytes=1),
        world.origin.source("key", if_match=None),
    ):
        with pytest.raises(Unreachable, match="no route to it") as refused:
            await call
        assert 0 < (refused.value.retry_after_s or 0) <= FIRST_WAIT_S
        assert refused.value.advice == "Plug it in."
    with pytest.raises(Unreachable):
        await anext(aiter(world.origin.list("")))
    assert world.inner.asked == []


async def test_the_status_and_the_gauge_tell_of_it(world: World) -> None:
    assert (world.origin.status().up, world.origin.status().circuit) == (None, "closed")
    await world.origin.head("key")
    assert (world.origin.status().up, world.up) == (True, 1)
    await world.open_circuit()
    status = world.origin.status()
    assert (status.url, status.up, status.circuit, status.last_error) == (
        "s3://bucket",
        False,
        "open",
        "no route to it",
    )
    assert world.up == 0
    world.wait_for_probe()
    assert world.origin.status().circuit == "half-open"
    await world.origin.head("key")
    status = world.origin.status()
    assert (status.up, status.circuit, status.last_error, status.retry_after_s) == (True, "closed", None, None)
    assert world.up == 1


async def test_half_open_one_probe_asks_while_others_are_refused(world: World) -> None:
    await world.open_circuit()
    world.wait_for_probe()
    world.inner.faults = [NEVER]
    probe = asyncio.create_task(world.origin.head("key"))
    while not world.inner.asked:
        await asyncio.sleep(0)
    with pytest.raises(Unreachable):
        await world.origin.head("key")
    assert world.inner.asked == ["head"]
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await world.origin.head("key") == info("key")  # a probe given up lets another try


async def test_a_failed_probe_is_not_tried_again_at_once(world: World) -> None:
    await world.open_circuit()
    world.wait_for_probe()
    world.inner.faults = [Away() for _ in range(5)]
    with pytest.raises(Unreachable, match=r"^no route to it$") as failed:
        await world.origin.head("key")
    assert world.inner.asked == ["head"]
    assert world.origin.status().circuit == "open"
    assert failed.value.retry_after_s == pytest.approx(world.origin.status().retry_after_s, abs=0.5)


async def test_any_definite_answer_closes_it(world: World) -> None:
    await world.open_circuit()
    world.wait_for_probe()
    world.inner.faults = [Missing("no such key")]
    with pytest.raises(Missing):
        await world.origin.head("key")
    assert world.origin.status().circuit == "closed"


# --- list ----------------------------------------------------------------------------------------


async def test_only_the_first_step_of_a_list_is_tried_again(world: World) -> None:
    world.inner.faults = [Away(), None, None, Away()]
    listing = aiter(world.origin.list("x/"))
    assert (await anext(listing)).key == "x/a"
    assert (await anext(listing)).key == "x/b"
    with pytest.raises(Unreachable):
        await anext(listing)
    assert world.inner.asked == ["list a", "list a", "list b", "list c"]
    assert world.count("list", "origin_unreachable") == 2
    assert world.count("list", "ok") == 1


async def test_each_step_of_a_list_has_the_deadline(metrics: Metrics) -> None:
    world = make_world(metrics, OriginSettings(request_timeout=0.1))
    world.inner.faults = [None, NEVER]
    listing = aiter(world.origin.list(""))
    assert (await anext(listing)).key == "a"
    with pytest.raises(Unreachable):
        await anext(listing)


# --- ranges --------------------------------------------------------------------------------------


async def test_ranges_are_counted_and_never_tried_again(world: World) -> None:
    source = await world.origin.source("key", if_match='"e"')
    assert world.inner.asked == ['source key "e"']
    world.inner.faults = [None, Away()]
    assert read(source) == 4
    with pytest.raises(Unreachable):
        read(source)
    assert (world.count("range", "ok"), world.count("range", "origin_unreachable")) == (1, 1)
    assert world.inner.asked[1:] == ["range 0-4"] * 2
    assert world.origin.status().up is False


async def test_failing_ranges_open_the_circuit_and_a_good_one_closes_it(world: World) -> None:
    source = await world.origin.source("key", if_match=None)
    for _ in range(FAILURES_TO_OPEN):
        world.inner.faults = [Away()]
        with pytest.raises(Unreachable):
            read(source)
    assert world.origin.status().circuit == "open"
    read(source)
    assert world.origin.status().circuit == "closed"


async def test_an_aborted_or_closed_read_says_nothing_of_the_origin(world: World) -> None:
    source = await world.origin.source("key", if_match=None)
    world.inner.faults = [Away()]
    with pytest.raises(Unreachable):
        read(source, first=lambda reader: reader.abort())
    world.inner.faults = [Away()]
    with pytest.raises(Unreachable):
        read(source, first=lambda _: source.close())
    assert world.count("range", "gave_up") == 2
    assert world.origin.status().up is None


async def test_closing_closes_what_is_inside(world: World) -> None:
    await world.origin.close()
    assert world.inner.closed


# --- opened anew ---------------------------------------------------------------------------------


async def test_what_runs_is_finished_through_the_opening_it_began_with_which_is_closed_behind_it(
    metrics: Metrics,
) -> None:
    before, after = ScriptedOrigin(), ScriptedOrigin()
    settings = OriginSettings(url="s3://bucket")
    origin = ResilientOrigin(before, url=settings.url, settings=settings, metrics=metrics)
    listing = origin.list("")
    await anext(listing)
    origin.renew(after, settings)
    await origin.head("key")
    assert (before.closed, after.asked) == (False, ["head"])
    assert [each.key async for each in listing] == ["b", "c"]
    assert before.asked == ["list a", "list b", "list c"]
    assert (before.closed, after.closed) == (True, False)
    await origin.close()
    assert after.closed


async def test_an_opening_that_nobody_uses_is_closed_with_the_next_call_or_with_the_origin(metrics: Metrics) -> None:
    first, second, third = ScriptedOrigin(), ScriptedOrigin(), ScriptedOrigin()
    settings = OriginSettings(url="s3://bucket")
    origin = ResilientOrigin(first, url=settings.url, settings=settings, metrics=metrics)
    origin.renew(second, settings)
    await origin.head("key")
    assert (first.closed, second.closed) == (True, False)
    origin.renew(third, settings)
    await origin.close()
    assert second.closed
    assert third.closed


async def test_an_origin_that_is_opened_anew_is_asked_as_the_new_settings_say(metrics: Metrics) -> None:
    settings = OriginSettings(url="s3://bucket", attempts=1)
    origin = ResilientOrigin(ScriptedOrigin(), url=settings.url, settings=settings, metrics=metrics)
    patient = ScriptedOrigin([Away(), Away()])
    origin.renew(patient, settings.model_copy(update={"attempts": 3}))
    await origin.head("key")
    assert patient.asked == ["head"] * 3
    await origin.close()


async def test_that_an_origin_cannot_be_listed_says_nothing_of_whether_it_is_there(world: World) -> None:
    world.inner.faults = [Away()] * FAILURES_TO_OPEN
    while world.origin.status().circuit == "closed":
        with pytest.raises(Unreachable):
            await world.origin.head("key")
    assert world.origin.status().circuit != "closed"
    world.clock.ahead_s += FIRST_WAIT_S
    world.inner.faults = [NotListable("not this one")]
    with pytest.raises(NotListable):
        await anext(aiter(world.origin.list("")))
    assert (world.origin.status().circuit, world.origin.status().up) == ("half-open", False)
