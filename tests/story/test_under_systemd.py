"""A daemon as systemd runs it: ready when it can serve, watched while it runs, restarted without refusing anybody."""

from __future__ import annotations

import signal
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing, contextmanager
from hashlib import sha256
from http.client import HTTPConnection
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from peers.manager import activating, forking, listening
from peers.processes import is_listening, wait_until
from peers.station import Station, to_toml
from stores import random_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGET = "app/app-1.0.0-x86_64"
BODY = random_bytes(8 * 1024 * 1024 + 17)
"""More than the sockets between two processes hold."""
SMALL_TARGET = "app/app-0.9.0-x86_64"
SMALL_BODY = random_bytes(300_000)
RESTARTS = 50
CLIENTS = 4


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    for target, body in ((TARGET, BODY), (SMALL_TARGET, SMALL_BODY)):
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        path.with_name(f"{path.name}.sha256").write_text(f"{sha256(body).hexdigest()}  {path.name}\n")
    return folder


@pytest.fixture
def station(tmp_path: Path, origin: Path) -> Iterator[Station]:
    station = Station(tmp_path / "station", {"origin": {"url": origin.as_uri()}, "catalog": {"refresh": "0s"}})
    with station.process:
        yield station


# --- readiness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_ready_only_once_the_origin_has_answered_and_says_until_then_what_it_lacks(
    station: Station, origin: Path, *, abstract: bool
) -> None:
    hidden = origin.rename(origin.with_name("hidden"))
    with listening(station, abstract=abstract) as ears:
        station.start(ready=False)
        wait_until(lambda: str(origin) in (ears.last("STATUS") or ""), "a word on what it lacks")
        assert (ears.last("STATUS") or "").startswith("waiting")
        assert station.get("/readyz").code == 503
        assert ears.count("READY=1") == 0
        hidden.rename(origin)
        ears.wait_for("READY=1")
        assert station.get("/readyz").code == 200
        assert (ears.last("STATUS") or "").startswith("serving")
        assert ears.count("READY=1") == 1


def test_what_it_knows_from_before_makes_it_ready_while_the_origin_is_away(station: Station, origin: Path) -> None:
    with listening(station) as ears:
        station.start()
        assert station.artifact(TARGET).body == BODY
        station.stop()
        assert ears.count("STOPPING=1") == 1
        origin.rename(origin.with_name("hidden"))
        station.start()
        ears.wait_for("READY=1", count=2)
        assert station.artifact(TARGET).body == BODY
        wait_until(lambda: "the origin is away" in (ears.last("STATUS") or ""), "a word on the origin")


def test_a_daemon_that_can_t_start_never_says_that_it_is_ready(station: Station) -> None:
    station.config["store"]["path"] = "/proc/nowhere"
    with listening(station) as ears:
        station.config_file.write_text("")
        with pytest.raises(Exception, match="ended with 1"):
            station.start()
        assert ears.count("READY=1") == 0


# --- the watchdog --------------------------------------------------------------------------------

HANG = """\
import asyncio, signal, sys, time
from waystation.cli import main
add = asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler
def too(loop, number, *rest):
    add(loop, signal.SIGUSR1, time.sleep, 600)
    add(loop, number, *rest)
asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = too
sys.argv[0] = "waystation"
main()
"""
"""The daemon, with one fault: at SIGUSR1 its loop calls something that blocks."""


def test_a_loop_that_hangs_stops_feeding_the_watchdog(station: Station) -> None:
    watchdog_s = 1.0
    at = station.process.command.index("-m")
    station.process.command[at : at + 2] = ["-c", HANG]
    with listening(station, watchdog_s=watchdog_s) as ears:
        station.start()
        for number in range(1, 4):
            ears.wait_for("WATCHDOG=1", count=number + ears.count("WATCHDOG=1"))
        times = [at for at, said in ears.heard if "WATCHDOG=1" in said]
        assert max(b - a for a, b in pairwise(times)) < watchdog_s
        station.process.signal(signal.SIGUSR1)
        hung = time.monotonic()
        wait_until(lambda: time.monotonic() - hung > 2 * watchdog_s, "the time in which systemd kills it")
        assert station.process.running  # and nothing else would have told
        assert max(at for at, said in ears.heard if "WATCHDOG=1" in said) < hung + watchdog_s


def test_the_watchdog_is_fed_while_downloads_are_finished(station: Station) -> None:
    with listening(station, watchdog_s=0.9) as ears:
        station.start()
        with draining(station):
            ears.wait_for("STOPPING=1")
            fed = ears.count("WATCHDOG=1")
            ears.wait_for("WATCHDOG=1", count=fed + 3)
        assert station.process.wait() == 0


# --- sockets -------------------------------------------------------------------------------------


def test_a_passed_socket_wins_over_the_configured_address(station: Station) -> None:
    station.config["mirror"]["listen"] = ["http://127.0.0.1:1"]
    with activating(station):
        station.start()
        assert station.artifact(TARGET).body == BODY
        (line,) = station.log_lines("listening")
        assert (line["urls"], line["sockets_of"]) == ([station.url], "systemd")


def test_its_own_socket_is_closed_at_once_when_it_is_told_to_stop(station: Station) -> None:
    station.start()
    with draining(station):
        wait_until(lambda: not is_listening(station.port), "the end of its own socket")
    assert station.process.wait() == 0


def test_who_connects_to_a_passed_socket_while_it_stops_is_served_by_the_next_one(station: Station) -> None:
    with activating(station):
        station.start()
        with draining(station):
            answer: list[bytes] = []
            late = threading.Thread(target=lambda: answer.append(station.artifact(TARGET).body))
            late.start()
        assert station.process.wait() == 0
        assert late.is_alive()
        station.start()
        late.join(30)
        assert answer == [BODY]


@contextmanager
def draining(station: Station) -> Iterator[None]:
    """Tell it to stop while a download runs, which ends whole behind the block."""
    with urllib.request.urlopen(station.url + "/artifacts/" + TARGET, timeout=30) as slow:  # noqa: S310
        first = slow.read(1)
        station.process.signal(signal.SIGTERM)
        wait_until(lambda: bool(station.log_lines("draining")), "the drain")
        yield
        assert first + slow.read() == BODY


def test_fifty_restarts_under_load_refuse_nobody(station: Station) -> None:
    """Four ask all the time, and two more connect each time that no daemon is there."""
    outcomes: Counter[str] = Counter()
    over = threading.Event()

    def download() -> None:
        while not over.is_set():
            try:
                answer = station.artifact(SMALL_TARGET)
            except OSError as error:
                outcomes[f"failed: {error}"] += 1
            else:
                outcomes["whole" if answer.body == SMALL_BODY else f"not whole: {answer.code}"] += 1

    station.config_file.write_text(to_toml(station.config))
    with listening(station) as ears, forking(station) as daemon:
        daemon.start()
        ears.wait_for("READY=1")
        clients = [threading.Thread(target=download) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for number in range(RESTARTS):
                assert daemon.stop() == 0
                waiting = [asked(station) for _ in range(2)]
                daemon.start()
                ears.wait_for("READY=1", count=number + 2)
                for waits in waiting:
                    with waits as connection:
                        assert connection.getresponse().read() == SMALL_BODY
        finally:
            over.set()
            for client in clients:
                client.join(30)
        assert set(outcomes) == {"whole"}
        assert outcomes["whole"] > RESTARTS


def asked(station: Station) -> closing[HTTPConnection]:
    """A client that has connected and asked; nobody need have answered."""
    connection = HTTPConnection("127.0.0.1", station.port, timeout=30)
    connection.request("GET", f"/artifacts/{SMALL_TARGET}")
    return closing(connection)
