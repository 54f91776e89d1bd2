"""Small blobs in memory: bounded, the least used dropped first, and the store asked now and then."""

from __future__ import annotations

from waystation.mirror.memory import TRUSTED_S, SmallBlobs
from waystation.model import Digest

A, B, C = (Digest(letter * 64) for letter in "abc")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_was_put_is_given_back_until_it_is_dropped() -> None:
    blobs = SmallBlobs()
    blobs.put(A, b"one")
    assert blobs.get(A) == b"one"
    blobs.drop(A)
    blobs.drop(B)
    assert blobs.get(A) is None


def test_the_least_recently_used_goes_first_when_it_is_full() -> None:
    blobs = SmallBlobs(limit_bytes=10)
    blobs.put(A, b"1234")
    blobs.put(B, b"1234")
    assert blobs.get(A)
    blobs.put(C, b"1234")
    assert [blobs.get(digest) is not None for digest in (A, B, C)] == [True, False, True]


def test_putting_a_blob_again_counts_it_once() -> None:
    blobs = SmallBlobs(limit_bytes=10)
    for _ in range(5):
        blobs.put(A, b"1234")
    blobs.put(B, b"123456")
    assert blobs.get(A)
    assert blobs.get(B)


def test_after_a_while_the_store_is_asked_again() -> None:
    clock = Clock()
    blobs = SmallBlobs(monotonic=clock)
    blobs.put(A, b"one")
    clock.now += TRUSTED_S
    assert blobs.get(A)
    clock.now += 0.1
    assert blobs.get(A) is None


def test_clearing_forgets_all_and_makes_room() -> None:
    blobs = SmallBlobs(limit_bytes=10)
    blobs.put(A, b"1234567890")
    blobs.clear()
    assert blobs.get(A) is None
    blobs.put(B, b"1234567890")
    assert blobs.get(B)
