"""The story of nomad-jobs/app.nomad.hcl on a real Nomad; run by `tests/nomad/test_nomad.py` in namespaces of its own.

The bucket is at an address of its own, 10.99.0.1, a relay in front of a MinIO; the agent lives in a cgroup whose
connections are sent to the mirror on loopback while the daemon is ready.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from peers.minio import MinioServer, running_minio
from peers.nomad import Nomad, running_nomad
from peers.processes import is_listening, wait_until
from peers.relay import Relay
from peers.station import Station, s3_config, to_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.s3 import Bucket

ROOT = Path(__file__).parents[2]
JOB = ROOT / "nomad-jobs" / "app.nomad.hcl"
APP = Path(os.environ["PET_TAXI"])
SHA256 = hashlib.sha256(APP.read_bytes()).hexdigest()
TARGET = "app/app-0.1.0-x86_64"
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = f"waystation-test-{secrets.token_hex(4)}.slice/nomad.service"
"""Its name stands in the real hierarchy: only the mount is private."""
BUCKET, PORT = "10.99.0.1", 9000


@dataclass
class Site:
    """A bucket in the network, a daemon on loopback, and the agent."""

    nomad: Nomad
    bucket: Bucket
    relay: Relay
    station: Station

    def take_over(self) -> None:
        done = waystation(self.station, "takeover", "on")
        assert done.returncode == 0, done.stderr

    def give_back(self) -> None:
        assert waystation(self.station, "takeover", "off").returncode == 0

    def run(self, *, count: int = 1, sha256: str = SHA256) -> None:
        """Run the very file that users copy."""
        self.nomad.run(JOB, bucket=f"http://{BUCKET}:{PORT}/{self.bucket.name}", sha256=sha256, count=str(count))

    def explain(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(waystation(self.station, "explain", "--json", TARGET).stdout)
        return told

    def served(self) -> float:
        """Bodies that the mirror sent so far."""
        return self.station.metric("waystation_requests_total", route="artifacts", code="200")

    def assert_page(self) -> None:
        """The app takes a moment after it was started."""
        (url,) = self.nomad.service("pet-taxi")
        wait_until(lambda: is_listening(int(url.rpartition(":")[2])), "the app listens")
        with urllib.request.urlopen(url, timeout=30) as page:  # noqa: S310 - Nomad's own words
            assert "We need a $10M series B" in page.read().decode()


def waystation(station: Station, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb with the daemon's own configuration."""
    return subprocess.run(
        [sys.executable, "-m", "waystation", *arguments],
        env={**station.environment, "WAYSTATION_CONFIG": str(station.config_file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[Path]:
    """The loopback device with the bucket's address, and Nomad's cgroup; the whole network is in here."""
    run("mount", "-t", "cgroup2", "none", str(CGROUPS))
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{BUCKET}/32", "dev", "lo")
    cgroup = CGROUPS / CGROUP
    cgroup.mkdir(parents=True)
    yield cgroup
    (cgroup / "cgroup.kill").write_text("1")
    wait_until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), "Nomad's cgroup is empty")
    cgroup.rmdir()
    cgroup.parent.rmdir()


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory, machine: Path) -> Iterator[Nomad]:
    with running_nomad(tmp_path_factory.mktemp("nomad"), [APP], cgroup=machine) as nomad:
        yield nomad


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with running_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="module")
def bucket(server: MinioServer, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    """Where the app was published as its users publish theirs."""
    bucket = server.create_bucket("artifacts")
    bucket.make_public()
    builder = Station(tmp_path_factory.mktemp("builder"), s3_config(bucket, tmp_path_factory.mktemp("keys")))
    builder.config_file.write_text(to_toml(builder.config))
    done = waystation(builder, "publish", str(APP), "--app", "app", "--version", "0.1.0")
    assert done.returncode == 0, done.stderr
    return bucket


@contextmanager
def in_place(folder: Path, nomad: Nomad, bucket: Bucket) -> Iterator[Site]:
    """A fresh daemon for that bucket, with the redirect; at the end nothing of the job and the rules is left."""
    with Relay(bucket.server.port, host=BUCKET, port=PORT) as relay:
        config = s3_config(bucket, folder, endpoint_url=f"http://{BUCKET}:{PORT}")
        config["takeover"] = {"match": CGROUP}
        station = Station(folder / "station", config)
        with station.process:
            station.start()
            site = Site(nomad, bucket, relay, station)
            site.take_over()
            relay.reset_counts()
            yield site
            nomad.stop_all()
            run("nft", "flush", "ruleset")


@pytest.fixture
def site(tmp_path: Path, nomad: Nomad, bucket: Bucket) -> Iterator[Site]:
    with in_place(tmp_path, nomad, bucket) as site:
        yield site


def test_the_job_as_it_stands_is_served_by_the_mirror_and_its_page_answers(site: Site) -> None:
    site.run()
    (allocation,) = site.nomad.wait_running("pet-taxi")
    site.assert_page()
    assert site.served() == 1
    wait_until(lambda: site.nomad.checks(allocation) == ["success"], "the check passes")


def test_ten_allocations_cost_one_download(site: Site) -> None:
    site.run(count=10)
    site.nomad.wait_running("pet-taxi", count=10)
    assert site.served() == 10
    assert APP.stat().st_size <= site.relay.received_bytes <= APP.stat().st_size * 1.01


def test_a_new_allocation_starts_from_the_cache_while_the_bucket_is_away(site: Site) -> None:
    site.run()
    site.nomad.wait_running("pet-taxi")
    site.nomad.stop("pet-taxi")
    site.bucket.server.stop()
    try:
        site.run()
        site.nomad.wait_running("pet-taxi")
        site.assert_page()
        assert site.served() == 2
    finally:
        site.bucket.server.start()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_new_allocation_starts_straight_from_the_bucket_while_the_daemon_is_away(
    site: Site, end: signal.Signals
) -> None:
    site.station.process.signal(end)
    site.station.process.wait()
    site.give_back()
    site.run()
    site.nomad.wait_running("pet-taxi")
    site.assert_page()
    assert site.relay.received_bytes >= APP.stat().st_size


def test_bytes_that_are_not_the_published_ones_fail_with_the_reason_that_explain_gives(
    tmp_path: Path, nomad: Nomad, server: MinioServer
) -> None:
    bucket = server.create_bucket("rotten")
    bucket.make_public()
    bucket.put(TARGET, b"somebody wrote over the executable")
    bucket.put(f"{TARGET}.sha256", f"{SHA256}  app-0.1.0-x86_64\n".encode())
    with in_place(tmp_path, nomad, bucket) as site:
        site.run()
        assert "bad response code: 502" in nomad.wait_event("pet-taxi", "ailed to download artifact")
        assert not list(site.station.store.glob("blobs/*/*/*"))
        answer = site.explain()["answer"]
        assert (answer["code"], answer["reason"]) == (502, "digest_mismatch")


def test_a_stanza_with_another_checksum_fails_and_explain_tells_the_right_one(site: Site) -> None:
    site.run(sha256="0" * 64)
    assert f"Got: {SHA256}" in site.nomad.wait_event("pet-taxi", "Checksums did not match")
    assert site.explain()["catalog"]["sha256"] == SHA256
