"""What can be asked for through the admin socket: a verb takes JSON and gives what JSON can be made of."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from waystation.errors import MalformedCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

ENTRIES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call came with."""

    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """Give one that must be there.

        Raises:
            MalformedCall: it is absent or no text.
        """
        value = self.values.get(key)
        if not isinstance(value, str):
            raise MalformedCall(f"expected a JSON object like {json.dumps({key: '…'}, ensure_ascii=False)}")
        return value

    def __str__(self) -> str:
        return json.dumps(self.values)


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that can be asked for, at a path of its own."""

    path: str
    act: Callable[[Arguments], Awaitable[object]]
    """May raise any `WaystationError`, and is then answered with its words."""
    changes: bool = True
    """Whether every call is worth a log line."""


def parse_arguments(body: bytes) -> Arguments:
    """Read a call's body.

    Raises:
        MalformedCall: it is no JSON object.
    """
    try:
        values = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise MalformedCall("the call is no JSON object")
    return Arguments(values)


async def to_json(answer: object) -> bytes:
    """Write an answer; frozen snapshots become objects, and a long list is written without holding up the loop."""
    if not isinstance(answer, list):
        return _written(answer)
    parts: list[bytes] = []
    for start in range(0, len(answer), ENTRIES_AT_ONCE):
        parts.append(_written(answer[start : start + ENTRIES_AT_ONCE])[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(parts) + b"]"


def _written(value: object) -> bytes:
    return json.dumps(value, default=_plain).encode()


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} can't be written as JSON")
