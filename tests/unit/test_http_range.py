"""Ranged reads against servers that answer wrongly: right bytes or an error that says what happened."""

from __future__ import annotations

import re
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trustme

from peers.processes import free_port
from peers.scripted_http import Answer, ScriptedHttp
from waystation.errors import Denied, Missing, OriginError, Redirected, RevisionChanged, Short, Unreachable
from waystation.model import Span
from waystation.origin.http_range import HttpSource

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = bytes(range(256)) * 400
ETAG = '"revision-1"'
SPAN = Span(1000, 3000)


def read(source: HttpSource, span: Span = SPAN) -> bytes:
    buffer, body = memoryview(bytearray(700)), b""
    with source.read(span) as reader:
        while count := reader.readinto(buffer):
            body += buffer[:count]
    return body


def source_of(
    url: str, *, if_match: str | None = ETAG, stall_timeout_s: float = 5.0, tls: ssl.SSLContext | None = None
) -> HttpSource:
    return HttpSource(
        f"{url}/bucket/key?signature=x",
        key="key",
        if_match=if_match,
        connect_timeout_s=2.0,
        stall_timeout_s=stall_timeout_s,
        tls=tls,
    )


def right(head: str) -> Answer:
    """What a right server answers."""
    match = re.search(r"Range: bytes=(\d+)-(\d+)", head)
    assert match
    start, last = int(match[1]), int(match[2])
    return partial(start, last)


def partial(start: int, last: int, **changes: str) -> Answer:
    headers = {
        "Content-Range": f"bytes {start}-{last}/{len(BODY)}",
        "Content-Length": str(last - start + 1),
        "ETag": ETAG,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    return Answer("\r\n".join(["HTTP/1.1 206 Partial Content", *lines]), BODY[start : last + 1])


def failing(status: str, body: bytes = b"") -> Answer:
    return Answer(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}", body)


@pytest.fixture(scope="module")
def certified() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What serves localhost, and what trusts it."""
    authority = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(serving)
    authority.configure_trust(trusting)
    return serving, trusting


# --- right answers -------------------------------------------------------------------------------


def test_a_read_is_exactly_one_ranged_get_of_one_revision() -> None:
    with ScriptedHttp(right) as server:
        source = source_of(server.url)
        assert read(source) == BODY[1000:3000]
        source.close()
        (head,) = server.heads
    assert head.startswith("GET /bucket/key?signature=x HTTP/1.1\r\n")
    assert "\r\nRange: bytes=1000-2999\r\n" in head
    assert f"\r\nIf-Match: {ETAG}\r\n" in head
    assert "\r\nAccept-Encoding: identity\r\n" in head


def test_connections_are_used_again() -> None:
    with ScriptedHttp(right) as server:
        source = source_of(server.url)
        for _ in range(5):
            read(source)
        source.close()
        assert (len(server.heads), server.connections) == (5, 1)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    with ScriptedHttp(lambda head: Answer(right(head).head, right(head).body, then="close")) as server:
        source = source_of(server.url)
        for _ in range(3):
            assert read(source) == BODY[1000:3000]
        source.close()
        assert server.connections == 3


def test_an_answer_that_ends_its_connection_is_read_whole() -> None:
    def script(head: str) -> Answer:
        answer = right(head)
        return Answer(f"{answer.head}\r\nConnection: close", answer.body, then="close")

    with ScriptedHttp(script) as server:
        source = source_of(server.url)
        assert read(source) == read(source) == BODY[1000:3000]
        source.close()


def test_a_200_will_do_where_the_span_is_the_whole_object() -> None:
    with ScriptedHttp(
        lambda _: Answer(f"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: {ETAG}", BODY[:100])
    ) as server:
        source = source_of(server.url)
        assert read(source, Span(0, 100)) == BODY[:100]
        for span in (Span(0, 99), Span(0, 101), Span(1, 101)):
            with pytest.raises(Short):
                read(source, span)
        source.close()


def test_an_empty_span_asks_nothing() -> None:
    with ScriptedHttp(right) as server:
        source = source_of(server.url)
        assert read(source, Span(7, 7)) == b""
        source.close()
        assert server.heads == []


# --- wrong answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (partial(1000, 2999, ETag='"revision-2"'), RevisionChanged, "was replaced"),
        (partial(1000, 2999, ETag=""), RevisionChanged, "was replaced"),
        (partial(1001, 3000), Short, "another range"),
        (partial(1000, 2998), Short, "announced 1999 bytes"),
        (partial(1000, 2999, Content_Range=""), Short, "another range"),
        (partial(1000, 2999, Content_Encoding="gzip"), Short, "encoded"),
        (partial(1000, 2999, Content_Length="", Transfer_Encoding="chunked"), Short, "announced None bytes"),
        (failing("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"), Missing, "404 NoSuchKey"),
        (failing("404 Not Found"), Missing, "404"),
        (failing("404 Not Found", b"<Error><Code>NoSuchBucket</Code></Error>"), Unreachable, "no such bucket"),
        (failing("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>"), Denied, "403 AccessDenied"),
        (failing("412 Precondition Failed"), RevisionChanged, "was replaced"),
        (failing("416 Range Not Satisfiable"), Short, "ends before"),
        (failing("503 Slow Down", b"<Code>SlowDown</Code>"), Unreachable, "503 SlowDown"),
        (failing("500 Internal", b"<Code>bad\nline; drop</Code>"), Unreachable, "answered 500 for"),
        (Answer("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0"), Redirected, "302"),
        (Answer("nonsense"), Unreachable, "BadStatusLine"),
        (Answer("HTTP/1.1 206 OK\r\n" + "\r\n".join(f"X-{n}: y" for n in range(200))), Unreachable, "HTTPException"),
        (Answer("HTTP/1.1 206 OK\r\nX: " + "y" * 70_000), Unreachable, "LineTooLong"),
        (Answer("", b"HTTP/1.1 2", then="close"), Unreachable, "broke while asking"),
        (Answer("", then="close"), Unreachable, "RemoteDisconnected"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_wrong_answer_is_refused_before_its_first_byte(
    answer: Answer, expected: type[OriginError], words: str
) -> None:
    with ScriptedHttp(lambda _: answer) as server:
        source = source_of(server.url)
        with pytest.raises(expected, match=words):
            read(source)
        source.close()
        assert len(server.heads) == 1


def test_a_refusal_does_not_spoil_the_next_read() -> None:
    answers = [failing("404 Not Found", b"x" * 100_000), None]

    def script(head: str) -> Answer:
        return answers.pop(0) or right(head)

    with ScriptedHttp(script) as server:
        source = source_of(server.url)
        with pytest.raises(Missing):
            read(source)
        assert read(source) == BODY[1000:3000]
        source.close()


def test_a_body_that_ends_early_is_short() -> None:
    def script(head: str) -> Answer:
        answer = right(head)
        return Answer(answer.head, answer.body[:1500], then="close")

    with ScriptedHttp(script) as server:
        source = source_of(server.url)
        with pytest.raises(Short, match="bytes of 'key' still to come"):
            read(source)
        source.close()


def test_the_first_answer_decides_the_revision_where_none_was_asked_for() -> None:
    answers = [partial(1000, 2999), partial(1000, 2999, ETag='"revision-2"')]
    with ScriptedHttp(lambda _: answers.pop(0)) as server:
        source = source_of(server.url, if_match=None)
        read(source)
        with pytest.raises(RevisionChanged):
            read(source)
        source.close()
        assert "If-Match" not in server.heads[0]
        assert f"If-Match: {ETAG}" in server.heads[1]


# --- silence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [Answer("", b"HTTP/1.1 206", then="hang"), Answer(partial(1000, 2999).head, BODY[:1500], then="hang")],
    ids=["before the body", "in the body"],
)
def test_silence_ends_after_the_stall_timeout(answer: Answer) -> None:
    with ScriptedHttp(lambda _: answer) as server:
        source = source_of(server.url, stall_timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"no byte of 'key' for 0\.3 s"):
            read(source)
        assert 0.25 < time.monotonic() - began < 2
        source.close()


def test_a_body_that_trickles_is_no_silence() -> None:
    def script(head: str) -> Answer:
        return Answer(right(head).head, then="keep")

    with ScriptedHttp(script) as server:
        source = source_of(server.url, stall_timeout_s=0.5)

        def trickle() -> None:
            while not server.heads:
                time.sleep(0.01)
            for start in range(1000, 3000, 200):
                time.sleep(0.1)
                server._open[0].sendall(BODY[start : start + 200])

        trickling = threading.Thread(target=trickle)
        trickling.start()
        assert read(source) == BODY[1000:3000]
        trickling.join()
        source.close()


def test_an_answer_may_take_longer_to_begin_than_a_body_may_pause() -> None:
    """A hub verifies what it gives before it begins."""
    thinking = threading.Event()

    def script(head: str) -> Answer:
        thinking.wait(0.6)
        return Answer(right(head).head, BODY[1000:1100], then="hang")

    with ScriptedHttp(script) as server:
        source = HttpSource(
            server.url, key="key", if_match=ETAG, connect_timeout_s=2.0, stall_timeout_s=0.2, patience_s=5.0
        )
        with source.read(SPAN) as reader, pytest.raises(Unreachable, match=r"no byte of 'key' for 0\.2 s"):
            reader.readinto(memoryview(bytearray(2000)))
        source.close()


def test_a_refused_connection_is_unreachable() -> None:
    source = source_of(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match="Connection refused"):
        read(source)
    source.close()


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    source = source_of("http://nobody.invalid")
    with pytest.raises(Unreachable, match=r"no connection to nobody\.invalid"):
        read(source)
    source.close()


# --- aborting ------------------------------------------------------------------------------------


def abort_while_blocked(source: HttpSource, abort: Callable[[], None], heads: list[str]) -> float:
    """Read in a thread, abort once the request was seen, and return how long the reader took to notice."""
    errors: list[BaseException] = []

    def reading() -> None:
        try:
            read(source)
        except OriginError as error:
            errors.append(error)

    thread = threading.Thread(target=reading)
    thread.start()
    while not heads:
        time.sleep(0.01)
    time.sleep(0.05)  # so that it blocks in its read, most likely
    began = time.monotonic()
    abort()
    thread.join(5)
    assert isinstance(errors[0], Unreachable)
    return time.monotonic() - began


@pytest.mark.parametrize("sent_bytes", [None, 0, 100], ids=["before the answer", "before the body", "in the body"])
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_closing_ends_a_blocked_read_at_once(
    certified: tuple[ssl.SSLContext, ssl.SSLContext], sent_bytes: int | None, connection: str, secure: bool
) -> None:
    def script(head: str) -> Answer:
        if sent_bytes is None:
            return Answer("", then="hang")
        answer = right(head)
        return Answer(f"{answer.head}\r\nConnection: {connection}", answer.body[:sent_bytes], then="hang")

    serving, trusting = certified
    with ScriptedHttp(script, tls=serving if secure else None) as server:
        source = source_of(server.url, stall_timeout_s=30, tls=trusting if secure else None)
        assert abort_while_blocked(source, source.close, server.heads) < 1


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_aborting_ends_a_blocked_reader_at_once(connection: str) -> None:
    def script(head: str) -> Answer:
        return Answer(f"{right(head).head}\r\nConnection: {connection}", BODY[1000:1500], then="hang")

    with ScriptedHttp(script) as server:
        source = source_of(server.url, stall_timeout_s=30)
        with source.read(SPAN) as reader:
            aborting = threading.Timer(0.1, reader.abort)
            aborting.start()
            began = time.monotonic()
            with pytest.raises(Unreachable, match="given up"):
                reader.readinto(memoryview(bytearray(2000)))
            assert time.monotonic() - began < 5
            aborting.join()
        reader.abort()
        source.close()


def test_an_aborted_reader_gives_no_byte_more_also_not_of_what_has_arrived_already(
    certified: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    serving, trusting = certified
    large = bytes(4_000_000)
    head = f"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-3999999/4000000\r\nContent-Length: 4000000\r\nETag: {ETAG}"
    with ScriptedHttp(lambda _: Answer(head, large), tls=serving) as server:
        source = source_of(server.url, tls=trusting)
        with source.read(Span(0, len(large))) as reader:
            reader.readinto(memoryview(bytearray(100_000)))
            reader.abort()
            with pytest.raises(Unreachable, match="given up"):
                reader.readinto(memoryview(bytearray(1000)))
        source.close()


# --- https ---------------------------------------------------------------------------------------


def test_bytes_over_tls_are_right_and_an_unknown_authority_is_refused(
    certified: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    serving, trusting = certified
    with ScriptedHttp(right, tls=serving) as server:
        source = source_of(server.url, tls=trusting)
        assert read(source) == read(source) == BODY[1000:3000]
        source.close()
        distrusting = source_of(server.url)
        with pytest.raises(Unreachable, match="no trusted connection") as refused:
            read(distrusting)
        distrusting.close()
        assert "ca_bundle" in refused.value.advice
