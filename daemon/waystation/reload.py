"""The configuration read again while the daemon runs: all that may change takes effect, or nothing does.

Each part says which keys it takes up, and takes them up itself; what no part takes up needs a restart.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import structlog
from pydantic import BaseModel

from waystation.config import Settings
from waystation.errors import WaystationError
from waystation.status import ReloadStatus
from waystation.telemetry.logs import set_log_level

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from waystation.telemetry.metrics import Metrics

log = structlog.get_logger()

NOT_THE_DAEMONS = frozenset({"origin.writes", "takeover.enabled", "takeover.match"})
"""Keys that only other verbs read, and those read the file each time."""


class Reloadable(Protocol):
    """A part that takes up some settings while it runs."""

    reloads: ClassVar[frozenset[str]]
    """Their keys, such as ``store.max_size``."""

    def reload(self, settings: Settings) -> None:
        """Go on with these, which differ from the ones before in nothing but what some part takes up; can't fail."""


class LogLevel:
    """The level of the log; one that an operator has set by hand stays until the file says another."""

    reloads: ClassVar[frozenset[str]] = frozenset({"log.level"})

    def __init__(self, level: str) -> None:
        self._level = level

    def reload(self, settings: Settings) -> None:
        """See `Reloadable`."""
        if settings.log.level != self._level:
            self._level = settings.log.level
            set_log_level(self._level)


class Reload:
    """Reads the settings again when it is told to, and knows which are in force."""

    def __init__(
        self,
        running: Settings,
        read: Callable[[], Settings],
        parts: Sequence[Reloadable],
        *,
        check: Callable[[Settings], Awaitable[None]],
        metrics: Metrics,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._running = running
        self._read = read
        self._parts = parts
        self._check = check
        self._outcomes = metrics.reloads
        self._wall = wall
        self._taken_up = frozenset[str]().union(*(part.reloads for part in parts))
        self.status: ReloadStatus | None = None
        """What came of it the last time; None: it was never asked for."""

    async def reload(self) -> None:
        """Read the settings and take them up; where they can't be used, all stays as it is, and the log says why."""
        try:
            wanted = await asyncio.to_thread(self._read)
            changed = changed_keys(self._running, wanted) - NOT_THE_DAEMONS
            settings = with_keys_of(self._running, wanted, changed & self._taken_up)
            await self._check(settings)
        except WaystationError as error:
            self.status = ReloadStatus(self._wall(), (), (), f"{error} {error.advice}".strip())
            self._outcomes.labels(error.reason).inc()
            log.warning("reload_refused", reason=error.reason, detail=str(error), advice=error.advice)
            return
        for part in self._parts:
            part.reload(settings)
        self._running = settings
        taken_up, left = tuple(sorted(changed & self._taken_up)), tuple(sorted(changed - self._taken_up))
        self.status = ReloadStatus(self._wall(), taken_up, left, None)
        self._outcomes.labels("ok").inc()
        log.info("reloaded", taken_up=taken_up)
        if left:
            log.warning("restart_needed", keys=left, advice="What was set before holds until the daemon is restarted.")


def changed_keys(before: Settings, after: Settings) -> frozenset[str]:
    """Name the keys whose values differ; a section that is a list is one key."""
    changed = set()
    for section in Settings.model_fields:
        old, new = getattr(before, section), getattr(after, section)
        if isinstance(old, BaseModel):
            keys = type(old).model_fields
            changed |= {f"{section}.{key}" for key in keys if getattr(old, key) != getattr(new, key)}
        elif old != new:
            changed.add(section)
    return frozenset(changed)


def with_keys_of(before: Settings, after: Settings, keys: frozenset[str]) -> Settings:
    """Give the settings before, with the values of these keys from those after."""
    sections: dict[str, Any] = {}
    for name in sorted(keys):
        section, _, key = name.partition(".")
        value = getattr(after, section)
        if key:
            so_far = sections.get(section, getattr(before, section))
            value = so_far.model_copy(update={key: getattr(value, key)})
        sections[section] = value
    return before.model_copy(update=sections)
