"""A real Nomad, where there is one: `inside/` has the cases, this starts them in their namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = [Path(__file__).parent / "inside" / file for file in ("app.py", "names.py")]
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


@pytest.mark.timeout(900)  # the first bundling installs PyInstaller
def test_nomad_starts_jobs_through_the_mirror_and_without_it() -> None:
    if lacking := missing():
        pytest.skip(lacking)
    made = subprocess.run([ROOT / "scripts/bundle-example"], check=True, stdout=subprocess.PIPE, text=True)
    inside = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=0", *CASES],
        env={**os.environ, "PET_TAXI": made.stdout.strip()},
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(inside.stdout)
    assert inside.returncode == 0, inside.stdout[-8000:] + inside.stderr[-2000:]
    assert " passed" in inside.stdout
