"""The strict reading of request heads; llhttp, by way of aiohttp, is the independent witness."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given, settings
from hypothesis import strategies as st

from waystation.errors import MalformedRequest
from waystation.mirror.heads import Head, parse_head


def head(*lines: str, line: str = "GET /artifacts/app/x HTTP/1.1", host: str | None = "localhost") -> bytes:
    fields = [*([f"Host: {host}"] if host else []), *lines]
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1")


def test_a_plain_request_is_read() -> None:
    parsed = parse_head(head("Accept: a", "X-Empty:", "Accept:  b \t"))
    assert parsed == Head(
        "GET",
        "/artifacts/app/x",
        "localhost",
        has_body=False,
        keep_alive=True,
        fields={"host": "localhost", "accept": "a, b", "x-empty": ""},
    )


@pytest.mark.parametrize(
    ("line", "lines", "keeps"),
    [
        ("GET / HTTP/1.1", (), True),
        ("GET / HTTP/1.1", ("Connection: close",), False),
        ("GET / HTTP/1.1", ("Connection: Keep-Alive, CLOSE",), False),
        ("GET / HTTP/1.1", ("Connection: closed",), True),
        ("GET / HTTP/1.0", ("Connection: keep-alive",), False),
        ("PUT / HTTP/1.1", ("Content-Length: 3",), False),
        ("GET / HTTP/1.1", ("Content-Length: 0",), True),
    ],
)
def test_a_connection_is_kept_only_where_the_next_head_begins_for_certain(
    line: str, lines: tuple[str, ...], keeps: bool
) -> None:
    assert parse_head(head(*lines, line=line)).keep_alive is keeps


@pytest.mark.parametrize("lines", [("Content-Length: 5",), ("Transfer-Encoding: chunked",), ("Transfer-Encoding: x",)])
def test_a_body_is_noticed(lines: tuple[str, ...]) -> None:
    assert parse_head(head(*lines)).has_body


def test_only_http_1_0_may_come_without_a_host() -> None:
    assert parse_head(head(line="GET / HTTP/1.0", host=None)).host is None
    with pytest.raises(MalformedRequest):
        parse_head(head(host=None))


@pytest.mark.parametrize(
    "raw",
    [
        head(line="GET  / HTTP/1.1"),
        head(line="GET / HTTP/1.1 "),
        head(line=" GET / HTTP/1.1"),
        head(line="GET / HTTP/1.2"),
        head(line="GET / HTTP/2.0"),
        head(line="GET / http/1.1"),
        head(line="GET /"),
        head(line="GET /a b HTTP/1.1"),
        head(line="GET /\xe4 HTTP/1.1"),
        head(line="GET /\t HTTP/1.1"),
        head(line="G\x00T / HTTP/1.1"),
        head("Name : value"),
        head(" folded: value"),
        head("Name: value\r\n folded"),
        head("Na me: value"),
        head("no colon"),
        head(": no name"),
        head("Name: a\x00b"),
        head("Name: a\rb"),
        head("Name: a\nInjected: b"),
        head("Name: \x7f"),
        head("Host: again"),
        head("Content-Length: 1", "Content-Length: 1"),
        head("Content-Length: 1, 1"),
        head("Content-Length: +1"),
        head("Content-Length: -1"),
        head("Content-Length: 0x1"),
        head("Content-Length: 1_0"),
        head("Content-Length: \xb2"),
        head("Content-Length:"),
        head("Content-Length: " + "9" * 5000),
        head("Content-Length: 3", "Transfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        b"\r\n\r\n",
    ],
)
def test_what_does_not_fit_the_grammar_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_head(raw)


def test_a_long_value_of_blanks_costs_no_more_than_its_length() -> None:
    with pytest.raises(MalformedRequest):
        parse_head(head("Name: " + " \t" * 500_000 + "\x01"))


_WORDS = r"GET|HEAD| |/|/a%2e|?q|HTTP/1.1|HTTP/1.0|Host: a|Host:|a|:|Range: bytes=0-|Content-Length: 0"
_FRAGMENTS = st.sampled_from([*_WORDS.split("|"), "\r\n", "\n", "\r", "\t", "\x00", "\x80", "Content-Length: 7"])


@settings(max_examples=500)
@given(
    lines=st.lists(st.lists(_FRAGMENTS, max_size=4).map("".join), max_size=4),
    line=st.sampled_from(["GET /a HTTP/1.1", "HEAD /a?b HTTP/1.1", "GET /a HTTP/1.0", "GET  /a HTTP/1.1"]),
)
def test_whatever_is_accepted_means_the_same_to_llhttp(lines: list[str], line: str) -> None:
    raw = head(*lines, line=line)
    try:
        ours = parse_head(raw)
    except MalformedRequest:
        return
    if ours.has_body:  # refused later, and the connection with it
        return
    theirs = _read_by_llhttp(raw)
    assert (ours.method, ours.target) == (theirs.method, theirs.path)
    assert {name.lower() for name in theirs.headers} == set(ours.fields)
    for name, value in ours.fields.items():
        assert ", ".join(theirs.headers.getall(name)).encode(errors="surrogateescape") == value.encode("latin-1")


def _read_by_llhttp(raw: bytes):  # type: ignore[no-untyped-def] # noqa: ANN202 - aiohttp's own type is private
    loop = asyncio.new_event_loop()
    try:
        messages, _, _ = HttpRequestParser(Mock(_reading_paused=False), loop, 2**16).feed_data(raw)
    except HttpProcessingError as error:
        pytest.fail(f"llhttp refuses what we accept: {error!r}, {raw!r}")
    finally:
        loop.close()
    assert len(messages) == 1, raw
    return messages[0][0]
