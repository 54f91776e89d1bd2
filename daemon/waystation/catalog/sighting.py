"""What is to be said of a name now, and why: the catalog's answer with its reasons, for `waystation explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waystation.catalog.remembered import Remembered
    from waystation.errors import OriginError, WaystationError
    from waystation.model import TargetPath


@dataclass(frozen=True, slots=True)
class Sighting:
    """Either `now` or `refusal` or `unread_bytes` is there."""

    name: TargetPath
    before: Remembered | None
    """What was remembered of it; looking changed nothing of that."""
    now: Remembered | None = None
    """What a client is told."""
    fresh_for_s: float | None = None
    """So long `before` is used without asking; None: the origin was asked."""
    not_refreshed: OriginError | None = None
    """The origin gave no answer, and what was known holds."""
    refusal: WaystationError | None = None
    """Why a client is told nothing."""
    unread_bytes: int | None = None
    """Nothing vouches for so many bytes: whoever asks first makes the daemon read all of them (pin-first)."""
