"""The bars: what was promised of each measure, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import measures as m
from bench.servers import DIRECT, NGINX_CACHE, NGINX_FILES, WAYSTATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Quantity, Results

PIECE_BYTES = 1024 * 1024
PIECE_TIMES = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise."""

    what: str
    """May name sizes in braces."""
    measured: Callable[[Results], float | None]
    unit: str
    limit: Callable[[Results], float | None]
    at_least: bool = False
    reach: float | None = None
    best: Callable[[Results], float | None] | None = None
    """The same from each server's best round."""

    def met(self, results: Results) -> bool | None:
        """Whether it holds; None where it can't be said here."""
        measured, limit = self.measured(results), self.limit(results)
        if measured is None or limit is None:
            return None
        return measured >= limit if self.at_least else measured <= limit


def _over(quantity: Quantity, who: str, other: str) -> Callable[[Results], float | None]:
    return lambda results: _ratio(results.median(quantity, who), results.median(quantity, other))


def _best_over(quantity: Quantity, who: str, other: str) -> Callable[[Results], float | None]:
    return lambda results: _ratio(results.best(quantity, who), results.best(quantity, other))


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _always(limit: float) -> Callable[[Results], float | None]:
    return lambda _: limit


def _of(quantity: Quantity) -> Callable[[Results], float | None]:
    return lambda results: results.median(quantity, WAYSTATION)


def _first_byte_limit(results: Results) -> float | None:
    """1.5 piece times and one round trip, which is what the bucket itself takes for its first byte."""
    round_trip_ms = results.median(m.FIRST_BYTE, DIRECT)
    return None if round_trip_ms is None else PIECE_TIMES * PIECE_BYTES / m.LINK_BYTES_PER_S * 1000 + round_trip_ms


def _compared(
    what: str,
    quantity: Quantity,
    other: str,
    limit: float,
    *,
    at_least: bool = False,
    reach: float | None = None,
) -> Bar:
    """Waystation's median over another server's."""
    return Bar(
        what,
        _over(quantity, WAYSTATION, other),
        "×",
        _always(limit),
        at_least=at_least,
        reach=reach,
        best=_best_over(quantity, WAYSTATION, other),
    )


def _last_over_alone(crowd: m.Crowd) -> Callable[[Results], float | None]:
    return lambda results: _ratio(results.median(crowd.last, WAYSTATION), results.median(crowd.alone, WAYSTATION))


def _best_last_over_alone(crowd: m.Crowd) -> Callable[[Results], float | None]:
    return lambda results: _ratio(results.best(crowd.last, WAYSTATION), results.best(crowd.alone, WAYSTATION))


BARS = (
    _compared("cold {big}, go-getter: time over direct", m.COLD, DIRECT, 2.0, reach=1.6),
    _compared("cold {big}, go-getter: time over nginx proxy_cache", m.COLD, NGINX_CACHE, 1.0),
    _compared("cold {limited}, origin at 125 MB/s, go-getter: time over direct", m.LIMITED, DIRECT, 1.01),
    Bar(
        "first byte, cold, origin at 125 MB/s: within 1.5 piece times and one round trip",
        _of(m.FIRST_BYTE),
        "ms",
        _first_byte_limit,
    ),
    *(
        bar
        for crowd in m.CROWDS
        for bar in (
            Bar(
                f"{crowd.clients} clients at once, cold {{crowd}}, origin at {crowd.bytes_per_s // m.MB} MB/s:"
                " bytes asked of the origin over file size",
                _of(crowd.asked),
                "×",
                _always(1.0049),
            ),
            Bar(
                f"{crowd.clients} clients at once: the last one's time over one alone",
                _last_over_alone(crowd),
                "×",
                _always(1.10),
                best=_best_last_over_alone(crowd),
            ),
        )
    ),
    _compared("warm {big}, curl: throughput over nginx", m.WARM_CURL, NGINX_FILES, 0.95, at_least=True, reach=1.0),
    _compared("warm {big}, go-getter: time over nginx", m.WARM_GO, NGINX_FILES, 1.0),
    _compared("warm 4 KiB, wrk: answers/s over MinIO", m.SMALL, DIRECT, 1.5, at_least=True, reach=3.0),
    Bar("resident memory, idle with an S3 origin", _of(m.IDLE), "MB", _always(95), reach=75),
    Bar("resident memory while 50 clients fetch {big} cold", _of(m.BUSY), "MB", _always(130), reach=100),
    Bar("from exec to listening", _of(m.LISTENING), "s", _always(0.6), reach=0.4),
)

MARKS: dict[bool | None, str] = {True: "met", False: "NOT met", None: "not measured"}
