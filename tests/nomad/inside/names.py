"""A name with two addresses in the site's own DNS: 127.0.0.1, where the mirror is, and a fallback."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from nomad.inside.place import APP, BUCKET, PORT, Site, in_place
from peers.processes import Process, is_listening
from peers.relay import Relay
from peers.station import Station, s3_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.nomad import Nomad
    from peers.s3 import Bucket

NAME = "artifacts.test"
MIRRORS = 4650
"""The port of stations and their hub."""
DNSMASQ = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(DNSMASQ is None, reason="dnsmasq is not installed (Debian: dnsmasq-base)")


@pytest.fixture(scope="module", autouse=True)
def dns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("dns")
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 {NAME}\n{BUCKET} {NAME}\n")
    options = ["--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", "--listen-address=127.0.0.1", "--bind-interfaces"]
    server = Process(
        [str(DNSMASQ), "--keep-in-foreground", "--conf-file=", "--pid-file=", "--user=root", *options],
        log=folder / "dnsmasq.log",
    )
    with server:
        server.start()
        server.wait_ready(lambda: is_listening(53))
        yield


@pytest.fixture
def site(tmp_path: Path, nomad: Nomad, bucket: Bucket) -> Iterator[Site]:
    """A daemon on the bucket's own port, so that one URL means both."""
    with in_place(tmp_path, nomad, bucket, {"mirror": {"hosts": [NAME]}}, port=PORT) as site:
        site.relay.reset_counts()
        yield site


def test_while_the_daemon_lives_the_mirror_answers(site: Site) -> None:
    site.run(base=f"http://{NAME}:{PORT}")
    site.assert_started()
    assert site.served() == 1


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_once_it_is_dead_the_next_address_answers_at_once(site: Site, end: signal.Signals) -> None:
    site.station.process.signal(end)
    site.station.process.wait()
    site.run(base=f"http://{NAME}:{PORT}")
    site.assert_started()
    site.assert_came_from_the_bucket()
    assert not any("ailed to download" in told for told in site.nomad.events("pet-taxi"))


def test_a_hub_can_be_the_fallback_and_the_bucket_sends_the_artifact_once(
    tmp_path: Path, nomad: Nomad, bucket: Bucket
) -> None:
    with Relay(bucket.server.port) as relay:
        hub = Station(tmp_path / "hub", s3_config(bucket, tmp_path, endpoint_url=relay.endpoint_url))
        hub.config["mirror"] = {
            "listen": [hub.url, f"http://{BUCKET}:{MIRRORS}"],
            "hosts": [NAME],
            "allow_insecure": True,
        }
        station = Station(tmp_path / "station", {"origin": {"url": f"http://{BUCKET}:{MIRRORS}/artifacts"}})
        station.port = MIRRORS
        station.config["mirror"] = {"listen": [station.url], "hosts": [NAME]}
        site = Site(nomad, bucket, relay, station)
        with hub.process, station.process:
            hub.start()
            station.start()
            site.run(base=f"http://{NAME}:{MIRRORS}")
            site.assert_started()
            assert site.served() == 1
            nomad.stop("pet-taxi")
            station.process.kill()
            before = hub.metric("waystation_served_bytes_total", cache="hit")
            site.run(base=f"http://{NAME}:{MIRRORS}")
            site.assert_started()
            assert hub.metric("waystation_served_bytes_total", cache="hit") - before == APP.stat().st_size
            nomad.stop_all()
        assert relay.received_bytes < 1.05 * APP.stat().st_size
