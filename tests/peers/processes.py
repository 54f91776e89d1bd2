"""Child processes of the tests: started, ready by probe, stopped, and killed by the kernel if the tests are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from secrecy import is_ours, search, search_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

LEASH = Path(__file__).with_name("leash.py")
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR", "VIRTUAL_ENV")


class PeerFailed(Exception):
    """A peer did not start, or did not answer in time; the message ends with its own last words."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Only what every program needs, and `variables`: nothing of the developer's own setup reaches a peer."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "HOME": str(home), **variables}


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
    """Ask until the condition holds.

    Raises:
        PeerFailed: it does not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise PeerFailed(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


class Process:
    """One command, started as often as wanted; leaving the ``with`` block kills it.

    Start it from the main thread: the kernel ties a child to the thread that started it.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self.environment = environment
        self.folder = folder
        self.pass_fds = pass_fds
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the command; what it writes is added to the log."""
        if self.running:
            raise PeerFailed(f"{self.command[0]} is running already")
        if threading.current_thread() is not threading.main_thread():
            raise PeerFailed("start processes from the main thread, or they die with the thread that started them")
        leashed = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.command]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                leashed,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment) if self.environment is not None else None,
                cwd=self.folder,
                start_new_session=True,
                pass_fds=self.pass_fds,
            )

    def wait_ready(self, probe: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
        """Wait until the probe holds.

        Raises:
            PeerFailed: the process ended, or the time is over.
        """

        def ready() -> bool:
            if not self.running:
                raise PeerFailed(
                    f"{self.command[0]} ended with {self.exit_status} while starting:\n{self.last_words()}"
                )
            return probe()

        try:
            wait_until(ready, f"{self.command[0]} is ready", timeout_s=timeout_s)
        except PeerFailed:
            self.kill()
            raise

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise PeerFailed(f"{self.command[0]} was never started")
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def output(self) -> str:
        """Everything that it wrote so far, over all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def last_words(self, lines: int = 30) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def wait(self, *, timeout_s: float = 30.0) -> int:
        """Wait for its end and return its exit status (negative: the signal that killed it)."""
        if self._child is None:
            raise PeerFailed(f"{self.command[0]} was never started")
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"{self.command[0]} still runs after {timeout_s:g} s:\n{self.last_words()}") from None

    def stop(self, *, timeout_s: float = 30.0) -> int:
        """SIGTERM, and wait for its end."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s=timeout_s)

    def kill(self) -> None:
        """SIGKILL to it and to all that it started."""
        if self._child is None:
            return
        if self.running:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if is_ours(self.command) and self._child is not None:
                search_process(self._child.pid)
        finally:
            self.kill()
        if is_ours(self.command):
            search(self.output(), str(self.log))
