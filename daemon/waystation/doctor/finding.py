"""What a check finds, and what every check is: a look, which touches the machine, and a judgement, which is pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from waystation.errors import WaystationError

Seen = TypeVar("Seen")


class Level(StrEnum):
    """How bad it is; only a failure makes the examination one."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of an examination."""

    check: str
    level: Level
    says: str
    advice: str = ""
    """One sentence; empty where there is nothing to do."""


class Check(Protocol[Seen]):
    """One thing that may be wrong with a machine."""

    name: str

    async def look(self) -> Seen:
        """See what is there, and change nothing that stays."""
        ...

    def judge(self, seen: Seen) -> Iterator[Finding]:
        """Say what that means; without a look at anything else."""
        ...


def worst(findings: Iterable[Finding]) -> Level:
    """Sum an examination up."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.FAILURE, Level.WARNING) if level in levels), Level.OK)


def failure_of(check: str, error: WaystationError, *, advice: str | None = None) -> Finding:
    """Turn an error into a finding; it knows its own advice."""
    return Finding(check, Level.FAILURE, str(error), advice or error.advice)
