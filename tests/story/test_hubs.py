"""One daemon behind another: a hub fetches once for all, what it gives is checked again, and its troubles are told."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import platform
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack, ExitStack
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mirrors import running_mirror
from peers.nginx import running_nginx
from peers.processes import PeerFailed, wait_until
from peers.relay import Relay
from peers.station import Answer, Station, running_station, s3_config
from waystation.pieces import PiecesLine, TreeHasher, dump_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.minio import MinioServer
    from peers.s3 import Bucket

MIB = 1024 * 1024
ARCH = platform.machine()
REFRESH_S = 1.0

_numbers = itertools.count(1)


def name(version: str, app: str = "app") -> str:
    return f"{app}/{app}-{version}-{ARCH}"


def publish(bucket: Bucket, target: str, size_bytes: int = 3 * MIB, *, pieces: bool = True) -> bytes:
    """As `waystation publish` does it: the bytes, their pieces, and at last the announcement."""
    data = random.Random(target).randbytes(size_bytes)
    bucket.put(target, data)
    digest = sha256(data).hexdigest()
    if pieces:
        hasher = TreeHasher(size_bytes)
        hasher.update(data)
        tree, layer = hasher.finish()
        bucket.put(f"{target}.pieces", dump_pieces(PiecesLine(digest, size_bytes, tree), layer))
    bucket.put(f"{target}.sha256", f"{digest}\n".encode())
    return data


def behind(hub: Station | str, **sections: Any) -> dict[str, Any]:
    """The configuration of a daemon whose origin is a hub."""
    url = hub if isinstance(hub, str) else f"{hub.url}/artifacts"
    return {"origin": {"url": url}, "catalog": {"refresh": f"{REFRESH_S}s"}, **sections}


def hub_config(bucket: Bucket, folder: Path, endpoint_url: str, **sections: Any) -> dict[str, Any]:
    return {
        **s3_config(bucket, folder, endpoint_url=endpoint_url),
        "catalog": {"refresh": f"{REFRESH_S}s"},
        "transfer": {"stall_timeout": "5s"},
        **sections,
    }


def verb(station: Station, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waystation", *arguments, "--config", str(station.config_file)],
        env=station.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stored(station: Station) -> set[str]:
    return {blob.name for blob in station.blobs() if not blob.name.endswith(".pieces")}


def until_stored(station: Station, data: bytes) -> str:
    digest = sha256(data).hexdigest()
    wait_until(lambda: digest in stored(station), f"{digest[:12]} is stored")
    return digest


@pytest.fixture(scope="module")
def bucket(minio: MinioServer) -> Bucket:
    return minio.create_bucket("behind-hubs")


@pytest.fixture(scope="module")
def its_relay(bucket: Bucket) -> Iterator[Relay]:
    with Relay(bucket.server.port) as relay:
        yield relay


@pytest.fixture
def relay(its_relay: Relay) -> Iterator[Relay]:
    """What counts and slows all that the bucket gives to the hub."""
    its_relay.reset_counts()
    yield its_relay
    its_relay.limit(None)


@pytest.fixture(scope="module")
def hub(bucket: Bucket, its_relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """The hub of most tests: each has artifacts of its own, and leaves it running."""
    folder = tmp_path_factory.mktemp("hub")
    with running_station(folder, hub_config(bucket, folder, its_relay.endpoint_url)) as station:
        yield station


@pytest.fixture(scope="module")
def leaf(hub: Station, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    with running_station(tmp_path_factory.mktemp("leaf"), behind(hub)) as station:
        yield station


@pytest.fixture
def app() -> str:
    return f"app{next(_numbers)}"


@pytest.fixture
def target(app: str) -> str:
    return name("1.0", app)


async def test_twenty_stations_behind_one_hub_cost_the_bucket_one_download(
    bucket: Bucket, relay: Relay, hub: Station, tmp_path: Path, target: str
) -> None:
    """The hub is a process of its own; the twenty have their own stores, sockets and mirrors in this one."""
    size_bytes = 8 * MIB
    data = publish(bucket, target, size_bytes)
    relay.limit(4 * MIB)  # so that all of them ride on one flight
    relay.reset_counts()
    async with AsyncExitStack() as stack:
        worlds = [
            await stack.enter_async_context(
                running_mirror(tmp_path / f"leaf-{number}", origin_url=f"{hub.url}/artifacts", refresh_s=30)
            )
            for number in range(20)
        ]
        answers = await asyncio.gather(*(world.ask(f"/artifacts/{target}") for world in worlds))
        digests = {sha256(answer.body).hexdigest() for answer in answers}
        assert {answer.code for answer in answers} == {200}
        assert digests == {sha256(data).hexdigest()}
        for world in worlds:
            await world.until_stored(sha256(data).hexdigest())
    assert size_bytes <= relay.received_bytes < 1.05 * size_bytes
    served = await asyncio.to_thread(hub.metric, "waystation_served_bytes_total")
    assert served >= 20 * size_bytes


def test_new_versions_come_through_a_hub_before_anyone_asks_for_them(
    bucket: Bucket, hub: Station, tmp_path: Path, app: str
) -> None:
    bodies = {version: publish(bucket, name(version, app)) for version in ("0.9", "1.0", "1.1")}
    publish(bucket, f"{app}/{app}-9.9-riscv64")
    config = behind(hub, prefetch=[{"match": f"{app}/*", "newest": 2}])
    with running_station(tmp_path / "leaf", config) as leaf:
        for version in ("1.0", "1.1"):
            until_stored(leaf, bodies[version])
        newest = publish(bucket, name("1.10", app))
        until_stored(leaf, newest)
        assert len(stored(leaf)) == 3
        hub.stop()
        for body, version in ((bodies["1.1"], "1.1"), (newest, "1.10")):
            assert leaf.artifact(name(version, app)).body == body
    hub.start()


def test_ranges_pieces_and_checksums_go_through_a_hub(
    bucket: Bucket, relay: Relay, hub: Station, leaf: Station, target: str
) -> None:
    data = publish(bucket, target, 24 * MIB)
    relay.limit(6 * MIB)
    part = leaf.artifact(target, headers={"Range": f"bytes={20 * MIB}-{20 * MIB + 9}"})
    assert (part.code, part.body) == (206, data[20 * MIB : 20 * MIB + 10])
    assert relay.received_bytes < 18 * MIB  # it did not have to wait for all that is in front of it
    relay.limit(None)
    assert leaf.artifact(target).body == data
    for ending in (".pieces", ".sha256"):
        assert leaf.artifact(f"{target}{ending}").body == hub.artifact(f"{target}{ending}").body
    assert leaf.artifact(f"{target}.pieces").body == bucket.get(f"{target}.pieces")


def test_a_hub_that_dies_in_mid_flight_and_comes_back_costs_a_client_only_time(
    bucket: Bucket, relay: Relay, hub: Station, tmp_path: Path, target: str
) -> None:
    """On a machine that has much to do the hub's start may take longer than the usual retries last."""
    data = publish(bucket, target, 24 * MIB)
    relay.limit(8 * MIB)
    answers: list[Answer] = []
    with running_station(tmp_path / "leaf", behind(hub, transfer={"retries": 100})) as leaf:
        client = threading.Thread(target=lambda: answers.append(leaf.artifact(target)))
        client.start()
        wait_until(lambda: leaf.metric("waystation_origin_bytes_total") > 4 * MIB, "some of it has come")
        hub.process.kill()
        relay.limit(None)
        hub.start()
        client.join(60)
    assert [(answer.code, answer.body == data) for answer in answers] == [(200, True)]


def test_a_hub_without_its_bucket_gives_what_it_has_and_says_of_the_rest_why_not(
    bucket: Bucket, tmp_path: Path, target: str, app: str
) -> None:
    cached, other = publish(bucket, target), name("2.0", app)
    publish(bucket, other)
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(bucket.server.port))
        config = hub_config(bucket, tmp_path, relay.endpoint_url)
        hub = stack.enter_context(running_station(tmp_path / "hub", config))
        leaf = stack.enter_context(running_station(tmp_path / "leaf", behind(hub)))
        assert hub.artifact(target).body == cached
        assert leaf.artifact(other, method="HEAD").code == 200
        until_stored(hub, cached)
        relay.stop()
        for _ in range(4):  # more than open a circuit
            refused = leaf.artifact(other)
            assert (refused.code, refused.headers["Waystation-Reason"]) == (503, "hub_unavailable")
            assert int(refused.headers["Retry-After"]) >= 1
        assert leaf.artifact(target).body == cached
        assert leaf.artifact(name("3.0", app)).code == 503  # nobody knows whether there is one
        told = json.loads(verb(leaf, "explain", other, "--json").stdout)
    assert (told["answer"]["code"], told["answer"]["reason"]) == (503, "hub_unavailable")
    assert told["origin"]["circuit"] == "closed"


def test_a_hub_s_404_and_502_are_a_404_and_a_502_behind_it(
    bucket: Bucket, hub: Station, leaf: Station, target: str, app: str
) -> None:
    published = publish(bucket, target)
    bucket.put(f"{app}/bare", b"nobody vouches for this")
    bucket.put(target, b"other bytes" * 1000)
    unknown, bare = leaf.artifact(f"{app}/absent"), leaf.artifact(f"{app}/bare")
    assert (unknown.code, unknown.headers["Waystation-Reason"]) == (404, "unknown_target")
    assert (bare.code, bare.headers["Waystation-Reason"]) == (404, "no_checksum")
    rejected = leaf.artifact(target)
    assert (rejected.code, rejected.headers["Waystation-Reason"]) == (502, "rejected_by_hub")
    assert not stored(leaf) & {sha256(published).hexdigest()}
    told = json.loads(verb(leaf, "explain", target, "--json").stdout)
    assert (told["answer"]["code"], told["answer"]["reason"]) == (502, "rejected_by_hub")


def test_a_hub_without_room_is_a_503_behind_it(bucket: Bucket, relay: Relay, tmp_path: Path, target: str) -> None:
    publish(bucket, target, pieces=False)
    folder = tmp_path / "hub"
    config = hub_config(bucket, folder, relay.endpoint_url, store={"max_size": "1MiB"})
    with running_station(folder, config) as hub, running_station(tmp_path / "leaf", behind(hub)) as leaf:
        assert hub.artifact(target).code == 507
        refused = leaf.artifact(target)
        assert (refused.code, refused.headers["Waystation-Reason"]) == (503, "hub_unavailable")


def test_a_copy_that_rots_at_the_hub_is_caught_behind_it_and_mended(
    bucket: Bucket, hub: Station, leaf: Station, target: str
) -> None:
    data = publish(bucket, target)
    assert hub.artifact(target).body == data
    digest = until_stored(hub, data)
    (blob,) = [file for file in hub.blobs() if file.name == digest]
    with blob.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"rot")
    with pytest.raises((http.client.IncompleteRead, OSError)):  # its first pieces were right, so they had left
        leaf.artifact(target)
    assert digest not in stored(leaf)
    assert leaf.metric("waystation_verification_failures_total", where="origin") >= 1
    assert verb(hub, "store", "verify", target).returncode == 1
    assert leaf.artifact(target).body == data


def test_what_a_hub_has_evicted_it_fetches_again(
    bucket: Bucket, relay: Relay, hub: Station, leaf: Station, target: str
) -> None:
    data = publish(bucket, target)
    assert leaf.artifact(target).body == data
    for station in (leaf, hub):
        until_stored(station, data)
        assert verb(station, "store", "evict", target).returncode == 0
    assert leaf.artifact(target).body == data


def test_daemons_that_ask_each_other_in_a_circle_say_so_at_once(tmp_path: Path, target: str) -> None:
    one = Station(tmp_path / "one", {})
    other = Station(tmp_path / "other", behind(one))
    one.config.update(behind(other))
    with one.process, other.process:
        one.start(ready=False)
        other.start(ready=False)
        for station in (one, other):  # each was asked for in vain while the other one was not there yet
            wait_until(
                lambda station=station: station.artifact(target).headers["Waystation-Reason"] == "origin_loop",  # type: ignore[misc]
                "the circle is noticed",
            )
        began = time.monotonic()
        refused = one.artifact(target)
        assert (refused.code, refused.headers["Waystation-Reason"]) == (503, "origin_loop")
        assert time.monotonic() - began < 5
        wait_until(lambda: b"circle" in other.get("/readyz").body, "it is said why it is not ready")
        told = verb(other, "explain", target).stdout
        assert "503 origin_loop" in told


def test_a_daemon_whose_origin_is_itself_says_so(tmp_path: Path, target: str) -> None:
    own = Station(tmp_path / "own", {})
    own.config.update(behind(own))
    with own.process:
        own.start(ready=False)
        refused = own.artifact(target)
        assert (refused.code, refused.headers["Waystation-Reason"]) == (503, "origin_loop")


def test_the_verbs_work_through_a_hub_and_those_that_write_refuse_in_words(
    bucket: Bucket, hub: Station, leaf: Station, tmp_path: Path, target: str, app: str
) -> None:
    data = publish(bucket, target)
    publish(bucket, name("0.9", app))
    listed = verb(leaf, "list", f"{app}/*")
    assert listed.stdout.split() == [name("0.9", app), target]
    shown = json.loads(verb(leaf, "show", target, "--json").stdout)
    assert (shown["sha256"], shown["size_bytes"]) == (sha256(data).hexdigest(), len(data))
    assert sha256(data).hexdigest() in verb(leaf, "stanza", target).stdout
    fetched = verb(leaf, "fetch", target, "-o", str(tmp_path / "fetched"))
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "fetched").read_bytes() == data
    examined = verb(leaf, "doctor")
    assert examined.returncode == 0, examined.stdout
    assert "its keys can be listed" in examined.stdout
    assert "objects can be read" in examined.stdout
    for writing in (("adopt",), ("publish", str(tmp_path / "fetched"), "--app", "app", "--version", "5")):
        refused = verb(leaf, *writing)
        assert refused.returncode == 1
        assert "can only be read" in refused.stderr
    assert "can only be read" in verb(leaf, "doctor", "--publish").stdout


def test_subscriptions_with_wildcards_need_a_hub_and_the_error_names_key_and_file(tmp_path: Path, target: str) -> None:
    """What ends in /artifacts may be a hub, and only asking tells."""
    with running_nginx(tmp_path / "nginx", tmp_path) as nginx:
        for number, path in enumerate(("bundles", "artifacts")):
            config = behind(f"{nginx.url}/{path}", prefetch=[{"match": target}, {"match": "app/*"}])
            station = Station(tmp_path / f"leaf-{number}", config)
            with station.process:
                with pytest.raises(PeerFailed, match="ended with 2"):
                    station.start()
                said = station.process.last_words()
            assert f"{station.config_file}: prefetch[2].match" in said
            assert "can't be listed" in said


def test_a_target_that_is_subscribed_to_by_its_name_needs_no_list(
    bucket: Bucket, tmp_path: Path, target: str, app: str
) -> None:
    bucket.make_public(listing=True)
    data = publish(bucket, target)
    url = f"{bucket.server.endpoint_url}/{bucket.name}"
    config = behind(url, prefetch=[{"match": target}, {"match": name("2.0", app)}])
    with running_station(tmp_path / "leaf", config) as leaf:
        until_stored(leaf, data)
        until_stored(leaf, publish(bucket, name("2.0", app)))
        listed = verb(leaf, "list")
        assert listed.returncode == 1
        assert "can't be listed" in listed.stderr
        examined = verb(leaf, "doctor")
        assert examined.returncode == 0, examined.stdout
        assert "name each target in full" in examined.stdout


def test_an_idle_daemon_behind_a_hub_takes_no_more_memory_than_one_at_a_bucket(leaf: Station) -> None:
    status = Path(f"/proc/{leaf.process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident
    assert int(resident[1]) < 95_000
