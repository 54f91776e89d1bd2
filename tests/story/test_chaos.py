"""A short round of `scripts/chaos`, and that what it looks with sees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.disk import check_blobs, look
from chaos.load import Ledger
from chaos.tally import Tally

ROOT = Path(__file__).parents[2]
FAULTS = ("wrong bytes", "lost commits", "leftovers", "errors in a log", "daemons that ended by themselves")
LOAD = ("fetched whole", "fetched in part", "evicted by an operator", "verified", "published")


def test_a_daemon_that_is_killed_again_and_again_serves_nothing_wrong_loses_nothing_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    scratch = tmp_path_factory.mktemp("c")  # short: sockets lie in it
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--seconds", "7", "--seed", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    counts = {row[1]: int(row[2]) for row in re.finditer(r"^(.+?)  +(\d+)", done.stdout, re.MULTILINE)}
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: counts[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert all(counts[name] for name in LOAD), done.stdout
    assert counts["rounds, each ended by kill -9"] >= 2
    assert counts["reported commits looked for"] > 0
    assert list(scratch.iterdir()) == []


# --- what it looks with ------------------------------------------------------------------------------


BODY = b"x" * 1000
DIGEST = sha256(BODY).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for folder in (f"blobs/sha256/{DIGEST[:2]}", "spool", "quarantine", "pins"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / f"blobs/sha256/{DIGEST[:2]}/{DIGEST}").write_bytes(BODY)
    (tmp_path / "format").write_text("1\n")
    return tmp_path


def test_it_sees_a_torn_blob_and_other_pieces_than_were_published(store: Path) -> None:
    tally = Tally()
    assert check_blobs(store, {DIGEST: None}, set(), tally).counted_bytes == len(BODY)
    assert not tally.wrong
    check_blobs(store, {DIGEST: b"pieces"}, set(), tally)
    assert len(tally.wrong) == 1
    (store / f"blobs/sha256/{DIGEST[:2]}/{DIGEST}").write_bytes(BODY[:-1])
    check_blobs(store, {DIGEST: None}, set(), tally)
    assert len(tally.wrong) == 2


@pytest.mark.parametrize("name", ["spool/{}", "spool/{}.pieces", "quarantine/strange-1-{}", ".format.new", "blobs/x"])
def test_it_sees_what_is_left_over(store: Path, name: str) -> None:
    assert not look(store).strange
    (store / name.format(DIGEST)).write_bytes(b"x")
    assert look(store).strange == [name.format(DIGEST)]


async def test_it_owes_what_was_reported_and_not_evicted_since(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    station = SimpleNamespace(process=SimpleNamespace(log=log), folder=tmp_path)
    ledger = Ledger(cast("Any", SimpleNamespace(station=station)))

    async def report(*digests: str) -> None:
        async def blobs() -> list[dict[str, str]]:
            return [{"sha256": digest, "state": "stored"} for digest in digests]

        ledger._admin = cast("Any", SimpleNamespace(blobs=blobs))
        await ledger.ask()

    def evict(digest: str) -> None:
        with log.open("a") as file:
            file.write(json.dumps({"event": "evicted", "digest": digest}) + "\n")

    await report("a", "b")
    evict("a")
    assert ledger.owed() == {"b"}
    evict("c")
    await report("c")
    assert ledger.owed() == {"c"}
    await report("d")
    evict("d")
    await report("e", "d")
    assert ledger.owed() == {"d", "e"}
