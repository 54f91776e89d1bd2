"""Finished JSON lines beside structlog's own, for what is said once a request: no processors, few writes."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["JsonLines", "info_is_told", "json_lines", "members", "quoted"]


def json_lines() -> JsonLines | None:
    """Lines that look like those that `configure_logs` set up; None where they are no JSON."""
    renderer = structlog.get_config()["processors"][-1]
    return JsonLines(sys.stderr) if isinstance(renderer, structlog.processors.JSONRenderer) else None


def info_is_told() -> bool:
    """Whether lines of level info are written just now; asked before each line that `JsonLines` gets."""
    return structlog.get_config()["wrapper_class"] in _TELLING_INFO


_TELLING_INFO = frozenset(map(structlog.make_filtering_bound_logger, (logging.NOTSET, logging.DEBUG, logging.INFO)))


class JsonLines:
    """Writes what one turn of the loop has to say in one go."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pending: list[str] = []

    def add(self, ready: str) -> None:
        """Write a line of `ready` members, the time in front."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        now = time.time()
        second = int(now)
        self._pending.append(f'{{"timestamp": "{_second(second)}.{int((now - second) * 1e6):06d}Z", {ready}}}\n')

    def flush(self) -> None:
        """Write what waits."""
        lines, self._pending = self._pending, []
        self._stream.write("".join(lines))
        self._stream.flush()


def members(values: Mapping[str, str | int]) -> str:
    """Render members of a JSON object, without its braces."""
    return ", ".join(f'"{key}": {quoted(value) if isinstance(value, str) else value}' for key, value in values.items())


@lru_cache(maxsize=2)
def _second(now_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s))
