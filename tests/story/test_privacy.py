"""A daemon that dies leaves no core dump: its memory and its environment may hold keys."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peers.s3 import Keys
from peers.station import Station, running_station, s3_config

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


def test_keys_and_token_of_a_session_are_told_nowhere_not_even_at_the_debug_level(
    bucket: Bucket, tmp_path: Path
) -> None:
    session = Keys(bucket.server.keys.access, bucket.server.keys.secret, token="a-token-" + "5e55" * 8)
    config = {**s3_config(bucket, tmp_path, keys=session), "log": {"level": "debug"}}
    with running_station(tmp_path / "station", config, ready=False) as station:  # searches its log and its title, ended
        refused = station.artifact("app/app-1-x86_64")
        assert (refused.code, refused.headers["Waystation-Reason"]) == (503, "origin_denied")
        told = [station.get(path).body.decode() for path in ("/readyz", "/api/v1/status", "/metrics")]
        for arguments in (
            ["status", "--json"],
            ["doctor", "--json"],
            ["list"],
        ):
            done = subprocess.run(  # searched as it is read
                [sys.executable, "-m", "waystation", *arguments, "--config", station.config_file],
                env=station.environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            told.append(done.stdout + done.stderr)
        assert all(told)
        assert any(line["level"] == "debug" for line in station.log_lines("admin_call"))
