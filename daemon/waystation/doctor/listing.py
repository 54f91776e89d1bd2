"""The origin: does it answer, and may it be listed, by these credentials and at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import NotListable, OriginError
from waystation.origin.probing import probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.origin.interface import Origin


class Listing:
    """Asks for the first key; `wanted_by`: which key of the configuration needs a list."""

    name = "origin"

    def __init__(self, origin: Origin, *, url: str, wanted_by: str | None = None) -> None:
        self._origin = origin
        self._url = url
        self._wanted_by = wanted_by
        self.is_listable = False
        """Once it has been looked at."""

    async def look(self) -> OriginError | None:
        try:
            unlisted = await probe(self._origin)
        except OriginError as error:
            return error
        self.is_listable = unlisted is None
        return unlisted

    def judge(self, seen: OriginError | None) -> Iterator[Finding]:
        if isinstance(seen, NotListable) and self._wanted_by:
            says = f"{self._wanted_by} has wildcards: {seen}"
            yield Finding(self.name, Level.FAILURE, says, seen.advice)
        elif isinstance(seen, NotListable):
            yield Finding(self.name, Level.OK, f"{self._url} answers; it can't be listed, so name each target in full")
        elif seen is not None:
            yield failure_of(self.name, seen)
        else:
            yield Finding(self.name, Level.OK, f"{self._url} answers, and its keys can be listed")
