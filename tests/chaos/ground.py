"""What a run stands on: MinIO, a bucket that grows, and a daemon whose store is too small for all of it."""

from __future__ import annotations

import random
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from peers.minio import running_minio
from peers.station import Station, s3_config
from waystation.config import Settings
from waystation.publish.opening import open_publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peers.s3 import Bucket
    from waystation.publish.publisher import Publisher

KIB, MIB = 1024, 1024 * 1024
QUOTA_BYTES = 24 * MIB
FIRST_TARGETS = 16
MOST_TARGETS = 60


@dataclass(frozen=True)
class Target:
    """Something published."""

    name: str
    body: bytes
    digest: str


@dataclass
class Ground:
    """Where a run happens."""

    station: Station
    bucket: Bucket
    folder: Path
    chance: random.Random
    publisher: Publisher
    targets: list[Target] = field(default_factory=list)
    pieces: dict[str, bytes | None] = field(default_factory=dict)
    """By digest: the ``.pieces`` that was published; None: only a checksum vouches for it."""

    rotten: set[str] = field(default_factory=set)
    """Flipped a bit of, and not seen repaired."""

    async def publish(self) -> None:
        """Publish a new version, with pieces four times of five; a small one now and then, else up to 6 MiB."""
        version = f"0.{len(self.pieces)}.0"
        body = self.chance.randbytes(int(KIB * 2 ** self.chance.uniform(0, 12.5)))
        digest = sha256(body).hexdigest()
        name = f"app/app-{version}-x86_64"
        if self.chance.random() < 0.2:
            self.pieces[digest] = None
            self.bucket.put_vouched(name, body)
        else:
            self.pieces[digest] = b""  # takes the version; nobody can fetch it yet
            file = self.folder / f"bundle-{version}"
            file.write_bytes(body)
            await self.publisher.publish(file, app="app", version=version, arch="x86_64")
            self.pieces[digest] = self.bucket.get(f"{name}.pieces")
        self.targets.append(Target(name, body, digest))


@asynccontextmanager
async def prepared(seed: int) -> AsyncIterator[Ground]:
    """Start MinIO, fill its bucket, and configure a daemon that is not started yet."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        minio = stack.enter_context(running_minio(folder / "minio"))
        bucket = minio.create_bucket("chaos")
        config = s3_config(bucket, folder)
        config["store"] = {"max_size": str(QUOTA_BYTES), "scrub_interval": "1s"}
        config["catalog"] = {"refresh": "1s"}
        station = Station(folder / "d", config)
        stack.enter_context(station.process)
        publisher = await stack.enter_async_context(open_publisher(Settings.model_validate(config)))
        ground = Ground(station, bucket, folder, random.Random(seed), publisher)
        for _ in range(FIRST_TARGETS):
            await ground.publish()
        yield ground
