"""Accounts for every byte in the store and decides what goes when room is needed; no disk, loop or clock.

Bytes are in one of five states: a blob, a spool (a running flight's reservation), a partial (a kept
spool that no flight uses), in quarantine, or leaving (nobody may use them any more, but they are
still on disk). All count against the quota. A blob is trusted, or suspect (to be checked before it
is served), or distrusted (on its way out of service).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waystation.store.eviction import choose
from waystation.store.held import Held, Leaving
from waystation.store.order import VerificationOrder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from waystation.model import Digest
    from waystation.store.eviction import Eviction
    from waystation.store.held import Place


@dataclass(slots=True)
class Index:
    """What the store holds."""

    max_size_bytes: int
    min_free_bytes: int
    used_bytes: int = 0
    """Blobs, spools, partials, quarantine and what is leaving."""
    leases: int = 0
    """How many leases there are on all blobs together."""
    _blobs: OrderedDict[Digest, Held] = field(default_factory=OrderedDict)
    """Least recently used first."""
    _partials: OrderedDict[Digest, int] = field(default_factory=OrderedDict)
    _spools: dict[Digest, int] = field(default_factory=dict)
    _borrowed: dict[Digest, Held] = field(default_factory=dict)
    """Suspect blobs that a flight checks in their place; each has a spool too."""
    _quarantined: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """By name, the oldest first."""
    _leaving: dict[tuple[Place, Digest], Leaving] = field(default_factory=dict)
    _pinned: frozenset[Digest] = frozenset()
    _unrecorded: set[Digest] = field(default_factory=set)
    _latest_ns: int = 0
    _order: VerificationOrder = field(default_factory=VerificationOrder)
    _suspects: int = 0
    _doubted: dict[Digest, Held] = field(default_factory=dict)
    _newest_verified_ns: int = 0

    # --- what is here --------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many blobs there are."""
        return len(self._blobs)

    def __iter__(self) -> Iterator[Held]:
        """The blobs, least recently used first."""
        return iter(self._blobs.values())

    def blob(self, digest: Digest) -> Held | None:
        return self._blobs.get(digest)

    def has_partial(self, digest: Digest) -> bool:
        return digest in self._partials

    def has_spool(self, digest: Digest) -> bool:
        return digest in self._spools

    def is_leaving(self, digest: Digest) -> bool:
        return ("blob", digest) in self._leaving or ("spool", digest) in self._leaving

    def has_any_of(self, digest: Digest) -> bool:
        """Whether something of it lies in the store, in whatever state."""
        return digest in self._blobs or digest in self._partials or digest in self._spools or self.is_leaving(digest)

    @property
    def leaving(self) -> tuple[Leaving, ...]:
        return tuple(self._leaving.values())

    @property
    def quarantined(self) -> tuple[str, ...]:
        """What is in quarantine, by name, the oldest first."""
        return tuple(self._quarantined)

    @property
    def suspects(self) -> int:
        """How many blobs were not checked again since they became suspect."""
        return self._suspects + len(self._borrowed)

    @property
    def doubted(self) -> tuple[Held, ...]:
        """Distrusted blobs that are in their place still."""
        return tuple(self._doubted.values())

    @property
    def busy(self) -> bool:
        """Whether somebody reads a blob, or a flight is under way."""
        return bool(self.leases or self._spools)

    @property
    def blob_bytes(self) -> int:
        """All blobs, with the pieces beside them."""
        return (
            self.used_bytes
            - sum(self._spools.values())
            - sum(self._partials.values())
            - sum(self._quarantined.values())
            - sum(one.total_bytes for one in self._leaving.values())
        )

    @property
    def spool_bytes(self) -> int:
        """What running flights have reserved."""
        return sum(self._spools.values())

    @property
    def pinned_bytes(self) -> int:
        blobs = sum(self._blobs[digest].total_bytes for digest in self._pinned if digest in self._blobs)
        return blobs + sum(self._partials[digest] for digest in self._pinned if digest in self._partials)

    @property
    def leased_bytes(self) -> int:
        return sum(held.total_bytes for held in self if held.leases)

    def oldest_used_ns(self) -> int | None:
        """When the blob was last used that would be evicted first."""
        return next((held.used_ns for held in self if held.digest not in self._pinned), None)

    # --- recovery ------------------------------------------------------------------------------

    def recovered(
        self,
        blobs: Iterable[Held],
        partials: Iterable[tuple[Digest, int]],
        quarantined: Iterable[tuple[str, int]] = (),
    ) -> None:
        """Take in what the disk held at the start, each least recently used first."""
        for held in blobs:
            self._blobs[held.digest] = held
            self.used_bytes += held.total_bytes
            self._latest_ns = max(self._latest_ns, held.used_ns)
            self._newest_verified_ns = max(self._newest_verified_ns, held.verified_ns)
            self._suspects += held.trust == "suspect"
        for digest, total_bytes in partials:
            self._partials[digest] = total_bytes
            self.used_bytes += total_bytes
        for name, size_bytes in quarantined:
            self.set_aside(name, size_bytes)
        self._order_anew()

    # --- use -----------------------------------------------------------------------------------

    def lease(self, digest: Digest, now_ns: int) -> Held | None:
        """Protect a trusted blob from eviction until `release`, as often as this is called."""
        held = self._blobs.get(digest)
        if held is None or held.trust != "trusted":
            return None
        held.leases += 1
        self.leases += 1
        self._use(held, now_ns)
        return held

    def release(self, held: Held, now_ns: int) -> None:
        """End one lease; the blob may have been dropped meanwhile."""
        held.leases -= 1
        self.leases -= 1
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

    # --- trust ---------------------------------------------------------------------------------

    def next_to_verify(self, now_ns: int) -> Held | None:
        """The blob to be verified next: a suspect one, else the one that was verified longest ago.

        A verification that lies in the future tells nothing (the clock was set back): it counts as unknown.
        """
        if self._newest_verified_ns > now_ns:
            for held in self:
                if held.verified_ns > now_ns:
                    held.verified_ns = 0
            self._newest_verified_ns = now_ns
            self._order_anew()
        digest = self._order.first()
        return None if digest is None else self._blobs[digest]

    def verified(self, held: Held, now_ns: int) -> None:
        """A blob's bytes were found right just now."""
        self._suspects -= held.trust == "suspect"
        held.trust, held.verified_ns = "trusted", now_ns
        self._ordered(held)

    def doubt(self, held: Held) -> None:
        """A blob is wrong: nobody gets it any more, and `distrusted` or `remove_blob` follows."""
        self._suspects -= held.trust == "suspect"
        held.trust = "distrusted"
        self._doubted[held.digest] = held
        self._order.remove(held.digest)

    def distrusted(self, held: Held) -> None:
        """A blob that was wrong became a partial; leases that it still has stay good until they end."""
        self._pop_blob(held.digest)
        self._partials[held.digest] = held.total_bytes

    def pieces_dropped(self, held: Held) -> None:
        """The ``.pieces`` file beside a blob is off the disk."""
        self.used_bytes -= held.pieces_bytes
        held.pieces_bytes = 0

    # --- arriving ------------------------------------------------------------------------------

    def reserve(self, digest: Digest, total_bytes: int) -> None:
        """Count a new spool."""
        self._spools[digest] = total_bytes
        self.used_bytes += total_bytes

    def unreserve(self, digest: Digest) -> None:
        """A spool came to nothing, and left nothing on disk."""
        self.used_bytes -= self._spools.pop(digest)

    def resume(self, digest: Digest) -> int:
        """A flight takes up a partial; its bytes."""
        self._spools[digest] = self._partials.pop(digest)
        return self._spools[digest]

    def borrow(self, held: Held) -> None:
        """A flight takes up a suspect blob, in its place."""
        self._pop_blob(held.digest)
        self._borrowed[held.digest] = held
        self._spools[held.digest] = held.total_bytes

    def give_back(self, digest: Digest, now_ns: int) -> None:
        """A flight left a suspect blob in its place, neither proved nor changed."""
        held = self._borrowed.pop(digest)
        held.pieces_bytes = self._spools.pop(digest) - held.size_bytes
        self._add_blob(held, now_ns)

    def taken_out(self, digest: Digest) -> None:
        """A suspect blob that a flight took up is a spool like any other now."""
        self._borrowed.pop(digest, None)

    def resize(self, digest: Digest, total_bytes: int) -> None:
        """A spool has other pieces beside it than before."""
        self.used_bytes += total_bytes - self._spools[digest]
        self._spools[digest] = total_bytes

    def spool_pieces_bytes(self, digest: Digest, size_bytes: int) -> int:
        """The length of the ``.pieces`` file beside a spool of that size."""
        return self._spools[digest] - size_bytes

    def keep(self, digest: Digest) -> None:
        """A flight left its spool behind, for another to resume."""
        self._partials[digest] = self._spools.pop(digest)

    def discard(self, digest: Digest) -> None:
        """A flight gave up its spool, and nobody may resume it."""
        self._leave(Leaving("spool", digest, self._spools.pop(digest)))

    def stored(self, digest: Digest, *, size_bytes: int, now_ns: int) -> Held:
        """A spool became a blob, leased once: by the flight that still holds its descriptor."""
        self._borrowed.pop(digest, None)
        pieces_bytes = self._spools.pop(digest) - size_bytes
        held = Held(digest, size_bytes, pieces_bytes, now_ns, now_ns, leases=1, size_confirmed=True)
        self.leases += 1
        self._add_blob(held, now_ns)
        return held

    # --- leaving -------------------------------------------------------------------------------

    def remove_blob(self, digest: Digest, *, strange: str | None = None) -> Leaving:
        """From now on nobody finds this blob; leases that it still has stay good until they end."""
        held = self._pop_blob(digest)
        return self._leave(Leaving("blob", digest, held.total_bytes, strange))

    def remove_partial(self, digest: Digest) -> Leaving:
        """From now on nobody resumes this partial."""
        return self._leave(Leaving("spool", digest, self._partials.pop(digest)))

    def gone(self, leaving: Leaving) -> None:
        """It is off its place: its room may be given away."""
        del self._leaving[leaving.place, leaving.digest]
        self.used_bytes -= leaving.total_bytes

    def set_aside(self, name: str, size_bytes: int) -> None:
        """Something lies in quarantine now."""
        self._quarantined[name] = size_bytes
        self.used_bytes += size_bytes

    def cleared(self, name: str) -> int:
        """Something is no longer in quarantine; its bytes."""
        size_bytes = self._quarantined.pop(name)
        self.used_bytes -= size_bytes
        return size_bytes

    # --- room ----------------------------------------------------------------------------------

    def make_room(self, need_bytes: int, free_bytes: int) -> Eviction:
        """Choose what must go before `need_bytes` more may be taken, while the filesystem has `free_bytes`."""
        partials = ((digest, size_bytes) for digest, size_bytes in self._partials.items() if digest not in self._pinned)
        blobs = (
            (held.digest, held.total_bytes)
            for held in self
            if not held.leases and held.digest not in self._pinned and held.trust != "distrusted"
        )
        return choose(
            over_quota_bytes=self.used_bytes + need_bytes - self.max_size_bytes,
            under_free_bytes=self.min_free_bytes + need_bytes - free_bytes,
            quarantined=self._quarantined.items(),
            partials=partials,
            blobs=blobs,
        )

    # -------------------------------------------------------------------------------------------

    def _use(self, held: Held, now_ns: int) -> None:
        # A clock that is set back must not make what is used now look older than what was used before.
        self._latest_ns = max(now_ns, self._latest_ns + 1)
        held.used_ns = self._latest_ns
        self._blobs.move_to_end(held.digest)
        self._unrecorded.add(held.digest)

    def _add_blob(self, held: Held, now_ns: int) -> None:
        self._blobs[held.digest] = held
        self._suspects += held.trust == "suspect"
        self._use(held, now_ns)
        self._ordered(held)

    def _pop_blob(self, digest: Digest) -> Held:
        held = self._blobs.pop(digest)
        self._suspects -= held.trust == "suspect"
        self._doubted.pop(digest, None)
        self._order.remove(digest)
        return held

    def _ordered(self, held: Held) -> None:
        self._newest_verified_ns = max(self._newest_verified_ns, held.verified_ns)
        self._order.put(held.digest, held.verified_ns, suspect=held.trust == "suspect")

    def _order_anew(self) -> None:
        self._order.fill(
            (held.digest, held.verified_ns, held.trust == "suspect") for held in self if held.trust != "distrusted"
        )

    def _leave(self, leaving: Leaving) -> Leaving:
        self._leaving[leaving.place, leaving.digest] = leaving
        return leaving
