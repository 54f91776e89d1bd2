"""Measures how long a real Nomad takes from `nomad job run` to a started task, and writes that section of the page.

Run it by `scripts/bench --nomad`, as root, with a nomad on PATH. The task's executable is the artifact, 300 MB; the
origin gives 125 MB/s over all connections together.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.report import as_markdown, as_text, number
from bench.results import Quantity, Results
from peers.minio import running_minio
from peers.nomad import PROGRAM, Nomad, running_nomad
from peers.processes import wait_until
from peers.relay import Relay
from peers.station import Station, s3_config, to_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers.station import Config

MB = 1000 * 1000
SIZE_BYTES = 300 * MB
LINK_BYTES_PER_S = 125 * MB
TARGET = "bench/bench-1-x86_64"
JOB = Path(__file__).with_name("nomad.hcl")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
HEADING = "## From `nomad job run` to started"
DIRECT, COLD, PREFETCHED = "straight from MinIO", "through a cold mirror", "prefetched"

TO_STARTED = Quantity("from `nomad job run` to started", "s", digits=2)
DOWNLOAD = Quantity("of it the download", "s", digits=2)

METHOD = """\
Measured by `scripts/bench --nomad`: {rounds} rounds, each of which takes every way once and begins with another one. \
A task of the `exec` driver whose executable is the artifact: 300 MB, with a checksum in its stanza; the origin gives \
125 MB/s, one token bucket over all connections. Server, client, MinIO, relay and mirror share one machine, and Nomad \
hashes what it got in each way. The clock runs from the call of `nomad job run` to the event "Task started by client"; \
the download is what passes between that and "Client is downloading artifacts". Each allocation is a new one. "Cold" \
is a mirror with an empty store, "prefetched" one that has the artifact, as it has \
for every allocation behind the first.
"""


class Scene:
    """MinIO behind the relay, with the artifact published; an agent; a daemon's folder for each measure."""

    def __init__(self, folder: Path, nomad: Nomad, relay: Relay, executable: Path) -> None:
        self.folder = folder
        self.nomad = nomad
        self.relay = relay
        self.sha256 = hashlib.sha256(executable.read_bytes()).hexdigest()

    def measure(self, source: str, way: str, results: Results) -> None:
        """Start the task once."""
        began = time.time()
        self.nomad.run(JOB, source=source, sha256=self.sha256)
        self.nomad.wait_running("bench", timeout_s=120)
        happened = self.nomad.moments("bench")
        results.record(TO_STARTED, way, happened["Started"] - began)
        results.record(DOWNLOAD, way, happened["Started"] - happened["Downloading Artifacts"])
        self.nomad.stop("bench")


def measure(rounds: int, say: Callable[[str], None]) -> int:
    """Measure and write; 2: something is missing here."""
    if PROGRAM is None or os.geteuid() != 0:
        say("--nomad needs root and a nomad on PATH (the README says where to get it)")
        return 2
    results, load = Results(), os.getloadavg()[0]
    with prepared(say) as (scene, config):
        ways: list[tuple[str, Callable[[Path], None]]] = [
            (DIRECT, lambda _: scene.measure(f"{scene.relay.endpoint_url}/bench/{TARGET}", DIRECT, results)),
            (COLD, lambda folder: _through_mirror(scene, Station(folder, config), COLD, results)),
            (PREFETCHED, lambda folder: _through_mirror(scene, Station(folder, config), PREFETCHED, results)),
        ]
        for turn in range(rounds):
            for way, take in ways[turn % 3 :] + ways[: turn % 3]:
                folder = scene.folder / "station"
                take(folder)
                shutil.rmtree(folder, ignore_errors=True)
                say(f"round {turn + 1} of {rounds}: {way}, {results.values(TO_STARTED, way)[-1]:.2f} s")
        where = machine.describe(scene.folder)
    table = [["", "median", "smallest", "largest", "values"]]
    for way in (DIRECT, COLD, PREFETCHED):
        for quantity in (TO_STARTED, DOWNLOAD):
            values = results.values(quantity, way)
            shown = [number(value, quantity) for value in (results.median(quantity, way), min(values), max(values))]
            table.append([f"{way}: {quantity.title}", *shown, str(len(values))])
    print(as_text(table))
    date = datetime.now(UTC).date().isoformat()
    facts = dict(where)
    known = ("machine", "kernel", "Waystation", "MinIO")
    setting = "; ".join(
        [
            date,
            *(f"{name} {facts[name]}" for name in known),
            f"Nomad {_version()}",
            f"load average before it {load:.1f}",
        ]
    )
    PAGE.write_text(
        with_section(PAGE.read_text(), f"{METHOD.format(rounds=rounds)}\n{setting}.\n\n{as_markdown(table)}")
    )
    say("wrote docs/benchmarks.md")
    return 0


def with_section(page: str, section: str) -> str:
    """The page with its last section replaced."""
    return f"{page.partition(HEADING)[0].rstrip()}\n\n{HEADING}\n\n{section}\n"


def section_of(page: str) -> str:
    """The page's last section, with its heading; empty where there is none."""
    _, heading, section = page.partition(HEADING)
    return f"\n{heading}{section}" if heading else ""


def _through_mirror(scene: Scene, station: Station, way: str, results: Results) -> None:
    with station.process:
        station.start()
        if way == PREFETCHED:
            _waystation(station, "prefetch", TARGET)
            wait_until(lambda: station.metric("waystation_store_blobs") == 1, "it is stored", timeout_s=120)
        scene.measure(f"{station.url}/artifacts/{TARGET}", way, results)


@contextmanager
def prepared(say: Callable[[str], None]) -> Iterator[tuple[Scene, Config]]:
    """Everything started and published; at the end all of it is stopped and the folder is gone."""
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="waystation-bench-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        minio = ending.enter_context(running_minio(folder / "minio"))
        bucket = minio.create_bucket("bench")
        bucket.make_public()
        relay = ending.enter_context(Relay(minio.port))
        say(f"publishing an executable of {SIZE_BYTES // MB} MB")
        sleep = Path(shutil.which("sleep") or "/bin/sleep")
        executable = folder / "executable"
        with executable.open("wb") as out:
            out.write(sleep.read_bytes())
            for at in range(out.tell(), SIZE_BYTES, MB):
                out.write(os.urandom(min(MB, SIZE_BYTES - at)))
        publisher = Station(folder / "publisher", s3_config(bucket, folder / "publisher"))
        publisher.config_file.write_text(to_toml(publisher.config))
        _waystation(publisher, "publish", str(executable), "--app", "bench", "--version", "1", "--arch", "x86_64")
        relay.limit(LINK_BYTES_PER_S)
        nomad = ending.enter_context(running_nomad(folder / "nomad", [sleep]))
        yield Scene(folder, nomad, relay, executable), s3_config(bucket, folder, endpoint_url=relay.endpoint_url)


def _waystation(station: Station, *arguments: str) -> None:
    command = [sys.executable, "-m", "waystation", *arguments, "--config", str(station.config_file)]
    subprocess.run(command, env=station.environment, capture_output=True, timeout=300, check=True)


def _version() -> str:
    told = subprocess.run([str(PROGRAM), "version"], capture_output=True, text=True, check=True).stdout
    return told.split()[1].lstrip("v")
