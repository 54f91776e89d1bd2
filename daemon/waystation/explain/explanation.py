"""What an explanation says, as values, and the decision at its end: what a client gets now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.errors import (
    DigestMismatch,
    LayerMismatch,
    NoRoom,
    PieceMismatch,
    RejectedByHub,
    RevisionChanged,
    StoreUnusable,
    TooLarge,
    Unavailable,
    Unreachable,
)
from waystation.model import CacheResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.errors import WaystationError
    from waystation.status import BlobStatus, FlightStatus, MemoryStatus, OriginStatus, Refusal, RoomStatus

_OK = 200
_COMES_AGAIN = frozenset(
    kind.reason
    for kind in (
        DigestMismatch,
        PieceMismatch,
        LayerMismatch,
        RejectedByHub,
        RevisionChanged,
        TooLarge,
        StoreUnusable,
        Unavailable,
    )
)
"""How a fetch ends for what lies in the object, the disk or a hub: only another fetch shows whether it still does."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error, as it is told to a client and to a person."""

    code: int
    reason: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Name:
    """One spelling, and why it leads nowhere."""

    name: str
    refusal: Trouble | None


@dataclass(frozen=True, slots=True)
class Vouched:
    """What the catalog says that the bytes must be, and where it has that from."""

    sha256: str
    size_bytes: int
    pieces: int | None
    """How many; None: they are released only as a whole."""
    vouched_by: str
    known_since: float | None
    """None: nobody has asked for it yet."""
    fresh_for_s: float | None
    """So long it is used without asking; None: the origin was asked now."""
    not_refreshed: Trouble | None
    """Why the origin could not be asked; what was known holds."""


@dataclass(frozen=True, slots=True)
class Here:
    """What the daemon has of it."""

    blob: BlobStatus | None
    partial: bool
    """Whether something of an earlier transfer is kept: what of it is right is not asked for again."""
    flight: FlightStatus | None
    pinned_by: tuple[str, ...]
    room: RoomStatus | None
    """Whether it would fit; None where nobody knows how large it is."""
    memory: MemoryStatus | None
    """Whether it could be passed through, where it does not fit; None: it never can."""
    refusals: tuple[Refusal, ...]
    """The last requests for it that were not answered with its bytes, the latest first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets now."""

    code: int
    reason: str
    cache: CacheResult
    message: str
    advice: str
    certain: bool = True
    """False: only a fetch would tell, and this is how the last one ended."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything, in the order of the way."""

    asked: str
    names: tuple[Name, ...]
    """The spellings that were tried; the last one counts."""
    looked: bool
    """Whether the catalog was asked: not where there is no name to ask for."""
    catalog: Vouched | None
    unread_bytes: int | None
    """So much would be read whole first, because nothing vouches for it (pin-first)."""
    here: Here | None
    """None: no daemon runs here."""
    origin: OriginStatus
    answer: Answer


def told(error: WaystationError, meaning: Callable[[WaystationError], int]) -> Trouble:
    """Make an error a value."""
    return Trouble(meaning(error), error.reason, str(error), error.advice)


def decide(
    *,
    refusal: Trouble | None,
    catalog: Vouched | None,
    here: Here | None,
    origin: OriginStatus,
    meaning: Callable[[WaystationError], int],
) -> Answer:
    """Say what a client gets now.

    `catalog` is None where the way ended at the `refusal`, or where nothing is known before all has been read.
    """
    if refusal is not None:
        return Answer(refusal.code, refusal.reason, CacheResult.NONE, refusal.message, refusal.advice)
    if catalog and here and (served := _without_a_new_fetch(here)):
        return served
    if trouble := _in_the_way(catalog, here, origin, meaning):
        asked_now = catalog is None or catalog.fresh_for_s is None or origin.circuit == "open"
        return Answer(trouble.code, trouble.reason, CacheResult.NONE, trouble.message, trouble.advice, asked_now)
    if here and here.refusals and here.refusals[0].reason in _COMES_AGAIN:
        last = here.refusals[0]
        return Answer(last.code, last.reason, CacheResult.MISS, last.detail, last.advice, certain=False)
    if here and here.room and here.room.short_bytes:
        how = "from the origin, passed through memory piece by piece and stored nowhere: there is no room for it"
        return _served(CacheResult.PASSED, how, advice=NoRoom.advice, certain=False)
    how = "from the origin, fetched and verified"
    if catalog is None:
        how = "from the origin, once all of it has been read to learn its digest, and then fetched"
    return _served(CacheResult.MISS, how)


def _served(cache: CacheResult, message: str, *, advice: str = "", certain: bool = True) -> Answer:
    return Answer(_OK, "ok", cache, message, advice, certain)


def _without_a_new_fetch(here: Here) -> Answer | None:
    if here.blob and not here.blob.suspect:
        return _served(CacheResult.HIT, "from the store; the origin is not needed")
    if here.flight:
        return _served(CacheResult.JOINED, "from the transfer that is running")
    if here.blob:
        how = "from the store, once it is checked again; the origin is asked for what fails"
        return _served(CacheResult.MISS, how, certain=False)
    return None


def _in_the_way(
    catalog: Vouched | None, here: Here | None, origin: OriginStatus, meaning: Callable[[WaystationError], int]
) -> Trouble | None:
    """What a fetch would meet before its first byte."""
    if origin.up is False:
        away = Unreachable(f"the origin can't be reached, and this is not cached: {origin.last_error}")
        return told(away, meaning)
    if catalog and catalog.not_refreshed:
        return catalog.not_refreshed
    room = here.room if here else None
    if room and room.short_bytes and not (here and here.memory and here.memory.fits):
        need = f"no room: it needs {room.need_bytes} bytes, {room.short_bytes} more than eviction can give"
        if here and (memory := here.memory):
            need += f"; passing it through takes {memory.need_bytes} bytes of memory, and of the {memory.limit_bytes}"
            need += f" that are set aside {memory.used_bytes} are in use"
        return told(NoRoom(need), meaning)
    return None
