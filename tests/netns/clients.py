"""Clients that ask for one file again and again, as Nomad's getter does: what they got, and how long they went without.

A client is a shell that moves into a cgroup and then becomes curl or go-getter.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

from peers import provide
from peers.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60
PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt."""

    began: float
    ended: float
    whole: bool
    how: str
    """``mirror``, ``bucket``, ``getter``, or what the client says went wrong."""


@dataclass
class Client:
    """Asks until it is told to stop; without `cgroup` it stays where the tests are."""

    name: str
    url: str
    digest: str
    file: Path
    cgroup: Path | None = None
    getter: bool = False
    asked: list[Asked] = field(default_factory=list)

    def ask(self) -> Asked:
        self.file.unlink(missing_ok=True)
        join = f"echo $$ > {self.cgroup}/cgroup.procs && " if self.cgroup else ""
        began = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", f"{join}exec {self._command}"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        whole = self.file.exists() and sha256(self.file.read_bytes()).hexdigest() == self.digest
        if whole and done.returncode == 0:
            how = "getter" if self.getter else "mirror" if "sha-256" in done.stdout else "bucket"
        else:
            how = done.stderr.strip().replace("\n", " ")[-160:] or f"ended with {done.returncode}"
        asked = Asked(began, time.monotonic(), whole and done.returncode == 0, how)
        self.asked.append(asked)
        return asked

    @property
    def _command(self) -> str:
        if self.getter:
            checked = f"{self.url}?checksum=sha256:{self.digest}"
            return f"{provide.binary(provide.GO_GETTER)} -mode file '{checked}' {self.file} < /dev/null"
        return (
            f"curl --silent --show-error --fail --max-time {PATIENCE_S - 5} --output {self.file}"
            f" --write-out '%header{{repr-digest}}' {self.url}"
        )

    def successes(self) -> list[Asked]:
        return [asked for asked in tuple(self.asked) if asked.whole]

    @property
    def gap_s(self) -> float:
        """The longest time between one whole file and the next."""
        return max((after.ended - before.ended for before, after in pairwise(self.successes())), default=0.0)

    @property
    def failures(self) -> list[str]:
        return [asked.how for asked in self.asked if not asked.whole]


@contextmanager
def asking(clients: list[Client], event: str) -> Iterator[None]:
    """They ask from before the block until each has had an answer behind it; what they saw is printed."""
    over = threading.Event()

    def ask_on(client: Client) -> None:
        while not over.is_set():
            client.ask()
            over.wait(PAUSE_S)

    threads = [threading.Thread(target=ask_on, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(client.successes() for client in clients), "a first file for each client")
        yield
        behind = time.monotonic()
        wait_until(
            lambda: all(client.asked[-1].began > behind for client in clients), "an attempt of each behind the event"
        )
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        for client in clients:
            ways = sorted({asked.how for asked in client.successes()})
            sys.stdout.write(
                f"{event}: {client.name} asked {len(client.asked)} times, served by {' and '.join(ways)};"
                f" longest gap {client.gap_s:.2f} s; {len(client.failures)} failed {client.failures[:2]}\n"
            )
