"""What somebody wants on this machine: always said as a whole set, so that a lost message loses nothing for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waystation.model import Priority, TargetPath


@dataclass(frozen=True, slots=True)
class Want:
    """One target that should be here."""

    target: TargetPath
    priority: Priority
    hold: bool
    """Whether it is pinned, so that it is never evicted, for as long as it is wanted."""
