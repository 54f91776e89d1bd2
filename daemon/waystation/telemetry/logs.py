"""structlog set up once: JSON in a pipe, colours on a terminal, a request's id through every line of it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "silent": logging.CRITICAL,  # for verbs, which tell what went wrong themselves, in one line
}


_LEVEL_OF = {structlog.make_filtering_bound_logger(number): level for level, number in LEVELS.items()}


def log_level() -> str:
    """The level in force."""
    return _LEVEL_OF.get(structlog.get_config()["wrapper_class"], "debug")


def set_log_level(level: str) -> None:
    """Change the level of every logger at once, those that exist already too; nobody silences a log unseen."""
    before = log_level()
    _use(min(before, level, key=LEVELS.__getitem__))
    structlog.get_logger().warning("log_level_changed", level_now=level, before=before)
    _use(level)


def _use(level: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))


_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, use_rich=False)
)
"""Without local variables: those may be keys, or whatever a client sent."""


def configure_logs(level: str = "info", style: Literal["auto", "json", "console"] = "auto") -> None:
    """Send every log line to standard error; libraries' own warnings go the same way."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[Processor] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
