"""Failing open, in network namespaces of its own: the files of `tests/netns` have the cases, this starts them there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = sorted((Path(__file__).parents[1] / "netns").glob("*.py"))
NAMESPACES = ["unshare", "--net", "--mount", "--propagation", "private"]


def missing() -> str | None:
    """What the machine lacks for these tests."""
    if os.geteuid() != 0:
        return "network and mount namespaces need root"
    if shutil.which("nft") is None:
        return "nft is not on PATH (Debian: nftables)"
    tried = subprocess.run(
        [*NAMESPACES, "sh", "-c", "mount -t cgroup2 none /sys/fs/cgroup && nft list ruleset && ip link set lo up"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no namespaces with nftables and cgroup v2 here: {tried.stderr.strip()}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cases", CASES, ids=lambda cases: cases.stem)
def test_the_bucket_s_own_address_is_answered_by_the_mirror_while_it_lives_and_by_the_bucket_when_not(
    cases: Path,
) -> None:
    if lacking := missing():
        pytest.skip(lacking)
    inside = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=0", str(cases)],
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(inside.stdout)
    assert inside.returncode == 0, inside.stdout[-8000:] + inside.stderr[-2000:]
    assert " passed" in inside.stdout
