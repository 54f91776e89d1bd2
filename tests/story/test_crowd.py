"""Short rounds of `scripts/chaos --crowd` and `--network`: what their long forms state must hold in these too."""

from __future__ import annotations

from chaos import crowd, network

MIB = 1024 * 1024
MB = 1000 * 1000


async def test_in_a_crowd_nobody_is_refused_and_memory_stays_flat() -> None:
    outcome = await crowd.run(seconds=2, flight_bytes=96 * MIB, say=print)
    # How long requests take is for a machine with nothing else to do: `scripts/chaos --crowd` says.
    assert outcome.refused == [], outcome.table()
    assert outcome.scrubbed_bytes > 0, outcome.table()
    assert outcome.most_resident_bytes - outcome.before.resident_bytes < 20 * MB, outcome.table()
    assert abs(outcome.behind.descriptors - outcome.before.descriptors) <= 4, outcome.table()


async def test_trouble_on_the_way_to_the_bucket_costs_time_or_an_error_and_leaves_nothing_behind() -> None:
    troubles = await network.run(seed=7, seconds=8, say=print)
    assert troubles.faults == (), troubles.table(seconds=8, seed=7)
    assert troubles.phases > len(network.TOXICS), "each toxic, MinIO killed, and a mixture"
    assert troubles.asked["fetched whole"] > 0
    before, behind = troubles.held
    assert behind.resident_bytes - before.resident_bytes < 20 * MB, troubles.table(seconds=8, seed=7)
    assert abs(behind.descriptors - before.descriptors) <= 8, troubles.table(seconds=8, seed=7)
