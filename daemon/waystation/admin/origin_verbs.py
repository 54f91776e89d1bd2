"""Verbs that look at the origin with the daemon's own keys, which no other process may have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from waystation.admin.verbs import Arguments, Verb
from waystation.catalog.unvouched import count_unvouched
from waystation.errors import OriginError, TakeoverError
from waystation.origin.probing import probe

if TYPE_CHECKING:
    from waystation.catalog.unvouched import Count
    from waystation.origin.interface import Origin

COUNT_S = 25.0
"""Less than the caller waits; the unit waits for that, no longer than its TimeoutStartSec=."""


def origin_verbs(origin: Origin, *, over_http: bool) -> tuple[Verb, ...]:
    """Give what `waystation takeover on` asks first."""

    async def unvouched(_: Arguments) -> Count | None:
        """None: it is away and serves nothing itself, or is a hub, which refuses what nothing vouches for, too."""
        try:
            async with asyncio.timeout(COUNT_S):
                if not over_http:
                    return await count_unvouched(origin)
                unlisted = await probe(origin)
        except TimeoutError as error:
            raise TakeoverError(
                f"the bucket's keys could not be looked through within {COUNT_S:g} s",
                advice="See with `waystation doctor` what the mirror would refuse, then allow pin-first or give "
                "--force.",
            ) from error
        except OriginError as error:
            if error.transient:
                return None
            raise
        if unlisted:
            raise TakeoverError(
                f"nobody can see what the mirror would refuse: {unlisted}",
                advice="Once each file has its .sha256 beside it, give --force; or allow pin-first in [catalog] "
                "missing_checksum.",
            )
        return None

    return (Verb("/origin/unvouched", unvouched, changes=False),)
