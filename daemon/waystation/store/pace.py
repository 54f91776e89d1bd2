"""How fast the scrub reads, and when a blob is due; pure.

A blob is due again once half the interval has passed since it was verified. From then on its turn
comes at the store's pace: the rate at which the whole store is read within the next 40 % of the
interval, which leaves a tenth for what delays it. So all is read again within the interval even if
all becomes due at once, and nothing is read more than twice as often as was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

DUE_AFTER = 0.5
WITHIN = 0.4
URGENT_AFTER = 0.6
"""From then on it no longer waits for the disk to be idle, which a busy disk never is; there is time for all of it."""

IDLE_BYTES_PER_S = 8 * 1024 * 1024
"""While nobody uses the store, a blob that has its turn is read at least this fast: a tenth of what the slowest disks
give, a hundredth of a core, and one of 100 MB is done in 12 seconds."""
MOST_BYTES_PER_S = 64 * 1024 * 1024
"""Never faster: a tenth of a core for hashing, and 38 TB in the default interval. Of a larger store, or with a shorter
interval, the oldest verification grows older than the interval, and the gauge tells."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The rates for a store of this size, in bytes a second."""

    store_bytes: int
    interval_s: float

    @property
    def lasting(self) -> float:
        """What is needed to keep the interval: kept up whoever uses the store."""
        return min(MOST_BYTES_PER_S, max(1.0, self.store_bytes / (self.interval_s * WITHIN)))

    def rate(self, *, suspect: bool, busy: bool) -> float:
        """How fast a blob is read that has its turn; `busy`: clients or flights use the store meanwhile."""
        if suspect:
            # It is served to nobody before, so whoever waits for the disk may be waiting for this.
            return IDLE_BYTES_PER_S if busy else MOST_BYTES_PER_S
        return self.lasting if busy else max(self.lasting, IDLE_BYTES_PER_S)


def due_in_s(verified_ns: int, now_ns: int, interval_s: float) -> float:
    """How long until a blob that was verified then is to be read again, in seconds; 0: now."""
    return max(0.0, interval_s * DUE_AFTER - (now_ns - verified_ns) / 1e9)


def is_urgent(verified_ns: int, now_ns: int, interval_s: float) -> bool:
    """Whether a blob that was verified then is late enough to compete for the disk."""
    return now_ns - verified_ns >= interval_s * URGENT_AFTER * 1e9
