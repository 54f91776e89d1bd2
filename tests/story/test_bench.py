"""The bench's quick look: every row has its value, the documents stay as they are, nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.bars import BARS, MARKS
from peers.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WRITTEN = [ROOT / "docs/benchmarks.md", ROOT / "docs/benchmarks.svg"]
NEEDED = ("curl", "nginx", "varnishd", "wrk")
MISSING = [program for program in NEEDED if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the bench's peers are not installed: {', '.join(MISSING)}")


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name: the sockets in it have 107 bytes at most for their whole path."""
    return tmp_path_factory.mktemp("b")


@contextmanager
def benching(scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """A running `scripts/bench --quick` that makes its folder in `scratch`; it does not outlive the test."""
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "--quick"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as bench:
        try:
            yield bench
        finally:
            bench.kill()


def started_in(scratch: Path) -> list[str]:
    """The command lines of what still runs with its files in `scratch`."""
    running = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = command.read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(scratch) in line:
            running.append(line)
    return running


def states() -> list[tuple[int, int] | None]:
    """What would change if the documents were written."""
    return [(path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None for path in WRITTEN]


def test_a_quick_look_measures_every_bar_and_leaves_nothing_behind(scratch: Path) -> None:
    before = states()
    with benching(scratch) as bench:
        shown, told = bench.communicate(timeout=200)
    assert bench.returncode == 0, told
    head, _, rest = shown.partition("\n\n")
    bars = head.splitlines()[1:]
    assert len(bars) == len(BARS)
    assert all(line.endswith((MARKS[True], MARKS[False])) and MARKS[None] not in line for line in bars), head
    assert "MinIO" in rest
    assert "Varnish" in rest
    assert states() == before
    assert not list(scratch.iterdir())
    assert not started_in(scratch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_told_to_stop_leaves_nothing_behind(scratch: Path, number: signal.Signals) -> None:
    with benching(scratch) as bench:
        assert bench.stderr is not None
        for line in bench.stderr:
            if "publishing crowd" in line:
                break
        assert started_in(scratch)
        bench.send_signal(number)
        bench.communicate(timeout=60)
    assert bench.returncode == 128 + number
    assert not list(scratch.iterdir())
    wait_until(lambda: not started_in(scratch), "everything has ended")
