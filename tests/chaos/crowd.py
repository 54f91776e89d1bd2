"""What a warm request costs among hundreds of connections, slow readers, a cold flight and a scrub."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.held import look, settled
from peers.minio import running_minio
from peers.relay import Relay
from peers.station import Station, s3_config
from waystation.admin.client import AdminClient
from waystation.config import Settings
from waystation.errors import CallRefused
from waystation.publish.opening import open_publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.held import Held

MIB, MB = 1024 * 1024, 1000 * 1000
HELD = 450
SLOW_READERS = 50
SLOW_BYTES_PER_S = 10 * 1000
ORIGIN_BYTES_PER_S = 125 * MB
FLIGHT_BYTES = 1024 * MIB
WARM_BYTES = 256 * 1024
SLOWLY_READ_BYTES = 64 * MIB
LOOKS_EVERY_S = 0.02
DEADLINE_S = 30.0
ALLOWED_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Waits:
    """How long warm requests took, in milliseconds."""

    median_ms: float
    p99_ms: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> Waits:
        cuts = statistics.quantiles(seconds, n=100)
        return cls(statistics.median(seconds) * 1000, cuts[98] * 1000, len(seconds))


@dataclass
class Outcome:
    """What a run found."""

    idle: Waits
    crowded: Waits
    before: Held
    most_resident_bytes: int
    behind: Held
    refused: list[str] = field(default_factory=list)
    """Connections that were not taken, and answers that were not right."""
    flights: int = 0
    """Cold fetches that came to their end meanwhile."""
    scrubbed_bytes: int = 0

    @property
    def ratio(self) -> float:
        return self.crowded.median_ms / self.idle.median_ms

    @property
    def faults(self) -> tuple[str, ...]:
        slow = () if self.ratio <= ALLOWED_RATIO else (f"the median grew {self.ratio:.2f} times",)
        return (*self.refused, *slow)

    def table(self) -> str:
        """Write it for a person."""
        rows = [
            ("connections held, of them slow readers", f"{HELD + SLOW_READERS}, {SLOW_READERS}"),
            ("cold fetches that ended meanwhile", f"{self.flights}"),
            ("scrubbed meanwhile", f"{self.scrubbed_bytes / MB:.0f} MB"),
            ("warm requests, idle", _said(self.idle)),
            ("warm requests, crowded", _said(self.crowded)),
            ("median over idle", f"{self.ratio:.2f} (allowed {ALLOWED_RATIO:g})"),
            ("p99 over idle", f"{self.crowded.p99_ms / self.idle.p99_ms:.2f}"),
            ("resident memory before, most, behind", " / ".join(f"{size / MB:.1f} MB" for size in self._sizes)),
            ("descriptors before, behind", f"{self.before.descriptors}, {self.behind.descriptors}"),
            ("refused, or answered wrongly", f"{len(self.refused)}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join([*(f"{name:<{width}}  {value}" for name, value in rows), *(f"  {f}" for f in self.faults)])

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self.before.resident_bytes, self.most_resident_bytes, self.behind.resident_bytes


async def run(*, seconds: float, flight_bytes: int, say: Callable[[str], None]) -> Outcome:
    """Measure for so long while nobody else is there, then for so long in the crowd."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crowd-")))
        minio = stack.enter_context(running_minio(folder / "minio"))
        bucket = minio.create_bucket("crowd")
        relay = stack.enter_context(Relay(minio.port))
        config = s3_config(bucket, folder, endpoint_url=relay.endpoint_url)
        config["store"] = {"scrub_interval": "1s", "max_size": "3GiB"}
        bodies = {name: await _publish(config, folder, name, size) for name, size in _sizes(flight_bytes).items()}
        station = Station(folder / "d", config)
        stack.enter_context(station.process)
        station.start()
        for name in ("warm", "slow"):
            if sha256(station.artifact(_target(name)).body).hexdigest() != bodies[name]:
                raise AssertionError(f"{name} was served wrong")
        refused: list[str] = []
        await asyncio.to_thread(_measure, station, bodies["warm"], seconds / 4, refused)  # the first ones fill pools
        before = await asyncio.to_thread(settled, station)
        idle = await asyncio.to_thread(_measure, station, bodies["warm"], seconds, refused)
        say(f"idle: {_said(idle)}")
        relay.limit(ORIGIN_BYTES_PER_S)
        crowd = _Crowd(station, refused, bodies["cold"])
        async with crowd:
            say(f"{HELD + SLOW_READERS} connections are open, a cold flight is under way")
            crowded = await asyncio.to_thread(_measure, station, bodies["warm"], seconds, refused)
            scrubbed = await asyncio.to_thread(station.metric, "waystation_scrubbed_bytes_total")
        say(f"crowded: {_said(crowded)}")
        behind = await asyncio.to_thread(settled, station)
        return Outcome(idle, crowded, before, crowd.most_resident_bytes, behind, refused, crowd.flights, int(scrubbed))


def _sizes(flight_bytes: int) -> dict[str, int]:
    return {"warm": WARM_BYTES, "slow": SLOWLY_READ_BYTES, "cold": flight_bytes}


def _target(name: str) -> str:
    return f"{name}/{name}-1-x86_64"


async def _publish(config: dict[str, object], folder: Path, name: str, size: int) -> str:
    """Publish so many bytes under a name; return their sha256."""
    file = folder / name
    digest = await asyncio.to_thread(_fill, file, size)
    async with open_publisher(Settings.model_validate(config)) as publisher:
        await publisher.publish(file, app=name, version="1", arch="x86_64")
    file.unlink()
    return digest


def _fill(file: Path, size: int) -> str:
    """Write so many random bytes; return their sha256."""
    hasher = sha256()
    with file.open("wb") as out:
        for start in range(0, size, MIB):
            chunk = os.urandom(min(MIB, size - start))
            hasher.update(chunk)
            out.write(chunk)
    return hasher.hexdigest()


def _measure(station: Station, digest: str, seconds: float, refused: list[str]) -> Waits:
    """Ask for the warm target again and again, on a new connection each time, as Nomad does."""
    took: list[float] = []
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        connection = http.client.HTTPConnection("127.0.0.1", station.port, timeout=DEADLINE_S)
        try:
            connection.request("GET", f"/artifacts/{_target('warm')}", headers={"Connection": "close"})
            body = connection.getresponse().read()
            took.append(time.monotonic() - began)
            if sha256(body).hexdigest() != digest:
                refused.append("a warm request was answered wrongly")
        except (OSError, http.client.HTTPException) as error:
            refused.append(f"a warm request: {error!r}")
        finally:
            connection.close()
        time.sleep(LOOKS_EVERY_S)  # so that it is the daemon that is measured, and not this process's own share
    return Waits.of(took)


class _Crowd:
    """Everybody else, for the length of a block."""

    def __init__(self, station: Station, refused: list[str], cold_digest: str) -> None:
        self._station = station
        self._refused = refused
        self._cold_digest = cold_digest
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.flights = 0
        self.most_resident_bytes = 0

    async def __aenter__(self) -> None:
        for number in range(HELD + SLOW_READERS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._station.port, limit=SLOW_BYTES_PER_S)
            self._writers.append(writer)
            chore = self._read_slowly if number < SLOW_READERS else self._hold
            self._tasks.append(asyncio.create_task(chore(reader, writer)))
        self._tasks += [asyncio.create_task(self._fly()), asyncio.create_task(self._watch())]
        while not await asyncio.to_thread(self._station.metric, "waystation_flights"):
            await asyncio.sleep(0.05)

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self._refused.append(f"one of the crowd: {outcome!r}")
        for writer in self._writers:
            writer.transport.abort()

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask now and then, so that the connection is not idle for too long."""
        while True:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise AssertionError(head.decode())
            await reader.readexactly(len(b"alive\n"))
            await asyncio.sleep(20)

    async def _read_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES_PER_S)
        writer.write(f"GET /artifacts/{_target('slow')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while await reader.read(SLOW_BYTES_PER_S // 4):
            await asyncio.sleep(0.25)
        raise AssertionError("a slow reader was cut off")

    async def _fly(self) -> None:
        """Fetch the cold target, have it evicted, fetch it again."""
        admin = AdminClient(self._station.folder / "admin.sock")
        url = f"{self._station.url}/artifacts/{_target('cold')}"
        while True:
            fetch = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                f"set -o pipefail; curl -sS --fail '{url}' | sha256sum",
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                told, _ = await fetch.communicate()
            except asyncio.CancelledError:
                with suppress(ProcessLookupError):
                    os.killpg(fetch.pid, signal.SIGKILL)
                await fetch.wait()
                raise
            if fetch.returncode or told.split()[0].decode() != self._cold_digest:
                raise AssertionError("the cold fetch failed, or its bytes are wrong")
            self.flights += 1
            await _evict(admin, self._cold_digest)

    async def _watch(self) -> None:
        while True:
            self.most_resident_bytes = max(self.most_resident_bytes, look(self._station).resident_bytes)
            await asyncio.sleep(0.2)


async def _evict(admin: AdminClient, digest: str) -> None:
    """As soon as that can be done: the last byte leaves before the blob is on the disk."""
    while True:
        try:
            await admin.evict(digest)
        except CallRefused:
            await asyncio.sleep(0.05)
        else:
            return


def _said(waits: Waits) -> str:
    return f"median {waits.median_ms:.2f} ms, p99 {waits.p99_ms:.2f} ms of {waits.count}"
