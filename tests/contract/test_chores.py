"""The daemon's own chores are begun again behind a fault that nobody foresaw, and the daemon lives on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from waystation.assembly import open_parts
from waystation.config import Settings
from waystation.prefetch.prefetcher import Prefetcher
from waystation.station import _Station
from waystation.store.disk_store import DiskStore
from waystation.systemd.notify import Notifier

if TYPE_CHECKING:
    from pathlib import Path

    from waystation.telemetry.metrics import Metrics


@pytest.mark.parametrize(("chore", "kind", "method"), [("scrub", DiskStore, "scrub"), ("prefetch", Prefetcher, "run")])
async def test_a_chore_that_falls_over_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: Metrics, chore: str, kind: type, method: str
) -> None:
    real, begun, faults = getattr(kind, method), asyncio.Event(), [ZeroDivisionError(), MemoryError()]

    async def faulty(self: object) -> None:
        if faults:
            raise faults.pop()
        begun.set()
        await real(self)

    monkeypatch.setattr(kind, method, faulty)
    monkeypatch.setattr("waystation.telemetry.going_on.PAUSE_S", 0.01)
    (tmp_path / "origin").mkdir()
    settings = Settings.model_validate(
        {
            "origin": {"url": f"file://{tmp_path}/origin"},
            "store": {"path": tmp_path / "store"},
            "admin": {"socket": tmp_path / "admin.sock"},
        }
    )
    async with open_parts(settings, metrics) as parts:
        station = _Station(parts, Notifier.of({}), lambda: settings)
        running = asyncio.create_task(getattr(station, chore)())
        async with asyncio.timeout(20):
            await begun.wait()
        assert not running.done()
        running.cancel()
        await asyncio.wait((running,))
    assert metrics.registry.get_sample_value("waystation_task_failures_total", {"task": chore}) == 2
