"""The mirror's life: listening or saying why not, keeping clients within limits, and going without refusing anybody."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from mirrors import TIMEOUT_S, World, running_mirror
from scripted import DATA, MIB, NAME, PATH, Step, pieces, playing
from stores import random_bytes
from waystation.config import MirrorSettings
from waystation.errors import DaemonError
from waystation.model import Span

if TYPE_CHECKING:
    from pathlib import Path

ANYWHERE = "http://127.0.0.1:0"


def settings(**values: object) -> MirrorSettings:
    return MirrorSettings.model_validate({"listen": (ANYWHERE,), **values})


async def draining(world: World) -> asyncio.Task[None]:
    """Begin to drain, and go on once the sockets are closed."""
    task = asyncio.create_task(world.mirror.drain())
    async with asyncio.timeout(TIMEOUT_S):
        while is_listening(world.port):
            await asyncio.sleep(0.001)
    return task


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- listening -----------------------------------------------------------------------------------


async def test_it_listens_on_every_address(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, mirror=settings(listen=(ANYWHERE, "http://[::1]:0"))) as world:
        four, six = world.mirror.urls
        assert four.startswith("http://127.0.0.1:")
        assert six.startswith("http://[::1]:")
        reader, writer = await asyncio.open_connection("::1", int(six.rsplit(":", 1)[1]))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: [::1]:1\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"alive\n")
        writer.close()
        await writer.wait_closed()


async def test_a_taken_port_is_an_error_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"http://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(DaemonError, match=taken) as caught:
            async with running_mirror(tmp_path, mirror=settings(listen=(ANYWHERE, taken))):
                pass
    assert "[mirror] listen" in caught.value.advice


@pytest.mark.parametrize("address", ["http://192.0.2.1:4650", "http://no-such-host.invalid:4650"])
async def test_an_address_that_is_not_here_is_an_error_that_names_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(DaemonError, match=address) as caught:
        async with running_mirror(tmp_path, mirror=settings(listen=(address,), allow_insecure=True)):
            pass
    assert "[mirror] listen" in caught.value.advice


# --- limits --------------------------------------------------------------------------------------


async def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, mirror=settings(idle_timeout=0.1)) as world, await world.connect() as client:
        client.ask("/healthz")
        assert (await client.answer()).code == 200
        assert world.sampled("waystation_connections") == 1
        assert await client.is_closed()
        assert world.sampled("waystation_connections_unused_total", limit="idle_timeout") == 1
        await world.until(lambda: world.sampled("waystation_connections") == 0)


async def test_a_connection_that_says_nothing_is_closed(tmp_path: Path) -> None:
    async with running_mirror(tmp_path, mirror=settings(header_timeout=0.1)) as world, await world.connect() as client:
        assert await client.is_closed()
        assert world.mirror.refusals() == ()
        assert world.sampled("waystation_connections_unused_total", limit="header_timeout") == 1


async def test_an_answer_that_is_never_complete_ends_with_its_connection_while_it_waits(tmp_path: Path) -> None:
    plays: list[list[Step]] = [[asyncio.Event()], [*pieces(1, MIB), asyncio.Event()]]
    async with playing(tmp_path, *plays, mirror=settings(request_timeout=0.3)) as (world, script):
        for code in ("499", "200"):
            async with await world.connect() as client:
                client.ask(PATH)
                await asyncio.wait_for(script.left.wait(), TIMEOUT_S)
                script.left.clear()
                await world.until_counted(code=code, reason="request_timeout")
        assert "request_timeout" in world.mirror.refusals()[0].advice


async def test_an_answer_that_is_taken_too_slowly_ends_though_each_byte_is_in_time(tmp_path: Path) -> None:
    limits = settings(request_timeout=0.5, send_timeout=10)
    data = bytes(64 * MIB)
    async with playing(tmp_path, pieces(1, len(data)), mirror=limits, data=data) as (world, script):
        async with await world.connect(receive_buffer=4096) as client:
            client.ask(PATH)
            while not script.left.is_set():
                await asyncio.wait_for(client.reader.read(4096), TIMEOUT_S)
                await asyncio.sleep(0.01)
        await world.until_counted(code="200", reason="request_timeout")


async def test_a_connection_may_ask_for_longer_than_one_answer_may_take(tmp_path: Path) -> None:
    limits = settings(request_timeout=0.1)
    async with running_mirror(tmp_path, mirror=limits) as world, await world.connect() as client:
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < began + 0.4:
            client.ask("/healthz")
            assert (await client.answer()).code == 200
            await asyncio.sleep(0.02)


async def test_waiting_for_a_miss_has_no_limit_but_that_of_the_whole_answer(tmp_path: Path) -> None:
    limits = settings(header_timeout=0.05, send_timeout=0.05)
    gate = asyncio.Event()
    async with (
        playing(tmp_path, [gate, *pieces(2)], pieces(1), mirror=limits) as (world, script),
        await world.connect() as client,
    ):
        client.ask(PATH)
        await script.waits.wait()
        await asyncio.sleep(0.3)  # several times every limit: that nothing happens is what is tested
        gate.set()
        assert (await client.answer()).body == DATA
        client.ask(PATH)  # nor did it cost the connection anything
        assert (await client.answer()).body == DATA


async def test_clients_beyond_the_limit_wait_and_are_served(tmp_path: Path) -> None:
    gate = asyncio.Event()
    plays: list[list[Step]] = [[gate, *pieces(1)], [gate, *pieces(1)], pieces(1)]
    async with playing(tmp_path, *plays, mirror=settings(max_connections=2)) as (world, script):
        first = asyncio.create_task(world.ask(PATH, "Connection: close"))
        second = asyncio.create_task(world.ask(PATH, "Connection: close"))
        async with asyncio.timeout(TIMEOUT_S):
            while len(script.opened) < 2:
                await asyncio.sleep(0.001)
        third = asyncio.create_task(world.ask(PATH, "Connection: close"))
        done, _ = await asyncio.wait([third], timeout=0.1)
        assert not done
        assert len(script.opened) == 2
        assert world.sampled("waystation_connection_waits_total") == 1
        gate.set()
        for answer in await asyncio.gather(first, second, third):
            assert (answer.code, answer.body) == (200, DATA)


async def test_an_idle_connection_makes_room_for_a_new_one(tmp_path: Path) -> None:
    async with (
        running_mirror(tmp_path, mirror=settings(max_connections=2)) as world,
        await world.connect() as longest,
        await world.connect() as shorter,
    ):
        for client in (longest, shorter):
            client.ask("/healthz")
            assert (await client.answer()).code == 200
        assert (await world.ask("/healthz")).code == 200
        assert await longest.is_closed()
        assert world.sampled("waystation_connections_unused_total", limit="max_connections") == 1
        shorter.ask("/healthz")
        assert (await shorter.answer()).code == 200


# --- draining ------------------------------------------------------------------------------------


async def test_running_downloads_finish_while_nobody_new_is_let_in(tmp_path: Path) -> None:
    gate = asyncio.Event()
    play: list[Step] = [Span(0, MIB), gate, Span(MIB, len(DATA))]
    async with (
        playing(tmp_path, play) as (world, script),
        await world.connect() as client,
        await world.connect() as idle,
    ):
        idle.ask("/healthz")
        await idle.answer()
        client.ask(PATH)
        await script.waits.wait()
        drained = await draining(world)
        assert await idle.is_closed()
        assert not drained.done()
        gate.set()
        answer = await client.answer()
        assert (answer.code, answer.body) == (200, DATA)
        assert await client.is_closed()
        await asyncio.wait_for(drained, TIMEOUT_S)


async def test_a_miss_that_waits_is_served_while_draining(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, [gate, *pieces(3)]) as (world, script), await world.connect() as client:
        client.ask(PATH)
        await script.waits.wait()
        drained = await draining(world)
        gate.set()
        answer = await client.answer()
        assert (answer.code, answer.body) == (200, DATA)
        assert answer.headers["connection"] == "close"
        await asyncio.wait_for(drained, TIMEOUT_S)


async def test_who_spoke_in_the_same_moment_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waystation.mirror.acceptor.STOP_S", 3600.0)  # no way out but the right one
    async with running_mirror(tmp_path) as world, await world.connect() as kept:
        kept.ask("/healthz")
        await kept.answer()
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with socket.create_connection(("127.0.0.1", world.port)) as new:  # in the queue: the loop has not turned
            new.sendall(request)
            kept.ask("/healthz")  # is sent at once, too
            await asyncio.wait_for(world.mirror.drain(), TIMEOUT_S)
            new.settimeout(TIMEOUT_S)
            assert new.recv(4096).endswith(b"alive\n")
        assert (await kept.answer()).body == b"alive\n"


async def test_who_has_connected_is_given_a_moment_to_speak(tmp_path: Path) -> None:
    often = settings(idle_timeout=0.04)  # so limits are looked at every 10 ms
    async with running_mirror(tmp_path, mirror=often) as world, await world.connect() as silent:
        drained = await draining(world)
        await asyncio.sleep(0.1)  # that nothing happens is what is tested
        silent.ask("/healthz")
        assert (await silent.answer()).code == 200
        await asyncio.wait_for(drained, TIMEOUT_S)


async def test_who_had_connected_or_asked_before_is_still_served(tmp_path: Path) -> None:
    async with running_mirror(tmp_path) as world:
        digest = world.put(NAME, DATA)
        asked, silent, kept = [await world.connect() for _ in range(3)]
        kept.ask("/healthz")
        await kept.answer()
        for client in (asked, kept):
            client.ask(f"/blobs/sha256/{digest}", "X-Long: " + "x" * 1000)
        drained = await draining(world)
        silent.ask("/healthz")
        for client, code in [(asked, 404), (kept, 404), (silent, 200)]:  # 404: no name was resolved yet
            assert (await client.answer()).code == code
            assert await client.is_closed()
        await asyncio.wait_for(drained, TIMEOUT_S)
        for client in (asked, silent, kept):
            client.writer.close()


async def test_a_download_longer_than_the_limit_is_cut_off(tmp_path: Path) -> None:
    play: list[Step] = [Span(0, MIB), asyncio.Event()]
    limits = settings(drain_timeout=0.1)
    async with playing(tmp_path, play, mirror=limits) as (world, script), await world.connect() as client:
        client.ask(PATH)
        await script.waits.wait()
        await asyncio.wait_for(world.mirror.drain(), TIMEOUT_S)
        assert not (await client.answer()).is_whole
        assert script.left.is_set()
        assert world.counted(code="200", reason="drain_timeout") == 1


async def test_draining_with_nobody_there_is_done_at_once_and_may_be_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waystation.mirror.acceptor.STOP_S", 3600.0)
    async with running_mirror(tmp_path) as world:
        for _ in range(2):
            await asyncio.wait_for(world.mirror.drain(), TIMEOUT_S)


async def test_a_large_body_written_to_a_client_that_reads_late_survives_the_end(tmp_path: Path) -> None:
    data = random_bytes(2 * MIB)
    async with playing(tmp_path, pieces(1, len(data)), data=data) as (world, _), await world.connect() as client:
        client.ask(PATH)
        await world.until_counted(reason="ok")
        await asyncio.wait_for(world.mirror.drain(), TIMEOUT_S)
        assert (await client.answer()).body == data
