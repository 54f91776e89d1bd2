"""The go-getter command line, the library inside of Nomad's artifact stanza: fetches a URL as Nomad's client would."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from peers import provide
from peers.processes import Process, clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Fetched:
    """How one fetch ended."""

    exit_status: int
    output: str
    arrived: bool
    """Whether something is there, and has the sha256 that the URL names, where it names one."""

    @property
    def ok(self) -> bool:
        """Whether it fetched the file.

        Its exit status alone does not tell: where it fails at once, the command line (v1.8.10) looks at two channels
        that are both ready, and half of the time it takes the one that says success.
        """
        return self.exit_status == 0 and self.arrived


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
    exit_status = process.wait(timeout_s=timeout_s)
    return Fetched(exit_status, process.output(), _arrived(process.command))


def _arrived(command: Sequence[str]) -> bool:
    *_, url, destination = command
    file = Path(destination)
    if not file.exists() or not file.stat().st_size:  # it makes the file before it asks
        return False
    (checksum,) = parse_qs(urlsplit(url).query).get("checksum", ("",))
    kind, _, wanted = checksum.partition(":")
    if kind != "sha256":
        return True
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest() == wanted
