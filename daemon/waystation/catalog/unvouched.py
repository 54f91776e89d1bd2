"""How many targets nothing vouches for: neither files beside the key, nor what the origin has on record."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.errors import BadTarget, Missing
from waystation.model import CHECKSUM_SUFFIX, PIECES_SUFFIX, parse_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from waystation.model import TargetPath
    from waystation.origin.interface import Origin

MOST_KEYS = 100_000
MOST_HEADS = 2_000
_HEADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Count:
    """What a look over the origin's keys found."""

    targets: int
    unvouched: int
    example: str | None
    is_whole: bool
    """False: there are more keys than were looked at."""


async def count_unvouched(origin: Origin, *, most_keys: int = MOST_KEYS, most_heads: int = MOST_HEADS) -> Count:
    """List the origin, and ask about each key that has no ``.sha256`` or ``.pieces`` beside it.

    Raises:
        OriginError: it can't be listed or asked.
    """
    keys: set[str] = set()
    is_whole = True
    async for found in origin.list(""):
        if len(keys) == most_keys:
            is_whole = False
            break
        keys.add(found.key)
    targets = targets_of(keys)
    bare = [target for target in targets if target + CHECKSUM_SUFFIX not in keys and target + PIECES_SUFFIX not in keys]
    few = asyncio.Semaphore(_HEADS_AT_ONCE)

    async def is_unvouched(target: TargetPath) -> bool:
        async with few:
            try:
                return (await origin.head(target)).sha256 is None
            except Missing:
                return False  # removed meanwhile

    answers = await asyncio.gather(*map(is_unvouched, bare[:most_heads]))
    unvouched = [target for target, answer in zip(bare, answers, strict=False) if answer]
    return Count(
        len(targets), len(unvouched), unvouched[0] if unvouched else None, is_whole and len(bare) <= most_heads
    )


def targets_of(keys: Iterable[str]) -> list[TargetPath]:
    """Pick those that can be targets, in order."""
    found: list[TargetPath] = []
    for key in sorted(keys):
        try:
            found.append(parse_target(key))
        except BadTarget:
            continue
    return found
