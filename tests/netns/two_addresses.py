"""A name with two addresses, this machine's mirror and a hub; run by `tests/story/test_fallback.py` in namespaces.

The names stand in a hosts file of the namespace's own. What Nomad itself makes of two addresses, under its sandbox, is
another story (`tests/nomad`): this is the go-getter in it.
"""

from __future__ import annotations

import random
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from peers import go_getter
from peers.places import FolderPlace, HubPlace
from peers.station import Station

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUB = "10.99.0.2"
NAME = "artifacts.test"
TARGET = "app/app-1-x86_64"
BODY = random.Random(1).randbytes(3 * 1024 * 1024)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module", autouse=True)
def machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{HUB}/32", "dev", "lo")
    hosts = tmp_path_factory.mktemp("machine") / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {NAME}\n{HUB} {NAME}\n")
    run("mount", "--bind", str(hosts), "/etc/hosts")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Station]:
    folder = FolderPlace(tmp_path / "origin")
    folder.root.mkdir()
    HubPlace("", folder).put(TARGET, BODY)
    config = {"origin": {"url": folder.root.as_uri()}, "mirror": {"hosts": [NAME], "allow_insecure": True}}
    station = Station(tmp_path / "hub", config, host=HUB)
    with station.process:
        station.start()
        yield station


@pytest.fixture
def leaf(hub: Station, tmp_path: Path) -> Station:
    """Behind one name both listen on one port."""
    config = {"origin": {"url": f"{hub.url}/artifacts"}, "mirror": {"hosts": [NAME]}}
    return Station(tmp_path / "leaf", config, port=hub.port)


def test_the_hub_serves_while_the_daemon_here_is_dead_and_the_daemon_while_it_lives(
    hub: Station, leaf: Station, tmp_path: Path
) -> None:
    url = f"http://{NAME}:{hub.port}/artifacts/{TARGET}?checksum=sha256:{sha256(BODY).hexdigest()}"
    with leaf.process:
        leaf.start()
        assert go_getter.fetch(url, tmp_path / "one").ok
        assert leaf.metric("waystation_requests_total", route="artifacts", code="200") >= 1
        asked = hub.metric("waystation_requests_total", route="artifacts")
        leaf.process.kill()
        assert go_getter.fetch(url, tmp_path / "two").ok
        assert hub.metric("waystation_requests_total", route="artifacts") > asked
        leaf.start()
        hub.process.kill()
        assert go_getter.fetch(url, tmp_path / "three").ok
    assert (tmp_path / "two").read_bytes() == BODY
