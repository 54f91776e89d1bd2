"""The machine of the cases: its network, the agent in its cgroup, MinIO with the published app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from nomad.inside.place import APP, BUCKET, CGROUP, CGROUPS, SECURE_NAME, Site, in_place, publish, run
from peers.minio import MinioServer, running_minio
from peers.nomad import Nomad, running_nomad
from peers.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.s3 import Bucket

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""Debian's place."""


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The site's own, which the whole machine trusts."""
    return trustme.CA()


@pytest.fixture(scope="session", autouse=True)
def machine(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Path]:
    """The loopback device with the bucket's address, a DNS server to ask, whom to trust, and Nomad's cgroup.

    All of it is there before the agent, which has a copy of these mounts.
    """
    run("mount", "-t", "cgroup2", "none", str(CGROUPS))
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{BUCKET}/32", "dev", "lo")
    folder = tmp_path_factory.mktemp("machine")
    replace("/etc/resolv.conf", folder / "resolv.conf", b"nameserver 127.0.0.1\n")
    replace("/etc/hosts", folder / "hosts", f"127.0.0.1 localhost\n{BUCKET} {SECURE_NAME}\n".encode())
    replace(AUTHORITIES, folder / "authorities.pem", authority.cert_pem.bytes())
    cgroup = CGROUPS / CGROUP
    cgroup.mkdir(parents=True)
    yield cgroup
    (cgroup / "cgroup.kill").write_text("1")
    wait_until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), "Nomad's cgroup is empty")
    cgroup.rmdir()
    cgroup.parent.rmdir()


def replace(path: str, file: Path, content: bytes) -> None:
    """Let this content be seen at the path, in here alone."""
    file.write_bytes(content)
    run("mount", "--bind", str(file), path)


@pytest.fixture(scope="session")
def nomad(tmp_path_factory: pytest.TempPathFactory, machine: Path) -> Iterator[Nomad]:
    with running_nomad(tmp_path_factory.mktemp("nomad"), [APP], cgroup=machine) as nomad:
        yield nomad


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, machine: Path) -> Iterator[MinioServer]:
    with running_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def bucket(server: MinioServer, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    """Where the app is published."""
    bucket = server.create_bucket("artifacts")
    bucket.make_public()
    publish(bucket, tmp_path_factory.mktemp("publisher"), APP, "app")
    return bucket


@pytest.fixture
def site(tmp_path: Path, nomad: Nomad, bucket: Bucket) -> Iterator[Site]:
    """A fresh daemon that has taken the bucket's address over."""
    with in_place(tmp_path, nomad, bucket) as site:
        site.take_over()
        site.relay.reset_counts()
        yield site
