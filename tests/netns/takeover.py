"""The redirect as Nomad's getter meets it; run by `tests/story/test_takeover.py` in namespaces of its own.

The bucket is at addresses of its own (10.99.0.1 and fd99::1, each a relay in front of one MinIO), the mirror on
loopback. A client is a shell that moves into a cgroup and then becomes curl.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

import pytest

from peers.minio import MinioServer, running_minio
from peers.processes import wait_until
from peers.relay import Relay
from peers.station import Station, s3_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.s3 import Bucket

CGROUPS = Path("/sys/fs/cgroup")
NOMAD = f"waystation-test-{os.getpid()}.slice/nomad.service"
"""Its name stands in the real hierarchy: only the mount is private."""
TARGET = "app/app-0.1.0-x86_64"
BODY = os.urandom(3 * 1024 * 1024)
BIG, BIG_BYTES = "app/app-0.2.0-x86_64", 24 * 1024 * 1024
"""More than the sockets between two processes hold."""
PORT = 9000
BUCKET_4, BUCKET_6 = "10.99.0.1", "fd99::1"

_numbers = itertools.count(1)


@dataclass
class Site:
    """One machine with a bucket in the network and a daemon on loopback."""

    station: Station
    bucket: Bucket
    relays: dict[str, Relay]

    def waystation(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "waystation", *arguments],
            env={**self.station.environment, "WAYSTATION_CONFIG": str(self.station.config_file)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def takeover(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.waystation("takeover", *arguments)

    def asked_of_the_bucket(self) -> int:
        return sum(relay.connections for relay in self.relays.values())

    def served(self) -> float:
        """Bodies that the mirror sent so far."""
        return self.station.metric("waystation_requests_total", route="bucket", code="200")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def fetch(site: Site, host: str = BUCKET_4, *, nomad: bool = True) -> bytes | None:
    """Fetch by the bucket's own URL, from inside Nomad's cgroup or outside; None: it failed."""
    curl = f"exec curl --silent --fail --max-time 20 {url(site, host)}"
    done = subprocess.run(["sh", "-c", in_nomad(curl) if nomad else curl], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def url(site: Site, host: str, target: str = TARGET) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{PORT}/{site.bucket.name}/{target}"


def in_nomad(command: str) -> str:
    """A shell's words for: move into Nomad's cgroup, and then this."""
    return f"echo $$ > {CGROUPS / NOMAD}/cgroup.procs && {command}"


def ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", autouse=True)
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    run("mount", "-t", "cgroup2", "none", str(CGROUPS))
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{BUCKET_4}/32", "dev", "lo")
    run("ip", "address", "add", f"{BUCKET_6}/128", "dev", "lo")
    hosts = tmp_path_factory.mktemp("machine") / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{BUCKET_4} bucket.test\n{BUCKET_6} bucket.test\n127.0.0.1 mirror.test\n")
    run("mount", "--bind", str(hosts), "/etc/hosts")
    (CGROUPS / NOMAD).mkdir(parents=True)
    yield
    (CGROUPS / NOMAD).rmdir()
    (CGROUPS / NOMAD).parent.rmdir()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with running_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, server: MinioServer) -> Iterator[Site]:
    bucket = server.create_bucket(f"bucket-{next(_numbers)}")
    bucket.make_public()
    bucket.put_vouched(TARGET, BODY)
    with ExitStack() as stack:
        hosts = (BUCKET_4, BUCKET_6)
        relays = {host: stack.enter_context(Relay(server.port, host=host, port=PORT)) for host in hosts}
        config = s3_config(bucket, tmp_path, endpoint_url=f"http://bucket.test:{PORT}")
        config["takeover"] = {"match": NOMAD}
        station = Station(tmp_path / "station", config)
        station.config["mirror"]["listen"] = [station.url, f"http://[::1]:{station.port}"]
        stack.enter_context(station.process)
        station.start()
        yield Site(station, bucket, relays)
        run("nft", "flush", "ruleset")


def on(site: Site) -> None:
    done = site.takeover("on")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("host", [BUCKET_4, BUCKET_6])
def test_inside_nomad_s_cgroup_the_mirror_answers_and_outside_the_bucket(site: Site, host: str) -> None:
    on(site)
    assert fetch(site, host) == BODY
    assert site.served() == 1
    before = site.relays[host].connections
    assert fetch(site, host, nomad=False) == BODY
    assert site.served() == 1
    assert site.relays[host].connections == before + 1


def test_the_daemon_reaches_its_origin_while_the_redirect_stands(site: Site) -> None:
    on(site)
    assert fetch(site) == BODY
    assert site.station.metric("waystation_origin_bytes_total") >= len(BODY)
    assert site.asked_of_the_bucket() > 0


def test_what_is_cached_starts_while_the_bucket_is_away(site: Site) -> None:
    on(site)
    assert fetch(site) == BODY
    for relay in site.relays.values():
        relay.stop()
    assert fetch(site, nomad=False) is None
    assert fetch(site) == BODY


def test_off_gives_the_address_back_and_leaves_no_trace(site: Site) -> None:
    before = ruleset()
    on(site)
    assert site.takeover("off").returncode == 0
    assert ruleset() == before
    asked = site.asked_of_the_bucket()
    assert fetch(site) == BODY
    assert site.served() == 0
    assert site.asked_of_the_bucket() == asked + 1
    again = site.takeover("off")
    assert (again.returncode, "nothing to do" in again.stdout + again.stderr) == (0, True)


def test_off_lets_a_download_finish_that_came_this_way(site: Site) -> None:
    site.bucket.put_vouched(BIG, big := os.urandom(BIG_BYTES))
    on(site)
    file = site.station.folder / "slow"
    curl = f"exec curl --silent --limit-rate 4M --output {file} {url(site, BUCKET_4, BIG)}"
    with Popen(["sh", "-c", in_nomad(curl)]) as slow:
        wait_until(lambda: file.exists() and file.stat().st_size > 0, "its first bytes")
        assert site.takeover("off").returncode == 0
        assert not ruleset()
        assert slow.wait(timeout=20) == 0
    assert site.served() == 1
    assert file.read_bytes() == big


def test_off_removes_also_what_somebody_else_put_into_the_table(site: Site) -> None:
    run("nft", "add table inet waystation; add chain inet waystation c; add rule inet waystation c counter")
    assert site.takeover("off").returncode == 0
    assert not ruleset()


def test_twice_is_once(site: Site) -> None:
    on(site)
    once = without_counts(ruleset())
    on(site)
    assert without_counts(ruleset()) == once


def test_foreign_rules_are_never_touched(site: Site) -> None:
    run("nft", "add table inet foreign; add chain inet foreign out { type filter hook output priority 0 ; }")
    run("nft", "add rule inet foreign out ip daddr 192.0.2.7 counter drop")
    foreign = ruleset()
    on(site)
    assert "table inet foreign" in ruleset()
    site.takeover("off")
    assert ruleset() == foreign


def test_status_shows_the_rules_and_how_many_connections_they_led_away(site: Site) -> None:
    nothing = site.takeover("status", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)) == (1, {"standing": False, "rules": []})
    on(site)
    fetch(site)
    shown = site.takeover("status", "--json")
    assert shown.returncode == 0
    four, six = json.loads(shown.stdout)["rules"]
    assert (four["addresses"], four["port"], four["mirror_port"]) == ([BUCKET_4], PORT, site.station.port)
    assert (four["match"], four["connections"], six["connections"]) == (NOMAD, 1, 0)
    assert six["addresses"] == [BUCKET_6]


def test_keys_without_a_checksum_are_counted_and_refused_unless_forced(site: Site) -> None:
    site.bucket.put("app/bare-1-x86_64", b"nobody vouches for this")
    refused = site.takeover("on")
    assert refused.returncode == 1
    assert "app/bare-1-x86_64" in refused.stderr
    assert "waystation adopt" in refused.stderr
    assert not ruleset()
    assert site.takeover("on", "--force").returncode == 0
    assert fetch(site) == BODY


def test_an_origin_that_is_this_mirror_is_refused_in_words(site: Site) -> None:
    circle = site.takeover("on", "--set", f"origin.endpoint_url=http://mirror.test:{site.station.port}")
    assert circle.returncode == 1
    assert "circle" in circle.stderr
    assert not ruleset()


def test_a_cgroup_that_holds_the_daemon_itself_is_refused_in_words(site: Site) -> None:
    holds = Path(f"/proc/{site.station.process.pid}/cgroup").read_text()
    own = next(line.split("::", 1)[1].strip() for line in holds.splitlines() if line.startswith("0::"))
    if own == "/":
        (CGROUPS / NOMAD / "cgroup.procs").write_text(str(site.station.process.pid))
        own = f"/{NOMAD}"
    refused = site.takeover("on", "--match", own)
    (CGROUPS / "cgroup.procs").write_text(str(site.station.process.pid))
    assert refused.returncode == 1
    assert "sent to itself" in refused.stderr


def test_a_cgroup_that_is_not_there_is_refused_in_words(site: Site) -> None:
    refused = site.takeover("on", "--match", "system.slice/no-such.service")
    assert refused.returncode == 1
    assert "does not exist now" in refused.stderr


def test_a_dead_daemon_takes_nothing_over(site: Site) -> None:
    site.station.stop()
    dead = site.takeover("on")
    assert (dead.returncode, "no daemon runs here" in dead.stderr) == (1, True)
    assert site.takeover("on", "--if-ready", "--set", "takeover.enabled=true").returncode == 0
    assert not ruleset()
    assert fetch(site) == BODY


def test_the_units_take_over_only_where_the_configuration_says_so(site: Site) -> None:
    left = site.takeover("on", "--if-ready")
    assert (left.returncode, "[takeover] enabled is not set" in left.stderr) == (0, True)
    assert not ruleset()
    assert site.takeover("on", "--if-ready", "--set", "takeover.enabled=true").returncode == 0
    assert "redirect to" in ruleset()


def test_a_bucket_that_is_away_keeps_nobody_from_what_is_cached(site: Site) -> None:
    assert site.station.get(f"/{site.bucket.name}/{TARGET}").body == BODY
    for relay in site.relays.values():
        relay.stop()
    on(site)
    assert fetch(site) == BODY


def test_a_hub_s_own_url_is_taken_over_like_a_bucket_s(site: Site, tmp_path: Path) -> None:
    hub = Station(tmp_path / "hub", site.station.config, host=BUCKET_4)
    hub.config["mirror"] = {"listen": [hub.url], "allow_insecure": True, "hosts": ["bucket.test"]}
    hub.config["store"] = {"path": str(hub.store), "min_free": "0"}
    hub.config["admin"] = {"socket": str(hub.folder / "admin.sock")}
    job = f"http://bucket.test:{hub.port}/artifacts/{TARGET}"
    curl = in_nomad(f"exec curl -4 --silent --fail --max-time 20 {job}")
    site.station.stop()
    site.station.config["origin"] = {"url": f"http://bucket.test:{hub.port}/artifacts"}
    with hub.process:
        hub.start()
        site.station.start()
        on(site)
        assert f'"{job}"' in site.waystation("stanza", TARGET).stdout
        for _ in range(2):
            assert subprocess.run(["sh", "-c", curl], capture_output=True, check=False).stdout == BODY
        served = [
            station.metric("waystation_requests_total", route="artifacts", code="200")
            for station in (hub, site.station)
        ]
        assert served[1] == 2
        assert site.takeover("off").returncode == 0
        assert subprocess.run(["sh", "-c", curl], capture_output=True, check=False).stdout == BODY
        assert site.station.metric("waystation_requests_total", route="artifacts", code="200") == 2
        assert hub.metric("waystation_requests_total", route="artifacts", code="200") == served[0] + 1


def test_a_server_that_can_t_be_listed_is_taken_over_only_where_that_is_wanted(site: Site) -> None:
    """A public bucket read over HTTP: nobody can see what the mirror would refuse."""
    site.station.stop()
    site.station.config["origin"] = {"url": f"http://bucket.test:{PORT}/{site.bucket.name}"}
    site.station.start()
    refused = site.takeover("on")
    assert (refused.returncode, "nobody can see what the mirror would refuse" in refused.stderr) == (1, True)
    assert not ruleset()
    assert site.takeover("on", "--force").returncode == 0
    assert fetch(site) == BODY
    assert site.served() == 1


def without_counts(rules: str) -> str:
    return re.sub(r"packets \d+ bytes \d+", "", rules)
