"""Measures Waystation beside its peers, prints the tables and writes docs/benchmarks.md; see `scripts/bench --help`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, nomad, picture, report
from bench.ground import QUICK, Sizes, missing, prepared
from bench.measures import MEASURES
from bench.results import Results

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROUNDS = 5
NEEDED = ("curl", "wrk")


def main() -> int:
    """Run it. Bars that are not met are in the table: this is a measurement, no gate."""
    options = _options()
    if options.nomad:
        return nomad.measure(options.rounds, _say)
    if absent := [program for program in NEEDED if not shutil.which(program)]:
        _say(f"needs {' and '.join(absent)} on PATH")
        return 2
    os.environ["PATH"] += ":/usr/sbin"  # where Debian keeps servers, also when it is not on a user's PATH
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sizes = QUICK if options.quick else Sizes()
    rounds = 1 if options.quick else options.rounds
    results, absent_servers = Results(), missing()
    for server, why in absent_servers.items():
        _say(f"{server}: {why}")
    try:
        with prepared(sizes, _say) as ground:
            where = machine.describe(ground.folder)
            for turn in range(rounds):
                for measure in MEASURES:
                    began = time.monotonic()
                    measure(ground, results, turn)
                    _say(f"round {turn + 1} of {rounds}: {measure.__name__}, {time.monotonic() - began:.0f} s")
    except KeyboardInterrupt:
        _say("given up; everything is stopped")
        return 130
    print(report.as_text(report.bars_table(results, sizes)))
    print()
    print(report.as_text(report.measures_table(results, sizes, absent_servers)))
    if not options.quick:
        date = datetime.now(UTC).date().isoformat()
        page = report.page(results, sizes, rounds=rounds, date=date, machine=where, missing=absent_servers)
        kept = nomad.section_of((DOCS / "benchmarks.md").read_text())
        (DOCS / "benchmarks.md").write_text(page + kept)
        (DOCS / "benchmarks.svg").write_text(picture.draw(results, sizes))
        _say("wrote docs/benchmarks.md and docs/benchmarks.svg")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute's look: small files, one round, docs untouched")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many rounds (default: %(default)s)")
    parser.add_argument(
        "--nomad",
        action="store_true",
        help="measure starts by a real Nomad instead (needs root, and nomad on PATH), and write that section alone",
    )
    return parser.parse_args()


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
