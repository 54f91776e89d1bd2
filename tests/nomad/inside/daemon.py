"""The daemon as a Nomad job: nomad-jobs/waystation.nomad.hcl, the very file, in front of the example app's."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nomad.inside.place import APP, BUCKET, JOBS, PORT, SHA256, publish
from peers.processes import free_port, wait_until
from peers.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.nomad import Allocation, Nomad
    from peers.s3 import Bucket

DAEMON = Path(os.environ["BUNDLED_DAEMON"])


@dataclass
class Job:
    """The daemon's job, the relay to its bucket, and the app's job, which asks the mirror."""

    nomad: Nomad
    bucket: Bucket
    relay: Relay
    port: int

    def run(self, *, disk: int = 200) -> None:
        """Run it, or replace what runs."""
        self.nomad.run(
            JOBS / "waystation.nomad.hcl",
            sha256=hashlib.sha256(DAEMON.read_bytes()).hexdigest(),
            endpoint=f"http://{BUCKET}:{PORT}",
            origin=f"s3://{self.bucket.name}",
            port=str(self.port),
            disk=str(disk),
        )

    def wait_ready(self) -> None:
        self.nomad.wait_running("waystation")
        wait_until(self._is_ready, "the mirror can serve")

    def is_replaced(self, before: Allocation) -> bool:
        running = [one["ID"] for one in self.nomad.allocations("waystation") if one["ClientStatus"] == "running"]
        return bool(running) and before["ID"] not in running

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def status(self) -> dict[str, Any]:
        """What the daemon's own command line says, run in its allocation as the job's first lines say."""
        words = ["-job", "waystation", "./local/waystation-0.1.0-x86_64", "status", "--json"]
        done = self.nomad.command("alloc", "exec", "-i=false", "-t=false", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def start_an_app(self) -> None:
        """A new allocation, which downloads all that it needs."""
        base = f"http://127.0.0.1:{self.port}/artifacts"
        self.nomad.run(JOBS / "app.nomad.hcl", bucket=base, sha256=SHA256)
        self.nomad.wait_running("pet-taxi")
        self.nomad.stop("pet-taxi")


@pytest.fixture
def job(nomad: Nomad, bucket: Bucket, tmp_path: Path) -> Iterator[Job]:
    publish(bucket, tmp_path / "publisher", DAEMON, "waystation")
    nomad.keep("nomad/jobs/waystation", credentials=bucket.server.keys.write(tmp_path / "credentials"))
    with Relay(bucket.server.port, host=BUCKET, port=PORT) as relay:
        yield Job(nomad, bucket, relay, free_port())
        nomad.stop_all()


def test_the_daemon_runs_as_a_job_and_serves_others_from_what_it_keeps_also_in_its_next_allocation(job: Job) -> None:
    job.run()
    job.wait_ready()
    job.relay.reset_counts()
    for _ in range(2):
        job.start_an_app()
    assert job.relay.received_bytes < 1.1 * APP.stat().st_size
    assert job.status()["store"]["blobs"] == 1
    (before,) = job.nomad.wait_running("waystation")
    wait_until(lambda: job.nomad.checks(before) == ["success"], "the check passes")

    job.run(disk=201)
    wait_until(lambda: job.is_replaced(before), "another allocation runs", timeout_s=60)
    job.wait_ready()
    job.bucket.server.stop()
    try:
        job.start_an_app()
    finally:
        job.bucket.server.start()
