"""What an operator does on a machine with a running daemon, by the command's own words."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from peers.processes import wait_until
from peers.station import running_station
from secrecy import search
from waystation.cli.entry import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.station import Station

NAME, OTHER = "app/app-1-x86_64", "tool/tool-1-x86_64"
BODY = b"0123456789abcdef" * 8192


@dataclass
class Command:
    """The command line, run in this process against one daemon."""

    station: Station
    origin: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a verb, check its exit status, and return its output; what went to standard error is in `err`."""
        self.capture.readouterr()
        verb = len(arguments) if "--" not in arguments else arguments.index("--")
        done = run([*arguments[:verb], "--config", str(self.station.config_file), *arguments[verb:]])
        out, self.err = self.capture.readouterr()
        search(out + self.err, f"waystation {arguments[0]}")
        assert done == status, self.err
        return out

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status))

    def publish(self, name: str, data: bytes, *, checksum: bool = True) -> str:
        path = self.origin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = sha256(data).hexdigest()
        if checksum:
            path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
        return digest

    def fetched(self, name: str, data: bytes) -> str:
        """Publish and fetch, and wait until it is stored: the last byte leaves before that."""
        digest, before = self.publish(name, data), self.station.metric("waystation_store_blobs")
        assert self.station.artifact(name).body == data
        wait_until(lambda: self.station.metric("waystation_store_blobs") > before, f"{name} is stored")
        return digest


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    config, handlers, level = structlog.get_config(), logging.root.handlers, logging.root.level
    origin = tmp_path / "origin"
    origin.mkdir()
    with running_station(tmp_path / "s", {"origin": {"url": origin.as_uri()}, "catalog": {"refresh": "0s"}}) as station:
        yield Command(station, origin, capsys)
    structlog.configure(**config)
    logging.root.handlers, logging.root.level = handlers, level


# --- the store -----------------------------------------------------------------------------------


def test_an_operator_lists_pins_and_evicts(command: Command) -> None:
    one, two = command.fetched(NAME, BODY), command.fetched(OTHER, BODY[::-1])
    assert command.run("store", "pin", NAME, two) == f"pinned\t{NAME}\t\npinned\t{OTHER}\t\n"
    rows = [line.split("\t") for line in command.run("store", "ls").splitlines()]
    assert [(row[0], row[1], row[4:]) for row in rows] == [
        (NAME, "128.0 KiB", ["operator", "stored", one]),
        (OTHER, "128.0 KiB", ["operator", "stored", two]),
    ]
    assert command.err == "2 blobs, 256.0 KiB.\n"

    refused = command.run("store", "evict", NAME, "app/absent", status=1).splitlines()
    assert refused[0].startswith(f"failed\t{NAME}\t{one} is pinned by operator.")
    assert refused[1].startswith("failed\tapp/absent\tnothing is known here")
    assert command.run("store", "unpin", NAME) == f"unpinned\t{NAME}\t\n"
    assert command.run("store", "evict", NAME) == f"evicted\t{NAME}\t\n"
    assert [blob["targets"] for blob in command.json("store", "ls")] == [[OTHER]]
    assert (command.station.artifact(NAME).body, command.station.metric("waystation_evictions_total")) == (BODY, 1)


def test_the_store_is_added_up_by_app(command: Command) -> None:
    command.fetched(NAME, BODY)
    command.fetched("app/app-2-x86_64", BODY[1:])
    command.fetched(OTHER, BODY[2:])
    command.run("store", "pin", NAME)
    apps = command.json("store", "ls", "--by", "app")
    assert [(app["app"], app["blobs"], app["size_bytes"], app["pinned_bytes"]) for app in apps] == [
        ("app", 2, 2 * len(BODY) - 1, len(BODY)),
        ("tool", 1, len(BODY) - 2, 0),
    ]
    assert command.run("store", "ls", "--by", "app").splitlines()[0].startswith("app\t2\t256.0 KiB\t128.0 KiB\t")


def test_verify_reads_all_and_exits_with_1_when_something_was_bad(command: Command) -> None:
    one, two = command.fetched(NAME, BODY), command.fetched(OTHER, BODY[::-1])
    assert command.run("store", "verify") == ""
    assert command.err == "2 good, 0 bad, 0 not checked.\n"
    assert command.run("store", "verify", NAME) == f"good\t{NAME}\t\n"

    (rotten,) = [path for path in command.station.blobs() if path.name == two]
    rotten.chmod(0o600)
    rotten.write_bytes(BODY)
    assert command.run("store", "verify", status=1).startswith(f"bad\t{OTHER}\t")
    assert command.err == "1 good, 1 bad, 0 not checked.\n"
    assert [(each["sha256"], each["outcome"]) for each in command.json("store", "verify")] == [(one, "good")]
    assert command.json("store", "verify", OTHER, status=1)[0]["outcome"] == "failed"
    assert command.station.artifact(OTHER).body == BODY[::-1]


# --- why, or why not -----------------------------------------------------------------------------


def test_explain_tells_what_a_client_gets_before_and_after_it_asked(command: Command) -> None:
    told = command.run("explain", NAME)
    assert f"now\t404 unknown_target: the origin has no '{NAME}'\n" in told
    assert "to do\tSee `waystation list` for what is published.\n" in told

    digest = command.publish(NAME, BODY)
    told = command.json("explain", NAME)
    assert (told["catalog"]["sha256"], told["answer"]["cache"]) == (digest, "miss")
    assert command.station.blobs() == []

    command.fetched(OTHER, BODY[::-1])
    told = command.run("explain", f"{command.station.url}/artifacts/{OTHER}")
    assert "now\t200, from the store; the origin is not needed\n" in told


def test_without_a_daemon_explain_says_so_and_what_the_origin_alone_can_tell(command: Command) -> None:
    command.publish(NAME, BODY)
    assert command.station.stop() == 0
    told = command.run("explain", NAME)
    assert "daemon\tnone runs here" in told
    assert "now\tnobody answers; a daemon that has nothing stored would say: 200, from the origin" in told
    assert command.json("explain", "app/absent")["answer"]["code"] == 404
    assert command.json("explain", "/artifacts/a//b")["answer"]["reason"] == "malformed_request"
    assert not (command.origin.parent / "s" / "store" / "catalog.json").exists()


# --- the log -------------------------------------------------------------------------------------


def test_the_log_level_is_changed_while_the_daemon_runs(command: Command) -> None:
    command.fetched(NAME, BODY)
    station = command.station

    def answered() -> int:
        return len(station.log_lines("request_answered"))

    assert command.json("log-level", "warning") == {"level": "warning", "before": "info"}
    quiet = answered()
    assert (station.artifact(NAME).code, station.artifact("app/absent").code) == (200, 404)
    wait_until(lambda: len(station.log_lines("request_refused")) == 1, "the refusal is logged")
    assert answered() == quiet
    command.run("log-level", "error")
    assert station.artifact("app/absent").code == 404

    assert command.json("log-level", "debug")["before"] == "error"
    assert len(station.log_lines("request_refused")) == 1
    assert station.artifact(NAME).code == 200
    wait_until(lambda: answered() > quiet, "answers are logged again")
    command.run("status")
    assert [line["level"] for line in station.log_lines("admin_call") if line["verb"] == "/status"] == ["debug"]
    changes = [(line["before"], line["level_now"]) for line in station.log_lines("log_level_changed")]
    assert changes == [("info", "warning"), ("warning", "error"), ("error", "debug")]
    command.run("log-level", "loud", status=2)
    assert "Invalid value for 'LEVEL': 'loud' is not one of 'debug', 'info', 'warning', 'error'." in command.err


# --- the status, again and again -----------------------------------------------------------------


def watching(command: Command, *options: str, out: int) -> subprocess.Popen[bytes]:
    """Start `status --watch` with its output at a descriptor."""
    return subprocess.Popen(
        [sys.executable, "-m", "waystation", "status", "--watch", *options, "--config", command.station.config_file],
        env=command.station.environment,
        stdout=out,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def read_until(fd: int, wanted: bytes, *, count: int = 1) -> bytes:
    """Read until this has come so often."""
    got = b""
    while got.count(wanted) < count:
        ready, _, _ = select.select([fd], [], [], 30)
        assert ready, got
        got += os.read(fd, 65536)
    return got


def test_a_watched_status_is_drawn_over_itself_and_leaves_the_terminal_as_it_was(command: Command) -> None:
    command.fetched(NAME, BODY)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with watching(command, out=theirs) as watcher:
        try:
            first = read_until(ours, b"\x1b[H")
            assert first.startswith(b"\x1b[?1049h\x1b[?25l\x1b[H")
            command.station.artifact("app/absent")
            seen = read_until(ours, b"app/absent")
            assert b"\x1b[H" in seen
            command.station.stop()
            read_until(ours, b"no daemon runs here")
            command.station.start()
            again = read_until(ours, b"ready")
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait(10) == 0
            assert (again + os.read(ours, 65536)).endswith(b"\x1b[?25h\x1b[?1049l")
        finally:
            watcher.kill()
    lines = re.split(rb"\r\n|\x1b\[H", re.sub(rb"\x1b\[[KJ?0-9]*[hl]?", b"", seen))
    assert max(len(line.decode()) for line in lines) <= 80


def test_a_watched_status_in_a_pipe_is_one_json_document_a_line(command: Command) -> None:
    ours, theirs = os.pipe()
    with watching(command, "--json", out=theirs) as watcher:
        try:
            os.close(theirs)
            documents = read_until(ours, b"\n", count=2).splitlines()[:2]
            assert [json.loads(each)["pid"] for each in documents] == [command.station.process.pid] * 2
            command.station.stop()
            assert watcher.wait(10) == 1
            assert watcher.stderr is not None
            assert json.loads(watcher.stderr.read())["error"]["reason"] == "no_daemon"
        finally:
            watcher.kill()
            os.close(ours)


def test_the_same_status_is_read_over_http(command: Command) -> None:
    shown = json.loads(command.station.get("/api/v1/status").body)
    told = command.json("status")
    assert shown.keys() == told.keys()
    assert (shown["pid"], shown["store"], shown["listen"]) == (told["pid"], told["store"], told["listen"])
