"""Reading: may these credentials read an object, by the way that a transfer takes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import OriginError
from waystation.model import Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from waystation.origin.interface import ObjectInfo, Origin, Source

_KEYS_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class ReadingSeen:
    """Which object was tried; None: there is none with a byte in it."""

    key: str | None
    trouble: OriginError | None = None


class Reading:
    """Reads one byte of the first object that has one."""

    name = "reading"

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    async def look(self) -> ReadingSeen:
        key: str | None = None
        try:
            if (found := await self._first_with_bytes()) is None:
                return ReadingSeen(None)
            key = found.key
            source = await self._origin.source(key, if_match=found.etag or None)
            try:
                await asyncio.to_thread(_read_a_byte, source)
            finally:
                source.close()
        except OriginError as error:
            return ReadingSeen(key, error)
        return ReadingSeen(key)

    def judge(self, seen: ReadingSeen) -> Iterator[Finding]:
        if seen.trouble is not None:
            yield failure_of(self.name, seen.trouble)
        elif seen.key is None:
            yield Finding(self.name, Level.OK, "there is nothing in the origin yet that could be read")
        else:
            yield Finding(self.name, Level.OK, f"objects can be read, such as {seen.key}")

    async def _first_with_bytes(self) -> ObjectInfo | None:
        looked_at = 0
        async for found in self._origin.list(""):
            looked_at += 1
            if found.size_bytes or looked_at == _KEYS_LOOKED_AT:
                return found if found.size_bytes else None
        return None


def _read_a_byte(source: Source) -> None:
    with source.read(Span(0, 1)) as reader:
        reader.readinto(memoryview(bytearray(1)))
