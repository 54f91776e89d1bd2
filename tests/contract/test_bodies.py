"""A body on its way: what a client sees when a transfer is slow, fails early, fails late, or when it leaves itself."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from mirrors import TIMEOUT_S, Client
from scripted import DATA, MIB, NAME, PATH, Step, pieces, playing
from stores import random_bytes
from waystation.config import MirrorSettings
from waystation.errors import DigestMismatch, RevisionChanged, Unreachable
from waystation.model import Span


async def test_many_runs_make_one_body(tmp_path: Path) -> None:
    async with playing(tmp_path, pieces(37)) as (world, _):
        answer = await world.ask(PATH)
        assert (answer.code, answer.body) == (200, DATA)


async def test_a_range_gets_its_share_of_the_runs(tmp_path: Path) -> None:
    async with playing(tmp_path, pieces(5)) as (world, _):
        answer = await world.ask(PATH, "Range: bytes=1000000-3000000")
        assert (answer.code, answer.body) == (206, DATA[1000000:3000001])


async def test_no_header_leaves_before_the_first_run_and_each_run_leaves_when_released(tmp_path: Path) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    play: list[Step] = [first, Span(0, MIB), second, Span(MIB, len(DATA))]
    async with playing(tmp_path, play) as (world, script), await world.connect() as client:
        client.ask(PATH)
        await script.waits.wait()
        script.waits.clear()
        assert await is_silent(client)
        first.set()
        head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await asyncio.wait_for(client.reader.readexactly(MIB), TIMEOUT_S) == DATA[:MIB]
        await script.waits.wait()
        assert await is_silent(client)
        second.set()
        assert await asyncio.wait_for(client.reader.readexactly(len(DATA) - MIB), TIMEOUT_S) == DATA[MIB:]


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unreachable("x"), 503), (DigestMismatch("x"), 502), (RuntimeError("secret"), 500), (OSError("secret"), 500)],
)
async def test_a_failure_before_the_first_run_is_a_reply(tmp_path: Path, error: Exception, code: int) -> None:
    async with playing(tmp_path, [error], pieces(1)) as (world, _), await world.connect() as client:
        client.ask(PATH)
        answer = await client.answer()
        assert answer.code == code
        assert answer.is_whole
        assert b"secret" not in answer.body
        client.ask(PATH)  # the connection is none the worse for it
        assert (await client.answer()).body == DATA


async def test_a_failure_in_mid_body_cuts_the_connection_off(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with playing(tmp_path, [Span(0, MIB), DigestMismatch("piece 1")]) as (world, _):
            async with await world.connect() as client:
                client.ask(PATH)
                answer = await client.answer()
                assert answer.code == 200
                assert not answer.is_whole
                assert DATA.startswith(answer.body)
                assert await client.is_closed()
            await world.until_counted(code="200", cache="miss", reason="digest_mismatch")
            assert world.mirror.refusals()[0].reason == "digest_mismatch"
    [line] = [line for line in lines if line["event"] == "answer_cut_off"]
    assert (line["reason"], line["bytes"], line["detail"]) == ("digest_mismatch", MIB, "piece 1")


async def test_a_file_that_is_shorter_than_what_was_released_is_cut_off(tmp_path: Path) -> None:
    async with playing(tmp_path, pieces(1)) as (world, script):
        script.file.write_bytes(DATA[:MIB])
        answer = await world.ask(PATH)
        assert (answer.code, answer.body) == (200, DATA[:MIB])
        await world.until_counted(code="200", reason="rotten")


async def test_a_file_that_the_disk_cannot_read_is_cut_off_and_not_taken_for_a_client_that_left(tmp_path: Path) -> None:
    async with playing(tmp_path, pieces(1)) as (world, script):
        script.file = Path("/proc/self/mem")  # to read its first bytes is an error of input and output
        answer = await world.ask(PATH)
        assert (answer.code, answer.body) == (200, b"")
        await world.until_counted(code="200", reason="rotten")


async def test_a_small_body_that_is_rotten_twice_is_refused_in_words(tmp_path: Path) -> None:
    small = random_bytes(1000)
    async with playing(tmp_path, pieces(1, 1000), pieces(1, 1000), data=small) as (world, script):
        script.file.write_bytes(bytes(1000))
        answer = await world.ask(PATH)
        assert (answer.code, answer.body[:8]) == (507, b"rotten: ")
        assert len(script.opened) == 2


async def test_a_replaced_object_is_resolved_afresh_once(tmp_path: Path) -> None:
    async with playing(tmp_path, [RevisionChanged("x")], pieces(2)) as (world, script):
        before = await world.parts.admission.admit(NAME)
        (world.root / NAME).write_bytes(DATA)  # the same bytes, another revision
        os.utime(world.root / NAME, (1, 1))
        answer = await world.ask(PATH)
        assert (answer.code, answer.body) == (200, DATA)
        first, second = script.opened
        assert before.digest == first.digest == second.digest


async def test_an_object_replaced_twice_is_a_502(tmp_path: Path) -> None:
    async with playing(tmp_path, [RevisionChanged("x")], [RevisionChanged("x")]) as (world, script):
        answer = await world.ask(PATH)
        assert (answer.code, answer.body[:17]) == (502, b"revision_changed:")
        assert len(script.opened) == 2


async def test_an_object_replaced_in_mid_body_is_cut_off(tmp_path: Path) -> None:
    async with playing(tmp_path, [Span(0, MIB), RevisionChanged("x")]) as (world, script):
        assert not (await world.ask(PATH)).is_whole
        assert len(script.opened) == 1


async def test_a_client_that_leaves_while_it_waits_gives_up_its_ride(tmp_path: Path) -> None:
    async with playing(tmp_path, [asyncio.Event()]) as (world, script):
        async with await world.connect() as client:
            client.ask(PATH)
            await script.waits.wait()
        await asyncio.wait_for(script.left.wait(), TIMEOUT_S)
        await world.until_counted(code="499", cache="miss", reason="client_gone")
        assert world.mirror.refusals() == ()


@pytest.mark.parametrize("between_runs", [True, False])
async def test_a_client_that_leaves_in_mid_body_gives_up_its_ride(tmp_path: Path, between_runs: bool) -> None:
    play: list[Step] = [Span(0, MIB), asyncio.Event()] if between_runs else pieces(1, 64 * MIB)
    async with playing(tmp_path, play, data=bytes(64 * MIB)) as (world, script):
        async with await world.connect() as client:
            client.ask(PATH)
            await asyncio.wait_for(client.reader.readexactly(100_000), TIMEOUT_S)
            if between_runs:
                await script.waits.wait()
        await asyncio.wait_for(script.left.wait(), TIMEOUT_S)
        await world.until_counted(code="200", cache="miss", reason="client_gone")
        [served] = [each for each in next(iter(world.metrics.served_bytes.collect())).samples if "_total" in each.name]
        assert 100_000 <= served.value < 64 * MIB


async def test_a_client_that_stops_reading_is_cut_off(tmp_path: Path) -> None:
    mirror = MirrorSettings(listen=("http://127.0.0.1:0",), send_timeout=0.2)
    data = bytes(64 * MIB)
    async with playing(tmp_path, pieces(1, len(data)), mirror=mirror, data=data) as (world, script):
        with socket.create_connection(("127.0.0.1", world.port)) as client:
            client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await asyncio.wait_for(script.left.wait(), TIMEOUT_S)
            await world.until_counted(code="200", reason="send_timeout")
        assert "took no byte" in world.mirror.refusals()[0].detail


async def test_clients_that_were_cut_off_leave_their_descriptors_fit_for_the_next_ones(tmp_path: Path) -> None:
    mirror = MirrorSettings(listen=("http://127.0.0.1:0",), send_timeout=0.2)
    data = bytes(64 * MIB)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    plays: list[list[Step]] = [pieces(1, len(data))] * 4
    async with playing(tmp_path, *plays, mirror=mirror, data=data) as (world, _):
        with ExitStack() as stack:
            for _ in plays:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", world.port)))
                client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            async with asyncio.timeout(TIMEOUT_S):
                while world.counted(code="200", reason="send_timeout") < len(plays):
                    await asyncio.sleep(0.001)
            answers = await asyncio.gather(*(world.ask("/healthz") for _ in range(8)))  # they get the same descriptors
            assert {answer.code for answer in answers} == {200}
    assert complaints == []


async def test_a_client_that_has_said_all_it_had_to_say_still_gets_the_whole_answer(tmp_path: Path) -> None:
    data = random_bytes(24 * MIB)
    async with playing(tmp_path, pieces(1, len(data)), data=data) as (world, _), await world.connect() as client:
        client.ask(PATH, "Connection: close")
        head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
        assert head.startswith(b"HTTP/1.1 200 ")
        client.writer.write_eof()
        assert await asyncio.wait_for(client.reader.readexactly(len(data)), TIMEOUT_S) == data
        await world.until_counted(code="200", reason="ok")


async def test_a_slow_client_that_reads_on_is_served_to_the_end(tmp_path: Path) -> None:
    mirror = MirrorSettings(listen=("http://127.0.0.1:0",), send_timeout=0.3)
    data = random_bytes(24 * MIB)
    async with playing(tmp_path, pieces(1, len(data)), mirror=mirror, data=data) as (world, _):
        got = await asyncio.to_thread(read_slowly, world.port, portion=2 * MIB, pause_s=0.1)
        assert got.endswith(data)
        await world.until_counted(code="200", reason="ok")


def read_slowly(port: int, *, portion: int, pause_s: float) -> bytes:
    """Take a portion, then nothing for a while: each pause is shorter than the limit, all of them longer."""
    got = bytearray()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.settimeout(TIMEOUT_S)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while data := client.recv(64 * 1024):
            got += data
            if len(got) // portion > (len(got) - len(data)) // portion:
                time.sleep(pause_s)  # the pace is what is tested
    return bytes(got)


async def is_silent(client: Client) -> bool:
    """Whether nothing has come, after the mirror had a few turns of the loop to send something."""
    for _ in range(20):
        await asyncio.sleep(0)
    try:
        await asyncio.wait_for(client.reader.read(1), 0.02)
    except TimeoutError:
        return True
    return False
