"""Asking an origin something that one of any use answers: the first key of its list, else a key that nobody has."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from waystation.errors import Missing, NotListable

if TYPE_CHECKING:
    from waystation.origin.interface import Origin

NOBODYS_KEY = "waystation-asks-whether-you-answer"


async def probe(origin: Origin) -> NotListable | None:
    """See that the origin answers; give what it says where it can't be listed.

    Raises:
        OriginError: it does not answer, or not us.
    """
    try:
        async for _ in origin.list(""):
            break
    except NotListable as unlisted:
        with suppress(Missing):
            await origin.head(NOBODYS_KEY)
        return unlisted
    return None
