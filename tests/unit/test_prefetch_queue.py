"""In which order targets are fetched, and when what failed is tried again."""

from __future__ import annotations

import pytest

from waystation.errors import NoChecksum, NoRoom, Unreachable
from waystation.model import Priority, TargetPath
from waystation.origin.breaker import Breaker
from waystation.prefetch.queue import FIRST_ORIGIN_WAIT_S, FIRST_WAIT_S, LONGEST_ORIGIN_WAIT_S, LONGEST_WAIT_S, Queue

A, B, C = (TargetPath(f"app/app-{version}-x86_64") for version in "123")
AWAY = Unreachable("the origin is away")


def queue_of(*targets: TargetPath, randomly: float = 0.0) -> Queue:
    queue = Queue(randomly=lambda: randomly)
    queue.want(dict.fromkeys(targets, Priority.PREFETCH))
    return queue


def test_what_is_newly_wanted_stands_where_it_is_said_to() -> None:
    queue = queue_of(A, B)
    queue.want(dict.fromkeys((C, B, A), Priority.PREFETCH))
    assert [queue.next(0), queue.next(0), queue.next(0)] == [C, B, A]


def test_what_was_wanted_first_comes_first_but_for_what_somebody_waits_for() -> None:
    queue = queue_of(A, B)
    queue.want({A: Priority.PREFETCH, B: Priority.PREFETCH, C: Priority.CLIENT})
    assert [queue.next(0), queue.next(0), queue.next(0), queue.next(0)] == [C, A, B, None]


def test_what_is_no_longer_wanted_is_dropped_and_what_runs_goes_on() -> None:
    queue = queue_of(A, B)
    assert queue.next(0) == A
    queue.want({C: Priority.PREFETCH})
    assert [item.target for item in queue.waiting()] == [C]
    assert queue.running == {A}
    queue.done(A)
    assert A not in queue


def test_what_was_under_way_when_the_fetching_ended_waits_again() -> None:
    queue = queue_of(A, B)
    assert queue.next(0) == A
    queue.give_back_all()
    assert not queue.running
    assert [queue.next(0), queue.next(0), queue.next(0)] == [A, B, None]


def test_wanting_the_same_again_changes_nothing() -> None:
    queue = queue_of(A, B)
    assert queue.next(0) == A
    queue.failed(A, NoChecksum("nothing vouches for it"), 0)
    queue.want({B: Priority.PREFETCH, A: Priority.PREFETCH})
    assert queue.next(0) == B
    assert queue.next(0) is None, "it still has to wait"


def test_a_target_that_fails_waits_twice_as_long_each_time_while_the_others_go_on() -> None:
    queue, now, waits = queue_of(A), 0.0, []
    for _ in range(12):
        assert queue.next(now) == A
        queue.failed(A, NoRoom("no room"), now)
        wait_s = queue.wait_s(now)
        assert wait_s is not None
        assert queue.next(now + wait_s - 0.001) is None
        waits.append(wait_s)
        now += wait_s
    assert waits[:4] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S, 8 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S


def test_an_origin_that_is_away_stops_all_and_then_one_alone_tries() -> None:
    queue = queue_of(A, B, C)
    assert [queue.next(0), queue.next(0)] == [A, B]
    queue.failed(A, AWAY, 0)
    queue.failed(B, AWAY, 0)
    wait_s = queue.wait_s(0)
    assert wait_s == 2, "two losses, and nobody asks"
    assert queue.next(wait_s - 0.001) is None
    probe = queue.next(wait_s)
    assert probe is not None
    assert queue.next(wait_s) is None, "one alone tries"
    assert queue.wait_s(wait_s) is None
    queue.done(probe)
    assert queue.next(wait_s) is not None
    assert queue.next(wait_s) is not None, "the others follow at once"


def test_the_pauses_for_the_origin_grow_to_a_minute_and_no_target_is_blamed() -> None:
    queue, now, wait_s = queue_of(A), 0.0, None
    for _ in range(12):
        assert queue.next(now) == A
        queue.failed(A, AWAY, now)
        wait_s = queue.wait_s(now)
        assert wait_s is not None
        now += wait_s
    assert wait_s == LONGEST_ORIGIN_WAIT_S
    assert queue.next(now) == A


def test_the_time_that_the_circuit_names_is_waited_for() -> None:
    queue = queue_of(A)
    assert queue.next(0) == A
    queue.failed(A, Unreachable("the circuit is open", retry_after_s=25), 0)
    assert queue.wait_s(0) == 25


@pytest.mark.parametrize(("randomly", "expected"), [(0.0, 1.0), (0.5, 0.75), (1.0, 0.5)])
def test_pauses_are_shortened_at_random_by_half_at_most(randomly: float, expected: float) -> None:
    queue = queue_of(A, randomly=randomly)
    assert queue.next(0) == A
    queue.failed(A, AWAY, 0)
    assert queue.wait_s(0) == expected


def test_news_of_a_target_end_its_waiting() -> None:
    queue = queue_of(A, B)
    assert queue.next(0) == A
    queue.failed(A, NoChecksum("nothing vouches for it"), 0)
    queue.forgive([A, C])
    assert queue.next(0) == A


def test_prefetching_stops_before_the_circuit_opens_and_goes_on_after_it_has_closed() -> None:
    """The first to give way: clients go on asking until the circuit opens, and are the first to ask again."""
    queue, breaker = queue_of(A, B), Breaker(randomly=lambda: 0.0)
    queue.next(0)
    queue.failed(A, AWAY, now=0)
    breaker.failed(0)
    assert queue.next(0.5) is None
    assert breaker.admit(0.5) is None
    while breaker.state(0.5) == "closed":
        breaker.failed(0.5)
    named_s = breaker.retry_after_s(0.5)
    assert named_s is not None
    assert queue.next(FIRST_ORIGIN_WAIT_S) == A
    queue.failed(A, Unreachable("the circuit is open", retry_after_s=named_s), now=FIRST_ORIGIN_WAIT_S)
    assert (queue.wait_s(FIRST_ORIGIN_WAIT_S) or 0.0) >= named_s


@pytest.mark.parametrize(("randomly", "expected"), [(0.0, 10.0), (0.5, 12.5), (1.0, 15.0)])
def test_a_time_that_a_hub_names_to_all_is_never_cut_short_and_ends_for_each_at_another_moment(
    randomly: float, expected: float
) -> None:
    queue = queue_of(A, randomly=randomly)
    queue.next(0)
    queue.failed(A, Unreachable("busy", retry_after_s=10.0), now=0)
    assert queue.wait_s(0) == expected
