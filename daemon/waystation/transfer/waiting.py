"""Those who wait for bytes of one flight: its riders and its whole hash, each for one byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waystation.model import Span


class Waiting:
    """Wakes whoever waits for a byte when it is there; being woken promises nothing, so look again."""

    def __init__(self) -> None:
        self._futures: dict[asyncio.Future[None], int] = {}

    async def until(self, at: int) -> None:
        """Wait until something became of the byte at this offset, or of the flight."""
        future = asyncio.get_running_loop().create_future()
        self._futures[future] = at
        try:
            await future
        finally:
            del self._futures[future]

    def landed(self, span: Span) -> None:
        """Wake those who wait for a byte of this span."""
        for future, at in self._futures.items():
            if span.start <= at < span.stop and not future.done():
                future.set_result(None)

    def all(self) -> None:
        """Wake everybody."""
        for future in self._futures:
            if not future.done():
                future.set_result(None)
