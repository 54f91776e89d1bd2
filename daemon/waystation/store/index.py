"""Accounts for every byte in the store and decides what goes when room is needed; no disk, loop or clock.

Bytes are in one of four states: a blob, a spool (a running flight's reservation), a partial (a kept
spool that no flight uses), or leaving (nobody may use them any more, but they are still on disk).
All four count against the quota.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from waystation.model import Digest

Place = Literal["blob", "spool"]


@dataclass(slots=True)
class Held:
    """One blob in the store."""

    digest: Digest
    size_bytes: int
    pieces_bytes: int
    """The length of the ``.pieces`` file beside it; 0: there is none."""
    used_ns: int
    """Last use, in nanoseconds since the epoch, but never going backward; the order of eviction."""
    verified_ns: int
    """When its bytes were last checked whole."""
    leases: int = 0
    size_confirmed: bool = False
    """Whether its size was compared with what its ``.pieces`` file says."""
    fd: int | None = None
    """Open while it is leased, shared by its leases."""

    @property
    def total_bytes(self) -> int:
        return self.size_bytes + self.pieces_bytes


@dataclass(frozen=True, slots=True)
class Leaving:
    """Something to be taken off the disk; where `strange` says why, it is set aside instead of removed."""

    place: Place
    digest: Digest
    total_bytes: int
    strange: str | None = None


@dataclass(frozen=True, slots=True)
class Eviction:
    """What must go to make room, in this order."""

    partials: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    reason: Literal["quota", "min_free", "operator"] = "quota"
    short_bytes: int = 0
    """What is missing even then; 0: enough."""


@dataclass(slots=True)
class Index:
    """What the store holds."""

    max_size_bytes: int
    min_free_bytes: int
    used_bytes: int = 0
    """Blobs, spools, partials and what is leaving."""
    _blobs: OrderedDict[Digest, Held] = field(default_factory=OrderedDict)
    """Least recently used first."""
    _partials: OrderedDict[Digest, int] = field(default_factory=OrderedDict)
    _spools: dict[Digest, int] = field(default_factory=dict)
    _leaving: dict[tuple[Place, Digest], Leaving] = field(default_factory=dict)
    _pinned: frozenset[Digest] = frozenset()
    _unrecorded: set[Digest] = field(default_factory=set)
    _latest_ns: int = 0

    # --- what is here --------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many blobs there are."""
        return len(self._blobs)

    def __iter__(self) -> Iterator[Held]:
        """The blobs, least recently used first."""
        return iter(self._blobs.values())

    def blob(self, digest: Digest) -> Held | None:
        return self._blobs.get(digest)

    def has_blob(self, digest: Digest) -> bool:
        return digest in self._blobs

    def has_partial(self, digest: Digest) -> bool:
        return digest in self._partials

    def has_spool(self, digest: Digest) -> bool:
        return digest in self._spools

    def is_leaving(self, digest: Digest) -> bool:
        return ("blob", digest) in self._leaving or ("spool", digest) in self._leaving

    @property
    def leaving(self) -> tuple[Leaving, ...]:
        return tuple(self._leaving.values())

    @property
    def spool_bytes(self) -> int:
        """What running flights have reserved."""
        return sum(self._spools.values())

    @property
    def pinned_bytes(self) -> int:
        return sum(self._blobs[digest].total_bytes for digest in self._pinned if digest in self._blobs)

    @property
    def leased_bytes(self) -> int:
        return sum(held.total_bytes for held in self if held.leases)

    def oldest_used_ns(self) -> int | None:
        """When the blob was last used that would be evicted first."""
        return next((held.used_ns for held in self if held.digest not in self._pinned), None)

    # --- recovery ------------------------------------------------------------------------------

    def recovered(self, blobs: Iterable[Held], partials: Iterable[tuple[Digest, int]]) -> None:
        """Take in what the disk held at the start, each least recently used first."""
        for held in blobs:
            self._blobs[held.digest] = held
            self.used_bytes += held.total_bytes
            self._latest_ns = max(self._latest_ns, held.used_ns)
        for digest, total_bytes in partials:
            self._partials[digest] = total_bytes
            self.used_bytes += total_bytes

    # --- use -----------------------------------------------------------------------------------

    def lease(self, digest: Digest, now_ns: int) -> Held | None:
        """Protect a blob from eviction until `release`, as often as this is called."""
        held = self._blobs.get(digest)
        if held is not None:
            held.leases += 1
            self._use(held, now_ns)
        return held

    def release(self, held: Held, now_ns: int) -> None:
        """End one lease; the blob may have been dropped meanwhile."""
        held.leases -= 1
        if self._blobs.get(held.digest) is held:
            self._use(held, now_ns)

    def take_unrecorded(self) -> list[Held]:
        """The blobs used since this was last asked, to be written down."""
        used = [self._blobs[digest] for digest in self._unrecorded if digest in self._blobs]
        self._unrecorded.clear()
        return used

    def pin(self, digests: frozenset[Digest]) -> None:
        """Replace the whole set of digests that are never evicted, present or not."""
        self._pinned = digests

    # --- arriving ------------------------------------------------------------------------------

    def reserve(self, digest: Digest, total_bytes: int) -> None:
        """Count a new spool."""
        self._spools[digest] = total_bytes
        self.used_bytes += total_bytes

    def unreserve(self, digest: Digest) -> None:
        """A spool came to nothing, and left nothing on disk."""
        self.used_bytes -= self._spools.pop(digest)

    def resume(self, digest: Digest) -> None:
        """A flight takes up a partial."""
        self._spools[digest] = self._partials.pop(digest)

    def keep(self, digest: Digest) -> None:
        """A flight left its spool behind, for another to resume."""
        self._partials[digest] = self._spools.pop(digest)

    def discard(self, digest: Digest) -> None:
        """A flight gave up its spool, and nobody may resume it."""
        self._leave(Leaving("spool", digest, self._spools.pop(digest)))

    def stored(self, digest: Digest, *, size_bytes: int, now_ns: int) -> Held:
        """A spool became a blob, leased once: by the flight that still holds its descriptor."""
        pieces_bytes = self._spools.pop(digest) - size_bytes
        held = Held(digest, size_bytes, pieces_bytes, now_ns, now_ns, leases=1, size_confirmed=True)
        self._blobs[digest] = held
        self._use(held, now_ns)
        return held

    # --- leaving -------------------------------------------------------------------------------

    def remove_blob(self, digest: Digest, *, strange: str | None = None) -> Leaving:
        """From now on nobody finds this blob; leases that it still has stay good until they end."""
        held = self._blobs.pop(digest)
        return self._leave(Leaving("blob", digest, held.total_bytes, strange))

    def distrust(self, digest: Digest) -> None:
        """A blob becomes a partial; leases that it still has stay good until they end."""
        self._partials[digest] = self._blobs.pop(digest).total_bytes

    def remove_partial(self, digest: Digest) -> Leaving:
        """From now on nobody resumes this partial."""
        return self._leave(Leaving("spool", digest, self._partials.pop(digest)))

    def gone(self, leaving: Leaving) -> None:
        """It is off the disk: its room may be given away."""
        del self._leaving[leaving.place, leaving.digest]
        self.used_bytes -= leaving.total_bytes

    # --- room ----------------------------------------------------------------------------------

    def make_room(self, need_bytes: int, free_bytes: int) -> Eviction:
        """Choose what must go before `need_bytes` more may be taken, while the filesystem has `free_bytes`.

        Partials go before blobs, the least recently used first; what is leased or pinned stays.
        """
        over_quota = self.used_bytes + need_bytes - self.max_size_bytes
        under_free = self.min_free_bytes + need_bytes - free_bytes
        missing = max(over_quota, under_free)
        partials: list[Digest] = []
        blobs: list[Digest] = []
        for digest, total_bytes in self._partials.items():
            if missing <= 0:
                break
            partials.append(digest)
            missing -= total_bytes
        for held in self:
            if missing <= 0:
                break
            if not held.leases and held.digest not in self._pinned:
                blobs.append(held.digest)
                missing -= held.total_bytes
        reason: Literal["quota", "min_free"] = "quota" if over_quota >= under_free else "min_free"
        return Eviction(tuple(partials), tuple(blobs), reason, max(0, missing))

    def _use(self, held: Held, now_ns: int) -> None:
        # A clock that is set back must not make what is used now look older than what was used before.
        self._latest_ns = max(now_ns, self._latest_ns + 1)
        held.used_ns = self._latest_ns
        self._blobs.move_to_end(held.digest)
        self._unrecorded.add(held.digest)

    def _leave(self, leaving: Leaving) -> Leaving:
        self._leaving[leaving.place, leaving.digest] = leaving
        return leaving
