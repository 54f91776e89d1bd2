"""Turns wants into pins and into what is to be fetched; nothing else does.

Every owner says its whole set of wants, as often as it likes, and nobody is told of a change: so a lost message
loses nothing for good. What is pinned by anyone and is not here, because the disk lost it, is fetched again too.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import structlog

from waystation.errors import StoreError
from waystation.model import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from waystation.catalog.interface import Catalog
    from waystation.model import Artifact, Digest, TargetPath
    from waystation.prefetch.queue import Queue
    from waystation.store.interface import Store
    from waystation.wants import Want

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Known:
    """What can be told without asking anyone."""

    standing: Callable[[TargetPath], Artifact | None]
    """What a name stands for."""
    names: Callable[[Digest], tuple[TargetPath, ...]]
    """The names that were ever seen with a digest."""
    by_digest: Callable[[Digest], Artifact | None]


def pins_for(wants: Iterable[Want], pinned: frozenset[Digest], known: Known) -> frozenset[Digest]:
    """Choose an owner's pins: what its held wants stand for, and nothing else.

    As long as it can't be told what some of them stand for, what is pinned and may be theirs stays pinned: no answer
    is no reason to let go.
    """
    held = {want.target for want in wants if want.hold}
    told = {target: artifact.digest for target in held if (artifact := known.standing(target))}
    untold = held - told.keys()
    kept = {digest for digest in pinned if _may_be_of(untold, known.names(digest))} if untold else set()
    return frozenset(told.values()) | kept


def _may_be_of(untold: set[TargetPath], names: tuple[TargetPath, ...]) -> bool:
    return not names or not untold.isdisjoint(names)


class Reconciler:
    """Holds everyone's wants, keeps the store's pins in step with them, and the queue with what is not here."""

    def __init__(self, catalog: Catalog, store: Store, queue: Queue, *, wall: Callable[[], float]) -> None:
        self._known = Known(catalog.standing, catalog.names, catalog.by_digest)
        self._store = store
        self._queue = queue
        self._wall = wall
        self._wants: dict[str, tuple[Want, ...]] = {}
        self._missing_since: dict[TargetPath, float] = {}
        """For the lag: since when a target is published, or was lost, without being here."""
        self._unknown_since: dict[TargetPath, float] = {}
        """The same, where nothing is known of it but its name."""

    # --- what is said --------------------------------------------------------------------------

    async def want(self, owner: str, wants: tuple[Want, ...]) -> None:
        """Replace an owner's whole set of wants: pins first, then the queue.

        Raises:
            StoreError: the pins can't be written; nothing of theirs has changed.
        """
        self._wants[owner] = wants
        await self.settle()

    # --- what follows --------------------------------------------------------------------------

    async def settle(self) -> None:
        """Bring pins and queue in step with what is wanted and with what is here.

        Raises:
            StoreError: some pins can't be written. The queue is in step all the same.
        """
        before = self._store.pins()
        failure: StoreError | None = None
        for owner, wants in self._wants.items():
            pinned = before.get(owner, frozenset())
            pins = pins_for(wants, pinned, self._known)
            if pins != pinned:
                try:
                    await self._store.pin(owner, pins)
                except StoreError as error:
                    failure = error
                    continue
                if pinned - pins:
                    self._queue.forgive_for_room()
                log.info("pins_changed", owner=owner, pins=len(pins), new=len(pins - pinned), gone=len(pinned - pins))
        self._fill_queue(frozenset().union(*before.values()))
        if failure:
            raise failure

    def _fill_queue(self, pinned_before: frozenset[Digest]) -> None:
        missing: dict[TargetPath, Priority] = {}
        for target, artifact in self.wanted().items():
            if self._has(artifact):
                continue
            missing[target] = Priority.PREFETCH
            if artifact is None:
                self._unknown_since.setdefault(target, self._wall())
            else:
                # What was pinned was here, or on its way: it is not newly published, but lost.
                lost = artifact.digest in pinned_before and target not in self._unknown_since
                since = self._wall() if lost else artifact.modified.timestamp()
                self._missing_since.setdefault(target, since)
                self._unknown_since.pop(target, None)
        for since_when in (self._missing_since, self._unknown_since):
            for target in since_when.keys() - missing.keys():
                del since_when[target]
        for wants in self._wants.values():
            for want in wants:
                if want.target in missing:
                    missing[want.target] = min(missing[want.target], want.priority)
        self._queue.want(missing)

    # --- what is told --------------------------------------------------------------------------

    def wanted(self) -> Mapping[TargetPath, Artifact | None]:
        """Every target that should be here, with what it stands for where that is known: wants, and what is pinned."""
        wants = chain.from_iterable(self._wants.values())
        wanted = {want.target: self._known.standing(want.target) for want in wants}
        for digest in frozenset().union(*self._store.pins().values()):
            if artifact := self._known.by_digest(digest):
                wanted.setdefault(artifact.target, artifact)
        return wanted

    def is_here(self, target: TargetPath) -> bool:
        """Whether a target's blob is in the store, and trusted, as far as is known without asking."""
        return self._has(self._known.standing(target))

    def lacks_room(self, target: TargetPath) -> bool:
        """Whether room is all that a target lacks to be here: it found none, and there can be enough for it."""
        artifact = self._known.standing(target)
        return (
            artifact is not None
            and self._queue.lacks_room(target)
            and artifact.size_bytes <= self._store.status().limit_bytes
        )

    def _has(self, artifact: Artifact | None) -> bool:
        blob = self._store.blob(artifact.digest) if artifact else None
        return blob is not None and not blob.suspect

    def held(self, owner: str) -> frozenset[TargetPath]:
        """The names of what an owner has pinned."""
        pinned = self._store.pins().get(owner, frozenset())
        return frozenset(name for digest in pinned for name in self._known.names(digest))

    def oldest_missing(self) -> float | None:
        """Since when, in seconds since the epoch, the target that has been missing longest is; None: all are here."""
        return min(ChainMap(self._missing_since, self._unknown_since).values(), default=None)
