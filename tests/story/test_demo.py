"""The whole story in one command: `scripts/demo` on the example bundle, and `waystation demo` cut short."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peers.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "waystation", "demo")
STEPS = [
    "publish …",
    "start the daemon, until it is ready",
    "fetch it through the mirror, cold",
    "fetch it again, warm",
    "run it with an empty environment",
    "ask for its page",
    "take the origin away",
    "fetch it without the origin",
    "ask for something new without the origin",
    "waystation status",
    "stop the daemon",
    "the end: nothing runs any more, the folder is gone",
]


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo makes its folder, by a path that leaves a Unix socket in it the 107 bytes that it may have."""
    return tmp_path_factory.mktemp("t")


@contextmanager
def telling(scratch: Path, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A running demo, with its output; whatever happens, nothing of it outlives the test."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch), "WAYSTATION_ORIGIN__URL": "s3://not-for-the-demo"},
        start_new_session=True,
    ) as demo:
        try:
            yield demo
        finally:
            if demo.poll() is None or started_by(demo):
                os.killpg(demo.pid, signal.SIGKILL)


def started_by(demo: subprocess.Popen[str]) -> list[str]:
    """The command lines of what still runs in the demo's process group."""
    running = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == demo.pid and fields[0] != "Z":
                running.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return running


def tell(scratch: Path, *command: str | Path) -> tuple[int, str, str]:
    """Run a demo to its end; return its exit status and what it wrote, having checked that nothing is left."""
    with telling(scratch, *command) as demo:
        out, err = demo.communicate()
        assert not started_by(demo)
        assert not left_in(scratch)
        return demo.returncode, out, err


def left_in(scratch: Path) -> list[str]:
    """What is left there, but for the lock by which uv keeps two of itself apart."""
    return [name for name in os.listdir(scratch) if not re.fullmatch(r"uv-[0-9a-f]+\.lock", name)]


def titles(out: str) -> list[str]:
    """The steps' titles, each of which has its number and its time."""
    steps = re.findall(r"^ ?(\d+)  (.+?) +(\d+\.\d{3}) s$", out, re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    return [re.sub(r"^publish .*", "publish …", title) for _, title, _ in steps]


@pytest.mark.timeout(900)  # a fresh checkout bundles the example first
def test_the_script_tells_the_story_of_the_example_app_twice_and_leaves_nothing(scratch: Path) -> None:
    for _ in range(2):
        began = time.monotonic()
        status, out, err = tell(scratch, ROOT / "scripts/demo")
        seconds = time.monotonic() - began
        assert (status, titles(out)) == (0, STEPS), err
        assert "We need a $10M series B to write a blockchain-based pet taxi app." in out
        assert re.search(r'checksum = "sha256:[0-9a-f]{64}"', out)
        assert out.count("the checksum matches") == 3
        assert re.search(r"503, Retry-After: \d+", out)
        assert "origin_unreachable" in out
    assert seconds < 60


def test_without_an_executable_it_runs_a_script_of_its_own(scratch: Path) -> None:
    status, out, err = tell(scratch, *DEMO)
    assert (status, err) == (0, "")
    assert titles(out) == [step for step in STEPS if step != "ask for its page"]
    assert "hello from a file that came through a Waystation mirror" in out


def test_with_json_each_step_is_a_line(scratch: Path) -> None:
    status, out, _ = tell(scratch, *DEMO, "--json")
    steps = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [step["step"] for step in steps] == list(range(1, len(STEPS)))
    assert all(step["seconds"] >= 0 and isinstance(step["notes"], list) for step in steps)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_ends_it_at_once_and_nothing_is_left(
    scratch: Path, tmp_path: Path, number: signal.Signals, expected: int
) -> None:
    app = tmp_path / "sleeper-1-x86_64"
    app.write_text("#!/bin/sh\nexec /bin/sleep 300\n")  # so that the story stands still in mid-step
    with telling(scratch, *DEMO, "--app", app) as demo:
        wait_until(lambda: any("sleep 300" in line for line in started_by(demo)), "the app runs")
        os.kill(demo.pid, number)
        _, err = demo.communicate(timeout=30)
        assert demo.returncode == expected
        assert "Traceback" not in err
        assert not started_by(demo)
    assert not left_in(scratch)


def test_an_app_that_fails_ends_it_in_one_line_and_nothing_is_left(scratch: Path, tmp_path: Path) -> None:
    app = tmp_path / "broken-1-x86_64"
    app.write_text("#!/bin/sh\necho no luck today >&2\nexit 3\n")
    status, _, err = tell(scratch, *DEMO, "--app", app)
    assert status == 1
    assert err.count("\n") == 1
    assert "broken-1-x86_64 ended with status 3: no luck today" in err


def test_a_file_that_is_no_executable_is_told_in_one_line(scratch: Path, tmp_path: Path) -> None:
    app = tmp_path / "text-1-x86_64"
    app.write_text("not a program\n")
    status, _, err = tell(scratch, *DEMO, "--app", app)
    assert status == 1
    assert err.count("\n") == 1
    assert "text-1-x86_64 can't be run: Exec format error" in err


def test_an_app_that_is_not_there_is_told_in_one_line(scratch: Path, tmp_path: Path) -> None:
    status, _, err = tell(scratch, *DEMO, "--app", tmp_path / "absent")
    assert status == 1
    assert err.count("\n") == 1
    assert "absent can't be read" in err
