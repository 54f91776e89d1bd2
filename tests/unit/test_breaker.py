"""When the circuit breaker lets anyone ask; time is passed in."""

from __future__ import annotations

import pytest

from waystation.origin.breaker import FAILURES_TO_OPEN, FIRST_WAIT_S, LONGEST_WAIT_S, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(randomly=lambda: 0.0)
    for _ in range(FAILURES_TO_OPEN):
        assert breaker.admit(now) is None
        breaker.failed(now)
    return breaker


def test_it_stays_closed_while_failures_are_not_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.failed(0.0)
        breaker.answered()
    assert breaker.state(0.0) == "closed"
    assert breaker.retry_after_s(0.0) is None


def test_failures_in_a_row_open_it_and_it_says_how_long() -> None:
    breaker = opened(100.0)
    assert breaker.state(100.0) == "open"
    assert breaker.admit(100.0) == FIRST_WAIT_S
    assert breaker.admit(100.0 + FIRST_WAIT_S / 4) == FIRST_WAIT_S * 3 / 4


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    breaker = opened()
    assert breaker.state(FIRST_WAIT_S) == "half-open"
    assert breaker.admit(FIRST_WAIT_S) is None
    assert breaker.admit(FIRST_WAIT_S) is not None
    assert breaker.state(FIRST_WAIT_S) == "half-open"


def test_an_answered_probe_closes_it_for_all() -> None:
    breaker = opened()
    breaker.admit(FIRST_WAIT_S)
    breaker.answered()
    assert breaker.state(FIRST_WAIT_S) == "closed"
    assert breaker.admit(FIRST_WAIT_S) is None
    assert breaker.admit(FIRST_WAIT_S) is None


def test_each_failed_probe_doubles_the_wait_up_to_a_limit() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(8):
        wait_s = breaker.admit(now)
        assert wait_s is not None
        waits.append(wait_s)
        now += wait_s
        assert breaker.admit(now) is None
        breaker.failed(now)
    assert waits == [min(FIRST_WAIT_S * 2**n, LONGEST_WAIT_S) for n in range(8)]


def test_after_an_answer_the_wait_begins_small_again() -> None:
    breaker = opened()
    for now in (1.0, 3.0, 7.0):
        assert breaker.admit(now) is None
        breaker.failed(now)
    breaker.answered()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(100.0)
    assert breaker.admit(100.0) == FIRST_WAIT_S


def test_a_probe_that_was_given_up_lets_another_try() -> None:
    breaker = opened()
    assert breaker.admit(FIRST_WAIT_S) is None
    breaker.gave_up()
    assert breaker.admit(FIRST_WAIT_S) is None


def test_failures_of_requests_sent_before_it_opened_do_not_prolong_it() -> None:
    breaker = opened()
    for _ in range(20):
        breaker.failed(0.5)
    assert breaker.admit(0.5) == pytest.approx(FIRST_WAIT_S - 0.5)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_waits_are_shortened_at_random_by_half_at_most(chance: float) -> None:
    breaker = Breaker(randomly=lambda: chance)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(0.0)
    assert breaker.admit(0.0) == pytest.approx(FIRST_WAIT_S * (1 - chance / 2))
    assert FIRST_WAIT_S / 2 <= (breaker.admit(0.0) or 0) <= FIRST_WAIT_S
