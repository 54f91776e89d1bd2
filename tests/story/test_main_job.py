"""The main job on real input: published, verified, cached, mirrored, fetched by real go-getter; on real S3 servers."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from peers import go_getter
from peers.minio import MinioServer
from peers.processes import clean_environment, free_port, wait_until
from peers.relay import Relay
from peers.station import Station, running_station, s3_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.s3 import Bucket, S3Server

MB = 1000 * 1000
MIB = 1024 * 1024
TARGET = "app/app-0.1.0-x86_64"


@dataclass(frozen=True)
class Published:
    """A bundle, and the bucket that it was published to."""

    bucket: Bucket
    file: Path
    digest: str

    @property
    def size_bytes(self) -> int:
        return self.file.stat().st_size


def waystation(folder: Path, config: dict[str, Any], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one verb against a configuration, as a builder would."""
    station = Station(folder / "cli", config)
    from peers.station import to_toml  # noqa: PLC0415

    station.config_file.write_text(to_toml(station.config))
    verb, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "waystation", str(verb), "--config", station.config_file, *map(str, rest)],
        env=clean_environment(folder),
        cwd=station.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def publish(bucket: Bucket, folder: Path, file: Path, *, app: str = "app", version: str = "0.1.0") -> Published:
    config = s3_config(bucket, folder)
    done = waystation(folder, config, "publish", file, "--app", app, "--version", version, "--arch", "x86_64")
    assert done.returncode == 0, done.stderr
    return Published(bucket, file, sha256(file.read_bytes()).hexdigest())


def random_file(path: Path, size_bytes: int, seed: int = 1) -> Path:
    generator = random.Random(seed)
    with path.open("wb") as file:
        for at in range(0, size_bytes, 8 * MIB):
            file.write(generator.randbytes(min(8 * MIB, size_bytes - at)))
    return path


@pytest.fixture(scope="session", params=["minio", "versitygw"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="module")
def big(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A bundle published once for all tests of this file: 300 MB in MinIO; another server may show the same by less."""
    folder = tmp_path_factory.mktemp("big")
    bucket = s3.create_bucket("big-bundles")
    return publish(bucket, folder, random_file(folder / "bundle", 300 * MB if isinstance(s3, MinioServer) else 90 * MB))


@pytest.fixture
def relay(s3: S3Server) -> Iterator[Relay]:
    with Relay(s3.port) as relay:
        yield relay


def test_go_getter_fetches_a_bundle_cold_and_warm_with_each_kind_of_checksum_and_by_the_bucket_s_own_path(
    big: Published, relay: Relay, tmp_path: Path
) -> None:
    config = s3_config(big.bucket, tmp_path, endpoint_url=relay.endpoint_url)
    sources = {
        "artifacts": f"/artifacts/{TARGET}",
        "bucket": f"/{big.bucket.name}/{TARGET}",
    }
    for name, path in sources.items():
        with running_station(tmp_path / name, config) as station:
            url = station.url + path
            literal, by_file = f"{url}?checksum=sha256:{big.digest}", f"{url}?checksum=file:{url}.sha256"
            for round_name, source in (("cold", literal), ("warm", literal), ("warm by file", by_file)):
                relay.reset_counts()
                out = tmp_path / name / round_name.replace(" ", "-")
                fetched = go_getter.fetch(source, out)
                assert fetched.ok, fetched.output
                assert same_bytes(out, big.file)
                if round_name == "cold":
                    assert 1 <= relay.received_bytes / out.stat().st_size < 1.01
                else:
                    assert relay.received_bytes < MIB
            assert station.metric("waystation_requests_total", cache="miss", code="200") == 1
            assert station.metric("waystation_served_bytes_total", cache="hit") == 2 * big.size_bytes
    with running_station(tmp_path / "cold-by-file", config) as station:
        url = f"{station.url}/artifacts/{TARGET}"
        out = tmp_path / "by-file"
        fetched = go_getter.fetch(f"{url}?checksum=file:{url}.sha256", out)
        assert fetched.ok, fetched.output
        assert same_bytes(out, big.file)


def test_go_getter_refuses_what_does_not_match_its_own_checksum(big: Published, tmp_path: Path) -> None:
    with running_station(tmp_path / "station", s3_config(big.bucket, tmp_path)) as station:
        fetched = go_getter.fetch(f"{station.url}/artifacts/{TARGET}?checksum=sha256:{'0' * 64}", tmp_path / "out")
        assert not fetched.ok
        assert "Checksums did not match" in fetched.output


def test_twenty_cold_clients_at_once_cost_the_origin_one_download(big: Published, relay: Relay, tmp_path: Path) -> None:
    config = s3_config(big.bucket, tmp_path, endpoint_url=relay.endpoint_url)
    with running_station(tmp_path / "station", config) as station:
        relay.reset_counts()
        url = f"{station.url}/artifacts/{TARGET}?checksum=sha256:{big.digest}"
        fetching = [go_getter.start(url, tmp_path / f"client-{number}") for number in range(20)]
        results = [go_getter.finish(process) for process in fetching]
        assert all(result.ok for result in results), [result.output for result in results if not result.ok]
        assert relay.received_bytes < 1.005 * big.size_bytes + MIB
        assert station.metric("waystation_origin_bytes_total") < big.size_bytes + MIB
        assert station.metric("waystation_flight_seconds_count") == 1


def test_an_object_without_a_checksum_is_refused_until_it_is_adopted(bucket: Bucket, tmp_path: Path) -> None:
    body = random.Random(3).randbytes(3 * MIB)
    bucket.put("tools/tool-1.0-x86_64", body)
    config = s3_config(bucket, tmp_path)
    with running_station(tmp_path / "station", config) as station:
        refused = station.artifact("tools/tool-1.0-x86_64")
        assert refused.code == 404
        assert b"no_checksum" in refused.body
        assert b"waystation adopt" in refused.body
        assert station.metric("waystation_requests_total", code="404", reason="no_checksum") == 1
        assert any("adopt" in str(line) for line in station.log_lines())
        assert not go_getter.fetch(f"{station.url}/artifacts/tools/tool-1.0-x86_64", tmp_path / "refused").ok

        done = waystation(tmp_path, config, "adopt")
        assert done.returncode == 0, done.stderr
        assert {"tools/tool-1.0-x86_64.pieces", "tools/tool-1.0-x86_64.sha256"} < set(bucket.keys())
        served = station.artifact("tools/tool-1.0-x86_64")
        assert (served.code, served.body) == (200, body)


def test_with_pin_first_the_first_bytes_count_and_others_are_refused(bucket: Bucket, tmp_path: Path) -> None:
    body, other = random.Random(3).randbytes(3 * MIB), random.Random(4).randbytes(3 * MIB)
    bucket.put("tool-1.0-x86_64", body)
    config = s3_config(bucket, tmp_path) | {"catalog": {"missing_checksum": "pin-first", "refresh": "0s"}}
    with running_station(tmp_path / "station", config) as station:
        assert station.artifact("tool-1.0-x86_64").body == body
        bucket.put("tool-1.0-x86_64", other)
        changed = station.artifact("tool-1.0-x86_64")
        assert changed.code == 502
        assert b"changed" in changed.body
        assert station.metric("waystation_verification_failures_total", where="catalog") >= 1

        forgotten = waystation_at(station, "catalog", "forget", "tool-1.0-x86_64")
        assert forgotten.returncode == 0, forgotten.stderr
        assert station.artifact("tool-1.0-x86_64").body == other


def test_bytes_that_were_changed_in_the_bucket_never_leave(bucket: Bucket, tmp_path: Path) -> None:
    body = random.Random(5).randbytes(20 * MB)
    published = publish(bucket, tmp_path, write(tmp_path / "bundle", body))
    rotten = bytearray(body)
    rotten[7 * MB] ^= 1
    bucket.put(TARGET, bytes(rotten))
    with running_station(tmp_path / "station", s3_config(bucket, tmp_path)) as station:
        out = tmp_path / "out"
        fetched = go_getter.fetch(f"{station.url}/artifacts/{TARGET}?checksum=sha256:{published.digest}", out)
        assert not fetched.ok
        answer = station_first_error(station)
        assert answer["reason"] == "piece_mismatch"
        assert "piece 6 of 20" in answer["detail"]
        assert station.metric("waystation_verification_failures_total", where="origin") >= 1
        assert not station.blobs()

        bucket.remove(f"{TARGET}.pieces")
    with running_station(tmp_path / "whole", s3_config(bucket, tmp_path)) as station:
        refused = station.artifact(TARGET)
        assert refused.code == 502
        assert b"digest_mismatch" in refused.body
        assert station.metric("waystation_requests_total", code="502", reason="digest_mismatch") == 1
        assert station_first_error(station)["reason"] == "digest_mismatch"
        assert not station.blobs()
        wait_until(lambda: not station.spools(), "the spool is given up")


def test_what_is_cached_is_served_without_the_origin_also_after_a_restart_and_the_origin_s_return_is_noticed(
    minio_alone: MinioServer, tmp_path: Path
) -> None:
    bucket = minio_alone.create_bucket("bundles")
    first = publish(bucket, tmp_path, random_file(tmp_path / "first", 5 * MB, 1))
    second = publish(bucket, tmp_path, random_file(tmp_path / "second", 5 * MB, 2), version="0.2.0")
    config = s3_config(bucket, tmp_path) | {"catalog": {"refresh": "0s"}}
    with running_station(tmp_path / "station", config) as station:
        assert station.artifact(TARGET).body == first.file.read_bytes()
        unknown = station.artifact("app/app-9.9.9-x86_64")
        assert unknown.code == 404
        assert b"unknown_target" in unknown.body

        minio_alone.stop()
        for _ in range(2):
            assert station.artifact(TARGET).body == first.file.read_bytes()
            away = station.artifact("app/app-0.2.0-x86_64")
            assert away.code == 503
            assert int(away.headers["Retry-After"]) >= 1
            assert b"origin_unreachable" in away.body
            assert station.metric("waystation_requests_total", code="503", reason="origin_unreachable") >= 1
            assert station.stop() == 0
            station.start()

        minio_alone.start()
        wait_until(lambda: station.artifact("app/app-0.2.0-x86_64").code == 200, "the origin is noticed again")
        assert station.artifact("app/app-0.2.0-x86_64").body == second.file.read_bytes()


def test_killed_in_mid_flight_nothing_half_is_served_and_the_transfer_completes(
    big: Published, relay: Relay, tmp_path: Path
) -> None:
    config = s3_config(big.bucket, tmp_path, endpoint_url=relay.endpoint_url)
    with running_station(tmp_path / "station", config) as station:
        relay.limit(big.size_bytes / 3)
        fetching = go_getter.start(f"{station.url}/artifacts/{TARGET}", tmp_path / "interrupted")
        wait_until(lambda: station.metric("waystation_origin_bytes_total") > big.size_bytes / 3, "a third has arrived")
        station.process.kill()
        assert not go_getter.finish(fetching).ok
        assert not station.blobs()
        relay.limit(None)
        station.start()
        relay.reset_counts()
        out = tmp_path / "completed"
        fetched = go_getter.fetch(f"{station.url}/artifacts/{TARGET}?checksum=sha256:{big.digest}", out)
        assert fetched.ok, fetched.output
        assert same_bytes(out, big.file)
        assert relay.received_bytes < big.size_bytes * 2 / 3 + 15 * MB, "what had been verified was asked for again"
        assert not station.spools()
        assert sorted(path.name for path in station.blobs()) == [big.digest, f"{big.digest}.pieces"]


def test_the_quota_holds_while_ten_flights_that_are_larger_together_run(bucket: Bucket, tmp_path: Path) -> None:
    bodies = {f"app-{number}": random.Random(number).randbytes(10 * MIB) for number in range(10)}
    for name, body in bodies.items():
        bucket.put_vouched(name, body)
    config = s3_config(bucket, tmp_path) | {"store": {"max_size": "35MiB"}}
    with running_station(tmp_path / "station", config) as station, ThreadPoolExecutor(11) as pool:
        most, done = 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.is_set():
                most = max(most, allocated_bytes(station.store))

        watching = pool.submit(watch)
        answers = list(pool.map(station.artifact, bodies))
        done.set()
        watching.result()
        assert {answer.code for answer in answers} <= {200, 507}
        assert [answer.code for answer in answers].count(200) >= 3
        for answer, body in zip(answers, bodies.values(), strict=True):
            assert answer.code == 507 or answer.body == body
        assert most <= 36 * MIB
        for name, body in bodies.items():
            assert station.artifact(name).body == body, "one after another, each finds room"
        assert station.metric("waystation_evictions_total") >= 7
        assert allocated_bytes(station.store) <= 36 * MIB


def test_on_sigterm_running_downloads_finish_and_nobody_new_is_let_in(
    big: Published, relay: Relay, tmp_path: Path
) -> None:
    config = s3_config(big.bucket, tmp_path, endpoint_url=relay.endpoint_url)
    with running_station(tmp_path / "station", config) as station:
        relay.limit(big.size_bytes / 2)
        out = tmp_path / "out"
        fetching = go_getter.start(f"{station.url}/artifacts/{TARGET}?checksum=sha256:{big.digest}", out)
        wait_until(lambda: station.metric("waystation_origin_bytes_total") > big.size_bytes / 10, "it is under way")
        station.process.signal(signal.SIGTERM)
        wait_until(lambda: not accepts(station.port), "the socket closes at once", timeout_s=1)
        fetched = go_getter.finish(fetching)
        assert fetched.ok, fetched.output
        assert same_bytes(out, big.file)
        assert station.process.wait() == 0
        assert not [line for line in station.log_lines() if line.get("code") == 503 and line["route"] != "readyz"]


def test_a_download_that_outlasts_the_drain_is_cut_off_not_completed_wrongly(
    big: Published, relay: Relay, tmp_path: Path
) -> None:
    config = s3_config(big.bucket, tmp_path, endpoint_url=relay.endpoint_url)
    config["mirror"] = {"drain_timeout": "1s"}
    with running_station(tmp_path / "station", config) as station:
        relay.limit(10 * MB)
        fetching = go_getter.start(f"{station.url}/artifacts/{TARGET}", tmp_path / "out")
        wait_until(lambda: station.metric("waystation_origin_bytes_total") > 3 * MB, "it is under way")
        assert station.stop() == 0
        assert not go_getter.finish(fetching).ok


def test_a_reader_without_list_bucket_gets_503_origin_denied_with_advice_never_404(
    bucket: Bucket, tmp_path: Path
) -> None:
    digest = bucket.put_vouched("app-1", b"some bytes")
    keys = bucket.server.create_user(bucket.name, ["s3:GetObject"])
    with running_station(tmp_path / "station", s3_config(bucket, tmp_path, keys=keys), ready=False) as station:
        wait_until(lambda: bool(station.log_lines("origin_not_usable")), "the origin has been asked")
        assert station.get("/readyz").code == 503, "an answer that denies is of no use"
        denied = station.artifact("missing-1")
        assert denied.code == 503
        assert b"origin_denied" in denied.body
        assert b"s3:ListBucket" in denied.body
        assert station.metric("waystation_requests_total", code="503", reason="origin_denied") == 1
        assert "s3:ListBucket" in station.log_lines("origin_not_usable")[0]["advice"]

        assert station.artifact("app-1").headers["ETag"] == f'"{digest}"'
        assert station.get("/readyz").code == 200, "what it may read, it serves"


def test_a_port_that_is_taken_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "origin").mkdir()
        port = taken.getsockname()[1]
        done = waystation(
            tmp_path,
            {
                "origin": {"url": (tmp_path / "origin").as_uri()},
                "mirror": {"listen": [f"http://127.0.0.1:{port}"]},
            },
            "serve",
        )
    assert done.returncode == 1
    complaint = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(complaint) == 1
    assert str(port) in complaint[0]
    assert "[mirror] listen" in complaint[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("named", [True, False], ids=["a file that is not there", "none at all"])
def test_a_daemon_without_credentials_is_one_line_that_says_where_they_go(
    bucket: Bucket, tmp_path: Path, named: bool
) -> None:
    config = s3_config(bucket, tmp_path)
    config["origin"]["credentials_file"] = str(tmp_path / "absent")
    if not named:
        del config["origin"]["credentials_file"]
    done = waystation(tmp_path, config | {"mirror": {"listen": [f"http://127.0.0.1:{free_port()}"]}}, "serve")
    assert done.returncode == 1
    (complaint,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert "[origin] credentials_file" in complaint
    assert "Traceback" not in done.stderr


def test_a_daemon_that_lost_its_credentials_still_serves_what_it_has(bucket: Bucket, tmp_path: Path) -> None:
    published = publish(bucket, tmp_path, random_file(tmp_path / "bundle", 3 * MB))
    with running_station(tmp_path / "station", s3_config(bucket, tmp_path)) as station:
        assert station.artifact(TARGET).code == 200
        wait_until(lambda: len(station.blobs()) == 2, "it is on disk")
        station.stop()
        (tmp_path / "credentials").unlink()
        station.start()
        assert station.artifact(TARGET).body == published.file.read_bytes()


def test_a_second_daemon_on_one_store_refuses_and_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    config = {"origin": {"url": (tmp_path / "origin").as_uri()}, "store": {"path": str(tmp_path / "shared")}}
    with running_station(tmp_path / "station", config) as station:
        second = waystation(tmp_path, config, "serve")
        assert second.returncode == 1
        assert f"{station.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr


# --- what the tests above use --------------------------------------------------------------------


def waystation_at(station: Station, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waystation", *arguments, "--config", station.config_file],
        env=station.environment,
        cwd=station.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def station_first_error(station: Station) -> dict[str, Any]:
    return station.log_lines("flight_failed")[0]


def write(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def same_bytes(left: Path, right: Path) -> bool:
    return subprocess.run(["cmp", "--silent", left, right], check=False).returncode == 0


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def allocated_bytes(folder: Path) -> int:
    """What files that are there at one and the same time take: those that still are once all have been looked at."""
    found = {}
    for parent, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(parent, name)
            with suppress(FileNotFoundError):
                status = os.stat(path)
                found[path, status.st_ino] = status.st_blocks * 512
    total = 0
    for (path, inode), size_bytes in found.items():
        with suppress(FileNotFoundError):
            total += size_bytes if os.stat(path).st_ino == inode else 0
    return total
