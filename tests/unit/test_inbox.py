"""What a client sends, in whatever portions, cut into heads."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.errors import HeaderTooLarge, MalformedRequest
from waystation.mirror.inbox import Inbox

ONE = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
TWO = b"GET /2 HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\n\r\n"


@given(
    cuts=st.lists(st.integers(0, 120)),
    heads=st.lists(st.sampled_from([ONE, TWO, b"\r\n" + ONE, b"\r\n\r\n" + TWO]), max_size=4),
)
def test_heads_come_out_in_order_however_they_were_portioned(cuts: list[int], heads: list[bytes]) -> None:
    stream = b"".join(heads)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    inbox, got = Inbox(1024), []
    for start, stop in pairwise(edges):
        inbox.feed(stream[start:stop])
        while (head := inbox.take()) is not None:
            got.append(head)
    assert got == [head.lstrip(b"\r\n") for head in heads]
    assert inbox.is_empty


def test_a_head_may_be_as_long_as_the_limit_and_no_longer() -> None:
    exact = Inbox(len(ONE))
    exact.feed(ONE)
    assert exact.take() == ONE
    short = Inbox(len(ONE) - 1)
    short.feed(ONE)
    with pytest.raises(HeaderTooLarge):
        short.take()


def test_a_head_that_never_ends_is_refused_at_the_limit() -> None:
    inbox = Inbox(100)
    for _ in range(100):
        inbox.feed(b"G")
        assert inbox.take() is None
    inbox.feed(b"G")
    with pytest.raises(HeaderTooLarge):
        inbox.take()


@pytest.mark.parametrize("start", [b"\x16\x03\x01", b"\x00", b" GET", b"\n\nGET", b"{", b"\rX"])
def test_what_can_not_become_http_is_refused_with_its_first_bytes(start: bytes) -> None:
    inbox = Inbox(1024)
    inbox.feed(start)
    with pytest.raises(MalformedRequest):
        inbox.take()


def test_blank_lines_alone_are_nothing() -> None:
    inbox = Inbox(16)
    for _ in range(1000):
        inbox.feed(b"\r\n")
        assert inbox.take() is None
        assert inbox.is_empty
    inbox.feed(b"\r")
    assert inbox.take() is None
    inbox.feed(b"\n" + b"GET")
    assert inbox.take() is None
    assert not inbox.is_empty


def test_tls_at_a_port_without_it_is_said() -> None:
    inbox = Inbox(100)
    inbox.feed(b"\x16\x03\x01")
    with pytest.raises(MalformedRequest, match="TLS came"):
        inbox.take()
