"""The stand-in for systemd does what systemd's manual says, with services that are a few words of shell."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from peers.processes import free_port, is_listening, wait_until
from peers.supervisor import Supervisor
from peers.units import command, seconds

if TYPE_CHECKING:
    from pathlib import Path

READY = "import os,socket,sys,time; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); n=os.environ['NOTIFY_SOCKET']"
TELL = "s.sendto(b'READY=1',n)"


def service(folder: Path, python: str, *lines: str) -> Supervisor:
    """A service whose main process is these words of Python, with a socket on a free port."""
    port = free_port()
    (folder / "unit.socket").write_text(f"[Socket]\nListenStream=127.0.0.1:{port}\n")
    text = f'[Service]\nType=notify\nExecStart=python3 -c "{READY}; {python}"\n' + "\n".join(lines) + "\n"
    (folder / "unit.service").write_text(text)
    return Supervisor(folder, folder, name="unit", runtime=folder / "run", state=folder / "lib")


def happened(supervisor: Supervisor) -> list[str]:
    return [event.what for event in supervisor.events if event.what != "socket"]


LINES = ("ExecStartPost=sh -c 'exit 0'", "ExecStop=sh -c 'exit 0'", "ExecStopPost=sh -c 'exit 0'")


def test_a_service_is_started_and_stopped_in_systemd_s_order(tmp_path: Path) -> None:
    with service(tmp_path, f"{TELL}; time.sleep(60)", *LINES) as unit:
        unit.start()
        unit.stop_for_good()
        order = [
            "started",
            "ready",
            "ExecStartPost",
            "running",
            "ExecStop",
            "signal",
            "ended",
            "ExecStopPost",
            "stopped",
        ]
        assert happened(unit) == order


def test_one_that_fails_is_started_again_until_the_limit_and_takes_its_socket_along(tmp_path: Path) -> None:
    lines = (*LINES, "Restart=always", "RestartSec=10ms", "[Unit]", "StartLimitBurst=3", "StartLimitIntervalSec=60")
    with service(tmp_path, "sys.exit(3)", *lines) as unit:
        with pytest.raises(Exception, match="start-limit-hit"):
            unit.start(timeout_s=5)
        assert happened(unit) == [*["started", "ended", "ExecStopPost"] * 3, "failed"]
        port = int(unit.socket.last("Socket", "ListenStream").rpartition(":")[2])
        assert not is_listening(port)


def test_one_that_hangs_is_aborted_by_the_watchdog_even_if_it_is_stopped_and_killed_if_that_does_not_end_it(
    tmp_path: Path,
) -> None:
    deaf = f"import signal; signal.signal(6, signal.SIG_IGN); {TELL}; time.sleep(60)"
    with service(tmp_path, deaf, "WatchdogSec=200ms", "TimeoutAbortSec=200ms", *LINES) as unit:
        unit.start()
        unit.kill(signal.SIGSTOP)
        unit.wait_for("ExecStopPost")
        assert [event.detail for event in unit.events if event.what == "signal"] == ["SIGABRT", "SIGKILL"]
        assert "ExecStop" not in happened(unit)


def test_of_a_stopped_service_a_connection_starts_the_next_one(tmp_path: Path) -> None:
    with service(tmp_path, f"{TELL}; time.sleep(60)") as unit:
        unit.start()
        unit.stop()
        host, _, port = unit.socket.last("Socket", "ListenStream").rpartition(":")
        with socket.create_connection((host, int(port))):
            wait_until(lambda: unit.count("running") == 2, "the next one")


@pytest.mark.parametrize("line", ["@sh sh", "sh -c a ; sh", "echo %t", "!sh"])
def test_a_line_that_it_could_only_run_wrongly_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="does not know"):
        command(line)


def test_time_spans_are_read_as_systemd_reads_them() -> None:
    assert [seconds(span) for span in ("5", "200ms", "1min 30s", "2h")] == [5, 0.2, 90, 7200]
