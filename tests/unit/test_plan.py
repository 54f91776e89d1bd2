"""What `Plan` decides, case by case."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from waystation.errors import PieceMismatch, RevisionChanged, Short
from waystation.model import Artifact, Digest, Span, TargetPath
from waystation.pieces import PieceTree
from waystation.transfer.plan import RANGE_BYTES, Ask, Plan, Recheck, RiderId

MIB = 1024 * 1024
ANNA, BERT = RiderId(1), RiderId(2)


def plan(
    size_mib: int = 100, *, suspect: set[int] | None = None, pieces: bool = True, width: int = 2, retries: int = 3
) -> Plan:
    tree = PieceTree(bytes(32), MIB) if pieces else None
    artifact = Artifact(
        TargetPath("app/app"), Digest("0" * 64), size_mib * MIB - 1, datetime.now(UTC), "app/app", None, tree
    )
    return Plan(artifact, frozenset(suspect or ()), None, width=width, retries=retries)


def land(plan: Plan, *indices: int) -> None:
    for index in indices:
        plan.landed(index, good=True)


def test_a_flight_starts_with_one_range_and_widens_once_a_piece_has_verified() -> None:
    it = plan()
    assert it.next() == Ask(0, 16)
    assert it.next() is None
    land(it, 0)
    assert it.next() == Ask(16, 32)
    assert it.next() is None


def test_a_rider_s_pieces_go_first() -> None:
    it = plan()
    it.seek(ANNA, 0)
    it.next()
    land(it, 0)
    it.seek(BERT, 70)
    assert it.next() == Ask(70, 86)


def test_a_range_that_nobody_waits_for_makes_way_for_a_rider() -> None:
    it = plan()
    it.seek(ANNA, 0)
    first = it.next()
    land(it, 0)
    ahead = it.next()
    assert (first, ahead) == (Ask(0, 16), Ask(16, 32))
    it.make_way()
    assert not it.yielding(16), "nobody waits, yet a range is to end"
    it.seek(BERT, 70)
    it.make_way()
    assert it.yielding(16)
    assert not it.yielding(1), "the range that a rider stands in goes on"
    land(it, 16)
    it.returned(Ask(16, 32))
    assert it.next() == Ask(70, 86)


def test_suspect_pieces_are_rechecked_before_the_origin_is_asked_for_any_of_them() -> None:
    it = plan(20, suspect={0, 1, 2, 5})
    assert it.next() == Recheck(0, 3)
    assert it.next() == Ask(3, 5)
    it.landed(0, good=True)
    it.landed(1, good=False)
    it.landed(2, good=True)
    assert it.next() == Recheck(5, 6)
    it.landed(5, good=True)
    assert it.next() is None, "rechecked pieces prove nothing of the origin: still one range"
    it.landed(3, good=True)
    assert it.next() == Ask(1, 2)


def test_a_bad_piece_is_asked_for_once_more_alone_and_then_the_flight_fails_by_its_number() -> None:
    it = plan()
    ask = it.next()
    assert isinstance(ask, Ask)
    it.landed(0, good=True)
    it.landed(1, good=False)
    it.returned(ask)
    assert it.next() == Ask(1, 2)
    assert it.next() == Ask(2, 18)
    with pytest.raises(PieceMismatch, match="piece 1 of 100 of app/app"):
        it.landed(1, good=False)


def test_the_budget_counts_losses_in_a_row_and_a_good_piece_restores_it() -> None:
    it = plan(retries=2)
    for _ in range(5):
        for _ in range(2):
            ask = it.next()
            assert isinstance(ask, Ask)
            it.lost(ask, Short("cut"))
        ask = it.next()
        assert isinstance(ask, Ask)
        land(it, ask.first)
        it.returned(ask)
    for _ in range(2):
        ask = it.next()
        assert isinstance(ask, Ask)
        it.lost(ask, Short("cut"))
    ask = it.next()
    assert isinstance(ask, Ask)
    with pytest.raises(Short):
        it.lost(ask, Short("cut"))


def test_what_landed_of_a_lost_range_is_not_asked_for_again() -> None:
    it = plan()
    ask = it.next()
    assert isinstance(ask, Ask)
    land(it, 0, 1, 2)
    it.lost(ask, Short("cut"))
    assert it.next() == Ask(3, 19)


def test_an_error_that_asking_again_can_t_mend_ends_the_flight_at_once() -> None:
    it = plan()
    ask = it.next()
    assert isinstance(ask, Ask)
    with pytest.raises(RevisionChanged):
        it.lost(ask, RevisionChanged("another"))


def test_without_pieces_slices_of_one_range_land_good() -> None:
    it = plan(40, pieces=False)
    assert it.count == 3
    assert it.unit_bytes == RANGE_BYTES
    assert it.next() == Ask(0, 1)
    assert it.span(2, 3) == Span(32 * MIB, 40 * MIB - 1)


def test_an_empty_artifact_is_complete_from_the_start() -> None:
    artifact = Artifact(TargetPath("a/a"), Digest("0" * 64), 0, datetime.now(UTC), "a/a", None, None)
    it = Plan(artifact, frozenset(), None, width=2, retries=0)
    assert it.complete
    assert it.next() is None
