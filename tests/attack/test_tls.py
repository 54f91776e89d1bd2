"""The mirror's TLS port against those who mean ill, or who don't know what they talk to."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import trustme

from certificates import issue, trusting
from mirrors import TIMEOUT_S, World, running_mirror
from waystation.config import MirrorSettings, OriginSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping
    from pathlib import Path

MOST = 4
"""Connections at once."""


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
async def world(tmp_path: Path, lines: list[MutableMapping[str, Any]]) -> AsyncIterator[World]:
    authority = trustme.CA()
    settings = MirrorSettings.model_validate(
        {
            "listen": ("https://127.0.0.1:0",),
            "header_timeout": 0.4,
            "max_connections": MOST,
            **issue(authority, tmp_path / "tls", "127.0.0.1").settings,
        }
    )
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with running_mirror(tmp_path, mirror=settings, tls=trusting(authority)) as running:
        yield running
        assert (await running.ask("/healthz")).body == b"alive\n", "the mirror no longer serves"
    assert complaints == []


def shaken(world: World, outcome: str) -> float:
    return world.metrics.registry.get_sample_value("waystation_tls_handshakes_total", {"outcome": outcome}) or 0.0


async def until_shaken(world: World, outcome: str, times: int = 1) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while shaken(world, outcome) < times:
            await asyncio.sleep(0.001)


async def say(world: World, raw: bytes) -> bytes:
    """Say these bytes without TLS, and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(raw)
    try:
        return await asyncio.wait_for(reader.read(), TIMEOUT_S)
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def failed(lines: list[MutableMapping[str, Any]]) -> list[str]:
    return [line["reason"] for line in lines if line["event"] == "tls_handshake_failed"]


async def test_plain_http_is_told_what_the_port_speaks(world: World, lines: list[MutableMapping[str, Any]]) -> None:
    answer = await say(world, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close\r\n" in answer
    assert b"plain_http: " in answer
    assert b"https://" in answer
    assert (shaken(world, "plain_http"), failed(lines)) == (1, ["plain_http"])


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00" * 600,
        b"SSH-2.0-OpenSSH_9.2\r\n" * 30,
        b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000,
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff" * 2000,
        b"\x80\x2e\x01\x00\x02" + b"\x01" * 50,
    ],
    ids=["zeros", "ssh", "long record", "long hello", "ssl 2"],
)
async def test_what_is_no_handshake_is_cut_off_and_counted(
    world: World, lines: list[MutableMapping[str, Any]], raw: bytes
) -> None:
    assert b"HTTP" not in await say(world, raw)
    assert len(failed(lines)) == 1
    assert failed(lines)[0] in ("malformed", "unsupported")


async def test_a_client_of_yesterday_is_told_so_in_the_log(world: World, lines: list[MutableMapping[str, Any]]) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", world.port, ssl=old)
    assert failed(lines) == ["unsupported"]


async def test_a_client_that_does_not_trust_the_certificate_is_said_in_the_log(
    world: World, lines: list[MutableMapping[str, Any]]
) -> None:
    stranger = trusting(trustme.CA())

    def knock() -> None:
        with (
            socket.create_connection(("127.0.0.1", world.port), timeout=TIMEOUT_S) as raw,
            pytest.raises(ssl.SSLCertVerificationError),  # unlike asyncio's, such a socket sends the alert
        ):
            stranger.wrap_socket(raw, server_hostname="127.0.0.1")

    await asyncio.to_thread(knock)
    await until_shaken(world, "refused_by_client")
    assert failed(lines) == ["refused_by_client"]


async def test_handshakes_that_are_never_finished_end_in_time_and_keep_nobody_out_for_longer(
    world: World, lines: list[MutableMapping[str, Any]]
) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(MOST)]
    for _, writer in silent[1:]:
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00")  # a hello that begins
    assert (await asyncio.wait_for(world.ask("/healthz"), TIMEOUT_S)).code == 200  # had to wait: there was no room
    await until_shaken(world, "unfinished", MOST)
    assert failed(lines) == ["unfinished"] * MOST
    for _, writer in silent:
        writer.transport.abort()


async def test_a_probe_of_the_port_is_counted_and_no_trouble(
    world: World, lines: list[MutableMapping[str, Any]]
) -> None:
    socket.create_connection(("127.0.0.1", world.port)).close()
    await until_shaken(world, "client_gone")
    assert [line["log_level"] for line in lines if line["event"] == "tls_handshake_failed"] == ["info"]


async def test_a_record_that_was_tampered_with_ends_the_connection(world: World) -> None:
    assert world.tls
    patient = world.mirror._settings.model_copy(update={"header_timeout": 600.0})  # so that nothing else ends it
    world.mirror.reload(Settings(origin=OriginSettings(url="file:///o"), mirror=patient))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = world.tls.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await asyncio.wait_for(reader.read(65536), TIMEOUT_S))
        else:
            break
    tls.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    sealed = bytearray(outgoing.read())
    sealed[-1] ^= 1
    writer.write(sealed)
    try:
        rest = await asyncio.wait_for(reader.read(), TIMEOUT_S)
    except ConnectionResetError:
        rest = b""
    incoming.write(rest)
    with pytest.raises(ssl.SSLError):  # nothing that could be an answer
        tls.read(1)
    writer.transport.abort()


async def test_a_client_cannot_ask_for_handshake_after_handshake(world: World) -> None:
    if not os.path.exists("/usr/bin/openssl"):
        pytest.skip("openssl is not here")
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{world.port}", "-tls1_2", "-legacy_renegotiation",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await asyncio.wait_for(process.communicate(b"R\n"), TIMEOUT_S)
    assert b"no renegotiation" in told.lower()
    assert shaken(world, "ok") == 1
