"""A real Nomad, where there is one: `inside/` has the cases, this starts them in their namespaces."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
NAMESPACES = [
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation",
    "private",
]
"""Of processes too: a task of Nomad's outlives its agent, but not this."""


def missing() -> str | None:
    """What the machine lacks for these tests."""
    if shutil.which("nomad") is None:
        return "no nomad on PATH: the README says where to get it"
    if os.geteuid() != 0:
        return "Nomad's exec driver and namespaces need root"
    if shutil.which("nft") is None:
        return "nft is not on PATH (Debian: nftables)"
    tried = subprocess.run(
        [*NAMESPACES, "sh", "-c", "mount -t cgroup2 none /sys/fs/cgroup && nft list ruleset && ip link set lo up"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no namespaces with nftables and cgroup v2 here: {tried.stderr.strip()}"


pytestmark = pytest.mark.timeout(900)  # the first bundling installs PyInstaller


@pytest.fixture(scope="module")
def app() -> str:
    if lacking := missing():
        pytest.skip(lacking)
    return made_by(ROOT / "scripts" / "bundle-example")


def made_by(*command: str | Path) -> str:
    """What a program built: the path that it prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.strip()


def run_inside(*cases: str, **variables: str) -> None:
    inside = subprocess.run(
        [
            *NAMESPACES,
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--durations=0",
            *(TESTS / case for case in cases),
        ],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(inside.stdout)
    assert inside.returncode == 0, inside.stdout[-8000:] + inside.stderr[-2000:]
    assert " passed" in inside.stdout


def test_nomad_starts_jobs_through_the_mirror_and_without_it(app: str) -> None:
    run_inside(*(f"nomad/inside/{name}.py" for name in ("app", "names", "https", "builder")), PET_TAXI=app)


def test_nomad_starts_jobs_while_the_shipped_unit_s_daemon_stops_dies_and_hangs(app: str) -> None:
    if shutil.which("systemd-tmpfiles") is None:
        pytest.skip("systemd-tmpfiles is not on PATH (Debian: systemd)")
    run_inside("netns/real_nomad.py", PET_TAXI=app)


def test_the_daemon_is_a_job_of_nomad_s(app: str, tmp_path: Path) -> None:
    head = (ROOT / "nomad-jobs" / "waystation.nomad.hcl").read_text()
    (line,) = re.findall(r"#     waystation-builder run (.*)", head)
    builder = Path(sys.executable).with_name("waystation-builder")
    daemon = made_by(builder, "build", *shlex.split(line), "--output", tmp_path)
    run_inside("nomad/inside/daemon.py", PET_TAXI=app, BUNDLED_DAEMON=daemon)
