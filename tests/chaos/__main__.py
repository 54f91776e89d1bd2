"""Hard times for a real daemon, killed at random moments unless told otherwise; prints what was counted."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import time

from chaos import crowd, cycles, hostile, network
from chaos.rounds import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="how many rounds at most (default: as many as the time allows)")
    parser.add_argument("--network", action="store_true", help="kill no daemon: trouble the way to the bucket instead")
    parser.add_argument("--crowd", action="store_true", help="kill nothing: measure warm requests among 500 clients")
    parser.add_argument("--cycles", type=int, help="kill nothing: fetch and evict so often, and state what is held")
    parser.add_argument(
        "--requests", type=int, help="kill nothing: say so many hostile requests, and judge the answers"
    )
    parser.add_argument("--seed", type=int, help="repeat a run's choices, though not its timing")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    try:
        if options.cycles:
            print(cycles.table(asyncio.run(cycles.run(options.cycles, seed=seed, say=_say))))  # noqa: T201
            return 0
        if options.crowd:
            outcome = asyncio.run(crowd.run(seconds=options.seconds, flight_bytes=crowd.FLIGHT_BYTES, say=_say))
            print(outcome.table())  # noqa: T201
            return 1 if outcome.faults else 0
        if options.network:
            troubles = asyncio.run(network.run(seed=seed, seconds=options.seconds, say=_say))
            print(troubles.table(seconds=time.monotonic() - began, seed=seed))  # noqa: T201
            return 1 if troubles.faults else 0
        if options.requests:
            report = asyncio.run(hostile.run(options.requests, seed=seed, say=_say))
            print(report.table(seed=seed))  # noqa: T201
            return 1 if report.wrong else 0
        tally = asyncio.run(run(seed=seed, seconds=options.seconds, rounds=options.rounds, say=_say))
    except KeyboardInterrupt:
        _say(f"given up; everything is stopped (seed {seed})")
        return 130
    print(tally.table(seconds=time.monotonic() - began, seed=seed))  # noqa: T201 - what it is run for
    return 1 if tally.faults else 0


def _say(line: str) -> None:
    print(f"chaos: {line}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
