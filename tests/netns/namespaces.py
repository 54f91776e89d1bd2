"""Starts cases in a network and a mount namespace of their own, where they may be root over both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ENTER = ("unshare", "--net", "--mount", "--propagation", "private")
_TRY = "mount -t cgroup2 none /sys/fs/cgroup && nft list ruleset && ip link set lo up"


def run_cases(*names: str, programs: tuple[str, ...] = ()) -> None:
    """Run these files of this folder in there, and show what they print; skip, in words, where that can't be had."""
    if lacking := _missing(("nft", *programs)):
        pytest.skip(lacking)
    cases = [str(Path(__file__).with_name(name)) for name in names]
    inside = subprocess.run(
        [*ENTER, sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider", "--durations=0", *cases],
        capture_output=True,
        text=True,
        check=False,
    )
    sys.stdout.write(inside.stdout)
    assert inside.returncode == 0, inside.stdout[-8000:] + inside.stderr[-2000:]
    assert " passed" in inside.stdout


def _missing(programs: tuple[str, ...]) -> str | None:
    """What the machine lacks."""
    if os.geteuid() != 0:
        return "network and mount namespaces need root"
    if absent := [program for program in programs if shutil.which(program) is None]:
        return f"{', '.join(absent)}: not on PATH (Debian: nftables, systemd, curl)"
    tried = subprocess.run([*ENTER, "sh", "-c", _TRY], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no namespaces with nftables and cgroup v2 here: {tried.stderr.strip()}"
