"""Verbs about the daemon as a whole: what it is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.admin.verbs import Arguments, Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.status import StationStatus


def station_verbs(status: Callable[[], StationStatus]) -> tuple[Verb, ...]:
    """Give the verbs of `waystation status`."""

    async def show(_: Arguments) -> StationStatus:
        return status()

    return (Verb("/status", show, changes=False),)
