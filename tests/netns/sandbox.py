"""All that a daemon does, in the sandbox of the shipped unit: its user, its paths, its system calls; see `tests/story`.

`peers.sandbox` kills a daemon at the first system call that the unit's filter does not have.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from certificates import issue, trusting
from netns.conftest import PREFIX, UNITS, run
from peers.processes import wait_until
from peers.supervisor import Supervisor
from peers.syscalls import allowed
from peers.units import Unit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from peers.minio import MinioServer
    from peers.s3 import Bucket

OLD, NEW, OTHER = (f"app/app-{version}-x86_64" for version in ("1.0.0", "1.1.0", "0.9.0"))
BODIES = {name: os.urandom(3 * 1024 * 1024 + 7) for name in (OLD, NEW, OTHER)}
CONFIG = Path("/etc/waystation/waystation.toml")
STORE = Path("/var/lib/waystation")
MIRROR = "http://127.0.0.1:4650"
ADMIN = "/run/waystation/admin.sock"
COULD_NOT_CONNECT = 7
"""Curl's exit status."""
DEVICES = {"fd", "full", "null", "random", "shm", "stderr", "stdout", "tty", "urandom", "zero"}


@dataclass
class Confined:
    """The running service and its bucket."""

    service: Supervisor
    bucket: Bucket
    trusting: ssl.SSLContext

    @property
    def pid(self) -> int:
        assert self.service.main
        return self.service.main.pid

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{MIRROR}/api/v1/status", timeout=30) as answer:  # noqa: S310
            shown: dict[str, Any] = json.loads(answer.read())
        return shown

    def fetch(self, target: str) -> bytes:
        with urllib.request.urlopen(f"{MIRROR}/artifacts/{target}", timeout=30) as answer:  # noqa: S310
            body: bytes = answer.read()
        return body

    def waystation(self, *arguments: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return subprocess.run(
            [*as_user, PREFIX / "bin/waystation", *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    def inside(self, script: str, *, user: str = "waystation") -> subprocess.CompletedProcess[str]:
        """Run a shell's words in the daemon's view of the filesystem."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "sh", "-c", script]
        enter = ["nsenter", "--mount", "--target", str(self.pid), *as_user]
        return subprocess.run(enter, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def confined(server: MinioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Confined]:
    bucket = server.create_bucket("artifacts")
    for target, body in BODIES.items():
        if target != NEW:
            bucket.put_vouched(target, body)
    reader = bucket.server.create_user(bucket.name, ["s3:ListBucket", "s3:GetObject", "s3:ListenBucketNotification"])
    reader.write(Path("/etc/waystation/credentials"))
    authority = trustme.CA()
    pair = issue(authority, CONFIG.parent, "localhost", called="tls")
    CONFIG.write_text(
        f'[origin]\nurl = "s3://{bucket.name}"\nendpoint_url = "{server.endpoint_url}"\nregion = "us-east-1"\n'
        'credentials_file = "%d/s3"\nnotifications = true\n[catalog]\nrefresh = "1s"\n'
        f'[mirror]\ntls_cert = "{pair.cert}"\ntls_key = "%d/tls-key"\n'
        '[store]\nmin_free = "0"\nscrub_interval = "100ms"\n[[prefetch]]\nmatch = "app/*"\n'
    )
    run("systemd-tmpfiles", "--create", UNITS / "tmpfiles.d/waystation.conf")
    filtered = allowed(Unit(UNITS / "waystation.service").all("Service", "SystemCallFilter"))
    folder = tmp_path_factory.mktemp("site")
    with Supervisor(UNITS, folder, syscalls=filtered, besides=("waystation-https",)) as service:
        service.start()
        yield Confined(service, bucket, trusting(authority))
        # Nothing that the tests did was more than the sandbox allows: the daemon is the first one still.
        assert (service.count("started"), service.count("ended")) == (1, 0), service.words()[-3000:]
        service.stop_for_good()
        assert service.count("ended", "0") == 1


def test_it_runs_as_its_user_without_a_right_and_with_the_filter_in_force(confined: Confined) -> None:
    status = Path(f"/proc/{confined.pid}/status").read_text()
    said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = Path("/var/lib/waystation").stat().st_uid
    assert {*said["Uid"].split()} == {str(uid)}
    assert uid != 0
    assert {said[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {""}
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("path", ["/etc/waystation/x", "/opt/x", "/usr/x", "/var/lib/x", "/proc/sys/kernel/hostname"])
def test_the_machine_is_read_only_to_it_even_where_it_had_the_right(confined: Confined, path: str) -> None:
    assert "Read-only file system" in confined.inside(f"echo > {path}", user="root").stderr


def test_it_can_write_its_store_and_a_temporary_folder_of_its_own_and_sees_no_homes(confined: Confined) -> None:
    name = f"waystation-test-{os.getpid()}"
    script = f"touch /var/lib/waystation/x && rm /var/lib/waystation/x && touch /tmp/{name}"
    assert confined.inside(script).returncode == 0
    assert not Path("/tmp", name).exists()  # noqa: S108 - which it has not
    assert not confined.inside("ls -A /root /home | grep -v :", user="root").stdout.strip()
    assert {*confined.inside("ls /dev").stdout.split()} == DEVICES


def test_the_keys_of_the_bucket_reach_it_and_nobody_else(confined: Confined) -> None:
    assert confined.inside("test -r /etc/waystation/credentials").returncode != 0
    look = ["grep", "-q", "aws_secret_access_key", "/run/credentials/waystation.service/s3"]
    assert confined.inside(" ".join(look)).returncode == 0
    assert subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", *look], check=False).returncode != 0
    assert confined.waystation("list").stdout.count("app/") == 2  # root's verbs read the daemon's copy


def test_it_fetches_serves_prefetches_what_is_new_and_pins_it(confined: Confined) -> None:
    assert confined.fetch(OTHER) == BODIES[OTHER]
    assert confined.fetch(OTHER) == BODIES[OTHER]
    confined.bucket.put_vouched(NEW, BODIES[NEW])
    digest = sha256(BODIES[NEW]).hexdigest()
    wait_until((STORE / f"blobs/sha256/{digest[:2]}/{digest}").exists, "what is new, prefetched")
    assert confined.fetch(NEW) == BODIES[NEW]


def test_it_speaks_tls_with_a_key_that_stays_root_s(confined: Confined) -> None:
    assert confined.inside("test -r /etc/waystation/tls-key.pem").returncode != 0
    url = f"https://localhost:4651/artifacts/{OTHER}"
    with urllib.request.urlopen(url, timeout=30, context=confined.trusting) as answer:
        assert answer.read() == BODIES[OTHER]


def test_the_scrub_sets_aside_what_rots_and_fetches_it_again(confined: Confined) -> None:
    digest = sha256(BODIES[OTHER]).hexdigest()
    blob = STORE / f"blobs/sha256/{digest[:2]}/{digest}"
    assert confined.fetch(OTHER) == BODIES[OTHER]
    wait_until(blob.exists, "the stored file")
    with blob.open("r+b") as file:
        file.write(b"rot")
    wait_until(lambda: not blob.exists() or blob.read_bytes()[:3] != b"rot", "the scrub's verdict")
    assert confined.fetch(OTHER) == BODIES[OTHER]
    confined.waystation("store", "verify", OTHER)
    assert confined.waystation("store", "evict", OTHER).returncode == 0


def test_it_takes_up_a_changed_configuration(confined: Confined) -> None:
    before = CONFIG.read_text()
    CONFIG.write_text(before.replace('refresh = "1s"', 'refresh = "2s"'))
    assert confined.service.reload() == 0
    wait_until(lambda: (confined.status()["reload"] or {}).get("taken_up") == ["catalog.refresh"], "the reload")
    CONFIG.write_text("[nonsense]\n")
    assert confined.service.reload() == 1
    CONFIG.write_text(before)


def test_the_admin_socket_lets_root_and_the_group_in_and_nobody_else(confined: Confined) -> None:
    asked = ("status", "--config", str(CONFIG), "--set", f"admin.socket={ADMIN}")
    assert confined.waystation(*asked).returncode == 0
    assert confined.waystation(*asked, user="waystation").returncode == 0
    curl = ["curl", "--silent", "--unix-socket", ADMIN, "http://waystation/status"]
    stranger = ["setpriv", "--reuid=65534", "--clear-groups", *curl]
    assert subprocess.run(stranger, capture_output=True, check=False).returncode == COULD_NOT_CONNECT
