"""Conditions and ranges, case by case (RFC 9110 §13 and §14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.errors import PreconditionFailed, RangeNotSatisfiable
from waystation.mirror.ranges import Choice, choose, parse_range
from waystation.model import Span

SIZE = 1000
ETAG = '"0123abcd"'
MODIFIED_S = 784111777  # the date below
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER, LATER = "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"
WHOLE = Choice(200, Span(0, SIZE))
KNOWN = Choice(304, Span(0, 0))


def chosen(method: str = "GET", **fields: str) -> Choice:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return choose(named, method=method, etag=ETAG, modified_s=MODIFIED_S, size_bytes=SIZE)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-499", Span(0, 500)),
        ("bytes=500-", Span(500, 1000)),
        ("bytes=999-", Span(999, 1000)),
        ("bytes=999-999", Span(999, 1000)),
        ("bytes=500-1000", Span(500, 1000)),
        ("bytes=0-99999999999999999999999999999999", Span(0, 1000)),
        ("bytes=0000000000000000000000000001-2", Span(1, 3)),
        ("bytes=-1", Span(999, 1000)),
        ("bytes=-1000", Span(0, 1000)),
        ("bytes=-5000", Span(0, 1000)),
        ("bytes=-" + "9" * 6000, Span(0, 1000)),
        ("BYTES=1-2", Span(1, 3)),
        ("bytes= 1-2 ", Span(1, 3)),
        ("bytes=,1-2,,", Span(1, 3)),
    ],
)
def test_a_single_range_is_read(text: str, span: Span) -> None:
    assert parse_range(text, SIZE) == span
    assert chosen(range=text) == Choice(206, span)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=a-b",
        "bytes=1-b",
        "bytes=2-1",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1.0-2",
        "bytes=\xb2-3",
        "bytes=1-2-3",
        "items=0-1",
        "bytes:0-1",
        "0-1",
        "bytes=0-1,5-6",
        "bytes=0-1, bytes=5-6",
        "bytes=0-0,-1",
    ],
)
def test_what_is_no_single_range_is_answered_with_the_whole(text: str) -> None:
    assert chosen(range=text) == WHOLE


@pytest.mark.parametrize("text", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_a_range_behind_the_end_names_the_size(text: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        chosen(range=text)
    assert caught.value.size_bytes == SIZE


def test_an_empty_artifact_has_no_first_byte_to_ask_for() -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=0-", 0)
    assert parse_range("bytes=-5", 0) is None


def test_a_range_is_never_sent_unasked_and_only_to_get() -> None:
    assert chosen() == WHOLE
    assert chosen(method="HEAD", range="bytes=0-1") == WHOLE
    assert chosen(method="HEAD", range="bytes=5000-") == WHOLE


@pytest.mark.parametrize(
    ("condition", "applies"),
    [
        (ETAG, True),
        ('"other"', False),
        (f"W/{ETAG}", False),
        (f"{ETAG}, {ETAG}", False),
        (MODIFIED, True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        ("Sun Nov  6 08:49:37 1994", True),
        (EARLIER, False),
        (LATER, False),
        ("0123abcd", False),
        ("nonsense", False),
        ("", False),
        ("Sun, 06 Nov 99999 08:49:37 GMT", False),
    ],
)
def test_if_range_holds_for_the_very_same_bytes_only(condition: str, applies: bool) -> None:
    expected = Choice(206, Span(1, 3)) if applies else WHOLE
    assert chosen(range="bytes=1-2", if_range=condition) == expected


def test_if_range_that_does_not_hold_hides_a_range_behind_the_end() -> None:
    assert chosen(range="bytes=5000-", if_range='"other"') == WHOLE


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"if_match": ETAG}, True),
        ({"if_match": f'"other", {ETAG}'}, True),
        ({"if_match": "*"}, True),
        ({"if_match": '"other"'}, False),
        ({"if_match": f"W/{ETAG}"}, False),
        ({"if_match": "0123abcd"}, False),
        ({"if_match": ""}, False),
        ({"if_unmodified_since": MODIFIED}, True),
        ({"if_unmodified_since": LATER}, True),
        ({"if_unmodified_since": EARLIER}, False),
        ({"if_unmodified_since": "nonsense"}, True),
        ({"if_match": ETAG, "if_unmodified_since": EARLIER}, True),
        ({"if_match": '"other"', "if_unmodified_since": LATER}, False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_precondition_holds_or_is_refused(fields: dict[str, str], holds: bool, method: str) -> None:
    if holds:
        assert chosen(method, **fields) == WHOLE
    else:
        with pytest.raises(PreconditionFailed):
            chosen(method, **fields)


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"if_none_match": ETAG}, True),
        ({"if_none_match": f"W/{ETAG}"}, True),
        ({"if_none_match": f'"other" , {ETAG}'}, True),
        ({"if_none_match": "*"}, True),
        ({"if_none_match": '"other"'}, False),
        ({"if_none_match": "nonsense"}, False),
        ({"if_modified_since": MODIFIED}, True),
        ({"if_modified_since": LATER}, True),
        ({"if_modified_since": EARLIER}, False),
        ({"if_modified_since": "nonsense"}, False),
        ({"if_none_match": '"other"', "if_modified_since": LATER}, False),
        ({"if_none_match": ETAG, "range": "bytes=0-1"}, True),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_the_client_has_is_not_sent_again(fields: dict[str, str], known: bool, method: str) -> None:
    assert chosen(method, **fields) == (KNOWN if known else WHOLE)


@given(text=st.text(st.sampled_from("0123456789-,= \tbytes"), max_size=24), size_bytes=st.integers(0, 50))
def test_whatever_is_asked_stays_within_what_is_there(text: str, size_bytes: int) -> None:
    try:
        span = parse_range(f"bytes={text}", size_bytes)
    except RangeNotSatisfiable:
        return
    assert span is None or 0 <= span.start < span.stop <= size_bytes
