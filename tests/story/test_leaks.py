"""Hundreds of fetch-and-evict cycles leave a daemon as it was; `scripts/chaos --cycles 10000` goes on for longer."""

from __future__ import annotations

import statistics

from chaos.cycles import run, table

MB = 1000 * 1000
CYCLES = 600
POOLED = 8


async def test_what_is_fetched_and_evicted_leaves_neither_memory_nor_descriptors_behind() -> None:
    samples = await run(CYCLES, seed=5, say=print)
    # The first fifth fills the allocator's pools; from then on it may breathe, not grow.
    early, late = samples[2:5], samples[-3:]
    grown = statistics.median(s.held.resident_bytes for s in late) - statistics.median(
        s.held.resident_bytes for s in early
    )
    assert grown < 1.5 * MB, table(samples)
    assert {sample.held.descriptors for sample in samples[2:]} == {samples[-1].held.descriptors}, table(samples)
    # Pools start their threads one by one, as they are needed; a thread left behind by each cycle would be hundreds.
    assert samples[-1].held.threads - samples[2].held.threads <= POOLED, table(samples)
