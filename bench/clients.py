"""The clients, the same for every server: go-getter with checksum, curl, wrk, and a reader that compares each byte."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.reader import Arrival
from peers import provide
from peers.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLIENT_TIMEOUT_S = 300.0


class ClientFailed(Exception):
    """A client did not get what it must; nothing that it measured counts."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was published, as it lies here and as it must arrive."""

    target: str
    file: Path
    sha256: str

    @property
    def size_bytes(self) -> int:
        return self.file.stat().st_size


class Clients:
    """Runs clients in `folder`, one after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = folder / "fetched"

    def go_getter(self, url: str, artifact: Artifact) -> float:
        """Fetch with checksum, as Nomad does; return the seconds it took."""
        program = provide.binary(provide.GO_GETTER)
        checked = f"{url}?checksum=sha256:{artifact.sha256}"
        try:
            took_s, _ = self._run([str(program), "-mode", "file", checked, str(self._output)])
            if self._output.stat().st_size != artifact.size_bytes:
                raise ClientFailed(f"go-getter left {self._output.stat().st_size} bytes of {url}")
        finally:
            self._output.unlink(missing_ok=True)  # it would go on where it ended
        return took_s

    def curl(self, url: str, artifact: Artifact) -> float:
        """Fetch and drop the bytes; return bytes a second by curl's own clock."""
        shown = "%{http_code} %{size_download} %{time_total}"
        _, said = self._run(["curl", "--silent", "--fail", "--output", "/dev/null", "--write-out", shown, url])
        code, size, seconds = said.split()
        if code != "200" or int(size) != artifact.size_bytes:
            raise ClientFailed(f"curl: {url}: {said}")
        return artifact.size_bytes / float(seconds)

    def wrk(self, url: str, *, connections: int, seconds: int) -> float:
        """Ask again and again; return answers a second."""
        _, said = self._run(["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", url])
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        if not rate or "Non-2xx" in said or "Socket errors" in said:
            raise ClientFailed(f"wrk: {url}: {said}")
        return float(rate[1])

    def readers(self, url: str, artifact: Artifact, count: int = 1) -> list[Arrival]:
        """Fetch `count` times at once, comparing every byte."""
        _, said = self._run([sys.executable, "-m", "bench.reader", url, str(artifact.file), str(count)])
        return [Arrival(**arrival) for arrival in json.loads(said)]

    def _run(self, command: Sequence[str]) -> tuple[float, str]:
        """Run it to its end; return the seconds that took, and what it printed.

        Raises:
            ClientFailed: it failed, or did not end.
        """
        environment = clean_environment(self._folder, PYTHONPATH=":".join(sys.path))
        started = time.perf_counter()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        ) as client:
            # not communicate(timeout): it looks only every 50 ms whether the client has ended
            watchdog = threading.Timer(CLIENT_TIMEOUT_S, client.kill)
            watchdog.start()
            try:
                said = client.communicate()[0]
                took_s = time.perf_counter() - started
            finally:
                watchdog.cancel()
                client.kill()
        if client.returncode:
            raise ClientFailed(f"{command[0]} ended with {client.returncode}:\n{said[-2000:]}")
        return took_s, said
