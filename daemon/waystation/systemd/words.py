"""The line that `systemctl status` shows of a daemon: whether it serves, and what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waystation.status import StationStatus


def in_words(station: StationStatus) -> str:
    """Say in one line how a daemon is; it may say the same for a long time."""
    if not station.ready:
        return _line("waiting, and serving nothing yet: " + "; ".join(station.not_ready_because))
    blobs = station.store.blobs
    said = f"serving; {blobs} {'artifact is' if blobs == 1 else 'artifacts are'} stored"
    if missing := len(station.prefetch.missing):
        said += f", {missing} wanted and missing"
    if station.origin.up is False:
        said += f"; the origin is away: {station.origin.last_error}"
    return _line(said)


def _line(text: str) -> str:
    """Keep it one line, whatever an error's text had in it: a line of its own would be another assignment."""
    return " ".join(text.split())
