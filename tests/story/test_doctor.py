"""`waystation doctor` on a healthy machine and on broken ones: each fault is real, and is found by its own check."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import trustme

from certificates import Pair, issue, write
from peers.careless_s3 import CarelessS3
from peers.processes import clean_environment, free_port
from peers.s3 import Keys
from peers.station import running_station, s3_config, to_toml
from waystation.cli.entry import run
from waystation.config import places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.s3 import Bucket
    from peers.station import Config

NOBODY = 65534
MEMORY = Path("/dev/shm")  # noqa: S108 - the filesystem in memory that every Linux has
ADVICE_ENDS = (".", "!")


@dataclass
class Machine:
    """A folder with a configuration, and what the doctor says of it."""

    folder: Path
    config: Config

    @property
    def store(self) -> Path:
        return Path(str(self.config["store"]["path"]))

    def examine(self, *options: str, powerless: bool = False) -> dict[str, Any]:
        """Run ``waystation doctor --json``, and check what holds for every examination.

        `powerless`: root, too, may then only do what the modes of files allow.
        """
        done = self.run("doctor", "--json", *options, powerless=powerless)
        assert "Traceback" not in done.stderr, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        levels = {finding["level"] for finding in told["findings"]}
        assert told["level"] == next(level for level in ("failure", "warning", "ok") if level in levels)
        assert done.returncode == (1 if told["level"] == "failure" else 0), done.stderr
        for finding in told["findings"]:
            assert (finding["advice"] != "") == (finding["level"] != "ok"), finding
            assert finding["advice"].endswith(ADVICE_ENDS) or not finding["advice"]
        return told

    def faults(self, *options: str, powerless: bool = False) -> list[tuple[str, str, str, str]]:
        """What is not as it should be, as (level, check, says, advice)."""
        found = self.examine(*options, powerless=powerless)["findings"]
        return [(f["level"], f["check"], f["says"], f["advice"]) for f in found if f["level"] != "ok"]

    def fault(self, *options: str, powerless: bool = False) -> tuple[str, str, str, str]:
        """The one thing that is not as it should be."""
        (fault,) = self.faults(*options, powerless=powerless)
        return fault

    def run(self, *arguments: str, powerless: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a verb, in this process where it needs no other: a start of its own costs most of the time."""
        file = self.folder / "waystation.toml"
        file.write_text(to_toml(self.config))
        environment = clean_environment(self.folder)
        if not powerless:
            command = [*arguments, "--config", str(file)]
            out, err = io.StringIO(), io.StringIO()
            with (
                patch.dict(os.environ, environment, clear=True),
                chdir(self.folder),
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                status = run(command)
            return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())
        root = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
        return subprocess.run(
            [*root, sys.executable, "-m", "waystation", *arguments, "--config", file],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path) -> Machine:
    """Fit in every way: a bucket with a published target, a store that can be made, a free port."""
    bucket.put_vouched("app/app-1-x86_64", b"some bytes")
    config = s3_config(bucket, tmp_path)
    config["mirror"] = {"listen": [f"http://127.0.0.1:{free_port()}"]}
    config["store"] = {"path": str(tmp_path / "store"), "max_size": "1GiB", "min_free": "1MiB"}
    config["admin"] = {"socket": str(tmp_path / "admin.sock")}
    return Machine(tmp_path, config)


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[CarelessS3]:
    with CarelessS3(bucket.server, manner="honest") as proxy:
        yield proxy


# --- a healthy one -------------------------------------------------------------------------------


def test_a_fit_machine_is_fit_in_every_check_and_nothing_is_changed(machine: Machine, bucket: Bucket) -> None:
    before = bucket.keys()
    told = machine.examine()
    assert told["level"] == "ok"
    checks = [finding["check"] for finding in told["findings"]]
    assert list(dict.fromkeys(checks)) == [
        *("configuration", "versions", "clock", "disk", "store", "daemon", "ports", "takeover"),
        *("origin", "reading", "checksums"),
    ]
    assert bucket.keys() == before
    assert not machine.store.exists()


def test_a_publishers_machine_is_fit_too_and_the_scratch_key_is_removed(machine: Machine, bucket: Bucket) -> None:
    before = bucket.keys()
    told = machine.examine("--publish")
    assert told["level"] == "ok"
    assert told["findings"][-1]["check"] == "writes"
    assert "16 racing writers exactly one wins" in told["findings"][-1]["says"]
    assert bucket.keys() == before


def test_a_folder_as_the_origin_is_fit_too(machine: Machine) -> None:
    folder = machine.folder / "origin"
    folder.mkdir()
    machine.config["origin"] = {"url": folder.as_uri()}
    told = machine.examine("--publish")
    assert told["level"] == "ok"
    assert list(folder.iterdir()) == []


def test_beside_a_running_daemon_its_port_and_its_store_are_in_order(machine: Machine) -> None:
    with running_station(machine.folder / "station", {"origin": machine.config["origin"]}) as station:
        machine.config = station.config
        machine.config["store"]["max_size"] = "1GiB"
        told = machine.examine()
        says = {finding["check"]: finding["says"] for finding in told["findings"]}
        pid = f"process {station.process.pid}"
    assert told["level"] == "ok"
    assert pid in says["store"]
    assert pid in says["ports"]
    assert says["daemon"] == f"{pid} is ready"


# --- broken ones ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "level"), [(20, "failure"), (-20, "failure"), (2, "warning")])
def test_a_clock_that_is_off_is_found(machine: Machine, proxy: CarelessS3, minutes: int, level: str) -> None:
    theirs = datetime.now(UTC) - timedelta(minutes=minutes)
    proxy.answer_headers = {"Date": format_datetime(theirs, usegmt=True)}
    machine.config["origin"]["endpoint_url"] = proxy.endpoint_url
    found, check, says, advice = machine.fault()
    assert (found, check) == (level, "clock")
    assert f"{'ahead of' if minutes > 0 else 'behind'} the origin's" in says
    assert "clock" in advice


def test_a_disk_without_room_is_found(machine: Machine) -> None:
    machine.config["store"]["min_free"] = "1000TiB"
    level, check, says, advice = machine.fault()
    assert (level, check) == ("failure", "disk")
    assert "hold nothing" in says
    assert "min_free" in advice


def test_a_quota_beyond_the_disk_is_found(machine: Machine) -> None:
    machine.config["store"]["max_size"] = "1000TiB"
    level, check, says, advice = machine.fault()
    assert (level, check) == ("warning", "disk")
    assert "1000.0 TiB" in says
    assert "max_size" in advice


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="there is no /dev/shm here")
def test_a_store_in_memory_is_found(machine: Machine) -> None:
    machine.config["store"] |= {"path": str(MEMORY / "waystation-doctor-test"), "max_size": "1MiB", "min_free": "0"}
    level, check, says, _ = machine.fault()
    assert (level, check) == ("warning", "disk")
    assert "tmpfs" in says


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_small_full_disk_is_found(machine: Machine) -> None:
    small = machine.folder / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (small / "filler").write_bytes(bytes(2 * 1024 * 1024 - 8192))
        machine.config["store"] |= {"path": str(small / "store"), "max_size": "1MiB"}
        faults = machine.faults()
    finally:
        subprocess.run(["umount", small], check=True)
    assert [(level, check) for level, check, _, _ in faults] == [("warning", "disk"), ("failure", "disk")]
    assert "hold nothing" in faults[1][2]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root needs setpriv for that")
def test_a_store_that_this_user_may_not_write_to_is_found(machine: Machine) -> None:
    machine.store.mkdir(mode=0o500)
    level, check, says, advice = machine.fault(powerless=True)
    assert (level, check) == ("failure", "store")
    assert f"{machine.store} belongs to" in says
    assert "mode 500" in says
    assert "chown" in advice


def test_a_file_in_the_stores_way_is_found(machine: Machine) -> None:
    (machine.folder / "file").touch()
    machine.config["store"]["path"] = str(machine.folder / "file/store")
    level, check, says, _ = machine.fault()
    assert (level, check) == ("failure", "store")
    assert "is no folder" in says


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_store_that_root_used_once_is_found(machine: Machine) -> None:
    machine.store.mkdir()
    (machine.store / "format").write_text("1\n")
    (machine.store / "blobs").mkdir()
    for path in (machine.store, machine.store / "format"):
        os.chown(path, NOBODY, NOBODY)
    level, check, says, advice = machine.fault()
    assert (level, check) == ("warning", "store")
    assert f"{machine.store / 'blobs'} belongs to root" in says
    assert "chown -R" in advice


@pytest.mark.parametrize(("name", "content", "words"), [("format", "99\n", "format '99'"), ("photo", "", "'photo'")])
def test_a_folder_that_is_no_store_of_ours_is_found(machine: Machine, name: str, content: str, words: str) -> None:
    machine.store.mkdir()
    (machine.store / name).write_text(content)
    level, check, says, _ = machine.fault()
    assert (level, check) == ("failure", "store")
    assert words in says


def test_a_store_that_another_daemon_holds_is_found(machine: Machine) -> None:
    with running_station(machine.folder / "station", {"origin": machine.config["origin"]}) as station:
        machine.config["store"]["path"] = str(station.store)
        level, check, says, advice = machine.fault()
        assert (level, check) == ("failure", "store")
        assert f"process {station.process.pid}" in says
        assert "other daemon" in advice


def test_a_port_that_somebody_else_has_is_found(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        machine.config["mirror"]["listen"] = [f"http://127.0.0.1:{taken.getsockname()[1]}"]
        level, check, says, advice = machine.fault()
    assert (level, check) == ("failure", "ports")
    assert "Address already in use" in says
    assert "[mirror] listen" in advice


def test_a_port_that_systemd_holds_for_the_daemon_is_in_order(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        machine.config["mirror"]["listen"] = [f"http://{address}"]
        systemctl = tmp_path / "bin/systemctl"  # what systemd 252 shows of two units, the second one not there
        systemctl.parent.mkdir()
        monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
        for state, faults in (("active", []), ("inactive", ["ports"])):
            shown = f"Listen={address} (Stream)\nActiveState={state}\n\nActiveState=inactive\n"
            systemctl.write_text(f"#!/bin/sh\nprintf %s '{shown}'\n")
            systemctl.chmod(0o755)
            assert [check for _, check, _, _ in machine.faults()] == faults


@pytest.fixture
def secure(machine: Machine) -> trustme.CA:
    """The machine speaks TLS, by a certificate of an authority that it trusts."""
    authority = trustme.CA()
    machine.config["origin"]["ca_bundle"] = str(machine.folder / "ca.pem")
    authority.cert_pem.write_to_path(machine.config["origin"]["ca_bundle"])
    machine.config["mirror"] |= issue(authority, machine.folder / "tls", "127.0.0.1").settings
    machine.config["mirror"]["listen"] = [f"https://127.0.0.1:{free_port()}"]
    return authority


def test_a_good_certificate_is_in_order(machine: Machine, secure: trustme.CA) -> None:
    told = machine.examine()
    (says,) = [finding["says"] for finding in told["findings"] if finding["check"] == "certificate"]
    assert told["level"] == "ok"
    assert says.startswith("for 127.0.0.1, until ")
    assert machine.run("config", "check").returncode == 0


def test_a_certificate_of_an_authority_that_nobody_here_trusts_is_found(machine: Machine, secure: trustme.CA) -> None:
    trustme.CA().cert_pem.write_to_path(machine.config["origin"]["ca_bundle"])
    level, check, says, advice = machine.fault()
    assert (level, check) == ("warning", "certificate")
    assert "unable to get local issuer certificate" in says
    assert "update-ca-certificates" in advice


def test_a_certificate_that_expires_soon_is_found(machine: Machine, secure: trustme.CA) -> None:
    until = datetime.now(UTC) + timedelta(days=9, hours=1)
    write(secure.issue_cert("127.0.0.1", not_after=until), Pair(*map(Path, paths(machine))))
    level, check, says, _ = machine.fault()
    assert (level, check) == ("warning", "certificate")
    assert "expires in 9 days" in says


def test_a_key_that_everyone_can_read_fails_the_check_of_the_configuration_too(
    machine: Machine, secure: trustme.CA
) -> None:
    Path(paths(machine)[1]).chmod(0o644)
    level, check, says, advice = machine.fault()
    assert (level, check) == ("failure", "certificate")
    assert "everyone on this machine" in says
    assert "chmod" in advice
    assert machine.run("config", "check").returncode == 1


def paths(machine: Machine) -> tuple[str, str]:
    return machine.config["mirror"]["tls_cert"], machine.config["mirror"]["tls_key"]


def test_a_dead_origin_is_found(machine: Machine) -> None:
    machine.config["origin"] |= {"endpoint_url": f"http://127.0.0.1:{free_port()}", "attempts": 1}
    faults = machine.faults("--publish")
    assert [(level, check) for level, check, _, _ in faults] == [("warning", "clock"), ("failure", "origin")]
    assert "endpoint_url" in faults[1][3]


def test_a_bucket_that_is_not_there_is_found(machine: Machine) -> None:
    machine.config["origin"]["url"] = "s3://no-such-bucket"
    level, check, says, _ = machine.fault()
    assert (level, check) == ("failure", "origin")
    assert "no bucket 'no-such-bucket'" in says


def test_wrong_credentials_are_found_and_not_shown(machine: Machine, bucket: Bucket) -> None:
    Keys(bucket.server.keys.access, "not-the-secret").write(machine.folder / "credentials")
    level, check, says, advice = machine.fault()
    assert (level, check) == ("failure", "origin")
    assert "does not accept" in says
    assert "access key and secret" in advice
    assert "not-the-secret" not in says + advice


def test_a_reader_that_may_not_list_is_found(machine: Machine, bucket: Bucket) -> None:
    bucket.server.create_user(bucket.name, ["s3:GetObject"]).write(machine.folder / "credentials")
    level, check, _, advice = machine.fault()
    assert (level, check) == ("failure", "origin")
    assert "s3:ListBucket" in advice


def test_a_reader_that_may_list_but_not_read_is_found(machine: Machine, bucket: Bucket) -> None:
    bucket.server.create_user(bucket.name, ["s3:ListBucket"]).write(machine.folder / "credentials")
    level, check, _, advice = machine.fault()
    assert (level, check) == ("failure", "reading")
    assert "s3:GetObject" in advice


def test_keys_without_a_checksum_are_counted_and_with_pin_first_they_are_in_order(
    machine: Machine, bucket: Bucket
) -> None:
    for number in range(3):
        bucket.put(f"tools/tool-{number}", b"who knows")
    bucket.put("tools/vouched", b"vouched", stored_sha256=True)
    level, check, says, advice = machine.fault()
    assert (level, check) == ("warning", "checksums")
    assert "3 of 5, such as tools/tool-0" in says
    assert "waystation adopt" in advice
    assert "pin-first" in advice
    machine.config["catalog"] = {"missing_checksum": "pin-first"}
    assert machine.faults() == []


def test_a_configuration_that_cannot_be_used_is_found(machine: Machine) -> None:
    machine.config["store"]["max_sise"] = "1GiB"
    level, check, says, _ = machine.fault()
    assert (level, check) == ("failure", "configuration")
    assert "max_sise" in says
    done = machine.run("config", "check", "--json")
    assert (done.returncode, json.loads(done.stdout)["level"]) == (1, "failure")


def test_a_configuration_that_is_not_there_is_found(machine: Machine) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "waystation", "config", "check", "--config", "/nonexistent/waystation.toml"],
        env=clean_environment(machine.folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.split("\t")[:2] == ["failure", "configuration"]
    assert "no such file" in done.stdout


def test_credentials_that_are_gone_or_open_to_all_are_found_without_asking_the_origin(machine: Machine) -> None:
    def found() -> tuple[int, list[list[str]]]:
        done = machine.run("config", "check")
        return done.returncode, [line.split("\t") for line in done.stdout.splitlines()]

    credentials = machine.folder / "credentials"
    assert found()[0] == 0
    credentials.chmod(0o644)
    status, (_, (level, _, says, advice)) = found()
    assert (status, level) == (0, "warning")
    assert "everyone" in says
    assert advice == f"Run `chmod o= {credentials}`."
    credentials.unlink()
    status, (_, (level, _, says, _)) = found()
    assert (status, level) == (1, "failure")
    assert f"credentials_file {credentials} can't be read" in says


def test_what_systemd_passes_to_the_daemon_alone_is_no_fault_and_a_wrong_name_among_it_is(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.config["origin"]["credentials_file"] = "%d/s3"
    machine.config["mirror"] |= {"tls_cert": str(tmp_path / "tls.pem"), "tls_key": "%d/tls-key"}
    monkeypatch.setattr(places, "PASSED_TO_THE_UNIT", tmp_path / "passed")
    unseen = machine.run("config", "check")
    assert unseen.returncode == 0, unseen.stdout
    assert unseen.stdout.count("is the daemon's alone: not looked at from here") == 2
    (tmp_path / "passed").mkdir()
    seen = machine.run("config", "check")
    assert seen.returncode == 1
    assert f"credentials_file {tmp_path}/passed/s3 can't be read" in seen.stdout
    assert f"tls_cert {tmp_path}/tls.pem can't be read" in seen.stdout


@pytest.mark.parametrize(("manner", "words"), [("forgets", "lets several writers win"), ("refuses", "answers 501")])
def test_an_origin_without_honest_conditional_writes_is_found_and_single_writers_are_in_order(
    machine: Machine, bucket: Bucket, proxy: CarelessS3, manner: Any, words: str
) -> None:
    proxy.manner = manner
    machine.config["origin"]["endpoint_url"] = proxy.endpoint_url
    assert machine.faults() == [], "a reader need not care"
    before = bucket.keys()
    level, check, says, advice = machine.fault("--publish")
    assert (level, check) == ("failure", "writes")
    assert words in says
    assert '[origin] writes = "single"' in advice
    machine.config["origin"]["writes"] = "single"
    assert machine.faults("--publish") == []
    assert bucket.keys() == before


def test_a_publisher_that_may_not_write_is_found(machine: Machine, bucket: Bucket) -> None:
    reader = bucket.server.create_user(bucket.name, ["s3:ListBucket", "s3:GetObject"])
    reader.write(machine.folder / "credentials")
    assert machine.faults() == []
    level, check, _, advice = machine.fault("--publish")
    assert (level, check) == ("failure", "writes")
    assert "s3:PutObject" in advice


def test_a_publisher_that_may_not_delete_is_told_what_was_left(machine: Machine, bucket: Bucket) -> None:
    allowed = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    bucket.server.create_user(bucket.name, allowed).write(machine.folder / "credentials")
    before = set(bucket.keys())
    level, check, says, _ = machine.fault("--publish")
    (left,) = set(bucket.keys()) - before
    assert (level, check) == ("warning", "writes")
    assert left in says
    assert left.startswith("metadata/")


# --- for people ----------------------------------------------------------------------------------


def test_a_terminal_gets_a_line_for_each_check_and_the_advice_below_it(machine: Machine) -> None:
    machine.config["store"]["min_free"] = "1000TiB"
    machine.run("config", "check")
    parent, child = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "waystation", "doctor", "--config", machine.folder / "waystation.toml"],
        env=clean_environment(machine.folder, TERM="xterm", COLUMNS="100"),
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(child)
    with os.fdopen(parent, encoding="utf-8", errors="replace") as screen:
        text = ""
        try:
            while chunk := screen.read(1):
                text += chunk
        except OSError:
            pass  # the other end is closed
    assert done.returncode == 1
    assert done.stderr == b""
    assert "→ Free disk space, or lower [store] min_free." in text
    assert max(map(len, text.splitlines())) < 130
