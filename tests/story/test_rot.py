"""A stored file that rots, or that a crash leaves in doubt: repaired from the bucket for the cost of its bad pieces."""

from __future__ import annotations

import http.client
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from peers.processes import wait_until
from peers.relay import Relay
from peers.station import Station, running_station, s3_config
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.s3 import Bucket

MIB = 1024 * 1024
BODY = random.Random(21).randbytes(48 * MIB)
TARGET = "app/app-1-x86_64"


@pytest.fixture
def relay(bucket: Bucket) -> Iterator[Relay]:
    with Relay(bucket.server.port) as relay:
        yield relay


@pytest.fixture
def station(bucket: Bucket, relay: Relay, tmp_path: Path) -> Iterator[Station]:
    """One that has the target stored."""
    digest = bucket.put_vouched(TARGET, BODY)
    hasher = TreeHasher(len(BODY))
    hasher.update(BODY)
    tree, layer = hasher.finish()
    bucket.put(f"{TARGET}.pieces", dump_pieces(PiecesLine(digest, len(BODY), tree), layer))
    config = s3_config(bucket, tmp_path, endpoint_url=relay.endpoint_url) | {"catalog": {"refresh": "1h"}}
    with running_station(tmp_path / "station", config) as running:
        assert running.artifact(TARGET).body == BODY
        wait_until(lambda: running.metric("waystation_store_blobs") == 1, "it is stored")
        relay.reset_counts()
        yield running


def rot(station: Station, *offsets: int) -> None:
    """Flip a bit at each of these offsets of the stored file, and let the daemon find out."""
    (blob,) = [path for path in station.blobs() if path.suffix != ".pieces"]
    with blob.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(bytes([BODY[offset] ^ 1]))
    verify = [sys.executable, "-m", "waystation", "store", "verify", TARGET, "--config", str(station.config_file)]
    done = subprocess.run(verify, env=station.environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("bad\t")


def refused_or_cut_off(station: Station) -> bytes:
    """Ask for what can't be given whole; what came of it all the same."""
    try:
        answer = station.artifact(TARGET)
    except http.client.IncompleteRead as cut_off:
        return cut_off.partial
    assert answer.code == 503
    return b""


def test_only_the_rotten_pieces_are_asked_of_the_bucket(station: Station, relay: Relay) -> None:
    rot(station, 5, 17 * MIB, 48 * MIB - 1)
    assert station.artifact(TARGET).body == BODY
    assert 3 * MIB <= relay.received_bytes < 3 * MIB + 64 * 1024
    wait_until(lambda: station.metric("waystation_store_blobs") == 1, "it is stored again")
    relay.reset_counts()
    assert station.artifact(TARGET).body == BODY
    assert relay.received_bytes == 0


def test_while_the_bucket_is_away_no_rotten_byte_is_served_and_what_is_right_on_the_disk_is(
    station: Station, relay: Relay
) -> None:
    rot(station, 17 * MIB)
    target_port, relay.target_port = relay.target_port, 9  # nobody listens there
    relay.cut()
    got = refused_or_cut_off(station)
    assert got == BODY[: len(got)]
    assert len(got) <= 17 * MIB
    (spool,) = [path for path in station.spools() if path.suffix != ".pieces"]
    with spool.open("r+b") as file:
        file.seek(17 * MIB)
        file.write(BODY[17 * MIB : 17 * MIB + 1])
    assert station.artifact(TARGET).body == BODY, "nothing is wrong with it, so nothing is asked for"
    relay.target_port = target_port


def crash_the_machine(station: Station) -> Path:
    """End it as a power cut would, as far as a test can; return the blob's path."""
    station.process.kill()
    (station.store / "running").write_text("a boot before this one\n")
    (blob,) = [path for path in station.blobs() if path.suffix != ".pieces"]
    return blob


def test_after_a_crash_of_the_machine_what_is_intact_is_served_without_the_bucket(
    station: Station, relay: Relay
) -> None:
    crash_the_machine(station)
    relay.target_port = 9  # nobody listens there
    relay.cut()
    station.start()
    assert station.artifact(TARGET).body == BODY
    wait_until(lambda: station.get("/api/v1/status").body.count(b'"suspect_blobs": 0') == 1, "it is trusted again")
    assert relay.received_bytes == 0


def test_after_a_crash_of_the_machine_only_what_was_torn_is_asked_of_the_bucket(station: Station, relay: Relay) -> None:
    blob = crash_the_machine(station)
    with blob.open("r+b") as file:
        file.seek(20 * MIB)
        file.write(bytes(4096))
    station.start()
    assert station.artifact(TARGET).body == BODY
    assert MIB <= relay.received_bytes < MIB + 64 * 1024


def test_the_daemon_finds_rot_by_itself(station: Station, relay: Relay) -> None:
    station.stop()
    station.config["store"]["scrub_interval"] = "2s"
    (blob,) = [path for path in station.blobs() if path.suffix != ".pieces"]
    with blob.open("r+b") as file:
        file.seek(20 * MIB)
        file.write(bytes([BODY[20 * MIB] ^ 1]))
    station.start()
    wait_until(lambda: station.metric("waystation_verification_failures_total", where="store") == 1, "it is found")
    assert station.metric("waystation_store_blobs") == 0
    assert station.artifact(TARGET).body == BODY
    assert MIB <= relay.received_bytes < MIB + 64 * 1024
    wait_until(
        lambda: station.metric("waystation_scrubbed_bytes_total") >= 2 * len(BODY), "what was repaired is read too"
    )
    assert station.metric("waystation_verification_failures_total", where="store") == 1
