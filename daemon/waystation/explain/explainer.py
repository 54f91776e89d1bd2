"""Asks each part what it knows of a name.

Explaining changes nothing. The origin is asked what admission would ask it, and nothing of that is remembered;
no blob is opened, which would count as a use; and no object is read to learn its digest (pin-first), however
small: it is said that this would happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from waystation.errors import BadTarget, RequestError
from waystation.explain.explanation import Explanation, Here, Name, Vouched, decide, told
from waystation.model import Digest, printable
from waystation.pieces import piece_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from waystation.admission import Admission
    from waystation.catalog.sighting import Sighting
    from waystation.errors import WaystationError
    from waystation.explain.explanation import Trouble
    from waystation.status import OriginStatus, Refusal
    from waystation.store.interface import Store
    from waystation.transfer.interface import Transfers

_TAKES_RIDERS = frozenset({"queued", "fetching", "sealing"})
"""What is passed through has one client, also while it is done and that client still reads."""
SHOWN_REFUSALS = 3


class KnowsItsState(Protocol):
    """As much of an origin as is asked here."""

    def status(self) -> OriginStatus: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What only a running daemon has."""

    store: Store
    transfers: Transfers
    refusals: Callable[[], Iterable[Refusal]]


class Explainer:
    """Explains names; `named` finds the one in a path or a URL, `meaning` is the HTTP status of an error."""

    def __init__(
        self,
        admission: Admission,
        origin: KnowsItsState,
        *,
        named: Callable[[str], str],
        meaning: Callable[[WaystationError], int],
        daemon: Surroundings | None,
    ) -> None:
        self._admission = admission
        self._origin = origin
        self._named = named
        self._meaning = meaning
        self._daemon = daemon

    async def explain(self, asked: str) -> Explanation:
        """Walk the way of one name; whatever stands in it is told, never raised."""
        try:
            sightings = await self._admission.look(self._named(asked))
        except (BadTarget, RequestError) as error:
            refusal = told(error, self._meaning)
            return self._explained(asked, (Name(asked, refusal),), refusal, None)
        names = tuple(Name(seen.name, self._told(seen.refusal)) for seen in sightings)
        return self._explained(asked, names, names[-1].refusal, sightings[-1])

    def _explained(
        self, asked: str, names: tuple[Name, ...], refusal: Trouble | None, seen: Sighting | None
    ) -> Explanation:
        catalog = self._vouched(seen) if seen else None
        here = self._here(names, catalog, seen) if self._daemon else None
        origin = self._origin.status()
        answer = decide(refusal=refusal, catalog=catalog, here=here, origin=origin, meaning=self._meaning)
        return Explanation(
            asked, names, seen is not None, catalog, seen.unread_bytes if seen else None, here, origin, answer
        )

    def _vouched(self, seen: Sighting) -> Vouched | None:
        if seen.now is None:
            return None
        artifact = seen.now.artifact
        return Vouched(
            sha256=artifact.digest,
            size_bytes=artifact.size_bytes,
            pieces=piece_count(artifact.size_bytes, artifact.pieces.piece_length) if artifact.pieces else None,
            vouched_by=seen.now.vouched_by,
            known_since=seen.before.seen if seen.before else None,
            fresh_for_s=seen.fresh_for_s,
            not_refreshed=self._told(seen.not_refreshed),
        )

    def _here(self, names: tuple[Name, ...], catalog: Vouched | None, seen: Sighting | None) -> Here | None:
        if self._daemon is None:
            return None
        store, flights = self._daemon.store, self._daemon.transfers.flights()
        # Also of what is refused now: that its blob is still here is worth knowing.
        digest = catalog.sha256 if catalog else seen.before.artifact.digest if seen and seen.before else None
        size_bytes = catalog.size_bytes if catalog else seen.unread_bytes if seen else None
        spellings = {printable(name.name) for name in names}
        return Here(
            blob=store.blob(Digest(digest)) if digest else None,
            partial=digest is not None and store.has_partial(Digest(digest)),
            flight=next((one for one in flights if one.digest == digest and one.state in _TAKES_RIDERS), None),
            pinned_by=tuple(sorted(owner for owner, digests in store.pins().items() if digest in digests)),
            room=store.room_for(size_bytes) if size_bytes is not None else None,
            memory=self._daemon.transfers.memory_for(seen.now.artifact) if seen and seen.now else None,
            refusals=tuple(one for one in self._daemon.refusals() if one.target in spellings)[:SHOWN_REFUSALS],
        )

    def _told(self, error: WaystationError | None) -> Trouble | None:
        return told(error, self._meaning) if error else None
