"""The origin: does it answer, and may these credentials list it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import OriginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.origin.interface import Origin


class Listing:
    """Asks for the first key."""

    name = "origin"

    def __init__(self, origin: Origin, *, url: str) -> None:
        self._origin = origin
        self._url = url

    async def look(self) -> OriginError | None:
        try:
            async for _ in self._origin.list(""):
                break
        except OriginError as error:
            return error
        return None

    def judge(self, seen: OriginError | None) -> Iterator[Finding]:
        if seen is not None:
            yield failure_of(self.name, seen)
        else:
            yield Finding(self.name, Level.OK, f"{self._url} answers, and its keys can be listed")
