"""The go-getter command line, the library inside of Nomad's artifact stanza: fetches a URL as Nomad's client would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peers import provide
from peers.processes import Process, clean_environment

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fetched:
    """How one fetch ended."""

    exit_status: int
    output: str

    @property
    def ok(self) -> bool:
        return self.exit_status == 0


def fetch(url: str, destination: Path, *, timeout_s: float = 120.0) -> Fetched:
    """Fetch one file and wait for it; `url` may carry go-getter's own ``?checksum=…``."""
    fetching = start(url, destination)
    try:
        return finish(fetching, timeout_s=timeout_s)
    finally:
        fetching.kill()


def start(url: str, destination: Path) -> Process:
    """Begin to fetch one file; `finish` waits for it. For many at once."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    process = Process(
        [provide.binary(provide.GO_GETTER), "-mode", "file", url, destination],
        log=destination.with_name(f"{destination.name}.log"),
        environment=clean_environment(destination.parent),
        folder=destination.parent,
    )
    process.start()
    return process


def finish(process: Process, *, timeout_s: float = 120.0) -> Fetched:
    return Fetched(process.wait(timeout_s=timeout_s), process.output())
