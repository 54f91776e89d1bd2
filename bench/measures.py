"""The measures: each takes every server once, in one round."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.memory import touch_memory
from bench.results import Quantity
from bench.servers import DIRECT, WAYSTATION
from bench.usage import cpu_seconds, resident_bytes
from peers.processes import is_listening

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.clients import Artifact
    from bench.ground import Ground
    from bench.results import Results
    from bench.servers import Server

GIB = 1024**3
MB = 1000 * 1000
LINK_BYTES_PER_S = 125 * MB
SLOW_LINK_BYTES_PER_S = 50 * MB
TIMER_GRAIN_S = 0.002
"""How much a link may save up where first bytes are measured: with more they would come at no limit at all."""
STARTS = 3
"""So often a daemon is started in each round: it takes no time."""
IDLE_S = 1.0
COPIES = 2
"""Of a file that is fetched cold: the server's and the client's."""

COLD = Quantity("cold, {big}, go-getter with checksum", "s")
COLD_CPU = Quantity("cold, {big}: the server's processor seconds a GiB", "s/GiB")
LIMITED = Quantity("cold, {limited}, origin at 125 MB/s, go-getter with checksum", "s", digits=3)
FIRST_BYTE = Quantity("cold, target resolved, origin at 125 MB/s: first byte", "ms", digits=1)
ALONE_20 = Quantity("cold, {crowd}, origin at 125 MB/s: one client alone", "s")
LAST_20 = Quantity("cold, {crowd}, origin at 125 MB/s: the last of 20 clients", "s")
ASKED_20 = Quantity("cold, {crowd}, 20 clients: bytes asked of the origin over file size", "×", digits=3)
ALONE_50 = Quantity("cold, {crowd}, origin at 50 MB/s: one client alone", "s")
LAST_50 = Quantity("cold, {crowd}, origin at 50 MB/s: the last of 50 clients", "s")
ASKED_50 = Quantity("cold, {crowd}, 50 clients: bytes asked of the origin over file size", "×", digits=3)
WARM_CURL = Quantity("warm, {big}, curl", "GB/s", more_is_better=True)
WARM_CPU = Quantity("warm, {big}, curl: the server's processor seconds a GiB", "s/GiB")
WARM_GO = Quantity("warm, {big}, go-getter with checksum", "s")
SMALL = Quantity("warm, 4 KiB, wrk with 32 connections", "answers/s", digits=0, more_is_better=True)
IDLE = Quantity("resident memory, idle with an S3 origin", "MB", digits=1)
BUSY = Quantity("resident memory at its highest, 50 clients fetch {big} cold", "MB", digits=1)
LISTENING = Quantity("from exec to listening", "s", digits=3)


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many clients behind an origin of that speed, and what they tell."""

    clients: int
    bytes_per_s: int
    alone: Quantity
    last: Quantity
    asked: Quantity
    peers: bool


CROWDS = (
    Crowd(20, LINK_BYTES_PER_S, ALONE_20, LAST_20, ASKED_20, peers=True),
    Crowd(50, SLOW_LINK_BYTES_PER_S, ALONE_50, LAST_50, ASKED_50, peers=False),
)


def cold(ground: Ground, results: Results, turn: int) -> None:
    """Fetch what nobody has yet, as fast as the machine can."""
    artifact = ground.big
    for server in _in_turn(ground.cold, turn):
        _renew(ground, server)
        touch_memory(COPIES * artifact.size_bytes)
        before = cpu_seconds(server.pid) if server.pid else 0.0
        results.record(COLD, server.name, ground.clients.go_getter(server.url(artifact.target), artifact))
        server.settle()
        if server.pid:
            used = cpu_seconds(server.pid) - before
            results.record(COLD_CPU, server.name, used * GIB / artifact.size_bytes)
        server.stop()


def cold_limited(ground: Ground, results: Results, turn: int) -> None:
    """Fetch what nobody has yet, over a link of 125 MB/s."""
    artifact = ground.limited
    ground.relay.limit(LINK_BYTES_PER_S)
    for server in _in_turn(ground.behind_relay, turn):
        _renew(ground, server)
        results.record(LIMITED, server.name, ground.clients.go_getter(server.url(artifact.target), artifact))
        server.stop()


def first_byte(ground: Ground, results: Results, turn: int) -> None:
    """Ask once what it is, then for it: the time to the first byte of the body."""
    artifact = ground.crowd
    ground.relay.limit(LINK_BYTES_PER_S, saved_s=TIMER_GRAIN_S)
    for server in _in_turn(ground.behind_relay, turn):
        _renew(ground, server)
        _head(server.url(artifact.target))
        (arrival,) = ground.clients.readers(server.url(artifact.target), artifact)
        results.record(FIRST_BYTE, server.name, arrival.first_s * 1000)
        server.stop()


def crowds(ground: Ground, results: Results, turn: int) -> None:
    """Many at once for what nobody has yet; before them, one alone. The larger crowd is for Waystation alone."""
    artifact = ground.crowd
    for crowd in CROWDS:
        ground.relay.limit(crowd.bytes_per_s)
        servers = [server for server in ground.behind_relay if server.name == WAYSTATION or crowd.peers]
        for server in _in_turn([server for server in servers if server.name != DIRECT], turn):
            _renew(ground, server)
            (alone,) = ground.clients.readers(server.url(artifact.target), artifact)
            results.record(crowd.alone, server.name, alone.last_s)
            _renew(ground, server)
            ground.relay.reset_counts()
            arrivals = ground.clients.readers(server.url(artifact.target), artifact, crowd.clients)
            results.record(crowd.last, server.name, max(arrival.last_s for arrival in arrivals))
            results.record(crowd.asked, server.name, ground.relay.received_bytes / artifact.size_bytes)
            server.stop()


def warm(ground: Ground, results: Results, turn: int) -> None:
    """Fetch what is there: by curl and by go-getter."""
    artifact = ground.big
    servers = [server for server in (ground.waystation, ground.nginx_files) if server]
    for server in _in_turn(servers, turn):
        url = _warmed(ground, server, artifact)
        before = cpu_seconds(server.pid) if server.pid else 0.0
        results.record(WARM_CURL, server.name, ground.clients.curl(url, artifact) / 1e9)
        if server.pid:
            used = cpu_seconds(server.pid) - before
            results.record(WARM_CPU, server.name, used * GIB / artifact.size_bytes)
    for server in _in_turn(servers, turn):
        url = server.url(artifact.target)
        touch_memory(artifact.size_bytes)
        results.record(WARM_GO, server.name, ground.clients.go_getter(url, artifact))


def small(ground: Ground, results: Results, turn: int) -> None:
    """Ask for 4 KiB as often as 32 connections can."""
    artifact = ground.tiny
    servers: list[Server] = [server for server in (ground.cold[0], ground.waystation, ground.nginx_files) if server]
    for server in _in_turn(servers, turn):
        url = _warmed(ground, server, artifact)
        rate = ground.clients.wrk(url, connections=32, seconds=ground.sizes.wrk_s)
        results.record(SMALL, server.name, rate)


def memory(ground: Ground, results: Results, turn: int) -> None:  # noqa: ARG001 - there is one to measure
    """What the daemon holds in memory: with nothing to do, and at its busiest."""
    server = next(server for server in ground.cold if server.name == WAYSTATION)
    server.renew()
    time.sleep(IDLE_S)
    pid = server.pid
    if pid is None:
        raise RuntimeError("the daemon has no process")
    results.record(IDLE, server.name, resident_bytes(pid) / 1e6)
    ground.clients.readers(server.url(ground.big.target), ground.big, 50)
    results.record(BUSY, server.name, resident_bytes(pid, peak=True) / 1e6)
    server.stop()


def start(ground: Ground, results: Results, turn: int) -> None:  # noqa: ARG001 - there is one to measure
    """From exec until somebody accepts connections."""
    server = ground.starter
    station = server.station
    server.renew()  # writes its configuration
    for _ in range(STARTS):
        server.stop()
        began = time.perf_counter()
        with subprocess.Popen(
            station.process.command,
            env=station.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as daemon:
            try:
                while not is_listening(station.port):
                    if daemon.poll() is not None:
                        raise RuntimeError(f"the daemon ended with {daemon.returncode} while it was starting")
                    time.sleep(0.001)
                results.record(LISTENING, WAYSTATION, time.perf_counter() - began)
            finally:
                daemon.kill()


MEASURES: tuple[Callable[[Ground, Results, int], None], ...] = (
    cold,
    cold_limited,
    first_byte,
    crowds,
    warm,
    small,
    memory,
    start,
)


def _in_turn(servers: Sequence[Server], turn: int) -> list[Server]:
    """Another one first in each round."""
    first = turn % len(servers)
    return [*servers[first:], *servers[:first]]


def _renew(ground: Ground, server: Server) -> None:
    """Start it with nothing cached, and let it do everything that only a process's first request pays for."""
    server.renew()
    ground.clients.readers(server.url(ground.tiny.target), ground.tiny)


def _warmed(ground: Ground, server: Server, artifact: Artifact) -> str:
    """Fetch it once, comparing every byte; return its URL."""
    url = server.url(artifact.target)
    ground.clients.readers(url, artifact)
    server.settle()
    return url


def _head(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=60):
        pass
