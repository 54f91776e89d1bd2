"""Hundreds of fetch-and-evict cycles leave a daemon as it was; `scripts/chaos --cycles 10000` goes on for longer."""

from __future__ import annotations

import statistics

from chaos.cycles import Sample, run, table

MB = 1000 * 1000
CYCLES = 600
POOLED = 8
ARENA_BYTES = int(1.1 * MB)
"""What one thread more is seen to cost."""


def own_bytes(sample: Sample) -> int:
    """What is resident but for its threads: pools start them as they are needed, and each has an arena of its own."""
    return sample.held.resident_bytes - sample.held.threads * ARENA_BYTES


async def test_what_is_fetched_and_evicted_leaves_neither_memory_nor_descriptors_behind() -> None:
    samples = await run(CYCLES, seed=5, say=print)
    # The first fifth fills the allocator's pools; from then on it may breathe, not grow.
    early, late = (statistics.median(map(own_bytes, some)) for some in (samples[2:5], samples[-3:]))
    assert late - early < 1.5 * MB, table(samples)
    assert {sample.held.descriptors for sample in samples[2:]} == {samples[-1].held.descriptors}, table(samples)
    # Pools start their threads one by one, as they are needed; a thread left behind by each cycle would be hundreds.
    assert samples[-1].held.threads - samples[2].held.threads <= POOLED, table(samples)
