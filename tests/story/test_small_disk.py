"""A real filesystem that is too small, filled by somebody else: passed through or refused, and well again by itself."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from chaos.disk import look
from peers.processes import wait_until
from peers.relay import Relay
from peers.station import Station, running_station, s3_config
from waystation.config import Settings
from waystation.publish.opening import open_publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.s3 import Bucket

MIB = 1024 * 1024
DISK_BYTES = 40 * MIB
SMALL, LARGE = random.Random(1).randbytes(10 * MIB), random.Random(2).randbytes(26 * MIB)
CROWD = [random.Random(seed).randbytes(5 * MIB + seed) for seed in range(10, 16)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own, in memory; only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "waystation-small", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"can't mount a small filesystem here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


class Intruder:
    """Another program on the same disk."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._file = disk / "somebody-else"
        self._file.touch()

    def take_all(self, *, but_bytes: int = 0) -> None:
        """Take what is free, as often as needed: others give back meanwhile."""
        with self._file.open("ab") as file:
            while (free := self.free_bytes - but_bytes) > 0:
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.tell(), free)
                file.seek(0, os.SEEK_END)

    def give_back(self) -> None:
        os.truncate(self._file, 0)

    @property
    def free_bytes(self) -> int:
        usage = os.statvfs(self._disk)
        return usage.f_bavail * usage.f_frsize


@contextmanager
def station_on(disk: Path, folder: Path, bucket: Bucket, relay: Relay | None = None) -> Iterator[Station]:
    config = s3_config(bucket, folder, endpoint_url=relay.endpoint_url if relay else None)
    config["store"] = {"path": str(disk / "store")}
    with running_station(folder / "d", config) as station:
        station.store = disk / "store"
        yield station


async def publish(bucket: Bucket, folder: Path, app: str, body: bytes) -> str:
    file = folder / f"bundle-{app}"
    file.write_bytes(body)
    async with open_publisher(Settings.model_validate(s3_config(bucket, folder))) as publisher:
        return (await publisher.publish(file, app=app, version="1", arch="x86_64")).target


def is_stored(station: Station, body: bytes) -> bool:
    return any(path.name == sha256(body).hexdigest() for path in station.blobs())


async def test_a_disk_filled_in_mid_flight_costs_nothing_that_is_stored_and_what_finds_no_room_is_passed_through(
    small_disk: Path, bucket: Bucket, tmp_path: Path
) -> None:
    small, large = [await publish(bucket, tmp_path, app, body) for app, body in (("small", SMALL), ("large", LARGE))]
    bucket.put_vouched("plain/plain-1-x86_64", LARGE[::-1])
    intruder = Intruder(small_disk)
    with Relay(bucket.server.port) as relay, station_on(small_disk, tmp_path, bucket, relay) as station:
        relay.limit(8 * MIB)
        with ThreadPoolExecutor() as clients:
            arriving = clients.submit(station.artifact, small)
            wait_until(lambda: station.metric("waystation_origin_bytes_total") > MIB, "bytes arrive")
            intruder.take_all()
            assert not arriving.done()
            answer = arriving.result()
        assert (answer.code, answer.body) == (200, SMALL)
        wait_until(lambda: is_stored(station, SMALL), "what had its room is stored")

        relay.limit(None)
        answer = station.artifact(large)
        assert (answer.code, answer.body) == (200, LARGE)
        assert station.metric("waystation_requests_total", cache="passed", code="200") == 1
        assert not is_stored(station, LARGE)
        part = station.artifact(large, headers={"Range": "bytes=5000000-5000099"})
        assert (part.code, part.body) == (206, LARGE[5_000_000:5_000_100])
        refused = station.artifact("plain/plain-1-x86_64")
        assert refused.code == 507
        assert b"no room" in refused.body

        assert is_stored(station, SMALL), "neither touches what is there"
        assert station.artifact(small).body == SMALL
        assert station.metric("waystation_evictions_total") == 0

        intruder.give_back()
        answer = station.artifact(large)
        assert (answer.code, answer.body) == (200, LARGE)
        wait_until(lambda: is_stored(station, LARGE), "it is stored now that there is room")
        assert is_stored(station, SMALL)


async def test_with_somebody_who_takes_and_gives_back_all_the_time_nothing_wrong_is_served_and_nothing_is_left(
    small_disk: Path, bucket: Bucket, tmp_path: Path
) -> None:
    bodies = {await publish(bucket, tmp_path, f"app{number}", body): body for number, body in enumerate(CROWD)}
    bucket.put_vouched("plain/plain-1-x86_64", SMALL)
    bodies["plain/plain-1-x86_64"] = SMALL  # without pieces
    intruder, over = Intruder(small_disk), threading.Event()

    def take_and_give() -> None:
        chance = random.Random(3)
        while not over.is_set():
            intruder.take_all(but_bytes=chance.choice((0, 1, 3, 8)) * MIB)
            time.sleep(chance.uniform(0, 0.05))  # what it does in between
            intruder.give_back()
            time.sleep(chance.uniform(0, 0.05))

    with station_on(small_disk, tmp_path, bucket) as station, ThreadPoolExecutor() as threads:
        taking = threads.submit(take_and_give)
        answers = [(target, threads.submit(station.artifact, target)) for _ in range(6) for target in bodies]
        try:
            for target, asked in answers:
                got = asked.result()
                assert got.code in {200, 507}
                assert got.code == 507 or got.body == bodies[target]
        finally:
            over.set()
        taking.result()
        intruder.give_back()
        for target, body in bodies.items():
            answer = station.artifact(target)
            assert (answer.code, answer.body) == (200, body)
        wait_until(lambda: is_stored(station, SMALL), "the last one is stored")
        assert station.metric("waystation_requests_total", code="500") == 0

        def accounted() -> bool:
            seen = look(station.store)
            return not seen.strange and seen.counted_bytes == station.metric("waystation_store_bytes")

        wait_until(accounted, "every byte is accounted for")
