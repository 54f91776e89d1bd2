"""How fast the scrub reads, and in which order blobs have their turn."""

from __future__ import annotations

import random

import pytest

from waystation.model import Digest
from waystation.store.held import Held
from waystation.store.index import Index
from waystation.store.order import VerificationOrder
from waystation.store.pace import IDLE_BYTES_PER_S, MOST_BYTES_PER_S, Pace, due_in_s

DAY = 86400.0
GIB = 1024**3
A, B, C = (Digest(letter * 64) for letter in "abc")


@pytest.mark.parametrize("store_bytes", [1, GIB, 20 * GIB, 10_000 * GIB])
def test_all_of_a_store_that_becomes_due_at_once_is_read_within_the_interval(store_bytes: int) -> None:
    pace = Pace(store_bytes, 7 * DAY)
    assert 0.5 * 7 * DAY + store_bytes / pace.lasting <= 0.95 * 7 * DAY


def test_the_pace_that_keeps_the_interval_is_kept_up_whoever_uses_the_store() -> None:
    pace = Pace(20 * GIB, 7 * DAY)
    assert pace.lasting == pytest.approx(20 * GIB / (0.4 * 7 * DAY))
    assert pace.rate(suspect=False, busy=True) == pace.lasting
    assert pace.rate(suspect=False, busy=False) == IDLE_BYTES_PER_S
    fast = Pace(20 * GIB, 3600)
    assert fast.rate(suspect=False, busy=True) == fast.rate(suspect=False, busy=False) == fast.lasting


def test_it_is_never_faster_than_the_limit() -> None:
    pace = Pace(20 * GIB, 1)
    assert pace.rate(suspect=False, busy=False) == pace.lasting == MOST_BYTES_PER_S


def test_suspects_are_read_as_fast_as_may_be_but_step_back_for_clients() -> None:
    pace = Pace(GIB, 7 * DAY)
    assert pace.rate(suspect=True, busy=False) == MOST_BYTES_PER_S
    assert pace.rate(suspect=True, busy=True) == IDLE_BYTES_PER_S


def test_a_blob_is_due_once_half_the_interval_has_passed() -> None:
    assert due_in_s(0, int(0.2 * DAY * 1e9), DAY) == pytest.approx(0.3 * DAY)
    assert due_in_s(0, int(0.5 * DAY * 1e9), DAY) == due_in_s(0, int(9 * DAY * 1e9), DAY) == 0


def test_the_order_is_suspects_first_then_by_time_whatever_changes() -> None:
    order, expected = VerificationOrder(), {}
    rng = random.Random(1)
    names = [Digest(f"{number:064x}") for number in range(20)]
    order.fill([(A, 5, False), (B, 3, False)])
    expected = {A: (True, 5), B: (True, 3)}
    for _ in range(2000):
        name, verified_ns, suspect = rng.choice(names), rng.randrange(100), rng.random() < 0.2
        if rng.random() < 0.3:
            order.remove(name)
            expected.pop(name, None)
        else:
            order.put(name, verified_ns, suspect=suspect)
            expected[name] = (not suspect, verified_ns)
        first = order.first()
        assert first is not None
        assert expected[first] == min(expected.values())


def test_an_order_that_changes_for_years_does_not_grow() -> None:
    order = VerificationOrder()
    for number in range(10_000):
        order.put((A, B, C)[number % 3], number, suspect=False)
        order.first()
    assert len(order._heap) < 10


def test_an_order_does_not_grow_while_its_first_one_waits_and_others_come_and_go() -> None:
    order = VerificationOrder()
    order.put(A, 0, suspect=False)
    for number in range(1, 10_000):
        order.put(B, number, suspect=False)
        assert order.first() == A
        order.remove(B)
    assert len(order._heap) < 1100


def index_of(*verified: tuple[Digest, int]) -> Index:
    index = Index(1000, 0)
    index.recovered([Held(digest, 10, 0, at, at) for digest, at in verified], [])
    return index


def test_a_verification_in_the_future_tells_nothing() -> None:
    index = index_of((A, 100), (B, 5_000))
    first = index.next_to_verify(1_000)
    assert first is not None
    assert (first.digest, first.verified_ns) == (B, 0)
    index.verified(first, 1_000)
    assert (second := index.next_to_verify(1_000)) is not None
    assert second.digest == A


def test_a_clock_that_is_set_back_makes_all_of_it_due_again_once() -> None:
    index = index_of((A, 100), (B, 200))
    for now_ns in (300, 50, 60):
        held = index.next_to_verify(now_ns)
        assert held is not None
        index.verified(held, now_ns)
    assert sorted(held.verified_ns for held in index) == [50, 60]
