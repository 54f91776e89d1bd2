"""Where the cases take place: a machine with a bucket at an address of its own, a daemon on loopback, and Nomad."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.processes import is_listening, wait_until
from peers.relay import Relay
from peers.station import Station, s3_config, to_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.nomad import Nomad
    from peers.s3 import Bucket
    from peers.station import Config

JOBS = Path(__file__).parents[3] / "nomad-jobs"
APP = Path(os.environ["PET_TAXI"])
SHA256 = hashlib.sha256(APP.read_bytes()).hexdigest()
TARGET = "app/app-0.1.0-x86_64"
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = f"waystation-test-{secrets.token_hex(4)}.slice/nomad.service"
"""Its name stands in the real hierarchy: only the mount is private."""
BUCKET, PORT = "10.99.0.1", 9000
SECURE_NAME = "my.local.domain"
"""The bucket's, where it speaks https, on the usual port."""


@dataclass
class Site:
    """One bucket, its relay, one daemon, and the agent."""

    nomad: Nomad
    bucket: Bucket
    relay: Relay
    station: Station

    def take_over(self) -> None:
        done = waystation(self.station, "takeover", "on")
        assert done.returncode == 0, done.stderr

    def give_back(self) -> None:
        assert waystation(self.station, "takeover", "off").returncode == 0

    def run(self, *, count: int = 1, sha256: str = SHA256, base: str = f"http://{BUCKET}:{PORT}") -> None:
        """Run the very file that users copy."""
        self.nomad.run(JOBS / "app.nomad.hcl", bucket=f"{base}/{self.bucket.name}", sha256=sha256, count=str(count))

    def explain(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(waystation(self.station, "explain", "--json", TARGET).stdout)
        return told

    def served(self) -> float:
        """Bodies that the mirror sent so far."""
        return self.station.metric("waystation_requests_total", route="artifacts", code="200")

    def assert_started(self) -> None:
        """The job runs, and its page answers; the app takes a moment after it was started."""
        self.nomad.wait_running("pet-taxi")
        (url,) = self.nomad.service("pet-taxi")
        wait_until(lambda: is_listening(int(url.rpartition(":")[2])), "the app listens")
        with urllib.request.urlopen(url, timeout=30) as page:  # noqa: S310 - Nomad's own words
            assert "We need a $10M series B" in page.read().decode()

    def assert_came_from_the_bucket(self) -> None:
        assert self.relay.received_bytes >= APP.stat().st_size


@contextmanager
def in_place(
    folder: Path, nomad: Nomad, bucket: Bucket, changes: Config | None = None, *, port: int | None = None
) -> Iterator[Site]:
    """A fresh daemon for that bucket, with `changes` of its configuration; at the end neither job nor rule is left.

    It listens on `port` (else on one that is free), and where the changes say.
    """
    with Relay(bucket.server.port, host=BUCKET, port=443 if bucket.server.secure else PORT) as relay:
        config = s3_config(bucket, folder, endpoint_url=relay.endpoint_url)
        config["takeover"] = {"match": CGROUP}
        for section, values in (changes or {}).items():
            config[section] = {**config.get(section, {}), **values}
        station = Station(folder / "station", config)
        station.port = port or station.port
        station.config["mirror"]["listen"] = [station.url, *config.get("mirror", {}).get("listen", [])]
        with station.process:
            station.start()
            yield Site(nomad, bucket, relay, station)
            nomad.stop_all()
            run("nft", "flush", "ruleset")


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


def publish(bucket: Bucket, folder: Path, file: Path, app: str, **origin: str) -> None:
    """As users publish theirs; `origin`: more of those settings."""
    publisher = Station(folder, s3_config(bucket, folder))
    publisher.config["origin"] |= origin
    publisher.config_file.write_text(to_toml(publisher.config))
    done = waystation(publisher, "publish", str(file), "--app", app, "--version", "0.1.0")
    assert done.returncode == 0, done.stderr


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
