"""How long to wait behind failures, so that an origin that is down is left in peace; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.errors import Unavailable, Unreachable

if TYPE_CHECKING:
    from waystation.errors import WaystationError

_MOST_DOUBLINGS = 32


def backoff_s(first_s: float, failures: int, longest_s: float, *, at_random: float) -> float:
    """Double with each failure, the first one included; `at_random` (0 to 1) takes up to half of it away.

    So a thousand machines that lost one origin don't come back as one.
    """
    return min(first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), longest_s) * (1 - at_random / 2)


def named_wait_s(error: WaystationError, *, at_random: float) -> float:
    """Tell how long the origin, or its circuit breaker, asks to be left alone, and up to half as long again.

    A hub names the same time to all whose hub it is. 0: nobody said.
    """
    named_s = (error.retry_after_s if isinstance(error, Unreachable | Unavailable) else None) or 0.0
    return named_s * (1 + at_random / 2)
