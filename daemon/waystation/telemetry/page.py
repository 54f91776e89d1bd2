"""Writes docs/metrics.md from the declarations, so that the page can't say anything else."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from waystation.telemetry.metrics import Metrics

_LABELS = {
    "cache": "`hit` (was in the store), `miss` (started a transfer), `joined` (rode on another's transfer), "
    "`passed` (no room: passed through memory), `none` (no body)",
    "code": "the HTTP status; 499: the client left before its answer began",
    "limit": "`idle_timeout`, `header_timeout` (nothing was said at all), `max_connections` (others waited for room)",
    "op": "`head`, `get`, `list`, `range` (bulk bytes), `watch` (a stream of notifications)",
    "outcome": "for requests `ok`, `gave_up` (nobody waited for it any more) or the error's reason; "
    "for prefetch `fetched`, `here` (it was cached) or the error's reason; for reloads `ok` or the error's reason",
    "verb": "a verb's path on the admin socket, such as `/store/pin`",
    "reason": "for requests `ok`, `client_gone` or the reason of the refusal (see [http.md](http.md#codes)); "
    "for retries why a range was asked for again; for evictions `quota`, `min_free`, `partial` or `operator`",
    "route": "`artifacts`, `bucket`, `checksum`, `pieces`, `blobs`, `healthz`, `readyz`, `metrics`, `status`, `none`",
    "state": "`ready` (cached), `fetching`, `missing`",
    "task": "`scrub`, `prefetch`, `housekeeping` (of the store)",
    "where": "`origin` (as bytes arrive), `store` (what was stored is read again), `catalog` (a checksum or a name)",
}

_HEAD = """\
# Metrics

Every metric of `GET /metrics`, written from the code by `scripts/metrics-page`.
No label grows without bound: none holds a target, an address or a digest.

[observability/](../observability) has alert rules, their tests and a Grafana dashboard;
[runbook.md](runbook.md) says what to do when an alert fires.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric, named as queries name it (a histogram: less ``_bucket``, ``_sum`` and ``_count``)."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def declared(metrics: Metrics) -> list[Declared]:
    """Every metric of one daemon, by name."""
    found = dict.fromkeys(metrics.registry._collector_to_names)  # noqa: SLF001 - the library lists them nowhere else
    return sorted((_declared(metric) for metric in found), key=lambda metric: metric.name)


def page() -> str:
    """The whole page, as Markdown."""
    metrics = declared(Metrics())
    rows = "".join(
        f"| `{metric.name}` | {metric.kind} | {', '.join(map(_code, metric.labels))} | {metric.meaning} |\n"
        for metric in metrics
    )
    used = sorted({label for metric in metrics for label in metric.labels})
    labels = "".join(f"| {_code(label)} | {_LABELS[label]} |\n" for label in used)
    return f"{_HEAD}{rows}\n## Labels\n\n| label | values |\n| --- | --- |\n{labels}"


def _code(text: str) -> str:
    return f"`{text}`"


def _declared(metric: Any) -> Declared:
    kind = metric._type  # noqa: SLF001
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    return Declared(metric._name + suffix, kind, tuple(metric._labelnames), metric._documentation)  # noqa: SLF001


if __name__ == "__main__":
    sys.stdout.write(page())
