"""What is said of each request once it is over: one log line, the metrics, and the last refusals for `status`."""

from __future__ import annotations

import itertools
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog

from waystation.mirror.paths import RouteName
from waystation.model import CacheResult, printable
from waystation.status import Refusal
from waystation.telemetry.lines import info_is_told, json_lines, members, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter, Histogram

    from waystation.telemetry.metrics import Metrics

log = structlog.get_logger()

ANSWERED = "request_answered"
OK = "ok"
CLIENT_GONE = "client_gone"
KEPT_REFUSALS = 100
SHOWN_NAME = 1024
"""So much of a name goes into the log; a target has no longer one."""
CLIENT_GONE_CODE = 499
"""Never sent: what is counted where the client left before its answer began."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as far as they have come."""

    id: str
    peer: str
    clock: Callable[[], float]
    started: float
    method: str = "-"
    route: RouteName = RouteName.NONE
    target: str = ""
    """A name with all that could steer a terminal escaped; said by `about`."""
    code: int = 0
    """0 until the answer's first byte."""
    cache: CacheResult = CacheResult.NONE
    reason: str = OK
    detail: str = ""
    advice: str = ""
    sent_bytes: int = 0
    first_byte: float | None = None

    def about(self, name: str) -> None:
        """What is asked for: a target's name, or what came in the place of one; both may hold any character."""
        self.target = printable(name[:SHOWN_NAME])

    def begin(self, code: int) -> None:
        """The answer's head is out."""
        self.code = code
        self.first_byte = self.clock()

    @property
    def has_begun(self) -> bool:
        """Whether it is too late for another status."""
        return self.first_byte is not None


@dataclass(frozen=True, slots=True)
class _Meters:
    """The metrics' children for one combination of labels, looked up once."""

    requests: Counter
    seconds: Histogram
    first_byte: Histogram
    served: Counter
    members: str
    """The same labels as members of a JSON line."""


@dataclass(frozen=True, slots=True)
class _Numbering:
    prefix: str = field(default_factory=lambda: secrets.token_hex(4))
    count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def next(self) -> str:
        return f"{self.prefix}-{next(self.count):x}"


class Journal:
    """Opens an exchange for each request, and says what became of it."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        access_log: bool,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self.access_log = access_log
        """Whether an answered request is a line of the log; refused ones always are."""
        self._monotonic = monotonic
        self._wall = wall
        self._lines = json_lines()
        self._numbering = _Numbering()
        self._meters: dict[tuple[str, int, str, str], _Meters] = {}
        self._refusals: deque[Refusal] = deque(maxlen=KEPT_REFUSALS)

    def open(self, peer: str) -> Exchange:
        """Begin an exchange with an id of its own; what a client calls itself is not asked."""
        return Exchange(self._numbering.next(), peer, self._monotonic, self._monotonic())

    def close(self, exchange: Exchange) -> None:
        """Count and log an exchange, once."""
        seconds = self._monotonic() - exchange.started
        meters = self._meters_for(exchange)
        meters.requests.inc()
        meters.seconds.observe(seconds)
        if exchange.first_byte is not None:
            meters.first_byte.observe(exchange.first_byte - exchange.started)
        if exchange.sent_bytes:
            meters.served.inc(exchange.sent_bytes)
        if exchange.reason not in (OK, CLIENT_GONE):
            self._refuse(exchange, seconds)
        elif self.access_log and info_is_told():
            self._answered(exchange, seconds, meters)

    def _answered(self, exchange: Exchange, seconds: float, meters: _Meters) -> None:
        if self._lines:
            self._lines.add(_line(exchange, seconds, meters.members))
        else:
            log.info(ANSWERED, **_shown(exchange, seconds))

    def refusals(self) -> tuple[Refusal, ...]:
        """The last requests that were not answered with their bytes, the latest first."""
        return tuple(reversed(self._refusals))

    def _refuse(self, exchange: Exchange, seconds: float) -> None:
        self._refusals.append(
            Refusal(self._wall(), exchange.target, exchange.code, exchange.reason, exchange.detail, exchange.advice)
        )
        if self._lines:
            self._lines.flush()
        cut_off = exchange.code < HTTPStatus.BAD_REQUEST
        log.warning(
            "answer_cut_off" if cut_off else "request_refused",
            **_shown(exchange, seconds),
            detail=exchange.detail,
            advice=exchange.advice,
        )

    def _meters_for(self, exchange: Exchange) -> _Meters:
        labels = (exchange.route, exchange.code, exchange.cache, exchange.reason)
        meters = self._meters.get(labels)
        if meters is None:
            meters = self._meters[labels] = self._look_up(*labels)
        return meters

    def _look_up(self, route: str, code: int, cache: str, reason: str) -> _Meters:
        return _Meters(
            self._metrics.requests.labels(route, str(code), cache, reason),
            self._metrics.request_seconds.labels(route, cache),
            self._metrics.first_byte_seconds.labels(cache),
            self._metrics.served_bytes.labels(cache),
            members(
                {"event": ANSWERED, "level": "info", "route": route, "code": code, "cache": cache, "reason": reason}
            ),
        )


def _line(exchange: Exchange, seconds: float, labels: str) -> str:
    """What `_shown` says, ready to be written: this is the one line that is worth it, being written for every hit."""
    return (
        f'{labels}, "request": "{exchange.id}", "method": "{exchange.method}", '
        f'"target": {quoted(exchange.target)}, "bytes": {exchange.sent_bytes}, '
        f'"seconds": {seconds:.6f}, "peer": {quoted(exchange.peer)}'
    )


def _shown(exchange: Exchange, seconds: float) -> dict[str, object]:
    return {
        "request": exchange.id,
        "method": exchange.method,
        "route": str(exchange.route),
        "target": exchange.target,
        "code": exchange.code,
        "cache": str(exchange.cache),
        "reason": exchange.reason,
        "bytes": exchange.sent_bytes,
        "seconds": round(seconds, 6),
        "peer": exchange.peer,
    }
