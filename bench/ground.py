"""What stands for a whole run: a temporary folder, MinIO with the published artifacts, the relay, every server."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clients import Artifact, Clients
from bench.servers import NGINX_CACHE, NGINX_FILES, VARNISH, Direct, Nginx, Server, Varnish, Waystation
from peers.minio import running_minio
from peers.processes import clean_environment
from peers.relay import Relay
from peers.station import Station, s3_config, to_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers.minio import MinioServer
    from peers.s3 import Bucket

MIB = 1024 * 1024
MB = 1000 * 1000
STEP_BYTES = 8 * MIB


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the artifacts are, in bytes, and how long wrk asks."""

    big: int = 1024 * MIB
    limited: int = 300 * MB
    crowd: int = 200 * MB
    tiny: int = 4096
    wrk_s: int = 4


QUICK = Sizes(big=32 * MIB, limited=20 * MB, crowd=10 * MB, wrk_s=1)


@dataclass(frozen=True)
class Ground:
    """Everything a measure may use."""

    folder: Path
    sizes: Sizes
    minio: MinioServer
    bucket: Bucket
    relay: Relay
    clients: Clients
    big: Artifact
    limited: Artifact
    crowd: Artifact
    tiny: Artifact
    cold: tuple[Server, ...]
    """Each fetches straight from MinIO what it does not have."""
    behind_relay: tuple[Server, ...]
    """The same, each behind the relay."""
    waystation: Waystation
    """The warm one: it runs all the time."""
    starter: Waystation
    """The one that is started again and again."""
    nginx_files: Nginx | None


@contextmanager
def prepared(sizes: Sizes, say: Callable[[str], None]) -> Iterator[Ground]:
    """Everything started and published; at the end all of it is stopped and the folder is gone."""
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="waystation-bench-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        minio = ending.enter_context(running_minio(folder / "minio"))
        bucket = minio.create_bucket("bench")
        bucket.make_public()
        relay = ending.enter_context(Relay(minio.port))
        published = {
            name: _publish(bucket, folder, name, size, say)
            for name, size in (
                ("big", sizes.big),
                ("limited", sizes.limited),
                ("crowd", sizes.crowd),
                ("tiny", sizes.tiny),
            )
        }
        memory_bytes = 2 * max(sizes.big, sizes.limited, sizes.crowd)
        nginx_files = None
        if shutil.which("nginx"):
            nginx_files = Nginx(NGINX_FILES, "nginx-files.conf", folder / "nginx-files", files=folder / "files")
        waystation = Waystation(folder / "waystation", bucket, minio.port)
        starter = Waystation(folder / "starter", bucket, minio.port)
        cold, behind_relay = (
            _cold_servers(folder / name, bucket, port, memory_bytes)
            for name, port in (("cold", minio.port), ("behind-relay", relay.port))
        )
        for server in (*cold, *behind_relay, starter):
            ending.callback(server.stop)
        for warm in (waystation, nginx_files):
            if warm:
                ending.callback(warm.stop)
                warm.renew()
        yield Ground(
            folder,
            sizes,
            minio,
            bucket,
            relay,
            Clients(folder),
            **published,
            cold=cold,
            behind_relay=behind_relay,
            waystation=waystation,
            starter=starter,
            nginx_files=nginx_files,
        )


def _cold_servers(folder: Path, bucket: Bucket, port: int, memory_bytes: int) -> tuple[Server, ...]:
    folder.mkdir()
    servers: list[Server] = [Direct(bucket, port), Waystation(folder / "waystation", bucket, port)]
    if shutil.which("nginx"):
        servers.append(
            Nginx(NGINX_CACHE, "nginx-cache.conf", folder / "nginx", prefix=f"{bucket.name}/", origin_port=port)
        )
    if shutil.which("varnishd"):
        servers.append(
            Varnish(folder / "varnish", prefix=f"{bucket.name}/", origin_port=port, memory_bytes=memory_bytes)
        )
    return tuple(servers)


def _publish(bucket: Bucket, folder: Path, name: str, size_bytes: int, say: Callable[[str], None]) -> Artifact:
    """Make a file of random bytes and publish it as a builder would."""
    say(f"publishing {name}, {size_bytes / MB:.6g} MB")
    target = f"{name}/{name}-1-x86_64"
    file = folder / "files" / target
    file.parent.mkdir(parents=True)
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for at in range(0, size_bytes, STEP_BYTES):
            portion = os.urandom(min(STEP_BYTES, size_bytes - at))
            digest.update(portion)
            out.write(portion)
    builder = Station(folder / "builder", s3_config(bucket, folder / "builder"))
    builder.config_file.write_text(to_toml(builder.config))
    command = [sys.executable, "-m", "waystation", "publish", str(file), "--config", str(builder.config_file)]
    subprocess.run(
        [*command, "--app", name, "--version", "1", "--arch", "x86_64"],
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return Artifact(target, file, digest.hexdigest())


MISSING_PROGRAMS = {"nginx": (NGINX_CACHE, NGINX_FILES), "varnishd": (VARNISH,)}


def missing() -> dict[str, str]:
    """The servers that can't be measured here, each with why."""
    return {
        server: f"not measured: {program} is not installed"
        for program, servers in MISSING_PROGRAMS.items()
        if not shutil.which(program)
        for server in servers
    }
