"""A daemon that stops, dies, hangs or can't start, under clients that ask all the time; see `tests/story`.

The shipped units run as they are, but for a shorter WatchdogSec=; the bucket is at an address of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netns.clients import Client, asking
from netns.conftest import CGROUPS, UNITS, run
from peers.relay import Relay
from peers.supervisor import Supervisor
from peers.syscalls import allowed
from peers.units import Unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.minio import MinioServer
    from peers.s3 import Bucket

TARGET = "app/app-0.1.0-x86_64"
BODY = os.urandom(300_000)
BUCKET = ("10.99.0.1", 9000)
WATCHDOG_S = 3.0
SLACK_S = 20.0
"""For a new daemon, and for a machine that runs other tests beside these."""
CONFIG = Path("/etc/waystation/waystation.toml")


@dataclass
class Site:
    """The machine with its units, and the bucket in the network."""

    service: Supervisor
    bucket: Bucket
    relay: Relay
    nomad: Path
    folder: Path

    def client(self, name: str, *, inside: bool = True, direct: bool = False, getter: bool = False) -> Client:
        host = "127.0.0.1:4650" if direct else f"{BUCKET[0]}:{BUCKET[1]}"
        url = f"http://{host}/{self.bucket.name}/{TARGET}"
        digest = sha256(BODY).hexdigest()
        return Client(name, url, digest, self.folder / name, self.nomad if inside else None, getter)

    def clients(self) -> list[Client]:
        """Two that use the bucket's URL from inside of Nomad's cgroup."""
        return [self.client("curl"), self.client("go-getter", getter=True)]

    def direct(self) -> Client:
        """One that names the mirror's own address."""
        return self.client("direct", direct=True)


def rules() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def site(server: MinioServer, nomad: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    run("ip", "address", "add", f"{BUCKET[0]}/32", "dev", "lo")
    bucket = server.create_bucket("artifacts")
    bucket.make_public()
    bucket.put_vouched(TARGET, BODY)
    server.keys.write(Path("/etc/waystation/credentials"))
    CONFIG.write_text(
        f'[origin]\nurl = "s3://{bucket.name}"\nendpoint_url = "http://{BUCKET[0]}:{BUCKET[1]}"\nregion = "us-east-1"\n'
        f'credentials_file = "%d/s3"\n[store]\nmin_free = "0"\n[takeover]\nenabled = true\nmatch = "{nomad}"\n'
    )
    run("systemd-tmpfiles", "--create", UNITS / "tmpfiles.d/waystation.conf")
    syscalls = allowed(Unit(UNITS / "waystation.service").all("Service", "SystemCallFilter"))
    drop_ins = {"waystation.service": (f"[Service]\nWatchdogSec={WATCHDOG_S}\n",)}
    with (
        Relay(server.port, host=BUCKET[0], port=BUCKET[1]) as relay,
        Supervisor(UNITS, folder, drop_ins=drop_ins, syscalls=syscalls) as service,
    ):
        yield Site(service, bucket, relay, CGROUPS / nomad, folder)
    assert not rules()


@pytest.fixture(autouse=True)
def _running(site: Site) -> None:
    if site.service.main is None or site.service.main.poll() is not None:
        site.service.start()
    assert "redirect to" in rules(), site.service.words()[-3000:]


def test_inside_the_matched_cgroup_the_mirror_answers_outside_the_bucket_and_the_daemon_reaches_its_origin(
    site: Site,
) -> None:
    assert site.client("inside").ask().how == "mirror"
    assert site.relay.connections > 0
    asked = site.relay.connections
    assert site.client("outside", inside=False).ask().how == "bucket"
    assert site.relay.connections == asked + 1
    assert site.client("again").ask().how == "mirror"
    assert site.client("getter", getter=True).ask().whole


def test_a_restart_fails_nobody_and_sends_who_comes_meanwhile_to_the_bucket(site: Site) -> None:
    clients, direct = site.clients(), site.direct()
    with asking([*clients, direct], "restarted"):
        site.service.restart()
    assert [client.failures for client in (*clients, direct)] == [[], [], []]
    assert max(client.gap_s for client in clients) < SLACK_S
    assert clients[0].asked[-1].how == "mirror"
    assert {"mirror", "bucket"} == {asked.how for asked in clients[0].asked}
    names = [event.what for event in site.service.events]
    assert names.index("ExecStop") < names.index("signal") < names.index("ended") < names.index("ExecStopPost")


def test_killed_it_costs_who_was_being_served_one_attempt_and_the_others_nothing(site: Site) -> None:
    clients, direct = site.clients(), site.direct()
    with asking([*clients, direct], "killed"):
        at = site.service.kill(signal.SIGKILL)
        site.service.wait_for("ExecStopPost", since=at)
        assert "redirect to" not in rules()
        site.service.wait_for("running", since=at)
    assert all(len(client.failures) <= 1 for client in (*clients, direct))
    assert max(client.gap_s for client in clients) < SLACK_S
    assert {"mirror", "bucket"} <= {asked.how for asked in clients[0].asked}


def test_hung_it_is_killed_by_the_watchdog_and_keeps_nobody_for_longer(site: Site) -> None:
    clients, direct = site.clients(), site.direct()
    with asking([*clients, direct], "hung"):
        at = site.service.kill(signal.SIGSTOP)
        killed = site.service.wait_for("watchdog", since=at)
        assert killed.at - at < WATCHDOG_S + 1
        site.service.wait_for("running", since=at)
    assert all(len(client.failures) <= 1 for client in (*clients, direct))
    assert max(client.gap_s for client in (*clients, direct)) < WATCHDOG_S + SLACK_S
    assert site.service.count("signal", "SIGABRT") == 1


def test_the_rule_is_gone_at_each_end_and_comes_back_with_each_daemon(site: Site) -> None:
    site.service.stop()
    stopped = time.monotonic()
    assert "redirect to" not in rules()
    # systemd still has the socket: who names the mirror starts it again.
    assert site.direct().ask().how == "mirror"
    site.service.wait_for("running", since=stopped)
    assert "redirect to" in rules()


def test_crashing_again_and_again_it_ends_refused_and_the_bucket_serves_throughout(site: Site) -> None:
    clients = site.clients()
    site.service.reset_failed()
    right = CONFIG.read_text()
    with asking(clients, "crash-looping"):
        CONFIG.write_text("[mirror]\nlisten = 7\n")
        at = site.service.kill(signal.SIGKILL)
        failed = site.service.wait_for("failed", since=at)
    CONFIG.write_text(right)
    assert failed.detail == "start-limit-hit"
    assert not rules()
    assert all(len(client.failures) <= 1 for client in clients)
    assert max(client.gap_s for client in clients) < 2 * SLACK_S
    assert clients[0].asked[-1].how == "bucket"
    assert "Failed to connect" in site.direct().ask().how


def test_stopped_for_good_it_fails_nobody_and_the_bucket_serves(site: Site) -> None:
    clients = site.clients()
    with asking(clients, "stopped"):
        site.service.stop_for_good()
    assert [client.failures for client in clients] == [[], []]
    assert clients[0].asked[-1].how == "bucket"
    assert not rules()
    assert "Failed to connect" in site.direct().ask().how
