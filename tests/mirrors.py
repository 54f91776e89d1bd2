"""A mirror over real parts on a folder, and a client that says exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from waystation.assembly import Parts, open_parts
from waystation.config import CatalogSettings, MirrorSettings, OriginSettings, Settings, StoreSettings, TransferSettings
from waystation.mirror.server import Mirror
from waystation.model import Digest
from waystation.pieces import BLOCK_BYTES, PiecesLine, TreeHasher, dump_pieces
from waystation.status import StationStatus
from waystation.telemetry.metrics import Metrics
from waystation.transfer.layer import fetch_pieces

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from waystation.model import Artifact
    from waystation.transfer.interface import Transfers

TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole or cut off."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_whole(self) -> bool:
        return len(self.body) == int(self.headers["content-length"])


class Client:
    """One connection to the mirror."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    def ask(self, path: str, *fields: str, method: str = "GET", host: str = "127.0.0.1") -> None:
        self.send("\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode("latin-1"))

    async def answer(self, *, has_body: bool = True) -> Answer:
        """Read one answer; its body may end early."""
        async with asyncio.timeout(TIMEOUT_S):
            line, *fields = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            assert line.startswith("HTTP/1.1 "), line
            code, body = int(line.split(" ")[1]), b""
            if has_body and code != 304:
                try:
                    body = await self.reader.readexactly(int(headers["content-length"]))
                except asyncio.IncompleteReadError as error:
                    body = error.partial
                except ConnectionResetError:
                    body = b""
            return Answer(code, headers, body)

    async def is_closed(self) -> bool:
        """Wait for the end of the connection; whether nothing more came before it."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()


@dataclass
class World:
    """A folder as the origin, the parts over it, and their mirror."""

    root: Path
    parts: Parts
    mirror: Mirror
    metrics: Metrics
    tls: ssl.SSLContext | None = None
    """How clients speak to it; None: without TLS."""

    @property
    def port(self) -> int:
        return int(self.mirror.urls[0].rsplit(":", 1)[1])

    def put(
        self,
        name: str,
        data: bytes,
        *,
        checksum: bool = True,
        pieces: bool = False,
        piece_length: int = BLOCK_BYTES,
    ) -> str:
        """Lay an object into the origin, and what vouches for it; return its sha256."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = sha256(data).hexdigest()
        if checksum:
            path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
        if pieces:
            hasher = TreeHasher(len(data), piece_length)
            hasher.update(data)
            tree, layer = hasher.finish()
            line = PiecesLine(digest, len(data), tree)
            path.with_name(f"{path.name}.pieces").write_bytes(dump_pieces(line, layer))
        return digest

    async def connect(self, *, receive_buffer: int = 2**16) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=receive_buffer, ssl=self.tls))

    async def ask(self, path: str, *fields: str, method: str = "GET", host: str = "127.0.0.1") -> Answer:
        """Ask once, on a connection of its own."""
        async with await self.connect() as client:
            client.ask(path, *fields, method=method, host=host)
            return await client.answer(has_body=method != "HEAD")

    async def say(self, raw: bytes) -> Answer:
        """Send these bytes, and read one answer."""
        async with await self.connect() as client:
            client.send(raw)
            return await client.answer()

    def counted(self, **labels: str) -> float:
        """How many requests the metrics count under these labels."""
        samples = next(iter(self.metrics.requests.collect())).samples
        return sum(
            sample.value
            for sample in samples
            if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
        )

    def sampled(self, name: str, **labels: str) -> float:
        """One sample of the metrics; 0 where it has not been counted yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                await asyncio.sleep(0.001)

    async def until_stored(self, digest: str) -> Path:
        """Wait until a blob is in the store: the last byte leaves before that. Return its file."""
        async with asyncio.timeout(TIMEOUT_S):
            while not (blob := self.parts.store.open(Digest(digest))):
                await asyncio.sleep(0.001)
        blob.close()
        return self.root.parent / "store" / "blobs" / "sha256" / digest[:2] / digest

    async def until_counted(self, **labels: str) -> None:
        """Wait until a request is over and counted: the answer may be here before that."""
        async with asyncio.timeout(TIMEOUT_S):
            while not self.counted(**labels):
                await asyncio.sleep(0.001)


@asynccontextmanager
async def running_mirror(
    folder: Path,
    *,
    mirror: MirrorSettings | None = None,
    origin: OriginSettings | None = None,
    transfer: TransferSettings | None = None,
    missing_checksum: str = "refuse",
    max_size: int = 1024**3,
    pass_through_memory: int = 64 * 1024**2,
    origin_path: str | None = "bundles/live",
    transfers: Callable[[Parts], Transfers] | None = None,
    ready: bool = True,
    drain: bool = True,
    tls: ssl.SSLContext | None = None,
    origin_url: str | None = None,
    refresh_s: float = 0,
) -> AsyncIterator[World]:
    root = folder / "origin"
    root.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        origin=origin or OriginSettings(url=origin_url or root.as_uri()),
        catalog=CatalogSettings.model_validate({"missing_checksum": missing_checksum, "refresh": refresh_s}),
        mirror=mirror or MirrorSettings(listen=("http://127.0.0.1:0",)),
        store=StoreSettings(
            path=folder / "store", max_size=max_size, min_free=0, pass_through_memory=pass_through_memory
        ),
        transfer=transfer or TransferSettings(),
    )
    metrics = Metrics()
    async with open_parts(settings, metrics) as parts:

        async def pieces_of(artifact: Artifact) -> bytes:
            return (await fetch_pieces(parts.origin, artifact)).body

        served = Mirror(
            settings.mirror,
            origin_path=origin_path,
            origin_host="origin.example",
            certified_host="origin.example",
            admission=parts.admission,
            catalog=parts.catalog,
            refresh_s=settings.catalog.refresh,
            hops=parts.hops,
            transfers=transfers(parts) if transfers else parts.transfers,
            store=parts.store,
            metrics=metrics,
            status=lambda: status_of(parts, served, ready=ready),
            pieces_of=pieces_of,
        )
        await served.start()
        try:
            yield World(root, parts, served, metrics, tls)
        finally:
            if drain:
                await served.drain()


def status_of(parts: Parts, mirror: Mirror, *, ready: bool) -> StationStatus:
    return StationStatus(
        version="0",
        pid=1,
        started=0.0,
        ready=ready,
        not_ready_because=() if ready else ("the origin has not answered yet",),
        log_level="info",
        listen=mirror.urls,
        origin=parts.origin.status(),
        catalog=parts.catalog.status(),
        store=parts.store.status(),
        flights=parts.transfers.flights(),
        prefetch=parts.prefetch.status(),
        refusals=mirror.refusals(),
    )
