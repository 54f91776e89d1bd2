"""Listens to what the origin tells by itself, where it can; what is missed meanwhile, the polls find."""

from __future__ import annotations

import asyncio
from os.path import commonprefix
from typing import TYPE_CHECKING

import structlog

from waystation.errors import NotWatchable, OriginError, Unreachable
from waystation.prefetch.backoff import backoff_s, named_wait_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from waystation.origin.interface import Watchable
    from waystation.status import Notifications

log = structlog.get_logger()

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
UNAVAILABLE_S = 600.0
"""How long at least until an origin that can't tell, or must not tell us, is asked again."""


class Watcher:
    """One stream of changes, opened again whenever it ends."""

    def __init__(
        self,
        origin: Watchable,
        prefixes: Sequence[str],
        *,
        hear: Callable[[str], Awaitable[None]],
        listening: Callable[[], None],
        randomly: Callable[[], float],
    ) -> None:
        self._origin = origin
        self._prefix = commonprefix(list(prefixes))  # noqa: RUF071 - prefixes of keys, not paths
        self._hear = hear
        self._listening = listening
        self._randomly = randomly
        self.state: Notifications = "connecting"

    async def run(self) -> None:
        """Listen, for ever."""
        failures = 0
        while True:
            error = await self._listen()
            if isinstance(error, NotWatchable):
                if self.state != "unavailable":
                    log.warning("notifications_unavailable", detail=str(error), advice=error.advice)
                self.state = "unavailable"
                await asyncio.sleep(UNAVAILABLE_S * (1 + self._randomly() / 2))
                continue
            if self.state == "on":
                failures = 0
                log.info("notifications_interrupted", reason=error.reason, detail=str(error))
            self.state = "connecting"
            failures += 1
            at_random = self._randomly()
            wait_s = backoff_s(FIRST_BACKOFF_S, failures, LONGEST_BACKOFF_S, at_random=at_random)
            await asyncio.sleep(max(named_wait_s(error, at_random=at_random), wait_s))

    async def _listen(self) -> OriginError:
        """Listen to one stream; return why it ended."""
        try:
            async with self._origin.changes(self._prefix) as keys:
                self.state = "on"
                log.info("notifications_on", prefix=self._prefix)
                self._listening()
                async for key in keys:
                    await self._hear(key)
        except OriginError as error:
            return error
        return Unreachable("the origin ended its notifications")
