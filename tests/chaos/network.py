"""Trouble on the way to the bucket: each toxic of toxiproxy alone, then mixtures, and MinIO killed, all under load."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from chaos.asking import fetch
from chaos.ground import prepared
from chaos.held import Held, settled
from peers.toxiproxy import running_toxiproxy
from waystation.admin.client import AdminClient
from waystation.errors import CallRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaos.ground import Ground
    from peers.toxiproxy import Proxy, Stream

CLIENTS = 8
CLIENT_DEADLINE_S = 60.0
"""A client that waits for longer hangs: the flight's own patience is far below."""
RECOVERS_WITHIN_S = 30.0
WARM_UP_S = 10.0
MB = 1000 * 1000


@dataclass(frozen=True, slots=True)
class Toxic:
    """One kind of trouble, as toxiproxy has it."""

    kind: str
    stream: Stream
    attributes: dict[str, int]


TOXICS = (
    Toxic("latency", "downstream", {"latency": 300, "jitter": 200}),
    Toxic("latency", "upstream", {"latency": 300, "jitter": 200}),
    Toxic("bandwidth", "downstream", {"rate": 2000}),
    Toxic("slow_close", "downstream", {"delay": 1500}),
    Toxic("timeout", "downstream", {"timeout": 0}),
    Toxic("timeout", "upstream", {"timeout": 500}),
    Toxic("reset_peer", "downstream", {"timeout": 50}),
    Toxic("reset_peer", "upstream", {"timeout": 50}),
    Toxic("slicer", "downstream", {"average_size": 500, "size_variation": 200, "delay": 20}),
    Toxic("limit_data", "downstream", {"bytes": 700_000}),
)


@dataclass
class Troubles:
    """What came of a run."""

    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    cut: int = 0
    served_bytes: int = 0
    longest_s: float = 0.0
    hung: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """What the daemon did not give once the trouble was over."""
    broken: list[str] = field(default_factory=list)
    """Errors in its log."""
    phases: int = 0
    held: list[Held] = field(default_factory=list)
    """Before all trouble, and behind it."""

    @property
    def faults(self) -> tuple[str, ...]:
        return (*self.wrong, *self.hung, *self.late, *self.broken)

    def table(self, *, seconds: float, seed: int) -> str:
        """Write it for a person."""
        before, after = self.held
        rows = [
            ("kinds of trouble and mixtures", f"{self.phases}"),
            *((what, f"{count}") for what, count in sorted(self.asked.items())),
            ("answers cut off", f"{self.cut}"),
            ("refused", ", ".join(f"{count} with {why}" for why, count in sorted(self.refused.items())) or "none"),
            ("bytes served and compared", f"{self.served_bytes / MB:.0f} MB"),
            ("longest wait of a client", f"{self.longest_s:.1f} s"),
            ("resident memory before, behind", f"{before.resident_bytes / MB:.1f}, {after.resident_bytes / MB:.1f} MB"),
            ("descriptors before, behind", f"{before.descriptors}, {after.descriptors}"),
            ("threads before, behind", f"{before.threads}, {after.threads}"),
            ("wrong bytes", f"{len(self.wrong)}"),
            ("clients that hung", f"{len(self.hung)}"),
            ("not served once it was over", f"{len(self.late)}"),
            ("errors in the log", f"{len(self.broken)}"),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.faults), f"{seconds:.0f} s, seed {seed}"])


async def run(*, seed: int, seconds: float, say: Callable[[str], None]) -> Troubles:
    """Half of the time goes to each trouble alone, in turn; the other half to mixtures of two or three."""
    troubles = Troubles()
    async with prepared(seed) as ground, AsyncExitStack() as stack:
        proxy = stack.enter_context(running_toxiproxy(ground.folder)).proxy(ground.bucket.server.port)
        ground.station.config["origin"] |= {"endpoint_url": proxy.endpoint_url, "request_timeout": "3s"}
        ground.station.config["transfer"] = {"stall_timeout": "2s"}
        ground.station.start()
        with suppress(TimeoutError):  # pools of threads and the allocator's fill up first
            async with asyncio.timeout(min(WARM_UP_S, seconds / 4)):
                await _load(ground, troubles)
        troubles.held.append(await asyncio.to_thread(settled, ground.station))
        load = asyncio.create_task(_load(ground, troubles))
        for name, trouble, lasting_s in _programme(ground, proxy, seconds):
            say(name)
            troubles.phases += 1
            async with trouble:
                await asyncio.sleep(lasting_s)
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load
        await _recovered(ground, troubles)
        troubles.held.append(await asyncio.to_thread(settled, ground.station))
        log = ground.station.process.output().splitlines()
        troubles.broken = [line for line in log if _is_ours_to_mend(line)]
    return troubles


def _is_ours_to_mend(line: str) -> bool:
    """A traceback, or an error that is more than a transfer which the trouble ended."""
    if not line.startswith("{"):
        return True
    said = json.loads(line)
    return said["level"] in {"error", "critical"} and said["event"] != "flight_failed"


class _Poisoned(AsyncExitStack):
    """Some toxics at once, for the length of a block."""

    def __init__(self, proxy: Proxy, toxics: tuple[Toxic, ...], toxicity: float) -> None:
        super().__init__()
        self._proxy, self._toxics, self._toxicity = proxy, toxics, toxicity
        self._poison = ExitStack()

    async def __aenter__(self) -> Self:
        for toxic in self._toxics:
            self._poison.enter_context(
                self._proxy.toxic(toxic.kind, stream=toxic.stream, toxicity=self._toxicity, **toxic.attributes)
            )
        self.callback(self._poison.close)
        return self


class _Away(AsyncExitStack):
    """MinIO killed, and started again at the end of a block."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self._server = ground.bucket.server

    async def __aenter__(self) -> Self:
        self._server.process.kill()
        self.callback(self._server.start)
        return self


def _programme(ground: Ground, proxy: Proxy, seconds: float) -> Iterator[tuple[str, AsyncExitStack, float]]:
    alone_s = seconds / 2 / (len(TOXICS) + 1)
    for toxic in TOXICS:
        yield f"{toxic.kind} {toxic.stream}", _Poisoned(proxy, (toxic,), 1.0), alone_s
    yield "MinIO killed", _Away(ground), alone_s
    end = time.monotonic() + seconds / 2
    while (left_s := end - time.monotonic()) > 0:
        lasting_s = min(left_s, ground.chance.uniform(1.0, 5.0))
        if ground.chance.random() < 0.15:
            yield "MinIO killed", _Away(ground), lasting_s
            continue
        mixed: dict[str, Toxic] = {}
        for toxic in ground.chance.sample(TOXICS, ground.chance.randint(2, 3)):
            mixed[toxic.kind] = toxic  # a proxy has one of each kind
        names = " + ".join(mixed)
        yield names, _Poisoned(proxy, tuple(mixed.values()), ground.chance.choice((0.3, 0.7, 1.0))), lasting_s


async def _load(ground: Ground, troubles: Troubles) -> None:
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(_client(ground, troubles))


async def _client(ground: Ground, troubles: Troubles) -> None:
    """Ask for whole files and ranges, and have what was fetched evicted, so that the bucket is needed again."""
    chance, admin = ground.chance, AdminClient(ground.station.folder / "admin.sock")
    while True:
        target = chance.choice(ground.targets)
        start, stop = 0, len(target.body)
        if chance.random() < 0.4:
            start, stop = sorted(chance.sample(range(len(target.body) + 1), 2))
        await _ask(ground, troubles, target.name, start, stop)
        with suppress(CallRefused):
            await admin.evict(target.digest)


async def _ask(ground: Ground, troubles: Troubles, name: str, start: int, stop: int) -> bool:
    target = next(each for each in ground.targets if each.name == name)
    began, whole = time.monotonic(), troubles.asked.total()
    with suppress(OSError, http.client.HTTPException):
        await asyncio.to_thread(fetch, ground.station.port, target, start, stop, troubles, timeout_s=CLIENT_DEADLINE_S)
    took_s = time.monotonic() - began
    troubles.longest_s = max(troubles.longest_s, took_s)
    if took_s >= CLIENT_DEADLINE_S:
        troubles.hung.append(f"{name} [{start}, {stop}) after {took_s:.0f} s")
    return troubles.asked.total() > whole


async def _recovered(ground: Ground, troubles: Troubles) -> None:
    """Each target, within a time, once all trouble is over."""
    deadline = time.monotonic() + RECOVERS_WITHIN_S
    for target in ground.targets:
        while not await _ask(ground, troubles, target.name, 0, len(target.body)):
            if time.monotonic() > deadline:
                troubles.late.append(target.name)
                break
            await asyncio.sleep(0.2)
