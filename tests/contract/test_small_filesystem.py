"""A store on a real filesystem of 32 MiB that another program fills up, in mid-flight and before."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from stores import content
from transfers import MIB, eventually, world
from waystation.errors import NoRoom
from waystation.model import CacheResult, Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from waystation.telemetry.metrics import Metrics


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("only root can mount a small filesystem")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small filesystem can't be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill_up(file: Path) -> None:
    """Take what is free, as another program may."""
    with file.open("wb", buffering=0) as opened, suppress(OSError):
        while opened.write(bytes(MIB)):
            pass
    with file.open("ab", buffering=0) as opened, suppress(OSError):
        while opened.write(bytes(512)):
            pass


async def test_what_fills_the_disk_takes_no_room_from_a_flight_and_what_comes_next_goes_past_the_store_until_it_is_gone(
    small: Path, tmp_path: Path, metrics: Metrics
) -> None:
    async with world(tmp_path, metrics, store_path=small / "store", pass_through=64 * MIB) as it:
        first = await it.artifact(8 * MIB)
        await it.store.pin("test", frozenset({first.digest}))
        second = await it.artifact(20 * MIB, name="b/b-1-x86_64", seed=2)
        whole = await it.artifact(20 * MIB, pieces=False, name="c/c-1-x86_64", seed=3)
        it.origin.hold_at(4 * MIB)
        fetching = asyncio.create_task(it.fetch(first))
        await eventually(
            lambda: it.transfers.flights() and it.transfers.flights()[0].held_bytes == 4 * MIB, "half of it is here"
        )
        await asyncio.to_thread(fill_up, small / "another program's")
        it.origin.release()
        assert await fetching == it.bytes_of(first), "its room was allocated before the first byte"
        await eventually(lambda: not it.transfers.flights(), "it is a blob")

        async with it.transfers.open(second) as body:
            parts = [os.pread(body.fd, len(run), run.start) async for run in body.runs(Span(0, second.size_bytes))]
            assert body.cache is CacheResult.PASSED
        assert b"".join(parts) == it.bytes_of(second)
        with pytest.raises(NoRoom):
            await it.fetch(whole)
        await eventually(lambda: not it.transfers.flights(), "nothing is under way")
        assert content(it.store, first.digest) == it.bytes_of(first)
        assert not list((small / "store/spool").iterdir())

        (small / "another program's").unlink()
        assert await it.fetch(second) == it.bytes_of(second)
        await eventually(lambda: not it.transfers.flights(), "it is a blob")
        async with it.transfers.open(second) as body:
            assert body.cache is CacheResult.HIT
