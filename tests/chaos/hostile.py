"""Speaks at a real daemon in generated HTTP, right and wrong, over TCP and TLS, and judges all that comes back."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

from certificates import issue, trusting
from chaos.judge import Judge, Wrong
from chaos.sayings import Due, Ending, Hostile, Request
from peers.processes import free_port
from peers.station import Station
from waystation import errors
from waystation.mirror.paths import RouteName
from waystation.model import CacheResult
from waystation.pieces import BLOCK_BYTES, PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from chaos.sayings import Saying

CLIENTS = 24
TIMEOUT_S = 30.0
HEADER_TIMEOUT_S = 1.0
MOST_LINE_BYTES = 16 * 1024
"""A name of 1 KiB with every character escaped twice, and what else a line says."""
MOST_GROWN_BYTES = 24 * 1024 * 1024
TLS_SHARE, PLAIN_TO_TLS_SHARE = 0.06, 0.01
OTHER_PATHS = (
    *("/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/targets", "/", "*"),
    *("/artifacts/hidden/secret", "/artifacts/app/absent", "/artifacts/app/app-1-amd64"),
)
HIDDEN = ("secret", "store/secret", "hidden/secret", "admin-secret", "waystation.toml", "store/catalog.json")
SMUGGLED = "app/smuggled-1-x86_64"
SECRETS = {
    name: f"{name}: {sha256(name.encode()).hexdigest()}".encode() for name in ("beside", "origin", "store", "admin")
}
SMUGGLED_BODY = sha256(b"smuggled").hexdigest().encode()
_OWN_REASONS = {"ok", "client_gone", "send_timeout", "request_timeout", "drain_timeout"}


@dataclass(frozen=True, slots=True)
class Held:
    """What a daemon holds with nothing going on."""

    resident_bytes: int
    descriptors: int
    threads: int
    connections: int


@dataclass
class Report:
    """What a run saw."""

    requests: int = 0
    connections: int = 0
    seconds: float = 0.0
    resets: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    """Requests by kind."""
    seen: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Answers by code and reason."""
    wrong: list[str] = field(default_factory=list)
    before: Held | None = None
    after: Held | None = None

    def table(self, *, seed: int) -> str:
        """Write it for a person."""
        codes = Counter[int]()
        for (code, _), count in self.seen.items():
            codes[code] += count
        rows = [
            (
                "requests",
                f"{self.requests} on {self.connections} connections, {self.requests / self.seconds:.0f} a second",
            ),
            ("of them", ", ".join(f"{count} {kind}" for kind, count in self.sent.most_common())),
            ("answers", ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))),
            ("resets", f"{self.resets}"),
            ("reasons", ", ".join(sorted({reason for _, reason in self.seen if reason}))),
            *((name, str(held)) for name, held in (("before", self.before), ("after", self.after)) if held),
            ("wrong", f"{len(self.wrong)}"),
        ]
        lines = [f"{name:<9}  {value}" for name, value in rows]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.wrong[:20]), f"{self.seconds:.0f} s, seed {seed}"])


@dataclass(frozen=True)
class Ground:
    """A daemon over a folder of a few targets, with secrets where nobody may reach."""

    station: Station
    tls_port: int
    tls: ssl.SSLContext
    bodies: dict[str, bytes]


async def run(requests: int, *, seed: int, say: Callable[[str], None]) -> Report:
    """Say so many requests; the daemon's state before and after is that without any connection."""
    report, chance = Report(), random.Random(seed)
    with _ground() as ground:
        judge = Judge(ground.bodies, (*SECRETS.values(), SMUGGLED_BODY), report.seen)
        paths = (*[path for path in ground.bodies for _ in range(4)], *OTHER_PATHS)
        hostile = Hostile(chance, paths=paths, smuggled=f"/artifacts/{SMUGGLED}", hidden=HIDDEN)
        crowd = _Crowd(ground, hostile, judge, report, chance)
        await crowd.speak(min(requests // 4, 4000))  # what is laid out once is laid out
        report.before = await _settled(ground)
        began, told = time.monotonic(), 0
        while report.requests < requests:
            await crowd.speak(min(requests, report.requests + 5000))
            if report.requests >= told:
                told = report.requests + 10_000
                say(f"{report.requests} requests, {len(report.wrong)} wrong")
        report.seconds = time.monotonic() - began
        report.after = await _settled(ground)
        _look_back(ground, report)
    return report


class _Crowd:
    """Clients that all speak at once."""

    def __init__(self, ground: Ground, hostile: Hostile, judge: Judge, report: Report, chance: random.Random) -> None:
        self._ground = ground
        self._hostile = hostile
        self._judge = judge
        self._report = report
        self._chance = chance

    async def speak(self, until: int) -> None:
        """Go on until so many requests are out."""

        async def client() -> None:
            while self._report.requests < until and self._ground.station.process.running:
                await self._connect(self._hostile.saying())

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())

    async def _connect(self, saying: Saying) -> None:
        report, lot = self._report, self._chance.random()
        report.connections += 1
        report.requests += len(saying.requests)
        report.sent.update(request.kind for request in saying.requests)
        due = saying.requests
        tls = self._ground.tls if lot < TLS_SHARE else None
        port = self._ground.tls_port if lot < TLS_SHARE + PLAIN_TO_TLS_SHARE else self._ground.station.port
        if tls is None and port == self._ground.tls_port:
            due = (Request(b"", Due.ANYTHING, kind="plain to TLS"),)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                received, was_reset = await self._exchange(saying, port, tls)
            report.resets += was_reset
            if saying.ending is not Ending.LEAVES:
                self._judge.judge(due, received, cut=was_reset and saying.goes_on_behind_its_end)
        except (Wrong, TimeoutError, OSError) as error:
            what = f"{type(error).__name__}: {error}" if not isinstance(error, Wrong) else str(error)
            report.wrong.append(f"{what}, to {[request.raw[:300] for request in saying.requests]!r}")

    async def _exchange(self, saying: Saying, port: int, tls: ssl.SSLContext | None) -> tuple[bytes, bool]:
        """Say it, listening all the while; what came until the connection ended, and whether it was reset."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
        )
        try:
            listening = asyncio.create_task(_all_of(reader))
            raw, at = saying.raw, 0
            with suppress(ConnectionError):  # refused before all was said
                for cut in (*saying.cuts, len(raw)):
                    writer.write(raw[at:cut])
                    at = cut
                    await writer.drain()
                    await asyncio.sleep(0)
            if saying.ending is Ending.LEAVES:
                listening.cancel()
                return b"", False
            return await listening
        finally:
            writer.transport.abort()


async def _all_of(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    received = b""
    try:
        while data := await reader.read(65536):
            received += data
    except ConnectionError:
        return received, True
    return received, False


# --- the ground ----------------------------------------------------------------------------------


@contextmanager
def _ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        bodies = _publish(folder / "origin")
        authority = trustme.CA()
        tls_port = free_port()
        station = Station(
            folder / "d",
            {
                "origin": {"url": (folder / "origin").as_uri()},
                "mirror": {
                    **issue(authority, folder, "localhost").settings,
                    "header_timeout": f"{HEADER_TIMEOUT_S}s",
                },
                "log": {"format": "json"},
            },
        )
        station.config["mirror"]["listen"] = [station.url, f"https://127.0.0.1:{tls_port}"]
        (folder / "secret").write_bytes(SECRETS["beside"])
        (folder / "d" / "admin-secret").write_bytes(SECRETS["admin"])
        with station.process:
            station.start()
            (station.store / "secret").write_bytes(SECRETS["store"])
            yield Ground(station, tls_port, trusting(authority), bodies)


def _publish(origin: Path) -> dict[str, bytes]:
    """Lay targets out, one with pieces, and what nobody vouches for; the vouched bodies by their path."""
    chance, bodies = random.Random(0), {}
    for target, size in (
        ("app/app-1-x86_64", 100_000),
        ("app/app-2-x86_64", 20),
        ("app/empty-1-x86_64", 0),
        (SMUGGLED, 0),
    ):
        body = SMUGGLED_BODY if target == SMUGGLED else chance.randbytes(size)
        path = origin / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        digest = sha256(body).hexdigest()
        path.with_name(f"{path.name}.sha256").write_text(f"{digest}\n")
        if size > BLOCK_BYTES:
            hasher = TreeHasher(size, BLOCK_BYTES)
            hasher.update(body)
            tree, layer = hasher.finish()
            path.with_name(f"{path.name}.pieces").write_bytes(dump_pieces(PiecesLine(digest, size, tree), layer))
        if target != SMUGGLED:
            bodies[f"/artifacts/{target}"] = body
            bodies[f"/blobs/sha256/{digest}"] = body
    (origin / "hidden").mkdir()
    (origin / "hidden" / "secret").write_bytes(SECRETS["origin"])
    return bodies


async def _settled(ground: Ground) -> Held:
    """Wait until no connection is open but the one that asks, and look."""
    process = Path("/proc") / str(ground.station.process.pid)
    before = None
    while (now := (len(os.listdir(process / "fd")), ground.station.metric("waystation_connections"))) != before:
        before = now
        await asyncio.sleep(0.3)
    status = (process / "status").read_text()
    number = {name: int(value) for name, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)}
    return Held(number["VmRSS"] * 1024, now[0], number["Threads"], int(now[1]))


# --- what it says of it afterwards ---------------------------------------------------------------


def _look_back(ground: Ground, report: Report) -> None:
    """Look for what must not have happened in the daemon's memory, log and metrics."""
    before, after, wrong = report.before, report.after, report.wrong
    if not ground.station.process.running:
        wrong.append("the daemon has ended")
        return
    if before and after:
        if after.resident_bytes - before.resident_bytes > MOST_GROWN_BYTES:
            wrong.append(f"it grew from {before.resident_bytes} to {after.resident_bytes} bytes")
        if (after.descriptors, after.connections) != (before.descriptors, before.connections):
            wrong.append(f"it holds {after}, and before it held {before}")
    for line in ground.station.process.log.read_bytes().splitlines():
        wrong.extend(_faults_of(line))
    wrong.extend(_strange_labels(ground.station.get("/metrics").body.decode()))


def _faults_of(line: bytes) -> Iterator[str]:
    if len(line) > MOST_LINE_BYTES or re.search(rb"[\x00-\x1f\x7f]", line):
        yield f"a log line that is too long or has control characters: {line[:200]!r}"
    try:
        said = json.loads(line)
    except ValueError:
        yield f"a log line that is not JSON: {line[:200]!r}"
        return
    if said["level"] in ("error", "critical") or "exception" in said:
        yield f"the log: {line[:2000]!r}"
    if any(secret.decode() in line.decode() for secret in SECRETS.values()):
        yield "a secret is in the log"


def _strange_labels(text: str) -> Iterator[str]:
    known: dict[str, set[str]] = {
        "route": {*RouteName},
        "cache": {*CacheResult},
        "reason": {kind.reason for kind in _all_errors(errors.WaystationError)} | _OWN_REASONS,
        "code": {str(code) for code in range(100, 600)},
    }
    for labels in re.findall(r"^waystation_requests_total\{(.*)\}", text, re.MULTILINE):
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            if value not in known[label]:
                yield f"a new value of the label {label}: {value}"


def _all_errors(kind: type[errors.WaystationError]) -> set[type[errors.WaystationError]]:
    return {kind}.union(*map(_all_errors, kind.__subclasses__()))
