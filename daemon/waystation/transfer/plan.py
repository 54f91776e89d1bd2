"""Who asks for which pieces next: the pure bookkeeping of one flight, without I/O, clock or await.

A piece is missing or suspect, then asked, then held. An artifact without pieces is planned in
slices that each land good; its bytes are vouched for only as a whole, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType

from waystation.errors import OriginError, PieceMismatch
from waystation.model import Span
from waystation.pieces import piece_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.model import Artifact

RiderId = NewType("RiderId", int)

RANGE_BYTES = 16 * 1024 * 1024
"""How much one range asks for."""

_MISSING, _SUSPECT, _ASKED, _HELD, _UNWANTED = range(5)


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the origin for a run of pieces, ``first <= index < stop``."""

    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Recheck:
    """Read a run of suspect pieces back from the spool and hash them."""

    first: int
    stop: int


@dataclass(slots=True)
class _Running:
    """What is left of a run that is under way: it lands in order."""

    run: Ask | Recheck
    at: int
    yielding: bool = False


@dataclass(slots=True)
class _Rider:
    index: int
    served: int = field(default=0)
    """When this rider's place last led to an ask; the longest unserved goes first."""


class Plan:
    """One flight's pieces and the riders that wait for them.

    `width` is how many ranges may be asked for at once, from the first good piece on; before it,
    one. `retries` is the one budget of a flight: so many ranges may be lost in a row without a
    good piece between them. `wanted` is what this flight is about, where that is not every piece.

    With a `window`, no piece is asked for that lies so many or more ahead of the slowest rider. It moves by half of
    itself: one half is asked for, in one range, while the other leaves.
    """

    def __init__(
        self,
        artifact: Artifact,
        suspect: frozenset[int],
        window: int | None,
        *,
        width: int,
        retries: int,
        wanted: range | None = None,
    ) -> None:
        self.unit_bytes = artifact.unit_bytes
        self.count = piece_count(artifact.size_bytes, self.unit_bytes)
        self._size_bytes = artifact.size_bytes
        self._target = artifact.target
        self._window = window
        self._width = width
        self._retries = retries
        self._losses = 0
        self._proven = False
        self._wanted = range(self.count) if wanted is None else wanted
        self._state = bytearray([_UNWANTED]) * self.count
        self._state[self._wanted.start : self._wanted.stop] = bytes([_MISSING]) * len(self._wanted)
        for index in suspect:
            self._state[index] = _SUSPECT
        self._held = 0
        self._watermark = self._wanted.start
        self._bad: set[int] = set()
        self._asks: list[_Running] = []
        self._recheck: _Running | None = None
        self._riders: dict[RiderId, _Rider] = {}
        self._turn = 0

    # --- what is known -------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Every wanted piece is held."""
        return self._held == len(self._wanted)

    @property
    def watermark(self) -> int:
        """The first piece, from the first wanted one on, that is not held."""
        return self._watermark

    @property
    def asks(self) -> bool:
        """Whether the origin is being asked for anything."""
        return bool(self._asks)

    @property
    def slowest(self) -> int:
        """The piece at which the slowest rider stands."""
        return min((rider.index for rider in self._riders.values()), default=self._watermark)

    @property
    def losses(self) -> int:
        """How many ranges were lost since the last good piece."""
        return self._losses

    @property
    def held_bytes(self) -> int:
        """How many bytes are held, the last piece counted whole."""
        return min(self._held * self.unit_bytes, self._size_bytes)

    def held_from(self, index: int) -> int:
        """The first piece at or behind `index` that is not held."""
        if index < self._watermark:
            return self._watermark
        while index < self.count and self._state[index] == _HELD:
            index += 1
        return index

    def span(self, first: int, stop: int) -> Span:
        """The bytes of a run of pieces."""
        return Span(first * self.unit_bytes, min(stop * self.unit_bytes, self._size_bytes))

    def pieces_of(self, run: Ask | Recheck) -> list[tuple[int, Span]]:
        """The pieces of a run, each with its bytes."""
        return [(index, self.span(index, index + 1)) for index in range(run.first, run.stop)]

    def size_of(self, index: int) -> int:
        """How many bytes one piece has."""
        return len(self.span(index, index + 1))

    # --- what riders do ------------------------------------------------------------------------

    def seek(self, rider: RiderId, index: int | None) -> None:
        """A rider stands at this piece (None: it left); its pieces go first."""
        if index is None:
            self._riders.pop(rider, None)
        elif rider in self._riders:
            self._riders[rider].index = index
        else:
            self._riders[rider] = _Rider(index)

    # --- what to do next -----------------------------------------------------------------------

    def next(self) -> Recheck | Ask | None:
        """Say what to start now; None: wait for `landed`, `lost` or `seek`."""
        if self._recheck is None and (run := self._take(_SUSPECT)):
            recheck = Recheck(*run)
            self._recheck = _Running(recheck, recheck.first)
            return recheck
        if len(self._asks) < (self._width if self._proven else 1) and (run := self._take(_MISSING)):
            ask = Ask(*run)
            self._asks.append(_Running(ask, ask.first))
            return ask
        return None

    def yielding(self, index: int) -> bool:
        """Whether the ask that `index` belongs to should end early, so that a waiting rider gets its turn."""
        running = self._running(index)
        return running is not None and running.yielding

    def make_way(self) -> None:
        """Let the least wanted ask end early where a rider waits for a piece that nobody is asked for."""
        if len(self._asks) < self._width or any(running.yielding for running in self._asks):
            return
        places = [rider.index for rider in self._riders.values() if rider.index < self.count]
        if not any(self._state[place] == _MISSING for place in places):
            return
        idle = [running for running in self._asks if not any(running.at <= at < running.run.stop for at in places)]
        if idle:
            max(idle, key=lambda running: running.at).yielding = True

    # --- what came of it -----------------------------------------------------------------------

    def landed(self, index: int, *, good: bool) -> None:
        """A piece arrived, or was rechecked.

        Raises:
            PieceMismatch: a piece came bad twice from the origin.
        """
        self._state[index] = _HELD if good else _MISSING
        self._held += good
        self._watermark = self._advance(self._watermark)
        if (recheck := self._recheck) and recheck.at <= index < recheck.run.stop:
            recheck.at = index + 1
            if recheck.at == recheck.run.stop:
                self._recheck = None
            return
        if running := self._running(index):
            running.at = index + 1
        if good:
            self._losses = 0
            self._proven = True
        elif index in self._bad:
            raise PieceMismatch(
                f"piece {index} of {self.count} of {self._target}, asked for twice, is not the published one"
            )
        else:
            self._bad.add(index)

    def returned(self, ask: Ask) -> None:
        """An ask is over, at its end or before; what did not land is missing again.

        Every ask holds its place until this or `lost` is called, also when all of it has landed: a bad piece may be
        asked for again by an equal ask meanwhile, and the earlier one is always found first.
        """
        for running in self._asks:
            if running.run == ask:
                for index in range(running.at, ask.stop):
                    self._state[index] = _MISSING
                self._asks.remove(running)
                return

    def lost(self, ask: Ask, error: OriginError) -> None:
        """An ask failed; what did not land is asked for again, or the flight ends.

        Raises:
            OriginError: `error`, where trying again can't help or the budget is spent.
        """
        self.returned(ask)
        self._losses += 1
        if not error.transient or self._losses > self._retries:
            raise error

    # --- private -------------------------------------------------------------------------------

    def _take(self, wanted: int) -> tuple[int, int] | None:
        """Mark the most wanted run of pieces in that state as asked, and return it."""
        limit = self._limit()
        for rider, place in self._places():
            first = self._state.find(wanted, place, limit)
            if first < 0:
                continue
            stop = min(limit, first + max(1, RANGE_BYTES // self.unit_bytes))
            if first in self._bad:
                stop = first + 1
            run_end = first
            while run_end < stop and self._state[run_end] == wanted and (run_end == first or run_end not in self._bad):
                self._state[run_end] = _ASKED
                run_end += 1
            if rider is not None:
                self._turn += 1
                rider.served = self._turn
            return first, run_end
        return None

    def _places(self) -> Iterator[tuple[_Rider | None, int]]:
        """Where to look for pieces: riders that wait for what nobody is asked for, the other riders, the whole file."""
        riders = [rider for rider in self._riders.values() if rider.index < self.count]
        riders.sort(key=lambda rider: (self._state[rider.index] not in (_MISSING, _SUSPECT), rider.served))
        for rider in riders:
            yield rider, rider.index
        yield None, 0

    def _limit(self) -> int:
        if self._window is None:
            return self.count
        slowest = self.slowest
        return min(self.count, slowest - slowest % max(1, self._window // 2) + self._window)

    def _running(self, index: int) -> _Running | None:
        return next((running for running in self._asks if running.at <= index < running.run.stop), None)

    def _advance(self, index: int) -> int:
        while index < self.count and self._state[index] == _HELD:
            index += 1
        return index
