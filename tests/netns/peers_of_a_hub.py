"""One machine's connections; run by `tests/story/test_crowding.py` in a network namespace of its own."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from peers.station import Station

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUB, GREEDY, MODEST = "10.99.0.1", "10.99.0.2", "10.99.0.3"
ALLOWED = 3


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Station]:
    """Listening to the network and on loopback."""
    for address in (HUB, GREEDY, MODEST):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    (tmp_path / "bucket").mkdir()
    station = Station(tmp_path / "station", {"origin": {"url": (tmp_path / "bucket").as_uri()}})
    station.config["mirror"] |= {
        "listen": [station.url, f"http://{HUB}:{station.port}"],
        "allow_insecure": True,
        "max_connections_per_peer": ALLOWED,
    }
    with station.process:
        station.start()
        yield station


def connect(stack: ExitStack, station: Station, to: str, source: str) -> HTTPConnection:
    connection = HTTPConnection(to, station.port, timeout=20, source_address=(source, 0))
    stack.callback(connection.close)
    return connection


def ask(connection: HTTPConnection) -> tuple[int, str, str | None]:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers["Retry-After"]


def test_one_machine_s_connections_are_limited_and_nobody_else_s(hub: Station) -> None:
    with ExitStack() as stack:
        held = [connect(stack, hub, HUB, GREEDY) for _ in range(ALLOWED)]
        for connection in held:
            assert ask(connection)[0] == 200
        code, said, retry_after = ask(connect(stack, hub, HUB, GREEDY))
        assert (code, retry_after) == (429, "5")
        assert said.startswith("too_many_connections: ")
        assert "max_connections_per_peer" in said
        assert hub.metric("waystation_requests_total", code="429", reason="too_many_connections") == 1

        assert ask(connect(stack, hub, HUB, MODEST))[0] == 200
        for connection in held:
            assert ask(connection)[0] == 200, "those that it has stay"
        own = [connect(stack, hub, "127.0.0.1", "127.0.0.1") for _ in range(ALLOWED + 2)]
        assert {ask(connection)[0] for connection in own} == {200}, "this machine's own are not counted"

        held.pop().close()
        assert ask(connect(stack, hub, HUB, GREEDY))[0] == 200
