"""Makes any origin bearable when it is slow or away: deadlines, retries, a circuit breaker, and metrics.

Small calls (head, get, list) are tried again here and nowhere else. Ranges are not, the transfer's plan asks
for them again: here they are counted, and tell the breaker how the origin is.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from waystation.errors import NotListable, OriginError, Unreachable
from waystation.origin.breaker import Breaker
from waystation.status import OriginStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from waystation.config import OriginSettings
    from waystation.model import Span
    from waystation.origin.interface import ObjectInfo, Reader, Source, Watchable
    from waystation.telemetry.metrics import Metrics

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 2.0
MOST_KEYS = 1_000_000
"""So many keys below one prefix are taken note of: a list that never ends would be read for ever."""
LONGEST_LIST_S = 900.0
"""So long is waited for all pages of one list together."""

_log = structlog.get_logger()
_T = TypeVar("_T")


class ResilientOrigin:
    """`inner`, with one deadline (`request_timeout`) for each small call and all its attempts."""

    def __init__(
        self,
        inner: Watchable,
        *,
        url: str,
        settings: OriginSettings,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
        randomly: Callable[[], float] = random.random,
    ) -> None:
        self._way = _Way(inner)
        self._retired: set[_Way] = set()
        self._take_up(settings)
        self._origin_bytes = metrics.origin_bytes
        self._monotonic = monotonic
        self._randomly = randomly
        self._health = _Health(url, metrics, monotonic, Breaker(randomly=randomly))

    async def head(self, key: str) -> ObjectInfo:
        async with self._in_use() as inner:
            return await self._call("head", lambda: inner.head(key))

    async def get(self, key: str, *, limit_bytes: int) -> tuple[ObjectInfo, bytes]:
        async with self._in_use() as inner:
            info, body = await self._call("get", lambda: inner.get(key, limit_bytes=limit_bytes))
        self._origin_bytes.inc(len(body))
        return info, body

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """List keys; each step has the deadline, and only the first one is tried again.

        Raises:
            NotListable: there are more than `MOST_KEYS`.
        """
        async with self._in_use() as inner:
            listing: AsyncIterator[ObjectInfo] = inner.list(prefix, after=after)

            async def first() -> ObjectInfo | None:
                nonlocal listing
                listing = inner.list(prefix, after=after)
                return await anext(listing, None)

            try:
                info, keys, left_s = await self._call("list", first), 0, LONGEST_LIST_S
                while info is not None:
                    keys += 1
                    if keys > MOST_KEYS:
                        raise self._endless(prefix)
                    yield info
                    began = self._monotonic()
                    patience_s = min(self._deadline_s, left_s)
                    info = await self._attempt("list", lambda: anext(listing, None), patience_s, counted=False)
                    left_s -= self._monotonic() - began
            finally:
                if isinstance(listing, AsyncGenerator):
                    await listing.aclose()

    async def source(self, key: str, *, if_match: str | None) -> Source:
        self._health.refuse_while_open()
        try:
            async with self._in_use() as inner, asyncio.timeout(self._deadline_s):
                return _WatchedSource(await inner.source(key, if_match=if_match), self._health)
        except TimeoutError as error:
            late = Unreachable(f"the way to '{key}' was not found within {self._deadline_s:g} s")
            self._health.failed("range", late)
            raise late from error

    @asynccontextmanager
    async def changes(self, prefix: str) -> AsyncIterator[AsyncIterator[str]]:
        """Be told of changes; one attempt, for whoever listens has to list anyway before it listens again."""
        self._health.refuse_while_open()
        try:
            async with self._in_use() as inner, inner.changes(prefix) as keys:
                self._health.answered("watch", "ok")
                yield keys
        except Unreachable as error:
            self._health.failed("watch", error)
            raise
        except OriginError as error:
            self._health.answered("watch", error.reason)
            raise

    def status(self) -> OriginStatus:
        """A snapshot; never waits."""
        return self._health.status()

    def renew(self, inner: Watchable, settings: OriginSettings) -> None:
        """Ask `inner`, the same origin opened anew, from now on; the one before is closed once nobody uses it."""
        self._retired.add(self._way)
        self._way = _Way(inner)
        self._take_up(settings)

    async def close(self) -> None:
        """Close what is open; nobody may ask any more."""
        for way in (self._way, *self._retired):
            await way.inner.close()

    def _take_up(self, settings: OriginSettings) -> None:
        self._attempts = settings.attempts
        self._deadline_s = settings.request_timeout
        self._patience_s = settings.connect_timeout

    def _endless(self, prefix: str) -> NotListable:
        error = NotListable(
            f"the origin lists more than {MOST_KEYS} keys below '{prefix}'",
            advice="Set a narrower prefix in [origin] url, and narrower [[prefetch]] patterns.",
        )
        self._health.answered("list", error.reason)
        return error

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[Watchable]:
        """Ask the origin through the same opening for the time of the block, renewed or not."""
        way = self._way
        way.users += 1
        try:
            yield way.inner
        finally:
            way.users -= 1
            for idle in [each for each in self._retired if not each.users]:
                self._retired.discard(idle)
                await idle.inner.close()

    # --- attempts ------------------------------------------------------------------------------

    async def _call(self, op: str, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until there is an answer, the attempts or the time are used up, or the circuit opens."""
        deadline = self._monotonic() + self._deadline_s
        attempt = 1
        while True:
            self._health.admit()
            try:
                return await self._attempt(op, ask, deadline - self._monotonic())
            except OriginError as error:
                backoff_s = self._randomly() * min(FIRST_BACKOFF_S * 2**attempt, LONGEST_BACKOFF_S)
                too_late = self._monotonic() + backoff_s >= deadline
                if not error.transient or attempt == self._attempts or too_late or self._health.is_open():
                    raise
            await asyncio.sleep(backoff_s)
            attempt += 1

    async def _attempt(
        self, op: str, ask: Callable[[], Awaitable[_T]], timeout_s: float, *, counted: bool = True
    ) -> _T:
        began = self._monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await ask()
        except TimeoutError as error:
            late = Unreachable(f"the origin gave no answer within {self._deadline_s:g} s")
            self._health.failed(op, late)
            raise late from error
        except Unreachable as error:
            self._health.failed(op, error)
            raise
        except NotListable as error:
            self._health.gave_up(op, error.reason)  # most of those that can't be listed are not even asked
            raise
        except OriginError as error:
            self._health.answered(op, error.reason)
            raise
        except asyncio.CancelledError:
            # Callers have shorter deadlines of their own: their leaving must not hide that nobody answers.
            waited_s = self._monotonic() - began
            if waited_s >= self._patience_s:
                self._health.failed(op, Unreachable(f"the origin gave no answer within {waited_s:.1f} s"))
            else:
                self._health.gave_up(op)
            raise
        except BaseException:
            self._health.gave_up(op)
            raise
        if counted:
            self._health.answered(op, "ok")
        return answer


@dataclass(eq=False, slots=True)
class _Way:
    """One opening of the origin."""

    inner: Watchable
    users: int = 0
    """Calls that are under way on it."""


class _Health:
    """How the origin is, told by every request, from the loop and from worker threads alike."""

    def __init__(self, url: str, metrics: Metrics, monotonic: Callable[[], float], breaker: Breaker) -> None:
        self._url = url
        self._requests = metrics.origin_requests
        self._up_gauge = metrics.origin_up
        self._monotonic = monotonic
        self._breaker = breaker
        self._lock = threading.Lock()
        self._up: bool | None = None
        self._last_error: OriginError | None = None

    def admit(self) -> None:
        """Let a request through, or raise Unreachable with the time until the circuit lets one through."""
        with self._lock:
            self._refuse(self._breaker.admit(self._monotonic()))

    def refuse_while_open(self) -> None:
        """Like `admit`, for what sends no request itself."""
        with self._lock:
            self._refuse(self._breaker.retry_after_s(self._monotonic()))

    def is_open(self) -> bool:
        with self._lock:
            return self._breaker.state(self._monotonic()) != "closed"

    def answered(self, op: str, outcome: str) -> None:
        with self._lock:
            self._requests.labels(op, outcome).inc()
            if self._breaker.state(self._monotonic()) != "closed":
                _log.info("origin_answers_again", origin=self._url)
            self._breaker.answered()
            self._up, self._last_error = True, None
            self._up_gauge.set(1)

    def failed(self, op: str, error: Unreachable) -> None:
        with self._lock:
            now = self._monotonic()
            self._requests.labels(op, error.reason).inc()
            was_closed = self._breaker.state(now) == "closed"
            self._breaker.failed(now)
            error.retry_after_s = error.retry_after_s or self._breaker.retry_after_s(now)
            self._up, self._last_error = False, error
            if self._breaker.state(now) != "closed":
                self._up_gauge.set(0)
                if was_closed:
                    _log.warning("origin_unreachable", origin=self._url, error=str(error), advice=error.advice)

    def gave_up(self, op: str, outcome: str = "gave_up") -> None:
        """Take note of an end that says nothing of how the origin is."""
        with self._lock:
            self._requests.labels(op, outcome).inc()
            self._breaker.gave_up()

    def status(self) -> OriginStatus:
        with self._lock:
            now = self._monotonic()
            return OriginStatus(
                url=self._url,
                up=self._up,
                circuit=self._breaker.state(now),
                retry_after_s=self._breaker.retry_after_s(now),
                last_error=str(self._last_error) if self._last_error else None,
            )

    def _refuse(self, wait_s: float | None) -> None:
        if wait_s is not None:
            last = self._last_error
            raise Unreachable(
                f"{last or 'the origin did not answer'} (it is asked again in {wait_s:.1f} s)",
                advice=last.advice if last else None,
                retry_after_s=wait_s,
            )


class _WatchedSource:
    """A source that tells the origin's health how each read ended."""

    def __init__(self, inner: Source, health: _Health) -> None:
        self._inner = inner
        self._health = health
        self._closed = False

    @contextmanager
    def read(self, span: Span) -> Iterator[Reader]:
        reader: _WatchedReader | None = None
        try:
            with self._inner.read(span) as inner:
                reader = _WatchedReader(inner)
                yield reader
        except Unreachable as error:
            if self._closed or (reader is not None and reader.aborted):
                self._health.gave_up("range")
            else:
                self._health.failed("range", error)
            raise
        except OriginError as error:
            self._health.answered("range", error.reason)
            raise
        except BaseException:
            self._health.gave_up("range")
            raise
        self._health.answered("range", "ok")

    def close(self) -> None:
        self._closed = True
        self._inner.close()


class _WatchedReader:
    """A reader that remembers whether it was aborted."""

    def __init__(self, inner: Reader) -> None:
        self._inner = inner
        self.aborted = False

    def readinto(self, buffer: memoryview) -> int:
        return self._inner.readinto(buffer)

    def abort(self) -> None:
        self.aborted = True
        self._inner.abort()
