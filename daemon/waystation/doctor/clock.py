"""The clock: S3 refuses signed requests whose time is a quarter of an hour off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level
from waystation.errors import ClockRefused, OriginError
from waystation.origin.s3_connection import CLOCK_LIMIT_S, S3Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from waystation.config import OriginSettings

NOTEWORTHY_FROM_S = 30


@dataclass(frozen=True, slots=True)
class ClockSeen:
    """How far this machine's clock is ahead of the origin's, or why nobody knows."""

    ahead_s: float | None
    trouble: str = ""
    unneeded: str = ""
    """Why nobody needs to know."""


class Clock:
    """This machine's clock beside the Date of an answer of the origin, whatever it answers."""

    name = "clock"

    def __init__(self, origin: OriginSettings, *, wall: Callable[[], float]) -> None:
        self._origin = origin
        self._wall = wall

    async def look(self) -> ClockSeen:
        if self._origin.folder is not None:
            return ClockSeen(None, unneeded="the origin is a folder of this machine and has no clock of its own")
        if self._origin.http_base is not None:
            return ClockSeen(None, unneeded="the origin is asked without a signature, and so without a time")
        try:
            connection = await S3Connection.open(self._origin)
            try:
                before = self._wall()
                theirs = await connection.clock()
                after = self._wall()
            finally:
                await connection.close()
        except OriginError as error:
            return ClockSeen(None, str(error))
        if theirs is None:
            return ClockSeen(None, "its answers carry no Date")
        # A Date is cut to whole seconds: half of one is its likely rest.
        return ClockSeen((before + after) / 2 - theirs.timestamp() - 0.5)

    def judge(self, seen: ClockSeen) -> Iterator[Finding]:
        if seen.ahead_s is None:
            if seen.unneeded:
                yield Finding(self.name, Level.OK, seen.unneeded)
            else:
                says = f"not compared with the origin's: {seen.trouble}"
                yield Finding(self.name, Level.WARNING, says, "Run the command again once the origin can be asked.")
            return
        off_s = abs(seen.ahead_s)
        if off_s < NOTEWORTHY_FROM_S:
            yield Finding(self.name, Level.OK, f"within {max(1, round(off_s))} s of the origin's")
            return
        says = f"{_said(off_s)} {'ahead of' if seen.ahead_s > 0 else 'behind'} the origin's"
        if off_s < CLOCK_LIMIT_S:
            yield Finding(self.name, Level.WARNING, says, ClockRefused.advice)
        else:
            yield Finding(self.name, Level.FAILURE, f"{says}: S3 refuses requests from 15 min on", ClockRefused.advice)


def _said(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{round(seconds)} s" if seconds < 2 * 60 else f"{minutes} min"
