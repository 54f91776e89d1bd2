"""Finds out what is published: one listing a prefix each refresh, and in between what the origin tells by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from waystation.errors import BadTarget, CatalogError, NotListable, OriginError, UnknownTarget, WaystationError
from waystation.model import CHECKSUM_SUFFIX, parse_target
from waystation.prefetch.backoff import backoff_s, named_wait_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from waystation.catalog.interface import Catalog
    from waystation.model import TargetPath
    from waystation.prefetch.subscriptions import Subscriptions

log = structlog.get_logger()

SHORTEST_PAUSE_S = 1.0
FIRST_BACKOFF_S = 2.0
LONGEST_BACKOFF_S = 60.0
MOST_TARGETS = 100_000
"""So many that are subscribed to are kept in mind; some 30 MB."""


class Poller:
    """Knows the published targets that the subscriptions are about."""

    def __init__(
        self,
        catalog: Catalog,
        subscriptions: Subscriptions,
        *,
        refresh_s: float,
        held: Callable[[], Iterable[TargetPath]],
        news: Callable[[TargetPath | None], None],
        wall: Callable[[], float],
        randomly: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._subscriptions = subscriptions
        self._refresh_s = refresh_s
        self._held = held
        self._news = news
        self._wall = wall
        self._randomly = randomly
        self._at_once = asyncio.Event()
        self._failures = 0
        self.published: frozenset[TargetPath] | None = None
        """None: not known yet."""
        self.last_poll: float | None = None
        """When the origin last listed everything, in seconds since the epoch."""
        self.trouble: str | None = None
        """Why the latest poll failed."""

    async def run(self) -> None:
        """Poll, for ever."""
        while True:
            self._at_once.clear()
            pause_s = await self.poll()
            try:
                async with asyncio.timeout(pause_s):
                    await self._at_once.wait()
            except TimeoutError:
                continue

    def poll_soon(self) -> None:
        """Don't wait for the next refresh: something may have been missed."""
        self._at_once.set()

    async def poll(self) -> float:
        """List once; return how long to wait before the next time, in seconds."""
        try:
            found = await self._find()
            found |= await self._not_withdrawn(target for target in self._held() if target not in found)
        except OriginError as error:
            return self._failed(error)
        self._failures, self.trouble = 0, None
        self.last_poll = self._wall()
        self.published = frozenset(found)
        self._news(None)
        # A little early each time, so that what the listing refreshed does not go stale before the next one.
        return max(SHORTEST_PAUSE_S, self._refresh_s * (1 - self._randomly() / 10))

    async def _find(self) -> set[TargetPath]:
        """List what is subscribed to, or ask for each by its name where the origin can't list and that is enough."""
        found: set[TargetPath] = set()
        try:
            for prefix in self._subscriptions.prefixes:
                async for each in self._catalog.list(f"{prefix}*"):
                    if self._subscriptions.match(each):
                        found.add(each)
                        _check_number(found)
        except NotListable:
            if self._subscriptions.names is None:
                raise
            return {name for name in self._subscriptions.names if await self._is_published(name)}
        return found

    async def _is_published(self, name: TargetPath) -> bool:
        try:
            await self._catalog.resolve(parse_target(name))
        except (BadTarget, CatalogError) as error:
            log.info("subscribed_not_published", target=name, reason=error.reason, detail=str(error))
            return False
        return True

    async def hear(self, key: str) -> None:
        """The origin tells that something happened to a key."""
        name = key.removesuffix(CHECKSUM_SUFFIX)
        try:
            target = parse_target(name)
        except BadTarget:
            return
        known = self.published or frozenset()
        if not self._subscriptions.match(target) or (name == key and target not in known):
            return  # no target of ours, or one that is not announced yet
        try:
            await self._catalog.resolve(target, fresh=True)
        except UnknownTarget:
            known -= {target}
        except WaystationError as error:
            log.info("news_not_understood", target=target, reason=error.reason, detail=str(error))
            return  # the next poll sees it too
        else:
            known |= {target}
        if self.published is not None:
            self.published = known
            self._news(target)

    async def _not_withdrawn(self, absent: Iterable[TargetPath]) -> set[TargetPath]:
        """Ask for each held target that the listing did not show: only the origin's definite word lets go of it."""
        still_there: set[TargetPath] = set()
        for target in absent:
            if not self._subscriptions.match(target):
                continue  # nobody subscribes to it any more
            try:
                await self._catalog.resolve(target, fresh=True)
            except UnknownTarget:
                continue
            except CatalogError:
                pass
            log.warning(
                "listing_incomplete", target=target, advice="It is held; the next listing is asked for in time."
            )
            still_there.add(target)
        return still_there

    def _failed(self, error: OriginError) -> float:
        self._failures += 1
        if self.trouble is None:
            log.warning("poll_failed", reason=error.reason, detail=str(error), advice=error.advice)
        self.trouble = str(error)
        longest_s = max(LONGEST_BACKOFF_S, self._refresh_s)
        at_random = self._randomly()
        wait_s = backoff_s(FIRST_BACKOFF_S, self._failures, longest_s, at_random=at_random)
        return max(SHORTEST_PAUSE_S, named_wait_s(error, at_random=at_random), wait_s)


def _check_number(found: set[TargetPath]) -> None:
    if len(found) > MOST_TARGETS:
        raise NotListable(
            f"more than {MOST_TARGETS} targets match [[prefetch]]",
            advice="Write narrower patterns: these are all kept in mind.",
        )
