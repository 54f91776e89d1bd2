"""A real Nomad beside the shipped units, whose daemon stops, dies and hangs; run by `tests/nomad/test_nomad.py`.

The units run as they are, but for a shorter WatchdogSec=; the bucket is at an address of its own.
"""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netns.conftest import CGROUPS, UNITS, run
from nomad.inside.place import APP, BUCKET, PORT, Site, publish
from peers.nomad import running_nomad
from peers.relay import Relay
from peers.station import Station
from peers.supervisor import Supervisor
from peers.syscalls import allowed
from peers.units import Unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.minio import MinioServer

CONFIG = Path("/etc/waystation/waystation.toml")
STORE = Path("/var/lib/waystation")
WATCHDOG_S = 3
SLACK_S = 60
"""For an attempt that fails, Nomad's 15 s to the next one, and a machine that runs other tests beside these."""


@pytest.fixture(scope="module")
def site(server: MinioServer, nomad: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    run("ip", "address", "add", f"{BUCKET}/32", "dev", "lo")
    bucket = server.create_bucket("artifacts")
    bucket.make_public()
    publish(bucket, tmp_path_factory.mktemp("publisher"), APP, "app")
    server.keys.write(Path("/etc/waystation/credentials"))
    CONFIG.write_text(
        f'[origin]\nurl = "s3://{bucket.name}"\nendpoint_url = "http://{BUCKET}:{PORT}"\nregion = "us-east-1"\n'
        f'credentials_file = "%d/s3"\n[store]\nmin_free = "0"\n[takeover]\nenabled = true\nmatch = "{nomad}"\n'
    )
    run("systemd-tmpfiles", "--create", UNITS / "tmpfiles.d/waystation.conf")
    mirror = Station(tmp_path_factory.mktemp("mirror"), {})
    mirror.port = 4650
    with (
        Relay(server.port, host=BUCKET, port=PORT) as relay,
        running_nomad(tmp_path_factory.mktemp("nomad"), [APP], cgroup=CGROUPS / nomad) as agent,
    ):
        yield Site(agent, bucket, relay, mirror)


@pytest.fixture
def service(site: Site, tmp_path: Path) -> Iterator[Supervisor]:
    """A daemon that is ready and has stored nothing; at the end neither it nor the job is left."""
    syscalls = allowed(Unit(UNITS / "waystation.service").all("Service", "SystemCallFilter"))
    drop_ins = {"waystation.service": (f"[Service]\nWatchdogSec={WATCHDOG_S}\n",)}
    with Supervisor(UNITS, tmp_path, drop_ins=drop_ins, syscalls=syscalls) as service:
        service.start()
        site.relay.reset_counts()
        yield service
        site.nomad.stop_all()
        service.stop_for_good()
    shutil.rmtree(STORE)


def test_the_mirror_answers_at_the_bucket_s_own_url(site: Site, service: Supervisor) -> None:
    site.run()
    site.assert_started()
    assert site.served() == 1


def test_with_the_daemon_stopped_the_bucket_answers(site: Site, service: Supervisor) -> None:
    service.stop_for_good()
    site.run()
    site.assert_started()
    site.assert_came_from_the_bucket()


def test_with_the_daemon_killed_just_now_a_new_allocation_starts_at_its_first_attempt(
    site: Site, service: Supervisor
) -> None:
    at = service.kill(signal.SIGKILL)
    service.wait_for("ended", since=at)
    site.run()
    site.assert_started()
    assert not any("ailed to download" in told for told in site.nomad.events("pet-taxi"))


def test_with_the_daemon_killed_in_the_middle_of_a_download_its_next_attempt_starts(
    site: Site, service: Supervisor
) -> None:
    site.relay.limit(2_000_000)
    site.run()
    site.nomad.wait_event("pet-taxi", "downloading artifacts")
    service.kill(signal.SIGKILL)
    site.relay.limit(None)
    site.nomad.wait_event("pet-taxi", "ailed to download artifact")
    site.assert_started()


def test_with_the_daemon_hung_a_new_allocation_waits_for_the_watchdog_and_starts(
    site: Site, service: Supervisor
) -> None:
    at = service.kill(signal.SIGSTOP)
    site.run()
    site.nomad.wait_event("pet-taxi", "downloading artifacts")
    service.wait_for("watchdog", since=at)
    site.assert_started()
    assert time.monotonic() - at < WATCHDOG_S + SLACK_S
