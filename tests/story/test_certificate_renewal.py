"""A daemon that speaks TLS, as its operator has it: it starts, takes a new certificate up, and refuses a bad one."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from certificates import Pair, issue, trusting, write
from peers.manager import ACTIVATED
from peers.processes import free_port, wait_until
from peers.station import Station, to_toml
from stores import random_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGET = "app/app-1.0.0-x86_64"
BODY = random_bytes(24 * 1024 * 1024 + 17)
"""More than the sockets between two processes hold."""


class SecureStation(Station):
    """A daemon with both listeners, and the authority behind its certificate."""

    def __init__(self, folder: Path, origin: Path) -> None:
        self.authority = trustme.CA()
        self.pair: Pair = issue(self.authority, folder / "tls", "127.0.0.1")
        super().__init__(folder, {"origin": {"url": origin.as_uri()}, "mirror": self.pair.settings})
        self.secure_port = free_port()
        self.secure_url = f"https://127.0.0.1:{self.secure_port}"
        self.config["mirror"]["listen"] = [self.secure_url, self.url]

    def fetch(self, authority: trustme.CA | None = None) -> bytes:
        url = f"{self.secure_url}/artifacts/{TARGET}"
        with urllib.request.urlopen(url, timeout=60, context=trusting(authority or self.authority)) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body

    def reload(self) -> dict[str, Any]:
        before = json.loads(self.get("/api/v1/status").body)["reload"]
        self.process.signal(signal.SIGHUP)
        told: list[dict[str, Any]] = []

        def ended() -> bool:
            told[:] = [json.loads(self.get("/api/v1/status").body)["reload"]]
            return bool(told[0] != before)

        wait_until(ended, "the end of the reload")
        return told[0]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[SecureStation]:
    path = tmp_path / "origin" / TARGET
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    path.with_name(f"{path.name}.sha256").write_text(f"{sha256(BODY).hexdigest()}  {path.name}\n")
    station = SecureStation(tmp_path / "station", tmp_path / "origin")
    with station.process:
        yield station


def test_a_new_certificate_is_taken_up_under_a_running_download_and_a_bad_one_is_not(station: SecureStation) -> None:
    station.start()
    assert station.fetch() == BODY
    new = trustme.CA()
    url = f"{station.secure_url}/artifacts/{TARGET}"
    with urllib.request.urlopen(url, timeout=60, context=trusting(station.authority)) as slow:  # noqa: S310
        first = slow.read(1)
        write(new.issue_cert("127.0.0.1"), station.pair)
        assert station.reload()["refused_because"] is None
        assert station.fetch(new) == BODY
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            station.fetch()
        assert first + slow.read() == BODY
    new.issue_cert("127.0.0.1").private_key_pem.write_to_path(str(station.pair.key))
    told = station.reload()
    assert "does not fit" in told["refused_because"]
    assert "Replace both files together" in told["refused_because"]
    assert station.fetch(new) == BODY
    assert station.metric("waystation_config_reloads_total", outcome="certificate") == 1
    (refused,) = station.log_lines("reload_refused")
    assert refused["reason"] == "certificate"
    assert "PRIVATE" not in station.process.output()
    assert "127.0.0.1, expires in" in verb(station, "status").stdout
    assert station.url in verb(station, "stanza", TARGET).stdout, "a job here needs no certificate"


def verb(station: Station, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "waystation", *arguments, "--config", str(station.config_file)]
    return subprocess.run(command, env=station.environment, capture_output=True, text=True, timeout=60, check=True)


def test_a_bad_pair_ends_the_start_with_one_line(station: SecureStation) -> None:
    station.pair.key.chmod(0o604)
    station.config_file.write_text(to_toml(station.config))
    ended = subprocess.run(
        [sys.executable, "-m", "waystation", "serve", "--config", str(station.config_file)],
        env=station.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    last = ended.stderr.strip().splitlines()[-1]
    assert "everyone on this machine can read" in last
    assert f"tls_key {station.pair.key}" in last
    assert "Traceback" not in ended.stderr


def test_of_systemd_s_sockets_the_one_called_https_speaks_tls_and_the_others_are_plain(station: SecureStation) -> None:
    with (
        socket.create_server(("127.0.0.1", station.port)) as plain,
        socket.create_server(("127.0.0.1", station.secure_port)) as secure,
    ):
        passed = f"waystation.socket:{plain.fileno()},https:{secure.fileno()}"
        station.process.pass_fds = (plain.fileno(), secure.fileno())
        station.process.command[:0] = [sys.executable, "-I", "-S", str(ACTIVATED), passed]
        station.config["mirror"]["listen"] = ["http://127.0.0.1:1"]  # does not count
        station.start()
        assert station.fetch() == BODY
        assert json.loads(station.get("/api/v1/status").body)["listen"] == [station.url, station.secure_url]
        told = subprocess.run(
            [sys.executable, "-m", "waystation", "doctor", "--json", "--config", str(station.config_file)],
            env=station.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        ports = [one for one in json.loads(told.stdout)["findings"] if one["check"] == "ports"]
        assert [(one["level"], "held by systemd" in one["says"]) for one in ports] == [("ok", True)] * 2


def test_a_passed_socket_that_is_open_to_others_wants_tls_too(station: SecureStation) -> None:
    station.config_file.write_text(to_toml(station.config))
    with socket.create_server(("0.0.0.0", station.secure_port)) as passed:  # noqa: S104 - what is refused
        ended = subprocess.run(
            [
                *(sys.executable, "-I", "-S", str(ACTIVATED), f"waystation.socket:{passed.fileno()}"),
                *(sys.executable, "-m", "waystation", "serve", "--config", str(station.config_file)),
            ],
            pass_fds=(passed.fileno(),),
            env=station.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 2
    assert "allow_insecure" in ended.stderr.strip().splitlines()[-1]


def test_a_client_that_trusts_somebody_else_is_said_in_the_log(station: SecureStation) -> None:
    station.start()
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        station.fetch(trustme.CA())
    assert isinstance(getattr(caught.value, "reason", caught.value), ssl.SSLError)
    wait_until(lambda: bool(station.log_lines("tls_handshake_failed")), "the line of the log")
    (line,) = station.log_lines("tls_handshake_failed")
    assert line["reason"] == "refused_by_client"
    assert "unknown ca" in line["detail"]
