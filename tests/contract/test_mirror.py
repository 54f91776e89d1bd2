"""What the mirror answers, on real parts: a folder as origin, a real store, real transfers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import structlog

from mirrors import World, running_mirror
from stores import random_bytes
from waystation.config import MirrorSettings
from waystation.mirror.memory import MAX_BLOB_BYTES
from waystation.model import Digest, TargetPath
from waystation.pieces import BLOCK_BYTES, parse_pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAME = "app/app-1-x86_64"
PATH = f"/artifacts/{NAME}"
DATA = random_bytes(3 * MAX_BLOB_BYTES + 17)
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_mirror(tmp_path) as running:
        running.put(NAME, DATA)
        yield running


# --- bytes ---------------------------------------------------------------------------------------


async def test_cold_and_warm_give_the_same_answer(world: World) -> None:
    cold, warm = await world.ask(PATH), await world.ask(PATH)
    for answer in (cold, warm):
        assert (answer.code, answer.body) == (200, DATA)
        assert answer.headers["etag"] == f'"{DIGEST}"'
        assert answer.headers["content-length"] == str(len(DATA))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(sha256(DATA).digest()).decode()}:"
        assert parsedate_to_datetime(answer.headers["last-modified"]) <= parsedate_to_datetime(answer.headers["date"])
        assert not {"content-encoding", "transfer-encoding", "content-range"} & answer.headers.keys()
    await world.until_counted(route="artifacts", code="200", cache="miss", reason="ok")
    await world.until_counted(route="artifacts", code="200", cache="hit", reason="ok")
    for cache in ("miss", "hit"):
        assert world.metrics.registry.get_sample_value("waystation_served_bytes_total", {"cache": cache}) == len(DATA)


async def test_a_first_fetch_asks_for_each_small_file_once(world: World) -> None:
    world.put(NAME, DATA, pieces=True)
    assert (await world.ask(PATH)).body == DATA
    gets = world.metrics.registry.get_sample_value("waystation_origin_requests_total", {"op": "get", "outcome": "ok"})
    assert gets == 2, "the piece file and the checksum file"


async def test_compression_is_never_applied(world: World) -> None:
    answer = await world.ask(PATH, "Accept-Encoding: gzip", "User-Agent: Go-http-client/1.1", "Connection: close")
    assert answer.body == DATA
    assert "content-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"


async def test_head_says_what_get_would_and_fetches_nothing(world: World) -> None:
    async with await world.connect() as client:
        client.ask(PATH, method="HEAD")
        client.ask("/healthz")
        head = await client.answer(has_body=False)
        assert (await client.answer()).body == b"alive\n"
    await world.until_counted(route="artifacts", cache="none", code="200")
    got = await world.ask(PATH)
    await world.until_counted(route="artifacts", cache="miss")
    assert head.code == 200
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("0-0", 0, 1), ("100-65635", 100, 65636), ("-17", len(DATA) - 17, len(DATA)), ("5-", 5, len(DATA))],
)
async def test_a_range_is_answered_alone(world: World, wanted: str, start: int, stop: int, warm: bool) -> None:
    if warm:
        await world.ask(PATH)
    answer = await world.ask(PATH, f"Range: bytes={wanted}")
    assert (answer.code, answer.body) == (206, DATA[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert answer.headers["etag"] == f'"{DIGEST}"'


async def test_a_resumed_download_of_other_bytes_begins_again(world: World) -> None:
    same = await world.ask(PATH, "Range: bytes=10-", f'If-Range: "{DIGEST}"')
    other = await world.ask(PATH, "Range: bytes=10-", 'If-Range: "other"')
    assert (same.code, same.body) == (206, DATA[10:])
    assert (other.code, other.body) == (200, DATA)


async def test_conditions_are_answered_without_a_fetch(world: World) -> None:
    known = await world.ask(PATH, f'If-None-Match: "{DIGEST}"')
    assert (known.code, known.body, known.headers["etag"]) == (304, b"", f'"{DIGEST}"')
    failed = await world.ask(PATH, 'If-Match: "other"')
    assert failed.code == 412
    beyond = await world.ask(PATH, f"Range: bytes={len(DATA)}-")
    assert (beyond.code, beyond.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    assert world.parts.store.status().blobs == 0


async def test_an_empty_artifact_is_an_empty_answer(world: World) -> None:
    world.put("app/empty", b"")
    for _ in range(2):
        answer = await world.ask("/artifacts/app/empty")
        assert (answer.code, answer.body, answer.headers["content-length"]) == (200, b"", "0")


async def test_every_way_to_a_target_gives_its_bytes(world: World) -> None:
    await world.ask(PATH)
    for path in (
        f"/bundles/live/{NAME}",
        f"/blobs/sha256/{DIGEST}",
        f"/blobs/sha256/{DIGEST.upper()}",
        f"{PATH}?checksum=sha256:{DIGEST}",
        f"http://127.0.0.1:1/artifacts/{NAME}",
        "/artifacts/app/app%2D1%2Dx86_64",
        "/artifacts/app/app-1-amd64",
    ):
        answer = await world.ask(path)
        assert (answer.code, answer.body) == (200, DATA), path


async def test_requests_follow_one_another_on_one_connection(world: World) -> None:
    async with await world.connect() as client:
        for path, code, body in [(PATH, 200, DATA), ("/healthz", 200, b"alive\n"), (PATH, 200, DATA)]:
            client.ask(path)
            answer = await client.answer()
            assert (answer.code, answer.body) == (code, body)
        client.ask("/artifacts/app/absent")
        assert (await client.answer()).code == 404
        client.ask(PATH, "Connection: close")
        assert (await client.answer()).body == DATA
        assert await client.is_closed()


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    async with await world.connect() as client:
        for path in (PATH, "/artifacts/app/absent", "/healthz"):
            client.ask(path)
        answers = [await client.answer() for _ in range(3)]
        assert [answer.code for answer in answers] == [200, 404, 200]
        assert [answer.body for answer in answers[::2]] == [DATA, b"alive\n"]


# --- small blobs ---------------------------------------------------------------------------------


async def test_a_small_blob_is_answered_from_memory(world: World) -> None:
    small = random_bytes(MAX_BLOB_BYTES)
    digest = world.put("app/small", small)
    cold = await world.ask("/artifacts/app/small")
    (await world.until_stored(digest)).write_bytes(b"rot")
    warm = await world.ask("/artifacts/app/small")
    part = await world.ask("/artifacts/app/small", "Range: bytes=5-9")
    assert cold.body == warm.body == small
    assert (part.code, part.body) == (206, small[5:10])
    await world.until_counted(route="artifacts", cache="hit", code="206")


async def test_larger_blobs_are_not_kept_in_memory(world: World) -> None:
    large = random_bytes(MAX_BLOB_BYTES + 1)
    digest = world.put("app/large", large)
    assert (await world.ask("/artifacts/app/large")).body == large
    await world.until_stored(digest)
    assert (await world.ask("/artifacts/app/large")).body == large
    assert world.mirror._memory.get(Digest(digest)) is None


async def test_what_the_store_gave_up_is_not_answered_from_memory(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, max_size=len(DATA) + 500) as world:
        small = random_bytes(1000)
        digest = Digest(world.put("app/small", small))
        world.put(NAME, DATA)
        await world.ask("/artifacts/app/small")
        await world.until_stored(digest)
        assert world.mirror._memory.get(digest) == small
        await world.ask(PATH)  # evicts it
        await world.until_stored(DIGEST)
        async with asyncio.timeout(10):
            while world.mirror._memory.get(digest):
                await asyncio.sleep(0.001)
        assert (await world.ask("/artifacts/app/small")).body == small
        await world.until_counted(reason="ok")
        assert world.counted(route="artifacts", cache="miss") == 3


@pytest.mark.parametrize("pieces", [True, False])
async def test_a_small_blob_that_rotted_on_disk_is_fetched_again(world: World, pieces: bool) -> None:
    small = random_bytes(1000)
    digest = world.put("app/small", small, pieces=pieces)
    await world.ask("/artifacts/app/small")
    (await world.until_stored(digest)).write_bytes(b"\0" * len(small))
    world.mirror._memory.clear()
    answer = await world.ask("/artifacts/app/small")
    assert (answer.code, answer.body) == (200, small)
    assert world.metrics.verification_failures.labels("store")._value.get() == 1
    assert (await world.until_stored(digest)).read_bytes() == small


async def test_a_large_blob_that_was_cut_short_while_it_is_served_is_fetched_again(world: World) -> None:
    large = random_bytes(24 * 1024 * 1024)
    digest = world.put("app/large", large)
    await world.ask("/artifacts/app/large")
    file = await world.until_stored(digest)
    lease = world.parts.store.open(Digest(digest))  # so that the file is not looked at when it is opened next
    assert lease
    with lease:
        os.truncate(file, len(large) // 2)
        answer = await world.ask("/artifacts/app/large")
        assert not answer.is_whole
        assert large.startswith(answer.body)
    await world.until_counted(code="200", cache="hit", reason="rotten")
    assert world.metrics.verification_failures.labels("store")._value.get() == 1
    assert (await world.ask("/artifacts/app/large")).body == large


# --- what has no room ----------------------------------------------------------------------------


async def test_what_has_no_room_is_passed_through_and_called_so_and_without_pieces_it_is_a_507(tmp_path: Path) -> None:
    large, small = random_bytes(20 * 1024 * 1024), random_bytes(1000)
    with structlog.testing.capture_logs() as lines:
        async with running_mirror(tmp_path, max_size=500) as world:
            world.put("app/large", large, pieces=True, piece_length=1024 * 1024)
            digest = world.put("app/small", small, pieces=True)
            world.put("app/whole", large)
            for _ in range(2):
                assert (await world.ask("/artifacts/app/large")).body == large
                assert (await world.ask("/artifacts/app/large", "Range: bytes=5000000-9999999")).body == large[
                    5000000:10000000
                ]
                assert (await world.ask("/artifacts/app/small")).body == small
            assert world.mirror._memory.get(Digest(digest)) is None, "it is kept nowhere"
            answer = await world.ask("/artifacts/app/whole")
            assert (answer.code, answer.body[:9]) == (507, b"no_room: ")
            await world.until_counted(code="507", reason="no_room")
            assert world.counted(code="200", cache="passed", reason="ok") == 4
            assert world.counted(code="206", cache="passed", reason="ok") == 2
            served = world.metrics.registry.get_sample_value("waystation_served_bytes_total", {"cache": "passed"})
            assert served == 2 * (len(large) + 5000000 + len(small))
            assert world.parts.store.status().stored_bytes == 0
    assert [line["log_level"] for line in lines if line["event"] == "passing_through"] == ["info"] * 6
    assert not [line for line in lines if line["log_level"] == "error"]


# --- what goes with a target ---------------------------------------------------------------------


async def test_a_checksum_file_is_written_for_whatever_vouches(world: World) -> None:
    answer = await world.ask(f"{PATH}.sha256")
    assert answer.body == f"{DIGEST}  app-1-x86_64\n".encode()
    assert answer.headers["content-type"].startswith("text/plain")
    world.put("app/tree", DATA, checksum=False, pieces=True)
    assert (await world.ask("/artifacts/app/tree.sha256")).body == f"{DIGEST}  tree\n".encode()
    head = await world.ask(f"{PATH}.sha256", method="HEAD")
    assert (head.code, head.headers["content-length"]) == (200, answer.headers["content-length"])
    known = await world.ask(f"{PATH}.sha256", f"If-None-Match: {answer.headers['etag']}")
    assert known.code == 304


async def test_a_piece_file_comes_from_the_origin_or_from_beside_its_blob(world: World) -> None:
    world.put("app/tree", DATA, pieces=True)
    beside_origin = (world.root / "app/tree.pieces").read_bytes()
    cold = await world.ask("/artifacts/app/tree.pieces")
    assert (cold.code, cold.body) == (200, beside_origin)
    assert (await world.ask("/artifacts/app/tree")).body == DATA
    await world.until_stored(DIGEST)
    warm = await world.ask("/artifacts/app/tree.pieces")
    line, layer = parse_pieces(warm.body)
    assert (line.sha256, layer) == (DIGEST, parse_pieces(beside_origin)[1])


async def test_a_piece_file_is_its_own_targets_even_if_another_has_the_same_bytes(world: World) -> None:
    world.put("app/tree", DATA, pieces=True)
    await world.ask("/artifacts/app/tree")
    await world.until_stored(DIGEST)
    world.put("app/twin", DATA, pieces=True, piece_length=2 * BLOCK_BYTES)
    answer = await world.ask("/artifacts/app/twin.pieces")
    assert answer.body == (world.root / "app/twin.pieces").read_bytes()


async def test_a_target_without_pieces_has_no_piece_file(world: World) -> None:
    answer = await world.ask(f"{PATH}.pieces")
    assert answer.code == 404
    assert answer.body.startswith(b"no_pieces: ")


# --- refusals ------------------------------------------------------------------------------------


async def test_an_unknown_target_is_refused_with_one_reason_everywhere(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running_mirror(tmp_path) as world:
            answer = await world.ask("/artifacts/app/absent")
            await world.until_counted(route="artifacts", code="404", cache="none", reason="unknown_target")
            [refusal] = world.mirror.refusals()
    assert answer.code == 404
    assert answer.body.startswith(b"unknown_target: ")
    assert (refusal.target, refusal.code, refusal.reason) == ("app/absent", 404, "unknown_target")
    [line] = [line for line in lines if line["event"] == "request_refused"]
    assert (line["reason"], line["target"], line["log_level"]) == ("unknown_target", "app/absent", "warning")
    assert line["advice"]


async def test_what_nothing_vouches_for_is_refused_or_pinned(tmp_path: Path) -> None:
    async with running_mirror(tmp_path / "refuse") as world:
        world.put(NAME, DATA, checksum=False)
        refused = await world.ask(PATH)
        assert (refused.code, refused.body[:12]) == (404, b"no_checksum:")
        assert world.mirror.refusals()[0].reason == "no_checksum"
    async with running_mirror(tmp_path / "pin", missing_checksum="pin-first") as world:
        world.put(NAME, DATA, checksum=False)
        assert (await world.ask(PATH)).body == DATA


async def test_other_bytes_in_the_origin_are_refused_and_not_stored(world: World) -> None:
    rotten = bytearray(DATA)
    rotten[1000] ^= 1
    (world.root / NAME).write_bytes(rotten)
    answer = await world.ask(PATH)
    assert answer.code == 502
    assert answer.body.startswith(b"digest_mismatch: ")
    await world.until_counted(code="502", reason="digest_mismatch", cache="miss")
    assert world.parts.store.status().blobs == 0


async def test_a_changed_checksum_is_refused(world: World) -> None:
    assert (await world.ask(PATH)).code == 200
    world.put(NAME, DATA + b"more")
    answer = await world.ask(PATH)
    assert (answer.code, answer.body[:8]) == (502, b"changed:")
    assert await world.parts.catalog.forget(TargetPath(NAME))
    assert (await world.ask(PATH)).body == DATA + b"more"


async def test_what_does_not_fit_is_refused_as_such(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, max_size=len(DATA) - 1) as world:
        world.put(NAME, DATA)
        answer = await world.ask(PATH)
        assert (answer.code, answer.body[:8]) == (507, b"no_room:")


async def test_a_reply_to_head_has_no_body(world: World) -> None:
    async with await world.connect() as client:
        client.ask("/artifacts/app/absent", method="HEAD")
        assert (await client.answer(has_body=False)).code == 404
        client.ask(PATH)
        assert (await client.answer()).body == DATA


# --- the rest ------------------------------------------------------------------------------------


async def test_it_is_alive_and_says_what_is_missing(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, ready=False) as world:
        assert (await world.ask("/healthz")).code == 200
        unready = await world.ask("/readyz")
        assert (unready.code, unready.body) == (503, b"the origin has not answered yet\n")
        assert int(unready.headers["retry-after"]) > 0


async def test_metrics_and_status_can_be_read(world: World) -> None:
    await world.ask(PATH)
    await world.until_stored(DIGEST)
    assert (await world.ask("/readyz")).body == b"ready\n"
    metrics = await world.ask("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'waystation_requests_total{cache="miss",code="200",reason="ok",route="artifacts"} 1.0' in metrics.body
    status = await world.ask("/api/v1/status")
    assert status.headers["content-type"] == "application/json"
    shown = json.loads(status.body)
    assert (shown["ready"], shown["store"]["blobs"]) == (True, 1)


async def test_lines_of_one_request_carry_its_own_id(tmp_path: Path) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with running_mirror(tmp_path) as world:
            world.put(NAME, DATA)
            await world.ask(PATH, "X-Request-Id: of-the-client", "Traceparent: of-the-client")
            await world.ask(PATH)
    answered = [line for line in lines if line["event"] == "request_answered"]
    assert [line["cache"] for line in answered] == ["miss", "hit"]
    assert len({line["request"] for line in answered}) == 2
    assert not any("of-the-client" in str(line) for line in lines)
    assert all(line["peer"].startswith("127.0.0.1:") and line["bytes"] == len(DATA) for line in answered)


async def test_no_name_that_a_client_or_a_bucket_made_up_steers_a_terminal_through_the_log(world: World) -> None:
    evil = "app/\u202eexe.\u2066gnp"
    world.put(evil, b"right to left")
    with structlog.testing.capture_logs() as lines:
        assert (await world.ask(f"/artifacts/{quote(evil)}")).code == 200
        assert (await world.ask(f"/artifacts/{quote(evil)}-absent")).code == 404
        await world.until_counted(code="404")
        await world.until_counted(code="200")
    answered = [line for line in lines if line["event"] in ("request_answered", "request_refused")]
    assert {line["target"] for line in answered} == {
        "app/\\u202eexe.\\u2066gnp",
        "app/\\u202eexe.\\u2066gnp-absent",
    }
    assert world.mirror.refusals()[0].target.isprintable()


async def test_without_an_access_log_only_refusals_are_told_and_all_is_counted(tmp_path: Path) -> None:
    mirror = MirrorSettings(listen=("http://127.0.0.1:0",), access_log=False)
    with structlog.testing.capture_logs() as lines:
        async with running_mirror(tmp_path, mirror=mirror) as world:
            world.put(NAME, DATA)
            assert (await world.ask(PATH)).code == 200
            assert (await world.ask("/artifacts/app/absent")).code == 404
            await world.until_counted(code="404")
            await world.until_counted(code="200")
    events = [line["event"] for line in lines]
    assert "request_answered" not in events
    assert events.count("request_refused") == 1
