"""The tables: the bars first, then all that was measured; for a terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.bars import BARS, MARKS
from bench.servers import DIRECT, NGINX_CACHE, NGINX_FILES, VARNISH, WAYSTATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.ground import Sizes
    from bench.results import Quantity, Results

ORDER = (DIRECT, WAYSTATION, NGINX_FILES, NGINX_CACHE, VARNISH)
Table = list[list[str]]

METHOD = """\
Measured by `scripts/bench` in one run: {rounds} rounds, each of which takes every server once and begins with another \
one; ratios are of medians. All is on one machine, over loopback: servers and clients share its cores.

- **The clients are the same for all.** go-getter's command line with a checksum, its output deleted before each \
fetch (it would go on where the file ends); curl, to /dev/null; wrk with one thread and 32 connections. For first \
bytes and crowds, a reader of our own (`bench/reader.py`): twenty go-getters on two cores measure their own hashing. \
Every client of every row checks what it gets: go-getter by sha256, the reader by comparing each byte, curl by status \
and length, wrk by status, of what a reader has compared just before.
- **Cold is cold:** a fresh store or cache and a fresh process for each fetch; only a small artifact has been fetched \
before.
- **Memory is there before it is needed:** before each large fetch the bench touches as much free memory as server and \
client will fill, and lets it go. Where a virtual machine hands free memory back to its host, whoever touches it first \
would pay up to 1.6 processor seconds a GiB for that, by chance one server or another.
- **The limit is one token bucket over all connections** (`tests/peers/relay.py`).
- **Waystation** runs as installed, metrics and access log on, its origin an S3 bucket in MinIO; artifacts are \
published by `waystation publish`. The servers' configurations: [nginx serving the file](../bench/nginx-files.conf), \
[nginx proxy_cache](../bench/nginx-cache.conf), [Varnish](../bench/varnish.vcl). None but Waystation checks what it \
serves. Varnish turns the HEAD before a first byte into a fetch, so its first byte is there already.
- **Processor seconds** are those of the server and its children, until it has nothing more to do.
"""


def bars_table(results: Results, sizes: Sizes) -> Table:
    """Each promise: what was measured, what was promised, whether it holds."""
    rows = [["what", "measured", "in the best rounds", "bar", "reach for", ""]]
    for bar in BARS:
        limit = bar.limit(results)
        sign = "≥" if bar.at_least else "≤"
        rows.append(
            [
                words(bar.what, sizes),
                _shown(bar.measured(results), bar.unit),
                _shown(bar.best(results), bar.unit) if bar.best else "",
                f"{sign} {_shown(limit, bar.unit)}",
                _shown(bar.reach, bar.unit) if bar.reach else "",
                MARKS[bar.met(results)],
            ]
        )
    return rows


def measures_table(results: Results, sizes: Sizes, missing: Mapping[str, str]) -> Table:
    """Every quantity and server: median, best round, spread."""
    rows = [["what", "server", "median", "smallest", "largest", "values"]]
    for quantity in results.quantities():
        for who in sorted(results.servers(quantity), key=ORDER.index):
            values = results.values(quantity, who)
            shown = [number(value, quantity) for value in (results.median(quantity, who), min(values), max(values))]
            rows.append([words(quantity.title, sizes), who, *shown, str(len(values))])
    rows += [["every row with it", who, why, "", "", "0"] for who, why in missing.items()]
    return rows


def words(text: str, sizes: Sizes) -> str:
    """A title with its sizes filled in."""
    return text.format(big=_size(sizes.big), limited=_size(sizes.limited), crowd=_size(sizes.crowd))


def number(value: float | None, quantity: Quantity) -> str:
    """A value with its unit."""
    return "" if value is None else f"{value:,.{quantity.digits}f} {quantity.unit}"


def as_text(table: Table) -> str:
    """Columns side by side, for a terminal."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def as_markdown(table: Table) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = table
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def page(
    results: Results,
    sizes: Sizes,
    *,
    rounds: int,
    date: str,
    machine: Sequence[tuple[str, str]],
    missing: Mapping[str, str],
) -> str:
    """The whole of docs/benchmarks.md."""
    where = "\n".join(f"| {what} | {value} |" for what, value in [("date", date), *machine])
    return f"""\
# Benchmarks

{METHOD.format(rounds=rounds)}
| | |
| --- | --- |
{where}

![Medians, with the spread of all rounds](benchmarks.svg)

## The bars

{as_markdown(bars_table(results, sizes))}

## All measures

{as_markdown(measures_table(results, sizes, missing))}
"""


def _size(size_bytes: int) -> str:
    for unit, name in ((1024**3, "GiB"), (1000**2 * 5, "MB"), (1024**2, "MiB")):
        if size_bytes % unit == 0:
            return f"{size_bytes // (1000**2 if name == 'MB' else unit)} {name}"
    return f"{size_bytes} bytes"


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    digits = {"×": 3 if abs(value - 1) < 0.02 else 2, "ms": 1, "MB": 0, "s": 2}[unit]  # noqa: PLR2004
    return f"{value:.{digits}f} {unit}"
