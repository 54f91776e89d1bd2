"""A machine's clock that jumps while the daemon runs: an hour or a year, forward or back (libfaketime, a real process).

What is not the clock's business goes on as before: who waits, what is evicted, what counts as verified, what is new.
"""

from __future__ import annotations

import glob
import hashlib
import http.client
import random
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peers.processes import wait_until
from peers.station import Station, s3_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.s3 import Bucket

LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
SHARED = Path("/dev/shm")  # noqa: S108 - the library's own place
JUMPS = {"an hour on": 3600, "an hour back": -3600, "a year on": 365 * 86400, "a year back": -365 * 86400}
MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian: faketime)")


class Clock:
    """What the daemon takes for the time: this machine's, and so many seconds."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.jump(0)

    def jump(self, offset_s: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}")
        new.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until it looks at the file again
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as in the kernel: a clock that is set leaves it alone
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # its fix for old C libraries spoils the waits of threads
            "NO_FAKE_STAT": "1",  # files carry the kernel's time
        }


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    before = set(SHARED.glob("*faketime*"))
    yield Clock(tmp_path)
    for left in set(SHARED.glob("*faketime*")) - before:  # of daemons that were killed
        left.unlink(missing_ok=True)


def put(folder: Path, target: str, body: bytes) -> None:
    """As a publisher leaves it in a folder; the checksum announces it."""
    path = folder / target
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(body).hexdigest()}  {path.name}\n")


def ahead_s(station: Station) -> float:
    """How far the daemon's clock is ahead of this process's."""
    return parsedate_to_datetime(station.get("/healthz").headers["Date"]).timestamp() - time.time()


def is_stored(station: Station, body: bytes) -> bool:
    digest = hashlib.sha256(body).hexdigest()
    return (station.store / "blobs/sha256" / digest[:2] / digest).exists()


@pytest.mark.parametrize("jump_s", JUMPS.values(), ids=JUMPS)
def test_what_is_stored_stays_what_is_new_comes_and_who_waits_is_served(
    clock: Clock, jump_s: int, tmp_path: Path
) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    first, second = "app/app-1-x86_64", "app/app-2-x86_64"
    kept, oldest, late, last = (f"{app}/{app}-1-x86_64" for app in ("kept", "old", "late", "last"))
    bodies = {name: random.Random(name).randbytes(3 * MIB) for name in (first, second, kept, oldest, late, last)}
    for name in (first, kept, oldest):
        put(bucket, name, bodies[name])
    station = Station(
        tmp_path / "station",
        {
            "origin": {"url": bucket.as_uri()},
            "catalog": {"refresh": "1s"},
            "store": {"max_size": "16MiB"},
            "prefetch": [{"match": "app/*", "newest": 1}],
        },
    )
    station.environment.update(clock.environment)
    with station.process:
        station.start()
        wait_until(lambda: is_stored(station, bodies[first]), "it is prefetched")
        for name in (kept, oldest):
            assert station.artifact(name).body == bodies[name]

        waiting = http.client.HTTPConnection("127.0.0.1", station.port, timeout=30)
        waiting.request("GET", f"/artifacts/{oldest}")
        answer = waiting.getresponse()
        begun = answer.read(MIB)
        clock.jump(jump_s)
        wait_until(lambda: abs(ahead_s(station) - jump_s) < 60, "the daemon's clock has jumped")
        assert begun + answer.read() == bodies[oldest]
        waiting.close()

        for name in (first, kept):
            assert station.artifact(name).body == bodies[name]
        wait_until(lambda: station.metric("waystation_store_blobs") == 3, "all three are stored")
        assert station.metric("waystation_requests_total", cache="hit") == 3
        put(bucket, late, bodies[late])
        assert station.artifact(late).body == bodies[late], "what nobody has asked for is found and fetched"
        put(bucket, second, bodies[second])
        wait_until(lambda: is_stored(station, bodies[second]), "the new version is prefetched")
        assert station.metric("waystation_evictions_total") == 0
        put(bucket, last, bodies[last])
        assert station.artifact(last).body == bodies[last]
        wait_until(lambda: not is_stored(station, bodies[oldest]), "what was used least recently made room")
        assert is_stored(station, bodies[kept]), "what was used since the jump is newer than what was used before it"

        clock.jump(0)
        wait_until(lambda: abs(ahead_s(station)) < 60, "the clock is right again")
        for name in (kept, late, second):
            assert station.artifact(name).body == bodies[name]
        assert station.stop() == 0
        clock.jump(jump_s)
        station.start()
        for name in (kept, late, second):
            assert station.artifact(name).body == bodies[name]
        assert station.metric("waystation_requests_total", cache="miss") == 0
        assert station.metric("waystation_verification_failures_total") == 0
        assert not [line for line in station.log_lines() if line["level"] in ("warning", "error")]


@pytest.mark.parametrize("jump_s", JUMPS.values(), ids=JUMPS)
def test_an_origin_that_refuses_the_time_is_told_by_name_and_what_is_cached_is_served(
    clock: Clock, jump_s: int, bucket: Bucket, tmp_path: Path
) -> None:
    known, new = "app/app-1-x86_64", "app/app-2-x86_64"
    body = random.Random(3).randbytes(MIB)
    bucket.put_vouched(known, body)
    station = Station(tmp_path / "station", s3_config(bucket, tmp_path) | {"catalog": {"refresh": "0s"}})
    station.environment.update(clock.environment)
    with station.process:
        station.start()
        assert station.artifact(known).body == body
        bucket.put_vouched(new, body[::-1])
        clock.jump(jump_s)
        wait_until(lambda: abs(ahead_s(station) - jump_s) < 60, "the daemon's clock has jumped")
        assert station.artifact(known).body == body
        refused = station.artifact(new)
        assert (refused.code, "Retry-After" in refused.headers) == (503, True)
        assert b"Set this machine's clock" in refused.body
        side = "ahead of" if jump_s > 0 else "behind"
        said = f"this machine's clock is {abs(jump_s) // 60} min {side} the origin's"
        wait_until(lambda: said in station.process.output(), "the log says why")
        assert station.metric("waystation_requests_total", code="503", reason="origin_denied") == 1
        clock.jump(0)
        wait_until(lambda: station.artifact(new).body == body[::-1], "the origin takes the time again")
