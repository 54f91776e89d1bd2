"""What is to be fetched, in which order, and when what failed may be tried again. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.errors import NoRoom, OriginError
from waystation.prefetch.backoff import backoff_s, named_wait_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from waystation.errors import WaystationError
    from waystation.model import Priority, TargetPath

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 900.0
"""For a target that can't be fetched as it is published."""
FIRST_ORIGIN_WAIT_S = 1.0
LONGEST_ORIGIN_WAIT_S = 60.0
"""For an origin that does not answer: nobody asks it meanwhile, and afterwards one target alone does."""


@dataclass(slots=True)
class Item:
    """One target in the queue."""

    target: TargetPath
    priority: Priority
    order: int
    not_before: float = 0.0
    failures: int = 0
    error: WaystationError | None = None
    """Why it failed the last time."""


class Queue:
    """The targets that are wanted and not here; what is taken out with `next` is given back by `done` or `failed`."""

    def __init__(self, *, randomly: Callable[[], float]) -> None:
        self._randomly = randomly
        self._items: dict[TargetPath, Item] = {}
        self._running: dict[TargetPath, Item] = {}
        self._origin_losses = 0
        self._origin_away_until = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._items)

    def __contains__(self, target: TargetPath) -> bool:
        return target in self._items or target in self._running

    def waiting(self) -> tuple[Item, ...]:
        """Those that wait, in the order in which they are taken out."""
        return tuple(sorted(self._items.values(), key=lambda item: (item.priority, item.order)))

    @property
    def running(self) -> frozenset[TargetPath]:
        return frozenset(self._running)

    def want(self, wanted: Mapping[TargetPath, Priority]) -> None:
        """Replace the whole set, of one priority in the order in which it comes; what is running goes on."""
        for target in self._items.keys() - wanted.keys():
            del self._items[target]
        for order, (target, priority) in enumerate(wanted.items()):
            if item := self._items.get(target):
                item.priority, item.order = priority, order
            elif target not in self._running:
                self._items[target] = Item(target, priority, order)

    def forgive(self, targets: Iterable[TargetPath]) -> None:
        """There is news of these: try them at once."""
        for target in targets:
            if target in self._items:
                self._items[target].not_before = 0.0

    def forgive_for_room(self) -> None:
        """There may be room now: try at once what failed for want of it."""
        self.forgive([target for target in self._items if self.lacks_room(target)])

    def lacks_room(self, target: TargetPath) -> bool:
        """Whether it failed for want of room the last time that it was tried."""
        item = self._items.get(target) or self._running.get(target)
        return item is not None and isinstance(item.error, NoRoom)

    def next(self, now: float) -> TargetPath | None:
        """Take out what is to be fetched now; None: nothing."""
        if now < self._origin_away_until or (self._origin_losses and self._running):
            return None
        due = [item for item in self._items.values() if item.not_before <= now]
        if not due:
            return None
        item = min(due, key=lambda item: (item.priority, item.order))
        self._running[item.target] = self._items.pop(item.target)
        return item.target

    def wait_s(self, now: float) -> float | None:
        """How long until `next` may give something; None: not before something else happens."""
        if not self._items or (self._origin_losses and self._running):
            return None
        soonest = min(item.not_before for item in self._items.values())
        return max(0.0, soonest - now, self._origin_away_until - now)

    def done(self, target: TargetPath) -> None:
        """It is here."""
        del self._running[target]
        self._origin_losses = 0

    def give_back_all(self) -> None:
        """Nothing runs any more: what was under way when its fetching ended waits again."""
        self._items.update(self._running)
        self._running.clear()

    def failed(self, target: TargetPath, error: WaystationError, now: float) -> None:
        """It is not here; it waits again, until the next `want` says otherwise.

        An origin that does not answer says nothing of the target, so everything waits for it and nothing else.
        """
        item = self._running.pop(target)
        item.error = error
        if isinstance(error, OriginError) and error.transient:
            self._origin_losses += 1
            at_random = self._randomly()
            wait_s = backoff_s(FIRST_ORIGIN_WAIT_S, self._origin_losses, LONGEST_ORIGIN_WAIT_S, at_random=at_random)
            wait_s = max(wait_s, named_wait_s(error, at_random=at_random))
            self._origin_away_until = max(self._origin_away_until, now + wait_s)
        else:
            self._origin_losses = 0
            item.failures += 1
            item.not_before = now + backoff_s(FIRST_WAIT_S, item.failures, LONGEST_WAIT_S, at_random=self._randomly())
        self._items[target] = item
