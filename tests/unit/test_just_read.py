"""What was just read is kept for one taker, and never much of it."""

from __future__ import annotations

from waystation.origin.just_read import JustRead


def test_what_was_put_is_taken_once_and_the_latest_counts() -> None:
    just_read = JustRead()
    just_read.put("a.pieces", b"old")
    just_read.put("a.pieces", b"new")
    assert just_read.take("b.pieces") is None
    assert just_read.take("a.pieces") == b"new"
    assert just_read.take("a.pieces") is None


def test_the_oldest_goes_where_there_is_too_much_and_what_is_taken_counts_no_longer() -> None:
    just_read = JustRead(10)
    just_read.put("a", b"12345")
    just_read.put("b", b"12345")
    just_read.put("c", b"1")
    assert just_read.take("a") is None
    assert just_read.take("b") == b"12345"
    just_read.put("d", b"123456789")
    assert just_read.take("c") == b"1"
    just_read.put("e", b"12345678901")
    assert just_read.take("d") is None
    assert just_read.take("e") is None, "larger than all there is room for"
