"""A machine of the tests' own: private /etc, /run, /var/lib and /opt, cgroup v2, a network with a bucket in it.

For tests that `tests/story` starts in namespaces of their own (``unshare --net --mount``): the program lies where the
units expect it, with the Python that runs these tests, and `waystation` is a user there, made from the shipped files.

machine         the machine; the units run there as they are
server          a MinIO on its loopback, which the clients don't know
bucket_address  where clients reach it, by a relay in front of it
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peers.minio import MinioServer, running_minio

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
CGROUPS = Path("/sys/fs/cgroup")
PREFIX = Path("/opt/waystation")
LAUNCHER = """\
#!/bin/sh
export PYTHONPATH={prefix}/site:{prefix}/daemon PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH={prefix}/python/lib
exec {python} -P -m waystation "$@"
"""


def run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


def bind(source: Path | str, place: Path) -> Path:
    place.mkdir(parents=True)
    run("mount", "--bind", source, place)
    return place


@pytest.fixture(scope="session")
def machine() -> None:
    for folder in ("/run", "/var/lib", "/opt"):
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", folder)
    shutil.copytree("/etc", "/run/etc", symlinks=True)
    run("mount", "--bind", "/run/etc", "/etc")
    run("mount", "-t", "cgroup2", "none", CGROUPS)
    run("ip", "link", "set", "lo", "up")
    python = bind(sys.base_prefix, PREFIX / "python") / "bin" / f"python3.{sys.version_info.minor}"
    bind(sysconfig.get_path("purelib"), PREFIX / "site")
    bind(ROOT / "daemon", PREFIX / "daemon")
    program = PREFIX / "bin" / "waystation"
    program.parent.mkdir()
    program.write_text(LAUNCHER.format(prefix=PREFIX, python=python))
    program.chmod(0o755)
    run("systemd-sysusers", UNITS / "sysusers.d/waystation.conf")
    run("systemd-tmpfiles", "--create", UNITS / "tmpfiles.d/waystation.conf")


@pytest.fixture(scope="session")
def server(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with running_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def nomad(machine: None) -> Iterator[str]:
    """The cgroup of the machine's Nomad; its name stands in the real hierarchy, only the mount is private."""
    cgroup = f"waystation-test-{secrets.token_hex(4)}.slice/nomad.service"
    (CGROUPS / cgroup).mkdir(parents=True)
    yield cgroup
    (CGROUPS / cgroup).rmdir()
    (CGROUPS / cgroup).parent.rmdir()
