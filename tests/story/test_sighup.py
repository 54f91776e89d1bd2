"""SIGHUP: a daemon takes up what it can of a changed configuration, under a running download and without losing it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from peers.manager import listening
from peers.processes import wait_until
from peers.station import Station, s3_config, to_toml
from stores import random_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.s3 import Bucket

TARGET = "app/app-1.0.0-x86_64"
BODY = random_bytes(8 * 1024 * 1024 + 17)
"""More than the sockets between two processes hold."""
OTHER, OTHER_BODY = "tool/tool-2.0.0-x86_64", random_bytes(300_000)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    for target, body in ((TARGET, BODY), (OTHER, OTHER_BODY)):
        path = folder / target
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
        path.with_name(f"{path.name}.sha256").write_text(f"{sha256(body).hexdigest()}  {path.name}\n")
    return folder


@pytest.fixture
def station(tmp_path: Path, origin: Path) -> Iterator[Station]:
    station = Station(tmp_path / "station", {"origin": {"url": origin.as_uri()}, "catalog": {"refresh": "0s"}})
    with station.process:
        station.start()
        yield station


def status(station: Station) -> dict[str, Any]:
    """What `waystation status --json` shows, by the mirror's own way."""
    shown: dict[str, Any] = json.loads(station.get("/api/v1/status").body)
    return shown


def reload(station: Station, text: str | None = None) -> dict[str, Any]:
    """Write the configuration, or this text in its place, send SIGHUP, and say what came of it."""
    before = status(station)["reload"]
    station.config_file.write_text(to_toml(station.config) if text is None else text)
    station.process.signal(signal.SIGHUP)
    wait_until(lambda: status(station)["reload"] != before, "the end of the reload")
    told: dict[str, Any] = status(station)["reload"]
    return told


@contextmanager
def downloading(station: Station) -> Iterator[None]:
    """A download that is in its middle for the time of the block, and ends whole behind it."""
    with urllib.request.urlopen(f"{station.url}/artifacts/{TARGET}", timeout=60) as slow:  # noqa: S310
        first = slow.read(1)
        yield
        assert first + slow.read() == BODY


# --- what is taken up ----------------------------------------------------------------------------


def test_limits_names_and_the_log_level_change_under_a_running_download(station: Station) -> None:
    named = {"Host": "artifacts.example"}
    assert station.artifact(OTHER, headers=named).code == 421
    with downloading(station):
        station.config["mirror"] |= {"hosts": ["artifacts.example"], "max_connections": 7, "idle_timeout": "1s"}
        station.config["store"] |= {"max_size": "1GiB", "scrub_interval": "1d"}
        station.config["log"] = {"level": "warning"}
        told = reload(station)
        assert told["taken_up"] == [
            "log.level",
            "mirror.hosts",
            "mirror.idle_timeout",
            "mirror.max_connections",
            "store.max_size",
            "store.scrub_interval",
        ]
        assert (told["needs_restart"], told["refused_because"]) == ([], None)
        assert station.artifact(OTHER, headers=named).body == OTHER_BODY
        assert status(station)["store"]["limit_bytes"] == 1024**3
        assert status(station)["log_level"] == "warning"
    assert station.metric("waystation_config_reloads_total", outcome="ok") == 1


def test_a_lower_quota_is_met_at_once(station: Station) -> None:
    for target in (OTHER, TARGET):
        assert station.artifact(target).code == 200
    wait_until(lambda: len(station.blobs()) == 2, "two stored blobs")
    station.config["store"]["max_size"] = "8500KB"
    reload(station)
    wait_until(lambda: len(station.blobs()) == 1, "the eviction", timeout_s=4)  # not at the next look, after 5 s
    station.config["store"]["max_size"] = "20MiB"
    reload(station)
    assert station.artifact(OTHER).body == OTHER_BODY
    wait_until(lambda: len(station.blobs()) == 2, "both again")


def test_subscriptions_come_and_go(station: Station) -> None:
    digest = sha256(OTHER_BODY).hexdigest()
    station.config["prefetch"] = [{"match": "tool/*"}]
    with downloading(station):
        assert reload(station)["taken_up"] == ["prefetch"]
    wait_until(lambda: any(blob.name == digest for blob in station.blobs()), "what is subscribed to")
    wait_until(lambda: status(station)["prefetch"]["ready"] == 1, "a word of it")
    assert status(station)["store"]["pinned_bytes"] >= len(OTHER_BODY)
    del station.config["prefetch"]
    assert reload(station)["taken_up"] == ["prefetch"]
    wait_until(lambda: status(station)["store"]["pinned_bytes"] == 0, "the end of the pins")
    assert status(station)["prefetch"]["subscriptions"] == 0


def test_keys_that_were_replaced_in_their_file_are_used(tmp_path: Path, bucket: Bucket) -> None:
    bucket.put(OTHER, OTHER_BODY)
    bucket.put(f"{OTHER}.sha256", f"{sha256(OTHER_BODY).hexdigest()}  tool\n".encode())
    config = s3_config(bucket, tmp_path)
    right = (tmp_path / "credentials").read_text()
    (tmp_path / "credentials").write_text(right.replace(bucket.server.keys.secret, "not-the-secret-of-anybody"))
    station = Station(tmp_path / "station", config)
    with station.process:
        station.start(ready=False)
        assert station.artifact(OTHER).code == 503
        (tmp_path / "credentials").write_text(right)
        assert reload(station)["taken_up"] == []
        assert station.artifact(OTHER).body == OTHER_BODY


# --- what is not ---------------------------------------------------------------------------------


def test_what_needs_a_restart_says_so_and_keeps_its_value(station: Station, tmp_path: Path) -> None:
    listen = station.config["mirror"]["listen"]
    station.config["mirror"] |= {"listen": ["http://127.0.0.1:1"], "hosts": ["artifacts.example"]}
    station.config["store"]["path"] = str(tmp_path / "elsewhere")
    for _ in range(2):  # it is said as long as it is so
        told = reload(station)
        assert told["needs_restart"] == ["mirror.listen", "store.path"]
    assert status(station)["listen"] == listen
    assert station.log_lines("restart_needed")[-1]["keys"] == ["mirror.listen", "store.path"]
    station.config["mirror"]["listen"], station.config["store"]["path"] = listen, str(station.store)
    assert reload(station)["needs_restart"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mirror]\nhost = 1\n", "unknown key 'mirror.host'"),
        ("[mirror", "not valid TOML"),
        ('[store]\nmax_size = "much"\n[mirror]\nhosts = ["other.example"]\n', "store.max_size"),
        ('[origin]\nurl = "{url}"\n[mirror]\nlisten = []\n', "mirror.listen"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why(station: Station, origin: Path, text: str, words: str) -> None:
    station.config["mirror"]["hosts"] = ["artifacts.example"]
    reload(station)
    with downloading(station):
        told = reload(station, text.replace("{url}", origin.as_uri()))
        assert words in told["refused_because"]
        assert told["taken_up"] == []
    (line,) = station.log_lines("reload_refused")
    assert words in line["detail"]
    assert station.metric("waystation_config_reloads_total", outcome="config") == 1
    for host, code in (("artifacts.example", 200), ("other.example", 421)):
        assert station.artifact(OTHER, headers={"Host": host}).code == code
    assert reload(station)["refused_because"] is None


def test_keys_that_can_t_be_read_refuse_all_of_a_reload(tmp_path: Path, bucket: Bucket) -> None:
    station = Station(tmp_path / "station", s3_config(bucket, tmp_path))
    with station.process:
        station.start()
        station.config["origin"]["credentials_file"] = str(tmp_path / "absent")
        station.config["store"]["max_size"] = "1GiB"
        told = reload(station)
        assert "absent" in told["refused_because"]
        assert "[origin] credentials_file" in told["refused_because"]
        assert status(station)["store"]["limit_bytes"] != 1024**3
        assert station.get("/readyz").code == 200


# --- and those who asked for it --------------------------------------------------------------------


def test_systemd_is_told_when_it_begins_and_ends(tmp_path: Path, origin: Path) -> None:
    station = Station(tmp_path / "station", {"origin": {"url": origin.as_uri()}})
    with station.process, listening(station) as ears:
        station.start()
        ears.wait_for("READY=1")
        for number, text in enumerate((None, "[bad"), start=1):
            reload(station, text)
            begun = ears.wait_for("RELOADING=1", count=number)
            assert ears.wait_for("READY=1", count=1 + number) >= begun


def test_a_terminal_that_hangs_up_ends_the_daemon_in_it(station: Station) -> None:
    station.stop()
    ours, theirs = os.openpty()
    with subprocess.Popen(
        station.process.command, stdin=theirs, stderr=subprocess.DEVNULL, env=dict(station.environment)
    ) as daemon:
        try:
            wait_until(lambda: _answers(station), "the daemon in the terminal")
            daemon.send_signal(signal.SIGHUP)
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
            os.close(ours)
            os.close(theirs)


def _answers(station: Station) -> bool:
    try:
        return station.get("/healthz").code == 200
    except OSError:
        return False
