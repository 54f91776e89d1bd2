"""The screen of `waystation status`: a daemon's snapshot laid out for a person, as wide as the terminal is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waystation.cli.output import (
    align,
    bar,
    counted,
    human_age,
    human_duration,
    laid_out,
    tabulated,
)
from waystation.config import human_size
from waystation.model import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = dict[str, Any]
Row = tuple[str, str]

_REFUSALS_SHOWN = 10
_MISSING_SHOWN = 10
_NARROW = 100
"""Below so many columns bars are short and sizes are said once."""
_INDENT = 2


def status_screen(station: Record, *, now: float, width: int | None = None) -> str:
    """Lay out a `StationStatus`, as JSON has it; without a width nothing is broken or cut."""
    blocks = ["\n".join(laid_out(_summary(station, now), width))]
    if flights := station["flights"]:
        blocks.append(_block("flights", _flights(flights, now, width)))
    if missing := station["prefetch"]["missing"]:
        blocks.append(_block("wanted and missing", _missing(missing, width)))
    if refusals := station["refusals"][:_REFUSALS_SHOWN]:
        blocks.append(_block("last refusals", _refusals(refusals, now, width)))
    return "\n\n".join(blocks)


def origin_line(origin: Record) -> str:
    """Say how the origin is."""
    state = {True: "up", False: "down", None: "not asked yet"}[origin["up"]]
    told = [origin["url"], state]
    if origin["circuit"] != "closed":
        told.append(f"circuit {origin['circuit']}")
    if origin["retry_after_s"]:
        told.append(f"asked again in {human_duration(origin['retry_after_s'])}")
    if origin["last_error"] and not origin["up"]:
        told.append(origin["last_error"])
    return ", ".join(told)


def _summary(station: Record, now: float) -> list[Row]:
    ready = "ready" if station["ready"] else "NOT READY"
    life = f"{station['version']}, {ready}, up {human_duration(now - station['started'])}, pid {station['pid']}"
    if station["log_level"] != "info":
        life += f", logs from {station['log_level']} on"
    catalog = station["catalog"]
    answered = human_age(catalog["last_refresh"], now)
    rows = [
        ("waystation", life),
        *(("", reason) for reason in station["not_ready_because"]),
        ("mirror", "  ".join(station["listen"])),
        *_certificate(station["certificate"], now),
        ("origin", origin_line(station["origin"])),
        ("catalog", f"{catalog['mode']}, {counted(catalog['targets'], 'target')} known, last answer {answered}"),
        *_store(station["store"]),
        *_prefetch(station["prefetch"], now),
        *_reload(station["reload"], now),
    ]
    return [(label, printable(text)) for label, text in rows]


def certificate_line(certificate: Record, now: float) -> str:
    """Say what https clients are shown."""
    left_s = certificate["not_after"] - now
    ends = f"expires in {human_duration(left_s)}" if left_s > 0 else "EXPIRED"
    lacks = "" if certificate["covers_origin"] is not False else "; not for the origin's own name"
    return f"{', '.join(certificate['names'])}, {ends}{lacks}"


def _certificate(certificate: Record | None, now: float) -> list[Row]:
    return [("certificate", certificate_line(certificate, now))] if certificate else []


def _store(store: Record) -> list[Row]:
    stored, limit = store["stored_bytes"], store["limit_bytes"]
    idle = store["oldest_idle_s"]
    held = f"{counted(store['blobs'], 'blob')}, {human_size(store['pinned_bytes'])} pinned"
    if idle is not None:
        held += f", least recently used {human_duration(idle)} ago"
    for state in ("suspect", "quarantined"):
        if count := store[f"{state}_blobs"]:
            held += f", {count} {state}"
    disk = f"{human_size(store['free_bytes'])} free, {human_size(store['min_free_bytes'])} kept free"
    return [
        ("store", f"{bar(stored, limit)} {human_size(stored)} of {human_size(limit)}, {store['path']}"),
        ("", held),
        ("", disk),
    ]


def _prefetch(prefetch: Record, now: float) -> list[Row]:
    if not (prefetch["subscriptions"] or prefetch["wanted"]):
        return []
    told = f"{prefetch['ready']} of {prefetch['wanted']} wanted are here"
    if prefetch["missing"]:
        told += f", {len(prefetch['missing'])} missing for {human_duration(prefetch['lag_s'])}"
    polled = f"asked what is new {human_age(prefetch['last_poll'], now)}"
    if prefetch["notifications"] != "off":
        polled += f", notifications {prefetch['notifications']}"
    rows = [("prefetch", told), ("", polled)]
    if prefetch["paused_because"]:
        rows.append(("", f"paused: {prefetch['paused_because']}"))
    if prefetch["poll_trouble"]:
        rows.append(("", f"trouble: {prefetch['poll_trouble']}"))
    return rows


def _reload(reload: Record | None, now: float) -> list[Row]:
    if reload is None:
        return []
    age = human_age(reload["at"], now)
    if why := reload["refused_because"]:
        return [("reload", f"REFUSED {age}, all stayed as it was: {why}")]
    taken_up = ", ".join(reload["taken_up"]) or "nothing new"
    rows = [("reload", f"{age}: {taken_up}")]
    if left := reload["needs_restart"]:
        rows.append(("", f"needs a restart: {', '.join(left)}"))
    return rows


def _flights(flights: list[Record], now: float, width: int | None) -> list[str]:
    narrow = width is not None and width < _NARROW
    rows = [(printable(flight["target"]), *_progress(flight, now, narrow=narrow)) for flight in flights]
    return tabulated(rows, None if width is None else width - _INDENT)


def _progress(flight: Record, now: float, *, narrow: bool) -> tuple[str, ...]:
    held, size = flight["held_bytes"], flight["size_bytes"]
    if narrow:
        progress = f"{bar(held, size, width=10)} {100 * held // size if size else 0:3d}% of {human_size(size)}"
    else:
        progress = f"{bar(held, size)} {human_size(held)} of {human_size(size)}"
    return (
        progress,
        flight["state"],
        counted(flight["riders"], "client"),
        human_duration(now - flight["started"]),
    )


def _missing(missing: list[Record], width: int | None) -> list[str]:
    shown = missing[:_MISSING_SHOWN]
    lines = _with_reasons([(each["state"], each["target"]) for each in shown], [_why(each) for each in shown], width)
    if len(missing) > _MISSING_SHOWN:
        lines.append(f"and {len(missing) - _MISSING_SHOWN} more")
    return lines


def _why(missing: Record) -> str:
    return ": ".join(part for part in (missing["reason"], missing["detail"]) if part)


def _refusals(refusals: list[Record], now: float, width: int | None) -> list[str]:
    heads = [(human_age(one["at"], now), str(one["code"]), one["reason"], one["target"] or "-") for one in refusals]
    return _with_reasons(heads, [one["detail"] for one in refusals], width)


def _with_reasons(heads: Sequence[Sequence[str]], reasons: list[str], width: int | None) -> list[str]:
    """Two rows each: what it is, and below it why."""
    rows = align([[printable(cell) for cell in head] for head in heads]).splitlines()
    lines: list[str] = []
    for row, reason in zip(rows, reasons, strict=True):
        lines.append(row)
        if reason:
            lines += laid_out([("", printable(reason))], None if width is None else width - _INDENT)
    return lines


def _block(heading: str, lines: list[str]) -> str:
    return "\n".join([heading, *(f"  {line}" for line in lines)])
