"""`Plan` under random arrivals, losses, seeks and windows: it asks once at a time, ends held or raises, never hangs."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from waystation.errors import OriginError, PieceMismatch, Short
from waystation.model import Artifact, Digest, TargetPath
from waystation.pieces import BLOCK_BYTES, PieceTree
from waystation.transfer.plan import RANGE_BYTES, Ask, Plan, Recheck, RiderId

RETRIES = 3


def artifact(size_bytes: int, piece_length: int | None) -> Artifact:
    tree = PieceTree(bytes(32), piece_length) if piece_length else None
    return Artifact(TargetPath("a/a"), Digest("0" * 64), size_bytes, datetime.now(UTC), "a/a", None, tree)


class PlanMachine(RuleBasedStateMachine):
    """Plays the flight: starts what the plan says, lets pieces land or get lost in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[Ask | Recheck, int] = {}
        self.over: list[Ask] = []
        self.held: set[int] = set()
        self.ended: Exception | None = None
        self.riders: dict[RiderId, int] = {}

    @initialize(
        pieces=st.integers(1, 60),
        tail=st.integers(1, BLOCK_BYTES * 4),
        suspects=st.sets(st.integers(0, 59)),
        width=st.integers(1, 4),
        window=st.one_of(st.none(), st.integers(1, 8)),
        large=st.booleans(),
        wanted=st.tuples(st.integers(0, 59), st.integers(1, 60)),
    )
    def begin(
        self,
        pieces: int,
        tail: int,
        suspects: set[int],
        width: int,
        window: int | None,
        large: bool,
        wanted: tuple[int, int],
    ) -> None:
        length = 4 * 1024 * 1024 if large else BLOCK_BYTES * 4
        self.count = pieces
        self.window = window
        suspect = frozenset(index for index in suspects if index < pieces)
        self.wanted = range(pieces)
        if window is not None:  # only such a flight is about less than everything, and nothing lies in its spool yet
            suspect = frozenset()
            if wanted[0] < min(wanted[1], pieces):
                self.wanted = range(wanted[0], min(wanted[1], pieces))
        self.plan = Plan(
            artifact((pieces - 1) * length + tail, length),
            suspect,
            window,
            width=width,
            retries=RETRIES,
            wanted=self.wanted,
        )
        self.width = width
        self.unknown = set(suspect)
        self.riders[RiderId(0)] = self.wanted.start
        self.plan.seek(RiderId(0), self.wanted.start)
        assert self.plan.count == pieces

    @rule()
    def start(self) -> None:
        if self.ended:
            return
        while job := self.plan.next():
            wanted = set(range(job.first, job.stop))
            assert wanted
            assert not wanted & self.held, "a held piece was asked for"
            assert wanted <= set(self.wanted), "a piece was asked for that nobody wants"
            for other in self.running:
                assert not wanted & set(range(self.running[other], other.stop)), "a piece was asked for twice at a time"
            if isinstance(job, Recheck):
                assert wanted <= self.unknown
            else:
                assert not wanted & self.unknown, "a suspect piece was asked of the origin before it was rechecked"
            if self.window is not None:
                assert max(wanted) < min(self.riders.values(), default=self.plan.watermark) + self.window
            assert (job.stop - job.first) * self.plan.unit_bytes <= max(RANGE_BYTES, self.plan.unit_bytes)
            self.running[job] = job.first
            assert len(self.over) + sum(isinstance(running, Ask) for running in self.running) <= self.width

    @precondition(lambda self: self.running and not self.ended)
    @rule(data=st.data(), good=st.booleans())
    def land(self, data: st.DataObject, good: bool) -> None:
        job = data.draw(st.sampled_from(list(self.running)))
        self._land(job, good=good)

    def _land(self, job: Ask | Recheck, *, good: bool) -> None:
        index = self.running[job]
        self.running[job] += 1
        try:
            self.plan.landed(index, good=good)
        except PieceMismatch as error:
            assert not good
            self.ended = error
            return
        self.unknown.discard(index)
        if good:
            self.held.add(index)
        done = self.running[job] == job.stop
        if done or (not good and isinstance(job, Ask)):
            del self.running[job]
            if isinstance(job, Ask):
                self.over.append(job)

    @rule()
    def hear_of_the_end(self) -> None:
        """The loop learns that an ask is over only some time behind its last piece."""
        if self.over and not self.ended:
            self.plan.returned(self.over.pop(0))

    @precondition(lambda self: any(isinstance(job, Ask) for job in self.running) and not self.ended)
    @rule(data=st.data(), kind=st.sampled_from(["lost", "returned"]))
    def end_range(self, data: st.DataObject, kind: str) -> None:
        ask = data.draw(st.sampled_from([job for job in self.running if isinstance(job, Ask)]))
        del self.running[ask]
        if kind == "returned":
            self.plan.returned(ask)
            return
        try:
            self.plan.lost(ask, Short("cut off"))
        except OriginError as error:
            assert self.plan.losses == RETRIES + 1
            self.ended = error

    @rule(rider=st.integers(0, 3), place=st.one_of(st.none(), st.integers(0, 60)))
    def seek(self, rider: int, place: int | None) -> None:
        if self.window is not None and place is not None:
            place = max(place, self.riders.get(RiderId(rider), self.wanted.start))
        if place is None:
            self.riders.pop(RiderId(rider), None)
        else:
            self.riders[RiderId(rider)] = place
        self.plan.seek(RiderId(rider), place)

    @precondition(lambda self: not self.ended)
    @rule()
    def make_way(self) -> None:
        self.plan.make_way()
        for job in [job for job in self.running if isinstance(job, Ask) and self.plan.yielding(job.first)]:
            self._land(job, good=True)
            if job in self.running:
                del self.running[job]
                self.plan.returned(job)

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "plan") and not self.ended:
            assert self.plan.complete == (len(self.held) == len(self.wanted))
            assert all(index in self.held for index in range(self.wanted.start, self.plan.watermark))
            assert self.plan.watermark == self.count or self.plan.watermark not in self.held

    def teardown(self) -> None:
        """From wherever the random part got to, a flight whose pieces all arrive ends complete."""
        if not hasattr(self, "plan") or self.ended:
            return
        for rider in list(self.riders):
            self.plan.seek(rider, None)
        self.riders = {RiderId(9): self.wanted.start}
        steps = 0
        while not self.plan.complete:
            self.riders[RiderId(9)] = self.plan.watermark
            self.plan.seek(RiderId(9), self.plan.watermark)
            while self.over:
                self.hear_of_the_end()
            self.start()
            assert self.running, "nothing is running, and the plan starts nothing: it hangs"
            for job in list(self.running):
                while job in self.running:
                    self._land(job, good=True)
            steps += 1
            assert steps <= 4 * self.count


PlanMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestPlan = PlanMachine.TestCase
