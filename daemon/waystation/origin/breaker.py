"""A circuit breaker: after some failures in a row nobody asks any more, until one probe has been answered.

Pure bookkeeping: the time is passed in, and nothing here waits or locks.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.status import CircuitState

FAILURES_TO_OPEN = 3
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
PROBE_RETRY_S = 1.0


class Breaker:
    """Closed: all may ask. Open: nobody, for a time that doubles with each failed probe. Half-open: one probe asks.

    The waits are shortened at random, by half at most, so that a thousand machines don't come back as one.
    """

    def __init__(self, *, randomly: Callable[[], float] = random.random) -> None:
        self._randomly = randomly
        self._failures = 0
        self._wait_s = 0.0
        self._open_until: float | None = None
        self._probing = False

    def state(self, now: float) -> CircuitState:
        if self._open_until is None:
            return "closed"
        return "half-open" if self._probing or now >= self._open_until else "open"

    def retry_after_s(self, now: float) -> float | None:
        """How long it makes no sense to ask; None: ask."""
        if self._open_until is None:
            return None
        if self._probing:
            return PROBE_RETRY_S
        return self._open_until - now if now < self._open_until else None

    def admit(self, now: float) -> float | None:
        """None: ask, and tell how it ended (`answered`, `failed` or `gave_up`). Else how long to wait."""
        wait_s = self.retry_after_s(now)
        if wait_s is None and self._open_until is not None:
            self._probing = True
        return wait_s

    def answered(self) -> None:
        """The origin gave an answer, whichever: it is there."""
        self._failures = 0
        self._wait_s = 0.0
        self._open_until = None
        self._probing = False

    def failed(self, now: float) -> None:
        """The origin gave no usable answer."""
        self._failures += 1
        self._probing = False
        if self._failures < FAILURES_TO_OPEN:
            return
        if self._open_until is not None and now < self._open_until:
            return  # asked before it opened: says nothing new
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S) if self._wait_s else FIRST_WAIT_S
        self._open_until = now + self._wait_s * (1 - self._randomly() / 2)

    def gave_up(self) -> None:
        """Who asked no longer wants to know: that says nothing of the origin, and another may probe."""
        self._probing = False
