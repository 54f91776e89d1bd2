"""The way to the origin's bytes, opened once something is asked of it: what is here needs no origin that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waystation.origin.interface import Source


class SourceOnDemand:
    """One flight's source; for the one task that starts its ranges."""

    def __init__(self, opening: Callable[[], Awaitable[Source]]) -> None:
        self._opening = opening
        self._source: Source | None = None

    async def open(self) -> Source:
        """Give the source, the same one every time.

        Raises:
            OriginError: the origin gives none.
        """
        if self._source is None:
            self._source = await self._opening()
        return self._source

    def replace(self, source: Source) -> None:
        """Give this one from now on, and close it at the end; it wraps the one that was given so far."""
        self._source = source

    def close(self) -> None:
        """Close it, where it was opened."""
        if self._source is not None:
            self._source.close()
