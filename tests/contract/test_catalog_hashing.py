"""Reading an object for its digest: broken connections, replaced objects, and being given up."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from faults import FaultyOrigin
from waystation.catalog.hashing import digest_of
from waystation.errors import Missing, RevisionChanged, Short, Unreachable
from waystation.origin.directory import DirectoryOrigin

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.disk import Disk
    from waystation.telemetry.metrics import Metrics

BODY = bytes(range(256)) * 20_000  # some 5 MB


class Object:
    """One file of a folder, read through faults."""

    def __init__(self, root: Path, disk: Disk, metrics: Metrics) -> None:
        self.file = root / "app"
        self.file.write_bytes(BODY)
        self.origin = FaultyOrigin(DirectoryOrigin(root, disk=disk))
        self.metrics = metrics

    async def digest(self) -> str:
        found = await self.origin.head("app")
        return await digest_of(self.origin, "app", etag=found.etag, size_bytes=found.size_bytes, metrics=self.metrics)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"waystation_{name}", labels)


@pytest.fixture
def stored(tmp_path: Path, disk: Disk, metrics: Metrics) -> Object:
    return Object(tmp_path, disk, metrics)


async def test_an_object_is_read_once_and_counted(stored: Object) -> None:
    assert await stored.digest() == sha256(BODY).hexdigest()
    assert stored.metric("origin_bytes_total") == len(BODY)
    assert stored.metric("verified_bytes_total", where="catalog") == len(BODY)
    assert stored.metric("verify_seconds_total", where="catalog")


async def test_an_empty_object_needs_no_reading(stored: Object) -> None:
    stored.file.write_bytes(b"")
    assert await stored.digest() == sha256(b"").hexdigest()
    assert stored.origin.spans == []


async def test_a_broken_connection_costs_only_what_had_not_arrived(stored: Object) -> None:
    stored.origin.cuts = {3_000_000: 1, 4_000_000: 1}
    assert await stored.digest() == sha256(BODY).hexdigest()
    assert len(stored.origin.spans) == 3
    assert stored.origin.read_bytes < len(BODY) + 1


@pytest.mark.parametrize("loss", [Short("broke"), Unreachable("stalled")])
async def test_an_origin_that_gives_no_byte_any_more_ends_the_reading(
    stored: Object, loss: Short | Unreachable
) -> None:
    stored.origin.losses = [loss] * 4
    with pytest.raises(type(loss)):
        await stored.digest()
    assert stored.origin.losses == []


@pytest.mark.parametrize("answer", [RevisionChanged("replaced"), Missing("gone")])
async def test_a_definite_answer_ends_the_reading_at_once(stored: Object, answer: RevisionChanged | Missing) -> None:
    stored.origin.losses = [answer]
    with pytest.raises(type(answer)):
        await stored.digest()
    assert len(stored.origin.spans) == 1


async def test_a_reading_that_is_given_up_ends_its_thread(stored: Object) -> None:
    stored.origin.hold_at(1_000_000)
    reading = asyncio.create_task(stored.digest())
    async with asyncio.timeout(10):
        while stored.origin.read_bytes < 1_000_000:
            await asyncio.sleep(0.001)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.get_running_loop().shutdown_default_executor()
    assert stored.origin.read_bytes < len(BODY)
