"""The screen of `waystation status`: a daemon's snapshot laid out for a person."""

from __future__ import annotations

from typing import Any

from waystation.cli.output import align, bar, counted, human_age, human_duration, human_size
from waystation.model import printable

_REFUSALS_SHOWN = 10


def status_screen(station: dict[str, Any], *, now: float) -> str:
    """Lay out a `StationStatus`, as the admin socket gives it, for a person."""
    blocks = [align(_summary(station, now))]
    if flights := station["flights"]:
        blocks.append(_block("flights", [_flight_row(flight, now) for flight in flights]))
    if refusals := station["refusals"][:_REFUSALS_SHOWN]:
        blocks.append(_block("last refusals", [_refusal_row(refusal, now) for refusal in refusals]))
    return "\n\n".join(blocks)


def _summary(station: dict[str, Any], now: float) -> list[tuple[str, str]]:
    ready = "ready" if station["ready"] else f"not ready: {'; '.join(station['not_ready_because'])}"
    uptime = human_duration(now - station["started"])
    catalog = station["catalog"]
    answered = human_age(catalog["last_refresh"], now)
    rows = [
        ("waystation", f"{station['version']}, {ready}, up {uptime}, pid {station['pid']}"),
        ("mirror", "  ".join(station["listen"])),
        ("origin", origin_line(station["origin"])),
        ("catalog", f"{catalog['mode']}, {counted(catalog['targets'], 'target')} known, last answer {answered}"),
        *_store(station["store"]),
    ]
    return [(label, printable(value)) for label, value in rows]


def origin_line(origin: dict[str, Any]) -> str:
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


def _store(store: dict[str, Any]) -> list[tuple[str, str]]:
    stored, limit = store["stored_bytes"], store["limit_bytes"]
    idle = store["oldest_idle_s"]
    held = f"{counted(store['blobs'], 'blob')}, {human_size(store['pinned_bytes'])} pinned"
    if idle is not None:
        held += f", least recently used {human_duration(idle)} ago"
    disk = f"{human_size(store['free_bytes'])} free, {human_size(store['min_free_bytes'])} kept free"
    return [
        ("store", f"{bar(stored, limit)} {human_size(stored)} of {human_size(limit)}, {store['path']}"),
        ("", held),
        ("", disk),
    ]


def _flight_row(flight: dict[str, Any], now: float) -> tuple[str, ...]:
    held, size = flight["held_bytes"], flight["size_bytes"]
    return (
        flight["target"],
        f"{bar(held, size)} {human_size(held)} of {human_size(size)}",
        flight["state"],
        counted(flight["riders"], "client"),
        f"since {human_duration(now - flight['started'])}",
    )


def _refusal_row(refusal: dict[str, Any], now: float) -> tuple[str, ...]:
    return human_age(refusal["at"], now), str(refusal["code"]), refusal["reason"], refusal["target"], refusal["detail"]


def _block(heading: str, rows: list[tuple[str, ...]]) -> str:
    lines = align([[printable(cell) for cell in row] for row in rows]).splitlines()
    return "\n".join([heading, *(f"  {line}" for line in lines)])
