"""The mirror before an origin that means ill, a bucket or a hub: its tricks end in time, in memory, and by name."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import re
import time
from collections.abc import MutableMapping
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import structlog

from mirrors import World, running_mirror
from peers.evil_origin import MODIFIED, EvilOrigin, ok, said
from peers.scripted_http import Answer, ScriptedHttp
from stores import random_bytes
from waystation.catalog import lookups
from waystation.config import PrefetchSettings, TransferSettings
from waystation.errors import CallRefused, NotListable, OriginError, Unreachable
from waystation.mirror import targets
from waystation.model import Digest
from waystation.origin import http_origin, resilient, s3_connection
from waystation.prefetch import fetcher, poller
from waystation.prefetch.subscriptions import Subscriptions

Line = MutableMapping[str, Any]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from peers.evil_origin import Ask, Kind, Manner

NAME, WARM = "app/app-1-x86_64", "app/warm-1-x86_64"
BODY = random_bytes(200_000)
REQUEST_TIMEOUT_S, STALL_TIMEOUT_S = 0.8, 0.4
ENDS_WITHIN_S = 6.0
"""Two tries of a range with the pause between them, on a busy machine; the deadlines themselves are far below."""
MOST_GROWN_BYTES = 48 * 1024 * 1024
BOMB = gzip.compress(bytes(64 * 1024 * 1024))
SECRET = b"ami-id: i-0123456789\nrole-credentials: s3cr3t-of-the-machine"

_ = s3_connection  # imported here, so that no deadline has to pay for it

both = pytest.mark.parametrize("manner", ["s3", "hub"])


# --- what it does --------------------------------------------------------------------------------


def forever(portion: bytes) -> Iterator[bytes]:
    return itertools.repeat(portion)


def dripping(start: bytes = b"", drop: bytes = b"x") -> Iterator[bytes]:
    """Now and then a byte, always before any timeout between two of them."""
    yield start
    while True:
        time.sleep(STALL_TIMEOUT_S / 8)
        yield drop


def silent(_: Ask) -> Answer:
    return Answer("", then="hang")


def drips_its_head(_: Ask) -> Answer:
    return Answer("", stream=dripping(b"HTTP/1.1 200 OK\r\nX: "))


def endless_headers(_: Ask) -> Answer:
    return Answer("", stream=itertools.chain([b"HTTP/1.1 200 OK\r\n"], forever(b"X-More: of the same\r\n" * 1000)))


def one_endless_header(_: Ask) -> Answer:
    return Answer("", stream=itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], forever(b"x" * 65536)))


def endless_continue(_: Ask) -> Answer:
    return Answer("", stream=forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000))


def drips_continue(_: Ask) -> Answer:
    return Answer("", stream=dripping(drop=b"HTTP/1.1 100 Continue\r\n\r\n"))


def no_http(_: Ask) -> Answer:
    return Answer("", b"\x00\x01\x02SSH-2.0-evil\r\n\r\n", then="close")


def drips_its_body(ask: Ask) -> Answer:
    length = ask.span[1] - ask.span[0] if ask.span else len(BODY)
    return replace(ok(BODY, ask), body=b"", stream=itertools.islice(dripping(), length))


def endless_chunks(_: Ask) -> Answer:
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    return Answer(
        f'HTTP/1.1 200 OK\r\nETag: "e"\r\nLast-Modified: {MODIFIED}\r\nTransfer-Encoding: chunked',
        stream=forever(chunk),
    )


def endless_refusal(_: Ask) -> Answer:
    return Answer("HTTP/1.1 500 Oops", stream=forever(b"<Error>" * 10_000))


def huge_length(ask: Ask) -> Answer:
    return Answer(
        f'HTTP/1.1 200 OK\r\nETag: "e"\r\nLast-Modified: {MODIFIED}\r\nContent-Length: {10**30}', b"x", "close"
    )


def says_200_to_everything(ask: Ask) -> Answer:
    return said(200, "OK", b"<html>Welcome</html>", ask, "Content-Type: text/html")


def odd_headers(ask: Ask) -> Answer:
    return said(
        200, "OK", BODY, ask, "ETag: \x7f\x01", "Last-Modified: the day before", "Date: 99", "x-amz-meta-sha256: no"
    )


def gzip_bomb(ask: Ask) -> Answer:
    return said(200, "OK", BOMB, ask, "Content-Encoding: gzip", 'ETag: "e"', f"Last-Modified: {MODIFIED}")


def half(ask: Ask) -> Answer:
    answer = ok(BODY, ask)
    return replace(answer, body=answer.body[: len(answer.body) // 2], then="close")


def less_than_asked(ask: Ask) -> Answer:
    assert ask.span
    return ok(BODY, replace(ask, span=(ask.span[0], ask.span[1] - 1)))


def ignores_the_range(ask: Ask) -> Answer:
    return replace(ok(BODY + BODY, replace(ask, span=None)))


def another_range(ask: Ask) -> Answer:
    assert ask.span
    start, stop = ask.span
    answer = ok(BODY, replace(ask, span=(0, stop - start)))
    return (
        Answer(answer.head, answer.body) if start else Answer(answer.head.replace("bytes 0-", "bytes 1-"), answer.body)
    )


def encoded(ask: Ask) -> Answer:
    return Answer(ok(BODY, ask).head + "\r\nContent-Encoding: gzip", ok(BODY, ask).body)


def other_bytes(ask: Ask) -> Answer:
    return ok(bytes(len(BODY)), ask)


ON_SMALL: dict[str, tuple[Callable[[Ask], Answer], set[str]]] = {
    "never answers": (silent, {"origin_unreachable"}),
    "drips its head": (drips_its_head, {"origin_unreachable"}),
    "endless headers": (endless_headers, {"origin_unreachable"}),
    "one endless header": (one_endless_header, {"origin_unreachable"}),
    "endless 100 Continue": (endless_continue, {"origin_unreachable"}),
    "drips 100 Continue": (drips_continue, {"origin_unreachable"}),
    "no HTTP": (no_http, {"origin_unreachable"}),
    "drips its body": (drips_its_body, {"origin_unreachable", "malformed_checksum"}),
    "endless chunks": (endless_chunks, {"origin_unreachable", "malformed_checksum"}),
    "endless refusal": (endless_refusal, {"origin_unreachable"}),
    "a length of 10^30": (huge_length, {"origin_unreachable", "malformed_checksum"}),
    "200 to everything": (says_200_to_everything, {"origin_unreachable", "malformed_checksum"}),
    "odd headers": (odd_headers, {"origin_unreachable", "malformed_checksum"}),
    "a gzip bomb": (gzip_bomb, {"short_body", "malformed_checksum"}),
}
ON_BULK: dict[str, tuple[Callable[[Ask], Answer], set[str]]] = {
    "never answers": (silent, {"origin_unreachable"}),
    "drips its head": (drips_its_head, {"origin_unreachable"}),
    "endless headers": (endless_headers, {"origin_unreachable"}),
    "one endless header": (one_endless_header, {"origin_unreachable"}),
    "endless 100 Continue": (endless_continue, {"origin_unreachable"}),
    "drips 100 Continue": (drips_continue, {"origin_unreachable"}),
    "no HTTP": (no_http, {"origin_unreachable"}),
    "drips its body": (drips_its_body, {"origin_unreachable"}),
    "endless chunks": (endless_chunks, {"short_body"}),
    "endless refusal": (endless_refusal, {"origin_unreachable"}),
    "a length of 10^30": (huge_length, {"short_body"}),
    "half of it": (half, {"short_body"}),
    "less than was asked for": (less_than_asked, {"short_body"}),
    "the range ignored": (ignores_the_range, {"short_body"}),
    "another range": (another_range, {"short_body"}),
    "encoded": (encoded, {"short_body"}),
    "other bytes": (other_bytes, {"digest_mismatch"}),
    "200 to everything": (says_200_to_everything, {"short_body"}),
}


# --- where it is tried ---------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@asynccontextmanager
async def facing(evil: EvilOrigin, folder: Path, lines: list[Line]) -> AsyncIterator[World]:
    """A mirror over it, which has seen it do right once."""
    evil.put(NAME, BODY)
    evil.put(WARM, b"warm")
    with evil.serving() as server:
        origin = evil.settings(
            server.port, folder, request_timeout=REQUEST_TIMEOUT_S, connect_timeout=REQUEST_TIMEOUT_S, attempts=1
        )
        transfer = TransferSettings(stall_timeout=STALL_TIMEOUT_S, retries=1)
        async with running_mirror(folder, origin=origin, transfer=transfer) as world:
            while (await world.ask(f"/artifacts/{WARM}")).body != b"warm":  # botocore may be slow to come
                await asyncio.sleep(0.1)
            lines.clear()
            yield world


def twisting(kind: Kind | Literal["all"], trick: Callable[[Ask], Answer]) -> Callable[[Ask], Answer | None]:
    return lambda ask: trick(ask) if kind in (ask.kind, "all") and WARM not in ask.key else None


def peak_bytes() -> int:
    """The most memory that this process, the origin's threads included, has had resident since `forget_peak`."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


async def refused(world: World, lines: list[Line], reasons: set[str]) -> None:
    """Ask, and find the refusal in time, in bounded memory, and by the same name in answer, log and metric."""
    before, began = forget_peak(), time.monotonic()
    answer = await world.ask(f"/artifacts/{NAME}")
    assert time.monotonic() - began < ENDS_WITHIN_S
    assert peak_bytes() - before < MOST_GROWN_BYTES
    assert answer.code in (502, 503), answer.body
    reason = answer.headers["waystation-reason"]
    assert reason in reasons
    await world.until_counted(code=str(answer.code), reason=reason)
    told = [line for line in lines if line["event"] == "request_refused"]
    assert [line["reason"] for line in told] == [reason]
    assert all(len(str(line)) < 2000 and "\x1b" not in str(line) for line in lines)
    assert not any("exc_info" in line for line in lines), lines
    assert world.parts.store.open(Digest(sha256(BODY).hexdigest())) is None
    if answer.code == 503:
        assert 1 <= int(answer.headers["retry-after"]) <= 60


@both
@pytest.mark.parametrize("trick", ON_SMALL)
async def test_a_trick_on_small_questions_ends_in_time_in_memory_and_by_name(
    tmp_path: Path, manner: Manner, trick: str, lines: list[Line]
) -> None:
    does, reasons = ON_SMALL[trick]
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.twist = twisting("small", does)
        await refused(world, lines, reasons)


@pytest.mark.parametrize(
    ("manner", "trick"),
    # of both by the same code, but for how the URL comes about
    [*(("hub", trick) for trick in ON_BULK), ("s3", "never answers"), ("s3", "half of it"), ("s3", "other bytes")],
)
async def test_a_trick_on_the_bytes_ends_in_time_in_memory_and_by_name(
    tmp_path: Path,
    manner: Manner,
    trick: str,
    lines: list[Line],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_origin, "PATIENCE_S", STALL_TIMEOUT_S)  # a hub may take a minute to begin
    does, reasons = ON_BULK[trick]
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.twist = twisting("bulk", does)
        await refused(world, lines, reasons)


@both
async def test_an_object_that_changes_between_two_ranges_is_refused(
    tmp_path: Path, manner: Manner, lines: list[Line]
) -> None:
    etags = map('"{}"'.format, itertools.count())
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.twist = twisting("bulk", lambda ask: ok(BODY, ask, etag=next(etags)))
        await refused(world, lines, {"revision_changed"})


# --- redirects -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("kind", "status"), [("small", 301), ("small", 307), ("bulk", 302), ("list", 303), ("bucket", 308)]
)
async def test_no_redirect_is_followed_wherever_it_leads(
    tmp_path: Path, manner: Manner, kind: Kind | Literal["all"], status: int, lines: list[Line]
) -> None:
    """A cloud's metadata service, at a link-local address or behind a name, stands for all that only we reach."""
    with ScriptedHttp(lambda _: Answer(f"HTTP/1.1 200 OK\r\nContent-Length: {len(SECRET)}", SECRET)) as inside:
        places = itertools.cycle(
            [
                f"http://127.0.0.1:{inside.port}/latest/meta-data/",
                f"http://localhost:{inside.port}/latest/meta-data/",
                f"http://[::ffff:127.0.0.1]:{inside.port}/",
                f"//127.0.0.1:{inside.port}/",
                "http://169.254.169.254/latest/meta-data/iam",
                "http://[fe80::1%25lo]/",
                "file:///etc/passwd",
            ]
        )
        evil = EvilOrigin(manner)
        async with facing(evil, tmp_path, lines) as world:
            evil.twist = twisting(
                kind,
                lambda ask: said(status, "Elsewhere", b"", ask, f"Location: {next(places)}", "x-amz-bucket-region: x"),
            )
            if kind == "bucket":  # what is asked where a key is missing
                answer = await world.ask("/artifacts/app/absent-1-x86_64")
            else:
                answer = await world.ask("/api/v1/targets" if kind == "list" else f"/artifacts/{NAME}")
        assert inside.connections == 0
    assert b"s3cr3t" not in answer.body
    if kind != "bucket" or manner == "s3":
        assert (answer.code, answer.headers["waystation-reason"]) in {(503, "origin_redirects"), (503, "not_listable")}
    assert "s3cr3t" not in str(lines)


# --- lists ---------------------------------------------------------------------------------------


def names_from(first: int, count: int) -> list[str]:
    return [f"app/app-{number:09}-x86_64" for number in range(first, first + count)]


def same_page_again(ask: Ask) -> Answer:
    names = names_from(0, 10)
    return EvilOrigin.page(ask, names, following="again" if ask.manner == "s3" else names[-1])


def pages_without_keys(ask: Ask) -> Answer:
    number = int(ask.token.rpartition("-")[2] or 0) + 1 if ask.token else 1
    return EvilOrigin.page(ask, [], following=f"app/app-{number:09}")


def endless_page(ask: Ask) -> Answer:
    content_type = "application/json" if ask.manner == "hub" else "application/xml"
    entry = b"<Contents><Key>a</Key></Contents>" if ask.manner == "s3" else b'{"target": "app/x", "sha256": null},'
    start = b"<ListBucketResult>" if ask.manner == "s3" else b'{"targets": ['
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}"
    return Answer(head, stream=itertools.chain([start], forever(entry * 2000)))


def xml_bomb(ask: Ask) -> Answer:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "{"x" * 1000}">{entities}]>'
    return ok(f"{head}<ListBucketResult>&e9;</ListBucketResult>".encode(), ask)


def padded_xml_bomb(ask: Ask) -> Answer:
    """Large enough itself that the parser's own guard against amplification lets it expand to half a gigabyte."""
    body = (
        f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "{"x" * 1_000_000}">]>'
        f"<ListBucketResult><!--{' ' * 6_000_000}--><Name>{'&e;' * 500}</Name></ListBucketResult>"
    )
    return ok(body.encode(), ask)


def utf16_bomb(ask: Ask) -> Answer:
    body = (
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY e "x">]><ListBucketResult>&e;</ListBucketResult>'
    )
    return ok(body.encode("utf-16"), ask)


def deep_nesting(ask: Ask) -> Answer:
    return ok(b"<a>" * 200_000 if ask.manner == "s3" else b'{"targets":' + b"[" * 200_000, ask)


def no_list(ask: Ask) -> Answer:
    return ok(b"<ListBucketResult><Contents><Size>many</Size></Contents></ListBucketResult>", ask)


def no_year(ask: Ask) -> Answer:
    if ask.manner == "s3":
        return ok(
            b"<ListBucketResult><Contents><Key>app/x</Key><ETag>e</ETag><Size>1</Size>"
            b"<LastModified>0001-01-01T00:00:00+14:00</LastModified></Contents></ListBucketResult>",
            ask,
        )
    return ok(
        b'{"targets": [{"target": "app/x", "sha256": null, "size_bytes": 1,'
        b' "modified": "0001-01-01T00:00:00+14:00"}], "next": null}',
        ask,
    )


ON_LISTS: dict[str, Callable[[Ask], Answer]] = {
    "never answers": silent,
    "drips its head": drips_its_head,
    "endless headers": endless_headers,
    "the same page again and again": same_page_again,
    "pages without keys": pages_without_keys,
    "an endless page": endless_page,
    "an XML bomb": xml_bomb,
    "a padded XML bomb": padded_xml_bomb,
    "an XML bomb in UTF-16": utf16_bomb,
    "deep nesting": deep_nesting,
    "no list": no_list,
    "a time in no year": no_year,
    "200 to everything": says_200_to_everything,
    "a gzip bomb": gzip_bomb,
    "endless chunks": endless_chunks,
}


@pytest.mark.parametrize(
    ("manner", "trick"),
    [*(("s3", trick) for trick in ON_LISTS), *(("hub", trick) for trick in ON_LISTS if "XML" not in trick)],
)
async def test_a_trick_on_lists_ends_in_time_in_memory_and_by_name(
    tmp_path: Path, manner: Manner, trick: str, lines: list[Line]
) -> None:
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.twist = twisting("list", ON_LISTS[trick])
        before, began = forget_peak(), time.monotonic()
        with pytest.raises(OriginError) as raised:
            _ = [each async for each in world.parts.catalog.list("*")]
        assert time.monotonic() - began < ENDS_WITHIN_S
        assert peak_bytes() - before < MOST_GROWN_BYTES
        assert isinstance(raised.value, NotListable | Unreachable)
        assert world.sampled("waystation_origin_requests_total", op="list", outcome=raised.value.reason) == 1
        answer = await world.ask("/api/v1/targets")
        assert answer.code in (200, 503)  # a first page may be good
    assert not any("exc_info" in line for line in lines), lines


@both
async def test_a_list_that_never_ends_is_given_up_and_clients_are_served_meanwhile(
    tmp_path: Path, manner: Manner, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilient, "MOST_KEYS", 2000)
    evil = EvilOrigin(manner)

    def ever_more(ask: Ask) -> Answer:
        first = int(re.search(r"(\d{9})", ask.token)[1]) + 1 if ask.token else 0  # type: ignore[index]
        names = names_from(first, 250)
        return EvilOrigin.page(ask, names, following=names[-1])

    async with facing(evil, tmp_path, lines) as world:
        evil.twist = twisting("list", ever_more)
        listing = asyncio.create_task(consume(world))
        assert (await world.ask(f"/artifacts/{NAME}")).body == BODY
        with pytest.raises(NotListable, match="more than 2000 keys"):
            await listing
        assert world.sampled("waystation_origin_requests_total", op="list", outcome="not_listable") == 1
        monkeypatch.setattr(resilient, "MOST_KEYS", 10**9)
        monkeypatch.setattr(resilient, "LONGEST_LIST_S", 0.3)
        with pytest.raises(Unreachable):
            await consume(world)


async def consume(world: World) -> None:
    async for _ in world.parts.catalog.list("*"):
        pass


@both
async def test_what_is_listed_and_subscribed_to_is_taken_note_of_up_to_a_number(
    tmp_path: Path, manner: Manner, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "MOST_TARGETS", 100)
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.twist = twisting("list", lambda ask: EvilOrigin.page(ask, names_from(0, 101)))
        subscribed = Subscriptions([PrefetchSettings(match="*")], arch="x86_64")
        news: list[object] = []
        polling = poller.Poller(
            world.parts.catalog,
            subscribed,
            refresh_s=1.0,
            held=tuple,
            news=news.append,
            wall=time.time,
            randomly=lambda: 0.0,
        )
        assert await polling.poll() >= poller.FIRST_BACKOFF_S
        assert polling.trouble is not None
        assert "more than 100 targets" in polling.trouble
        assert (polling.published, news) == (None, [])


# --- nothing piles up behind it ------------------------------------------------------------------


async def leave(world: World, path: str) -> None:
    """Ask, and be gone before the answer."""
    async with await world.connect() as client:
        client.ask(path)
        await client.writer.drain()


@both
async def test_questions_of_those_who_left_do_not_pile_up_and_what_is_known_is_served_meanwhile(
    tmp_path: Path, manner: Manner, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MOST_AT_ONCE", 3)
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.twist = lambda ask: silent(ask) if ask.kind == "small" else None
        asking = world.parts.catalog._lookups._running
        for number in range(3):
            await leave(world, f"/artifacts/app/left-{number}-x86_64")
            await world.until(lambda number=number: len(asking) == number + 1)  # type: ignore[misc]
        began = time.monotonic()
        answer = await world.ask(f"/artifacts/{NAME}")
        assert (answer.code, answer.headers["waystation-reason"]) == (503, "too_many_questions")
        assert answer.headers["retry-after"]
        assert (await world.ask(f"/artifacts/{WARM}")).body == b"warm"
        assert time.monotonic() - began < REQUEST_TIMEOUT_S
        assert len(asking) == 3
        await world.until(lambda: not asking)


@both
async def test_lists_for_those_who_left_do_not_pile_up(
    tmp_path: Path, manner: Manner, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "MOST_AT_ONCE", 2)
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.twist = twisting("list", silent)
        for number in range(2):
            await leave(world, f"/api/v1/targets?prefix=left-{number}")
            await world.until(lambda number=number: sum(ask.kind == "list" for ask in evil.asked) == number + 1)  # type: ignore[misc]
        answer = await world.ask("/api/v1/targets")
        assert (answer.code, answer.headers["waystation-reason"]) == (503, "too_many_questions")
        assert sum(ask.kind == "list" for ask in evil.asked) == 2


@both
async def test_what_is_fetched_by_hand_does_not_pile_up(
    tmp_path: Path, manner: Manner, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "REMEMBERED_ASKS", 1)
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        evil.put("app/app-2-x86_64", BODY[::-1])
        one, two = [await world.parts.admission.admit(name) for name in (NAME, "app/app-2-x86_64")]
        evil.twist = twisting("bulk", silent)
        world.parts.prefetch.fetcher.ask(one)
        with pytest.raises(CallRefused, match="by hand already"):
            world.parts.prefetch.fetcher.ask(two)
        assert world.parts.prefetch.fetcher.ask(one).outcome is None
        await world.parts.prefetch.fetcher.close()


@both
async def test_what_an_origin_does_not_have_is_asked_for_anew_each_time(
    tmp_path: Path, manner: Manner, lines: list[Line]
) -> None:
    """A negative answer is remembered by nobody: what is published a moment later is there a moment later."""
    evil = EvilOrigin(manner)
    async with facing(evil, tmp_path, lines) as world:
        assert (await world.ask("/artifacts/app/new-1-x86_64")).code == 404
        evil.put("app/new-1-x86_64", b"now")
        assert (await world.ask("/artifacts/app/new-1-x86_64")).body == b"now"
