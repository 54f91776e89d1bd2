"""Writing to the origin: may this user, and does the origin keep conditional writes when several race.

What it writes is one scratch key at a time below ``metadata/``, where no target can be, and removed again.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from waystation.doctor.finding import Finding, Level, failure_of
from waystation.errors import AlreadyExists, Missing, OriginError, Unconditional
from waystation.model import Digest
from waystation.origin.removing import remove_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from waystation.config import OriginSettings
    from waystation.origin.interface import Origin, OriginWriter

RACERS = 16
ROUNDS = 3
BODY_BYTES = 1024 * 1024
"""Long enough that one body arrives while another is being checked."""
SINGLE_ADVICE = 'Set [origin] writes = "single" where publish and adopt run, one of them at a time.'

Keeps = Literal["one", "several", "none", "unknown-to-it"]


@dataclass(frozen=True, slots=True)
class WritesSeen:
    """How racing writers fared, and what was left of them."""

    keeps: Keeps | None = None
    """How many of the racers won, in the worst of all rounds; ``unknown-to-it``: the origin answers 501."""
    trouble: OriginError | None = None
    """Why writing failed altogether."""
    body_is_right: bool = True
    """Whether what was read back is what the winner wrote."""
    left: str | None = None
    """The scratch key, where it could not be removed."""


class Writes:
    """Lets sixteen writers race for one key, some times."""

    name = "writes"

    def __init__(
        self, settings: OriginSettings, origin: Origin, open_writer: Callable[[OriginSettings], OriginWriter]
    ) -> None:
        self._settings = settings
        self._origin = origin
        self._open_writer = open_writer

    async def look(self) -> WritesSeen:
        writer = self._open_writer(self._settings.model_copy(update={"writes": "conditional"}))
        seen = WritesSeen()
        try:
            for _ in range(ROUNDS):  # the first one opens the connections, so the others race closer
                key = f"metadata/waystation-doctor-{secrets.token_hex(8)}"
                try:
                    keeps, body_is_right = await self._race(writer, key)
                    if keeps == "unknown-to-it" and self._settings.writes == "single":
                        body_is_right = await self._write_alone(key)
                    seen = WritesSeen(keeps, None, body_is_right)
                except OriginError as error:
                    seen = WritesSeen(trouble=error)
                if await self._is_left(key):
                    return replace(seen, left=key)
                if seen.keeps != "one" or not seen.body_is_right:
                    break
        finally:
            await writer.close()
        return seen

    def judge(self, seen: WritesSeen) -> Iterator[Finding]:
        single = self._settings.writes == "single"
        if seen.trouble is not None:
            yield failure_of(self.name, seen.trouble)
        elif not seen.body_is_right:
            says = "what was read back is not what was written"
            yield Finding(self.name, Level.FAILURE, says, "Don't publish to this origin: it does not keep its word.")
        elif seen.keeps == "none":
            says = f"of {RACERS} racing writers none won"
            yield Finding(self.name, Level.FAILURE, says, SINGLE_ADVICE)
        elif seen.keeps == "one":
            hint = ' (so [origin] writes = "conditional" would do)' if single else ""
            says = f"of {RACERS} racing writers exactly one wins{hint}, and what it wrote is there"
            yield Finding(self.name, Level.OK, says)
        else:
            why = "answers 501 to conditional writes" if seen.keeps == "unknown-to-it" else "lets several writers win"
            if single:
                says = f'the origin {why}; with [origin] writes = "single" one publisher at a time may write'
                yield Finding(self.name, Level.OK, says)
            else:
                yield Finding(self.name, Level.FAILURE, f"the origin {why}", SINGLE_ADVICE)
        if seen.left:
            advice = "Remove it by hand; these credentials may not, which is as it should be."
            yield Finding(self.name, Level.WARNING, f"the scratch key {seen.left} is left in the origin", advice)

    async def _race(self, writer: OriginWriter, key: str) -> tuple[Keeps, bool]:
        """Let all write other bytes at once; say how many won, and whether the winner's bytes are there."""
        bodies = [secrets.token_bytes(BODY_BYTES) for _ in range(RACERS)]
        outcomes = await asyncio.gather(*(_create(writer, key, body) for body in bodies), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Unconditional):
                return "unknown-to-it", True
            if isinstance(outcome, BaseException):
                raise outcome
        winners = [body for body, outcome in zip(bodies, outcomes, strict=True) if outcome]
        if len(winners) != 1:
            return ("several" if winners else "none"), True
        return "one", await self._has(key, winners[0])

    async def _write_alone(self, key: str) -> bool:
        writer, body = self._open_writer(self._settings), secrets.token_bytes(BODY_BYTES)
        try:
            await _create(writer, key, body)
        finally:
            await writer.close()
        return await self._has(key, body)

    async def _has(self, key: str, body: bytes) -> bool:
        _, found = await self._origin.get(key, limit_bytes=BODY_BYTES)
        return found == body

    async def _is_left(self, key: str) -> bool:
        """Remove the scratch key, if it is there and may be removed."""
        try:
            await remove_key(self._settings, key)
            await self._origin.head(key)
        except Missing:
            return False
        except OriginError:
            try:
                await self._origin.head(key)
            except OriginError:
                return False
        return True


async def _create(writer: OriginWriter, key: str, body: bytes) -> bool:
    """Say whether the origin let this one win."""
    try:
        await writer.create(key, body, sha256=Digest(sha256(body).hexdigest()))
    except AlreadyExists:
        return False
    return True
