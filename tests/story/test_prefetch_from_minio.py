"""Prefetching by the daemon itself, from a real MinIO: what is published is here before a job asks for it."""

from __future__ import annotations

import json
import platform
import random
import subprocess
import sys
import time
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from peers.minio import running_minio
from peers.processes import wait_until
from peers.provide import MINIO_THAT_TELLS
from peers.relay import Relay
from peers.station import Station, running_station, s3_config
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.minio import MinioServer
    from peers.s3 import Bucket

MIB = 1024 * 1024
ARCH = platform.machine()
OTHER_ARCH = "riscv64"
REFRESH_S = 2.0
"""How often these daemons look for what is new."""


def name(version: str, arch: str = ARCH, app: str = "app") -> str:
    return f"{app}/{app}-{version}-{arch}"


def publish(bucket: Bucket, target: str, size_bytes: int = 2 * MIB) -> str:
    """As `waystation publish` does it: the bytes, their pieces, and at last the announcement."""
    data = random.Random(target).randbytes(size_bytes)
    hasher = TreeHasher(size_bytes)
    hasher.update(data)
    tree, layer = hasher.finish()
    bucket.put(target, data)
    digest = sha256(data).hexdigest()
    bucket.put(f"{target}.pieces", dump_pieces(PiecesLine(digest, size_bytes, tree), layer))
    bucket.put(f"{target}.sha256", f"{digest}  {target.rpartition('/')[2]}\n".encode())
    return digest


def config(
    bucket: Bucket, folder: Path, *, newest: int = 2, endpoint_url: str | None = None, **more: Any
) -> dict[str, Any]:
    settings = s3_config(bucket, folder, endpoint_url=endpoint_url)
    return {
        **settings,
        "catalog": {"refresh": f"{REFRESH_S}s"},
        "prefetch": [{"match": "app/*", "newest": newest}],
        **more,
    }


def stored(station: Station) -> set[str]:
    return {blob.name for blob in station.blobs() if not blob.name.endswith(".pieces")}


def is_stored(station: Station, digest: str) -> bool:
    return digest in stored(station)


def pinned(station: Station) -> set[str]:
    file = station.store / "pins" / "prefetch.json"
    return set(json.loads(file.read_text())["digests"]) if file.exists() else set()


def verb(station: Station, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "waystation", *arguments, "--config", str(station.config_file)]
    return subprocess.run(command, env=station.environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def relay(minio: MinioServer) -> Iterator[Relay]:
    with Relay(minio.port) as relay:
        yield relay


def test_the_right_versions_are_here_within_a_refresh_and_later_the_older_one_goes(
    bucket: Bucket, tmp_path: Path
) -> None:
    with running_station(tmp_path / "station", config(bucket, tmp_path)) as station:
        wait_until(lambda: station.metric("waystation_catalog_last_refresh_timestamp_seconds") > 0, "it polls")
        began = time.monotonic()
        nine, ten = publish(bucket, name("0.9.0")), publish(bucket, name("0.10.0"))
        publish(bucket, name("0.11.0", OTHER_ARCH))
        wait_until(lambda: stored(station) == {nine, ten}, "both are here", timeout_s=REFRESH_S + 3)
        took_s = time.monotonic() - began
        assert took_s < REFRESH_S + 1, f"published → here in {took_s:.2f} s"
        assert pinned(station) == {nine, ten}
        wait_until(lambda: station.metric("waystation_wanted_targets", state="ready") == 2, "it says so")
        station.stop()

        station.config["prefetch"] = [{"match": "app/*", "newest": 1}]
        station.config["store"]["max_size"] = "7MiB"
        station.start()
        wait_until(lambda: pinned(station) == {ten}, "the older one is let go")
        assert stored(station) == {nine, ten}
        publish(bucket, name("1.0", app="other"), 3 * MIB)
        assert station.artifact(name("1.0", app="other")).code == 200
        assert nine not in stored(station)
        assert ten in stored(station)


def test_with_notifications_what_is_published_is_here_within_a_second(tmp_path: Path) -> None:
    with running_minio(tmp_path / "minio", pin=MINIO_THAT_TELLS) as minio:
        bucket = minio.create_bucket("told-at-once")
        settings = config(bucket, tmp_path, catalog={"refresh": "1h"})
        settings["origin"] = {**settings["origin"], "notifications": True}
        with running_station(tmp_path / "station", settings) as station:
            wait_until(lambda: bool(station.log_lines("notifications_on")), "it is told", timeout_s=20)
            for version in ("1.0", "1.1", "1.2"):
                began = time.monotonic()
                digest = publish(bucket, name(version))
                announced = time.monotonic()
                wait_until(partial(is_stored, station, digest), "it is here", timeout_s=5)
                took_s = time.monotonic() - announced
                assert took_s < 1, (
                    f"announced → here in {took_s:.2f} s ({time.monotonic() - began:.2f} s since its first byte)"
                )
            for key in (name("1.2"), name("1.2") + ".pieces", name("1.2") + ".sha256"):
                bucket.remove(key)
            wait_until(lambda: digest not in pinned(station), "a withdrawn one is let go at once", timeout_s=5)
            minio.stop()
            wait_until(lambda: bool(station.log_lines("notifications_interrupted")), "the stream broke")
            minio.start()
            wait_until(lambda: len(station.log_lines("notifications_on")) == 2, "it listens again", timeout_s=60)
            digest = publish(bucket, name("1.3"))
            wait_until(lambda: digest in stored(station), "and is told", timeout_s=5)


def test_a_client_overtakes_a_saturated_prefetch_queue(bucket: Bucket, relay: Relay, tmp_path: Path) -> None:
    for minor in range(9):
        publish(bucket, name(f"1.{minor}"), 24 * MIB)
    for number in (1, 2):
        publish(bucket, name(f"{number}.0", app="other"), 16 * MIB)
    relay.limit(16 * MIB)
    settings = config(bucket, tmp_path, newest=9, endpoint_url=relay.endpoint_url)
    with running_station(tmp_path / "alone", {**settings, "prefetch": []}) as station:
        began = time.monotonic()
        assert station.artifact(name("1.0", app="other")).code == 200
        alone_s = time.monotonic() - began
    with running_station(tmp_path / "station", settings) as station:
        wait_until(lambda: station.metric("waystation_wanted_targets", state="fetching") == 2, "its slots are full")
        wait_until(lambda: station.metric("waystation_origin_bytes_total") > 2 * MIB, "they fetch")
        began = time.monotonic()
        assert station.artifact(name("2.0", app="other")).code == 200
        busy_s = time.monotonic() - began
        waiting = station.metric("waystation_prefetch_queue_length")
        assert waiting >= 6, "the queue is as full as before"
        assert busy_s < 1.5 * alone_s + 0.5, f"alone {alone_s:.2f} s, with {waiting:.0f} in the queue {busy_s:.2f} s"
        began = time.monotonic()
        assert station.artifact(name("1.0")).code == 200
        last_s = time.monotonic() - began
        assert last_s < 1.5 * 24 / 16 * alone_s + 1, f"the last in the queue, once asked for, came in {last_s:.2f} s"


def test_an_origin_that_is_stopped_is_left_in_peace_and_all_comes_by_itself_when_it_is_back(
    minio_alone: MinioServer, tmp_path: Path
) -> None:
    bucket = minio_alone.create_bucket("comes-and-goes")
    for minor in range(12):
        publish(bucket, name(f"1.{minor}"), MIB)
    with Relay(minio_alone.port) as relay:
        settings = config(bucket, tmp_path, newest=20, endpoint_url=relay.endpoint_url)
        settings["transfer"] = {"prefetch_bandwidth": "2MiB"}
        with running_station(tmp_path / "station", settings) as station:
            wait_until(lambda: len(stored(station)) >= 3, "it has begun")
            minio_alone.stop()
            relay.reset_counts()
            stopped = time.monotonic()
            wait_until(lambda: station.metric("waystation_origin_up") == 0, "it knows")
            watching_s = 6.0
            while time.monotonic() - stopped < watching_s:
                time.sleep(0.5)
            asked = relay.connections
            # What was under way tries again (12 to 24 requests were seen); a storm would be hundreds.
            assert asked <= 40, f"{asked} requests in {watching_s:g} s"
            lag_s = station.metric("waystation_prefetch_lag_seconds")
            assert lag_s > watching_s - 2
            assert station.metric("waystation_wanted_targets", state="missing") >= 1
            assert len(stored(station)) < 12
            minio_alone.start()
            wait_until(lambda: len(stored(station)) == 12, "all are here", timeout_s=60)
            wait_until(lambda: station.metric("waystation_prefetch_lag_seconds") == 0, "no lag")


def test_what_a_person_pins_is_fetched_at_once_and_kept(bucket: Bucket, tmp_path: Path) -> None:
    digest = publish(bucket, name("1.0", app="other"))
    settings = config(bucket, tmp_path, catalog={"refresh": "1h"})
    with running_station(tmp_path / "station", settings) as station:
        done = verb(station, "store", "pin", name("1.0", app="other"))
        assert done.returncode == 0, done.stderr
        wait_until(lambda: stored(station) == {digest}, "nobody needs to ask for it", timeout_s=5)


def test_a_target_that_is_asked_for_by_hand_is_fetched_and_told_of(bucket: Bucket, tmp_path: Path) -> None:
    digest = publish(bucket, name("1.0", app="other"))
    with running_station(tmp_path / "station", config(bucket, tmp_path)) as station:
        done = verb(station, "prefetch", name("1.0", app="other"))
        assert (done.returncode, "was fetched" in done.stderr) == (0, True), done.stderr
        assert stored(station) == {digest}
        assert not pinned(station)
        again = verb(station, "prefetch", name("1.0", app="other"), "--json")
        assert json.loads(again.stdout)["outcome"] == "here"
        unknown = verb(station, "prefetch", name("7.0", app="other"))
        assert unknown.returncode == 1
        assert "the origin has no" in unknown.stderr
        publish(bucket, name("2.0", app="other"))
        at_once = verb(station, "prefetch", "--no-wait", name("2.0", app="other"))
        assert (at_once.returncode, "is being fetched" in at_once.stderr or "was" in at_once.stderr) == (0, True)
        wait_until(lambda: len(stored(station)) == 2, "it comes all the same")
