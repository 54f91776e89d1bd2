"""As much of a service manager as a daemon meets: a socket that it opened, and ears for what the daemon tells."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from peers.processes import LEASH, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.station import Station

ACTIVATED = Path(__file__).with_name("activated.py")
FORKED = Path(__file__).with_name("forked.py")
_END = b"END"


class Ears:
    """What was told on NOTIFY_SOCKET: each datagram with the time at which it came, on the monotonic clock."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[tuple[float, tuple[str, ...]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(_name(address))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def count(self, assignment: str) -> int:
        return sum(assignment in said for _, said in tuple(self.heard))

    def last(self, variable: str) -> str | None:
        """The value that was told last."""
        said = [one for _, told in tuple(self.heard) for one in told if one.startswith(f"{variable}=")]
        return said[-1].partition("=")[2] if said else None

    def wait_for(self, assignment: str, *, count: int = 1, timeout_s: float = 30.0) -> float:
        """Wait until this was told so often, and say when that was."""
        wait_until(lambda: self.count(assignment) >= count, f"{assignment} for the {count}. time", timeout_s=timeout_s)
        return [at for at, said in tuple(self.heard) if assignment in said][count - 1]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(_END, _name(self.address))
        self._thread.join(10)
        self._socket.close()

    def _listen(self) -> None:
        while (datagram := self._socket.recv(65536)) != _END:
            self.heard.append((time.monotonic(), tuple(datagram.decode().split("\n"))))


@contextmanager
def listening(station: Station, *, abstract: bool = False, watchdog_s: float | None = None) -> Iterator[Ears]:
    """Listen to what this daemon tells, from its next start on."""
    address = f"@waystation-test-{os.getpid()}-{station.port}" if abstract else str(station.folder / "notify")
    ears = Ears(address)
    station.environment["NOTIFY_SOCKET"] = address
    if watchdog_s is not None:
        station.environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
    try:
        yield ears
    finally:
        ears.close()


@contextmanager
def activating(station: Station) -> Iterator[socket.socket]:
    """Open the daemon's socket in its place and pass it on at each start; it stays open between them."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", station.port))
        listener.listen(4096)
        station.process.pass_fds = (listener.fileno(),)
        prefix = [sys.executable, "-I", "-S", str(ACTIVATED), f"waystation.socket:{listener.fileno()}"]
        station.process.command[:0] = prefix
        yield listener


@contextmanager
def forking(station: Station) -> Iterator[Restarts]:
    """Hold the daemon's socket and start it as often as wanted, without the seconds that its imports take."""
    with socket.create_server(("127.0.0.1", station.port), backlog=4096) as listener:
        restarts = Restarts(station, listener)
        try:
            yield restarts
        finally:
            restarts.close()


class Restarts:
    """One daemon after the other on one socket."""

    def __init__(self, station: Station, listener: socket.socket) -> None:
        # Neither 3, which the daemon gets, nor a descriptor that a child has by chance.
        held = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD_CLOEXEC, 20)
        command = [sys.executable, str(FORKED), str(held), "serve", "--config", str(station.config_file)]
        with station.process.log.open("ab") as log:
            self._parent = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=station.environment,
                text=True,
                bufsize=1,
                start_new_session=True,
                pass_fds=(held,),
            )
        os.close(held)
        self._pid = 0

    def start(self) -> None:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write("start\n")
        self._pid = int(self._parent.stdout.readline())

    def stop(self) -> int:
        """SIGTERM, and wait for its end; gives its exit status."""
        assert self._parent.stdout
        os.kill(self._pid, signal.SIGTERM)
        return int(self._parent.stdout.readline())

    def close(self) -> None:
        os.killpg(self._parent.pid, signal.SIGKILL)
        self._parent.wait(10)
        for pipe in (self._parent.stdin, self._parent.stdout):
            if pipe:
                pipe.close()


def _name(address: str) -> str:
    return "\0" + address[1:] if address.startswith("@") else address
