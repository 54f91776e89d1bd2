"""A daemon that dies leaves no core dump: its memory and its environment may hold keys."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peers.station import Station, s3_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.s3 import Bucket

DUMPABLE = "import ctypes; print(ctypes.CDLL(None).prctl(3))"  # PR_GET_DUMPABLE


@pytest.fixture
def dumps_allowed() -> Iterator[None]:
    """For what this test starts; the limit of a container may be lower, and then it is that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("dumps_allowed")
def test_a_daemon_that_is_aborted_leaves_no_core_and_shows_its_keys_nowhere(bucket: Bucket, tmp_path: Path) -> None:
    station = Station(tmp_path / "station", s3_config(bucket, tmp_path))
    with station.process:
        station.start()
        limits = Path(f"/proc/{station.process.pid}/limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]
        station.process.signal(signal.SIGABRT)
        assert station.process.wait() == -signal.SIGABRT
        left = {path.name for path in station.folder.iterdir()}
        assert not {name for name in left if name.startswith("core")}


def test_nobody_of_its_own_user_may_look_into_it() -> None:
    forbid = "from waystation.systemd.privacy import keep_memory_private as f; f(); "
    for code, expected in (("", "1"), (forbid, "0")):
        told = subprocess.run([sys.executable, "-c", code + DUMPABLE], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == expected
