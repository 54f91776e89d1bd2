"""What is special about HTTP: servers that redirect, encode, know no ranges or no ETags, and the refusals of a hub."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from peers.processes import free_port
from peers.scripted_http import Answer, ScriptedHttp
from waystation.config import OriginSettings, Settings
from waystation.errors import (
    Denied,
    Missing,
    NotListable,
    OriginError,
    OriginLoop,
    ReadOnlyOrigin,
    Redirected,
    RejectedByHub,
    RevisionChanged,
    Short,
    TooLarge,
    Unavailable,
    Unreachable,
    Unvouched,
)
from waystation.model import Span
from waystation.origin.hops import Hops
from waystation.origin.http_origin import HttpOrigin
from waystation.origin.probing import probe
from waystation.publish import open_publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from peers.s3 import Bucket
    from waystation.origin.interface import Source

BODY = bytes(range(256)) * 40
HEAD_OK = f'HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nETag: "one"'


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[HttpOrigin]:
    origin = HttpOrigin(OriginSettings(url=url, **settings), stall_timeout_s=2.0, hops=Hops("test"))
    try:
        yield origin
    finally:
        await origin.close()


def serving(body: bytes = BODY, *headers: str) -> Callable[[str], Answer]:
    """A script for one file that never changes, with ranges."""

    def answer(head: str) -> Answer:
        lines = [*headers]
        start, stop, status = 0, len(body), "200 OK"
        if "Range: bytes=" in head:
            first, last = head.partition("Range: bytes=")[2].split("\r\n")[0].split("-")
            start, stop, status = int(first), int(last) + 1, "206 Partial Content"
            lines.append(f"Content-Range: bytes {start}-{stop - 1}/{len(body)}")
        lines.append(f"Content-Length: {stop - start}")
        return Answer("\r\n".join([f"HTTP/1.1 {status}", *lines]), b"" if head.startswith("HEAD") else body[start:stop])

    return answer


async def read(source: Source, span: Span) -> bytes:
    def run() -> bytes:
        buffer, body = memoryview(bytearray(4096)), b""
        with source.read(span) as reader:
            while count := reader.readinto(buffer):
                body += buffer[:count]
        source.close()
        return body

    return await asyncio.to_thread(run)


async def ask_everything(origin: HttpOrigin, *, listing: bool = False) -> list[OriginError]:
    """What head, get and a range (and a list) end with, each of which has to fail."""

    async def ranged() -> None:
        await read(await origin.source("app/file", if_match='"one"'), Span(0, 10))

    async def listed() -> None:
        _ = [info async for info in origin.list("")]

    errors = []
    for call in (origin.head("app/file"), origin.get("app/file", limit_bytes=100), ranged()):
        with pytest.raises(OriginError) as raised:
            await call
        errors.append(raised.value)
    if listing:
        with pytest.raises(OriginError) as raised:
            await listed()
        errors.append(raised.value)
    return errors


# --- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_and_where_it_leads_is_said(status: int) -> None:
    """An evil server could send us to any address that this machine reaches, such as a cloud's metadata service."""
    with ScriptedHttp(serving()) as inside:
        to = f"http://127.0.0.1:{inside.port}/latest/meta-data"
        redirect = Answer(f"HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 0")
        with ScriptedHttp(lambda _: redirect) as server:
            async with opened(f"{server.url}/artifacts") as origin:
                for error in await ask_everything(origin):
                    assert isinstance(error, Redirected)
                    assert to in str(error)
                    assert "no redirect is followed" in str(error)
                with pytest.raises(NotListable):
                    _ = [info async for info in origin.list("")]
        assert inside.connections == 0


async def test_a_redirect_s_words_cannot_steer_a_terminal() -> None:
    redirect = Answer("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\x1b]0;x\r\nContent-Length: 0")
    with ScriptedHttp(lambda _: redirect) as server:
        async with opened(server.url) as origin:
            for error in await ask_everything(origin):
                assert "\x1b" not in str(error)


# --- revisions -----------------------------------------------------------------------------------


async def test_a_strong_etag_is_asked_for_by_if_match() -> None:
    with ScriptedHttp(serving(BODY, 'ETag: "one"')) as server:
        async with opened(server.url) as origin:
            info = await origin.head("app/file")
            source = await origin.source("app/file", if_match=info.etag)
            assert await read(source, Span(3, 9)) == BODY[3:9]
    assert info.etag == '"one"'
    assert 'If-Match: "one"' in server.heads[-1]


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (('ETag: W/"one"',), ('ETag: W/"two"',)),
        (("Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT",), ("Last-Modified: Fri, 02 Jan 2026 03:04:06 GMT",)),
        (('ETag: W/"one"',), ()),
        ((), ('ETag: "one"',)),
    ],
)
async def test_without_a_strong_etag_a_change_is_noticed_by_what_there_is(
    before: tuple[str, ...], behind: tuple[str, ...]
) -> None:
    with ScriptedHttp(serving(BODY, *before)) as server:
        async with opened(server.url) as origin:
            info = await origin.head("app/file")
            source = await origin.source("app/file", if_match=info.etag)
            assert await read(source, Span(3, 9)) == BODY[3:9]
            source = await origin.source("app/file", if_match=info.etag)
            assert "If-Match" not in server.heads[-1]
            assert ("If-Unmodified-Since" in server.heads[-1]) == any("Modified" in header for header in before)
            server.script = serving(BODY, *behind)
            with pytest.raises(RevisionChanged):
                await read(source, Span(3, 9))
            assert (await origin.head("app/file")).etag != info.etag


async def test_where_a_server_tells_nothing_of_a_revision_its_size_is_all_there_is() -> None:
    with ScriptedHttp(serving()) as server:
        async with opened(server.url) as origin:
            info = await origin.head("app/file")
            source = await origin.source("app/file", if_match=info.etag)
            assert await read(source, Span(3, 9)) == BODY[3:9]
            source = await origin.source("app/file", if_match=info.etag)
            server.script = serving(BODY + b"longer")
            with pytest.raises(RevisionChanged):
                await read(source, Span(3, 9))


# --- servers that answer otherwise ---------------------------------------------------------------


async def test_a_server_without_ranges_is_refused_with_advice() -> None:
    whole = Answer(HEAD_OK, BODY, then="close")
    with ScriptedHttp(lambda _: whole) as server:
        async with opened(server.url) as origin:
            source = await origin.source("app/file", if_match='"one"')
            for span in (Span(10, 20), Span(0, 20)):  # a source that fails to read is not closed by it
                with pytest.raises(Short, match="ignored the range") as short:
                    await read(source, span)
                assert "Range requests" in short.value.advice
            assert await read(source, Span(0, len(BODY))) == BODY


async def test_an_encoded_body_is_refused_and_none_is_asked_for() -> None:
    encoded = f"{HEAD_OK}\r\nContent-Encoding: gzip"
    with ScriptedHttp(lambda head: Answer(encoded, b"" if head.startswith("HEAD") else BODY, then="close")) as server:
        async with opened(server.url) as origin:
            for error in await ask_everything(origin):
                assert isinstance(error, Short)
                assert "encoded" in str(error)
    assert all("accept-encoding: identity" in head.lower() for head in server.heads)


async def test_a_small_body_without_a_length_is_bounded_all_the_same() -> None:
    chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"
    endless = Answer(chunked, b"400\r\n" + bytes(0x400) + b"\r\n", then="hang")
    with ScriptedHttp(lambda _: endless) as server:
        async with opened(server.url) as origin:
            with pytest.raises(TooLarge):
                await origin.get("app/file", limit_bytes=100)


async def test_a_broken_small_body_is_short() -> None:
    broken = Answer(HEAD_OK, BODY[:50], then="close")
    with ScriptedHttp(lambda _: broken) as server:
        async with opened(server.url) as origin:
            with pytest.raises(Short):
                await origin.get("app/file", limit_bytes=100_000)


async def test_each_call_asks_once() -> None:
    busy = Answer("HTTP/1.1 503 Busy\r\nContent-Length: 0")
    with ScriptedHttp(lambda _: busy) as server:
        async with opened(f"{server.url}/artifacts") as origin:
            for error in await ask_everything(origin, listing=True):
                assert isinstance(error, Unreachable)
                assert "503" in str(error)
    assert len(server.heads) == 4


async def test_nobody_listening_is_unreachable_with_advice() -> None:
    async with opened(f"http://127.0.0.1:{free_port()}/artifacts") as origin:
        for error in await ask_everything(origin, listing=True):
            assert isinstance(error, Unreachable)
            assert "127.0.0.1" in str(error)
            assert "[origin] url" in error.advice


async def test_a_silent_server_ends_a_call_at_its_timeout() -> None:
    with ScriptedHttp(lambda _: Answer("HTTP/1.1 200", then="hang")) as server:
        async with opened(server.url, request_timeout=0.3) as origin:
            with pytest.raises(Unreachable):
                await origin.head("app/file")


async def test_proxies_and_credentials_of_the_environment_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    (tmp_path / "netrc").write_text("machine localhost login somebody password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with ScriptedHttp(serving(BODY, 'ETag: "one"')) as server:
        async with opened(server.url) as origin:
            assert (await origin.head("app/file")).size_bytes == len(BODY)
            assert await read(await origin.source("app/file", if_match='"one"'), Span(0, 9)) == BODY[:9]
    assert not any("authorization" in head.lower() for head in server.heads)


async def test_the_ca_bundle_alone_decides_whom_to_trust(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    right, other = tmp_path / "right.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(right)
    trustme.CA().cert_pem.write_to_path(other)
    with ScriptedHttp(serving(BODY, 'ETag: "one"'), tls=context) as server:
        async with opened(server.url, ca_bundle=right) as origin:
            assert (await origin.head("app/file")).size_bytes == len(BODY)
            assert await read(await origin.source("app/file", if_match='"one"'), Span(0, 9)) == BODY[:9]
        for bundle in (other, None):
            async with opened(server.url, ca_bundle=bundle) as origin:
                for error in await ask_everything(origin):
                    assert isinstance(error, Unreachable)
                    assert "no trusted connection" in str(error)
                    assert "ca_bundle" in error.advice
        async with opened(server.url, ca_bundle=tmp_path / "none.pem") as origin:
            with pytest.raises(Unreachable, match="can't be used"):
                await origin.head("app/file")


# --- public buckets ------------------------------------------------------------------------------


async def test_a_bucket_that_is_not_there_is_no_missing_key(bucket: Bucket) -> None:
    async with opened(f"{bucket.server.endpoint_url}/no-such-bucket") as origin:
        for error in await ask_everything(origin):
            assert isinstance(error, Unreachable | Denied)  # MinIO denies it to those whom it does not know


async def test_a_public_bucket_s_publisher_is_on_record(bucket: Bucket) -> None:
    bucket.make_public()
    bucket.put("app/file", BODY, metadata={"sha256": "ab" * 32})
    async with opened(f"{bucket.server.endpoint_url}/{bucket.name}") as origin:
        info = await origin.head("app/file")
    assert (info.sha256, info.sha256_from) == ("ab" * 32, "metadata")


async def test_who_is_denied_is_told_that_anyone_must_be_let_in() -> None:
    forbidden = Answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0")
    with ScriptedHttp(lambda _: forbidden) as server:
        async with opened(server.url) as origin:
            with pytest.raises(Denied) as denied:
                await origin.get("app/file.pieces", limit_bytes=100)
    assert "s3:ListBucket" in denied.value.advice


# --- a hub's refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (404, "unknown_target", Missing),
        (404, "no_pieces", Missing),
        (400, "bad_target", Missing),
        (404, "no_checksum", Unvouched),
        (404, "not_an_artifact", Unavailable),
        (403, "policy", Denied),
        (421, "misdirected_host", Denied),
        (412, "precondition_failed", RevisionChanged),
        (416, "range_not_satisfiable", Short),
        (502, "digest_mismatch", RejectedByHub),
        (502, "changed", RejectedByHub),
        (503, "origin_unreachable", Unavailable),
        (503, "origin_loop", OriginLoop),
        (507, "no_room", Unavailable),
        (500, "error", Unavailable),
    ],
)
async def test_a_hub_s_refusal_is_understood_by_its_reason(
    status: int, reason: str, expected: type[OriginError]
) -> None:
    said = HTTPStatus(status).phrase
    refusal = Answer(f"HTTP/1.1 {status} {said}\r\nContent-Length: 0\r\nRetry-After: 17\r\nWaystation-Reason: {reason}")
    with ScriptedHttp(lambda _: refusal) as server:
        async with opened(f"{server.url}/artifacts") as origin:
            for error in await ask_everything(origin):
                assert type(error) is expected
                if isinstance(error, Unavailable):
                    assert error.retry_after_s == (None if reason == "not_an_artifact" else 17)
    assert [head.partition(" ")[0] for head in server.heads] == ["HEAD", "GET", "GET"]
    assert all("Via: 1.1 waystation-test" in head for head in server.heads)


# --- a hub's list --------------------------------------------------------------------------------


def entry(target: str, **changes: Any) -> dict[str, Any]:
    return {"target": target, "sha256": "ab" * 32, "size_bytes": 1, "modified": "2026-01-02T03:04:05+00:00", **changes}


def page(*targets: str, following: str | None = None) -> Answer:
    return json_answer({"targets": [entry(target) for target in targets], "next": following})


def json_answer(told: object) -> Answer:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return Answer(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}", body)


async def listed(answer: Callable[[dict[str, list[str]]], Answer], prefix: str = "", after: str = "") -> list[str]:
    def script(head: str) -> Answer:
        url = urlsplit(head.split(" ")[1])
        assert url.path == "/below/api/v1/targets"
        return answer(parse_qs(url.query, keep_blank_values=True))

    with ScriptedHttp(script) as server:
        async with opened(f"{server.url}/below/artifacts/") as origin:
            return [info.key async for info in origin.list(prefix, after=after)]


async def test_a_hub_s_list_is_followed_from_page_to_page() -> None:
    pages = {"": page("a", "b", following="b"), "b": page("c", following="c"), "c": page()}
    asked = []

    def answer(query: dict[str, list[str]]) -> Answer:
        asked.append(query)
        return pages[query["after"][0]]

    assert await listed(answer) == ["a", "b", "c"]
    assert [query["after"] for query in asked] == [[""], ["b"], ["c"]]


async def test_odd_prefixes_reach_the_hub_as_they_are() -> None:
    def answer(query: dict[str, list[str]]) -> Answer:
        assert query == {"prefix": ["a+b & c/é"], "after": ["a+b & c/é1%"]}
        return page()

    assert await listed(answer, "a+b & c/é", "a+b & c/é1%") == []


@pytest.mark.parametrize(
    "wrong",
    [
        page("b", "a"),
        page("a", "a"),
        page("a", following="a/../a"),
        page("a", following="b"),
        page("b", following="a"),
        page(following="a"),
        page("metadata/x"),
        page(*(f"a{number:03}" for number in range(251))),
        json_answer({"targets": [entry("a", size_bytes=-1)], "next": None}),
        json_answer({"targets": [entry("a", size_bytes=True)], "next": None}),
        json_answer({"targets": [entry("a", sha256="nonsense")], "next": None}),
        json_answer({"targets": [entry("a", modified="2026-01-02T03:04:05")], "next": None}),
        json_answer({"targets": [entry("a")]}),
        json_answer([]),
        json_answer(b"not json"),
        json_answer(b"[" * 200_000),
        json_answer(b" " * (3 * 1024 * 1024)),
        Answer("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4", b"hi!\n"),
        Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0"),
        Answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0"),
        Answer("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0"),
    ],
)
async def test_what_is_no_list_of_a_hub_is_not_listable(wrong: Answer) -> None:
    with pytest.raises(NotListable):
        await listed(lambda _: wrong)


async def test_names_beside_the_prefix_or_before_the_page_are_not_taken() -> None:
    with pytest.raises(NotListable, match="begin as asked"):
        await listed(lambda _: page("b/x"), prefix="a/")
    with pytest.raises(NotListable, match="not in order"):
        await listed(lambda _: page("a"), after="b")


async def test_a_hub_whose_origin_is_away_is_no_reason_to_think_that_it_is_none() -> None:
    away = Answer("HTTP/1.1 503 Away\r\nContent-Length: 0\r\nWaystation-Reason: origin_unreachable")
    with pytest.raises(Unavailable):
        await listed(lambda _: away)


async def test_without_the_path_of_a_hub_nobody_is_asked_for_a_list() -> None:
    with ScriptedHttp(serving()) as server:
        async with opened(f"{server.url}/bundles") as origin:
            with pytest.raises(NotListable, match="without wildcards"):
                _ = [info async for info in origin.list("")]
        assert server.heads == []


async def test_a_server_that_cannot_be_listed_is_asked_all_the_same_before_it_counts_as_there() -> None:
    missing = Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0")
    with ScriptedHttp(lambda _: missing) as server:
        async with opened(f"{server.url}/bundles") as origin:
            assert await probe(origin)
        assert server.heads
    async with opened(f"http://127.0.0.1:{free_port()}/bundles") as origin:
        with pytest.raises(Unreachable):
            await probe(origin)


# --- what only writers do ------------------------------------------------------------------------


async def test_nothing_is_published_through_it() -> None:
    with pytest.raises(ReadOnlyOrigin, match="can only be read"):
        async with open_publisher(Settings(origin=OriginSettings(url="http://localhost/artifacts"))):
            pass
