"""Where strange things go: out of the way, never served, kept for a person to look at."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from waystation.disk import Disk

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SHOWN_CHARACTERS = 80

log = structlog.get_logger()


def printable(path: Path) -> str:
    """A path for a log line, whatever bytes it is made of."""
    return str(path).encode("unicode_escape").decode("ascii")


class Quarantine:
    """The folder of what was set aside; blocking."""

    def __init__(self, folder: Path, *, disk: Disk, wall: Callable[[], float]) -> None:
        self._folder = folder
        self._disk = disk
        self._wall = wall

    def set_aside(self, path: Path, why: str) -> bool:
        """Move what stands at `path` away, with a warning; False (and a warning) where it can't be moved."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._wall()))
        name = _UNSAFE.sub("_", path.name)[:_SHOWN_CHARACTERS]
        number = 1
        while self._exists(aside := self._folder / f"strange-{stamp}-{number}-{name}"):
            number += 1
        try:
            self._disk.rename(path, aside)
        except OSError as error:
            log.warning("strange_thing_not_set_aside", path=printable(path), why=why, error=error.strerror)
            return False
        log.warning("strange_thing_set_aside", path=printable(path), why=why, moved_to=printable(aside))
        return True

    def _exists(self, path: Path) -> bool:
        try:
            self._disk.stat(path)
        except FileNotFoundError:
            return False
        return True
