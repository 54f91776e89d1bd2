"""The mirror against those who mean ill: raw sockets, nothing but bytes."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from mirrors import TIMEOUT_S, World, running_mirror
from stores import random_bytes
from waystation.config import MirrorSettings
from waystation.model import MAX_TARGET_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping
    from pathlib import Path

NAME = "app/app-1-x86_64"
DATA = random_bytes(100_000)
SECRET = b"root:x:0:0"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "secret").write_bytes(SECRET)
    limits = MirrorSettings(listen=("http://127.0.0.1:0",), header_timeout=0.5, max_header_size=4096)
    async with running_mirror(tmp_path, mirror=limits) as running:
        running.put(NAME, DATA)
        yield running
        assert (await running.ask(f"/artifacts/{NAME}")).body == DATA, "the mirror no longer serves"


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def get(target: str, *fields: str, method: str = "GET", version: str = "1.1", host: str = "localhost") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", f"Host: {host}", *fields, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "target",
    [
        "/artifacts/../../secret",
        "/artifacts/..%2f..%2fsecret",
        "/artifacts/%2e%2e/%2e%2e/secret",
        "/artifacts/%252e%252e/secret",
        "/artifacts/%c0%ae%c0%ae/secret",
        "/artifacts/..%5c..%5csecret",
        "/artifacts/app/..;/secret",
        "/artifacts//etc/passwd",
        "//etc/passwd",
        "/artifacts/%2fetc/passwd",
        "/artifacts/app/%00/../secret",
        f"/artifacts/{NAME}%00.txt",
        f"/artifacts/{NAME}%0d%0aX-Injected:%201",
        f"/artifacts/{NAME}#x",
        "/artifacts/app/.sha256",
        "/artifacts/metadata/root.json",
        "/artifacts/targets/x",
        f"/artifacts/{NAME}.sha256.sha256",
        f"/artifacts/{NAME}.provenance.json",
        "/bundles/live/../../secret",
        "/blobs/sha256/../../../secret",
        "/api/v1/../../secret",
        "/artifacts/" + "a/" * 1500 + "x",
        "/artifacts/" + "%41" * 1300,
        "file:///etc/passwd",
        "http://localhost/artifacts/../../secret",
        "*",
    ],
)
async def test_no_path_leads_out(world: World, target: str) -> None:
    answer = await world.say(get(target))
    assert answer.code in (400, 404)
    assert SECRET not in answer.body
    assert "x-injected" not in answer.headers
    assert answer.body.count(b"\n") == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        get("/healthz", "Host: localhost"),
        get("/healthz", "Header without colon"),
        get("/healthz", " folded"),
        get("/healthz", "Name : x"),
        get("/healthz", "Name: a\x00b"),
        get("/healthz", "Name: a\nb"),
        get("/healthz", version="1.2"),
        get("/healthz", version="2.0"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"{}\r\n\r\n",
        b"GET /" + b"\xff" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        get("/healthz", "Content-Length: x"),
        get("/healthz", "Content-Length: -1"),
        get("/healthz", "Content-Length: 1", "Content-Length: 2"),
    ],
)
async def test_what_is_not_http_is_refused_once_and_the_connection_closed(
    world: World, raw: bytes, lines: list[MutableMapping[str, Any]]
) -> None:
    async with await world.connect() as client:
        client.send(raw + get("/metrics"))
        answer = await client.answer()
        assert answer.code == 400
        assert answer.headers["connection"] == "close"
        assert await client.is_closed()
    await world.until_counted(code="400", reason="malformed_request", route="none")
    assert world.counted(code="400") == 1
    assert world.counted(route="metrics") == 0
    refused = [line for line in lines if line["event"] == "request_refused"]
    assert len(refused) == 1
    assert not any("exc_info" in line or "exception" in line for line in lines)


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 44", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked",),
        ("Transfer-Encoding: xchunked", "Content-Length: 44"),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:\tchunked",),
        ("Content-Length: 44",),
        ("Content-Length: 0, 44",),
    ],
)
async def test_a_smuggled_request_is_never_answered(world: World, fields: tuple[str, ...]) -> None:
    async with await world.connect() as client:
        client.send(get(f"/artifacts/{NAME}", *fields) + b"0\r\n\r\n" + get("/metrics"))
        assert (await client.answer()).code == 400
        assert await client.is_closed()
    assert world.counted(route="metrics") == 0


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PROPFIND", "get", "G-E_T"]
)
async def test_only_get_and_head_are_answered(world: World, method: str) -> None:
    for target in (f"/artifacts/{NAME}", "/", "*", "localhost:80", "/api/v1/status"):
        answer = await world.say(get(target, method=method))
        assert (answer.code, answer.headers["allow"]) == (405, "GET, HEAD")
    await world.until_counted(code="405", reason="method_not_allowed")


@pytest.mark.parametrize("body", [5_000_000, 200_000_000])
async def test_an_upload_is_dropped_and_its_sender_sees_why(world: World, body: int) -> None:
    head = get("/bundles/live/app/new", f"Content-Length: {body}", method="PUT")
    answer = await asyncio.to_thread(upload, world.port, head, body)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"itself.\n")
    assert not (world.root / "app/new").exists()


def upload(port: int, head: bytes, body: int) -> bytes:
    """Send all of it before looking at the answer, as simple clients do."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
        client.sendall(head)
        for _ in range(body // 100_000):
            client.sendall(bytes(100_000))
        answer = b""
        while data := client.recv(4096):
            answer += data
        return answer


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "169.254.169.254.nip.io", "metadata"])
async def test_a_foreign_name_is_misdirected(world: World, host: str) -> None:
    answer = await world.ask(f"/artifacts/{NAME}", host=host)
    assert answer.code == 421
    absolute = await world.ask(f"http://{host}/artifacts/{NAME}")
    assert absolute.code == 421
    assert (await world.ask(f"http://localhost/artifacts/{NAME}", host=host)).body == DATA


@pytest.mark.parametrize("host", ["", "a b", "a/b", "user@localhost", "localhost:port", "[::1"])
async def test_a_host_that_is_none_is_refused(world: World, host: str) -> None:
    assert (await world.ask("/healthz", host=host)).code == 400


async def test_the_origins_own_name_and_every_address_are_answered(world: World) -> None:
    for host in ("origin.example", "origin.example:9000", "10.0.0.1", "[::1]:4650", "LOCALHOST."):
        assert (await world.ask("/healthz", host=host)).code == 200
    assert (await world.say(b"GET /healthz HTTP/1.0\r\n\r\n")).code == 200


async def test_too_many_headers_are_refused(world: World) -> None:
    many = await world.say(get("/healthz", *(f"X-{number}: {'x' * 50}" for number in range(100))))
    assert many.code == 431
    one = await world.say(get("/healthz", "X: " + "x" * 5000))
    assert one.code == 431
    endless = await world.say(b"GET /" + b"x" * 50_000)
    assert endless.code == 431
    await world.until_counted(code="431", reason="header_too_large")


async def test_an_endless_stream_of_header_bytes_is_not_kept(world: World) -> None:
    async with await world.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(client.writer), TIMEOUT_S)
    await world.until_counted(code="431")


async def flood(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X: y\r\n" * 10_000)
        await writer.drain()


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"GET / HTTP/1.1\n\n"])
async def test_headers_that_never_end_are_given_up(world: World, start: bytes) -> None:
    async with await world.connect() as client:
        client.send(start)
        answer = await client.answer()
        assert answer.code == 408
        assert await client.is_closed()
    await world.until_counted(code="408", reason="slow_request")


async def test_headers_that_trickle_gain_no_time(world: World) -> None:
    async with await world.connect() as client:
        trickle = asyncio.create_task(drip(client.writer, b"GET / HTTP/1.1\r\nX: " + b"x" * 4000))
        try:
            assert (await client.answer()).code == 408
        finally:
            trickle.cancel()


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await asyncio.sleep(0.02)  # slower than the limit in all, faster than it for each byte


async def test_blank_lines_gain_no_time_either(world: World) -> None:
    async with await world.connect() as client:
        trickle = asyncio.create_task(drip(client.writer, b"\r\n" * 1000))
        try:
            with suppress(ConnectionResetError):  # where a blank line came behind the end
                await asyncio.wait_for(client.reader.read(), TIMEOUT_S)
        finally:
            trickle.cancel()


async def test_a_flood_of_pipelined_requests_is_answered_in_order_and_in_bounded_memory(world: World) -> None:
    count = 2000
    async with await world.connect() as client:
        client.send(get("/artifacts/app/absent") * count)
        for _ in range(count):
            assert (await client.answer()).code == 404


async def test_a_flood_whose_answers_are_not_read_does_not_pile_up(world: World) -> None:
    async with await world.connect() as client:
        client.writer.transport.set_write_buffer_limits(0)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(get("/metrics") * 20_000)
        await world.until_counted(route="metrics")
        [connection] = [one for one in world.mirror._connections if one.peer]
        async with asyncio.timeout(TIMEOUT_S):
            while not connection._reading_paused:
                await asyncio.sleep(0.001)
        assert len(connection._inbox._data) < 4096 + 256 * 1024
        async with asyncio.timeout(TIMEOUT_S):
            while not connection._transport.get_write_buffer_size():
                await asyncio.sleep(0)
        for _ in range(500):  # time enough to write 500 answers more
            await asyncio.sleep(0)
        assert connection._transport.get_write_buffer_size() < 200_000


async def test_a_flood_of_pipelined_requests_lets_others_have_their_turn(world: World) -> None:
    async with await world.connect() as flooding:
        flooding.send(get("/healthz") * 4000)
        assert (await flooding.answer()).code == 200
        assert (await world.ask("/healthz")).code == 200
        assert world.counted(route="healthz") < 4000


@pytest.mark.parametrize("query", ["terraform-get=1", "checksum=x&terraform-get", "terraform%2dget=1"])
async def test_a_question_for_a_folder_is_no_success(world: World, query: str) -> None:
    assert (await world.ask(f"/artifacts/{NAME}?{query}")).code == 400


@pytest.mark.parametrize(
    "fields",
    [
        ("Range: bytes=" + ",".join(["0-0"] * 500),),
        ("Range: bytes=" + "9" * 3900 + "-",),
        ("Range: bytes=0-" + "9" * 3900,),
        ("Range: bytes=0-1", "Range: bytes=5-6"),
        ("If-None-Match: " + '"x",' * 900,),
        ("If-Modified-Since: Sun, 06 Nov 999999999999999 08:49:37 GMT",),
        ("If-Range: " + "W/" * 1000,),
    ],
)
async def test_headers_of_madness_get_the_whole_or_a_416(world: World, fields: tuple[str, ...]) -> None:
    answer = await world.ask(f"/artifacts/{NAME}", *fields)
    assert answer.code in (200, 206, 416)
    assert answer.code != 200 or answer.body == DATA


async def test_nothing_a_client_sends_reaches_a_log_line_or_a_label_unchecked(
    world: World, lines: list[MutableMapping[str, Any]]
) -> None:
    mark = "mxr%1bkxd"
    for raw in (
        get(f"/artifacts/app/{mark}"),
        get(f"/{mark}"),
        get("/healthz", f"X-Request-Id: {mark}", f"User-Agent: {mark}", method=mark.replace("%1b", "")),
        get("/healthz", host=mark),
        b"\x1b[31m" + get("/healthz"),
    ):
        await world.say(raw)
    assert not re.search(r"mxr.{0,5}kxd|\x1b", json.dumps(lines, default=str).replace("\\u001b", "\x1b"))
    assert b"kxd" not in world.metrics.render()


async def test_a_name_that_is_no_target_is_cut_short_in_the_log(
    world: World, lines: list[MutableMapping[str, Any]]
) -> None:
    answer = await world.say(get("/artifacts/" + "x" * 2000))
    assert answer.code == 400
    assert max(len(str(line.get("target", ""))) for line in lines) == MAX_TARGET_BYTES
