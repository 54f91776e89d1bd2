"""What the store counts, and what it chooses to evict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from stores import digest_of
from waystation.store.held import Held
from waystation.store.index import Index

if TYPE_CHECKING:
    from waystation.model import Digest

A, B, C, D = (digest_of(name) for name in (b"a", b"b", b"c", b"d"))
PLENTY = 10**12


def index_of(*blobs: tuple[Digest, int], max_size: int = 100, min_free: int = 0) -> Index:
    """An index of blobs, the least recently used first."""
    index = Index(max_size, min_free)
    index.recovered([Held(digest, size, 0, at, at) for at, (digest, size) in enumerate(blobs, 1)], [])
    return index


def test_what_fits_evicts_nothing() -> None:
    eviction = index_of((A, 40)).make_room(60, PLENTY)
    assert (eviction.blobs, eviction.partials, eviction.short_bytes) == ((), (), 0)


def test_the_least_recently_used_goes_first_and_no_more_than_needed() -> None:
    assert index_of((A, 40), (B, 40), (C, 20)).make_room(30, PLENTY).blobs == (A,)


def test_a_use_makes_a_blob_the_last_to_go() -> None:
    index = index_of((A, 40), (B, 40))
    held = index.lease(A, 1000)
    assert held is not None
    index.release(held, 1000)
    assert index.make_room(30, PLENTY).blobs == (B,)


def test_the_end_of_a_lease_is_a_use() -> None:
    index = index_of((A, 40), (B, 40))
    held = index.lease(A, 10)
    other = index.lease(B, 11)
    assert held is not None
    assert other is not None
    index.release(other, 12)
    index.release(held, 13)
    assert [held.digest for held in index] == [B, A]


def test_a_clock_set_back_does_not_make_the_last_use_the_oldest() -> None:
    index = index_of((A, 40), (B, 40))
    for digest, now_ns in ((A, 1_000_000), (B, 5)):
        held = index.lease(digest, now_ns)
        assert held is not None
        index.release(held, now_ns)
    used = sorted(index.take_unrecorded(), key=lambda held: held.used_ns)
    assert [held.digest for held in used] == [A, B]


def test_a_use_is_newer_than_what_the_disk_remembers_whatever_the_clock_says() -> None:
    index = Index(100, 0)
    index.recovered([Held(A, 10, 0, 1_000, 1_000), Held(B, 10, 0, 2_000, 2_000)], [])
    held = index.lease(A, 5)
    assert held is not None
    assert held.used_ns > 2_000


def test_leased_and_pinned_blobs_stay_and_what_is_missing_is_said() -> None:
    index = index_of((A, 40), (B, 30), (C, 30))
    index.lease(A, 1000)
    index.pin(frozenset({B}))
    eviction = index.make_room(50, PLENTY)
    assert eviction.blobs == (C,)
    assert eviction.short_bytes == 20


def test_partials_go_before_blobs_the_oldest_first() -> None:
    index = Index(100, 0)
    index.recovered([Held(A, 20, 0, 1, 1)], [(B, 30)])
    index.reserve(C, 50)
    index.keep(C)
    assert index.make_room(10, PLENTY).partials == (B,)
    assert index.make_room(90, PLENTY).partials == (B, C)
    assert index.make_room(90, PLENTY).blobs == (A,)


def test_a_running_spool_is_never_evicted() -> None:
    index = Index(100, 0)
    index.reserve(A, 60)
    eviction = index.make_room(60, PLENTY)
    assert eviction.partials == ()
    assert eviction.short_bytes == 20


def test_min_free_counts_what_the_filesystem_really_has() -> None:
    index = index_of((A, 10), (B, 10), max_size=PLENTY, min_free=50)
    eviction = index.make_room(10, 55)
    assert eviction.blobs == (A,)
    assert eviction.reason == "min_free"
    assert index.make_room(10, 60).blobs == ()
    assert index.make_room(10, 30).short_bytes == 10


def test_the_quota_is_named_when_it_is_what_evicts() -> None:
    assert index_of((A, 90)).make_room(20, PLENTY).reason == "quota"


def test_what_leaves_is_counted_until_it_is_off_the_disk() -> None:
    index = index_of((A, 60))
    leaving = index.remove_blob(A)
    assert index.lease(A, 5) is None
    assert index.used_bytes == 60
    assert index.make_room(50, PLENTY).short_bytes == 10
    index.gone(leaving)
    assert index.used_bytes == 0


def test_a_blob_counts_its_pieces() -> None:
    index = Index(100, 0)
    index.reserve(A, 70)
    held = index.stored(A, size_bytes=60, now_ns=5)
    assert (held.size_bytes, held.pieces_bytes, index.used_bytes) == (60, 10, 70)


def test_what_was_just_stored_is_leased_and_written_down() -> None:
    index = Index(100, 0)
    index.reserve(A, 70)
    held = index.stored(A, size_bytes=70, now_ns=5)
    assert index.make_room(100, PLENTY).blobs == ()
    assert index.take_unrecorded() == [held]
    assert index.take_unrecorded() == []


def test_a_lease_on_a_dropped_blob_ends_without_touching_its_successor() -> None:
    index = index_of((A, 10))
    old = index.lease(A, 5)
    assert old is not None
    other = index.lease(A, 5)
    assert other is not None
    index.gone(index.remove_blob(A))
    index.release(other, 5)
    index.reserve(A, 10)
    new = index.stored(A, size_bytes=10, now_ns=6)
    index.release(old, 7)
    assert new.leases == 1
    assert old.leases == 0


def test_the_oldest_idle_blob_is_the_one_that_would_go_first() -> None:
    index = index_of((A, 10), (B, 10))
    assert index.oldest_used_ns() == 1
    index.pin(frozenset({A, C}))
    assert index.oldest_used_ns() == 2
    assert index.pinned_bytes == 10
    assert Index(1, 1).oldest_used_ns() is None


def test_leased_arriving_and_leaving_bytes_are_told_apart() -> None:
    index = index_of((A, 10), (B, 20))
    index.lease(B, 9)
    index.reserve(C, 30)
    index.reserve(D, 5)
    index.discard(D)
    assert (index.leased_bytes, index.spool_bytes, index.used_bytes) == (20, 30, 65)
    assert index.is_leaving(D)
    assert not index.is_leaving(C)


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=12),
    leased=st.sets(st.integers(0, 11)),
    pinned=st.sets(st.integers(0, 11)),
    partials=st.lists(st.integers(0, 50), max_size=4),
    need=st.integers(0, 300),
    max_size=st.integers(1, 400),
    min_free=st.integers(0, 200),
    free=st.integers(0, 500),
)
def test_an_eviction_is_enough_minimal_in_order_and_spares_the_protected(
    sizes: list[int],
    leased: set[int],
    pinned: set[int],
    partials: list[int],
    need: int,
    max_size: int,
    min_free: int,
    free: int,
) -> None:
    digests = [digest_of(bytes([number])) for number in range(len(sizes))]
    index = Index(max_size, min_free)
    index.recovered(
        [Held(digest, size, 0, at, at) for at, (digest, size) in enumerate(zip(digests, sizes, strict=True))],
        [(digest_of(b"p" + bytes([number])), size) for number, size in enumerate(partials)],
    )
    for at, number in enumerate(sorted(leased & set(range(len(sizes)))), 100):
        index.lease(digests[number], at)
    protected = {digests[number] for number in leased | pinned if number < len(sizes)}
    index.pin(frozenset(digests[number] for number in pinned if number < len(sizes)))

    eviction = index.make_room(need, free)

    size_of = dict(zip(digests, sizes, strict=True))
    order = [held.digest for held in index if held.digest not in protected]
    assert not protected & set(eviction.blobs)
    assert list(eviction.blobs) == order[: len(eviction.blobs)]
    if eviction.blobs:
        assert len(eviction.partials) == len(partials)
    freed = sum(size_of[digest] for digest in eviction.blobs) + sum(partials[: len(eviction.partials)])
    over = max(index.used_bytes + need - max_size, min_free + need - free)
    if eviction.short_bytes:
        assert eviction.short_bytes == over - freed
        assert len(eviction.partials) == len(partials)
        assert list(eviction.blobs) == order
    else:
        assert freed >= over
        last = size_of[eviction.blobs[-1]] if eviction.blobs else (partials[len(eviction.partials) - 1] if freed else 0)
        assert freed - last < max(over, 1)
