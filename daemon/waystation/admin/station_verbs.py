"""Verbs about the daemon as a whole: what it is doing, and what a client would get of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waystation.admin.verbs import Arguments, Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.explain.explainer import Explainer
    from waystation.explain.explanation import Explanation
    from waystation.status import StationStatus


def station_verbs(status: Callable[[], StationStatus], explainer: Explainer) -> tuple[Verb, ...]:
    """Give the verbs of `waystation status` and `waystation explain`."""

    async def show(_: Arguments) -> StationStatus:
        return status()

    async def explain(arguments: Arguments) -> Explanation:
        return await explainer.explain(arguments.text("target"))

    return (Verb("/status", show, changes=False), Verb("/explain", explain, changes=False))
