"""Which of an origin's keys are targets that someone may look for, decided while the keys go by."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.config import WILDCARDS
from waystation.errors import BadTarget
from waystation.model import CHECKSUM_SUFFIX, PIECES_SUFFIX, parse_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from waystation.model import TargetPath
    from waystation.origin.interface import ObjectInfo


@dataclass(slots=True)
class Listed:
    """A target as a listing shows it; complete once its ``.pieces`` and ``.sha256`` would have gone by."""

    target: TargetPath
    etag: str
    size_bytes: int
    modified: datetime
    has_pieces: bool = False
    announced: bool = False


class Listing:
    """Picks the targets out of keys in the order of their UTF-8 bytes, and gives them in that order.

    A key with ``.pieces`` but no ``.sha256`` yet is being published, and not announced. One with neither
    is listed: only asking for it tells whether the origin has its checksum on record.
    """

    def __init__(self) -> None:
        self._held: deque[Listed] = deque()
        self._by_name: dict[str, Listed] = {}

    def take(self, found: ObjectInfo) -> Iterator[Listed]:
        """See the next key; give the targets on which nothing more can follow."""
        key = found.key
        if (held := self._by_name.get(key.removesuffix(PIECES_SUFFIX))) and key.endswith(PIECES_SUFFIX):
            held.has_pieces = True
        elif (held := self._by_name.get(key.removesuffix(CHECKSUM_SUFFIX))) and key.endswith(CHECKSUM_SUFFIX):
            held.announced = True
        else:
            try:
                held = Listed(parse_target(key), found.etag, found.size_bytes, found.modified)
            except BadTarget:  # what describes a target, metadata, or a name that no request can have
                held = None
            if held:
                self._held.append(held)
                self._by_name[held.target] = held
        # Code points sort as their UTF-8 bytes do.
        yield from self._given_up_to(key)

    def finish(self) -> Iterator[Listed]:
        """Give the rest: no key follows."""
        yield from self._given_up_to(None)

    def _given_up_to(self, key: str | None) -> Iterator[Listed]:
        while self._held and (key is None or self._held[0].target + CHECKSUM_SUFFIX <= key):
            held = self._held.popleft()
            del self._by_name[held.target]
            if held.announced or not held.has_pieces:
                yield held


async def targets_among(objects: AsyncIterator[ObjectInfo]) -> AsyncIterator[Listed]:
    """Pick the targets out of an origin's listing."""
    listing = Listing()
    async for found in objects:
        for listed in listing.take(found):
            yield listed
    for listed in listing.finish():
        yield listed


def literal_prefix(pattern: str) -> str:
    """The part of a shell-style pattern before its first wildcard: all that matches begins with it."""
    end = next((index for index, letter in enumerate(pattern) if letter in WILDCARDS), len(pattern))
    return pattern[:end]
