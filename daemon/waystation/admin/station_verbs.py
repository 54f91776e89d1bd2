"""Verbs about the daemon as a whole: what it is doing, and what a client would get of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from waystation.admin.verbs import Arguments, Verb
from waystation.config import LogLevel
from waystation.errors import MalformedCall
from waystation.telemetry.logs import log_level, set_log_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from waystation.explain.explainer import Explainer
    from waystation.explain.explanation import Explanation
    from waystation.status import StationStatus

LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)


def station_verbs(status: Callable[[], StationStatus], explainer: Explainer) -> tuple[Verb, ...]:
    """Give the verbs of `waystation status`, `explain` and `log-level`."""

    async def show(_: Arguments) -> StationStatus:
        return status()

    async def explain(arguments: Arguments) -> Explanation:
        return await explainer.explain(arguments.text("target"))

    async def change_log_level(arguments: Arguments) -> dict[str, str]:
        level = arguments.text("level")
        if level not in LOG_LEVELS:
            raise MalformedCall(f"'{level}' is no log level", advice=f"Say one of {', '.join(LOG_LEVELS)}.")
        before = log_level()
        set_log_level(level)
        return {"level": level, "before": before}

    return (
        Verb("/log-level", change_log_level),
        Verb("/status", show, changes=False),
        Verb("/explain", explain, changes=False),
    )
