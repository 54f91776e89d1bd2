"""The mirror over TLS: the same answers, the same ends, and no byte more in memory than the socket has not taken."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
import trustme

from certificates import issue, trusting, write
from mirrors import TIMEOUT_S, running_mirror
from scripted import DATA, MIB, NAME, PATH, Step, pieces, playing
from stores import random_bytes
from waystation.config import MirrorSettings, OriginSettings, Settings
from waystation.errors import CertificateError, ConfigError, DigestMismatch
from waystation.mirror.listeners import Listener, refuse_unfit
from waystation.mirror.memory import MAX_BLOB_BYTES
from waystation.model import Span

if TYPE_CHECKING:
    from certificates import Pair
    from mirrors import World


@dataclass(frozen=True, slots=True)
class Site:
    """An authority, a certificate of it, and what a mirror and a client make of them."""

    authority: trustme.CA
    pair: Pair

    def settings(self, **values: object) -> MirrorSettings:
        return MirrorSettings.model_validate({"listen": ("https://127.0.0.1:0",), **self.pair.settings, **values})

    @property
    def client(self) -> ssl.SSLContext:
        return trusting(self.authority)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    authority = trustme.CA()
    return Site(authority, issue(authority, tmp_path / "tls", "127.0.0.1", "origin.example"))


def ask_raw(world: World, context: ssl.SSLContext, path: str = PATH) -> ssl.SSLSocket:
    """Ask, on a blocking socket that tells a goodbye from a connection that broke off."""
    raw = socket.create_connection(("127.0.0.1", world.port), timeout=TIMEOUT_S)
    client = context.wrap_socket(raw, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return client


def read_all(client: ssl.SSLSocket) -> bytes:
    with client:
        got = bytearray()
        while data := client.recv(65536):
            got += data
        return bytes(got)


async def test_bodies_of_every_size_are_the_same_as_without_tls(tmp_path: Path, site: Site) -> None:
    bodies = {f"app/of-{size}": random_bytes(size) for size in (0, 1, MAX_BLOB_BYTES, MAX_BLOB_BYTES + 1, 3 * MIB + 7)}
    async with running_mirror(tmp_path, mirror=site.settings(), tls=site.client) as world, await world.connect() as one:
        for name, body in bodies.items():
            world.put(name, body)
        assert world.mirror.urls[0].startswith("https://127.0.0.1:")
        for name, body in (*bodies.items(), *bodies.items()):  # cold and warm, on one connection
            one.ask(f"/artifacts/{name}")
            answer = await one.answer()
            assert (answer.code, answer.body) == (200, body)
        one.ask("/artifacts/app/of-3145735", "Range: bytes=1000000-2500000")
        assert (await one.answer()).body == bodies["app/of-3145735"][1000000:2500001]
        assert world.metrics.registry.get_sample_value("waystation_tls_handshakes_total", {"outcome": "ok"}) == 1


async def test_http_and_https_are_spoken_side_by_side(tmp_path: Path, site: Site) -> None:
    both = site.settings(listen=("https://127.0.0.1:0", "http://127.0.0.1:0"))
    async with running_mirror(tmp_path, mirror=both, tls=site.client) as world:
        assert (await world.ask("/healthz")).body == b"alive\n"
        plain = int(world.mirror.urls[1].rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", plain)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"alive\n")
        writer.close()


async def test_only_current_tls_is_spoken_and_only_http_1_1_over_it(tmp_path: Path, site: Site) -> None:
    async with running_mirror(tmp_path, mirror=site.settings()) as world:
        for newest, spoken in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            context = site.client
            context.maximum_version = newest
            context.set_alpn_protocols(["h2", "http/1.1"])
            with await asyncio.to_thread(ask_raw, world, context, "/healthz") as client:
                assert (client.version(), client.selected_alpn_protocol()) == (spoken, "http/1.1")


async def test_runs_leave_as_they_are_released(tmp_path: Path, site: Site) -> None:
    more = asyncio.Event()
    play: list[Step] = [Span(0, MIB), more, Span(MIB, len(DATA))]
    async with (
        playing(tmp_path, play, mirror=site.settings(), tls=site.client) as (world, script),
        await world.connect() as client,
    ):
        client.ask(PATH)
        await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
        assert await asyncio.wait_for(client.reader.readexactly(MIB), TIMEOUT_S) == DATA[:MIB]
        await script.waits.wait()
        more.set()
        assert await asyncio.wait_for(client.reader.readexactly(len(DATA) - MIB), TIMEOUT_S) == DATA[MIB:]


async def test_a_whole_answer_ends_with_a_goodbye(tmp_path: Path, site: Site) -> None:
    async with playing(tmp_path, pieces(3), mirror=site.settings()) as (world, _):
        client = await asyncio.to_thread(ask_raw, world, site.client)
        assert (await asyncio.to_thread(read_all, client)).endswith(DATA)


async def test_a_failure_in_mid_body_ends_without_a_goodbye(tmp_path: Path, site: Site) -> None:
    with structlog.testing.capture_logs() as lines:
        async with playing(tmp_path, [Span(0, MIB), DigestMismatch("piece 1")], mirror=site.settings()) as (world, _):
            client = await asyncio.to_thread(ask_raw, world, site.client)
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                await asyncio.to_thread(read_all, client)
            await world.until_counted(code="200", cache="miss", reason="digest_mismatch")
    [line] = [line for line in lines if line["event"] == "answer_cut_off"]
    assert (line["reason"], line["bytes"]) == ("digest_mismatch", MIB)


async def test_a_file_that_ends_early_or_cannot_be_read_is_rotten_here_too(tmp_path: Path, site: Site) -> None:
    async with playing(tmp_path, pieces(1), pieces(1), mirror=site.settings(), tls=site.client) as (world, script):
        script.file.write_bytes(DATA[:MIB])
        assert (await world.ask(PATH)).body == DATA[:MIB]
        await world.until_counted(code="200", reason="rotten")
        script.file = Path("/proc/self/mem")
        assert (await world.ask(PATH)).body == b""
        assert world.counted(code="200", reason="rotten") == 2


async def test_a_client_that_leaves_in_mid_body_gives_up_its_ride(tmp_path: Path, site: Site) -> None:
    data = bytes(64 * MIB)
    async with playing(tmp_path, pieces(1, len(data)), mirror=site.settings(), data=data, tls=site.client) as (
        world,
        script,
    ):
        async with await world.connect() as client:
            client.ask(PATH)
            await asyncio.wait_for(client.reader.readexactly(100_000), TIMEOUT_S)
        await asyncio.wait_for(script.left.wait(), TIMEOUT_S)
        await world.until_counted(code="200", reason="client_gone")


async def test_a_client_that_stops_reading_is_cut_off_and_little_of_its_body_waits_in_memory(
    tmp_path: Path, site: Site
) -> None:
    data = bytes(64 * MIB)
    async with playing(tmp_path, pieces(1, len(data)), mirror=site.settings(send_timeout=0.5), data=data) as (world, _):
        waiting: list[int] = []
        with await asyncio.to_thread(ask_raw, world, site.client):
            async with asyncio.timeout(TIMEOUT_S):
                while not world.counted(code="200", reason="send_timeout"):
                    waiting += [one._transport._raw.get_write_buffer_size() for one in world.mirror._connections]  # type: ignore[attr-defined]
                    await asyncio.sleep(0.01)
        assert 0 < max(waiting) < 256 * 1024


async def test_a_download_that_runs_is_finished_while_draining(tmp_path: Path, site: Site) -> None:
    gate = asyncio.Event()
    play: list[Step] = [Span(0, MIB), gate, Span(MIB, len(DATA))]
    async with (
        playing(tmp_path, play, mirror=site.settings(), tls=site.client) as (world, script),
        await world.connect() as client,
    ):
        client.ask(PATH)
        await script.waits.wait()
        drained = asyncio.create_task(world.mirror.drain())
        await asyncio.sleep(0)
        gate.set()
        assert (await client.answer()).body == DATA
        assert await client.is_closed()
        await asyncio.wait_for(drained, TIMEOUT_S)


async def test_curl_and_aria2_are_served(tmp_path: Path, site: Site) -> None:
    bundle = tmp_path / "ca.pem"
    site.authority.cert_pem.write_to_path(str(bundle))
    async with running_mirror(tmp_path, mirror=site.settings()) as world:
        world.put(NAME, DATA)
        url = f"{world.mirror.urls[0]}{PATH}"
        commands = [["curl", "--silent", "--fail", "--cacert", bundle, "--output", tmp_path / "curl", url]]
        if shutil.which("aria2c"):
            options = [f"--ca-certificate={bundle}", "--split=4", "--min-split-size=1M", f"--dir={tmp_path}"]
            commands.append(["aria2c", "--quiet", "--no-conf", *options, "--out=aria2c", url])
        for command in commands:
            process = await asyncio.create_subprocess_exec(*map(str, command), stderr=asyncio.subprocess.PIPE)
            _, complaint = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
            assert process.returncode == 0, complaint
            assert (tmp_path / str(command[0])).read_bytes() == DATA


# --- certificates --------------------------------------------------------------------------------


def of_file(settings: MirrorSettings) -> Settings:
    return Settings(origin=OriginSettings(url="file:///o"), mirror=settings)


async def test_a_new_certificate_is_shown_to_new_connections_and_closes_none(tmp_path: Path, site: Site) -> None:
    new = trustme.CA()
    async with (
        running_mirror(tmp_path, mirror=site.settings(), tls=site.client) as world,
        await world.connect() as before,
    ):
        before.ask("/healthz")
        await before.answer()
        write(new.issue_cert("127.0.0.1"), site.pair)
        await world.mirror.prepare(of_file(site.settings()))
        world.mirror.reload(of_file(site.settings()))
        before.ask("/healthz")
        assert (await before.answer()).body == b"alive\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await world.connect()
        world.tls = trusting(new)
        assert (await world.ask("/healthz")).code == 200
        assert world.mirror.certificate is not None
        assert world.mirror.certificate.covers_origin is False


async def test_a_bad_pair_is_refused_and_the_one_before_goes_on(tmp_path: Path, site: Site) -> None:
    async with running_mirror(tmp_path, mirror=site.settings(), tls=site.client) as world:
        shown = world.mirror.certificate
        assert shown
        assert shown.names == ("127.0.0.1", "origin.example") or set(shown.names) == {"127.0.0.1", "origin.example"}
        assert shown.covers_origin is True
        expiry = world.metrics.registry.get_sample_value("waystation_tls_certificate_expiry_timestamp_seconds")
        assert expiry == shown.not_after
        site.authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(str(site.pair.key))
        with pytest.raises(CertificateError, match="does not fit"):
            await world.mirror.prepare(of_file(site.settings()))
        with pytest.raises(ConfigError, match="are gone"):
            await world.mirror.prepare(of_file(MirrorSettings()))
        assert (await world.ask("/healthz")).code == 200


async def test_a_bad_pair_ends_the_start(tmp_path: Path, site: Site) -> None:
    site.pair.key.chmod(0o644)
    with pytest.raises(CertificateError, match="everyone on this machine"):
        async with running_mirror(tmp_path, mirror=site.settings()):
            pass


# --- who may be spoken to without TLS ------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "secure", "allowed", "refused"),
    [
        ("127.0.0.1", False, False, False),
        ("::1", False, False, False),
        ("::ffff:127.0.0.1", False, False, False),
        ("0.0.0.0", False, False, True),  # noqa: S104 - what is asked
        ("::", False, False, True),
        ("0.0.0.0", True, False, False),  # noqa: S104
        ("0.0.0.0", False, True, False),  # noqa: S104
    ],
)
def test_other_machines_want_tls_or_leave_whoever_bound_the_socket(
    address: str, secure: bool, allowed: bool, refused: bool
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as bound:
        bound.bind((address, 0))
        listener = Listener(bound, secure)
        if refused:
            with pytest.raises(ConfigError, match="open to other machines"):
                refuse_unfit([listener], allow_insecure=allowed, has_certificate=True)
        else:
            refuse_unfit([listener], allow_insecure=allowed, has_certificate=True)


def test_a_passed_https_socket_without_a_certificate_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed, pytest.raises(ConfigError, match="no certificate"):
        refuse_unfit([Listener(passed, True)], allow_insecure=True, has_certificate=False)
