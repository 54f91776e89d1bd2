"""Keys that nothing vouches for: the bucket serves them, the mirror refuses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from waystation.catalog.unvouched import Count, count_unvouched
from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import OriginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.origin.interface import Origin

ADVICE = 'Run `waystation adopt` to add checksums, or set [catalog] missing_checksum = "pin-first".'


class Checksums:
    """Counts them."""

    name = "checksums"

    def __init__(self, origin: Origin, missing_checksum: Literal["refuse", "pin-first"]) -> None:
        self._origin = origin
        self._missing_checksum = missing_checksum

    async def look(self) -> Count | OriginError:
        try:
            return await count_unvouched(self._origin)
        except OriginError as error:
            return error

    def judge(self, seen: Count | OriginError) -> Iterator[Finding]:
        if isinstance(seen, OriginError):
            yield failure_of(self.name, seen)
            return
        of = f"{seen.targets}{'' if seen.is_whole else ' or more'}"
        many = f"targets without a checksum: {seen.unvouched} of {of}"
        if not seen.unvouched:
            yield Finding(self.name, Level.OK, many)
            return
        many += f", such as {seen.example}"
        if self._missing_checksum == "pin-first":
            yield Finding(self.name, Level.OK, f"{many}; each is read once and then held to that")
        else:
            yield Finding(self.name, Level.WARNING, f"{many}; the mirror answers 404 for them", ADVICE)
