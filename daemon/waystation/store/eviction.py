"""Chooses what must go when room is needed; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from waystation.model import Digest

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class Eviction:
    """What must go to make room, in this order."""

    quarantined: tuple[str, ...] = ()
    partials: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    reason: Literal["quota", "min_free", "operator"] = "quota"
    short_bytes: int = 0
    """What is missing even then; 0: enough."""


def choose(
    *,
    over_quota_bytes: int,
    under_free_bytes: int,
    quarantined: Iterable[tuple[str, int]],
    partials: Iterable[tuple[Digest, int]],
    blobs: Iterable[tuple[Digest, int]],
) -> Eviction:
    """Choose what must go: quarantine, then partials, then blobs, each in the order given, no more than needed.

    Only what may go is to be offered. What is leased or pinned may not, be it a partial: of a pinned blob that is
    being repaired there may be no other copy in reach.
    """
    missing = max(over_quota_bytes, under_free_bytes)
    gone_quarantined, missing = _take(quarantined, missing)
    gone_partials, missing = _take(partials, missing)
    gone_blobs, missing = _take(blobs, missing)
    reason: Literal["quota", "min_free"] = "quota" if over_quota_bytes >= under_free_bytes else "min_free"
    return Eviction(gone_quarantined, gone_partials, gone_blobs, reason, max(0, missing))


def _take(offered: Iterable[tuple[Name, int]], missing_bytes: int) -> tuple[tuple[Name, ...], int]:
    taken: list[Name] = []
    for name, size_bytes in offered:
        if missing_bytes <= 0:
            break
        taken.append(name)
        missing_bytes -= size_bytes
    return tuple(taken), missing_bytes
