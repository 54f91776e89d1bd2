"""A faulty or lying origin: the client gets right bytes or an error, the store right bytes or nothing."""

from __future__ import annotations

import http.client
import random
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from peers.lying_s3 import Exchange, Lie, LyingS3
from peers.processes import wait_until
from peers.station import Station, running_station, s3_config
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.minio import MinioServer
    from peers.s3 import Bucket
    from peers.toxiproxy import Toxiproxy

MIB = 1024 * 1024
SIZE = 40 * MIB
BODY = random.Random(11).randbytes(SIZE)
OTHER = random.Random(12).randbytes(SIZE)
TARGET = "app/app-1-x86_64"


def put(bucket: Bucket, *, pieces: bool) -> None:
    digest = bucket.put_vouched(TARGET, BODY)
    if pieces:
        hasher = TreeHasher(SIZE)
        hasher.update(BODY)
        tree, layer = hasher.finish()
        bucket.put(f"{TARGET}.pieces", dump_pieces(PiecesLine(digest, SIZE, tree), layer))


def fetch(station: Station) -> bytes | int:
    """Fetch as a stanza without a checksum does: the body, or the code; -1 where the connection was cut off."""
    try:
        answer = station.artifact(TARGET)
    except (http.client.IncompleteRead, ConnectionError):
        return -1
    return answer.body if answer.code == 200 else answer.code


def assert_store_is_right_or_empty(station: Station) -> None:
    for blob in station.blobs():
        if not blob.name.endswith(".pieces"):
            assert sha256(blob.read_bytes()).hexdigest() == blob.name


@pytest.fixture
def liar(minio: MinioServer) -> Iterator[LyingS3]:
    with LyingS3(minio.port) as proxy:
        yield proxy


def without_range(exchange: Exchange) -> None:
    del exchange.headers["Range"]


def half_of_it(exchange: Exchange) -> None:
    exchange.sent_bytes = len(exchange.body) // 2


def flipped_in(piece: int) -> Lie:
    def flip(exchange: Exchange) -> None:
        at = piece * MIB + 5 - exchange.offset
        if 0 <= at < len(exchange.body):
            exchange.body[at] ^= 1

    return None, flip


def flipped_everywhere(exchange: Exchange) -> None:
    for at in range(0, len(exchange.body), MIB):
        exchange.body[at] ^= 1


class Once:
    """A lie that is told for the first range that it would change."""

    def __init__(self, lie: Lie) -> None:
        self._after = lie[1]
        self._told = False

    def __call__(self, exchange: Exchange) -> None:
        before = bytes(exchange.body)
        if not self._told and self._after:
            self._after(exchange)
            self._told = before != exchange.body or exchange.sent_bytes is not None


@pytest.mark.parametrize("pieces", [True, False])
@pytest.mark.parametrize(
    ("lie", "reasons"),
    [
        pytest.param((without_range, None), {"short_body"}, id="ignores Range"),
        pytest.param((None, half_of_it), {"short_body"}, id="sends half of every range"),
        pytest.param(flipped_in(17), {"piece_mismatch", "digest_mismatch"}, id="corrupts one piece each time"),
        pytest.param((None, flipped_everywhere), {"piece_mismatch", "digest_mismatch"}, id="corrupts every piece"),
    ],
)
def test_an_origin_that_keeps_lying_is_refused_by_name_and_no_complete_wrong_file_leaves(
    bucket: Bucket, liar: LyingS3, tmp_path: Path, lie: Lie, reasons: set[str], pieces: bool
) -> None:
    put(bucket, pieces=pieces)
    config = s3_config(bucket, tmp_path, endpoint_url=liar.endpoint_url) | {"transfer": {"retries": 2}}
    with running_station(tmp_path / "station", config) as station:
        liar.lie = lie
        got = fetch(station)
        assert got in (-1, 502, 503) or got == BODY, "short bodies may add up to the right file, piece by piece"
        assert_store_is_right_or_empty(station)
        if got != BODY:
            (failed,) = station.log_lines("flight_failed")
            assert failed["reason"] in reasons
            assert failed["advice"]
            assert not station.blobs()
        if not pieces:
            assert got in (502, 503), "without pieces the answer is known before its first byte"

        liar.lie = (None, None)
        assert fetch(station) == BODY
        assert_store_is_right_or_empty(station)


@pytest.mark.parametrize(
    "lie", [pytest.param(flipped_in(17), id="one bad piece"), pytest.param((None, half_of_it), id="one short range")]
)
def test_a_fault_that_passes_costs_no_more_than_what_it_touched(
    bucket: Bucket, liar: LyingS3, tmp_path: Path, lie: Lie
) -> None:
    put(bucket, pieces=True)
    config = s3_config(bucket, tmp_path, endpoint_url=liar.endpoint_url)
    with running_station(tmp_path / "station", config) as station:
        liar.lie = (None, Once(lie))
        assert fetch(station) == BODY
        assert station.metric("waystation_origin_bytes_total") < SIZE + 2 * MIB
        assert station.metric("waystation_flight_retries_total") == 1


@pytest.mark.parametrize("hidden", [False, True], ids=["with its new ETag", "under the old ETag"])
@pytest.mark.parametrize("pieces", [True, False])
def test_an_object_that_changes_between_two_ranges_never_becomes_a_mixture(
    bucket: Bucket, liar: LyingS3, tmp_path: Path, pieces: bool, hidden: bool
) -> None:
    put(bucket, pieces=pieces)
    etag = bucket.put(TARGET, BODY)
    config = s3_config(bucket, tmp_path, endpoint_url=liar.endpoint_url)
    with running_station(tmp_path / "station", config) as station:

        def change_after_the_first(exchange: Exchange) -> None:
            if liar.ranges == 2:
                bucket.put(TARGET, OTHER)
            if hidden:
                exchange.headers.pop("If-Match", None)

        def pretend(exchange: Exchange) -> None:
            if hidden and exchange.answer_headers:
                exchange.answer_headers["ETag"] = etag

        liar.lie = (change_after_the_first, pretend)
        assert fetch(station) in (-1, 502)
        assert not station.blobs()


@pytest.mark.parametrize("pieces", [True, False])
@pytest.mark.parametrize(
    ("toxic", "attributes"),
    [
        ("reset_peer", {"timeout": 200}),
        ("limit_data", {"bytes": 5 * MIB}),
        ("timeout", {"timeout": 300}),
        ("slicer", {"average_size": 1000, "size_variation": 900, "delay": 0}),
        ("slow_close", {"delay": 300}),
        ("latency", {"latency": 30, "jitter": 20}),
    ],
)
def test_a_troubled_network_costs_time_or_an_error_but_never_a_wrong_byte(
    bucket: Bucket,
    minio: MinioServer,
    toxiproxy: Toxiproxy,
    tmp_path: Path,
    toxic: str,
    attributes: dict[str, Any],
    pieces: bool,
) -> None:
    put(bucket, pieces=pieces)
    proxy = toxiproxy.proxy(minio.port)
    config = s3_config(bucket, tmp_path, endpoint_url=proxy.endpoint_url) | {
        "transfer": {"stall_timeout": "1s", "retries": 2},
        "origin": {**s3_config(bucket, tmp_path)["origin"], "endpoint_url": proxy.endpoint_url},
    }
    with running_station(tmp_path / "station", config) as station:
        with proxy.toxic(toxic, **attributes):
            got = fetch(station)
            assert got in (-1, 502, 503) or got == BODY
        wait_until(lambda: fetch(station) == BODY, "it recovers by itself", timeout_s=40)
        assert_store_is_right_or_empty(station)
        wait_until(lambda: not station.spools(), "nothing is left half-way")
